//! What a trace is made of: one event for each message and each step of either side, on one clock.

use serde::{Deserialize, Serialize};

/// The version of the JSON lines that a trace file holds; a reader refuses a higher one.
pub const VERSION: u32 = 1;

/// The longest detail of an event, in bytes.
const DETAIL_CAP: usize = 4096;

/// One thing that happened. A trace file holds one a line, as JSON.
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
    /// The message or the step.
    pub name: String,
    /// Beside the name: sizes, paths, the mechanism that was taken and why.
    pub detail: String,
    /// The fd numbers that rode along, as this side has them.
    pub fds: Vec<i32>,
}

/// One of the two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The command, on the host.
    Parent,
    /// The process that becomes the container's.
    Child,
}

/// One sort of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// A message left.
    Send,
    /// A message came.
    Receive,
    /// A step was done.
    Step,
    /// Something was done in another way than usual; the detail says why.
    Fallback,
    /// A step failed.
    Error,
}

/// Collects the events of one side. Off, it costs a branch an event and no clock.
#[derive(Debug)]
pub struct Recorder {
    events: Option<Vec<Event>>,
    side: Side,
    /// Added to this process's clock to give the host's: a time namespace shifts CLOCK_MONOTONIC.
    offset_us: i64,
}

impl Recorder {
    /// A recorder for one side, on or off.
    pub fn new(side: Side, on: bool) -> Recorder {
        Recorder { events: on.then(Vec::new), side, offset_us: 0 }
    }

    /// Whether it records.
    pub fn is_on(&self) -> bool {
        self.events.is_some()
    }

    /// Starts to record, on a clock that runs `ahead_us` ahead of the host's.
    pub fn turn_on(&mut self, ahead_us: i64) {
        self.offset_us = -ahead_us;
        self.events.get_or_insert_default();
    }

    /// The time for a later [`Recorder::step`]; 0 when off.
    pub fn now(&self) -> u64 {
        if !self.is_on() {
            return 0;
        }
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let us = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        u64::try_from(us.saturating_add(self.offset_us)).unwrap_or(0)
    }

    /// Records a message; `detail` is made only when on.
    pub fn message(&mut self, sort: Sort, name: &str, detail: impl FnOnce() -> String, fds: Vec<i32>) {
        let at_us = self.now();
        self.push(sort, name, at_us, 0, detail, fds);
    }

    /// Records a step that began at `since` ([`Recorder::now`]).
    pub fn step(&mut self, name: &str, since: u64, detail: impl FnOnce() -> String) {
        let took_us = self.now().saturating_sub(since);
        self.push(Sort::Step, name, since, took_us, detail, vec![]);
    }

    /// Records that something was done in another way than usual, and why.
    pub fn fallback(&mut self, name: &str, why: impl FnOnce() -> String) {
        let at_us = self.now();
        self.push(Sort::Fallback, name, at_us, 0, why, vec![]);
    }

    /// Records a failure.
    pub fn error(&mut self, error: &crate::error::Error) {
        let at_us = self.now();
        self.push(Sort::Error, "failed", at_us, 0, || error.to_string(), vec![]);
    }

    fn push(
        &mut self,
        sort: Sort,
        name: &str,
        at_us: u64,
        took_us: u64,
        detail: impl FnOnce() -> String,
        fds: Vec<i32>,
    ) {
        let side = self.side;
        if let Some(events) = &mut self.events {
            let pid = rustix::process::getpid().as_raw_nonzero().get();
            // A frame holds several; paths and messages of any length come here.
            let mut detail = detail();
            crate::error::shorten(&mut detail, DETAIL_CAP);
            events.push(Event { at_us, took_us, side, pid, event: sort, name: name.into(), detail, fds });
        }
    }

    /// Takes over what the other side recorded.
    pub fn absorb(&mut self, others: Vec<Event>) {
        if let Some(events) = &mut self.events {
            events.extend(others);
        }
    }

    /// Takes all events out.
    pub fn take(&mut self) -> Vec<Event> {
        self.events.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
