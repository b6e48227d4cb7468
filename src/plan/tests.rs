use super::*;

fn plan(change: impl FnOnce(&mut serde_json::Value)) -> Result<Plan> {
    let mut spec = serde_json::json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["true"], "user": {"uid": 0, "gid": 0}},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "uts"}]},
    });
    change(&mut spec);
    let choices = Choices {
        no_pivot: false,
        cgroups: CgroupManager::Cgroupfs,
        tolerance: None,
        trace: false,
        notify: None,
        extras: Extras::default(),
    };
    let spec = load::spec_from_text(spec.to_string().as_bytes())?;
    let host = Host { root: true, initial_userns: true, ..Host::default() };
    Plan::from_spec(&spec, ContainerId::parse("x").unwrap(), Path::new("/b"), &host, choices)
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
