//! What a person sees of a trace: the slow step and the failed one at the top, and no more rows than it takes.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;

use common::bundle::mount;
use common::case::Case;
use serde_json::json;

/// Runs the configured container with a trace, and gives its file.
fn traced(case: &mut Case) -> String {
    let file = case.text("trace");
    let _ = fs::remove_file(&file);
    case.globals = vec!["--trace".into(), file.clone()];
    case.run();
    case.globals.clear();
    file
}

fn shown(case: &Case, file: &str, more: &[&str]) -> String {
    let mut args = vec!["trace", "show", "--command", "run"];
    args.extend(more);
    args.push(file);
    case.call(&args).ok().out()
}

/// What the head says under a word, on one line.
fn said(shown: &str, word: &str) -> String {
    let head = shown.lines().take_while(|line| !line.is_empty());
    let from = head.skip_while(|line| !line.starts_with(word));
    let lines: Vec<&str> =
        from.enumerate().take_while(|(n, l)| *n == 0 || l.starts_with(' ')).map(|(_, l)| l).collect();
    let text = lines.join(" ").replacen(word, "", 1);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The rows with a mark.
fn marked<'a>(shown: &'a str, mark: &str) -> Vec<&'a str> {
    let rows = shown.lines().skip_while(|line| !line.contains("took parent"));
    rows.filter(|line| line.starts_with(mark)).collect()
}

#[test]
fn like_rows_are_one_unless_all_are_wanted() {
    tandem_only!("a trace");
    let mut case = case!("shownfold");
    case.args(&["true"]);
    for i in 0..4 {
        case.alter(|c| mount(c, &format!("/m{i}"), "tmpfs", "tmpfs", &[]));
    }
    let file = traced(&mut case);
    let rows = |text: String| text.split_once("took parent").expect("the ladder").1.to_owned();
    let (folded, all) = (rows(shown(&case, &file, &[])), rows(shown(&case, &file, &["--all"])));
    assert!(folded.contains("mount x"), "{folded}");
    assert!(!all.contains("mount x") && all.contains("on `/m3`"), "{all}");
    assert!(folded.lines().count() + 3 <= all.lines().count(), "{folded}{all}");
    let page = case.text("page.html");
    case.call(&["trace", "show", "--html", &page, &file]).ok();
    assert_eq!(fs::metadata(&page).unwrap().mode() & 0o777, 0o600, "as the trace");
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("class=\"run\"") && page.contains("on `/m3`"), "each is on the page, in its run");
}

#[test]
fn a_pipe_gets_no_line_of_more_than_80_columns() {
    tandem_only!("a trace");
    let mut case = case!("shownwidth");
    case.args(&["nonesuch"]);
    let file = traced(&mut case);
    let mut command = case.command();
    command.args(["trace", "show", &file]).env_remove("COLUMNS");
    let text = case.launch(command).wait().ok().out();
    let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
    // A word that is longer than the line is not cut: somebody may want to copy it.
    assert!(long.iter().all(|line| !line.trim().contains(' ')), "{long:#?}");
}

#[test]
fn a_failure_is_one_row_and_names_its_step() {
    tandem_only!("a trace");
    for (change, place) in [
        (json!({"process": {"args": ["nonesuch"]}}), "child program nonesuch"),
        (json!({"linux": {"sysctl": {"kernel.panic": "1"}}}), "parent plan"),
        (json!({"process": {"cwd": "/bin/sh"}}), "child"),
    ] {
        let mut case = case!("shownfail");
        case.args(&["true"]);
        case.alter(|c| {
            for (section, properties) in change.as_object().unwrap() {
                for (name, value) in properties.as_object().unwrap() {
                    c[section][name] = value.clone();
                }
            }
        });
        let file = traced(&mut case);
        let shown = shown(&case, &file, &[]);
        assert!(said(&shown, "error").starts_with(place), "not `{place}`: {shown}");
        assert_eq!(marked(&shown, "FAILED").len(), 1, "{shown}");
        assert!(!marked(&shown, "passed on").is_empty(), "{shown}");
    }
}

#[test]
fn a_source_that_is_not_there_is_no_fallback() {
    tandem_only!("a trace");
    let mut case = case!("shownsource");
    case.alter(|c| mount(c, "/data", "bind", "/nonesuch", &["bind"]));
    let file = traced(&mut case);
    let shown = shown(&case, &file, &[]);
    let error = said(&shown, "error");
    assert!(error.starts_with("child mount `/nonesuch` on `/data`") && error.contains("No such file"), "{shown}");
    assert!(!said(&shown, "fallbacks").contains("nonesuch"), "{shown}");
    assert_eq!(marked(&shown, "FAILED").len(), 1, "{shown}");
}

#[test]
fn a_slow_hook_is_the_slowest_and_the_child_waits_for_it() {
    tandem_only!("a trace");
    let mut case = case!("shownslow");
    case.args(&["true"]);
    case.alter(|c| c["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "0.5"]}]}));
    let file = traced(&mut case);
    let shown = shown(&case, &file, &[]);
    let slowest = said(&shown, "slowest");
    assert!(slowest.contains("% parent hook createRuntime[0] /bin/sleep"), "{shown}");
    let shares = slowest.split_whitespace().filter_map(|word| word.strip_suffix('%')?.parse::<u64>().ok());
    assert!(shares.into_iter().all(|share| share >= 5), "{shown}");
    let waiting = said(&shown, "waiting");
    assert!(waiting.contains("child waits for parent, longest for HooksDone"), "{shown}");
    assert_eq!(marked(&shown, "slow").len(), 1, "{shown}");
}

#[test]
fn a_child_that_is_killed_leaves_no_gap_without_a_step() {
    tandem_only!("a trace");
    let mut case = case!("shownkilled");
    case.alter(|c| c["linux"]["resources"]["memory"] = json!({"limit": 16384}));
    let file = traced(&mut case);
    let shown = shown(&case, &file, &[]);
    if said(&shown, "error") == "none" {
        skip!("the kernel has let it live");
    }
    let error = said(&shown, "error");
    // Which step it is depends on how far it came: on a slow machine the plan has not reached it.
    assert!(error.starts_with("parent "), "{shown}");
    assert!(error.contains("what to do: ") && error.contains("memory"), "{shown}");
    assert_eq!(marked(&shown, "FAILED").len(), 1, "{shown}");
}

#[test]
fn a_filter_that_forbids_execve_fails_at_execve() {
    tandem_only!("a trace");
    let mut case = case!("shownexecve");
    case.args(&["true"]);
    case.alter(|c| {
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["execve", "execveat"], "action": "SCMP_ACT_KILL_PROCESS"}]});
    });
    let file = traced(&mut case);
    let shown = shown(&case, &file, &[]);
    assert!(said(&shown, "error").starts_with("parent execve the seccomp filter killed the process before"), "{shown}");
    assert!(!shown.contains("seen by the end"), "{shown}");
    assert_eq!(marked(&shown, "FAILED").len(), 1, "{shown}");
}

#[test]
fn the_start_of_the_child_is_a_step_and_no_gap() {
    tandem_only!("a trace");
    let mut case = case!("shownstart");
    case.args(&["true"]);
    let file = traced(&mut case);
    let text = fs::read_to_string(&file).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let events: Vec<_> = events.take_while(|e| e["command"] != "delete").filter(|e| e["event"].is_string()).collect();
    let of =
        |side: &str, name: &str| events.iter().filter(|e| e["side"] == side && e["name"] == name).collect::<Vec<_>>();
    let end = |e: &serde_json::Value| e["at_us"].as_u64().unwrap() + e["took_us"].as_u64().unwrap();
    let (start, clone) = (of("child", "start"), of("parent", "clone"));
    assert_eq!((start.len(), clone.len()), (1, 1), "{events:#?}");
    assert!(start[0]["at_us"].as_u64().unwrap() >= end(clone[0]), "{events:#?}");
    // On one clock: it ends with the child's next event, and after the plan has left.
    let next =
        events.iter().filter(|e| e["side"] == "child" && e["name"] != "start").map(|e| e["at_us"].as_u64().unwrap());
    assert_eq!(end(start[0]), next.min().unwrap());
    let plan = of("parent", "Plan").iter().map(|e| e["at_us"].as_u64().unwrap()).min().unwrap();
    assert!(end(start[0]) >= plan, "{events:#?}");
    assert!(!said(&shown(&case, &file, &[]), "gaps").contains("NamespacesReady"));
}

#[test]
fn several_commands_are_compared_each_with_its_like() {
    tandem_only!("a trace");
    let (mut first, mut second) = (case!("showndiff"), case!("showndiff"));
    let file = |case: &mut Case| {
        let file = case.text("trace");
        case.globals = vec!["--trace".into(), file.clone()];
        case.create();
        case.start();
        case.exec(&["true"]).ok();
        case.stop();
        case.delete();
        case.globals.clear();
        file
    };
    let (before, after) = (file(&mut first), file(&mut second));
    let shown = first.call(&["trace", "diff", &before, &after]).ok().out();
    for command in ["create", "start", "exec", "delete"] {
        let title = format!("{command} of `{}`, then of `{}`:", first.id, second.id);
        assert_eq!(shown.matches(&title).count(), 1, "{title}: {shown}");
    }
    // Names, places and pids are no difference. Whether a call was refused and tried again may be one.
    for line in shown.lines().filter(|line| line.starts_with("  gone") || line.starts_with("  new")) {
        assert!(!line.contains(&first.id) && !line.contains(&second.id) && !line.contains("/tmp/"), "{line}");
        for step in ["plan", "clone", "rootfs", "cgroup make", " mount", "look"] {
            assert!(!line.contains(step), "{line}");
        }
    }
}
