//! The annotations that change what is done: those of crun, `run.oci.*`. Others are the engine's own, and only remembered.

use std::collections::HashMap;
use std::path::PathBuf;

use base64::Engine as _;
use serde::{Deserialize, Serialize};

use super::findings::Findings;
use crate::error::{Error, Result, member};

/// Names that ask for what this runtime does not have; to leave them unheeded would run something else.
const REFUSED: [(&str, &str); 3] = [
    ("run.oci.handler", "this runtime has no other handlers than its own"),
    ("run.oci.seccomp.plugins", "no shared object is loaded into the runtime; a receiver does the same"),
    ("run.oci.systemd.force_cgroup_v1", "mount the hierarchy by `mounts`"),
];

/// Where hooks write; None for nowhere, and, of standard error, for the error message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookOutput {
    /// Absolute, on the host.
    pub stdout: Option<PathBuf>,
    /// Absolute, on the host.
    pub stderr: Option<PathBuf>,
}

/// What the annotations ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// `run.oci.keep_original_groups`: no setgroups(2).
    pub keep_original_groups: bool,
    /// `run.oci.seccomp.receiver`: where the listener of a filter goes if the filter names no place.
    pub seccomp_receiver: Option<PathBuf>,
    /// `run.oci.seccomp_fail_unknown_syscall`: a name that libseccomp does not know is an error.
    pub fail_unknown_syscall: bool,
    /// `run.oci.seccomp_bpf_data`: the filter itself, in place of `linux.seccomp`.
    pub seccomp_program: Option<Vec<u8>>,
    /// `run.oci.pidfd_receiver`: a socket that gets the first process's pidfd.
    pub pidfd_receiver: Option<PathBuf>,
    /// `run.oci.hooks.stdout` and `.stderr`: files that get what hooks say.
    pub hooks: HookOutput,
    /// `run.oci.mount_context_type`: the option that mounts get `linux.mountLabel` by.
    pub mount_context: &'static str,
}

impl Annotations {
    /// Reads them.
    ///
    /// # Errors
    /// A value that is none, or a name that asks for what there is not.
    pub fn from_spec(annotations: Option<&HashMap<String, String>>) -> Result<Annotations> {
        Findings::first(|findings| Annotations::read(annotations, findings))
    }

    /// The same, with all that is wrong.
    pub(super) fn read(annotations: Option<&HashMap<String, String>>, findings: &mut Findings) -> Annotations {
        let get = |name: &str| annotations.and_then(|all| all.get(name)).map(String::as_str).filter(|v| !v.is_empty());
        for (name, why) in REFUSED.iter().filter(|(name, _)| get(name).is_some()) {
            findings.add(bad(name, why));
        }
        if annotations.is_some_and(|all| all.contains_key("")) {
            findings.add(Error::at("annotations", "a key is empty"));
        }
        let flag = |name: &str| match get(name) {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(value) => Err(bad(name, &format!("`{value}` is neither 1 nor 0"))),
        };
        let path = |name: &str| match get(name) {
            Some(path) if !path.starts_with('/') => Err(bad(name, &format!("`{path}` is not an absolute path"))),
            path => Ok(path.map(PathBuf::from)),
        };
        let program = |name: &str| {
            let decode = |text| base64::engine::general_purpose::STANDARD.decode(text);
            let program =
                get(name).map(decode).transpose().map_err(|e| bad(name, &format!("it is not base64: {e}")))?;
            let whole = |p: &Vec<u8>| p.len().is_multiple_of(crate::sys::seccomp::INSTRUCTION_SIZE);
            match program {
                Some(program) if !whole(&program) => Err(bad(name, "it is no whole number of instructions")),
                program => Ok(program),
            }
        };
        let context = |name: &str| match get(name) {
            None | Some("context") => Ok("context"),
            Some("fscontext") => Ok("fscontext"),
            Some("defcontext") => Ok("defcontext"),
            Some("rootcontext") => Ok("rootcontext"),
            Some(other) => Err(bad(name, &format!("`{other}` is not context, fscontext, defcontext or rootcontext"))),
        };
        Annotations {
            keep_original_groups: findings.or_default(flag("run.oci.keep_original_groups")),
            seccomp_receiver: findings.or_default(path("run.oci.seccomp.receiver")),
            fail_unknown_syscall: findings.or_default(flag("run.oci.seccomp_fail_unknown_syscall")),
            seccomp_program: findings.or_default(program("run.oci.seccomp_bpf_data")),
            pidfd_receiver: findings.or_default(path("run.oci.pidfd_receiver")),
            hooks: HookOutput {
                stdout: findings.or_default(path("run.oci.hooks.stdout")),
                stderr: findings.or_default(path("run.oci.hooks.stderr")),
            },
            mount_context: findings.or_default(context("run.oci.mount_context_type")),
        }
    }
}

fn bad(name: &str, why: &str) -> Error {
    Error::config(format!("annotation `{name}`: {why}")).about(member("annotations", name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<Annotations> {
        Annotations::from_spec(Some(&HashMap::from([(name.to_owned(), value.to_owned())])))
    }

    #[test]
    fn each_says_what_it_means_or_is_refused() {
        assert!(read("run.oci.keep_original_groups", "1").unwrap().keep_original_groups);
        assert!(!read("run.oci.keep_original_groups", "0").unwrap().keep_original_groups);
        assert!(read("run.oci.keep_original_groups", "maybe").is_err());
        assert!(read("run.oci.seccomp.receiver", "relative").is_err());
        assert_eq!(read("run.oci.mount_context_type", "fscontext").unwrap().mount_context, "fscontext");
        assert!(read("run.oci.mount_context_type", "x").is_err());
        assert!(read("run.oci.handler", "krun").is_err());
        assert_eq!(read("io.podman.annotations.x", "y").unwrap().mount_context, "context");
    }

    #[test]
    fn a_program_is_whole_instructions() {
        let program = read("run.oci.seccomp_bpf_data", "BgAAAAAA/38=").unwrap().seccomp_program.unwrap();
        assert_eq!(program, [6, 0, 0, 0, 0, 0, 0xff, 0x7f]);
        assert!(read("run.oci.seccomp_bpf_data", "BgAAAAAA/w==").is_err());
        assert!(read("run.oci.seccomp_bpf_data", "!").is_err());
    }
}
