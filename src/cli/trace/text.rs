//! A trace as text: a line an event, with all that is known of it.

use super::paint::{duration, safe};
use super::read::Section;
use super::summary::{Mark, Summary};
use crate::protocol::event::{Event, Side, Sort};

pub(super) fn lines(section: &Section) -> String {
    let summary = Summary::of(section);
    let mut text = format!("{}\n", title(&summary));
    let marked = section.events.iter().enumerate().map(|(i, event)| (event, summary.mark(i)));
    let marked = marked.chain(section.after.iter().map(|event| (event, Mark::None)));
    for (event, mark) in marked {
        let at = event.at_us.saturating_sub(summary.start) as f64 / 1000.0;
        let mark = match mark {
            Mark::Slow(share) => format!(" (slow: {share}%)"),
            Mark::PassedOn => " (passed on)".into(),
            _ => String::new(),
        };
        let (side, sort) = (side(event.side), sort(event.event));
        let took = if event.took_us > 0 { format!(" {}", duration(event.took_us)) } else { String::new() };
        text.push_str(&format!("{at:>10.3} ms  {side:<6} {:>5} {sort:<8} {}{took}{mark}\n", event.pid, words(event)));
    }
    text + "\n"
}

/// The command, the container, how long it took, when it was.
pub(super) fn title(summary: &Summary<'_>) -> String {
    let header = &summary.section.header;
    let mut title = format!("{} {}: {}", safe(&header.command), id(&header.id), duration(summary.total));
    title.push_str(&format!(", {} events", summary.section.events.len()));
    if header.dropped > 0 {
        title.push_str(&format!(" (and {} before them, dropped)", header.dropped));
    }
    for more in [&header.time, &header.program].into_iter().filter(|more| !more.is_empty()) {
        title.push_str(&format!(", {}", safe(more)));
    }
    title
}

/// A container's name in a title; of an engine's 64 digits as many as the engine shows.
pub(super) fn id(id: &str) -> String {
    let digits = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    safe(if digits { &id[..12] } else { id })
}

/// What an event is, and of what.
pub(super) fn name(event: &Event) -> String {
    safe(&bare_name(event))
}

/// The same for a reader that is no terminal.
pub(super) fn bare_name(event: &Event) -> String {
    if event.object.is_empty() { event.name.to_string() } else { format!("{} {}", event.name, event.object) }
}

/// All that an event says, with a word before each field.
pub(super) fn words(event: &Event) -> String {
    let mut words = safe(&event.name);
    let fields =
        [(" ", &*event.object), (", by ", &*event.mechanism), (", because ", &*event.why), (": ", &*event.detail)];
    for (before, field) in fields.into_iter().filter(|(_, field)| !field.is_empty()) {
        let before = if event.event == Sort::Error && before.contains("because") { "; what to do: " } else { before };
        words.push_str(before);
        words.push_str(&safe(field));
    }
    if !event.fds.is_empty() {
        words.push_str(&format!(" [fds {}]", fds(event)));
    }
    words
}

pub(super) fn fds(event: &Event) -> String {
    event.fds.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

pub(super) fn side(side: Side) -> &'static str {
    match side {
        Side::Parent => "parent",
        Side::Child => "child",
    }
}

pub(super) fn sort(sort: Sort) -> &'static str {
    match sort {
        Sort::Send => "send",
        Sort::Receive => "receive",
        Sort::Step => "step",
        Sort::Fallback => "fallback",
        Sort::Error => "error",
        Sort::Refused => "refused",
    }
}
