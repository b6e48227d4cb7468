//! Where the events of a command go: JSON lines, a header for each command, then its events in the order of their times.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};
use crate::plan::id::ContainerId;
use crate::protocol::event::{Event, Recorder, Side, Sort, VERSION};
use crate::protocol::{journal, lines};

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
    /// When it ended, by the calendar: RFC 3339.
    #[serde(default)]
    pub time: String,
    /// The version of the runtime.
    #[serde(default)]
    pub program: String,
    /// How many of its oldest events were dropped.
    #[serde(default)]
    pub dropped: u64,
}

/// Where the events of commands go; by default nowhere.
#[derive(Clone, Debug, Default)]
pub struct TraceFile {
    /// All of every command to this file.
    pub file: Option<PathBuf>,
    /// Whether a command needs that file, and so fails where it can't be written. Whatever else can't is a warning.
    pub required: bool,
    /// All of every command to a file of the container's own in this directory, `ID.jsonl`.
    pub dir: Option<PathBuf>,
    /// Those of a `create`, `run`, `start` or `exec` that fails to a file of its own in this directory.
    pub on_error: Option<PathBuf>,
    /// Values of environments too.
    pub secrets: bool,
}

/// The files of one command, opened before it does anything: it may end in another mount namespace.
struct Sinks {
    files: Vec<(File, PathBuf)>,
    on_error: Option<(OwnedFd, PathBuf)>,
}

impl TraceFile {
    /// A trace to a file, which is made or appended to, or none.
    pub fn new(file: Option<PathBuf>) -> TraceFile {
        TraceFile { file: file.filter(|p| !p.as_os_str().is_empty()), required: true, ..TraceFile::default() }
    }

    /// Whether events are wanted: for a file, or for `--debug`.
    pub fn is_on(&self) -> bool {
        self.is_whole() || self.on_error.is_some()
    }

    /// Whether they are wanted whatever becomes of the command.
    fn is_whole(&self) -> bool {
        self.file.is_some() || self.dir.is_some() || debugs()
    }

    /// Runs a command of a container with a recorder, and writes what it recorded, with the error that ended it last.
    ///
    /// # Errors
    /// The command's; before it has done anything, a required file that can't be written.
    pub fn traced<T>(&self, command: &str, id: &str, run: impl FnOnce(&mut Recorder) -> Result<T>) -> Result<T> {
        // The others say all there is to know in their error.
        let rings = matches!(command, "create" | "run" | "start" | "exec");
        let wanted = self.is_whole() || (rings && self.on_error.is_some());
        if !wanted {
            return run(&mut Recorder::new(Side::Parent, false));
        }
        let sinks = self.open(id, rings)?;
        let recorder = Recorder::new(Side::Parent, true);
        let mut recorder = match self.is_whole() {
            true if debugs() => recorder,
            true => recorder.in_lines(),
            false => recorder.ring(),
        };
        let result = run(&mut recorder);
        if let Err(error) = &result {
            recorder.error(error);
        }
        let written = sinks.write(command, id, &mut recorder, result.is_err());
        journal::turn_off();
        match written {
            Ok(None) => result,
            Ok(Some(file)) => result.map_err(|e| e.also_advise(format!("its trace is in `{}`", file.display()))),
            Err(e) => {
                // The container runs; a trace that can't be written is worth a word, not the container.
                log::warn!("{e}");
                result
            }
        }
    }

    /// Records the payload's environment, if secrets are asked for.
    pub(super) fn tell_environment(&self, env: &[String], recorder: &mut Recorder) {
        if self.secrets {
            recorder.step("environment", recorder.now(), || env.join("\n"));
        }
    }

    fn open(&self, id: &str, rings: bool) -> Result<Sinks> {
        let mut files = vec![];
        match self.file.as_deref().map(|path| self.open_file(path)) {
            Some(Err(e)) if self.required => return Err(e),
            file => files.extend(told(file)),
        }
        // An ID that is none is refused by the command, and names no file before.
        if let Some(dir) = self.dir.as_ref().filter(|_| ContainerId::parse(id).is_ok()) {
            let path = dir.join(format!("{id}.jsonl"));
            files.extend(told(Some(make_dir(dir).and_then(|()| append(&path, true)))));
        }
        let on_error = self.on_error.as_ref().filter(|_| rings).map(|dir| {
            make_dir(dir)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(dir, flags, Mode::empty()).context(|| writing(dir))?;
            Ok((fd, dir.clone()))
        });
        Ok(Sinks { files, on_error: told(on_error) })
    }

    fn open_file(&self, path: &Path) -> Result<(File, PathBuf)> {
        if let Some(dir) = path.parent().filter(|dir| !self.required && !dir.as_os_str().is_empty()) {
            make_dir(dir)?;
        }
        append(path, !self.required)
    }
}

/// A trace that stops nothing: where it can't be written, that is worth a word.
fn told<T>(opened: Option<Result<T>>) -> Option<T> {
    opened?.inspect_err(|e| log::warn!("{e}")).ok()
}

impl Sinks {
    /// Writes a command's events. Returns the file of the failure, if there is one.
    fn write(self, command: &str, id: &str, recorder: &mut Recorder, failed: bool) -> Result<Option<PathBuf>> {
        if debugs() {
            recorder.events().iter().for_each(|event| log::debug!("{}", plain(event)));
        }
        let on_error = self.on_error.filter(|_| failed);
        if self.files.is_empty() && on_error.is_none() {
            return Ok(None);
        }
        let lines = recorder.take_lines()?;
        let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let header = Header {
            trace_version: VERSION,
            command: command.into(),
            id: id.into(),
            at_us: lines.first_at_us().unwrap_or(0),
            time: now.clone(),
            program: concat!("tandem ", env!("CARGO_PKG_VERSION")).into(),
            dropped: recorder.dropped(),
        };
        let mut text = Vec::new();
        lines::append(&mut text, &header)?;
        lines.write_to(&mut text);
        // In one write, so that commands that run at the same time don't mix their lines.
        for (mut file, path) in self.files {
            file.write_all(&text).context(|| writing(&path))?;
        }
        let Some((dir, path)) = on_error else { return Ok(None) };
        let safe_id = if ContainerId::parse(id).is_ok() { id } else { "unnamed" };
        let name = format!("{safe_id}-{command}-{now}-{}.jsonl", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let path = path.join(&name);
        let file = rustix::fs::openat(dir.as_fd(), &name, flags, Mode::from_raw_mode(0o600));
        File::from(file.context(|| writing(&path))?).write_all(&text).context(|| writing(&path))?;
        Ok(Some(path))
    }
}

/// Whether `--debug` tells events as log lines.
fn debugs() -> bool {
    log::log_enabled!(log::Level::Debug)
}

/// An event on a line, as `--debug` tells it.
fn plain(event: &Event<&str>) -> String {
    let &Event { side, event, name, object, mechanism, why, detail, took_us, .. } = event;
    let sort = match event {
        Sort::Send => "sends ",
        Sort::Receive => "receives ",
        Sort::Step => "",
        Sort::Fallback => "falls back: ",
        Sort::Error => "fails: ",
        Sort::Refused => "is refused: ",
    };
    let side = match side {
        Side::Parent => "parent",
        Side::Child => "child",
    };
    let words = [object, mechanism, why, detail].into_iter().filter(|word| !word.is_empty());
    let words = words.map(printable).collect::<Vec<_>>().join("; ");
    let blank = if words.is_empty() { "" } else { " " };
    // A message takes no time that is known.
    let took = if matches!(event, Sort::Send | Sort::Receive) { String::new() } else { format!(" ({took_us} µs)") };
    format!("{side} {sort}{name}{blank}{words}{took}")
}

/// A terminal must not take a byte of a path for a command.
fn printable(word: &str) -> String {
    let escape = |c: char| if matches!(c, '\'' | '"' | '\\') { c.to_string() } else { c.escape_debug().to_string() };
    word.chars().map(escape).collect()
}

/// Opens a file to add to. What is in it is for who made it: paths, and values if they were asked for. One that is not to stop
/// its command is not waited for: a pipe that nobody reads, or that is full.
fn append(path: &Path, hasty: bool) -> Result<(File, PathBuf)> {
    let flags = if hasty { OFlags::NONBLOCK } else { OFlags::empty() };
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).custom_flags(flags.bits().cast_signed()).open(path);
    Ok((file.context(|| writing(path))?, path.to_owned()))
}

/// Makes a directory and those above it, unless it is there: who may write into it need not be able to make it.
fn make_dir(dir: &Path) -> Result<()> {
    match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir) {
        Err(_) if dir.is_dir() => Ok(()),
        made => made.context(|| writing(dir)),
    }
}

fn writing(path: &Path) -> String {
    format!("write the trace `{}`", path.display())
}
