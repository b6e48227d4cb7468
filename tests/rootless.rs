//! An ordinary user's containers: one mapped id, ranges through newuidmap(1), a delegated cgroup.
//!
//! Run as root, each test runs itself again as a user made up for it, with ranges of its own: in a mount namespace
//! where `/etc/passwd`, `/etc/subuid` and `/etc/subgid` know that user. Run by an ordinary user, they are that user's.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::bundle::{SLEEP, mount, namespace};
use common::case::Case;
use common::{look, wait_until};
use rustix::process::{getegid, geteuid};
use serde_json::{Value, json};

/// The made-up user: no system gives such an id away by itself.
const USER: u32 = 54321;
const RANGE: u32 = 300_000;

/// True for an ordinary user. As root, runs the test `name` again as one, and is false.
fn ordinary(name: &str) -> bool {
    if !geteuid().is_root() {
        return true;
    }
    let dir = tempfile::Builder::new().prefix("tt-rootless-").tempdir().expect("temporary directory");
    let path = |file: &str| dir.path().join(file);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).expect("chmod");
    // Copies: what Cargo built may lie where no other user may go.
    let program = path("rootless");
    common::program::copy(std::env::current_exe().expect("own executable"), &program);
    let mut runtime = common::binary();
    if let (Some(name), true) = (runtime.file_name(), runtime.is_absolute()) {
        let copy = path("bin").join(name);
        fs::create_dir(path("bin")).expect("mkdir");
        common::program::copy(&runtime, &copy);
        runtime = copy;
    }
    fs::create_dir(path("run")).expect("mkdir");
    chown(path("run"), Some(USER), Some(USER)).expect("chown");
    let passwd = fs::read_to_string("/etc/passwd").expect("passwd");
    fs::write(path("passwd"), format!("{passwd}tandem-test:x:{USER}:{USER}::/:/bin/sh\n")).expect("passwd");
    fs::write(path("ranges"), format!("tandem-test:{RANGE}:65536\n")).expect("ranges");
    let script = r#"cd "$1" && mount --bind passwd /etc/passwd && mount --bind ranges /etc/subuid &&
        mount --bind ranges /etc/subgid && cd / && shift && exec setpriv "$@""#;
    let out = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(dir.path())
        .args([format!("--reuid={USER}"), format!("--regid={USER}")])
        .args(["--clear-groups", "--inh-caps=-all", "--"])
        .arg(&program)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env("TANDEM_BIN", &runtime)
        .env("XDG_RUNTIME_DIR", path("run"))
        .env("HOME", path("run"))
        .env_remove("TANDEM_SKIPS")
        .output()
        .expect("unshare (util-linux)");
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    // The user can't write to the file of skips: its own words are handed on.
    if let Some(reason) = text.lines().find_map(|l| l.strip_prefix("SKIP ")?.split_once(": ").map(|(_, reason)| reason))
    {
        common::skipped(reason);
    }
    assert!(out.status.success() && text.contains("1 passed"), "as user {USER}:\n{text}");
    false
}

/// The first of an ordinary user's host ids for users and for groups, where 65536 of them may be mapped.
fn ranges() -> Option<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let uid = geteuid().as_raw().to_string();
    let user = passwd.lines().find(|l| l.split(':').nth(2) == Some(uid.as_str()))?.split(':').next()?.to_owned();
    let first = |file: &str| {
        fs::read_to_string(file).ok()?.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let own = fields[0] == user || fields[0] == uid;
            (own && fields.get(2)?.parse::<u32>().ok()? >= 65536).then(|| fields[1].parse().ok())?
        })
    };
    let helpers = ["/usr/bin/newuidmap", "/usr/bin/newgidmap"].iter().all(|p| Path::new(p).exists());
    helpers.then_some((first("/etc/subuid")?, first("/etc/subgid")?))
}

/// A bundle as an engine makes it for an ordinary user: a user namespace with no id but the caller's, as root.
fn single(name: &str) -> Case {
    let mut case = Case::new(name);
    case.alter(|c| {
        namespace(c, "user", None);
        c["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": geteuid().as_raw(), "size": 1}]);
        c["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": getegid().as_raw(), "size": 1}]);
        c["linux"].as_object_mut().unwrap().remove("cgroupsPath");
        let pts = c["mounts"].as_array_mut().unwrap().iter_mut().find(|m| m["destination"] == "/dev/pts").unwrap();
        pts["options"].as_array_mut().unwrap().retain(|o| o != "gid=5");
    });
    case
}

/// The same with ids 1 to 65536 from the caller's ranges, as podman maps them.
fn ranged(name: &str, (uids, gids): (u32, u32)) -> Case {
    let mut case = single(name);
    case.alter(|c| {
        let more = |first: u32| json!({"containerID": 1, "hostID": first, "size": 65536});
        c["linux"]["uidMappings"].as_array_mut().unwrap().push(more(uids));
        c["linux"]["gidMappings"].as_array_mut().unwrap().push(more(gids));
    });
    case
}

/// The lines of an id map, as numbers.
fn map(pid: u32, file: &str) -> Vec<Vec<u32>> {
    let text = look::value(format!("/proc/{pid}/{file}"));
    text.lines().map(|l| l.split_whitespace().map(|n| n.parse().expect("id")).collect()).collect()
}

#[test]
fn its_own_id_is_the_containers_root() {
    if !ordinary("its_own_id_is_the_containers_root") {
        return;
    }
    let case = single("rlone");
    let pid = case.running();
    assert_eq!(map(pid, "uid_map"), [[0, geteuid().as_raw(), 1]]);
    assert_eq!(map(pid, "gid_map"), [[0, getegid().as_raw(), 1]]);
    assert_eq!(look::value(format!("/proc/{pid}/setgroups")), "deny");
    assert_eq!(look::words(pid, "Uid"), vec![geteuid().as_raw().to_string(); 4]);
    for kind in ["user", "pid", "net", "ipc", "uts", "mnt"] {
        assert_ne!(look::namespace(pid, kind), look::namespace("self", kind), "{kind} is the host's");
    }
    assert_eq!(case.exec(&["id", "-u"]).ok().out().trim(), "0");
    assert_eq!(case.status(), "running");
    case.stop();
    case.delete();
    case.nothing_left("delete");
}

#[test]
fn its_ranges_are_mapped_by_the_helpers() {
    if !ordinary("its_ranges_are_mapped_by_the_helpers") {
        return;
    }
    let Some((uids, gids)) = ranges() else { skip!("no newuidmap, or no range of 65536 ids for this user") };
    let mut case = ranged("rlmany", (uids, gids));
    case.alter(|c| c["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [2000]}));
    let pid = case.create();
    case.start();
    // Not `running`: what another user's process executes is not ours to see.
    wait_until("the payload runs", || look::strings(pid, "cmdline") == SLEEP);
    assert_eq!(map(pid, "uid_map"), [[0, geteuid().as_raw(), 1], [1, uids, 65536]]);
    assert_eq!(map(pid, "gid_map"), [[0, getegid().as_raw(), 1], [1, gids, 65536]]);
    assert_eq!(look::words(pid, "Uid"), vec![(uids + 999).to_string(); 4]);
    assert_eq!(look::words(pid, "Gid"), vec![(gids + 999).to_string(); 4]);
    assert_eq!(look::words(pid, "Groups"), [(gids + 1999).to_string()]);
    // Its streams were the caller's; `create` was the first call.
    let said = fs::metadata(case.path("out.0")).unwrap();
    assert_eq!((said.uid(), said.gid()), (uids + 999, getegid().as_raw()));
    // A file that the payload's user makes is that user's outside too.
    case.exec(&["touch", "/dev/shm/made"]).ok();
    let made = fs::metadata(look::inside(pid, "/dev/shm/made"));
    match made {
        Ok(made) => assert_eq!((made.uid(), made.gid()), (uids + 999, gids + 999)),
        // Behind /proc/PID/root of a process with another user's ids: the container's own eyes will do.
        Err(_) => assert_eq!(case.exec(&["stat", "-c", "%u %g", "/dev/shm/made"]).ok().out().trim(), "1000 1000"),
    }
}

#[test]
fn exec_joins_it_with_its_own_user() {
    if !ordinary("exec_joins_it_with_its_own_user") {
        return;
    }
    let Some(ranges) = ranges() else { skip!("no newuidmap, or no range of 65536 ids for this user") };
    let case = ranged("rlexec", ranges);
    let pid = case.running();
    for kind in ["user", "pid", "net", "ipc", "uts", "mnt"] {
        let seen = case.exec(&["readlink", &format!("/proc/self/ns/{kind}")]).ok().out();
        assert_eq!(seen.trim(), look::namespace(pid, kind));
    }
    let user = ["exec", "--user", "1000:1000", &case.id, "sh", "-c", "echo $(id -u) $(id -g); exit 7"];
    let outcome = case.call(&user);
    assert_eq!((outcome.code(), outcome.out().trim()), (7, "1000 1000"), "{}", outcome.all());
}

#[test]
fn its_proc_shows_its_own_processes() {
    if !ordinary("its_proc_shows_its_own_processes") {
        return;
    }
    let mut case = single("rlproc");
    case.script("tr '\\0' ' ' </proc/1/cmdline; echo; ls -d /proc/[0-9]* | wc -l; readlink /proc/self/ns/pid");
    let out = case.run().ok().out();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("sh -c tr"), "{out}");
    assert!(lines[1].parse::<u32>().expect("a number") <= 4, "processes of the host: {out}");
    assert_ne!(lines[2], look::namespace("self", "pid"));
}

#[test]
fn its_mounts_are_what_it_asked_for() {
    if !ordinary("its_mounts_are_what_it_asked_for") {
        return;
    }
    let mut case = single("rlmount");
    let shared = case.path("shared");
    fs::create_dir(&shared).expect("mkdir");
    fs::write(shared.join("file"), "from the host\n").expect("write");
    let source = case.text("shared");
    case.alter(|c| {
        mount(c, "/var/read", "bind", &source, &["rbind", "ro", "nosuid", "nodev", "noexec"]);
        mount(c, "/var/write", "bind", &source, &["bind", "rw"]);
        mount(c, "/var/tmp", "tmpfs", "tmpfs", &["size=1m", "mode=700"]);
        c["linux"]["maskedPaths"] = json!(["/proc/version", "/sys/firmware"]);
        c["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
        c["root"]["readonly"] = json!(true);
    });
    let pid = case.running();
    let table = look::mounts(pid);
    for (point, kind) in [("/proc", "proc"), ("/dev/pts", "devpts"), ("/dev/mqueue", "mqueue"), ("/sys", "sysfs")] {
        assert_eq!(look::mount_at(&table, point).kind, kind, "{point}");
    }
    for (point, options) in [
        ("/", &["ro"][..]),
        ("/var/read", &["ro", "nosuid", "nodev", "noexec"]),
        ("/var/write", &["rw"]),
        ("/proc/sys", &["ro"]),
    ] {
        let mount = look::mount_at(&table, point);
        assert!(options.iter().all(|o| mount.has(o)), "{mount:?}");
    }
    assert!(look::mount_at(&table, "/var/tmp").super_options.iter().any(|o| o == "size=1024k"));
    case.exec(&["sh", "-c", "cat /var/read/file >/var/write/copy && echo x >/dev/null && head -c 1 /dev/zero"]).ok();
    assert_eq!(look::value(shared.join("copy")), "from the host");
    assert_ne!(case.exec(&["touch", "/var/read/new"]).code(), 0);
    assert_eq!(case.exec(&["cat", "/proc/version"]).ok().out(), "");
}

#[test]
fn its_generated_configuration_runs() {
    if !ordinary("its_generated_configuration_runs") {
        return;
    }
    tandem_only!("`spec --rootless`");
    let mut case = Case::new("rlspec");
    let file = case.bundle().join("config.json");
    fs::remove_file(&file).expect("remove");
    case.call(&["spec", "--rootless", "--bundle", &case.text("bundle")]).ok();
    case.config = serde_json::from_slice::<Value>(&fs::read(&file).expect("read")).expect("config.json");
    case.alter(|c| {
        c["process"]["terminal"] = json!(false);
        c["process"]["args"] = json!(["sh", "-c", "id -u; hostname"]);
        c["hostname"] = json!("of-a-user");
    });
    assert_eq!(case.run().ok().out(), "0\nof-a-user\n");
    case.nothing_left("run");
    // All of the host's /sys is read-only, the control groups below it too. (The one place is a mask.)
    case.alter(|c| c["process"]["args"] = json!(SLEEP));
    let pid = case.running();
    let table = look::mounts(pid);
    let sys: Vec<_> =
        table.iter().filter(|m| Path::new(&m.point).starts_with("/sys") && m.point != "/sys/firmware").collect();
    assert!(sys.iter().any(|m| m.point.starts_with("/sys/fs/cgroup")), "{sys:?}");
    for mount in sys {
        assert!(["ro", "nosuid", "noexec", "nodev"].iter().all(|option| mount.has(option)), "{mount:?}");
    }
}

#[test]
fn its_containers_are_remembered_in_its_own_directory() {
    if !ordinary("its_containers_are_remembered_in_its_own_directory") {
        return;
    }
    tandem_only!("the place of the state");
    let case = single("rlstate");
    let call = |args: &[&str]| {
        let mut command = Command::new(common::binary());
        command.args(args).env("XDG_RUNTIME_DIR", case.path("runtime")).env_remove("TANDEM_TRACE");
        case.launch(command).wait()
    };
    fs::create_dir(case.path("runtime")).expect("mkdir");
    call(&["create", "--bundle", &case.text("bundle"), "--pid-file", &case.text("pid"), &case.id]).ok();
    case.adopt(case.pid());
    assert!(case.path("runtime/tandem").join(&case.id).is_dir());
    assert!(call(&["list", "--quiet"]).ok().out().contains(&case.id));
    call(&["delete", "--force", &case.id]).ok();
    assert!(!case.path("runtime/tandem").join(&case.id).exists());
    case.nothing_left("delete");
}

#[test]
fn ids_of_others_are_refused() {
    if !ordinary("ids_of_others_are_refused") {
        return;
    }
    let mut case = single("rlother");
    case.alter(|c| {
        c["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        c["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    });
    case.run().refused();
    case.nothing_left("a refused mapping");
    // Without a user namespace there is nothing that an ordinary user may do.
    case.alter(|c| {
        common::bundle::without_namespace(c, "user");
        for map in ["uidMappings", "gidMappings"] {
            c["linux"].as_object_mut().unwrap().remove(map);
        }
    });
    case.run().refused();
    case.nothing_left("no user namespace");
}

#[test]
fn a_failed_start_leaves_nothing() {
    if !ordinary("a_failed_start_leaves_nothing") {
        return;
    }
    let mut case = single("rlfail");
    case.args(&["/no/such/program"]);
    case.run().refused_with(&["/no/such/program"]);
    case.nothing_left("a program that is not there");
    let missing = case.text("missing");
    case.args(&["true"]);
    case.alter(|c| mount(c, "/var", "bind", &missing, &["rbind"]));
    case.run().refused_with(&["missing", "No such file or directory"]);
    case.nothing_left("a source that is not there");
}

/// The topmost v2 cgroup above ours that has been handed to this user, and its name as a container's parent.
fn delegated() -> Option<(PathBuf, String)> {
    let top = look::v2().filter(|_| look::hierarchies().len() == 1)?;
    let own = look::cgroups(std::process::id()).remove("")?;
    let mut found = None;
    let mut path = String::new();
    for part in own.split('/').filter(|p| !p.is_empty()) {
        path = format!("{path}/{part}");
        let dir = top.join(&path[1..]);
        if found.is_none() && fs::metadata(&dir).is_ok_and(|m| m.uid() == geteuid().as_raw()) {
            found = Some((dir, path.clone()));
        }
    }
    found
}

#[test]
fn a_cgroup_handed_to_it_has_its_limits() {
    if !ordinary("a_cgroup_handed_to_it_has_its_limits") {
        return;
    }
    let Some((parent, name)) = delegated() else { skip!("no v2 cgroup is handed to this user") };
    if !look::value(parent.join("cgroup.controllers")).split(' ').any(|c| c == "pids") {
        skip!("no pids controller in {name}");
    }
    let mut case = single("rlcg");
    let path = format!("{name}/{}", case.id);
    case.alter(|c| {
        c["linux"]["cgroupsPath"] = json!(path);
        c["linux"]["resources"] = json!({"pids": {"limit": 40}});
    });
    let pid = case.running();
    assert_eq!(look::cgroups(pid)[""], path);
    assert_eq!(look::value(parent.join(&case.id).join("pids.max")), "40");
    case.call(&["update", "--pids-limit", "50", &case.id]).ok();
    assert_eq!(look::value(parent.join(&case.id).join("pids.max")), "50");
    case.call(&["pause", &case.id]).ok();
    assert_eq!(case.status(), "paused");
    case.call(&["resume", &case.id]).ok();
    case.stop();
    case.delete();
    case.nothing_left("delete");
}

#[test]
fn without_a_cgroup_a_command_says_why() {
    if !ordinary("without_a_cgroup_a_command_says_why") {
        return;
    }
    tandem_only!("advice");
    let mut case = single("rlnocg");
    case.running();
    if case.call(&["pause", &case.id]).status.success() {
        case.call(&["resume", &case.id]).ok();
        skip!("this user has a cgroup");
    }
    for args in [&["pause"][..], &["update", "--pids-limit", "50"], &["events", "--stats"]] {
        case.call(&[args, &[&case.id]].concat()).refused_with(&["the container has no cgroup", "see `tandem doctor`"]);
    }
    case.delete_by_force();
    case.alter(|c| c["linux"]["resources"] = json!({"memory": {"limit": 100_000_000}}));
    case.create_with(&[]).refused_with(&["set memory limit", "the container has no cgroup", "see `tandem doctor`"]);
}

#[test]
fn without_a_user_namespace_the_refusal_says_how_to_get_one() {
    if !ordinary("without_a_user_namespace_the_refusal_says_how_to_get_one") {
        return;
    }
    tandem_only!("advice");
    let mut case = Case::new("rlnouser");
    case.alter(|c| {
        c["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    });
    case.create_with(&[]).refused_with(&["clone3 into new namespaces (mnt pid net", "`tandem spec --rootless`"]);
}
