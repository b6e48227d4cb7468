//! mounts add and remove: what a running container has mounted, changed from outside.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use common::bundle::user_namespace;
use common::case::Case;
use common::look;
use common::outcome::Outcome;
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::{Value, json};

fn mounts(case: &Case, what: &str, mounts: &Value) -> Outcome {
    fs::write(case.path("mounts.json"), mounts.to_string()).unwrap();
    case.call(&["mounts", what, &case.id, &case.text("mounts.json")])
}

fn source(case: &Case) -> String {
    fs::create_dir_all(case.path("source")).unwrap();
    fs::write(case.path("source/file"), "from the host").unwrap();
    case.text("source")
}

fn points(pid: u32) -> Vec<String> {
    look::mounts(pid).into_iter().map(|m| m.point).collect()
}

#[test]
fn mounts_are_added_and_taken_away() {
    tandem_only!("mounts add");
    let case = case!("mountsadd");
    let pid = case.running();
    let before = points(pid);
    let source = source(&case);
    let added = json!([
        {"destination": "/new/tree", "type": "bind", "source": source, "options": ["rbind", "ro", "nosuid"]},
        {"destination": "/new/file", "type": "bind", "source": format!("{source}/file"), "options": ["bind"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "noexec"]},
        {"destination": "/new/proc", "type": "proc", "source": "proc", "options": ["ro"]},
    ]);
    mounts(&case, "add", &added).ok();
    let table = look::mounts(pid);
    let tree = look::mount_at(&table, "/new/tree");
    assert!(tree.has("ro") && tree.has("nosuid"), "{tree:?}");
    assert_eq!(tree.tag("shared"), None, "{tree:?}");
    let tmp = look::mount_at(&table, "/tmp");
    assert!(tmp.kind == "tmpfs" && tmp.has("noexec") && tmp.super_options.contains(&"size=64k".to_owned()), "{tmp:?}");
    // As the directory that it covers, and made for the container.
    assert_eq!(fs::metadata(look::inside(pid, "/tmp")).unwrap().mode() & 0o7777, 0o1777);
    for path in ["/new/tree/file", "/new/file"] {
        assert_eq!(case.exec(&["cat", path]).ok().out(), "from the host");
    }
    assert_ne!(case.exec(&["touch", "/new/tree/x"]).code(), 0);
    let processes = case.exec(&["ls", "/new/proc"]).ok().out();
    assert!(processes.lines().any(|l| l == "1") && !processes.lines().any(|l| l == pid.to_string()), "{processes}");
    let host = points(std::process::id());
    assert!(!host.iter().any(|point| point.starts_with("/new") || point.contains(&case.id)), "{host:?}");

    mounts(&case, "remove", &json!([{"destination": "/new/tree"}, {"destination": "/new/file"}])).ok();
    mounts(&case, "remove", &json!({"mounts": [{"destination": "/tmp"}, {"destination": "/new/proc"}]})).ok();
    assert_eq!(points(pid), before);
    assert_eq!(fs::read_to_string(case.path("source/file")).unwrap(), "from the host");
}

#[test]
fn added_mounts_have_the_mapping_that_they_are_given() {
    tandem_only!("mounts add");
    if !look::maps_ids_of_a_tmpfs() {
        skip!("this kernel doesn't map the IDs of a tmpfs");
    }
    let mut case = case!("mountsmap");
    // A tmpfs of its own: the file system that temporary files are on may map nothing.
    case.running();
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
    let entry = |path: &str, kind: &str, source: &str, options: Value| json!({"destination": path, "type": kind, "source": source, "options": options, "uidMappings": map, "gidMappings": map});
    let fresh = entry("/fresh", "tmpfs", "tmpfs", json!(["mode=750"]));
    let shm = entry("/there", "bind", "/dev/shm", json!(["bind", "ro"]));
    mounts(&case, "add", &json!([fresh, shm])).ok();
    assert_eq!(case.exec(&["stat", "-c", "%u:%g %a", "/fresh"]).ok().out().trim(), "1000:1000 750");
    assert_eq!(case.exec(&["stat", "-c", "%u", "/there"]).ok().out().trim(), "1000");
    assert_ne!(case.exec(&["touch", "/there/x"]).code(), 0);
    case.delete_by_force();

    case.alter(|c| user_namespace(c, 100_000));
    case.running();
    mounts(&case, "add", &json!([shm])).refused_with(&["mounts[0]", "id-mapped bind", "user namespace"]);
}

#[test]
fn all_are_added_or_none_and_all_are_removed_or_none() {
    tandem_only!("mounts add");
    let case = case!("mountsnone");
    let pid = case.running();
    let before = points(pid);
    let good = json!({"destination": "/a", "type": "tmpfs", "source": "tmpfs"});
    let bad = [
        (json!({"destination": "/b", "type": "bind", "source": "/no/such", "options": ["bind"]}), "/no/such"),
        (json!({"destination": "/b", "type": "nosuchfs", "source": "x"}), "nosuchfs"),
        (json!({"destination": "/bin/busybox/x", "type": "tmpfs", "source": "x"}), "/bin/busybox"),
        (json!({"destination": "/", "type": "tmpfs", "source": "x"}), "destination"),
        (json!({"destination": "/b", "type": "cgroup", "source": "x", "options": ["none-such=1"]}), "mounts[1]"),
        (json!({"type": "tmpfs", "source": "x"}), "destination"),
    ];
    for (bad, word) in bad {
        mounts(&case, "add", &json!([good, bad])).refused_with(&[word]);
        assert_eq!(points(pid), before, "{word}");
    }
    for text in ["{}", "[]", "7", "", "[1]"] {
        fs::write(case.path("mounts.json"), text).unwrap();
        case.call(&["mounts", "add", &case.id, &case.text("mounts.json")]).refused();
    }
    mounts(&case, "add", &json!([good])).ok();
    let there = points(pid);
    for none in ["/b", "/bin", "/bin/busybox"] {
        mounts(&case, "remove", &json!([good, {"destination": none}])).refused_with(&[none]);
        assert_eq!(points(pid), there, "{none}");
    }
    case.stop();
    mounts(&case, "add", &json!([good])).refused_with(&["container not running"]);
    mounts(&case, "remove", &json!([good])).refused_with(&["container not running"]);
}

#[test]
fn a_link_in_the_image_never_leads_out() {
    tandem_only!("mounts add");
    let case = case!("mountsimage");
    fs::create_dir(case.path("outside")).unwrap();
    symlink(case.path("outside"), case.rootfs().join("evil")).unwrap();
    symlink("../../../../..", case.rootfs().join("up")).unwrap();
    let pid = case.running();
    for place in ["/evil/a", "/up/b"] {
        let one = json!([{"destination": place, "type": "tmpfs", "source": "tmpfs"}]);
        mounts(&case, "add", &one).refused_with(&[place, "symlink"]);
    }
    assert_eq!(fs::read_dir(case.path("outside")).unwrap().count(), 0);
    assert!(!points(pid).contains(&"/b".to_owned()), "{:?}", points(pid));
}

/// In a user namespace: what is made is the container's root's, and what the host has read-only stays so.
#[test]
fn a_user_namespace_gets_mounts_of_its_own_with_locked_flags() {
    if !common::isolated("a_user_namespace_gets_mounts_of_its_own_with_locked_flags", "") {
        return;
    }
    tandem_only!("mounts add");
    let mut case = case!("mountsuserns");
    case.alter(|c| {
        user_namespace(c, 100_000);
        let caps = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
        c["process"]["capabilities"] = json!({"bounding": caps, "permitted": caps, "effective": caps});
    });
    // Whoever is root in there owns its rootfs.
    std::os::unix::fs::chown(case.rootfs(), Some(100_000), Some(100_000)).unwrap();
    fs::create_dir(case.path("ro")).unwrap();
    rustix::mount::mount("x", case.path("ro"), "tmpfs", MountFlags::RDONLY, None).unwrap();
    let pid = case.running();
    let added = json!([
        {"destination": "/ro", "type": "bind", "source": case.text("ro"), "options": ["rbind", "rw"]},
        {"destination": "/own", "type": "tmpfs", "source": "tmpfs", "options": ["mode=700"]},
    ]);
    let outcome = mounts(&case, "add", &added);
    rustix::mount::unmount(case.path("ro"), UnmountFlags::DETACH).unwrap();
    outcome.ok();
    assert!(look::mount_at(&look::mounts(pid), "/ro").has("ro"));
    for options in ["remount,bind,rw", "remount,rw"] {
        assert_ne!(case.exec(&["mount", "-o", options, "/ro"]).code(), 0, "{options}");
    }
    assert_ne!(case.exec(&["touch", "/ro/x"]).code(), 0);
    let own = fs::metadata(look::inside(pid, "/own")).unwrap();
    assert_eq!((own.uid(), own.gid()), (100_000, 100_000));
    case.exec(&["touch", "/own/x"]).ok();
    case.exec(&["sh", "-c", "mount -o remount,bind,ro /own && mount -o remount,bind,rw /own"]).ok();
    mounts(&case, "remove", &json!([{"destination": "/ro"}, {"destination": "/own"}])).ok();
}

/// A process of the container must not lead a command of the host's to another place: what it may not unmount itself, what
/// others trust, or the root.
#[test]
fn no_symlink_of_the_containers_leads_a_mount_elsewhere() {
    tandem_only!("mounts add");
    let mut case = case!("mountslink");
    case.alter(|c| c["linux"]["readonlyPaths"] = json!(["/proc/sys"]));
    let pid = case.running();
    let source = source(&case);
    let one = json!([{"destination": "/data/vol/sys", "type": "bind", "source": source, "options": ["bind"]}]);
    mounts(&case, "add", &one).ok();
    case.exec(&["sh", "-c", "mv /data/vol /data/old && ln -s /proc /data/vol && ln -s / /data/root"]).ok();
    let before = points(pid);
    mounts(&case, "remove", &one).refused_with(&["/data/vol/sys", "symlink"]);
    mounts(&case, "add", &one).refused_with(&["/data/vol/sys", "symlink"]);
    let on_root = json!([{"destination": "/data/root", "type": "bind", "source": source, "options": ["bind"]}]);
    mounts(&case, "add", &on_root).refused_with(&["/data/root", "symlink"]);
    assert_eq!(points(pid), before);
    assert!(look::mount_at(&look::mounts(pid), "/proc/sys").has("ro"));
}
