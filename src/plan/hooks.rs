//! The hooks, checked. runtime-spec, config.md, "POSIX-platform Hooks".

use std::path::PathBuf;

use oci_spec::runtime::{Hook, Spec};
use serde::{Deserialize, Serialize};

use super::findings::Findings;
use crate::error::{Error, Result};

/// One hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookPlan {
    /// The program; absolute.
    pub path: PathBuf,
    /// Its arguments from `argv[0]` on; the path alone where the configuration has none.
    pub args: Vec<String>,
    /// Its whole environment; None where the configuration has none, not even an empty one. On the host it is the
    /// command's own then, for createContainer that too, for startContainer the payload's.
    #[serde(default)]
    pub env: Option<Vec<String>>,
    /// Seconds after which it is killed and has failed.
    pub timeout: Option<u64>,
}

/// All hooks, by kind, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// Runtime namespace, after the namespaces are made; deprecated, still what docker uses.
    pub prestart: Vec<HookPlan>,
    /// Runtime namespace, before pivot_root.
    pub create_runtime: Vec<HookPlan>,
    /// Container namespace, before pivot_root.
    pub create_container: Vec<HookPlan>,
    /// Container namespace and root, before the payload.
    pub start_container: Vec<HookPlan>,
    /// Runtime namespace, after the payload has started.
    pub poststart: Vec<HookPlan>,
    /// Runtime namespace, after the container is deleted.
    pub poststop: Vec<HookPlan>,
}

impl Hooks {
    /// Reads and checks `hooks`. Wrong are a relative path and a timeout that is not positive.
    pub(super) fn read(spec: &Spec, findings: &mut Findings) -> Hooks {
        let Some(hooks) = spec.hooks() else {
            return Hooks::default();
        };
        let mut list = |hooks: &Option<Vec<Hook>>, kind: &str| list(hooks.as_deref(), kind, findings);
        #[allow(deprecated)]
        let prestart = hooks.prestart();
        Hooks {
            prestart: list(prestart, "prestart"),
            create_runtime: list(hooks.create_runtime(), "createRuntime"),
            create_container: list(hooks.create_container(), "createContainer"),
            start_container: list(hooks.start_container(), "startContainer"),
            poststart: list(hooks.poststart(), "poststart"),
            poststop: list(hooks.poststop(), "poststop"),
        }
    }

    /// Whether `create` or `run` runs any hook in the runtime's own namespaces.
    pub fn in_runtime_namespace(&self) -> bool {
        !(self.prestart.is_empty() && self.create_runtime.is_empty() && self.poststart.is_empty())
    }

    /// Whether any hook must run between the mounts and pivot_root.
    pub fn before_pivot(&self) -> bool {
        !(self.prestart.is_empty() && self.create_runtime.is_empty() && self.create_container.is_empty())
    }
}

impl HookPlan {
    /// The hook with this environment, if it has none of its own.
    pub(crate) fn or_env(&self, env: impl FnOnce() -> Vec<String>) -> HookPlan {
        HookPlan { env: Some(self.env.clone().unwrap_or_else(env)), ..self.clone() }
    }
}

fn list(hooks: Option<&[Hook]>, kind: &str, findings: &mut Findings) -> Vec<HookPlan> {
    let hooks = hooks.unwrap_or_default().iter().enumerate();
    hooks.filter_map(|(i, hook)| findings.take(one(hook, &format!("hooks.{kind}[{i}]")))).collect()
}

fn one(hook: &Hook, at: &str) -> Result<HookPlan> {
    let refuse = |property: &str, why: &str| Err(Error::at(at, why).about(format!("{at}.{property}")));
    let path = hook.path().clone();
    if !path.is_absolute() {
        return refuse("path", &format!("the path `{}` is not absolute", path.display()));
    }
    let timeout = match hook.timeout() {
        None => None,
        Some(seconds) if seconds > 0 => Some(seconds.unsigned_abs()),
        Some(_) => return refuse("timeout", "`timeout` must be greater than zero"),
    };
    let args = match hook.args().as_ref().filter(|a| !a.is_empty()) {
        Some(args) => args.clone(),
        None => vec![path.display().to_string()],
    };
    Ok(HookPlan { path, args, env: hook.env().clone(), timeout })
}
