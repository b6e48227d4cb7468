//! Where a recorder keeps its events: encoded, or as lines of a trace file at once, where they go to one anyway.

use super::ProtocolError;
use super::event::{Event, Side};
use super::lines::Lines;
use super::log::{self, Log};
use crate::error::Result;

/// The events of a recorder.
#[derive(Debug)]
pub(super) enum Book {
    Encoded(Log),
    Lines(Lines),
}

/// What another side's events are, in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) count: usize,
    /// What they take here, in bytes.
    pub(super) size: usize,
    /// When the first of them began, and whose it is.
    pub(super) first: Option<(u64, i32)>,
}

impl Book {
    pub(super) fn push(&mut self, event: &Event<&str>) {
        match self {
            Book::Encoded(log) => log.push(event),
            // Numbers and text: there is nothing in it that JSON has no form for.
            Book::Lines(lines) => drop(lines.push(event)),
        }
    }

    /// Moves all of another's here.
    pub(super) fn append(&mut self, other: &mut Book) {
        match (self, other) {
            (Book::Encoded(log), Book::Encoded(other)) => log.append(other),
            (Book::Lines(lines), Book::Lines(other)) => lines.append(other),
            (book, Book::Encoded(other)) => {
                other.events().for_each(|event| book.push(&event));
                other.clear();
            }
            // A recorder turns the journal on for its own kind: they are another's.
            (Book::Encoded(_), Book::Lines(_)) => {}
        }
    }

    /// Takes the events of a side over that came encoded: all, or none if they are not what they should be.
    ///
    /// # Errors
    /// Bytes that are no events, or one of another side.
    pub(super) fn absorb(&mut self, events: &[u8], side: Side) -> Result<Seen, ProtocolError> {
        let mut seen = Seen::default();
        match self {
            Book::Encoded(log) => {
                log::decoded(events).try_for_each(|event| seen.look(&event?, side))?;
                log.extend(events, seen.count as u64);
                seen.size = events.len();
            }
            Book::Lines(lines) => {
                let (before, size) = (lines.count(), lines.size());
                let mut take = |event: Result<Event<&str>, ProtocolError>| {
                    let event = event?;
                    seen.look(&event, side)?;
                    lines.push(&event).map_err(|e| ProtocolError::Malformed(e.to_string()))
                };
                let taken = log::decoded(events).try_for_each(&mut take);
                taken.inspect_err(|_| lines.truncate(before))?;
                seen.size = lines.size() - size;
            }
        }
        Ok(seen)
    }

    /// All as lines, taken out.
    ///
    /// # Errors
    /// One can't be JSON.
    pub(super) fn take_lines(&mut self) -> Result<Lines> {
        match self {
            Book::Lines(lines) => Ok(std::mem::take(lines)),
            Book::Encoded(log) => {
                let mut lines = Lines::default();
                log.events().try_for_each(|event| lines.push(&event))?;
                log.clear();
                Ok(lines)
            }
        }
    }

    /// The events, as long as they are no lines.
    pub(super) fn log(&self) -> Option<&Log> {
        match self {
            Book::Encoded(log) => Some(log),
            Book::Lines(_) => None,
        }
    }
}

impl Seen {
    fn look(&mut self, event: &Event<&str>, wanted: Side) -> Result<(), ProtocolError> {
        let Event { at_us, side, pid, .. } = *event;
        if side != wanted {
            return Err(ProtocolError::Inconsistent("its trace tells of this side".into()));
        }
        self.first = self.first.filter(|(earliest, _)| *earliest <= at_us).or(Some((at_us, pid)));
        self.count += 1;
        Ok(())
    }
}
