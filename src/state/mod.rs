//! The runtime's memory of its containers: a directory each, with a record that says what was made.
//!
//! The record is written *before* anything is made, so that whatever ends the runtime, `delete --force` knows what to
//! look for.

mod dir;
mod process;
mod record;
mod sockets;

pub use dir::{ContainerDir, StateRoot, replace};
pub(crate) use dir::{gone, is_lost};
pub use process::ProcessId;
pub(crate) use process::{Fate, is_gone, must_be_executed};
pub(crate) use record::Remains;
pub use record::{Record, Status};
pub(crate) use sockets::in_directory;
