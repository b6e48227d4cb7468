//! What other runtimes take is taken: what is left out or null, what stands in another form, what says nothing here. A strict
//! look is `lint`'s, which tells all of it.

#[macro_use]
mod common;

use std::fs;

use common::bundle::{mount, namespace, without_namespace};
use common::case::Case;
use common::look;
use serde_json::{Value, json};

/// The severity and the path of each finding of `lint`.
fn lint(case: &Case, wrapper: &[&str]) -> Vec<(String, String)> {
    let outcome = case.call_behind(wrapper, &["lint", "--format", "json", &case.text("bundle")]);
    let findings: Vec<Value> =
        serde_json::from_str(&outcome.out()).unwrap_or_else(|e| panic!("{e}: {}", outcome.all()));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    findings.iter().map(|finding| (text(&finding["severity"]), text(&finding["path"]))).collect()
}

/// Asserts that these are all of the findings, and none of them an error.
fn assert_warned(case: &Case, paths: &[&str]) {
    let wanted: Vec<_> = paths.iter().map(|path| ("warning".to_owned(), (*path).to_owned())).collect();
    assert_eq!(lint(case, &[]), wanted);
}

/// Runs `act` in the container and returns what it printed.
fn printed(case: &mut Case, script: &str) -> String {
    case.script(script);
    case.run().ok().out().trim_end().to_owned()
}

#[test]
fn what_is_left_out_or_null_is_not_there() {
    let mut case = case!("leftout");
    case.alter(|c| {
        c["process"].as_object_mut().unwrap().remove("user");
        c["linux"]["resources"] = json!({"pids": {"limit": null}, "memory": null});
        c["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE"});
        c["root"]["readonly"] = json!(null);
    });
    assert_eq!(printed(&mut case, "id -u; id -g"), "0\n0");
    assert_warned_of_what_is_left_out(&case);
    case.alter(|c| c["process"]["user"] = json!({"uid": 1000, "gid": null}));
    assert_eq!(printed(&mut case, "id -u; id -g"), "1000\n0");
    case.args(&["sleep", "100000"]);
    case.running();
    if look::has_controllers(&["pids"]) {
        assert_eq!(look::cgroup_file(&case.id, "pids", "pids.max", "pids.max"), "max");
    }
    let file = case.text("process.json");
    for process in [json!({"cwd": "/", "args": ["id", "-u"]}), json!({"cwd": "/", "args": ["id", "-u"], "user": null})]
    {
        fs::write(&file, process.to_string()).unwrap();
        assert_eq!(case.call(&["exec", "--process", &file, &case.id]).ok().out(), "0\n");
    }
    let file = case.text("limits.json");
    fs::write(&file, json!({"pids": {"limit": null}, "cpu": null, "blockIO": {"weight": null}}).to_string()).unwrap();
    if common::is_tandem() {
        case.call(&["update", "--resources", &file, &case.id]).ok();
    }
}

fn assert_warned_of_what_is_left_out(case: &Case) {
    if common::is_tandem() {
        let paths = [
            "linux.resources.memory",
            "linux.resources.pids.limit",
            "root.readonly",
            "process.user",
            "process.ioPriority.priority",
        ];
        assert_warned(case, &paths);
    }
}

/// A mount namespace in which `/etc` has nothing but the users, and these ranges of IDs.
fn with_ranges(case: &Case, ranges: &str) -> Vec<String> {
    let dir = case.text("etc");
    fs::create_dir_all(&dir).unwrap();
    fs::copy("/etc/passwd", format!("{dir}/passwd")).unwrap();
    fs::write(format!("{dir}/subuid"), ranges).unwrap();
    fs::write(format!("{dir}/subgid"), ranges).unwrap();
    let script = format!("mount --bind {dir} /etc && exec \"$@\"");
    ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
}

#[test]
fn a_user_namespace_without_mappings_gets_some() {
    let mut case = case!("nomaps");
    tandem_only!("the IDs that a mount names");
    case.alter(|c| namespace(c, "user", None));
    assert_warned(&case, &["linux.uidMappings", "linux.gidMappings"]);
    let maps = |case: &Case| {
        let map = |name| look::value(format!("/proc/{}/{name}", case.pid()));
        ["uid_map", "gid_map"].map(|name| map(name).split_whitespace().collect::<Vec<_>>().join(" "))
    };
    for (ranges, uids, gids) in [
        // The terminals' group is 5.
        ("", "0 0 1", "0 0 6"),
        ("root:300000:100\n", "0 0 1 1 300000 100", "0 0 1 1 300000 100"),
    ] {
        let wrapper = with_ranges(&case, ranges);
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        case.create_behind(&wrapper, &[]).ok();
        case.start();
        assert_eq!(maps(&case), [uids, gids]);
        assert_eq!(case.exec(&["id", "-u"]).ok().out(), "0\n");
        case.delete_by_force();
    }
}

#[test]
fn mappings_without_a_user_namespace_are_passed_over() {
    let mut case = case!("mapsonly");
    case.alter(|c| {
        let map = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        (c["linux"]["uidMappings"], c["linux"]["gidMappings"]) = (map.clone(), map);
    });
    let own: Vec<String> = look::value("/proc/self/uid_map").split_whitespace().map(str::to_owned).collect();
    let seen = printed(&mut case, "cat /proc/self/uid_map");
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), own);
    if common::is_tandem() {
        assert_warned(&case, &["linux.uidMappings", "linux.gidMappings"]);
    }
}

#[test]
fn relative_paths_are_taken_from_the_root() {
    let mut case = case!("relative");
    case.alter(|c| {
        c["linux"]["maskedPaths"] = json!(["etc/passwd"]);
        c["linux"]["readonlyPaths"] = json!(["root"]);
        mount(c, "data", "tmpfs", "tmpfs", &[]);
    });
    let seen =
        printed(&mut case, "wc -c </etc/passwd; touch /root/x 2>&1; touch /data/x && grep -c ' /data ' /proc/mounts");
    assert_eq!(seen, "0\ntouch: /root/x: Read-only file system\n1");
    if common::is_tandem() {
        assert_warned(&case, &["mounts[6].destination", "linux.maskedPaths[0]", "linux.readonlyPaths[0]"]);
    }
}

#[test]
fn several_options_may_stand_in_one_string() {
    let mut case = case!("onestring");
    tandem_only!("those that are no file system's");
    case.alter(|c| {
        mount(c, "/a", "tmpfs", "tmpfs", &["size=64m,mode=755"]);
        mount(c, "/b", "tmpfs", "tmpfs", &["ro,nosuid,size=1m", "nodev"]);
        mount(c, "/c", "", "/proc/self/exe", &["rbind,ro"]);
    });
    let file = case.text("source");
    fs::write(&file, "").unwrap();
    case.alter(|c| c["mounts"][8]["source"] = json!(file));
    assert_warned(&case, &[]);
    let pid = case.running();
    let mounts = look::mounts(pid);
    let (a, b, c) = (look::mount_at(&mounts, "/a"), look::mount_at(&mounts, "/b"), look::mount_at(&mounts, "/c"));
    let has = |mount: &look::Mount, word: &str| mount.super_options.iter().any(|option| option == word);
    assert!(has(&a, "size=65536k") && has(&a, "mode=755"), "{a:?}");
    assert!(["ro", "nosuid", "nodev"].iter().all(|word| b.has(word)) && has(&b, "size=1024k"), "{b:?}");
    assert!(c.has("ro"), "{c:?}");
}

#[test]
fn options_of_a_bind_that_are_for_others_are_passed_over() {
    let mut case = case!("idlewords");
    let source = case.text("source");
    fs::create_dir(&source).unwrap();
    let words = ["rbind", "copy", "nocopy", "U", "z", "Z", "_netdev", "nofail", "x-systemd.automount", "ro"];
    case.alter(|c| mount(c, "/data", "bind", &source, &words));
    if common::is_tandem() {
        assert_warned(&case, &["mounts[6].options"; 8]);
    }
    let pid = case.running();
    assert!(look::mount_at(&look::mounts(pid), "/data").has("ro"));
    case.delete_by_force();
    // One that would limit, or that may be mistyped, is not.
    for word in ["size=1m", "noexce"] {
        case.alter(|c| c["mounts"][6]["options"] = json!(["bind", word]));
        if common::is_tandem() {
            case.create_with(&[]).refused_with(&["mounts[6].options", word.split('=').next().unwrap()]);
        }
    }
}

#[test]
fn a_container_without_a_process_is_created_and_never_started() {
    let mut case = case!("noprocess");
    tandem_only!("what crun and runc refuse");
    case.alter(|c| drop(c.as_object_mut().unwrap().remove("process")));
    assert_warned(&case, &["process"]);
    case.run().refused_with(&["config.json", "`process` is missing"]);
    case.nothing_left("a run without a process");
    let pid = case.create();
    assert_eq!(case.status(), "created");
    case.call(&["start", &case.id]).refused_with(&["cannot start", "no `process`"]);
    assert_eq!((case.status().as_str(), case.pid()), ("created", pid));
    assert_eq!(case.exec(&["hostname"]).ok().out(), "contained\n");
    case.delete_by_force();
}

#[test]
fn a_name_that_is_said_twice_must_be_the_same() {
    let mut case = case!("twonames");
    tandem_only!("the words");
    for name in ["hostname", "domainname"] {
        let sysctl = format!("kernel.{name}");
        case.alter(|c| {
            c[name] = json!("one");
            c["linux"]["sysctl"] = json!({ &sysctl: "two" });
        });
        case.create_with(&[]).refused_with(&[&sysctl, "`two`", &format!("`{name}` is `one`")]);
        case.alter(|c| c["linux"]["sysctl"] = json!({ &sysctl: "one" }));
        assert_eq!(printed(&mut case, &format!("cat /proc/sys/kernel/{name}")), "one");
        case.alter(|c| c["linux"]["sysctl"] = json!({}));
    }
}

#[test]
fn a_configuration_of_a_host_without_linux_properties_runs() {
    let mut case = case!("nolinux");
    tandem_only!("what crun refuses");
    case.alter(|c| {
        for name in ["linux", "hostname"] {
            c.as_object_mut().unwrap().remove(name);
        }
        c["mounts"] = json!([]);
    });
    assert_warned(&case, &["linux"]);
    assert_eq!(printed(&mut case, "ls -d /bin"), "/bin");
}

#[test]
fn a_file_that_is_too_large_or_too_deep_is_refused_in_little_memory() {
    let case = case!("toolarge");
    tandem_only!("the words");
    let file = case.bundle().join("config.json");
    let with = |at: &str, more: &str| case.config.to_string().replacen(at, &format!("{at}\"more\":{more},"), 1);
    let large = format!("\"{}\"", "x".repeat(100 << 20));
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let few = ["prlimit", "--as=150000000"];
    for (text, words) in [
        (with("{", &large), "config.json` is too large: over 16 MiB"),
        (with("\"process\":{", &deep), "it is nested over 127 deep"),
    ] {
        fs::write(&file, text).unwrap();
        case.create_behind(&few, &[]).refused_with(&["config.json", words]);
        assert_eq!(case.call_behind(&few, &["lint", &case.text("bundle")]).code(), 1);
        case.nothing_left(words);
    }
    // What nobody reads may be as deep as it likes.
    fs::write(&file, with("{", &deep)).unwrap();
    case.create_behind(&few, &[]).ok();
    case.delete_by_force();
    // A large one that is read.
    fs::write(&file, with("{", &format!("{}\"", &large[..10 << 20]))).unwrap();
    case.create();
    fs::write(case.path("process.json"), "x".repeat(20 << 20)).unwrap();
    case.call(&["exec", "--process", &case.text("process.json"), &case.id])
        .refused_with(&["process.json", "too large"]);
}

#[test]
fn commands_take_what_others_take() {
    let case = case!("commands");
    tandem_only!("what some of the others have");
    case.running();
    case.call(&["update", "--cpu-idle", "-1", &case.id]).ok();
    case.call(&["kill", "-s", "0", &case.id]).ok();
    case.call(&["kill", "--signal", "KILL", &case.id]).ok();
    case.wait_status("stopped");
    assert_eq!(case.call(&["ps", "--format", "json", &case.id]).ok().out(), "[]\n");
    let table = case.call(&["ps", &case.id]).ok().out();
    assert!(table.lines().count() == 1 && table.contains("PID"), "{table}");
}

#[test]
fn what_is_hardly_meant_is_told() {
    tandem_only!("lint");
    let mut case = case!("hardly");
    let good = case.config.clone();
    let listener = json!({"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/x",
                          "syscalls": [{"names": ["execve", "exit_group"], "action": "SCMP_ACT_ALLOW"}]});
    let changes: [(&str, Value, &str); 9] = [
        ("/mounts/6", json!({"destination": "/m", "type": "tmpfs", "options": ["noexce"]}), "mounts[6].options"),
        ("/mounts/6", json!({"destination": "/m", "type": "tmpfs", "options": ["size=64mb"]}), "mounts[6].options"),
        ("/mounts/6", json!({"destination": "m", "type": "tmpfs"}), "mounts[6].destination"),
        ("/linux/sysctl", json!({"net.ipv4.ip_fowrard": "1"}), "linux.sysctl[\"net.ipv4.ip_fowrard\"]"),
        ("/process/args", json!(["echo hi"]), "process.args[0]"),
        ("/linux/cgroupsPath", json!("a.slice:b"), "linux.cgroupsPath"),
        ("/linux/cgroupsPath", json!("a.slice:b:c"), "linux.cgroupsPath"),
        ("/linux/seccomp", listener, "linux.seccomp.listenerPath"),
        ("/process/user", json!({"uid": 0}), "process.user.gid"),
    ];
    for (pointer, value, path) in changes {
        case.alter(|c| {
            *c = good.clone();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            match c.pointer_mut(parent).unwrap() {
                Value::Array(list) => list.push(value.clone()),
                object => object[key] = value.clone(),
            }
        });
        assert_warned(&case, &[path]);
    }
    // A device's, which will be there.
    case.alter(|c| {
        *c = good;
        c["linux"]["sysctl"] = json!({"net.ipv4.conf.eth0.forwarding": "1", "net.ipv4.ip_forward": "1"});
    });
    assert_warned(&case, &[]);
}

#[test]
fn a_mount_point_is_missed_only_where_it_can_not_be_made() {
    tandem_only!("lint");
    let mut case = case!("pointless");
    case.alter(|c| {
        c["root"]["readonly"] = json!(true);
        mount(c, "/made/below", "tmpfs", "tmpfs", &[]);
    });
    assert_warned(&case, &[]);
    case.create();
    case.delete_by_force();
    fs::remove_dir_all(case.rootfs().join("made")).unwrap();
    let root = case.rootfs();
    let root = root.display();
    let script = format!("mount --bind {root} {root} && mount -o remount,bind,ro {root} && exec \"$@\"");
    let sealed = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    let found = lint(&case, &sealed);
    assert_eq!(found, [("warning".to_owned(), "mounts[6].destination".to_owned())]);
    case.create_behind(&sealed, &[]).refused_with(&["/made", "Read-only file system"]);
    // Joined namespaces and none change nothing of it.
    case.alter(|c| without_namespace(c, "ipc"));
    assert_eq!(lint(&case, &sealed), found);
}
