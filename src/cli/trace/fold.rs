//! The rows of a ladder: runs of like steps are one, and a time of which nothing is known is one too.

use std::path::{Path, PathBuf};

use super::paint::safe;
use super::summary::{Mark, Summary};
use super::text::name;
use super::time::Gap;
use crate::protocol::event::{Event, Sort};

/// How many like steps in a row are one row.
const FOLDED_FROM: usize = 3;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Event(usize),
    /// Steps of one name, side and mechanism, none of which is marked.
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
    let unfold = |row| match row {
        Row::Run(run) if run.len() < FOLDED_FROM => run.into_iter().map(Row::Event).collect(),
        row => vec![row],
    };
    rows.into_iter().flat_map(unfold).collect()
}

fn is_like(summary: &Summary<'_>, first: usize, other: usize) -> bool {
    let plain = |i: usize| summary.section.events[i].event == Sort::Step && summary.mark(i) == Mark::None;
    let key = |i: usize| {
        let event = &summary.section.events[i];
        (event.side, &event.name, &event.mechanism)
    };
    plain(first) && plain(other) && key(first) == key(other)
}

/// What a run is, and of what: `cgroup write x14`, `12 files below /sys/fs/cgroup`.
pub(super) fn words(events: &[&Event]) -> (String, String) {
    let Some(first) = events.first() else { return Default::default() };
    let what = format!("{} x{}", safe(&first.name), events.len());
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
    use crate::protocol::event::Side;

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
    fn another_side_or_mechanism_ends_a_run() {
        let mut by = write(3, 1, "/a/c");
        by.mechanism = "another".into();
        let child = Event { side: Side::Child, ..write(4, 1, "/a/d") };
        let section = section(vec![write(1, 1, "/a/a"), write(2, 1, "/a/b"), by, child]);
        assert_eq!(rows(&Summary::of(&section), false), (0..4).map(Row::Event).collect::<Vec<_>>());
    }
}
