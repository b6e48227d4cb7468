//! list, ps, pause, resume, spec, features, --version, --log: their output as engines parse it.

#[macro_use]
mod common;

use std::collections::BTreeSet;
use std::fs;

use common::bundle::{namespace, without_namespace};
use common::{look, wait_until};
use serde_json::{Value, json};

#[test]
fn an_empty_list_is_null_or_empty() {
    let case = case!("nolist");
    let list: Value = serde_json::from_str(&case.call(&["list", "--format=json"]).ok().out()).unwrap();
    assert!(list.is_null() || list == json!([]), "{list}");
    assert_eq!(case.call(&["list", "-q"]).ok().out(), "");
}

#[test]
fn list_shows_id_pid_status_and_bundle() {
    let case = case!("list");
    let pid = case.running();
    for form in [&["list", "--format=json"][..], &["list", "--format", "json"], &["list", "-f", "json"]] {
        let list: Value = serde_json::from_str(&case.call(form).ok().out()).unwrap();
        assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
        assert_eq!(list[0]["id"], case.id.as_str());
        assert_eq!(list[0]["pid"], pid);
        assert_eq!(list[0]["status"], "running");
        assert_eq!(list[0]["bundle"], case.text("bundle"));
        assert!(list[0]["created"].is_string(), "{list}");
        assert!(!common::is_tandem() || list[0]["owner"] == "root", "{list}");
    }
    assert_eq!(case.call(&["list", "-q"]).ok().out().trim_end(), case.id);
    let table = case.call(&["list"]).ok().out();
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 2, "{table}");
    let column = |name: &str| rows[0].iter().position(|h| *h == name).unwrap_or_else(|| panic!("no {name}: {table}"));
    for (name, value) in [("ID", case.id.clone()), ("PID", pid.to_string()), ("STATUS", "running".to_owned())] {
        assert_eq!(rows[1][column(name)], value, "{table}");
    }
    assert_eq!(rows[1][column("BUNDLE")], case.text("bundle"), "{table}");
}

#[test]
fn ps_lists_every_process_of_the_cgroup() {
    let mut case = case!("ps");
    case.script("sleep 100000 & sleep 100000 & wait");
    case.running();
    let procs = look::v1("pids").or_else(look::v2).expect("cgroup").join(&case.id).join("cgroup.procs");
    wait_until("three processes", || look::value(&procs).lines().count() == 3);
    let expected: BTreeSet<u64> = look::value(&procs).lines().map(|l| l.parse().unwrap()).collect();
    let outcome = case.call(&["ps", "--format", "json", &case.id]).ok();
    assert_eq!(outcome.err(), "", "engines read the streams together");
    let pids: Vec<u64> = serde_json::from_str(&outcome.out()).unwrap();
    assert_eq!(pids.iter().copied().collect::<BTreeSet<_>>(), expected);
    assert_eq!(pids.len(), 3, "{pids:?}");
    let table = case.call(&["ps", &case.id]).ok().out();
    assert!(table.lines().next().unwrap().contains("PID"), "{table}");
    for pid in expected {
        let shown = table.lines().skip(1).any(|l| l.split_whitespace().any(|w| w == pid.to_string()));
        assert!(shown, "{pid} is not in: {table}");
    }
}

/// The processes that name the case in their environment: the container's, whatever cgroup they are in.
fn marked(id: &str) -> BTreeSet<u64> {
    let mark = format!("TANDEM_TEST={id}");
    let ours = look::processes().into_iter().filter(|p| look::strings(p.pid, "environ").contains(&mark));
    ours.map(|p| p.pid.into()).collect()
}

#[test]
fn without_a_cgroup_the_pid_namespace_tells_the_processes() {
    tandem_only!("--cgroup-manager");
    let mut case = case!("nocgroup");
    case.globals = vec!["--cgroup-manager=disabled".into()];
    // One of them in a pid namespace further down, and one that came by exec.
    case.alter(|c| {
        for set in ["bounding", "effective", "permitted"] {
            c["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
        }
    });
    case.script("trap 'echo told >/told' USR1; unshare -p -f sh -c \"trap exit USR1; sleep 100000 & wait\" & sleep 100000 & while :; do wait; done");
    let pid = case.running();
    case.call(&["exec", "--detach", &case.id, "sh", "-c", "trap 'echo told >/told2; exit' USR1; sleep 100000 & wait"])
        .ok();
    // init, a sleep, unshare and the two below it, and the two of exec.
    wait_until("seven processes", || {
        let all = marked(&case.id);
        let settled = |p: &u64| {
            look::strings(*p as u32, "cmdline").first().is_some_and(|a| matches!(&**a, "sh" | "sleep" | "unshare"))
        };
        all.len() == 7 && all.iter().all(settled)
    });
    let listed = case.call(&["ps", "--format", "json", &case.id]).ok();
    assert_eq!(listed.err(), "", "all is known, and nothing to warn of");
    let pids: BTreeSet<u64> = serde_json::from_str(&listed.out()).unwrap();
    assert_eq!(pids, marked(&case.id));
    // All that have no handler die of it; init has one.
    case.call(&["kill", "--all", &case.id, "USR1"]).ok();
    wait_until("the signal came to all", || {
        case.reap();
        marked(&case.id) == BTreeSet::from([u64::from(pid)])
            && case.rootfs().join("told").exists()
            && case.rootfs().join("told2").exists()
    });
    case.call(&["kill", "--all", &case.id, "KILL"]).ok();
    case.wait_status("stopped");
    case.call(&["kill", "--all", &case.id, "KILL"]).ok();
    case.delete();
    case.nothing_left("delete");
}

#[test]
fn without_a_cgroup_and_a_pid_namespace_it_says_so() {
    tandem_only!("--cgroup-manager");
    let mut case = case!("nothingtells");
    case.globals = vec!["--cgroup-manager=disabled".into()];
    case.alter(|c| without_namespace(c, "pid"));
    let pid = case.running();
    let log = case.text("log");
    let listed = case.call(&["ps", "--format", "json", "--log", &log, &case.id]).ok();
    assert_eq!(listed.out(), format!("[{pid}]\n"));
    let told = look::value(&log);
    assert!(told.contains("only the first process") && told.contains("pid namespace"), "{told}");
    case.call(&["kill", "--all", &case.id, "KILL"]).refused_with(&["neither a cgroup nor a pid namespace", "--all"]);
    assert_eq!(case.status(), "running", "nothing was killed");
    case.stop();
    case.call(&["kill", "--all", &case.id, "KILL"]).ok();
    // Another's pid namespace tells nothing either: its processes are not all the container's.
    let other = case!("pidowner");
    let owner = other.running();
    case.delete();
    case.alter(|c| namespace(c, "pid", Some(&format!("/proc/{owner}/ns/pid"))));
    case.running();
    case.call(&["kill", "--all", &case.id, "KILL"]).refused_with(&["neither a cgroup nor a pid namespace"]);
    assert_eq!(other.status(), "running");
    // Dead and not collected, it would keep the other's first process from ending.
    case.stop();
    case.delete();
}

/// What the kernel says of the container's freezer.
fn frozen(id: &str) -> bool {
    match look::v1("freezer") {
        Some(freezer) => look::value(freezer.join(id).join("freezer.state")) == "FROZEN",
        None => {
            let events = look::value(look::v2().expect("cgroup2").join(id).join("cgroup.events"));
            events.lines().any(|l| l == "frozen 1")
        }
    }
}

#[test]
fn pause_freezes_and_resume_thaws() {
    let case = case!("pause");
    case.running();
    case.call(&["pause", &case.id]).ok();
    assert!(frozen(&case.id));
    assert_eq!(case.status(), "paused");
    assert_ne!(case.exec(&["true"]).code(), 0, "exec in a paused container would hang");
    case.call(&["resume", &case.id]).ok();
    assert!(!frozen(&case.id));
    assert_eq!(case.status(), "running");
    case.exec(&["true"]).ok();
}

#[test]
fn a_paused_container_is_deleted_by_force() {
    let case = case!("delpaused");
    case.running();
    case.call(&["pause", &case.id]).ok();
    case.call(&["delete", "--force", &case.id]).ok();
    case.nothing_left("delete --force");
}

#[test]
fn a_paused_container_can_be_killed_for_good() {
    let case = case!("killpaused");
    case.running();
    case.call(&["pause", &case.id]).ok();
    case.call(&["kill", &case.id, "KILL"]).ok();
    // On cgroup v1 the signal waits for the thaw.
    let _ = case.call(&["resume", &case.id]);
    case.wait_status("stopped");
}

#[test]
fn pause_and_resume_say_no_to_other_states() {
    let case = case!("nopause");
    case.call(&["pause", &case.id]).refused_with(&["does not exist"]);
    case.running();
    case.call(&["resume", &case.id]).refused();
    case.stop();
    case.call(&["pause", &case.id]).refused();
}

#[test]
fn spec_writes_a_configuration_that_runs() {
    let mut case = case!("spec");
    fs::remove_file(case.bundle().join("config.json")).unwrap();
    case.call(&["spec", "--bundle", &case.text("bundle")]).ok();
    let text = fs::read_to_string(case.bundle().join("config.json")).unwrap();
    let spec: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(spec["root"]["path"], "rootfs");
    assert!(spec["process"]["args"].is_array() && spec["linux"]["namespaces"].is_array(), "{text}");
    case.call(&["spec", "--bundle", &case.text("bundle")]).refused();
    assert_eq!(fs::read_to_string(case.bundle().join("config.json")).unwrap(), text, "an existing one stays");
    case.config = spec;
    let id = case.id.clone();
    case.alter(|c| {
        c["process"]["terminal"] = json!(false);
        c["process"]["args"] = json!(["echo", "from the default configuration"]);
        c["linux"]["cgroupsPath"] = json!(format!("/{id}"));
        // Not what is asked here: raising a limit takes CAP_SYS_RESOURCE.
        c["process"].as_object_mut().unwrap().remove("rlimits");
    });
    assert_eq!(case.run().ok().out(), "from the default configuration\n");
}

#[test]
fn features_tells_engines_what_they_ask() {
    let case = case!("features");
    let outcome = case.call(&["features"]).ok();
    assert_eq!(outcome.err(), "", "engines read the streams together");
    let features: Value = serde_json::from_str(&outcome.out()).unwrap();
    let has = |list: &Value, what: &str| list.as_array().expect("a list").iter().any(|v| v == what);
    for version in ["ociVersionMin", "ociVersionMax"] {
        assert!(features[version].as_str().is_some_and(|v| !v.is_empty()), "{version}");
    }
    for option in ["ro", "rw", "nosuid", "rbind", "rro"] {
        assert!(has(&features["mountOptions"], option), "{option}: {}", features["mountOptions"]);
    }
    for kind in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
        assert!(has(&features["linux"]["namespaces"], kind), "{kind}");
    }
    assert!(has(&features["linux"]["capabilities"], "CAP_CHOWN"));
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    if common::is_tandem() {
        assert!(has(&features["linux"]["namespaces"], "time"));
        assert!(features["linux"]["mountExtensions"]["idmap"]["enabled"].is_boolean());
        for hook in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
            assert!(has(&features["hooks"], hook), "{hook}");
        }
    }
}

#[test]
fn the_version_has_the_lines_that_engines_parse() {
    let case = case!("version");
    let outcome = case.call(&["--version"]).ok();
    let text = outcome.out();
    let mut lines = text.lines();
    let name = if common::is_tandem() { "tandem" } else { "runc" };
    let version = lines.next().and_then(|l| l.strip_prefix(&format!("{name} version "))).expect("version line");
    assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{text}");
    assert!(text.lines().any(|l| l.starts_with("commit: ")), "{text}");
    assert!(text.lines().any(|l| l.strip_prefix("spec: ").is_some_and(|v| v.starts_with("1."))), "{text}");
    assert_eq!(outcome.err(), "");
}

#[test]
fn an_unknown_flag_is_named() {
    let case = case!("flag");
    for args in [&["--no-such-flag", "list"][..], &["state", "--no-such-flag", "x"]] {
        let outcome = case.call(args);
        assert_ne!(outcome.code(), 0);
        let text = if common::is_tandem() { outcome.err() } else { format!("{}{}", outcome.out(), outcome.err()) };
        assert!(text.contains("no-such-flag"), "{}", outcome.all());
    }
}

#[test]
fn a_failure_is_one_json_object_in_the_log_and_a_line_on_stderr() {
    let mut case = case!("log");
    for (n, form) in [0, 1].into_iter().zip(["two words", "equals signs"]) {
        let log = case.text(&format!("log.{n}"));
        case.globals = match form {
            "two words" => vec!["--log".into(), log.clone(), "--log-format".into(), "json".into()],
            _ => vec![format!("--log-format=json"), format!("--log={log}")],
        };
        case.call(&["state", "no-such-container"]).refused_with(&["does not exist"]);
        let text = fs::read_to_string(&log).unwrap();
        let record: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("one object, {e}: {text}"));
        assert_eq!(record["level"], "error");
        assert!(record["msg"].as_str().unwrap().contains("does not exist"), "{text}");
        assert_eq!(record["time"].as_str().unwrap().as_bytes()[10], b'T', "{text}");
        // A command line that can't be read, too.
        fs::remove_file(&log).unwrap();
        assert_ne!(case.call(&["create", "--no-such-option", "x"]).code(), 0);
        let text = fs::read_to_string(&log).unwrap_or_default();
        assert!(!common::is_tandem() || text.contains("--no-such-option"), "{text}");
    }
    case.globals.clear();
}

#[test]
fn a_success_writes_no_line_to_the_log() {
    let mut case = case!("nolog");
    case.args(&["true"]);
    let log = case.text("log");
    case.globals = vec!["--log".into(), log.clone(), "--log-format=json".into()];
    assert_eq!(case.run().ok().err(), "");
    assert_eq!(fs::read_to_string(&log).unwrap_or_default(), "");
}

#[test]
fn an_empty_xdg_runtime_dir_is_none() {
    let mut case = case!("xdg");
    case.args(&["true"]);
    let mut command = case.command();
    command.args(["run", "--bundle", &case.text("bundle"), &case.id]).env("XDG_RUNTIME_DIR", "");
    case.launch(command).wait().ok();
}

#[test]
fn commands_on_a_missing_container_say_so() {
    let case = case!("nocontainer");
    let id = "no-such-container";
    for args in [
        &["state", id][..],
        &["start", id],
        &["kill", id, "TERM"],
        &["exec", id, "true"],
        &["ps", id],
        &["resume", id],
        &["update", "--pids-limit", "5", id],
        &["delete", id],
    ] {
        case.call(args).refused_with(&["does not exist"]);
    }
}
