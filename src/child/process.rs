//! Properties of the process that need rights it is about to lose.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::kernel::rustix::io::Errno;

use crate::error::{Context, Error, Result};
use crate::kernel::sys;
use crate::plan::ChildPlan;
use crate::plan::process::{ProcessPlan, RlimitPlan};
use crate::procfs::Proc;
use crate::protocol::event::{About, Recorder};
use crate::selinux;

/// Sets what is set before the user changes, and what a process that is forked has too.
pub(super) fn apply(process: &ProcessPlan, proc: &Proc) -> Result<()> {
    if let Some(name) = &process.keyring {
        // A key has the label of who makes it: the payload's, not the runtime's, or the payload may not use it. It holds until
        // exec.
        if let Some(label) = &process.selinux {
            set_label("attr/keycreate", label, proc).context(|| "label the session keyring")?;
        }
        new_keyring(name)?;
    }
    for limit in &process.rlimits {
        sys::process::set_rlimit(0, limit.resource, limit.soft, limit.hard)
            .context(|| format!("setrlimit {} to soft {}, hard {}", limit.name, limit.soft, limit.hard))
            .map_err(|e| match e.errno() {
                Some(Errno::PERM) => e.advise(above_own(limit)),
                _ => e,
            })?;
    }
    if let Some((class, level)) = process.io_priority {
        sys::process::set_io_priority(class, level).context(|| "ioprio_set")?;
    }
    if let Some(policy) = &process.memory_policy {
        sys::process::set_memory_policy(policy.mode, &policy.nodes)
            .context(|| format!("`linux.memoryPolicy`: set_mempolicy {}", policy.name))
            .map_err(|e| match e.errno() {
                Some(Errno::NOSYS) => e.advise("the kernel has no NUMA"),
                Some(Errno::INVAL) => e.advise("does the machine, or the container's cpuset, have these nodes?"),
                _ => e,
            })?;
    }
    // Through the trusted procfs: a label written to a file of the image would never have been applied.
    if let Some(profile) = &process.apparmor {
        let exec = format!("exec {profile}");
        proc.write_self("attr/apparmor/exec", &exec)
            .or_else(|_| proc.write_self("attr/exec", &exec))
            .context(|| format!("apply the AppArmor profile `{profile}`"))
            .map_err(|e| match e.errno() {
                Some(Errno::NOENT) => e.advise("it is not in the kernel: load it first, `apparmor_parser -r FILE`"),
                _ => e,
            })?;
    }
    if let Some(label) = &process.selinux {
        set_label("attr/exec", label, proc).context(|| format!("apply the SELinux label `{label}`"))?;
    }
    Ok(())
}

/// Sets what a process that is forked might not have, or could not be forked with; sched(7).
pub(super) fn schedule(process: &ProcessPlan) -> Result<()> {
    if let Some(s) = &process.scheduler {
        let attr = sys::process::SchedAttr {
            policy: s.policy,
            flags: s.flags,
            nice: s.nice,
            priority: s.priority,
            runtime: s.runtime,
            deadline: s.deadline,
            period: s.period,
            ..Default::default()
        };
        sys::process::set_scheduler(attr).context(|| "sched_setattr").map_err(|e| match e.errno() {
            // The kernel has one errno for both.
            Some(Errno::PERM) if s.is_realtime() => e.advise(
                "a realtime policy needs CAP_SYS_NICE on the host and, in a cgroup v1 with the cpu controller, \
                 `linux.resources.cpu.realtimeRuntime`",
            ),
            _ => e,
        })?;
    }
    Ok(())
}

/// Leaves the caller's choice of CPUs behind, such as an engine's under systemd's `CPUAffinity=`: since Linux 6.2 it would
/// outlive the move into the container's cpuset. What `process.execCPUAffinity` asks for, the parent sets.
///
/// A sandbox around the runtime may refuse the call: that is told in the trace, and no reason not to start.
pub(super) fn leave_callers_cpus(plan: &ChildPlan, recorder: &mut Recorder) {
    if (plan.container.is_some() || plan.process.affinity.last.is_empty())
        && let Err(errno) = sys::process::run_anywhere()
    {
        recorder.fallback("affinity", || {
            About::default().by("the caller's CPUs").why(format!("sched_setaffinity: {errno}"))
        });
    }
}

fn set_label(attribute: &str, label: &str, proc: &Proc) -> Result<()> {
    proc.write_self(attribute, label).map_err(|e| match e.errno() {
        Some(errno @ (Errno::INVAL | Errno::ACCESS | Errno::PERM)) => e.advise(selinux::advice(errno, label)),
        _ => e,
    })
}

/// What to do about a hard limit that is above the runtime's own.
fn above_own(limit: &RlimitPlan) -> String {
    let needs = "only CAP_SYS_RESOURCE raises that";
    match sys::process::rlimit(0, limit.resource) {
        Ok((_, hard)) => {
            format!(
                "the runtime's own hard limit is {hard}, and {needs}; ask for no more in `process.rlimits`, for which engines have \
                 options and defaults, or raise the limit of what calls the runtime"
            )
        }
        Err(_) => format!("it is above the runtime's own hard limit, and {needs}"),
    }
}

fn new_keyring(name: &str) -> Result<()> {
    let c_name = CString::new(name).map_err(|_| Error::system("keyring name with a NUL byte"))?;
    match sys::process::join_session_keyring(&c_name) {
        // A kernel without keyrings has none to protect.
        Ok(()) | Err(Errno::NOSYS) => Ok(()),
        Err(errno) => Err(Error::call(format!("join the session keyring `{name}`"), errno)
            .advise("tandem's --no-new-keyring keeps the caller's")),
    }
}

/// The lowest fd that the engine does not pass.
fn first_other(preserved: u32) -> i32 {
    i32::try_from(preserved).unwrap_or(i32::MAX).saturating_add(3)
}

/// Leaves open over exec what the engine passed, and nothing else.
pub(super) fn close_other_fds(preserved: u32, proc: &Proc) -> Result<()> {
    let first = first_other(preserved);
    match sys::exec::cloexec_from(first) {
        Ok(()) => Ok(()),
        Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
            for fd in proc.own_fds()?.into_iter().filter(|fd| *fd >= first) {
                match sys::exec::set_cloexec(fd, true) {
                    // The directory that was read.
                    Ok(()) | Err(Errno::BADF) => {}
                    Err(errno) => return Err(Error::call(format!("mark fd {fd} close-on-exec"), errno)),
                }
            }
            Ok(())
        }
        Err(errno) => Err(Error::call("close_range", errno)),
    }
}

/// Closes what this process was born with and the engine did not pass: a new process would have it too, and show it. Only where
/// this process itself holds no fds but those that are kept.
pub(super) fn close_inherited(preserved: u32, kept: &[BorrowedFd<'_>], proc: &Proc) -> Result<()> {
    let first = first_other(preserved);
    let own = proc.as_fd();
    let mut kept: Vec<i32> = kept.iter().chain([&own]).map(AsRawFd::as_raw_fd).filter(|fd| *fd >= first).collect();
    kept.sort_unstable();
    let mut from = first;
    for fd in kept.iter().copied().chain([i32::MAX]) {
        match if from < fd { sys::exec::close_range(from, fd - 1) } else { Ok(()) } {
            Ok(()) => from = fd.saturating_add(1),
            Err(Errno::NOSYS | Errno::PERM) => return close_each(first, &kept, proc),
            Err(errno) => return Err(Error::call("close_range", errno)),
        }
    }
    Ok(())
}

fn close_each(first: i32, kept: &[i32], proc: &Proc) -> Result<()> {
    for fd in proc.own_fds()?.into_iter().filter(|fd| *fd >= first && !kept.contains(fd)) {
        match sys::exec::close(fd) {
            // The directory that was read.
            Ok(()) | Err(Errno::BADF) => {}
            Err(errno) => return Err(Error::call(format!("close fd {fd}"), errno)),
        }
    }
    Ok(())
}
