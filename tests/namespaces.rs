//! Namespaces: new, joined by path, the host's; user mappings and the IDs that the host sees.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use common::bundle::{namespace, user_namespace, without_namespace};
use common::holder::Holder;
use common::{look, wait_until};
use serde_json::json;

/// The names in config.json and in /proc/PID/ns.
const KINDS: [(&str, &str); 8] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("user", "user"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

fn assert_new(pid: u32, kinds: &[(&str, &str)]) {
    for (_, kind) in kinds {
        assert_ne!(look::namespace(pid, kind), look::namespace("self", kind), "{kind} is the host's");
    }
}

#[test]
fn all_eight_are_new_together() {
    let mut case = case!("ns8");
    case.alter(|c| {
        for (kind, _) in KINDS {
            if kind != "time" || common::is_tandem() {
                namespace(c, kind, None);
            }
        }
        user_namespace(c, 100_000);
    });
    chown_tree(&case.rootfs(), 100_000);
    let pid = case.running();
    assert_new(pid, if common::is_tandem() { &KINDS } else { &KINDS[..7] });
    assert_eq!(look::words(pid, "NSpid").last().map(String::as_str), Some("1"), "init of its pid namespace");
}

#[test]
fn each_is_new_alone() {
    let mut case = case!("ns1");
    for (kind, _) in KINDS {
        if !common::is_tandem() && matches!(kind, "time" | "user") {
            continue;
        }
        case.alter(|c| {
            for (other, _) in KINDS {
                without_namespace(c, other);
            }
            namespace(c, "mount", None);
            namespace(c, kind, None);
            c.as_object_mut().unwrap().remove("hostname");
            for map in ["uidMappings", "gidMappings"] {
                c["linux"].as_object_mut().unwrap().remove(map);
            }
            c["mounts"] = json!([{"destination": "/proc", "type": "proc", "source": "proc"}]);
            if kind == "user" {
                user_namespace(c, 100_000);
                // A new proc needs a pid namespace of the user namespace's own.
                c["mounts"] = json!([]);
            }
        });
        let pid = case.running();
        for (other, other_link) in KINDS {
            let host = look::namespace("self", other_link) == look::namespace(pid, other_link);
            assert_eq!(host, other != kind && other != "mount", "{other} when {kind} is asked for");
        }
        case.stop();
        case.delete();
    }
}

#[test]
fn what_is_not_listed_is_the_hosts() {
    let mut case = case!("nshost");
    case.alter(|c| {
        for kind in ["pid", "network", "ipc", "uts"] {
            without_namespace(c, kind);
        }
        c.as_object_mut().unwrap().remove("hostname");
        c["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/sys" && m["destination"] != "/dev/mqueue");
    });
    let pid = case.running();
    for kind in ["pid", "net", "ipc", "uts", "user", "cgroup"] {
        assert_eq!(look::namespace(pid, kind), look::namespace("self", kind), "{kind}");
    }
    assert_new(pid, &[("mount", "mnt")]);
}

#[test]
fn each_is_joined_by_path() {
    let mut case = case!("nsjoin");
    let holder = Holder::new(&["--net", "--uts", "--ipc", "--cgroup"]);
    case.alter(|c| {
        for (kind, link) in [("network", "net"), ("uts", "uts"), ("ipc", "ipc"), ("cgroup", "cgroup")] {
            namespace(c, kind, Some(&holder.path(link)));
        }
        c.as_object_mut().unwrap().remove("hostname");
    });
    let pid = case.running();
    for kind in ["net", "uts", "ipc", "cgroup"] {
        assert_eq!(look::namespace(pid, kind), look::namespace(holder.pid(), kind), "{kind}");
        assert_ne!(look::namespace(pid, kind), look::namespace("self", kind), "{kind}");
    }
    assert_new(pid, &[("pid", "pid"), ("mount", "mnt")]);
}

#[test]
fn a_pid_namespace_is_joined_by_path() {
    let infra = case!("nspidowner");
    let owner = infra.running();
    let mut case = common::case::Case::new("nspid");
    case.alter(|c| namespace(c, "pid", Some(&format!("/proc/{owner}/ns/pid"))));
    let pid = case.running();
    assert_eq!(look::namespace(pid, "pid"), look::namespace(owner, "pid"));
    assert_eq!(look::words(pid, "NSpid").len(), 2, "one level below ours");
    assert_ne!(look::words(pid, "NSpid")[1], "1");
}

#[test]
fn a_user_namespace_is_joined_by_path_with_what_it_owns() {
    tandem_only!("joining a user namespace without mappings in config.json");
    let mut case = case!("nsuser");
    let holder = Holder::new(&["--user", "--map-root-user", "--net"]);
    case.alter(|c| {
        namespace(c, "user", Some(&holder.path("user")));
        namespace(c, "network", Some(&holder.path("net")));
        // One ID is mapped there, and gid 5 isn't it.
        let pts = c["mounts"].as_array_mut().unwrap().iter_mut().find(|m| m["destination"] == "/dev/pts").unwrap();
        pts["options"] = json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]);
    });
    let pid = case.running();
    for kind in ["user", "net"] {
        assert_eq!(look::namespace(pid, kind), look::namespace(holder.pid(), kind), "{kind}");
    }
    assert_eq!(look::words(pid, "Uid"), ["0"; 4]);
    assert_new(pid, &[("pid", "pid"), ("mount", "mnt"), ("user", "user")]);
}

fn chown_tree(root: &std::path::Path, owner: u32) {
    for entry in fs::read_dir(root).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            chown_tree(&entry.path(), owner);
        } else if entry.file_type().unwrap().is_file() {
            chown(entry.path(), Some(owner), Some(owner)).unwrap();
        }
    }
    chown(root, Some(owner), Some(owner)).unwrap();
}

#[test]
fn user_and_group_mappings_are_what_the_kernel_has() {
    let mut case = case!("idmap");
    case.alter(|c| {
        user_namespace(c, 100_000);
        c["linux"]["uidMappings"] = json!([
            {"containerID": 0, "hostID": 100_000, "size": 1000},
            {"containerID": 1000, "hostID": 200_000, "size": 500}
        ]);
        c["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 300_000, "size": 65536}]);
        c["process"]["user"] = json!({"uid": 1001, "gid": 7, "additionalGids": [8]});
    });
    chown_tree(&case.rootfs(), 100_000);
    let pid = case.running();
    let table = |file: &str| -> Vec<Vec<u32>> {
        let text = look::value(format!("/proc/{pid}/{file}"));
        text.lines().map(|l| l.split_whitespace().map(|n| n.parse().unwrap()).collect()).collect()
    };
    assert_eq!(table("uid_map"), [[0, 100_000, 1000], [1000, 200_000, 500]]);
    assert_eq!(table("gid_map"), [[0, 300_000, 65536]]);
    assert_eq!(look::words(pid, "Uid"), ["200001"; 4], "the host sees the mapped user");
    assert_eq!(look::words(pid, "Gid"), ["300007"; 4]);
    assert!(look::words(pid, "Groups").contains(&"300008".to_owned()));
    assert_eq!(
        look::namespace(pid, "user"),
        fs::read_link(look::inside(pid, "/proc/1/ns/user")).unwrap().to_string_lossy()
    );
}

#[test]
fn a_mapped_roots_file_systems_are_its_own_and_devices_work() {
    let mut case = case!("userdev");
    case.alter(|c| user_namespace(c, 100_000));
    chown_tree(&case.rootfs(), 100_000);
    case.script(
        "echo x > /dev/null && head -c 4 /dev/zero | wc -c > /tmp/zeros && touch /dev/shm/mine && exec sleep 100000",
    );
    let pid = case.running();
    wait_until("the payload has written", || look::inside(pid, "/dev/shm/mine").exists());
    assert_eq!(look::value(case.rootfs().join("tmp/zeros")), "4");
    for (path, owner) in [("/dev/shm/mine", 100_000), ("/dev", 100_000), ("/proc/sys", 0)] {
        let found = fs::metadata(look::inside(pid, path)).unwrap().uid();
        // proc's files that belong to nobody mapped show as the overflow user inside, and as root here.
        assert_eq!(found, owner, "{path}");
    }
    assert_eq!(fs::metadata(look::inside(pid, "/dev/null")).unwrap().rdev(), rustix::fs::makedev(1, 3));
}

#[test]
fn two_containers_share_a_pod() {
    let infra = case!("podinfra");
    let owner = infra.running();
    let mut case = common::case::Case::new("podmember");
    case.alter(|c| {
        for (kind, link) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
            namespace(c, kind, Some(&format!("/proc/{owner}/ns/{link}")));
        }
        c.as_object_mut().unwrap().remove("hostname");
    });
    let pid = case.running();
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(look::namespace(pid, kind), look::namespace(owner, kind), "{kind}");
    }
    assert_eq!(case.exec(&["hostname"]).ok().out(), "contained\n", "the pod's name");
}

#[test]
fn time_offsets_are_set() {
    tandem_only!("a time namespace");
    let mut case = case!("time");
    case.alter(|c| {
        namespace(c, "time", None);
        c["linux"]["timeOffsets"] = json!({"boottime": {"secs": 86_400, "nanosecs": 5}, "monotonic": {"secs": 3_600}});
    });
    let pid = case.running();
    let text = look::value(format!("/proc/{pid}/timens_offsets"));
    let row = |name: &str| -> Vec<String> {
        let line = text.lines().find_map(|l| l.trim_start().strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row("boottime"), ["86400", "5"]);
    assert_eq!(row("monotonic"), ["3600", "0"]);
    assert_eq!(look::namespace(pid, "time"), look::namespace(pid, "time_for_children"));
}

#[test]
fn a_namespace_path_that_is_none_is_refused() {
    let mut case = case!("nsbad");
    let paths =
        [case.text("no-such"), "/etc/passwd".to_owned(), "/proc/self/ns/uts".to_owned(), "/dev/null".to_owned()];
    for path in paths {
        case.alter(|c| namespace(c, "network", Some(&path)));
        let outcome = case.create_with(&[]);
        assert_ne!(outcome.code(), 0, "{path}");
        if common::is_tandem() {
            outcome.refused_with(&[&path]);
            case.nothing_left("a refused create");
        }
        let _ = case.call(&["delete", "--force", &case.id]);
    }
}

#[test]
fn a_namespace_listed_twice_is_refused() {
    let mut case = case!("nstwice");
    case.alter(|c| c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "uts"})));
    case.create_with(&[]).refused();
    case.nothing_left("a refused create");
}

#[test]
fn an_id_that_is_not_mapped_is_refused() {
    let mut case = case!("unmapped");
    case.alter(|c| {
        user_namespace(c, 100_000);
        c["process"]["user"]["uid"] = json!(70_000);
    });
    let outcome = case.create_with(&[]);
    assert_ne!(outcome.code(), 0, "{}", outcome.all());
    let _ = case.call(&["delete", "--force", &case.id]);
}
