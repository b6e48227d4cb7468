//! Joins and makes the namespaces that the clone did not.
//!
//! A pid namespace that others are in already is entered last of all. Who is in it sees each process that is born there, and
//! with CAP_SYS_PTRACE, where no user namespace lies between, may look at all that it holds and act in its name: its root, its
//! fds, its memory, its rights. So until then this process is outside, and the one that it forks into it has the container's
//! root, the payload's user, rights and fds, and of the runtime the sync socket and the sealed image alone.

use std::os::fd::OwnedFd;

use crate::kernel::nix::sched::CloneFlags;
use crate::kernel::rustix::process::Signal;
use crate::kernel::{nix, rustix};

use super::ChildSession;
use crate::error::{Context, Error, Result};
use crate::hooks::Output;
use crate::kernel::sys::clone::{Forked, fork_sibling};
use crate::plan::ChildPlan;
use crate::plan::namespaces::flag;
use crate::procfs::Proc;
use crate::protocol::message::AS_ROOT;
use crate::protocol::{Forks, Kind, ProtocolError, ToChild, ToParent};

/// What this process has once it is in its namespaces.
pub(super) struct Entered {
    /// The procfs that the parent trusts.
    pub(super) proc: Proc,
    /// What hooks write to.
    pub(super) output: Output,
    /// The pid namespace that is entered last, if that one came by itself.
    pub(super) pid_namespace: Option<OwnedFd>,
}

/// Enters all of them, but a mount namespace that is entered with the root, and a pid namespace that is entered last
/// ([`be_born`]).
pub(super) fn enter(session: &mut ChildSession, plan: &ChildPlan) -> Result<Entered> {
    let since = session.recorder.now();
    let ours = &plan.namespaces;
    let mut pid_namespace = None;
    if plan.shape.joins {
        pid_namespace = join(session, plan)?;
        if session.recorder.is_on() && ours.unshare & flag::TIME == 0 {
            // A time namespace that was joined has its clock at once, one that is made only the next process.
            session.recorder.turn_on(ours.ahead_us());
        }
    }
    if ours.late_userns {
        unshare(flag::USER)?;
        // An ordinary user's parent may write the id maps only of a process that is dumpable.
        set_dumpable(true)?;
        session.send(ToParent::UsernsCreated, &[])?;
    }
    let (_, mut fds) = session.expect(Kind::Begin)?;
    let proc = fds.pop().ok_or_else(|| ProtocolError::Inconsistent("Begin without procfs".into()))?;
    let proc = Proc::from_fd(proc)?;
    let mut output = Output::default();
    if let Some((stdout, stderr)) = plan.shape.hook_output {
        let mut files = session.expect(Kind::HookOutput)?.1.into_iter();
        output.stdout = if stdout { files.next() } else { None };
        output.stderr = if stderr { files.next() } else { None };
    }
    set_dumpable(false)?;
    if ours.become_root {
        become_root(ours.keep_groups)?;
    }
    if ours.unshare != 0 {
        unshare(ours.unshare)?;
    }
    if let Some(offsets) = ours.time_offsets.as_ref().filter(|_| ours.unshare & flag::TIME != 0) {
        // The file is the user namespace's root's only while this process is dumpable. Nobody else is here yet.
        set_dumpable(true)?;
        proc.write_self("timens_offsets", &offsets.text)?;
        set_dumpable(false)?;
    }
    if ours.forks == Forks::First {
        fork(session, proc.own_threads()?)?;
    }
    if session.recorder.is_on() {
        // Another process, perhaps; and in the time namespace now, whose clock is ahead of the host's.
        session.recorder.turn_on(ours.ahead_us());
    }
    if ours.loopback {
        crate::kernel::sys::net::bring_up_loopback().context(|| "bring up `lo`")?;
    }
    session.recorder.step("namespaces", since, || describe(plan));
    session.send(ToParent::NamespacesReady, &[])?;
    Ok(Entered { proc, output, pid_namespace })
}

/// Has children be born in the pid namespace that is entered last. From here on this process must have none but the one.
pub(super) fn set_for_children(pid_namespace: Option<OwnedFd>) -> Result<()> {
    let set = |namespace: OwnedFd| nix::sched::setns(&namespace, CloneFlags::CLONE_NEWPID);
    pid_namespace.map_or(Ok(()), set).context(|| "setns to the pid namespace that is joined")
}

/// Goes on in a new process, in the pid namespace that is entered last. Returns the number that the parent knows it by.
pub(super) fn be_born(session: &mut ChildSession, plan: &ChildPlan, threads: usize) -> Result<i32> {
    let since = session.recorder.now();
    // What has changed this process's rights may have undone it: fs.suid_dumpable of proc_sys_fs(5).
    set_dumpable(false)?;
    let pid = fork(session, threads)?;
    if session.recorder.is_on() {
        session.recorder.turn_on(plan.namespaces.ahead_us());
    }
    session.recorder.step("pid namespace", since, || "entered by a new process, which has nothing of the host's");
    Ok(pid)
}

fn set_dumpable(on: bool) -> Result<()> {
    use crate::kernel::rustix::process::{DumpableBehavior, set_dumpable_behavior};
    let behavior = if on { DumpableBehavior::Dumpable } else { DumpableBehavior::NotDumpable };
    set_dumpable_behavior(behavior).context(|| "prctl PR_SET_DUMPABLE")
}

fn describe(plan: &ChildPlan) -> String {
    let ours = &plan.namespaces;
    let made = match ours.unshare {
        0 => String::new(),
        flags => format!("unshare {}", crate::plan::namespaces::names(flags)),
    };
    let forked = if ours.forks == Forks::First { ", fork" } else { "" };
    format!("{made}{forked}").trim_start_matches(", ").to_owned()
}

/// Joins what was sent. A pid namespace that is entered last is given back, if it came by itself: what this process forks
/// until then must not be born there.
fn join(session: &mut ChildSession, plan: &ChildPlan) -> Result<Option<OwnedFd>> {
    let (message, fds) = session.expect(Kind::Namespaces)?;
    let ToChild::Namespaces { flags } = message else {
        return Ok(None);
    };
    let mut last = None;
    for (fd, flags) in fds.into_iter().zip(flags) {
        match flags {
            AS_ROOT if plan.container.is_none() => change_root(fd)?,
            AS_ROOT => return Err(ProtocolError::Inconsistent("a root for who builds one".into()).into()),
            // With a user namespace of its own this process will have no right to any more.
            flag::PID if plan.shape.forks == Forks::Last && !plan.namespaces.late_userns => last = Some(fd),
            _ => {
                let set = CloneFlags::from_bits_retain(flags as i32);
                nix::sched::setns(fd, set).context(|| format!("setns to namespaces {flags:#x}"))?;
            }
        }
    }
    Ok(last)
}

/// To that of a container without a mount namespace.
fn change_root(to: OwnedFd) -> Result<()> {
    rustix::process::fchdir(&to).context(|| "fchdir to the container's root")?;
    rustix::process::chroot(".").context(|| "chroot to the container's root")
}

fn unshare(flags: u32) -> Result<()> {
    let set = CloneFlags::from_bits_retain(flags as i32);
    nix::sched::unshare(set).context(|| format!("unshare namespaces {flags:#x}"))
}

/// Becomes user and group 0 of the user namespace just entered, which gives its full capabilities a name. A namespace
/// that maps no 0 leaves the ids as they are: the capabilities come from having entered.
fn become_root(keep_groups: bool) -> Result<()> {
    use crate::kernel::rustix::io::Errno;
    use crate::kernel::rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    match if keep_groups { Ok(()) } else { set_thread_groups(&[]) } {
        // setgroups may be denied in a user namespace of an ordinary user; the groups are then its own.
        Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
        Err(errno) => return Err(Error::call("setgroups in the user namespace", errno)),
    }
    match set_thread_res_gid(gid, gid, gid) {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(Error::call("setresgid in the user namespace", errno)),
    }
    match set_thread_res_uid(uid, uid, uid) {
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(Error::call("setresuid in the user namespace", errno)),
    }
}

/// A pid or time namespace holds only processes born into it: goes on in a new process, which the parent waits for. Returns
/// the number that the parent knows it by.
fn fork(session: &mut ChildSession, threads: usize) -> Result<i32> {
    // The new process must not speak before the old one has named it.
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (named, naming) = pipe().context(|| "pipe")?;
    match fork_sibling(threads).context(|| "clone into the pid namespace")? {
        Forked::Parent(pid) => {
            // First: once it has named it, this process may be killed at any moment.
            let told = rustix::io::retry_on_intr(|| rustix::io::write(&naming, &pid.to_ne_bytes()));
            told.context(|| "tell the new process its number")?;
            session.send(ToParent::Forked { pid }, &[])?;
            std::process::exit(0);
        }
        Forked::Child => {
            drop(naming);
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
                .context(|| "set the parent-death signal")?;
            let mut pid = [0u8; 4];
            let doing = || "wait for the process that forked";
            rustix::io::retry_on_intr(|| rustix::io::read(&named, &mut pid)).context(doing)?;
            // Its end.
            rustix::io::retry_on_intr(|| rustix::io::read(&named, &mut [0u8; 1])).context(doing)?;
            session.was_sent(Kind::Forked)?;
            Ok(i32::from_ne_bytes(pid))
        }
    }
}
