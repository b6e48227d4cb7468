//! Devices and links in /dev, and images that set traps there.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use common::look;
use rustix::fs::{FileType, Mode, makedev};
use serde_json::json;

#[test]
fn the_six_default_devices_are_the_hosts_and_writable_by_all() {
    let case = case!("devices");
    let pid = case.running();
    for (name, major, minor) in
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
    {
        let device = fs::symlink_metadata(look::inside(pid, &format!("/dev/{name}"))).unwrap();
        assert!(device.file_type().is_char_device(), "{name}");
        assert_eq!(device.rdev(), makedev(major, minor), "{name}");
        assert_eq!(device.mode() & 0o7777, 0o666, "{name}");
    }
    case.exec(&["sh", "-c", "echo x > /dev/null && head -c 8 /dev/urandom > /tmp/r && ! echo x > /dev/full"]).ok();
    assert_eq!(fs::metadata(case.rootfs().join("tmp/r")).unwrap().len(), 8);
    assert_ne!(case.exec(&["dd", "if=/dev/kmsg", "of=/tmp/k", "count=1"]).code(), 0);
}

#[test]
fn the_usual_links_stand_in_dev() {
    let case = case!("links");
    let pid = case.running();
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let link = fs::read_link(look::inside(pid, &format!("/dev/{name}"))).unwrap();
        assert_eq!(link.to_str(), Some(target), "{name}");
    }
    let ptmx = fs::read_link(look::inside(pid, "/dev/ptmx")).unwrap();
    assert!(matches!(ptmx.to_str(), Some("pts/ptmx" | "/dev/pts/ptmx")), "{ptmx:?}");
}

/// config-linux.md, "Devices": a file that is there already and is no such device is an error.
#[test]
fn a_device_hides_no_file_of_the_image() {
    let mut case = case!("devhides");
    tandem_only!("the refusal");
    fs::create_dir_all(case.rootfs().join("etc")).unwrap();
    fs::write(case.rootfs().join("etc/precious"), "data").unwrap();
    fs::write(case.rootfs().join("etc/empty"), "").unwrap();
    let device = |path: &str| json!([{"path": path, "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]);
    case.alter(|c| c["linux"]["devices"] = device("/etc/precious"));
    case.create_with(&[]).refused_with(&["/etc/precious", "regular file", "not this device"]);
    case.nothing_left("a refused create");
    case.alter(|c| c["linux"]["devices"] = device("/etc/empty"));
    let pid = case.running();
    assert_eq!(fs::metadata(look::inside(pid, "/etc/empty")).unwrap().rdev(), makedev(1, 3));
}

#[test]
fn more_devices_have_their_number_mode_and_owner() {
    let mut case = case!("moredev");
    case.alter(|c| {
        c["linux"]["devices"] = json!([
            {"path": "/dev/my/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 5, "gid": 7},
            {"path": "/dev/disk9", "type": "b", "major": 7, "minor": 9, "fileMode": 0o600},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o622},
            {"path": "/opt/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}
        ]);
        c["linux"]["resources"]["devices"] =
            json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "b", "major": 7, "minor": 9, "access": "rwm"}]);
    });
    let pid = case.running();
    let at = |path: &str| fs::symlink_metadata(look::inside(pid, path)).unwrap();
    let zero = at("/dev/my/zero");
    assert!(zero.file_type().is_char_device());
    assert_eq!((zero.rdev(), zero.mode() & 0o7777, zero.uid(), zero.gid()), (makedev(1, 5), 0o640, 5, 7));
    let disk = at("/dev/disk9");
    assert!(disk.file_type().is_block_device());
    assert_eq!((disk.rdev(), disk.mode() & 0o7777), (makedev(7, 9), 0o600));
    assert!(at("/dev/pipe").file_type().is_fifo());
    assert_eq!(at("/opt/null").rdev(), makedev(1, 3));
    let host = fs::metadata("/dev/zero").unwrap();
    assert_eq!((host.mode() & 0o7777, host.uid()), (0o666, 0), "the host's own node is as it was");
}

#[test]
fn a_dev_that_is_a_link_is_refused_and_the_host_untouched() {
    tandem_only!("refusing an image whose /dev is a link");
    let mut case = case!("devlink");
    fs::create_dir(case.path("hostdev")).unwrap();
    fs::remove_dir(case.rootfs().join("dev")).unwrap();
    symlink(case.path("hostdev"), case.rootfs().join("dev")).unwrap();
    // Without a mount on /dev, devices would go where the link points to.
    case.alter(|c| {
        c["mounts"].as_array_mut().unwrap().retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    });
    let outcome = case.create_with(&[]);
    assert_eq!(fs::read_dir(case.path("hostdev")).unwrap().count(), 0, "made on the host");
    outcome.refused_with(&["/dev"]);
    case.nothing_left("a refused create");
}

#[test]
fn a_device_in_the_image_that_is_something_else_is_no_way_out() {
    tandem_only!("distrust of the image's /dev/null");
    let mut case = case!("fakedev");
    fs::write(case.path("victim"), "precious").unwrap();
    fs::set_permissions(case.path("victim"), fs::Permissions::from_mode(0o600)).unwrap();
    case.alter(|c| {
        c["mounts"].as_array_mut().unwrap().retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
        c["linux"]["maskedPaths"] = json!(["/etc/secret"]);
    });
    fs::write(case.rootfs().join("etc/secret"), "secret").unwrap();
    for fake in ["link", "file"] {
        let null = case.rootfs().join("dev/null");
        let _ = fs::remove_file(&null);
        match fake {
            "link" => symlink(case.path("victim"), &null).unwrap(),
            _ => fs::write(&null, "not null").unwrap(),
        }
        let outcome = case.create_with(&[]);
        if outcome.status.success() {
            case.start();
            case.wait_payload(case.pid());
            let device = fs::metadata(look::inside(case.pid(), "/etc/secret")).unwrap();
            assert!(device.rdev() == makedev(1, 3) || device.len() == 0, "{fake}: the mask shows something else");
            case.stop();
            case.delete();
        }
        assert_eq!(fs::read_to_string(case.path("victim")).unwrap(), "precious", "{fake}");
        assert_eq!(fs::metadata(case.path("victim")).unwrap().mode() & 0o7777, 0o600, "{fake}");
    }
}

/// In a user namespace the host's node does for a device that the host has at that path; another is made.
#[test]
fn a_device_of_a_user_namespace_is_the_one_that_is_asked_for() {
    let mut case = case!("userdev");
    tandem_only!("a node in a user namespace");
    let device = |path: &str, minor: u32| json!({"path": path, "type": "c", "major": 1, "minor": minor, "fileMode": 0o640, "uid": 3, "gid": 4});
    case.alter(|c| {
        common::bundle::user_namespace(c, 100_000);
        c["linux"]["devices"] = json!([device("/dev/zero", 5), device("/dev/kmsg", 5), device("/dev/my/full", 7)]);
    });
    let outcome = case.create_with(&[]);
    if look::kernel() < (6, 15) {
        outcome.refused_with(&["/dev/kmsg", "before Linux 6.15"]);
        return;
    }
    outcome.ok();
    let at = |path: &str| fs::symlink_metadata(look::inside(case.pid(), path)).unwrap();
    for (path, minor) in [("/dev/kmsg", 5), ("/dev/my/full", 7)] {
        let made = at(path);
        assert_eq!((made.rdev(), made.mode() & 0o7777), (makedev(1, minor), 0o640), "{path}");
        assert_eq!((made.uid(), made.gid()), (100_003, 100_004), "{path}");
    }
    let host = fs::metadata("/dev/zero").unwrap();
    assert_eq!((at("/dev/zero").ino(), at("/dev/zero").uid()), (host.ino(), host.uid()));
    case.start();
    case.wait_payload(case.pid());
    assert_eq!(case.exec(&["sh", "-c", "head -c 2 /dev/kmsg | od -An -tx1"]).ok().out().trim(), "00 00");
    case.delete_by_force();
    // By mount(2) there is no way to hand a node over: another than the asked one is none.
    case.create_behind(&["env", "TANDEM_MOUNT_STRATEGY=mount"], &[])
        .refused_with(&["/dev/kmsg", "not the character device 1:5"]);
    case.nothing_left("a refused create");
}

/// As `-v /dev/urandom:/dev/random` has it.
#[test]
fn a_mount_takes_the_place_of_a_default_device() {
    let mut case = case!("devmount");
    case.alter(|c| common::bundle::mount(c, "/dev/random", "bind", "/dev/urandom", &["rbind"]));
    let pid = case.running();
    let there = fs::metadata(look::inside(pid, "/dev/random")).unwrap();
    assert_eq!(there.rdev(), makedev(1, 9));
    assert_eq!(fs::metadata(look::inside(pid, "/dev/full")).unwrap().rdev(), makedev(1, 7));
}

/// A node of the host's that a test has made, gone with this.
struct Node(PathBuf);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A runtime without CAP_MKNOD has the host's nodes to give: their owner and mode stay what the host has made them.
#[test]
fn root_in_a_container_changes_no_node_of_the_hosts() {
    let mut case = case!("devhost");
    tandem_only!("a mount that guards the host's node");
    let node = Node(PathBuf::from("/dev").join(&case.id));
    let mode = Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(rustix::fs::CWD, &node.0, FileType::CharacterDevice, mode, makedev(1, 5)).unwrap();
    case.alter(|c| {
        c["linux"]["devices"] = json!([{"path": node.0, "type": "c", "major": 1, "minor": 5}]);
        let rights = json!(["CAP_CHOWN", "CAP_FOWNER", "CAP_DAC_OVERRIDE"]);
        c["process"]["capabilities"] = json!({"bounding": rights, "permitted": rights, "effective": rights});
    });
    let path = node.0.display();
    case.script(&format!("chmod 666 {path}; chown 7 {path}; echo x >{path} && echo written; head -c 1 {path} | wc -c"));
    let trace = case.text("trace");
    case.globals = vec!["--trace".into(), trace.clone()];
    let run = ["run", "--bundle", &case.text("bundle"), &case.id];
    let outcome = case.call_behind(&["setpriv", "--bounding-set=-mknod"], &run).ok();
    assert_eq!(outcome.out(), "written\n1\n");
    let host = fs::metadata(&node.0).unwrap();
    assert_eq!((host.mode() & 0o7777, host.uid()), (0o640, 0), "{}", outcome.err());
    assert!(look::value(&trace).contains("the host's node"), "the trace tells");
}
