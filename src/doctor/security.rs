//! What confines a container beside its namespaces.

use rustix::thread::{CapabilitySet, capabilities};

use super::Check;
use crate::plan::host::Host;
use crate::plan::process::capability_names;
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
    let mut checks = own_capabilities(host);
    checks.extend([
        modules,
        module("AppArmor", host.apparmor, "process.apparmorProfile"),
        module("SELinux", host.selinux, "process.selinuxLabel, or linux.mountLabel,"),
        seccomp(),
    ]);
    checks
}

/// What root needs for containers beside the calls that are asked for by themselves, and what follows without.
const NEEDED: [(CapabilitySet, &str); 8] = [
    (CapabilitySet::SYS_ADMIN, "only containers with a user namespace can be made"),
    (
        CapabilitySet::SYS_RESOURCE,
        "process.rlimits over the runtime's own hard limits fail, which podman asks for by itself",
    ),
    (CapabilitySet::MKNOD, "devices are the host's own nodes, bound"),
    (CapabilitySet::NET_ADMIN, "linux.netDevices fails, and so does a network namespace without a user namespace"),
    (CapabilitySet::SETUID, "process.user other than the runtime's own fails"),
    (CapabilitySet::SETGID, "process.user other than the runtime's own fails"),
    (CapabilitySet::SETPCAP, "no capability can be taken out of a container's bounding set"),
    (CapabilitySet::SYS_CHROOT, "a container's root can't be entered"),
];

/// Of the machine's root: a container's process gets none that the runtime has not. Who is not root has all of them in the
/// user namespace that every container of his has.
fn own_capabilities(host: &Host) -> Vec<Check> {
    let name = "capabilities";
    let own = match capabilities(None) {
        Ok(sets) => sets.effective,
        Err(errno) => return vec![Check::partly(name, super::words(errno), "they are not known", "")],
    };
    if !host.root {
        return vec![Check::ok(name, "those of a user namespace, for each container")];
    }
    let known = CapabilitySet::all() & CapabilitySet::from_bits_retain(bounds());
    let lacking = known & !own;
    let advice = "whoever started this took it: look at the container or the service around";
    let needed = NEEDED.iter().filter(|(needed, _)| lacking.contains(*needed));
    let mut checks: Vec<Check> = needed
        .map(|(needed, follows)| Check::missing(capability_names(*needed), "root has it not", follows, advice))
        .collect();
    checks.insert(
        0,
        match lacking.is_empty() {
            true => Check::ok(name, "root has all"),
            false => {
                let found = format!("root has all but {}", capability_names(lacking));
                Check::partly(name, found, "a container in the same user namespace can't be given these", advice)
            }
        },
    );
    checks
}

/// A bit for each that the kernel knows.
fn bounds() -> u64 {
    let last =
        std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok().and_then(|text| text.trim().parse::<u32>().ok());
    last.map_or(u64::MAX, |last| u64::MAX >> 63_u32.saturating_sub(last))
}

fn seccomp() -> Check {
    const ERRNO: u32 = libc::SECCOMP_RET_ERRNO;
    match action_available(ERRNO) {
        true => Check::ok("seccomp", "the kernel filters system calls"),
        false => Check::missing("seccomp", "the kernel has no filters", "linux.seccomp fails", "CONFIG_SECCOMP_FILTER"),
    }
}
