//! Where words go: the error that ends a command to `--log` and to standard error, a warning to `--log`, and to standard error
//! where that is nobody's output.
//!
//! Podman reads the whole of `--log` as one JSON object, containerd its last line of the level `error`: so a warning is never
//! in front of an error there.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use ::log::LevelFilter;

use super::globals::{Globals, TextOrJson};
use crate::error::{Context, Error, Result, one_line};

/// systemd.journal-fields(7), "Native Journal Protocol".
const JOURNAL: &str = "/run/systemd/journal/socket";
/// syslog(3).
const SYSLOG: &str = "/dev/log";
/// `LOG_DAEMON` of syslog(3).
const DAEMON: u32 = 3 << 3;
/// A log of warnings alone that is bigger has been added to for long, by somebody who reads lines.
const WARNINGS_CAP: u64 = 64 << 10;

/// Where `--log` leads, in crun's spelling: `journald:[NAME]`, `syslog:[NAME]`, `file:PATH` or a path. NAME is what the
/// message is filed under, `tandem` without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// None for an empty path.
    File(Option<PathBuf>),
    Journald(String),
    Syslog(String),
}

impl Destination {
    pub(super) fn parse(text: &str) -> Result<Destination, String> {
        let name = |name: &str| match name {
            "" => Ok("tandem".to_owned()),
            _ if name.contains(|c: char| c.is_control() || c == ':') => Err(format!("`{name}` is no name for a log")),
            _ => Ok(name.to_owned()),
        };
        match text.split_once(':') {
            Some(("journald", rest)) => name(rest).map(Destination::Journald),
            Some(("syslog", rest)) => name(rest).map(Destination::Syslog),
            Some(("file", path)) => Ok(Destination::file(path)),
            _ => Ok(Destination::file(text)),
        }
    }

    fn file(path: &str) -> Destination {
        Destination::File(Some(path).filter(|path| !path.is_empty()).map(PathBuf::from))
    }

    /// Whether it can be written; the error that would go there later would be lost.
    fn check(&self) -> Result<()> {
        match self {
            Destination::File(None) => Ok(()),
            Destination::File(Some(path)) => {
                open(path).map(drop).context(|| format!("write the log `{}`", path.display()))
            }
            Destination::Journald(_) => connect(JOURNAL).map(drop).context(|| format!("--log: connect to `{JOURNAL}`")),
            Destination::Syslog(_) => connect(SYSLOG).map(drop).context(|| format!("--log: connect to `{SYSLOG}`")),
        }
    }

    fn write(&self, level: Level, message: &str, format: TextOrJson) -> std::io::Result<()> {
        match self {
            Destination::File(None) => Ok(()),
            Destination::File(Some(path)) => {
                if level == Level::Error && format == TextOrJson::Json && has_warnings_alone(path) {
                    File::create(path)?;
                }
                open(path)?.write_all(line(level, message, format).as_bytes())
            }
            Destination::Journald(name) => {
                // A message is one line, so each field is in the protocol's simple form.
                let fields = format!("MESSAGE={message}\nPRIORITY={}\nSYSLOG_IDENTIFIER={name}\n", level as u32);
                connect(JOURNAL)?.send(fields.as_bytes()).map(drop)
            }
            Destination::Syslog(name) => {
                // Without a time: whoever receives it adds the local one (RFC 3164, 4.3.2).
                let record = format!("<{}>{name}[{}]: {message}", DAEMON | level as u32, std::process::id());
                connect(SYSLOG)?.send(record.as_bytes()).map(drop)
            }
        }
    }
}

/// What is told, by the numbers of syslog(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Error = 3,
    Warning = 4,
}

/// Whether a log has what earlier commands warned of and nothing else: for who reads it as one object, an error takes its
/// place.
fn has_warnings_alone(path: &Path) -> bool {
    let small = std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() <= WARNINGS_CAP);
    let text = if small { std::fs::read_to_string(path).unwrap_or_default() } else { String::new() };
    let is_warning = |line: &str| {
        let line = serde_json::from_str::<serde_json::Value>(line);
        line.is_ok_and(|line| line["level"] == "warning")
    };
    !text.is_empty() && text.lines().all(is_warning)
}

fn connect(path: &str) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn line(level: Level, message: &str, format: TextOrJson) -> String {
    let time = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
    let level = if level == Level::Error { "error" } else { "warning" };
    let line = match format {
        TextOrJson::Json => serde_json::json!({"msg": message, "level": level, "time": time}).to_string(),
        TextOrJson::Text => format!("time=\"{time}\" level={level} msg={message:?}"),
    };
    line + "\n"
}

/// What `log::warn!` and its like end in.
struct Logger {
    /// Writes to standard error.
    stderr: env_logger::Logger,
    /// Whether standard error is for our own words.
    aloud: bool,
    /// The warnings of this command, until it is known whether an error ends it.
    warnings: Mutex<Vec<String>>,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

impl Logger {
    fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ::log::Log for Logger {
    fn enabled(&self, metadata: &::log::Metadata<'_>) -> bool {
        self.stderr.enabled(metadata)
    }

    fn log(&self, record: &::log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if self.aloud {
            self.stderr.log(record);
        }
        if record.level() <= ::log::Level::Warn {
            let message = one_line(&record.args().to_string());
            self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        }
    }

    fn flush(&self) {}
}

/// Sets up what `log::warn!` and its like write. `shared` says that a container may have our standard error, or a program read
/// it together with our output.
///
/// # Errors
/// A `--log` that can't be written: the error it was for would be lost.
pub(super) fn init(globals: &Globals, shared: bool) -> Result<()> {
    let level = if globals.debug { LevelFilter::Debug } else { globals.log_level.unwrap_or(LevelFilter::Warn) };
    let asked = globals.debug || globals.log_level.is_some();
    let aloud = asked || !shared || std::io::stderr().is_terminal();
    let stderr = env_logger::Builder::new()
        .filter_level(level)
        .format(|out, record| {
            let level = record.level().as_str().to_ascii_lowercase();
            writeln!(out, "tandem: {level}: {}", one_line(&record.args().to_string()))
        })
        .build();
    let logger = LOGGER.get_or_init(|| Logger { stderr, aloud, warnings: Mutex::default() });
    // Fails only where a logger is set already, which is then the caller's.
    if ::log::set_logger(logger).is_ok() {
        ::log::set_max_level(level);
    }
    if let Some(criu) = &globals.criu {
        ::log::debug!("--criu `{}`: checkpoints are not supported, so it is not used", criu.display());
    }
    globals.log.as_ref().map_or(Ok(()), Destination::check)
}

/// Tells what the command warned of, now that no error can come.
pub(super) fn done(globals: &Globals) {
    let (Some(logger), Some(log)) = (LOGGER.get(), &globals.log) else { return };
    for warning in logger.take_warnings() {
        if log.write(Level::Warning, &warning, globals.log_format).is_err() {
            // It could be written before, and standard error may be a container's.
            return;
        }
    }
}

/// One line to standard error. One that nobody can read any more changes nothing of how the command ends.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "tandem: {line}");
}

/// Tells the error that ends a command, or its payload: one line each. A warning before it may say what else went wrong, so
/// now it is told.
pub(super) fn fatal(globals: &Globals, error: &Error) {
    if let Some(logger) = LOGGER.get().filter(|logger| !logger.aloud) {
        logger.take_warnings().iter().for_each(|warning| say(&format!("warn: {warning}")));
    }
    let message = error.to_string();
    say(&message);
    let Some(log) = &globals.log else { return };
    if let Err(e) = log.write(Level::Error, &message, globals.log_format) {
        say(&format!("write to --log: {e}"));
    }
}

/// Tells why a command line is refused: one line each, to where its own words say if they can be made out.
pub(super) fn refused(args: &[OsString], message: &str) {
    let message = &one_line(message);
    say(message);
    let value = |name: &str| {
        // Before the command, where engines have it: what comes after `exec ID` is the payload's.
        let words = args.iter().filter_map(|arg| arg.to_str());
        let mut words = words.take_while(|arg| !matches!(*arg, "--" | "exec" | "ps"));
        words.find_map(|word| match word.strip_prefix(name)? {
            "" => args.iter().skip_while(|arg| *arg != name).nth(1).and_then(|arg| arg.to_str()),
            rest => rest.strip_prefix('='),
        })
    };
    let Some(Ok(log)) = value("--log").map(Destination::parse) else { return };
    let format = if value("--log-format") == Some("json") { TextOrJson::Json } else { TextOrJson::Text };
    if let Err(e) = log.write(Level::Error, message, format) {
        say(&format!("write to --log: {e}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_as_crun_has_them() {
        let parse = |text| Destination::parse(text).unwrap();
        assert_eq!(parse("/a:b"), Destination::File(Some("/a:b".into())));
        assert_eq!(parse("file:/a"), Destination::File(Some("/a".into())));
        assert_eq!(parse(""), Destination::File(None));
        assert_eq!(parse("journald:"), Destination::Journald("tandem".into()));
        assert_eq!(parse("syslog:box"), Destination::Syslog("box".into()));
        assert!(Destination::parse("journald:a\nMESSAGE=b").is_err());
    }
}
