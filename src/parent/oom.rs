//! Tells a death for want of memory from others: of a process that did not get as far as its payload, where what the other side
//! of the socket sees is only that it is gone, and of a payload.

use std::os::fd::BorrowedFd;

use crate::cgroup::{CgroupRecord, OomKills};
use crate::error::{Error, Kind};
use crate::procfs::Proc;

/// A cgroup before a process is started in it.
pub(super) struct Before<'a> {
    cgroup: Option<&'a CgroupRecord>,
    kills: u64,
}

impl<'a> Before<'a> {
    pub(super) fn of(cgroup: Option<&'a CgroupRecord>) -> Before<'a> {
        Before { cgroup, kills: cgroup.and_then(CgroupRecord::oom_kills).unwrap_or(0) }
    }

    /// One in which no process has been, unless it was there before.
    pub(super) fn made(cgroup: Option<&'a CgroupRecord>) -> Before<'a> {
        match cgroup.is_some_and(|cgroup| cgroup.dirs.iter().all(|dir| dir.made > 0)) {
            true => Before { cgroup, kills: 0 },
            false => Before::of(cgroup),
        }
    }

    /// The error of a process that did not get as far as its payload, and did not say why (`said`): another one if the kernel has
    /// killed it for want of memory.
    pub(super) fn explain(&self, error: Error, said: bool, pid: i32, proc: &Proc) -> Error {
        const MESSAGE: &str = "the kernel killed the process during its set-up: it is out of memory";
        let Some(cgroup) = self.cgroup.filter(|_| !said && crate::state::is_gone(pid, proc)) else { return error };
        if cgroup.oom_kills().is_none_or(|kills| kills <= self.kills) {
            return error;
        }
        let error = match cgroup.memory_limit() {
            Some(bytes) => Error::system(format!("{MESSAGE}, of which its cgroup may use {bytes} bytes"))
                .advise("raise linux.resources.memory.limit; a few MiB are the least"),
            None => Error::system(format!("{MESSAGE}, by a limit above its cgroup or the machine's own")),
        };
        error.of_kind(Kind::OutOfMemory)
    }
}

/// Counts those that the kernel kills for want of memory in a cgroup, while a payload runs in it.
#[derive(Debug)]
pub struct MemoryWatch {
    cgroup: CgroupRecord,
    kills: OomKills,
    /// As many as there were before, and are now.
    before: u64,
    now: u64,
    /// The cgroup is there, as far as is known.
    there: bool,
}

impl MemoryWatch {
    /// Begins to watch the cgroup of a container's `first` process, or of one more; None for a container without a memory
    /// controller.
    pub fn of(cgroup: Option<&CgroupRecord>, first: bool) -> Option<MemoryWatch> {
        let cgroup = cgroup?.clone();
        let kills = cgroup.watch_kills()?;
        // The first may have been killed by now: in a cgroup that was made for it there were none before.
        let made = first && cgroup.dirs.iter().all(|dir| dir.made > 0);
        let now = kills.read()?;
        Some(MemoryWatch { cgroup, kills, before: if made { 0 } else { now }, now, there: true })
    }

    /// What tells of a change by POLLPRI: a cgroup that systemd has made is gone a moment after its last process.
    pub(super) fn changes(&self) -> Option<BorrowedFd<'_>> {
        self.kills.changes().filter(|_| self.there)
    }

    /// Reads the count anew.
    pub(super) fn look(&mut self) {
        match self.kills.read() {
            Some(now) => self.now = now,
            None => self.there = false,
        }
    }

    /// What the kernel has killed for want of memory: `what`, if it has.
    pub fn killed(&mut self, what: &str) -> Option<Error> {
        self.look();
        let killed = self.now.checked_sub(self.before).filter(|killed| *killed > 0)?;
        let counter = format!("{} oom_kill {killed}", self.kills.name());
        let (path, limits) = self.cgroup.memory()?;
        let error = match limits {
            Some(limit) => {
                let message = format!("{what} was killed for memory: limit {limit} of `{path}` reached ({counter})");
                Error::new(Kind::OutOfMemory, message).advise("raise linux.resources.memory.limit, or let it use less")
            }
            None => {
                let message = format!(
                    "{what} was killed for memory: a limit above `{path}`, or all of the machine's, reached ({counter})"
                );
                Error::new(Kind::OutOfMemory, message).advise("the kernel's log has who used how much")
            }
        };
        Some(error)
    }
}
