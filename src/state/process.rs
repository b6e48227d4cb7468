//! A process by its ID and start time: an ID alone may be another process's by now.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
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
        // How it ends is known a moment after that it does.
        let end = stat.end();
        if matches!(end, Some(Fate::Killed(_) | Fate::Exited)) || Instant::now() >= deadline {
            return Err(not_executed(end));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    // Gone and reaped by another: whoever that was has seen how it ended.
    Ok(())
}

fn not_executed(end: Option<Fate>) -> Error {
    const BEFORE: &str = "before the payload was executed";
    match end {
        // No other part of the kernel sends it.
        Some(Fate::Killed(libc::SIGSYS)) => Error::system(format!("the seccomp filter killed the process {BEFORE}"))
            .advise("linux.seccomp must allow execve, and what comes before it")
            .of_kind(Kind::NotExecuted),
        Some(Fate::Killed(signal)) => {
            let error = Error::system(format!("the process was killed by signal {signal} {BEFORE}"));
            match is_own_fault(signal) {
                // It can neither say why nor exit.
                true => error
                    .advise("a filter in linux.seccomp that refuses execve and exit_group does that: `tandem lint` names them")
                    .of_kind(Kind::NotExecuted),
                false => error,
            }
        }
        Some(Fate::Exited) => Error::new(Kind::NotExecuted, format!("the process ended {BEFORE}")),
        _ => Error::system(format!("the process ended {BEFORE}")),
    }
}

/// Signals that a process gets for what it did itself: nobody else has killed it.
fn is_own_fault(signal: i32) -> bool {
    use libc::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
    [SIGSYS, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT].contains(&signal)
}

/// Whether a process has ended, or is about to.
pub(crate) fn is_gone(pid: i32, proc: &Proc) -> bool {
    matches!(Stat::read(pid, proc), Ok(None | Some(Stat { ends: true, .. })))
}

/// What becomes of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Lives,
    /// By itself, or for its own fault: a zombie, or on its way out.
    Exited,
    /// By this signal, or about to be.
    Killed(i32),
    /// Ended, and it is not known how: it is reaped, or another user's.
    Gone,
}

impl Fate {
    /// What has become of a process by now. One that can't be looked at is taken to live.
    pub(crate) fn of(process: &ProcessId, proc: &Proc) -> Fate {
        let stat = match Stat::read(process.pid, proc) {
            Ok(Some(stat)) if stat.start_time == process.start_time => stat,
            Ok(_) => return Fate::Gone,
            Err(_) => return Fate::Lives,
        };
        match stat.end() {
            Some(Fate::Killed(signal)) if is_own_fault(signal) => Fate::Exited,
            Some(end) => end,
            // A busy machine may let a process wait for its end.
            None if is_to_die(process.pid, proc) => Fate::Killed(libc::SIGKILL),
            None => Fate::Lives,
        }
    }
}

/// Whether a process has been sent SIGKILL, which nothing takes back.
fn is_to_die(pid: i32, proc: &Proc) -> bool {
    let Ok(text) = proc.read(&format!("{pid}/status")) else { return false };
    let mut pending = text.lines().filter_map(|l| l.strip_prefix("SigPnd:").or_else(|| l.strip_prefix("ShdPnd:")));
    pending.any(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 << (libc::SIGKILL - 1) != 0))
}

/// What is read of `/proc/PID/stat`; proc_pid_stat(5).
struct Stat {
    comm: String,
    start_time: u64,
    /// A zombie, or exiting.
    ends: bool,
    /// As wait(2) will have it; 0 where this process may not know it.
    status: i32,
}

impl Stat {
    /// How it ended, if it did; [`Fate::Gone`] where that is not told, or not yet.
    fn end(&self) -> Option<Fate> {
        self.ends.then_some(match (self.status, self.status & 0x7f) {
            (0, _) => Fate::Gone,
            (_, 0) => Fate::Exited,
            (_, signal) => Fate::Killed(signal),
        })
    }

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
                let status = fields.get(49).and_then(|field| field.parse().ok()).unwrap_or(0);
                Ok(Some(Stat { comm, start_time, ends, status }))
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
