//! What only the child's end hears and says: payloads in parts, traces, its failure.

use serde::de::DeserializeOwned;

use super::{ChildSession, Session};
use crate::error::{Context, Error, Result};
use crate::protocol::ProtocolError;
use crate::protocol::channel::Channel;
use crate::protocol::codec::{self, PAYLOAD_CAP};
use crate::protocol::event::Recorder;
use crate::protocol::message::{Events, Said, ToChild, ToParent};
use crate::protocol::sequence::{Direction, Kind, Sequence, Shape};

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

    /// Sends a message, and when tracing with all that was recorded, itself included: no frame more, for which the parent
    /// would wake.
    ///
    /// # Errors
    /// As [`Session::send`].
    pub fn say(&mut self, said: Said) -> Result<()> {
        if !self.recorder.is_on() {
            return self.send(said.into(), &[]);
        }
        if self.recorder.fills_a_frame() {
            self.flush_trace()?;
        }
        self.announce(&said.into(), &[])?;
        let events = Events(self.recorder.take_pieces().concat());
        self.deliver(self.deadline(), &ToParent::Traced(said, events), &[])
    }

    /// Sends what was recorded since the last time. Nothing when not tracing.
    fn flush_trace(&mut self) -> Result<()> {
        let pieces = self.recorder.take_pieces();
        pieces.into_iter().try_for_each(|piece| self.channel.send(&ToParent::Trace(Events(piece)), &[]).map(drop))
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
