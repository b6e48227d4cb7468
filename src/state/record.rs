//! What is remembered of one container.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::process::ProcessId;
use crate::cgroup::CgroupRecord;
use crate::cgroup::resctrl::RdtRecord;
use crate::error::{Error, Result};
use crate::plan::HookState;
use crate::plan::annotations::HookOutput;
use crate::plan::hooks::HookPlan;
use crate::plan::id::ContainerId;
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

impl Record {
    /// Refuses a record that would lead to what is not the container's: its file has been tampered with.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check(&self, id: &ContainerId) -> Result<()> {
        if self.state.id != id.as_str() {
            return Err(Error::system(format!("it is the record of another container, `{}`", self.state.id)));
        }
        self.cgroup.as_ref().map_or(Ok(()), CgroupRecord::check)
    }
}

/// What is left of a record that can't be read.
pub(crate) struct Remains {
    /// `state.json`, as far as it is there.
    pub(super) record: String,
    /// The copy of `config.json`, unless that is damaged too.
    pub(crate) config: Option<serde_json::Value>,
}

impl Remains {
    /// The first process, if what is left tells it.
    pub(crate) fn process(&self) -> Option<ProcessId> {
        self.find("process")
    }

    /// The control groups.
    pub(crate) fn cgroup(&self) -> Option<CgroupRecord> {
        self.find("cgroup").filter(|cgroup: &CgroupRecord| !cgroup.is_none() && cgroup.check().is_ok())
    }

    /// The resctrl group.
    pub(crate) fn rdt(&self) -> Option<RdtRecord> {
        self.find("rdt")
    }

    /// A member that is whole, wherever the text is cut. Its name can't be met in a string, where the quotes are escaped.
    fn find<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Option<T> {
        let name = format!("\"{name}\":");
        let values = self.record.match_indices(&name).map(|(at, name)| &self.record[at + name.len()..]);
        values.filter_map(|text| serde_json::Deserializer::from_str(text).into_iter().next()?.ok()).next()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_whole_is_found_in_what_is_left() {
        let text = r#"{"state":{"annotations":{"a":"\"process\":{\"pid\":1,\"start_time\":1}","process":"x"}},"process":{"pid":7,"start_time":9},"cgroup":{"layout":"V2","di"#;
        let remains = |record: &str| Remains { record: record.into(), config: None };
        assert_eq!(remains(text).process(), Some(ProcessId { pid: 7, start_time: 9 }));
        assert!(remains(text).cgroup().is_none());
        let whole =
            r#""cgroup":{"layout":"V2","dirs":[{"mount":"/m","path":"/a","controllers":[],"unified":true,"made":1}]},"#;
        assert_eq!(remains(whole).cgroup().unwrap().dirs[0].full_path(), "/m/a");
        assert!(remains(&whole.replace("/a", "/..")).cgroup().is_none());
        assert!(remains("").process().is_none());
    }
}
