//! Bad configurations: each is refused in one line that names what is wrong, and leaves nothing behind.

#[macro_use]
mod common;

use std::fs;

use common::bundle::{mount, namespace};
use common::case::Case;
use common::outcome::Outcome;
use serde_json::json;

/// One line, an exit code, the words that tell the user what is wrong; and nothing left, without any delete.
fn assert_clean(case: &Case, what: &str, outcome: &Outcome, words: &[&str]) {
    let line = outcome.refused();
    if common::is_tandem() {
        for word in words {
            assert!(line.to_lowercase().contains(&word.to_lowercase()), "{what}: no `{word}` in: {line}");
        }
        case.nothing_left(what);
    } else {
        let _ = case.call(&["delete", "--force", &case.id]);
    }
    assert!(!case.path("pid").exists(), "{what}: a pid file");
}

#[test]
fn a_config_json_that_is_none() {
    let case = case!("badconfig");
    let good = fs::read_to_string(case.bundle().join("config.json")).unwrap();
    let truncated = &good[..good.len() / 2];
    let file = case.bundle().join("config.json");
    for (what, text) in [
        ("empty", ""),
        ("truncated", truncated),
        ("no JSON", "not json"),
        ("a list", "[]"),
        ("null", "null"),
        ("NUL", "\0"),
    ] {
        if !common::is_tandem() && what == "null" {
            continue; // A peer panics.
        }
        fs::write(&file, text).unwrap();
        assert_clean(&case, what, &case.create_with(&[]), &["config.json"]);
        assert_clean(&case, what, &case.run(), &["config.json"]);
    }
    fs::write(&file, [0xff, 0xfe, b'{']).unwrap();
    assert_clean(&case, "not UTF-8", &case.create_with(&[]), &["config.json"]);
    fs::remove_file(&file).unwrap();
    assert_clean(&case, "missing", &case.create_with(&[]), &["config.json", "no such file"]);
    fs::create_dir(&file).unwrap();
    assert_clean(&case, "a directory", &case.create_with(&[]), &["config.json"]);
}

#[test]
fn a_version_that_is_not_known() {
    let mut case = case!("badversion");
    for version in ["2.0.0", "0.9.0", "99.0.0", "", "one"] {
        if !common::is_tandem() && version.starts_with("0.") {
            continue;
        }
        case.alter(|c| c["ociVersion"] = json!(version));
        let outcome = case.create_with(&[]);
        if common::is_tandem() {
            assert_clean(&case, version, &outcome, &["ociVersion"]);
        } else {
            let _ = case.call(&["delete", "--force", &case.id]);
        }
    }
    case.alter(|c| c["ociVersion"] = json!("1.0.0"));
    case.create();
}

#[test]
fn a_value_of_a_wrong_type_is_named() {
    let mut case = case!("badtype");
    let good = case.config.clone();
    let changes: [(&str, &str, serde_json::Value); 8] = [
        ("process.args", "/process/args", json!("sh -c true")),
        ("process.user.uid", "/process/user/uid", json!("root")),
        ("root.readonly", "/root/readonly", json!("yes")),
        ("mounts", "/mounts", json!({})),
        ("mounts[0].destination", "/mounts/0/destination", json!(7)),
        ("linux.namespaces[1]", "/linux/namespaces/1", json!("network")),
        ("hostname", "/hostname", json!(["a"])),
        ("linux.cgroupsPath", "/linux/cgroupsPath", json!(12)),
    ];
    for (name, pointer, value) in changes {
        case.alter(|c| {
            *c = good.clone();
            *c.pointer_mut(pointer).unwrap() = value;
        });
        // The path to the value, however it is written.
        let last = name.rsplit('.').next().unwrap().split('[').next().unwrap();
        assert_clean(&case, name, &case.create_with(&[]), &["config.json", last]);
    }
}

#[test]
fn what_the_configuration_must_have_is_missed() {
    let mut case = case!("lacks");
    let good = case.config.clone();
    for (pointer, key) in [("", "root"), ("/root", "path"), ("/process", "args"), ("/process", "cwd")] {
        case.alter(|c| {
            *c = good.clone();
            c.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(key);
        });
        let outcome = case.create_with(&[]);
        if common::is_tandem() {
            assert_clean(&case, key, &outcome, &[key]);
        } else {
            let _ = case.call(&["delete", "--force", &case.id]);
        }
    }
    for (what, args) in [("no arguments", json!([])), ("an empty command", json!([""]))] {
        case.alter(|c| {
            *c = good.clone();
            c["process"]["args"] = args;
        });
        let outcome = case.create_with(&[]);
        if common::is_tandem() {
            assert_clean(&case, what, &outcome, &[]);
        } else {
            let _ = case.call(&["delete", "--force", &case.id]);
        }
    }
}

/// Found on every host: there are those without SELinux on which a configuration is only made.
#[test]
fn a_label_that_is_none() {
    let mut case = case!("badlabel");
    tandem_only!("the words");
    let good = case.config.clone();
    for (label, words) in [("junk", "USER:ROLE:TYPE"), ("a:b:", "USER:ROLE:TYPE"), ("u:r:t x", "USER:ROLE:TYPE")] {
        for (pointer, path) in
            [("/process/selinuxLabel", "process.selinuxLabel"), ("/linux/mountLabel", "linux.mountLabel")]
        {
            case.alter(|c| {
                *c = good.clone();
                let (parent, name) = pointer.rsplit_once('/').unwrap();
                c.pointer_mut(parent).unwrap()[name] = json!(label);
            });
            case.create_with(&[]).refused_with(&[path, label, words]);
            let lint = case.call(&["lint", &case.text("bundle")]);
            assert!(lint.status.code() == Some(1) && lint.out().contains(path), "{}", lint.all());
        }
    }
}

#[test]
fn a_bundle_without_rootfs() {
    let case = case!("norootfs");
    fs::remove_dir_all(case.rootfs()).unwrap();
    assert_clean(&case, "no rootfs", &case.create_with(&[]), &["rootfs", "no such file"]);
    assert_clean(&case, "no rootfs", &case.run(), &["rootfs"]);
    fs::write(case.rootfs(), "a file").unwrap();
    assert_clean(&case, "a file as rootfs", &case.create_with(&[]), &["rootfs"]);
    fs::remove_file(case.rootfs()).unwrap();
}

#[test]
fn a_bundle_that_is_not_there() {
    let case = case!("nobundle");
    for bundle in [case.text("no-such"), case.text("bundle/config.json")] {
        let outcome = case.call(&["create", "--bundle", &bundle, &case.id]);
        assert_clean(&case, &bundle, &outcome, &[&bundle]);
    }
}

#[test]
fn a_working_directory_that_can_not_be() {
    let mut case = case!("badcwd");
    case.alter(|c| c["process"]["cwd"] = json!("/etc/passwd"));
    assert_clean(&case, "a file as cwd", &case.create_with(&[]), &["/etc/passwd"]);
    case.alter(|c| c["process"]["cwd"] = json!("relative"));
    let outcome = case.create_with(&[]);
    if common::is_tandem() {
        assert_clean(&case, "a relative cwd", &outcome, &["cwd"]);
    } else {
        let _ = case.call(&["delete", "--force", &case.id]);
    }
}

#[test]
fn a_mount_that_can_not_be() {
    let mut case = case!("badmount");
    let good = case.config.clone();
    let missing = case.text("no-such-source");
    fs::write(case.path("file"), "").unwrap();
    let file = case.text("file");
    /// Destination, type, source, options, and the words that name what is wrong.
    type Bad<'a> = (&'a str, &'a str, &'a str, &'a [&'a str], &'a [&'a str]);
    let mounts: [Bad<'_>; 6] = [
        ("/data", "bind", &missing, &["bind"], &["/data", "no-such-source", "no such file"]),
        ("/data", "nonesuchfs", "x", &[], &["/data", "nonesuchfs"]),
        ("/data", "tmpfs", "tmpfs", &["size=banana"], &["/data"]),
        ("/data", "tmpfs", "tmpfs", &["no-such-option=1"], &["/data"]),
        ("/tmp", "bind", &file, &["bind"], &["/tmp"]),
        ("/etc/passwd/below", "tmpfs", "tmpfs", &[], &["/etc/passwd"]),
    ];
    for (destination, kind, source, options, words) in mounts {
        case.alter(|c| {
            *c = good.clone();
            mount(c, destination, kind, source, options);
        });
        assert_clean(&case, &format!("{kind} on {destination} {options:?}"), &case.create_with(&[]), words);
    }
}

#[test]
fn a_device_a_path_and_a_hook_that_can_not_be() {
    tandem_only!("naming every wrong value");
    let mut case = case!("badvalues");
    let good = case.config.clone();
    let changes: [(&str, serde_json::Value, &str); 8] = [
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 38}), "errno"),
        ("/linux/resources", json!({"unified": {"cgroup.freeze": "1"}}), "cgroup.freeze"),
        ("/linux/namespaces", json!([{"type": "nonesuch"}]), "nonesuch"),
        ("/process/oomScoreAdj", json!(5000), "oomScoreAdj"),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "q", "major": 1, "minor": 1}]), "type"),
        ("/linux/devices", json!([{"path": "relative", "type": "c", "major": 1, "minor": 3}]), "relative"),
        ("/linux/maskedPaths", json!(["/"]), "container's root"),
        ("/linux/rootfsPropagation", json!("sideways"), "sideways"),
    ];
    for (pointer, value, word) in changes {
        case.alter(|c| {
            *c = good.clone();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            c.pointer_mut(parent).unwrap()[key] = value;
        });
        assert_clean(&case, pointer, &case.create_with(&[]), &[word]);
    }
}

/// All that used to reach the kernel first.
#[test]
fn a_number_that_the_kernel_refuses_or_that_is_not_there() {
    tandem_only!("refusing by the plan");
    let mut case = case!("badnumbers");
    let good = case.config.clone();
    let changes: [(&str, serde_json::Value, &[&str]); 11] = [
        (
            "/linux/timeOffsets",
            json!({"boottime": {"nanosecs": 1_000_000_000}}),
            &["linux.timeOffsets[\"boottime\"].nanosecs"],
        ),
        ("/linux/resources", json!({"cpu": {"quota": 5000, "burst": 6000}}), &["cpu.burst", "6000 is over the quota"]),
        ("/linux/resources", json!({"cpu": {"period": 2_000_000}}), &["cpu.period", "2000000"]),
        ("/linux/resources", json!({"pids": {"limit": 4_194_305}}), &["pids.limit", "4194305"]),
        ("/linux/resources", json!({"memory": {"limit": u64::MAX}}), &["memory.limit", "18446744073709551615"]),
        (
            "/linux/resources",
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": u64::MAX}]}),
            &["hugepageLimits[0].limit", "18446744073709551615"],
        ),
        (
            "/linux/resources",
            json!({"hugepageLimits": [{"pageSize": "2MB"}]}),
            &["hugepageLimits[0].limit` is missing"],
        ),
        ("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "hard": 9}]), &["process.rlimits[0].soft` is missing"]),
        ("/process/scheduler", json!({"policy": "SCHED_FIFO"}), &["process.scheduler.priority", "1 to 99"]),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_S390X"]}),
            &["linux.seccomp.architectures[1]", "SCMP_ARCH_S390X", "byte order"],
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_NONESUCH"]}),
            &["linux.seccomp.architectures[0]", "`SCMP_ARCH_NONESUCH` is unknown"],
        ),
    ];
    for (pointer, value, words) in changes {
        case.alter(|c| {
            *c = good.clone();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            c.pointer_mut(parent).unwrap()[key] = value;
            if key == "timeOffsets" {
                namespace(c, "time", None);
            }
        });
        assert_clean(&case, pointer, &case.create_with(&[]), words);
        // By the plan, and not by what comes after it.
        let lint = case.call(&["lint", &case.text("bundle")]);
        assert_eq!(lint.code(), 1, "{}", lint.all());
        assert!(lint.out().contains(words[words.len() - 1]), "{}", lint.all());
    }
}
