//! `doctor`.

use clap::{Args, ValueEnum};

use super::globals::Globals;
use super::{print, print_json};
use crate::doctor;
use crate::error::Result;

/// Tell what this host can do for containers, what follows, and how to get the better
///
/// Everything is asked of the kernel itself, by calls that have no effect or whose effect ends with them: namespaces are
/// really made, and gone again. Each line says `ok`, `partly` or `missing`; what is not `ok` says what follows for containers
/// and what can be done. At the end is which way of making mounts a container will take, and why no better one.
///
/// Exit status: 0 if this user can make containers here, 1 if not.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub(super) struct Doctor {
    /// Lines for people, or JSON
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Doctor {
    pub(super) fn run(&self, globals: &Globals) -> Result<i32> {
        let report = doctor::examine(globals.root.as_deref())?;
        match self.format {
            Format::Json => print_json(&report)?,
            Format::Text => print(&report.to_string())?,
        }
        Ok(i32::from(!report.hindrances.is_empty()))
    }
}
