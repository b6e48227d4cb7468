//! A process by its ID and start time: an ID alone may be another process's by now.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::procfs::Proc;

/// A process of the host, told apart from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// In the pid namespace of who asks.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: in clock ticks since boot.
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has this number now.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn of(pid: i32, proc: &Proc) -> Result<ProcessId> {
        match Stat::read(pid, proc)? {
            Some(stat) => Ok(ProcessId { pid, start_time: stat.start_time }),
            None => Err(Error::call(format!("read `/proc/{pid}/stat`"), Errno::SRCH)),
        }
    }

    /// Whether it is still there, no zombie and not on its way out: the first process of a pid namespace waits in its exit
    /// until all others of it are gone.
    ///
    /// # Errors
    /// An unreadable `/proc`.
    pub(crate) fn is_alive(&self, proc: &Proc) -> Result<bool> {
        let Some(stat) = Stat::read(self.pid, proc)? else { return Ok(false) };
        Ok(stat.start_time == self.start_time && !stat.ends)
    }
}

/// Checks that the child's image has become the payload, once its end of the socket is closed: exec closes it, and so does
/// death. A seccomp filter that kills on execve, say, lets a container end before it began.
///
/// # Errors
/// It died, or could not tell that it failed.
pub(crate) fn must_be_executed(pid: i32, proc: &Proc) -> Result<()> {
    const PATIENCE: Duration = Duration::from_millis(200);
    let deadline = Instant::now() + PATIENCE;
    // Exec closes the socket a moment before it gives the process its new name.
    while let Some(stat) = Stat::read(pid, proc)? {
        if stat.comm.as_bytes() != crate::CHILD_COMM.to_bytes() {
            return Ok(());
        }
        if stat.ends || Instant::now() >= deadline {
            let message = "the process ended before the payload was executed";
            return Err(Error::system(message).advise("does its seccomp filter allow execve?"));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    // Gone and reaped by another: whoever that was has seen how it ended.
    Ok(())
}

/// Whether a process has ended, or is about to.
pub(crate) fn is_gone(pid: i32, proc: &Proc) -> bool {
    matches!(Stat::read(pid, proc), Ok(None | Some(Stat { ends: true, .. })))
}

/// What is read of `/proc/PID/stat`; proc_pid_stat(5).
struct Stat {
    comm: String,
    start_time: u64,
    /// A zombie, or exiting.
    ends: bool,
}

impl Stat {
    /// None if there is no process of this number.
    fn read(pid: i32, proc: &Proc) -> Result<Option<Stat>> {
        const PF_EXITING: u64 = 0x4;
        let path = format!("{pid}/stat");
        let text = match proc.read(&path) {
            Ok(text) => text,
            Err(e) if matches!(e.errno(), Some(Errno::NOENT | Errno::SRCH)) => return Ok(None),
            Err(e) => return Err(e),
        };
        // The command's name, in parentheses, may hold anything, parentheses and blanks too.
        let (before, rest) = text.rsplit_once(')').unwrap_or_default();
        let comm = before.split_once('(').map_or("", |(_, comm)| comm).to_owned();
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |i: usize| fields.get(i).and_then(|field| field.parse::<u64>().ok());
        match (fields.first(), number(6), number(19)) {
            (Some(state), Some(flags), Some(start_time)) => {
                let ends = matches!(*state, "Z" | "X" | "x") || flags & PF_EXITING != 0;
                Ok(Some(Stat { comm, start_time, ends }))
            }
            _ => Err(Error::system(format!("`/proc/{path}` has an unknown form"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_no_other_of_its_number() {
        let proc = Proc::open().unwrap();
        let own = ProcessId::of(std::process::id() as i32, &proc).unwrap();
        assert!(own.is_alive(&proc).unwrap());
        assert!(!ProcessId { start_time: own.start_time + 1, ..own }.is_alive(&proc).unwrap());
        assert!(ProcessId::of(i32::MAX, &proc).is_err());
    }
}
