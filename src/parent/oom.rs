//! Tells a death for want of memory from others: what the other side of the socket sees is only that it is gone.

use crate::cgroup::Cgroup;
use crate::error::Error;
use crate::procfs::Proc;

/// A cgroup before a process is started in it.
pub(super) struct Before<'a> {
    cgroup: Option<&'a Cgroup>,
    kills: u64,
}

impl<'a> Before<'a> {
    pub(super) fn of(cgroup: Option<&'a Cgroup>) -> Before<'a> {
        let kills = cgroup.and_then(Cgroup::oom_kills).map_or(0, |(kills, _)| kills);
        Before { cgroup, kills }
    }

    /// One that was made for the process.
    pub(super) fn new(cgroup: Option<&'a Cgroup>) -> Before<'a> {
        Before { cgroup, kills: 0 }
    }

    /// The error of a process that did not get as far as its payload; another one if the memory limit has killed it.
    pub(super) fn explain(&self, error: Error, pid: i32, proc: &Proc) -> Error {
        match self.cgroup.and_then(Cgroup::oom_kills) {
            Some((kills, limit)) if kills > self.kills && crate::state::is_gone(pid, proc) => {
                let message = "the kernel killed the process during its set-up: it is out of memory";
                Error::system(format!("{message}, of which its cgroup may use {limit} bytes"))
                    .advise("raise linux.resources.memory.limit; a few MiB are the least")
            }
            _ => error,
        }
    }
}
