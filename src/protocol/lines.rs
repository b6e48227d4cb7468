//! Events as the lines of a trace file.

use std::ops::Range;

use serde::Serialize;

use super::event::Event;
use crate::error::{Error, Result};

/// Lines in the order in which they were made, and when the event of each began: they are wanted by time.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    text: Vec<u8>,
    /// Of each line when its event began and where it stands.
    index: Vec<(u64, Range<usize>)>,
}

impl Lines {
    /// None yet, with room for those of a start: a buffer that grows is copied, and touches more pages.
    pub(super) fn with_room() -> Lines {
        Lines { text: Vec::with_capacity(16 * 1024), index: Vec::with_capacity(128) }
    }

    pub(super) fn push(&mut self, event: &Event<&str>) -> Result<()> {
        let begin = self.text.len();
        append_event(&mut self.text, event).inspect_err(|_| self.text.truncate(begin))?;
        self.index.push((event.at_us, begin..self.text.len()));
        Ok(())
    }

    /// Moves all of another's here.
    pub(super) fn append(&mut self, other: &mut Lines) {
        let offset = self.text.len();
        self.text.append(&mut other.text);
        self.index
            .extend(other.index.drain(..).map(|(at_us, range)| (at_us, range.start + offset..range.end + offset)));
    }

    /// What they take, in bytes.
    pub(super) fn size(&self) -> usize {
        self.text.len() + self.index.len() * size_of::<(u64, Range<usize>)>()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.index.len()
    }

    /// Keeps so many.
    pub(super) fn truncate(&mut self, count: usize) {
        self.index.truncate(count);
        self.text.truncate(self.index.last().map_or(0, |(_, range)| range.end));
    }

    /// When the first of them began.
    pub(crate) fn first_at_us(&self) -> Option<u64> {
        self.index.iter().map(|(at_us, _)| *at_us).min()
    }

    /// Puts them behind what is in `text`, by time.
    pub(crate) fn write_to(mut self, text: &mut Vec<u8>) {
        // A stable sort: what one side saw in a microsecond stays as it saw it.
        self.index.sort_by_key(|(at_us, _)| *at_us);
        text.reserve(self.text.len());
        for (_, range) in self.index {
            text.extend_from_slice(&self.text[range]);
        }
    }
}

/// Appends an event as a line: what is empty, but for the name, is left out.
///
/// # Errors
/// It can't be JSON.
pub(crate) fn append_event<S: AsRef<str>>(text: &mut Vec<u8>, event: &Event<S>) -> Result<()> {
    let Event { at_us, took_us, side, pid, event: sort, name, object, mechanism, why, detail, fds } = event;
    // The names are JSON as they stand. To have them made for each event took half of what a trace costs a start.
    field(text, "{\"at_us\":", at_us)?;
    field(text, ",\"took_us\":", took_us)?;
    field(text, ",\"side\":", side)?;
    field(text, ",\"pid\":", pid)?;
    field(text, ",\"event\":", sort)?;
    field(text, ",\"name\":", name.as_ref())?;
    let texts =
        [(",\"object\":", object), (",\"mechanism\":", mechanism), (",\"why\":", why), (",\"detail\":", detail)];
    for (name, value) in texts.map(|(name, value)| (name, value.as_ref())).into_iter().filter(|(_, v)| !v.is_empty()) {
        if value.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\') {
            [name, "\"", value, "\""].into_iter().for_each(|part| text.extend_from_slice(part.as_bytes()));
        } else {
            field(text, name, value)?;
        }
    }
    if !fds.is_empty() {
        field(text, ",\"fds\":", fds)?;
    }
    text.extend_from_slice(b"}\n");
    Ok(())
}

/// Appends a value as a line.
///
/// # Errors
/// It can't be JSON.
pub(crate) fn append(text: &mut Vec<u8>, value: &impl Serialize) -> Result<()> {
    field(text, "", value)?;
    text.push(b'\n');
    Ok(())
}

/// Appends a value. A terminal that is shown the file must not take a byte of it for a command.
fn field(text: &mut Vec<u8>, name: &str, value: &(impl Serialize + ?Sized)) -> Result<()> {
    text.extend_from_slice(name.as_bytes());
    let begin = text.len();
    serde_json::to_writer(&mut *text, value).map_err(|e| Error::system(e.to_string()))?;
    let made = &text[begin..];
    // serde_json has escaped those below 0x20.
    if !made.is_ascii() || made.contains(&0x7f) {
        let plain = String::from_utf8_lossy(made).into_owned();
        text.truncate(begin);
        let mut utf8 = [0; 4];
        for c in plain.chars() {
            match c {
                '\u{7f}'..='\u{9f}' => text.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes()),
                c => text.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes()),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::event::{Side, Sort};
    use super::*;
    use proptest::prelude::*;

    fn any_event() -> impl Strategy<Value = Event> {
        let text = || prop_oneof![Just(String::new()), "[ -~]{1,20}", any::<String>()];
        let numbers = (any::<u64>(), any::<u64>(), any::<i32>(), prop::collection::vec(any::<i32>(), 0..3));
        (numbers, (text(), text(), text(), text(), text())).prop_map(|(numbers, texts)| {
            let ((at_us, took_us, pid, fds), (name, object, mechanism, why, detail)) = (numbers, texts);
            let (side, event) = (Side::Child, Sort::Refused);
            Event { at_us, took_us, side, pid, event, name, object, mechanism, why, detail, fds }
        })
    }

    proptest! {
        #[test]
        fn a_line_is_its_event(event in any_event()) {
            let mut text = Vec::new();
            append_event(&mut text, &event).unwrap();
            let line = String::from_utf8(text).unwrap();
            prop_assert_eq!(line.chars().filter(|c| c.is_control()).collect::<String>(), "\n");
            prop_assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
        }
    }

    #[test]
    fn no_byte_of_a_line_is_a_terminals_command() {
        let mut text = Vec::new();
        append(&mut text, &"é\u{1b}[2J\u{7f}\u{9b}2J\n").unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "\"é\\u001b[2J\\u007f\\u009b2J\\n\"\n");
    }
}
