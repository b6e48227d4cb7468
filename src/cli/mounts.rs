//! `mounts add`, `mounts remove`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use oci_spec::runtime::Mount;
use serde_json::Value;

use super::{Context, read_json};
use crate::error::{Context as _, Error, Kind, Result};
use crate::parent::mounts;
use crate::plan::load;

#[derive(Args, Debug)]
pub(super) struct Mounts {
    #[command(subcommand)]
    command: MountsCommand,
}

#[derive(Debug, Subcommand)]
enum MountsCommand {
    /// Mount in a running container
    Add(Which),
    /// Take mounts of a running container away
    Remove(Which),
}

#[derive(Args, Debug)]
struct Which {
    /// The container
    id: String,
    /// The mounts as JSON, as `mounts` of config.json; `-` is standard input. To remove, only `destination` counts
    file: PathBuf,
}

impl Mounts {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        match &self.command {
            MountsCommand::Add(which) => mounts::add(&context.state, &which.id, which.read()?, &context.trace),
            MountsCommand::Remove(which) => mounts::remove(&context.state, &which.id, &which.read()?, &context.trace),
        }
    }
}

impl Which {
    /// A list of mounts, or a whole configuration.
    fn read(&self) -> Result<Vec<Mount>> {
        let file = || format!("`{}`", self.file.display());
        let mut value = read_json(&self.file)?;
        if let Some(mounts) = value.get_mut("mounts") {
            value = mounts.take();
        }
        match &value {
            Value::Array(list) if !list.is_empty() => {}
            Value::Array(_) => return Err(Error::new(Kind::Usage, format!("{} holds no mount", file()))),
            _ => return Err(Error::config(format!("{} is no JSON list of mounts", file()))),
        }
        load::mounts(value).context(file)
    }
}
