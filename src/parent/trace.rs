//! Where the events of a command go: JSON lines, a header for each command, then its events in the order of their times.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::plan::id::ContainerId;
use crate::protocol::event::{About, Event, Recorder, Side, Sort, VERSION};
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
    /// Whether it is no command of its own, but what became of the process that the command before it of this name and container
    /// has started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
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
    /// Those of a `create`, `run`, `start` or `exec` that fails, or whose payload is killed for memory while the command stays
    /// with it, to a file of its own in this directory.
    pub on_error: Option<PathBuf>,
    /// Values of environments too.
    pub secrets: bool,
}

/// The files of one command, opened before it does anything: it may end in another mount namespace.
#[derive(Debug)]
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
        self.traced_to_its_end(command, id, run).map(|(done, _)| done)
    }

    /// The same of a command that may stay with the process that it has started.
    pub(super) fn traced_to_its_end<T>(
        &self,
        command: &str,
        id: &str,
        run: impl FnOnce(&mut Recorder) -> Result<T>,
    ) -> Result<(T, Option<Stay>)> {
        // The others say all there is to know in their error.
        let rings = matches!(command, "create" | "run" | "start" | "exec");
        let wanted = self.is_whole() || (rings && self.on_error.is_some());
        if !wanted {
            return run(&mut Recorder::new(Side::Parent, false)).map(|done| (done, None));
        }
        let mut sinks = self.open(id, rings)?;
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
        let mut part = Part { command: command.into(), id: id.into(), continues: false, before: vec![] };
        let written = sinks.write(&mut part, &mut recorder, result.is_err());
        journal::turn_off();
        match (result, told(written).flatten()) {
            (Ok(done), _) => {
                let since = recorder.now();
                Ok((done, Some(Stay { part, sinks, recorder, since })))
            }
            (Err(e), Some(file)) => Err(e.also_advise(format!("its trace is in `{}`", file.display()))),
            (Err(e), None) => Err(e),
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
            file => files.extend(file.and_then(told)),
        }
        // An ID that is none is refused by the command, and names no file before.
        if let Some(dir) = self.dir.as_ref().filter(|_| ContainerId::parse(id).is_ok()) {
            let path = dir.join(format!("{id}.jsonl"));
            files.extend(told(make_dir(dir).and_then(|()| append(&path, true))));
        }
        let on_error = self.on_error.as_ref().filter(|_| rings).map(|dir| {
            make_dir(dir)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(dir, flags, Mode::empty()).context(|| writing(dir))?;
            Ok((fd, dir.clone()))
        });
        Ok(Sinks { files, on_error: on_error.and_then(told) })
    }

    fn open_file(&self, path: &Path) -> Result<(File, PathBuf)> {
        if let Some(dir) = path.parent().filter(|dir| !self.required && !dir.as_os_str().is_empty()) {
            make_dir(dir)?;
        }
        append(path, !self.required)
    }
}

/// A trace that stops nothing: where it can't be written, that is worth a word, and not the container.
fn told<T>(trace: Result<T>) -> Option<T> {
    trace.inspect_err(|e| log::warn!("{e}")).ok()
}

/// What is written of one command at a time.
#[derive(Debug)]
struct Part {
    command: String,
    id: String,
    continues: bool,
    /// What was written of it already and may be wanted once more, in the file of a failure.
    before: Vec<u8>,
}

/// The trace of a command that stays with the process that it has started, until that ends.
#[derive(Debug)]
pub struct Stay {
    part: Part,
    sinks: Sinks,
    recorder: Recorder,
    since: u64,
}

impl Stay {
    /// Tells how the process ended, and by which error if it is one. Returns the file of the failure, if there is one.
    pub(super) fn ended(mut self, pid: i32, how: &str, error: Option<&Error>) -> Option<PathBuf> {
        let object = || About::object(format!("pid {pid}"));
        self.recorder.step("end", self.since, || object().with(how));
        if let Some(error) = error {
            let failed = Err::<(), _>(error.clone());
            self.recorder.ended("out of memory", self.recorder.now(), &failed, object);
        }
        told(self.sinks.write(&mut self.part, &mut self.recorder, error.is_some())).flatten()
    }
}

impl Sinks {
    /// Writes a command's events. Returns the file of the failure, if there is one. Where nothing is to be written, a ring keeps
    /// its events.
    fn write(&mut self, part: &mut Part, recorder: &mut Recorder, failed: bool) -> Result<Option<PathBuf>> {
        if debugs() {
            recorder.events().iter().for_each(|event| log::debug!("{}", plain(event)));
        }
        let on_error = self.on_error.as_ref().filter(|_| failed);
        if self.files.is_empty() && on_error.is_none() && !debugs() {
            return Ok(None);
        }
        let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let text = part.text(recorder, &now)?;
        // In one write, so that commands that run at the same time don't mix their lines.
        for (file, path) in &mut self.files {
            file.write_all(&text).context(|| writing(path))?;
        }
        let Some((dir, path)) = on_error else {
            part.before = if self.on_error.is_some() { text } else { vec![] };
            part.continues = true;
            return Ok(None);
        };
        let id = if ContainerId::parse(&part.id).is_ok() { &part.id } else { "unnamed" };
        let name = format!("{id}-{}-{now}-{}.jsonl", part.command, std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let path = path.join(&name);
        let file = rustix::fs::openat(dir.as_fd(), &name, flags, Mode::from_raw_mode(0o600));
        let all = [std::mem::take(&mut part.before), text].concat();
        File::from(file.context(|| writing(&path))?).write_all(&all).context(|| writing(&path))?;
        Ok(Some(path))
    }
}

impl Part {
    /// The header, and the events, which are taken out.
    fn text(&self, recorder: &mut Recorder, now: &str) -> Result<Vec<u8>> {
        let lines = recorder.take_lines()?;
        let header = Header {
            trace_version: VERSION,
            command: self.command.clone(),
            id: self.id.clone(),
            at_us: lines.first_at_us().unwrap_or(0),
            time: now.to_owned(),
            program: concat!("tandem ", env!("CARGO_PKG_VERSION")).into(),
            dropped: recorder.dropped(),
            continues: self.continues,
        };
        let mut text = Vec::new();
        lines::append(&mut text, &header)?;
        lines.write_to(&mut text);
        Ok(text)
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
