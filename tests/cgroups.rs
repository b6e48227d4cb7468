//! Cgroups: joined, limited, updated and removed; on hybrid, v1-only and v2-only layouts.

#[macro_use]
mod common;

use std::fs;
use std::io::Write;
use std::process::Stdio;

use common::bundle::{mount, namespace};
use common::case::Case;
use common::{look, wait_until};
use serde_json::{Value, json};

/// Joined in every hierarchy that is mounted, frozen and thawed, devices kept away, gone after delete.
fn lives_in_its_cgroups(case: &mut Case) {
    case.alter(|c| {
        c["linux"]["resources"]["devices"] = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "r"}
        ]);
    });
    let pid = case.running();
    let hierarchies = look::hierarchies();
    assert!(!hierarchies.is_empty());
    let paths = look::cgroups(pid);
    for (controllers, point) in &hierarchies {
        assert_eq!(paths[controllers], format!("/{}", case.id), "/proc/{pid}/cgroup of `{controllers}`");
        let procs = look::value(point.join(&case.id).join("cgroup.procs"));
        assert_eq!(procs, pid.to_string(), "{}", point.display());
    }
    // exec goes into the same ones.
    let seen = case.exec(&["cat", "/proc/self/cgroup"]).ok().out();
    for (controllers, _) in &hierarchies {
        assert!(seen.lines().any(|l| l.ends_with(&format!(":{controllers}:/{}", case.id))), "`{controllers}`: {seen}");
    }
    case.call(&["pause", &case.id]).ok();
    assert_eq!(case.status(), "paused");
    case.call(&["resume", &case.id]).ok();
    // A device node that was not granted may be made, and not opened; the default ones are always granted. In /dev: the
    // root file system may lie on a `nodev` mount.
    case.exec(&["sh", "-c", "mknod /dev/test-full c 1 7 && mknod /dev/test-kmsg c 1 11"]).ok();
    assert_eq!(case.exec(&["head", "-c", "1", "/dev/test-full"]).code(), 0);
    let outcome = case.exec(&["head", "-c", "1", "/dev/test-kmsg"]);
    assert_ne!(outcome.code(), 0, "a device that was not granted");
    assert!(outcome.err().contains("Operation not permitted"), "{}", outcome.all());
    let ps: Vec<u32> = serde_json::from_str(&case.call(&["ps", "--format", "json", &case.id]).ok().out()).unwrap();
    assert_eq!(ps, [pid]);
    case.stop();
    case.delete();
    for (_, point) in &hierarchies {
        assert!(!point.join(&case.id).exists(), "{}", point.display());
    }
}

#[test]
fn hybrid_or_whatever_this_machine_has() {
    lives_in_its_cgroups(&mut case!("cghost"));
}

#[test]
fn v1_only() {
    if look::v1("pids").is_none() {
        skip!("no cgroup v1 hierarchies on this machine");
    }
    let setup = if look::v2().is_some() { common::V1_ONLY } else { "" };
    if !common::isolated("v1_only", setup) {
        return;
    }
    assert!(look::v2().is_none() && look::v1("pids").is_some());
    lives_in_its_cgroups(&mut case!("cgv1"));
}

#[test]
fn v2_only() {
    if !common::on_v2("v2_only") {
        return;
    }
    assert!(look::v1("pids").is_none() && look::v2().is_some());
    let mut case = case!("cgv2");
    lives_in_its_cgroups(&mut case);
    let pid = case.running();
    assert!(fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap().contains(&format!("0::/{}", case.id)));
    assert!(look::v2().unwrap().join(&case.id).join("cgroup.freeze").exists());
}

#[test]
fn a_layout_is_mounted_in_the_container_as_asked() {
    let mut case = case!("cgmount");
    case.alter(|c| {
        namespace(c, "cgroup", None);
        mount(c, "/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]);
    });
    let pid = case.running();
    let table = look::mounts(pid);
    if look::v1("pids").is_some() {
        for (controllers, point) in look::hierarchies().iter().filter(|(c, _)| !c.is_empty()) {
            let inside = format!("/sys/fs/cgroup/{}", point.file_name().unwrap().to_string_lossy());
            let m = look::mount_at(&table, &inside);
            assert_eq!(m.kind, "cgroup", "{controllers}");
            assert!(m.has("ro") && m.has("nosuid") && m.has("noexec") && m.has("nodev"), "{m:?}");
            // In a cgroup namespace of its own, the container's cgroup is the top of what is seen.
            let procs = look::value(look::inside(pid, &format!("{inside}/cgroup.procs")));
            assert!(procs.lines().count() >= 1, "{controllers}: {procs}");
            assert!(!look::inside(pid, &format!("{inside}/{}", case.id)).exists(), "{controllers}: the host's tree");
        }
    } else {
        assert_eq!(look::mount_at(&table, "/sys/fs/cgroup").kind, "cgroup2");
    }
}

#[test]
fn a_nested_path_is_made_and_its_leaf_removed() {
    let mut case = case!("cgnest");
    let parent = format!("{}-parent", case.id);
    case.alter(|c| c["linux"]["cgroupsPath"] = json!(format!("/{parent}/deep/leaf")));
    let pid = case.running();
    for (controllers, point) in look::hierarchies() {
        assert_eq!(look::cgroups(pid)[&controllers], format!("/{parent}/deep/leaf"), "{controllers}");
        assert!(point.join(&parent).join("deep/leaf").is_dir());
    }
    case.stop();
    case.delete();
    for (_, point) in look::hierarchies() {
        assert!(!point.join(&parent).join("deep/leaf").exists(), "{}", point.display());
        // An engine's parent is its own to remove.
        let _ = fs::remove_dir(point.join(&parent).join("deep"));
        let _ = fs::remove_dir(point.join(&parent));
    }
}

#[test]
fn without_a_path_the_id_is_one() {
    let mut case = case!("cgnopath");
    case.alter(|c| drop(c["linux"].as_object_mut().unwrap().remove("cgroupsPath")));
    let pid = case.running();
    let paths = look::cgroups(pid);
    for (controllers, _) in look::hierarchies() {
        assert!(paths[&controllers].ends_with(&format!("/{}", case.id)), "{controllers}: {paths:?}");
    }
}

#[test]
fn cgroups_that_the_payload_made_go_with_the_container() {
    let case = case!("cgsub");
    case.running();
    // As an init system in the container would.
    for (_, point) in look::hierarchies() {
        fs::create_dir_all(point.join(&case.id).join("a/b")).unwrap();
    }
    case.stop();
    case.delete();
    case.nothing_left("delete");
}

fn file(case: &Case, controller: &str, v1: &str, v2: &str) -> String {
    look::cgroup_file(&case.id, controller, v1, v2)
}

/// v1 writes no limit as -1 or as a number beyond all memory; v2 as `max`.
fn or_max(value: String) -> String {
    match value.parse::<i64>() {
        Ok(n) if !(0..1 << 60).contains(&n) => "max".to_owned(),
        _ => value,
    }
}

fn memory(case: &Case) -> String {
    or_max(file(case, "memory", "memory.limit_in_bytes", "memory.max"))
}

fn reservation(case: &Case) -> String {
    or_max(file(case, "memory", "memory.soft_limit_in_bytes", "memory.low"))
}

fn pids(case: &Case) -> String {
    file(case, "pids", "pids.max", "pids.max")
}

fn cpus(case: &Case) -> String {
    file(case, "cpuset", "cpuset.cpus", "cpuset.cpus")
}

/// Quota and period, as v2 writes them.
fn quota(case: &Case) -> String {
    match look::v1("cpu") {
        Some(_) => {
            format!(
                "{} {}",
                or_max(file(case, "cpu", "cpu.cfs_quota_us", "")),
                file(case, "cpu", "cpu.cfs_period_us", "")
            )
        }
        None => file(case, "cpu", "", "cpu.max"),
    }
}

/// Whether these v1 shares are in force. How they become a v2 weight has changed over time; that they do has not.
fn has_shares(case: &Case, shares: &str) -> bool {
    match look::v1("cpu") {
        Some(_) => file(case, "cpu", "cpu.shares", "") == shares,
        None => file(case, "cpu", "", "cpu.weight") != "100",
    }
}

#[test]
fn limits_are_seen_in_cgroupfs() {
    let mut case = case!("limits");
    if !look::has_controllers(&["memory", "cpu", "pids", "cpuset"]) {
        skip!("no cgroup controllers memory, cpu, pids and cpuset");
    }
    case.alter(|c| {
        c["linux"]["resources"] = json!({
            "memory": {"limit": 67_108_864, "reservation": 33_554_432},
            "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 77}
        });
    });
    case.create();
    assert_eq!(memory(&case), "67108864");
    assert_eq!(reservation(&case), "33554432");
    assert!(has_shares(&case, "512"));
    assert_eq!(quota(&case), "50000 100000");
    assert_eq!(cpus(&case), "0");
    assert_eq!(pids(&case), "77");
    let pid = case.pid();
    assert_eq!(look::status(pid)["Cpus_allowed_list"], "0", "the kernel keeps to it");
}

#[test]
fn a_limit_is_seen_on_v2() {
    if !common::on_v2("a_limit_is_seen_on_v2") {
        return;
    }
    let mut case = case!("v2limit");
    let top = look::v2().expect("cgroup2");
    let controllers = look::value(top.join("cgroup.controllers"));
    // One controller that v2 has nearly everywhere, also where the others are on v1.
    let pages = fs::exists("/sys/kernel/mm/hugepages/hugepages-2048kB").unwrap();
    if !pages || !controllers.split(' ').any(|c| c == "hugetlb") {
        skip!("no hugetlb controller for 2 MB pages on v2, only `{controllers}`");
    }
    case.alter(|c| {
        c["linux"]["resources"] = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]});
    });
    case.create();
    assert_eq!(look::value(top.join(&case.id).join("hugetlb.2MB.max")), "4194304");
}

#[test]
fn a_limit_of_processes_keeps_the_payload_from_forking() {
    let mut case = case!("pids");
    if !look::has_controllers(&["pids"]) {
        skip!("no cgroup controller pids");
    }
    case.alter(|c| c["linux"]["resources"]["pids"] = json!({"limit": 3}));
    case.script("sleep 100 & sleep 100 & sleep 100 & sleep 100 & wait");
    case.create();
    case.start();
    wait_until("a fork is refused", || file(&case, "pids", "pids.events", "pids.events") != "max 0");
    assert!(file(&case, "pids", "cgroup.procs", "cgroup.procs").lines().count() <= 3);
}

#[test]
fn unlimited_is_unlimited() {
    let mut case = case!("unlimited");
    if !look::has_controllers(&["memory", "cpu", "pids", "cpuset"]) {
        skip!("no cgroup controllers memory, cpu, pids and cpuset");
    }
    case.alter(|c| {
        c["linux"]["resources"] = json!({"memory": {"limit": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1}});
    });
    case.create();
    assert_eq!(memory(&case), "max");
    assert_eq!(pids(&case), "max");
    assert!(quota(&case).starts_with("max "), "{}", quota(&case));
}

#[test]
fn update_by_flags_changes_what_is_named_and_nothing_else() {
    let mut case = case!("update");
    if !look::has_controllers(&["memory", "cpu", "pids", "cpuset"]) {
        skip!("no cgroup controllers memory, cpu, pids and cpuset");
    }
    case.alter(|c| {
        c["linux"]["resources"] =
            json!({"memory": {"limit": 67_108_864}, "cpu": {"shares": 512}, "pids": {"limit": 50}});
    });
    case.running();
    let id = case.id.clone();
    case.call(&["update", "--memory", "50331648", &id]).ok();
    assert_eq!(memory(&case), "50331648");
    assert!(has_shares(&case, "512"));
    assert_eq!(pids(&case), "50");
    case.call(&["update", "--cpu-share", "256", "--cpu-quota", "20000", "--cpu-period", "50000", &id]).ok();
    assert!(has_shares(&case, "256"));
    assert_eq!(quota(&case), "20000 50000");
    case.call(&["update", "--pids-limit", "60", "--cpuset-cpus", "0", &id]).ok();
    assert_eq!(pids(&case), "60");
    assert_eq!(cpus(&case), "0");
    case.call(&["update", "--memory-reservation", "16777216", &id]).ok();
    assert_eq!(reservation(&case), "16777216");
    assert_eq!(memory(&case), "50331648", "as it was");
}

#[test]
fn update_reads_resources_from_a_file_and_from_stdin() {
    let case = case!("updatefile");
    if !look::has_controllers(&["memory", "cpu", "pids", "cpuset"]) {
        skip!("no cgroup controllers memory, cpu, pids and cpuset");
    }
    case.running();
    let write = |resources: Value| fs::write(case.path("resources"), resources.to_string()).unwrap();
    write(json!({"memory": {"limit": 50_331_648}, "cpu": {"shares": 300}, "pids": {"limit": 40}}));
    case.call(&["update", &format!("--resources={}", case.text("resources")), &case.id]).ok();
    assert_eq!(memory(&case), "50331648");
    assert!(has_shares(&case, "300"));
    assert_eq!(pids(&case), "40");
    for (form, limit) in [(&["--resources", "-"][..], 41), (&["--resources=-"], 42), (&["-r", "-"], 43)] {
        write(json!({"pids": {"limit": limit}}));
        let mut command = case.command();
        command.arg("update").args(form).arg(&case.id).stdin(fs::File::open(case.path("resources")).unwrap());
        case.launch(command).wait().ok();
        assert_eq!(pids(&case), limit.to_string(), "{form:?}");
    }
    // A pipe that is written in pieces is read to its end.
    let mut command = case.command();
    command.args(["update", "--resources", "-", &case.id]).stdin(Stdio::piped());
    let mut running = case.launch(command);
    let mut pipe = running.child.stdin.take().unwrap();
    pipe.write_all(b"{\"pids\": ").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(30));
    pipe.write_all(b"{\"limit\": 44}}").unwrap();
    drop(pipe);
    running.wait().ok();
    assert_eq!(pids(&case), "44");
}

#[test]
fn update_of_nonsense_changes_nothing() {
    let mut case = case!("updatebad");
    if !look::has_controllers(&["pids"]) {
        skip!("no cgroup controller pids");
    }
    case.alter(|c| c["linux"]["resources"] = json!({"pids": {"limit": 50}}));
    case.running();
    fs::write(case.path("resources"), "{\"pids\": {\"limit\":").unwrap();
    case.call(&["update", "--resources", &case.text("resources"), &case.id]).refused();
    case.call(&["update", "--resources", "/no/such/file", &case.id]).refused();
    for wrong in ["{\"pids\": \"garbage\"}", "{\"memory\": 5}"] {
        fs::write(case.path("resources"), wrong).unwrap();
        let outcome = case.call(&["update", "--resources", &case.text("resources"), "--memory", "64m", &case.id]);
        assert_eq!(outcome.code(), 1, "{wrong}: {}", outcome.all());
    }
    assert_ne!(case.call(&["update", "--pids-limit", "many", &case.id]).code(), 0);
    assert_eq!(pids(&case), "50");
    assert_eq!(case.status(), "running");
}

#[test]
fn a_limit_that_can_not_be_set_is_an_error_that_names_it() {
    let mut case = case!("badlimit");
    if !look::has_controllers(&["cpuset"]) {
        skip!("no cgroup controller cpuset");
    }
    case.alter(|c| c["linux"]["resources"] = json!({"cpu": {"cpus": "4095"}}));
    let outcome = case.create_with(&[]);
    assert_ne!(outcome.code(), 0, "{}", outcome.all());
    if common::is_tandem() {
        let line = outcome.refused();
        assert!(line.contains("cpuset.cpus") && line.contains("4095"), "{line}");
        case.nothing_left("a refused create");
    }
}

#[test]
fn of_a_path_that_can_not_be_made_whole_nothing_stays() {
    let mut case = case!("deep");
    tandem_only!("what is left of a path");
    let Some(top) = look::v2().map(|root| root.join(&case.id)) else { skip!("no cgroup v2") };
    fs::create_dir(&top).unwrap();
    fs::write(top.join("cgroup.max.depth"), "1").unwrap();
    let path = format!("/{}/a/b", case.id);
    case.alter(|c| c["linux"]["cgroupsPath"] = json!(path));
    let outcome = case.create_with(&[]);
    let left = top.join("a").exists();
    let _ = fs::remove_dir(top.join("a"));
    fs::remove_dir(&top).unwrap();
    outcome.refused_with(&["mkdir", "/a/b"]);
    assert!(!left, "{}", outcome.err());
}

/// As health checks do in a container whose limit of processes is nearly used up.
#[test]
fn a_further_process_takes_one_place_below_the_limit_of_processes() {
    let mut case = case!("oneplace");
    if !look::has_controllers(&["pids"]) {
        skip!("no cgroup controller pids");
    }
    case.alter(|c| c["linux"]["resources"] = json!({"pids": {"limit": 2}}));
    case.running();
    case.exec(&["true"]).ok();
    case.exec(&["true"]).ok();
}
