//! Undoes what a failed `create` has made, and removes what a deleted container had.

use crate::cgroup::resctrl::RdtRecord;
use crate::cgroup::{Cgroup, CgroupRecord};
use crate::error::{Context, Error, Result};
use crate::protocol::event::About;
use crate::protocol::journal;
use crate::state::ContainerDir;

/// What has been made so far, to be undone if the command fails.
pub(super) struct Made<'a> {
    dir: &'a ContainerDir,
    cgroup: Option<CgroupRecord>,
    rdt: Option<RdtRecord>,
}

impl<'a> Made<'a> {
    /// A state directory, for a start.
    pub(super) fn new(dir: &'a ContainerDir) -> Made<'a> {
        Made { dir, cgroup: None, rdt: None }
    }

    /// What to remove of control groups.
    pub(super) fn made_cgroup(&mut self, cgroup: CgroupRecord) {
        self.cgroup = Some(cgroup);
    }

    /// What to remove of a resctrl group.
    pub(super) fn made_rdt(&mut self, rdt: RdtRecord) {
        self.rdt = Some(rdt);
    }

    /// Undoes all after `error`. What can't be undone is told with it.
    pub(super) fn undo(self, error: Error) -> Error {
        let cgroup = self.cgroup.as_ref().map_or(Ok(()), remove_cgroup);
        let rdt = self.rdt.as_ref().map_or(Ok(()), RdtRecord::remove);
        error.and_undone(cgroup.and(rdt).and_then(|()| remove_state(self.dir)))
    }
}

/// Removes a container's state directory.
pub(super) fn remove_state(dir: &ContainerDir) -> Result<()> {
    let since = journal::now();
    let removed = dir.remove();
    journal::ended("state remove", since, &removed, About::default);
    removed
}

/// Ends what still runs in a cgroup and removes it.
pub(super) fn remove_cgroup(record: &CgroupRecord) -> Result<()> {
    let cgroup = Cgroup::open(record)?;
    let since = journal::now();
    let killed = cgroup.kill_all(libc::SIGKILL).context(|| "end the container's processes");
    journal::ended("kill all", since, &killed, || About::default().by("SIGKILL"));
    killed?;
    Cgroup::remove(record)
}
