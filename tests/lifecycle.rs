//! create, start, state, kill, delete, run: what an engine sees of a container's life, checked from outside it.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use common::bundle::without_namespace;
use common::{look, wait_until};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn a_container_is_created_running_stopped_and_gone() {
    let case = case!("life");
    let pid = case.create();
    assert_eq!(case.status(), "created");
    assert!(fs::exists(format!("/proc/{pid}")).unwrap());
    case.start();
    assert_eq!(case.status(), "running");
    case.stop();
    assert_eq!(case.status(), "stopped");
    case.delete();
    case.nothing_left("delete");
    case.call(&["state", &case.id]).refused_with(&["does not exist"]);
}

#[test]
fn state_has_what_engines_parse() {
    let mut case = case!("state");
    case.alter(|c| c["annotations"] = json!({"org.example.key": "value, with comma", "empty": ""}));
    let pid = case.running();
    let outcome = case.call(&["state", &case.id]).ok();
    assert_eq!(outcome.err(), "", "engines read stdout and stderr together");
    let state = case.state();
    assert_eq!(state["id"], case.id.as_str());
    assert_eq!(state["pid"], pid);
    assert_eq!(state["status"], "running");
    assert_eq!(state["bundle"], case.text("bundle"));
    assert_eq!(state["rootfs"], case.text("bundle/rootfs"));
    assert_eq!(state["annotations"]["org.example.key"], "value, with comma");
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."));
    assert_rfc3339(state["created"].as_str().unwrap());
    case.stop();
    assert_eq!(case.state()["pid"].as_u64().unwrap_or(0), 0, "a stopped container has no pid");
}

/// `2026-01-02T03:04:05.678Z`, or with an offset.
fn assert_rfc3339(text: &str) {
    let shape: String = text.chars().take(19).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00", "{text}");
    let zone = text[19..].trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    assert!(zone == "Z" || zone.starts_with(['+', '-']), "{text}");
}

#[test]
fn a_zombie_init_is_a_stopped_container() {
    let mut case = case!("zombie");
    case.args(&["true"]);
    // This test is its parent.
    case.stop_reaping();
    let pid = case.create();
    case.start();
    wait_until("init is a zombie", || look::status(pid)["State"].starts_with('Z'));
    let state: serde_json::Value = serde_json::from_str(&case.call(&["state", &case.id]).ok().out()).unwrap();
    assert_eq!(state["status"], "stopped");
    assert_eq!(state["pid"].as_u64().unwrap_or(0), 0);
    case.call(&["delete", &case.id]).ok();
}

#[test]
fn the_pid_file_is_decimal_has_no_newline_and_is_renamed_into_place() {
    let case = case!("pidfile");
    fs::write(case.path("pid"), "an older container's").unwrap();
    let before = fs::metadata(case.path("pid")).unwrap().ino();
    // Holds the inode, so that it can't be used again for the new file.
    fs::hard_link(case.path("pid"), case.path("pid.old")).unwrap();
    let pid = case.create();
    assert_eq!(fs::read_to_string(case.path("pid")).unwrap(), pid.to_string());
    assert_ne!(fs::metadata(case.path("pid")).unwrap().ino(), before, "written in place: a reader may see half of it");
    assert_eq!(fs::read_to_string(case.path("pid.old")).unwrap(), "an older container's");
    assert_eq!(case.state()["pid"], pid);
}

#[test]
fn a_created_container_runs_nothing_of_the_payload_until_start() {
    let mut case = case!("created");
    case.script("echo began > /began; exec sleep 100000");
    let pid = case.create();
    assert!(!case.rootfs().join("began").exists());
    assert_ne!(look::strings(pid, "cmdline").first().map(String::as_str), Some("sh"));
    case.start();
    wait_until("the payload writes", || case.rootfs().join("began").exists());
}

#[test]
fn create_leaves_init_to_the_caller_and_no_monitor() {
    let case = case!("monitor");
    let mut command = case.command();
    command.args(case.create_args()).arg(&case.id);
    let running = case.launch(command);
    let group = running.pid();
    running.wait().ok();
    let pid = case.pid();
    case.adopt(pid);
    let parent = look::status(pid)["PPid"].clone();
    assert_eq!(parent, std::process::id().to_string(), "init is the subreaper's child");
    let others: Vec<_> =
        look::processes().into_iter().filter(|p| p.group == group && p.pid != pid && p.state != 'Z').collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn a_foreground_run_gives_the_payloads_exit_code_and_leaves_nothing() {
    let mut case = case!("code");
    for code in [0, 1, 7, 126, 127, 255] {
        case.script(&format!("exit {code}"));
        assert_eq!(case.run().code(), code);
        case.nothing_left("run");
    }
}

#[test]
fn a_foreground_run_gives_128_and_the_signal() {
    let mut case = case!("signalled");
    // In a pid namespace of its own, init is deaf to its own signals.
    case.alter(|c| without_namespace(c, "pid"));
    for (name, number) in [("TERM", 15), ("KILL", 9), ("USR1", 10)] {
        case.script(&format!("kill -{name} $$; sleep 100000"));
        assert_eq!(case.run().code(), 128 + number, "{name}");
    }
}

#[test]
fn a_foreground_run_forwards_signals() {
    let mut case = case!("forward");
    case.script("trap 'exit 42' TERM; echo ready; sleep 100000 & wait");
    let mut command = case.command();
    command.args(["run", "--bundle", &case.text("bundle"), &case.id]);
    let run = case.launch(command);
    wait_until("the payload traps", || run.out().contains("ready"));
    run.signal(Signal::TERM);
    assert_eq!(run.wait().code(), 42);
}

#[test]
fn a_foreground_run_passes_standard_streams() {
    let mut case = case!("streams");
    case.script("cat; echo to-err >&2");
    fs::write(case.path("in"), "from the caller\n").unwrap();
    let mut command = case.command();
    command.args(["run", "--bundle", &case.text("bundle"), &case.id]).stdin(fs::File::open(case.path("in")).unwrap());
    let outcome = case.launch(command).wait().ok();
    assert_eq!((outcome.out().as_str(), outcome.err().as_str()), ("from the caller\n", "to-err\n"));
}

#[test]
fn run_detached_returns_with_the_container_running() {
    let case = case!("detach");
    let args = ["run", "--detach", "--bundle", &case.text("bundle"), "--pid-file", &case.text("pid"), &case.id];
    case.call(&args).ok();
    case.adopt(case.pid());
    assert_eq!(case.status(), "running");
    case.wait_payload(case.pid());
}

#[test]
fn run_keep_leaves_a_stopped_container() {
    tandem_only!("run --keep");
    let mut case = case!("keep");
    case.args(&["true"]);
    case.call(&["run", "--keep", "--bundle", &case.text("bundle"), &case.id]).ok();
    assert_eq!(case.status(), "stopped");
    case.delete();
    case.nothing_left("delete");
}

#[test]
fn kill_sends_by_name_and_by_number_and_term_if_none_is_named() {
    let mut case = case!("kill");
    case.script(
        "for s in TERM USR1 USR2 HUP; do trap \"echo $s >> /log\" $s; done; echo ready > /log
         while :; do sleep 100000 & wait $!; kill $!; done",
    );
    case.running();
    let log = case.rootfs().join("log");
    wait_until("the payload traps", || log.exists());
    let forms = [(None, "TERM"), (Some("15"), "TERM"), (Some("SIGUSR1"), "USR1"), (Some("USR2"), "USR2")];
    let more = [(Some("1"), "HUP"), (Some("10"), "USR1"), (Some("HUP"), "HUP"), (Some("TERM"), "TERM")];
    let mut expected = String::from("ready\n");
    for (form, name) in forms.into_iter().chain(more) {
        let mut args = vec!["kill", case.id.as_str()];
        args.extend(form);
        case.call(&args).ok();
        expected.push_str(&format!("{name}\n"));
        wait_until(&format!("{args:?} arrives as {name}"), || fs::read_to_string(&log).unwrap() == expected);
    }
    case.call(&["kill", &case.id, "NOSUCH"]).refused_with(&["NOSUCH"]);
}

#[test]
fn kill_all_reaches_each_process_without_a_pid_namespace() {
    let mut case = case!("killall");
    case.alter(|c| without_namespace(c, "pid"));
    case.script("sleep 100000 & sleep 100000 & wait");
    let pid = case.running();
    let group = look::v1("pids").or_else(look::v2).expect("cgroup").join(&case.id).join("cgroup.procs");
    wait_until("three processes", || look::value(&group).lines().count() == 3);
    case.call(&["kill", "--all", &case.id, "KILL"]).ok();
    wait_until("none is left", || {
        case.reap();
        look::value(&group).is_empty()
    });
    assert!(!fs::exists(format!("/proc/{pid}/exe")).unwrap());
    case.wait_status("stopped");
}

#[test]
fn a_stopped_container_can_not_be_signalled_or_started() {
    let case = case!("stopped");
    case.running();
    case.stop();
    let line = case.call(&["kill", &case.id, "TERM"]).refused();
    assert!(line.contains("container not running"), "{line}");
    case.call(&["start", &case.id]).refused();
    assert_ne!(case.exec(&["true"]).code(), 0);
    case.call(&["kill", "--all", &case.id, "KILL"]).ok();
    assert_eq!(case.status(), "stopped");
}

#[test]
fn delete_refuses_a_running_container_and_force_kills_it() {
    let case = case!("delete");
    let pid = case.running();
    case.call(&["delete", &case.id]).refused();
    assert_eq!(case.status(), "running");
    case.call(&["delete", "--force", &case.id]).ok();
    case.nothing_left("delete --force");
    assert!(!fs::exists(format!("/proc/{pid}/exe")).unwrap());
}

#[test]
fn delete_force_takes_a_created_container() {
    let case = case!("delcreated");
    case.create();
    case.call(&["delete", "--force", &case.id]).ok();
    case.nothing_left("delete --force");
}

#[test]
fn delete_force_takes_processes_that_outlive_init() {
    let mut case = case!("outlive");
    case.alter(|c| without_namespace(c, "pid"));
    case.script("setsid sleep 100000 & sleep 0.2; exit 0");
    let group = look::v1("pids").or_else(look::v2).expect("cgroup").join(&case.id).join("cgroup.procs");
    case.create();
    case.start();
    case.wait_status("stopped");
    assert_eq!(look::value(&group).lines().count(), 1, "the orphan");
    case.call(&["delete", "--force", &case.id]).ok();
    case.nothing_left("delete --force");
}

#[test]
fn delete_of_a_missing_container_fails_and_with_force_succeeds() {
    let case = case!("missing");
    case.call(&["delete", &case.id]).refused_with(&["does not exist"]);
    let outcome = case.call(&["delete", "--force", &case.id]).ok();
    assert_eq!(outcome.out(), "");
}

#[test]
fn a_container_starts_once() {
    let case = case!("once");
    case.running();
    case.call(&["start", &case.id]).refused();
    assert_eq!(case.status(), "running");
}

#[test]
fn options_stand_before_or_after_the_id() {
    tandem_only!("an option after the ID");
    let case = case!("order");
    let (bundle, pid_file) = (case.text("bundle"), case.text("pid"));
    case.call(&["create", &case.id, "--bundle", &bundle, "--pid-file", &pid_file]).ok();
    case.adopt(case.pid());
    case.start();
    case.wait_payload(case.pid());
    case.call(&["kill", &case.id, "--all", "KILL"]).ok();
    case.wait_status("stopped");
    case.call(&["delete", &case.id, "--force"]).ok();
    case.nothing_left("delete");
    case.call(&["create", "--bundle", &bundle, &case.id, "--pid-file", &pid_file]).ok();
    case.adopt(case.pid());
    case.call(&["delete", &case.id, "-f"]).ok();
}

#[test]
fn the_bundle_is_the_working_directory_if_none_is_named() {
    let mut case = case!("cwd");
    case.args(&["true"]);
    let mut command = case.command();
    command.args(["run", &case.id]).current_dir(case.bundle());
    case.launch(command).wait().ok();
}

#[test]
fn the_state_directory_is_private_and_its_parents_are_made() {
    let mut case = case!("root");
    case.args(&["true"]);
    let root = case.text("a/b/root");
    // The later of two options of the same name would do in a peer; ours may refuse it, so it is given once.
    let mut command = std::process::Command::new(common::binary());
    command.args(["--root", &root, "create", "--bundle", &case.text("bundle"), "--pid-file", &case.text("pid")]);
    command.arg(&case.id).stdin(std::process::Stdio::null());
    case.launch(command).wait().ok();
    case.adopt(case.pid());
    let entry = fs::metadata(case.path("a/b/root").join(&case.id)).expect("a directory of the container's name");
    let parent = fs::metadata(&root).unwrap();
    let open = |m: &fs::Metadata| m.permissions().mode() & 0o077 != 0;
    assert!(!open(&entry) || !open(&parent), "others may read {root}: {:o}", parent.permissions().mode());
    let mut delete = std::process::Command::new(common::binary());
    delete.args([&format!("--root={root}"), "delete", "--force", &case.id]);
    case.launch(delete).wait().ok();
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
}
