//! What one looks for first: how long it took, what was slow, what fell back, what failed.

use std::collections::{HashMap, VecDeque};

use super::read::Section;
use crate::protocol::event::{Event, Side, Sort};

/// How many steps are called slow at most, and from which share of the whole on, in percent.
const SLOWEST: usize = 3;
const SLOW_FROM: u64 = 10;

/// A section that was looked at.
pub(super) struct Summary<'a> {
    pub(super) section: &'a Section,
    /// When the first event began, on their clock.
    pub(super) start: u64,
    /// From there to the end of the last.
    pub(super) total: u64,
    /// The slowest steps, slowest first: index, and the time that none of the steps within it took.
    pub(super) slowest: Vec<(usize, u64)>,
    /// Of each message that left, where it came: by index.
    pub(super) arrows: HashMap<usize, usize>,
}

impl<'a> Summary<'a> {
    pub(super) fn of(section: &'a Section) -> Summary<'a> {
        let events = &section.events;
        let start = events.iter().map(|e| e.at_us).min().unwrap_or(section.header.at_us);
        let end = events.iter().map(|e| e.at_us.saturating_add(e.took_us)).max().unwrap_or(start);
        let mut slowest = own_times(events);
        slowest.sort_by_key(|(_, own)| std::cmp::Reverse(*own));
        slowest.retain(|(_, own)| *own > 0);
        slowest.truncate(SLOWEST);
        Summary { section, start, total: end - start, slowest, arrows: arrows(events) }
    }

    /// The share of the whole of a step that is slow.
    pub(super) fn slow(&self, index: usize) -> Option<u64> {
        let (_, own) = self.slowest.iter().find(|(i, _)| *i == index)?;
        Some(self.share(*own)).filter(|share| *share >= SLOW_FROM)
    }

    pub(super) fn share(&self, us: u64) -> u64 {
        us.saturating_mul(100) / self.total.max(1)
    }

    pub(super) fn fallbacks(&self) -> Vec<&'a Event> {
        self.section.events.iter().filter(|e| e.event == Sort::Fallback).collect()
    }

    /// The error that ended the command: of the step that failed if that is known, and the last that was said.
    pub(super) fn error(&self) -> Option<(&'a Event, &'a Event)> {
        let errors = || self.section.events.iter().filter(|e| e.event == Sort::Error);
        let last = errors().next_back()?;
        let step = errors().find(|e| e.name != "failed").unwrap_or(last);
        Some((step, last))
    }

    /// The receiving end of a message whose sending end is there: one arrow is enough.
    pub(super) fn is_echo(&self, index: usize) -> bool {
        self.section.events[index].event == Sort::Receive && self.arrows.values().any(|to| *to == index)
    }

    /// What marks an event, in a word.
    pub(super) fn mark(&self, index: usize) -> Mark {
        match self.section.events[index].event {
            Sort::Error => Mark::Failed,
            Sort::Fallback => Mark::Fallback,
            Sort::Refused => Mark::Refused,
            _ => self.slow(index).map_or(Mark::None, Mark::Slow),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    None,
    /// With its share of the whole, in percent.
    Slow(u64),
    Fallback,
    Refused,
    Failed,
}

impl Mark {
    pub(super) fn text(self) -> String {
        match self {
            Mark::None => String::new(),
            Mark::Slow(share) => format!("slow {share}%"),
            Mark::Fallback => "fallback".into(),
            Mark::Refused => "refused".into(),
            Mark::Failed => "FAILED".into(),
        }
    }
}

/// Of each step, the time that is not that of steps within it.
fn own_times(events: &[Event]) -> Vec<(usize, u64)> {
    let mut own = vec![];
    for side in [Side::Parent, Side::Child] {
        let steps = events.iter().enumerate().filter(|(_, e)| e.side == side && e.took_us > 0);
        let mut steps: Vec<(usize, &Event)> = steps.collect();
        steps.sort_by_key(|(_, e)| (e.at_us, std::cmp::Reverse(e.took_us)));
        // Those that are not over, each within the one before it.
        let mut open: Vec<(usize, u64)> = vec![];
        for (i, event) in steps {
            let end = event.at_us.saturating_add(event.took_us);
            while open.last().is_some_and(|(_, until)| *until < end) {
                open.pop();
            }
            if let Some((outer, _)) = open.last()
                && let Some((_, rest)) = own.iter_mut().find(|(index, _)| index == outer)
            {
                *rest = u64::saturating_sub(*rest, event.took_us);
            }
            own.push((i, event.took_us));
            open.push((i, end));
        }
    }
    own
}

/// The first of a name that left is the first of that name that came on the other side.
fn arrows(events: &[Event]) -> HashMap<usize, usize> {
    let mut sent: HashMap<(Side, &str), VecDeque<usize>> = HashMap::new();
    for (i, event) in events.iter().enumerate().filter(|(_, e)| e.event == Sort::Send) {
        sent.entry((event.side, &event.name)).or_default().push_back(i);
    }
    let mut arrows = HashMap::new();
    for (i, event) in events.iter().enumerate().filter(|(_, e)| e.event == Sort::Receive) {
        let from = if event.side == Side::Parent { Side::Child } else { Side::Parent };
        if let Some(first) = sent.get_mut(&(from, &*event.name)).and_then(VecDeque::pop_front) {
            arrows.insert(first, i);
        }
    }
    arrows
}

#[cfg(test)]
mod tests {
    use super::super::read::tests::{event, section};
    use super::*;

    #[test]
    fn a_step_is_not_slow_for_what_is_within_it() {
        let section = section(vec![
            event(Side::Parent, Sort::Step, "cgroup", 0, 100),
            event(Side::Parent, Sort::Step, "cgroup write", 10, 80),
            event(Side::Child, Sort::Step, "mount", 10, 5),
        ]);
        let summary = Summary::of(&section);
        assert_eq!(summary.slowest, [(1, 80), (0, 20), (2, 5)]);
        assert_eq!((summary.slow(1), summary.slow(2), summary.total), (Some(80), None, 100));
    }

    #[test]
    fn the_failed_step_is_told_from_what_it_led_to() {
        let section = section(vec![
            event(Side::Child, Sort::Error, "mount", 1, 1),
            event(Side::Child, Sort::Error, "failed", 2, 0),
            event(Side::Parent, Sort::Error, "failed", 3, 0),
        ]);
        let (step, last) = Summary::of(&section).error().unwrap();
        assert_eq!((&*step.name, last.side), ("mount", Side::Parent));
    }
}
