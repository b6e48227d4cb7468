//! A mount tree by its fd: attributes, propagation, attaching. The new mount API, with mount(2) for what a kernel lacks.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::kernel::rustix;
use crate::kernel::rustix::io::Errno;
use crate::kernel::rustix::mount::{MoveMountFlags, OpenTreeFlags};

use super::legacy;
use crate::error::{Context, Error, Result};
use crate::kernel::sys::mount::{MountAttr, mount_setattr};
use crate::plan::options::{Attrs, Propagation, attr};
use crate::plan::strategy::MountApi;
use crate::procfs::Proc;
use crate::protocol::event::{About, Recorder};

/// `open_tree(fd, "", OPEN_TREE_CLONE)`: a detached copy of the mount at an fd, with all below it or not.
pub(super) fn clone(of: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(of, "", flags)
}

/// `move_mount`: attaches a detached tree at a place.
pub(super) fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", target, "", flags)
}

/// All that is to be changed about a tree.
#[derive(Clone, Copy, Default)]
pub(super) struct Changes {
    /// Of the topmost mount.
    pub(super) attrs: Attrs,
    /// Of all.
    pub(super) recursive: Attrs,
    /// With whether it is recursive.
    pub(super) propagation: Option<(Propagation, bool)>,
    /// Propagation is set once the tree is attached: below a shared mount all of it has become shared by that.
    pub(super) below_shared: bool,
}

impl Changes {
    /// What is made before a tree is attached, and what after it.
    pub(super) fn around_attach(self) -> (Changes, Changes) {
        match self.below_shared {
            true => {
                (Changes { propagation: None, ..self }, Changes { propagation: self.propagation, ..Changes::default() })
            }
            false => (self, Changes::default()),
        }
    }

    /// As few mount_setattr calls as the changes need: what goes for all mounts in one, the rest in another.
    fn calls(&self) -> impl Iterator<Item = (bool, MountAttr)> {
        let mut top = MountAttr { set: self.attrs.set, clear: self.attrs.clear, ..MountAttr::default() };
        let mut all = MountAttr { set: self.recursive.set, clear: self.recursive.clear, ..MountAttr::default() };
        if let Some((propagation, recursive)) = self.propagation {
            if recursive { all.propagation = propagation.flag() } else { top.propagation = propagation.flag() }
        }
        [(true, all), (false, top)].into_iter().filter(|(_, attr)| !attr.is_empty())
    }

    /// Makes the changes on a detached tree. Returns what is left to do by path, once it is attached, on a kernel
    /// without mount_setattr.
    pub(super) fn make(self, tree: BorrowedFd<'_>, api: MountApi, recorder: &mut Recorder) -> Result<Option<Changes>> {
        if !api.mount_setattr {
            return Ok(self.calls().next().is_some().then_some(self));
        }
        for (recursive, attr) in self.calls() {
            match mount_setattr(tree, recursive, &attr) {
                Ok(()) => {}
                // Engines say `rw` of everything. A user namespace may not make writable what the host has read-only:
                // it stays so, as under every runtime.
                Err(Errno::PERM) if attr.clear & !attr::ATIME != 0 => {
                    recorder.fallback("locked flags", || {
                        About::object(describe(&attr))
                            .by("leaving them as the host has them")
                            .why("mount_setattr: EPERM")
                    });
                    let attr = MountAttr { clear: attr.clear & attr::ATIME, ..attr };
                    mount_setattr(tree, recursive, &attr).context(|| format!("mount_setattr {}", describe(&attr)))?;
                }
                Err(errno) => {
                    let error = Error::call(format!("mount_setattr {}", describe(&attr)), errno);
                    return Err(match errno {
                        Errno::PERM => {
                            error.advise("a user namespace can't change the flags that the host has on a mount")
                        }
                        _ => error,
                    });
                }
            }
        }
        Ok(None)
    }

    /// Makes the changes by mount(2) on the mount at an fd.
    pub(super) fn make_by_path(self, mount: BorrowedFd<'_>, proc: &Proc) -> Result<()> {
        if !self.recursive.is_empty() {
            legacy::remount_tree(mount, self.recursive, proc)?;
        }
        if let Some((propagation, recursive)) = self.propagation {
            legacy::propagate(mount, propagation, recursive, proc)?;
        }
        if !self.attrs.is_empty() {
            legacy::remount(mount, self.attrs, proc)?;
        }
        Ok(())
    }
}

/// A mount's attributes as the user wrote them, for errors.
fn describe(attr: &MountAttr) -> String {
    let mut words: Vec<String> = attr::words(attr.set).map(str::to_owned).collect();
    // Clearing the access-time field is how another is set.
    let atime =
        if attr.set & attr::ATIME == 0 && attr.clear & attr::ATIME != 0 { Some("relatime".to_owned()) } else { None };
    words.extend(atime);
    words.extend(attr::words(attr.clear & !attr::ATIME).map(|word| format!("not {word}")));
    if attr.propagation != 0 {
        words.push(format!("propagation {:#x}", attr.propagation));
    }
    format!("`{}`", words.join(","))
}

/// Changes the mount at an fd that is attached already, in whichever way the kernel has.
pub(super) fn change_attached(
    mount: BorrowedFd<'_>,
    changes: Changes,
    api: MountApi,
    proc: &Proc,
    recorder: &mut Recorder,
) -> Result<()> {
    match changes.make(mount, api, recorder)? {
        None => Ok(()),
        Some(left) => left.make_by_path(mount, proc),
    }
}

/// Makes a mount that is attached read-only: what was to be made in it is there.
pub(super) fn seal(mount: BorrowedFd<'_>, api: MountApi, proc: &Proc, recorder: &mut Recorder) -> Result<()> {
    let attrs = Attrs { set: attr::RDONLY, clear: 0 };
    change_attached(mount, Changes { attrs, ..Changes::default() }, api, proc, recorder)
}

/// A mount that is wanted in several places: the first is attached as it is, the others are copies of it. One
/// superblock for them all.
pub(super) struct Stamp {
    mount: OwnedFd,
    attached: bool,
}

impl Stamp {
    /// From a detached mount.
    pub(super) fn new(mount: OwnedFd) -> Stamp {
        Stamp { mount, attached: false }
    }

    /// Attaches one more.
    pub(super) fn attach(&mut self, target: BorrowedFd<'_>) -> Result<()> {
        let copy;
        let tree = match self.attached {
            false => self.mount.as_fd(),
            true => {
                copy = clone(self.mount.as_fd(), false).context(|| "open_tree a copy of the mask")?;
                copy.as_fd()
            }
        };
        attach(tree, target).context(|| "move_mount the mask")?;
        self.attached = true;
        Ok(())
    }
}
