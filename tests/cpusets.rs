//! Cpusets: the first process keeps to them, and those that are executed later.

#[macro_use]
mod common;

use std::fs;

use common::case::Case;
use common::look;
use serde_json::{Value, json};

/// Kernels before 6.4 may not apply a v2 cpuset to a process that is born in it.
fn may_ignore_cpusets() -> bool {
    look::v1("cpuset").is_none() && look::kernel() < (6, 4)
}

/// Runs the container, executes in it, and says on which CPUs each may run. `confined`: a cpuset is in effect.
fn cpus_of_both(case: &mut Case, confined: bool) -> [String; 2] {
    let fallback = |case: &Case, file: &str| {
        let lines = fs::read_to_string(case.path(file)).unwrap();
        let events = lines.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
        events.filter(|e| e["event"] == "fallback").map(|e| e.to_string()).find(|e| e.contains("cpuset"))
    };
    let mut found = Vec::new();
    let mut traced = |case: &mut Case, file: &str| {
        found.push((file.to_owned(), fallback(case, file)));
        case.globals.clear();
    };
    let tandem = common::is_tandem();
    case.globals = if tandem { vec!["--trace".into(), case.text("created")] } else { vec![] };
    let pid = case.create();
    if tandem {
        traced(case, "created");
    }
    case.start();
    case.wait_payload(pid);
    let first = look::status(pid)["Cpus_allowed_list"].clone();
    case.globals = if tandem { vec!["--trace".into(), case.text("executed")] } else { vec![] };
    let seen = case.exec(&["grep", "Cpus_allowed_list", "/proc/self/status"]).ok().out();
    if tandem {
        traced(case, "executed");
    }
    for (file, fallback) in found {
        assert_eq!(fallback.is_some(), confined && may_ignore_cpusets(), "{file}: {fallback:?}");
    }
    case.stop();
    case.delete();
    [first, seen.split_whitespace().last().unwrap().to_owned()]
}

#[test]
fn a_cpuset_holds_the_first_process_and_those_after_it() {
    let mut case = case!("cpuset");
    if !look::has_controllers(&["cpuset"]) {
        skip!("no cgroup controller cpuset");
    }
    let all = look::status(std::process::id())["Cpus_allowed_list"].clone();
    if all == "0" {
        skip!("there is one CPU only");
    }
    assert_eq!(cpus_of_both(&mut case, false), [all.clone(), all], "none was asked for");
    case.alter(|c| c["linux"]["resources"] = json!({"cpu": {"cpus": "0"}}));
    assert_eq!(cpus_of_both(&mut case, true), ["0", "0"]);
    // One that the container has not asked for, but its cgroup is in.
    let Some(top) = look::v2().filter(|_| look::v1("cpuset").is_none()) else { return };
    let above = top.join(format!("{}-above", case.id));
    fs::create_dir(&above).unwrap();
    fs::write(above.join("cpuset.cpus"), "0").unwrap();
    case.alter(|c| {
        c["linux"]["resources"] = json!({});
        c["linux"]["cgroupsPath"] =
            json!(format!("/{0}-above/{0}", c["linux"]["cgroupsPath"].as_str().unwrap().trim_matches('/')));
    });
    let both = cpus_of_both(&mut case, true);
    fs::remove_dir(&above).unwrap();
    assert_eq!(both, ["0", "0"], "of the cgroup above");
}

/// As a systemd in a container arranges it: the container's own cgroup takes no process any more.
#[test]
fn an_exec_joins_the_first_process_in_its_own_sub_cgroup() {
    let mut case = case!("beside");
    if look::v1("cpuset").is_some() || !look::has_controllers(&["cpuset", "pids"]) {
        skip!("no cgroup controllers cpuset and pids on v2");
    }
    case.alter(|c| c["linux"]["resources"] = json!({"cpu": {"cpus": "0"}}));
    let pid = case.running();
    let own = look::v2().unwrap().join(&case.id);
    fs::create_dir(own.join("init.scope")).unwrap();
    fs::write(own.join("init.scope/cgroup.procs"), pid.to_string()).unwrap();
    fs::write(own.join("cgroup.subtree_control"), "+pids +cpuset").unwrap();
    let seen = case.exec(&["cat", "/proc/self/cgroup", "/proc/self/status"]).ok().out();
    assert!(seen.starts_with(&format!("0::/{}/init.scope\n", case.id)), "{seen}");
    assert!(seen.contains("Cpus_allowed_list:\t0\n"), "{seen}");
    case.stop();
    case.delete();
    assert!(!own.exists());
}
