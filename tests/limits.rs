//! The rarer limits, seen in cgroupfs: on v1 where this machine has the controller there, on v2 in the emulator.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;

use common::bundle::{namespace, user_namespace};
use common::case::Case;
use common::limits::{has_file, limited};
use common::look;
use serde_json::json;

/// A disk: whole, and not one of the loop devices that another test may take away. `MAJOR:MINOR`.
fn disk() -> Option<String> {
    let mut disks: Vec<_> = fs::read_dir("/sys/block").ok()?.flatten().collect();
    disks.sort_by_key(|disk| disk.file_name());
    let disk = disks.into_iter().find(|disk| !disk.file_name().to_string_lossy().starts_with("loop"))?;
    Some(look::value(disk.path().join("dev")))
}

#[test]
fn an_idle_cpu_class_is_in_force_and_can_be_left() {
    let mut case = case!("cpuidle");
    if !look::has_controllers(&["cpu"]) || !has_file("cpu", "cpu.idle", "cpu.idle") {
        skip!("no cpu.idle in the cgroups of this machine");
    }
    let idle = |case: &Case| look::cgroup_file(&case.id, "cpu", "cpu.idle", "cpu.idle");
    limited(&mut case, json!({"cpu": {"idle": 1}}));
    assert_eq!(idle(&case), "1");
    fs::write(case.path("resources"), json!({"cpu": {"idle": 0, "shares": 2048}}).to_string()).unwrap();
    case.call(&["update", "--resources", &case.text("resources"), &case.id]).ok();
    assert_eq!(idle(&case), "0");
    let weight = look::cgroup_file(&case.id, "cpu", "cpu.shares", "cpu.weight");
    assert!(weight == "2048" || weight == "174", "{weight}");
}

#[test]
fn a_burst_is_saved_up_to_what_is_asked() {
    let mut case = case!("cpuburst");
    if !look::has_controllers(&["cpu"]) || !has_file("cpu", "cpu.cfs_burst_us", "cpu.max.burst") {
        skip!("no CPU burst in the cgroups of this machine");
    }
    limited(&mut case, json!({"cpu": {"quota": 50_000, "period": 100_000, "burst": 20_000}}));
    assert_eq!(look::cgroup_file(&case.id, "cpu", "cpu.cfs_burst_us", "cpu.max.burst"), "20000");
    case.call(&["update", "--cpu-burst", "10000", &case.id]).ok();
    assert_eq!(look::cgroup_file(&case.id, "cpu", "cpu.cfs_burst_us", "cpu.max.burst"), "10000");
}

#[test]
fn rates_of_a_disk_are_the_asked_ones() {
    let mut case = case!("blkrates");
    let (controller, there) = match look::v1("blkio") {
        Some(_) => ("blkio", true),
        None => ("io", look::has_controllers(&["io"])),
    };
    let v1 = "blkio.throttle.read_bps_device";
    let Some(disk) = disk().filter(|_| there && has_file(controller, v1, "io.max")) else {
        skip!("no disk, or no controller that limits its rates");
    };
    let (major, minor) =
        disk.split_once(':').map(|(a, b)| (a.parse::<u32>().unwrap(), b.parse::<u32>().unwrap())).unwrap();
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let resources = json!({"blockIO": {
        "throttleReadBpsDevice": rate(1_048_576),
        "throttleWriteBpsDevice": rate(2_097_152),
        "throttleReadIOPSDevice": rate(300),
        "throttleWriteIOPSDevice": rate(400),
    }});
    limited(&mut case, resources);
    if controller == "io" {
        let line = look::cgroup_file(&case.id, "io", "", "io.max");
        assert_eq!(line, format!("{disk} rbps=1048576 wbps=2097152 riops=300 wiops=400"));
    } else {
        let asked = [("read_bps", 1_048_576), ("write_bps", 2_097_152), ("read_iops", 300), ("write_iops", 400)];
        for (file, rate) in asked {
            let line = look::cgroup_file(&case.id, "blkio", &format!("blkio.throttle.{file}_device"), "");
            assert_eq!(line, format!("{disk} {rate}"), "{file}");
        }
    }
}

#[test]
fn the_weight_of_a_containers_block_io_is_the_asked_one() {
    let mut case = case!("blkweight");
    let v1 = look::v1("blkio").is_some();
    let there = v1 || look::has_controllers(&["io"]);
    let files = ["io.bfq.weight", "io.weight"];
    let file =
        files.into_iter().find(|file| there && has_file(if v1 { "blkio" } else { "io" }, "blkio.bfq.weight", file));
    let Some(file) = file else {
        skip!("no block I/O weight in the cgroups of this machine");
    };
    limited(&mut case, json!({"blockIO": {"weight": 1000}}));
    let found = look::cgroup_file(&case.id, if v1 { "blkio" } else { "io" }, "blkio.bfq.weight", file);
    let expected = if v1 || file == "io.bfq.weight" { "1000" } else { "10000" };
    assert_eq!(found.trim_start_matches("default ").lines().next().unwrap(), expected, "{file}");
}

#[test]
fn a_file_of_cgroup_v2_has_what_unified_says() {
    // The controllers that v2 lacks here are v1's; it has hugetlb in such a layout, and its own files everywhere.
    if !common::on_v2("a_file_of_cgroup_v2_has_what_unified_says") {
        return;
    }
    let mut case = case!("unified");
    let top = look::v2().expect("cgroup2");
    let mut asked = json!({"cgroup.max.depth": "7", "cgroup.max.descendants": "9"});
    let more = [("memory", "memory.high", "67108864"), ("pids", "pids.max", "31"), ("cpu", "cpu.weight", "333")];
    for (controller, file, value) in more {
        if look::has_controllers(&[controller]) {
            asked[file] = json!(value);
        }
    }
    let mut resources = json!({"unified": asked});
    if look::has_controllers(&["pids"]) {
        // `unified` has the last word.
        resources["pids"] = json!({"limit": 55});
    }
    limited(&mut case, resources);
    for (file, value) in asked.as_object().unwrap() {
        assert_eq!(&look::value(top.join(&case.id).join(file)), value.as_str().unwrap(), "{file}");
    }
    case.delete_by_force();

    case.alter(|c| c["linux"]["resources"] = json!({"unified": {"cgroup.no-such-file": "1"}}));
    let line = case.create_with(&[]).refused();
    assert!(line.contains("unified.cgroup.no-such-file"), "{line}");
    case.nothing_left("a refused create");
}

#[test]
fn a_delegated_cgroup_has_the_containers_controllers() {
    if !common::on_v2("a_delegated_cgroup_has_the_containers_controllers") {
        return;
    }
    let mut case = case!("delegated");
    let top = look::v2().expect("cgroup2").join(&case.id);
    case.alter(|c| {
        c["annotations"] = json!({"run.oci.delegate-cgroup": "/outer/inner"});
        namespace(c, "cgroup", None);
    });
    let pid = case.running();
    assert_eq!(look::cgroups(pid)[""], format!("/{}/outer/inner", case.id));
    let controllers = look::value(top.join("cgroup.controllers"));
    assert!(!controllers.is_empty());
    assert_eq!(look::value(top.join("outer/inner/cgroup.controllers")), controllers);
    // A process more finds a place, though the container's own cgroup takes none any more.
    case.exec(&["true"]).ok();
}

/// As the kernel's documentation has it (cgroup-v2.rst, "Model of Delegation"): the new owner may arrange what is below,
/// and change no limit.
#[test]
fn a_delegated_cgroup_belongs_to_the_containers_root_and_its_limits_do_not() {
    if !common::on_v2("a_delegated_cgroup_belongs_to_the_containers_root_and_its_limits_do_not") {
        return;
    }
    let mut case = case!("owner");
    const ROOT: u32 = 100_000;
    let top = look::v2().expect("cgroup2").join(&case.id);
    let owned = |dir: &std::path::Path| -> Vec<String> {
        let owner = |path: &std::path::Path| {
            let data = path.symlink_metadata().unwrap();
            (data.uid(), data.gid())
        };
        assert!([(0, 0), (ROOT, ROOT)].contains(&owner(dir)), "{}", dir.display());
        let files = fs::read_dir(dir).unwrap().flatten().filter(|entry| entry.path().is_file());
        let names = files.filter(|file| owner(&file.path()) == (ROOT, ROOT));
        let mut names: Vec<_> = names.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
        names.extend((owner(dir) == (ROOT, ROOT)).then(|| ".".to_owned()));
        names.sort();
        names
    };
    case.alter(|c| {
        user_namespace(c, ROOT);
        namespace(c, "cgroup", None);
    });
    case.running();
    assert_eq!(owned(&top), Vec::<String>::new(), "nothing is given away unasked");
    case.delete_by_force();
    case.alter(|c| c["annotations"] = json!({"run.oci.delegate-cgroup": "/outer/inner"}));
    case.running();
    assert_eq!(owned(&top), Vec::<String>::new());
    assert_eq!(owned(&top.join("outer")), Vec::<String>::new());
    let given = [".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"];
    assert_eq!(owned(&top.join("outer/inner")), given);
}

/// Go's types write 0 for what is to stay.
#[test]
fn an_update_to_zero_changes_nothing() {
    let mut case = case!("updatezero");
    if !look::has_controllers(&["pids"]) {
        skip!("no cgroup controller pids");
    }
    limited(&mut case, json!({"pids": {"limit": 20}}));
    case.call(&["update", "--pids-limit", "0", "--memory", "0", "--cpu-share", "0", &case.id]).ok();
    fs::write(case.path("resources"), "{\"pids\": {}}").unwrap();
    case.call(&["update", "--resources", &case.text("resources"), &case.id]).ok();
    assert_eq!(look::cgroup_file(&case.id, "pids", "pids.max", "pids.max"), "20");
    case.call(&["update", "--pids-limit", "-1", &case.id]).ok();
    assert_eq!(look::cgroup_file(&case.id, "pids", "pids.max", "pids.max"), "max");
}

#[test]
fn an_rdma_device_that_is_not_there_is_an_error_that_names_it() {
    let mut case = case!("rdma");
    if !look::has_controllers(&["rdma"]) {
        skip!("no cgroup controller rdma");
    }
    let resources = json!({"rdma": {"nodev0": {"hcaHandles": 3, "hcaObjects": 10000}}});
    case.alter(|c| c["linux"]["resources"] = resources);
    let outcome = case.create_with(&[]);
    let line = if common::is_tandem() { outcome.refused() } else { outcome.all() };
    assert!(line.contains("rdma.max") && line.contains("nodev0"), "{line}");
    case.nothing_left("a refused create");
}

#[test]
fn a_file_of_unified_that_is_not_there_is_an_error_that_says_so() {
    if !common::on_v2("a_file_of_unified_that_is_not_there_is_an_error_that_says_so") {
        return;
    }
    let mut case = case!("unifiednone");
    let controllers = look::value(look::v2().expect("cgroup2").join("cgroup.controllers"));
    let controller = controllers.split(' ').next().filter(|name| !name.is_empty()).expect("a controller");
    for file in [format!("{controller}.no.such"), "nodot".to_owned(), "cgroup.nosuch".to_owned()] {
        case.alter(|c| c["linux"]["resources"] = json!({"unified": {(&file): "0"}}));
        let line = case.create_with(&[]).refused();
        if common::is_tandem() {
            assert!(line.contains(&format!("has no file `{file}`")) && line.contains("unified"), "{line}");
            // podman takes these words for a missing executable.
            assert!(!line.contains("No such file") && !line.contains("controller"), "{line}");
        }
        case.nothing_left("a refused create");
    }
    case.alter(|c| c["linux"]["resources"] = json!({"unified": {"nosuch.max": "0"}}));
    let line = case.create_with(&[]).refused();
    assert!(!common::is_tandem() || line.contains("does not have the `nosuch` controller"), "{line}");
}

/// As under runc. What makes such cgroups is systemd's units with threaded services, and people who write to `cgroup.type`.
#[test]
fn below_a_threaded_cgroup_a_container_has_a_threaded_one() {
    if !common::on_v2("below_a_threaded_cgroup_a_container_has_a_threaded_one") {
        return;
    }
    let mut case = case!("threaded");
    // Not by the container's name: it is not what must be gone after `delete`.
    let top = look::v2().expect("cgroup2").join(format!("tt-with-threads-{}", std::process::id()));
    let name = top.file_name().unwrap().to_str().unwrap().to_owned();
    fs::create_dir_all(top.join("threads")).unwrap();
    fs::write(top.join("threads/cgroup.type"), "threaded").unwrap();
    case.script("sleep 100000 & sleep 100000 & exec sleep 100000");
    // Below one, beside one, and more than one level down.
    for path in ["threads/leaf", "beside", "threads/a/b/leaf"] {
        let own = top.join(path);
        case.alter(|c| {
            c["linux"]["cgroupsPath"] = json!(format!("/{name}/{path}"));
            c["linux"]["resources"] = json!({});
        });
        let pid = case.running();
        assert_eq!(look::cgroups(pid)[""], format!("/{name}/{path}"));
        assert_eq!(look::value(own.join("cgroup.type")), "threaded");
        case.exec(&["true"]).ok();
        let listed = || -> Vec<u32> {
            serde_json::from_str(&case.call(&["ps", "--format", "json", &case.id]).ok().out()).unwrap()
        };
        common::wait_until("all three are listed", || listed().len() == 3);
        case.call(&["pause", &case.id]).ok();
        case.call(&["resume", &case.id]).ok();
        case.call(&["kill", "--all", &case.id, "KILL"]).ok();
        case.wait_status("stopped");
        case.delete();
        assert!(!own.exists());
        case.nothing_left("delete");
        // What can't be had there is an error that says why.
        case.alter(|c| c["linux"]["resources"] = json!({"memory": {"limit": 67_108_864}}));
        let line = case.create_with(&[]).refused();
        if common::is_tandem() {
            assert!(line.contains("memory") && line.contains("threaded"), "{line}");
        }
        case.nothing_left("a refused create");
        let _ = fs::remove_file(case.path("pid"));
    }
    for dir in ["threads/a/b", "threads/a", "threads", ""] {
        let _ = fs::remove_dir(top.join(dir));
    }
    assert!(!top.exists(), "{}", top.display());
}
