//! A container with one of everything, and how two of them are compared.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use serde_json::json;

use crate::common::bundle::{mount, user_namespace};
use crate::common::case::Case;
use crate::common::look;

/// The mount table, normalised, and each device with its number and mode.
pub(crate) type Seen = (Vec<String>, Vec<(String, u64, u32)>);

/// One of everything that is mounted in a way of its own.
pub(crate) fn rich(case: &mut Case) {
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
pub(crate) fn seen(case: &Case) -> Seen {
    let pid = case.running();
    let seen = at(case, pid);
    case.stop();
    case.delete();
    seen
}

/// The same of a container that was created.
pub(crate) fn at(case: &Case, pid: u32) -> Seen {
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
    (table, devices)
}

pub(crate) fn assert_same(before: &Seen, now: &Seen, why: &str) {
    if before.0 != now.0 {
        let lost: Vec<_> = before.0.iter().filter(|l| !now.0.contains(l)).collect();
        let gained: Vec<_> = now.0.iter().filter(|l| !before.0.contains(l)).collect();
        panic!("the mount table is another {why}\nlost: {lost:#?}\ngained: {gained:#?}");
    }
    assert_eq!(before.1, now.1, "devices {why}");
}

/// Makes what [`rich`] has made ready for a user namespace.
pub(crate) fn for_a_user_namespace(case: &mut Case) {
    case.alter(|c| {
        user_namespace(c, 100_000);
        // A cgroup v1 mount is not to be had in a user namespace, and access times are locked there.
        let not_for_users = ["/sys/fs/cgroup", "/noatime"];
        c["mounts"].as_array_mut().unwrap().retain(|m| !not_for_users.iter().any(|n| m["destination"] == *n));
        c["linux"]["maskedPaths"] = json!(["/secret/dir", "/etc/secret", "/proc/cpuinfo"]);
        c["linux"]["devices"] = json!(null);
    });
    fs::write(case.rootfs().join("made/for/hosts"), "").unwrap();
    fs::write(case.rootfs().join("etc/hosts"), "").unwrap();
}
