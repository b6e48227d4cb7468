//! The command line: what engines and people type, turned into calls of [`crate::parent`].

mod container;
mod control;
mod exec;
mod features;
mod inspect;
mod log;
mod spec;
mod trace;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::error::{Error, Result};
use crate::parent::trace::TraceFile;
use crate::plan::CgroupManager;
use crate::state::StateRoot;

/// What `--version` prints after the name.
const VERSION: &str = concat!(
    "version ",
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("TANDEM_COMMIT"),
    "\nspec: 1.3.0\n+SECCOMP +TRACE"
);

#[derive(Debug, Parser)]
#[command(name = "tandem", version = VERSION, about)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
struct Globals {
    /// Where the containers' state is kept [default: /run/tandem; for a user $XDG_RUNTIME_DIR/tandem]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Write the error that ends a command to this file too
    #[arg(long, global = true, value_name = "FILE")]
    log: Option<PathBuf>,
    /// How to write to --log
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// How much to tell on standard error: error, warn, info, debug, trace
    #[arg(long, global = true, value_name = "LEVEL", default_value = "warn")]
    log_level: ::log::LevelFilter,
    /// The same as --log-level debug: every step and message on standard error
    #[arg(long, global = true)]
    debug: bool,
    /// The same as --cgroup-manager systemd; later commands on the container need neither
    #[arg(short = 's', long, global = true)]
    systemd_cgroup: bool,
    /// Who makes control groups: tandem itself, systemd (cgroupsPath is then SLICE:PREFIX:NAME), or nobody
    #[arg(long, global = true, value_enum, default_value_t = Manager::Cgroupfs)]
    cgroup_manager: Manager,
    /// Accepted for engines; what the runtime may do is found by asking the kernel
    #[arg(long, value_name = "BOOL", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    rootless: Option<String>,
    /// Write every step and message of a container's start to this file
    #[arg(long, global = true, value_name = "FILE", env = "TANDEM_TRACE")]
    trace: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Manager {
    Cgroupfs,
    Systemd,
    Disabled,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a container, which waits for `start`
    Create(container::Create),
    /// Delete a container
    Delete(container::Delete),
    /// Execute a process in a running container
    Exec(exec::Exec),
    /// Tell what this runtime can do, as JSON
    Features,
    /// Send a signal to a container's first process
    Kill(container::Kill),
    /// List containers
    List(inspect::List),
    /// Freeze all processes of a container
    Pause(container::Id),
    /// List the processes of a container
    Ps(inspect::Ps),
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
    /// Look at traces
    Trace(trace::Trace),
    /// Change the limits of a container
    Update(control::Update),
}

/// What every command needs of the globals.
struct Context {
    state: StateRoot,
    trace: TraceFile,
    cgroups: CgroupManager,
}

impl Context {
    fn new(globals: &Globals) -> Result<Context> {
        Ok(Context {
            state: StateRoot::choose(globals.root.as_deref())?,
            trace: TraceFile::new(globals.trace.clone()),
            cgroups: match globals.cgroup_manager {
                // Docker says both: that there be none goes first.
                Manager::Disabled => CgroupManager::Disabled,
                Manager::Systemd => CgroupManager::Systemd,
                Manager::Cgroupfs if globals.systemd_cgroup => CgroupManager::Systemd,
                Manager::Cgroupfs => CgroupManager::Cgroupfs,
            },
        })
    }
}

/// Runs a command and returns the exit code of the process.
pub fn main() -> i32 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if e.exit_code() == 0 => {
            // Help and version; a reader that has gone away is no failure.
            let _ = e.print();
            return 0;
        }
        Err(e) => {
            eprintln!("tandem: {}", one_line(&e.render().to_string()));
            return e.exit_code();
        }
    };
    if let Err(error) = log::init(&cli.globals) {
        eprintln!("tandem: {error}");
        return 1;
    }
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            log::fatal(&cli.globals, &error);
            1
        }
    }
}

/// A mistake on the command line, as one line: what is wrong, without the usage that --help has.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    let line = lines.collect::<Vec<_>>().join(" ");
    format!("{} (see --help)", line.strip_prefix("error: ").unwrap_or(&line))
}

fn run(cli: &Cli) -> Result<i32> {
    let context = Context::new(&cli.globals)?;
    let done = |result: Result<()>| result.map(|()| 0);
    match &cli.command {
        Command::Create(args) => done(args.create(&context)),
        Command::Delete(args) => done(args.run(&context)),
        Command::Exec(args) => args.run(&context),
        Command::Features => done(features::print()),
        Command::Kill(args) => done(args.run(&context)),
        Command::List(args) => done(args.run(&context)),
        Command::Pause(args) => done(args.open(&context)?.pause()),
        Command::Ps(args) => done(args.run(&context)),
        Command::Resume(args) => done(args.open(&context)?.resume()),
        Command::Run(args) => args.run(&context),
        Command::Spec(args) => done(args.run()),
        Command::Start(args) => done(args.start(&context)),
        Command::State(args) => done(inspect::state(&args.open(&context)?)),
        Command::Trace(args) => done(args.run()),
        Command::Update(args) => done(args.run(&context)),
    }
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
