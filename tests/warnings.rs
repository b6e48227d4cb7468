//! What is told beside an error: to whom, and to whom not. Under an engine our standard error is the container's output.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use common::bundle::mount;
use common::case::Case;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

/// What `runc spec` and `crun spec` write.
fn spec_of(peer: &str) -> Value {
    let dir = tempfile::tempdir().expect("directory");
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let made = Command::new("env").args([&format!("PATH={path}"), peer, "spec"]).current_dir(dir.path()).output();
    let made = made.unwrap_or_else(|e| panic!("{peer}: {e}"));
    assert!(made.status.success(), "{peer} spec: {}", String::from_utf8_lossy(&made.stderr));
    serde_json::from_slice(&fs::read(dir.path().join("config.json")).expect("config.json")).expect("JSON")
}

fn data(name: &str) -> Value {
    let file = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&fs::read(&file).unwrap_or_else(|e| panic!("{file}: {e}"))).expect("JSON")
}

/// Has `--log` from now on, as podman gives it.
fn log_as_json(case: &mut Case) -> String {
    let log = case.text("log.json");
    case.globals = vec!["--log".into(), log.clone(), "--log-format=json".into()];
    log
}

#[test]
fn a_start_by_default_configurations_says_nothing() {
    for (maker, config) in [
        ("runc", spec_of("runc")),
        ("crun", spec_of("crun")),
        ("podman", data("podman-config.json")),
        ("docker", data("docker-config.json")),
    ] {
        let mut case = case!("silent");
        let ours = case.config["linux"]["cgroupsPath"].clone();
        case.alter(|c| {
            *c = config;
            c["process"]["terminal"] = json!(false);
            c["process"]["args"] = json!(["sh", "-c", "echo out; echo err >&2"]);
            // Those of the machine where it was made.
            c["process"]["rlimits"] = json!([]);
            c["root"]["path"] = json!("rootfs");
            c["linux"]["cgroupsPath"] = ours;
        });
        let log = log_as_json(&mut case);
        let outcome = case.run().ok();
        assert_eq!((outcome.out().as_str(), outcome.err().as_str()), ("out\n", "err\n"), "{maker}");
        case.args(&["sleep", "1000"]);
        for outcome in [case.create_with(&[]), case.call(&["start", &case.id]), case.exec(&["true"])] {
            assert_eq!(outcome.ok().err(), "", "{maker}");
        }
        case.delete_by_force();
        if common::is_tandem() {
            assert_eq!(fs::read_to_string(&log).expect("the log"), "", "{maker}");
        }
    }
}

/// Makes the container one that is warned of.
fn unknown_capability(case: &mut Case) {
    case.alter(|c| c["process"]["capabilities"] = json!({"bounding": ["CAP_KILL", "CAP_NONE_SUCH"]}));
    case.args(&["true"]);
}

#[test]
fn a_warning_goes_to_the_log_or_a_terminal_and_to_no_containers_output() {
    tandem_only!("warnings");
    let mut case = case!("warned");
    unknown_capability(&mut case);
    assert_eq!(case.run().ok().err(), "");
    case.globals = vec!["--log-level=warn".into()];
    assert!(case.run().ok().err().contains("tandem: warn: ") && case.run().ok().err().contains("CAP_NONE_SUCH"));
    case.globals.clear();
    let run = ["run", "--bundle", &case.text("bundle"), &case.id];
    let typed = case.command_behind(&[]);
    let words = std::iter::once(typed.get_program()).chain(typed.get_args()).map(|word| word.to_str().expect("UTF-8"));
    let line = words.chain(run).collect::<Vec<_>>().join(" ");
    let seen = case.launch({
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        command
    });
    let seen = seen.wait().ok().out();
    assert!(seen.contains("CAP_NONE_SUCH"), "on a terminal: {seen}");

    let log = case.text("log.text");
    case.globals = vec!["--log".into(), log.clone()];
    assert_eq!(case.run().ok().err(), "");
    let text = fs::read_to_string(log).expect("the log");
    assert!(text.contains("level=warning") && text.contains("CAP_NONE_SUCH"), "{text}");
}

#[test]
fn podmans_log_is_one_object_whatever_was_warned_of() {
    tandem_only!("warnings");
    let mut case = case!("onejson");
    let log = log_as_json(&mut case);
    let logged = || {
        let text = fs::read_to_string(&log).expect("the log");
        serde_json::from_str::<Value>(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    };
    unknown_capability(&mut case);
    case.run().ok();
    assert_eq!(logged()["level"], "warning");
    assert!(logged()["msg"].as_str().unwrap().contains("CAP_NONE_SUCH"));
    // The same container again, with the same log, and now it fails.
    case.args(&["no-such-program"]);
    assert_ne!(case.run().code(), 0);
    assert_eq!(logged()["level"], "error");
    assert!(logged()["msg"].as_str().unwrap().contains("no-such-program"));
    // An engine's log of many commands keeps its errors.
    fs::write(&log, "{\"level\":\"error\",\"msg\":\"before\"}\n").unwrap();
    assert_ne!(case.run().code(), 0);
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 2);
}

#[test]
fn a_trace_that_can_not_be_written_stops_no_container() {
    tandem_only!("traces");
    let mut case = case!("untraced");
    let (file, fifo) = (case.text("file"), case.text("fifo"));
    fs::write(&file, "").unwrap();
    // Nobody reads it.
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let log = case.text("log");
    let below = format!("{file}/below/trace");
    case.args(&["true"]);
    for (variable, option) in [
        (Some("TANDEM_TRACE"), None),
        (Some("TANDEM_TRACE_DIR"), Some("--trace-dir")),
        (Some("TANDEM_TRACE_ON_ERROR"), Some("--trace-on-error")),
    ] {
        let places = [below.as_str(), "/proc/tandem/trace", "/dev/full", &fifo];
        for place in if option.is_some() { &places[..2] } else { &places[..] } {
            let by_option = option.map(|option| vec![option.to_owned(), place.to_string()]);
            let by_variable = variable.map(|_| vec![]);
            for globals in by_option.into_iter().chain(by_variable) {
                let mut command = {
                    case.globals = [vec!["--log".into(), log.clone()], globals.clone()].concat();
                    case.command()
                };
                if globals.is_empty() {
                    command.env(variable.unwrap(), place);
                }
                command.args(["run", "--bundle", &case.text("bundle"), &case.id]);
                let outcome = case.launch(command).wait().ok();
                assert_eq!(outcome.err(), "", "{variable:?} {globals:?} {place}");
                let told = fs::read_to_string(&log).unwrap();
                assert!(
                    told.contains("level=warning msg=\"write the trace"),
                    "{variable:?} {globals:?} {place}: {told}"
                );
                fs::remove_file(&log).unwrap();
            }
        }
    }
    // The one that was typed for this command is what the command is for.
    case.globals = vec!["--trace".into(), below];
    case.run().refused_with(&["write the trace", "file/below"]);
    case.globals.clear();
    case.nothing_left("a refused trace");
}

#[test]
fn directories_for_traces_are_made() {
    tandem_only!("traces");
    let mut case = case!("tracemade");
    case.args(&["true"]);
    let trace = |variable: &str, place: &str| {
        let mut command = case.command();
        command.env(variable, place).args(["run", "--bundle", &case.text("bundle"), &case.id]);
        case.launch(command).wait()
    };
    let (file, dir, ring) = (case.text("a/b/trace"), case.text("c/d"), case.text("e/f"));
    assert_eq!(trace("TANDEM_TRACE", &file).ok().err(), "");
    assert_eq!(trace("TANDEM_TRACE_DIR", &dir).ok().err(), "");
    assert_eq!(trace("TANDEM_TRACE_ON_ERROR", &ring).ok().err(), "");
    for made in [file, format!("{dir}/{}.jsonl", case.id)] {
        assert!(fs::read_to_string(&made).is_ok_and(|text| text.contains("\"execve\"")), "{made}");
    }
    for made in ["a", "a/b", "c", "c/d", "e", "e/f"] {
        let mode = fs::metadata(case.path(made)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{made}");
    }
}

#[test]
fn what_an_image_or_a_caller_names_is_no_command_to_a_terminal() {
    tandem_only!("the words");
    let mut case = case!("escape");
    let log = log_as_json(&mut case);
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}1m\u{202e}";
    let clean = |said: &str, what: &str| {
        let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!said.contains(bad), "{what}: {said:?}");
        assert!(said.contains(r"\u{1b}]0;owned"), "{what}: {said:?}");
    };
    case.args(&[evil]);
    clean(&case.run().refused(), "a program");
    clean(&case.call(&["state", evil]).refused(), "an ID");
    clean(&case.call(&[evil]).refused(), "a command");
    clean(&case.call(&["run", "--bundle", evil, &case.id]).refused(), "a bundle");
    clean(&case.call(&["lint", evil]).refused(), "a bundle of lint");
    // A symlink of the image that leads to a name of its own making, where the mount would go.
    std::os::unix::fs::symlink(format!("/{evil}/x"), case.rootfs().join("link")).unwrap();
    fs::write(case.rootfs().join(evil), "").unwrap();
    case.alter(|c| mount(c, &format!("/{evil}/x"), "tmpfs", "tmpfs", &[]));
    clean(&case.run().refused(), "a mount's destination");
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.lines().count() >= 3 && !text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    case.nothing_left("failures");
}

/// What can't be told changes nothing of how a command ends.
#[test]
fn an_error_that_nobody_can_read_is_the_same_error() {
    let case = case!("unheard");
    let shell = "exec \"$@\" 2>/dev/full";
    let log = case.text("log");
    let outcome = case.call_behind(&["sh", "-c", shell, "sh"], &["--log", &log, "state", "nonesuch"]);
    assert_eq!(outcome.code(), 1);
    if common::is_tandem() {
        assert!(common::look::value(&log).contains("does not exist"), "the log has it");
    }
}
