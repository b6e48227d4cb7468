//! Tells a death for want of memory from others: what the other side of the socket sees is only that it is gone.

use crate::cgroup::CgroupRecord;
use crate::error::Error;
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
        match cgroup.memory_limit().and_then(|limit| limit.parse::<u64>().ok()) {
            Some(bytes) if bytes < NO_LIMIT => {
                Error::system(format!("{MESSAGE}, of which its cgroup may use {bytes} bytes"))
                    .advise("raise linux.resources.memory.limit; a few MiB are the least")
            }
            _ => Error::system(format!("{MESSAGE}, by a limit above its cgroup or the machine's own")),
        }
    }
}

/// cgroup v1 has no word for it, but a number that depends on the page size.
const NO_LIMIT: u64 = 1 << 62;
