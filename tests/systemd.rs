//! The systemd cgroup manager: scopes made, limited, updated and removed, seen by `systemctl show` and in cgroupfs.
//!
//! Where systemd is not the init, all of it is skipped: `scripts/vm 7.3 systemd` runs it.

#[macro_use]
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::bundle::namespace;
use common::case::Case;
use common::{look, wait_until};
use serde_json::json;

const ROOT: &str = "/sys/fs/cgroup";

/// A case whose container is in `SLICE:tt:ID`; skipped without systemd and cgroup v2.
macro_rules! scope {
    ($name:literal) => {
        scope!($name, "machine.slice")
    };
    ($name:literal, $slice:expr) => {{
        if !Path::new("/run/systemd/system").is_dir() {
            skip!("systemd is not the init of this machine");
        }
        if !Path::new(ROOT).join("cgroup.controllers").exists() {
            skip!("no pure cgroup v2 layout");
        }
        tandem_only!("the systemd cgroup manager's details");
        let mut case = case!($name);
        let path = format!("{}:tt:{}", $slice, case.id);
        case.alter(|c| c["linux"]["cgroupsPath"] = json!(path));
        case.globals.push("--systemd-cgroup".to_owned());
        case
    }};
}

fn unit(case: &Case) -> String {
    format!("tt-{}.scope", case.id)
}

/// The unit's properties, as systemd tells them.
fn properties(unit: &str) -> BTreeMap<String, String> {
    let out = Command::new("systemctl").args(["show", unit]).output().expect("systemctl");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// Whether systemd has the unit loaded: also one that has failed.
fn is_loaded(unit: &str) -> bool {
    properties(unit)["LoadState"] != "not-found"
}

fn dir(path: &str) -> PathBuf {
    Path::new(ROOT).join(path.trim_start_matches('/'))
}

fn own(pid: u32) -> String {
    look::cgroups(pid).remove("").expect("v2 cgroup")
}

fn gone(case: &Case, after: &str) {
    wait_until(&format!("systemd has let go of the unit after {after}"), || !is_loaded(&unit(case)));
    case.nothing_left(after);
}

#[test]
fn limits_are_the_units_and_the_containers() {
    let mut case = scope!("sdlimits");
    case.alter(|c| {
        c["linux"]["resources"] = json!({
            "memory": {"limit": 67108864, "reservation": 33554432, "swap": 134217728},
            "cpu": {"quota": 30000, "period": 60000, "shares": 2048, "cpus": "0"},
            "pids": {"limit": 50},
            "unified": {"memory.high": "60000000"}
        });
    });
    let pid = case.running();
    let found = properties(&unit(&case));
    for (name, value) in [
        ("ActiveState", "active"),
        ("Slice", "machine.slice"),
        ("Delegate", "yes"),
        ("DefaultDependencies", "no"),
        ("CollectMode", "inactive-or-failed"),
        ("MemoryMax", "67108864"),
        ("MemoryHigh", "60000000"),
        ("MemoryLow", "33554432"),
        ("MemorySwapMax", "67108864"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("CPUQuotaPeriodUSec", "60ms"),
        ("CPUWeight", "174"),
        ("TasksMax", "50"),
        ("AllowedCPUs", "0"),
        ("DevicePolicy", "auto"),
    ] {
        assert_eq!(found[name], value, "{name}");
    }
    let scope = dir(&format!("machine.slice/{}", unit(&case)));
    assert_eq!(own(pid), format!("/machine.slice/{}/container", unit(&case)));
    // What the container sees of its limits is in its own cgroup.
    for below in ["", "container"] {
        let file = |name: &str| look::value(scope.join(below).join(name));
        assert_eq!(file("memory.max"), "67108864", "{below}");
        assert_eq!(file("cpu.max"), "30000 60000", "{below}");
        assert_eq!(file("pids.max"), "50", "{below}");
        assert_eq!(file("cpuset.cpus"), "0", "{below}");
    }
    // A systemd that reads everything again changes nothing.
    assert!(Command::new("systemctl").arg("daemon-reload").status().expect("systemctl").success());
    assert_eq!(look::value(scope.join("container/memory.max")), "67108864");
    assert_eq!(look::value(scope.join("memory.max")), "67108864");
    case.stop();
    case.delete();
    gone(&case, "delete");
    assert!(!scope.exists());
}

#[test]
fn later_commands_need_no_option() {
    let mut case = scope!("sdlater");
    case.alter(|c| {
        c["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "rwm"}]);
    });
    let pid = case.running();
    case.globals.clear();
    // exec joins the same cgroup.
    let seen = case.exec(&["cat", "/proc/self/cgroup"]).ok().out();
    assert!(seen.trim().ends_with(&format!("/machine.slice/{}/container", unit(&case))), "{seen}");
    let ps: Vec<u32> = serde_json::from_str(&case.call(&["ps", "--format", "json", &case.id]).ok().out()).unwrap();
    assert_eq!(ps, [pid]);
    case.call(&["pause", &case.id]).ok();
    assert_eq!(case.status(), "paused");
    case.call(&["resume", &case.id]).ok();
    assert_eq!(case.status(), "running");
    case.call(&["update", "--memory", "64m", "--pids-limit", "30", "--cpu-shares", "512", &case.id]).ok();
    let found = properties(&unit(&case));
    assert_eq!((found["MemoryMax"].as_str(), found["TasksMax"].as_str()), ("67108864", "30"));
    assert_eq!(look::value(dir(&own(pid)).join("memory.max")), "67108864");
    assert_eq!(look::value(dir(&own(pid)).join("cpu.weight")), found["CPUWeight"]);
    // Our own device filter decides, in the sub-cgroup.
    case.exec(&["sh", "-c", "mknod /tmp/kmsg c 1 11"]).ok();
    assert_ne!(case.exec(&["head", "-c", "1", "/tmp/kmsg"]).code(), 0, "a device that was not granted");
    case.call(&["kill", "--all", &case.id, "KILL"]).ok();
    case.wait_status("stopped");
    // systemd lets go of a scope whose last process has ended, and delete finds nothing to do.
    wait_until("the scope ends with its processes", || !is_loaded(&unit(&case)));
    case.delete();
    gone(&case, "delete");
}

#[test]
fn a_failed_create_leaves_no_unit() {
    let mut case = scope!("sdfail");
    case.args(&["/nonexistent"]);
    let outcome = case.create_with(&[]);
    if outcome.status.success() {
        let outcome = case.call(&["start", &case.id]);
        assert_ne!(outcome.code(), 0);
        case.call(&["delete", "--force", &case.id]).ok();
    }
    gone(&case, "a failed create");
    // A hook that fails comes after the scope is made.
    case.alter(|c| c["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]}));
    assert_ne!(case.create_with(&[]).code(), 0);
    gone(&case, "a failed hook");
}

#[test]
fn a_killed_create_leaves_what_delete_removes() {
    let mut case = scope!("sdkilled");
    let mark = case.text("mark");
    case.alter(|c| {
        // It outlives the runtime, which is of no concern here.
        let script = format!("touch {mark}; exec sleep 5");
        c["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    });
    let mut command = case.command();
    command.args(case.create_args()).arg(&case.id);
    let running = case.launch(command);
    wait_until("the hook runs", || case.path("mark").exists());
    rustix::process::kill_process_group(
        rustix::process::Pid::from_raw(running.child.id() as i32).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    drop(running.wait());
    case.call(&["delete", "--force", &case.id]).ok();
    gone(&case, "a killed create");
}

#[test]
fn the_subgroup_is_by_annotation() {
    let mut case = scope!("sdsub");
    case.alter(|c| {
        c["annotations"] = json!({"run.oci.systemd.subgroup": "inner"});
        c["linux"]["resources"]["pids"] = json!({"limit": 20});
    });
    let pid = case.running();
    assert_eq!(own(pid), format!("/machine.slice/{}/inner", unit(&case)));
    case.stop();
    case.delete();
    // None: the container is in the scope itself.
    case.alter(|c| c["annotations"] = json!({"run.oci.systemd.subgroup": ""}));
    let pid = case.running();
    assert_eq!(own(pid), format!("/machine.slice/{}", unit(&case)));
    assert_eq!(look::value(dir(&own(pid)).join("pids.max")), "20");
    case.call(&["update", "--pids-limit", "10", &case.id]).ok();
    assert_eq!(properties(&unit(&case))["TasksMax"], "10");
    case.exec(&["true"]).ok();
    case.stop();
    case.delete();
    gone(&case, "delete");
}

#[test]
fn a_delegated_cgroup_is_below_the_containers() {
    let mut case = scope!("sddelegate");
    case.alter(|c| {
        c["annotations"] = json!({"run.oci.delegate-cgroup": "mine"});
        namespace(c, "cgroup", None);
    });
    let pid = case.running();
    assert_eq!(own(pid), format!("/machine.slice/{}/container/mine", unit(&case)));
    // Its namespace has the cgroup above as its root.
    assert_eq!(case.exec(&["cat", "/proc/1/cgroup"]).ok().out().trim(), "0::/mine");
    case.stop();
    case.delete();
    gone(&case, "delete");
}

#[test]
fn slices_are_nested_by_their_dashes() {
    let mut case = scope!("sdslice", "ttslice-a-b.slice");
    let pid = case.running();
    let below = "/ttslice.slice/ttslice-a.slice/ttslice-a-b.slice";
    assert_eq!(own(pid), format!("{below}/{}/container", unit(&case)));
    case.stop();
    case.delete();
    gone(&case, "delete");
    // The root itself, and the default.
    for (path, place) in [("-.slice:tt:ID", ""), (":tt:ID", "/system.slice")] {
        let path = path.replace("ID", &case.id);
        case.alter(|c| c["linux"]["cgroupsPath"] = json!(path));
        let pid = case.running();
        assert_eq!(own(pid), format!("{place}/{}/container", unit(&case)));
        case.stop();
        case.delete();
    }
    case.alter(|c| drop(c["linux"].as_object_mut().unwrap().remove("cgroupsPath")));
    let pid = case.running();
    assert_eq!(own(pid), format!("/system.slice/tandem-{}.scope/container", case.id));
    case.stop();
    case.delete();
    gone(&case, "delete");
    let _ = Command::new("systemctl").args(["stop", "ttslice.slice"]).status();
}

#[test]
fn a_name_of_a_slice_makes_a_slice() {
    let mut case = scope!("sdname");
    let name = case.id.replace('-', "_");
    case.alter(|c| c["linux"]["cgroupsPath"] = json!(format!("machine.slice:tt:{name}.slice")));
    let pid = case.running();
    assert_eq!(own(pid), format!("/{name}.slice/container"));
    case.exec(&["true"]).ok();
    case.stop();
    case.delete();
    wait_until("the slice is gone", || !is_loaded(&format!("{name}.slice")) || !dir(&format!("{name}.slice")).exists());
}

#[test]
fn a_slice_and_a_name_make_a_scope_of_that_name() {
    let mut case = scope!("sdshort");
    let path = format!("machine.slice:{}", case.id);
    case.alter(|c| c["linux"]["cgroupsPath"] = json!(path));
    let pid = case.running();
    let unit = format!("{}.scope", case.id);
    assert_eq!(own(pid), format!("/machine.slice/{unit}/container"));
    case.exec(&["true"]).ok();
    case.stop();
    case.delete();
    wait_until("systemd has let go of the unit", || !is_loaded(&unit));
    case.nothing_left("delete");
}

#[test]
fn wrong_paths_and_annotations_are_refused_before_anything_is_made() {
    let mut case = scope!("sdbad");
    let good = case.config["linux"]["cgroupsPath"].clone();
    for (path, why) in [
        ("/a/path", "`/a/path` is not of the form `SLICE:PREFIX:NAME`"),
        ("a.slice:b:c:d", "is not of the form"),
        ("a:b:c", "`a` is no slice"),
        ("a.slice:b:", "has no name"),
        ("a.slice:b:c d", "can't be in the name of a unit"),
    ] {
        case.alter(|c| c["linux"]["cgroupsPath"] = json!(path));
        let outcome = case.create_with(&[]);
        assert_ne!(outcome.code(), 0, "{path}");
        assert!(outcome.err().contains(&format!("linux.cgroupsPath: `{path}`")), "{}", outcome.err());
        assert!(outcome.err().contains(why), "{}", outcome.err());
        assert_eq!(outcome.err().lines().count(), 1);
    }
    case.alter(|c| c["linux"]["cgroupsPath"] = good);
    for (name, value, why) in [
        ("org.systemd.property.MemoryMax", "lots", "annotation `org.systemd.property.MemoryMax`"),
        ("org.systemd.property.PIDs", "[uint32 1]", "the runtime sets this property itself"),
        ("run.oci.systemd.subgroup", "a/b", "is no name of a sub-cgroup"),
    ] {
        case.alter(|c| c["annotations"] = json!({name: value}));
        let outcome = case.create_with(&[]);
        assert_ne!(outcome.code(), 0, "{name}");
        assert!(outcome.err().contains(why), "{}", outcome.err());
        assert!(!is_loaded(&unit(&case)));
    }
    // What systemd itself refuses is told in its words, and leaves nothing.
    case.alter(|c| c["annotations"] = json!({"org.systemd.property.NoSuchThing": "1"}));
    let outcome = case.create_with(&[]);
    assert!(outcome.err().contains("make unit `tt-") && outcome.err().contains("NoSuchThing"), "{}", outcome.err());
    gone(&case, "a property that systemd refuses");
}

#[test]
fn annotations_are_properties_of_the_unit() {
    let mut case = scope!("sdannotation");
    case.alter(|c| {
        c["annotations"] = json!({
            "org.systemd.property.TimeoutStopUSec": "uint64 123456789",
            "org.systemd.property.RuntimeMaxSec": "1000",
            "org.systemd.property.Description": "'of its own'",
            "org.systemd.property.CollectMode": "'inactive'",
            "org.systemd.property.After": "['multi-user.target', 'tt-other.service']"
        });
    });
    case.running();
    let found = properties(&unit(&case));
    for (name, value) in [
        ("TimeoutStopUSec", "2min 3.456789s"),
        ("RuntimeMaxUSec", "16min 40s"),
        ("Description", "of its own"),
        ("CollectMode", "inactive"),
    ] {
        assert_eq!(found[name], value, "{name}");
    }
    assert!(found["After"].contains("tt-other.service"), "{}", found["After"]);
    case.stop();
    case.delete();
    gone(&case, "delete");
}

#[test]
fn a_unit_that_is_there_is_not_taken_over() {
    let case = scope!("sdtaken");
    let sleep = Command::new("systemd-run")
        .args(["--scope", "--quiet", "--unit", &unit(&case), "sleep", "1000"])
        .spawn()
        .expect("systemd-run");
    wait_until("the other unit runs", || properties(&unit(&case))["ActiveState"] == "active");
    let outcome = case.create_with(&[]);
    assert!(outcome.err().contains(&format!("unit `{}` exists already", unit(&case))), "{}", outcome.err());
    assert_eq!(properties(&unit(&case))["ActiveState"], "active");
    assert!(Command::new("systemctl").args(["stop", &unit(&case)]).status().expect("systemctl").success());
    drop(sleep.wait_with_output());
    gone(&case, "the other's end");
}

#[test]
fn no_bus_is_told_with_what_to_do() {
    let case = scope!("sdnobus");
    let mut command = case.command();
    command.args(case.create_args()).arg(&case.id).env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent");
    let error = case.launch(command).wait().err();
    assert!(error.contains("connect to systemd: `unix:path=/nonexistent`: there is no such socket"), "{error}");
    assert!(error.contains("--cgroup-manager cgroupfs") && !error.contains("No such file"), "{error}");
    case.nothing_left("a create without a bus");
    // systemd's own socket does as well as a bus.
    let mut command = case.command();
    command.args(case.create_args()).arg(&case.id);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/run/systemd/private");
    case.launch(command).wait().ok();
    case.adopt(case.pid());
    case.start();
    case.stop();
    case.delete();
    gone(&case, "delete");
}

#[test]
fn the_trace_tells_of_the_unit() {
    let case = scope!("sdtrace");
    let trace = case.text("trace.json");
    case.call(&["--trace", &trace, "run", "--detach", "--bundle", &case.text("bundle"), &case.id]).ok();
    let text = fs::read_to_string(&trace).unwrap();
    let step = text.lines().find(|line| line.contains("\"cgroup\"")).expect("a step");
    assert!(
        step.contains(&unit(&case)) && step.contains("\"mechanism\":\"systemd\"") && step.contains("took_us"),
        "{step}"
    );
    case.stop();
    case.delete();
    gone(&case, "delete");
}
