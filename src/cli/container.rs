//! `create`, `run`, `start`, `kill`, `delete`.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::globals::Globals;
use super::{Context, log, many, print_json};
use crate::error::{Error, Kind, Result};
use crate::parent::create::{Created, create, create_and, remove_pid_file};
use crate::parent::ending::{Whose, told};
use crate::parent::foreground::{End, Signals, wait_for};
use crate::parent::lifecycle::{self, Container};
use crate::parent::oom::MemoryWatch;
use crate::parent::request::Request;
use crate::plan::load;
use crate::state::Record;

/// A command that takes an ID and nothing else.
#[derive(Args, Debug)]
pub(super) struct Id {
    /// The container
    id: String,
}

impl Id {
    pub(super) fn open(&self, context: &Context) -> Result<Container> {
        Container::open(&context.state, &self.id)
    }

    pub(super) fn pause(&self, context: &Context) -> Result<()> {
        context.trace.traced("pause", &self.id, |_| self.open(context)?.pause())
    }

    pub(super) fn resume(&self, context: &Context) -> Result<()> {
        context.trace.traced("resume", &self.id, |_| self.open(context)?.resume())
    }

    pub(super) fn start(&self, context: &Context) -> Result<()> {
        lifecycle::start(&context.state, &self.id, &context.trace)
    }
}

/// What `create` and `run` have in common.
#[derive(Args, Debug)]
struct Options {
    /// The bundle: a directory with config.json
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    bundle: PathBuf,
    /// Another configuration than the bundle's config.json
    #[arg(short = 'f', long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write the process ID here
    #[arg(short = 'p', long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Send the terminal to this socket
    #[arg(short = 'c', long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Move the root over `/` instead of pivot_root, for a root on a ramfs
    #[arg(long)]
    no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// Pass this many fds, from 3 on, to the container
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Send a pidfd of the first process to this socket
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// Print the plan of the container as JSON, and make nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave the values of environment variables in what --dry-run prints
    #[arg(long, requires = "dry_run")]
    with_secrets: bool,
    /// The container's ID
    id: String,
}

/// `create` itself: two words more, of which it always does what they say.
#[derive(Args, Debug)]
pub(super) struct Create {
    #[command(flatten)]
    options: Options,
    /// Return once the container is created; it always does
    #[arg(short, long, hide = true)]
    detach: bool,
    /// Do not adopt the container's orphans; it never does
    #[arg(long, hide = true)]
    no_subreaper: bool,
}

impl Create {
    pub(super) fn create(&self, context: &Context) -> Result<()> {
        let request = self.options.request(context);
        if self.options.dry_run {
            return self.options.print_plan(&request);
        }
        create(&request).map(drop)
    }
}

impl Options {
    fn request<'a>(&'a self, context: &'a Context) -> Request<'a> {
        Request {
            // Its own name is the bundle's, wherever the caller is; any other is the caller's.
            config: self.config.as_deref().filter(|path| path.as_os_str() != load::CONFIG),
            pid_file: self.pid_file.as_deref(),
            console_socket: self.console_socket.as_deref(),
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds,
            pidfd_socket: self.pidfd_socket.as_deref(),
            cgroups: context.cgroups,
            tolerance: context.tolerance,
            ..Request::new(&self.id, &self.bundle, &context.state, &context.trace)
        }
    }

    /// The names are those of the code, `src/plan`; they may be others in another version.
    fn print_plan(&self, request: &Request<'_>) -> Result<()> {
        let plan = serde_json::to_value(request.plan()?);
        let mut plan = plan.map_err(|e| Error::system(e.to_string()).context("write the plan as JSON"))?;
        if !self.with_secrets {
            leave_values_out(&mut plan);
        }
        print_json(&plan)
    }
}

/// Of the environment of the payload and of the hooks, which holds passwords, only the names.
fn leave_values_out(plan: &mut Value) {
    match plan {
        Value::Object(members) => members.iter_mut().for_each(|(name, value)| match value {
            Value::Array(entries) if name == "env" => entries.iter_mut().for_each(|entry| {
                let name = entry.as_str().unwrap_or_default().split('=').next().unwrap_or_default();
                *entry = name.into();
            }),
            value => leave_values_out(value),
        }),
        Value::Array(entries) => entries.iter_mut().for_each(leave_values_out),
        _ => {}
    }
}

#[derive(Args, Debug)]
pub(super) struct Run {
    #[command(flatten)]
    options: Options,
    /// Return once the container runs
    #[arg(short, long)]
    detach: bool,
    /// Do not delete the container when it ends
    #[arg(long)]
    keep: bool,
    /// Do not adopt the container's orphans
    #[arg(long)]
    no_subreaper: bool,
}

impl Run {
    pub(super) fn run(&self, context: &Context, globals: &Globals) -> Result<i32> {
        let request = Request { start_at_once: true, detached: self.detach, ..self.options.request(context) };
        if self.options.dry_run {
            return self.options.print_plan(&request).map(|()| 0);
        }
        if self.detach {
            let created = create_and(&request, |created| self.after_start(&created.record, context))?;
            created.notify.map_or(Ok(()), |notify| notify.await_ready(created.pid))?;
            return Ok(0);
        }
        if request.console_socket.is_some() {
            return Err(Error::new(Kind::Usage, "--console-socket needs --detach: the terminal is this one otherwise"));
        }
        let signals = Signals::hold(!self.no_subreaper)?;
        let request = Request { signals: Some(&signals), ..request };
        let created = create_and(&request, |created| self.after_start(&created.record, context))?;
        let Created { pid, master, notify, record, trace, .. } = created;
        let mut memory = MemoryWatch::of(record.cgroup.as_ref(), true);
        let end = wait_for(pid, master, notify, memory.as_mut(), signals);
        if let Ok(end) = &end
            && let Some(error) = told(*end, pid, Whose::Container(&self.options.id), memory.as_mut(), trace)
        {
            log::fatal(globals, &error);
        }
        if !self.keep {
            lifecycle::delete(&context.state, &self.options.id, true, &context.trace)?;
        }
        end.map(End::code)
    }

    fn after_start(&self, record: &Record, context: &Context) -> Result<()> {
        let Err(error) = lifecycle::run_poststart(record, &context.state) else { return Ok(()) };
        // A hook may have deleted it, and another may have its ID since.
        let ours = Container::open(&context.state, &self.options.id).is_ok_and(|c| c.record.process == record.process);
        let delete = || lifecycle::delete_within(&context.state, &self.options.id, true);
        let error = if ours && !self.keep { error.and_undone(delete()) } else { error };
        let pid = record.process.map_or(0, |process| process.pid);
        Err(error.and_undone(self.options.pid_file.as_deref().map_or(Ok(()), |path| remove_pid_file(path, pid))))
    }
}

#[derive(Args, Debug)]
pub(super) struct Delete {
    /// Kill it first if it runs; a container that is not there is fine
    #[arg(short, long)]
    force: bool,
    /// Take the ID for a regular expression, and delete every container that it matches
    #[arg(short, long)]
    regex: bool,
    /// The container
    id: String,
}

impl Delete {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        many::each(&context.state, &self.id, self.regex, |id| {
            lifecycle::delete(&context.state, id, self.force, &context.trace)
        })
    }
}

#[derive(Args, Debug)]
pub(super) struct Kill {
    /// Signal all processes of the container
    #[arg(short, long)]
    all: bool,
    /// Take the ID for a regular expression, and signal every container that it matches
    #[arg(short, long)]
    regex: bool,
    /// The container
    id: String,
    /// The signal, by name, with or without SIG, or by number
    #[arg(default_value = "SIGTERM")]
    signal: String,
    /// The signal as an option, `-s` too
    #[arg(long = "signal", value_name = "SIGNAL", conflicts_with = "signal")]
    option: Option<String>,
}

impl Kill {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let signal = signal(self.option.as_deref().unwrap_or(&self.signal))?;
        many::each(&context.state, &self.id, self.regex, |id| {
            context.trace.traced("kill", id, |_| {
                let container = Container::open(&context.state, id)?;
                if self.all { container.kill_all(signal) } else { container.kill(signal) }
            })
        })
    }
}

/// A signal's number.
fn signal(text: &str) -> Result<i32> {
    let unknown =
        || Error::new(Kind::Usage, format!("unknown signal `{text}`; KILL, SIGTERM, 15 or RTMIN+3 are examples"));
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=libc::SIGRTMAX()).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let offset = |text: &str| {
        if text.is_empty() { Some(0) } else { text[1..].parse::<i32>().ok() }
    };
    let real_time = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) if rest.is_empty() || rest.starts_with('+') => offset(rest).map(|n| libc::SIGRTMIN() + n),
        (_, Some(rest)) if rest.is_empty() || rest.starts_with('-') => offset(rest).map(|n| libc::SIGRTMAX() - n),
        _ => None,
    };
    if let Some(number) = real_time {
        let range = libc::SIGRTMIN()..=libc::SIGRTMAX();
        return if range.contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let signal: nix::sys::signal::Signal = format!("SIG{name}").parse().map_err(|_| unknown())?;
    Ok(signal as i32)
}

#[cfg(test)]
mod tests {
    use super::signal;

    #[test]
    fn signals_by_name_and_number() {
        for text in ["KILL", "SIGKILL", "kill", "9", "sigkill"] {
            assert_eq!(signal(text).unwrap(), 9, "{text}");
        }
        assert_eq!(signal("RTMIN+3").unwrap(), libc::SIGRTMIN() + 3);
        assert_eq!(signal("SIGRTMAX").unwrap(), libc::SIGRTMAX());
        assert_eq!(signal("0").unwrap(), 0);
        for text in ["", "SIG", "FOO", "-1", "65", "RTMIN-1", "RTMAX+1", "RTMIN+99", "1x"] {
            assert!(signal(text).is_err(), "{text}");
        }
    }
}
