//! Freezing and thawing all processes of a cgroup.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::{Errno, retry_on_intr};

use super::dir::Dir;
use crate::error::{Context, Error, Result};

/// How long freezing may take: a process in an uninterruptible call freezes only when that returns.
const PATIENCE: Duration = Duration::from_secs(5);

/// The cgroup directory that can freeze the container.
pub(super) enum Freezer<'a> {
    /// `freezer.state`; Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst.
    V1(&'a Dir),
    /// `cgroup.freeze` (Linux 5.2); Documentation/admin-guide/cgroup-v2.rst.
    V2(&'a Dir),
}

impl Freezer<'_> {
    /// Freezes, and returns when every process stands still. One that can't be frozen is thawed again.
    pub(super) fn freeze(&self) -> Result<()> {
        let frozen = match self {
            Freezer::V1(dir) => freeze_v1(dir),
            Freezer::V2(dir) => set_v2(dir, true),
        };
        frozen.map_err(|error| match self.thaw() {
            Ok(()) => error,
            Err(thaw) => error.context(format!("thawing failed too ({thaw})")),
        })
    }

    /// Lets the processes go on.
    pub(super) fn thaw(&self) -> Result<()> {
        match self {
            Freezer::V1(dir) => dir.write("freezer.state", "THAWED"),
            Freezer::V2(dir) => set_v2(dir, false),
        }
    }

    /// Whether the processes are frozen. Those of a cgroup that is gone are not.
    pub(super) fn is_frozen(&self) -> Result<bool> {
        let (dir, file) = match self {
            Freezer::V1(dir) => (dir, "freezer.state"),
            Freezer::V2(dir) => (dir, "cgroup.events"),
        };
        match (dir.try_read(file), self) {
            // FREEZING is frozen as far as its owner is concerned: they asked for it.
            (Ok(text), Freezer::V1(_)) => Ok(text.trim() != "THAWED"),
            (Ok(text), Freezer::V2(_)) => Ok(frozen_event(&text)),
            (Err(Errno::NOENT | Errno::NODEV), _) => Ok(false),
            (Err(errno), _) => Err(Error::call(format!("read `{}`", dir.file(file)), errno)),
        }
    }
}

/// In v1 a process that forks or is moved while its cgroup freezes can be missed, and the state stays FREEZING. To
/// write FROZEN again catches it; where it doesn't, to thaw and start over does.
fn freeze_v1(dir: &Dir) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(20);
    for attempt in 1.. {
        dir.write("freezer.state", "FROZEN")?;
        let state = dir.read("freezer.state")?;
        if state.trim() == "FROZEN" {
            return Ok(());
        }
        if Instant::now() > deadline {
            let state = state.trim();
            return Err(Error::system(format!("`{}` stays at {state}", dir.file("freezer.state"))));
        }
        if attempt % 32 == 0 {
            dir.write("freezer.state", "THAWED")?;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    Ok(())
}

/// Asks, and waits until `cgroup.events` says that it is so.
fn set_v2(dir: &Dir, frozen: bool) -> Result<()> {
    match dir.try_write("cgroup.freeze", if frozen { "1" } else { "0" }) {
        Ok(()) => {}
        Err(Errno::NOENT) => {
            return Err(Error::system(format!("`{}` has no `cgroup.freeze`: it needs Linux 5.2", dir.path())));
        }
        Err(errno) => {
            return Err(Error::call(dir.written("cgroup.freeze", if frozen { "1" } else { "0" }), errno));
        }
    }
    let deadline = Instant::now() + PATIENCE;
    let name = dir.file("cgroup.events");
    let events = dir.open_file("cgroup.events", OFlags::RDONLY).context(|| format!("open `{name}`"))?;
    let mut text = [0u8; 256];
    loop {
        let n = retry_on_intr(|| rustix::io::pread(&events, &mut text[..], 0)).context(|| format!("read `{name}`"))?;
        let now = String::from_utf8_lossy(&text[..n]);
        // A cgroup whose frozen processes were killed may go on calling itself frozen; there is nobody in it to thaw.
        if frozen_event(&now) == frozen || (!frozen && is_empty_event(&now)) {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let wanted = if frozen { "frozen" } else { "thawed" };
            return Err(Error::system(format!("`{}`: not {wanted} within {PATIENCE:?}", dir.path())));
        }
        // The file signals changes since it was last read as an exceptional condition. A parent that is frozen keeps
        // the children frozen without a change, so the wait has an end.
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let mut fds = [PollFd::from_borrowed_fd(events.as_fd(), PollFlags::PRI)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::call(format!("poll `{name}`"), errno)),
        }
    }
}

fn frozen_event(events: &str) -> bool {
    events.lines().any(|line| line == "frozen 1")
}

fn is_empty_event(events: &str) -> bool {
    events.lines().any(|line| line == "populated 0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_events() {
        assert!(frozen_event("populated 1\nfrozen 1\n"));
        assert!(!frozen_event("populated 1\nfrozen 0\n") && !frozen_event(""));
        assert!(is_empty_event("populated 0\nfrozen 1\n") && !is_empty_event("populated 1\nfrozen 1\n"));
    }
}
