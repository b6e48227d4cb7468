//! `trace`: draws what `--trace` has written, and compares two of them.

mod chrome;
mod diff;
mod fold;
mod html;
mod ladder;
mod paint;
mod read;
mod summary;
mod text;
mod time;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use self::paint::{Color, Paint};
use self::read::Section;
use super::print;
use crate::error::{Context, Result};

#[derive(Args, Debug)]
pub(super) struct Trace {
    #[command(subcommand)]
    command: TraceCommand,
}

#[derive(Debug, Subcommand)]
enum TraceCommand {
    /// Draw a trace: what happened, what was slow, what fell back, what failed
    Show(Show),
    /// Compare two traces: what changed, what got slower
    Diff(Diff),
    /// Replay what TANDEM_RECORD has recorded, against the real parent's or the real child's end
    Replay(super::replay::Replay),
}

#[derive(Args, Debug)]
struct Show {
    /// As a drawing, a line an event, JSON lines of the newest version, or what Perfetto and chrome://tracing open
    #[arg(long, value_enum, default_value_t = Format::Ladder)]
    format: Format,
    /// Write one HTML page to this file instead
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Only this command: create, start, ...
    #[arg(long)]
    command: Option<String>,
    /// In the drawing, a row for each step: else those that are alike and in a row are one
    #[arg(long)]
    all: bool,
    /// Colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,
    /// What --trace has written
    file: PathBuf,
}

#[derive(Args, Debug)]
struct Diff {
    /// Only this command: create, start, ...
    #[arg(long)]
    command: Option<String>,
    /// Colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,
    /// The trace before
    before: PathBuf,
    /// The trace after
    after: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Ladder,
    Text,
    Json,
    Chrome,
}

impl Trace {
    pub(super) fn run(&self) -> Result<()> {
        match &self.command {
            TraceCommand::Show(show) => show.run(),
            TraceCommand::Diff(diff) => diff.run(),
            TraceCommand::Replay(replay) => replay.run(),
        }
    }
}

/// What is in a page is for who made it, as what is in the trace.
fn write_page(path: &Path, page: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(true).mode(0o600).open(path)?.write_all(page.as_bytes())
}

impl Show {
    fn run(&self) -> Result<()> {
        let sections = read::file(&self.file, self.command.as_deref())?;
        if let Some(page) = &self.html {
            return write_page(page, &html::page(&sections)).context(|| format!("write `{}`", page.display()));
        }
        let paint = Paint::new(self.color);
        let each = |draw: &dyn Fn(&Section) -> String| sections.iter().map(draw).collect::<String>();
        print(&match self.format {
            Format::Ladder => each(&|section| ladder::draw(section, paint, paint::width(), self.all)),
            Format::Text => each(&text::lines),
            Format::Json => read::json(&sections)?,
            Format::Chrome => chrome::json(&sections),
        })
    }
}

impl Diff {
    fn run(&self) -> Result<()> {
        let only = self.command.as_deref();
        let (before, after) = (read::file(&self.before, only)?, read::file(&self.after, only)?);
        print(&diff::compare(&before, &after, Paint::new(self.color))?)
    }
}
