//! One end of a SOCK_SEQPACKET pair: a frame and its fds in one sendmsg(2), or a typed error.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use super::ProtocolError;
use super::codec::{self, FDS_CAP, FRAME_CAP};
use super::message::Wire;
use super::recording::{Tape, borrowed};
use super::sequence::Direction;
use crate::error::{Context, Error, Result};

/// Where frames are received. One byte more than the cap, so that an oversize frame is told apart from a full one. The kernel
/// touches as many of its pages as a frame has; one from the heap would be cleared, and so touched, for each.
static FRAME: Mutex<[u8; FRAME_CAP + 1]> = Mutex::new([0; FRAME_CAP + 1]);

/// One end. Dropping it closes it.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    /// Where the parent's end records what goes through it.
    tape: Option<Tape>,
}

/// What came: a message with its fds, or the end.
#[derive(Debug)]
pub enum Received<M> {
    /// A message, its fds in order, and the size of its frame in bytes.
    Message(M, Vec<OwnedFd>, usize),
    /// The peer has closed its end.
    Eof,
}

impl Channel {
    /// A connected pair, both close-on-exec.
    ///
    /// # Errors
    /// socketpair(2)'s.
    pub fn pair() -> Result<(Channel, Channel)> {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .context(|| "socketpair for the sync protocol")?;
        Ok((Channel::from_socket(a), Channel::from_socket(b)))
    }

    /// Takes a connected SOCK_SEQPACKET socket.
    pub fn from_socket(socket: OwnedFd) -> Channel {
        Channel { socket, tape: None }
    }

    /// The same end, the parent's, recorded to the file that the environment names, if it names one.
    ///
    /// # Errors
    /// [`Tape::asked_for`]'s.
    pub fn recorded(self, command: &str) -> Result<Channel> {
        Ok(Channel { tape: Tape::asked_for(command)?, ..self })
    }

    /// Sends any bytes with any fds, as a peer that keeps to nothing does.
    ///
    /// # Errors
    /// sendmsg(2)'s.
    pub fn send_raw(&self, frame: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.send_frame(None, frame, fds, || "send a frame".into())
    }

    fn send_frame(
        &self,
        by: Option<Instant>,
        frame: &[u8],
        fds: &[BorrowedFd<'_>],
        doing: impl Fn() -> String,
    ) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_CAP))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Error::system("no room for its fds").context(doing()));
        }
        let flags = if by.is_some() { SendFlags::NOSIGNAL | SendFlags::DONTWAIT } else { SendFlags::NOSIGNAL };
        loop {
            let send = || sendmsg(&self.socket, &[IoSlice::new(frame)], &mut control, flags);
            match rustix::io::retry_on_intr(send) {
                Err(Errno::AGAIN) if self.ready_by(by, PollFlags::OUT)? => {}
                sent => return sent.context(doing).map(drop),
            }
        }
    }

    /// Takes a frame off the socket, whatever it is; its fds are closed.
    ///
    /// # Errors
    /// recvmsg(2)'s.
    pub fn receive_raw(&self) -> Result<Vec<u8>> {
        let mut frame = vec![0u8; FRAME_CAP + 1];
        let read = rustix::io::retry_on_intr(|| rustix::net::recv(&self.socket, &mut frame[..], RecvFlags::empty()));
        let (read, _) = read.context(|| "receive a frame")?;
        frame.truncate(read);
        Ok(frame)
    }

    /// Sends a message with its fds and returns the size of its frame in bytes.
    ///
    /// # Errors
    /// A frame over the cap, fds that don't match the message, or sendmsg(2)'s (EPIPE where the peer is gone).
    pub fn send<M: Wire>(&self, message: &M, fds: &[BorrowedFd<'_>]) -> Result<usize> {
        self.send_by(None, message, fds)
    }

    /// The same, by a deadline: a peer that does not read leaves no room in the socket.
    ///
    /// # Errors
    /// As [`Channel::send`]; EAGAIN where the deadline has passed.
    pub fn send_by<M: Wire>(&self, by: Option<Instant>, message: &M, fds: &[BorrowedFd<'_>]) -> Result<usize> {
        let announced = message.fds();
        if announced != fds.len() || announced > FDS_CAP {
            let message = message.kind().name();
            return Err(ProtocolError::FdCount { message, announced, received: fds.len() }.into());
        }
        let frame = codec::encode(message)?;
        if let Some(tape) = &self.tape {
            tape.frame(Direction::ToChild, &frame, fds)?;
        }
        let doing = || format!("send {} on the sync socket", message.kind().name());
        self.send_frame(by, &frame, fds, doing).map(|()| frame.len())
    }

    /// Waits until the peer has said something, or closed its end. False where the deadline has passed before.
    ///
    /// # Errors
    /// poll(2)'s.
    pub fn readable_by(&self, by: Option<Instant>) -> Result<bool> {
        self.ready_by(by, PollFlags::IN)
    }

    fn ready_by(&self, by: Option<Instant>, what: PollFlags) -> Result<bool> {
        let Some(by) = by else { return Ok(true) };
        loop {
            let left = by.saturating_duration_since(Instant::now());
            // A day at a time: no timeout is too long for the call.
            let time =
                Timespec::try_from(left.min(Duration::from_secs(86_400))).map_err(|e| Error::system(e.to_string()))?;
            let mut fds = [PollFd::from_borrowed_fd(self.socket(), what)];
            match poll(&mut fds, Some(&time)) {
                Ok(0) if left.is_zero() => return Ok(false),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(errno) => return Err(Error::call("poll the sync socket", errno)),
            }
        }
    }

    /// Waits for the next message. Fds that came with a frame that is refused are closed.
    ///
    /// # Errors
    /// Each malformed frame as its own [`ProtocolError`].
    pub fn receive<M: Wire>(&self) -> Result<Received<M>> {
        match FRAME.try_lock() {
            Ok(mut frame) => self.receive_into(&mut *frame),
            // Another thread waits for a frame in it, or a test has panicked there.
            Err(_) => self.receive_into(&mut vec![0; FRAME_CAP + 1]),
        }
    }

    fn receive_into<M: Wire>(&self, frame: &mut [u8]) -> Result<Received<M>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_CAP))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut receive = || {
            rustix::io::retry_on_intr(|| {
                let mut buffers = [IoSliceMut::new(frame)];
                recvmsg(&self.socket, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)
            })
        };
        let received = match receive() {
            // The peer closed its end with a message of ours unread. The kernel says so once, ahead of what the peer
            // had still to say, which is usually why.
            Err(rustix::io::Errno::CONNRESET) => receive(),
            received => received,
        };
        let received = match received {
            Ok(received) => received,
            Err(rustix::io::Errno::CONNRESET) => return Ok(Received::Eof),
            Err(errno) => return Err(Error::call("receive on the sync socket", errno)),
        };
        // Taken out first, so that every error below closes them.
        let fds: Vec<OwnedFd> = control
            .drain()
            .filter_map(|m| match m {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds.collect::<Vec<_>>()),
                _ => None,
            })
            .flatten()
            .collect();
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(ProtocolError::FdsTruncated.into());
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(match received.bytes > FRAME_CAP {
                true => ProtocolError::Oversize(received.bytes),
                false => ProtocolError::Truncated,
            }
            .into());
        }
        if received.bytes == 0 && fds.is_empty() {
            return Ok(Received::Eof);
        }
        if let Some(tape) = &self.tape {
            tape.frame(Direction::ToParent, &frame[..received.bytes], &borrowed(&fds))?;
        }
        let message: M = codec::decode(&frame[..received.bytes])?;
        if message.fds() != fds.len() {
            let (announced, kind) = (message.fds(), message.kind().name());
            return Err(ProtocolError::FdCount { message: kind, announced, received: fds.len() }.into());
        }
        Ok(Received::Message(message, fds, received.bytes))
    }

    /// The socket alone.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// The socket, to hand to the child image.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Part, Slot, ToChild, ToParent};
    use super::*;
    use crate::error::Kind as ErrorKind;

    fn raw_send(channel: &Channel, frame: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_CAP))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        sendmsg(channel.socket(), &[IoSlice::new(frame)], &mut control, SendFlags::NOSIGNAL).unwrap();
    }

    fn refusal(channel: &Channel) -> String {
        let error = channel.receive::<ToChild>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        error.to_string()
    }

    /// A pipe whose write end tells whether all copies of the read end are closed.
    fn watched_fd() -> (OwnedFd, impl Fn() -> bool) {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let closed = move || {
            let mut poll = [rustix::event::PollFd::new(&write, rustix::event::PollFlags::empty())];
            rustix::event::poll(&mut poll, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
            poll[0].revents().contains(rustix::event::PollFlags::ERR)
        };
        (read, closed)
    }

    #[test]
    fn fds_ride_with_their_message() {
        let (parent, child) = Channel::pair().unwrap();
        let (fd, closed) = watched_fd();
        let message = ToChild::Mounts { slots: vec![Slot::Tree], last: true };
        parent.send(&message, &[fd.as_fd()]).unwrap();
        drop(fd);
        let Received::Message(got, fds, _) = child.receive::<ToChild>().unwrap() else { panic!("eof") };
        assert_eq!((got, fds.len()), (message, 1));
        assert!(!closed());
        drop(fds);
        assert!(closed());
    }

    #[test]
    fn a_wrong_fd_count_is_an_error_and_leaks_no_fd() {
        let (parent, child) = Channel::pair().unwrap();
        let (fd, closed) = watched_fd();
        raw_send(&parent, &codec::encode(&ToChild::HooksDone).unwrap(), &[fd.as_fd()]);
        drop(fd);
        assert_eq!(refusal(&child), "sync protocol: HooksDone announced 0 fds and came with 1");
        assert!(closed());
        let message = ToChild::Mounts { slots: vec![Slot::Tree; 3], last: true };
        raw_send(&parent, &codec::encode(&message).unwrap(), &[]);
        assert_eq!(refusal(&child), "sync protocol: Mounts announced 3 fds and came with 0");
    }

    #[test]
    fn a_malformed_frame_leaks_no_fd() {
        let (parent, child) = Channel::pair().unwrap();
        for frame in [&[200u8][..], &[2, 0, 0], &[]] {
            let (fd, closed) = watched_fd();
            raw_send(&parent, frame, &[fd.as_fd()]);
            drop(fd);
            assert!(refusal(&child).starts_with("sync protocol: "));
            assert!(closed());
        }
    }

    #[test]
    fn an_oversize_frame_is_told_apart_from_a_full_one() {
        let (parent, child) = Channel::pair().unwrap();
        let part = |len| ToChild::Plan(Part { bytes: vec![7; len], last: true });
        parent.send(&part(codec::PART_SIZE), &[]).unwrap();
        assert!(matches!(child.receive::<ToChild>().unwrap(), Received::Message(..)));
        raw_send(&parent, &vec![0; FRAME_CAP + 1], &[]);
        assert!(refusal(&child).contains("over the cap"));
        raw_send(&parent, &vec![0; FRAME_CAP + 2], &[]);
        assert!(refusal(&child).contains("over the cap"));
    }

    #[test]
    fn fds_that_find_no_room_are_ctrunc_and_none_leaks() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        // In a process of its own: the limit is the process's, and other tests open files.
        if std::env::var_os("TANDEM_TEST_CTRUNC").is_none() {
            let status = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "protocol::channel::tests::fds_that_find_no_room_are_ctrunc_and_none_leaks"])
                .env("TANDEM_TEST_CTRUNC", "1")
                .stdout(std::process::Stdio::null())
                .status()
                .unwrap();
            assert!(status.success());
            return;
        }
        let (parent, child) = Channel::pair().unwrap();
        let (fd, closed) = watched_fd();
        raw_send(&parent, &codec::encode(&ToChild::HooksDone).unwrap(), &[fd.as_fd(); 20]);
        drop(fd);
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: Some(open + 4), maximum }).unwrap();
        assert!(refusal(&child).contains("MSG_CTRUNC"));
        assert!(closed());
    }

    #[test]
    fn the_end_is_told() {
        let (parent, child) = Channel::pair().unwrap();
        parent.send(&ToChild::HooksDone, &[]).unwrap();
        drop(parent);
        assert!(matches!(child.receive::<ToChild>().unwrap(), Received::Message(ToChild::HooksDone, ..)));
        assert!(matches!(child.receive::<ToChild>().unwrap(), Received::Eof));
        assert!(child.send(&ToParent::Ready, &[]).is_err());
    }

    #[test]
    fn last_words_are_heard_though_ours_were_not() {
        let (parent, child) = Channel::pair().unwrap();
        parent.send(&ToChild::HooksDone, &[]).unwrap();
        child.send(&ToParent::Failed(Error::system("why")), &[]).unwrap();
        drop(child);
        let Received::Message(words, ..) = parent.receive::<ToParent>().unwrap() else { panic!("eof") };
        assert_eq!(words, ToParent::Failed(Error::system("why")));
        assert!(matches!(parent.receive::<ToParent>().unwrap(), Received::Eof));
    }

    #[test]
    fn a_sender_checks_its_own_fds() {
        let (parent, _child) = Channel::pair().unwrap();
        let (fd, _) = watched_fd();
        assert!(parent.send(&ToChild::HooksDone, &[fd.as_fd()]).is_err());
        let slots = vec![Slot::Tree; FDS_CAP + 1];
        let fds = vec![fd.as_fd(); FDS_CAP + 1];
        assert!(parent.send(&ToChild::Mounts { slots, last: true }, &fds).is_err());
    }
}
