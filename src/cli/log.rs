//! Where words go: the error that ends a command to `--log` and to standard error, everything else to standard error.
//!
//! Podman reads the whole of `--log` as one JSON object, containerd its last line; so nothing but that error goes there.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::SystemTime;

use super::{Globals, LogFormat};
use crate::error::Error;

/// Sets up what `log::warn!` and its like write.
pub(super) fn init(globals: &Globals) {
    let level = if globals.debug { ::log::LevelFilter::Debug } else { globals.log_level };
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level).format(|line, record| {
        let level = record.level().as_str().to_ascii_lowercase();
        writeln!(line, "tandem: {level}: {}", record.args())
    });
    // Fails only where a logger is set already, which is then the caller's.
    let _ = builder.try_init();
}

/// Tells the error that ends a command: one line each.
pub(super) fn fatal(globals: &Globals, error: &Error) {
    let message = error.to_string();
    eprintln!("tandem: {message}");
    let Some(path) = globals.log.as_ref().filter(|p| !p.as_os_str().is_empty()) else {
        return;
    };
    let time = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
    let line = match globals.log_format {
        LogFormat::Json => serde_json::json!({"msg": message, "level": "error", "time": time}).to_string(),
        LogFormat::Text => format!("time=\"{time}\" level=error msg={message:?}"),
    };
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all((line + "\n").as_bytes()));
    if let Err(e) = written {
        eprintln!("tandem: write the log `{}`: {e}", path.display());
    }
}
