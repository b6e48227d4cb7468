//! Trees of mounts: what is bound of them, and what passes between the host's and the container's afterwards.
//!
//! Each test has a mount namespace of its own, so that what it does to the host's mounts is nobody else's.

#[macro_use]
mod common;

use std::fs;

use common::bundle::{mount, user_namespace};
use common::case::Case;
use common::{look, wait_until};
use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change};
use serde_json::json;

/// A directory of the host with a file and a mount below it; needs a mount namespace of the test's own.
fn source_with_submount(case: &Case) -> String {
    let source = case.path("source");
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("file"), "of the host").unwrap();
    rustix::mount::mount("sub", source.join("sub"), "tmpfs", MountFlags::empty(), None).unwrap();
    fs::write(source.join("sub/deep"), "deep").unwrap();
    case.text("source")
}

/// Takes the submounts away again before the guard counts mounts.
fn unmount_source(case: &Case) {
    for m in look::mounts("self").iter().rev().filter(|m| m.point.starts_with(&case.text("source"))) {
        rustix::mount::unmount(m.point.as_str(), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn bind_takes_one_mount_and_rbind_takes_the_tree() {
    if !common::isolated("bind_takes_one_mount_and_rbind_takes_the_tree", "") {
        return;
    }
    let mut case = case!("rbind");
    let source = source_with_submount(&case);
    case.alter(|c| {
        mount(c, "/one", "bind", &source, &["bind"]);
        mount(c, "/tree", "bind", &source, &["rbind"]);
    });
    let pid = case.running();
    assert!(!look::inside(pid, "/one/sub/deep").exists());
    assert_eq!(fs::read_to_string(look::inside(pid, "/tree/sub/deep")).unwrap(), "deep");
    assert_eq!(look::mount_at(&look::mounts(pid), "/tree/sub").kind, "tmpfs");
    case.stop();
    unmount_source(&case);
}

#[test]
fn recursive_read_only_reaches_submounts_and_plain_does_not() {
    if !common::isolated("recursive_read_only_reaches_submounts_and_plain_does_not", "") {
        return;
    }
    let mut case = case!("rro");
    let source = source_with_submount(&case);
    case.alter(|c| {
        mount(c, "/ro", "bind", &source, &["rbind", "ro"]);
        mount(c, "/rro", "bind", &source, &["rbind", "rro"]);
    });
    let pid = case.running();
    let table = look::mounts(pid);
    let ro = ["/ro", "/ro/sub", "/rro", "/rro/sub"].map(|p| look::mount_at(&table, p).has("ro"));
    assert_eq!(ro, [true, false, true, true]);
    case.stop();
    unmount_source(&case);
}

#[test]
fn propagation_is_as_asked_with_the_hosts_peer_group() {
    if !common::isolated("propagation_is_as_asked_with_the_hosts_peer_group", "") {
        return;
    }
    let mut case = case!("propagate");
    let source = source_with_submount(&case);
    mount_bind(&source, &source).unwrap();
    mount_change(&source, MountPropagationFlags::SHARED).unwrap();
    let group = look::mount_at(&look::mounts("self"), &source).tag("shared").expect("shared");
    // What engines set with it: the root decides whether events can pass at all.
    for (root, kinds) in [
        ("rshared", &["shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate"][..]),
        ("rslave", &["slave", "private", "rslave", "rprivate"]),
    ] {
        case.alter(|c| {
            c["linux"]["rootfsPropagation"] = json!(root);
            c["mounts"].as_array_mut().unwrap().retain(|m| m["source"] != source.as_str());
            for kind in kinds {
                mount(c, &format!("/{kind}"), "bind", &source, &["rbind", kind]);
            }
        });
        let pid = case.running();
        let table = look::mounts(pid);
        for kind in kinds {
            let m = look::mount_at(&table, &format!("/{kind}"));
            let tags = (m.tag("shared"), m.tag("master"), m.tags.contains(&"unbindable".to_owned()));
            let expected = match kind.trim_start_matches('r') {
                "shared" => (Some(group), None, false),
                "slave" => (None, Some(group), false),
                "unbindable" => (None, None, true),
                _ => (None, None, false),
            };
            assert_eq!(tags, expected, "{kind} below a root that is {root}");
        }
        // What the host mounts later arrives where it should, and nowhere else.
        let later = case.path(&format!("source/later-{root}"));
        fs::create_dir(&later).unwrap();
        rustix::mount::mount("later", &later, "tmpfs", MountFlags::empty(), None).unwrap();
        let table = look::mounts(pid);
        for kind in kinds.iter().filter(|k| **k != "unbindable") {
            let arrived = table.iter().any(|m| m.point == format!("/{kind}/later-{root}"));
            assert_eq!(arrived, !kind.contains("private"), "{kind} below a root that is {root}");
        }
        case.stop();
        case.delete();
    }
    unmount_source(&case);
}

#[test]
fn the_roots_propagation_is_as_asked_and_the_host_sees_no_mount() {
    if !common::isolated("the_roots_propagation_is_as_asked_and_the_host_sees_no_mount", "mount --make-rshared /") {
        return;
    }
    let mut case = case!("rootprop");
    for (asked, tags) in [("private", &[][..]), ("slave", &["master"]), ("rslave", &["master"]), ("", &[])] {
        case.alter(|c| match asked {
            "" => drop(c["linux"].as_object_mut().unwrap().remove("rootfsPropagation")),
            asked => c["linux"]["rootfsPropagation"] = json!(asked),
        });
        let before = look::mounts("self");
        let pid = case.running();
        assert_eq!(look::mounts("self"), before, "a mount came back to the host");
        let root = look::mount_at(&look::mounts(pid), "/");
        let names: Vec<&str> = root.tags.iter().map(|t| t.split(':').next().unwrap()).collect();
        if asked.is_empty() {
            assert!(!names.contains(&"shared"), "{names:?}");
        } else if common::is_tandem() || asked == "private" {
            assert_eq!(names, tags, "{asked}");
        }
        case.stop();
        case.delete();
        assert_eq!(look::mounts("self"), before, "the host's table after {asked:?}");
    }
}

#[test]
fn copies_of_the_hosts_mounts_do_not_outlive_the_container() {
    if !common::isolated("copies_of_the_hosts_mounts_do_not_outlive_the_container", "") {
        return;
    }
    let mut case = case!("umounted");
    let source = source_with_submount(&case);
    case.alter(|c| mount(c, "/data", "bind", &source, &["rbind", "rslave"]));
    let before = look::mounts("self");
    let pid = case.running();
    assert_eq!(look::mounts("self"), before, "the host's table while it runs");
    case.stop();
    case.delete();
    assert_eq!(look::mounts("self"), before, "the host's table afterwards");
    wait_until("init is gone", || !look::inside(pid, "/").exists());
    unmount_source(&case);
}

#[test]
fn a_mapped_root_can_not_take_the_hosts_flags_off_a_bind() {
    if !common::isolated("a_mapped_root_can_not_take_the_hosts_flags_off_a_bind", "") {
        return;
    }
    let mut case = case!("locked");
    fs::create_dir(case.path("source")).unwrap();
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("x", case.path("source"), "tmpfs", flags, None).unwrap();
    let source = case.text("source");
    case.alter(|c| {
        user_namespace(c, 100_000);
        mount(c, "/data", "bind", &source, &["rbind"]);
        // It is root with every right over the container; the host's mount is not the container's.
        let caps = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID"]);
        c["process"]["capabilities"] = json!({"bounding": caps, "permitted": caps, "effective": caps});
    });
    fs::create_dir(case.rootfs().join("data")).unwrap();
    let pid = case.running();
    let locked = ["ro", "nosuid", "nodev", "noexec"];
    let has = |pid: u32| locked.map(|o| look::mount_at(&look::mounts(pid), "/data").has(o));
    assert_eq!(has(pid), [true; 4], "the bind has what its source has");
    for options in
        ["remount,bind,rw", "remount,bind,rw,suid,dev,exec", "remount,bind,ro,suid", "remount,bind,ro,nosuid,dev"]
    {
        assert_ne!(case.exec(&["mount", "-o", options, "/data"]).code(), 0, "{options}");
        assert_eq!(has(pid), [true; 4], "after {options}");
    }
    case.stop();
    unmount_source(&case);
}
