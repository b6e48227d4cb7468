//! The child: does what its script says. Its environment is empty, so the script is in its working directory.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{MemfdFlags, Mode, OFlags};
use tandem::protocol::channel::{Channel, Received};
use tandem::protocol::message::Wire;
use tandem::protocol::recording::FdKind;
use tandem::protocol::{Events, ToChild, ToParent, codec};
use tandem::sys::clone::{Forked, fork_sibling};

/// What the child does, a line a deed.
pub(crate) const SCRIPT: &str = "script";

/// What the kernel calls a seccomp listener.
const LISTENER: &str = "anon_inode:seccomp notify";

pub(crate) fn hostile(socket: i32) {
    let channel = Channel::from_socket(tandem::sys::exec::inherited(socket).expect("the sync socket"));
    let mut forked = 0;
    for deed in fs::read_to_string(SCRIPT).expect("a script").lines() {
        let words: Vec<&str> = deed.split_ascii_whitespace().collect();
        match words[..] {
            ["hear", kind] => hear(&channel, kind),
            ["say", what, ref fds @ ..] => {
                let fds: Vec<OwnedFd> = fds.iter().map(|kind| fd(kind)).collect();
                let frame = codec::encode(&message(what, forked)).expect("encodes");
                // The parent may have hung up by now.
                let _ = channel.send_raw(&frame, &fds.iter().map(AsFd::as_fd).collect::<Vec<_>>());
            }
            ["many", what] => {
                let one = fd("file");
                let frame = codec::encode(&message(what, forked)).expect("encodes");
                let _ = channel.send_raw(&frame, &[one.as_fd(); codec::FDS_CAP]);
            }
            ["bytes", hex] => {
                let bytes = (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex"));
                let _ = channel.send_raw(&bytes.collect::<Vec<_>>(), &[]);
            }
            ["oversize"] => drop(channel.send_raw(&vec![0; codec::FRAME_CAP + 1], &[])),
            ["flood", what] => {
                let frame = codec::encode(&message(what, forked)).expect("encodes");
                while channel.send_raw(&frame, &[]).is_ok() {}
            }
            ["deaf"] => rustix::net::shutdown(channel.socket(), rustix::net::Shutdown::Read).expect("shutdown"),
            ["unshare", kind] => nix::sched::unshare(namespace(kind)).expect("unshare"),
            ["fork"] => match fork_sibling(1).expect("fork") {
                Forked::Parent(pid) => forked = pid,
                Forked::Child => std::thread::sleep(Duration::from_secs(1000)),
            },
            ["enter"] => enter(&channel),
            ["linger"] => drop(Command::new("/bin/sleep").arg("1000").spawn().expect("sleep")),
            ["stall"] => std::thread::sleep(Duration::from_secs(1000)),
            ["die"] => {
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).expect("kill")
            }
            _ => panic!("no deed: {deed}"),
        }
    }
}

/// What an honest child of `exec` does last: it goes on as a process in the container's pid namespace.
fn enter(channel: &Channel) {
    let fds = match channel.receive::<ToChild>() {
        Ok(Received::Message(ToChild::Namespaces { .. }, fds, _)) => fds,
        other => panic!("no namespaces: {other:?}"),
    };
    nix::sched::setns(&fds[0], nix::sched::CloneFlags::CLONE_NEWPID).expect("setns");
    let (named, naming) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
    match fork_sibling(1).expect("fork") {
        Forked::Parent(pid) => {
            let frame = codec::encode(&ToParent::Forked { pid }).expect("encodes");
            let _ = channel.send_raw(&frame, &[]);
            std::process::exit(0);
        }
        Forked::Child => {
            drop(naming);
            rustix::io::read(&named, &mut [0u8; 1]).expect("the end of the other");
        }
    }
}

/// Reads until a message of this kind, or the last part of one, has come.
fn hear(channel: &Channel, kind: &str) {
    loop {
        match channel.receive::<ToChild>() {
            Ok(Received::Message(message, fds, _)) => {
                // Kept: the socket on which `start` calls, too.
                std::mem::forget(fds);
                if message.kind().name() == kind && message.is_last() {
                    return;
                }
            }
            _ => std::process::exit(3),
        }
    }
}

fn message(what: &str, forked: i32) -> ToParent {
    match what {
        "UsernsCreated" => ToParent::UsernsCreated,
        "NamespacesReady" => ToParent::NamespacesReady,
        "RootfsReady" => ToParent::RootfsReady,
        "Console" => ToParent::Console,
        "Ready" => ToParent::Ready,
        "Executing" => ToParent::Executing,
        "Listener" => ToParent::Listener,
        "Trace" => ToParent::Trace(Events::default()),
        "Forked" => ToParent::Forked { pid: 1 },
        "Forked:forked" => ToParent::Forked { pid: forked },
        "Forked:self" => ToParent::Forked { pid: outer_pid() },
        "Forked:negative" => ToParent::Forked { pid: -1 },
        _ => panic!("no message: {what}"),
    }
}

/// This process's number on the host, whose procfs is still mounted.
fn outer_pid() -> i32 {
    let link = fs::read_link("/proc/self").expect("/proc/self");
    link.to_str().and_then(|pid| pid.parse().ok()).expect("a pid")
}

fn namespace(kind: &str) -> nix::sched::CloneFlags {
    match kind {
        "user" => nix::sched::CloneFlags::CLONE_NEWUSER,
        "pid" => nix::sched::CloneFlags::CLONE_NEWPID,
        _ => panic!("no namespace: {kind}"),
    }
}

fn fd(kind: &str) -> OwnedFd {
    let flags = OFlags::CREATE | OFlags::RDWR;
    match kind {
        // What is called as a listener is, and is none.
        "memory-by-name" => return rustix::fs::memfd_create(LISTENER, MemfdFlags::CLOEXEC).expect("memfd"),
        "file-by-name" => return rustix::fs::open(LISTENER, flags, Mode::RUSR).expect("a file"),
        _ => {}
    }
    let kind = FdKind::ALL.into_iter().find(|k| format!("{k:?}").eq_ignore_ascii_case(kind));
    kind.expect("a kind of fd").stand_in().expect("a stand-in")
}
