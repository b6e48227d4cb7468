//! Where words go: the error that ends a command to `--log` and to standard error, everything else to standard error.
//!
//! Podman reads the whole of `--log` as one JSON object, containerd its last line; so nothing but that error goes there.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Globals, LogFormat};
use crate::error::{Context, Error, Result};

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
    match log_file(globals) {
        Some(path) => open(path).map(drop).context(|| format!("write the log `{}`", path.display())),
        None => Ok(()),
    }
}

fn log_file(globals: &Globals) -> Option<&PathBuf> {
    globals.log.as_ref().filter(|path| !path.as_os_str().is_empty())
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Tells the error that ends a command: one line each.
pub(super) fn fatal(globals: &Globals, error: &Error) {
    let message = error.to_string();
    eprintln!("tandem: {message}");
    let Some(path) = log_file(globals) else { return };
    let time = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
    let line = match globals.log_format {
        LogFormat::Json => serde_json::json!({"msg": message, "level": "error", "time": time}).to_string(),
        LogFormat::Text => format!("time=\"{time}\" level=error msg={message:?}"),
    };
    let written = open(path).and_then(|mut file| file.write_all((line + "\n").as_bytes()));
    if let Err(e) = written {
        eprintln!("tandem: write the log `{}`: {e}", path.display());
    }
}
