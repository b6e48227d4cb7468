//! `delete`, and the end of a container's processes.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::clean;
use super::lost;
use super::trace::TraceFile;
use crate::cgroup::resctrl::RdtRecord;
use crate::cgroup::{Cgroup, CgroupRecord};
use crate::error::{Error, Kind, Result};
use crate::plan::id::ContainerId;
use crate::plan::namespaces::flag;
use crate::procfs::Proc;
use crate::protocol::event::About;
use crate::protocol::journal;
use crate::state::{ContainerDir, ProcessId, Record, StateRoot, Status, is_lost};

/// Removes a container. With `force` one that runs is killed first, and one that is not there is fine.
///
/// # Errors
/// [`Kind::State`] without `force` for one that runs; what can't be removed.
pub fn delete(state: &StateRoot, id: &str, force: bool, trace: &TraceFile) -> Result<()> {
    trace.traced("delete", id, |_| delete_within(state, id, force))
}

/// The same as a part of another command, whose trace has its steps.
///
/// # Errors
/// As [`delete`].
pub(crate) fn delete_within(state: &StateRoot, id: &str, force: bool) -> Result<()> {
    let id = ContainerId::parse(id)?;
    let dir = match state.open(&id) {
        Err(e) if force && e.kind() == Kind::NotFound => return Ok(()),
        dir => dir?,
    };
    // A `create` that is still at it is waited for; one that was killed holds no lock. A `start` may wait for a container that
    // was paused: it ends with that.
    let end_what_waits = || match dir.read_record(&id) {
        Ok(Some(record)) if force && record.complete => end(&record, state.proc()),
        _ => Ok(()),
    };
    let _lock = match dir.lock_past(end_what_waits) {
        Err(e) if force && e.kind() == Kind::NotFound => return Ok(()),
        lock => lock?,
    };
    let record = match dir.read_record(&id) {
        Ok(Some(record)) => record,
        // Killed before it wrote what it would make: it has made nothing else.
        Ok(None) => return dir.remove(),
        Err(error) if !is_lost(&error) => return Err(error),
        Err(error) if force => return lost::delete(state, &id, &dir, &error),
        Err(error) => {
            return Err(error.advise("`delete --force` ends what it can find of the container, and removes the rest"));
        }
    };
    let since = journal::now();
    let status = settled(&dir, &record, force)?;
    journal::step("look", since, || {
        About::object(record.process.map_or(String::new(), |p| format!("pid {}", p.pid))).with(status.name())
    });
    match status {
        Status::Stopped => {}
        Status::Created => end(&record, state.proc())?,
        _ if force => end(&record, state.proc())?,
        status => {
            let message = format!("cannot delete container `{id}`: it is {}", status.name());
            return Err(Error::new(Kind::State, message).advise("kill it first, or use `delete --force`"));
        }
    }
    match record.cgroup.as_ref().filter(|cgroup| !cgroup.is_none()) {
        Some(cgroup) => clean::remove_cgroup(cgroup)?,
        None if record.namespaces & flag::PID == 0 => log::warn!(
            "container `{id}` has neither a cgroup nor a pid namespace: what its first process has left behind is not known, and \
             lives on"
        ),
        None => {}
    }
    record.rdt.as_ref().map_or(Ok(()), RdtRecord::remove)?;
    clean::remove_state(&dir)?;
    let state = crate::hooks::state_json(&record.state, "stopped", 0);
    crate::hooks::run_all("poststop", &record.poststop, &state, &record.state.bundle, &record.hook_output);
    Ok(())
}

/// The status, once a process that has just been killed has had the time to end: who says `kill` and then `delete` means
/// both.
fn settled(dir: &ContainerDir, record: &Record, force: bool) -> Result<Status> {
    const PATIENCE: Duration = Duration::from_millis(100);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match dir.status(record)? {
            Status::Running if !force && Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            status => return Ok(status),
        }
    }
}

/// [`end_process`] of a container.
pub(super) fn end(record: &Record, proc: &Proc) -> Result<()> {
    record.process.map_or(Ok(()), |process| end_process(process, record.cgroup.as_ref(), proc))
}

/// Kills the first process and waits until it is gone or a zombie. One that ended by itself is left alone, and its cgroup: both
/// may be another's by now.
pub(super) fn end_process(process: ProcessId, cgroup: Option<&CgroupRecord>, proc: &Proc) -> Result<()> {
    if !process.is_alive(proc)? {
        return Ok(());
    }
    let since = journal::now();
    let killed = crate::sys::signal::kill(process.pid, libc::SIGKILL);
    let about = |what: &'static str| move || About::object(format!("pid {}", process.pid)).by(what);
    journal::call("kill", since, killed.as_ref().map(drop), about("SIGKILL"));
    match killed {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => return Err(Error::call(format!("kill {}", process.pid), errno)),
    }
    if let Some(cgroup) = cgroup {
        Cgroup::open(cgroup)?.kill_all(libc::SIGKILL)?;
    }
    let since = journal::now();
    let ended = await_end(process, proc);
    journal::ended("await end", since, &ended, about("polled"));
    ended
}

fn await_end(process: ProcessId, proc: &Proc) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(200);
    while process.is_alive(proc)? {
        if Instant::now() >= deadline {
            return Err(Error::system(format!("process {} does not end after SIGKILL", process.pid)));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    Ok(())
}
