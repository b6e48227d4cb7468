//! A terminal in the foreground: no console socket, the caller's own terminal is relayed.

#[macro_use]
mod common;

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use common::case::Case;
use common::console::Console;
use common::wait_until;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::json;

/// A terminal of the test's own, as a person's would be.
struct Terminal {
    console: Console,
    slave: OwnedFd,
}

impl Terminal {
    fn new(rows: u16, columns: u16) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("openpt");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new()).expect("ptsname");
        let slave =
            rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).expect("pts");
        let terminal = Terminal { console: Console { fd: master, bytes: Vec::new() }, slave };
        terminal.resize(rows, columns);
        terminal
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.console.fd, size).expect("TIOCSWINSZ");
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave).expect("tcgetattr").local_modes.contains(LocalModes::ICANON)
    }

    /// Starts the runtime on it, as the leader of its session.
    fn spawn(&self, case: &Case, args: &[&str]) -> Child {
        let stream = || Stdio::from(self.slave.try_clone().expect("dup"));
        let mut command: Command = case.command_behind(&["setsid", "--wait", "--ctty"]);
        command.args(args).stdin(stream()).stdout(stream()).stderr(stream());
        command.spawn().expect("setsid (util-linux)")
    }
}

fn assert_ends(case: &Case, mut child: Child, terminal: &Terminal, code: i32) {
    let mut status = None;
    wait_until("the runtime ends", || {
        case.reap();
        status = child.try_wait().expect("wait");
        status.is_some()
    });
    assert_eq!(status.and_then(|s| s.code()), Some(code));
    assert!(!terminal.is_raw(), "the caller's terminal is left raw");
}

/// Shows the size, waits for another one, then for words. The size is right from the start, or a program that asks once
/// lays itself out for the wrong one; a peer sets it when the payload runs already.
fn dialogue() -> String {
    let begin = if common::is_tandem() { "" } else { "sleep 0.3;" };
    format!("tty; {begin} stty size; until stty size | grep '55 99'; do sleep 0.05; done; read a; echo got $a; exit 5")
}

fn converse(case: &Case, child: Child, terminal: &Terminal) {
    let shown = terminal.console.read_until("44 123");
    assert!(shown.contains("/dev/pts/") || shown.contains("/dev/console"), "a terminal of the container's: {shown}");
    assert!(terminal.is_raw(), "the inner terminal echoes and edits, not the outer one");
    terminal.resize(55, 99);
    terminal.console.read_until("55 99");
    terminal.console.write("words\n");
    terminal.console.read_until("got words");
    assert_ends(case, child, terminal, 5);
}

#[test]
fn a_foreground_run_relays_the_callers_terminal() {
    let mut case = case!("ttyrun");
    case.alter(|c| c["process"]["terminal"] = json!(true));
    case.script(&dialogue());
    let terminal = Terminal::new(44, 123);
    let child = terminal.spawn(&case, &["run", "--bundle", &case.text("bundle"), &case.id]);
    converse(&case, child, &terminal);
}

#[test]
fn a_foreground_exec_relays_the_callers_terminal() {
    let case = case!("ttyexec");
    case.running();
    let terminal = Terminal::new(44, 123);
    let child = terminal.spawn(&case, &["exec", "--tty", &case.id, "sh", "-c", &dialogue()]);
    converse(&case, child, &terminal);
    assert_eq!(case.status(), "running");
}

#[test]
fn an_interrupt_typed_at_the_terminal_reaches_the_payload_only() {
    let case = case!("ttyint");
    case.running();
    let terminal = Terminal::new(24, 80);
    let child = terminal.spawn(
        &case,
        &["exec", "-t", &case.id, "sh", "-c", "trap 'exit 9' INT; echo ready; while :; do sleep 0.1; done"],
    );
    terminal.console.read_until("ready");
    terminal.console.write("\u{3}");
    assert_ends(&case, child, &terminal, 9);
    assert_eq!(case.status(), "running");
}
