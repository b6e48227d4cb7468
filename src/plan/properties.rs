//! Single properties of `linux` and of the top level: names, sysctls, masked paths, propagation, personality.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxPersonalityDomain};

use super::findings::Findings;
use super::namespaces::{Namespaces, flag};
use super::options::Propagation;
use crate::error::{Error, Result, member};

/// Paths of the container; a relative one is taken from its root, as every runtime does.
pub(super) fn paths(paths: Option<&[String]>, at: &str, findings: &mut Findings) -> Vec<PathBuf> {
    let paths = paths.unwrap_or_default().iter().enumerate();
    let path = |(i, path): (usize, &String)| match Path::new("/").join(path) {
        path if path.file_name().is_some() => Ok(path),
        _ => Err(Error::at(format!("{at}[{i}]"), format!("`{path}` is the container's root, or above it"))),
    };
    paths.filter_map(|numbered| findings.take(path(numbered))).collect()
}

/// Nothing gets in or out unless it is asked for.
pub(super) const DEFAULT_PROPAGATION: (Propagation, bool) = (Propagation::Private, true);

pub(super) fn rootfs_propagation(linux: &Linux) -> Result<(Propagation, bool)> {
    match linux.rootfs_propagation().as_deref() {
        None | Some("") => Ok(DEFAULT_PROPAGATION),
        Some(word) => Propagation::parse(word)
            .ok_or_else(|| Error::at("linux.rootfsPropagation", format!("`{word}` is no propagation type"))),
    }
}

/// A host name needs a namespace of its own, or it would rename the host. A sysctl may say it too, and must say the same.
pub(super) fn named(
    name: &Option<String>,
    property: &str,
    namespaces: &Namespaces,
    linux: &Linux,
) -> Result<Option<String>> {
    let also = |(sysctl, value): (&String, &String)| {
        (path_of(sysctl).as_deref() == Some(format!("kernel/{property}").as_str()))
            .then(|| (sysctl.clone(), value.clone()))
    };
    let other = linux.sysctl().iter().flatten().find_map(also);
    match name.as_ref().filter(|n| !n.is_empty()) {
        Some(name) if other.as_ref().is_some_and(|(_, value)| value != name) => {
            let (sysctl, value) = other.unwrap_or_default();
            let message = format!("`linux.sysctl` has `{sysctl}` be `{value}`, and `{property}` is `{name}`");
            Err(Error::config(message).advise("leave one of them out").about(member("linux.sysctl", &sysctl)))
        }
        Some(_) if !namespaces.has(flag::UTS) => {
            Err(Error::config(format!("`{property}` needs a uts namespace in `linux.namespaces`")).about(property))
        }
        Some(name) if name.len() > 64 => {
            Err(Error::config(format!("`{property}` has over 64 characters")).about(property))
        }
        name => Ok(name.cloned()),
    }
}

/// The namespace that a sysctl (a path below /proc/sys) belongs to; None where it is the machine's, as far as one knows.
/// namespaces(7), and ipc/ipc_sysctl.c, ipc/mq_sysctl.c, kernel/ucount.c and kernel/utsname_sysctl.c of Linux.
fn namespace_of(path: &str) -> Option<(u32, &'static str)> {
    const IPC: [&str; 12] = [
        "auto_msgmni",
        "msg_next_id",
        "msgmax",
        "msgmnb",
        "msgmni",
        "sem",
        "sem_next_id",
        "shm_next_id",
        "shm_rmid_forced",
        "shmall",
        "shmmax",
        "shmmni",
    ];
    match path.split_once('/')? {
        ("net", _) => Some((flag::NET, "network")),
        ("user", _) => Some((flag::USER, "user")),
        ("fs", name) if name.starts_with("mqueue/") => Some((flag::IPC, "ipc")),
        ("kernel", name) if IPC.contains(&name) => Some((flag::IPC, "ipc")),
        ("kernel", "domainname" | "hostname") => Some((flag::UTS, "uts")),
        _ => None,
    }
}

/// Why a sysctl that is none of these namespaces' can't be set for a container.
fn why_not(path: &str) -> &'static str {
    match path {
        "kernel/arch" | "kernel/osrelease" | "kernel/ostype" | "kernel/version" => "can only be read",
        "kernel/ns_last_pid" | "vm/memfd_noexec" => "is the pid namespace's, and those this runtime does not set",
        "kernel/pid_max" => "is the pid namespace's since Linux 6.14 only: before, it would change the host",
        _ => "is of no namespace: it would change the host",
    }
}

/// The path of a sysctl below /proc/sys; None for what can be none: all of them are in directories. Both spellings are in use:
/// dots for slashes, and, for names with a dot in them, slashes themselves.
pub(crate) fn path_of(name: &str) -> Option<String> {
    let path = match name.as_bytes()[name.find(['.', '/'])?] {
        b'.' => name.replace('.', "\0").replace('/', ".").replace('\0', "/"),
        _ => name.to_owned(),
    };
    let dots = |component: &str| matches!(component, "" | "." | "..");
    (!path.split('/').any(dots)).then_some(path)
}

/// Checks that each sysctl belongs to a namespace of the container's own; else it would change the host.
pub(super) fn sysctls(linux: &Linux, namespaces: &Namespaces, findings: &mut Findings) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = vec![];
    let mut asked: Vec<_> = linux.sysctl().iter().flatten().collect();
    asked.sort();
    for (name, value) in asked {
        let mut refuse = |why: String| {
            findings.add(Error::at("linux.sysctl", why).about(member("linux.sysctl", name)));
        };
        let Some(path) = path_of(name) else {
            refuse(format!("`{name}` is no sysctl"));
            continue;
        };
        match namespace_of(&path) {
            None => refuse(format!("`{name}` {}", why_not(&path))),
            Some((flag, kind)) if !namespaces.has(flag) => {
                refuse(format!("`{name}` needs a {kind} namespace in `linux.namespaces`"));
            }
            Some(_) => all.push((path, value.clone())),
        }
    }
    all.sort();
    all
}

/// `linux.personality`, as personality(2) takes it.
///
/// # Errors
/// Flags, of which there are none.
pub(crate) fn personality(linux: &Linux) -> Result<Option<u32>> {
    const PER_LINUX: u32 = 0;
    const PER_LINUX32: u32 = 8;
    let Some(personality) = linux.personality() else {
        return Ok(None);
    };
    if personality.flags().as_ref().is_some_and(|f| !f.is_empty()) {
        return Err(Error::at("linux.personality.flags", "the specification defines none"));
    }
    Ok(Some(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => PER_LINUX,
        LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
    }))
}
