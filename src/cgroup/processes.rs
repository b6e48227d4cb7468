//! The processes of a cgroup and its sub-cgroups, and signals to them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::dir::Dir;
use crate::error::{Error, Result};

/// How long [`kill_each`] goes after processes that keep appearing.
const PATIENCE: Duration = Duration::from_secs(2);

/// The processes of a cgroup and its sub-cgroups, in order. A cgroup that is gone has none.
pub(super) fn of(dir: &Dir) -> Result<Vec<i32>> {
    let mut pids = BTreeSet::new();
    collect(dir, &mut pids)?;
    Ok(pids.into_iter().collect())
}

fn collect(dir: &Dir, pids: &mut BTreeSet<i32>) -> Result<()> {
    match dir.try_read("cgroup.procs") {
        // 0 stands for processes of other pid namespaces, which can't be named here.
        Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0)),
        Err(Errno::NOENT | Errno::NODEV) => {}
        // A threaded cgroup: it lists its threads, and its domain the processes.
        Err(Errno::OPNOTSUPP) => collect_of_threads(dir, pids)?,
        Err(errno) => return Err(Error::call(format!("read `{}`", dir.file("cgroup.procs")), errno)),
    }
    let children = match dir.children() {
        Ok(children) => children,
        Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
        Err(errno) => return Err(Error::call(format!("read directory `{}`", dir.path()), errno)),
    };
    for name in children {
        match dir.open_child(&name) {
            Ok(child) => collect(&child, pids)?,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(Error::call(format!("open `{}`", dir.file(&name)), errno)),
        }
    }
    Ok(())
}

fn collect_of_threads(dir: &Dir, pids: &mut BTreeSet<i32>) -> Result<()> {
    let text = match dir.try_read("cgroup.threads") {
        Ok(text) => text,
        Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
        Err(errno) => return Err(Error::call(format!("read `{}`", dir.file("cgroup.threads")), errno)),
    };
    // Of each process the first thread has its number, and is the only one that has a pidfd.
    let is_first = |pid: &i32| {
        let opened = Pid::from_raw(*pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()).map(drop));
        !matches!(opened, None | Some(Err(Errno::INVAL | Errno::NOENT | Errno::SRCH)))
    };
    let threads = text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0);
    pids.extend(threads.filter(is_first));
    Ok(())
}

/// Signals every process once, also those that are forked meanwhile.
pub(super) fn kill(dir: &Dir, signal: i32) -> Result<()> {
    kill_each(|| of(dir), signal, &format!("cgroup `{}`", dir.path()))
}

/// Signals once whatever `list` has until it has nothing new; `what` has them, for the error.
pub(crate) fn kill_each(list: impl Fn() -> Result<Vec<i32>>, signal: i32, what: &str) -> Result<()> {
    let mut signalled = BTreeSet::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut more = false;
        for pid in list()? {
            if !signalled.insert(pid) {
                continue;
            }
            more = true;
            match crate::sys::signal::kill(pid, signal) {
                // It died by itself.
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(Error::call(format!("kill {pid} {signal}"), errno)),
            }
        }
        if !more {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::system(format!("{what}: processes keep appearing"))
                .context(format!("send signal {signal} to all processes")));
        }
    }
}
