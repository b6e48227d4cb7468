//! events: what a container uses and when it runs out of memory, in runc's shape, whatever the cgroup layout.

#[macro_use]
mod common;

use common::case::Case;
use common::{look, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

fn lines(text: &str) -> Vec<Value> {
    let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
    complete
        .lines()
        .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("one object a line, {e}: {l}")))
        .collect()
}

fn stats(case: &Case) -> Value {
    let outcome = case.call(&["events", "--stats", &case.id]).ok();
    assert_eq!(outcome.err(), "");
    let lines = lines(&outcome.out());
    assert_eq!(lines.len(), 1, "{}", outcome.all());
    assert_eq!((&lines[0]["type"], &lines[0]["id"]), (&json!("stats"), &json!(case.id)));
    lines[0]["data"].clone()
}

fn has_memory_controller() -> bool {
    look::v1("memory").is_some()
        || look::v2().is_some_and(|v2| look::value(v2.join("cgroup.controllers")).split(' ').any(|c| c == "memory"))
}

#[test]
fn stats_are_what_the_cgroup_says() {
    let mut case = case!("stats");
    if !has_memory_controller() {
        skip!("no memory controller");
    }
    case.alter(|c| c["linux"]["resources"] = json!({"pids": {"limit": 77}, "memory": {"limit": 64 << 20}}));
    case.script("sleep 100000 & i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; echo done >/tmp/done; wait");
    let pid = case.running();
    wait_until("it has used the processor", || look::inside(pid, "/tmp/done").exists());
    let data = stats(&case);
    assert_eq!(data["pids"], json!({"current": 2, "limit": 77}));
    assert_eq!(data["memory"]["usage"]["limit"], 64 << 20);
    let used = data["memory"]["usage"]["usage"].as_u64().unwrap();
    assert!(used > 0 && used < 64 << 20, "{used}");
    assert!(data["memory"]["raw"].as_object().unwrap().len() > 5);
    // In nanoseconds: what took a shell 20,000 rounds is over a millisecond, and under a minute.
    let total = data["cpu"]["usage"]["total"].as_u64().unwrap();
    assert!(total > 1_000_000 && total < 60_000_000_000, "{total}");
    for (group, field) in [("blkio", "ioServiceBytesRecursive"), ("cpu", "throttling"), ("memory", "kernelTCP")] {
        assert!(!data[group][field].is_null(), "{group}.{field}: {data}");
    }
    assert!(data["hugetlb"].is_object());
    assert!(!data["cpuset"]["cpus"].as_array().expect("CPUs").is_empty(), "{data}");
    assert!(stats(&case)["cpu"]["usage"]["total"].as_u64().unwrap() >= total);
}

#[test]
fn a_paused_container_tells_too_and_one_that_does_not_run_says_so() {
    let case = case!("statsstate");
    case.call(&["events", "--stats", &case.id]).refused_with(&["does not exist"]);
    case.running();
    case.call(&["pause", &case.id]).ok();
    assert_eq!(stats(&case)["pids"]["current"], 1);
    case.call(&["resume", &case.id]).ok();
    case.call(&["events", "--interval", "0s", &case.id]).refused_with(&["--interval"]);
    case.stop();
    for args in [&["events", "--stats", &case.id][..], &["events", &case.id]] {
        case.call(args).refused_with(&["container not running"]);
    }
}

#[test]
fn events_come_at_intervals_until_the_container_ends() {
    let case = case!("events");
    case.running();
    let mut command = case.command();
    command.args(["events", "--interval=50ms", &case.id]);
    let running = case.launch(command);
    wait_until("three lines", || lines(&running.out()).len() >= 3);
    case.stop();
    let outcome = running.wait().ok();
    assert_eq!(outcome.err(), "");
    assert!(lines(&outcome.out()).iter().all(|l| l["type"] == "stats" && l["data"]["cpu"].is_object()));
}

#[test]
fn events_end_with_their_reader() {
    let case = case!("eventsreader");
    case.running();
    let shell = format!("\"$@\" events --interval 20ms {} | head -n 1 >/dev/null", case.id);
    case.call_behind(&["sh", "-c", &shell, "sh"], &[]).ok();
}

#[test]
fn running_out_of_memory_is_an_event() {
    let mut case = case!("oom");
    if !has_memory_controller() {
        skip!("no memory controller");
    }
    case.alter(|c| {
        // Where swap is not accounted there is none to limit.
        c["linux"]["resources"] = json!({"memory": {"limit": 24 << 20}});
    });
    case.running();
    let mut command = case.command();
    command.args(["events", "--interval=1h", &case.id]);
    let running = case.launch(command);
    wait_until("it listens", || {
        look::descriptors(running.pid()).values().any(|t| t.contains("eventfd") || t.ends_with("memory.events"))
    });
    // Whether the event file is registered too is known to the kernel alone: a second time is then heard.
    wait_until("the event comes", || {
        let outcome = case.exec(&["dd", "if=/dev/zero", "of=/dev/null", "bs=128M", "count=1"]);
        assert_ne!(outcome.code(), 0, "128 MiB fit 24 MiB: {}", outcome.all());
        lines(&running.out()).iter().any(|l| *l == json!({"type": "oom", "id": case.id}))
    });
    assert_eq!(case.status(), "running");
    running.signal(Signal::TERM);
    let _ = running.wait();
}

/// The layouts that this machine can play; a controller that v1 holds is not to be had in v2 then.
#[test]
fn statistics_come_from_v1_alone() {
    if look::v1("cpuacct").is_none() {
        skip!("no cgroup v1 hierarchies on this machine");
    }
    let setup = if look::v2().is_some() { common::V1_ONLY } else { "" };
    if common::isolated("statistics_come_from_v1_alone", setup) {
        processor_is_told("statsv1");
    }
}

#[test]
fn statistics_come_from_v2_alone() {
    if common::isolated("statistics_come_from_v2_alone", common::V2_ONLY) {
        processor_is_told("statsv2");
    }
}

fn processor_is_told(what: &str) {
    if !rustix::process::geteuid().is_root() {
        skip!("needs root");
    }
    let mut case = Case::new(what);
    case.script("while :; do :; done");
    case.running();
    // The kernel counts these two by the tick.
    wait_until("the processor's time is told", || {
        let data = stats(&case);
        let usage = |name: &str| data["cpu"]["usage"][name].as_u64().unwrap_or(0);
        usage("total") > 0 && usage("user") + usage("kernel") > 0
    });
}
