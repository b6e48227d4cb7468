//! Id-mapped bind mounts, and binds on a symlink. The owner is what stat(2) says through the container's own mount.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};

use common::bundle::{mount, user_namespace};
use common::case::Case;
use common::holder::Holder;
use common::look;
use common::seccomp::without;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::{Value, json};

/// A tmpfs with a file of user 7 and group 8 and one of root, and another tmpfs on `below` with the same.
fn source(case: &Case) {
    // A user namespace's root may make nothing in the rootfs.
    fs::create_dir(case.rootfs().join("data")).unwrap();
    for dir in ["source", "source/below"] {
        fs::create_dir_all(case.path(dir)).unwrap();
        rustix::mount::mount("x", case.path(dir), "tmpfs", MountFlags::empty(), None).unwrap();
        for (name, user, group) in [("mine", 7, 8), ("roots", 0, 0)] {
            let file = case.path(dir).join(name);
            fs::write(&file, name).unwrap();
            chown(&file, Some(user), Some(group)).unwrap();
        }
    }
}

/// The host's mounts that a test made: what is left of a case is checked.
fn unmount(case: &Case) {
    for dir in ["source/below", "source"] {
        rustix::mount::unmount(case.path(dir), UnmountFlags::DETACH).unwrap();
    }
}

macro_rules! mapped_case {
    ($test:literal, $name:literal) => {{
        if !look::maps_ids_of_a_tmpfs() {
            skip!("no id-mapped tmpfs before Linux 6.3");
        }
        if !common::isolated($test, "") {
            return;
        }
        let case = case!($name);
        source(&case);
        case
    }};
}

fn binds(case: &mut Case, options: &[&str], maps: Option<[Value; 2]>) {
    let from = case.text("source");
    case.alter(|c| {
        c["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/data");
        mount(c, "/data", "bind", &from, options);
        if let Some([uid, gid]) = maps {
            let entry = c["mounts"].as_array_mut().unwrap().last_mut().unwrap();
            entry["uidMappings"] = uid;
            entry["gidMappings"] = gid;
        }
    });
}

fn line(container: u32, host: u32, size: u32) -> Value {
    json!([{"containerID": container, "hostID": host, "size": size}])
}

fn owner(pid: u32, path: &str) -> (u32, u32) {
    let stat = fs::metadata(look::inside(pid, path)).unwrap();
    (stat.uid(), stat.gid())
}

const NOBODY: (u32, u32) = (65534, 65534);

#[test]
fn a_mount_has_the_mapping_that_it_is_given() {
    let mut case = mapped_case!("a_mount_has_the_mapping_that_it_is_given", "idgiven");
    let before = look::mounts("self");
    for (options, below) in
        [(&["rbind", "idmap"], (7, 8)), (&["rbind", "ridmap"], (1007, 2008)), (&["rbind", "rw"], (7, 8))]
    {
        binds(&mut case, options, Some([line(0, 1000, 100), line(0, 2000, 100)]));
        let pid = case.create();
        assert_eq!(owner(pid, "/data/mine"), (1007, 2008), "{options:?}");
        assert_eq!(owner(pid, "/data/below/mine"), below, "{options:?}");
        // An ID that nothing maps to can make nothing there.
        assert!(fs::write(look::inside(pid, "/data/new"), "").is_err());
        case.delete_by_force();
        assert_eq!(look::mounts("self"), before, "the host's table");
    }
    unmount(&case);
}

#[test]
fn a_mount_has_the_mapping_of_the_containers_user_namespace() {
    let mut case = mapped_case!("a_mount_has_the_mapping_of_the_containers_user_namespace", "idown");
    case.alter(|c| user_namespace(c, 100_000));
    for hooks in [false, true] {
        if hooks {
            case.alter(|c| c["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}]}));
        }
        binds(&mut case, &["rbind", "idmap", "rw"], None);
        let pid = case.running();
        assert_eq!(owner(pid, "/data/mine"), (100_007, 100_008));
        assert_eq!(owner(pid, "/data/below/mine"), (7, 8));
        let inside = |path: &str| case.exec(&["stat", "-c", "%u:%g", path]).ok().out().trim().to_owned();
        assert_eq!(inside("/data/roots"), "0:0");
        assert_eq!(inside("/data/mine"), "7:8");
        assert_eq!(inside("/data/below/mine"), "65534:65534");
        // The container's root owns the file, and what it makes there is root's on the host.
        case.exec(&["sh", "-c", "echo more >>/data/roots && rm -f /data/made && touch /data/made"]).ok();
        let made = fs::metadata(case.path("source/made")).unwrap();
        assert_eq!((made.uid(), made.gid()), (0, 0));
        case.stop();
        case.delete();
    }
    unmount(&case);
}

#[test]
fn a_joined_user_namespace_maps_too() {
    let mut case = mapped_case!("a_joined_user_namespace_maps_too", "idjoined");
    let holder = Holder::new(&["--user"]);
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", holder.pid()), "0 300000 1000").unwrap();
    }
    let path = holder.path("user");
    case.alter(|c| common::bundle::namespace(c, "user", Some(&path)));
    binds(&mut case, &["rbind", "idmap"], None);
    let pid = case.create();
    assert_eq!(owner(pid, "/data/mine"), (300_007, 300_008));
    case.delete_by_force();
    unmount(&case);
}

#[test]
fn the_mapping_may_stand_in_the_options() {
    let mut case = mapped_case!("the_mapping_may_stand_in_the_options", "idoptions");
    binds(&mut case, &["rbind", "idmap=uids=0-500-5#7-600-1;gids=0-700-20"], None);
    let pid = case.create();
    assert_eq!(owner(pid, "/data/mine"), (600, 708));
    assert_eq!(owner(pid, "/data/roots"), (500, 700));
    case.delete_by_force();
    case.alter(|c| user_namespace(c, 100_000));
    binds(&mut case, &["rbind", "idmap=uids=@7-0-1;gids=@8-0-1"], None);
    let pid = case.create();
    assert_eq!(owner(pid, "/data/mine"), (100_000, 100_000));
    assert_eq!(owner(pid, "/data/roots"), NOBODY);
    case.delete_by_force();
    unmount(&case);
}

#[test]
fn what_cannot_be_mapped_is_refused_before_anything_is_made() {
    let mut case = case!("idrefused");
    fs::create_dir(case.path("source")).unwrap();
    let maps = || Some([line(0, 1000, 100), line(0, 2000, 100)]);
    binds(&mut case, &["bind", "idmap"], None);
    case.create_with(&[]).refused_with(&["mounts[", "idmap", "user namespace"]);
    for (twice, words) in
        [(&["bind", "idmap=uids=0-1-2", "idmap=gids=0-5-5"][..], "second mapping"), (&["bind", "idmap="], "empty")]
    {
        binds(&mut case, twice, None);
        case.create_with(&[]).refused_with(&["mounts[", words]);
    }
    let overlapping =
        json!([{"containerID": 0, "hostID": 0, "size": 10}, {"containerID": 5, "hostID": 50, "size": 10}]);
    binds(&mut case, &["bind"], Some([overlapping, line(0, 2000, 100)]));
    case.create_with(&[]).refused_with(&["uidMappings[1]", "overlaps"]);
    binds(&mut case, &["bind", "idmap=uids=1-2"], None);
    case.create_with(&[]).refused_with(&["1-2", "three numbers"]);
    binds(&mut case, &["bind"], Some([line(0, 1000, 100), json!([])]));
    case.create_with(&[]).refused_with(&["uidMappings", "gidMappings", "together"]);
    case.alter(|c| {
        c["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/data");
        mount(c, "/data", "proc", "proc", &["idmap=uids=0-1-1"]);
    });
    case.create_with(&[]).refused_with(&["must be of files", "`proc`"]);
    binds(&mut case, &["bind"], maps());
    without(&["mount_setattr"], Errno::NOSYS, || case.create_with(&[])).refused_with(&["mount_setattr"]);
    assert!(!case.rootfs().join("data").exists(), "nothing was made");
}

/// A new file system, too, is seen with other IDs than it has; crun's.
#[test]
fn a_new_tmpfs_has_the_mapping_that_it_is_given() {
    if !look::maps_ids_of_a_tmpfs() {
        skip!("this kernel doesn't map the IDs of a tmpfs");
    }
    for own_userns in [false, true] {
        let mut case = case!("idtmpfs");
        case.alter(|c| {
            mount(c, "/data", "tmpfs", "tmpfs", &["size=64k", "mode=755", "nosuid"]);
            let entry = c["mounts"].as_array_mut().unwrap().last_mut().unwrap();
            entry["uidMappings"] = line(0, 100_000, 100);
            entry["gidMappings"] = line(0, 100_000, 100);
        });
        if own_userns {
            // Its root may make nothing in the rootfs.
            fs::create_dir(case.rootfs().join("data")).unwrap();
            case.alter(|c| user_namespace(c, 100_000));
        }
        let pid = case.running();
        assert_eq!(owner(pid, "/data"), (100_000, 100_000), "seen on the host");
        let table = look::mounts(pid);
        let data = look::mount_at(&table, "/data");
        assert!(
            data.has("nosuid") && data.has("idmapped") && data.super_options.contains(&"size=64k".into()),
            "{data:?}"
        );
        let inside = case.exec(&["stat", "-c", "%u %a", "/data"]).ok().out();
        assert_eq!(inside.trim(), if own_userns { "0 755" } else { "100000 755" });
    }
}

#[test]
fn a_file_system_that_maps_nothing_is_named() {
    let mut case = case!("idproc");
    if !look::maps_ids_of_a_tmpfs() {
        skip!("mount_setattr may be missing");
    }
    case.alter(|c| {
        mount(c, "/data", "bind", "/proc", &["bind"]);
        let entry = c["mounts"].as_array_mut().unwrap().last_mut().unwrap();
        entry["uidMappings"] = line(0, 1000, 100);
        entry["gidMappings"] = line(0, 1000, 100);
    });
    case.create_with(&[]).refused_with(&["`/proc`", "mount_setattr", "id-mapped"]);
}

#[test]
fn a_bind_covers_a_symlink_that_it_may_not_follow() {
    let mut case = case!("onlink");
    fs::write(case.path("file"), "of the host").unwrap();
    fs::create_dir_all(case.rootfs().join("etc")).unwrap();
    fs::write(case.rootfs().join("etc/target"), "target").unwrap();
    let from = case.text("file");
    for way in [&["listmount"][..], &["open_tree", "fsopen", "move_mount", "mount_setattr"]] {
        for (option, link, target) in [("bind", "target", "of the host"), ("dest-nofollow", "of the host", "target")] {
            let _ = fs::remove_file(case.rootfs().join("etc/link"));
            symlink("target", case.rootfs().join("etc/link")).unwrap();
            case.alter(|c| {
                c["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/etc/link");
                mount(c, "/etc/link", "bind", &from, &["bind", "ro", option]);
            });
            without(way, Errno::NOSYS, || case.create_with(&[])).ok();
            let pid = case.pid();
            let read = |path: &str| fs::read_to_string(look::inside(pid, path)).unwrap();
            // Followed, the link leads to what was mounted on its target.
            let link = if option == "bind" { "of the host" } else { link };
            assert_eq!((read("/etc/link"), read("/etc/target")), (link.into(), target.into()), "{option} {way:?}");
            assert!(look::mounts(pid).iter().filter(|m| m.point.starts_with("/etc/")).all(|m| m.has("ro")));
            case.delete_by_force();
        }
    }
    // A directory can't cover a symlink.
    let dir = case.text("");
    case.alter(|c| {
        c["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/etc/link");
        mount(c, "/etc/link", "bind", &dir, &["bind", "dest-nofollow"]);
    });
    case.create_with(&[]).refused_with(&["/etc/link", "symlink"]);
}
