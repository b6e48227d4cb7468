//! Why the kernel refuses a user namespace a new proc or sysfs.

use crate::error::Error;
use crate::mountinfo::Mount;
use crate::plan::mounts::for_user_namespaces;
use crate::procfs::Proc;

/// Directories that the kernel has made for nothing but to mount on (`sysfs_create_mount_point` and its like): what is
/// mounted there hides nothing.
const EMPTY_BY_NATURE: [&str; 14] = [
    "/sys/fs/binfmt_misc",
    "/fs/nfsd",
    "/fs/selinux",
    "/fs/smackfs",
    "/fs/cgroup",
    "/fs/pstore",
    "/fs/bpf",
    "/fs/fuse/connections",
    "/fs/resctrl",
    "/kernel/security",
    "/kernel/debug",
    "/kernel/tracing",
    "/kernel/config",
    "/firmware/efi/efivars",
];

/// A user namespace gets a new instance only where one is visible to it that hides nothing: else masks that the host has
/// made could be got around (`mount_too_revealing` of the kernel's fs/namespace.c). Says what hides it here.
pub(super) fn explain(fstype: &str, proc: &Proc, error: Error) -> Error {
    let in_userns = || proc.in_initial_userns().is_ok_and(|initial| !initial);
    match fstype {
        "proc" | "sysfs" => {}
        _ if !for_user_namespaces(fstype) && in_userns() => {
            return error.advise(format!(
                "the kernel lets no user namespace mount `{fstype}`: mount it on the host, and bind that (type `bind`)"
            ));
        }
        _ => return error,
    }
    match proc.read("self/mountinfo") {
        Ok(mountinfo) => error.advise(advice(fstype, &mountinfo)),
        // The refusal is the news, not that it can't be explained.
        Err(_) => error,
    }
}

fn advice(fstype: &str, mountinfo: &str) -> String {
    let rule = format!(
        "mount_too_revealing: a user namespace may mount a new {fstype} only where a {fstype} that hides nothing is visible"
    );
    let mounts: Vec<Mount> = Mount::all(mountinfo).collect();
    let visible: Vec<&Mount> = mounts.iter().filter(|m| m.fstype == fstype && m.root == "/").collect();
    if visible.is_empty() {
        return format!("{rule}; here is none");
    }
    let mut hidden = vec![];
    for one in visible {
        let covering = mounts.iter().filter(|m| m.parent == one.id);
        let counts = |m: &&Mount| !EMPTY_BY_NATURE.iter().any(|end| m.point.ends_with(end));
        let covering: Vec<String> = covering.filter(counts).map(|m| format!("`{}` ({})", m.point, m.fstype)).collect();
        match covering.is_empty() {
            true => hidden.push(format!("`{}` has flags that the new one would not have", one.point)),
            false => hidden.push(format!("`{}` is covered by the mounts on {}", one.point, few(&covering))),
        }
    }
    format!("{rule}; {}", few(&hidden))
}

fn few(all: &[String]) -> String {
    const FEW: usize = 4;
    let first = all.iter().take(FEW).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(FEW) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_covering_mounts_are_named() {
        let mountinfo = "\
22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:4 / /proc rw - proc proc rw
31 30 0:5 /null /proc/kcore rw - devtmpfs udev rw
32 30 0:6 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw
";
        let said = advice("proc", mountinfo);
        assert!(said.contains("`/proc` is covered by the mounts on `/proc/kcore` (devtmpfs)"), "{said}");
        assert!(!said.contains("binfmt_misc"), "{said}");
        assert!(advice("sysfs", mountinfo).ends_with("here is none"));
    }
}
