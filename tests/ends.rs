//! The end of a payload that `run` or `exec` stays with: in the trace always, and told to the user where the kernel killed it
//! for want of memory.

#[macro_use]
mod common;

use std::fs;

use common::case::Case;
use common::{look, wait_until};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;
/// 128 MiB at once.
const GREEDY: &str = "dd if=/dev/zero of=/dev/null bs=128M count=1";

fn limit(case: &mut Case) {
    case.alter(|c| c["linux"]["resources"] = json!({"memory": {"limit": 24 * MIB}}));
}

fn events(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the trace says of the end.
fn end(events: &[Value]) -> String {
    let mut ends = events.iter().filter(|e| e["name"] == "end" && e["event"] == "step");
    let end = ends.next().unwrap_or_else(|| panic!("no end in {events:#?}"));
    assert!(ends.next().is_none() && end["object"].as_str().unwrap().starts_with("pid "), "{events:#?}");
    end["detail"].as_str().unwrap().to_owned()
}

fn assert_memory(line: &str, case: &Case) {
    let counter = if look::v1("memory").is_some() { "memory.oom_control oom_kill" } else { "memory.events oom_kill" };
    for part in ["killed for memory", &(24 * MIB).to_string(), &case.id, counter] {
        assert!(line.contains(part), "no `{part}` in: {line}");
    }
}

#[test]
fn a_payload_that_is_killed_for_memory_is_told_with_the_limit() {
    tandem_only!("an end that is told");
    let mut case = case!("oomrun");
    if !look::has_controllers(&["memory"]) {
        skip!("no memory controller");
    }
    limit(&mut case);
    let (trace, on_error, log) = (case.text("trace"), case.text("on-error"), case.text("log"));
    // Itself, or a child of it whose end it tells by its own status.
    for (script, code, who) in [
        (format!("exec {GREEDY}"), 137, "container `"),
        (format!("exec 2>/dev/null; {GREEDY} || exit 3"), 3, "a process of container `"),
    ] {
        case.script(&script);
        // With no swap beside it, cgroup v1 asks its limit of both first, and counts no failure.
        if code == 3 && look::v1("memory").is_some_and(|dir| dir.join("memory.memsw.limit_in_bytes").exists()) {
            case.alter(|c| c["linux"]["resources"]["memory"]["swap"] = json!(24 * MIB));
        }
        case.globals = ["--trace", &trace, "--trace-on-error", &on_error, "--log", &log].map(str::to_owned).to_vec();
        let outcome = case.run();
        case.globals.clear();
        assert_eq!(outcome.code(), code, "{}", outcome.all());
        let line = outcome.refused();
        assert_memory(&line, &case);
        assert!(line.contains(who) && line.contains(&on_error), "{line}");
        assert_memory(&fs::read_to_string(&log).unwrap(), &case);
        // The file of the failure has the start too, and is read as the other.
        let files: Vec<_> = fs::read_dir(&on_error).unwrap().flatten().map(|entry| entry.path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        for file in [files[0].to_str().unwrap(), &trace] {
            let all = events(file);
            assert!(all.iter().any(|e| e["name"] == "plan"), "{file}");
            assert_eq!(end(&all), if code == 137 { "was killed by signal 9" } else { "exited with 3" }, "{file}");
            let shown = case.call(&["trace", "show", "--command", "run", file]).ok().out();
            let head: Vec<&str> = shown.lines().take_while(|line| !line.is_empty()).collect();
            let head = head.join(" ");
            let head = head.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(!head.contains("error none") && head.contains("killed for memory"), "{head}");
            assert!(head.contains(" end pid "), "{head}");
        }
        for path in [&trace, &log] {
            fs::remove_file(path).unwrap();
        }
        fs::remove_dir_all(&on_error).unwrap();
        case.nothing_left("run");
    }
    // Alone, the ring has all of it.
    case.script(&format!("exec {GREEDY}"));
    case.globals = ["--trace-on-error", &on_error].map(str::to_owned).to_vec();
    assert_eq!(case.run().code(), 137);
    case.globals.clear();
    let file = fs::read_dir(&on_error).unwrap().flatten().next().expect("a file").path();
    let all = events(file.to_str().unwrap());
    assert!(all.iter().any(|e| e["name"] == "plan") && end(&all) == "was killed by signal 9");
}

#[test]
fn a_process_of_exec_that_is_killed_for_memory_is_told() {
    tandem_only!("an end that is told");
    let mut case = case!("oomexec");
    if !look::has_controllers(&["memory"]) {
        skip!("no memory controller");
    }
    limit(&mut case);
    case.running();
    let greedy: Vec<&str> = GREEDY.split(' ').collect();
    let outcome = case.exec(&greedy);
    assert_eq!(outcome.code(), 137, "{}", outcome.all());
    assert_memory(&outcome.refused(), &case);
    // What was killed before is not this one's end.
    let outcome = case.exec(&["sh", "-c", "kill -9 $$"]);
    assert_eq!((outcome.code(), outcome.err()), (137, String::new()));
    assert_eq!(case.status(), "running");
}

#[test]
fn every_end_is_in_the_trace_and_none_but_that_by_memory_is_an_error() {
    tandem_only!("an end that is told");
    let mut case = case!("ends");
    let (trace, on_error) = (case.text("trace"), case.text("on-error"));
    let globals = ["--trace", &trace, "--trace-on-error", &on_error].map(str::to_owned).to_vec();
    for (script, code, how) in [
        ("exit 0", 0, "exited with 0"),
        ("exit 7", 7, "exited with 7"),
        ("exec sleep 100000", 137, "was killed by signal 9"),
    ] {
        case.script(&format!("echo ready; {script}"));
        case.globals = globals.clone();
        let mut command = case.command();
        command.args(["run", "--bundle", &case.text("bundle"), &case.id]);
        let running = case.launch(command);
        case.globals.clear();
        wait_until("the payload runs", || running.out().contains("ready"));
        if code == 137 {
            case.call(&["kill", &case.id, "KILL"]).ok();
        }
        let outcome = running.wait();
        assert_eq!((outcome.code(), outcome.err()), (code, String::new()), "{script}");
        assert_eq!(end(&events(&trace)), how);
        let shown = case.call(&["trace", "show", "--command", "run", &trace]).ok().out();
        let head: Vec<&str> = shown.lines().take_while(|line| !line.is_empty()).collect();
        assert!(head.iter().any(|line| line.starts_with("error ") && line.ends_with("none")), "{shown}");
        assert!(head.iter().any(|line| line.starts_with("end ") && line.contains(how)), "{shown}");
        assert_eq!(fs::read_dir(&on_error).unwrap().count(), 0, "{script}");
        fs::remove_file(&trace).unwrap();
    }
    case.script("exec sleep 100000");
    case.running();
    case.globals = globals;
    assert_eq!(case.exec(&["sh", "-c", "exit 5"]).code(), 5);
    case.globals.clear();
    assert_eq!(end(&events(&trace)), "exited with 5");
}
