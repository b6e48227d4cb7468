//! What kind of namespace an fd is, and whose.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::check;

/// `ioctl(fd, NS_GET_NSTYPE)`: the `CLONE_NEW*` flag of a namespace; ioctl_ns(2).
///
/// # Errors
/// ENOTTY for an fd that is no namespace.
pub fn kind(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: the request takes no argument and writes nothing.
    let ret = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
    check(ret.into()).map(|kind| kind as u32)
}

/// `ioctl(fd, NS_GET_USERNS)`: the user namespace that owns a namespace; ioctl_ns(2).
///
/// # Errors
/// EPERM for an owner that is not at or below the caller's.
pub fn owner(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    related(namespace, NS_GET_USERNS)
}

/// `ioctl(fd, NS_GET_PARENT)`: the pid or user namespace that one was made in; ioctl_ns(2).
///
/// # Errors
/// EPERM for a parent that is not at or below the caller's.
pub fn parent(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const NS_GET_PARENT: libc::Ioctl = 0xb702;
    related(namespace, NS_GET_PARENT)
}

fn related(namespace: BorrowedFd<'_>, request: libc::Ioctl) -> Result<OwnedFd, Errno> {
    // SAFETY: both requests take no argument and return a new fd.
    let ret = unsafe { libc::ioctl(namespace.as_raw_fd(), request) };
    let fd = check(ret.into())? as i32;
    // SAFETY: a new fd that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
