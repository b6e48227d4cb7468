//! The runtime itself in a user namespace, where it has every capability and few rights: with one id, and with all ids
//! mapped to themselves, which looks like the host.

#[macro_use]
mod common;

use std::fs;

use common::bundle::{namespace, user_namespace};
use common::case::Case;
use common::{look, wait_until};
use serde_json::json;

/// Waits until somebody has mapped its ids, then becomes the runtime.
const WAIT: [&str; 9] = [
    "unshare",
    "--user",
    "--mount",
    "--propagation",
    "private",
    "sh",
    "-c",
    "until grep -q . /proc/self/gid_map; do :; done; exec \"$@\"",
    "sh",
];

/// Creates the container by a runtime in a user namespace with these ids.
fn create_below(case: &Case, map: &str) -> u32 {
    let mut command = case.command_behind(&WAIT);
    command.args(case.create_args()).arg(&case.id);
    let running = case.launch(command);
    let pid = running.pid();
    wait_until("it has a user namespace", || {
        fs::read_link(format!("/proc/{pid}/ns/user"))
            .is_ok_and(|l| l.to_string_lossy() != look::namespace("self", "user"))
    });
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{file}"), map).unwrap();
    }
    running.wait().ok();
    case.adopt(case.pid());
    case.pid()
}

/// What one id can't have.
fn for_one_id(case: &mut Case) {
    case.alter(|c| {
        for mount in c["mounts"].as_array_mut().unwrap() {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|o| o != "gid=5");
            }
        }
    });
}

const ALL_IDS: &str = "0 0 4294967295";
const ONE_ID: &str = "0 0 1";

fn assert_whole(case: &Case, pid: u32, why: &str) {
    let table = look::mounts(pid);
    for (point, kind) in [("/proc", "proc"), ("/dev", "tmpfs"), ("/dev/pts", "devpts"), ("/sys", "sysfs")] {
        assert_eq!(look::mount_at(&table, point).kind, kind, "{why}: {point}");
    }
    assert!(look::mount_at(&table, "/sys").has("ro"), "{why}");
    let host = look::namespace("self", "mnt");
    assert_ne!(look::namespace(pid, "mnt"), host, "{why}");
    let first = fs::read_to_string(look::inside(pid, "/proc/1/cmdline")).unwrap();
    assert!(!first.is_empty(), "{why}: /proc is of the container's pid namespace");
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let null = fs::metadata(look::inside(pid, "/dev/null")).unwrap();
    assert!(null.file_type().is_char_device() && null.rdev() == rustix::fs::makedev(1, 3), "{why}");
    assert!(!table.iter().any(|m| m.point.contains(&case.id)), "{why}: the host's mounts are gone: {table:#?}");
}

#[test]
fn it_starts_with_all_ids_mapped_to_themselves() {
    let mut case = case!("identity");
    for hooks in [false, true] {
        if hooks {
            case.alter(|c| c["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}]}));
        }
        let pid = create_below(&case, ALL_IDS);
        assert_ne!(look::namespace(pid, "user"), look::namespace("self", "user"));
        assert_whole(&case, pid, &format!("hooks: {hooks}"));
        case.start();
        case.wait_payload(pid);
        case.delete_by_force();
    }
}

#[test]
fn it_starts_with_one_id() {
    let mut case = case!("oneid");
    for_one_id(&mut case);
    let pid = create_below(&case, ONE_ID);
    assert_whole(&case, pid, "one id");
    case.start();
    case.wait_payload(pid);
}

#[test]
fn it_starts_a_container_in_a_user_namespace_below_its_own() {
    let mut case = case!("below");
    for one in [false, true] {
        case.alter(|c| match one {
            false => user_namespace(c, 100_000),
            true => {
                namespace(c, "user", None);
                let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
                c["linux"]["uidMappings"] = map.clone();
                c["linux"]["gidMappings"] = map;
            }
        });
        if one {
            for_one_id(&mut case);
        }
        let pid = create_below(&case, if one { ONE_ID } else { ALL_IDS });
        assert_whole(&case, pid, &format!("one id: {one}"));
        case.start();
        case.wait_payload(pid);
        case.delete_by_force();
    }
}

/// What looks like the host is not: a bind's flags stay, and the host's network is not the runtime's own to show.
#[test]
fn it_binds_and_mounts_there_what_it_does_on_the_host() {
    let mut case = case!("nestedrich");
    common::rich::rich(&mut case);
    case.alter(|c| {
        // Cgroup v1 can't be mounted in a user namespace, and a device node of its own can't be made.
        // Access times are locked there.
        let not_there = ["/sys/fs/cgroup", "/noatime"];
        c["mounts"].as_array_mut().unwrap().retain(|m| !not_there.iter().any(|n| m["destination"] == *n));
        c["linux"]["devices"] = json!(null);
    });
    let pid = create_below(&case, ALL_IDS);
    let table = look::mounts(pid);
    for (point, flags) in [
        ("/ro", &["ro", "nosuid", "nodev", "noexec"][..]),
        ("/tree", &["ro"]),
        ("/etc/hosts", &["ro"]),
        ("/fixed", &["ro"]),
        ("/", &["ro"]),
        ("/proc/sys", &["ro"]),
    ] {
        let m = look::mount_at(&table, point);
        assert!(flags.iter().all(|f| m.has(f)), "{point}: {m:?}");
    }
    assert_eq!(fs::read_to_string(look::inside(pid, "/rw/file")).unwrap(), "of the host");
    assert_eq!(fs::read_dir(look::inside(pid, "/secret/dir")).unwrap().count(), 0);
}
