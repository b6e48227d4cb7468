//! `doctor`.

use clap::Args;

use super::globals::{Globals, TextOrJson};
use super::{print, print_json};
use crate::doctor;
use crate::error::Result;

#[derive(Args, Debug)]
pub(super) struct Doctor {
    /// Lines for people, or JSON
    #[arg(long, value_enum, default_value_t = TextOrJson::Text)]
    format: TextOrJson,
}

impl Doctor {
    pub(super) fn run(&self, globals: &Globals) -> Result<i32> {
        let report = doctor::examine(globals.root.as_deref())?;
        match self.format {
            TextOrJson::Json => print_json(&report)?,
            TextOrJson::Text => print(&report.to_string())?,
        }
        Ok(i32::from(!report.hindrances.is_empty()))
    }
}
