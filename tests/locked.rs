//! The container's root in a user namespace has every right over the container's own mounts, and none over the host's
//! that it is shown: their flags are locked, and so is what they cover.
//!
//! mount_namespaces(7): mounts that come from a mount namespace with more rights are locked together, and their flags
//! with them. A tree that was cloned with the host's rights is not, unless the runtime sees to it.

#[macro_use]
mod common;

use std::fs;

use common::bundle::{mount, user_namespace};
use common::case::Case;
use common::look;
use common::outcome::Outcome;
use common::seccomp::without;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::json;

const FLAGS: MountFlags =
    MountFlags::RDONLY.union(MountFlags::NOSUID).union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const LOCKED: [&str; 4] = ["ro", "nosuid", "nodev", "noexec"];

/// With what is lacking each way of mounting is taken; nothing lacking is the kernel's best.
const WAYS: [(&str, &[&str]); 3] = [
    ("the kernel's best", &["listmount"]),
    ("no mount_setattr", &["mount_setattr"]),
    ("mount(2)", &["open_tree", "fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "mount_setattr"]),
];

/// Attempts to take flags off, by whoever has CAP_SYS_ADMIN over the container.
const ATTEMPTS: [&str; 5] = [
    "remount,bind,rw",
    "remount,bind,rw,suid,dev,exec",
    "remount,bind,ro,suid,nodev,noexec",
    "remount,bind,ro,nosuid,dev,noexec",
    "remount,bind,ro,nosuid,nodev,exec",
];

fn mapped(case: &mut Case) {
    case.alter(|c| {
        user_namespace(c, 100_000);
        let caps = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_CHROOT"]);
        c["process"]["capabilities"] = json!({"bounding": caps, "permitted": caps, "effective": caps});
    });
}

fn tmpfs(case: &Case, name: &str, flags: MountFlags) {
    fs::create_dir_all(case.path(name)).unwrap();
    rustix::mount::mount("x", case.path(name), "tmpfs", flags, None).unwrap();
}

fn unmount_below(case: &Case, name: &str) {
    for m in look::mounts("self").iter().rev().filter(|m| m.point.starts_with(&case.text(name))) {
        rustix::mount::unmount(m.point.as_str(), UnmountFlags::DETACH).unwrap();
    }
}

/// The attempts below fail for want of the right over one mount, not of the right to mount.
fn assert_it_may_mount(case: &Case, way: &str) {
    let script = "mkdir -p /tmp/own && mount -t tmpfs own /tmp/own && mount -o remount,bind,ro /tmp/own && \
                  mount -o remount,bind,rw /tmp/own && umount /tmp/own";
    for outcome in attempt(case, script) {
        assert_eq!(outcome.code(), 0, "{way}: {}", outcome.all());
    }
}

/// In the container, and in a mount namespace below it: a copy is locked as what it was copied from.
fn attempt(case: &Case, script: &str) -> [Outcome; 2] {
    [case.exec(&["sh", "-c", script]), case.exec(&["unshare", "-m", "sh", "-c", script])]
}

fn flags_at(pid: u32, point: &str) -> Vec<&'static str> {
    let m = look::mount_at(&look::mounts(pid), point);
    LOCKED.into_iter().filter(|f| m.has(f)).collect()
}

#[test]
fn flags_of_a_tree_stay_on_every_mount_of_it() {
    if !common::isolated("flags_of_a_tree_stay_on_every_mount_of_it", "") {
        return;
    }
    let mut case = case!("lockedtree");
    mapped(&mut case);
    tmpfs(&case, "source", MountFlags::empty());
    fs::create_dir(case.path("source/sub")).unwrap();
    rustix::mount::mount_bind(case.path("source"), case.path("source")).unwrap();
    rustix::mount::mount("x", case.path("source/sub"), "tmpfs", FLAGS, None).unwrap();
    rustix::mount::mount_remount(case.path("source"), MountFlags::BIND | FLAGS, c"").unwrap();
    let source = case.text("source");
    case.alter(|c| mount(c, "/tree", "bind", &source, &["rbind"]));
    fs::create_dir_all(case.rootfs().join("tree")).unwrap();
    for (way, lacking) in WAYS {
        without(lacking, Errno::NOSYS, || case.running());
        let pid = case.pid();
        assert_it_may_mount(&case, way);
        for point in ["/tree", "/tree/sub"] {
            assert_eq!(flags_at(pid, point), LOCKED, "{way}: {point} has what its source has");
            for options in ATTEMPTS {
                for outcome in attempt(&case, &format!("mount -o {options} {point}")) {
                    assert_ne!(outcome.code(), 0, "{way}: {options} of {point}");
                }
                assert_eq!(flags_at(pid, point), LOCKED, "{way}: {point} after {options}");
            }
        }
        assert_ne!(case.exec(&["touch", "/tree/new"]).code(), 0, "{way}");
        case.stop();
        case.delete();
    }
    unmount_below(&case, "source");
}

/// A mount of the host hides what is below it; a container that could take it away would see what the host hid.
#[test]
fn a_submount_can_not_be_taken_off_what_it_covers() {
    if !common::isolated("a_submount_can_not_be_taken_off_what_it_covers", "") {
        return;
    }
    let mut case = case!("covered");
    mapped(&mut case);
    tmpfs(&case, "source", MountFlags::empty());
    fs::create_dir(case.path("source/sub")).unwrap();
    fs::write(case.path("source/sub/secret"), "secret").unwrap();
    rustix::mount::mount("cover", case.path("source/sub"), "tmpfs", MountFlags::empty(), None).unwrap();
    let source = case.text("source");
    fs::create_dir_all(case.rootfs().join("tree")).unwrap();
    for propagation in ["rprivate", "rslave"] {
        case.alter(|c| {
            c["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/tree");
            mount(c, "/tree", "bind", &source, &["rbind", propagation]);
        });
        for (way, lacking) in WAYS {
            let why = format!("{way}, {propagation}");
            without(lacking, Errno::NOSYS, || case.running());
            let pid = case.pid();
            for script in [
                "umount /tree/sub",
                "umount -l /tree/sub",
                "mkdir -p /tmp/m; mount --move /tree/sub /tmp/m",
                // A bind of the upper mount alone shows what is below.
                "mkdir -p /tmp/m; mount -o bind /tree /tmp/m && test -e /tmp/m/sub/secret",
            ] {
                for outcome in attempt(&case, script) {
                    assert_ne!(outcome.code(), 0, "{why}: `{script}` was allowed");
                }
                let _ = case.exec(&["sh", "-c", "umount -l /tmp/m"]);
                assert_eq!(look::mount_at(&look::mounts(pid), "/tree/sub").source, "cover", "{why}: after `{script}`");
            }
            assert!(!look::inside(pid, "/tree/sub/secret").exists(), "{why}");
            case.stop();
            case.delete();
        }
    }
    unmount_below(&case, "source");
}

#[test]
fn flags_of_the_file_system_below_the_root_stay_on_the_root() {
    if !common::isolated("flags_of_the_file_system_below_the_root_stay_on_the_root", "") {
        return;
    }
    let mut case = case!("lockedroot");
    mapped(&mut case);
    // The image is on a mount that is nosuid and nodev, as many a volume is.
    rustix::mount::mount_bind(case.bundle(), case.bundle()).unwrap();
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount_remount(case.bundle(), MountFlags::BIND | flags, c"").unwrap();
    for (way, lacking) in WAYS {
        without(lacking, Errno::NOSYS, || case.running());
        let pid = case.pid();
        assert_eq!(flags_at(pid, "/"), ["nosuid", "nodev"], "{way}");
        for options in ["remount,bind,suid", "remount,bind,dev", "remount,bind,suid,dev,rw"] {
            for outcome in attempt(&case, &format!("mount -o {options} /")) {
                assert_ne!(outcome.code(), 0, "{way}: {options}");
            }
            assert_eq!(flags_at(pid, "/"), ["nosuid", "nodev"], "{way}: after {options}");
        }
        // The root itself can't be taken away to see the host's.
        for script in ["umount -l /", "umount /"] {
            let _ = attempt(&case, script);
        }
        assert_eq!(case.exec(&["test", "-e", "/bin/busybox"]).code(), 0, "{way}");
        case.stop();
        case.delete();
    }
    rustix::mount::unmount(case.bundle(), UnmountFlags::DETACH).unwrap();
}

/// The host's own nodes, each bound by itself: what the host has on its /dev stays on them.
#[test]
fn flags_stay_on_a_device_that_is_bound() {
    if !common::isolated("flags_stay_on_a_device_that_is_bound", "") {
        return;
    }
    let mut case = case!("lockeddev");
    mapped(&mut case);
    // A device of the host on a mount of its own with flags; and the six that every container has.
    fs::write(case.path("node"), "").unwrap();
    rustix::mount::mount_bind("/dev/full", case.path("node")).unwrap();
    rustix::mount::mount_remount(case.path("node"), MountFlags::BIND | FLAGS, c"").unwrap();
    let node = case.text("node");
    case.alter(|c| mount(c, "/dev/node", "bind", &node, &["bind"]));
    for (way, lacking) in WAYS {
        without(lacking, Errno::NOSYS, || case.running());
        let pid = case.pid();
        assert_eq!(flags_at(pid, "/dev/node"), LOCKED, "{way}");
        for options in ATTEMPTS {
            for outcome in attempt(&case, &format!("mount -o {options} /dev/node")) {
                assert_ne!(outcome.code(), 0, "{way}: {options}");
            }
            assert_eq!(flags_at(pid, "/dev/node"), LOCKED, "{way}: after {options}");
        }
        // It is nosuid,noexec by the runtime's choice; the container may not undo what it did not do.
        for name in ["null", "zero"] {
            let point = format!("/dev/{name}");
            let before = flags_at(pid, &point);
            assert!(before.contains(&"nosuid") && before.contains(&"noexec"), "{way}: {before:?}");
        }
        case.stop();
        case.delete();
    }
    rustix::mount::unmount(case.path("node"), UnmountFlags::DETACH).unwrap();
}

/// What the runtime hides or seals for the container, its root may not show or open again.
#[test]
fn masks_and_read_only_paths_can_not_be_taken_away() {
    let mut case = case!("lockedmasks");
    mapped(&mut case);
    fs::create_dir(case.rootfs().join("secret")).unwrap();
    fs::write(case.rootfs().join("secret/file"), "secret").unwrap();
    case.alter(|c| {
        c["linux"]["maskedPaths"] = json!(["/secret", "/proc/cpuinfo"]);
        c["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
        // Without the right to mount, as engines give it; with the one to map root once more.
        let caps = json!(["CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP"]);
        c["process"]["capabilities"] = json!({"bounding": caps, "permitted": caps, "effective": caps});
    });
    for (way, lacking) in WAYS {
        without(lacking, Errno::NOSYS, || case.running());
        for script in
            ["umount /secret", "umount -l /proc/cpuinfo", "mount -o remount,bind,rw /proc/sys", "umount -l /proc/sys"]
        {
            assert_ne!(case.exec(&["sh", "-c", script]).code(), 0, "{way}: {script}");
        }
        // A user namespace of its own gives it the right to mount; these mounts are locked together there.
        let unshare = case.exec(&["unshare", "-U", "-r", "-m", "true"]);
        if unshare.code() != 0 {
            skip!("no user namespace below the container's: {}", unshare.err().trim());
        }
        for script in
            ["umount /secret", "umount -l /proc/cpuinfo", "mount -o remount,bind,rw /proc/sys", "umount -l /proc/sys"]
        {
            let outcome = case.exec(&["unshare", "-U", "-r", "-m", "sh", "-c", script]);
            assert_ne!(outcome.code(), 0, "{way}: `{script}` in a user namespace of the payload's own");
        }
        assert!(!look::inside(case.pid(), "/secret/file").exists(), "{way}");
        case.stop();
        case.delete();
    }
}
