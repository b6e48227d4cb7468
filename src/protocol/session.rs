//! One end of a conversation: a channel that keeps to the sequence and tells the recorder.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use serde::{Serialize, de::DeserializeOwned};

use super::ProtocolError;
use super::channel::{Channel, Received};
use super::codec::{self, PART_SIZE, PAYLOAD_CAP, TRACE_CAP};
use super::event::{Event, Recorder, Sort};
use super::message::{Part, ToChild, ToParent, Wire};
use super::sequence::{Direction, Kind, Sequence, Shape};
use crate::error::{Context, Error, Result};

/// The step that is to wait for a message that does not come.
const WAIT: &str = "wait for";

/// One end: what it sends, what it receives.
#[derive(Debug)]
pub struct Session<Out, In> {
    channel: Channel,
    sequence: Sequence,
    sends: Direction,
    receives: Direction,
    /// How long one message may take to come or to leave; None for ever.
    patience: Option<Duration>,
    /// What the traces that came take in memory.
    traced: usize,
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
        // All parts together are one message.
        let by = self.deadline();
        let mut chunks = bytes.chunks(PART_SIZE).peekable();
        loop {
            let chunk = chunks.next().unwrap_or_default();
            let last = chunks.peek().is_none();
            self.send_by(by, message(Part { bytes: chunk.to_vec(), last }), &[])?;
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
        let _messages = std::marker::PhantomData;
        Session { channel, sequence, sends, receives, patience: None, traced: 0, recorder, _messages }
    }

    /// The same end, which waits at most this long for one message, and to get rid of one; None for ever.
    pub fn patient(mut self, patience: Option<Duration>) -> Self {
        self.patience = patience;
        self
    }

    fn deadline(&self) -> Option<Instant> {
        self.patience.and_then(|patience| Instant::now().checked_add(patience))
    }

    fn stalled(&self, doing: String) -> Error {
        let waited = self.patience.unwrap_or_default();
        ProtocolError::Stalled { doing, waited }.into()
    }

    /// Sends a message with the fds that it announces.
    ///
    /// # Errors
    /// A message that is not legal here, the channel's, or [`ProtocolError::Stalled`].
    pub fn send(&mut self, message: Out, fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.send_by(self.deadline(), message, fds)
    }

    fn send_by(&mut self, by: Option<Instant>, message: Out, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let kind = message.kind();
        self.advance(self.sends, kind, message.is_last())?;
        let numbers = || fds.iter().map(AsRawFd::as_raw_fd).collect();
        // Recorded before it leaves: the other side must never have it at an earlier time.
        if self.recorder.is_on() {
            self.recorder.message(Sort::Send, kind.name(), || message.summary(), numbers());
        }
        match self.channel.send_by(by, &message, fds) {
            Err(error) if error.errno() == Some(Errno::AGAIN) => Err(self.stalled(format!("send {}", kind.name()))),
            sent => sent.map(drop),
        }
    }

    /// A copy of this side, in the process it was forked from, has sent a message of this kind.
    ///
    /// # Errors
    /// It is not legal here.
    pub fn was_sent(&mut self, kind: Kind) -> Result<()> {
        self.advance(self.sends, kind, true)
    }

    fn advance(&mut self, direction: Direction, kind: Kind, last: bool) -> Result<()> {
        self.sequence.advance(direction, kind, last)?;
        #[cfg(any(test, fuzzing))]
        crate::kernel::note(direction, kind, last);
        Ok(())
    }

    /// Waits for a message of this kind. Traces that come before it are taken over.
    ///
    /// # Errors
    /// What the other side reports as its failure, a broken protocol, or the end.
    pub fn expect(&mut self, kind: Kind) -> Result<(In, Vec<OwnedFd>)> {
        let since = self.recorder.now();
        match self.next(kind.name())? {
            Some((message, fds)) if message.kind() == kind => Ok((message, fds)),
            Some((message, _)) => {
                let expected = kind.name().to_owned();
                Err(ProtocolError::OutOfOrder { expected, got: message.kind().name() }.into())
            }
            None => {
                let early = Err(ProtocolError::EarlyEof { expected: kind.name().to_owned() }.into());
                self.recorder.failed(WAIT, since, &early, || kind.name().to_owned());
                early
            }
        }
    }

    /// Waits for whichever message is legal next.
    ///
    /// # Errors
    /// As [`Session::expect`], and where none is.
    pub fn expect_next(&mut self) -> Result<(In, Vec<OwnedFd>)> {
        let expected = self.sequence.expected(self.receives);
        match self.next(&expected)? {
            Some(came) => Ok(came),
            None => Err(ProtocolError::EarlyEof { expected }.into()),
        }
    }

    /// Waits for the other side to close its end.
    ///
    /// # Errors
    /// What it reports as its failure, or a broken protocol.
    pub fn expect_end(&mut self) -> Result<()> {
        match self.next("the end")? {
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
    pub fn ends_within(&mut self, time: Duration) -> Result<bool> {
        match self.channel.readable_by(Instant::now().checked_add(time))? {
            false => Ok(false),
            true => self.expect_end().map(|()| true),
        }
    }

    /// What the other side said last, after a send has failed: its failure, if it reported one. Whatever it said before
    /// no longer matters.
    pub fn last_words(&mut self) -> Option<Error> {
        // They are in the socket already, or on their way. One that lives, whatever it did to its end, is not waited for.
        const PATIENCE: Duration = Duration::from_secs(1);
        let by = Instant::now().checked_add(PATIENCE);
        while by.is_some_and(|by| Instant::now() < by) && self.channel.readable_by(by).unwrap_or(false) {
            let Ok(Received::Message(message, ..)) = self.channel.receive::<In>() else { return None };
            match message.into_signal() {
                Signal::Trace(events) => self.absorb(events).ok()?,
                Signal::Failure(error) => return Some(error),
                Signal::None(_) => {}
            }
        }
        None
    }

    /// Takes the one trace over that has come.
    ///
    /// # Errors
    /// What came is none, or is over the cap.
    pub fn take_traces(&mut self) -> Result<()> {
        let Received::Message(message, ..) = self.channel.receive::<In>()? else { return Ok(()) };
        match message.into_signal() {
            Signal::Trace(events) => self.absorb(events),
            Signal::Failure(error) => Err(error),
            Signal::None(_) => Err(ProtocolError::Inconsistent("it is no trace".into()).into()),
        }
    }

    /// Lets the other side know that nothing more is read or said: what it sends fails.
    pub fn hang_up(&self) {
        // Not connected any more is as good.
        let _ = rustix::net::shutdown(self.channel.socket(), rustix::net::Shutdown::Both);
    }

    /// Takes a trace over, up to the cap: who speaks may be anybody.
    fn absorb(&mut self, events: Vec<Event>) -> Result<()> {
        self.traced += events.iter().map(|event| size_of::<Event>() + event.size()).sum::<usize>();
        if self.traced > TRACE_CAP {
            return Err(ProtocolError::TraceTooBig(self.traced).into());
        }
        self.recorder.absorb(events);
        Ok(())
    }

    /// The next message that is not a trace; None at the end. All traces before it are in its time.
    fn next(&mut self, awaited: &str) -> Result<Option<(In, Vec<OwnedFd>)>> {
        let (by, since) = (self.deadline(), self.recorder.now());
        loop {
            if self.recorder.has_lines_to_write() && !self.channel.readable_by(Some(Instant::now()))? {
                self.recorder.write_ahead();
            }
            if by.is_some_and(|by| Instant::now() >= by) || !self.channel.readable_by(by)? {
                let stalled = Err(self.stalled(format!("{WAIT} {awaited}")));
                self.recorder.failed(WAIT, since, &stalled, || awaited.to_owned());
                return stalled;
            }
            let Received::Message(message, fds, _) = self.channel.receive::<In>()? else {
                return Ok(None);
            };
            self.advance(self.receives, message.kind(), message.is_last())?;
            let message = match message.into_signal() {
                Signal::Trace(events) => {
                    self.absorb(events)?;
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

    fn impatient(shape: Shape) -> (ParentSession, ChildSession) {
        let (parent, child) = pair(shape);
        (parent.patient(Some(Duration::from_millis(50))), child)
    }

    #[test]
    fn a_child_that_stalls_is_waited_for_no_longer_than_its_time() {
        let (mut parent, _child) = impatient(Shape::default());
        let error = parent.expect(Kind::NamespacesReady).unwrap_err();
        assert_eq!(error.to_string(), "sync protocol: wait for NamespacesReady: the other side stalled for 50ms");
    }

    #[test]
    fn a_child_that_does_not_read_does_not_hold_the_parent() {
        let (mut parent, _child) = impatient(Shape::default());
        let error = parent.send_plan(&vec![0u8; 4 << 20]).unwrap_err();
        assert_eq!(error.to_string(), "sync protocol: send Plan: the other side stalled for 50ms");
    }

    #[test]
    fn traces_buy_no_time() {
        let (mut parent, child) = impatient(Shape::default());
        let chatter = std::thread::spawn(move || while child.channel.send(&ToParent::Trace(vec![]), &[]).is_ok() {});
        let error = parent.expect(Kind::NamespacesReady).unwrap_err();
        assert!(error.to_string().contains("stalled"), "{error}");
        drop(parent);
        chatter.join().unwrap();
    }

    #[test]
    fn a_flood_of_traces_ends_at_its_cap() {
        let (parent, child) = pair(Shape::default());
        let mut parent = parent.patient(Some(Duration::from_secs(60)));
        let detail = String::new();
        let event = Event {
            at_us: 0,
            took_us: 0,
            side: Side::Child,
            pid: 1,
            event: Sort::Step,
            name: detail.clone().into(),
            object: String::new(),
            mechanism: String::new().into(),
            why: String::new(),
            detail,
            fds: vec![],
        };
        let flood = ToParent::Trace(vec![event; 200]);
        let sender = std::thread::spawn(move || while child.channel.send(&flood, &[]).is_ok() {});
        let error = parent.expect(Kind::NamespacesReady).unwrap_err();
        assert!(error.to_string().contains("over the cap of 67108864"), "{error}");
        drop(parent);
        sender.join().unwrap();
    }

    #[test]
    fn a_child_that_will_not_hear_is_not_waited_for() {
        let (mut parent, child) = pair(Shape::default());
        rustix::net::shutdown(child.channel.socket(), rustix::net::Shutdown::Read).unwrap();
        assert_eq!(parent.send_plan(&0u8).unwrap_err().errno(), Some(Errno::PIPE));
        assert_eq!(parent.last_words(), None);
    }

    #[test]
    fn an_abort_ends_the_child() {
        let (mut parent, mut child) = pair(Shape::default());
        parent.send(ToChild::Abort { reason: "no cgroup".into() }, &[]).unwrap();
        let error = child.receive_plan(|_: &u8| Shape::default()).unwrap_err();
        assert_eq!(error.to_string(), "the parent gave up: no cgroup");
    }
}
