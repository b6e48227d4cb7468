//! What is made from the command line's own description: completions for shells, and manual pages.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, print};
use crate::error::{Context, Error, Result};

#[derive(Args, Debug)]
pub(super) struct Completion {
    /// The shell
    #[arg(value_enum, required_unless_present = "named")]
    shell: Option<Shell>,
    /// The same, as youki has it
    #[arg(long = "shell", value_enum, value_name = "SHELL", conflicts_with = "shell", hide = true)]
    named: Option<Shell>,
}

impl Completion {
    /// `eval "$(tandem completion bash)"`, or a file where the shell looks for such.
    pub(super) fn run(&self) -> Result<()> {
        let mut script = vec![];
        let shell = self.shell.or(self.named).ok_or_else(|| Error::system("no shell is named"))?;
        clap_complete::generate(shell, &mut Cli::command(), "tandem", &mut script);
        print(&String::from_utf8(script).map_err(|e| Error::system(e.to_string()))?)
    }
}

#[derive(Args, Debug)]
pub(super) struct Man {
    /// The directory to write them to
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Man {
    /// tandem.1, and one page a command.
    pub(super) fn run(&self) -> Result<()> {
        let doing = || format!("write the manual pages to `{}`", self.dir.display());
        std::fs::create_dir_all(&self.dir).context(doing)?;
        // The version has lines for engines, which a page's foot has no room for.
        let command = Cli::command().version(env!("CARGO_PKG_VERSION"));
        clap_mangen::generate_to(command, &self.dir).context(doing)
    }
}
