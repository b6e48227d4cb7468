//! Limits that only some kernels, controllers or versions of cgroups have, seen in cgroupfs.

#[macro_use]
mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::case::Case;
use common::limits::{has_file, limited};
use common::look;
use serde_json::json;

const MIB: u64 = 1 << 20;

fn memory(case: &Case, v1: &str, v2: &str) -> String {
    look::cgroup_file(&case.id, "memory", &format!("memory.{v1}"), &format!("memory.{v2}"))
}

#[test]
fn swap_is_limited_beside_memory() {
    let mut case = case!("swap");
    if !look::has_controllers(&["memory"]) || !has_file("memory", "memory.memsw.limit_in_bytes", "memory.swap.max") {
        skip!("no limit of swap in the cgroups of this machine");
    }
    limited(&mut case, json!({"memory": {"limit": 64 * MIB, "swap": 96 * MIB}}));
    assert_eq!(memory(&case, "limit_in_bytes", "max"), (64 * MIB).to_string());
    // The first version counts memory and swap together, the second swap alone.
    let swap = |both: u64| if look::v1("memory").is_some() { both * MIB } else { (both - 64) * MIB };
    assert_eq!(memory(&case, "memsw.limit_in_bytes", "swap.max"), swap(96).to_string());
    case.call(&["update", "--memory", "64m", "--memory-swap", "80m", &case.id]).ok();
    assert_eq!(memory(&case, "memsw.limit_in_bytes", "swap.max"), swap(80).to_string());
    case.call(&["update", "--memory-swap", "-1", &case.id]).ok();
    let lifted = memory(&case, "memsw.limit_in_bytes", "swap.max");
    assert!(lifted == "max" || lifted.parse::<u64>().unwrap() > 1 << 60, "{lifted}");
}

#[test]
fn no_swap_is_no_swap_alone_and_beside_a_limit() {
    let mut case = case!("noswap");
    if !look::has_controllers(&["memory"]) || !has_file("memory", "memory.memsw.limit_in_bytes", "memory.swap.max") {
        skip!("no limit of swap in the cgroups of this machine");
    }
    let limits = json!([{"swap": 0}, {"limit": 64 * MIB, "swap": 0}, {"limit": 64 * MIB, "swap": 64 * MIB}]);
    let swap = |case: &Case| memory(case, "memsw.limit_in_bytes", "swap.max");
    for limit in limits.as_array().unwrap() {
        limited(&mut case, json!({"memory": limit}));
        match look::v1("memory") {
            None => assert_eq!(swap(&case), "0", "{limit}"),
            // There it is a limit of both together, and 0 is none.
            Some(_) if limit["swap"] == 0 => assert!(swap(&case).parse::<u64>().unwrap() > 1 << 60, "{limit}"),
            Some(_) => assert_eq!(swap(&case), (64 * MIB).to_string(), "{limit}"),
        }
        case.delete_by_force();
    }
    if look::v1("memory").is_some() {
        return;
    }
    limited(&mut case, json!({"memory": {"limit": 64 * MIB}}));
    assert_eq!(swap(&case), "max");
    for (resources, value) in [(json!({"limit": 0, "swap": 0}), "max"), (json!({"swap": 0}), "0")] {
        fs::write(case.path("resources"), json!({"memory": resources}).to_string()).unwrap();
        case.call(&["update", "--resources", &case.text("resources"), &case.id]).ok();
        assert_eq!(swap(&case), value, "{resources}");
    }
    case.call(&["update", "--memory-swap", "-1", &case.id]).ok();
    assert_eq!(swap(&case), "max");
    case.call(&["update", "--memory-swap", "0", &case.id]).ok();
    assert_eq!(swap(&case), "0");
}

#[test]
fn swappiness_is_the_asked_one() {
    let mut case = case!("swappiness");
    if !look::has_controllers(&["memory"]) {
        skip!("no cgroup controller memory");
    }
    if look::v1("memory").is_none() {
        case.alter(|c| c["linux"]["resources"] = json!({"memory": {"swappiness": 17}}));
        let refused = case.create_with(&[]);
        refused.refused_with(&["memory.swappiness", "cgroup v2 has no such limit"]);
        case.nothing_left("a limit that v2 does not have");
        return;
    }
    limited(&mut case, json!({"memory": {"swappiness": 17}}));
    assert_eq!(memory(&case, "swappiness", ""), "17");
}

/// Policy and priority in the last fields of /proc/PID/stat.
fn policy(pid: u32) -> (String, String) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    (fields[41 - 3].to_owned(), fields[40 - 3].to_owned())
}

#[test]
fn realtime_is_given_time_and_needs_it() {
    let mut case = case!("realtime");
    const FIFO: &str = "1";
    let budget = json!({"cpu": {"realtimePeriod": 500_000, "realtimeRuntime": 5_000}});
    case.alter(|c| {
        c["process"]["scheduler"] = json!({"policy": "SCHED_FIFO", "priority": 11});
        c["linux"]["resources"] = budget.clone();
    });
    if look::v1("cpu").is_none() {
        case.create_with(&[]).refused_with(&["cpu.realtime", "cgroup v2 has no such limit"]);
        case.nothing_left("a limit that v2 does not have");
        return;
    }
    if !has_file("cpu", "cpu.rt_runtime_us", "") {
        skip!("no realtime in the cgroups of this kernel");
    }
    let pid = case.running();
    let file = |name: &str| look::cgroup_file(&case.id, "cpu", name, "");
    assert_eq!((file("cpu.rt_runtime_us").as_str(), file("cpu.rt_period_us").as_str()), ("5000", "500000"));
    assert_eq!(policy(pid), (FIFO.to_owned(), "11".to_owned()));
    case.delete_by_force();
    case.alter(|c| c["linux"]["resources"] = json!({}));
    let refused = case.create_with(&[]);
    refused.refused_with(&["sched_setattr", "Operation not permitted", "linux.resources.cpu.realtimeRuntime"]);
    case.nothing_left("a realtime process without time");
}

#[test]
fn huge_pages_are_limited_in_use_and_in_reservation() {
    if !common::on_v2("huge_pages_are_limited_in_use_and_in_reservation") {
        return;
    }
    let mut case = case!("hugersvd");
    let top = look::v2().expect("cgroup2");
    let controllers = look::value(top.join("cgroup.controllers"));
    let sizes: Vec<String> = ["2MB", "1GB"]
        .into_iter()
        .zip([2048, 1_048_576])
        .filter(|(_, kib)| Path::new(&format!("/sys/kernel/mm/hugepages/hugepages-{kib}kB")).exists())
        .map(|(size, _)| size.to_owned())
        .collect();
    if sizes.is_empty() || !controllers.split(' ').any(|c| c == "hugetlb") {
        skip!("no hugetlb controller on v2, only `{controllers}`");
    }
    let limits: Vec<_> = sizes.iter().map(|size| json!({"pageSize": size, "limit": 3_221_225_472u64})).collect();
    limited(&mut case, json!({ "hugepageLimits": limits }));
    for size in &sizes {
        // Linux 5.7.
        for file in ["max", "rsvd.max"] {
            let value = look::value(top.join(&case.id).join(format!("hugetlb.{size}.{file}")));
            assert_eq!(value, "3221225472", "{size} {file}");
        }
    }
    fs::write(case.path("resources"), json!({"hugepageLimits": [{"pageSize": sizes[0], "limit": 0}]}).to_string())
        .unwrap();
    case.call(&["update", "--resources", &case.text("resources"), &case.id]).ok();
    assert_eq!(look::value(top.join(&case.id).join(format!("hugetlb.{}.rsvd.max", sizes[0]))), "0");
}

/// A block device of the test's own.
struct Loop(String);

impl Loop {
    fn new(file: &Path) -> Option<Loop> {
        fs::File::create(file).and_then(|file| file.set_len(MIB)).expect("image");
        let out = Command::new("losetup").args(["--find", "--show"]).arg(file).output().expect("losetup");
        out.status.success().then(|| Loop(String::from_utf8(out.stdout).unwrap().trim_end().replace("/dev/", "")))
    }

    fn file(&self, name: &str) -> String {
        format!("/sys/block/{}/{name}", self.0)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = fs::write(self.file("queue/scheduler"), "none");
        let _ = Command::new("losetup").args(["--detach", &format!("/dev/{}", self.0)]).status();
    }
}

#[test]
fn the_weight_of_one_device_is_the_asked_one() {
    let mut case = case!("devweight");
    let (controller, file) = match look::v1("blkio") {
        Some(_) => ("blkio", "blkio.bfq.weight_device"),
        None => ("io", "io.bfq.weight"),
    };
    if !look::has_controllers(&[controller]) {
        skip!("no cgroup controller {controller}");
    }
    // Modules where they are none of the kernel's own.
    let _ = Command::new("modprobe").args(["--quiet", "--all", "loop", "bfq"]).status();
    let Some(device) = Loop::new(&case.path("disk")) else { skip!("no loop device to be had") };
    // On Linux 5.10 a loop device takes no scheduler, and says nothing.
    let scheduled = fs::write(device.file("queue/scheduler"), "bfq").is_ok()
        && look::value(device.file("queue/scheduler")).contains("[bfq]");
    if !scheduled || !has_file(controller, file, file) {
        skip!("no BFQ for a loop device, and nothing else here has weights of devices");
    }
    let number = look::value(device.file("dev"));
    let (major, minor) = number.split_once(':').unwrap();
    let (major, minor) = (major.parse::<u32>().unwrap(), minor.parse::<u32>().unwrap());
    let resources = json!({"blockIO": {"weightDevice": [{"major": major, "minor": minor, "weight": 321}]}});
    limited(&mut case, resources);
    let found = look::cgroup_file(&case.id, controller, file, file);
    assert!(found.lines().any(|line| line == format!("{number} 321")), "{found}");
}

/// Two hierarchies of the first version beside the second one, whatever else this machine has.
const NETWORK: &str = "umount -R /sys/fs/cgroup && mount -t tmpfs none /sys/fs/cgroup && cd /sys/fs/cgroup \
                       && mkdir unified net_cls net_prio && mount -t cgroup2 none unified \
                       && mount -t cgroup -o net_cls none net_cls && mount -t cgroup -o net_prio none net_prio && cd /";

/// Controllers that the second version does not take, so that they can be had wherever the kernel has them.
#[test]
fn packets_have_their_class_and_priority() {
    const NAME: &str = "packets_have_their_class_and_priority";
    let known = look::value("/proc/cgroups");
    let free = |name: &&str| {
        known.lines().any(|l| l.split_whitespace().take(2).eq([*name, "0"]) && l.trim_end().ends_with('1'))
    };
    let inside = look::v1("net_cls").is_some();
    if !inside && !["net_cls", "net_prio"].iter().all(free) {
        skip!("the kernel has no net_cls and net_prio to mount");
    }
    if !common::isolated(NAME, if inside { "" } else { NETWORK }) {
        return;
    }
    let mut case = case!("netclass");
    let resources = json!({"network": {"classID": 0x10_0001, "priorities": [{"name": "lo", "priority": 5}]}});
    limited(&mut case, resources);
    let file =
        |controller: &str, file: &str| look::cgroup_file(&case.id, controller, &format!("{controller}.{file}"), "");
    assert_eq!(file("net_cls", "classid"), 0x10_0001.to_string());
    assert!(file("net_prio", "ifpriomap").lines().any(|line| line == "lo 5"), "{}", file("net_prio", "ifpriomap"));
    let places = look::cgroups(case.pid());
    assert_eq!((&places["net_cls"], &places["net_prio"]), (&format!("/{}", case.id), &format!("/{}", case.id)));
    fs::write(case.path("resources"), json!({"network": {"classID": 3}}).to_string()).unwrap();
    case.call(&["update", "--resources", &case.text("resources"), &case.id]).ok();
    assert_eq!(file("net_cls", "classid"), "3");
}
