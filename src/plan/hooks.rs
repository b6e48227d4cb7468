//! The hooks, checked. runtime-spec, config.md, "POSIX-platform Hooks".

use std::path::PathBuf;

use oci_spec::runtime::{Hook, Spec};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookPlan {
    /// The program; absolute.
    pub path: PathBuf,
    /// Its arguments from `argv[0]` on; the path alone where the configuration has none.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<String>,
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
    /// Reads and checks `hooks`.
    ///
    /// # Errors
    /// A relative path or a timeout that is not positive.
    pub fn from_spec(spec: &Spec) -> Result<Hooks> {
        let Some(hooks) = spec.hooks() else {
            return Ok(Hooks::default());
        };
        #[allow(deprecated)]
        let prestart = hooks.prestart();
        Ok(Hooks {
            prestart: list(prestart.as_deref(), "prestart")?,
            create_runtime: list(hooks.create_runtime().as_deref(), "createRuntime")?,
            create_container: list(hooks.create_container().as_deref(), "createContainer")?,
            start_container: list(hooks.start_container().as_deref(), "startContainer")?,
            poststart: list(hooks.poststart().as_deref(), "poststart")?,
            poststop: list(hooks.poststop().as_deref(), "poststop")?,
        })
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

fn list(hooks: Option<&[Hook]>, kind: &str) -> Result<Vec<HookPlan>> {
    let hooks = hooks.unwrap_or_default().iter().enumerate();
    hooks
        .map(|(i, hook)| {
            let refuse = |why: &str| Err(Error::config(format!("`hooks.{kind}[{i}]`: {why}")));
            let path = hook.path().clone();
            if !path.is_absolute() {
                return refuse(&format!("the path `{}` is not absolute", path.display()));
            }
            let timeout = match hook.timeout() {
                None => None,
                Some(seconds) if seconds > 0 => Some(seconds.unsigned_abs()),
                Some(_) => return refuse("`timeout` must be greater than zero"),
            };
            let args = match hook.args().as_ref().filter(|a| !a.is_empty()) {
                Some(args) => args.clone(),
                None => vec![path.display().to_string()],
            };
            Ok(HookPlan { path, args, env: hook.env().clone().unwrap_or_default(), timeout })
        })
        .collect()
}
