//! Events as the lines of a trace file. They are made while the other side is at work, so that a trace costs its start little.

use super::event::Event;
use crate::error::{Error, Result};

/// Lines, and when the event of each began: they come in batches and are wanted by time.
#[derive(Debug, Default)]
pub struct Lines {
    text: Vec<u8>,
    /// Of each line when its event began and where it stands.
    index: Vec<(u64, std::ops::Range<usize>)>,
}

impl Lines {
    /// Adds an event.
    ///
    /// # Errors
    /// It can't be JSON.
    pub fn push(&mut self, event: &Event) -> Result<()> {
        let begin = self.text.len();
        append(&mut self.text, event)?;
        self.index.push((event.at_us, begin..self.text.len()));
        Ok(())
    }

    /// When the first of them began.
    pub fn first_at_us(&self) -> Option<u64> {
        self.index.iter().map(|(at_us, _)| *at_us).min()
    }

    /// Puts them behind what is in `text`, by time.
    pub fn write_to(mut self, text: &mut Vec<u8>) {
        // A stable sort: what one side saw in a microsecond stays as it saw it.
        self.index.sort_by_key(|(at_us, _)| *at_us);
        text.reserve(self.text.len());
        for (_, range) in self.index {
            text.extend_from_slice(&self.text[range]);
        }
    }
}

/// Appends a value as a line. A terminal that is shown the file must not take a byte of it for a command.
///
/// # Errors
/// It can't be JSON.
pub(crate) fn append(text: &mut Vec<u8>, value: &impl serde::Serialize) -> Result<()> {
    let begin = text.len();
    let made = serde_json::to_writer(&mut *text, value);
    if let Err(e) = made {
        text.truncate(begin);
        return Err(Error::system(e.to_string()));
    }
    // serde_json has escaped those below 0x20.
    if text[begin..].iter().any(|b| !b.is_ascii() || *b == 0x7f) {
        let plain = String::from_utf8_lossy(&text[begin..]).into_owned();
        text.truncate(begin);
        let mut utf8 = [0; 4];
        for c in plain.chars() {
            match c {
                '\u{7f}'..='\u{9f}' => text.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes()),
                c => text.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes()),
            }
        }
    }
    text.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::event::{About, Recorder, Side};
    use super::*;

    #[test]
    fn lines_come_by_time_whenever_they_were_made() {
        let mut recorder = Recorder::new(Side::Parent, true).ahead();
        recorder.step("late", 9, About::default);
        recorder.write_ahead();
        assert!(!recorder.has_lines_to_write());
        recorder.step("early", 3, About::default);
        let lines = recorder.take_lines().unwrap();
        assert_eq!(lines.first_at_us(), Some(3));
        let mut text = b"header\n".to_vec();
        lines.write_to(&mut text);
        let text = String::from_utf8(text).unwrap();
        let places = ["header", "early", "late"].map(|name| text.find(name).unwrap());
        assert!(places.is_sorted(), "{text}");
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn no_byte_of_a_line_is_a_terminals_command() {
        let mut text = Vec::new();
        append(&mut text, &"é\u{1b}[2J\u{7f}\u{9b}2J\n").unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "\"é\\u001b[2J\\u007f\\u009b2J\\n\"\n");
    }
}
