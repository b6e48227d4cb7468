//! The rows of a ladder: runs of like steps are one, and a time of which nothing is known is one too.

use std::path::{Path, PathBuf};

use super::paint::safe;
use super::summary::{Mark, Summary};
use super::text::name;
use super::time::Gap;
use crate::protocol::event::{Event, Side, Sort};

/// How many like steps in a row are one row.
pub(super) const FOLDED_FROM: usize = 3;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Event(usize),
    /// Steps of one name, side and mechanism, none of which is marked; or fallbacks or refusals of one error too.
    Run(Vec<usize>),
    Gap(Gap),
}

/// All rows in the order of their times, runs folded unless each step is wanted. A message's receiving end is no row of its
/// own.
pub(super) fn rows(summary: &Summary<'_>, each: bool) -> Vec<Row> {
    let events = &summary.section.events;
    let mut gaps = summary.gaps.iter().peekable();
    let mut rows = vec![];
    for (i, event) in events.iter().enumerate() {
        while let Some(gap) = gaps.next_if(|gap| gap.at_us.saturating_add(gap.took_us) <= event.at_us) {
            rows.push(Row::Gap(*gap));
        }
        if summary.is_echo(i) {
            continue;
        }
        match rows.last_mut() {
            Some(Row::Run(run)) if !each && is_like(summary, run[0], i) => run.push(i),
            _ => rows.push(Row::Run(vec![i])),
        }
    }
    rows.into_iter().flat_map(unfold).collect()
}

fn is_like(summary: &Summary<'_>, first: usize, other: usize) -> bool {
    let folds = |i: usize| match summary.section.events[i].event {
        // A hook is a program of somebody's: which of several took its time is what one looks for.
        Sort::Step => summary.mark(i) == Mark::None && summary.section.events[i].name != "hook",
        Sort::Fallback | Sort::Refused => true,
        _ => false,
    };
    let kind = |i: usize| kind(&summary.section.events[i]);
    folds(first) && folds(other) && kind(first) == kind(other)
}

/// What events that are one row have in common.
pub(super) type Kind<'a> = (Side, Sort, &'a str, &'a str, Option<(&'a str, &'a str)>);

pub(super) fn kind(event: &Event) -> Kind<'_> {
    let told = matches!(event.event, Sort::Fallback | Sort::Refused).then(|| reason(&event.why));
    (event.side, event.event, &event.name, &event.mechanism, told)
}

/// Of a text like ``no cgroup: mkdir `/sys/x`: Permission denied (os error 13)`` its ends: what there is in the middle differs from
/// object to object.
fn reason(why: &str) -> (&str, &str) {
    let why = why.split_once(" (os error ").map_or(why, |(words, _)| words);
    match (why.split_once(": "), why.rsplit_once(": ")) {
        // It begins with the call.
        (Some((first, _)), Some((_, last))) if first.contains('`') => ("", last),
        (Some((first, _)), Some((_, last))) => (first, last),
        _ => ("", why),
    }
}

/// The paths that a text quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|word| word.starts_with('/'))
}

/// The fallbacks, or what is of another sort, in the order of the first of each kind; like ones are one row, wherever they are.
pub(super) fn gathered(events: &[Event], sort: Sort) -> Vec<Row> {
    let mut kinds: Vec<(Kind<'_>, Vec<usize>)> = vec![];
    for (i, event) in events.iter().enumerate().filter(|(_, event)| event.event == sort) {
        match kinds.iter_mut().find(|(other, _)| *other == kind(event)) {
            Some((_, of)) => of.push(i),
            None => kinds.push((kind(event), vec![i])),
        }
    }
    kinds.into_iter().flat_map(|(_, of)| unfold(Row::Run(of))).collect()
}

/// A run that is too short is no row.
fn unfold(row: Row) -> Vec<Row> {
    match row {
        Row::Run(run) if run.len() < FOLDED_FROM => run.into_iter().map(Row::Event).collect(),
        row => vec![row],
    }
}

/// What a run is, and of what: `cgroup write x14`, `12 files below /sys/fs/cgroup`.
pub(super) fn words(events: &[&Event]) -> (String, String) {
    let Some(first) = events.first() else { return Default::default() };
    let what = format!("{} x{}", safe(&first.name), events.len());
    if let Some((doing, reason)) = kind(first).4 {
        let mut paths: Vec<&str> = events.iter().map(|e| &*e.object).filter(|o| o.starts_with('/')).collect();
        if paths.is_empty() {
            paths = events.iter().flat_map(|e| quoted(&e.why)).collect();
        }
        let below = common_directory(&paths).map(|directory| format!("below {}", directory.display()));
        let place = [doing, &below.unwrap_or_default()].join(" ").trim().to_owned();
        let words = [&*place, reason].into_iter().filter(|words| !words.is_empty());
        return (what, safe(&words.collect::<Vec<_>>().join(": ")));
    }
    let mut objects: Vec<&str> = events.iter().map(|e| &*e.object).filter(|object| !object.is_empty()).collect();
    let listed = objects.join(", ");
    objects.sort_unstable();
    objects.dedup();
    let of = match common_directory(&objects) {
        Some(directory) if objects.len() > 1 => {
            let sort = if first.name == "cgroup write" { "files" } else { "directories" };
            format!("{} {sort} below {}", objects.len(), directory.display())
        }
        _ if objects.len() == 1 => objects[0].to_owned(),
        _ => listed,
    };
    (what, safe(&of))
}

/// The directory that all are below, if all are absolute paths.
fn common_directory(paths: &[&str]) -> Option<PathBuf> {
    let mut common = Path::new(*paths.first()?).parent()?.to_owned();
    for path in paths {
        if !path.starts_with('/') {
            return None;
        }
        while !Path::new(path).starts_with(&common) {
            common.pop();
        }
    }
    Some(common)
}

/// What a row is called in a list: of an event its name and object.
pub(super) fn label(summary: &Summary<'_>, row: &Row) -> String {
    match row {
        Row::Event(i) => name(&summary.section.events[*i]),
        Row::Run(run) => {
            let (what, of) = words(&run.iter().map(|i| &summary.section.events[*i]).collect::<Vec<_>>());
            if of.is_empty() { what } else { format!("{what}: {of}") }
        }
        Row::Gap(gap) => format!("nothing recorded{}", summary.silence(*gap)),
    }
}

/// The side of a row's steps.
pub(super) fn side(summary: &Summary<'_>, row: &Row) -> &'static str {
    let of = |i: &usize| super::text::side(summary.section.events[*i].side);
    match row {
        Row::Event(i) => of(i),
        Row::Run(run) => run.first().map_or("", of),
        Row::Gap(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::tests::{event, section};
    use super::*;

    fn write(at_us: u64, took_us: u64, object: &str) -> Event {
        Event { object: object.into(), ..event(Side::Parent, Sort::Step, "cgroup write", at_us, took_us) }
    }

    #[test]
    fn a_run_is_one_row_and_who_wants_each_gets_each() {
        let mut events = vec![event(Side::Parent, Sort::Step, "plan", 0, 1000)];
        events.extend((0..4).map(|i| write(1000 + i, 1, &format!("/sys/fs/cgroup/pids/x/{}", i % 3))));
        events.push(write(1004, 900, "/sys/fs/cgroup/slow"));
        events.extend((0..2).map(|i| write(1904 + i, 1, "/sys/fs/cgroup/memory/x/y")));
        let section = section(events);
        let summary = Summary::of(&section);
        let folded = rows(&summary, false);
        let run = Row::Run(vec![1, 2, 3, 4]);
        assert_eq!(folded, [Row::Event(0), run.clone(), Row::Event(5), Row::Event(6), Row::Event(7)]);
        assert_eq!(label(&summary, &run), "cgroup write x4: 3 files below /sys/fs/cgroup/pids/x");
        assert_eq!(rows(&summary, true), (0..8).map(Row::Event).collect::<Vec<_>>());
    }

    #[test]
    fn fallbacks_of_one_error_are_one_row_and_one_line() {
        let refused = |i: u64, reason: &str| Event {
            object: String::new(),
            why: format!("no cgroup: mkdir `/sys/fs/cgroup/{i}/x`: {reason}"),
            ..event(Side::Parent, Sort::Fallback, "cgroup", 0, 0)
        };
        let mut events: Vec<Event> = (0..10).map(|i| refused(i, "Permission denied (os error 13)")).collect();
        events.push(refused(11, "No space left on device (os error 28)"));
        let section = section(events);
        let summary = Summary::of(&section);
        let run = Row::Run((0..10).collect());
        assert_eq!(rows(&summary, false), [run.clone(), Row::Event(10)]);
        assert_eq!(gathered(&section.events, Sort::Fallback), [run.clone(), Row::Event(10)]);
        assert_eq!(label(&summary, &run), "cgroup x10: no cgroup below /sys/fs/cgroup: Permission denied");
        assert_eq!(summary.mark_of(&run), Mark::Fallback);
    }

    #[test]
    fn each_hook_is_a_row() {
        let section = section((0..4).map(|i| Event { name: "hook".into(), ..write(i, 1, "/bin/a") }).collect());
        assert_eq!(rows(&Summary::of(&section), false), (0..4).map(Row::Event).collect::<Vec<_>>());
    }

    #[test]
    fn another_side_or_mechanism_ends_a_run() {
        let mut by = write(3, 1, "/a/c");
        by.mechanism = "another".into();
        let child = Event { side: Side::Child, ..write(4, 1, "/a/d") };
        let section = section(vec![write(1, 1, "/a/a"), write(2, 1, "/a/b"), by, child]);
        assert_eq!(rows(&Summary::of(&section), false), (0..4).map(Row::Event).collect::<Vec<_>>());
    }
}
