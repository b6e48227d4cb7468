//! System calls that no safe crate offers, each behind a safe function: the only unsafe code of the crate.
//!
//! A function here does one call (or one indivisible sequence, as clone then exec), checks nothing that the kernel
//! checks, and returns the kernel's errno. What an errno *means* is for the caller to say.
#![allow(unsafe_code)]

pub mod ask;
pub mod bpf;
pub mod clone;
pub mod exec;
pub mod fsopen;
pub mod mount;
pub mod namespace;
pub mod net;
pub mod process;
pub mod seccomp;
pub mod signal;
pub mod stdio;
pub mod userns;

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

/// Which file an fd is open on: its device and its inode, equal for the same file alone. fstat(2)'s errno.
pub(crate) fn identity(fd: BorrowedFd<'_>) -> Result<(u64, u64), Errno> {
    rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino))
}

/// The result of a raw call: its value, or errno.
fn check(ret: libc::c_long) -> Result<libc::c_long, Errno> {
    if ret < 0 { Err(last_errno()) } else { Ok(ret) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Waits for a child that was cloned without an exit signal, which waitpid(2) overlooks unless told.
fn reap_unannounced(pid: i32) -> Result<(), Errno> {
    use rustix::process::{Pid, WaitOptions, waitpid};
    let all = WaitOptions::from_bits_retain(libc::__WALL as u32);
    rustix::io::retry_on_intr(|| waitpid(Pid::from_raw(pid), all)).map(drop)
}
