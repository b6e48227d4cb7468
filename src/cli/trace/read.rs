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
    /// What became of the process that the command has started, if it stayed with that: how it ended. No part of the whole
    /// that shares are of: a payload may take days.
    pub(super) after: Vec<Event>,
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
    // Which section an event is of, and whether it is after it.
    let mut current = None;
    for (i, line) in text.lines().enumerate() {
        let bad = |why: String| Error::config(format!("line {}: {why}", i + 1));
        if let Ok(header) = serde_json::from_str::<Header>(line) {
            if header.trace_version > VERSION {
                return Err(bad(format!("version {} is newer than this program", header.trace_version)));
            }
            let same = |s: &Section| (&s.header.command, &s.header.id) == (&header.command, &header.id);
            // Whose beginning is in no part of the file that is left is one by itself.
            let of = sections.iter().rposition(same).filter(|_| header.continues);
            current = Some((of.unwrap_or(sections.len()), of.is_some()));
            if of.is_none() {
                sections.push(Section { header, events: vec![], after: vec![] });
            }
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
        let (at, after) = current.ok_or_else(|| bad("an event before any header".into()))?;
        let section = &mut sections[at];
        if after { section.after.push(event) } else { section.events.push(event) }
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
        if let Some(first) = section.after.first() {
            let (trace_version, at_us, continues) = (VERSION, first.at_us, true);
            lines::append(&mut text, &Header { trace_version, at_us, continues, ..section.header.clone() })?;
            section.after.iter().try_for_each(|event| lines::append_event(&mut text, event))?;
        }
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
        let header =
            Header { trace_version: VERSION, command, id, at_us: 0, time, program, dropped: 0, continues: false };
        Section { header, events, after: vec![] }
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
    fn an_end_is_the_commands_that_began() {
        let mut run = section(vec![event(Side::Parent, Sort::Step, "plan", 1, 1)]);
        run.after = vec![event(Side::Parent, Sort::Step, "end", 5, 900)];
        let other = Header { id: "y".into(), ..run.header.clone() };
        let other = Section { header: other, events: run.events.clone(), after: vec![] };
        let mut text = json(&[run]).unwrap();
        let end = text.split_off(text.find(r#","continues":true}"#).and_then(|at| text[..at].rfind('\n')).unwrap() + 1);
        let text = format!("{text}{}{end}", json(&[other]).unwrap());
        let read = parse(&text).unwrap();
        assert_eq!(read.iter().map(|s| (s.events.len(), s.after.len())).collect::<Vec<_>>(), [(1, 1), (1, 0)]);
        assert_eq!(parse(&end).unwrap()[0].events.len(), 1);
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
