//! Events of what is done too far down to be handed a recorder: writes to cgroup files, hooks, the steps of `delete`. They
//! are kept by the thread until its [`Recorder`](super::event::Recorder) takes them over, which knows side and process.

use std::cell::{Cell, RefCell};

use super::event::{About, Event, Sort, clock};
use crate::error::Error;

thread_local! {
    /// What to add to the clock, if it is on.
    static CLOCK: Cell<Option<i64>> = const { Cell::new(None) };
    static EVENTS: RefCell<Vec<Event>> = const { RefCell::new(Vec::new()) };
}

/// From here on this thread's events are kept.
pub(super) fn turn_on(offset_us: i64) {
    CLOCK.set(Some(offset_us));
}

/// A command is over: nobody would take them.
pub(crate) fn turn_off() {
    CLOCK.set(None);
    EVENTS.take();
}

/// Whether they are.
pub(crate) fn is_on() -> bool {
    CLOCK.get().is_some()
}

/// What there is, taken out.
pub(super) fn take() -> Vec<Event> {
    EVENTS.take()
}

/// The time for a later [`step`]; 0 when off.
pub(crate) fn now() -> u64 {
    CLOCK.get().map_or(0, clock)
}

/// A step that began at `since`.
pub(crate) fn step<A: Into<About>>(name: &'static str, since: u64, about: impl FnOnce() -> A) {
    note(Sort::Step, name, since, about);
}

/// A step that began at `since`, as it ended.
pub(crate) fn ended<T>(name: &'static str, since: u64, result: &Result<T, Error>, about: impl FnOnce() -> About) {
    match result {
        Ok(_) => note(Sort::Step, name, since, about),
        Err(error) => note(Sort::Error, name, since, || about().failed(error)),
    }
}

/// A call that the kernel took or refused; what a refusal means is for the caller to say.
pub(crate) fn call<E: std::fmt::Display>(
    name: &'static str,
    since: u64,
    result: Result<(), &E>,
    about: impl FnOnce() -> About,
) {
    match result {
        Ok(()) => note(Sort::Step, name, since, about),
        Err(why) => note(Sort::Refused, name, since, || about().why(why.to_string())),
    }
}

fn note<A: Into<About>>(sort: Sort, name: &'static str, since: u64, about: impl FnOnce() -> A) {
    if is_on() {
        let event = Event::new(sort, name, since, now().saturating_sub(since), about().into(), vec![]);
        EVENTS.with_borrow_mut(|events| events.push(event));
    }
}
