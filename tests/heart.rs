//! The heart: mount sources that the parent opens and streams, and what happens on a kernel that can't.
//!
//! Whatever the kernel lacks, the same configuration must end in the same mount table.

#[macro_use]
mod common;

use std::fs;

use common::bundle::mount;
use common::look;
use common::rich::{assert_same, for_a_user_namespace, rich, seen};
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
    for_a_user_namespace(&mut case);
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
