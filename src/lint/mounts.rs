//! Warnings about `mounts`, and about paths that a mount would have to make.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::process::has_namespace;
use super::rootfs::{View, bind_source, is_bind};
use super::{Finding, Subject, control_groups, mount_options};
use crate::plan::mounts::{destination, for_user_namespaces};

pub(super) fn warnings(subject: &Subject<'_>, view: &View) -> Vec<Finding> {
    let spec = subject.spec;
    let mounts: Vec<(PathBuf, &Mount)> = spec
        .mounts()
        .iter()
        .flatten()
        .map(|mount| (destination(mount.destination(), "").unwrap_or_default(), mount))
        .collect();
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let cgroups = control_groups::places();
    let mut findings = vec![];
    for (i, (at, mount)) in mounts.iter().enumerate().filter(|(_, (at, _))| !at.as_os_str().is_empty()) {
        findings.extend(relative(i, mount));
        findings.extend(mount_options::warnings(i, mount));
        findings.extend(hidden(i, at, &mounts));
        findings.extend(source(i, mount, subject.bundle));
        findings.extend(of_no_kernel(i, mount, &filesystems));
        findings.extend(of_the_host(i, mount, spec));
        let (this, later) = ((i, at.as_path(), *mount), &mounts[i + 1..]);
        findings.extend(control_groups::left_writable(this, later, &cgroups, (spec, subject.bundle)));
        findings.extend(of_no_user_namespace(i, mount, spec));
        findings.extend(not_to_be_made(i, at, &mounts[..i], view));
    }
    findings.extend(needless(spec, view));
    findings
}

/// Covered by one that comes later.
fn hidden(i: usize, at: &Path, mounts: &[(PathBuf, &Mount)]) -> Option<Finding> {
    let (later, (over, _)) = mounts.iter().enumerate().skip(i + 1).find(|(_, (over, _))| at.starts_with(over))?;
    if over.as_os_str().is_empty() {
        return None;
    }
    let what = if over == at { "on the same place".to_owned() } else { format!("on `{}`", over.display()) };
    let message = format!("`{}` is hidden by mounts[{later}], {what}", at.display());
    let advice = if over == at { "leave one of them out" } else { "move it behind that one" };
    Some(Finding::warning(format!("mounts[{i}].destination"), message, advice))
}

fn source(i: usize, mount: &Mount, bundle: &Path) -> Option<Finding> {
    let source = bind_source(mount, bundle)?;
    // A link may be what is meant, wherever it leads.
    let links = ["src-nofollow", "copy-symlink"];
    let nofollow = mount.options().iter().flatten().any(|option| links.contains(&option.as_str()));
    let found = if nofollow { std::fs::symlink_metadata(&source) } else { std::fs::metadata(&source) };
    let missing = found.err().filter(|e| e.kind() == std::io::ErrorKind::NotFound)?;
    let missing = missing.to_string();
    let why = missing.split(" (os error").next().unwrap_or_default();
    let message = format!("`{}`: {why}", source.display());
    Some(Finding::warning(format!("mounts[{i}].source"), message, "make it before the container is created"))
}

/// A file system that the kernel has not, or not yet: a module may bring it.
fn of_no_kernel(i: usize, mount: &Mount, filesystems: &str) -> Option<Finding> {
    let fstype = mount.typ().as_deref().filter(|fstype| !is_bind(mount) && !["", "none", "cgroup"].contains(fstype))?;
    // What follows the dot is for the program that serves it.
    let name = fstype.split('.').next().unwrap_or(fstype);
    let mut known = filesystems.lines().filter_map(|line| line.split_whitespace().last());
    (!filesystems.is_empty() && !known.any(|known| known == name)).then(|| {
        let message = format!("`{name}` is not in /proc/filesystems");
        Finding::warning(format!("mounts[{i}].type"), message, "it can be mounted only if a module brings it")
    })
}

/// A proc of the host's processes.
fn of_the_host(i: usize, mount: &Mount, spec: &Spec) -> Option<Finding> {
    let own_pids = has_namespace(spec, LinuxNamespaceType::Pid);
    let proc = mount.typ().as_deref() == Some("proc") && !is_bind(mount);
    let bound = is_bind(mount) && mount.source().as_deref() == Some(Path::new("/proc"));
    let path = format!("mounts[{i}]");
    if proc && !own_pids {
        let message = "without a pid namespace it shows the host's processes";
        return Some(Finding::warning(path, message, "add {\"type\": \"pid\"} to `linux.namespaces`"));
    }
    (bound && own_pids).then(|| {
        let message = "the host's /proc does not show the container's pid namespace";
        Finding::warning(path, message, "mount a new one: {\"type\": \"proc\", \"source\": \"proc\"}")
    })
}

/// A file system that the machine's root alone may mount.
fn of_no_user_namespace(i: usize, mount: &Mount, spec: &Spec) -> Option<Finding> {
    let fstype = mount.typ().as_deref().filter(|fstype| !is_bind(mount) && !["", "none"].contains(fstype))?;
    (has_namespace(spec, LinuxNamespaceType::User) && !for_user_namespaces(fstype)).then(|| {
        let message = format!("the kernel lets no user namespace mount `{fstype}`");
        Finding::warning(format!("mounts[{i}].type"), message, "mount it on the host, and bind that (type `bind`)")
    })
}

/// A mount point that is not there and can't be made: the runtime makes it on the host, whatever the container may write to.
fn not_to_be_made(i: usize, at: &Path, before: &[(PathBuf, &Mount)], view: &View) -> Option<Finding> {
    let in_mount = before.iter().any(|(over, _)| !over.as_os_str().is_empty() && at.starts_with(over));
    let above = view.below_mounts().sealed_above(at).filter(|_| !in_mount)?;
    let message = format!("`{}` is not in the root file system, and `{}` is read-only", at.display(), above.display());
    let advice = "the runtime can't make it there: put it in the image";
    Some(Finding::warning(format!("mounts[{i}].destination"), message, advice))
}

fn relative(i: usize, mount: &Mount) -> Option<Finding> {
    let destination = mount.destination();
    (!destination.as_os_str().is_empty() && !destination.is_absolute()).then(|| {
        let message = format!("`{}` is relative: it is taken from the container's root", destination.display());
        Finding::warning(
            format!("mounts[{i}].destination"),
            message,
            "begin it with a slash, as the specification has it",
        )
    })
}

/// Paths to hide below file systems that are not mounted.
fn needless(spec: &Spec, view: &View) -> Vec<Finding> {
    let Some(linux) = spec.linux() else { return vec![] };
    let lists = [("linux.maskedPaths", linux.masked_paths()), ("linux.readonlyPaths", linux.readonly_paths())];
    let mut findings = vec![];
    for (property, paths) in lists {
        for (i, path) in
            paths.iter().flatten().enumerate().filter(|(_, path)| !path.is_empty() && !path.starts_with('/'))
        {
            let message = format!("`{path}` is relative: it is taken from the container's root");
            findings.push(Finding::warning(format!("{property}[{i}]"), message, "begin it with a slash"));
        }
        for top in ["/proc", "/sys"] {
            let below = |path: &&String| Path::new(path).starts_with(top);
            let first = paths.iter().flatten().position(|path| below(&path));
            if let Some(first) = first.filter(|_| !view.covers(Path::new(top)) && view.has_rootfs()) {
                let count = paths.iter().flatten().filter(below).count();
                let message = format!("nothing is mounted on {top}: {count} paths below it do nothing");
                let advice = format!("mount {top} by `mounts`, or leave them out");
                findings.push(Finding::warning(format!("{property}[{first}]"), message, advice));
            }
        }
    }
    findings
}
