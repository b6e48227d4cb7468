//! The last steps: wait for the parent, wait for `start`, load the filter, execute the payload.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::kernel::rustix::fs::Access;
use crate::kernel::rustix::io::Errno;
use crate::kernel::rustix::net::SocketFlags;
use crate::kernel::{nix, rustix};

use super::ChildSession;
use super::identity::Start;
use super::listener::{self, Messenger};
use crate::error::{Context, Error, Result, in_lower_case};
use crate::hooks::Output;
use crate::kernel::sys;
use crate::plan::ChildPlan;
use crate::protocol::channel::Channel;
use crate::protocol::event::{Recorder, Side};
use crate::protocol::sequence::Sequence;
use crate::protocol::{Kind, ProtocolError, Said, ToChild};
use crate::selinux;

/// What the last steps need that was had earlier.
pub(super) struct Last {
    /// For a filter that notifies.
    pub(super) messenger: Option<Messenger>,
    /// What startContainer hooks write to.
    pub(super) output: Output,
}

/// Waits until the payload may run, then becomes it. Returns only on failure.
pub(super) fn wait_and_execute(
    session: &mut ChildSession,
    plan: &ChildPlan,
    own_pid: i32,
    start: Start,
    last: Last,
) -> Result<Infallible> {
    session.recorder.doing("release");
    let (message, mut fds) = session.expect(Kind::Release)?;
    match (message, fds.pop()) {
        (ToChild::Release { wait_for_start: true }, Some(listener)) => {
            let mut caller = wait_for_start(listener, plan)?;
            let result = execute(&mut caller, plan, own_pid, start, last);
            if let Err(error) = &result {
                caller.fail(error.clone());
            }
            result
        }
        (ToChild::Release { wait_for_start: false }, None) => execute(session, plan, own_pid, start, last),
        _ => Err(ProtocolError::Inconsistent("Release without the socket it announces".into()).into()),
    }
}

/// Waits for `start` to call. A caller that hangs up before it has spoken is not one.
fn wait_for_start(listener: OwnedFd, plan: &ChildPlan) -> Result<ChildSession> {
    loop {
        let socket = rustix::io::retry_on_intr(|| rustix::net::accept_with(&listener, SocketFlags::CLOEXEC))
            .context(|| "accept the call of `start`")?;
        let channel = Channel::from_socket(socket);
        let mut caller =
            ChildSession::child(channel, Sequence::start(plan.shape.listener), Recorder::new(Side::Child, false));
        if let Ok((ToChild::Start { trace }, _)) = caller.expect(Kind::Start) {
            if trace {
                caller.recorder.turn_on(plan.namespaces.ahead_us());
            }
            return Ok(caller);
        }
    }
}

/// An engine that was sent the terminal sets its size about when it calls `start`, and a payload that asks first would
/// see none. Slower runtimes never notice; this one waits for it, a little: nobody may be there to set any.
fn await_terminal_size(session: &mut ChildSession, plan: &ChildPlan) {
    const PATIENCE: Duration = Duration::from_millis(25);
    if plan.process.terminal.is_none() {
        return;
    }
    let since = session.recorder.now();
    let deadline = Instant::now() + PATIENCE;
    let size = || rustix::termios::tcgetwinsize(rustix::stdio::stdin()).map_or((0, 0), |w| (w.ws_row, w.ws_col));
    while size() == (0, 0) && Instant::now() < deadline {
        crate::kernel::thread::sleep(Duration::from_millis(1));
    }
    session.recorder.step("terminal size", since, || {
        let (rows, columns) = size();
        format!("{rows} rows, {columns} columns")
    });
}

fn execute(session: &mut ChildSession, plan: &ChildPlan, own_pid: i32, start: Start, last: Last) -> Result<Infallible> {
    session.recorder.doing("hooks");
    if let Some(container) = plan.container.as_ref().filter(|c| !c.start_container_hooks.is_empty()) {
        let state = crate::kernel::hooks::state_json(&container.state, "created", own_pid);
        // Their program is the container's: they have the payload's environment where they have none of their own.
        let env = || start.env.iter().map(|entry| entry.to_string_lossy().into_owned()).collect();
        let hooks: Vec<_> = container.start_container_hooks.iter().map(|hook| hook.or_env(env)).collect();
        crate::kernel::hooks::run("startContainer", &hooks, &state, Some(Path::new("/")), &last.output)?;
    }
    session.recorder.doing("execve");
    await_terminal_size(session, plan);
    sys::exec::reset_signals();
    session.say(Said::Executing)?;
    // The filter comes last of all, so that it need allow nothing but execve.
    session.recorder.doing("seccomp filter");
    match (&start.filter, last.messenger) {
        (Some(program), Some(messenger)) => listener::load(session, messenger, program, plan.filter_flags)?,
        (Some(program), None) => {
            sys::seccomp::load(program, plan.filter_flags).context(|| "load the seccomp filter")?;
        }
        (None, _) => {}
    }
    session.recorder.doing("execve");
    match nix::unistd::execve(&start.program, &start.args, &start.env) {
        Ok(never) => match never {},
        Err(errno) => {
            let program = start.program.to_string_lossy();
            let errno = Errno::from_raw_os_error(errno as i32);
            let error = match errno.raw_os_error() {
                0 => Error::system(format!("execve `{program}` has ended without an error, and executed nothing")),
                _ => Error::call(format!("execve `{program}`: {}", in_lower_case(errno)), errno),
            };
            let of_filter = start.filter.as_deref().and_then(crate::classic_bpf::of_execve);
            if let Some(why) = of_filter {
                return Err(error.advise(why));
            }
            Err(match errno {
                // Not under a filter, which may end a process that looks.
                Errno::NOENT if start.filter.is_some() => {
                    error.advise("if the file is there, its interpreter or loader is not")
                }
                Errno::NOENT if rustix::fs::access(&*start.program, Access::EXISTS).is_ok() => {
                    error.advise("the file is there; its interpreter or loader is not")
                }
                Errno::ACCESS | Errno::PERM if plan.process.selinux.is_some() => {
                    let label = plan.process.selinux.as_deref().unwrap_or_default();
                    error.advise(selinux::of_transition(label, plan.process.no_new_privileges))
                }
                Errno::NOEXEC => error.advise("it has no `#!` line, or is built for another architecture"),
                _ => error,
            })
        }
    }
}
