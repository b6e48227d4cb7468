//! A container that another command kills or deletes while this one is at work on it: whatever fails then fails for that, in
//! whichever of many ways.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::error::{Error, Kind};
use crate::plan::id::ContainerId;
use crate::state::{ContainerDir, Fate, Record};

/// A container that a command has found as it wants it.
pub(super) struct Meanwhile<'a> {
    pub(super) id: &'a ContainerId,
    pub(super) dir: &'a ContainerDir,
    pub(super) record: &'a Record,
    /// It is the container's first process that the command is to let go: if that ends by itself, it has failed.
    pub(super) starts: bool,
}

impl Meanwhile<'_> {
    /// The error of a command, or that its container was deleted, or killed, meanwhile.
    pub(super) fn explain(&self, error: Error) -> Error {
        // The others say what is wrong with the request, or what is known of the container already.
        if !matches!(error.kind(), Kind::System | Kind::Protocol | Kind::Stalled | Kind::PeerGone) {
            return error;
        }
        // Processes of one cgroup that are killed together do not end together: who sees that one is gone waits a moment
        // for the container's first.
        const PATIENCE: Duration = Duration::from_millis(50);
        let cut_off = error.kind() == Kind::PeerGone
            || matches!(error.errno(), Some(Errno::PIPE | Errno::CONNRESET | Errno::SRCH));
        let deadline = Instant::now() + if cut_off { PATIENCE } else { Duration::ZERO };
        loop {
            if let Some(other) = self.end() {
                return other;
            }
            if Instant::now() >= deadline {
                return error;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What has become of the container, if it is no more what it was.
    fn end(&self) -> Option<Error> {
        let Meanwhile { id, dir, record, starts } = self;
        if dir.is_removed() {
            return Some(crate::state::gone(id));
        }
        let process = record.process.as_ref()?;
        // The words at the beginning are those that engines match on.
        let stopped = |how: &str| Some(Error::new(Kind::State, format!("container not running: it {how}")));
        match Fate::of(process, dir.proc()) {
            Fate::Lives => None,
            Fate::Exited if *starts => None,
            Fate::Exited => stopped("has ended meanwhile"),
            Fate::Killed(signal) => stopped(&format!("was killed meanwhile, by signal {signal}")),
            Fate::Gone => stopped("has ended meanwhile, or was killed or deleted"),
        }
    }
}
