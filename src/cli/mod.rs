//! The command line: what engines and people type, turned into calls of [`crate::parent`].

#[cfg(test)]
#[path = "../../build.rs"]
#[expect(dead_code, reason = "it is a program of its own, and here for its tests")]
mod build;
mod checkpoint;
mod container;
mod doctor;
mod events;
mod exec;
mod features;
mod globals;
mod inspect;
mod lint;
mod log;
mod many;
mod mounts;
mod pages;
mod replay;
mod spec;
mod spellings;
mod trace;
mod update;

use std::path::Path;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use serde_json::Value;

use self::globals::{Context, Globals};
use crate::error::{Context as _, Error, Result};
use crate::nearest::nearest;
use crate::plan::load;

/// What `--version` prints after the name.
const VERSION: &str = concat!(
    "version ",
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("TANDEM_COMMIT"),
    "\nspec: 1.3.0\n+SECCOMP +TRACE"
);

/// An OCI container runtime whose container start can be seen.
///
/// `tandem spec` makes a config.json to begin with, `tandem run ID` runs it, `tandem COMMAND --help` tells the options of a
/// command. Options may stand before or after the ID.
#[derive(Debug, Parser)]
#[command(name = "tandem", version = VERSION, disable_version_flag = true, disable_help_subcommand = false)]
#[command(arg_required_else_help = true, subcommand_value_name = "COMMAND")]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    /// Print the version
    #[arg(short = 'v', short_alias = 'V', long, action = clap::ArgAction::Version)]
    version: (),
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Save a container's processes to files; refused, for it needs CRIU, which is not supported
    Checkpoint(checkpoint::Checkpoint),
    /// Print a shell's completions
    Completion(pages::Completion),
    /// Create a container, which waits for `start`
    Create(container::Create),
    /// Delete a container
    Delete(container::Delete),
    /// Tell what this host can do for containers, what follows, and how to get the better
    ///
    /// Everything is asked of the kernel itself, by calls that have no effect, or whose effect ends with them: namespaces are
    /// really made, and gone again. Each line says `ok`, `partly` or `missing`; what is not `ok` says what follows for
    /// containers, and what can be done. At the end is which way of making mounts a container will take, and why no better.
    ///
    /// Exit status: 0 if this user can make containers here, 1 if not.
    #[command(visible_alias = "info")]
    Doctor(doctor::Doctor),
    /// Tell what a container uses, and when it runs out of memory, as JSON
    Events(events::Events),
    /// Execute a process in a running container
    Exec(exec::Exec),
    /// Tell what this runtime can do, as JSON
    Features,
    /// Send a signal to a container's first process, or to all
    Kill(container::Kill),
    /// Tell all that is wrong with a bundle's configuration, and what is hardly meant; make nothing
    ///
    /// Errors are what `create` refuses by the configuration alone, before it makes anything, all of them; the kernel may refuse
    /// more. Warnings are what is legal and does something else than was meant, or what, as far as a look can tell, won't work
    /// on this host as it is now. Each has the property's JSON path, a reason, and what to
    /// do.
    ///
    /// Exit status: 0 without errors, 1 with any, and with --strict for warnings too.
    Lint(lint::Lint),
    /// List containers
    List(inspect::List),
    /// Write the manual pages
    Man(pages::Man),
    /// Change the mounts of a running container
    Mounts(mounts::Mounts),
    /// Freeze all processes of a container
    Pause(container::Id),
    /// List the processes of a container
    Ps(inspect::Ps),
    /// Create a container from what `checkpoint` has saved; refused as well
    Restore(checkpoint::Restore),
    /// Let a paused container go on
    Resume(container::Id),
    /// Create a container and start it
    Run(container::Run),
    /// Make a config.json to begin with
    Spec(spec::Spec),
    /// Start a created container
    Start(container::Id),
    /// Tell the state of a container, as JSON
    State(container::Id),
    /// Look at what --trace has written
    Trace(trace::Trace),
    /// Change the limits of a container
    Update(update::Update),
}

impl Command {
    /// Whether standard error may be a container's too, or is read together with the output, as containerd does.
    fn shares_stderr(&self) -> bool {
        let container = matches!(self, Command::Create(_) | Command::Exec(_) | Command::Run(_) | Command::Start(_));
        container || matches!(self, Command::Features | Command::Ps(_) | Command::State(_))
    }
}

/// Runs a command and returns the exit code of the process.
pub fn main() -> i32 {
    crate::sys::signal::hear_of_children();
    let args = spellings::normalized(std::env::args_os().collect(), Cli::command);
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(e) if e.exit_code() == 0 || e.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Help and version; a reader that has gone away is no failure.
            let _ = e.print();
            return e.exit_code();
        }
        Err(e) => {
            log::refused(&args, &one_line(&e));
            return e.exit_code();
        }
    };
    if let Err(error) = log::init(&cli.globals, cli.command.shares_stderr()) {
        log::say(&error.to_string());
        return 1;
    }
    match run(&cli) {
        Ok(code) => {
            log::done(&cli.globals);
            code
        }
        Err(error) => {
            log::fatal(&cli.globals, &error);
            1
        }
    }
}

/// A mistake on the command line, as one line: what is wrong, without the usage that --help has.
fn one_line(error: &clap::Error) -> String {
    // podman finds out by these words whether an option is known.
    let empty = |value: Option<&clap::error::ContextValue>| value.is_none_or(|value| value.to_string().is_empty());
    if error.kind() == ErrorKind::InvalidValue
        && empty(error.get(ContextKind::InvalidValue))
        && let Some(option) = error.get(ContextKind::InvalidArg)
    {
        return format!("option `{option}` requires an argument (see --help)");
    }
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    let lines = lines.filter(|line| !is_far(line, error));
    let line = lines.collect::<Vec<_>>().join(" ");
    format!("{} (see --help)", line.strip_prefix("error: ").unwrap_or(&line))
}

/// Whether a line is clap's tip of a name that was hardly meant: it finds `--rm` similar to `--cgroup-manager`.
fn is_far(line: &str, error: &clap::Error) -> bool {
    if !line.starts_with("tip:") || !line.contains("similar") {
        return false;
    }
    let wrong = error.get(ContextKind::InvalidArg).or_else(|| error.get(ContextKind::InvalidSubcommand));
    let wrong = wrong.or_else(|| error.get(ContextKind::InvalidValue)).map(ToString::to_string).unwrap_or_default();
    nearest(&wrong, line.split('\'').skip(1).step_by(2)).is_none()
}

fn run(cli: &Cli) -> Result<i32> {
    let done = |result: Result<()>| result.map(|()| 0);
    // What needs no state, and so no place for it.
    match &cli.command {
        Command::Checkpoint(args) => return done(args.run()),
        Command::Completion(args) => return done(args.run()),
        Command::Doctor(args) => return args.run(&cli.globals),
        Command::Features => return done(features::print()),
        Command::Lint(args) => return args.run(&Context::without_state(&cli.globals)?),
        Command::Man(args) => return done(args.run()),
        Command::Restore(args) => return done(args.run()),
        Command::Spec(args) => return done(args.run()),
        Command::Trace(args) => return done(args.run()),
        _ => {}
    }
    let context = Context::new(&cli.globals)?;
    match &cli.command {
        Command::Create(args) => done(args.create(&context)),
        Command::Delete(args) => done(args.run(&context)),
        Command::Events(args) => done(args.run(&context)),
        Command::Exec(args) => args.run(&context, &cli.globals),
        Command::Kill(args) => done(args.run(&context)),
        Command::List(args) => done(args.run(&context)),
        Command::Mounts(args) => done(args.run(&context)),
        Command::Pause(args) => done(args.pause(&context)),
        Command::Ps(args) => done(args.run(&context)),
        Command::Resume(args) => done(args.resume(&context)),
        Command::Run(args) => args.run(&context, &cli.globals),
        Command::Start(args) => done(args.start(&context)),
        Command::State(args) => done(inspect::state(&args.open(&context)?)),
        Command::Update(args) => done(args.run(&context)),
        Command::Checkpoint(_)
        | Command::Completion(_)
        | Command::Doctor(_)
        | Command::Features
        | Command::Lint(_)
        | Command::Man(_)
        | Command::Restore(_)
        | Command::Spec(_)
        | Command::Trace(_) => Ok(0),
    }
}

/// Reads a JSON file; `-` is standard input.
fn read_json(path: &Path) -> Result<Value> {
    let text = match path.as_os_str() == "-" {
        true => load::limited(std::io::stdin(), "standard input")?,
        false => load::bounded(path)?,
    };
    load::json(&text).context(|| format!("`{}`", path.display()))
}

/// Prints to standard output; a reader that has gone away is no failure of the command.
fn print(text: &str) -> Result<()> {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::system(e.to_string()).context("write to standard output"))
        }
        _ => Ok(()),
    }
}

/// Prints a value as JSON and a newline.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::system(e.to_string()))?;
    print(&(text + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
