//! SIGKILL at any moment: whatever a runtime that dies has made, `delete --force` takes away.
//!
//! One test, one sweep at a time: a child of a killed runtime may have no mark of its container yet, and is then known
//! only by being an orphan of ours that was not there before.

#[macro_use]
mod common;

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::bundle::mount;
use common::case::Case;
use common::left::Left;
use common::{look, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// Moments of a create at which it is killed. A machine that is ten times slower asks for fewer.
fn moments() -> u32 {
    std::env::var("TANDEM_TEST_MOMENTS").map_or(60, |n| n.parse().expect("TANDEM_TEST_MOMENTS"))
}

/// Tests of this file run one at a time, whatever libtest does.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Our children and orphans that are alive.
fn children() -> BTreeSet<u32> {
    let own = std::process::id();
    look::processes().into_iter().filter(|p| p.parent == own && p.state != 'Z').map(|p| p.pid).collect()
}

/// A container with something to lose at every step.
fn busy(case: &mut Case) {
    fs::create_dir(case.path("source")).unwrap();
    let source = case.text("source");
    case.alter(|c| {
        for n in 0..10 {
            mount(c, &format!("/mnt/{n}"), "bind", &source, &["rbind", "ro"]);
        }
        c["linux"]["maskedPaths"] = json!(["/proc/cpuinfo", "/proc/sysvipc"]);
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO"}]});
        c["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}], "poststop": [{"path": "/bin/true"}]});
    });
}

/// How long a create takes here: the span of the sweep.
fn span(case: &Case) -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..5 {
        let begin = Instant::now();
        case.create();
        longest = longest.max(begin.elapsed());
        case.call(&["delete", "--force", &case.id]).ok();
    }
    case.nothing_left("delete --force");
    longest
}

/// `delete --force`, after which nothing is there: no mark of the container, and no orphan without one.
fn assert_recovers(case: &Case, before: &BTreeSet<u32>, what: &str) {
    let outcome = case.call(&["delete", "--force", &case.id]);
    assert!(outcome.status.success(), "{what}: {}", outcome.all());
    let left = case.left_in_the_end();
    assert_eq!(left, Left::default(), "{what}");
    let begin = Instant::now();
    loop {
        let more: Vec<String> = children()
            .difference(before)
            .map(|p| format!("{p}: {:?} {:?}", fs::read_link(format!("/proc/{p}/exe")), look::strings(*p, "cmdline")))
            .collect();
        if more.is_empty() {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "{what}: orphans are left: {more:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = fs::remove_file(case.path("pid"));
}

/// Starts a create and kills what `victim` names after each of the moments.
fn sweep(case: &Case, what: &str, victim: impl Fn(u32) -> Option<u32>) {
    let span = span(case) * 5 / 4;
    let before = children();
    let (mut interrupted, moments) = (0, moments());
    // A busy machine may move a sweep past the end of each create: then it is done again.
    for moment in (0..moments).cycle().take(5 * moments as usize) {
        if moment == 0 && interrupted > moments / 6 {
            break;
        }
        let delay = span * moment / moments;
        let mut command = case.command();
        command.args(case.create_args()).arg(&case.id);
        let running = case.launch(command);
        // A sleep would overshoot: the moments are a fraction of a millisecond apart.
        let begin = Instant::now();
        while begin.elapsed() < delay {
            std::hint::spin_loop();
        }
        if let Some(pid) = victim(running.pid()).and_then(|p| Pid::from_raw(p as i32)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let outcome = running.wait();
        interrupted += u32::from(!outcome.status.success());
        if let Ok(pid) = fs::read_to_string(case.path("pid")) {
            case.adopt(pid.parse().expect("a pid file is whole or not there"));
        }
        assert_recovers(case, &before, &format!("{what} killed after {delay:?} ({})", outcome.all()));
    }
    assert!(interrupted > moments / 6, "{interrupted} creates were interrupted: the sweeps missed them");
}

#[test]
fn a_create_whose_runtime_is_killed_is_deleted_without_a_trace() {
    tandem_only!("recovery from SIGKILL at any moment");
    let _alone = alone();
    let mut case = case!("crash");
    case.reap_all();
    busy(&mut case);
    sweep(&case, "the runtime", Some);
}

#[test]
fn a_create_whose_child_is_killed_fails_and_is_deleted_without_a_trace() {
    tandem_only!("recovery from SIGKILL at any moment");
    let _alone = alone();
    let mut case = case!("crashchild");
    case.reap_all();
    busy(&mut case);
    // Among the next pids, rather than in all of /proc: a create would be over by then.
    let child_of =
        |parent: u32| (parent + 1..parent + 50).find(|p| look::process(*p).is_some_and(|p| p.parent == parent));
    sweep(&case, "the child", child_of);
}

#[test]
fn a_user_namespaces_create_whose_runtime_is_killed_is_deleted_without_a_trace() {
    tandem_only!("recovery from SIGKILL at any moment");
    let _alone = alone();
    let mut case = case!("crashuser");
    case.reap_all();
    busy(&mut case);
    case.alter(|c| common::bundle::user_namespace(c, 100_000));
    for dir in fs::read_dir(case.rootfs()).unwrap().flatten() {
        std::os::unix::fs::chown(dir.path(), Some(100_000), Some(100_000)).unwrap();
    }
    std::os::unix::fs::chown(case.rootfs(), Some(100_000), Some(100_000)).unwrap();
    sweep(&case, "the runtime", Some);
}

#[test]
fn a_start_an_exec_and_a_delete_that_are_killed_leave_a_container_that_can_be_deleted() {
    tandem_only!("recovery from SIGKILL at any moment");
    let _alone = alone();
    let case = case!("crashmore");
    case.reap_all();
    let before = children();
    for moment in 0..moments() / 3 {
        for command in ["start", "exec", "kill", "delete"] {
            let pid = case.create();
            let mut args = vec![command];
            match command {
                "start" => args.push(&case.id),
                "kill" => args.extend([&case.id, "KILL"]),
                "delete" => args.extend(["--force", &case.id]),
                _ => {
                    case.start();
                    args.extend(["--detach", &case.id, "sleep", "100000"]);
                }
            }
            let mut call = case.command();
            call.args(&args);
            let running = case.launch(call);
            std::thread::sleep(Duration::from_micros(300) * moment);
            running.signal(Signal::KILL);
            running.wait();
            assert_recovers(&case, &before, &format!("{command} killed at moment {moment}"));
            wait_until("init is gone", || !fs::exists(format!("/proc/{pid}/exe")).unwrap_or(false));
        }
    }
}

#[test]
fn an_init_that_is_killed_before_start_is_a_stopped_container() {
    let _alone = alone();
    let case = case!("crashinit");
    case.reap_all();
    let pid = case.create();
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    case.wait_status("stopped");
    assert_ne!(case.call(&["start", &case.id]).code(), 0);
    case.delete();
    case.nothing_left("delete");
}

#[test]
fn a_foreground_run_that_is_killed_leaves_a_container_that_can_be_deleted() {
    let _alone = alone();
    let mut case = case!("crashrun");
    case.reap_all();
    case.script("echo ready; exec sleep 100000");
    let before = children();
    let mut command = case.command();
    command.args(["run", "--pid-file", &case.text("pid"), "--bundle", &case.text("bundle"), &case.id]);
    let running = case.launch(command);
    wait_until("the payload runs", || running.out().contains("ready") && case.path("pid").exists());
    case.adopt(case.pid());
    running.signal(Signal::KILL);
    running.wait();
    assert_recovers(&case, &before, "a run in the foreground");
}
