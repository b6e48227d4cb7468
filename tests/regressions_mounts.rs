//! What a reviewer broke once of the mounts. Each test names what went wrong.

#[macro_use]
mod common;

use std::fs;

use common::bundle::{mount, namespace, user_namespace};
use common::case::Case;
use common::look;
use common::seccomp::without;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount_change};
use serde_json::json;

/// The processes that a proc of the container shows, as one of its own sees them.
fn shown(case: &Case, proc: &str) -> usize {
    let listed = case.exec(&["ls", proc]).ok().out();
    listed.split_whitespace().filter(|name| name.bytes().all(|b| b.is_ascii_digit())).count()
}

/// A joined pid namespace was taken for the host's: the host's /proc was bound in its place. With the mount namespace joined
/// too, the parent made a proc for the child's namespaces before it had entered them.
#[test]
fn no_joined_pid_namespace_shows_the_hosts_processes() {
    let mut first = case!("joinedfirst");
    first.alter(|c| user_namespace(c, 100_000));
    let pid = first.running();
    let joined = |kind: &str| format!("/proc/{pid}/ns/{kind}");
    for kinds in [&["pid"][..], &["pid", "user"], &["pid", "user", "mnt"]] {
        let mut case = case!("joinedproc");
        case.alter(|c| {
            for kind in kinds {
                namespace(c, if *kind == "mnt" { "mount" } else { kind }, Some(&joined(kind)));
            }
            if !kinds.contains(&"user") {
                user_namespace(c, 200_000);
            }
            if kinds.contains(&"mnt") {
                c["mounts"] = json!([]);
                mount(c, "/proc", "proc", "proc", &[]);
            }
        });
        let outcome = case.create_with(&[]);
        if outcome.status.success() {
            case.start();
            assert!(shown(&case, "/proc") < 20, "{kinds:?}: the host's processes are shown");
            case.delete_by_force();
        } else {
            outcome.refused();
        }
    }
}

/// By mount(2) a shared mount below the rootfs stayed shared: what was mounted in the container appeared on the host.
#[test]
fn a_shared_mount_below_the_rootfs_takes_nothing_to_the_host() {
    if !common::isolated("a_shared_mount_below_the_rootfs_takes_nothing_to_the_host", "") {
        return;
    }
    let mut case = case!("sharedbelow");
    let sub = case.rootfs().join("sub");
    fs::create_dir(&sub).unwrap();
    rustix::mount::mount("sub", &sub, "tmpfs", MountFlags::empty(), None).unwrap();
    mount_change(&sub, MountPropagationFlags::SHARED).unwrap();
    fs::create_dir(sub.join("x")).unwrap();
    case.alter(|c| mount(c, "/sub/x", "tmpfs", "tmpfs", &["size=4k"]));
    let host = look::mounts("self");
    for propagation in ["", "private", "slave", "rslave", "rprivate"] {
        case.alter(|c| c["linux"]["rootfsPropagation"] = json!(propagation));
        for lacking in [&["listmount"][..], &["move_mount"], &["open_tree", "fsopen", "move_mount", "mount_setattr"]] {
            let pid = without(lacking, Errno::NOSYS, || case.create());
            assert_eq!(look::mounts("self"), host, "{propagation:?} without {lacking:?}");
            assert_eq!(look::mount_at(&look::mounts(pid), "/sub").tag("shared"), None, "{propagation:?}, {lacking:?}");
            case.delete_by_force();
        }
    }
    rustix::mount::unmount(&sub, UnmountFlags::DETACH).unwrap();
}

/// Hooks found the stage of the mount sources on top of the container's root.
#[test]
fn hooks_see_the_container_and_nothing_on_top_of_it() {
    let mut case = case!("hooksee");
    let (rootfs, out) = (case.rootfs().display().to_string(), case.text("seen"));
    fs::write(case.rootfs().join("etc/marker"), "of the image").unwrap();
    for user in [false, true] {
        case.alter(|c| {
            if user {
                user_namespace(c, 100_000);
            }
            let script =
                format!("cat {rootfs}/etc/marker >{out}; ls {rootfs}/proc/self >/dev/null && ls {rootfs} >>{out}");
            let args = json!(["sh", "-c", script]);
            let hook = json!({"path": "/bin/sh", "args": args, "env": ["PATH=/usr/bin:/bin"]});
            c["hooks"] = json!({"createContainer": [hook]});
        });
        fs::write(case.path("seen"), "").unwrap();
        fs::set_permissions(case.path("seen"), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        case.create();
        let seen = fs::read_to_string(case.path("seen")).unwrap();
        assert!(seen.starts_with("of the image") && seen.contains("busybox") | seen.contains("etc"), "{user}: {seen}");
        case.delete_by_force();
    }
}

/// A file system that the parent had made could not be attached where move_mount is missing.
#[test]
fn a_disk_or_overlay_needs_no_move_mount() {
    let mut case = case!("nomove");
    for dir in ["lower", "other"] {
        fs::create_dir(case.path(dir)).unwrap();
    }
    fs::write(case.path("lower/file"), "of the host").unwrap();
    let option = format!("lowerdir={}:{}", case.text("lower"), case.text("other"));
    case.alter(|c| mount(c, "/over", "overlay", "overlay", &["ro", &option]));
    let outcome = case.create_with(&[]);
    if !outcome.status.success() {
        assert!(outcome.refused().contains("overlay"), "{}", outcome.all());
        skip!("the kernel has no overlay file system");
    }
    case.delete_by_force();
    for lacking in [&["move_mount"][..], &["open_tree"], &["fsopen"]] {
        let pid = without(lacking, Errno::NOSYS, || case.create());
        assert_eq!(fs::read_to_string(look::inside(pid, "/over/file")).unwrap(), "of the host", "{lacking:?}");
        case.delete_by_force();
    }
}

/// Relative to what depended on who made the overlay, and when; options were accepted that mean nothing.
#[test]
fn options_that_can_not_be_meant_are_refused() {
    tandem_only!("the words of its errors");
    for (kind, options, word) in [
        ("overlay", &["lowerdir=a:/b"][..], "`a` is not absolute"),
        ("tmpfs", &["src-nofollow"], "src-nofollow"),
        ("tmpfs", &["copy-symlink"], "copy-symlink"),
        ("cgroup", &["release_agent=/x"], "`release_agent` is no option of a cgroup mount"),
    ] {
        let mut case = case!("meant");
        case.alter(|c| mount(c, "/tmp", kind, kind, options));
        case.create_with(&[]).refused_with(&["mounts[6].options", word]);
        case.nothing_left(word);
    }
}
