//! `trace replay`: a recorded conversation, against one real end of it.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::print;
use crate::error::{Context, Result};
use crate::protocol::recording::{self, Recording};
use crate::replay;

#[derive(Args, Debug)]
pub(super) struct Replay {
    /// Which end is the real one
    #[arg(long, value_enum, default_value_t = End::Parent)]
    against: End,
    /// Wait for Enter before each message
    #[arg(long)]
    step: bool,
    /// What TANDEM_RECORD has named
    file: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum End {
    Parent,
    Child,
}

impl Replay {
    pub(super) fn run(&self) -> Result<()> {
        recording::read(&self.file)?.iter().try_for_each(|conversation| self.replay(conversation))
    }

    fn replay(&self, Recording { command, frames }: &Recording) -> Result<()> {
        print(&format!("{command}: {} frames\n", frames.len()))?;
        let mut watch = |i: usize, frame: &recording::Frame| {
            print(&format!("{:>4}  {}\n", i + 1, replay::describe(frame)))?;
            if self.step {
                wait_for_enter()?;
            }
            Ok(())
        };
        match self.against {
            End::Parent => replay::against_parent(frames, replay::sequence(command, frames)?, &mut watch),
            End::Child => replay::against_child(command, frames, &mut watch),
        }
        .context(|| format!("replay `{command}`"))?;
        print("the end\n")
    }
}

fn wait_for_enter() -> Result<()> {
    std::io::stdout().flush().context(|| "write to standard output")?;
    std::io::stdin().lock().read_line(&mut String::new()).map(drop).context(|| "read standard input")
}
