//! Signals by number: the realtime signals have no names in the safe crates, and are what some payloads stop on.

use rustix::io::Errno;

use super::check;

/// Gives SIGCHLD its default disposition: ignored, as a caller may leave it over exec, no child is there to be waited for
/// once it has ended (signal(7)).
pub fn hear_of_children() {
    // SAFETY: a zeroed sigaction is SIG_DFL with an empty mask and no flags; the old one is not asked for.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGCHLD, &default, std::ptr::null_mut());
    }
}

/// `kill(2)`.
///
/// # Errors
/// ESRCH for a process that is gone, EPERM for one of another user, EINVAL for no signal.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: the call takes integers only.
    let ret = unsafe { libc::kill(pid, signal) };
    check(ret.into()).map(drop)
}
