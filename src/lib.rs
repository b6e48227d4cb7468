//! tandem.
pub mod error;
