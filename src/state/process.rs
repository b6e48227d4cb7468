//! A process by its ID and start time: an ID alone may be another process's by now.

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

/// A process of the host, told apart from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    #[allow(missing_docs)]
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: in clock ticks since boot.
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has this number now.
    ///
    /// # Errors
    /// There is none.
    pub fn of(pid: i32) -> Result<ProcessId> {
        match start_time(pid)? {
            Some((start_time, _)) => Ok(ProcessId { pid, start_time }),
            None => Err(Error::call(format!("read `/proc/{pid}/stat`"), Errno::SRCH)),
        }
    }

    /// Whether it is still there and no zombie.
    ///
    /// # Errors
    /// An unreadable `/proc`.
    pub fn is_alive(&self) -> Result<bool> {
        Ok(
            matches!(start_time(self.pid)?, Some((start_time, state)) if start_time == self.start_time && !"ZXx".contains(state)),
        )
    }
}

/// Start time and state letter of a process; None if there is none of this number. proc_pid_stat(5).
///
/// # Errors
/// An unreadable `/proc`.
pub fn start_time(pid: i32) -> Result<Option<(u64, char)>> {
    let path = format!("/proc/{pid}/stat");
    let stat = match std::fs::read(&path) {
        Ok(stat) => String::from_utf8_lossy(&stat).into_owned(),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => return Ok(None),
        Err(e) => return Err(e).context(|| format!("read `{path}`")),
    };
    // The command's name, in parentheses, may hold anything, parentheses and blanks too.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace().collect()).unwrap_or_default();
    let state = fields.first().and_then(|s| s.chars().next());
    let start = fields.get(19).and_then(|s| s.parse().ok());
    match (start, state) {
        (Some(start), Some(state)) => Ok(Some((start, state))),
        _ => Err(Error::system(format!("`{path}` has an unknown form"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_no_other_of_its_number() {
        let own = ProcessId::of(std::process::id() as i32).unwrap();
        assert!(own.is_alive().unwrap());
        assert!(!ProcessId { start_time: own.start_time + 1, ..own }.is_alive().unwrap());
        assert!(ProcessId::of(i32::MAX).is_err());
    }
}
