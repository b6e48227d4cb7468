//! The heart: mount sources that the parent opens and streams, and what happens on a kernel that can't.
//!
//! Whatever the kernel lacks, the same configuration must end in the same mount table.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use common::bundle::mount;
use common::case::Case;
use common::look;
use common::seccomp::without;
use rustix::io::Errno;
use rustix::mount::MountFlags;
use serde_json::json;

/// Each alone, some together.
const LACKING: [&[&str]; 7] = [
    &["open_tree"],
    &["fsopen"],
    &["move_mount"],
    &["mount_setattr"],
    &["open_tree", "mount_setattr"],
    &["fsopen", "fsconfig", "fsmount", "fspick"],
    &["open_tree", "fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "mount_setattr"],
];

/// One of everything that is mounted in a way of its own.
fn rich(case: &mut Case) {
    fs::create_dir_all(case.path("source/sub")).unwrap();
    fs::write(case.path("source/file"), "of the host").unwrap();
    fs::write(case.path("hosts"), "127.0.0.1 me\n").unwrap();
    fs::create_dir_all(case.rootfs().join("secret/dir")).unwrap();
    fs::write(case.rootfs().join("etc/secret"), "secret").unwrap();
    let (source, file) = (case.text("source"), case.text("hosts"));
    case.alter(|c| {
        mount(c, "/rw", "bind", &source, &["bind"]);
        mount(c, "/ro", "bind", &source, &["bind", "ro", "nosuid", "nodev", "noexec"]);
        mount(c, "/tree", "bind", &source, &["rbind", "ro", "rprivate"]);
        mount(c, "/slave", "bind", &source, &["rbind", "rslave"]);
        mount(c, "/noatime", "bind", &source, &["bind", "noatime"]);
        mount(c, "/etc/hosts", "bind", &file, &["bind", "ro"]);
        mount(c, "/made/for/hosts", "bind", &file, &["bind"]);
        mount(c, "/mine", "tmpfs", "mine", &["nosuid", "noexec", "mode=1777", "size=64k"]);
        mount(c, "/fixed", "tmpfs", "tmpfs", &["ro", "mode=0750"]);
        mount(c, "/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]);
        c["root"]["readonly"] = json!(true);
        c["linux"]["maskedPaths"] = json!(["/secret/dir", "/etc/secret", "/proc/cpuinfo", "/sys/kernel"]);
        c["linux"]["readonlyPaths"] = json!(["/proc/sys", "/proc/fs"]);
        c["linux"]["devices"] = json!([
            {"path": "/dev/my/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 5, "gid": 7}
        ]);
    });
    for dir in ["rw", "ro", "tree", "slave", "noatime", "made/for", "mine", "fixed"] {
        fs::create_dir_all(case.rootfs().join(dir)).unwrap();
    }
}

/// What is seen from outside: the table, and what the devices are.
fn seen(case: &Case) -> (Vec<String>, Vec<(String, u64, u32)>) {
    let pid = case.running();
    let table = look::normalised(pid);
    let mut devices = Vec::new();
    for name in ["null", "zero", "full", "random", "urandom", "tty", "my/zero"] {
        match fs::symlink_metadata(look::inside(pid, &format!("/dev/{name}"))) {
            Ok(device) => {
                assert!(device.file_type().is_char_device(), "{name}");
                devices.push((name.to_owned(), device.rdev(), device.mode()));
            }
            Err(e) => assert!(name == "my/zero" && case.config["linux"]["devices"].is_null(), "{name}: {e}"),
        }
    }
    case.stop();
    case.delete();
    (table, devices)
}

fn assert_same(
    before: &(Vec<String>, Vec<(String, u64, u32)>),
    now: &(Vec<String>, Vec<(String, u64, u32)>),
    why: &str,
) {
    if before.0 != now.0 {
        let lost: Vec<_> = before.0.iter().filter(|l| !now.0.contains(l)).collect();
        let gained: Vec<_> = now.0.iter().filter(|l| !before.0.contains(l)).collect();
        panic!("the mount table is another {why}\nlost: {lost:#?}\ngained: {gained:#?}");
    }
    assert_eq!(before.1, now.1, "devices {why}");
}

#[test]
fn the_wrapper_takes_a_call_away_from_its_thread_only() {
    let open = || rustix::mount::open_tree(rustix::fs::CWD, "/", rustix::mount::OpenTreeFlags::OPEN_TREE_CLOEXEC);
    assert_eq!(without(&["open_tree"], Errno::NOSYS, || open().unwrap_err()), Errno::NOSYS);
    open().expect("here it is there");
}

#[test]
fn a_kernel_that_lacks_calls_ends_with_the_same_mounts() {
    let mut case = case!("lacking");
    rich(&mut case);
    let all = seen(&case);
    assert!(all.0.len() > 20, "a table worth comparing: {:#?}", all.0);
    for calls in LACKING {
        let now = without(calls, Errno::NOSYS, || seen(&case));
        assert_same(&all, &now, &format!("without {calls:?}"));
    }
}

#[test]
fn two_equal_containers_have_equal_tables() {
    // What makes the comparisons above mean something.
    let mut case = case!("equal");
    rich(&mut case);
    let first = seen(&case);
    assert_same(&first, &seen(&case), "the second time");
    case.alter(|c| mount(c, "/mine/more", "tmpfs", "tmpfs", &[]));
    assert_ne!(first.0, seen(&case).0, "one mount more is seen");
}

#[test]
fn a_user_namespace_ends_with_the_same_mounts() {
    let mut case = case!("lackinguser");
    rich(&mut case);
    case.alter(|c| common::bundle::user_namespace(c, 100_000));
    // A cgroup v1 mount is not to be had in a user namespace, and access times are locked there.
    case.alter(|c| {
        let not_for_users = ["/sys/fs/cgroup", "/noatime"];
        c["mounts"].as_array_mut().unwrap().retain(|m| !not_for_users.iter().any(|n| m["destination"] == *n));
        c["linux"]["maskedPaths"] = json!(["/secret/dir", "/etc/secret", "/proc/cpuinfo"]);
        c["linux"]["devices"] = json!(null);
    });
    fs::write(case.rootfs().join("made/for/hosts"), "").unwrap();
    fs::write(case.rootfs().join("etc/hosts"), "").unwrap();
    let all = seen(&case);
    for calls in LACKING {
        let now = without(calls, Errno::NOSYS, || seen(&case));
        assert_same(&all, &now, &format!("without {calls:?}"));
    }
}

#[test]
fn a_tree_with_submounts_ends_with_the_same_mounts() {
    if !common::isolated("a_tree_with_submounts_ends_with_the_same_mounts", "mount --make-rshared /") {
        return;
    }
    let mut case = case!("lackingtree");
    fs::create_dir_all(case.path("source/sub")).unwrap();
    rustix::mount::mount("sub", case.path("source/sub"), "tmpfs", MountFlags::NOEXEC, None).unwrap();
    let source = case.text("source");
    case.alter(|c| {
        c["linux"]["rootfsPropagation"] = json!("rslave");
        mount(c, "/one", "bind", &source, &["bind"]);
        mount(c, "/tree", "bind", &source, &["rbind"]);
        mount(c, "/ro", "bind", &source, &["rbind", "ro"]);
        mount(c, "/slave", "bind", &source, &["rbind", "rslave"]);
        mount(c, "/private", "bind", &source, &["rbind", "rprivate"]);
        // Mounts of the container's own on top of the host's tree must not get out to it.
        mount(c, "/slave/sub", "tmpfs", "tmpfs", &["size=4k"]);
    });
    let host = look::mounts("self");
    let all = seen(&case);
    for calls in LACKING {
        let now = without(calls, Errno::NOSYS, || seen(&case));
        assert_same(&all, &now, &format!("without {calls:?}"));
        assert_eq!(look::mounts("self"), host, "the host's table after {calls:?}");
    }
    rustix::mount::unmount(case.path("source/sub"), rustix::mount::UnmountFlags::DETACH).unwrap();
}

#[test]
fn other_calls_that_are_lacking_give_the_same_mounts_or_a_clean_error() {
    let mut case = case!("others");
    rich(&mut case);
    let all = seen(&case);
    for call in ["openat2", "clone3", "close_range", "pidfd_open", "memfd_create", "pidfd_send_signal", "execveat"] {
        for errno in [Errno::NOSYS, Errno::PERM] {
            if call == "clone3" && errno == Errno::PERM {
                continue; // The C library that starts the runtime takes this for an answer.
            }
            without(&[call], errno, || {
                let outcome = case.create_with(&[]);
                if outcome.status.success() {
                    case.call(&["delete", "--force", &case.id]).ok();
                    assert_same(&all, &seen(&case), &format!("with {call} answering {errno:?}"));
                } else {
                    assert!(
                        !common::is_tandem() || outcome.refused().len() > 10,
                        "{call}, {errno:?}: {}",
                        outcome.all()
                    );
                    let _ = case.call(&["delete", "--force", &case.id]);
                }
            });
            case.nothing_left(&format!("{call} answered {errno:?}"));
        }
    }
}

#[test]
fn a_mount_call_that_is_forbidden_is_an_error_and_not_a_fallback() {
    tandem_only!("streaming of mounts");
    let mut case = case!("forbidden");
    rich(&mut case);
    // Only "the kernel lacks it" may be worked around; what the kernel refuses is the user's to know.
    for call in ["move_mount", "fsopen", "mount_setattr", "fsmount"] {
        let outcome = without(&[call], Errno::NOMEM, || case.create_with(&[]));
        let line = outcome.refused();
        assert!(line.contains("Cannot allocate memory"), "{call}: {line}");
        case.nothing_left(&format!("{call} failed"));
    }
}

#[test]
fn each_new_call_failing_in_turn_leaves_nothing_behind() {
    let mut case = case!("failing");
    rich(&mut case);
    for call in [
        "open_tree",
        "fsopen",
        "fsconfig",
        "fsmount",
        "move_mount",
        "mount_setattr",
        "mount",
        "pivot_root",
        "setns",
        "sethostname",
        "setgroups",
        "capset",
        "mknodat",
    ] {
        let outcome = without(&[call], Errno::IO, || case.create_with(&[]));
        if !outcome.status.success() && common::is_tandem() {
            outcome.refused();
        }
        let _ = case.call(&["delete", "--force", &case.id]);
        case.nothing_left(&format!("{call} failed"));
    }
}
