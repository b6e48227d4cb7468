//! `trace replay`: what TANDEM_RECORD has written of every command that has a conversation, against both real ends.

#[macro_use]
mod common;

use std::fs;
use std::io::Write;
use std::process::Stdio;

use common::case::Case;
use common::console::ConsoleSocket;
use common::outcome::Outcome;
use serde_json::{Value, json};

/// Runs a command of the runtime that is recorded to `record` in the test's directory.
fn recorded(case: &Case, args: &[&str]) -> Outcome {
    let mut command = case.command();
    command.env("TANDEM_RECORD", case.path("record")).args(args);
    case.launch(command).wait()
}

fn create(case: &Case, more: &[&str]) {
    let mut args = case.create_args();
    args.extend(more.iter().map(|more| (*more).to_owned()));
    args.push(case.id.clone());
    recorded(case, &args.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    case.adopt(case.pid());
}

/// Replays the recording against both ends, at once and step by step, and gives what was shown of the parent's.
fn replayed(case: &Case, conversations: &[&str]) -> String {
    let record = case.text("record");
    let shown = case.call(&["trace", "replay", &record]).ok().out();
    let titles = shown.lines().filter(|line| line.ends_with(" frames"));
    let commands: Vec<&str> = titles.filter_map(|line| line.split(':').next()).collect();
    assert_eq!(commands, conversations, "{shown}");
    assert_eq!(shown.lines().filter(|line| *line == "the end").count(), conversations.len(), "{shown}");
    for against in ["parent", "child"] {
        let other = case.call(&["trace", "replay", "--against", against, &record]).ok().out();
        assert_eq!(other, shown, "against the {against}");
        let (stepped, entered) = (step_by_step(case, against, &record), shown.matches("bytes").count());
        assert_eq!(stepped, shown, "against the {against}, with {entered} times Enter");
    }
    shown
}

/// With Enter for each frame, and not before the one before it is shown.
fn step_by_step(case: &Case, against: &str, record: &str) -> String {
    let mut command = case.command();
    command.args(["trace", "replay", "--step", "--against", against, record]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the runtime");
    let mut enter = child.stdin.take().expect("standard input");
    let mut lines = std::io::BufReader::new(child.stdout.take().expect("standard output"));
    let mut shown = String::new();
    loop {
        let mut line = String::new();
        if std::io::BufRead::read_line(&mut lines, &mut line).expect("a line") == 0 {
            break;
        }
        if line.contains(" bytes") {
            enter.write_all(b"\n").expect("Enter");
        }
        shown += &line;
    }
    assert!(child.wait().expect("wait").success());
    shown
}

/// The recording with one kind of fd called another.
fn falsified(case: &Case, kind: &str, other: &str) -> String {
    let text = fs::read_to_string(case.path("record")).unwrap();
    let lines = text.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        for fd in line["fds"].as_array_mut().into_iter().flatten().filter(|fd| **fd == kind) {
            *fd = json!(other);
        }
        line.to_string() + "\n"
    });
    let falsified = lines.collect::<String>();
    assert_ne!(falsified.contains(kind), text.contains(kind), "there is a {kind} in it");
    fs::write(case.path("falsified"), falsified).unwrap();
    case.text("falsified")
}

#[test]
fn create_start_and_exec_are_replayed() {
    tandem_only!("a recording");
    let case = case!("replay");
    create(&case, &[]);
    recorded(&case, &["start", &case.id]).ok();
    recorded(&case, &["exec", &case.id, "true"]).ok();
    let shown = replayed(&case, &["create", "start", "exec"]);
    for message in ["Plan", "Begin + directory", "Mounts", "Release + socket", "Start", "Executing", "Namespaces"] {
        assert!(shown.contains(message), "no {message}: {shown}");
    }
    case.stop();
    case.delete();
}

#[test]
fn terminals_are_replayed_and_what_is_none_is_refused() {
    tandem_only!("a recording");
    let mut case = case!("replaytty");
    case.alter(|c| c["process"]["terminal"] = json!(true));
    let socket = ConsoleSocket::new(&case.path("tty.sock"));
    create(&case, &["--console-socket", &case.text("tty.sock")]);
    let first = socket.receive();
    recorded(&case, &["start", &case.id]).ok();
    case.wait_payload(case.pid());
    let (tty, pid) = (case.text("tty.sock"), case.text("exec.pid"));
    let id = case.id.clone();
    let exec = ["exec", "--detach", "--pid-file", &pid, "--tty", "--console-socket", &tty, &id, "true"];
    recorded(&case, &exec).ok();
    case.adopt(common::look::value(case.path("exec.pid")).parse().expect("pid"));
    let second = socket.receive();
    let shown = replayed(&case, &["create", "start", "exec"]);
    assert_eq!(shown.matches("Console + terminal").count(), 2, "{shown}");
    let false_one = falsified(&case, "terminal", "device");
    case.call(&["trace", "replay", &false_one]).refused_with(&["something else than a terminal"]);
    drop((first, second));
    case.stop();
    case.delete();
}

#[test]
fn a_seccomp_listener_is_replayed_and_what_is_none_is_refused() {
    tandem_only!("a recording");
    let mut case = case!("replaylisten");
    let agent = ConsoleSocket::new(&case.path("agent"));
    let path = case.text("agent");
    case.alter(|c| {
        c["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
            "listenerPath": path,
        });
    });
    create(&case, &[]);
    recorded(&case, &["start", &case.id]).ok();
    let first = agent.receive();
    recorded(&case, &["exec", &case.id, "true"]).ok();
    let second = agent.receive();
    let shown = replayed(&case, &["create", "start", "exec"]);
    assert_eq!(shown.matches("Listener + listener").count(), 2, "{shown}");
    let false_one = falsified(&case, "listener", "anonymous");
    case.call(&["trace", "replay", &false_one]).refused_with(&["in place of the seccomp listener"]);
    drop((first, second));
    case.stop();
    case.delete();
}
