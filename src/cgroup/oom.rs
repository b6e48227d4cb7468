//! Hearing of it when a container runs out of memory.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::fs::OFlags;
use rustix::io::{Errno, retry_on_intr};

use super::dir::Dir;
use super::{Cgroup, CgroupRecord};
use crate::error::{Context, Error, Result};

/// Counts the times that a container ran out of memory.
#[derive(Debug)]
pub struct OomWatch(Way);

#[derive(Debug)]
enum Way {
    /// An eventfd that `memory.oom_control` counts up, which stays open for it; memory.rst, "OOM Control".
    V1 { counter: OwnedFd, control: OwnedFd },
    /// `memory.events` signals a change; `oom_kill` of it, as it was last.
    V2 { events: OwnedFd, kills: u64 },
}

impl Cgroup {
    /// Begins to watch; None for a container without a memory controller.
    ///
    /// # Errors
    /// A file that is there and can't be opened.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        if let Some(dir) = self.v1("memory") {
            return watch_v1(dir).map(|way| Some(OomWatch(way)));
        }
        let Some(dir) = self.v2() else { return Ok(None) };
        match dir.open_file("memory.events", OFlags::RDONLY) {
            Ok(events) => {
                let kills = kills(&events).context(|| format!("read `{}`", dir.file("memory.events")))?;
                Ok(Some(OomWatch(Way::V2 { events, kills })))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::call(format!("open `{}`", dir.file("memory.events")), errno)),
        }
    }
}

/// By the record alone: one file is all that is read where everything goes well.
impl CgroupRecord {
    /// How many processes the kernel has killed for want of memory. None where that can't be told: no memory controller, or
    /// a kernel that does not count.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        let text = self.read_memory("memory.oom_control", "memory.events")?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    }

    /// The memory limit, as its file has it.
    pub(crate) fn memory_limit(&self) -> Option<String> {
        self.read_memory("memory.limit_in_bytes", "memory.max").map(|text| text.trim().to_owned())
    }

    fn read_memory(&self, v1: &str, v2: &str) -> Option<String> {
        let (dir, file) = match self.v1("memory") {
            Some(dir) => (dir, v1),
            None => (self.v2()?, v2),
        };
        std::fs::read_to_string(format!("{}/{file}", dir.full_path())).ok()
    }
}

fn watch_v1(dir: &Dir) -> Result<Way> {
    let control = dir.open_file("memory.oom_control", OFlags::RDONLY);
    let control = control.context(|| format!("open `{}`", dir.file("memory.oom_control")))?;
    let counter = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context(|| "eventfd")?;
    dir.write("cgroup.event_control", &format!("{} {}", counter.as_raw_fd(), control.as_raw_fd()))
        .context(|| "ask for out-of-memory events")?;
    Ok(Way::V1 { counter, control })
}

impl OomWatch {
    /// What to wait for, and how, before it is worth to ask again.
    pub fn waits_for(&self) -> (BorrowedFd<'_>, PollFlags) {
        match &self.0 {
            Way::V1 { counter, .. } => (counter.as_fd(), PollFlags::IN),
            Way::V2 { events, .. } => (events.as_fd(), PollFlags::PRI),
        }
    }

    /// How often it happened since it was last asked. Of a cgroup that is gone, never.
    ///
    /// # Errors
    /// An unreadable file.
    pub fn count(&mut self) -> Result<u64> {
        match &mut self.0 {
            Way::V1 { counter, control } => {
                let mut number = [0u8; 8];
                match retry_on_intr(|| rustix::io::read(&*counter, &mut number)) {
                    Ok(_) => {}
                    Err(Errno::AGAIN) => return Ok(0),
                    Err(errno) => return Err(Error::call("read the out-of-memory counter", errno)),
                }
                // The end of the cgroup counts it up too.
                match retry_on_intr(|| rustix::io::pread(&*control, &mut [0u8; 1], 0)) {
                    Ok(_) => Ok(u64::from_ne_bytes(number)),
                    Err(_) => Ok(0),
                }
            }
            Way::V2 { events, kills: before } => match kills(events) {
                Ok(now) => Ok(now.saturating_sub(std::mem::replace(before, now))),
                Err(Errno::NODEV) => Ok(0),
                Err(errno) => Err(Error::call("read `memory.events`", errno)),
            },
        }
    }
}

fn kills(events: &OwnedFd) -> Result<u64, Errno> {
    let mut text = [0u8; 512];
    let n = retry_on_intr(|| rustix::io::pread(events, &mut text[..], 0))?;
    let text = String::from_utf8_lossy(&text[..n]);
    let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
    Ok(kills.unwrap_or(0))
}
