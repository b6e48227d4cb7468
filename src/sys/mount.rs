//! `mount_setattr(2)`, which rustix does not have yet, and questions to the kernel about the new mount API.

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

/// A call of the new mount API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Call {
    OpenTree,
    /// open_tree(2) with `OPEN_TREE_NAMESPACE`.
    OpenTreeNamespace,
    MoveMount,
    Fsopen,
    Fsconfig,
    Fsmount,
    MountSetattr,
}

/// `OPEN_TREE_NAMESPACE` of open_tree(2), Linux 7.0: a new mount namespace that holds a copy of the tree alone.
pub const OPEN_TREE_NAMESPACE: u32 = 1 << 1;

/// Asks whether the kernel has a call, by one that can't succeed and does nothing: the errno it answers. ENOSYS, or for
/// `OPEN_TREE_NAMESPACE` EINVAL, means that it lacks it.
pub fn ask(call: Call) -> Errno {
    const NO_FD: libc::c_int = -1;
    let empty = c"".as_ptr();
    let path_flags = libc::AT_EMPTY_PATH as libc::c_uint | libc::O_CLOEXEC as libc::c_uint;
    // SAFETY: each call gets an fd that is none, a null pointer or a size of 0, so that the kernel refuses it before it
    // reads or makes anything; the only memory it may read is a static empty C string.
    let ret = unsafe {
        match call {
            Call::OpenTree => libc::syscall(libc::SYS_open_tree, NO_FD, empty, path_flags | libc::OPEN_TREE_CLONE),
            Call::OpenTreeNamespace => {
                libc::syscall(libc::SYS_open_tree, NO_FD, empty, path_flags | OPEN_TREE_NAMESPACE)
            }
            Call::MoveMount => {
                let both = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
                libc::syscall(libc::SYS_move_mount, NO_FD, empty, NO_FD, empty, both)
            }
            Call::Fsopen => libc::syscall(libc::SYS_fsopen, std::ptr::null::<u8>(), 0),
            Call::Fsconfig => {
                let none = std::ptr::null::<u8>();
                libc::syscall(libc::SYS_fsconfig, NO_FD, 0, none, none, 0)
            }
            Call::Fsmount => libc::syscall(libc::SYS_fsmount, NO_FD, 0, 0),
            Call::MountSetattr => {
                libc::syscall(libc::SYS_mount_setattr, NO_FD, empty, libc::AT_EMPTY_PATH, std::ptr::null::<u8>(), 0)
            }
        }
    };
    // A call that succeeded against all odds is one that the kernel has.
    check(ret).err().unwrap_or(Errno::BADF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_no_effect_and_an_answer() {
        for call in [Call::OpenTree, Call::MoveMount, Call::Fsopen, Call::Fsconfig, Call::Fsmount] {
            // As root EBADF, EFAULT or EINVAL, as an ordinary user perhaps EPERM: every kernel of the tests has them.
            assert_ne!(ask(call), Errno::NOSYS, "{call:?}");
        }
    }
}
