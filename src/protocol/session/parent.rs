//! What only the parent's end says: payloads in parts.

use serde::Serialize;

use super::{ParentSession, Session};
use crate::error::Result;
use crate::protocol::channel::Channel;
use crate::protocol::codec::{self, PART_SIZE};
use crate::protocol::event::Recorder;
use crate::protocol::message::{Part, ToChild};
use crate::protocol::sequence::{Direction, Sequence};

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
