//! The options that every command takes, and what follows from them.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use log::LevelFilter;

use super::log::Destination;
use super::spellings::truth;
use crate::cgroup::Tolerance;
use crate::error::Result;
use crate::parent::trace::TraceFile;
use crate::plan::CgroupManager;
use crate::state::StateRoot;

/// Options that every command takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(super) struct Globals {
    /// Keep the containers' state here [default: /run/tandem; for a user $XDG_RUNTIME_DIR/tandem]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,
    /// Write the error that ends a command to a file too, or what one that succeeds warned of, or to journald:[NAME] or
    /// syslog:[NAME]
    #[arg(long, global = true, value_name = "FILE", value_parser = Destination::parse)]
    pub(super) log: Option<Destination>,
    /// Write to the file of --log in this form
    #[arg(long, global = true, value_enum, default_value_t = TextOrJson::Text)]
    pub(super) log_format: TextOrJson,
    /// Tell this much on standard error: off, error, warn, info, debug or trace [default: warn, on a terminal or where no
    /// container has it]
    #[arg(long, global = true, value_name = "LEVEL", value_parser = level)]
    pub(super) log_level: Option<LevelFilter>,
    /// Tell every step and message on standard error, as --log-level debug does
    #[arg(long, global = true)]
    pub(super) debug: bool,
    /// Have systemd make control groups, as --cgroup-manager systemd does; later commands need neither
    #[arg(short = 's', long, global = true)]
    systemd_cgroup: bool,
    /// Have control groups made by tandem itself, by systemd (cgroupsPath is then SLICE:PREFIX:NAME), or by nobody
    #[arg(long, global = true, value_enum, value_name = "MANAGER", default_value_t = Manager::Cgroupfs)]
    cgroup_manager: Manager,
    /// Do without a control group that the kernel refuses, unless a limit needs it: true, false, or auto for all but the
    /// machine's root
    #[arg(long, value_name = "BOOL", default_value = "auto", value_parser = rootless)]
    rootless: Rootless,
    /// Taken for the sake of runc's callers: checkpoints are not supported
    #[arg(long, global = true, value_name = "PATH", hide = true)]
    pub(super) criu: Option<PathBuf>,
    /// Write every step and message of a command to this file, made or added to; see `trace show` [env: TANDEM_TRACE, which
    /// stops no command whose trace can't be written]
    #[arg(long, global = true, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write them to a file of the container's own in this directory, which is made: DIR/ID.jsonl
    #[arg(long, global = true, value_name = "DIR", env = "TANDEM_TRACE_DIR")]
    trace_dir: Option<PathBuf>,
    /// Keep them in memory, and write them to this directory only if create, run, start or exec fails
    #[arg(long, global = true, value_name = "DIR", env = "TANDEM_TRACE_ON_ERROR")]
    trace_on_error: Option<PathBuf>,
    /// Let the trace have the values of the process's environment, too
    #[arg(long, global = true)]
    trace_secrets: bool,
}

/// The two forms of what is read by people or by programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TextOrJson {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Manager {
    Cgroupfs,
    Systemd,
    Disabled,
}

/// What `--rootless` says of a refused control group; None is `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rootless(Option<Tolerance>);

/// The spellings that runc's callers know, and `auto`.
fn rootless(text: &str) -> Result<Rootless, String> {
    match (text, truth(text)) {
        ("auto", _) => Ok(Rootless(None)),
        (_, Some(true)) => Ok(Rootless(Some(Tolerance::Rootless))),
        (_, Some(false)) => Ok(Rootless(Some(Tolerance::Strict))),
        (_, None) => Err("true, false or auto is expected".into()),
    }
}

/// A level by its name; crun's `warning` too.
fn level(text: &str) -> Result<LevelFilter, String> {
    let text = if text.eq_ignore_ascii_case("warning") { "warn" } else { text };
    text.parse().map_err(|_| "off, error, warn, info, debug or trace is expected".into())
}

impl Globals {
    /// Where events go. An empty name is none, as of a variable that is set to nothing.
    fn trace(&self) -> TraceFile {
        let named = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
        let always = named(&std::env::var_os("TANDEM_TRACE").map(PathBuf::from));
        TraceFile {
            required: self.trace.is_some(),
            // One that is typed, even if it is empty, goes before the variable.
            file: if self.trace.is_some() { named(&self.trace) } else { always },
            dir: named(&self.trace_dir),
            on_error: named(&self.trace_on_error),
            secrets: self.trace_secrets,
        }
    }
}

/// What every command needs of the globals.
pub(super) struct Context {
    pub(super) state: StateRoot,
    pub(super) trace: TraceFile,
    pub(super) cgroups: CgroupManager,
    /// What `--rootless` says; None where the host is to decide.
    pub(super) tolerance: Option<Tolerance>,
}

impl Context {
    pub(super) fn new(globals: &Globals) -> Result<Context> {
        Context::at(StateRoot::choose(globals.root.as_deref())?, globals)
    }

    /// For who only looks, and so needs no place where state could be kept.
    pub(super) fn without_state(globals: &Globals) -> Result<Context> {
        Context::at(StateRoot::choose(Some(globals.root.as_deref().unwrap_or(Path::new("/run/tandem"))))?, globals)
    }

    fn at(state: StateRoot, globals: &Globals) -> Result<Context> {
        Ok(Context {
            state,
            trace: globals.trace(),
            cgroups: match globals.cgroup_manager {
                // Docker says both: that there be none goes first.
                Manager::Disabled => CgroupManager::Disabled,
                Manager::Systemd => CgroupManager::Systemd,
                Manager::Cgroupfs if globals.systemd_cgroup => CgroupManager::Systemd,
                Manager::Cgroupfs => CgroupManager::Cgroupfs,
            },
            tolerance: globals.rootless.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rootless_and_levels_as_engines_write_them() {
        assert_eq!(rootless("true"), Ok(Rootless(Some(Tolerance::Rootless))));
        assert_eq!(rootless("false"), Ok(Rootless(Some(Tolerance::Strict))));
        assert_eq!(rootless("auto"), Ok(Rootless(None)));
        assert!(rootless("").is_err() && rootless("yes").is_err());
        assert_eq!(level("warning"), Ok(LevelFilter::Warn));
        assert_eq!(level("Debug"), Ok(LevelFilter::Debug));
        assert!(level("loud").is_err());
    }
}
