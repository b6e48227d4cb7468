use super::*;

fn plan(change: impl FnOnce(&mut serde_json::Value)) -> Result<Plan> {
    let mut spec = serde_json::json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["true"], "user": {"uid": 0, "gid": 0}},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "uts"}]},
    });
    change(&mut spec);
    let spec = load::spec_from_text(spec.to_string().as_bytes())?;
    let host = Host { root: true, initial_userns: true, ..Host::default() };
    Plan::from_spec(&spec, ContainerId::parse("x").unwrap(), Path::new("/b"), &host, choices())
}

/// Those of a caller who says nothing.
fn choices<'a>() -> Choices<'a> {
    Choices {
        no_pivot: false,
        cgroups: CgroupManager::Cgroupfs,
        tolerance: None,
        trace: false,
        notify: None,
        extras: Extras::default(),
    }
}

#[test]
fn paths_are_the_bundles() {
    let plan = plan(|_| {}).unwrap();
    assert_eq!(plan.rootfs, Path::new("/b/rootfs"));
    assert_eq!(plan.devices.len(), 6);
    assert_eq!(plan.sources.len(), 7);
    assert_eq!(plan.cgroup.unwrap().path, Path::new("/x"));
}

#[test]
fn what_would_change_the_host_is_refused() {
    for change in [
        r#"{"linux":{"sysctl":{"net.ipv4.ip_forward":"1"}}}"#,
        r#"{"linux":{"namespaces":[{"type":"mount"},{"type":"network"}],"sysctl":{"kernel.panic":"1"}}}"#,
        r#"{"linux":{"namespaces":[{"type":"mount"}]},"hostname":"h"}"#,
        r#"{"linux":{"namespaces":[]},"mounts":[{"destination":"/x","type":"tmpfs"}]}"#,
        r#"{"linux":{"namespaces":[],"maskedPaths":["/proc/kcore"]}}"#,
    ] {
        let patch: serde_json::Map<_, _> = serde_json::from_str(change).unwrap();
        assert!(plan(|spec| spec.as_object_mut().unwrap().extend(patch)).is_err(), "{change}");
    }
}

#[test]
fn sysctls_are_paths_in_either_spelling() {
    let plan = plan(|spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(serde_json::json!({"type": "network"}));
        spec["linux"]["sysctl"] =
            serde_json::json!({"net.ipv4.conf.eth0/1.forwarding": "1", "net/ipv4/conf/eth0.2/x": "2"});
    })
    .unwrap();
    let names: Vec<_> = plan.child.container.unwrap().sysctls.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.2/x"]);
}

#[test]
fn a_sysctl_is_refused_for_what_is_true_of_it() {
    let said = |name: &str, namespaces: &[&str]| {
        let made = plan(|spec| {
            let types: Vec<_> = namespaces.iter().map(|kind| serde_json::json!({"type": kind})).collect();
            spec["linux"]["namespaces"].as_array_mut().unwrap().extend(types);
            if namespaces.contains(&"user") {
                let map = serde_json::json!([{"containerID": 0, "hostID": 7, "size": 1}]);
                (spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]) = (map.clone(), map);
            }
            spec["linux"]["sysctl"] = serde_json::json!({ name: "1" });
        });
        made.err().map(|error| error.to_string())
    };
    for (name, kind) in [
        ("net.core.somaxconn", "network"),
        ("kernel.shm_next_id", "ipc"),
        ("kernel/auto_msgmni", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("user.max_user_namespaces", "user"),
    ] {
        let words = format!("`linux.sysctl`: `{name}` needs a {kind} namespace in `linux.namespaces`");
        assert_eq!(said(name, &[]), Some(words));
        assert_eq!(said(name, &[kind]), None);
    }
    for (name, words) in [
        ("kernel.panic", "of no namespace: it would change the host"),
        ("kernel.semaphore", "of no namespace"),
        ("kernel.osrelease", "can only be read"),
        ("kernel.pid_max", "since Linux 6.14 only"),
        ("vm.memfd_noexec", "is the pid namespace's"),
        ("nonesuch", "is no sysctl"),
        ("net..x", "is no sysctl"),
        ("net/../kernel/panic", "is no sysctl"),
        ("", "is no sysctl"),
    ] {
        let said = said(name, &["network", "ipc", "user"]).unwrap_or_default();
        assert!(said.contains(&format!("`{name}` ")) && said.contains(words), "{said}");
    }
}

#[test]
fn a_bound_dev_is_left_alone() {
    let plan = plan(|spec| {
        spec["mounts"] = serde_json::json!([{"destination": "/dev", "source": "/dev", "options": ["rbind"]}]);
    })
    .unwrap();
    assert!(plan.devices.is_empty());
    assert!(!plan.child.container.unwrap().own_dev);
}

#[test]
fn a_mount_gets_a_slot_and_a_clean_destination() {
    let plan = plan(|spec| {
        spec["mounts"] = serde_json::json!([
            {"destination": "/a/../b/./c", "source": "data", "options": ["bind", "ro"]},
            {"destination": "/proc", "type": "proc", "source": "proc"},
        ]);
    })
    .unwrap();
    let container = plan.child.container.unwrap();
    assert_eq!(container.mounts[0].destination, Path::new("/b/c"));
    let path = PathBuf::from("/b/data");
    assert_eq!(plan.sources[1], Source::Path { path, recursive: false, nofollow: false, idmapped: None });
    assert_eq!(container.devices[0].1, 2);
}

#[test]
fn the_plan_survives_the_socket() {
    let plan = plan(|_| {}).unwrap().child;
    let bytes = crate::protocol::codec::encode_payload(&plan).unwrap();
    assert_eq!(crate::protocol::codec::decode_payload::<ChildPlan>(&bytes).unwrap(), plan);
}

#[test]
fn what_can_not_be_had_is_refused_and_not_ignored() {
    for change in [
        r#"{"linux":{"namespaces":[{"type":"mount"}],"intelRdt":{"closID":"x"}}}"#,
        r#"{"mounts":[{"destination":"/x","source":"/x","options":["idmap","bind"]}]}"#,
        r#"{"root":{"path":""}}"#,
    ] {
        let patch: serde_json::Map<_, _> = serde_json::from_str(change).unwrap();
        assert!(plan(|spec| spec.as_object_mut().unwrap().extend(patch)).is_err(), "{change}");
    }
}

/// What can't be left out where what it is a part of is there, and what it is missed for. A star is any name or number. Beside
/// these a property that is absent or null is nothing to be refused for.
const REQUIRED: [(&str, &str); 35] = [
    ("/ociVersion", "it says how to read the rest"),
    ("/root", "a container is made of files"),
    ("/root/path", "they are somewhere"),
    ("/process/args", "a process runs a program"),
    ("/process/cwd", "no runtime chooses one"),
    ("/process/consoleSize/*", "a terminal without rows or columns shows nothing"),
    ("/process/rlimits/*/*", "0 would be a limit"),
    ("/process/scheduler/policy", "it says what the rest means"),
    ("/process/scheduler/runtime", "SCHED_DEADLINE is given time"),
    ("/process/scheduler/deadline", "until then"),
    ("/hooks/*/*/path", "a hook is a program"),
    ("/mounts/*/destination", "a mount is somewhere"),
    ("/mounts/*/source", "a bind mount is of something"),
    ("/mounts/*/uidMappings", "of a mapping there are two halves"),
    ("/mounts/*/gidMappings", "the same"),
    ("/mounts/*/*/*/*", "0 would be another ID, and a line of none maps nothing"),
    ("/linux/uidMappings/*/*", "the same"),
    ("/linux/gidMappings/*/*", "the same"),
    ("/linux", "mounts are made in its mount namespace"),
    ("/linux/namespaces", "the same"),
    ("/linux/namespaces/*/type", "it says which"),
    ("/linux/devices/*/path", "a device is somewhere"),
    ("/linux/devices/*/type", "a number is of a character device or of a block device"),
    ("/linux/devices/*/major", "0 would be another device"),
    ("/linux/devices/*/minor", "the same"),
    ("/linux/memoryPolicy/mode", "it says what the rest means"),
    ("/linux/memoryPolicy/nodes", "MPOL_BIND binds to nodes"),
    ("/linux/personality/domain", "it is the personality"),
    ("/linux/resources/blockIO/*/*/major", "0 would be another device"),
    ("/linux/resources/blockIO/*/*/minor", "the same"),
    ("/linux/resources/blockIO/*/*/rate", "0 would be no limit"),
    ("/linux/resources/hugepageLimits/*/*", "a limit is of pages of a size, and 0 would be one"),
    ("/linux/resources/network/priorities/*/*", "a priority is of an interface, and 0 would be one"),
    ("/linux/seccomp/listenerPath", "`listenerMetadata` goes there"),
    ("/linux/seccomp/defaultAction", "a filter that lets pass what is not named would be none"),
];

/// The same of the rules of a filter, each of which would mean another one without it.
const REQUIRED_OF_RULES: [&str; 5] = ["names", "action", "args/*/index", "args/*/value", "args/*/op"];

/// Whether a pointer is one of those.
fn is_required(pointer: &str) -> bool {
    let fits = |pattern: &str| {
        let (pattern, steps): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), pointer.split('/').collect());
        pattern.len() == steps.len()
            && pattern.iter().zip(&steps).all(|(wanted, step)| *wanted == "*" || wanted == step)
    };
    let of_rules = |name: &&str| fits(&format!("/linux/seccomp/syscalls/*/{name}"));
    REQUIRED.iter().any(|(pattern, _)| fits(pattern)) || REQUIRED_OF_RULES.iter().any(of_rules)
}

/// The pointers to all properties.
fn pointers(json: &serde_json::Value, at: &str, found: &mut Vec<String>) {
    match json {
        serde_json::Value::Object(members) => members.iter().for_each(|(name, value)| {
            let path = format!("{at}/{name}");
            pointers(value, &path, found);
            found.push(path);
        }),
        serde_json::Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, value)| pointers(value, &format!("{at}/{i}"), found));
        }
        _ => {}
    }
}

/// All that is wrong, on a host that has everything.
fn complaints(json: &serde_json::Value) -> Vec<String> {
    let spec = match load::spec_from_text(json.to_string().as_bytes()) {
        Ok(spec) => spec,
        Err(error) => return vec![error.to_string()],
    };
    let api = MountApi { open_tree: true, move_mount: true, fsopen: true, mount_setattr: true, ..MountApi::default() };
    let host = Host {
        root: true,
        initial_userns: true,
        mount_api: api,
        resctrl: true,
        selinux: true,
        apparmor: true,
        ..Host::default()
    };
    let mut findings = findings::Findings::default();
    let plan = Plan::read(&spec, ContainerId::parse("x").unwrap(), Path::new("/b"), &host, choices(), &mut findings);
    findings.take(plan);
    findings.into_list().iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_absent_or_null_is_missed_only_where_it_must_be_there() {
    let text = include_str!("../../tests/data/every-property.json");
    let mut whole: serde_json::Value = serde_json::from_str(text).unwrap();
    // So that what is wrong with these does not hide what they lack.
    whole["linux"]["namespaces"].as_array_mut().unwrap().push(serde_json::json!({"type": "mount"}));
    for (name, value) in [("priority", 0), ("runtime", 2000), ("deadline", 3000), ("period", 4000)] {
        whole["process"]["scheduler"][name] = value.into();
    }
    let before = complaints(&whole);
    let mut all = vec![];
    pointers(&whole, "", &mut all);
    assert!(all.len() > 200);
    for pointer in &all {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let [absent, null] = [false, true].map(|null| {
            let mut json = whole.clone();
            let parent = json.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            if null {
                parent.insert(name.into(), serde_json::Value::Null)
            } else {
                parent.remove(name)
            };
            let new = complaints(&json).into_iter().find(|complaint| !before.contains(complaint));
            // Lines and columns are those of the text.
            new.map(|said| said.split(" at line").next().unwrap().to_owned())
        });
        assert_eq!(absent, null, "{pointer}");
        assert_eq!(absent.is_some(), is_required(pointer), "{pointer}: {absent:?}");
    }
}
