//! Where words go: the error that ends a command to `--log` and to standard error, everything else to standard error.
//!
//! Podman reads the whole of `--log` as one JSON object, containerd its last line; so nothing but that error goes there.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::globals::{Globals, TextOrJson};
use crate::error::{Context, Error, Result};

/// systemd.journal-fields(7), "Native Journal Protocol".
const JOURNAL: &str = "/run/systemd/journal/socket";
/// syslog(3).
const SYSLOG: &str = "/dev/log";
/// `LOG_DAEMON | LOG_ERR` of syslog(3).
const DAEMON_ERROR: u32 = 3 << 3 | 3;

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

    fn write(&self, message: &str, format: TextOrJson) -> std::io::Result<()> {
        match self {
            Destination::File(None) => Ok(()),
            Destination::File(Some(path)) => open(path)?.write_all(line(message, format).as_bytes()),
            Destination::Journald(name) => {
                // An error is one line, so each field is in the protocol's simple form.
                let fields = format!("MESSAGE={message}\nPRIORITY=3\nSYSLOG_IDENTIFIER={name}\n");
                connect(JOURNAL)?.send(fields.as_bytes()).map(drop)
            }
            Destination::Syslog(name) => {
                // Without a time: whoever receives it adds the local one (RFC 3164, 4.3.2).
                let record = format!("<{DAEMON_ERROR}>{name}[{}]: {message}", std::process::id());
                connect(SYSLOG)?.send(record.as_bytes()).map(drop)
            }
        }
    }
}

fn connect(path: &str) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn line(message: &str, format: TextOrJson) -> String {
    let time = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
    let line = match format {
        TextOrJson::Json => serde_json::json!({"msg": message, "level": "error", "time": time}).to_string(),
        TextOrJson::Text => format!("time=\"{time}\" level=error msg={message:?}"),
    };
    line + "\n"
}

/// Sets up what `log::warn!` and its like write.
///
/// # Errors
/// A `--log` that can't be written: the error it was for would be lost.
pub(super) fn init(globals: &Globals) -> Result<()> {
    let level = if globals.debug { ::log::LevelFilter::Debug } else { globals.log_level };
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level).format(|line, record| {
        let level = record.level().as_str().to_ascii_lowercase();
        writeln!(line, "tandem: {level}: {}", record.args())
    });
    // Fails only where a logger is set already, which is then the caller's.
    let _ = builder.try_init();
    if let Some(criu) = &globals.criu {
        ::log::debug!("--criu `{}`: checkpoints are not supported, so it is not used", criu.display());
    }
    globals.log.as_ref().map_or(Ok(()), Destination::check)
}

/// Tells the error that ends a command: one line each.
pub(super) fn fatal(globals: &Globals, error: &Error) {
    let message = error.to_string();
    eprintln!("tandem: {message}");
    let Some(log) = &globals.log else { return };
    if let Err(e) = log.write(&message, globals.log_format) {
        eprintln!("tandem: write to --log: {e}");
    }
}

/// Tells why a command line is refused: one line each, to where its own words say if they can be made out.
pub(super) fn refused(args: &[OsString], message: &str) {
    eprintln!("tandem: {message}");
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
    if let Err(e) = log.write(message, format) {
        eprintln!("tandem: write to --log: {e}");
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
