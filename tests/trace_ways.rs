//! The ways to a trace and from it: a directory, a ring for failures, podman's flag, a page, a comparison.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::bundle::mount;
use common::case::Case;
use serde_json::{Value, json};

fn lines(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{file}: {e}"));
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

fn commands(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|l| l["command"].as_str()).collect()
}

fn named<'a>(lines: &'a [Value], name: &str) -> Vec<&'a Value> {
    lines.iter().filter(|l| l["name"] == name).collect()
}

/// Runs the configured container with `--trace`, and gives the file's name.
fn traced(case: &mut Case, name: &str) -> String {
    let file = case.text(name);
    case.globals = vec!["--trace".into(), file.clone()];
    case.run();
    case.globals.clear();
    file
}

#[test]
fn a_directory_has_a_file_for_each_container_with_all_its_commands() {
    tandem_only!("a trace");
    let mut case = case!("tracedirs");
    case.globals = vec!["--trace-dir".into(), case.text("traces")];
    case.create();
    case.start();
    case.exec(&["true"]).ok();
    case.stop();
    case.delete();
    case.globals.clear();
    let mode = fs::metadata(case.path("traces")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let file = case.text(&format!("traces/{}.jsonl", case.id));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let lines = lines(&file);
    let commands = commands(&lines);
    assert_eq!(commands[..3], ["create", "start", "exec"], "{commands:?}");
    assert!(commands.contains(&"delete"), "{commands:?}");
}

#[test]
fn hooks_cgroup_writes_and_mounts_are_events_of_their_own() {
    tandem_only!("a trace");
    let mut case = case!("traceparts");
    case.args(&["true"]);
    case.alter(|c| {
        mount(c, "/data", "tmpfs", "tmpfs", &["nosuid", "size=1m"]);
        c["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}], "poststop": [{"path": "/bin/false"}]});
        c["linux"]["resources"]["pids"] = json!({"limit": 77});
    });
    let file = traced(&mut case, "trace");
    let lines = lines(&file);
    let hooks = named(&lines, "hook");
    assert_eq!((&hooks[0]["object"], &hooks[0]["event"]), (&json!("createRuntime[0] /bin/true"), &json!("step")));
    assert!(hooks.iter().any(|h| h["object"] == "poststop[0] /bin/false" && h["event"] == "error"), "{hooks:#?}");
    let limit = |l: &&Value| l["object"].as_str().is_some_and(|o| o.ends_with("/pids.max")) && l["detail"] == "77";
    assert_eq!(named(&lines, "cgroup write").into_iter().filter(limit).count(), 1, "{lines:#?}");
    let data = named(&lines, "mount").into_iter().find(|m| m["object"] == "`tmpfs` on `/data`").expect("the mount");
    assert!(data["detail"].as_str().unwrap().contains("nosuid") && data["mechanism"] != "", "{data}");
    assert!(!named(&lines, "cgroup remove").is_empty(), "{lines:#?}");
}

#[test]
fn a_strategy_is_no_fallback_of_each_mount() {
    tandem_only!("a trace");
    let mut case = case!("tracestrategy");
    case.args(&["true"]);
    let file = case.text("trace");
    let mut command = case.command();
    command.args(["--trace", &file, "run", "--bundle", &case.text("bundle"), &case.id]);
    case.launch({
        command.env("TANDEM_MOUNT_STRATEGY", "mount");
        command
    })
    .wait()
    .ok();
    let lines = lines(&file);
    let strategy = named(&lines, "strategy");
    assert_eq!(strategy[0]["object"], "mount");
    assert!(strategy[0]["why"].as_str().unwrap().contains("TANDEM_MOUNT_STRATEGY"), "{}", strategy[0]);
    assert!(!lines.iter().any(|l| l["event"] == "fallback" && l["name"] == "file system"), "{lines:#?}");
    assert!(named(&lines, "mount").iter().any(|m| m["mechanism"] == "mount(2)"));
}

#[test]
fn a_refused_plan_ends_the_trace_with_the_error() {
    tandem_only!("a trace");
    let mut case = case!("tracerefused");
    case.alter(|c| c["linux"]["sysctl"] = json!({"kernel.panic": "1"}));
    let file = traced(&mut case, "trace");
    let lines = lines(&file);
    assert!(lines.iter().any(|l| l["name"] == "plan" && l["event"] == "error"), "{lines:#?}");
    let last = lines.last().unwrap();
    assert!(last["event"] == "error" && last["detail"].as_str().unwrap().contains("kernel.panic"), "{last}");
}

#[test]
fn a_failure_is_on_disk_and_a_success_is_not() {
    tandem_only!("a trace");
    let mut case = case!("tracering");
    case.args(&["true"]);
    let dir = case.text("failures");
    case.globals = vec!["--trace-on-error".into(), dir.clone()];
    case.run().ok();
    assert_eq!(fs::read_dir(&dir).map_or(0, |d| d.count()), 0);
    case.alter(|c| mount(c, "/data", "nonesuchfs", "x", &[]));
    let line = case.create_with(&[]).refused();
    case.globals.clear();
    let files: Vec<_> = fs::read_dir(&dir).unwrap().flatten().map(|e| e.path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let file = files[0].to_str().unwrap();
    assert!(line.contains(file), "`{line}` does not name {file}");
    let lines = lines(file);
    assert_eq!(commands(&lines), ["create"]);
    assert!(lines.iter().any(|l| l["side"] == "child" && l["event"] == "error" && l["name"] == "mount"), "{lines:#?}");
}

#[test]
fn a_poststart_hook_is_in_the_trace_of_a_run() {
    tandem_only!("a trace");
    let mut case = case!("tracepoststart");
    case.args(&["sleep", "5"]);
    case.alter(|c| {
        c["hooks"] = json!({"poststart": [
            {"path": "/bin/sleep", "args": ["sleep", "0.3"]}, {"path": "/bin/false"}]});
    });
    let (file, failures) = (case.text("trace"), case.text("failures"));
    case.globals = vec!["--trace".into(), file.clone(), "--trace-on-error".into(), failures.clone()];
    let outcome = case.run();
    case.globals.clear();
    outcome.refused_with(&["poststart[1]", &failures]);
    let lines = lines(&file);
    // What undoes the run is a part of it.
    assert_eq!(commands(&lines), ["run"]);
    let hooks = named(&lines, "hook");
    assert_eq!((&hooks[0]["object"], &hooks[0]["event"]), (&json!("poststart[0] /bin/sleep"), &json!("step")));
    assert!(hooks[0]["took_us"].as_u64().unwrap() >= 300_000, "{hooks:#?}");
    assert_eq!((&hooks[1]["object"], &hooks[1]["event"]), (&json!("poststart[1] /bin/false"), &json!("error")));
    assert!(!named(&lines, "state remove").is_empty(), "{lines:#?}");
    let last = lines.last().unwrap();
    assert!(last["event"] == "error" && last["object"] == "after the start", "{last}");
    assert_eq!(fs::read_dir(&failures).unwrap().count(), 1);
    case.nothing_left("a run whose poststart hook fails");
}

#[test]
fn mounts_that_are_added_are_traced_outside_of_the_container() {
    tandem_only!("a trace");
    let case = case!("tracelive");
    case.create();
    case.start();
    fs::write(case.path("m.json"), r#"[{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}]"#).unwrap();
    let (file, mounts, id) = (case.text("trace"), case.text("m.json"), case.id.clone());
    case.call(&["--trace", &file, "mounts", "add", &id, &mounts]).ok();
    case.call(&["--trace", &file, "mounts", "remove", &id, &mounts]).ok();
    let lines = lines(&file);
    assert_eq!(commands(&lines), ["mounts add", "mounts remove"]);
    assert_eq!((named(&lines, "mount").len(), named(&lines, "unmount").len()), (1, 1), "{lines:#?}");
    case.stop();
    case.delete();
}

#[test]
fn environment_values_come_only_when_they_are_asked_for() {
    tandem_only!("a trace");
    let mut case = case!("traceenvs");
    case.args(&["true"]);
    case.alter(|c| c["process"]["env"] = json!(["PATH=/bin", "PASSWORD=correct-horse"]));
    let plain = traced(&mut case, "plain");
    assert!(!fs::read_to_string(&plain).unwrap().contains("correct-horse"));
    let file = case.text("secrets");
    case.globals = vec!["--trace".into(), file.clone(), "--trace-secrets".into()];
    case.run().ok();
    case.globals.clear();
    assert!(fs::read_to_string(&file).unwrap().contains("correct-horse"));
}

#[test]
fn a_hostile_name_is_text_on_the_terminal_and_on_the_page() {
    tandem_only!("a trace");
    let mut case = case!("tracehostile");
    case.args(&["true"]);
    case.alter(|c| mount(c, "/<script>alert(1)<\u{1b}[31m", "tmpfs", "tmpfs", &[]));
    let file = traced(&mut case, "trace");
    for format in ["ladder", "text", "json", "chrome"] {
        let shown = case.call(&["trace", "show", "--format", format, &file]).ok();
        assert!(!shown.out().chars().any(|c| c.is_control() && c != '\n'), "{format}: {}", shown.out());
    }
    let page = case.text("page.html");
    case.call(&["trace", "show", "--html", &page, &file]).ok();
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script>alert") && !page.contains('\u{1b}'));
    for outside in ["http:", "https:", "//", "@import", "url("] {
        let scripts_comments = page.matches("// ").count();
        let found = page.matches(outside).count() - if outside == "//" { scripts_comments } else { 0 };
        assert_eq!(found, 0, "{outside} leads out of the page");
    }
}

#[test]
fn two_starts_are_compared() {
    tandem_only!("a trace");
    let mut case = case!("tracediff");
    case.args(&["true"]);
    let before = traced(&mut case, "before");
    case.alter(|c| c["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "0.1"]}]}));
    let after = traced(&mut case, "after");
    let shown = case.call(&["trace", "diff", "--command", "run", &before, &after]).ok();
    assert!(
        shown.out().lines().any(|l| l.contains("(new)") && l.contains("hook createRuntime[0] /bin/sleep")),
        "{}",
        shown.out()
    );
    case.call(&["trace", "diff", "--command", "exec", &before, &after]).refused_with(&["exec", "run"]);
}

#[test]
fn what_a_child_had_said_before_it_was_killed_is_there_and_the_error() {
    tandem_only!("a trace");
    let mut case = case!("tracekilled");
    case.args(&["true"]);
    case.alter(|c| {
        mount(c, "/before", "tmpfs", "tmpfs", &[]);
        // Of the state on its standard input.
        let kill = r#"kill -KILL $(sed 's/.*"pid":\([0-9]*\).*/\1/')"#;
        c["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", kill]}]});
    });
    let file = case.text("trace");
    case.globals = vec!["--trace".into(), file.clone()];
    case.run().refused_with(&["the child was killed"]);
    let lines = lines(&file);
    let of_child = |name: &str| named(&lines, name).into_iter().filter(|l| l["side"] == "child").count();
    assert!(of_child("mount") > 0 && of_child("namespaces") == 1, "its steps up to then: {lines:#?}");
    let heard = named(&lines, "RootfsReady").into_iter().filter(|l| l["event"] == "receive" && l["side"] == "parent");
    assert_eq!(heard.count(), 1, "its last word");
    assert_eq!(of_child("change root"), 0, "it got no further");
    let error = lines.last().expect("an event");
    assert!(error["event"] == "error" && error["side"] == "parent", "the error is last: {error}");
    assert!(error.to_string().contains("the child was killed"), "{error}");
    case.nothing_left("a child that was killed");
}

#[test]
fn the_clock_is_the_hosts_in_a_time_namespace_too() {
    let mut case = case!("traceclock");
    tandem_only!("the trace");
    if !fs::exists("/proc/self/ns/time").unwrap() {
        skip!("the kernel has no time namespaces");
    }
    case.alter(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        c["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 500}});
    });
    let file = case.text("trace");
    case.globals = vec!["--trace".into(), file.clone()];
    case.running();
    case.exec(&["true"]).ok();
    case.delete_by_force();
    let text = fs::read_to_string(&file).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut commands = 0;
    let mut first = 0;
    for event in events {
        let at_us = event["at_us"].as_u64().unwrap();
        match event["command"].as_str() {
            // The end of what `exec` stays with is told by itself.
            Some(_) if event["continues"] == true => first = at_us,
            Some(_) => (commands, first) = (commands + 1, at_us),
            None => assert!(at_us - first < 200_000_000, "{event} long after {first}"),
        }
    }
    assert_eq!(commands, 4, "create, start, exec, delete:\n{text}");
}
