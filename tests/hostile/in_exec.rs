//! The same child, in a container that runs.

use std::path::Path;

use tandem::error::Result;
use tandem::parent::exec::Request;
use tandem::parent::trace::TraceFile;
use tandem::state::StateRoot;

use crate::common::case::Case;
use crate::common::console::ConsoleSocket;

/// What `tandem exec --detach` does, with this program as the child; with a terminal, if there is a socket to send it to.
pub(crate) fn exec(id: &str, state: &StateRoot, console: Option<&Path>, trace: &TraceFile) -> Result<()> {
    let request = Request {
        id,
        state,
        process: &|default, _| {
            let mut process = default.clone();
            process.set_terminal(Some(console.is_some()));
            Ok(process)
        },
        cgroups: &[],
        pid_file: None,
        console_socket: console,
        pidfd_socket: None,
        no_new_keyring: true,
        preserve_fds: 0,
        detached: true,
        ignore_paused: false,
        signals: None,
        trace,
    };
    tandem::parent::exec::exec(&request).map(drop)
}

const HONEST: [(&str, &str); 5] = [
    ("say NamespacesReady", "NamespacesReady"),
    ("say Console terminal", "Console"),
    ("enter", "Forked"),
    ("say Ready", "Ready"),
    ("say Executing", "Executing"),
];

/// A container that runs, and a socket for terminals.
fn running(name: &'static str) -> (Case, ConsoleSocket) {
    let mut case = Case::new(name);
    // Where somebody may look, the process is born last: `Forked` is among the messages.
    let all = case.config["process"]["capabilities"].clone();
    case.alter(|c| {
        for (set, rights) in all.as_object().expect("sets") {
            let mut rights = rights.as_array().cloned().unwrap_or_default();
            rights.push("CAP_SYS_PTRACE".into());
            c["process"]["capabilities"][set] = rights.into();
        }
    });
    case.running();
    let console = ConsoleSocket::new(&case.path("console.sock"));
    (case, console)
}

/// The parent refuses, nothing is left of the child, and the container goes on.
fn refuses(case: &Case, script: &[&str], parts: &[&str]) {
    let outcome = super::with_script(case, "exec", script);
    outcome.refused_with(parts);
    assert_eq!(outcome.out(), "fds left: 0\n", "{}", outcome.all());
    let processes = case.call(&["ps", "--format", "json", &case.id]).ok().out();
    let processes: Vec<u32> = serde_json::from_str(&processes).expect("a list of processes");
    assert_eq!(processes, [case.pid()], "only the first process is left");
}

fn end(case: &Case) {
    case.exec(&["true"]).ok();
    case.delete_by_force();
    case.nothing_left("a hostile exec");
}

pub(crate) fn every_message_in_every_state() {
    let (case, _console) = running("execorder");
    super::out_of_order(&HONEST, |script, why| refuses(&case, script, &[why]));
    end(&case);
}

pub(crate) fn a_child_that_stalls_in_any_state_is_killed() {
    let (case, _console) = running("execstall");
    super::silent(&HONEST, |script, why| refuses(&case, script, &[why, "killed", "TANDEM_CHILD_TIMEOUT"]));
    end(&case);
}

pub(crate) fn wrong_fds_are_named_and_closed() {
    let (case, _console) = running("execfds");
    for kind in ["directory", "socket", "file", "pipe", "device", "anonymous"] {
        let lie = format!("say Console {kind}");
        let script = ["hear Plan", "say NamespacesReady", &lie, "stall"];
        refuses(&case, &script, &["the child sent something else than a terminal's master"]);
    }
    let many = ["hear Plan", "say NamespacesReady", "many Console", "stall"];
    refuses(&case, &many, &["Console announced 1 fds and came with 253"]);
    let none = ["hear Plan", "say NamespacesReady", "say Console", "stall"];
    refuses(&case, &none, &["Console announced 1 fds and came with 0"]);
    refuses(&case, &["hear Plan", "say Forked", "stall"], &["expected NamespacesReady, got Forked"]);
    refuses(&case, &["hear Plan", "die"], &["the other side closed the socket; expected NamespacesReady"]);
    end(&case);
}

pub(crate) fn a_process_that_is_not_in_the_container_is_not_believed() {
    let (case, _console) = running("execelsewhere");
    let honest = ["hear Plan", "say NamespacesReady", "say Console terminal"];
    let lies: [(&[&str], &str); 4] = [
        (&["say Forked"], "no child of this one"),
        (&["say Forked:self"], "itself"),
        (&["fork", "say Forked:forked"], "in another pid namespace than planned"),
        (&["unshare pid", "fork", "say Forked:forked"], "in another pid namespace than planned"),
    ];
    for (lie, why) in lies {
        let script = [&honest[..], lie, &["stall"]].concat();
        let outcome = super::with_script(&case, "exec", &script);
        outcome.refused_with(&["as its process, which is", why]);
        assert_eq!(outcome.out(), "fds left: 0\n", "{}", outcome.all());
    }
    // What it has forked is in the container's cgroup, and ends with it.
    end(&case);
}
