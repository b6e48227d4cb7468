//! Hooks: six kinds, their order, what they are told, where they run, what their failure means.

#[macro_use]
mod common;

use std::fs;

use common::case::Case;
use common::{look, wait_until};
use serde_json::{Value, json};

const ON_HOST: [&str; 5] = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];

/// A hook of the host's shell.
fn hook(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
}

/// One hook of each kind that notes its name, and the state it was told, in `log`.
fn noted(case: &Case) -> Value {
    let mut hooks = json!({});
    for kind in ON_HOST {
        let (log, state) = (case.text("log"), case.text(&format!("state.{kind}")));
        hooks[kind] = json!([hook(&format!("echo {kind} >> '{log}'; cat > '{state}'"))]);
    }
    // This one's path is the container's.
    hooks["startContainer"] = json!([{
        "path": "/bin/sh", "args": ["sh", "-c", "cat > /tmp/state.startContainer; cat /proc/self/status > /tmp/status"],
        "env": ["PATH=/bin"]
    }]);
    hooks
}

fn log(case: &Case) -> Vec<String> {
    fs::read_to_string(case.path("log")).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn they_run_in_their_order_at_their_time() {
    let mut case = case!("hooks");
    let hooks = noted(&case);
    case.alter(|c| c["hooks"] = hooks);
    case.create();
    let at_create = log(&case);
    assert_eq!(at_create[..3], ["prestart", "createRuntime", "createContainer"]);
    assert!(at_create.len() == 3 || !common::is_tandem(), "{at_create:?}");
    assert!(!case.rootfs().join("tmp/state.startContainer").exists());
    case.start();
    wait_until("poststart has run", || log(&case).len() > 3);
    assert_eq!(log(&case)[3..], ["poststart"]);
    case.wait_payload(case.pid());
    assert!(case.rootfs().join("tmp/state.startContainer").exists());
    case.stop();
    assert_eq!(log(&case).len(), 4, "poststop belongs to delete");
    case.delete();
    assert_eq!(log(&case)[4..], ["poststop"]);
}

#[test]
fn each_is_told_the_state_on_stdin() {
    let mut case = case!("hookstate");
    let hooks = noted(&case);
    case.alter(|c| {
        c["hooks"] = hooks;
        c["annotations"] = json!({"org.example": "told"});
    });
    let pid = case.running();
    wait_until("poststart has run", || log(&case).len() > 3);
    case.stop();
    case.delete();
    let states = [
        ("prestart", "creating created"),
        ("createRuntime", "creating created"),
        ("createContainer", "creating created"),
        ("startContainer", "creating created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ];
    for (kind, allowed) in states {
        let inside = case.rootfs().join("tmp").join(format!("state.{kind}"));
        let file = if kind == "startContainer" { inside } else { case.path(&format!("state.{kind}")) };
        let text = fs::read_to_string(file).unwrap();
        let state: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{kind}: {e}: {text}"));
        assert_eq!(state["id"], case.id.as_str(), "{kind}");
        assert_eq!(state["bundle"], case.text("bundle"), "{kind}");
        assert_eq!(state["annotations"]["org.example"], "told", "{kind}");
        assert!(state["ociVersion"].is_string(), "{kind}");
        if common::is_tandem() {
            assert!(allowed.split(' ').any(|s| state["status"] == s), "{kind}: {text}");
        }
        match kind {
            "poststop" => {}
            // Docker's network hook takes the pid from here: it must be the one that the host knows.
            "prestart" | "createRuntime" | "poststart" => assert_eq!(state["pid"], pid, "{kind}"),
            _ => assert!(state["pid"].as_u64().is_some_and(|p| p > 0), "{kind}: {text}"),
        }
    }
}

#[test]
fn several_of_a_kind_run_one_after_the_other() {
    let mut case = case!("hookseq");
    let log_file = case.text("log");
    case.alter(|c| {
        let list: Vec<Value> = (0..5).map(|n| hook(&format!("sleep 0.0{}; echo {n} >> '{log_file}'", 5 - n))).collect();
        c["hooks"] = json!({"createRuntime": list});
    });
    case.create();
    assert_eq!(log(&case), ["0", "1", "2", "3", "4"]);
}

#[test]
fn the_environment_and_arguments_are_exactly_the_configured_ones() {
    let mut case = case!("hookenv");
    let (log_file, args_file) = (case.text("log"), case.text("args"));
    case.alter(|c| {
        c["hooks"] = json!({"createRuntime": [
            {"path": "/usr/bin/env", "args": ["env", "sh", "-c", format!("tr '\\0' '\\n' < /proc/self/environ > '{log_file}'")],
             "env": ["PATH=/usr/bin:/bin", "ASKED=a b=c"]},
            {"path": "/bin/sh", "args": ["zero", "-c", format!("echo \"$0|$1|$2\" > '{args_file}'"), "a0", "one", "two words"],
             "env": ["PATH=/usr/bin:/bin"]}
        ]});
    });
    let mut command = case.command();
    command.args(case.create_args()).arg(&case.id).env("LEAKED_FROM_THE_ENGINE", "1");
    case.launch(command).wait().ok();
    case.adopt(case.pid());
    let mut environment = log(&case);
    environment.retain(|e| !["PWD", "SHLVL", "_", "OLDPWD"].contains(&e.split('=').next().unwrap()));
    environment.sort();
    assert_eq!(environment, ["ASKED=a b=c", "PATH=/usr/bin:/bin"]);
    assert_eq!(look::value(case.path("args")), "a0|one|two words");
}

#[test]
fn without_an_environment_they_have_that_of_who_calls_or_of_the_payload() {
    let mut case = case!("hooknoenv");
    tandem_only!("createContainer hooks with the caller's environment");
    let mut hooks = json!({});
    for kind in ON_HOST {
        let one = |name: &str| {
            let file = case.text(&format!("{kind}.{name}"));
            json!({"path": "/bin/sh", "args": ["sh", "-c", format!("tr '\\0' '\\n' </proc/self/environ >'{file}'")]})
        };
        let mut empty = one("empty");
        empty["env"] = json!([]);
        hooks[kind] = json!([one("none"), empty]);
    }
    let script = "cat /proc/$$/environ | tr '\\0' '\\n' >/tmp/none";
    hooks["startContainer"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    case.alter(|c| {
        c["hooks"] = hooks;
        c["process"]["env"] = json!(["PATH=/bin", "OF=payload"]);
    });
    let called = |args: &[&str]| {
        let mut command = case.command();
        command.args(args).env("OF", "caller");
        case.launch(command).wait().ok();
    };
    called(&["create", "--bundle", &case.text("bundle"), "--pid-file", &case.text("pid"), &case.id]);
    case.adopt(case.pid());
    called(&["start", &case.id]);
    case.stop();
    called(&["delete", &case.id]);
    for kind in ON_HOST {
        let seen = |name: &str| fs::read_to_string(case.path(&format!("{kind}.{name}"))).unwrap();
        assert!(seen("none").lines().any(|entry| entry == "OF=caller"), "{kind}: {}", seen("none"));
        assert_eq!(seen("empty"), "", "{kind}: an empty environment is one");
    }
    let seen = fs::read_to_string(case.rootfs().join("tmp/none")).unwrap();
    assert_eq!(seen, "HOME=/root\nOF=payload\nPATH=/bin\n", "startContainer");
}

#[test]
fn those_of_the_host_run_in_the_bundle() {
    let mut case = case!("hookcwd");
    let hooks = json!(
        ON_HOST
            .map(|kind| (kind, json!([hook(&format!("pwd >'{}'", case.text(kind)))])))
            .into_iter()
            .filter(|(kind, _)| *kind != "createContainer")
            .collect::<std::collections::BTreeMap<_, _>>()
    );
    case.alter(|c| c["hooks"] = hooks);
    case.args(&["true"]);
    let bundle = case.text("bundle");
    let mut command = case.command();
    command.current_dir("/usr").args(["run", "--bundle", &bundle, &case.id]);
    case.launch(command).wait().ok();
    let kinds = if common::is_tandem() {
        &["prestart", "createRuntime", "poststart", "poststop"][..]
    } else {
        &["createRuntime"]
    };
    for kind in kinds {
        assert_eq!(look::value(case.path(kind)), bundle, "{kind} of run");
    }
    case.args(&["sleep", "100000"]);
    case.running();
    case.stop();
    let mut command = case.command();
    command.current_dir("/usr").args(["delete", &case.id]);
    case.launch(command).wait().ok();
    if common::is_tandem() {
        assert_eq!(look::value(case.path("poststop")), bundle, "poststop of delete");
    }
}

#[test]
fn those_of_the_runtime_run_on_the_host_and_those_of_the_container_in_it() {
    let mut case = case!("hookns");
    let note = |case: &Case, kind: &str| {
        hook(&format!("for n in mnt net pid; do readlink /proc/self/ns/$n; done > '{}'", case.text(kind)))
    };
    let hooks = json!({
        "prestart": [note(&case, "prestart")], "createRuntime": [note(&case, "createRuntime")],
        "poststart": [note(&case, "poststart")], "poststop": [note(&case, "poststop")],
        // Pre-pivot: the host's paths are still there, in the container's namespaces.
        "createContainer": [hook(&format!("for n in mnt net; do readlink /proc/self/ns/$n; done > '{}'", case.text("createContainer")))],
        "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "readlink /proc/self/ns/mnt > /tmp/ns; ls / > /tmp/root"],
                            "env": ["PATH=/bin"]}]
    });
    case.alter(|c| c["hooks"] = hooks);
    let pid = case.running();
    wait_until("poststart has run", || {
        fs::read_to_string(case.path("poststart")).is_ok_and(|t| t.lines().count() == 3)
    });
    let (mnt, net) = (look::namespace(pid, "mnt"), look::namespace(pid, "net"));
    case.stop();
    case.delete();
    let host = ["mnt", "net", "pid"].map(|n| look::namespace("self", n));
    for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
        let seen: Vec<String> = look::value(case.path(kind)).lines().map(str::to_owned).collect();
        assert_eq!(seen, host, "{kind}");
    }
    let seen: Vec<String> = look::value(case.path("createContainer")).lines().map(str::to_owned).collect();
    assert_eq!(seen, [mnt.clone(), net]);
    assert_eq!(look::value(case.rootfs().join("tmp/ns")), mnt);
    assert!(look::value(case.rootfs().join("tmp/root")).lines().any(|l| l == "bin"));
}

#[test]
fn create_container_sees_the_containers_mounts_before_the_pivot() {
    let mut case = case!("hookmounts");
    let log_file = case.text("log");
    let root = case.text("bundle/rootfs");
    case.alter(|c| {
        let script = format!(
            "{{ grep -c ' {root}/proc ' /proc/self/mountinfo; test -e '{root}/proc/self/stat' && echo proc
               test -c '{root}/dev/null' && echo device; touch '{root}/from-hook' && echo writable; }} >> '{log_file}'"
        );
        c["hooks"] = json!({"createContainer": [hook(&script)]});
        c["root"]["readonly"] = json!(true);
    });
    let pid = case.running();
    let notes = log(&case);
    assert_eq!(notes.first().map(String::as_str), Some("1"), "proc is mounted in the new root: {notes:?}");
    if common::is_tandem() {
        // GPU toolkits make devices and links here, also below a root that will be read-only.
        assert_eq!(notes, ["1", "proc", "device", "writable"]);
    }
    assert!(look::mount_at(&look::mounts(pid), "/").has("ro"));
}

#[test]
fn a_hook_that_fails_before_start_fails_the_create_and_leaves_nothing() {
    let mut case = case!("hookfail");
    for kind in ["prestart", "createRuntime", "createContainer"] {
        for bad in [hook("exit 3"), hook("kill -KILL $$"), json!({"path": "/no/such/hook"})] {
            let log_file = case.text("log");
            case.alter(|c| c["hooks"] = json!({ kind: [bad, hook(&format!("echo second >> '{log_file}'"))] }));
            let outcome = case.create_with(&[]);
            if common::is_tandem() {
                let line = outcome.refused();
                assert!(line.contains(kind) && (line.contains("hook") || line.contains("/")), "{kind}: {line}");
                case.nothing_left(kind);
            } else {
                assert_ne!(outcome.code(), 0, "{kind}: {}", outcome.all());
            }
            assert_eq!(log(&case), [""; 0], "the hook after the one that failed has run");
            let _ = case.call(&["delete", "--force", &case.id]);
        }
    }
}

#[test]
fn a_failing_start_container_hook_stops_the_container() {
    let mut case = case!("hookstart");
    case.alter(|c| {
        c["hooks"] =
            json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"], "env": ["PATH=/bin"]}]});
    });
    case.script("echo began > /began; exec sleep 100000");
    case.create();
    let outcome = case.call(&["start", &case.id]);
    if common::is_tandem() {
        outcome.refused_with(&["startContainer"]);
    }
    case.wait_status("stopped");
    assert!(!case.rootfs().join("began").exists(), "the payload ran all the same");
}

#[test]
fn after_a_failing_poststart_hook_start_and_container_agree() {
    let mut case = case!("hookpost");
    tandem_only!("poststart hooks at start rather than at create");
    case.alter(|c| c["hooks"] = json!({"poststart": [hook("exit 3")]}));
    case.create();
    // The specification had it a warning up to 1.2.0, and an error that stops the container since.
    case.call(&["start", &case.id]).refused_with(&["hook poststart[0]", "3"]);
    assert_eq!(case.status(), "stopped");
    case.delete();
    case.script("exec sleep 100000");
    case.run().refused_with(&["hook poststart[0]"]);
    case.nothing_left("a run whose poststart hook failed");
}

#[test]
fn a_failing_poststop_hook_does_not_keep_the_container() {
    let mut case = case!("hookstop");
    let log_file = case.text("log");
    case.alter(|c| c["hooks"] = json!({"poststop": [hook("exit 3"), hook(&format!("echo second >> '{log_file}'"))]}));
    case.running();
    case.stop();
    let _ = case.call(&["delete", &case.id]);
    case.nothing_left("delete");
    if common::is_tandem() {
        assert_eq!(log(&case), ["second"], "the remaining hooks run");
    }
}

#[test]
fn a_hook_that_takes_too_long_is_killed_and_fails_the_create() {
    let mut case = case!("hooktime");
    let id = case.id.clone();
    case.alter(|c| {
        let mut slow = hook(&format!("TANDEM_TEST={id} exec sleep 100000"));
        slow["timeout"] = json!(1);
        c["hooks"] = json!({"createRuntime": [slow]});
    });
    let outcome = case.create_with(&[]);
    assert_ne!(outcome.code(), 0, "{}", outcome.all());
    if common::is_tandem() {
        let line = outcome.refused();
        assert!(line.contains("createRuntime") && line.contains("time"), "{line}");
        case.nothing_left("a hook's timeout");
    }
}

#[test]
fn poststop_runs_for_a_forced_delete_and_after_a_run() {
    let mut case = case!("hookforce");
    let log_file = case.text("log");
    case.alter(|c| c["hooks"] = json!({"poststop": [hook(&format!("echo stop >> '{log_file}'"))]}));
    case.running();
    case.call(&["delete", "--force", &case.id]).ok();
    assert_eq!(log(&case), ["stop"]);
    case.args(&["true"]);
    case.run().ok();
    assert_eq!(log(&case), ["stop", "stop"]);
}

#[test]
fn a_hook_whose_path_is_not_absolute_is_refused() {
    let mut case = case!("hookpath");
    case.alter(|c| c["hooks"] = json!({"createRuntime": [{"path": "bin/true"}]}));
    let outcome = case.create_with(&[]);
    assert_ne!(outcome.code(), 0);
    if common::is_tandem() {
        outcome.refused_with(&["createRuntime"]);
        case.nothing_left("a refused create");
    }
}
