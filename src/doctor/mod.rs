//! `doctor`: what this host can do for containers, found by asking it, what follows, and how to get the better.
//!
//! A question has no effect, or one that ends with it: a namespace is really made, by a process that is gone again.

mod cgroups;
mod kernel;
mod namespaces;
mod security;
mod users;

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::plan::host::Host;
use crate::plan::strategy::MountStrategy;
use crate::procfs::Proc;
use crate::state::StateRoot;

/// Whether something is to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    #[allow(missing_docs)]
    Ok,
    /// With less than all, or in another way.
    Partly,
    #[allow(missing_docs)]
    Missing,
}

/// One answer.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was asked for.
    pub name: String,
    #[allow(missing_docs)]
    pub state: State,
    /// What was found.
    pub found: String,
    /// What follows for containers, where it is not [`State::Ok`].
    pub follows: Option<String>,
    /// How to get the better.
    pub advice: Option<String>,
    /// No container can be made without it.
    #[serde(skip)]
    vital: bool,
}

impl Check {
    fn ok(name: impl Into<String>, found: impl Into<String>) -> Check {
        let (name, found) = (name.into(), found.into());
        Check { name, state: State::Ok, found, follows: None, advice: None, vital: false }
    }

    fn partly(name: impl Into<String>, found: impl Into<String>, follows: &str, advice: &str) -> Check {
        let (follows, advice) = (Some(follows.to_owned()), Some(advice.to_owned()).filter(|a| !a.is_empty()));
        Check { state: State::Partly, follows, advice, ..Check::ok(name, found) }
    }

    fn missing(name: impl Into<String>, found: impl Into<String>, follows: &str, advice: &str) -> Check {
        Check { state: State::Missing, ..Check::partly(name, found, follows, advice) }
    }

    fn vital(self) -> Check {
        Check { vital: true, ..self }
    }
}

/// Answers of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    #[allow(missing_docs)]
    pub name: &'static str,
    #[allow(missing_docs)]
    pub checks: Vec<Check>,
}

/// How the mounts of a container come about here.
#[derive(Clone, Debug, Serialize)]
pub struct Outlook {
    /// Which containers.
    pub containers: &'static str,
    /// `namespace`, `pivot` or `mount`; None where there are no such containers.
    pub strategy: Option<&'static str>,
    /// How, and why in no better way.
    pub why: String,
}

/// All that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The kernel's release.
    pub kernel: String,
    /// Who asks.
    pub user: String,
    #[allow(missing_docs)]
    pub sections: Vec<Section>,
    /// From the plan's own code.
    pub mount_strategies: Vec<Outlook>,
    /// Why no container can be made; empty if some can.
    pub hindrances: Vec<String>,
}

/// Asks the host. `root` is the state root, if one is given.
///
/// # Errors
/// A `/proc` or `/sys/fs/cgroup` that can't be read.
pub fn examine(root: Option<&Path>) -> Result<Report> {
    let proc = Proc::open()?;
    let host = Host::look_at_all(&proc)?;
    let sections = vec![
        Section { name: "kernel", checks: kernel::checks(&host, &proc) },
        Section { name: "namespaces", checks: namespaces::checks(&host) },
        Section { name: "users", checks: users::checks(&host, &proc) },
        Section { name: "cgroups", checks: cgroups::checks(&host, &proc) },
        Section { name: "security", checks: security::checks(&host) },
        Section { name: "runtime", checks: runtime(root, &proc) },
    ];
    let (without, strategies) = (sections.iter().flat_map(|section| &section.checks), outlooks(&host));
    let without = without.filter(|check| check.vital && check.state == State::Missing);
    let hindrances = without.map(|check| format!("{}: {}", check.name, check.found)).collect();
    let uname = rustix::system::uname();
    Ok(Report {
        kernel: uname.release().to_string_lossy().into_owned(),
        user: user(&host),
        sections,
        mount_strategies: strategies,
        hindrances,
    })
}

fn user(host: &Host) -> String {
    match (host.root, host.initial_userns) {
        (true, true) => "the machine's root".into(),
        (true, false) => "root of a user namespace".into(),
        (false, _) => format!("an ordinary user, {}", rustix::process::geteuid().as_raw()),
    }
}

fn outlooks(host: &Host) -> Vec<Outlook> {
    let outlook = |containers, user_namespace| match MountStrategy::usual(host, user_namespace) {
        Ok(strategy) => Outlook { containers, strategy: Some(strategy.strategy.name()), why: strategy.describe() },
        Err(error) => Outlook { containers, strategy: None, why: error.to_string() },
    };
    let none = "only root can make containers without one".to_owned();
    vec![
        match host.root {
            true => outlook("without a user namespace", false),
            false => Outlook { containers: "without a user namespace", strategy: None, why: none },
        },
        outlook("with a user namespace", true),
    ]
}

fn runtime(root: Option<&Path>, proc: &Proc) -> Vec<Check> {
    let state = match StateRoot::choose(root) {
        Ok(root) => place(root.path()),
        Err(error) => {
            let advice = error.advice().unwrap_or_default().to_owned();
            Check::missing("state", error.message(), "no command can be given", &advice).vital()
        }
    };
    vec![state, Check::ok("procfs", proc.describe()), checkpoints()]
}

/// Whether a directory can be written, or be made: by the nearest one above it that is there.
fn place(path: &Path) -> Check {
    let there = path.ancestors().find(|above| above.exists()).unwrap_or(path);
    match rustix::fs::access(there, rustix::fs::Access::WRITE_OK) {
        Ok(()) => Check::ok("state", format!("`{}`", path.display())),
        Err(errno) => {
            let found = format!("`{}` can't be written: {}", there.display(), words(errno));
            let advice = "set XDG_RUNTIME_DIR to /run/user/UID, which a login session makes, or give --root";
            Check::missing("state", found, "no container can be made", advice).vital()
        }
    }
}

/// Whatever the host has of CRIU, this runtime makes no use of it.
fn checkpoints() -> Check {
    let output = std::process::Command::new("criu").arg("--version").output();
    let has = match output {
        Ok(output) if output.status.success() => "the host has criu, and this runtime does not use it",
        _ => "this runtime does not use criu, and none is in $PATH",
    };
    Check::missing("checkpoints", has, "`checkpoint` and `restore` are refused", "crun and runc have them")
}

/// The kernel's words for an errno.
fn words(errno: rustix::io::Errno) -> String {
    Error::call("", errno).message().trim_start_matches(": ").to_owned()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Linux {}, asked by {}", self.kernel, self.user)?;
        for section in &self.sections {
            writeln!(f, "\n{}", section.name)?;
            section.checks.iter().try_for_each(|check| writeln!(f, "{check}"))?;
        }
        writeln!(f, "\nmounts of a container")?;
        for outlook in &self.mount_strategies {
            writeln!(f, "  {}: {}", outlook.containers, outlook.why)?;
        }
        match self.hindrances.as_slice() {
            [] => writeln!(f, "\ncontainers can be made"),
            hindrances => writeln!(f, "\nno container can be made: {}", hindrances.join("; ")),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Ok => "ok",
            State::Partly => "partly",
            State::Missing => "missing",
        };
        write!(f, "  {state:8} {}: {}", self.name, self.found)?;
        self.follows.iter().try_for_each(|follows| write!(f, "; {follows}"))?;
        self.advice.iter().try_for_each(|advice| write!(f, " ({advice})"))
    }
}
