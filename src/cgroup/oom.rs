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
                let kills = kills(&events).context(|| format!("read `{}`", dir.file("memory.events")))?.unwrap_or(0);
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
        value(&text, "oom_kill")
    }

    /// The memory limit in bytes, if there is one.
    pub(crate) fn memory_limit(&self) -> Option<u64> {
        // cgroup v1 has no word for none, but a number that depends on the page size.
        const NO_LIMIT: u64 = 1 << 62;
        let text = self.read_memory("memory.limit_in_bytes", "memory.max")?;
        text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
    }

    /// The memory controller's directory, and the limit if it has been reached: there or, on v2, below it.
    pub(crate) fn memory(&self) -> Option<(String, Option<u64>)> {
        let (path, _) = self.memory_dir()?;
        let limit = self.memory_limit();
        let reached = match self.v1("memory") {
            Some(_) => self.was_reached_v1(limit),
            None => self.read_memory("", "memory.events").and_then(|text| value(&text, "oom")).map(|times| times > 0),
        };
        // Of a cgroup that is gone nobody can say it any more.
        Some((path, limit.filter(|_| reached != Some(false))))
    }

    /// Whether as much was used as the limit allows. The counter of failures alone does not tell: where memory and swap
    /// together are limited to the same number, that is asked first, and a kernel may count for neither.
    fn was_reached_v1(&self, limit: Option<u64>) -> Option<bool> {
        let number = |file| self.read_memory(file, "").and_then(|text| text.trim().parse::<u64>().ok());
        let failures = number("memory.failcnt")?;
        let most = number("memory.max_usage_in_bytes");
        Some(failures > 0 || most.zip(limit).is_some_and(|(most, limit)| most >= limit))
    }

    /// Opens the count of those that the kernel kills; None as of [`CgroupRecord::oom_kills`].
    pub(crate) fn watch_kills(&self) -> Option<OomKills> {
        let (path, unified) = self.memory_dir()?;
        let name = if unified { "memory.events" } else { "memory.oom_control" };
        let file = Dir::open(path).and_then(|dir| dir.open_file(name, OFlags::RDONLY)).ok()?;
        Some(OomKills { file, name, unified })
    }

    fn read_memory(&self, v1: &str, v2: &str) -> Option<String> {
        let (path, unified) = self.memory_dir()?;
        std::fs::read_to_string(format!("{path}/{}", if unified { v2 } else { v1 })).ok()
    }

    /// Where the memory controller's files are, if it has any, and whether it is of v2.
    fn memory_dir(&self) -> Option<(String, bool)> {
        let dir = self.v1("memory").or_else(|| self.v2())?;
        Some((dir.full_path(), dir.unified))
    }
}

/// The count of processes that the kernel has killed in a cgroup for want of memory.
#[derive(Debug)]
pub(crate) struct OomKills {
    file: OwnedFd,
    name: &'static str,
    unified: bool,
}

impl OomKills {
    /// The file's name.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// What signals a change, until it is read, as an exceptional condition; v1's does not.
    pub(crate) fn changes(&self) -> Option<BorrowedFd<'_>> {
        self.unified.then(|| self.file.as_fd())
    }

    /// The count now; None once the cgroup is gone, and where the kernel does not count.
    pub(crate) fn read(&self) -> Option<u64> {
        kills(&self.file).ok()?
    }
}

fn value(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == key).and_then(|(_, value)| value.trim().parse().ok())
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
                Ok(now) => {
                    let now = now.unwrap_or(0);
                    Ok(now.saturating_sub(std::mem::replace(before, now)))
                }
                Err(Errno::NODEV) => Ok(0),
                Err(errno) => Err(Error::call("read `memory.events`", errno)),
            },
        }
    }
}

/// The count of a file of either version; None where the kernel does not count.
fn kills(events: &OwnedFd) -> Result<Option<u64>, Errno> {
    let mut text = [0u8; 512];
    let n = retry_on_intr(|| rustix::io::pread(events, &mut text[..], 0))?;
    Ok(value(&String::from_utf8_lossy(&text[..n]), "oom_kill"))
}
