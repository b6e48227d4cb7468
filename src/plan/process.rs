//! The process to become: of config.json's `process` and of `exec`.

use std::collections::HashSet;

use oci_spec::runtime::{Capability, IOPriorityClass, LinuxCapabilities, PosixRlimitType, Process};
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use super::findings::Findings;
use super::host::Host;
use super::label;
use super::memory_policy::MemoryPolicyPlan;
use super::numbers;
use super::scheduler::SchedulerPlan;
use crate::error::{Error, Result};

/// All that the payload's process is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessPlan {
    /// argv, `argv[0]` being the program; empty where the configuration has no process, and nothing can be started.
    pub args: Vec<String>,
    /// The whole environment, `NAME=value`.
    pub env: Vec<String>,
    /// The working directory; absolute.
    pub cwd: String,
    /// A terminal, with its size in rows and columns if one was given.
    pub terminal: Option<TerminalSize>,
    #[allow(missing_docs)]
    pub user: UserPlan,
    /// All empty where the configuration names none.
    pub capabilities: CapabilityPlan,
    #[allow(missing_docs)]
    pub rlimits: Vec<RlimitPlan>,
    #[allow(missing_docs)]
    pub no_new_privileges: bool,
    /// For `/proc/PID/oom_score_adj`, which the parent writes: a process in a user namespace may not write its own.
    pub oom_score_adj: Option<i32>,
    /// For `/proc/self/attr/apparmor/exec`.
    pub apparmor: Option<String>,
    /// For `/proc/self/attr/exec`, and for that of the session keyring `/proc/self/attr/keycreate`.
    pub selinux: Option<String>,
    #[allow(missing_docs)]
    pub scheduler: Option<SchedulerPlan>,
    /// Class and level of ioprio_set(2).
    pub io_priority: Option<(u32, u32)>,
    /// Of a further process in a container: the first one takes no notice of it.
    pub affinity: AffinityPlan,
    /// set_mempolicy(2).
    pub memory_policy: Option<MemoryPolicyPlan>,
    /// Persona of personality(2).
    pub personality: Option<u32>,
    /// The child gives the standard streams to the user: the parent, an ordinary user's, may not.
    pub gives_stdio: bool,
    /// Fds 3 to 2 + this stay open.
    pub preserve_fds: u32,
    /// How many of these are listening sockets: the payload gets LISTEN_FDS and LISTEN_PID.
    pub listen_fds: u32,
    /// Join a new session keyring of this name; keyctl(2).
    pub keyring: Option<String>,
}

/// Rows and columns; 0 means not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    #[allow(missing_docs)]
    pub rows: u16,
    #[allow(missing_docs)]
    pub columns: u16,
}

/// IDs inside the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserPlan {
    #[allow(missing_docs)]
    pub uid: u32,
    #[allow(missing_docs)]
    pub gid: u32,
    #[allow(missing_docs)]
    pub additional_gids: Vec<u32>,
    /// Keep the runtime's own supplementary groups instead.
    pub keep_groups: bool,
    #[allow(missing_docs)]
    pub umask: Option<u32>,
}

/// The five sets, as bit masks; capabilities(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct CapabilityPlan {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

impl CapabilityPlan {
    /// What of the ambient set the kernel takes: only what is permitted and inheritable too.
    pub(crate) fn ambient_to_raise(&self) -> u64 {
        self.ambient & self.inheritable & (self.permitted | self.effective)
    }
}

/// Capabilities by the names of capabilities(7).
pub(crate) fn capability_names(set: CapabilitySet) -> String {
    let known = set.iter_names().map(|(name, _)| format!("CAP_{name}"));
    let unknown = set.bits() & !CapabilitySet::all().bits();
    let numbers = (0..64).filter(|n| unknown & (1 << n) != 0).map(|n| n.to_string());
    known.chain(numbers).collect::<Vec<_>>().join(", ")
}

/// One limit of setrlimit(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RlimitPlan {
    /// For errors.
    pub name: String,
    /// `RLIMIT_*`.
    pub resource: u32,
    #[allow(missing_docs)]
    pub soft: u64,
    #[allow(missing_docs)]
    pub hard: u64,
}

/// On which CPUs a process runs; empty lists leave it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AffinityPlan {
    /// Before it is in the container's cgroup.
    pub initial: Vec<u32>,
    /// Once it is there.
    pub last: Vec<u32>,
}

/// What the command line adds to the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras<'a> {
    /// `--preserve-fds`.
    pub preserve_fds: u32,
    /// `LISTEN_FDS` of the runtime's own environment.
    pub listen_fds: u32,
    /// The new session keyring's name; None with `--no-new-keyring`.
    pub keyring: Option<&'a str>,
}

impl ProcessPlan {
    /// Checks a process. `at` is its JSON path, for errors.
    ///
    /// # Errors
    /// What can't be honoured.
    pub fn from_spec(process: &Process, at: &str, host: &Host, extras: Extras<'_>) -> Result<ProcessPlan> {
        Findings::first(|findings| ProcessPlan::read(process, at, host, extras, findings))
    }

    /// The same, with all that is wrong.
    pub(super) fn read(
        process: &Process,
        at: &str,
        host: &Host,
        extras: Extras<'_>,
        findings: &mut Findings,
    ) -> ProcessPlan {
        let bad = |property: &str, why: String| Error::at(format!("{at}.{property}"), why);
        let cwd = findings.or_default(cwd(process, at));
        let args = process.args().clone().unwrap_or_default();
        let env = process.env().clone().unwrap_or_default();
        if args.is_empty() {
            findings.add(bad("args", "it is empty: there is nothing to run".into()));
        }
        for (name, texts) in [("args", &args[..]), ("env", &env[..]), ("cwd", std::slice::from_ref(&cwd))] {
            if let Some(text) = texts.iter().find(|text| text.contains('\0')) {
                findings.add(bad("args", format!("{text:?} has a NUL byte")).about(format!("{at}.{name}")));
            }
        }
        let affinity = affinity(process, at, findings);
        let terminal = process.terminal().unwrap_or(false).then(|| findings.or_default(size(process, at)));
        let selinux = label::checked(process.selinux_label().as_deref(), &format!("{at}.selinuxLabel"), host);
        let selinux = findings.or_default(selinux).map(str::to_owned);
        let apparmor = process.apparmor_profile().clone().filter(|l| !l.is_empty());
        if apparmor.as_deref().is_some_and(|p| p != "unconfined") && !host.apparmor {
            findings.add(bad("apparmorProfile", "AppArmor is not enabled on this host".into()));
        }
        if process.oom_score_adj().is_some_and(|score| !(-1000..=1000).contains(&score)) {
            findings.add(bad("oomScoreAdj", "it is not between -1000 and 1000".into()));
        }
        // An engine may have put LISTEN_FDS in the environment itself, and counted its fds in --preserve-fds.
        let told = env.iter().any(|e| e.starts_with("LISTEN_FDS="));
        let listen_fds = if told { 0 } else { extras.listen_fds };
        let mut plan = ProcessPlan {
            args,
            env,
            cwd,
            terminal,
            user: findings.or_default(user(process, at)),
            capabilities: process.capabilities().as_ref().map(capabilities).unwrap_or_default(),
            rlimits: rlimits(process, at, findings),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            oom_score_adj: process.oom_score_adj(),
            apparmor: apparmor.filter(|_| host.apparmor),
            selinux,
            scheduler: findings.or_default(SchedulerPlan::from_spec(process.scheduler().as_ref(), at)),
            io_priority: findings.or_default(io_priority(process, at)),
            affinity,
            memory_policy: None,
            personality: None,
            gives_stdio: !host.root && terminal.is_none(),
            preserve_fds: extras.preserve_fds.saturating_add(listen_fds),
            listen_fds,
            keyring: extras.keyring.map(str::to_owned),
        };
        if listen_fds > 0 {
            plan.env.push(format!("LISTEN_FDS={listen_fds}"));
        }
        plan
    }

    /// What stands for the process that a configuration does not have: a container can be created without one, and not
    /// started (runtime-spec, runtime.md, "Start").
    pub(super) fn none(extras: Extras<'_>) -> ProcessPlan {
        ProcessPlan {
            cwd: "/".into(),
            preserve_fds: extras.preserve_fds,
            keyring: extras.keyring.map(str::to_owned),
            ..ProcessPlan::default()
        }
    }
}

fn cwd(process: &Process, at: &str) -> Result<String> {
    let bad = |why: String| Error::at(format!("{at}.cwd"), why);
    match process.cwd().to_str().ok_or_else(|| bad("it is not UTF-8".into()))? {
        cwd if cwd.starts_with('/') => Ok(cwd.to_owned()),
        cwd => Err(bad(format!("`{cwd}` is not an absolute path"))),
    }
}

fn size(process: &Process, at: &str) -> Result<TerminalSize> {
    let Some(size) = process.console_size() else {
        return Ok(TerminalSize::default());
    };
    let fit = |n: u64| u16::try_from(n).map_err(|_| Error::at(format!("{at}.consoleSize"), format!("{n} is too big")));
    Ok(TerminalSize { rows: fit(size.height())?, columns: fit(size.width())? })
}

fn user(process: &Process, at: &str) -> Result<UserPlan> {
    let user = process.user();
    let additional_gids = user.additional_gids().clone().unwrap_or_default();
    // -1 means "leave it" to setresuid(2): it must never reach the call, and names nobody.
    if [user.uid(), user.gid()].iter().chain(&additional_gids).any(|id| *id == u32::MAX) {
        return Err(Error::at(format!("{at}.user"), format!("{} is not an ID", u32::MAX)));
    }
    Ok(UserPlan { uid: user.uid(), gid: user.gid(), additional_gids, keep_groups: false, umask: user.umask() })
}

fn capabilities(sets: &LinuxCapabilities) -> CapabilityPlan {
    let mask =
        |set: &Option<HashSet<Capability>>| set.iter().flatten().fold(0, |mask, capability| mask | bit(*capability));
    CapabilityPlan {
        bounding: mask(sets.bounding()),
        effective: mask(sets.effective()),
        permitted: mask(sets.permitted()),
        inheritable: mask(sets.inheritable()),
        ambient: mask(sets.ambient()),
    }
}

/// The bit of a capability.
pub fn bit(capability: Capability) -> u64 {
    let name = capability.to_string();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    CapabilitySet::from_name(name).map_or(0, |set| set.bits())
}

fn rlimits(process: &Process, at: &str, findings: &mut Findings) -> Vec<RlimitPlan> {
    let mut plans: Vec<RlimitPlan> = vec![];
    for (i, limit) in process.rlimits().iter().flatten().enumerate() {
        let plan = RlimitPlan {
            name: limit.typ().to_string(),
            resource: resource(limit.typ()),
            soft: limit.soft(),
            hard: limit.hard(),
        };
        let mut refuse = |why: String| findings.add(Error::at(format!("{at}.rlimits[{i}]"), why));
        if plan.soft > plan.hard {
            refuse(format!("the soft limit {} is over the hard limit {}", plan.soft, plan.hard));
        }
        if plans.iter().any(|p| p.resource == plan.resource) {
            refuse(format!("{} is there twice", plan.name));
        }
        plans.push(plan);
    }
    plans
}

pub(crate) fn resource(typ: PosixRlimitType) -> u32 {
    use PosixRlimitType::*;
    match typ {
        RlimitCpu => libc::RLIMIT_CPU,
        RlimitFsize => libc::RLIMIT_FSIZE,
        RlimitData => libc::RLIMIT_DATA,
        RlimitStack => libc::RLIMIT_STACK,
        RlimitCore => libc::RLIMIT_CORE,
        RlimitRss => libc::RLIMIT_RSS,
        RlimitNproc => libc::RLIMIT_NPROC,
        RlimitNofile => libc::RLIMIT_NOFILE,
        RlimitMemlock => libc::RLIMIT_MEMLOCK,
        RlimitAs => libc::RLIMIT_AS,
        RlimitLocks => libc::RLIMIT_LOCKS,
        RlimitSigpending => libc::RLIMIT_SIGPENDING,
        RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        RlimitNice => libc::RLIMIT_NICE,
        RlimitRtprio => libc::RLIMIT_RTPRIO,
        RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

fn affinity(process: &Process, at: &str, findings: &mut Findings) -> AffinityPlan {
    let Some(affinity) = process.exec_cpu_affinity() else { return AffinityPlan::default() };
    let mut list = |text: &Option<String>, name: &str| {
        let cap = rustix::thread::CpuSet::MAX_CPU as u32;
        let text = text.as_deref().unwrap_or_default();
        findings.or_default(numbers::parse(text, cap, &format!("{at}.execCPUAffinity.{name}")))
    };
    AffinityPlan { initial: list(affinity.initial(), "initial"), last: list(affinity.cpu_affinity_final(), "final") }
}

fn io_priority(process: &Process, at: &str) -> Result<Option<(u32, u32)>> {
    let Some(priority) = process.io_priority() else {
        return Ok(None);
    };
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u32::try_from(priority.priority()) {
        Ok(level) if level < 8 => Ok(Some((class, level))),
        _ => Err(Error::at(format!("{at}.ioPriority.priority"), format!("{} is not 0 to 7", priority.priority()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<ProcessPlan> {
        let process: Process = serde_json::from_str(json).unwrap();
        ProcessPlan::from_spec(&process, "process", &Host::default(), Extras::default())
    }

    #[test]
    fn capabilities_become_bits() {
        assert_eq!(bit(Capability::Chown), 1);
        assert_eq!(bit(Capability::SysAdmin), 1 << 21);
        assert_eq!(bit(Capability::CheckpointRestore), 1 << 40);
        assert_eq!(bit(Capability::AuditRead), 1 << 37);
    }

    #[test]
    fn refuses_what_could_mean_somebody_else() {
        assert!(plan(r#"{"cwd":"/","user":{"uid":4294967295,"gid":0}}"#).is_err());
        assert!(plan(r#"{"cwd":"relative","user":{"uid":0,"gid":0}}"#).is_err());
        assert!(plan(r#"{"cwd":"/","args":["a"],"user":{"uid":0,"gid":0},"rlimits":[{"type":"RLIMIT_CORE","soft":2,"hard":1}]}"#).is_err());
        assert!(plan(r#"{"cwd":"/","args":["a"],"user":{"uid":0,"gid":0},"apparmorProfile":"x"}"#).is_err());
        assert!(plan(r#"{"cwd":"/","args":["a"],"user":{"uid":0,"gid":0},"oomScoreAdj":2000}"#).is_err());
    }

    #[test]
    fn listen_fds_are_counted_once() {
        let process = |env: &str| {
            let json = format!(r#"{{"cwd":"/","args":["a"],"user":{{"uid":0,"gid":0}},"env":[{env}]}}"#);
            let extras = Extras { preserve_fds: 1, listen_fds: 2, keyring: None };
            ProcessPlan::from_spec(&serde_json::from_str(&json).unwrap(), "process", &Host::default(), extras).unwrap()
        };
        assert_eq!(process("").preserve_fds, 3);
        assert_eq!(process("").env, ["LISTEN_FDS=2"]);
        assert_eq!(process(r#""LISTEN_FDS=1""#).preserve_fds, 1);
    }
}
