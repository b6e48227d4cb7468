//! The trace: each protocol message with time, direction, step and fds, and a drawing of it that a person can read.

#[macro_use]
mod common;

use std::fs;

use common::bundle::mount;
use common::case::Case;
use common::console::ConsoleSocket;
use serde_json::{Value, json};

/// A trace file's lines.
fn events(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{file}: {e}"));
    let lines: Vec<Value> =
        text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect();
    // A first line may say what the file is.
    lines.into_iter().filter(|l| l["event"].is_string()).collect()
}

/// The messages that one side sent or received, in order, without the ones that carry the trace itself.
fn messages(events: &[Value], side: &str, event: &str) -> Vec<String> {
    let of = events.iter().filter(|e| e["side"] == side && e["event"] == event);
    of.map(|e| e["name"].as_str().expect("name").to_owned()).filter(|n| n != "Trace").collect()
}

fn fds(event: &Value) -> usize {
    match &event["fds"] {
        Value::Array(list) => list.len(),
        number => number.as_u64().unwrap_or(0) as usize,
    }
}

/// Runs the configured container in the foreground with `--trace` and gives the events.
fn traced_run(case: &mut Case) -> Vec<Value> {
    let file = case.text("trace");
    let _ = fs::remove_file(&file);
    case.globals = vec!["--trace".into(), file.clone()];
    case.run().ok();
    case.globals.clear();
    events(&file)
}

/// What was sent was received, in the same order and with as many descriptors. The child learns from the plan that it
/// is to trace, and says what it traced before it executes: of those two, the parent's side alone has to be there.
fn assert_whole(events: &[Value]) {
    let of = |side: &str, event: &str| -> Vec<(String, usize)> {
        let known = |e: &&Value| !["Trace", "Plan", "Executing"].iter().any(|n| e["name"] == *n);
        let of = events.iter().filter(|e| e["side"] == side && e["event"] == event).filter(known);
        of.map(|e| (e["name"].as_str().expect("name").to_owned(), fds(e))).collect()
    };
    assert!(messages(events, "parent", "send").iter().any(|n| n == "Plan"), "{events:#?}");
    assert!(messages(events, "parent", "receive").iter().any(|n| n == "Executing"), "{events:#?}");
    for (from, to) in [("parent", "child"), ("child", "parent")] {
        assert!(!of(from, "send").is_empty(), "{from} sent nothing");
        assert_eq!(of(from, "send"), of(to, "receive"), "from {from} to {to}");
    }
}

#[test]
fn every_message_and_step_is_there_with_time_side_and_descriptors() {
    tandem_only!("a trace");
    let mut case = case!("trace");
    case.args(&["true"]);
    fs::create_dir(case.path("source")).unwrap();
    let source = case.text("source");
    case.alter(|c| {
        mount(c, "/data", "bind", &source, &["bind", "ro"]);
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO"}]});
        c["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}]});
    });
    let events = traced_run(&mut case);
    assert_whole(&events);
    let sent = messages(&events, "parent", "send");
    let back = messages(&events, "child", "send");
    for name in ["Plan", "Begin", "Mounts", "HooksDone", "Filter", "Release"] {
        assert!(sent.iter().any(|n| n == name), "no {name} in {sent:?}");
    }
    for name in ["NamespacesReady", "RootfsReady", "Ready"] {
        assert!(back.iter().any(|n| n == name), "no {name} in {back:?}");
    }
    for event in &events {
        assert!(event["at_us"].is_u64(), "{event}");
        assert!(event["side"] == "parent" || event["side"] == "child", "{event}");
        assert!(event["name"].as_str().is_some_and(|n| !n.is_empty()), "{event}");
        let texts = ["object", "mechanism", "why", "detail"].map(|field| &event[field]);
        assert!(
            texts.into_iter().all(|text| text.is_null() || text.as_str().is_some_and(|t| !t.is_empty())),
            "{event}"
        );
        assert!(event["fds"].is_null() || event["fds"].as_array().is_some_and(|fds| !fds.is_empty()), "{event}");
    }
    let steps = |side: &str| events.iter().filter(|e| e["side"] == side && e["event"] == "step").count();
    assert!(steps("parent") > 0 && steps("child") > 0, "both sides say what they do");
    // The root, the one source and the six devices ride with the mounts; before Linux 6.15 no node can be taken of a file
    // system that is mounted nowhere, and it is said that they go by path.
    let mounts = events.iter().filter(|e| e["side"] == "child" && e["event"] == "receive" && e["name"] == "Mounts");
    let by_path = events.iter().any(|e| e["event"] == "fallback" && e["name"] == "devices");
    assert!(mounts.map(fds).sum::<usize>() >= if by_path { 2 } else { 8 }, "{events:#?}");
}

#[test]
fn a_message_arrives_after_it_was_sent_and_each_side_goes_forward() {
    tandem_only!("a trace");
    let mut case = case!("traceclock");
    case.args(&["true"]);
    for time_namespace in [false, true] {
        if time_namespace {
            case.alter(|c| {
                common::bundle::namespace(c, "time", None);
                c["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 1000}});
            });
        }
        let events = traced_run(&mut case);
        let times = |side: &str, event: &str| -> Vec<u64> {
            let of = events.iter().filter(|e| e["side"] == side && e["event"] == event && e["name"] != "Trace");
            of.map(|e| e["at_us"].as_u64().unwrap()).collect()
        };
        for (from, to) in [("parent", "child"), ("child", "parent")] {
            for (sent, received) in times(from, "send").into_iter().zip(times(to, "receive")) {
                assert!(sent <= received, "sent at {sent}, received at {received}, time namespace: {time_namespace}");
            }
            for event in ["send", "receive"] {
                assert!(times(from, event).is_sorted(), "{from} {event}");
            }
        }
    }
}

#[test]
fn the_variable_stands_for_the_flag() {
    tandem_only!("a trace");
    let mut case = case!("traceenv");
    case.args(&["true"]);
    let file = case.text("trace");
    let mut command = case.command();
    command.args(["run", "--bundle", &case.text("bundle"), &case.id]).env("TANDEM_TRACE", &file);
    case.launch(command).wait().ok();
    assert_whole(&events(&file));
    case.globals = vec![format!("--trace={}", case.text("trace.equals"))];
    case.run().ok();
    case.globals.clear();
    assert_whole(&events(&case.text("trace.equals")));
}

#[test]
fn a_create_and_its_start_are_traced() {
    tandem_only!("a trace");
    let mut case = case!("tracecreate");
    let file = case.text("trace");
    case.globals = vec!["--trace".into(), file.clone()];
    case.create();
    let at_create = events(&file);
    assert!(messages(&at_create, "parent", "receive").iter().any(|n| n == "Ready"), "{at_create:#?}");
    case.start();
    let after_start = events(&file);
    assert!(
        after_start.iter().any(|e| e["name"] == "Start") || after_start.len() > at_create.len(),
        "start adds nothing to the file"
    );
    case.exec(&["true"]).ok();
    case.stop();
    case.delete();
    case.globals.clear();
}

#[test]
fn a_terminal_is_a_message_with_one_descriptor() {
    tandem_only!("a trace");
    let mut case = case!("tracetty");
    case.alter(|c| c["process"]["terminal"] = json!(true));
    let socket = ConsoleSocket::new(&case.path("tty.sock"));
    let file = case.text("trace");
    case.globals = vec!["--trace".into(), file.clone()];
    case.create_with(&["--console-socket", &case.text("tty.sock")]).ok();
    case.globals.clear();
    socket.receive();
    let events = events(&file);
    let console = events.iter().find(|e| e["name"] == "Console" && e["event"] == "receive").expect("Console");
    assert_eq!(fds(console), 1, "{console}");
    assert_eq!(console["side"], "parent");
}

#[test]
fn a_way_around_a_lacking_call_is_in_the_trace() {
    tandem_only!("a trace");
    let mut case = case!("tracelack");
    case.args(&["true"]);
    fs::create_dir(case.path("source")).unwrap();
    let source = case.text("source");
    case.alter(|c| mount(c, "/data", "bind", &source, &["bind"]));
    let whole = traced_run(&mut case);
    let lacking = common::seccomp::without(&["open_tree"], rustix::io::Errno::NOSYS, || traced_run(&mut case));
    let told = |events: &[Value]| -> Vec<String> {
        let fallbacks = events.iter().filter(|e| e["event"] == "fallback");
        fallbacks.map(|e| format!("{}: {} {}", e["name"], e["mechanism"], e["why"])).collect()
    };
    // A kernel of before 6.15 has these to go around by itself.
    let old = |line: &&String| line.starts_with("\"image\"") || line.starts_with("\"devices\"");
    assert_eq!(told(&whole).iter().find(|line| !old(line)), None, "nothing to go around here: {whole:#?}");
    let more = told(&lacking).into_iter().filter(|line| line.contains("open_tree") && !told(&whole).contains(line));
    assert!(more.count() > 0, "silent: {lacking:#?}");
    let with_fds = |events: &[Value]| events.iter().filter(|e| e["name"] == "Mounts").map(fds).sum::<usize>();
    assert!(with_fds(&whole) > 0);
    assert_eq!(with_fds(&lacking), 0);
    assert_whole(&lacking);
}

#[test]
fn a_failure_is_in_the_trace_too() {
    tandem_only!("a trace");
    let mut case = case!("tracefail");
    let file = case.text("trace");
    case.alter(|c| mount(c, "/data", "nonesuchfs", "x", &[]));
    case.globals = vec!["--trace".into(), file.clone()];
    let line = case.create_with(&[]).refused();
    case.globals.clear();
    let events = events(&file);
    assert!(events.iter().any(|e| e.to_string().contains("nonesuchfs")), "`{line}` is not in {events:#?}");
    case.nothing_left("a refused create");
}

#[test]
fn show_draws_every_message_in_order() {
    tandem_only!("a trace");
    let mut case = case!("traceshow");
    case.args(&["true"]);
    let events = traced_run(&mut case);
    let shown = case.call(&["trace", "show", &case.text("trace")]).ok();
    assert_eq!(shown.err(), "");
    let drawing = shown.out();
    assert!(drawing.lines().count() > 8, "{drawing}");
    let mut at = 0;
    for name in messages(&events, "parent", "send") {
        at += drawing[at..].find(&name).unwrap_or_else(|| panic!("{name} is not drawn, or out of order:\n{drawing}"));
    }
    for name in messages(&events, "child", "send") {
        assert!(drawing.contains(&name), "{name} is not drawn:\n{drawing}");
    }
    for column in ["parent", "child"] {
        assert!(drawing.to_lowercase().contains(column), "no {column}:\n{drawing}");
    }
}

#[test]
fn show_refuses_what_is_no_trace() {
    tandem_only!("a trace");
    let case = case!("tracebad");
    case.call(&["trace", "show", &case.text("no-such")]).refused_with(&["no-such"]);
    for (name, text) in [("text", "not a trace\n"), ("json", "{\"a\": 1}\n"), ("binary", "\u{0}\u{1}\n")] {
        fs::write(case.path(name), text).unwrap();
        case.call(&["trace", "show", &case.text(name)]).refused();
    }
}

#[test]
fn a_trace_is_told_from_a_recording() {
    tandem_only!("a trace");
    let mut case = case!("tracemixed");
    case.args(&["true"]);
    traced_run(&mut case);
    let (trace, record) = (case.text("trace"), case.text("record"));
    let mut command = case.command();
    command.args(["run", "--bundle", &case.text("bundle"), &case.id]).env("TANDEM_RECORD", &record);
    case.launch(command).wait().ok();
    let swapped = case.call(&["trace", "replay", &trace]);
    swapped.refused_with(&["this is a trace", "`tandem trace show` reads it", "TANDEM_RECORD=FILE"]);
    let swapped = case.call(&["trace", "show", &record]);
    swapped.refused_with(&["this is a recording", "`tandem trace replay` reads it", "--trace FILE"]);
}

#[test]
fn a_trace_that_can_not_be_written_is_said() {
    tandem_only!("a trace");
    let mut case = case!("tracedir");
    case.args(&["true"]);
    case.globals = vec!["--trace".into(), case.text("no/such/dir/trace")];
    let outcome = case.run();
    case.globals.clear();
    assert!(outcome.err().contains("no/such/dir/trace"), "{}", outcome.all());
    assert_eq!(outcome.err().lines().count(), 1, "{}", outcome.all());
    case.nothing_left("a run");
}

#[test]
fn values_of_the_environment_are_not_in_the_trace() {
    tandem_only!("a trace");
    let mut case = case!("tracesecret");
    case.args(&["true"]);
    case.alter(|c| c["process"]["env"] = json!(["PATH=/bin", "PASSWORD=correct-horse-battery"]));
    traced_run(&mut case);
    let text = fs::read_to_string(case.path("trace")).unwrap();
    assert!(!text.contains("correct-horse-battery"), "a secret is in the trace");
}

#[test]
fn no_trace_is_written_that_is_not_asked_for() {
    let mut case = case!("notrace");
    case.args(&["true"]);
    let before: Vec<_> = fs::read_dir(case.path("")).unwrap().flatten().map(|e| e.file_name()).collect();
    case.run().ok();
    let extra = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy().into_owned();
        !before.iter().any(|b| *b == *name) && !name.starts_with("out.") && !name.starts_with("err.") && name != "root"
    };
    let more: Vec<_> = fs::read_dir(case.path("")).unwrap().flatten().map(|e| e.file_name()).filter(extra).collect();
    assert!(more.is_empty(), "{more:?}");
}
