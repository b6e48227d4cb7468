//! What is done to a container that exists: start, kill, delete, pause, resume, look at.

use rustix::io::Errno;

use super::conversation::await_exec;
pub use super::delete::delete;
pub(crate) use super::delete::delete_within;
use super::delete::end;
use super::meanwhile::Meanwhile;
use super::members;
use super::notify::{self, Notify};
use super::oom;
use super::patience;
use super::receiver::Receiver;
use super::trace::TraceFile;
use crate::cgroup::{Cgroup, kill_each};
use crate::error::{Context, Error, Kind, Result};
use crate::hooks::Output;
use crate::plan::id::ContainerId;
use crate::plan::resources::Resources;
use crate::procfs::Proc;
use crate::protocol::ToChild;
use crate::protocol::channel::Channel;
use crate::protocol::event::{About, Recorder, Side};
use crate::protocol::journal;
use crate::protocol::sequence::Sequence;
use crate::protocol::session::ParentSession;
use crate::state::{ContainerDir, Record, StateRoot, Status};

/// A container, its record and its status.
#[derive(Debug)]
pub struct Container {
    /// Its ID.
    pub id: ContainerId,
    /// Its directory below the state root.
    pub dir: ContainerDir,
    /// What `create` wrote there.
    pub record: Record,
    /// As it was when it was opened; it may have changed since.
    pub status: Status,
}

impl Container {
    /// Looks at a container.
    ///
    /// # Errors
    /// [`Kind::NotFound`], or a state that can't be read.
    pub fn open(state: &StateRoot, id: &str) -> Result<Container> {
        let id = ContainerId::parse(id)?;
        let dir = state.open(&id)?;
        let mut record = dir.record(&id)?;
        let mut status = None;
        if !record.complete {
            match dir.is_locked()? {
                true => status = Some(Status::Creating),
                // Either `create` was killed, or it has ended since the record was read.
                false => record = dir.record(&id)?,
            }
        }
        let status = match status {
            Some(status) => status,
            None => dir.status(&record)?,
        };
        Ok(Container { id, dir, record, status })
    }

    /// The first process, 0 if it is gone.
    pub fn pid(&self) -> i32 {
        match self.status {
            Status::Stopped => 0,
            _ => self.record.process.map_or(0, |p| p.pid),
        }
    }

    fn cgroup(&self) -> Result<Option<Cgroup>> {
        self.record.cgroup.as_ref().filter(|c| !c.is_none()).map(Cgroup::open).transpose()
    }

    /// The processes, in ascending order; None where only the first one is known: the container has neither a cgroup nor a
    /// pid namespace of its own.
    ///
    /// # Errors
    /// A cgroup or a `/proc` that can't be read.
    pub fn pids(&self) -> Result<Option<Vec<i32>>> {
        match (self.cgroup()?, self.pid()) {
            (Some(cgroup), _) => cgroup.pids().map(Some),
            (None, 0) => Ok(Some(vec![])),
            (None, init) => members::of(init, self.dir.proc()),
        }
    }

    /// Freezes a running container.
    ///
    /// # Errors
    /// [`Kind::State`] for one that does not run; no freezer.
    pub fn pause(&self) -> Result<()> {
        match self.status {
            Status::Running | Status::Created => self.meanwhile(self.need_cgroup("pause")?.freeze()),
            Status::Paused => Err(self.refuse("is already paused")),
            _ => Err(not_running()),
        }
    }

    /// Thaws a paused container.
    ///
    /// # Errors
    /// [`Kind::State`] for one that is not paused.
    pub fn resume(&self) -> Result<()> {
        match self.status {
            Status::Paused => self.meanwhile(self.need_cgroup("resume")?.thaw()),
            Status::Stopped | Status::Creating => Err(not_running()),
            _ => Err(self.refuse("is not paused")),
        }
    }

    /// Changes limits.
    ///
    /// # Errors
    /// A limit or a line of resctrl's schemata that can't be set.
    pub fn update(&self, resources: &Resources, schemata: &[String]) -> Result<()> {
        // All that can be refused by a look is refused before anything is set.
        let rdt = match (schemata, &self.record.rdt) {
            ([], _) => None,
            (_, Some(rdt)) => Some(rdt),
            (_, None) => return Err(Error::new(Kind::State, "cannot update: the container has no resctrl group")),
        };
        match (rdt, resources.is_empty()) {
            (Some(_), true) => self.must_run()?,
            _ => self.meanwhile(self.running_cgroup("update")?.update(resources))?,
        }
        rdt.map_or(Ok(()), |rdt| rdt.update(schemata))
    }

    /// The cgroup of a container that is created, runs or is paused.
    ///
    /// # Errors
    /// [`Kind::State`] for another, and for one without a cgroup; `what` tells what it is for.
    pub fn running_cgroup(&self, what: &str) -> Result<Cgroup> {
        match self.status {
            Status::Stopped | Status::Creating => Err(not_running()),
            _ => self.need_cgroup(what),
        }
    }

    /// Asks anew whether it is created, runs or is paused.
    pub(super) fn must_run(&self) -> Result<()> {
        match self.dir.status(&self.record)? {
            Status::Created | Status::Running | Status::Paused if self.pid() > 0 => Ok(()),
            _ => Err(not_running()),
        }
    }

    fn need_cgroup(&self, what: &str) -> Result<Cgroup> {
        let without = || {
            let error = Error::new(Kind::State, format!("cannot {what}: the container has no cgroup"));
            match &self.record.cgroup {
                Some(record) => error.advise(record.layout.why_none()),
                None => {
                    error.advise("none was asked for, by tandem's --cgroup-manager=disabled, or none are mounted here")
                }
            }
        };
        self.cgroup()?.ok_or_else(without)
    }

    /// What another command may have done to the container since it was looked at.
    fn meanwhile(&self, result: Result<()>) -> Result<()> {
        let Container { id, dir, record, .. } = self;
        result.map_err(|error| Meanwhile { id, dir, record, starts: false }.explain(error))
    }

    fn refuse(&self, why: &str) -> Error {
        Error::new(Kind::State, format!("container `{}` {why}", self.id))
    }

    /// Sends a signal to the first process.
    ///
    /// # Errors
    /// [`Kind::State`] for a container that does not run, in words that engines match on.
    pub fn kill(&self, signal: i32) -> Result<()> {
        match (self.status, self.record.process) {
            (Status::Stopped, _) | (_, None) => Err(not_running()),
            (status, Some(process)) => {
                let since = journal::now();
                let killed = crate::sys::signal::kill(process.pid, signal)
                    .context(|| format!("kill {} with signal {signal}", process.pid));
                journal::ended("kill", since, &killed, || {
                    About::object(format!("pid {}", process.pid)).by(format!("signal {signal}"))
                });
                killed.map_err(|error| if error.errno() == Some(Errno::SRCH) { not_running() } else { error })?;
                // A frozen process dies of SIGKILL only once it is thawed.
                match (status, signal) {
                    (Status::Paused, libc::SIGKILL) => self.need_cgroup("thaw")?.thaw(),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Sends a signal to all processes; none is fine.
    ///
    /// # Errors
    /// A process that can't be signalled; [`Kind::State`] where only the first one is known.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        if let Some(cgroup) = self.cgroup()? {
            return cgroup.kill_all(signal);
        }
        if self.status == Status::Stopped {
            return Ok(());
        }
        if self.pids()?.is_none() {
            let message =
                "cannot signal all processes: the container has neither a cgroup nor a pid namespace of its own";
            return Err(Error::new(Kind::State, message).advise("`kill` without `--all` signals the first process"));
        }
        // It takes all others of its pid namespace with it.
        if signal == libc::SIGKILL {
            return self.kill(signal);
        }
        // The first process may have ended since it was seen; then so have all.
        let list = || match self.record.process.map_or(Ok(false), |init| init.is_alive(self.dir.proc()))? {
            true => self.pids().map(Option::unwrap_or_default),
            false => Ok(vec![]),
        };
        kill_each(list, signal, "the container's pid namespace")
    }
}

fn not_running() -> Error {
    Error::new(Kind::State, "container not running")
}

/// Starts a created container.
///
/// # Errors
/// [`Kind::State`] for a container in another state; whatever keeps the payload from being executed.
pub fn start(state: &StateRoot, id: &str, trace: &TraceFile) -> Result<()> {
    trace.traced("start", id, |recorder| start_traced(state, id, trace.is_on(), recorder))
}

fn start_traced(state: &StateRoot, id: &str, trace: bool, recorder: &mut Recorder) -> Result<()> {
    recorder.doing("look");
    let id = ContainerId::parse(id)?;
    let dir = state.open(&id)?;
    let lock = dir.lock()?;
    let record = dir.record(&id)?;
    match dir.status(&record)? {
        Status::Created => {}
        status => {
            let message = format!("cannot start container `{id}`: it is {}", status.name());
            return Err(Error::new(Kind::State, message));
        }
    }
    if record.without_process {
        let message = format!("cannot start container `{id}`: its configuration has no `process`");
        return Err(Error::new(Kind::State, message));
    }
    let notify = Notify::listen(notify::wanted()?, &dir)?;
    recorder.doing("call");
    let meanwhile = Meanwhile { id: &id, dir: &dir, record: &record, starts: true };
    execute(&meanwhile, trace, recorder, state.proc())?;
    drop(lock);
    recorder.doing("after the start");
    run_poststart(&record, state)?;
    match (notify, record.process) {
        (Some(notify), Some(process)) => notify.await_ready(process.pid),
        _ => Ok(()),
    }
}

fn execute(meanwhile: &Meanwhile<'_>, trace: bool, recorder: &mut Recorder, proc: &Proc) -> Result<()> {
    let Meanwhile { id, dir, record, .. } = meanwhile;
    let pid = record.process.map_or(0, |process| process.pid);
    // First: who has been called can't be called again.
    let receiver = Receiver::connect(record.listener.as_ref(), &record.state, "creating", pid);
    let receiver = receiver.context(|| format!("start container `{id}`"))?;
    let patience = patience::patience(record.start_hooks)?;
    let called = dir.call(patience);
    let called =
        called.map_err(|error| if error.errno() == Some(Errno::AGAIN) { ended(error, record, proc) } else { error });
    let before = oom::Before::of(record.cgroup.as_ref());
    let channel = Channel::from_socket(called.map_err(|error| meanwhile.explain(error))?).recorded("start")?;
    let sequence = Sequence::start(record.listener.is_some());
    let own = std::mem::replace(recorder, Recorder::new(Side::Parent, false));
    let mut session = ParentSession::parent(channel, sequence, own).patient(patience);
    let converse = || {
        let sent = session.send(ToChild::Start { trace }, &[]);
        let executed = sent.and_then(|()| await_exec(&mut session, receiver, pid, proc));
        let executed = executed.map_err(|error| match session.failure_came() {
            true => error,
            false => meanwhile.explain(before.explain(error, false, pid, proc)),
        });
        if let Err(error) = &executed
            && patience::is_stall(error)
        {
            return Err(ended(error.clone(), record, proc));
        }
        if executed.is_err() && record.listener.is_some() {
            // It has its filter by now, and nobody who answers its calls: it can't be started again.
            end(record, proc)?;
        }
        executed
    };
    let result = converse();
    std::mem::swap(recorder, &mut session.recorder);
    result.context(|| format!("start container `{id}`"))
}

/// Runs the poststart hooks. The container is stopped if one fails; runtime-spec 1.3, runtime.md, "Lifecycle", step 9.
///
/// # Errors
/// The hook that failed. Those after it do not run.
pub fn run_poststart(record: &Record, state_root: &StateRoot) -> Result<()> {
    if record.poststart.is_empty() {
        return Ok(());
    }
    let pid = record.process.map_or(0, |p| p.pid);
    let state = crate::hooks::state_json(&record.state, "running", pid);
    let output = Output::open(&record.hook_output);
    let run = |output| crate::hooks::run("poststart", &record.poststart, &state, Some(&record.state.bundle), &output);
    output.and_then(run).map_err(|error| error.and_undone(end(record, state_root.proc())))
}

/// The error of a created container that stalls, once it is killed.
fn ended(error: Error, record: &Record, proc: &Proc) -> Error {
    patience::advise(error).and_undone(end(record, proc))
}
