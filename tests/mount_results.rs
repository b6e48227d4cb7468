//! What a container gets is what was asked for: each file system's own mode and flags, devices that are devices, masks
//! that hide, however many there are and however few files may be open.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use common::bundle::{mount, namespace, user_namespace, without_namespace};
use common::case::Case;
use common::look;
use rustix::fs::makedev;
use serde_json::{Value, json};

/// The mode of a mount point is not that of what is mounted there.
#[test]
fn a_file_system_has_its_own_mode_whatever_the_directory_below_has() {
    let mut case = case!("ownmode");
    for (name, mode) in [("proc", 0o755), ("shm", 0o700), ("plain", 0o700), ("sys", 0o700), ("dev", 0o700)] {
        let path = case.rootfs().join(name);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    case.alter(|c| {
        mount(c, "/shm", "tmpfs", "shm", &["nosuid", "mode=1777", "size=64k"]);
        mount(c, "/plain", "tmpfs", "tmpfs", &["size=64k"]);
        mount(c, "/made", "tmpfs", "tmpfs", &["mode=0711", "size=64k"]);
    });
    for user in [false, true] {
        if user {
            case.alter(|c| user_namespace(c, 100_000));
            fs::create_dir_all(case.rootfs().join("made")).unwrap();
        }
        let pid = case.running();
        let mode = |path: &str| fs::metadata(look::inside(pid, path)).unwrap().mode() & 0o7777;
        let found = ["/proc", "/shm", "/made", "/dev", "/dev/shm", "/sys"].map(mode);
        assert_eq!(found, [0o555, 0o1777, 0o711, 0o755, 0o1777, 0o555], "user namespace: {user}");
        // A tmpfs that says no mode has that of the directory it covers, as under every runtime.
        assert_eq!(mode("/plain"), 0o700, "user namespace: {user}");
        assert_eq!(fs::metadata(case.rootfs().join("shm")).unwrap().mode() & 0o7777, 0o700, "the directory below");
        case.stop();
        case.delete();
    }
}

/// `/dev/null` as a regular file, whose number is a pipe's: a peer's containers without a terminal lost their output.
#[test]
fn output_to_a_pipe_arrives_where_the_image_has_no_dev() {
    let mut case = case!("pipe");
    fs::remove_dir(case.rootfs().join("dev")).unwrap();
    case.script("echo arrived; stat -c '%F %t:%T' /dev/null /dev/zero; echo gone >/dev/null; echo said >&2; cat");
    for (user, hooks) in [(false, false), (true, false), (false, true)] {
        if user {
            case.alter(|c| user_namespace(c, 100_000));
            fs::create_dir_all(case.rootfs().join("dev")).unwrap();
        } else {
            case.alter(|c| {
                common::bundle::without_namespace(c, "user");
                for map in ["uidMappings", "gidMappings"] {
                    c["linux"].as_object_mut().unwrap().remove(map);
                }
            });
        }
        case.alter(|c| c["hooks"] = if hooks { json!({"createRuntime": [{"path": "/bin/true"}]}) } else { json!({}) });
        // cat waits for the end of what comes in: stdin is a pipe, too.
        let wrapper = ["sh", "-c", "echo in | \"$@\" 2>&1 | cat", "sh"];
        let outcome = case.call_behind(&wrapper, &["run", "--bundle", &case.text("bundle"), &case.id]).ok();
        let expected = "arrived\ncharacter special file 1:3\ncharacter special file 1:5\nsaid\nin\n";
        assert_eq!(outcome.out(), expected, "user namespace: {user}, hooks: {hooks}");
    }
}

/// Toolkits for GPUs mount what the container needs from this hook.
#[test]
fn a_hook_before_the_pivot_sees_the_mounts_and_may_write_the_root() {
    let mut case = case!("hooksees");
    let (log, root) = (case.text("log"), case.rootfs().display().to_string());
    let script = format!(
        "exec >>'{log}' 2>&1; cd '{root}' || exit 1; \
         test -e proc/self || test -d proc/1; echo proc $?; test -c dev/null; echo dev $?; \
         grep -q ' {root}/proc .* - proc ' /proc/self/mountinfo; echo mountinfo $?; \
         test -d /proc/self/root/tmp && test -x /bin/sh; echo host $?; echo made >by-the-hook; echo wrote $?; \
         mkdir -p library && mount -t tmpfs given library && echo here >library/file; echo mounted $?"
    );
    case.alter(|c| {
        let hook =
            json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin:/usr/sbin:/sbin"]});
        c["hooks"] = json!({"createContainer": [hook]});
        c["root"]["readonly"] = json!(true);
    });
    let before = look::mounts("self");
    let pid = case.running();
    let said = fs::read_to_string(case.path("log")).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines, ["proc 0", "dev 0", "mountinfo 0", "host 0", "wrote 0", "mounted 0"], "{said}");
    let table = look::mounts(pid);
    assert_eq!(look::mount_at(&table, "/library").source, "given", "the hook's mount is the container's");
    assert_eq!(fs::read_to_string(look::inside(pid, "/library/file")).unwrap(), "here\n");
    assert!(look::mount_at(&table, "/").has("ro"), "read-only for the payload all the same");
    let own = |table: &[look::Mount]| table.iter().filter(|m| m.point.contains(&case.id)).count();
    assert_eq!(own(&look::mounts("self")), own(&before), "the host sees none of it");
}

/// The options that a mount of this kind has, of those that were asked for or forbidden.
fn assert_flags(case: &Case, table: &[look::Mount], why: &str) {
    for entry in case.config["mounts"].as_array().unwrap() {
        let destination = entry["destination"].as_str().unwrap();
        let asked: Vec<&str> = entry["options"].as_array().into_iter().flatten().map(|o| o.as_str().unwrap()).collect();
        let is = look::mount_at(table, destination);
        let cgroup_v1 = is.kind == "tmpfs" && entry["type"] == "cgroup";
        for flag in ["ro", "nosuid", "nodev", "noexec"] {
            let wanted = asked.contains(&flag);
            assert!(is.has(flag) || !wanted, "{why}: {flag} is missing on {destination}: {is:?}");
            // What is bound in place of a new instance may have more: the host's own.
            let may_have_more = cgroup_v1 || ["sysfs", "mqueue", "cgroup", "cgroup2"].contains(&is.kind.as_str());
            assert!(wanted || !is.has(flag) || may_have_more, "{why}: {flag} on {destination}: {is:?}");
        }
    }
}

/// A read-only /sys that was silently writable, devices without nosuid and noexec: each in a combination of namespaces
/// that nobody had looked at.
#[test]
fn flags_are_the_configured_ones_in_every_combination_of_namespaces() {
    if !common::isolated("flags_are_the_configured_ones_in_every_combination_of_namespaces", "") {
        return;
    }
    let mut case = case!("matrix");
    let has_v1 = look::hierarchies().iter().any(|(controllers, _)| !controllers.is_empty());
    let mut wrong = Vec::new();
    for bits in 0..16 {
        let [user, network, cgroup, cgroup_mount] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
        let why = format!("user namespace: {user}, network: {network}, cgroup: {cgroup}, cgroup mount: {cgroup_mount}");
        case.config = common::bundle::config(&case.id);
        case.alter(|c| {
            if user {
                user_namespace(c, 100_000);
            }
            if !network {
                without_namespace(c, "network");
            }
            if cgroup {
                namespace(c, "cgroup", None);
            }
            if cgroup_mount {
                let options = ["nosuid", "noexec", "nodev", "relatime", "ro"];
                mount(c, "/sys/fs/cgroup", "cgroup", "cgroup", &options);
            }
            mount(c, "/fixed", "tmpfs", "tmpfs", &["ro", "nosuid", "nodev", "noexec", "size=4k"]);
        });
        fs::create_dir_all(case.rootfs().join("fixed")).unwrap();
        let outcome = case.create_with(&[]);
        if user && cgroup_mount && has_v1 && !outcome.status.success() {
            // No v1 hierarchy is to be had in a user namespace; that is said.
            outcome.refused_with(&["/sys/fs/cgroup"]);
            continue;
        }
        outcome.ok();
        let pid = case.pid();
        let table = look::mounts(pid);
        assert_flags(&case, &table, &why);
        // Also where the host's tree stands in for a new instance: all of it, and not its topmost mount alone.
        for m in table.iter().filter(|m| m.point.starts_with("/sys")) {
            let of_v1 = m.point.starts_with("/sys/fs/cgroup") && cgroup_mount;
            let missing: Vec<_> = ["ro", "nosuid", "nodev", "noexec"].into_iter().filter(|f| !m.has(f)).collect();
            // The tmpfs around the v1 hierarchies is the runtime's own.
            let own = of_v1 && m.kind == "tmpfs" && m.has("ro");
            if !missing.is_empty() && !own {
                wrong.push(format!("{why}: {} ({}) is not {missing:?}", m.point, m.kind));
            }
        }
        case.start();
        case.wait_payload(pid);
        assert_ne!(case.exec(&["touch", "/sys/fs/new"]).code(), 0, "{why}");
        let writes = case.exec(&["sh", "-c", "echo 1 >/sys/kernel/uevent_seqnum || echo 1 >/sys/kernel/profiling"]);
        assert!(writes.err().contains("Read-only") || writes.err().contains("denied"), "{why}: {}", writes.all());
        case.stop();
        case.delete();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each device node's mount, whether it is a fresh one or the host's own.
#[test]
fn devices_are_nosuid_and_noexec() {
    let mut case = case!("devflags");
    case.alter(|c| {
        c["linux"]["devices"] = json!([
            {"path": "/dev/my/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666, "uid": 0, "gid": 0}
        ]);
    });
    for user in [false, true] {
        if user {
            case.alter(|c| {
                user_namespace(c, 100_000);
                c["linux"]["devices"] = json!([]);
            });
        }
        let pid = case.running();
        let table = look::mounts(pid);
        for name in ["null", "zero", "full", "random", "urandom", "tty", "my/zero"] {
            let path = format!("/dev/{name}");
            let Ok(device) = fs::symlink_metadata(look::inside(pid, &path)) else {
                assert!(user && name == "my/zero", "{name}");
                continue;
            };
            assert!(device.file_type().is_char_device() && device.rdev() != 0, "{name}");
            // A node in the container's own /dev has that one's flags.
            let m = table.iter().rev().find(|m| m.point == path).cloned();
            let m = m.unwrap_or_else(|| look::mount_at(&table, "/dev"));
            assert!(m.has("nosuid"), "user namespace: {user}: {m:?}");
            assert!(m.has("noexec") || m.point == "/dev", "user namespace: {user}: {m:?}");
            assert!(!m.has("nodev"), "user namespace: {user}: {m:?}");
        }
        case.stop();
        case.delete();
    }
}

/// The copy is made before the file system becomes what it is to be.
#[test]
fn a_read_only_tmpfs_is_filled_by_what_the_image_has_there() {
    let mut case = case!("copyupro");
    fs::create_dir_all(case.rootfs().join("copied/sub")).unwrap();
    fs::write(case.rootfs().join("copied/sub/file"), "of the image").unwrap();
    case.alter(|c| mount(c, "/copied", "tmpfs", "tmpfs", &["tmpcopyup", "ro", "size=64k"]));
    for user in [false, true] {
        if user {
            case.alter(|c| user_namespace(c, 100_000));
        }
        case.create();
        let there = look::inside(case.pid(), "/copied/sub/file");
        assert_eq!(fs::read_to_string(there).unwrap(), "of the image", "user namespace: {user}");
        assert!(look::mount_at(&look::mounts(case.pid()), "/copied").has("ro"), "user namespace: {user}");
        case.delete_by_force();
    }
}

/// One superblock, not three hundred.
#[test]
fn three_hundred_masked_directories_share_one_empty_read_only_file_system() {
    let mut case = case!("masks");
    let names: Vec<String> = (0..300).map(|n| format!("/secret/{n}")).collect();
    for name in &names {
        let path = case.rootfs().join(&name[1..]);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("file"), "secret").unwrap();
    }
    case.alter(|c| c["linux"]["maskedPaths"] = json!(names));
    for user in [false, true] {
        if user {
            case.alter(|c| user_namespace(c, 100_000));
        }
        let outcome = case.create_with(&[]).ok();
        assert_eq!(outcome.err(), "", "a warning");
        let pid = case.pid();
        let table = look::mounts(pid);
        let mut devices: Vec<String> = Vec::new();
        for name in &names {
            let m = look::mount_at(&table, name);
            assert!(m.has("ro") && m.kind == "tmpfs", "{m:?}");
            assert_eq!(fs::read_dir(look::inside(pid, name)).unwrap().count(), 0, "{name}");
            devices.push(m.dev);
        }
        devices.sort();
        devices.dedup();
        let by_path = !common::is_tandem();
        assert!(devices.len() == 1 || by_path, "{} superblocks, user namespace: {user}", devices.len());
        case.delete_by_force();
    }
}

fn binds(case: &mut Case, count: usize) {
    for n in 0..count {
        fs::create_dir_all(case.path(&format!("src/{n}"))).unwrap();
    }
    let source = case.text("src");
    case.alter(|c| {
        for n in 0..count {
            let option = if n % 2 == 0 { "ro" } else { "rw" };
            mount(c, &format!("/m/{n}"), "bind", &format!("{source}/{n}"), &["bind", option]);
        }
    });
    for n in 0..count {
        fs::create_dir_all(case.rootfs().join(format!("m/{n}"))).unwrap();
    }
}

fn assert_binds(pid: u32, count: usize, why: &str) {
    let table = look::mounts(pid);
    let binds: Vec<&look::Mount> = table.iter().filter(|m| m.point.starts_with("/m/")).collect();
    assert_eq!(binds.len(), count, "{why}");
    for m in binds {
        let n: usize = m.point["/m/".len()..].parse().unwrap();
        assert!(m.root.ends_with(&format!("/src/{n}")), "{why}: {m:?}");
        assert_eq!(m.has("ro"), n.is_multiple_of(2), "{why}: {m:?}");
    }
}

#[test]
fn sixty_four_open_files_are_enough_for_two_hundred_binds() {
    let mut case = case!("fewfiles");
    binds(&mut case, 200);
    let hook = json!({"createRuntime": [{"path": "/bin/true"}]});
    for (user, hooks) in [(false, false), (false, true), (true, false)] {
        case.alter(|c| {
            c["hooks"] = if hooks { hook.clone() } else { json!({}) };
            if user {
                user_namespace(c, 100_000);
            }
        });
        case.create_behind(&["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"], &[]).ok();
        assert_binds(case.pid(), 200, &format!("user namespace: {user}, hooks: {hooks}"));
        case.delete_by_force();
    }
}

#[test]
fn seven_hundred_devices_are_all_there() {
    let mut case = case!("manydevices");
    let device = |n: u32| {
        json!({"path": format!("/dev/many/{n}"), "type": "c", "major": 240, "minor": n, "fileMode": 0o600 + (n & 7),
               "uid": n, "gid": 7})
    };
    let list: Vec<Value> = (0..700).map(device).collect();
    case.alter(|c| c["linux"]["devices"] = json!(list));
    for limit in ["ulimit -n 1024", "ulimit -n 64"] {
        case.create_behind(&["sh", "-c", &format!("{limit}; exec \"$@\""), "sh"], &[]).ok();
        for n in 0..700_u32 {
            let m = fs::symlink_metadata(look::inside(case.pid(), &format!("/dev/many/{n}"))).unwrap();
            assert!(m.file_type().is_char_device(), "{n}");
            assert_eq!((m.rdev(), m.uid(), m.mode() & 0o777), (makedev(240, n), n, 0o600 + (n & 7)), "{limit}");
        }
        case.delete_by_force();
    }
}

#[test]
fn a_thousand_binds_all_arrive() {
    let mut case = case!("thousand");
    binds(&mut case, 1000);
    for user in [false, true] {
        if user {
            case.alter(|c| user_namespace(c, 100_000));
        }
        case.create();
        assert_binds(case.pid(), 1000, &format!("user namespace: {user}"));
        case.delete_by_force();
    }
}

/// Options of cgroup v2 are the whole machine's: they are taken, and change nothing.
#[test]
fn cgroup_version_2_is_mounted_where_it_is_asked_for() {
    let mut case = case!("cgroup2");
    let Some(v2) = look::v2() else { skip!("there is no cgroup v2") };
    let of_host = || look::mounts("self").into_iter().find(|m| m.kind == "cgroup2").map(|m| m.super_options);
    let before = of_host();
    const OPTIONS: [&str; 9] = [
        "nosuid",
        "noexec",
        "nodev",
        "nsdelegate",
        "memory_recursiveprot",
        "favordynmods",
        "memory_localevents",
        "memory_hugetlb_accounting",
        "pids_localevents",
    ];
    for bits in 0..4 {
        let [own, user] = [1, 2].map(|bit| bits & bit != 0);
        let why = format!("cgroup namespace: {own}, user namespace: {user}");
        case.alter(|c| {
            c["mounts"].as_array_mut().unwrap().retain(|m| m["type"] != "cgroup" && m["type"] != "cgroup2");
            mount(c, "/cg", "cgroup2", "cgroup2", &OPTIONS);
            without_namespace(c, "cgroup");
            without_namespace(c, "user");
            if own {
                namespace(c, "cgroup", None);
            }
            if user {
                user_namespace(c, 100_000);
            }
        });
        fs::create_dir_all(case.rootfs().join("cg")).unwrap();
        case.delete_by_force();
        let pid = case.running();
        let there = look::mount_at(&look::mounts(pid), "/cg");
        assert_eq!(there.kind, "cgroup2", "{why}");
        assert!(look::inside(pid, "/cg/cgroup.procs").exists(), "{why}");
        let whole = fs::metadata(look::inside(pid, "/cg")).unwrap().ino() == fs::metadata(&v2).unwrap().ino();
        assert_eq!(whole, !own, "{why}");
        assert_eq!(of_host(), before, "{why}");
    }
}
