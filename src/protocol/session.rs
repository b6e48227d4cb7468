//! One end of a conversation: a channel that keeps to the sequence and tells the recorder.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use serde::{Serialize, de::DeserializeOwned};

use super::ProtocolError;
use super::channel::{Channel, Received};
use super::codec::{self, PART_SIZE, PAYLOAD_CAP};
use super::event::{Event, Recorder, Sort};
use super::message::{Part, ToChild, ToParent, Wire};
use super::sequence::{Direction, Kind, Sequence, Shape};
use crate::error::{Context, Error, Result};

/// One end: what it sends, what it receives.
#[derive(Debug)]
pub struct Session<Out, In> {
    channel: Channel,
    sequence: Sequence,
    sends: Direction,
    receives: Direction,
    /// What this side did; the child's is sent to the parent, the parent's is written to the trace file.
    pub recorder: Recorder,
    _messages: std::marker::PhantomData<(Out, In)>,
}

/// The parent's end.
pub type ParentSession = Session<ToChild, ToParent>;
/// The child's end.
pub type ChildSession = Session<ToParent, ToChild>;

impl ParentSession {
    /// The parent's end of a conversation.
    pub fn parent(channel: Channel, sequence: Sequence, recorder: Recorder) -> ParentSession {
        Session::with(channel, sequence, Direction::ToChild, Direction::ToParent, recorder)
    }

    /// Sends the plan in as many parts as it needs.
    ///
    /// # Errors
    /// A plan over the cap, or the channel's.
    pub fn send_plan<T: Serialize>(&mut self, plan: &T) -> Result<()> {
        let bytes = codec::encode_payload(plan)?;
        self.send_parts(&bytes, ToChild::Plan)
    }

    /// Sends the seccomp filter in as many parts as it needs.
    ///
    /// # Errors
    /// The channel's.
    pub fn send_filter(&mut self, program: &[u8]) -> Result<()> {
        self.send_parts(program, ToChild::Filter)
    }

    fn send_parts(&mut self, bytes: &[u8], message: impl Fn(Part) -> ToChild) -> Result<()> {
        let mut chunks = bytes.chunks(PART_SIZE).peekable();
        loop {
            let chunk = chunks.next().unwrap_or_default();
            let last = chunks.peek().is_none();
            self.send(message(Part { bytes: chunk.to_vec(), last }), &[])?;
            if last {
                return Ok(());
            }
        }
    }
}

impl ChildSession {
    /// The child's end of a conversation that opens with a plan.
    pub fn child(channel: Channel, sequence: Sequence, recorder: Recorder) -> ChildSession {
        Session::with(channel, sequence, Direction::ToParent, Direction::ToChild, recorder)
    }

    /// Waits for the plan, which decides the rest of the conversation.
    ///
    /// # Errors
    /// A broken protocol, or a plan that does not decode.
    pub fn receive_plan<T: DeserializeOwned>(&mut self, shape: impl Fn(&T) -> Shape) -> Result<T> {
        let bytes = self.receive_parts(Kind::Plan)?;
        let plan = codec::decode_payload(&bytes)?;
        self.sequence = Sequence::after_plan(shape(&plan));
        Ok(plan)
    }

    /// Waits for the seccomp filter.
    ///
    /// # Errors
    /// A broken protocol.
    pub fn receive_filter(&mut self) -> Result<Vec<u8>> {
        self.receive_parts(Kind::Filter)
    }

    fn receive_parts(&mut self, kind: Kind) -> Result<Vec<u8>> {
        let mut payload = Vec::new();
        loop {
            let (message, _) = self.expect(kind)?;
            let (ToChild::Plan(part) | ToChild::Filter(part)) = message else {
                return Err(ProtocolError::Inconsistent(format!("{} has no parts", kind.name())).into());
            };
            payload.extend_from_slice(&part.bytes);
            if payload.len() > PAYLOAD_CAP {
                return Err(ProtocolError::PayloadTooBig(payload.len()).into());
            }
            if part.last {
                return Ok(payload);
            }
        }
    }

    /// A copy of this end that can say one thing more: here is the listener. For a thread that no filter holds.
    ///
    /// # Errors
    /// The message is not legal here, or no fd is left.
    pub fn for_listener(&mut self) -> Result<Channel> {
        let socket =
            rustix::io::fcntl_dupfd_cloexec(self.channel.socket(), 0).context(|| "duplicate the sync socket")?;
        self.was_sent(Kind::Listener)?;
        Ok(Channel::from_socket(socket))
    }

    /// Sends what was recorded since the last time. Nothing when not tracing.
    ///
    /// # Errors
    /// The channel's.
    pub fn flush_trace(&mut self) -> Result<()> {
        let mut events = self.recorder.take().into_iter().peekable();
        while let Some(first) = events.next() {
            let mut size = first.size();
            let mut frame = vec![first];
            // As many as a frame holds.
            while let Some(event) = events.next_if(|event| size + event.size() < PART_SIZE) {
                size += event.size();
                frame.push(event);
            }
            self.channel.send(&ToParent::Trace(frame), &[])?;
        }
        Ok(())
    }

    /// Reports the failure that ends this side. What can't be sent is lost with the parent that would have read it.
    pub fn fail(&mut self, error: Error) {
        const LINK_CAP: usize = 4096;
        let error = error.shortened(LINK_CAP);
        self.recorder.error(&error);
        let _ = self.flush_trace();
        let _ = self.send(ToParent::Failed(error), &[]);
    }
}

#[allow(private_bounds)]
impl<Out: Wire, In: Wire + IntoSignal> Session<Out, In> {
    fn with(channel: Channel, sequence: Sequence, sends: Direction, receives: Direction, recorder: Recorder) -> Self {
        Session { channel, sequence, sends, receives, recorder, _messages: std::marker::PhantomData }
    }

    /// Sends a message with the fds that it announces.
    ///
    /// # Errors
    /// A message that is not legal here, or the channel's.
    pub fn send(&mut self, message: Out, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let kind = message.kind();
        self.sequence.advance(self.sends, kind, message.is_last())?;
        let numbers = || fds.iter().map(AsRawFd::as_raw_fd).collect();
        // Recorded before it leaves: the other side must never have it at an earlier time.
        if self.recorder.is_on() {
            self.recorder.message(Sort::Send, kind.name(), || message.summary(), numbers());
        }
        self.channel.send(&message, fds).map(drop)
    }

    /// A copy of this side, in the process it was forked from, has sent a message of this kind.
    ///
    /// # Errors
    /// It is not legal here.
    pub fn was_sent(&mut self, kind: Kind) -> Result<()> {
        Ok(self.sequence.advance(self.sends, kind, true)?)
    }

    /// Waits for a message of this kind. Traces that come before it are taken over.
    ///
    /// # Errors
    /// What the other side reports as its failure, a broken protocol, or the end.
    pub fn expect(&mut self, kind: Kind) -> Result<(In, Vec<OwnedFd>)> {
        match self.next()? {
            Some((message, fds)) if message.kind() == kind => Ok((message, fds)),
            Some((message, _)) => {
                let expected = kind.name().to_owned();
                Err(ProtocolError::OutOfOrder { expected, got: message.kind().name() }.into())
            }
            None => Err(ProtocolError::EarlyEof { expected: kind.name().to_owned() }.into()),
        }
    }

    /// Waits for the other side to close its end.
    ///
    /// # Errors
    /// What it reports as its failure, or a broken protocol.
    pub fn expect_end(&mut self) -> Result<()> {
        match self.next()? {
            None => Ok(()),
            Some((message, _)) => {
                Err(ProtocolError::OutOfOrder { expected: "the end".into(), got: message.kind().name() }.into())
            }
        }
    }

    /// Whether the other side closes its end within a time.
    ///
    /// # Errors
    /// As [`Session::expect_end`].
    pub fn ends_within(&mut self, time: std::time::Duration) -> Result<bool> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let time = Timespec::try_from(time).map_err(|e| Error::system(e.to_string()))?;
        let mut fds = [PollFd::from_borrowed_fd(self.channel.socket(), PollFlags::IN)];
        match rustix::io::retry_on_intr(|| poll(&mut fds, Some(&time))).context(|| "poll the sync socket")? {
            0 => Ok(false),
            _ => self.expect_end().map(|()| true),
        }
    }

    /// What the other side said last, after a send has failed: its failure, if it reported one. Whatever it said before
    /// no longer matters.
    pub fn last_words(&mut self) -> Option<Error> {
        loop {
            let Ok(Received::Message(message, ..)) = self.channel.receive::<In>() else { return None };
            match message.into_signal() {
                Signal::Trace(events) => self.recorder.absorb(events),
                Signal::Failure(error) => return Some(error),
                Signal::None(_) => {}
            }
        }
    }

    /// The next message that is not a trace; None at the end.
    fn next(&mut self) -> Result<Option<(In, Vec<OwnedFd>)>> {
        loop {
            let Received::Message(message, fds, _) = self.channel.receive::<In>()? else {
                return Ok(None);
            };
            self.sequence.advance(self.receives, message.kind(), message.is_last())?;
            let message = match message.into_signal() {
                Signal::Trace(events) => {
                    self.recorder.absorb(events);
                    continue;
                }
                Signal::Failure(error) => return Err(error),
                Signal::None(message) => message,
            };
            if self.recorder.is_on() {
                let numbers = fds.iter().map(AsRawFd::as_raw_fd).collect();
                self.recorder.message(Sort::Receive, message.kind().name(), || message.summary(), numbers);
            }
            return Ok(Some((message, fds)));
        }
    }
}

/// A message that is not part of the sequence, or one that is.
pub(crate) enum Signal<M> {
    Trace(Vec<Event>),
    Failure(Error),
    None(M),
}

/// Sorts the out-of-band messages out.
pub(crate) trait IntoSignal: Sized {
    fn into_signal(self) -> Signal<Self>;
}

impl IntoSignal for ToParent {
    fn into_signal(self) -> Signal<Self> {
        match self {
            ToParent::Trace(events) => Signal::Trace(events),
            ToParent::Failed(error) => Signal::Failure(error),
            message => Signal::None(message),
        }
    }
}

impl IntoSignal for ToChild {
    fn into_signal(self) -> Signal<Self> {
        match self {
            ToChild::Abort { reason } => Signal::Failure(Error::system(reason).context("the parent gave up")),
            message => Signal::None(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Side;
    use super::*;

    fn pair(shape: Shape) -> (ParentSession, ChildSession) {
        let (a, b) = Channel::pair().unwrap();
        let recorder = |side| Recorder::new(side, false);
        (
            ParentSession::parent(a, Sequence::new(shape), recorder(Side::Parent)),
            ChildSession::child(b, Sequence::opening(), recorder(Side::Child)),
        )
    }

    #[test]
    fn a_plan_bigger_than_a_frame_arrives_whole() {
        let (mut parent, mut child) = pair(Shape::default());
        let plan: Vec<String> = (0..40_000).map(|i| format!("NAME_{i}=value")).collect();
        let sent = plan.clone();
        let sender = std::thread::spawn(move || parent.send_plan(&sent).map(|()| parent).unwrap());
        assert_eq!(child.receive_plan(|_: &Vec<String>| Shape::default()).unwrap(), plan);
        let mut parent = sender.join().unwrap();
        parent.send(ToChild::Begin, &[rustix::stdio::stdin()]).unwrap();
        assert_eq!(child.expect(Kind::Begin).unwrap().1.len(), 1);
    }

    #[test]
    fn a_failure_of_the_child_is_the_parents_error_word_for_word() {
        let (mut parent, mut child) = pair(Shape::default());
        let error = Error::call("mount `/proc`", rustix::io::Errno::PERM).context("set up mounts");
        child.fail(error.clone());
        assert_eq!(parent.expect(Kind::NamespacesReady).unwrap_err(), error);
    }

    #[test]
    fn a_child_that_skips_a_step_is_refused() {
        let (mut parent, child) = pair(Shape { terminal: true, ..Shape::default() });
        child.channel.send(&ToParent::NamespacesReady, &[]).unwrap();
        child.channel.send(&ToParent::Ready, &[]).unwrap();
        parent.expect(Kind::NamespacesReady).unwrap();
        let error = parent.expect(Kind::Console).unwrap_err();
        assert_eq!(error.to_string(), "sync protocol: expected Console, got Ready");
    }

    #[test]
    fn an_early_end_says_what_was_awaited() {
        let (mut parent, child) = pair(Shape::default());
        drop(child);
        let error = parent.expect(Kind::NamespacesReady).unwrap_err();
        assert_eq!(error.to_string(), "sync protocol: the other side closed the socket; expected NamespacesReady");
    }

    #[test]
    fn an_abort_ends_the_child() {
        let (mut parent, mut child) = pair(Shape::default());
        parent.send(ToChild::Abort { reason: "no cgroup".into() }, &[]).unwrap();
        let error = child.receive_plan(|_: &u8| Shape::default()).unwrap_err();
        assert_eq!(error.to_string(), "the parent gave up: no cgroup");
    }
}
