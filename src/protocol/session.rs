//! One end of a conversation: a channel that keeps to the sequence and tells the recorder. What only one of the two ends says
//! is in files of their names.

mod child;
mod parent;
#[cfg(test)]
mod tests;

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::ProtocolError;
use super::channel::{Channel, Received};
use super::codec::TRACE_CAP;
use super::event::{Recorder, Sort};
use super::message::{Events, ToChild, ToParent, Wire};
use super::sequence::{Direction, Kind, Sequence};
use crate::error::{Error, Result};
use rustix::io::Errno;

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
    /// The other side has reported what ended it.
    failure_came: bool,
    /// What this side did; the child's is sent to the parent, the parent's is written to the trace file.
    pub recorder: Recorder,
    _messages: std::marker::PhantomData<(Out, In)>,
}

/// The parent's end.
pub type ParentSession = Session<ToChild, ToParent>;
/// The child's end.
pub type ChildSession = Session<ToParent, ToChild>;

#[allow(private_bounds)]
impl<Out: Wire, In: Wire + IntoSignal> Session<Out, In> {
    fn with(channel: Channel, sequence: Sequence, sends: Direction, receives: Direction, recorder: Recorder) -> Self {
        let _messages = std::marker::PhantomData;
        Session {
            channel,
            sequence,
            sends,
            receives,
            patience: None,
            traced: 0,
            failure_came: false,
            recorder,
            _messages,
        }
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
        self.announce(&message, fds)?;
        self.deliver(by, &message, fds)
    }

    /// Recorded before it leaves: the other side must never have it at an earlier time.
    fn announce(&mut self, message: &Out, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let kind = message.kind();
        self.advance(self.sends, kind, message.is_last())?;
        if self.recorder.is_on() {
            let numbers = fds.iter().map(AsRawFd::as_raw_fd).collect();
            self.recorder.message(Sort::Send, kind.name(), || message.summary(), numbers);
        }
        Ok(())
    }

    fn deliver(&self, by: Option<Instant>, message: &Out, fds: &[BorrowedFd<'_>]) -> Result<()> {
        match self.channel.send_by(by, message, fds) {
            Err(error) if error.errno() == Some(Errno::AGAIN) => {
                Err(self.stalled(format!("send {}", message.kind().name())))
            }
            sent => sent.map(drop),
        }
    }

    /// The socket itself, to be kept where others are closed.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.channel.socket()
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
            let Ok(Received::Message(message, ..)) = self.receive() else { return None };
            match self.sort_out(message) {
                Err(error) if self.failure_came => return Some(error),
                Err(_) => return None,
                Ok(_) => {}
            }
        }
        None
    }

    /// Whether the other side has said itself what ended it.
    pub fn failure_came(&self) -> bool {
        self.failure_came
    }

    /// Takes the one trace over that has come.
    ///
    /// # Errors
    /// What came is none, or is over the cap.
    pub fn take_traces(&mut self) -> Result<()> {
        let Received::Message(message, ..) = self.receive()? else { return Ok(()) };
        match self.sort_out(message)? {
            None => Ok(()),
            Some(_) => Err(ProtocolError::Inconsistent("it is no trace".into()).into()),
        }
    }

    /// Takes what comes, and at once what rides along: of what is out of order too.
    fn receive(&mut self) -> Result<Received<In>> {
        let mut received = self.channel.receive::<In>()?;
        if let Received::Message(message, ..) = &mut received {
            self.absorb(&message.take_events())?;
        }
        Ok(received)
    }

    /// Takes a trace over, and gives any other message back.
    ///
    /// # Errors
    /// The failure that the message reports; a trace over the cap.
    fn sort_out(&mut self, message: In) -> Result<Option<In>> {
        match message.into_signal() {
            Signal::Trace(events) => self.absorb(&events).map(|()| None),
            Signal::Failure(error) => {
                self.failure_came = true;
                Err(error)
            }
            Signal::None(message) => Ok(Some(message)),
        }
    }

    /// Lets the other side know that nothing more is read or said: what it sends fails.
    pub fn hang_up(&self) {
        // Not connected any more is as good.
        let _ = rustix::net::shutdown(self.channel.socket(), rustix::net::Shutdown::Both);
    }

    /// Takes a trace over, up to the cap: who speaks may be anybody.
    fn absorb(&mut self, Events(events): &Events) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        self.traced += self.recorder.absorb(events)?;
        match self.traced > TRACE_CAP {
            true => Err(ProtocolError::TraceTooBig(self.traced).into()),
            false => Ok(()),
        }
    }

    /// The next message that is not a trace; None at the end. All traces before it are in its time.
    fn next(&mut self, awaited: &str) -> Result<Option<(In, Vec<OwnedFd>)>> {
        let (by, since) = (self.deadline(), self.recorder.now());
        loop {
            if by.is_some_and(|by| Instant::now() >= by) || !self.channel.readable_by(by)? {
                let stalled = Err(self.stalled(format!("{WAIT} {awaited}")));
                self.recorder.failed(WAIT, since, &stalled, || awaited.to_owned());
                return stalled;
            }
            let Received::Message(message, fds, _) = self.receive()? else {
                return Ok(None);
            };
            self.advance(self.receives, message.kind(), message.is_last())?;
            let Some(message) = self.sort_out(message)? else { continue };
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
    Trace(Events),
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
