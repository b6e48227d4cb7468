//! A container that took over its own setup process: the child is this very program, and says what a script tells it to.
//! The parent never hangs, never acts out of order, leaves nothing, and says what it saw.
//!
//! No test harness of libtest's: `main` is first the hostile child, then the parent that makes it, then the tests.

#[macro_use]
mod common;
#[path = "hostile/in_exec.rs"]
mod in_exec;
#[path = "hostile/liar.rs"]
mod liar;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::case::Case;
use common::console::ConsoleSocket;
use common::outcome::Outcome;
use serde_json::json;
use tandem::parent::create::create;
use tandem::parent::lifecycle;
use tandem::parent::request::Request;
use tandem::parent::trace::TraceFile;
use tandem::protocol::Kind;
use tandem::protocol::sequence::Direction;
use tandem::state::StateRoot;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [tandem::CHILD_IMAGE_NAME, socket] => liar::hostile(socket.parse().expect("a socket")),
        [_, "--parent", id, how] => std::process::exit(parent(id, how)),
        _ => tests(&args[1..]),
    }
}

// The parent: what `tandem create` and `tandem run` do, with this program as the child.

fn parent(id: &str, how: &str) -> i32 {
    let open = || fs::read_dir("/proc/self/fd").expect("fds").count();
    let state = StateRoot::choose(Some(Path::new("root"))).expect("a state root");
    let trace = TraceFile::default();
    let before = open();
    let request = Request::new(id, Path::new("bundle"), &state, &trace);
    let console = Path::new("console.sock");
    let console_socket = console.exists().then_some(console);
    if how == "exec" {
        let result = in_exec::exec(id, &state, console.exists().then_some(console), &trace);
        println!("fds left: {}", open() - before);
        return told(result);
    }
    let result = create(&Request { start_at_once: how == "run", console_socket, ..request }).map(drop);
    let result = result.and_then(|()| if how == "start" { lifecycle::start(&state, id, &trace) } else { Ok(()) });
    println!("fds left: {}", open() - before);
    told(result)
}

fn told(result: tandem::error::Result<()>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    }
}

// The tests.

fn with_script(case: &Case, how: &str, script: &[&str]) -> Outcome {
    fs::write(case.path(liar::SCRIPT), script.join("\n")).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--parent", &case.id, how]).current_dir(case.path("")).env("TANDEM_TEST", &case.id);
    command.env("TANDEM_CHILD_TIMEOUT", "2").stdin(std::process::Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    case.launch(command).wait()
}

/// The parent refuses, with each of `parts` in its one line, and nothing is left.
fn refuses(case: &Case, how: &str, script: &[&str], parts: &[&str]) {
    let outcome = with_script(case, how, script);
    outcome.refused_with(parts);
    assert_eq!(outcome.out(), "fds left: 0\n", "{}", outcome.all());
    case.nothing_left(&script.join("; "));
}

/// A child that has hooks to wait for and a terminal to send.
fn busy(name: &'static str) -> (Case, ConsoleSocket) {
    let mut case = Case::new(name);
    case.alter(|c| {
        c["process"]["terminal"] = true.into();
        c["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}]});
    });
    let console = ConsoleSocket::new(&case.path("console.sock"));
    (case, console)
}

/// The honest conversation of such a child, up to each state, and what the parent awaits there.
const HONEST: [(&str, &str); 5] = [
    ("say NamespacesReady", "NamespacesReady"),
    ("say RootfsReady", "RootfsReady"),
    ("say Console terminal", "Console"),
    ("say Ready", "Ready"),
    ("say Executing", "Executing"),
];

/// Each message in each state of a conversation where it is not awaited: the script, and what the parent says of it.
fn out_of_order(honest: &[(&str, &str)], mut refuses: impl FnMut(&[&str], &str)) {
    for at in 0..=honest.len() {
        let awaited = honest.get(at).map_or("the end", |(_, kind)| kind);
        for kind in Kind::of(Direction::ToParent).map(Kind::name).filter(|kind| *kind != awaited) {
            let mut script = vec!["hear Plan"];
            script.extend(honest[..at].iter().map(|(deed, _)| *deed));
            let fds = if ["Console", "Listener"].contains(&kind) { " terminal" } else { "" };
            let lie = format!("say {kind}{fds}");
            script.extend([&lie, "stall"]);
            refuses(&script, &format!("expected {awaited}, got {kind}"));
        }
    }
}

/// The same of a child that falls silent.
fn silent(honest: &[(&str, &str)], mut refuses: impl FnMut(&[&str], &str)) {
    for at in 0..=honest.len() {
        let awaited = honest.get(at).map_or("the end", |(_, kind)| kind);
        let mut script = vec!["hear Plan"];
        script.extend(honest[..at].iter().map(|(deed, _)| *deed));
        script.push("stall");
        refuses(&script, &format!("wait for {awaited}: the other side stalled for 2s"));
    }
}

fn every_message_in_every_state() {
    let (case, _console) = busy("order");
    out_of_order(&HONEST, |script, why| refuses(&case, "run", script, &[why]));
}

fn a_child_that_stalls_in_any_state_is_killed_in_time() {
    let (case, _console) = busy("stall");
    silent(&HONEST, |script, why| refuses(&case, "run", script, &[why, "killed", "TANDEM_CHILD_TIMEOUT"]));
}

fn a_child_that_does_not_read_its_plan_is_killed_in_time() {
    let mut case = Case::new("unread");
    case.alter(|c| c["process"]["env"] = json!((0..40_000).map(|i| format!("NAME_{i}=value")).collect::<Vec<_>>()));
    refuses(&case, "create", &["stall"], &["send Plan: the other side stalled for 2s", "killed"]);
}

fn a_created_container_that_does_not_answer_start_is_killed_in_time() {
    let case = Case::new("mute");
    let script = ["hear Plan", "say NamespacesReady", "say Ready", "hear Release", "stall"];
    let outcome = with_script(&case, "start", &script);
    outcome.refused_with(&["start container", "wait for Executing: the other side stalled for 2s", "killed"]);
    assert_eq!(case.status(), "stopped");
    case.delete_by_force();
    case.nothing_left("a start without an answer");
}

fn a_flood_does_not_hold_the_parent() {
    let (case, _console) = busy("flood");
    refuses(&case, "run", &["hear Plan", "flood Trace"], &["wait for NamespacesReady: the other side stalled for 2s"]);
    refuses(&case, "run", &["hear Plan", "flood NamespacesReady"], &["expected RootfsReady, got NamespacesReady"]);
    refuses(&case, "run", &["deaf", "stall"], &[]);
}

fn wrong_fds_are_named_and_closed() {
    let (case, console) = busy("fds");
    for kind in ["directory", "socket", "file", "pipe", "device", "anonymous"] {
        let lie = format!("say Console {kind}");
        let script = ["hear Plan", "say NamespacesReady", "say RootfsReady", &lie, "stall"];
        refuses(&case, "run", &script, &["the child sent something else than a terminal's master"]);
    }
    let count = ["Console announced 1 fds and came with 253"];
    refuses(&case, "run", &["hear Plan", "say NamespacesReady", "say RootfsReady", "many Console", "stall"], &count);
    let none = ["Console announced 1 fds and came with 0"];
    refuses(&case, "run", &["hear Plan", "say NamespacesReady", "say RootfsReady", "say Console", "stall"], &none);
    let unasked = ["NamespacesReady announced 0 fds and came with 1"];
    refuses(&case, "run", &["hear Plan", "say NamespacesReady directory", "stall"], &unasked);
    drop(console);
}

fn a_child_that_dies_or_sends_garbage_is_told_apart() {
    let (case, _console) = busy("garbage");
    // The last that is sent before the first answer is heard: else the error is of a send that came too late, or is not.
    let script = ["hear Mounts", "die"];
    refuses(&case, "run", &script, &["the other side closed the socket; expected NamespacesReady"]);
    let script = ["hear Mounts", "say NamespacesReady", "die"];
    refuses(&case, "run", &script, &["the other side closed the socket; expected RootfsReady"]);
    // A Failed that ends in its middle.
    refuses(&case, "run", &["hear Mounts", "bytes 0805", "die"], &["malformed frame"]);
    refuses(&case, "run", &["hear Plan", "bytes ff", "stall"], &["malformed frame"]);
    refuses(&case, "run", &["hear Plan", "bytes 0200", "stall"], &["1 bytes after the message"]);
    refuses(&case, "run", &["hear Plan", "oversize", "stall"], &["over the cap"]);
}

fn what_it_has_started_ends_with_it() {
    let (case, _console) = busy("linger");
    refuses(&case, "run", &["hear Plan", "linger", "say Ready", "stall"], &["expected NamespacesReady, got Ready"]);
    refuses(&case, "run", &["hear Plan", "linger", "stall"], &["stalled for 2s"]);
}

fn a_process_that_is_not_its_own_is_not_believed() {
    let mut case = Case::new("forked");
    // A time namespace in a user namespace is entered late, by a process that the child forks and names.
    case.alter(|c| {
        common::bundle::user_namespace(c, 100_000);
        common::bundle::namespace(c, "time", None);
        c["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 5}});
    });
    for (lie, why) in [("Forked", "no child"), ("Forked:negative", "no child"), ("Forked:self", "itself")] {
        let lie = format!("say {lie}");
        refuses(&case, "create", &["hear Plan", &lie, "stall"], &["as its process, which is", why]);
    }
}

fn a_process_in_other_namespaces_than_planned_is_not_believed() {
    let mut case = Case::new("elsewhere");
    case.alter(|c| {
        common::bundle::user_namespace(c, 100_000);
        common::bundle::namespace(c, "time", None);
        c["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 5}});
    });
    let refused = |case: &Case, deeds: &[&str], kind: &str| {
        let script = [&["hear Plan"], deeds, &["fork", "say Forked:forked", "stall"]].concat();
        let why = format!("in another {kind} namespace than planned");
        refuses(case, "create", &script, &["as its process, which is", &why]);
    };
    // The plan has a new pid namespace for it, and the user namespace that it is in.
    refused(&case, &[], "pid");
    refused(&case, &["unshare user", "unshare pid"], "user");

    let other = Case::new("joined");
    let joined = format!("/proc/{}/ns/pid", other.running());
    let mut case = Case::new("notjoined");
    case.alter(|c| {
        common::bundle::user_namespace(c, 100_000);
        common::bundle::namespace(c, "pid", Some(&joined));
    });
    let late = ["unshare user", "say UsernsCreated", "hear Begin", "unshare pid", "say NamespacesReady"];
    refused(&case, &late, "pid");
    other.delete_by_force();
    other.nothing_left("a container whose pid namespace was to be joined");
}

fn what_is_no_seccomp_listener_is_not_handed_over() {
    let mut case = Case::new("listener");
    let agent = case.text("agent");
    case.alter(|c| {
        c["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
            "listenerPath": agent,
        });
    });
    let receiver = std::os::unix::net::UnixListener::bind(case.path("agent")).unwrap();
    let kinds = ["directory", "socket", "file", "pipe", "device", "anonymous", "terminal"];
    for kind in kinds.into_iter().chain(["memory-by-name", "file-by-name"]) {
        let lie = format!("say Listener {kind}");
        let script = ["hear Plan", "say NamespacesReady", "say Ready", "hear Release", "say Executing", &lie, "stall"];
        refuses(&case, "run", &script, &["the child sent", "in place of the seccomp listener"]);
        let (mut receiver, _) = receiver.accept().unwrap();
        let mut told = vec![];
        std::io::Read::read_to_end(&mut receiver, &mut told).unwrap();
        assert!(told.is_empty(), "the receiver was told {told:?}");
    }
}

/// Runs those whose names hold a given word, as libtest does: a thread each is not needed.
fn tests(args: &[String]) {
    let all: [(&str, fn()); 15] = [
        ("every_message_in_every_state", every_message_in_every_state),
        ("a_child_that_stalls_in_any_state_is_killed_in_time", a_child_that_stalls_in_any_state_is_killed_in_time),
        (
            "a_child_that_does_not_read_its_plan_is_killed_in_time",
            a_child_that_does_not_read_its_plan_is_killed_in_time,
        ),
        (
            "a_created_container_that_does_not_answer_start_is_killed_in_time",
            a_created_container_that_does_not_answer_start_is_killed_in_time,
        ),
        ("a_flood_does_not_hold_the_parent", a_flood_does_not_hold_the_parent),
        ("wrong_fds_are_named_and_closed", wrong_fds_are_named_and_closed),
        ("a_child_that_dies_or_sends_garbage_is_told_apart", a_child_that_dies_or_sends_garbage_is_told_apart),
        ("what_it_has_started_ends_with_it", what_it_has_started_ends_with_it),
        ("a_process_that_is_not_its_own_is_not_believed", a_process_that_is_not_its_own_is_not_believed),
        (
            "a_process_in_other_namespaces_than_planned_is_not_believed",
            a_process_in_other_namespaces_than_planned_is_not_believed,
        ),
        ("what_is_no_seccomp_listener_is_not_handed_over", what_is_no_seccomp_listener_is_not_handed_over),
        ("exec_every_message_in_every_state", in_exec::every_message_in_every_state),
        ("exec_a_child_that_stalls_in_any_state_is_killed", in_exec::a_child_that_stalls_in_any_state_is_killed),
        ("exec_wrong_fds_are_named_and_closed", in_exec::wrong_fds_are_named_and_closed),
        (
            "exec_a_process_that_is_not_in_the_container_is_not_believed",
            in_exec::a_process_that_is_not_in_the_container_is_not_believed,
        ),
    ];
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    if args.iter().any(|arg| arg == "--list") {
        return all.iter().for_each(|(name, _)| println!("{name}: test"));
    }
    if !rustix::process::geteuid().is_root() || !common::is_tandem() {
        return common::skipped("needs root, and tandem itself");
    }
    let (mut passed, mut failed) = (0, vec![]);
    for (name, test) in all {
        if !wanted.is_empty() && !wanted.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        match std::panic::catch_unwind(test) {
            Ok(()) => passed += 1,
            Err(_) => failed.push(name),
        }
        println!("test {name} ... {}", if failed.last() == Some(&name) { "FAILED" } else { "ok" });
    }
    let result = if failed.is_empty() { "ok" } else { "FAILED" };
    println!("\ntest result: {result}. {passed} passed; {} failed\n", failed.len());
    if !failed.is_empty() {
        std::process::exit(101);
    }
}
