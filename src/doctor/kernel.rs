//! System calls, and features of the kernel that are files. docs/kernels.md says what is done without each.

use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;

use super::{Check, words};
use crate::parent::idmap;
use crate::plan::host::Host;
use crate::plan::namespaces::{IdMap, IdMaps};
use crate::procfs::Proc;
use crate::sys::ask::{Feature, lacks};
use crate::sys::mount::{MountAttr, mount_setattr};
use crate::sys::seccomp::{action_available, flag_available};

/// A call, the kernel that has it, and what is done without it.
type Row = (&'static str, Feature, &'static str, &'static str);

const CALLS: [Row; 9] = [
    ("clone3", Feature::Clone3, "5.3", "the child is made by clone"),
    ("CLONE_INTO_CGROUP", Feature::CloneIntoCgroup, "5.7", "the child joins its cgroup after it is born"),
    ("pidfd_open", Feature::PidfdOpen, "5.3", "processes are known by number and start time"),
    ("pidfd_send_signal", Feature::PidfdSendSignal, "5.1", "signals are sent by number"),
    ("close_range", Feature::CloseRange, "5.9", "fds are closed one by one"),
    ("CLOSE_RANGE_CLOEXEC", Feature::CloseRangeCloexec, "5.11", "fds are marked one by one"),
    ("openat2", Feature::Openat2, "5.6", "paths in the container are walked one directory at a time"),
    ("faccessat2", Feature::Faccessat2, "5.8", "access is asked for without it"),
    ("memfd_create", Feature::MemfdCreate, "3.17", "there is no sealed copy of the runtime to execute"),
];

pub(super) fn checks(host: &Host, proc: &Proc) -> Vec<Check> {
    let mut checks = mount_api(host);
    checks.extend(CALLS.iter().map(|(name, feature, since, without)| match lacks(*feature) {
        None => Check::ok(*name, format!("the kernel has it (Linux {since})")),
        Some(Errno::PERM) => Check::missing(*name, FORBIDDEN, without, "let the filter around this process allow it"),
        Some(errno) => Check::missing(*name, words(errno), without, &format!("Linux {since} has it")),
    }));
    // There is no other way to start the child.
    checks.push(match lacks(Feature::Execveat) {
        None => Check::ok("execveat", "the kernel has it"),
        Some(errno) => Check::missing("execveat", words(errno), "no container can be started", "").vital(),
    });
    checks.push(id_mapped(host, proc));
    checks.push(seccomp_notify());
    checks
}

const FORBIDDEN: &str = "a seccomp filter around this process forbids it";

/// As the plan has asked for it.
fn mount_api(host: &Host) -> Vec<Check> {
    let api = host.mount_api;
    let calls = [
        ("open_tree", api.open_tree, "5.2", "mounts are made by mount(2), from paths"),
        ("move_mount", api.move_mount, "5.2", "mounts are made by mount(2), from paths"),
        ("fsopen, fsconfig, fsmount", api.fsopen, "5.2", "new file systems are made by mount(2)"),
        ("mount_setattr", api.mount_setattr, "5.12", "no id-mapped mounts; recursive flags are set mount by mount"),
        ("OPEN_TREE_NAMESPACE", api.namespace, "7.0", "the container begins with a copy of the host's mounts"),
    ];
    let check = |(name, has, since, without): (&str, bool, &str, &str)| match has {
        true => Check::ok(name, format!("the kernel has it (Linux {since})")),
        false => Check::missing(name, "it can't be called", without, &format!("Linux {since} has it")),
    };
    calls.into_iter().map(check).collect()
}

/// Maps the IDs of a copy of `/` that is mounted nowhere.
fn id_mapped(host: &Host, proc: &Proc) -> Check {
    let name = "id-mapped mounts";
    if !host.is_machine_root() {
        return Check::missing(name, "only the machine's root may make them", "`idmap` of a mount is refused", "");
    }
    let map = || {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = rustix::mount::open_tree(CWD, "/", flags)?;
        let namespace = crate::sys::userns::with_new(|pid| {
            // The kernel takes no namespace without a mapping.
            let line = vec![IdMap { container: 0, host: 0, size: 65536 }];
            idmap::write(pid, &IdMaps { uid: line.clone(), gid: line }, proc)?;
            proc.open_namespace(&pid.to_string(), "user")
        })?;
        let namespace = namespace.map_err(|error| error.errno().unwrap_or(Errno::IO))?;
        let fd = namespace.as_raw_fd() as u64;
        let attr = MountAttr { set: libc::MOUNT_ATTR_IDMAP, userns_fd: fd, ..MountAttr::default() };
        mount_setattr(tree.as_fd(), false, &attr)
    };
    match map() {
        Ok(()) => Check::ok(name, "the IDs of `/` can be mapped"),
        Err(Errno::INVAL) => {
            let found = "the file system of `/` has none";
            Check::partly(name, found, "`idmap` fails for files there", "ext4 and xfs have them, tmpfs since Linux 6.3")
        }
        Err(errno) => Check::missing(name, words(errno), "`idmap` of a mount is refused", "Linux 5.12 has them"),
    }
}

fn seccomp_notify() -> Check {
    const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
    const WAIT_KILLABLE: u64 = 32;
    match (action_available(NOTIFY), flag_available(WAIT_KILLABLE)) {
        (true, true) => Check::ok("seccomp notify", "SCMP_ACT_NOTIFY and WAIT_KILLABLE_RECV"),
        (true, false) => {
            let found = "SCMP_ACT_NOTIFY alone";
            let follows = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is an error";
            Check::partly("seccomp notify", found, follows, "Linux 5.19 has it")
        }
        (false, _) => {
            Check::missing("seccomp notify", "no SCMP_ACT_NOTIFY", "filters that notify fail", "Linux 5.0 has it")
        }
    }
}
