//! The engine's end of a console socket.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::common::PATIENCE;

pub(crate) struct ConsoleSocket(UnixListener);

/// What came: the terminal's controlling side, and the bytes of the message that carried it.
pub(crate) struct Console {
    pub(crate) fd: OwnedFd,
    pub(crate) bytes: Vec<u8>,
}

impl ConsoleSocket {
    pub(crate) fn new(path: &Path) -> ConsoleSocket {
        ConsoleSocket(UnixListener::bind(path).expect("console socket"))
    }

    /// Receives as conmon does: one SOCK_STREAM connection, one message, one descriptor.
    pub(crate) fn receive(&self) -> Console {
        readable(&self.0, "a connection to the console socket");
        let (stream, _) = self.0.accept().expect("accept");
        readable(&stream, "a message on the console socket");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = vec![0; 4096];
        let got = recvmsg(&stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
            .expect("recvmsg");
        bytes.truncate(got.bytes);
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        assert_eq!(fds.len(), 1, "one descriptor, with {} bytes", bytes.len());
        Console { fd: fds.remove(0), bytes }
    }
}

impl Console {
    /// Reads until what came holds `text`; returns all of it.
    pub(crate) fn read_until(&self, text: &str) -> String {
        let mut all = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            readable(&self.fd, &format!("`{text}` from the terminal, after {}", String::from_utf8_lossy(&all)));
            let n = rustix::io::read(&self.fd, &mut buffer).expect("read from the terminal");
            all.extend(&buffer[..n]);
            let so_far = String::from_utf8_lossy(&all);
            if so_far.contains(text) {
                return so_far.into_owned();
            }
        }
    }

    pub(crate) fn write(&self, text: &str) {
        let n = rustix::io::write(&self.fd, text.as_bytes()).expect("write to the terminal");
        assert_eq!(n, text.len());
    }
}

fn readable(fd: &impl std::os::fd::AsFd, what: &str) {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let timeout = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    let n = poll(&mut fds, Some(&timeout)).expect("poll");
    assert!(n > 0, "gave up waiting for {what}");
}
