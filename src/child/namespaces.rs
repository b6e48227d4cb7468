//! Joins and makes the namespaces that the clone did not.

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
use crate::protocol::{Kind, ProtocolError, ToChild, ToParent};

/// Enters all of them, but a mount namespace that is entered with the root. On return this process is the one that becomes
/// the payload, and has the procfs that the parent trusts.
pub(super) fn enter(session: &mut ChildSession, plan: &ChildPlan) -> Result<(Proc, Output)> {
    let since = session.recorder.now();
    let ours = &plan.namespaces;
    if plan.shape.joins {
        join(session)?;
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
    if ours.fork {
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
    Ok((proc, output))
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
    let forked = if ours.fork { ", fork" } else { "" };
    format!("{made}{forked}").trim_start_matches(", ").to_owned()
}

fn join(session: &mut ChildSession) -> Result<()> {
    let (message, fds) = session.expect(Kind::Namespaces)?;
    let ToChild::Namespaces { flags } = message else {
        return Ok(());
    };
    for (fd, flags) in fds.iter().zip(flags) {
        let doing = || format!("setns to namespaces {flags:#x}");
        let set = CloneFlags::from_bits_retain(flags as i32);
        nix::sched::setns(fd, set).context(doing)?;
    }
    Ok(())
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

/// A pid or time namespace holds only processes born into it: goes on in a new process, which the parent waits for.
fn fork(session: &mut ChildSession, threads: usize) -> Result<()> {
    // The new process must not speak before the old one has named it.
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (named, naming) = pipe().context(|| "pipe")?;
    match fork_sibling(threads).context(|| "clone into the pid namespace")? {
        Forked::Parent(pid) => {
            session.send(ToParent::Forked { pid }, &[])?;
            std::process::exit(0);
        }
        Forked::Child => {
            drop(naming);
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
                .context(|| "set the parent-death signal")?;
            let end = rustix::io::retry_on_intr(|| rustix::io::read(&named, &mut [0u8; 1]));
            end.context(|| "wait for the process that forked")?;
            session.was_sent(Kind::Forked)
        }
    }
}
