//! What a reviewer broke once. Each test names what went wrong.

#[macro_use]
mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::bundle::{mount, namespace};
use common::seccomp::without;
use common::{look, wait_until};
use rustix::io::Errno;
use serde_json::json;

/// setns was given flags through a type that does not know the time namespace.
#[test]
fn exec_joins_a_time_namespace_too() {
    tandem_only!("time namespaces");
    let mut case = case!("timexec");
    case.alter(|c| namespace(c, "time", None));
    let pid = case.running();
    let own = fs::read_link(format!("/proc/{pid}/ns/time")).unwrap();
    let seen = case.exec(&["readlink", "/proc/self/ns/time"]).ok();
    assert_eq!(seen.out().trim(), own.display().to_string());
}

/// The caller's umask reached the payload, and the modes of what was made for it.
#[test]
fn the_callers_umask_is_not_the_containers() {
    let mut case = case!("umask");
    case.alter(|c| mount(c, "/made/below", "tmpfs", "tmpfs", &["size=4k"]));
    case.script("umask; stat -c %a /made");
    let outcome = case.call_behind(&["sh", "-c", "umask 077; exec \"$@\"", "sh"], &run_args(&case));
    assert_eq!(outcome.ok().out().split_whitespace().collect::<Vec<_>>(), ["0022", "755"]);
}

fn run_args(case: &common::case::Case) -> Vec<&str> {
    vec!["run", "--bundle", Box::leak(case.bundle().display().to_string().into_boxed_str()), &case.id]
}

/// A filter that forbids execve, and the send that would tell of it, let `start` end well with nothing started.
#[test]
fn a_filter_that_forbids_execve_fails_the_start() {
    tandem_only!("the words of the error");
    for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"] {
        let mut case = case!("noexecve");
        case.alter(|c| {
            let rule = json!({"names": ["execve", "sendmsg"], "action": action});
            c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
        });
        case.create();
        // Whoever reaps it first has seen how it ended; nobody but `start` is to.
        case.stop_reaping();
        let said = case.call(&["start", &case.id]).refused();
        assert!(said.contains("before the payload was executed"), "{action}: {said}");
    }
}

/// The reasons of many empty slots did not fit one frame.
#[test]
fn many_empty_slots_with_long_reasons_fit_their_frames() {
    let mut case = case!("longslots");
    let mut dir = case.path("source");
    for _ in 0..3 {
        dir = dir.join("d".repeat(100));
    }
    fs::create_dir_all(&dir).unwrap();
    case.alter(|c| {
        for i in 0..260 {
            mount(c, &format!("/many/{i}"), "bind", &dir.display().to_string(), &["bind"]);
        }
    });
    case.args(&["true"]);
    without(&["open_tree"], Errno::NOSYS, || case.run().ok());
}

/// A `state.json` of a create that was killed made a plain delete see its own lock.
#[test]
fn what_a_killed_create_leaves_is_deleted_without_force() {
    tandem_only!("the runtime's own state");
    let case = case!("killed");
    case.create();
    let file = case.root().join(&case.id).join("state.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    record["complete"] = json!(false);
    fs::write(&file, record.to_string()).unwrap();
    assert_eq!(case.status(), "stopped");
    case.call(&["delete", &case.id]).ok();
}

/// The image's `/etc/passwd` could hold the child up for ever, at a moment when a process of the same pid namespace could
/// reach the host's procfs through it.
#[test]
fn a_fifo_for_passwd_holds_nothing_up_and_the_child_is_never_dumpable() {
    let mut case = case!("passwd");
    fs::create_dir_all(case.rootfs().join("etc")).unwrap();
    let passwd = case.rootfs().join("etc/passwd");
    let _ = fs::remove_file(&passwd);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &passwd,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o666),
        0,
    )
    .unwrap();
    case.alter(|c| c["process"]["env"] = json!(["PATH=/bin"]));
    let begun = Instant::now();
    let pid = case.create();
    assert!(begun.elapsed() < Duration::from_secs(20), "it was held up");
    if common::is_tandem() {
        let procs = look::descriptors(pid).into_iter().filter(|(_, target)| target == "/" || target == "/proc");
        assert_eq!(procs.count(), 0, "a way to the host's procfs is open");
    }
}

/// A hook that wrote more than a pipe holds hung the create.
#[test]
fn a_hook_that_says_much_hangs_nothing() {
    let mut case = case!("loud");
    case.alter(|c| {
        let args = ["sh", "-c", "head -c 300000 /dev/zero >&2"];
        c["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": args, "env": ["PATH=/usr/bin:/bin"]}]});
    });
    case.create();
}

/// The ID of a running container was refused for its cgroup, with advice about that.
#[test]
fn the_id_of_a_running_container_is_taken() {
    let case = case!("twice");
    case.running();
    let said = case.create_with(&[]).refused();
    assert!(said.contains("already exists"), "{said}");
    wait_until("the first one to run on", || case.status() == "running");
}
