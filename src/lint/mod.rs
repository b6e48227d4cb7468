//! `lint`: all that is wrong with a configuration, and what is legal and surely not meant. Nothing is made.
//!
//! Errors are the plan's own ([`crate::plan::findings`]): what `create` refuses. Warnings are this module's: what the plan has
//! no reason to refuse, for it means something, or can't know, for it depends on the files of the host, which may be others
//! when the container is created.

mod absent;
mod control_groups;
mod known;
mod linux;
mod mended;
mod mount_options;
mod mounts;
mod process;
mod rootfs;
mod unknown;

use std::fmt;
use std::path::Path;

use oci_spec::runtime::Spec;
use serde::Serialize;
use serde_json::Value;

pub(crate) use self::mended::Mended;
use self::rootfs::View;
use crate::error::{Error, member};

/// The JSON path of the whole document.
const DOCUMENT: &str = "$";

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// No container can be created so.
    Error,
    /// It can be created, and is hardly what was meant; or it can't as the files of this host are now.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    #[allow(missing_docs)]
    pub severity: Severity,
    /// The JSON path of the property: `linux.seccomp.syscalls[3].action`; `$` for the whole document.
    pub path: String,
    /// What is wrong there.
    pub message: String,
    /// What to do about it.
    pub advice: Option<String>,
}

impl Finding {
    /// What the plan refuses.
    pub(crate) fn error(error: &Error) -> Finding {
        let path = error.property().unwrap_or(DOCUMENT);
        Finding {
            severity: Severity::Error,
            path: path.to_owned(),
            message: without(path, error.message()),
            advice: error.advice().map(str::to_owned),
        }
    }

    fn warning(path: impl Into<String>, message: impl Into<String>, advice: impl Into<String>) -> Finding {
        let (path, message, advice) = (path.into(), message.into(), Some(advice.into()));
        Finding { severity: Severity::Warning, path, message, advice }
    }
}

impl fmt::Display for Finding {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.severity == Severity::Error { "error" } else { "warning" };
        let line = format!("{severity} {}: {}", self.path, self.message);
        let advice = self.advice.iter().map(|advice| format!(" ({advice})")).collect::<String>();
        f.write_str(&(line + &advice).replace(['\n', '\r'], " "))
    }
}

/// A message without the property that it begins with, where the path says the same.
fn without(path: &str, message: String) -> String {
    let Some((first, rest)) = message.split_once(": ") else { return message };
    let first = first.trim_start_matches("annotation ").trim_matches('`');
    if path == member("annotations", first) {
        return rest.to_owned();
    }
    match !first.is_empty()
        && (path == first || path.starts_with(&format!("{first}.")) || path.starts_with(&format!("{first}[")))
    {
        true => rest.to_owned(),
        false => message,
    }
}

/// A configuration, and what it is looked at beside.
pub(crate) struct Subject<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) bundle: &'a Path,
    /// Whether systemd makes the cgroups.
    pub(crate) systemd: bool,
    /// The paths of the errors.
    pub(crate) refused: Vec<String>,
}

/// What is legal and surely not meant.
pub(crate) fn warnings(subject: &Subject<'_>) -> Vec<Finding> {
    let view = View::new(subject.spec, subject.bundle);
    let mut findings = vec![];
    findings.extend(version(subject.spec.version()));
    findings.extend(process::warnings(subject, &view));
    findings.extend(mounts::warnings(subject, &view));
    findings.extend(linux::warnings(subject, &view));
    findings
}

/// Properties that nobody reads, typing mistakes mostly, and those that are null or left out.
pub(crate) fn of_the_text(text: &[u8]) -> Vec<Finding> {
    let Ok(json) = serde_json::from_slice::<Value>(text) else { return vec![] };
    [unknown::warnings(&json), absent::warnings(&json)].concat()
}

/// The newest version of the specification that this runtime knows; `tandem features` says it too.
const NEWEST: (u32, u32) = (1, 3);

fn version(version: &str) -> Option<Finding> {
    if version.split(['-', '+']).next().is_some_and(|numbers| numbers.split('.').count() < 3) {
        let message = format!("`{version}` is no version by SemVer 2.0.0, which has three numbers");
        return Some(Finding::warning("ociVersion", message, "write 1.MINOR.PATCH"));
    }
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
    let version_number = (numbers.next()??, numbers.next()??);
    let (major, minor) = NEWEST;
    (version_number > NEWEST).then(|| {
        let message = format!("`{version}` is newer than {major}.{minor}, the newest that this runtime knows");
        Finding::warning("ociVersion", message, "what is new in it is not honoured")
    })
}

#[cfg(test)]
mod tests;
