//! The stage: a detached tmpfs on which the sources of a container in a user namespace are gathered.
//!
//! A copy of a mount that the parent takes has none of its flags locked: the container's root, with every right over its
//! own mount namespace, could make writable what the host has read-only. The kernel locks the flags of a tree when a
//! process of another user namespace copies it. So the child gets the sources on a stage, and copies that, once.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use rustix::mount::MoveMountFlags;

use crate::error::{Context, Result};
use crate::filesystem;
use crate::plan::mounts::Filesystem;
use crate::plan::options::Attrs;

/// The stage, as it fills.
pub(super) struct Stage(OwnedFd);

impl Stage {
    pub(super) fn new() -> Result<Stage> {
        filesystem::make(&Filesystem::tmpfs(Some("755"), None), Attrs::default())
            .context(|| "make a stage for mount sources")
            .map(Stage)
    }

    /// Puts a detached tree on the stage, under the number of its slot.
    ///
    /// # Errors
    /// move_mount(2)'s.
    pub(super) fn put(&self, slot: usize, tree: BorrowedFd<'_>) -> Result<(), Errno> {
        let name = slot.to_string();
        let kind = FileType::from_raw_mode(rustix::fs::fstat(tree)?.st_mode);
        match kind {
            FileType::Directory => rustix::fs::mkdirat(&self.0, &*name, Mode::from_raw_mode(0o755))?,
            _ => rustix::fs::mknodat(&self.0, &*name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)?,
        }
        rustix::mount::move_mount(tree, "", &self.0, &*name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
    }
}

impl AsFd for Stage {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
