//! Seccomp filters that notify: who gets the listener, with what, and that nothing hangs whatever call is notified.

#[macro_use]
mod common;

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;

use common::case::Case;
use common::console::{Console, ConsoleSocket};
use libseccomp::{ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags};
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};

/// A filter that notifies of calls, and whose listener goes to `agent` in the test's directory.
fn notifying(case: &mut Case, calls: &[&str]) {
    let path = case.text("agent");
    case.alter(|c| {
        c["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": calls, "action": "SCMP_ACT_NOTIFY"}],
            "listenerPath": path,
            "listenerMetadata": "of the test",
        });
    });
}

/// Whether a call waits for its answer; false once no process has the filter any more, which before Linux 6.11 only poll(2)
/// tells of: to receive would wait for ever.
fn asked(listener: &Console) -> bool {
    let mut fds = [PollFd::new(&listener.fd, PollFlags::IN)];
    poll(&mut fds, None).unwrap();
    fds[0].revents().contains(PollFlags::IN)
}

/// Answers each call of a listener with an errno, or lets it go on, until no process has the filter any more.
fn answer(listener: &Console, errno: Option<i32>) {
    while asked(listener)
        && let Ok(request) = ScmpNotifReq::receive(listener.fd.as_raw_fd())
    {
        let none = ScmpNotifRespFlags::empty();
        let response = match errno {
            Some(errno) => ScmpNotifResp::new_error(request.id, -errno, none),
            None => ScmpNotifResp::new_continue(request.id, none),
        };
        let _ = response.respond(listener.fd.as_raw_fd());
    }
}

fn state(listener: &Console) -> Value {
    serde_json::from_slice(&listener.bytes).expect("the whole state, in one message")
}

#[test]
fn the_receiver_gets_the_state_and_answers() {
    let mut case = case!("notify");
    tandem_only!("the state");
    notifying(&mut case, &["mkdir", "mkdirat"]);
    case.script("mkdir /tmp/x; echo $? >/answer; exec sleep 100000");
    let agent = ConsoleSocket::new(&case.path("agent"));
    let pid = case.create();
    case.start();
    let listener = agent.receive();
    let state = state(&listener);
    assert_eq!((&state["fds"], &state["pid"]), (&json!(["seccompFd"]), &json!(pid)));
    assert_eq!((&state["metadata"], &state["ociVersion"]), (&json!("of the test"), &case.config["ociVersion"]));
    assert_eq!((&state["state"]["id"], &state["state"]["pid"]), (&json!(case.id), &json!(pid)));
    assert_eq!(state["state"]["status"], "creating");
    std::thread::spawn(move || answer(&listener, Some(libseccomp_errno())));
    let file = case.rootfs().join("answer");
    common::wait_until("the payload has its answer", || fs::read_to_string(&file).is_ok_and(|t| t.ends_with('\n')));
    assert_eq!(common::look::value(&file), "1");
    case.delete_by_force();
}

/// EPERM: what the agent of these tests says.
fn libseccomp_errno() -> i32 {
    rustix::io::Errno::PERM.raw_os_error()
}

/// No call of the runtime between the filter and the handing over may be one that waits for an answer.
#[test]
fn nothing_hangs_whatever_is_notified() {
    tandem_only!("the order of its calls");
    for calls in [&["sendmsg", "sendto"][..], &["write", "futex", "close"], &["execve"], &["munmap", "brk", "mprotect"]]
    {
        let mut case = case!("notifyhang");
        notifying(&mut case, calls);
        case.script("exit 7");
        let agent = ConsoleSocket::new(&case.path("agent"));
        let answers = std::thread::spawn(move || answer(&agent.receive(), None));
        assert_eq!(case.run().code(), 7, "{calls:?}");
        answers.join().unwrap();
    }
}

/// An engine may call `start` and look after its agent only then.
#[test]
fn start_does_not_wait_for_an_answer() {
    let mut case = case!("notifylate");
    tandem_only!("the order of its calls");
    notifying(&mut case, &["execve"]);
    case.script("exec sleep 100000");
    let agent = ConsoleSocket::new(&case.path("agent"));
    let pid = case.create();
    case.start();
    let listener = agent.receive();
    std::thread::spawn(move || answer(&listener, None));
    case.wait_payload(pid);
}

/// A filter for every call is a filter that lets nothing happen unseen, and a state longer than a page still comes whole.
#[test]
fn every_call_may_be_notified() {
    let mut case = case!("notifyall");
    tandem_only!("the order of its calls");
    notifying(&mut case, &["read"]);
    case.alter(|c| {
        c["linux"]["seccomp"]["defaultAction"] = json!("SCMP_ACT_NOTIFY");
        c["linux"]["seccomp"]["syscalls"] = json!([]);
    });
    case.script("exit 3");
    let agent = ConsoleSocket::new(&case.path("agent"));
    let answers = std::thread::spawn(move || answer(&agent.receive(), None));
    assert_eq!(case.run().code(), 3);
    answers.join().unwrap();
}

/// A call that its receiver has taken up is not disturbed by a signal that kills nobody, and begins anew without the flag:
/// that is what the flag is for; seccomp(2), SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV.
#[test]
fn a_call_that_is_taken_up_stays_so_if_the_flag_says_so() {
    tandem_only!("the order of its calls");
    if common::look::kernel() < (5, 19) {
        skip!("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV came with Linux 5.19");
    }
    for flags in [json!([]), json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])] {
        let mut case = case!("notifykill");
        notifying(&mut case, &["chdir"]);
        case.alter(|c| c["linux"]["seccomp"]["flags"] = flags.clone());
        case.script("trap 'echo > /signalled' USR1; cd /tmp; exec sleep 100000");
        let agent = ConsoleSocket::new(&case.path("agent"));
        let pid = case.create();
        case.start();
        let listener = agent.receive();
        assert!(asked(&listener));
        let request = ScmpNotifReq::receive(listener.fd.as_raw_fd()).unwrap();
        case.call(&["kill", &case.id, "USR1"]).ok();
        let waits = || libseccomp::notify_id_valid(listener.fd.as_raw_fd(), request.id).is_ok();
        if flags == json!([]) {
            common::wait_until("the call begins anew", || !waits());
        } else {
            common::wait_until("the signal waits", || common::look::status(pid)["ShdPnd"] != "0000000000000000");
            assert!(waits());
            ScmpNotifResp::new_continue(request.id, ScmpNotifRespFlags::empty())
                .respond(listener.fd.as_raw_fd())
                .unwrap();
        }
        std::thread::spawn(move || answer(&listener, None));
        let file = case.rootfs().join("signalled");
        common::wait_until("the handler has run", || file.exists());
    }
}

#[test]
fn exec_notifies_too() {
    let mut case = case!("notifyexec");
    tandem_only!("the state");
    notifying(&mut case, &["mkdir", "mkdirat"]);
    let agent = ConsoleSocket::new(&case.path("agent"));
    let init = case.running();
    let first = agent.receive();
    let answers = std::thread::spawn(move || {
        let listener = agent.receive();
        let state = state(&listener);
        answer(&listener, Some(libseccomp_errno()));
        state
    });
    let outcome = case.exec(&["sh", "-c", "mkdir /tmp/y; test ! -e /tmp/y && echo kept"]);
    assert_eq!(outcome.out(), "kept\n", "{}", outcome.all());
    let state = answers.join().unwrap();
    assert_ne!(state["pid"], json!(init));
    assert_eq!((&state["state"]["status"], &state["state"]["pid"]), (&json!("running"), &json!(init)));
    drop(first);
}

#[test]
fn the_annotation_and_the_environment_name_the_receiver() {
    tandem_only!("crun's names");
    for by_annotation in [true, false] {
        let mut case = case!("notifyname");
        notifying(&mut case, &["mkdir", "mkdirat"]);
        case.alter(|c| {
            let filter = c["linux"]["seccomp"].as_object_mut().unwrap();
            filter.remove("listenerMetadata");
            filter.remove("listenerPath");
        });
        let path = case.text("agent");
        if by_annotation {
            case.alter(|c| c["annotations"]["run.oci.seccomp.receiver"] = json!(path));
        }
        case.script("mkdir /tmp/x");
        let agent = ConsoleSocket::new(&case.path("agent"));
        let answers = std::thread::spawn(move || answer(&agent.receive(), Some(libseccomp_errno())));
        let mut command = case.command();
        if !by_annotation {
            command.env("RUN_OCI_SECCOMP_RECEIVER", &path);
        }
        command.args(["run", "--bundle", &case.text("bundle"), &case.id]);
        assert_eq!(case.launch(command).wait().code(), 1);
        answers.join().unwrap();
    }
}

#[test]
fn a_receiver_that_is_not_there_is_an_error_and_leaves_nothing() {
    let mut case = case!("notifynone");
    tandem_only!("the words");
    notifying(&mut case, &["mkdir"]);
    case.run().refused_with(&["seccomp receiver", "agent", "No such file or directory"]);
    case.nothing_left("a run without its receiver");
    case.alter(|c| {
        let filter = c["linux"]["seccomp"].as_object_mut().unwrap();
        filter.remove("listenerMetadata");
        filter.remove("listenerPath");
    });
    case.create_with(&[]).refused_with(&["SCMP_ACT_NOTIFY", "listenerPath"]);
}

#[test]
fn a_program_of_the_annotation_takes_the_filters_place() {
    let mut case = case!("bpfdata");
    tandem_only!("crun's names");
    // "Return ALLOW": the filter that forbids mkdir is not looked at.
    case.alter(|c| {
        c["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
        });
    });
    case.script("mkdir /tmp/x");
    assert_eq!(case.run().code(), 1);
    case.delete_by_force();
    case.alter(|c| c["annotations"]["run.oci.seccomp_bpf_data"] = json!("BgAAAAAA/38="));
    case.script("mkdir /tmp/x && grep Seccomp: /proc/self/status");
    let outcome = case.run().ok();
    assert!(outcome.out().contains('2'), "{}", outcome.all());
}

#[test]
fn the_pidfd_receiver_gets_the_pidfd() {
    let mut case = case!("pidfdto");
    tandem_only!("crun's names");
    let path = case.text("agent");
    case.alter(|c| c["annotations"]["run.oci.pidfd_receiver"] = json!(path));
    let agent = ConsoleSocket::new(&case.path("agent"));
    let pid = case.create();
    let got = agent.receive();
    let mut text = String::new();
    let info = format!("/proc/self/fdinfo/{}", got.fd.as_raw_fd());
    fs::File::open(info).unwrap().read_to_string(&mut text).unwrap();
    assert!(text.lines().any(|l| l.split_whitespace().eq(["Pid:", &pid.to_string()])), "{text}");
}

/// The socket's type is AF_UNIX, SOCK_STREAM; one connection, one state.
#[test]
fn one_connection_has_one_state_and_is_closed() {
    let mut case = case!("notifyone");
    tandem_only!("the state");
    notifying(&mut case, &["mkdir"]);
    case.script("exit 0");
    let listener = UnixListener::bind(case.path("agent")).unwrap();
    case.create();
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "create has nothing to say yet");
    case.start();
    listener.set_nonblocking(false).unwrap();
    let mut all = String::new();
    listener.accept().unwrap().0.read_to_string(&mut all).unwrap();
    assert!(serde_json::from_str::<Value>(&all).is_ok(), "{all}");
}

/// Who has been called can't be called again: a receiver that is missing is found out before.
#[test]
fn start_may_be_tried_again_when_the_receiver_is_there() {
    let mut case = case!("notifyagain");
    tandem_only!("the words");
    notifying(&mut case, &["mkdir", "mkdirat"]);
    case.create();
    case.call(&["start", &case.id]).refused_with(&["seccomp receiver", "agent"]);
    assert_eq!(case.status(), "created");
    let agent = ConsoleSocket::new(&case.path("agent"));
    case.start();
    let listener = agent.receive();
    std::thread::spawn(move || answer(&listener, None));
    assert_eq!(case.status(), "running");
    case.delete_by_force();
}
