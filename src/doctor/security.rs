//! What confines a container beside its namespaces.

use super::Check;
use crate::plan::host::Host;
use crate::sys::seccomp::action_available;

/// The file of the active security modules; in securityfs, which is not mounted everywhere.
const LSMS: &str = "/sys/kernel/security/lsm";

pub(super) fn checks(host: &Host) -> Vec<Check> {
    let modules = match std::fs::read_to_string(LSMS) {
        Ok(list) => Check::ok("security modules", list.trim().replace(',', ", ")),
        Err(_) => {
            let follows = "which are active is not known; those below are asked for by themselves";
            let advice = "mount -t securityfs securityfs /sys/kernel/security";
            Check::partly("security modules", format!("no {LSMS}"), follows, advice)
        }
    };
    let module = |name: &str, has: bool, property: &str| match has {
        true => Check::ok(name, "enabled"),
        false => {
            let follows = format!("{property} is refused");
            Check::missing(
                name,
                "not enabled",
                &follows,
                &format!("a kernel that is booted with lsm=...,{}", name.to_lowercase()),
            )
        }
    };
    vec![
        modules,
        module("AppArmor", host.apparmor, "process.apparmorProfile"),
        module("SELinux", host.selinux, "process.selinuxLabel, or linux.mountLabel,"),
        seccomp(),
    ]
}

fn seccomp() -> Check {
    const ERRNO: u32 = libc::SECCOMP_RET_ERRNO;
    match action_available(ERRNO) {
        true => Check::ok("seccomp", "the kernel filters system calls"),
        false => Check::missing("seccomp", "the kernel has no filters", "linux.seccomp fails", "CONFIG_SECCOMP_FILTER"),
    }
}
