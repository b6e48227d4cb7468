//! To whom a child image hands over: a process that it forked, in the namespaces that the plan has for it. One that took the
//! child over must not have others joined, shown or killed in its name.

use std::os::fd::AsFd;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::namespaces::{Joined, pid_namespace};
use crate::error::{Context, Error, Result};
use crate::plan::ChildPlan;
use crate::plan::namespaces::{flag, proc_name};
use crate::procfs::Proc;
use crate::state::ProcessId;
use crate::sys;

/// Which namespace, by its file. None where this process may not look, as an ordinary user at a process that is not dumpable.
type Namespace = Option<(u64, u64)>;

/// What is known of a child before it is told anything, to check by to whom it hands over.
pub(super) struct Origin {
    pid: i32,
    /// When it started, in clock ticks since boot.
    start: u64,
    /// How many pid namespaces deep the other will be, at least or just.
    depth: usize,
    /// Which it will be in, or, if it is a new one, which that is below.
    pid_namespace: Namespace,
    joins_pid: bool,
    makes_pid: bool,
    user_namespace: Namespace,
}

impl Origin {
    /// Of a child that has not yet begun.
    pub(super) fn of(pid: i32, plan: &ChildPlan, joined: &[Joined], proc: &Proc) -> Result<Origin> {
        let joins = |flag: u32| joined.iter().find(|j| j.flags & flag != 0);
        let namespace = |flag: u32| match joins(flag) {
            Some(joined) => identity(joined, flag, proc),
            None => proc.namespace(pid, proc_name(flag)),
        };
        let makes_pid = plan.namespaces.unshare & flag::PID != 0;
        Ok(Origin {
            pid,
            start: ProcessId::of(pid, proc)?.start_time,
            depth: proc.pid_depth(pid)? + usize::from(makes_pid),
            pid_namespace: namespace(flag::PID)?,
            joins_pid: joins(flag::PID).is_some(),
            makes_pid,
            user_namespace: namespace(flag::USER)?,
        })
    }

    /// It has made its user namespace since.
    pub(super) fn made_userns(&mut self, proc: &Proc) -> Result<()> {
        self.user_namespace = proc.namespace(self.pid, proc_name(flag::USER))?;
        Ok(())
    }

    /// Checks the process that it names.
    ///
    /// # Errors
    /// It is not the one: it was not forked by this child, or is elsewhere.
    pub(super) fn check(&self, pid: i32, proc: &Proc) -> Result<()> {
        let refuse = |why: &str| Err(Error::system(format!("the child named {pid} as its process, which is {why}")));
        if pid == self.pid {
            return refuse("itself");
        }
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // Asked first: a negative number is no Pid to make.
        let claimed = if pid > 0 { Pid::from_raw(pid) } else { None };
        let ours = claimed.map(|pid| waitid(WaitId::Pid(pid), look));
        if !matches!(ours, Some(Ok(_))) {
            return refuse("no child of this one");
        }
        if ProcessId::of(pid, proc)?.start_time < self.start {
            return refuse("older than itself");
        }
        let depth = proc.pid_depth(pid)?;
        if depth < self.depth || (depth > self.depth && !self.joins_pid) {
            return refuse("in another pid namespace than planned");
        }
        let there = if self.makes_pid { above(pid, proc)? } else { proc.namespace(pid, proc_name(flag::PID))? };
        if differ(there, self.pid_namespace) {
            return refuse("in another pid namespace than planned");
        }
        if differ(proc.namespace(pid, proc_name(flag::USER))?, self.user_namespace) {
            return refuse("in another user namespace than planned");
        }
        Ok(())
    }
}

/// Where one is not to be known, nothing is held against the process.
fn differ(one: Namespace, other: Namespace) -> bool {
    one.zip(other).is_some_and(|(one, other)| one != other)
}

/// Which namespace of a type is joined: by its own fd, or with others by a pidfd.
fn identity(joined: &Joined, flag: u32, proc: &Proc) -> Result<Namespace> {
    match joined.process {
        Some(pid) => proc.namespace(pid, proc_name(flag)),
        None => sys::identity(joined.fd.as_fd()).context(|| "fstat a namespace").map(Some),
    }
}

/// The pid namespace above a process's own.
fn above(pid: i32, proc: &Proc) -> Result<Namespace> {
    match proc.namespace(pid, proc_name(flag::PID))? {
        Some(_) => pid_namespace(pid, 1, proc).map(Some),
        None => Ok(None),
    }
}
