//! What must be put right in a process before it becomes another program.

use std::os::fd::RawFd;

use rustix::io::Errno;

use super::check;

/// Marks every fd from `first` up close-on-exec (`close_range(2)` with `CLOSE_RANGE_CLOEXEC`, Linux 5.11).
///
/// # Errors
/// ENOSYS or EINVAL on an older kernel: the caller goes through `/proc/self/fd` then.
pub fn cloexec_from(first: RawFd) -> Result<(), Errno> {
    // SAFETY: the call takes integers only and closes nothing: it sets a flag on fds that exist.
    let ret = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(ret).map(drop)
}

/// Sets or clears close-on-exec on one fd number, which need not be open.
///
/// # Errors
/// EBADF for a number that is not open.
pub fn set_cloexec(fd: RawFd, on: bool) -> Result<(), Errno> {
    // SAFETY: F_SETFD changes a flag of an fd number; it neither closes nor duplicates it, and EBADF is reported.
    let ret = unsafe { libc::fcntl(fd, libc::F_SETFD, if on { libc::FD_CLOEXEC } else { 0 }) };
    check(ret.into()).map(drop)
}

/// Closes the fds from `first` to `last` (`close_range(2)`, Linux 5.9). For those that were inherited: none of them may have an
/// owner in this process.
///
/// # Errors
/// ENOSYS on an older kernel: the caller goes through `/proc/self/fd` then.
pub fn close_range(first: RawFd, last: RawFd) -> Result<(), Errno> {
    // SAFETY: the call takes integers. Closing a number that has an owner would let that close another's: the caller is told
    // not to.
    let ret = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    check(ret).map(drop)
}

/// Closes one fd number, which need not be open. As for [`close_range`], it may have no owner in this process.
///
/// # Errors
/// EBADF for a number that is not open.
pub fn close(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: as above.
    let ret = unsafe { libc::close(fd) };
    check(ret.into()).map(drop)
}

/// Gives every signal its default disposition and unblocks all: conmon starts us with SIGPIPE ignored, and an ignored
/// signal stays ignored over exec (signal(7)).
pub fn reset_signals() {
    // SAFETY: a zeroed sigaction is SIG_DFL with an empty mask and no flags. A refusal (SIGKILL, SIGSTOP, and the two
    // that the C library keeps for itself) changes nothing and is expected. sigprocmask reads the set just built.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        for signal in 1..=libc::SIGRTMAX() {
            libc::sigaction(signal, &default, std::ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Takes an fd number that was inherited over exec into ownership, once. Returns None if it is not open.
pub fn inherited(fd: RawFd) -> Option<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    set_cloexec(fd, true).ok()?;
    // SAFETY: the number is open (the call above succeeded) and nothing else in this process owns it: `main` of the
    // child image takes it as its first act, before any other fd exists beside the standard three.
    Some(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) })
}
