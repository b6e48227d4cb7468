//! Commands that meet each other: containers made at once below one parent cgroup, and commands on a container that another
//! one kills or deletes. What fails says that; nothing hangs, and nothing is left.

#[macro_use]
mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::case::Case;
use common::{look, wait_until};
use serde_json::json;

/// How many containers are made at once.
const AT_ONCE: usize = 6;

/// Limits that the cgroups of this layout have, and the file of one of them with its value.
fn limits() -> Option<(serde_json::Value, [&'static str; 4])> {
    let huge = fs::exists("/sys/kernel/mm/hugepages/hugepages-2048kB").unwrap();
    if look::has_controllers(&["memory", "pids"]) {
        Some((json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 50}}), ["pids", "pids.max", "pids.max", "50"]))
    } else if huge && look::has_controllers(&["hugetlb"]) {
        let limit = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]});
        Some((limit, ["hugetlb", "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max", "4194304"]))
    } else {
        None
    }
}

/// Makes containers at once below a parent that is not there, then has each made and deleted while the others are.
fn made_at_once(name: &str) {
    if !rustix::process::geteuid().is_root() {
        skip!("needs root");
    }
    let Some((resources, [controller, v1, v2, value])) = limits() else {
        skip!("no controller memory, pids or hugetlb in this layout");
    };
    let parent = format!("tt-{name}-parent-{}", std::process::id());
    let cases: Vec<Case> = (0..AT_ONCE)
        .map(|_| {
            let mut case = Case::new(name);
            let path = format!("/{parent}/deep/{}", case.id);
            case.alter(|c| {
                c["linux"]["cgroupsPath"] = json!(path);
                c["linux"]["resources"] = resources.clone();
            });
            case
        })
        .collect();
    let all = |act: &(dyn Fn(&Case) + Sync)| {
        std::thread::scope(|scope| cases.iter().for_each(|case| drop(scope.spawn(|| act(case)))));
    };
    let limited = |case: &Case| {
        case.create();
        let path = format!("{parent}/deep/{}", case.id);
        assert_eq!(look::cgroup_file(&path, controller, v1, v2), value);
    };
    for _ in 0..3 {
        all(&limited);
        all(&|case| case.delete_by_force());
        let parents = look::hierarchies().into_iter().map(|(_, point)| point.join(&parent));
        parents.for_each(|parent| drop(fs::remove_dir(parent.join("deep")).and_then(|()| fs::remove_dir(parent))));
    }
    // Each removes the parents that it leaves empty, under the others' feet.
    all(&|case| {
        for _ in 0..3 {
            limited(case);
            case.delete_by_force();
        }
    });
    let parents = look::hierarchies().into_iter().map(|(_, point)| point.join(&parent));
    parents.for_each(|parent| drop(fs::remove_dir(parent.join("deep")).and_then(|()| fs::remove_dir(parent))));
}

#[test]
fn containers_below_one_parent_are_made_and_deleted_at_once() {
    made_at_once("atonce");
}

#[test]
fn containers_below_one_parent_are_made_and_deleted_at_once_on_v1() {
    const NAME: &str = "containers_below_one_parent_are_made_and_deleted_at_once_on_v1";
    if look::v1("pids").is_none() {
        skip!("no cgroup v1 hierarchies on this machine");
    }
    if common::isolated(NAME, if look::v2().is_some() { common::V1_ONLY } else { "" }) {
        made_at_once("atoncev1");
    }
}

#[test]
fn containers_below_one_parent_are_made_and_deleted_at_once_on_v2() {
    const NAME: &str = "containers_below_one_parent_are_made_and_deleted_at_once_on_v2";
    if common::on_v2(NAME) {
        made_at_once("atoncev2");
    }
}

/// What a command may say that meets another one which ends the container.
fn assert_told(command: &str, said: &str) {
    let known = ["container not running", "does not exist", "cannot start container", "already exists"];
    for line in said.lines() {
        assert!(known.iter().any(|words| line.contains(words)), "{command}: {line}");
        // Guesses, and what the other side of a socket or a directory sees of it.
        for words in ["memory", "seccomp", "sync", "No such file", "cgroup"] {
            assert!(!line.contains(words), "{command}: {line}");
        }
    }
}

#[test]
fn a_command_whose_container_is_killed_or_deleted_meanwhile_says_so() {
    tandem_only!("what an error says");
    let case = case!("meanwhile");
    let mut told = 0;
    let begin = Instant::now();
    // Moments from before the others have begun until after they are done.
    for round in 0..16u32 {
        case.create();
        if round % 2 == 0 {
            case.start();
        }
        let call = |args: &[&str]| {
            let mut command = case.command();
            command.args(args);
            case.launch(command)
        };
        let mut running = vec![];
        for _ in 0..2 {
            running.push(("exec", call(&["exec", &case.id, "true"])));
            running.push(("start", call(&["start", &case.id])));
        }
        std::thread::sleep(Duration::from_micros(1200) * (round / 2));
        let end: &[&str] = if round % 4 < 2 { &["delete", "--force", &case.id] } else { &["kill", &case.id, "KILL"] };
        running.push((end[0], call(end)));
        for (command, running) in running {
            let outcome = running.wait();
            // 137: the payload itself was killed, which has nothing to say.
            if !outcome.status.success() {
                assert!(command == "exec" || outcome.code() == 1, "{}", outcome.all());
                told += u32::from(outcome.err().contains("meanwhile"));
            }
            assert_told(command, &outcome.err());
        }
        case.delete_by_force();
        case.nothing_left("delete --force");
        let _ = fs::remove_file(case.path("pid"));
    }
    assert!(told > 0, "no command met another within {:?}", begin.elapsed());
}

#[test]
fn a_start_that_waits_for_a_paused_container_gives_way_to_a_delete_by_force() {
    tandem_only!("a start that waits");
    let case = case!("frozen");
    let pid = case.create();
    case.call(&["pause", &case.id]).ok();
    assert_eq!(case.status(), "paused");
    case.call(&["start", &case.id]).refused_with(&["cannot start container", "paused"]);
    case.call(&["resume", &case.id]).ok();
    assert_eq!(case.status(), "created");
    // It is paused once `start` has looked: by SIGSTOP, which no state shows.
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid as i32).unwrap(), rustix::process::Signal::STOP)
        .unwrap();
    let mut command = case.command();
    command.args(["start", &case.id]);
    let start = case.launch(command);
    wait_until("the start calls", || !case.root().join(&case.id).join("start.sock").exists());
    let begin = Instant::now();
    case.delete_by_force();
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    start.wait().refused_with(&["container not running", "meanwhile"]);
    case.nothing_left("delete --force");
}
