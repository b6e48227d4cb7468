//! `exec`: a further process in a running container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::{Capability, Process};
use rustix::io::Errno;

use super::affinity;
use super::console::{self, Console};
use super::conversation::Conversation;
use super::create::write_pid_file;
use super::foreground::Signals;
use super::image::Image;
use super::lifecycle::Container;
use super::meanwhile::Meanwhile;
use super::namespaces;
use super::oom;
use super::patience;
use super::pidfd::PidfdSocket;
use super::receiver::Receiver;
use super::request::listen_fds;
use super::rlimits;
use super::spawn;
use super::stdio;
use super::trace::{Stay, TraceFile};
use super::users::Users;
use crate::cgroup::resctrl::RdtRecord;
use crate::cgroup::{Cgroup, CgroupRecord, SubCgroup};
use crate::error::{Context, Error, Kind, Result};
use crate::plan::annotations::Annotations;
use crate::plan::host::Host;
use crate::plan::load;
use crate::plan::memory_policy;
use crate::plan::namespaces::flag;
use crate::plan::process::{Extras, TerminalSize};
use crate::plan::properties::personality;
use crate::plan::seccomp::FilterPlan;
use crate::plan::time_offsets::TimeOffsets;
use crate::plan::{CgroupManager, ChildPlan, Choices};
use crate::procfs::Proc;
use crate::protocol::channel::Channel;
use crate::protocol::event::{About, Recorder, Side};
use crate::protocol::sequence::Sequence;
use crate::protocol::session::ParentSession;
use crate::protocol::{Forks, ToChild};
use crate::state::{ProcessId, Record, StateRoot, Status};

/// What to execute, and how.
pub struct Request<'a> {
    /// The running container.
    pub id: &'a str,
    /// Where its state is.
    pub state: &'a StateRoot,
    /// Makes the process from the container's own, in which users can be looked up.
    pub process: &'a dyn Fn(&Process, &Users<'_>) -> Result<Process>,
    /// Sub-cgroups of the container's for it; none for the container's own.
    pub cgroups: &'a [SubCgroup],
    /// Gets the pid, in the caller's pid namespace: decimal, without a newline.
    pub pid_file: Option<&'a Path>,
    /// A listening unix socket that gets the terminal's master (SCM_RIGHTS); needs `process.terminal`.
    pub console_socket: Option<&'a Path>,
    /// Where to send a pidfd of the process.
    pub pidfd_socket: Option<&'a Path>,
    /// The process keeps the caller's session keyring; else it joins the container's (keyctl(2)).
    pub no_new_keyring: bool,
    /// How many fds from 3 on stay open in the payload.
    pub preserve_fds: u32,
    /// The caller does not stay to relay a terminal.
    pub detached: bool,
    /// Execute in a paused container too: the process runs once it is resumed.
    pub ignore_paused: bool,
    /// Held completely before the payload may run: from then on they are its.
    pub signals: Option<&'a Signals>,
    /// Where events go.
    pub trace: &'a TraceFile,
}

/// A process that was started.
#[derive(Debug)]
pub struct Executed {
    /// In the caller's pid namespace; a child of the caller.
    pub pid: i32,
    /// The terminal's master, for the caller to relay.
    pub master: Option<OwnedFd>,
    /// The control groups of the container.
    pub cgroup: Option<CgroupRecord>,
    /// The trace, for who stays with the process until it ends ([`super::ending::told`]).
    pub trace: Option<Stay>,
}

/// Starts a process in a container. On failure nothing is left of it.
///
/// # Errors
/// A container that does not run, or what is wrong with the process.
pub fn exec(request: &Request<'_>) -> Result<Executed> {
    let traced = request.trace.traced_to_its_end("exec", request.id, |recorder| try_exec(request, recorder));
    traced.map(|(executed, trace)| Executed { trace, ..executed })
}

fn try_exec(request: &Request<'_>, recorder: &mut Recorder) -> Result<Executed> {
    recorder.doing("plan");
    let since = recorder.now();
    let container = Container::open(request.state, request.id)?;
    let first = running(container.status, request.ignore_paused, &container.record)?;
    let Container { id, dir, record, .. } = &container;
    let meanwhile = Meanwhile { id, dir, record, starts: false };
    let mut said = false;
    let executed = exec_in(request, &container, (first, since), recorder, &mut said);
    // What the child says is what keeps the payload from being executed, unless it says that the container is not there.
    let gone = |error: &Error| matches!(error.errno(), Some(Errno::SRCH | Errno::NODEV | Errno::NOMEM));
    executed.map_err(|error| if said && !gone(&error) { error } else { meanwhile.explain(error) })
}

/// `said`: whether the child has said why it fails.
fn exec_in(
    request: &Request<'_>,
    container: &Container,
    (first, since): (ProcessId, u64),
    recorder: &mut Recorder,
    said: &mut bool,
) -> Result<Executed> {
    let Container { id, dir, record, .. } = container;
    let init = first.pid;
    let spec = dir.read_config()?;
    let proc = request.state.proc();
    let mut host = Host::look(&spec, proc)?;
    let default = spec.process().clone().unwrap_or_else(load::no_process);
    let mut process = (request.process)(&default, &Users::of(init, proc))?;
    if process.exec_cpu_affinity().is_none() {
        process.set_exec_cpu_affinity(default.exec_cpu_affinity().clone());
    }
    inherit_labels(&mut process, &default);
    host.look_for_labels(&process, proc);
    let annotations = Annotations::from_spec(spec.annotations().as_ref())?;
    let filter = spec.linux().as_ref().and_then(|l| l.seccomp().as_ref());
    let filter = FilterPlan::choose(filter, &annotations, host.seccomp_receiver.as_deref())?;
    let keyring = format!("_ses.{id}");
    let extras = Extras {
        preserve_fds: request.preserve_fds,
        listen_fds: listen_fds(),
        keyring: (!request.no_new_keyring).then_some(&keyring),
    };
    let cgroups = CgroupManager::default();
    // Another user, or groups that were named, are not the runtime's own.
    let keep_groups = annotations.keep_original_groups && process.user() == default.user();
    let trace = request.trace.is_on();
    let choices = Choices { no_pivot: false, cgroups, tolerance: None, trace, notify: None, extras };
    let mut plan = ChildPlan::exec(&process, filter.as_ref(), keep_groups, &host, choices)?;
    plan.process.memory_policy = spec.linux().as_ref().map(memory_policy::from_spec).transpose()?.flatten();
    plan.process.personality = spec.linux().as_ref().map(personality).transpose()?.flatten();
    let patience = patience::patience(0)?;
    let console = Console::choose(plan.shape.terminal, request.console_socket, request.detached)?;
    let pidfd_socket = PidfdSocket::connect(request.pidfd_socket)?;
    let listener = filter.as_ref().and_then(|filter| filter.listener.as_ref());
    let receiver = Receiver::connect(listener, &record.state, "running", init)?;
    if let Some(size) = plan.process.terminal.as_mut().filter(|size| **size == TerminalSize::default()) {
        *size = console::own_size();
    }
    recorder.step("plan", since, || format!("in the namespaces of pid {init}"));
    request.trace.tell_environment(&plan.process.env, recorder);

    recorder.doing("cgroup");
    let cgroup = record.cgroup.as_ref().filter(|c| !c.is_none()).map(Cgroup::open).transpose()?;
    let cgroup = match (cgroup, request.cgroups) {
        (cgroup, []) => cgroup,
        (Some(cgroup), wanted) => Some(cgroup.within(wanted)?),
        (None, _) => return Err(Error::new(Kind::Usage, "--cgroup: the container has no cgroup")),
    };
    let place = Place::of(cgroup.as_ref())?;
    recorder.doing("clone");
    let image = Image::sealed(proc, recorder)?;
    let since = recorder.now();
    let mut joined = namespaces::of_process(&first, record.namespaces, proc)?;
    plan.shape.forks = match record.namespaces & flag::PID {
        0 => Forks::Never,
        _ if may_look(&[&default, &process], record) => Forks::Last,
        // Before it joins, an ordinary user has no right to.
        _ if namespaces::set_pid_of(&mut joined)? => Forks::Never,
        _ => Forks::First,
    };
    plan.namespaces.forks = plan.shape.forks;
    plan.shape.joins = !joined.is_empty();
    if trace && record.namespaces & flag::TIME != 0 {
        // For the clock of the child's events alone: without it their times are wrong, and no exec is worth less for that.
        let offsets = proc.read(&format!("{init}/timens_offsets")).ok();
        plan.namespaces.time_offsets = offsets.map(|text| TimeOffsets::of_process(&text));
    }
    let start = spawn::Start {
        image: &image,
        namespaces: 0,
        cgroup: place.unified.as_ref().map(AsFd::as_fd),
        tasks: &place.tasks,
        gated: false,
        preserve_fds: plan.process.preserve_fds,
    };
    // What was asked for by name is that or a failure.
    let beside = request.cgroups.is_empty().then_some(init);
    let before = oom::Before::of(cgroup.as_ref().map(Cgroup::record));
    let (mut child, channel) =
        spawn_in(&start, &plan.process.affinity.initial, cgroup.as_ref(), beside, proc, recorder)?;
    recorder.step("clone", since, || About::object(format!("pid {}", child.pid)));
    recorder.other_began();
    let own_users = record.namespaces & flag::USER != 0;
    rlimits::make_room(&plan.process, own_users, &mut child)?;

    let channel = channel.recorded("exec")?;
    let own = std::mem::replace(recorder, Recorder::new(Side::Parent, false));
    let session = ParentSession::parent(channel, Sequence::new(plan.shape), own).patient(patience);
    let mut talk = Conversation::with(child, session, proc);
    let with = With {
        joined: &joined,
        filter: filter.as_ref(),
        cgroup: cgroup.as_ref(),
        rdt: record.rdt.as_ref(),
        users: if own_users { stdio::Users::Of(init) } else { stdio::Users::Own },
        beside,
        receiver,
        pidfd_socket,
    };
    let result = converse(request, &plan, with, console, &mut talk);
    let result = result.map_err(|error| talk.explain_by(&before, error));
    *said = talk.session.failure_came();
    std::mem::swap(recorder, &mut talk.session.recorder);
    if result.is_ok() {
        super::capabilities::tell_lacking(&plan.process.capabilities, own_users);
    }
    let cgroup = cgroup.map(|cgroup| cgroup.record().clone());
    result.map(|master| Executed { pid: talk.child.release(), master, cgroup, trace: None })
}

/// What confines the container confines each process in it, unless it is to be confined by something else.
fn inherit_labels(process: &mut Process, default: &Process) {
    if process.selinux_label().as_deref().is_none_or(str::is_empty) {
        process.set_selinux_label(default.selinux_label().clone());
    }
    if process.apparmor_profile().as_deref().is_none_or(str::is_empty) {
        process.set_apparmor_profile(default.apparmor_profile().clone());
    }
}

/// Whether somebody in the container may have the right to look at whatever a process of the runtime's holds, ptrace(2). In a user
/// namespace of its own nobody has: the process was executed outside of it, and is not dumpable. To be born last takes a second
/// place below the limit of processes for a moment, so it is not done for each.
fn may_look(processes: &[&Process], record: &Record) -> bool {
    let capabilities = processes.iter().filter_map(|process| process.capabilities().as_ref());
    let mut bounding = capabilities.filter_map(|sets| sets.bounding().as_ref());
    record.namespaces & flag::USER == 0 && bounding.any(|set| set.contains(&Capability::SysPtrace))
}

/// Only a running container has namespaces to join. The words are those that engines match on.
fn running(status: Status, ignore_paused: bool, record: &Record) -> Result<ProcessId> {
    let refuse = |why: &str| Err(Error::new(Kind::State, why.to_owned()));
    match (status, &record.process) {
        (Status::Paused, Some(process)) if ignore_paused => Ok(*process),
        (Status::Paused, _) => {
            refuse("cannot exec in a paused container (resume it first; `tandem exec --ignore-paused` does without)")
        }
        (Status::Created | Status::Running, Some(process)) => Ok(*process),
        _ => refuse("container not running"),
    }
}

/// The control groups that the process is born in.
#[derive(Default)]
struct Place {
    unified: Option<OwnedFd>,
    tasks: Vec<OwnedFd>,
}

impl Place {
    fn of(cgroup: Option<&Cgroup>) -> Result<Place> {
        let Some(cgroup) = cgroup else {
            return Ok(Place::default());
        };
        let unified = cgroup.into_fd().map(|fd| fd.try_clone_to_owned()).transpose();
        Ok(Place { unified: unified.context(|| "duplicate the cgroup's fd")?, tasks: cgroup.task_fds()? })
    }
}

/// What the trace says of a container whose own cgroup holds no processes any more, as a systemd in it arranges.
const BESIDE: &str = "EBUSY: in the cgroup of the container's first process";

/// Starts the child in the container's cgroup, beside its first process if it may be there, or where it is to be moved from:
/// see [`join`].
fn spawn_in(
    start: &spawn::Start<'_>,
    initial: &[u32],
    cgroup: Option<&Cgroup>,
    beside: Option<i32>,
    proc: &Proc,
    recorder: &mut Recorder,
) -> Result<(spawn::Child, Channel)> {
    // No longer than that: where this process may run now is asked below, to be compared with the cpuset.
    let spawn = |start: &spawn::Start<'_>| {
        let _initial = affinity::Initial::set(initial)?;
        spawn::start(start)
    };
    let Some(cgroup) = cgroup.filter(|cgroup| cgroup.into_fd().is_some()) else { return spawn(start) };
    let in_none = spawn::Start { cgroup: None, ..*start };
    let mut moved = cgroup.why_moved(proc)?;
    let started = match moved {
        Some(_) => spawn(&in_none),
        None => match (spawn(start), beside) {
            (Err(e), Some(init)) if e.errno() == Some(Errno::BUSY) => {
                recorder.fallback("cgroup", || About::default().why(BESIDE));
                let beside = cgroup.beside(init, proc)?;
                moved = beside.why_moved(proc)?;
                spawn(&spawn::Start { cgroup: beside.into_fd().filter(|_| moved.is_none()), ..*start })
            }
            // An ordinary user may move no process out of a session's cgroup; systemd may, and does it for them.
            (Err(e), _) if cgroup.record().unit.is_some() && e.errno() == Some(Errno::ACCESS) => {
                moved = Some("EACCES: moved in by systemd".into());
                spawn(&in_none)
            }
            (started, _) => started,
        },
    };
    let (child, channel) = started?;
    child.record_late_join(moved, recorder);
    Ok((child, channel))
}

/// Moves the child to where it could not be born.
fn join(cgroup: &Cgroup, beside: Option<i32>, talk: &mut Conversation<'_>) -> Result<()> {
    let pid = talk.child.pid;
    let move_in = |cgroup: &Cgroup| match cgroup.join(pid) {
        Err(e) if cgroup.record().unit.is_some() && e.errno() == Some(Errno::ACCESS) => cgroup.join_by_systemd(pid),
        joined => joined,
    };
    match (move_in(cgroup), beside) {
        (Err(e), Some(init)) if e.errno() == Some(Errno::BUSY) => {
            talk.session.recorder.fallback("cgroup", || About::default().why(BESIDE));
            move_in(&cgroup.beside(init, talk.proc)?)
        }
        (joined, _) => joined,
    }
}

/// What the conversation needs beside the plan.
struct With<'a> {
    joined: &'a [namespaces::Joined],
    filter: Option<&'a FilterPlan>,
    cgroup: Option<&'a Cgroup>,
    rdt: Option<&'a RdtRecord>,
    users: stdio::Users<'a>,
    /// The container's first process, if it may be joined in its cgroup.
    beside: Option<i32>,
    receiver: Option<Receiver>,
    pidfd_socket: Option<PidfdSocket>,
}

fn converse(
    request: &Request<'_>,
    plan: &ChildPlan,
    with: With<'_>,
    console: Console,
    talk: &mut Conversation<'_>,
) -> Result<Option<OwnedFd>> {
    let With { joined, filter, cgroup, rdt, users, beside, receiver, pidfd_socket } = with;
    talk.session.recorder.doing("cgroup");
    if let Some(cgroup) = cgroup.filter(|c| !talk.child.in_cgroup() && c.into_fd().is_some()) {
        join(cgroup, beside, talk)?;
    }
    rdt.map_or(Ok(()), |rdt| rdt.join(talk.child.pid))?;
    talk.session.recorder.doing("namespaces");
    talk.open(plan, joined, None, None)?;
    talk.session.recorder.doing("seccomp");
    let filter = talk.compile_filter(filter, request.state.filter_cache())?;
    talk.send_filter(filter)?;
    talk.session.recorder.doing("namespaces");
    talk.await_namespaces(plan)?;
    talk.session.recorder.doing("ready");
    let master = talk.await_ready(plan, console)?;
    affinity::finally(talk.child.pid, &plan.process.affinity.last)?;
    if let Some(score) = plan.process.oom_score_adj {
        talk.proc.write_pid(talk.child.pid, "oom_score_adj", &score.to_string())?;
    }
    stdio::give(&plan.process, &users, talk.proc, &mut talk.session.recorder)?;
    pidfd_socket.map_or(Ok(()), |socket| socket.send(talk.child.pid, "setns"))?;
    request.signals.map_or(Ok(()), Signals::hold_all)?;
    talk.session.recorder.doing("release");
    talk.session.send(ToChild::Release { wait_for_start: false }, &[])?;
    talk.await_exec(receiver)?;
    // Last: engines take a pid file as the word that the process runs.
    if let Some(path) = request.pid_file {
        write_pid_file(path, talk.child.pid)?;
    }
    Ok(master)
}
