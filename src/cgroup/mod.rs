//! The container's control group, in every hierarchy the machine has: version 1, hybrid and version 2, through the
//! file system (cgroups(7), Documentation/admin-guide/cgroup-v1/ and cgroup-v2.rst).
//!
//! `Hierarchies::detect` finds the hierarchies; `Hierarchies::record` says what will be made, to be stored first;
//! [`Cgroup::create`] makes it and sets the limits; the process then joins by itself: into v2 by being cloned into
//! [`Cgroup::into_fd`], into v1 by writing `0` to each of [`Cgroup::task_fds`]. Both are cheap, where moving another
//! process through `cgroup.procs` waits for a lock over all processes.
//!
//! With the [`systemd`] cgroup manager the cgroup is made by systemd instead, around the process that is there already.

mod controllers;
mod cpuset;
mod device_filter;
mod devices;
mod dir;
mod ebpf;
mod freezer;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod layout;
mod limits;
mod oom;
mod processes;
mod record;
pub mod resctrl;
pub mod stats;
mod stats_v1;
mod stats_v2;
mod sub;
pub mod systemd;
#[cfg(test)]
mod tests;
mod threaded;
mod v1;
mod v2;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Serialize;

pub(crate) use self::devices::allows;
use self::dir::Dir;
use self::freezer::Freezer;
pub(crate) use self::layout::check_path;
pub use self::layout::{Hierarchies, Layout};
pub(crate) use self::oom::OomKills;
pub use self::oom::OomWatch;
pub(crate) use self::processes::kill_each;
pub use self::record::{CgroupRecord, RecordDir};
pub use self::sub::SubCgroup;
use crate::error::{Context, Error, Result};
use crate::plan::resources::{DeviceRule, Resources};
use crate::procfs::Proc;
use crate::protocol::event::About;
use crate::protocol::journal;

/// What a refusal to make a cgroup means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Tolerance {
    /// Every failure fails.
    Strict,
    /// Without the machine's own root rights cgroups often can't be made: a container that asks for no limits then
    /// does without, and device filters that can't be set are left out. A limit that can't be set still fails.
    Rootless,
    /// The same, but for a cgroup that was asked for by its path: one of its directories at least must be had.
    RootlessByPath,
}

impl Tolerance {
    fn covers(self, error: &Error) -> bool {
        self != Tolerance::Strict && matches!(error.errno(), Some(Errno::PERM | Errno::ACCESS | Errno::ROFS))
    }
}

/// The container's cgroup, open: one directory in each hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    record: CgroupRecord,
    /// As in the record; `None` where the directory is gone.
    dirs: Vec<Option<Dir>>,
    /// Controllers that are not to be had, and why.
    refused: Vec<(String, Error)>,
    notes: Vec<String>,
}

impl Cgroup {
    /// Makes the directories, gives them their controllers and sets limits and device filter, before any process is
    /// in them. A failure leaves nothing behind: there is nothing to [`Cgroup::remove`] after it.
    ///
    /// # Errors
    /// A directory that can't be made (unless tolerated) or that another container uses; a limit that can't be set.
    pub fn create(record: &CgroupRecord, resources: &Resources, tolerance: Tolerance) -> Result<Cgroup> {
        let mut made = Vec::with_capacity(record.dirs.len());
        Cgroup::try_create(record, resources, tolerance, &mut made).map_err(|error| {
            let undone = made.iter().rev().map(|(place, made)| RecordDir::unmake(place, *made));
            match undone.fold(Ok(()), Result::and) {
                Ok(()) => error,
                Err(undo) => error.context(format!("clean-up failed too ({undo})")),
            }
        })
    }

    fn try_create<'a>(
        record: &'a CgroupRecord,
        resources: &Resources,
        tolerance: Tolerance,
        made: &mut Vec<(&'a RecordDir, usize)>,
    ) -> Result<Cgroup> {
        let mut cgroup = Cgroup {
            record: CgroupRecord { dirs: Vec::with_capacity(record.dirs.len()), ..record.clone() },
            dirs: Vec::with_capacity(record.dirs.len()),
            refused: Vec::new(),
            notes: Vec::new(),
        };
        let mut fresh = true;
        for place in &record.dirs {
            let path = place.full_path();
            let count = match place.make() {
                Ok(count) => count,
                Err(error) if tolerance.covers(&error) => {
                    cgroup.notes.push(format!("no cgroup: {error}"));
                    let names = if place.unified { &["".to_owned()][..] } else { &place.controllers[..] };
                    cgroup.refused.extend(names.iter().map(|name| (name.clone(), error.clone())));
                    continue;
                }
                Err(error) => return Err(error.context("make the cgroup")),
            };
            made.push((place, count));
            if count == 0 {
                fresh = false;
                layout::refuse_if_used(&path)?;
            }
            let dir = Dir::open(path.as_str()).context(|| format!("open `{path}`"))?;
            // A parent that was there when it was looked for, and is made anew, is ours too.
            cgroup.record.dirs.push(RecordDir { made: place.made.max(count), ..place.clone() });
            cgroup.dirs.push(Some(dir));
        }
        if let (Tolerance::RootlessByPath, true, Some((_, error))) =
            (tolerance, cgroup.dirs.is_empty(), cgroup.refused.first())
        {
            let error = error.clone().context("make the cgroup");
            return Err(error
                .advise("without `linux.cgroupsPath`, or with tandem's --rootless=true, the container does without"));
        }
        if !fresh && cgroup.is_frozen()? {
            let path = record.dirs.first().map(RecordDir::full_path).unwrap_or_default();
            return Err(Error::system(format!("cgroup `{path}` exists and is frozen")));
        }
        cgroup.prepare(resources)?;
        limits::apply(&cgroup, resources, fresh)?;
        cgroup.filter_devices(resources.devices.as_deref().unwrap_or_default(), fresh, tolerance)?;
        Ok(cgroup)
    }

    /// What a directory needs before limits: cpusets in v1, controllers in v2, and there what lets processes into it. In a
    /// hybrid layout v2's controllers are rarely wanted and are enabled for the limits that need them.
    fn prepare(&mut self, resources: &Resources) -> Result<()> {
        if let Some(place) = self.record.v1("cpuset") {
            controllers::fill_cpuset(place, resources.cpu.cpus.is_some(), resources.cpu.mems.is_some())?;
        }
        if self.record.layout == Layout::V2
            && let (Some(place), Some(dir)) = (self.record.v2(), self.v2())
        {
            let refused = controllers::enable(place, dir, None).context(|| "enable the cgroup's controllers")?;
            self.refused.extend(refused);
        }
        if let (Some(place), Some(dir)) = (self.record.v2(), self.v2())
            && let Some(note) = threaded::become_so(place, dir)?
        {
            self.notes.push(note);
        }
        Ok(())
    }

    fn filter_devices(&mut self, rules: &[DeviceRule], fresh: bool, tolerance: Tolerance) -> Result<()> {
        let set = self.set_devices(rules, fresh);
        match set {
            Ok(notes) => self.notes.extend(notes),
            Err(error) if tolerance.covers(&error) => self.notes.push(format!("no device filter: {error}")),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn set_devices(&self, rules: &[DeviceRule], fresh: bool) -> Result<Vec<String>> {
        if let Some(dir) = self.v1("devices") {
            let denied = devices::apply_v1(dir, rules, fresh)?;
            return Ok(denied.into_iter().map(|line| format!("the parent cgroup denies device `{line}`")).collect());
        }
        if fresh && devices::allow_all(rules) {
            return Ok(Vec::new());
        }
        let Some(dir) = self.v2() else {
            // No directory could be made, which was tolerated and noted; or v1 came without its controller.
            return match self.record.is_none() {
                true => Ok(Vec::new()),
                false => Err(self.lacks("devices").context("set the device rules")),
            };
        };
        let rules = devices::complete(rules);
        let since = journal::now();
        let set = match fresh {
            true => device_filter::attach(dir, &rules),
            false => device_filter::replace(dir, &rules),
        };
        journal::call("device filter", since, set.as_ref().map(drop), || {
            About::object(dir.path()).by("BPF_PROG_LOAD, BPF_PROG_ATTACH").with(format!("{} rules", rules.len()))
        });
        set.context(|| "set the device rules")?;
        Ok(Vec::new())
    }

    /// Opens the cgroup of a container. Directories that are gone are left out: such a cgroup has no processes, and
    /// what needs the directory fails.
    ///
    /// # Errors
    /// A directory that is there and can't be opened.
    pub fn open(record: &CgroupRecord) -> Result<Cgroup> {
        let mut dirs = Vec::with_capacity(record.dirs.len());
        for place in &record.dirs {
            place.check()?;
            let path = place.full_path();
            dirs.push(match Dir::open(path.as_str()) {
                Ok(dir) => Some(dir),
                Err(Errno::NOENT | Errno::NODEV) => None,
                Err(errno) => return Err(Error::call(format!("open `{path}`"), errno)),
            });
        }
        Ok(Cgroup { record: record.clone(), dirs, refused: Vec::new(), notes: Vec::new() })
    }

    /// What was made: the record given to [`Cgroup::create`], less the directories whose absence was tolerated.
    pub fn record(&self) -> &CgroupRecord {
        &self.record
    }

    /// What was left out, and tolerated, for the trace.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The v2 directory, for CLONE_INTO_CGROUP (clone(2)); `None` where there is no v2.
    pub fn into_fd(&self) -> Option<BorrowedFd<'_>> {
        self.v2().map(AsFd::as_fd)
    }

    /// The `tasks` files of the v1 hierarchies, for writing: a thread that writes `0` to each moves itself into the
    /// cgroup, without the lock that moving a whole process takes. Only for a process that has one thread.
    ///
    /// # Errors
    /// A file that can't be opened.
    pub fn task_fds(&self) -> Result<Vec<OwnedFd>> {
        let v1 = self.places().filter(|(place, _)| !place.unified);
        v1.map(|(_, dir)| dir.open_file("tasks", OFlags::WRONLY).context(|| format!("open `{}`", dir.file("tasks"))))
            .collect()
    }

    /// Moves a process into the cgroup from outside: slower, for where it can't join by itself.
    ///
    /// # Errors
    /// A hierarchy that refuses the process: EBUSY from a v2 cgroup whose controllers its children have.
    pub fn join(&self, pid: i32) -> Result<()> {
        for (_, dir) in self.places() {
            dir.write("cgroup.procs", &pid.to_string()).context(|| "join the cgroup")?;
        }
        Ok(())
    }

    /// The cgroup that a process of the container is in, for another that joins it: a container that has moved its
    /// processes into sub-cgroups of v2 and given those controllers, as systemd does, takes none in its own any more.
    ///
    /// # Errors
    /// A process that is gone, or has left the container's cgroup.
    pub(crate) fn beside(&self, pid: i32, proc: &Proc) -> Result<Cgroup> {
        let mut record = self.record.clone();
        let text = proc.read(&format!("{pid}/cgroup"))?;
        let own = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
        for place in record.dirs.iter_mut().filter(|place| place.unified) {
            // Where the mount point is not the hierarchy's root, its name in /proc is longer, or shorter, than ours.
            let below = own.find(&place.path).map(|at| &own[at + place.path.len()..]).unwrap_or_default();
            place.path.push_str(if below.starts_with('/') { below } else { "" });
        }
        let cgroup = Cgroup::open(&record)?;
        match (record.v2(), cgroup.v2()) {
            (Some(place), None) => Err(Error::call(format!("open `{}`", place.full_path()), Errno::NOENT)),
            _ => Ok(cgroup),
        }
    }

    /// Changes the limits that `update` holds, and the device rules if it holds any.
    ///
    /// # Errors
    /// A limit that can't be set. Those before it are set by then.
    pub fn update(&self, update: &Resources) -> Result<()> {
        if let Some(unit) = &self.record.unit {
            self.update_unit(unit, update)?;
        }
        limits::apply(self, update, false)?;
        if let Some(rules) = &update.devices {
            self.set_devices(rules, false)?;
        }
        Ok(())
    }

    /// Freezes every process, and returns when they stand still.
    ///
    /// # Errors
    /// No freezer, or a process that doesn't freeze: all are thawed again then.
    pub fn freeze(&self) -> Result<()> {
        self.freezer()?.freeze().context(|| "freeze the cgroup")
    }

    /// Lets every process go on.
    ///
    /// # Errors
    /// No freezer, or a parent cgroup that is frozen.
    pub fn thaw(&self) -> Result<()> {
        self.freezer()?.thaw().context(|| "thaw the cgroup")
    }

    /// Whether the processes are frozen. What has no freezer is not.
    ///
    /// # Errors
    /// An unreadable state.
    pub fn is_frozen(&self) -> Result<bool> {
        match self.freezer() {
            Ok(freezer) => freezer.is_frozen(),
            Err(_) => Ok(false),
        }
    }

    /// The processes, also those in sub-cgroups, in ascending order.
    ///
    /// # Errors
    /// An unreadable list.
    pub fn pids(&self) -> Result<Vec<i32>> {
        self.watched().map_or(Ok(Vec::new()), processes::of)
    }

    /// Signals every process. SIGKILL reaches frozen ones too, which are thawed to die; another signal waits for the
    /// thaw.
    ///
    /// # Errors
    /// A process that can't be signalled, or ones that keep appearing.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        let Some(dir) = self.watched() else { return Ok(()) };
        if signal != libc::SIGKILL {
            return processes::kill(dir, signal);
        }
        // Linux 5.14 kills them all at once, whatever they fork.
        let at_once = match self.v2().map(|dir| dir.try_write("cgroup.kill", "1")) {
            Some(Ok(())) => true,
            None | Some(Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP)) => false,
            Some(Err(errno)) => return Err(Error::call("write `1` to `cgroup.kill`", errno)),
        };
        // In a hybrid layout the v1 directories may hold processes that have left v2's.
        if !at_once || self.record.layout == Layout::Hybrid {
            processes::kill(dir, signal)?;
        }
        match self.is_frozen()? {
            true => self.thaw(),
            false => Ok(()),
        }
    }

    /// Stops the unit of a record if systemd made one, and removes the directories, with their sub-cgroups, and the
    /// parents that were made for them and are empty. Waits some seconds for processes that are dying. What is gone
    /// already is no failure.
    ///
    /// # Errors
    /// EBUSY while processes are left; after every directory has been tried. A unit that can't be stopped.
    pub fn remove(record: &CgroupRecord) -> Result<()> {
        let stopped = record.unit.as_ref().map_or(Ok(()), |unit| systemd::stop(unit, !record.is_none()));
        let removed = record.remove();
        match (stopped, &removed) {
            // systemd lets go of a unit by itself once its cgroup is gone.
            (Err(error), Ok(())) if !record.is_none() => {
                log::warn!("{error}");
                removed
            }
            (stopped, _) => removed.and(stopped),
        }
    }

    fn places(&self) -> impl Iterator<Item = (&RecordDir, &Dir)> {
        self.record.dirs.iter().zip(&self.dirs).filter_map(|(place, dir)| Some((place, dir.as_ref()?)))
    }

    fn v1(&self, controller: &str) -> Option<&Dir> {
        let mut v1 = self.places().filter(|(place, _)| !place.unified);
        v1.find(|(place, _)| place.controllers.iter().any(|name| name == controller)).map(|(_, dir)| dir)
    }

    fn v2(&self) -> Option<&Dir> {
        self.places().find(|(place, _)| place.unified).map(|(_, dir)| dir)
    }

    /// The directory whose processes stand for the container's: one that no payload can move them out of, if possible.
    /// (A systemd in the container arranges v2 and its named hierarchy as it likes, within the container's.)
    fn watched(&self) -> Option<&Dir> {
        let v1 = ["devices", "freezer", "pids", "memory"].iter().find_map(|name| self.v1(name));
        v1.or_else(|| self.v2()).or_else(|| self.places().map(|(_, dir)| dir).next())
    }

    fn freezer(&self) -> Result<Freezer<'_>> {
        match (self.v1("freezer"), self.v2()) {
            (Some(dir), _) => Ok(Freezer::V1(dir)),
            (None, Some(dir)) => Ok(Freezer::V2(dir)),
            (None, None) => Err(self.lacks("freezer")),
        }
    }
}
