//! What is made for a container, written down before it is made, and its removal.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::dir::Dir;
use super::layout::{Layout, version};
use super::systemd::UnitRecord;
use crate::error::{Context, Error, Result};
use crate::protocol::event::About;
use crate::protocol::journal;

/// How long a removal waits for the kernel to let go of processes that have just died.
const PATIENCE: Duration = Duration::from_secs(5);
/// Sub-cgroups nested deeper than this are not made by anything; it bounds the recursion.
const DEPTH: usize = 64;

/// The directories of one container, one in each hierarchy. The default value is a container without a cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupRecord {
    /// How the machine was laid out when the record was made.
    pub layout: Layout,
    /// The directories, v2's last.
    pub dirs: Vec<RecordDir>,
    /// The unit whose cgroup it is; None if systemd did not make it.
    #[serde(default)]
    pub unit: Option<UnitRecord>,
}

/// One directory of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordDir {
    /// The hierarchy's mount point.
    pub mount: String,
    /// The directory below it, beginning with a slash.
    pub path: String,
    /// The hierarchy's v1 controllers, or its `name=...`; empty for v2.
    pub controllers: Vec<String>,
    /// Whether the hierarchy is of version 2.
    pub unified: bool,
    /// How many of the path's last components were not there yet: what is ours to remove.
    pub made: usize,
}

impl CgroupRecord {
    /// Whether the container has no cgroup.
    pub fn is_none(&self) -> bool {
        self.dirs.is_empty()
    }

    /// The directory of a v1 controller (`memory`, `name=systemd`).
    pub fn v1(&self, controller: &str) -> Option<&RecordDir> {
        self.dirs.iter().find(|dir| !dir.unified && dir.controllers.iter().any(|c| c == controller))
    }

    /// The v2 directory.
    pub fn v2(&self) -> Option<&RecordDir> {
        self.dirs.iter().find(|dir| dir.unified)
    }

    /// Refuses a record of which a directory doesn't lead below a mount point.
    ///
    /// # Errors
    /// The directory.
    pub(crate) fn check(&self) -> Result<()> {
        self.dirs.iter().try_for_each(RecordDir::check)
    }

    /// Removes the directories with their sub-cgroups, and the parents that were made for them and are empty. What is
    /// not there counts as removed. Every directory is tried, the first failure is reported.
    pub(super) fn remove(&self) -> Result<()> {
        let mut outcome = Ok(());
        // One time for all: they get busy for one reason.
        let deadline = Instant::now() + PATIENCE;
        for dir in &self.dirs {
            let since = journal::now();
            let removed = dir.remove(deadline);
            journal::ended("cgroup remove", since, &removed, || About::object(dir.full_path()).by("rmdir"));
            outcome = outcome.and(removed);
        }
        outcome
    }
}

impl RecordDir {
    /// The absolute path.
    pub fn full_path(&self) -> String {
        format!("{}{}", self.mount, self.path)
    }

    /// The parents of the directory, from the mount point's child down to it, and it: `/a`, `/a/b`, `/a/b/c`.
    pub(super) fn steps(&self) -> Vec<&str> {
        let ends = self.path.char_indices().skip(1).filter(|(_, c)| *c == '/').map(|(i, _)| i);
        ends.chain([self.path.len()]).map(|end| &self.path[..end]).collect()
    }

    /// Refuses a record that doesn't lead below a mount point: the file it was stored in has been tampered with.
    pub(super) fn check(&self) -> Result<()> {
        let steps = self.path.strip_prefix('/').unwrap_or_default().split('/');
        let downwards = steps.into_iter().all(|step| !step.is_empty() && step != "." && step != "..");
        match downwards && self.mount.starts_with('/') {
            true => Ok(()),
            false => Err(Error::system(format!("cgroup record `{}` is broken", self.full_path()))),
        }
    }

    /// The hierarchy's mount point; `None` if it is no longer (or not here) a cgroup mount.
    fn open_mount(&self) -> Result<Option<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mount = match rustix::fs::open(self.mount.as_str(), flags, Mode::empty()) {
            Ok(mount) => mount,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(Error::call(format!("open `{}`", self.mount), errno)),
        };
        let stat = rustix::fs::fstatfs(&mount).context(|| format!("fstatfs `{}`", self.mount))?;
        Ok((version(&stat) == Some(self.unified)).then_some(mount))
    }

    fn remove(&self, deadline: Instant) -> Result<()> {
        self.check()?;
        let Some(mount) = self.open_mount()? else { return Ok(()) };
        let path = self.full_path();
        let mut pause = Duration::from_millis(1);
        loop {
            // Usually there are no sub-cgroups: they are looked for only if the directory is busy.
            match rmdir(&mount, &self.path) {
                Ok(()) | Err(Errno::NOENT) => break,
                Err(Errno::BUSY) if Instant::now() < deadline => {}
                Err(errno) => return Err(Error::call(format!("rmdir `{path}`"), errno).context("remove the cgroup")),
            }
            match Dir::open(path.as_str()) {
                Ok(dir) => remove_children(&dir, DEPTH).context(|| "remove the cgroup")?,
                Err(Errno::NOENT) => break,
                Err(errno) => return Err(Error::call(format!("open `{path}`"), errno).context("remove the cgroup")),
            }
            match rmdir(&mount, &self.path) {
                Ok(()) | Err(Errno::NOENT) => break,
                // Processes that were killed and have not been reaped yet.
                Err(_) => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        self.remove_parents(&mount, self.made)
    }

    /// Removes the parents made for this directory, while they are empty: another container may use them by now.
    fn remove_parents(&self, mount: &OwnedFd, made: usize) -> Result<()> {
        for step in self.steps().iter().rev().take(made).skip(1) {
            match rmdir(mount, step) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::BUSY | Errno::NOTEMPTY) => return Ok(()),
                Err(errno) => {
                    let call = format!("rmdir `{}{step}`", self.mount);
                    return Err(Error::call(call, errno).context("remove the cgroup's parent"));
                }
            }
        }
        Ok(())
    }

    /// Makes the directory with the parents it lacks, and says how many of its last components it made.
    pub(super) fn make(&self) -> Result<usize> {
        let since = journal::now();
        let made = self.make_all();
        let note = |result| {
            journal::call("cgroup make", since, result, || About::object(self.full_path()).by("mkdir"));
        };
        note(made.as_ref().map(drop));
        made
    }

    fn make_all(&self) -> Result<usize> {
        self.check()?;
        let Some(mount) = self.open_mount()? else {
            return Err(Error::system(format!("`{}` is no cgroup mount", self.mount)));
        };
        // Another command may be removing the parents, empty as they are now: ENODEV is what a directory says that is
        // going. Each such attempt is one that another's `delete` has won, so there are not many.
        const ATTEMPTS: usize = 100;
        for _ in 0..ATTEMPTS {
            match self.try_make(&mount) {
                Err((_, Errno::NOENT | Errno::NODEV)) => std::thread::yield_now(),
                Err((step, errno)) => return Err(Error::call(format!("mkdir `{}{step}`", self.mount), errno)),
                Ok(made) => return Ok(made),
            }
        }
        Err(Error::call(format!("mkdir `{}`", self.full_path()), Errno::NOENT))
    }

    fn try_make(&self, mount: &OwnedFd) -> Result<usize, (&str, Errno)> {
        let steps = self.steps();
        let last = steps.len() - 1;
        // The lowest that can be made, searched upwards: nearly always the directory itself.
        let (mut next, mut down) = (last, false);
        while let Err(errno) = mkdir(mount, steps[next]) {
            match errno {
                Errno::NOENT if next > 0 && !down => next -= 1,
                // A parent that another has made since it was looked for is no less a parent.
                Errno::EXIST if next < last => (next, down) = (next + 1, true),
                Errno::EXIST => return Ok(0),
                errno => return Err((steps[next], errno)),
            }
        }
        let mut made = 1;
        for (at, step) in steps.iter().enumerate().skip(next + 1) {
            match mkdir(mount, step) {
                Ok(()) => made += 1,
                // Another's, and with it what is above.
                Err(Errno::EXIST) => made = 0,
                Err(errno) => {
                    // Counted from the end, as those that a removal takes with it.
                    let _ = self.remove_parents(mount, steps.len() - at + made);
                    return Err((step, errno));
                }
            }
        }
        Ok(made)
    }

    /// Takes back a [`RecordDir::make`] that made `made` components.
    pub(super) fn unmake(&self, made: usize) -> Result<()> {
        if made == 0 {
            return Ok(());
        }
        let since = journal::now();
        let removed = RecordDir { made, ..self.clone() }.remove(Instant::now() + PATIENCE);
        journal::ended("cgroup remove", since, &removed, || About::object(self.full_path()).by("rmdir"));
        removed
    }
}

/// Removes the sub-cgroups, deepest first. Those that are busy are left for the next attempt.
fn remove_children(dir: &Dir, depth: usize) -> Result<()> {
    let children = match dir.children() {
        Ok(children) => children,
        // Removed by another while it is read.
        Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
        Err(errno) => return Err(Error::call(format!("read directory `{}`", dir.path()), errno)),
    };
    for name in children {
        match rustix::fs::unlinkat(dir, name.as_str(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::BUSY) if depth > 0 => {}
            Err(Errno::BUSY) => continue,
            Err(errno) => return Err(Error::call(format!("rmdir `{}`", dir.file(&name)), errno)),
        }
        match dir.open_child(&name) {
            Ok(child) => remove_children(&child, depth - 1)?,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(Error::call(format!("open `{}`", dir.file(&name)), errno)),
        }
        match rustix::fs::unlinkat(dir, name.as_str(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::BUSY) => {}
            Err(errno) => return Err(Error::call(format!("rmdir `{}`", dir.file(&name)), errno)),
        }
    }
    Ok(())
}

fn mkdir(mount: &OwnedFd, path: &str) -> Result<(), Errno> {
    rustix::fs::mkdirat(mount, path.trim_start_matches('/'), Mode::from_raw_mode(0o755))
}

fn rmdir(mount: &OwnedFd, path: &str) -> Result<(), Errno> {
    let path = path.trim_start_matches('/');
    match rustix::fs::unlinkat(mount, path, AtFlags::REMOVEDIR) {
        // Read-only is said first, of what is not there too: nothing could be made on it, and nothing is to be removed.
        Err(Errno::ROFS) => match rustix::fs::statat(mount, path, AtFlags::SYMLINK_NOFOLLOW) {
            Err(errno) => Err(errno),
            Ok(_) => Err(Errno::ROFS),
        },
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(mount: &str, path: &str) -> RecordDir {
        RecordDir { mount: mount.into(), path: path.into(), controllers: vec!["pids".into()], unified: false, made: 1 }
    }

    #[test]
    fn lists_its_parents() {
        assert_eq!(dir("/m", "/a/b/c").steps(), ["/a", "/a/b", "/a/b/c"]);
        assert_eq!(dir("/m", "/a").steps(), ["/a"]);
    }

    #[test]
    fn never_leaves_its_hierarchy() {
        for path in ["", "/", "/..", "/a/..", "/a//b", "a", "/a/./b"] {
            assert!(dir("/m", path).check().is_err(), "{path}");
        }
        assert!(dir("m", "/a").check().is_err());
        dir("/m", "/a/b").check().unwrap();
    }

    #[test]
    fn removes_nothing_outside_of_cgroup_mounts() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("a")).unwrap();
        let dirs = vec![dir(temp.path().to_str().unwrap(), "/a")];
        let record = CgroupRecord { layout: Layout::V1, dirs, unit: None };
        record.remove().unwrap();
        assert!(temp.path().join("a").exists());
    }

    #[test]
    fn survives_the_state_file() {
        let unit = UnitRecord { name: "a.scope".into(), address: "unix:path=/x".into() };
        let record = CgroupRecord { layout: Layout::Hybrid, dirs: vec![dir("/m", "/a")], unit: Some(unit) };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<CgroupRecord>(&text).unwrap(), record);
        assert_eq!(record.v1("pids").unwrap().full_path(), "/m/a");
        assert!(record.v2().is_none() && !record.is_none());
    }
}
