//! `tandem lint` and `--dry-run`: everything is told at once, with its place, and nothing is made.

#[macro_use]
mod common;

use std::fs;

use common::bundle::mount;
use common::case::Case;
use common::look;
use serde_json::{Value, json};

/// What `lint` finds, and its exit status.
fn lint(case: &Case, more: &[&str]) -> (Vec<Value>, i32) {
    let mut args = vec!["lint", "--format", "json"];
    args.extend(more);
    let bundle = case.text("bundle");
    args.push(&bundle);
    let outcome = case.call(&args);
    let findings = serde_json::from_str(&outcome.out()).unwrap_or_else(|e| panic!("{e}: {}", outcome.all()));
    (findings, outcome.code())
}

fn paths(findings: &[Value], severity: &str) -> Vec<String> {
    let of = |finding: &&Value| finding["severity"] == severity;
    findings.iter().filter(of).map(|finding| finding["path"].as_str().unwrap().to_owned()).collect()
}

/// The steps of a JSON path: `a.b[0]["c.d"]`.
fn steps(path: &str) -> Vec<String> {
    let mut steps = vec![];
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let (name, left) = quoted.split_once("\"]").unwrap_or_else(|| panic!("{path}"));
            steps.push(name.to_owned());
            rest = left;
        } else {
            let plain = rest.trim_start_matches(['.', '[']);
            let end = plain.find(['.', '[', ']']).unwrap_or(plain.len());
            steps.push(plain[..end].to_owned());
            rest = plain[end..].trim_start_matches(']');
        }
    }
    steps
}

/// Asserts that a path leads to something of the document, or to what is missing from something.
fn assert_leads_somewhere(document: &Value, path: &str) {
    let steps = steps(path);
    assert!(!steps.is_empty(), "an empty path");
    let mut here = document;
    for (i, step) in steps.iter().enumerate() {
        let next = match here {
            Value::Array(list) => step.parse::<usize>().ok().and_then(|n| list.get(n)),
            Value::Object(members) => members.get(step),
            _ => None,
        };
        match next {
            Some(next) => here = next,
            None if i + 1 == steps.len() => return assert!(here.is_object(), "{path}: {here} has no `{step}`"),
            None => panic!("{path}: there is no {:?} in {document}", &steps[..=i]),
        }
    }
}

#[test]
fn all_errors_are_told_at_once() {
    tandem_only!("lint");
    let mut case = case!("lintall");
    case.alter(|c| {
        c["process"]["cwd"] = json!("relative");
        c["process"]["oomScoreAdj"] = json!(5000);
        mount(c, "/a", "bind", "/", &["bind", "size=1"]);
        mount(c, "/b", "tmpfs", "tmpfs", &["remount"]);
        c["linux"]["sysctl"] = json!({"kernel.panic": "1", "kernel.other": "1"});
        c["linux"]["devices"] = json!([{"path": "relative", "type": "c", "major": 1, "minor": 3}]);
        c["linux"]["maskedPaths"] = json!(["/"]);
        c["linux"]["resources"] = json!({"memory": {"limit": -5, "swappiness": 700}});
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"},
            {"names": [], "action": "SCMP_ACT_ERRNO"},
        ]});
        c["hooks"] = json!({"poststop": [{"path": "relative"}]});
        c["annotations"] = json!({"run.oci.handler": "krun"});
    });
    let (findings, code) = lint(&case, &[]);
    let mut found = paths(&findings, "error");
    found.sort();
    assert_eq!(
        found,
        [
            "annotations[\"run.oci.handler\"]",
            "hooks.poststop[0].path",
            "linux.devices[0].path",
            "linux.maskedPaths[0]",
            "linux.resources.memory.limit",
            "linux.resources.memory.swappiness",
            "linux.seccomp.syscalls[1].names",
            "linux.sysctl[\"kernel.other\"]",
            "linux.sysctl[\"kernel.panic\"]",
            "mounts[6].options",
            "mounts[7].options",
            "process.cwd",
            "process.oomScoreAdj",
        ]
    );
    assert_eq!(code, 1);
    // The same code: what create says is one of them.
    let said = case.create_with(&[]).refused();
    let said_first = |finding: &Value| said.contains(finding["message"].as_str().unwrap());
    assert!(findings.iter().any(said_first), "{said}");
}

#[test]
fn a_wrong_type_hides_nothing() {
    tandem_only!("lint");
    let mut case = case!("linttypes");
    case.alter(|c| {
        c["hostname"] = json!(7);
        c["process"]["oomScoreAdj"] = json!("high");
        c["process"]["cwd"] = json!("relative");
        c["process"]["capabilities"]["bounding"].as_array_mut().unwrap().push(json!("CAP_NONESUCH"));
        c["mounts"][0]["destination"] = json!(1);
        mount(c, "/a", "bind", "/", &["bind", "size=1", "mode=7"]);
        mount(c, "/b", "tmpfs", "tmpfs", &["remount", "idmap=", "tmpcopyup"]);
        mount(c, "/c", "sysfs", "sysfs", &["remount", "tmpcopyup"]);
        c["linux"]["resources"] = json!({"pids": {"limit": "many"}});
    });
    let (findings, code) = lint(&case, &[]);
    let mut found = paths(&findings, "error");
    found.sort();
    let options = |mount: usize| [format!("mounts[{mount}].options"), format!("mounts[{mount}].options")];
    let mut wanted = [&options(6)[..], &options(7)[..], &options(8)[..]].concat();
    wanted.extend(["hostname", "linux.resources.pids.limit", "mounts[0].destination"].map(str::to_owned));
    wanted.extend(["process.cwd", "process.oomScoreAdj"].map(str::to_owned));
    wanted.sort();
    assert_eq!(found, wanted, "{findings:#?}");
    assert!(paths(&findings, "warning").contains(&"process.capabilities.bounding[8]".to_owned()), "{findings:#?}");
    let text = case.call(&["lint", &case.text("bundle")]).out();
    assert!(text.contains("a whole number is expected, not the string \"high\""), "{text}");
    assert!(!text.contains("i64") && !text.contains("i32") && !text.contains("struct"), "{text}");
    assert_eq!(code, 1);
}

#[test]
fn what_nobody_knows_is_told_after_what_is_refused() {
    tandem_only!("warnings");
    let mut case = case!("lintunknown");
    case.alter(|c| {
        c["process"]["capabilities"]["bounding"].as_array_mut().unwrap().push(json!("CAP_NONESUCH"));
        c["process"]["cwd"] = json!("relative");
    });
    case.create_with(&[]).refused_with(&["process.cwd"]);
    case.alter(|c| c["process"]["cwd"] = json!("/"));
    let log = case.text("log");
    case.create_with(&["--log", &log]).ok();
    let warned = fs::read_to_string(&log).unwrap();
    assert!(warned.contains("process.capabilities.bounding[8]: `CAP_NONESUCH` is unknown"), "{warned}");
    case.call(&["exec", "--log", &log, &case.id, "true"]).ok();
    assert_eq!(fs::read_to_string(&log).unwrap(), warned, "it was told once");
    case.delete_by_force();
    // The second of two of a name would count, and the first not, silently.
    let file = case.bundle().join("config.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("\"hostname\"", "\"hostname\": \"first\", \"hostname\"", 1)).unwrap();
    case.create_with(&[]).refused_with(&["config.json", "`hostname` is there twice"]);
    assert_eq!(paths(&lint(&case, &[]).0, "error").len(), 1);
}

#[test]
fn each_path_leads_somewhere() {
    tandem_only!("lint");
    let mut case = case!("lintpath");
    let good = case.config.clone();
    let changes: [(&str, Value); 48] = [
        ("/linux", json!(null)),
        ("/root", json!(null)),
        ("/root/path", json!("")),
        ("/process", json!(null)),
        ("/ociVersion", json!("2.0.0")),
        ("/ociVersion", json!(null)),
        ("/ociVersion", json!("1.9.0")),
        ("/process/args", json!("sh -c true")),
        ("/process/args", json!([])),
        ("/process/args", json!(["nonesuch"])),
        ("/process/user", json!({"uid": 4_294_967_295u32, "gid": 0})),
        ("/process/capabilities/bounding", json!(["CAP_NONESUCH"])),
        ("/process/capabilities/ambient", json!(["CAP_SYS_ADMIN"])),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 70})),
        ("/process/scheduler", json!({"policy": "SCHED_OTHER", "priority": -1})),
        ("/process/execCPUAffinity", json!({"initial": "1-"})),
        ("/process/selinuxLabel", json!("x")),
        ("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}])),
        ("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 2}])),
        ("/mounts/0/destination", json!("")),
        ("/mounts/0/destination", json!(7)),
        ("/mounts/0/type", json!("")),
        ("/mounts/0/uidMappings", json!([{"containerID": 0, "hostID": 1, "size": 1}])),
        ("/mounts/0", json!({"destination": "/proc", "type": "bind"})),
        ("/hostname", json!("x".repeat(65))),
        ("/linux/namespaces", json!([{"type": "nonesuch"}])),
        ("/linux/namespaces", json!([{"type": "pid"}, {"type": "mount"}, {"type": "pid"}])),
        ("/linux/namespaces", json!([{"type": "mount"}, {"type": "uts", "path": "relative"}])),
        ("/linux/namespaces", json!([])),
        ("/linux/namespaces", json!([{"type": "user"}, {"type": "mount"}, {"type": "uts"}])),
        ("/linux/uidMappings", json!([{"containerID": 0, "hostID": 1, "size": 0}])),
        ("/linux/uidMappings", json!([{"containerID": 0, "hostID": 1, "size": 1}])),
        ("/linux/timeOffsets", json!({"monotonic": {"secs": 1}, "other": {"secs": 1}})),
        ("/linux/timeOffsets", json!({"monotonic": {"secs": 1, "nanosecs": 1_000_000_000}})),
        ("/linux/cgroupsPath", json!("../x")),
        ("/linux/cgroupsPath", json!("a.slice:b:c")),
        ("/linux/rootfsPropagation", json!("sideways")),
        ("/linux/personality", json!({"domain": "LINUX", "flags": ["X"]})),
        ("/linux/netDevices", json!({"eth0": {"name": "far too long for a name"}})),
        ("/linux/intelRdt", json!({"closID": "a/b"})),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND"})),
        ("/linux/mountLabel", json!("x")),
        ("/linux/resources/unified", json!({"a/b": "1"})),
        (
            "/linux/resources/blockIO",
            json!({"weight": 7, "throttleReadBpsDevice": [{"major": -1, "minor": 0, "rate": 1}]}),
        ),
        ("/linux/resources/hugepageLimits", json!([{"pageSize": "2 MB", "limit": 1}])),
        ("/linux/resources/cpu", json!({"quota": 5000, "burst": 5001})),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_S390X"]})),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerMetadata": "x"})),
    ];
    for (pointer, value) in changes {
        case.alter(|c| {
            *c = good.clone();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let parent = c.pointer_mut(parent).unwrap();
            match (parent, value.is_null()) {
                (Value::Object(parent), true) => drop(parent.remove(key)),
                (Value::Array(parent), _) => parent[key.parse::<usize>().unwrap()] = value.clone(),
                (parent, _) => parent[key] = value.clone(),
            }
        });
        let (findings, _) = lint(&case, &[]);
        assert!(!findings.is_empty(), "{pointer} = {value}");
        for finding in &findings {
            assert_leads_somewhere(&case.config, finding["path"].as_str().unwrap());
            assert!(!finding["message"].as_str().unwrap().is_empty(), "{finding}");
            assert!(finding["severity"] == "error" || finding["advice"].is_string(), "{finding}");
        }
        // One mistake is told once.
        let errors = paths(&findings, "error");
        let of_its_own =
            ["/linux", "/linux/timeOffsets", "/linux/resources/blockIO", "/linux/namespaces", "/linux/seccomp"];
        assert!(errors.len() <= 1 || of_its_own.contains(&pointer), "{pointer} = {value}: {findings:#?}");
        if errors.is_empty() {
            assert_eq!(lint(&case, &["--strict"]).1, 1, "{pointer}");
        }
    }
}

#[test]
fn what_is_no_configuration_is_one_finding_with_line_and_column() {
    tandem_only!("lint");
    let case = case!("lintjson");
    let file = case.bundle().join("config.json");
    for text in ["", "{", "not json", "[]", "{\"ociVersion\": \"1.0.2\",\n\"process\": {\"cwd\": 7}}", "{} x"] {
        fs::write(&file, text).unwrap();
        let (findings, code) = lint(&case, &[]);
        assert_eq!(code, 1, "{text}: {findings:#?}");
        // A wrong type hides nothing of the rest, of which much is missing here.
        assert!(findings.len() == 1 || text.contains("cwd"), "{text}: {findings:#?}");
        assert!(!findings[0]["path"].as_str().unwrap().is_empty());
        let message = findings[0]["message"].as_str().unwrap();
        assert!(message.contains("column") || ["", "[]", "not json"].contains(&text), "{text}: {message}");
    }
    fs::remove_file(&file).unwrap();
    case.call(&["lint", &case.text("bundle")]).refused_with(&["config.json", "No such file"]);
    case.call(&["lint", &case.text("nonesuch")]).refused_with(&["nonesuch"]);
}

#[test]
fn what_is_legal_and_hardly_meant_is_a_warning() {
    tandem_only!("lint");
    let mut case = case!("lintwarn");
    let text = case.call(&["lint", &case.text("bundle")]).ok().out();
    assert_eq!(text, "no findings\n");
    let good = case.config.clone();
    let hook = case.text("hook");
    fs::write(&hook, "#!/bin/sh\n").unwrap();
    fs::write(case.rootfs().join("etc/plain"), "text").unwrap();
    let pid = json!([{"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}]);
    let all = json!(["CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_PTRACE"]);
    let sets = json!({"bounding": all, "effective": all, "permitted": all});
    let kvm = json!([{"path": "/dev/kvm", "type": "c", "major": 10, "minor": 232}]);
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
    let user = json!([{"type": "user"}, {"type": "mount"}, {"type": "uts"}, {"type": "pid"}]);
    /// What is set, and the path of the warning.
    type Change<'a> = (&'a [(&'a str, Value)], &'a str);
    let sys = |options: Value| json!({"destination": "/sys", "type": "bind", "source": "/sys", "options": options});
    let changes: [Change<'_>; 30] = [
        (&[("/process/args", json!(["nonesuch"]))], "process.args[0]"),
        (&[("/process/args", json!(["/etc/plain"]))], "process.args[0]"),
        (&[("/process/cwd", json!("/etc/plain"))], "process.cwd"),
        (&[("/process/cwd", json!("/nonesuch"))], "process.cwd"),
        (&[("/process/env", json!(["PATH=/bin", "A=1", "A=2"]))], "process.env[2]"),
        (&[("/process/env", json!(["A=1"]))], "process.env"),
        (&[("/process/env", json!(["PATH=/bin", "A"]))], "process.env[1]"),
        (
            &[("/process/terminal", json!(true)), ("/process/consoleSize", json!({"height": 0, "width": 0}))],
            "process.consoleSize",
        ),
        (&[("/process/consoleSize", json!({"height": 9, "width": 9}))], "process.consoleSize"),
        (&[("/process/capabilities/ambient", json!(["CAP_KILL"]))], "process.capabilities.ambient"),
        (&[("/process/capabilities/permitted", json!([]))], "process.capabilities.effective"),
        (&[("/process/capabilities", sets)], "process.capabilities"),
        (&[("/linux/namespaces", pid)], "mounts[0]"),
        (&[("/mounts/4/destination", json!("/dev/shm"))], "mounts[3].destination"),
        (&[("/mounts/5/destination", json!("/dev"))], "mounts[1].destination"),
        (&[("/mounts/5", json!({"destination": "/m", "type": "bind", "source": "/nonesuch"}))], "mounts[5].source"),
        (
            &[("/mounts/0/destination", json!("/other")), ("/linux/maskedPaths", json!(["/proc/keys"]))],
            "linux.maskedPaths[0]",
        ),
        (&[("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW"}))], "linux.seccomp.defaultAction"),
        (
            &[(
                "/linux/seccomp",
                json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["read", "raed"], "action": "SCMP_ACT_ALLOW"}]}),
            )],
            "linux.seccomp.syscalls[0].names[1]",
        ),
        (
            &[(
                "/linux/seccomp",
                json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ERRNO"}]}),
            )],
            "linux.seccomp.syscalls[0].action",
        ),
        (&[("/linux/resources/memory", json!({"limit": 64}))], "linux.resources.memory.limit"),
        (
            &[("/linux/resources/memory", json!({"limit": 99_999_999, "reservation": 999_999_999}))],
            "linux.resources.memory.reservation",
        ),
        (&[("/hooks", json!({"createRuntime": [{"path": hook}]}))], "hooks.createRuntime[0].path"),
        (&[("/hooks", json!({"startContainer": [{"path": "/nonesuch"}]}))], "hooks.startContainer[0].path"),
        (
            &[("/linux/devices", kvm), ("/linux/resources/devices", json!([{"allow": false, "access": "rwm"}]))],
            "linux.devices[0]",
        ),
        (&[("/linux/namespaces/1/path", json!("/run/netns/nonesuch"))], "linux.namespaces[1].path"),
        (
            &[
                ("/linux/namespaces", user),
                ("/linux/uidMappings", map.clone()),
                ("/linux/gidMappings", map),
                ("/process/user/uid", json!(1000)),
            ],
            "process.user.uid",
        ),
        (&[("/process/noNewPrivilages", json!(true))], "process.noNewPrivilages"),
        // The host's control groups stay writable: only what is said with an `r` is about what is below.
        (&[("/mounts/5", sys(json!(["rbind", "ro", "rnosuid"])))], "mounts[5].options"),
        (&[("/mounts/5", sys(json!(["rbind", "rro", "ro", "rrw", "ro"])))], "mounts[5].options"),
    ];
    for (set, path) in changes {
        case.alter(|c| {
            *c = good.clone();
            for (pointer, value) in set {
                let (parent, key) = pointer.rsplit_once('/').unwrap();
                match c.pointer_mut(parent).unwrap() {
                    Value::Array(parent) => parent[key.parse::<usize>().unwrap()] = value.clone(),
                    parent => parent[key] = value.clone(),
                }
            }
        });
        let (findings, code) = lint(&case, &[]);
        assert!(paths(&findings, "warning").iter().any(|found| found == path), "{set:?}: {findings:#?}");
        assert_eq!((paths(&findings, "error"), code), (vec![], 0), "{set:?}");
        assert_eq!(lint(&case, &["--strict"]).1, 1, "{set:?}");
    }
}

#[test]
fn control_groups_that_are_out_of_reach_are_no_finding() {
    tandem_only!("lint");
    let mut case = case!("lintcgroup");
    let mut told = |source: &str, options: &[&str], change: &dyn Fn(&mut Value)| {
        case.alter(|c| {
            c["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/sys");
            common::bundle::mount(c, "/host", "bind", source, options);
            c["linux"]["maskedPaths"] = json!([]);
            c["linux"]["readonlyPaths"] = json!([]);
            change(c);
        });
        let (findings, _) = lint(&case, &[]);
        case.alter(|c| {
            c["mounts"].as_array_mut().unwrap().retain(|m| !m["destination"].as_str().unwrap().starts_with("/host"))
        });
        findings.iter().any(|finding| finding["message"].as_str().unwrap().contains("control groups"))
    };
    assert!(told("/sys", &["rbind", "ro"], &|_| ()));
    assert!(told("/sys/fs", &["rbind", "ro"], &|_| ()), "the tree that they are in, wherever it is shown");
    assert!(!told("/sys", &["rbind", "rro"], &|_| ()));
    assert!(!told("/sys", &["bind", "ro"], &|_| ()), "what is below is not there");
    assert!(!told("/tmp", &["rbind", "ro"], &|_| ()));
    assert!(!told("/sys", &["rbind", "ro"], &|c| c["linux"]["maskedPaths"] = json!(["/host/fs"])));
    let cover = |c: &mut Value| common::bundle::mount(c, "/host/fs/cgroup", "tmpfs", "tmpfs", &[]);
    assert!(!told("/sys", &["rbind", "ro"], &cover));
}

#[test]
fn a_program_is_found_where_links_and_mounts_lead() {
    tandem_only!("lint");
    let mut case = case!("lintlinks");
    fs::create_dir_all(case.path("tools/deep")).unwrap();
    common::program::copy(case.rootfs().join("bin/busybox"), case.path("tools/deep/tool"));
    std::os::unix::fs::symlink("/opt/../opt/deep", case.rootfs().join("usr/link")).unwrap();
    let tools = case.text("tools");
    case.alter(|c| {
        mount(c, "/opt", "bind", &tools, &["bind"]);
        c["process"]["args"] = json!(["/usr/link/tool"]);
    });
    assert_eq!(lint(&case, &[]).0, Vec::<Value>::new());
    // What will be in a new file system nobody knows.
    case.args(&["/dev/shm/made-by-a-hook"]);
    assert_eq!(lint(&case, &[]).0, Vec::<Value>::new());
    case.args(&["/usr/link/other"]);
    assert_eq!(paths(&lint(&case, &[]).0, "warning"), ["process.args[0]"]);
}

#[test]
fn nothing_is_made() {
    tandem_only!("lint, --dry-run");
    let mut case = case!("lintnothing");
    case.alter(|c| {
        c["root"]["readonly"] = json!(true);
        mount(c, "/made/by/create", "tmpfs", "tmpfs", &[]);
        c["hooks"] = json!({"createRuntime": [{"path": "/bin/true", "env": ["H=hook-secret"]}]});
        c["process"]["env"] = json!(["PATH=/bin", "PASSWORD=hunter2", "A=b=c"]);
    });
    let (bundle, pid, trace) = (case.text("bundle"), case.text("pid"), case.text("trace"));
    let calls: [&[&str]; 4] = [
        &["lint", &bundle],
        &["--trace", &trace, "create", "--dry-run", "--pid-file", &pid, "--bundle", &bundle, &case.id],
        &["run", "--dry-run", "--with-secrets", "--bundle", &bundle, &case.id],
        &["run", "--dry-run", "--detach", "--bundle", &bundle, &case.id],
    ];
    let mounts = look::mounts("self");
    for args in calls {
        let out = case.call(args).ok().out();
        assert_eq!(look::mounts("self"), mounts, "{args:?}");
        assert!(!case.root().exists() && !case.path("pid").exists() && !case.path("trace").exists(), "{args:?}");
        assert!(!case.rootfs().join("made").exists(), "{args:?}");
        case.nothing_left(args[0]);
        if args[0] == "lint" {
            continue;
        }
        let plan: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(plan["id"], case.id);
        let env = plan["child"]["process"]["env"].as_array().unwrap().clone();
        let secrets = args.contains(&"--with-secrets");
        assert_eq!(env.contains(&json!("PASSWORD=hunter2")), secrets, "{env:?}");
        assert_eq!(env.contains(&json!("A")), !secrets, "{env:?}");
        assert_eq!(out.contains("hook-secret"), secrets);
    }
    case.call(&["create", "--with-secrets", "--bundle", &bundle, &case.id]).refused_with(&["--dry-run"]);
    case.alter(|c| c["process"]["cwd"] = json!("relative"));
    case.call(&["create", "--dry-run", "--bundle", &bundle, &case.id]).refused_with(&["process.cwd"]);
}

#[test]
fn nothing_is_said_of_what_is_left_of_rules_with_an_error() {
    tandem_only!("lint");
    let mut case = case!("lintrest");
    let filter =
        |action: &str| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": action}]});
    let of_default =
        |findings: &[Value]| paths(findings, "warning").contains(&"linux.seccomp.defaultAction".to_owned());
    case.alter(|c| c["linux"]["seccomp"] = filter("SCMP_ACT_ALLOW"));
    assert!(of_default(&lint(&case, &[]).0));
    case.alter(|c| c["linux"]["seccomp"] = filter("SCMP_ACT_ERNO"));
    let (findings, code) = lint(&case, &[]);
    assert_eq!(paths(&findings, "error"), ["linux.seccomp.syscalls[0].action"], "{findings:#?}");
    assert!(findings[0]["message"].as_str().unwrap().contains("`SCMP_ACT_ERRNO` comes nearest"), "{findings:#?}");
    assert!(!of_default(&findings), "{findings:#?}");
    assert_eq!(code, 1);
}

#[test]
fn what_this_host_does_not_have_is_a_warning() {
    tandem_only!("lint");
    let mut case = case!("linthost");
    let asked = ["mounts[6].type", "linux.resources.cpu.cpus", "process.args[0]", "process.rlimits[0].hard"];
    let script = case.rootfs().join("bin/script");
    let made = |interpreter: &str| {
        common::program::write(&script, format!("#! {interpreter} -e\n"));
    };
    let set = |c: &mut Value, fstype: &str, cpus: &str, program: &str| {
        c["mounts"][6]["type"] = json!(fstype);
        c["linux"]["resources"] = json!({"cpu": {"cpus": cpus}});
        c["process"]["args"] = json!([program]);
        c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 700}]);
    };
    let look_behind = |case: &Case, wrapper: &[&str]| {
        let outcome = case.call_behind(wrapper, &["lint", "--format", "json", &case.text("bundle")]);
        let findings: Vec<Value> =
            serde_json::from_str(&outcome.out()).unwrap_or_else(|e| panic!("{e}: {}", outcome.all()));
        assert_eq!(paths(&findings, "error"), [""; 0]);
        let found = paths(&findings, "warning");
        asked.map(|path| found.contains(&path.to_owned()))
    };
    let few = ["prlimit", "--nofile=600:600"];
    let without = [&few[..], &["setpriv", "--bounding-set=-sys_resource"]].concat();
    mount(&mut case.config, "/data", "tmpfs", "none", &[]);
    // Root of a container may be without it, too.
    let effective = u64::from_str_radix(&look::words(std::process::id(), "CapEff")[0], 16).unwrap();
    let lacks = effective & 1 << 24 == 0;
    for program in ["script", "/bin/script"] {
        made("/no/such/interpreter");
        case.alter(|c| set(c, "ext9", "0-8000", program));
        assert_eq!(look_behind(&case, &without), [true; 4], "{program}");
        // With the capability the limit can be had.
        assert_eq!(look_behind(&case, &few), [true, true, true, lacks], "{program}");
        made("/bin/sh");
        case.alter(|c| set(c, "tmpfs", "0", program));
        assert_eq!(look_behind(&case, &few), [false, false, false, lacks], "{program}");
    }
}
