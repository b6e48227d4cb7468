//! Reads trace files of every version.

use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::parent::trace::Header;
use crate::protocol::event::{Event, VERSION};
use crate::protocol::{lines, recording};

/// One command's part of a trace file.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) header: Header,
    pub(super) events: Vec<Event>,
}

/// A file's sections, or those of one command.
pub(super) fn file(path: &Path, command: Option<&str>) -> Result<Vec<Section>> {
    let text = std::fs::read(path).context(|| format!("read `{}`", path.display()))?;
    let mut sections = parse(&String::from_utf8_lossy(&text)).map_err(|e| e.context(path.display().to_string()))?;
    if let Some(command) = command {
        let there: Vec<_> = sections.iter().map(|section| section.header.command.clone()).collect();
        sections.retain(|section| section.header.command == command);
        if sections.is_empty() {
            let there = there.join(", ");
            return Err(Error::config(format!("`{}` holds no `{command}`; it has {there}", path.display())));
        }
    }
    match sections.is_empty() {
        true => Err(Error::config(format!("`{}` holds no trace", path.display()))),
        false => Ok(sections),
    }
}

fn parse(text: &str) -> Result<Vec<Section>> {
    let mut sections: Vec<Section> = vec![];
    for (i, line) in text.lines().enumerate() {
        let bad = |why: String| Error::config(format!("line {}: {why}", i + 1));
        if let Ok(header) = serde_json::from_str::<Header>(line) {
            if header.trace_version > VERSION {
                return Err(bad(format!("version {} is newer than this program", header.trace_version)));
            }
            sections.push(Section { header, events: vec![] });
            continue;
        }
        let event = match serde_json::from_str(line) {
            Ok(event) => event,
            Err(_) if recording::has(line, "recording_version") => {
                let error = bad("this is a recording: `tandem trace replay` reads it".into());
                return Err(error.advise("a trace is made by --trace FILE"));
            }
            Err(e) => return Err(bad(format!("it is no event of a trace: {e}"))),
        };
        sections.last_mut().ok_or_else(|| bad("an event before any header".into()))?.events.push(event);
    }
    // They were written so; who has edited a file may have not.
    sections.iter_mut().for_each(|section| section.events.sort_by_key(|event| event.at_us));
    Ok(sections)
}

/// The same as JSON lines of the newest version.
pub(super) fn json(sections: &[Section]) -> Result<String> {
    let mut text = Vec::new();
    for section in sections {
        lines::append(&mut text, &Header { trace_version: VERSION, ..section.header.clone() })?;
        section.events.iter().try_for_each(|event| lines::append_event(&mut text, event))?;
    }
    String::from_utf8(text).map_err(|e| Error::system(e.to_string()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::protocol::event::{Side, Sort};

    /// An event that began at a time and took another.
    pub(crate) fn event(side: Side, sort: Sort, name: &'static str, at_us: u64, took_us: u64) -> Event {
        let (name, object) = (name.into(), "object".to_owned());
        let (mechanism, why, detail) = ("".into(), String::new(), "detail".into());
        Event { at_us, took_us, side, pid: 1, event: sort, name, object, mechanism, why, detail, fds: vec![] }
    }

    pub(crate) fn section(events: Vec<Event>) -> Section {
        let (command, id) = ("run".to_owned(), "x".to_owned());
        let (time, program) = (String::new(), String::new());
        Section { header: Header { trace_version: VERSION, command, id, at_us: 0, time, program, dropped: 0 }, events }
    }

    #[test]
    fn reads_old_versions_and_writes_the_newest() {
        let old = concat!(
            r#"{"trace_version":1,"command":"run","id":"demo","at_us":5}"#,
            "\n",
            r#"{"at_us":5,"took_us":6,"side":"parent","pid":8,"event":"step","name":"plan","detail":"d","fds":[]}"#,
            "\n"
        );
        let sections = parse(old).unwrap();
        assert_eq!((&*sections[0].events[0].detail, &*sections[0].events[0].object), ("d", ""));
        let new = json(&sections).unwrap();
        assert!(new.starts_with(r#"{"trace_version":3,"#), "{new}");
        assert_eq!(parse(&new).unwrap()[0].events, sections[0].events);
    }

    #[test]
    fn what_is_no_trace_says_so() {
        assert!(parse("{}\n").unwrap_err().to_string().contains("line 1"));
        assert!(parse(r#"{"trace_version":99,"command":"run","id":"x","at_us":0}"#).is_err());
    }

    #[test]
    fn a_line_of_json_holds_no_control_character() {
        let mut events = vec![event(Side::Child, Sort::Step, "mount", 1, 1)];
        events[0].object = "\u{1b}[31m\u{9b}31m\u{7f}\n".into();
        let text = json(&[section(events.clone())]).unwrap();
        assert!(!text.trim_end().chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert_eq!(parse(&text).unwrap()[0].events, events);
    }
}
