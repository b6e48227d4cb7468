//! The sync protocol between the parent (the command, on the host) and the child (the same binary, inside the new
//! namespaces): what is said ([`message`]), how it is written ([`codec`]), how it travels ([`channel`]), in which order
//! it is legal ([`sequence`]), and one end of a conversation ([`session`]), which puts the four together.
//!
//! Nothing here knows what a container is. Everything here takes hostile input: any frame may come from a container
//! that took over its own setup process.

mod about;
mod book;
pub mod channel;
pub mod codec;
pub mod event;
pub(crate) mod journal;
pub(crate) mod lines;
mod log;
pub mod message;
pub mod recording;
pub mod sequence;
pub mod session;

pub use message::{Events, Part, Said, Slot, ToChild, ToParent};
pub use sequence::{Forks, Kind, Shape};
pub use session::{ChildSession, ParentSession, Session};

use crate::error::{self, Error};

/// One way in which a peer can break the protocol. None of them is ever guessed around.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The frame ended inside a message, or was not one.
    Malformed(String),
    /// The frame held bytes after its message.
    TrailingBytes(usize),
    /// The frame, of this many bytes, is over [`codec::FRAME_CAP`].
    Oversize(usize),
    /// The kernel cut the frame (`MSG_TRUNC`).
    Truncated,
    /// The kernel dropped fds (`MSG_CTRUNC`).
    FdsTruncated,
    /// A message announced one number of fds and came with another.
    FdCount {
        /// The message.
        message: &'static str,
        /// What it announced.
        announced: usize,
        /// What came.
        received: usize,
    },
    /// A message came that is not legal here.
    OutOfOrder {
        /// What was legal, as a list of names.
        expected: String,
        /// What came.
        got: &'static str,
    },
    /// The peer closed its end before the conversation was over.
    EarlyEof {
        /// What was awaited.
        expected: String,
    },
    /// Nothing came of the peer, or it took nothing, in the time that it has for one message.
    Stalled {
        /// What was awaited, or was to be sent.
        doing: String,
        /// For how long.
        waited: std::time::Duration,
    },
    /// A payload sent in parts is over its cap.
    PayloadTooBig(usize),
    /// The traces of one conversation, of this many bytes in memory, are over [`codec::TRACE_CAP`].
    TraceTooBig(usize),
    /// A message said something about itself that can't be: a slot list out of range, a part after the last.
    Inconsistent(String),
}

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use ProtocolError::*;
        match self {
            Malformed(why) => write!(f, "malformed frame: {why}"),
            TrailingBytes(n) => write!(f, "{n} bytes after the message"),
            Oversize(n) => write!(f, "a frame of {n} bytes is over the cap of {}", codec::FRAME_CAP),
            Truncated => write!(f, "the frame was cut short (MSG_TRUNC)"),
            FdsTruncated => {
                write!(f, "fds were lost (MSG_CTRUNC): the limit of open files is too low, or too many came")
            }
            FdCount { message, announced, received } => {
                write!(f, "{message} announced {announced} fds and came with {received}")
            }
            OutOfOrder { expected, got } => write!(f, "expected {expected}, got {got}"),
            EarlyEof { expected } => write!(f, "the other side closed the socket; expected {expected}"),
            Stalled { doing, waited } => write!(f, "{doing}: the other side stalled for {waited:.0?}"),
            TraceTooBig(n) => write!(f, "traces of {n} bytes are over the cap of {}", codec::TRACE_CAP),
            PayloadTooBig(n) => write!(f, "a payload of {n} bytes is over the cap of {}", codec::PAYLOAD_CAP),
            Inconsistent(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ProtocolError {}

impl From<ProtocolError> for Error {
    fn from(e: ProtocolError) -> Error {
        let kind = match e {
            ProtocolError::EarlyEof { .. } => error::Kind::PeerGone,
            ProtocolError::Stalled { .. } => error::Kind::Stalled,
            _ => error::Kind::Protocol,
        };
        Error::new(kind, e.to_string()).context("sync protocol")
    }
}
