//! `create` and `run`: from a bundle to a container that waits for `start`, or runs.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::net::SocketAddrUnix;

use super::clean::Made;
use super::console::{self, Console};
use super::conversation::Conversation;
use super::foreground::Signals;
use super::image::Image;
use super::namespaces::{self, ForChildren};
use super::net_devices::Moved;
use super::notify::Notify;
use super::oom;
use super::patience;
use super::pidfd::PidfdSocket;
use super::receiver::Receiver;
use super::request::{Planned, Request};
use super::rlimits;
use super::spawn;
use super::stdio;
use super::trace::Stay;
use crate::cgroup::resctrl::RdtRecord;
use crate::cgroup::systemd::{Systemd, Wanted};
use crate::cgroup::{Cgroup, CgroupRecord, Hierarchies};
use crate::error::{Context, Kind, Result};
use crate::hooks::Output;
use crate::plan::host::Host;
use crate::plan::id::ContainerId;
use crate::plan::process::TerminalSize;
use crate::plan::{CgroupPlan, Plan};
use crate::procfs::Proc;
use crate::protocol::event::{About, Recorder};
use crate::protocol::sequence::Sequence;
use crate::protocol::session::ParentSession;
use crate::protocol::{Forks, ToChild};
use crate::state::{ContainerDir, ProcessId, Record, replace};

/// A container that was created.
#[derive(Debug)]
pub struct Created {
    /// Its ID, as it was asked for.
    pub id: ContainerId,
    /// Its first process, in the caller's pid namespace; a child of the caller.
    pub pid: i32,
    /// The terminal's master, for the caller to relay.
    pub master: Option<OwnedFd>,
    /// What the payload says of its readiness, for the caller to tell on.
    pub notify: Option<Notify>,
    /// Its directory below the state root.
    pub dir: ContainerDir,
    /// What was written there.
    pub record: Record,
    /// The trace, for who stays with the process until it ends ([`super::ending::told`]).
    pub trace: Option<Stay>,
}

/// Creates a container. On failure nothing is left of it.
///
/// # Errors
/// What is wrong with the request, the bundle, the host or the payload.
pub fn create(request: &Request<'_>) -> Result<Created> {
    create_and(request, |_| Ok(()))
}

/// Creates a container, and does something to it that is a part of the same command, and of its trace.
///
/// # Errors
/// As [`create`], and those of what is done to it. What that leaves is its own to undo.
pub fn create_and(request: &Request<'_>, then: impl FnOnce(&Created) -> Result<()>) -> Result<Created> {
    let (created, trace) = request.trace.traced_to_its_end(request.command(), request.id, |recorder| {
        let created = try_create(request, recorder)?;
        recorder.doing("after the start");
        then(&created)?;
        Ok(created)
    })?;
    Ok(Created { trace, ..created })
}

fn try_create(request: &Request<'_>, recorder: &mut Recorder) -> Result<Created> {
    // Everything that can be refused is refused here, before anything is made.
    recorder.doing("plan");
    let since = recorder.now();
    let planned = request.planned();
    recorder.failed("plan", since, &planned, || request.bundle.display().to_string());
    let Planned { mut plan, host, text, config, caller } = planned?;
    let proc = request.state.proc();
    let patience = patience::patience(patience::of_hooks(plan.child.container.as_deref()))?;
    let console = Console::choose(plan.child.shape.terminal, request.console_socket, request.detached)?;
    if let Some(size) = plan.child.process.terminal.as_mut().filter(|size| **size == TerminalSize::default()) {
        *size = console::own_size();
    }
    let receivers = [(request.pidfd_socket, "standard"), (plan.pidfd_receiver.as_deref(), "pidfd")];
    let connect = |(path, kind)| Ok(PidfdSocket::connect(path)?.map(|socket| (socket, kind)));
    let pidfd_sockets = receivers.into_iter().filter_map(|to| connect(to).transpose()).collect::<Result<_>>()?;
    let (cgroup_record, systemd) =
        plan.cgroup.as_ref().map_or(Ok((None, None)), |cgroup| place(cgroup, &host, proc)).map_err(|error| {
            // Who has the ID, and with it the cgroup, may have taken it since it was asked whether it is free.
            request.state.must_be_free(&plan.id).err().unwrap_or(error)
        })?;
    let from = |systemd: &Systemd| format!(", systemd at `{}`", systemd.address());
    let from = systemd.as_ref().map(from).unwrap_or_default();
    recorder
        .step("plan", since, || About::object(config.display().to_string()).with(format!("{}{from}", proc.describe())));
    recorder.step("strategy", recorder.now(), || plan.mount_strategy.about());
    request.trace.tell_environment(&plan.child.process.env, recorder);

    // From here on something is made, and undone on failure. The record of it comes first.
    recorder.doing("state");
    let dir = request.state.create(&plan.id)?;
    let _lock = dir.lock().map_err(|error| Made::new(&dir).undo(error))?;
    let record = record(&plan, cgroup_record);
    let made = Made::new(&dir);
    let mut making =
        Making { request, dir: &dir, record, console, pidfd_sockets, systemd, caller, patience, notify: None, made };
    match making.build(&mut plan, &host.cgroups, &text, recorder) {
        Ok((pid, master)) => {
            let (record, notify) = (making.record, making.notify);
            super::capabilities::tell_lacking(&plan.child.process.capabilities, plan.namespaces.has_user());
            Ok(Created { id: plan.id, pid, master, notify, dir, record, trace: None })
        }
        Err(error) => Err(making.made.undo(error)),
    }
}

/// What a `create` has in hand while it makes the container.
struct Making<'a> {
    request: &'a Request<'a>,
    dir: &'a ContainerDir,
    record: Record,
    console: Console,
    /// Each with the message beside the pidfd.
    pidfd_sockets: Vec<(PidfdSocket, &'static str)>,
    /// Who makes the cgroup, if it is not this process.
    systemd: Option<Systemd>,
    /// Who wants to be told when the service is ready.
    caller: Option<SocketAddrUnix>,
    /// How long the child may take for one message.
    patience: Option<Duration>,
    notify: Option<Notify>,
    made: Made<'a>,
}

impl Making<'_> {
    /// Makes everything, in the order of the steps. Returns the process and the terminal that is this process's to relay.
    fn build(
        &mut self,
        plan: &mut Plan,
        hierarchies: &Hierarchies,
        config: &[u8],
        recorder: &mut Recorder,
    ) -> Result<(i32, Option<OwnedFd>)> {
        self.dir.write_record(&self.record)?;
        self.dir.write_config(config)?;
        if self.caller.is_some() {
            self.dir.make_notify()?;
        }
        if self.request.start_at_once {
            self.notify = Notify::listen(self.caller.take(), self.dir)?;
        }
        let listener = if self.request.start_at_once { None } else { Some(self.dir.listen()?) };

        recorder.doing("cgroup");
        let mut cgroup = self.make_cgroup(plan, recorder)?;
        recorder.doing("resctrl");
        if let (Some(wanted), Some(record)) = (&plan.rdt, &self.record.rdt) {
            let since = recorder.now();
            self.made.made_rdt(record.make(wanted)?);
            recorder.step("resctrl", since, || record.describe());
        }
        recorder.doing("clone");
        let tasks = cgroup.as_ref().map(Cgroup::task_fds).transpose()?.unwrap_or_default();
        let proc = self.request.state.proc();
        let joined = namespaces::open(&plan.namespaces.join)?;
        let image = Image::sealed(proc, recorder)?;

        let moved = cgroup.as_ref().map_or(Ok(None), |cgroup| cgroup.why_moved(proc))?;
        let since = recorder.now();
        let for_children = ForChildren::set(&plan.namespaces, proc)?;
        let (mut child, channel) = spawn::start(&spawn::Start {
            image: &image,
            namespaces: plan.namespaces.at_clone,
            cgroup: cgroup.as_ref().filter(|_| moved.is_none()).and_then(Cgroup::into_fd),
            tasks: &tasks,
            gated: plan.maps_at_clone().is_some(),
            preserve_fds: plan.child.process.preserve_fds,
        })?;
        // Hooks are children too. Without any, an ordinary user, who may not go back, need not.
        if plan.hooks.in_runtime_namespace() {
            for_children.restore()?;
        }
        recorder.step("clone", since, || {
            let made = crate::plan::namespaces::names(plan.namespaces.at_clone);
            About::object(format!("pid {}", child.pid)).with(format!("namespaces: {made}"))
        });
        recorder.other_began();
        rlimits::make_room(&plan.child.process, plan.namespaces.has_user(), &mut child)?;
        if cgroup.as_ref().and_then(Cgroup::into_fd).is_some() {
            child.record_late_join(moved, recorder);
        }
        drop(tasks);
        // systemd makes a scope around a process that is there.
        recorder.doing("cgroup");
        let unit = self.make_unit(plan, hierarchies, child.pid, recorder);
        if let Some(unit) = unit.map_err(|error| child.explain_if_ended(error))? {
            cgroup = Some(unit);
        }
        // A container that could get no cgroup of its own stays in the runtime's.
        let made = self.record.cgroup.as_ref();
        plan.place_cgroups(|controller| match made.and_then(|record| record.v1(controller)) {
            Some(dir) => Some(dir.full_path().into()),
            None => hierarchies.own_dir(controller, proc),
        });
        plan.give_hooks_environment(crate::hooks::own_environment);
        let plan = &*plan;

        let recorded = channel.recorded(self.request.command())?;
        let own = std::mem::replace(recorder, Recorder::new(crate::protocol::event::Side::Parent, false));
        let session = ParentSession::parent(recorded, Sequence::new(plan.child.shape), own).patient(self.patience);
        let mut talk = Conversation::with(child, session, proc);
        let before = oom::Before::made(cgroup.as_ref().map(Cgroup::record));
        let result = self.converse(plan, cgroup.as_ref(), &joined, listener, &mut talk);
        let result = result.map_err(|error| talk.explain_by(&before, error));
        std::mem::swap(recorder, &mut talk.session.recorder);
        match result {
            Ok(master) => Ok((talk.child.release(), master)),
            Err(error) => {
                let pid = talk.child.pid;
                // The child is ended first: poststop hooks clean up after it.
                drop(talk);
                let error = error.and_undone(self.request.pid_file.map_or(Ok(()), |path| remove_pid_file(path, pid)));
                if plan.child.shape.hooks {
                    after_failure(plan);
                }
                Err(error)
            }
        }
    }

    /// The conversation with the child, from its plan to its release.
    fn converse(
        &mut self,
        plan: &Plan,
        cgroup: Option<&Cgroup>,
        joined: &[namespaces::Joined],
        listener: Option<OwnedFd>,
        talk: &mut Conversation<'_>,
    ) -> Result<Option<OwnedFd>> {
        talk.session.recorder.doing("cgroup");
        let late = |c: &&Cgroup| !talk.child.in_cgroup() && c.record().unit.is_none() && c.into_fd().is_some();
        if let Some(cgroup) = cgroup.filter(late) {
            cgroup.join(talk.child.pid)?;
        }
        if let Some(rdt) = &self.record.rdt {
            rdt.join(talk.child.pid)?;
        }
        talk.session.recorder.doing("namespaces");
        talk.open(&plan.child, joined, plan.maps_at_clone(), plan.id_maps.as_ref())?;
        let output = Output::open(&plan.hook_output)?;
        if plan.child.shape.hook_output.is_some() {
            let fds = output.fds();
            talk.session.send(ToChild::HookOutput { files: fds.len() }, &fds)?;
        }
        talk.session.recorder.doing("open sources");
        super::sources::stream(plan, talk)?;
        talk.session.recorder.doing("seccomp");
        let filter = talk.compile_filter(plan.filter.as_ref(), self.request.state.filter_cache())?;
        talk.session.recorder.doing("namespaces");
        talk.await_namespaces(&plan.child)?;
        let pid = talk.child.pid;
        // Only now: the container's cgroup namespace has the cgroup above as its root.
        if plan.child.shape.forks != Forks::Last {
            delegate(plan, cgroup, talk)?;
        }
        self.record.process = Some(ProcessId::of(pid, talk.proc)?);
        talk.session.recorder.doing("network devices");
        let moved = self.move_devices(plan, pid, talk)?;
        let state = crate::hooks::state_json(&self.record.state, "creating", pid);
        talk.session.recorder.doing("hooks");
        talk.run_hooks(&plan.child, &plan.hooks, &state, &plan.bundle, &output)?;
        talk.send_filter(filter)?;
        talk.session.recorder.doing("ready");
        let master = talk.await_ready(&plan.child, std::mem::replace(&mut self.console, Console::None))?;
        let pid = self.take_payload(plan, cgroup, talk)?;
        stdio::give(&plan.child.process, &stdio::Users::planned(plan, pid), talk.proc, &mut talk.session.recorder)?;
        self.pidfd_sockets.iter().try_for_each(|(socket, kind)| socket.send(pid, kind))?;
        talk.session.recorder.doing("release");
        self.record.complete = true;
        self.dir.write_record(&self.record)?;
        match listener {
            Some(listener) => {
                self.write_pid_file(pid)?;
                talk.session.send(ToChild::Release { wait_for_start: true }, &[listener.as_fd()])?;
            }
            None => {
                let record = &self.record;
                let receiver = Receiver::connect(record.listener.as_ref(), &record.state, "creating", pid)?;
                self.request.signals.map_or(Ok(()), Signals::hold_all)?;
                talk.session.send(ToChild::Release { wait_for_start: false }, &[])?;
                talk.await_exec(receiver)?;
                self.write_pid_file(pid)?;
            }
        }
        if let Some(moved) = moved {
            moved.let_go();
        }
        Ok(master)
    }

    /// What is done to the process that becomes the payload: another than before, where the pid namespace is entered last.
    fn take_payload(&mut self, plan: &Plan, cgroup: Option<&Cgroup>, talk: &mut Conversation<'_>) -> Result<i32> {
        let pid = talk.child.pid;
        if plan.child.shape.forks == Forks::Last {
            delegate(plan, cgroup, talk)?;
            self.record.process = Some(ProcessId::of(pid, talk.proc)?);
        }
        if let Some(score) = plan.child.process.oom_score_adj {
            talk.proc.write_pid(pid, "oom_score_adj", &score.to_string())?;
        }
        Ok(pid)
    }

    fn move_devices(&self, plan: &Plan, pid: i32, talk: &mut Conversation<'_>) -> Result<Option<Moved>> {
        if plan.net_devices.is_empty() {
            return Ok(None);
        }
        let since = talk.session.recorder.now();
        let moved = Moved::to(&plan.net_devices, pid, talk.proc)?;
        talk.session.recorder.step("network devices", since, || format!("{} moved", plan.net_devices.len()));
        Ok(Some(moved))
    }

    fn write_pid_file(&self, pid: i32) -> Result<()> {
        self.request.pid_file.map_or(Ok(()), |path| write_pid_file(path, pid))
    }

    fn make_cgroup(&mut self, plan: &Plan, recorder: &mut Recorder) -> Result<Option<Cgroup>> {
        let (Some(wanted), Some(place), None) = (&plan.cgroup, &self.record.cgroup, &self.systemd) else {
            return Ok(None);
        };
        let since = recorder.now();
        // One that fails has left nothing; the directory may be another container's, which has made it meanwhile.
        let cgroup = Cgroup::create(place, &wanted.resources, wanted.tolerance)?;
        self.made.made_cgroup(cgroup.record().clone());
        for note in cgroup.notes() {
            recorder.fallback("cgroup", || About::default().why(note.clone()));
        }
        let hierarchies = cgroup.record().dirs.len();
        recorder.step("cgroup", since, || {
            About::object(wanted.path.display().to_string())
                .by("mkdir, write")
                .with(format!("in {hierarchies} hierarchies"))
        });
        self.record.cgroup = Some(cgroup.record().clone());
        Ok(Some(cgroup))
    }

    fn make_unit(
        &mut self,
        plan: &Plan,
        hierarchies: &Hierarchies,
        pid: i32,
        recorder: &mut Recorder,
    ) -> Result<Option<Cgroup>> {
        let (Some(systemd), Some(cgroup), Some(mut place)) =
            (&mut self.systemd, &plan.cgroup, self.record.cgroup.clone())
        else {
            return Ok(None);
        };
        let Some(unit) = &cgroup.unit else { return Ok(None) };
        let since = recorder.now();
        let (resources, tolerance, owner) = (&cgroup.resources, cgroup.tolerance, cgroup.owner);
        let wanted = Wanted { plan: unit, resources, tolerance, owner };
        let made = Cgroup::create_unit(&mut place, systemd, &wanted, hierarchies, pid);
        // A unit that was there before is another's to stop.
        if !made.as_ref().is_err_and(|error| error.kind() == Kind::Exists) {
            self.made.made_cgroup(place);
        }
        let made = made?;
        for note in made.notes() {
            recorder.fallback("cgroup", || About::default().why(note.clone()));
        }
        let path = || made.record().dirs.last().map(|dir| dir.path.clone()).unwrap_or_default();
        recorder.step("cgroup", since, || {
            let job = systemd.job_time();
            About::object(unit.names.unit.clone()).by("systemd").with(format!("job {job:.1?}: `{}`", path()))
        });
        self.record.cgroup = Some(made.record().clone());
        // Where it is was not known before; a `create` that is killed from now on leaves that too.
        self.dir.write_record(&self.record)?;
        Ok(Some(made))
    }
}

/// Moves the child to the cgroup below the container's that it is to have for itself, where one is asked for.
fn delegate(plan: &Plan, cgroup: Option<&Cgroup>, talk: &mut Conversation<'_>) -> Result<()> {
    if let (Some(cgroup), Some(wanted)) = (cgroup, &plan.cgroup)
        && let Some(name) = &wanted.delegate
    {
        for note in cgroup.delegate(name, wanted.owner, talk.child.pid)? {
            talk.session.recorder.fallback("cgroup", || note);
        }
    }
    Ok(())
}

/// What will be made of control groups, and who makes them if not this process.
fn place(cgroup: &CgroupPlan, host: &Host, proc: &Proc) -> Result<(Option<CgroupRecord>, Option<Systemd>)> {
    let Some(unit) = &cgroup.unit else {
        let record = host.cgroups.record(&cgroup.path, proc).context(|| "plan the cgroup")?;
        return Ok((Some(record), None));
    };
    let mut systemd = Systemd::connect(host.is_machine_root(), proc)?;
    let record = systemd.record(unit, host.cgroups.layout())?;
    Ok((Some(record), Some(systemd)))
}

fn record(plan: &Plan, cgroup: Option<CgroupRecord>) -> Record {
    let state = plan.child.container.as_ref().map(|c| c.state.clone()).unwrap_or_default();
    Record {
        state,
        rootfs: plan.rootfs.clone(),
        created: humantime::format_rfc3339_nanos(SystemTime::now()).to_string(),
        process: None,
        complete: false,
        without_process: plan.child.process.args.is_empty(),
        start_hooks: patience::seconds(plan.hooks.start_container.iter()),
        cgroup,
        rdt: plan.rdt.as_ref().map(RdtRecord::of),
        namespaces: plan.namespaces.all(),
        listener: plan.filter.as_ref().and_then(|filter| filter.listener.clone()),
        hook_output: plan.hook_output.clone(),
        poststart: plan.hooks.poststart.clone(),
        poststop: plan.hooks.poststop.clone(),
    }
}

/// A failure after hooks have run: what they made is theirs to take back; runtime-spec, runtime.md, "Lifecycle".
fn after_failure(plan: &Plan) {
    let state = plan.child.container.as_ref().map(|c| crate::hooks::state_json(&c.state, "stopped", 0));
    crate::hooks::run_all(
        "poststop",
        &plan.hooks.poststop,
        &state.unwrap_or_default(),
        &plan.bundle,
        &plan.hook_output,
    );
}

/// Writes a pid file as engines read it: decimal, no newline, there at once or not at all.
///
/// # Errors
/// The directory can't be written.
pub fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    replace(path, pid.to_string().as_bytes()).context(|| format!("write the pid file `{}`", path.display()))
}

/// Removes the pid file of a process that is no more, and no other's.
///
/// # Errors
/// It can't be removed.
pub fn remove_pid_file(path: &Path, pid: i32) -> Result<()> {
    match std::fs::read_to_string(path) {
        Ok(text) if text == pid.to_string() => {
            std::fs::remove_file(path).context(|| format!("remove the pid file `{}`", path.display()))
        }
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).context(|| format!("read the pid file `{}`", path.display()))
        }
        _ => Ok(()),
    }
}
