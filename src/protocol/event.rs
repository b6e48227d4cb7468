//! What a trace is made of: one event for each message and each step of either side, on one clock.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use super::about::About;
use super::book::Book;
use super::codec::PART_SIZE;
use super::lines::Lines;
use super::log::Log;
use super::{ProtocolError, journal};
use crate::error::{Error, Result};

/// The version of the JSON lines that a trace file holds; a reader refuses a higher one. docs/trace.md is the schema.
pub const VERSION: u32 = 3;

/// The longest text of an event, in bytes.
const TEXT_CAP: usize = 4096;

/// How many bytes of events are kept in case of a failure: from half of it on the oldest go.
const RING: usize = 1 << 20;

/// One thing that happened. A trace file holds one a line, as JSON. What is not there is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event<S = String> {
    /// When, in microseconds of CLOCK_MONOTONIC of the host. For a step: when it began.
    pub at_us: u64,
    /// How long it took, in microseconds; 0 for a message.
    pub took_us: u64,
    /// Who saw it.
    pub side: Side,
    /// The process that saw it, in its own pid namespace.
    pub pid: i32,
    /// What sort of thing.
    pub event: Sort,
    /// The message or the step: one of a fixed set of names.
    pub name: S,
    /// What it was done to: a path, a mount, a hook.
    #[serde(default)]
    pub object: S,
    /// By which call or way.
    #[serde(default)]
    pub mechanism: S,
    /// Of a fallback and a refusal: why. Of an error: what the user can do.
    #[serde(default)]
    pub why: S,
    /// Beside those: sizes, flags, values.
    #[serde(default)]
    pub detail: S,
    /// The fd numbers that rode along, as this side has them.
    #[serde(default)]
    pub fds: Vec<i32>,
}

/// One of the two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The command, on the host.
    Parent,
    /// The process that becomes the container's.
    Child,
}

/// One sort of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// A message left.
    Send,
    /// A message came.
    Receive,
    /// A step was done.
    Step,
    /// Something was done in another way than usual; `why` says why.
    Fallback,
    /// A step failed.
    Error,
    /// The kernel refused a call, and whoever made it went on: by a fallback, by leaving it out, or to an error.
    Refused,
}

/// Who sees an event, and what to add to its clock to give the host's: a time namespace shifts CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Witness {
    side: Side,
    pid: i32,
    offset_us: i64,
}

impl Witness {
    /// Microseconds of the host's CLOCK_MONOTONIC.
    pub(super) fn now(self) -> u64 {
        // By libc, which has found the vDSO already. No kernel lacks this clock.
        let Ok(now) = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC) else { return 0 };
        let us = now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000;
        u64::try_from(us.saturating_add(self.offset_us)).unwrap_or(0)
    }

    /// Writes down what began at a time and took another.
    pub(super) fn note(
        self,
        book: &mut Book,
        event: Sort,
        name: &str,
        (at_us, took_us): (u64, u64),
        about: About<'_>,
        fds: Vec<i32>,
    ) {
        let Witness { side, pid, .. } = self;
        let About { object, mechanism, why, detail } = about;
        let texts = [object, mechanism, why, detail].map(capped);
        let [object, mechanism, why, detail] = texts.each_ref().map(|text| &**text);
        book.push(&Event { at_us, took_us, side, pid, event, name, object, mechanism, why, detail, fds });
    }
}

/// A frame holds several events; paths and messages of any length come here.
fn capped(mut text: Cow<'_, str>) -> Cow<'_, str> {
    if text.len() > TEXT_CAP {
        crate::error::shorten(text.to_mut(), TEXT_CAP);
    }
    text
}

/// Collects the events of one side. Off, it costs a branch an event and no clock.
#[derive(Debug)]
pub struct Recorder {
    on: bool,
    /// What a failure that no step tells of comes from.
    doing: &'static str,
    book: Book,
    witness: Witness,
    /// When the other side's process was made, until it has said something.
    other_began: Option<u64>,
}

impl Recorder {
    /// A recorder for one side, on or off.
    pub fn new(side: Side, on: bool) -> Recorder {
        let witness = Witness { side, pid: 0, offset_us: 0 };
        let book = Book::Encoded(Log::new());
        let mut recorder = Recorder { on: false, doing: "", book, witness, other_began: None };
        if on {
            recorder.turn_on(0);
        }
        recorder
    }

    /// The same, that keeps the newest events only: those before a failure.
    pub fn ring(self) -> Recorder {
        Recorder { book: Book::Encoded(Log::ring(RING)), ..self }
    }

    /// The same, whose events are lines at once: all of them go to a file, and nobody else asks.
    pub fn in_lines(self) -> Recorder {
        if self.on {
            journal::turn_on(self.witness, true);
        }
        Recorder { book: Book::Lines(Lines::with_room()), ..self }
    }

    /// Whether it records.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Starts to record, on a clock that runs `ahead_us` ahead of the host's. Anew in each process that is forked.
    pub fn turn_on(&mut self, ahead_us: i64) {
        self.collect();
        self.on = true;
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        self.witness = Witness { pid, offset_us: -ahead_us, ..self.witness };
        journal::turn_on(self.witness, matches!(self.book, Book::Lines(_)));
    }

    /// The time for a later [`Recorder::step`]; 0 when off.
    pub fn now(&self) -> u64 {
        if self.on { self.witness.now() } else { 0 }
    }

    /// Records a message; what it is about is made only when on.
    pub fn message<'a, A: Into<About<'a>>>(
        &mut self,
        sort: Sort,
        name: &'static str,
        about: impl FnOnce() -> A,
        fds: Vec<i32>,
    ) {
        if self.on {
            self.collect();
            let at_us = self.now();
            self.witness.note(&mut self.book, sort, name, (at_us, 0), about().into(), fds);
        }
    }

    /// Records a step that began at `since` ([`Recorder::now`]).
    pub fn step<'a, A: Into<About<'a>>>(&mut self, name: &'static str, since: u64, about: impl FnOnce() -> A) {
        self.timed(Sort::Step, name, since, about);
    }

    /// Records that something was done in another way than usual, and why.
    pub fn fallback<'a, A: Into<About<'a>>>(&mut self, name: &'static str, about: impl FnOnce() -> A) {
        let now = self.now();
        self.timed(Sort::Fallback, name, now, about);
    }

    /// Records a step that began at `since` and failed, if it did.
    pub fn failed<T>(&mut self, name: &'static str, since: u64, result: &Result<T>, object: impl FnOnce() -> String) {
        if let Err(error) = result {
            self.timed(Sort::Error, name, since, || About::object(object()).failed(error));
        }
    }

    /// Records a step that began at `since`, as it ended. What it was done to is told of a failure too.
    pub fn ended<'a, T>(
        &mut self,
        name: &'static str,
        since: u64,
        result: &Result<T>,
        about: impl FnOnce() -> About<'a>,
    ) {
        match result {
            Ok(_) => self.step(name, since, about),
            Err(error) => self.timed(Sort::Error, name, since, || about().failed(error)),
        }
    }

    /// From here on this is done: a failure that no step of its own tells of is this one's.
    pub fn doing(&mut self, what: &'static str) {
        self.doing = what;
    }

    /// Records a failure: that of the whole command, or of all that a side does.
    pub fn error(&mut self, error: &Error) {
        let (now, doing) = (self.now(), self.doing);
        self.timed(Sort::Error, "failed", now, || About::object(doing).failed(error));
    }

    fn timed<'a, A: Into<About<'a>>>(&mut self, sort: Sort, name: &'static str, since: u64, about: impl FnOnce() -> A) {
        if self.on {
            let took_us = self.now().saturating_sub(since);
            self.collect();
            self.witness.note(&mut self.book, sort, name, (since, took_us), about().into(), vec![]);
        }
    }

    /// The other side's process is there now. It can't know when it was made: until its first event it starts.
    pub fn other_began(&mut self) {
        self.other_began = self.on.then(|| self.now());
    }

    /// Takes over what the other side recorded, as its encoding. Returns how many bytes it takes here.
    ///
    /// # Errors
    /// Bytes that are no events, or one that is not the other side's.
    pub fn absorb(&mut self, others: &[u8]) -> Result<usize, ProtocolError> {
        if !self.on {
            return Ok(others.len());
        }
        let side = match self.witness.side {
            Side::Parent => Side::Child,
            Side::Child => Side::Parent,
        };
        let seen = self.book.absorb(others, side)?;
        if let Some(((at_us, pid), since)) = seen.first.and_then(|first| Some((first, self.other_began.take()?))) {
            let about = About::default().with("its image is executed, and takes the plan");
            let other = Witness { side, pid, ..self.witness };
            let time = (since, at_us.saturating_sub(since));
            other.note(&mut self.book, Sort::Step, "start", time, about, vec![]);
        }
        Ok(seen.size)
    }

    /// All events by time, unless they are lines.
    pub fn events(&mut self) -> Vec<Event<&str>> {
        self.collect();
        let mut events: Vec<_> = self.book.log().map(|log| log.events().collect()).unwrap_or_default();
        // A stable sort: what one side saw in a microsecond stays as it saw it.
        events.sort_by_key(|event| event.at_us);
        events
    }

    /// All events as lines, taken out.
    ///
    /// # Errors
    /// One can't be JSON.
    pub(crate) fn take_lines(&mut self) -> Result<Lines> {
        self.collect();
        self.book.take_lines()
    }

    /// Takes all events out, encoded, in pieces that a frame holds each.
    pub(super) fn take_pieces(&mut self) -> Vec<Vec<u8>> {
        self.collect();
        match &mut self.book {
            Book::Encoded(log) => log.take_pieces(),
            Book::Lines(_) => vec![],
        }
    }

    /// Whether they are too many for one frame.
    pub(super) fn fills_a_frame(&mut self) -> bool {
        self.collect();
        // The message that follows is one more.
        self.book.log().is_some_and(|log| log.size() + 1024 > PART_SIZE)
    }

    /// Takes over what was noted further down ([`journal`]).
    fn collect(&mut self) {
        if self.on {
            journal::move_to(&mut self.book);
        }
    }

    /// How many events were dropped, being the oldest of too many. Asked for last: what is taken over may be too much.
    pub fn dropped(&self) -> u64 {
        self.book.log().map_or(0, Log::dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_keeps_the_newest_and_counts_the_others() {
        let mut recorder = Recorder::new(Side::Parent, true).ring();
        let all = 2 * RING / 4096;
        (0..all).for_each(|i| recorder.step("step", 0, || format!("{i:04000}")));
        let kept: Vec<String> = recorder.events().iter().map(|event| event.detail.to_owned()).collect();
        let dropped = usize::try_from(recorder.dropped()).unwrap();
        assert_eq!(kept, (dropped..all).map(|i| format!("{i:04000}")).collect::<Vec<_>>());
        assert!((RING / 2..=RING).contains(&(kept.len() * 4000)), "{}", kept.len());
    }

    #[test]
    fn what_was_noted_further_down_is_as_old_as_it_is() {
        let mut recorder = Recorder::new(Side::Parent, true).ring();
        (0..20).for_each(|i| journal::step("noted", i, || "x".repeat(4000)));
        let all = RING / 4000;
        (0..all).for_each(|_| recorder.step("step", 99, || "x".repeat(4000)));
        let lines = recorder.take_lines().unwrap();
        let mut text = vec![];
        let count = lines.count();
        lines.write_to(&mut text);
        assert!(!String::from_utf8(text).unwrap().contains("noted"), "the oldest go first");
        assert_eq!(recorder.dropped() as usize + count, all + 20);
    }

    #[test]
    fn they_come_by_time_whenever_they_were_noted() {
        for kind in [|recorder| recorder, Recorder::in_lines, Recorder::ring] {
            let mut recorder = kind(Recorder::new(Side::Parent, true));
            recorder.step("late", 9, About::default);
            journal::step("early", 3, About::default);
            let mut text = b"header\n".to_vec();
            recorder.take_lines().unwrap().write_to(&mut text);
            let text = String::from_utf8(text).unwrap();
            let places = ["header", "early", "late"].map(|name| text.find(name).unwrap());
            assert!(places.is_sorted() && text.lines().count() == 3, "{text}");
        }
    }

    #[test]
    fn a_trace_is_cut_between_events_and_is_whole_again() {
        let mut child = Recorder::new(Side::Child, true);
        (0..40).for_each(|i| child.step("step", i, || "x".repeat(4000)));
        let pieces = child.take_pieces();
        assert!(pieces.len() > 2 && pieces.iter().all(|piece| piece.len() <= PART_SIZE));
        assert!(child.events().is_empty());
        let mut parent = Recorder::new(Side::Parent, true);
        pieces.iter().for_each(|piece| assert!(parent.absorb(piece).is_ok()));
        assert_eq!(parent.events().iter().map(|event| event.at_us).collect::<Vec<_>>(), (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn a_trace_that_is_none_is_refused_whole() {
        let piece = |side| {
            let mut recorder = Recorder::new(side, true);
            (0..2).for_each(|i| recorder.step("step", i, About::default));
            recorder.take_pieces().concat()
        };
        let (own, others) = (piece(Side::Parent), piece(Side::Child));
        for mut parent in [Recorder::new(Side::Parent, true), Recorder::new(Side::Parent, true).in_lines()] {
            assert!(matches!(parent.absorb(&own), Err(ProtocolError::Inconsistent(_))));
            assert!(matches!(parent.absorb(&others[..others.len() - 1]), Err(ProtocolError::Malformed(_))));
            assert_eq!(parent.take_lines().unwrap().count(), 0);
            assert!(parent.absorb(&others).is_ok());
            assert_eq!(parent.take_lines().unwrap().count(), 2);
        }
    }

    #[test]
    fn off_it_makes_no_text() {
        let mut recorder = Recorder::new(Side::Parent, false);
        recorder.step("step", recorder.now(), || -> String { panic!("a text for nobody") });
        assert!(recorder.events().is_empty() && recorder.now() == 0);
    }
}
