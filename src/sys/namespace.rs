//! What kind of namespace an fd is.

use std::os::fd::{AsRawFd, BorrowedFd};

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
