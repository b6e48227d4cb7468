//! `doctor`.

use clap::{Args, ValueEnum};

use super::globals::Globals;
use super::{print, print_json};
use crate::doctor;
use crate::error::Result;

#[derive(Args, Debug)]
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
