//! Events of what is done too far down to be handed a recorder: writes to cgroup files, hooks, the steps of `delete`. They
//! are kept by the thread until its [`Recorder`](super::event::Recorder) takes them over, which knows side and process.

use std::cell::{Cell, RefCell};

use super::book::Book;
use super::event::{About, Sort, Witness};
use super::lines::Lines;
use super::log::Log;
use crate::error::Error;

thread_local! {
    /// Who notes, if anybody does.
    static WITNESS: Cell<Option<Witness>> = const { Cell::new(None) };
    static NOTED: RefCell<Book> = const { RefCell::new(Book::Encoded(Log::new())) };
}

/// From here on this thread's events are kept, encoded or in lines.
pub(super) fn turn_on(witness: Witness, in_lines: bool) {
    WITNESS.set(Some(witness));
    NOTED.set(if in_lines { Book::Lines(Lines::default()) } else { Book::Encoded(Log::new()) });
}

/// A command is over: nobody would take them.
pub(crate) fn turn_off() {
    WITNESS.set(None);
    NOTED.set(Book::Encoded(Log::new()));
}

/// Moves what there is.
pub(super) fn move_to(book: &mut Book) {
    NOTED.with_borrow_mut(|noted| book.append(noted));
}

/// The time for a later [`step`]; 0 when off.
pub(crate) fn now() -> u64 {
    WITNESS.get().map_or(0, Witness::now)
}

/// A step that began at `since`.
pub(crate) fn step<'a, A: Into<About<'a>>>(name: &'static str, since: u64, about: impl FnOnce() -> A) {
    note(Sort::Step, name, since, about);
}

/// A step that began at `since`, as it ended.
pub(crate) fn ended<'a, T>(
    name: &'static str,
    since: u64,
    result: &Result<T, Error>,
    about: impl FnOnce() -> About<'a>,
) {
    match result {
        Ok(_) => note(Sort::Step, name, since, about),
        Err(error) => note(Sort::Error, name, since, || about().failed(error)),
    }
}

/// A call that the kernel took or refused; what a refusal means is for the caller to say.
pub(crate) fn call<'a, E: std::fmt::Display>(
    name: &'static str,
    since: u64,
    result: Result<(), &E>,
    about: impl FnOnce() -> About<'a>,
) {
    match result {
        Ok(()) => note(Sort::Step, name, since, about),
        Err(why) => note(Sort::Refused, name, since, || about().why(why.to_string())),
    }
}

fn note<'a, A: Into<About<'a>>>(sort: Sort, name: &'static str, since: u64, about: impl FnOnce() -> A) {
    if let Some(witness) = WITNESS.get() {
        let time = (since, witness.now().saturating_sub(since));
        let about = about().into();
        NOTED.with_borrow_mut(|noted| witness.note(noted, sort, name, time, about, vec![]));
    }
}
