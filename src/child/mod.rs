//! The child: a fresh image of this binary inside the container's namespaces. It knows what the socket told it.
//!
//! [`main`] is the visible list of its steps. Each step is a file of this directory.

mod attach;
mod capabilities;
mod cgroup_v1;
mod copy_up;
mod dev;
mod enter;
mod filesystem;
mod identity;
mod legacy;
mod listener;
pub(crate) mod live;
mod mounts;
mod namespaces;
mod paths;
mod process;
mod readonly;
mod revealing;
mod rootfs;
mod slots;
mod start;
mod stdio;
mod terminal;
mod tree;

use std::convert::Infallible;
use std::os::fd::RawFd;

use crate::error::{Context, Error, Result};
use crate::hooks::Output;
use crate::kernel::rustix;
use crate::plan::{ChildPlan, ContainerPlan};
use crate::procfs::Proc;
use crate::protocol::channel::Channel;
use crate::protocol::event::{Recorder, Side};
use crate::protocol::sequence::Sequence;
use crate::protocol::session::ChildSession;
use crate::protocol::{Forks, Kind, Said};
pub(crate) use attach::Places;
pub(crate) use filesystem::with_mode_of_covered;
pub(crate) use identity::DEFAULT_PATH;
use identity::Start;
use namespaces::Entered;
use readonly::Readonly;
use slots::Slots;
use start::Last;

/// Runs the child image. `socket` is the number of the sync socket. Returns only on failure, with the exit code.
pub fn main(socket: RawFd) -> i32 {
    let Some(socket) = crate::kernel::sys::exec::inherited(socket) else {
        eprintln!("tandem: the child image is started by tandem itself, with a sync socket");
        return 1;
    };
    let guarded = guard_self().context(|| "guard the child image");
    let channel = Channel::from_socket(socket);
    let mut session = ChildSession::child(channel, Sequence::opening(), Recorder::new(Side::Child, false));
    if let Err(error) = guarded.and_then(|()| run(&mut session).map(drop)) {
        session.fail(error);
    }
    1
}

/// Keeps processes of a container whose pid namespace is joined from this one's memory and fds until it is one of them:
/// not dumpable, it can't be traced (prctl(2)); only exec undoes that. Its name tells until exec what it is. What it makes
/// has the modes that are asked for.
fn guard_self() -> Result<()> {
    let not = rustix::process::DumpableBehavior::NotDumpable;
    rustix::process::set_dumpable_behavior(not).context(|| "prctl PR_SET_DUMPABLE")?;
    rustix::thread::set_name(crate::CHILD_COMM).context(|| "prctl PR_SET_NAME")?;
    rustix::process::umask(rustix::fs::Mode::empty());
    Ok(())
}

/// By how much this process's clock is ahead of the host's already: the parent makes a container's time namespace for it.
fn ahead_from_the_first(plan: &ChildPlan) -> i64 {
    let ours = &plan.namespaces;
    let born_there = plan.container.is_some() && ours.unshare & crate::plan::namespaces::flag::TIME == 0;
    if born_there { ours.ahead_us() } else { 0 }
}

/// All steps, in their order.
pub(crate) fn run(session: &mut ChildSession) -> Result<Infallible> {
    let plan = session.receive_plan(|plan: &ChildPlan| plan.shape)?;
    if plan.trace {
        session.recorder.turn_on(ahead_from_the_first(&plan));
    }
    session.recorder.doing("namespaces");
    let entered = namespaces::enter(session, &plan)?;
    let terminal = match &plan.container {
        Some(container) => build(session, &plan, container, &entered)?,
        None => join(session, &plan, &entered.proc)?,
    };
    session.recorder.doing("process");
    let last = plan.shape.forks == Forks::Last;
    // Threads are not forked with their process.
    let messenger = || plan.shape.listener.then(listener::messenger).transpose();
    let early = if last { None } else { messenger()? };
    process::leave_callers_cpus(&plan, &mut session.recorder);
    process::apply(&plan.process, &entered.proc)?;
    if plan.process.gives_stdio {
        crate::stdio::give_to(plan.process.user.uid, &mut session.recorder);
    }
    let has_terminal = terminal.is_some();
    terminal.map_or(Ok(()), terminal::Terminal::make_standard)?;
    let Entered { proc, output, pid_namespace } = entered;
    let own_pid = if plan.container.is_some() { proc.own_pid()? } else { 0 };
    // The image's files are looked at next, and the rights to guard it given up: no way to the host's procfs is left, not as
    // the working directory either, where mount(2) was called.
    rustix::process::chdir("/").context(|| "chdir to `/`")?;
    let (start, own_pid, messenger) = if last {
        namespaces::set_for_children(pid_namespace)?;
        let (start, own_pid) = be_born(session, &plan, proc, &output)?;
        (start, own_pid, messenger()?)
    } else {
        process::schedule(&plan.process)?;
        process::close_other_fds(plan.process.preserve_fds, &proc)?;
        drop(proc);
        (become_user(session, &plan, identity::for_filter(&plan))?, own_pid, early)
    };
    session.recorder.doing("user");
    identity::own_session(has_terminal)?;
    if last {
        process::schedule(&plan.process)?;
        capabilities::give_up_all_but(&plan.process.capabilities, identity::for_filter(&plan))?;
    }
    let start = start.named(&plan.process)?;
    // From here on the end of the socket, not of the parent process, is what ends a child nobody waits for.
    rustix::process::set_parent_process_death_signal(None).context(|| "clear the parent-death signal")?;
    session.say(Said::Ready)?;
    start::wait_and_execute(session, &plan, own_pid, start, Last { messenger, output })
}

/// Joins a container that runs, in which this process is already.
fn join(session: &mut ChildSession, plan: &ChildPlan, proc: &Proc) -> Result<Option<terminal::Terminal>> {
    let terminal = terminal::for_exec(session, &plan.process)?;
    if terminal.is_none() {
        stdio::replace_null_for_exec(session, proc)?;
    }
    Ok(terminal)
}

/// Takes the filter, and gives up what the payload is not to have.
fn become_user(session: &mut ChildSession, plan: &ChildPlan, extra: u64) -> Result<Start> {
    session.recorder.doing("user");
    let filter = plan.shape.filter.then(|| session.receive_filter()).transpose()?;
    identity::become_user(session, plan, filter, extra)
}

/// Goes on in the pid namespace that is entered last, with nothing left to do that takes the host's files, or rights that
/// others there could use.
fn be_born(session: &mut ChildSession, plan: &ChildPlan, proc: Proc, output: &Output) -> Result<(Start, i32)> {
    let kept: Vec<_> = output.fds().into_iter().chain([session.socket()]).collect();
    process::close_inherited(plan.process.preserve_fds, &kept, &proc)?;
    let threads = proc.own_threads()?;
    drop(proc);
    let start = become_user(session, plan, identity::for_birth(plan))?;
    session.recorder.doing("namespaces");
    let own_pid = namespaces::be_born(session, plan, threads)?;
    Ok((start, own_pid))
}

/// Builds the container around this process: mounts, devices, root, what the root hides.
fn build(
    session: &mut ChildSession,
    plan: &ChildPlan,
    container: &ContainerPlan,
    Entered { proc, output, pid_namespace }: &Entered,
) -> Result<Option<terminal::Terminal>> {
    let mut slots = Slots::default();
    session.recorder.doing("rootfs");
    let mut root = rootfs::attach(session, &mut slots, plan, container, proc)?;
    root.change_early(session, container)?;
    session.recorder.doing("mounts");
    let mut mounter = mounts::Mounter {
        session,
        slots: &mut slots,
        root: &root,
        proc,
        pid_namespace: pid_namespace.as_ref(),
        readonly: Readonly::default(),
        label: container.mount_label.as_deref(),
    };
    mounts::mount_all(&mut mounter, container)?;
    mounter.session.recorder.doing("devices");
    dev::populate(&mut mounter, container)?;
    mounter.session.recorder.doing("working directory");
    rootfs::make_working_directory(&mut mounter, &plan.process.cwd)?;
    mounter.close_readonly()?;
    // Before anybody else looks: a path that leads into the container would meet the stage on top of it.
    slots.take_stage().as_ref().map_or(Ok(()), enter::unmount_stage)?;
    if plan.shape.hooks {
        session.recorder.doing("hooks");
        let shown = root.show_host(session, &mut slots, container, proc)?;
        session.say(Said::RootfsReady)?;
        session.expect(Kind::HooksDone)?;
        run_create_container_hooks(container, proc, output)?;
        if shown {
            root.hide_host()?;
        }
    }
    session.recorder.doing("terminal");
    let terminal = terminal::for_container(session, &root, container, &plan.process, proc)?;
    session.recorder.doing("change root");
    root.change(session, container)?;
    if terminal.is_none() {
        stdio::replace_null(session, &root, container)?;
    }
    session.recorder.doing("paths");
    paths::set_names(container, proc)?;
    paths::hide(session, &root, container, proc)?;
    if container.seal_dev {
        dev::seal(session, &root, proc)?;
    }
    session.recorder.doing("rootfs");
    root.finish(session, container, proc)?;
    Ok(terminal)
}

fn run_create_container_hooks(container: &ContainerPlan, proc: &Proc, output: &Output) -> Result<()> {
    if container.create_container_hooks.is_empty() {
        return Ok(());
    }
    let state = crate::kernel::hooks::state_json(&container.state, "creating", proc.own_pid()?);
    let hooks = &container.create_container_hooks;
    crate::kernel::hooks::run("createContainer", hooks, &state, Some(&container.rootfs), output)
}

/// An error of the kernel about an object, in the words of this directory's files.
fn refused(call: &str, object: impl std::fmt::Display, errno: rustix::io::Errno) -> Error {
    Error::call(format!("{call} `{object}`"), errno)
}
