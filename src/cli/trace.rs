//! `trace show`: draws a trace as a ladder that a person reads from top to bottom.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::print;
use crate::error::{Context, Error, Result};
use crate::parent::trace::Header;
use crate::protocol::event::{Event, Side, Sort, VERSION};

#[derive(Args, Debug)]
pub(super) struct Trace {
    #[command(subcommand)]
    command: TraceCommand,
}

#[derive(Debug, Subcommand)]
enum TraceCommand {
    /// Draw a trace file as a sequence
    Show {
        /// What --trace wrote
        file: PathBuf,
    },
}

impl Trace {
    pub(super) fn run(&self) -> Result<()> {
        let TraceCommand::Show { file } = &self.command;
        read(file)?.iter().try_for_each(|section| print(&draw(section)))
    }
}

/// One command's part of a trace file.
struct Section {
    header: Header,
    events: Vec<Event>,
}

fn read(path: &Path) -> Result<Vec<Section>> {
    let text = std::fs::read_to_string(path).context(|| format!("read `{}`", path.display()))?;
    let mut sections: Vec<Section> = vec![];
    for (i, line) in text.lines().enumerate() {
        let bad = |why: String| Error::config(format!("`{}`, line {}: {why}", path.display(), i + 1));
        if let Ok(header) = serde_json::from_str::<Header>(line) {
            if header.trace_version > VERSION {
                return Err(bad(format!("version {} is newer than this program", header.trace_version)));
            }
            sections.push(Section { header, events: vec![] });
            continue;
        }
        let event = serde_json::from_str(line).map_err(|e| bad(format!("it is no event of a trace: {e}")))?;
        sections.last_mut().ok_or_else(|| bad("an event before any header".into()))?.events.push(event);
    }
    match sections.is_empty() {
        true => Err(Error::config(format!("`{}` holds no trace", path.display()))),
        false => Ok(sections),
    }
}

/// Between the two life lines.
const ARROW: usize = 34;
/// Of the parent's column.
const LEFT: usize = 40;

fn draw(section: &Section) -> String {
    let header = &section.header;
    let end = section.events.iter().map(|e| e.at_us + e.took_us).max().unwrap_or(header.at_us);
    let mut text = format!(
        "{} {}: {} events in {}\n\n{:>10}  {:>LEFT$} ┬{:ARROW$}┬ child\n",
        header.command,
        header.id,
        section.events.len(),
        duration(end - header.at_us),
        "",
        "parent",
        "",
    );
    for event in section.events.iter().filter(|e| !is_echo(e, &section.events)) {
        text.push_str(&row(event, header.at_us));
    }
    text + "\n"
}

/// The receiving end of a message whose sending end is drawn: one arrow is enough.
fn is_echo(event: &Event, events: &[Event]) -> bool {
    event.event == Sort::Receive
        && events.iter().any(|e| e.event == Sort::Send && e.side != event.side && e.name == event.name)
}

fn row(event: &Event, start: u64) -> String {
    let at = format!("{:.3} ms", event.at_us.saturating_sub(start) as f64 / 1000.0);
    let took = if event.took_us > 0 { format!(" {}", duration(event.took_us)) } else { String::new() };
    let mark = match event.event {
        Sort::Fallback => "! ",
        Sort::Error => "✗ ",
        Sort::Send | Sort::Receive | Sort::Step => "",
    };
    let words = format!("{mark}{}{took}", event.name);
    match (event.event, event.side) {
        (Sort::Send | Sort::Receive, side) => {
            let fds = match event.fds.len() {
                0 => String::new(),
                1 => " +1 fd".into(),
                n => format!(" +{n} fds"),
            };
            let label = shorten(&format!(" {}{fds} ", event.name), ARROW - 4);
            let line = "─".repeat(ARROW - 2 - label.chars().count());
            // A message goes from its sender to the other side.
            let to_child = (event.event == Sort::Send) == (side == Side::Parent);
            let arrow = if to_child { format!("─{label}{line}▶") } else { format!("◀{line}{label}─") };
            format!("{at:>10}  {:>LEFT$} ├{arrow}┤ {}\n", "", event.detail).replace("┤ \n", "┤\n")
        }
        (_, Side::Parent) => {
            let left = shorten(&words, LEFT);
            format!("{at:>10}  {left:>LEFT$} ●{:ARROW$}│ {}\n", "", event.detail)
        }
        (_, Side::Child) => format!("{at:>10}  {:>LEFT$} │{:ARROW$}● {words}  {}\n", "", "", event.detail),
    }
}

fn shorten(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

fn duration(us: u64) -> String {
    match us {
        0..1000 => format!("{us} µs"),
        _ => format!("{:.2} ms", us as f64 / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(side: Side, sort: Sort, name: &str, at_us: u64) -> Event {
        let (name, detail) = (name.to_owned(), "detail".to_owned());
        Event { at_us, took_us: 0, side, pid: 1, event: sort, name, detail, fds: vec![] }
    }

    #[test]
    fn a_message_is_one_arrow_from_its_sender() {
        let events = vec![
            event(Side::Parent, Sort::Send, "Plan", 10),
            event(Side::Child, Sort::Receive, "Plan", 20),
            event(Side::Child, Sort::Send, "Ready", 30),
        ];
        let header = Header { trace_version: 1, command: "run".into(), id: "x".into(), at_us: 10 };
        let text = draw(&Section { header, events });
        assert_eq!(text.matches("Plan").count(), 1);
        assert!(text.lines().any(|l| l.contains("Plan") && l.contains('▶')), "{text}");
        assert!(text.lines().any(|l| l.contains("Ready") && l.contains('◀')), "{text}");
    }

    #[test]
    fn a_file_that_is_no_trace_says_so() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{}\n").unwrap();
        assert!(read(file.path()).err().unwrap().to_string().contains("line 1"));
        std::fs::write(file.path(), "").unwrap();
        assert!(read(file.path()).err().unwrap().to_string().contains("holds no trace"));
    }
}
