//! Warnings about `process`.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Capability, LinuxCapabilities, LinuxIdMapping, LinuxNamespaceType, Process, Spec};
use rustix::thread::{CapabilitySet, capabilities as capabilities_of};

use super::rootfs::{Seen, View};
use super::{Finding, Subject};
use crate::child::DEFAULT_PATH;
use crate::plan::process::resource;

pub(super) fn warnings(subject: &Subject<'_>, view: &View) -> Vec<Finding> {
    let Some(process) = subject.spec.process() else { return vec![] };
    let mut findings = vec![];
    findings.extend(program(process, view));
    findings.extend(cwd(process, view));
    findings.extend(rlimits(process));
    findings.extend(environment(process));
    findings.extend(terminal(process));
    findings.extend(process.capabilities().iter().flat_map(capabilities));
    findings.extend(ids(process, subject.spec));
    findings.extend(unconfined(process, subject.spec));
    findings
}

/// The value of a variable; the first one counts, as for the program's own lookups.
fn variable<'a>(process: &'a Process, name: &str) -> Option<&'a str> {
    let value = |entry: &'a String| entry.strip_prefix(name)?.strip_prefix('=');
    process.env().iter().flatten().find_map(value)
}

fn program(process: &Process, view: &View) -> Option<Finding> {
    let name = process.args().as_ref()?.first().filter(|name| !name.is_empty())?;
    let arguments: Vec<&str> = name.split_whitespace().collect();
    let is_line = arguments.len() > 1 && process.args().as_ref().is_some_and(|args| args.len() == 1);
    let advice = match is_line {
        true => format!("no shell parts it: {} is a program with arguments", serde_json::json!(arguments)),
        false => "the image may be another one than was meant, or the program be made by a hook".into(),
    };
    let warn = |message: String| Some(Finding::warning("process.args[0]", message, advice.clone()));
    if name.contains('/') {
        let path = process.cwd().join(name);
        return match view.at(&path) {
            Seen::Missing => warn(format!("there is no `{}` in the container", path.display())),
            seen @ Seen::Found(_) if !seen.is_executable() => {
                let message = format!("`{}` is not executable", path.display());
                Some(Finding::warning("process.args[0]", message, "chmod +x it in the image"))
            }
            _ => interpreter(&path, view),
        };
    }
    let path = variable(process, "PATH").unwrap_or(DEFAULT_PATH);
    let candidates = path.split(':').map(|dir| process.cwd().join(if dir.is_empty() { "." } else { dir }).join(name));
    let candidates: Vec<PathBuf> = candidates.collect();
    let seen: Vec<Seen> = candidates.iter().map(|candidate| view.at(candidate)).collect();
    if let Some(first) = seen.iter().position(|seen| matches!(seen, Seen::Unknown) || seen.is_executable())
        && let Some(finding) = interpreter(&candidates[first], view)
    {
        return Some(finding);
    }
    match () {
        () if seen.iter().any(Seen::is_executable) => None,
        () if seen.iter().any(|seen| matches!(seen, Seen::Unknown)) && is_line => {
            warn(format!("`{name}` is hardly the name of a program"))
        }
        () if seen.iter().any(|seen| matches!(seen, Seen::Unknown)) => None,
        () if seen.iter().all(Seen::is_missing) => {
            warn(format!("there is no `{name}` in any directory of PATH, `{path}`"))
        }
        () => warn(format!("no `{name}` in PATH, `{path}`, is executable")),
    }
}

/// A script whose interpreter is not there.
fn interpreter(script: &Path, view: &View) -> Option<Finding> {
    let interpreter = view.interpreter(script).filter(|interpreter| interpreter.is_absolute())?;
    view.at(&interpreter).is_missing().then(|| {
        let message = format!("`{}` is a script for `{}`, which is not there", script.display(), interpreter.display());
        Finding::warning("process.args[0]", message, "put the interpreter into the image, or mend the `#!` line")
    })
}

/// Hard limits that this runtime may not give.
fn rlimits(process: &Process) -> Vec<Finding> {
    if capabilities_of(None).map_or(true, |own| own.effective.contains(CapabilitySet::SYS_RESOURCE)) {
        return vec![];
    }
    let limits = process.rlimits().iter().flatten().enumerate();
    let above = limits.filter_map(|(i, limit)| {
        let (_, own) = crate::sys::process::rlimit(0, resource(limit.typ())).ok()?;
        (limit.hard() > own).then(|| {
            let message = format!("{} is above the runtime's own hard limit, {own}", limit.hard());
            let advice = "only CAP_SYS_RESOURCE raises that: ask for no more";
            Finding::warning(format!("process.rlimits[{i}].hard"), message, advice)
        })
    });
    above.collect()
}

fn cwd(process: &Process, view: &View) -> Option<Finding> {
    // A relative one is an error.
    let cwd = Some(process.cwd()).filter(|cwd| cwd.is_absolute())?;
    match view.at(cwd) {
        Seen::Found(found) if !found.is_dir() => {
            let message = format!("`{}` is not a directory", cwd.display());
            Some(Finding::warning("process.cwd", message, "the process can't be started there"))
        }
        Seen::Missing => {
            let message = format!("there is no `{}` in the image", cwd.display());
            Some(Finding::warning("process.cwd", message, "the runtime makes it, empty and owned by root"))
        }
        _ => None,
    }
}

fn environment(process: &Process) -> Vec<Finding> {
    let mut findings = vec![];
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (i, entry) in process.env().iter().flatten().enumerate() {
        let path = format!("process.env[{i}]");
        // What is a value may be a secret: only the name is told.
        let Some((name, _)) = entry.split_once('=') else {
            let message = "it has no `=`, and so sets nothing";
            findings.push(Finding::warning(path, message, "write NAME=value"));
            continue;
        };
        if name.is_empty() {
            findings.push(Finding::warning(path, "the variable has no name", "write NAME=value"));
        } else if let Some(first) = seen.get(name) {
            let message = format!("`{name}` is set by process.env[{first}] already");
            findings.push(Finding::warning(path, message, "which of them counts is up to the program: keep one"));
        } else {
            seen.insert(name, i);
        }
    }
    if !seen.contains_key("PATH") {
        let message = format!("it sets no PATH: programs are looked for in `{DEFAULT_PATH}`");
        findings.push(Finding::warning("process.env", message, "set PATH"));
    }
    findings
}

fn terminal(process: &Process) -> Option<Finding> {
    let size = process.console_size()?;
    match process.terminal().unwrap_or(false) {
        false => {
            let message = "there is no terminal that could have a size";
            Some(Finding::warning("process.consoleSize", message, "set process.terminal, or leave the size out"))
        }
        true if size.height() == 0 || size.width() == 0 => {
            let message = format!("a terminal of {} rows and {} columns shows nothing", size.height(), size.width());
            Some(Finding::warning("process.consoleSize", message, "leave it out: the caller's own size is taken then"))
        }
        true => None,
    }
}

/// capabilities(7), "Transformation of capabilities during execve()": what the kernel will not raise, or will drop.
fn capabilities(sets: &LinuxCapabilities) -> Vec<Finding> {
    type Set = Option<HashSet<Capability>>;
    let missing = |of: &Set, from: &Set| -> Vec<String> {
        let from = from.clone().unwrap_or_default();
        let mut names: Vec<String> = of.iter().flatten().filter(|c| !from.contains(c)).map(full_name).collect();
        names.sort();
        names
    };
    let rules = [
        ("effective", sets.effective(), "permitted", sets.permitted(), "what is not permitted can't be effective"),
        ("ambient", sets.ambient(), "permitted", sets.permitted(), "the kernel raises only what is in both others"),
        ("ambient", sets.ambient(), "inheritable", sets.inheritable(), "the kernel raises only what is in both others"),
        ("permitted", sets.permitted(), "bounding", sets.bounding(), "the program loses it when it is executed"),
    ];
    let warn = |(name, set, other, from, why): (&str, &Set, &str, &Set, &str)| {
        let names = missing(set, from);
        let message = format!("not in {other}: {}", names.join(", "));
        (!names.is_empty()).then(|| Finding::warning(format!("process.capabilities.{name}"), message, why))
    };
    rules.into_iter().filter_map(warn).collect()
}

fn full_name(capability: &Capability) -> String {
    let name = capability.to_string();
    if name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
}

/// IDs that the container's own mapping does not have: the kernel refuses them.
fn ids(process: &Process, spec: &Spec) -> Vec<Finding> {
    let Some(linux) = spec.linux() else { return vec![] };
    if !has_user_namespace(spec) {
        return vec![];
    }
    let user = process.user();
    let groups = user.additional_gids().iter().flatten().enumerate();
    let groups = groups.map(|(i, gid)| (format!("process.user.additionalGids[{i}]"), *gid, "gidMappings"));
    let ids = [
        ("process.user.uid".to_owned(), user.uid(), "uidMappings"),
        ("process.user.gid".to_owned(), user.gid(), "gidMappings"),
    ];
    let check = |(path, id, property): (String, u32, &str)| {
        let lines = if property == "uidMappings" { linux.uid_mappings() } else { linux.gid_mappings() };
        // Without lines they are those of the namespace that is joined.
        let lines = lines.as_deref().filter(|lines| !lines.is_empty())?;
        let holds = |m: &LinuxIdMapping| id >= m.container_id() && id - m.container_id() < m.size();
        let message = format!("{id} is not mapped by linux.{property}");
        let advice = "the process can't be started: map it, or choose another";
        (!lines.iter().any(holds)).then(|| Finding::warning(path, message, advice))
    };
    ids.into_iter().chain(groups).filter_map(check).collect()
}

pub(super) fn has_user_namespace(spec: &Spec) -> bool {
    has_namespace(spec, LinuxNamespaceType::User)
}

pub(super) fn has_namespace(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.into_iter().flatten().any(|namespace| namespace.typ() == kind)
}

/// The host's root with nothing around it.
fn unconfined(process: &Process, spec: &Spec) -> Option<Finding> {
    let sets = process.capabilities().as_ref()?;
    let holds = |set: &Option<HashSet<Capability>>| {
        let set = set.as_ref();
        [Capability::SysAdmin, Capability::SysModule, Capability::SysPtrace]
            .iter()
            .all(|capability| set.is_some_and(|set| set.contains(capability)))
    };
    let filtered = spec.linux().as_ref().is_some_and(|linux| linux.seccomp().is_some());
    let root = process.user().uid() == 0 && !has_user_namespace(spec);
    (root && !filtered && holds(sets.bounding()) && holds(sets.effective())).then(|| {
        let message = "it is the host's root with every right, no user namespace and no seccomp filter";
        let advice = "whoever breaks out of it owns the host: take capabilities away, or add a user namespace";
        Finding::warning("process.capabilities", message, advice)
    })
}

/// Why a program of the host can't be run; None if it can, or if it can't be known.
pub(super) fn is_runnable(path: &Path) -> Option<&'static str> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::metadata(path) {
        // An error already.
        _ if !path.is_absolute() => None,
        Ok(found) if !found.is_file() => Some("is no regular file"),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => Some("is not executable"),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Some("is not there"),
        _ => None,
    }
}
