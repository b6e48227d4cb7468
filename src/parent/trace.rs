//! Writes the trace file: JSON lines, a header for each command, then its events in the order of their times.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::protocol::event::{Event, Recorder, Side, VERSION};

/// The first line of each command's part of a trace file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`].
    pub trace_version: u32,
    /// The command: `create`, `start`, ...
    pub command: String,
    /// The container.
    pub id: String,
    /// When the command began, on the clock of the events.
    pub at_us: u64,
}

/// Where a command's events go; nowhere without `--trace`.
#[derive(Clone, Debug, Default)]
pub struct TraceFile(Option<PathBuf>);

impl TraceFile {
    /// A trace to a file, which is made or appended to, or none.
    pub fn new(path: Option<PathBuf>) -> TraceFile {
        TraceFile(path.filter(|p| !p.as_os_str().is_empty()))
    }

    /// Whether events are wanted: for the file, or for `--debug`.
    pub fn is_on(&self) -> bool {
        self.0.is_some() || log::log_enabled!(log::Level::Debug)
    }

    /// The parent's recorder.
    ///
    /// # Errors
    /// A file that can't be written: better now than after the container is made.
    pub fn recorder(&self) -> Result<Recorder> {
        if let Some(path) = &self.0 {
            append(path, "").context(|| format!("write the trace `{}`", path.display()))?;
        }
        Ok(Recorder::new(Side::Parent, self.is_on()))
    }

    /// Appends a command's events.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self, command: &str, id: &str, mut events: Vec<Event>) -> Result<()> {
        // The child's events came in batches.
        events.sort_by_key(|event| event.at_us);
        for event in &events {
            log::debug!("{:?} {:?} {} {} ({} µs)", event.side, event.event, event.name, event.detail, event.took_us);
        }
        let Some(path) = &self.0 else { return Ok(()) };
        let at_us = events.first().map_or(0, |event| event.at_us);
        let header = Header { trace_version: VERSION, command: command.into(), id: id.into(), at_us };
        let mut text = line(&header)?;
        for event in &events {
            text.push_str(&line(event)?);
        }
        append(path, &text).context(|| format!("write the trace `{}`", path.display()))
    }
}

/// In one write, so that commands that run at the same time don't mix their lines.
fn append(path: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new().create(true).append(true).open(path)?.write_all(text.as_bytes())
}

fn line(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map(|json| json + "\n").map_err(|e| Error::system(e.to_string()))
}
