//! Takes the mount sources off the socket, one slot after the other.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use crate::kernel::rustix;
use crate::kernel::rustix::mount::OpenTreeFlags;

use super::ChildSession;
use crate::error::{Context, Error, Result};
use crate::protocol::{Kind, ProtocolError, Slot, ToChild};

/// A source as the parent sent it.
pub(super) enum Opened {
    /// A detached tree.
    Tree(OwnedFd),
    /// The parent could not open it; why.
    Empty(Error),
}

enum Waiting {
    Opened(Opened),
    Staged,
}

/// Slots that have come and are not yet taken.
#[derive(Default)]
pub(super) struct Slots {
    waiting: VecDeque<Waiting>,
    /// The number of the first of them.
    first: u32,
    last_came: bool,
    /// A file system of this mount namespace that holds the staged ones by number.
    stage: Option<OwnedFd>,
}

impl Slots {
    /// Waits for the stage, which comes before the slots.
    pub(super) fn receive_stage(&mut self, session: &mut ChildSession) -> Result<OwnedFd> {
        let (_, mut fds) = session.expect(Kind::Stage)?;
        fds.pop().ok_or_else(|| ProtocolError::Inconsistent("Stage without its fd".into()).into())
    }

    /// The stage is attached here.
    pub(super) fn set_stage(&mut self, stage: OwnedFd) {
        self.stage = Some(stage);
    }

    /// The stage, when nothing more will be taken from it.
    pub(super) fn take_stage(&mut self) -> Option<OwnedFd> {
        self.stage.take()
    }

    /// Waits for the first batch. None if it is all there is, with a tree in each: then nothing that follows needs a path of
    /// the host. Else what is lacking.
    pub(super) fn why_not_all(&mut self, session: &mut ChildSession) -> Result<Option<&'static str>> {
        self.receive(session)?;
        let trees = self.waiting.iter().all(|slot| matches!(slot, Waiting::Opened(Opened::Tree(_))));
        Ok(match (trees, self.last_came) {
            (true, true) => None,
            (false, _) => Some("a source needs a path of the host"),
            (true, false) => {
                Some("there are more sources than one message holds, of which some may need a path of the host")
            }
        })
    }

    /// Takes a slot. Slots come in the order of the plan; those before it are dropped.
    pub(super) fn take(&mut self, session: &mut ChildSession, slot: u32) -> Result<Opened> {
        loop {
            while let Some(waiting) = self.waiting.pop_front() {
                self.first += 1;
                if self.first > slot {
                    return match waiting {
                        Waiting::Opened(opened) => Ok(opened),
                        Waiting::Staged => self.staged(slot).map(Opened::Tree),
                    };
                }
            }
            if self.last_came || self.first > slot {
                return Err(ProtocolError::Inconsistent(format!("slot {slot} is not among those sent")).into());
            }
            self.receive(session)?;
        }
    }

    /// All that is left below a number on the stage: the parent put no more there than was asked for.
    fn staged(&self, slot: u32) -> Result<OwnedFd> {
        let stage = self.stage.as_ref();
        let stage = stage.ok_or_else(|| ProtocolError::Inconsistent(format!("slot {slot} is on no stage")))?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
        rustix::mount::open_tree(stage, &*slot.to_string(), flags)
            .context(|| format!("open_tree slot {slot} of the stage"))
    }

    fn receive(&mut self, session: &mut ChildSession) -> Result<()> {
        let (message, fds) = session.expect(Kind::Mounts)?;
        let ToChild::Mounts { slots, last } = message else {
            return Err(ProtocolError::Inconsistent("Mounts holds no slots".into()).into());
        };
        let mut fds = fds.into_iter();
        for slot in slots {
            self.waiting.push_back(match slot {
                Slot::Empty { reason } => Waiting::Opened(Opened::Empty(reason)),
                Slot::Staged => Waiting::Staged,
                Slot::Tree => match fds.next() {
                    Some(fd) => Waiting::Opened(Opened::Tree(fd)),
                    None => return Err(ProtocolError::Inconsistent("a slot without its fd".into()).into()),
                },
            });
        }
        self.last_came = last;
        Ok(())
    }
}
