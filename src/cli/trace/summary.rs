//! What one looks for first: how long it took, what was slow, who waited, what fell back, what failed.

use std::collections::{HashMap, HashSet, VecDeque};

use super::fold::{self, Row};
use super::paint::{duration, safe};
use super::read::Section;
use super::text::{name, side, words};
use super::time::{self, Gap, Wait};
use crate::protocol::event::{Event, Side, Sort};

/// How many slow steps are listed at most.
const LISTED: usize = 4;
/// From which share of the whole on a step is listed, and from which it is called slow, in percent.
const LISTED_FROM: u64 = 5;
const SLOW_FROM: u64 = 10;

/// A section that was looked at. Its events are in the order of their times.
pub(super) struct Summary<'a> {
    pub(super) section: &'a Section,
    /// When the first event began, on their clock.
    pub(super) start: u64,
    /// From there to the end of the last.
    pub(super) total: u64,
    /// Of each event, the time that none of the steps within it took.
    own: Vec<u64>,
    /// When nothing was recorded, and for how long.
    pub(super) gaps: Vec<Gap>,
    /// Of each message that left, where it came: by index.
    pub(super) arrows: HashMap<usize, usize>,
    echoes: HashSet<usize>,
    cause: Option<usize>,
}

/// What went wrong: where, what was said of it, and what to do.
pub(super) struct Failure<'a> {
    pub(super) place: String,
    pub(super) message: &'a str,
    pub(super) advice: &'a str,
}

impl<'a> Summary<'a> {
    pub(super) fn of(section: &'a Section) -> Summary<'a> {
        let events = &section.events;
        let start = events.iter().map(|e| e.at_us).min().unwrap_or(section.header.at_us);
        let end = events.iter().map(|e| e.at_us.saturating_add(e.took_us)).max().unwrap_or(start);
        let total = end - start;
        let (own, gaps, arrows) = (time::own_times(events), time::gaps(events, total), arrows(events));
        let echoes = arrows.values().copied().collect();
        Summary { section, start, total, own, gaps, arrows, echoes, cause: cause(events) }
    }

    pub(super) fn share(&self, us: u64) -> u64 {
        us.saturating_mul(100) / self.total.max(1)
    }

    /// The steps and runs of steps that took a share of the whole worth a word, slowest first, each with its own time.
    pub(super) fn slowest(&self) -> Vec<(Row, u64)> {
        let timed = |row: Row| {
            let own = self.own_of(&row);
            (row, own)
        };
        let mut rows: Vec<(Row, u64)> = fold::rows(self, false).into_iter().map(timed).collect();
        rows.retain(|(row, own)| !matches!(row, Row::Gap(_)) && self.share(*own) >= LISTED_FROM);
        rows.sort_by_key(|(_, own)| std::cmp::Reverse(*own));
        rows.truncate(LISTED);
        rows
    }

    /// The time that a row's own steps took.
    fn own_of(&self, row: &Row) -> u64 {
        match row {
            Row::Event(i) => self.own[*i],
            Row::Run(run) => run.iter().map(|i| self.own[*i]).sum(),
            Row::Gap(gap) => gap.took_us,
        }
    }

    /// What each side waited for the other, if it is a share of the whole worth a word.
    pub(super) fn waits(&self) -> Vec<(Wait, String)> {
        let waits = time::waits(&self.section.events).into_iter().filter(|w| self.share(w.took_us) >= LISTED_FROM);
        let told = |wait: Wait| {
            let (longest, us) = wait.longest;
            let (who, whom) = (side(wait.side), side(other(wait.side)));
            let message = safe(&self.section.events[longest].name);
            let words = format!("{who} waits for {whom}, longest for {message}: {}", duration(us));
            (wait, words)
        };
        waits.map(told).collect()
    }

    /// Who waits in a time of which nothing is known, and for which message.
    pub(super) fn awaited(&self, gap: Gap) -> Option<(Side, &'a Event)> {
        let events = &self.section.events;
        let waits = |side| Some((side, time::awaited(events, side, gap.at_us)?));
        [Side::Parent, Side::Child].into_iter().find_map(waits)
    }

    /// The same in words that follow others.
    pub(super) fn silence(&self, gap: Gap) -> String {
        let awaited = self.awaited(gap);
        awaited.map_or(String::new(), |(who, message)| format!(": {} waits for {}", side(who), safe(&message.name)))
    }

    /// What was done in another way than usual: the side, and how.
    pub(super) fn fallbacks(&self) -> Vec<(&'static str, String)> {
        let told = |row: Row| match row {
            Row::Event(i) => (fold::side(self, &row), words(&self.section.events[i])),
            _ => (fold::side(self, &row), fold::label(self, &row)),
        };
        fold::gathered(&self.section.events, Sort::Fallback).into_iter().map(told).collect()
    }

    /// The error that ended the command: its first cause, and what the user was told.
    pub(super) fn failure(&self) -> Option<Failure<'a>> {
        let events = &self.section.events;
        let Some(at) = self.cause else {
            let error = self.section.after.iter().find(|e| e.event == Sort::Error)?;
            let place = format!("{:<6}  {}", side(error.side), name(error));
            return Some(Failure { place, message: &error.detail, advice: &error.why });
        };
        let cause = &events[at];
        let last = events.iter().rfind(|e| e.event == Sort::Error && e.name == FAILED).unwrap_or(cause);
        let step = match &*cause.name {
            FAILED if !cause.object.is_empty() => safe(&cause.object),
            FAILED => self.after(at),
            _ => name(cause),
        };
        let place = format!("{:<6}  {step}", side(cause.side));
        Some(Failure { place, message: &last.detail, advice: &last.why })
    }

    /// How the process ended that the command has started and stayed with.
    pub(super) fn end(&self) -> Option<String> {
        let end = self.section.after.iter().find(|e| e.name == "end")?;
        Some(safe(&format!("{} {}, after {}", end.object, end.detail, duration(end.took_us))))
    }

    /// Where a side was that has not said what it did: past its last step, if that undid nothing.
    fn after(&self, at: usize) -> String {
        const UNDOING: [&str; 6] = ["await end", "kill", "kill all", "cgroup write", "cgroup remove", "state remove"];
        let (cause, before) = (&self.section.events[at], &self.section.events[..at]);
        let done = |e: &&Event| e.side == cause.side && e.event == Sort::Step && !UNDOING.contains(&&*e.name);
        match before.iter().rfind(done) {
            Some(step) => format!("after {}", name(step)),
            None => "before its first step".into(),
        }
    }

    /// The receiving end of a message whose sending end is there: one arrow is enough.
    pub(super) fn is_echo(&self, index: usize) -> bool {
        self.echoes.contains(&index)
    }

    /// What marks an event, in a word.
    pub(super) fn mark(&self, index: usize) -> Mark {
        let events = &self.section.events;
        match events[index].event {
            Sort::Error
                if self.cause.is_some_and(|cause| cause != index && is_told(&events[cause], &events[index])) =>
            {
                Mark::PassedOn
            }
            Sort::Error => Mark::Failed,
            Sort::Fallback => Mark::Fallback,
            Sort::Refused => Mark::Refused,
            _ => self.slow(self.own[index]),
        }
    }

    pub(super) fn mark_of(&self, row: &Row) -> Mark {
        match row {
            Row::Event(i) => self.mark(*i),
            Row::Run(run) => match self.mark(run[0]) {
                mark @ (Mark::Fallback | Mark::Refused) => mark,
                _ => self.slow(self.own_of(row)),
            },
            Row::Gap(gap) => Mark::Gap(self.share(gap.took_us)),
        }
    }

    /// How long a row took, of a run all its steps.
    pub(super) fn took(&self, row: &Row) -> u64 {
        match row {
            Row::Event(i) => self.section.events[*i].took_us,
            Row::Run(run) => run.iter().map(|i| self.section.events[*i].took_us).sum(),
            Row::Gap(gap) => gap.took_us,
        }
    }

    fn slow(&self, own: u64) -> Mark {
        Some(self.share(own)).filter(|share| *share >= SLOW_FROM).map_or(Mark::None, Mark::Slow)
    }
}

fn other(side: Side) -> Side {
    if side == Side::Parent { Side::Child } else { Side::Parent }
}

/// The step that a side's whole failure is called by.
const FAILED: &str = "failed";
/// The step that is to wait for a message that does not come.
const WAIT: &str = "wait for";

/// Whether an error is another one that was passed on, with or without words around it. Who waits in vain may be told of it
/// in other words: that the memory is out.
fn is_told(cause: &Event, error: &Event) -> bool {
    error.name == FAILED
        || error.name == WAIT
        || error.detail.contains(&cause.detail)
        || cause.detail.contains(&error.detail)
}

/// The first of the errors that the last one is made of: the one that was over first. A step may fail that the command then
/// does without; its words are not in the last error.
fn cause(events: &[Event]) -> Option<usize> {
    let errors = || events.iter().enumerate().filter(|(_, e)| e.event == Sort::Error);
    let over = |(_, e): &(usize, &Event)| (e.at_us.saturating_add(e.took_us), std::cmp::Reverse(e.at_us));
    let steps = || errors().filter(|(_, e)| e.name != FAILED);
    let Some((_, last)) = errors().rfind(|(_, e)| e.name == FAILED) else {
        return steps().min_by_key(over).map(|(i, _)| i);
    };
    // Nobody survives that a message does not come.
    let within = |(_, e): &(usize, &Event)| e.name == WAIT || (!e.detail.is_empty() && last.detail.contains(&e.detail));
    steps().filter(within).min_by_key(over).or_else(|| errors().find(|(_, e)| e.name == FAILED)).map(|(i, _)| i)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    None,
    /// With its share of the whole, in percent.
    Slow(u64),
    /// The same of a time without a step.
    Gap(u64),
    Fallback,
    Refused,
    Failed,
    /// A failure that another has led to.
    PassedOn,
}

impl Mark {
    pub(super) fn text(self) -> String {
        match self {
            Mark::None => String::new(),
            Mark::Slow(share) => format!("slow {share}%"),
            Mark::Gap(share) => format!("gap {share}%"),
            Mark::Fallback => "fallback".into(),
            Mark::Refused => "refused".into(),
            Mark::Failed => "FAILED".into(),
            Mark::PassedOn => "passed on".into(),
        }
    }
}

/// The first of a name that left is the first of that name that came on the other side.
fn arrows(events: &[Event]) -> HashMap<usize, usize> {
    let mut sent: HashMap<(Side, &str), VecDeque<usize>> = HashMap::new();
    for (i, event) in events.iter().enumerate().filter(|(_, e)| e.event == Sort::Send) {
        sent.entry((event.side, &event.name)).or_default().push_back(i);
    }
    let mut arrows = HashMap::new();
    for (i, event) in events.iter().enumerate().filter(|(_, e)| e.event == Sort::Receive) {
        if let Some(first) = sent.get_mut(&(other(event.side), &*event.name)).and_then(VecDeque::pop_front) {
            arrows.insert(first, i);
        }
    }
    arrows
}

#[cfg(test)]
mod tests {
    use super::super::read::tests::{event, section};
    use super::*;

    fn error(side: Side, name: &'static str, at_us: u64, took_us: u64, detail: &str) -> Event {
        let object = if name == FAILED { String::new() } else { "object".into() };
        Event { detail: detail.into(), object, ..event(side, Sort::Error, name, at_us, took_us) }
    }

    #[test]
    fn what_is_not_worth_a_word_is_not_listed() {
        let section = section(vec![
            event(Side::Parent, Sort::Step, "cgroup", 0, 850),
            event(Side::Parent, Sort::Step, "plan", 850, 60),
            event(Side::Child, Sort::Step, "mount", 910, 50),
            event(Side::Child, Sort::Step, "devices", 960, 40),
        ]);
        let summary = Summary::of(&section);
        assert_eq!(summary.slowest(), [(Row::Event(0), 850), (Row::Event(1), 60), (Row::Event(2), 50)]);
        assert_eq!((summary.mark(0), summary.mark(1)), (Mark::Slow(85), Mark::None));
    }

    #[test]
    fn many_small_steps_are_slow_together() {
        let steps = (0..8).map(|i| event(Side::Parent, Sort::Step, "cgroup write", i * 50, 50));
        let section = section(steps.chain([event(Side::Child, Sort::Step, "mount", 400, 600)]).collect());
        let slowest = Summary::of(&section).slowest();
        assert_eq!(slowest, [(Row::Event(8), 600), (Row::Run((0..8).collect()), 400)]);
    }

    #[test]
    fn the_failed_step_is_told_from_what_it_led_to() {
        let section = section(vec![
            error(Side::Child, "mounts", 0, 10, "mount: no such file"),
            error(Side::Child, "mount", 1, 8, "no such file"),
            error(Side::Child, "failed", 12, 0, "mount: no such file"),
            error(Side::Parent, "failed", 13, 0, "mount: no such file"),
        ]);
        let summary = Summary::of(&section);
        let failure = summary.failure().unwrap();
        assert_eq!((&*failure.place, failure.message), ("child   mount object", "mount: no such file"));
        let marks: Vec<Mark> = (0..4).map(|i| summary.mark(i)).collect();
        assert_eq!(marks, [Mark::PassedOn, Mark::Failed, Mark::PassedOn, Mark::PassedOn]);
    }

    #[test]
    fn who_waits_in_vain_may_end_with_other_words() {
        let section = section(vec![
            error(Side::Parent, WAIT, 0, 10, "the child is gone"),
            error(Side::Parent, "failed", 12, 0, "it is out of memory"),
        ]);
        let summary = Summary::of(&section);
        assert_eq!(summary.failure().unwrap().place, "parent  wait for object");
        assert_eq!([0, 1].map(|i| summary.mark(i)), [Mark::Failed, Mark::PassedOn]);
    }

    #[test]
    fn a_failure_that_was_survived_is_not_the_cause() {
        let section = section(vec![
            error(Side::Parent, "map ids", 1, 1, "not permitted"),
            event(Side::Child, Sort::Step, "paths", 2, 1),
            error(Side::Child, "failed", 5, 0, "no program"),
            error(Side::Parent, "failed", 6, 0, "no program"),
        ]);
        let summary = Summary::of(&section);
        assert_eq!(summary.failure().unwrap().place, "child   after paths object");
        let marks: Vec<Mark> = [0, 2, 3].map(|i| summary.mark(i)).into();
        assert_eq!(marks, [Mark::Failed, Mark::Failed, Mark::PassedOn]);
    }
}
