//! Signals by number: the realtime signals have no names in the safe crates, and are what some payloads stop on.

use rustix::io::Errno;

use super::check;

/// `kill(2)`.
///
/// # Errors
/// ESRCH for a process that is gone, EPERM for one of another user, EINVAL for no signal.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: the call takes integers only.
    let ret = unsafe { libc::kill(pid, signal) };
    check(ret.into()).map(drop)
}
