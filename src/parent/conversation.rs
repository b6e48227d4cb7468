//! The parent's half of the conversation, for `create` and for `exec`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;

use super::console::Console;
use super::handover::Origin;
use super::namespaces::Joined;
use super::patience;
use super::receiver::{self, Receiver};
use super::spawn::Child;
use crate::error::{Context, Error, Kind as ErrorKind, Result};
use crate::hooks::Output;
use crate::plan::namespaces::IdMaps;
use crate::plan::seccomp::FilterPlan;
use crate::plan::{ChildPlan, hooks};
use crate::procfs::Proc;
use crate::protocol::session::ParentSession;
use crate::protocol::{Forks, Kind, ProtocolError, ToChild, ToParent};

/// Waits until a process has executed its payload. With a listener, execve(2) itself may wait for who has that, who may wait
/// for this command: then there is nothing more to wait for once it is handed over.
pub(super) fn await_exec(session: &mut ParentSession, receiver: Option<Receiver>, pid: i32, proc: &Proc) -> Result<()> {
    session.expect(Kind::Executing)?;
    session.recorder.doing("execve");
    let Some(receiver) = receiver else {
        let since = session.recorder.now();
        session.expect_end()?;
        return executed(session, since, pid, proc);
    };
    let (_, mut fds) = session.expect(Kind::Listener)?;
    let listener = fds.pop().ok_or_else(|| ProtocolError::Inconsistent("Listener without one".into()))?;
    receiver::check_listener(&listener, proc)?;
    let since = session.recorder.now();
    receiver.hand_over(&listener, pid)?;
    session.recorder.step("seccomp listener", since, || "handed over");
    drop(listener);
    match session.ends_within(PATIENCE)? {
        true => executed(session, since, pid, proc),
        false => {
            session.recorder.step("execve", since, || "waits for the listener's answer");
            Ok(())
        }
    }
}

/// The socket has ended: by execve(2), or with a process that got no further.
fn executed(session: &mut ParentSession, since: u64, pid: i32, proc: &Proc) -> Result<()> {
    crate::state::must_be_executed(pid, proc)?;
    session.recorder.step("execve", since, || "seen by the end of the socket");
    Ok(())
}

/// How long an execve(2) that may wait for a listener's answer is waited for.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(200);

/// A child and the socket to it.
pub(super) struct Conversation<'a> {
    pub(super) session: ParentSession,
    pub(super) child: Child,
    pub(super) proc: &'a Proc,
    /// The child has entered its namespaces.
    namespaces_ready: bool,
    /// Of a child that will hand over to another process.
    origin: Option<Origin>,
}

impl<'a> Conversation<'a> {
    /// With a child that was just started.
    pub(super) fn with(child: Child, session: ParentSession, proc: &'a Proc) -> Conversation<'a> {
        Conversation { session, child, proc, namespaces_ready: false, origin: None }
    }

    /// The plan, the namespaces to join, the id maps; then the child may begin.
    pub(super) fn open(
        &mut self,
        plan: &ChildPlan,
        joined: &[Joined],
        gated: Option<&IdMaps>,
        late: Option<&IdMaps>,
    ) -> Result<()> {
        if let Some(maps) = gated {
            self.write_id_maps(maps)?;
            self.child.go()?;
        }
        if plan.shape.forks != Forks::Never {
            // Before it has the plan it can't be gone, unless it failed.
            self.origin = Some(Origin::of(self.child.pid, plan, joined, self.proc)?);
        }
        self.session.send_plan(plan)?;
        if plan.shape.joins {
            let flags = joined.iter().map(|j| j.flags).collect();
            let fds: Vec<BorrowedFd<'_>> = joined.iter().map(|j| j.fd.as_fd()).collect();
            self.session.send(ToChild::Namespaces { flags }, &fds)?;
        }
        if plan.shape.late_userns {
            self.session.expect(Kind::UsernsCreated)?;
            self.origin.as_mut().map_or(Ok(()), |origin| origin.made_userns(self.proc))?;
            if let Some(maps) = late {
                self.write_id_maps(maps)?;
            }
        }
        self.session.send(ToChild::Begin, &[self.proc.as_fd()])
    }

    fn write_id_maps(&mut self, maps: &IdMaps) -> Result<()> {
        let since = self.session.recorder.now();
        let written = super::idmap::write(self.child.pid, maps, self.proc).context(|| "map ids of the user namespace");
        self.session.recorder.failed("id maps", since, &written, String::new);
        written?;
        self.session
            .recorder
            .step("id maps", since, || format!("{} lines of users, {} of groups", maps.uid.len(), maps.gid.len()));
        Ok(())
    }

    /// Compiles the filter, while the child is at its mounts.
    pub(super) fn compile_filter(
        &mut self,
        filter: Option<&FilterPlan>,
        cache: Option<&Path>,
    ) -> Result<Option<Vec<u8>>> {
        let Some(filter) = filter else { return Ok(None) };
        let since = self.session.recorder.now();
        let compiled = super::filter::program(filter, cache)?;
        let instructions = compiled.program.len() / crate::sys::seccomp::INSTRUCTION_SIZE;
        self.session.recorder.step("seccomp", since, || format!("{instructions} instructions, {}", compiled.how));
        Ok(Some(compiled.program))
    }

    /// Sends the compiled filter.
    pub(super) fn send_filter(&mut self, program: Option<Vec<u8>>) -> Result<()> {
        program.map_or(Ok(()), |program| self.session.send_filter(&program))
    }

    /// Waits until the namespaces are entered, if they are not yet: all but a pid namespace that is entered last.
    pub(super) fn await_namespaces(&mut self, plan: &ChildPlan) -> Result<()> {
        if self.namespaces_ready {
            return Ok(());
        }
        if plan.shape.forks == Forks::First {
            self.await_other()?;
        }
        self.session.expect(Kind::NamespacesReady)?;
        self.namespaces_ready = true;
        Ok(())
    }

    /// Waits for the process that the child hands over to: from then on that one speaks, and will be the payload.
    fn await_other(&mut self) -> Result<()> {
        let (message, _) = self.session.expect(Kind::Forked)?;
        let ToParent::Forked { pid } = message else {
            return Err(Error::system("Forked names no process"));
        };
        let origin = self.origin.as_ref().ok_or_else(|| Error::system("the child handed over before it began"))?;
        origin.check(pid, self.proc)?;
        self.child.handed_over(pid)
    }

    /// Runs the hooks of the runtime namespace between the container's mounts and its pivot.
    pub(super) fn run_hooks(
        &mut self,
        plan: &ChildPlan,
        hooks: &hooks::Hooks,
        state: &str,
        bundle: &Path,
        output: &Output,
    ) -> Result<()> {
        if !plan.shape.hooks {
            return Ok(());
        }
        self.session.expect(Kind::RootfsReady)?;
        for (kind, list) in [("prestart", &hooks.prestart), ("createRuntime", &hooks.create_runtime)] {
            crate::hooks::run(kind, list, state, Some(bundle), output)?;
        }
        self.session.send(ToChild::HooksDone, &[])
    }

    /// Takes the terminal, if there is one, and waits until everything is set up, and the process that speaks is the
    /// payload's. The master is returned if the relay is this process's.
    pub(super) fn await_ready(&mut self, plan: &ChildPlan, console: Console) -> Result<Option<OwnedFd>> {
        let mut master = None;
        if plan.shape.terminal {
            let (_, fds) = self.session.expect(Kind::Console)?;
            for fd in fds.into_iter().take(1) {
                master = Some(fd);
            }
        }
        let master = match master {
            Some(fd) => console.take(fd)?,
            None => None,
        };
        if plan.shape.forks == Forks::Last {
            self.await_other()?;
        }
        self.session.expect(Kind::Ready)?;
        Ok(master)
    }

    /// Waits until the payload is executed, and hands the listener of its filter on.
    pub(super) fn await_exec(&mut self, receiver: Option<Receiver>) -> Result<()> {
        await_exec(&mut self.session, receiver, self.child.pid, self.proc)
    }

    /// The best account of a failure, the memory that the child's cgroup had among them.
    pub(super) fn explain_by(&mut self, memory: &super::oom::Before<'_>, error: Error) -> Error {
        let error = self.explain(error);
        memory.explain(error, self.session.failure_came(), self.child.pid, self.proc)
    }

    /// The best account of a failure: what the child said, if it said anything, else how it ended.
    fn explain(&mut self, error: Error) -> Error {
        if patience::is_stall(&error) {
            // It is when this conversation is dropped, before anybody reads the error.
            return patience::advise(error);
        }
        let cut_off =
            matches!(error.errno(), Some(Errno::PIPE | Errno::CONNRESET)) || error.kind() == ErrorKind::PeerGone;
        // Its files in procfs go when it does.
        let not_found = || matches!(error.errno(), Some(Errno::NOENT | Errno::SRCH));
        // Only where the child is gone: one that spoke nonsense is alive, and killed when it is dropped.
        if cut_off || (not_found() && crate::state::is_gone(self.child.pid, self.proc)) {
            // If it died while we wrote, its last words are still in the socket.
            return self.session.last_words().unwrap_or_else(|| self.child.explain_end(error));
        }
        error
    }
}
