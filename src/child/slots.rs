//! Takes the mount sources off the socket, one slot after the other.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use super::ChildSession;
use crate::error::{Error, Result};
use crate::protocol::{Kind, ProtocolError, Slot, ToChild};

/// A source as the parent sent it.
pub(super) enum Opened {
    /// A detached tree.
    Tree(OwnedFd),
    /// The parent could not open it; why.
    Empty(Error),
}

/// Slots that have come and are not yet taken.
#[derive(Default)]
pub(super) struct Slots {
    waiting: VecDeque<Opened>,
    /// The number of the first of them.
    first: u32,
    last_came: bool,
}

impl Slots {
    /// Waits for the first batch. Returns whether it is all there is, with a tree in each: then nothing that follows
    /// needs a path of the host.
    pub(super) fn all_are_here(&mut self, session: &mut ChildSession) -> Result<bool> {
        self.receive(session)?;
        Ok(self.last_came && self.waiting.iter().all(|slot| matches!(slot, Opened::Tree(_))))
    }

    /// Takes a slot. Slots come in the order of the plan; those before it are dropped.
    pub(super) fn take(&mut self, session: &mut ChildSession, slot: u32) -> Result<Opened> {
        loop {
            while let Some(opened) = self.waiting.pop_front() {
                self.first += 1;
                if self.first > slot {
                    return Ok(opened);
                }
            }
            if self.last_came || self.first > slot {
                return Err(ProtocolError::Inconsistent(format!("slot {slot} is not among those sent")).into());
            }
            self.receive(session)?;
        }
    }

    fn receive(&mut self, session: &mut ChildSession) -> Result<()> {
        let (message, fds) = session.expect(Kind::Mounts)?;
        let ToChild::Mounts { slots, last } = message else {
            return Err(ProtocolError::Inconsistent("Mounts holds no slots".into()).into());
        };
        let mut fds = fds.into_iter();
        for slot in slots {
            self.waiting.push_back(match slot {
                Slot::Empty { reason } => Opened::Empty(reason),
                Slot::Tree => match fds.next() {
                    Some(fd) => Opened::Tree(fd),
                    None => return Err(ProtocolError::Inconsistent("a slot without its fd".into()).into()),
                },
            });
        }
        self.last_came = last;
        Ok(())
    }
}
