//! Namespaces: each is made, by a process that ends at once.

use std::path::Path;

use rustix::io::Errno;

use super::{Check, words};
use crate::plan::host::Host;
use crate::plan::namespaces::flag;
use crate::sys::userns::with_namespaces;

/// Each type that clone(2) makes, and whether there are containers without it.
const TYPES: [(&str, u32, bool); 6] = [
    ("mount", flag::MOUNT, true),
    ("pid", flag::PID, false),
    ("network", flag::NET, false),
    ("ipc", flag::IPC, false),
    ("uts", flag::UTS, false),
    ("cgroup", flag::CGROUP, false),
];

pub(super) fn checks(host: &Host) -> Vec<Check> {
    let mut checks = vec![user(host)];
    // Who is not root has rights only in a user namespace.
    let around = if host.root { 0 } else { flag::USER };
    checks.extend(TYPES.map(|(name, flag, vital)| {
        let check = match with_namespaces(around | flag, |_| ()) {
            Ok(()) => Check::ok(name, "one can be made"),
            Err(errno) => refused(name, errno),
        };
        if vital { check.vital() } else { check }
    }));
    checks.push(match Path::new("/proc/self/ns/time").exists() {
        true => Check::ok("time", "the kernel has them"),
        false => {
            Check::missing("time", "the kernel has none", "`time` in linux.namespaces fails", "Linux 5.6 has them")
        }
    });
    checks
}

fn refused(name: &str, errno: Errno) -> Check {
    let follows = format!("no container with a {name} namespace of its own can be made");
    let advice = match errno {
        Errno::INVAL => "a kernel that is built with it",
        Errno::NOSPC | Errno::USERS => "raise the limit in /proc/sys/user",
        _ => "root needs CAP_SYS_ADMIN; others a user namespace that gives them rights",
    };
    Check::missing(name, words(errno), &follows, advice)
}

fn user(host: &Host) -> Check {
    let check = match with_namespaces(flag::USER, |_| ()) {
        Ok(()) => Check::ok("user", "one can be made"),
        Err(errno) => {
            let follows = "no container with a user namespace can be made";
            Check::missing("user", words(errno), follows, &why_none(errno))
        }
    };
    // An ordinary user has no other containers.
    if host.root { check } else { check.vital() }
}

/// What forbids user namespaces, by the switches that distributions have for it.
fn why_none(errno: Errno) -> String {
    let number = |file: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/{file}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    match () {
        () if number("user/max_user_namespaces") == Some(0) => "sysctl -w user.max_user_namespaces=15000".into(),
        () if number("kernel/unprivileged_userns_clone") == Some(0) => {
            "sysctl -w kernel.unprivileged_userns_clone=1".into()
        }
        () if number("kernel/apparmor_restrict_unprivileged_userns") == Some(1) => {
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with `userns`".into()
        }
        () if errno == Errno::NOSPC => "there are as many as user.max_user_namespaces allows, or 32 nested".into(),
        () if errno == Errno::INVAL => "a kernel with CONFIG_USER_NS".into(),
        () => "a filter or a security module around this process forbids it".into(),
    }
}
