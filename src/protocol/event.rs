//! What a trace is made of: one event for each message and each step of either side, on one clock.

use std::borrow::Cow;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::journal;
use super::lines::Lines;
use crate::error::{Error, Result};

/// The version of the JSON lines that a trace file holds; a reader refuses a higher one. docs/trace.md is the schema.
pub const VERSION: u32 = 2;

/// The longest text of an event, in bytes.
const TEXT_CAP: usize = 4096;

/// One thing that happened. A trace file holds one a line, as JSON. What version 1 did not have is empty there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
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
    pub name: Cow<'static, str>,
    /// What it was done to: a path, a mount, a hook.
    #[serde(default)]
    pub object: String,
    /// By which call or way.
    #[serde(default)]
    pub mechanism: Cow<'static, str>,
    /// Of a fallback and a refusal: why. Of an error: what the user can do.
    #[serde(default)]
    pub why: String,
    /// Beside those: sizes, flags, values.
    pub detail: String,
    /// The fd numbers that rode along, as this side has them.
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

/// The texts of an event. Made only when something records.
#[derive(Debug, Default)]
pub struct About {
    object: String,
    mechanism: Cow<'static, str>,
    why: String,
    detail: String,
}

impl About {
    /// About a path, a mount, a hook.
    pub fn object(object: impl Into<String>) -> About {
        About { object: object.into(), ..About::default() }
    }

    /// By this call or in this way.
    pub fn by(self, mechanism: impl Into<Cow<'static, str>>) -> About {
        About { mechanism: mechanism.into(), ..self }
    }

    /// For this reason.
    pub fn why(self, why: impl Into<String>) -> About {
        About { why: why.into(), ..self }
    }

    /// And what else there is to say.
    pub fn with(self, detail: impl Into<String>) -> About {
        About { detail: detail.into(), ..self }
    }

    /// It failed: what was said of it gives way to the error and to what the user can do.
    pub(super) fn failed(self, error: &Error) -> About {
        self.with(error.message()).why(error.advice().unwrap_or_default())
    }
}

impl From<String> for About {
    fn from(detail: String) -> About {
        About::default().with(detail)
    }
}

impl From<&str> for About {
    fn from(detail: &str) -> About {
        About::default().with(detail)
    }
}

impl Event {
    /// An event of a process that the recorder will put its name to.
    pub(super) fn new(sort: Sort, name: &'static str, at_us: u64, took_us: u64, about: About, fds: Vec<i32>) -> Event {
        let About { mut object, mechanism, mut why, mut detail } = about;
        // A frame holds several; paths and messages of any length come here.
        [&mut object, &mut why, &mut detail].into_iter().for_each(|text| crate::error::shorten(text, TEXT_CAP));
        let (side, name) = (Side::Parent, Cow::Borrowed(name));
        Event { at_us, took_us, side, pid: 0, event: sort, name, object, mechanism, why, detail, fds }
    }

    /// About how many bytes it takes, in memory and in a frame.
    pub(super) fn size(&self) -> usize {
        let texts = self.name.len() + self.object.len() + self.mechanism.len() + self.why.len() + self.detail.len();
        texts + self.fds.len() * 5 + 64
    }
}

/// How many events a recorder keeps: the newest ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many.
    pub events: usize,
    /// And of about so many bytes.
    pub bytes: usize,
}

impl Limits {
    /// For a trace that was asked for: all.
    pub const NONE: Limits = Limits { events: usize::MAX, bytes: usize::MAX };
    /// For one that is kept in case of a failure.
    pub const RING: Limits = Limits { events: 4096, bytes: 1 << 20 };
}

/// Collects the events of one side. Off, it costs a branch an event and no clock.
#[derive(Debug)]
pub struct Recorder {
    on: bool,
    /// What a failure that no step tells of comes from.
    doing: &'static str,
    events: VecDeque<Event>,
    side: Side,
    pid: i32,
    /// Added to this process's clock to give the host's: a time namespace shifts CLOCK_MONOTONIC.
    offset_us: i64,
    limits: Limits,
    bytes: usize,
    dropped: u64,
    /// When the other side's process was made, until it has said something.
    other_began: Option<u64>,
    /// What is a line already, where all is kept and goes to a file.
    ahead: Option<Lines>,
}

impl Recorder {
    /// A recorder for one side, on or off.
    pub fn new(side: Side, on: bool) -> Recorder {
        let mut recorder = Recorder {
            on: false,
            doing: "",
            events: VecDeque::new(),
            side,
            pid: 0,
            offset_us: 0,
            limits: Limits::NONE,
            bytes: 0,
            dropped: 0,
            other_began: None,
            ahead: None,
        };
        if on {
            recorder.turn_on(0);
        }
        recorder
    }

    /// The same, that keeps no more than this.
    pub fn within(self, limits: Limits) -> Recorder {
        Recorder { limits, ..self }
    }

    /// The same, that makes lines of its events whenever it is told that there is time: [`Recorder::write_ahead`].
    pub fn ahead(self) -> Recorder {
        Recorder { ahead: Some(Lines::default()), ..self }
    }

    /// Whether it records.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Starts to record, on a clock that runs `ahead_us` ahead of the host's. Anew in each process that is forked.
    pub fn turn_on(&mut self, ahead_us: i64) {
        self.on = true;
        self.offset_us = -ahead_us;
        self.pid = rustix::process::getpid().as_raw_nonzero().get();
        journal::turn_on(self.offset_us);
    }

    /// The time for a later [`Recorder::step`]; 0 when off.
    pub fn now(&self) -> u64 {
        if self.on { clock(self.offset_us) } else { 0 }
    }

    /// Records a message; what it is about is made only when on.
    pub fn message<A: Into<About>>(
        &mut self,
        sort: Sort,
        name: &'static str,
        about: impl FnOnce() -> A,
        fds: Vec<i32>,
    ) {
        if self.on {
            let at_us = self.now();
            self.push(Event::new(sort, name, at_us, 0, about().into(), fds));
        }
    }

    /// Records a step that began at `since` ([`Recorder::now`]).
    pub fn step<A: Into<About>>(&mut self, name: &'static str, since: u64, about: impl FnOnce() -> A) {
        self.timed(Sort::Step, name, since, about);
    }

    /// Records that something was done in another way than usual, and why.
    pub fn fallback<A: Into<About>>(&mut self, name: &'static str, about: impl FnOnce() -> A) {
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
    pub fn ended<T>(&mut self, name: &'static str, since: u64, result: &Result<T>, about: impl FnOnce() -> About) {
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

    fn timed<A: Into<About>>(&mut self, sort: Sort, name: &'static str, since: u64, about: impl FnOnce() -> A) {
        if self.on {
            let took_us = self.now().saturating_sub(since);
            self.push(Event::new(sort, name, since, took_us, about().into(), vec![]));
        }
    }

    fn push(&mut self, event: Event) {
        self.collect();
        self.keep(Event { side: self.side, pid: self.pid, ..event });
    }

    /// Takes over what was noted further down ([`journal`]).
    fn collect(&mut self) {
        for event in journal::take() {
            self.keep(Event { side: self.side, pid: self.pid, ..event });
        }
    }

    fn keep(&mut self, event: Event) {
        self.bytes += event.size();
        self.events.push_back(event);
        while self.events.len() > self.limits.events || self.bytes > self.limits.bytes {
            let Some(oldest) = self.events.pop_front() else { return };
            self.bytes -= oldest.size();
            self.dropped += 1;
        }
    }

    /// The other side's process is there now. It can't know when it was made: until its first event it starts.
    pub fn other_began(&mut self) {
        self.other_began = self.on.then(|| self.now());
    }

    /// Takes over what the other side recorded.
    pub fn absorb(&mut self, others: Vec<Event>) {
        if self.on {
            let first = others.iter().min_by_key(|event| event.at_us).filter(|event| event.side != self.side);
            if let Some((first, since)) = first.and_then(|first| Some((first, self.other_began.take()?))) {
                let took_us = first.at_us.saturating_sub(since);
                let about = About::default().with("its image is executed, and takes the plan");
                let start = Event::new(Sort::Step, "start", since, took_us, about, vec![]);
                self.keep(Event { side: first.side, pid: first.pid, ..start });
            }
            others.into_iter().for_each(|event| self.keep(event));
        }
    }

    /// Whether there is something to do while the other side is at work.
    pub fn has_lines_to_write(&self) -> bool {
        self.ahead.is_some() && !self.events.is_empty()
    }

    /// Makes lines of the events there are.
    pub fn write_ahead(&mut self) {
        let Some(lines) = &mut self.ahead else { return };
        while let Some(event) = self.events.front() {
            // It stays, for `take_lines` to fail with.
            if lines.push(event).is_err() {
                return;
            }
            self.bytes -= event.size();
            self.events.pop_front();
        }
    }

    /// Takes all events out, as lines.
    ///
    /// # Errors
    /// One can't be JSON.
    pub fn take_lines(&mut self) -> Result<Lines> {
        let mut lines = self.ahead.take().unwrap_or_default();
        self.take().iter().try_for_each(|event| lines.push(event))?;
        Ok(lines)
    }

    /// Takes all events out.
    pub fn take(&mut self) -> Vec<Event> {
        if self.on {
            self.collect();
        }
        self.bytes = 0;
        std::mem::take(&mut self.events).into()
    }

    /// How many events were dropped, being the oldest of too many.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Microseconds of CLOCK_MONOTONIC, shifted.
pub(super) fn clock(offset_us: i64) -> u64 {
    // By libc, which has found the vDSO already. No kernel lacks this clock.
    let Ok(now) = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC) else { return 0 };
    let us = now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000;
    u64::try_from(us.saturating_add(offset_us)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_keeps_the_newest_and_counts_the_others() {
        let mut recorder = Recorder::new(Side::Parent, true).within(Limits { events: 2, bytes: usize::MAX });
        for i in 0..5 {
            recorder.step("step", 0, || About::object(i.to_string()));
        }
        let kept: Vec<_> = recorder.take().into_iter().map(|event| event.object).collect();
        assert_eq!((kept, recorder.dropped()), (vec!["3".to_owned(), "4".to_owned()], 3));
        let mut recorder = Recorder::new(Side::Parent, true).within(Limits { events: 9, bytes: 1000 });
        (0..9).for_each(|_| recorder.step("step", 0, || "x".repeat(400)));
        assert_eq!((recorder.take().len(), recorder.dropped()), (2, 7));
        assert_eq!(recorder.bytes, 0);
    }

    #[test]
    fn off_it_makes_no_text() {
        let mut recorder = Recorder::new(Side::Parent, false);
        recorder.step("step", recorder.now(), || -> String { panic!("a text for nobody") });
        assert!(recorder.take().is_empty() && recorder.now() == 0);
    }
}
