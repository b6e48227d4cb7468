//! What is remembered of one container.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::process::ProcessId;
use crate::cgroup::CgroupRecord;
use crate::cgroup::resctrl::RdtRecord;
use crate::plan::HookState;
use crate::plan::annotations::HookOutput;
use crate::plan::hooks::HookPlan;
use crate::plan::seccomp::ListenerPlan;

/// The file `state.json` of a container's directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// ID, bundle, annotations and version, as hooks see them.
    pub state: HookState,
    /// Absolute, on the host.
    pub rootfs: PathBuf,
    /// When `create` began, RFC 3339 in UTC.
    pub created: String,
    /// The first process; None until there is one.
    pub process: Option<ProcessId>,
    /// Whether `create` has ended well.
    pub complete: bool,
    /// The configuration has no process, and so nothing can be started.
    #[serde(default)]
    pub without_process: bool,
    /// How many seconds hooks may take between `start` and the payload, beside the usual time.
    #[serde(default)]
    pub start_hooks: u64,
    /// What was or will be made of control groups; None without.
    pub cgroup: Option<CgroupRecord>,
    /// What was or will be made in resctrl.
    #[serde(default)]
    pub rdt: Option<RdtRecord>,
    /// The `CLONE_NEW*` flags of the namespaces that `exec` joins.
    pub namespaces: u32,
    /// Who gets the listener of the seccomp filter.
    #[serde(default)]
    pub listener: Option<ListenerPlan>,
    /// Where hooks write.
    #[serde(default)]
    pub hook_output: HookOutput,
    /// Hooks that run after `create`.
    pub poststart: Vec<HookPlan>,
    /// Hooks for `delete` to run.
    pub poststop: Vec<HookPlan>,
}

/// Where a container is in its life; runtime-spec, runtime.md, "State".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `create` has not ended, or was killed and left this.
    Creating,
    /// Everything but the payload.
    Created,
    #[allow(missing_docs)]
    Running,
    /// Running, and frozen.
    Paused,
    /// Its first process is gone.
    Stopped,
}

impl Status {
    /// The specification's word.
    pub fn name(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}
