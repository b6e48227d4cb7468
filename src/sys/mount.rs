//! `mount_setattr(2)`, which rustix does not have yet.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::check;

/// `struct mount_attr` of `mount_setattr(2)`: which `MOUNT_ATTR_*` bits to set and to clear, and the propagation
/// (`MS_SHARED` and its like, 0 to leave it).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttr {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear.
    pub clear: u64,
    /// The new propagation type, or 0.
    pub propagation: u64,
    /// The user namespace of an id-mapped mount, with `MOUNT_ATTR_IDMAP` set.
    pub userns_fd: u64,
}

impl MountAttr {
    /// Whether the call would change nothing.
    pub fn is_empty(&self) -> bool {
        *self == MountAttr::default()
    }
}

/// `mount_setattr(fd, "", AT_EMPTY_PATH [| AT_RECURSIVE], attr)`, Linux 5.12.
///
/// # Errors
/// ENOSYS before Linux 5.12; EPERM where a locked flag would be cleared; EINVAL for a mount of another namespace.
pub fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid empty C string, and `attr` points to a struct of the layout and size that the kernel
    // documents, alive for the whole call; the kernel only reads it.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    check(ret).map(drop)
}
