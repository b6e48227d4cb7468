//! Properties of the process and of the container that are none of mounts, namespaces or cgroups; crun's annotations.

#[macro_use]
mod common;

use std::fs;

use common::case::Case;
use common::look;
use serde_json::json;

/// `exec --detach`; the process's pid.
fn exec(case: &Case, process: &serde_json::Value) -> u32 {
    fs::write(case.path("process.json"), process.to_string()).unwrap();
    let pid_file = case.text("exec.pid");
    let file = case.text("process.json");
    case.call(&["exec", "--pid-file", &pid_file, "--process", &file, "--detach", &case.id]).ok();
    let pid = look::value(&pid_file).parse().unwrap();
    case.adopt(pid);
    case.wait_payload(pid);
    pid
}

#[test]
fn exec_runs_on_the_cpus_it_is_told_and_the_first_process_does_not() {
    let mut case = case!("affinity");
    tandem_only!("execCPUAffinity");
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        skip!("needs two CPUs");
    }
    case.alter(|c| c["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "1"}));
    let init = case.running();
    let own = look::status(std::process::id())["Cpus_allowed_list"].clone();
    assert_eq!(look::status(init)["Cpus_allowed_list"], own, "of the first process");
    let mut process = case.config["process"].clone();
    process["args"] = json!(["sleep", "100000"]);
    // The container's own is what counts where the process has none.
    process.as_object_mut().unwrap().remove("execCPUAffinity");
    assert_eq!(look::status(exec(&case, &process))["Cpus_allowed_list"], "1");
    process["execCPUAffinity"] = json!({"initial": "0"});
    // config.md: without "final" it has the container's CPUs in the end, as its cpuset says.
    assert_eq!(look::status(exec(&case, &process))["Cpus_allowed_list"], own);
    process["execCPUAffinity"] = json!({"final": "900"});
    fs::write(case.path("process.json"), process.to_string()).unwrap();
    let refused = case.call(&["exec", "--process", &case.text("process.json"), &case.id]);
    refused.refused_with(&["execCPUAffinity.final", "900"]);
}

#[test]
fn memory_comes_from_the_nodes_it_is_told() {
    let mut case = case!("mempolicy");
    tandem_only!("memoryPolicy");
    if !fs::exists("/proc/self/numa_maps").unwrap() {
        skip!("the kernel has no NUMA");
    }
    case.alter(|c| {
        c["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    });
    let policies = |pid: u32| -> Vec<String> {
        let maps = fs::read_to_string(format!("/proc/{pid}/numa_maps")).unwrap();
        maps.lines().filter_map(|l| l.split(' ').nth(1)).map(str::to_owned).collect()
    };
    let init = case.running();
    assert!(policies(init).iter().any(|p| p == "bind=static:0"), "{:?}", policies(init));
    let mut process = case.config["process"].clone();
    process["args"] = json!(["sleep", "100000"]);
    let second = policies(exec(&case, &process));
    assert!(second.iter().any(|p| p == "bind=static:0"), "{second:?}");
    case.delete_by_force();
    case.alter(|c| c["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "1000"}));
    case.create_with(&[]).refused_with(&["linux.memoryPolicy", "MPOL_BIND", "Invalid argument"]);
    case.nothing_left("a policy for a node that is not there");
}

#[test]
fn hooks_write_where_the_annotations_say() {
    let mut case = case!("hooksout");
    tandem_only!("crun's names");
    let (out, err) = (case.text("hooks.out"), case.text("hooks.err"));
    let hook = |path: &str, kind: &str| json!([{"path": path, "args": ["sh", "-c", format!("echo {kind}; echo {kind} >&2")], "env": ["PATH=/bin"]}]);
    case.alter(|c| {
        c["annotations"] = json!({"run.oci.hooks.stdout": out, "run.oci.hooks.stderr": err});
        c["hooks"] = json!({});
        for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
            c["hooks"][kind] = hook("/bin/sh", kind);
        }
    });
    case.running();
    case.delete_by_force();
    let all = "prestart\ncreateRuntime\ncreateContainer\nstartContainer\npoststart\npoststop";
    assert_eq!(look::value(&out), all);
    assert_eq!(look::value(&err), all);
}

#[test]
fn the_callers_groups_are_kept_where_an_annotation_says_so() {
    let mut case = case!("keepgroups");
    tandem_only!("crun's names");
    case.alter(|c| {
        c["annotations"]["run.oci.keep_original_groups"] = json!("1");
        c["process"]["user"]["additionalGids"] = json!([7]);
    });
    // setpriv is util-linux's, as unshare is.
    case.create_behind(&["setpriv", "--groups", "4242,4343"], &[]).ok();
    assert_eq!(look::words(case.pid(), "Groups"), ["4242", "4343"]);
}

#[test]
fn an_annotation_that_can_not_be_honoured_is_refused() {
    let mut case = case!("annotbad");
    tandem_only!("the words");
    for (name, value) in [
        ("run.oci.handler", "krun"),
        ("run.oci.hooks.stdout", "relative"),
        ("run.oci.mount_context_type", "other"),
        ("run.oci.keep_original_groups", "perhaps"),
        ("run.oci.seccomp_bpf_data", "?"),
    ] {
        case.alter(|c| c["annotations"] = json!({name: value}));
        case.create_with(&[]).refused_with(&["annotation", name]);
        case.nothing_left(name);
    }
    case.alter(|c| {
        c["annotations"] = json!({"run.oci.seccomp_fail_unknown_syscall": "1"});
        c["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"}],
        });
    });
    case.create_with(&[]).refused_with(&["no_such_call"]);
}

#[test]
fn scheduler_io_priority_and_personality_are_as_asked() {
    let mut case = case!("sched");
    case.alter(|c| {
        c["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7});
        c["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
        c["linux"]["personality"] = json!({"domain": "LINUX32"});
    });
    let pid = case.running();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // proc_pid_stat(5): 19 is the nice value, 41 the policy; the first here is 3.
    assert_eq!((fields[19 - 3], fields[41 - 3]), ("7", "3"));
    assert_eq!(look::value(format!("/proc/{pid}/personality")), "00000008");
    let ionice = std::process::Command::new("ionice").args(["-p", &pid.to_string()]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ionice.stdout).trim(), "best-effort: prio 6");
    assert_eq!(case.exec(&["cat", "/proc/self/personality"]).ok().out().trim(), "00000008", "exec has the container's");
}

#[test]
fn a_resctrl_group_is_refused_where_there_is_no_resctrl() {
    let mut case = case!("resctrl");
    tandem_only!("the words");
    case.alter(|c| c["linux"]["intelRdt"] = json!({"closID": "x"}));
    case.create_with(&[]).refused_with(&["linux.intelRdt", "no resctrl file system is mounted"]);
    case.nothing_left("intelRdt");
}

/// A network namespace of the test's own that stands for the host's, with a device `tt0`.
const HOST: &str =
    "ip tuntap add tt0 mode tap && ip addr add 10.9.8.7/24 dev tt0 && ip -6 addr add fd00:9::7/64 dev tt0";

/// Whether that can be had.
fn has_device() -> bool {
    let made = std::process::Command::new("unshare").args(["--net", "sh", "-c", HOST]).output();
    made.is_ok_and(|out| out.status.success())
}

#[test]
fn a_network_device_of_the_host_becomes_the_containers() {
    let mut case = case!("netdev");
    tandem_only!("netDevices");
    if !has_device() {
        skip!("no iproute2, or no tap devices");
    }
    case.alter(|c| c["linux"]["netDevices"] = json!({"tt0": {"name": "eth%d"}}));
    case.create_behind(&["unshare", "--net", "sh", "-c", &format!("{HOST} && exec \"$@\""), "sh"], &[]).ok();
    let net = format!("--net=/proc/{}/ns/net", case.pid());
    let out = std::process::Command::new("nsenter").args([&net, "ip", "addr", "show", "dev", "eth0"]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    for part in ["UP", "inet 10.9.8.7/24", "inet6 fd00:9::7/64"] {
        assert!(text.contains(part), "no `{part}`: {text}");
    }
}

#[test]
fn a_network_device_goes_back_if_the_container_does_not_come_about() {
    let mut case = case!("netback");
    tandem_only!("netDevices");
    if !has_device() {
        skip!("no iproute2, or no tap devices");
    }
    case.alter(|c| {
        c["linux"]["netDevices"] = json!({"tt0": {"name": "eth0"}});
        c["hooks"]["createRuntime"] = json!([{"path": "/bin/false"}]);
    });
    let script = format!("{HOST} && {{ \"$@\"; r=$?; ip addr show dev tt0; exit $r; }}");
    let outcome = case.create_behind(&["unshare", "--net", "sh", "-c", &script, "sh"], &[]);
    outcome.refused_with(&["createRuntime"]);
    let text = outcome.out();
    assert!(text.contains("inet 10.9.8.7/24") && !text.contains(",UP"), "{text}");
    case.nothing_left("a container whose hook failed");
}

#[test]
fn a_network_device_that_can_not_be_moved_is_refused() {
    let mut case = case!("netbad");
    tandem_only!("netDevices");
    let own = case.config["linux"]["namespaces"].clone();
    case.alter(|c| {
        common::bundle::namespace(c, "network", Some("/proc/self/ns/net"));
        c["linux"]["netDevices"] = json!({"lo": {"name": "eth0"}});
    });
    case.create_with(&[]).refused_with(&["linux.netDevices", "host's own"]);
    case.alter(|c| c["linux"]["namespaces"] = own);
    for (devices, words) in [
        (json!({"tt-none": {}}), "No such device"),
        (json!({"lo": {"name": "eth0"}}), "move it"),
        (json!({"tt-none": {"name": "a/b"}}), "no name"),
        (json!({"tt-none": {"name": "sixteen-letters-x"}}), "no name"),
    ] {
        case.alter(|c| c["linux"]["netDevices"] = devices);
        case.create_with(&[]).refused_with(&["linux.netDevices", words]);
        case.nothing_left(words);
    }
    case.alter(|c| {
        c["linux"]["netDevices"] = json!({"lo": {}});
        c["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "network");
    });
    case.create_with(&[]).refused_with(&["linux.netDevices", "network namespace"]);
}
