//! The container's root: attached, entered, sealed.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::attach::Places;
use super::slots::{Opened, Slots};
use super::tree::{self, Changes};
use super::{ChildSession, legacy};
use crate::error::{Context, Error, Result};
use crate::plan::options::{Attrs, Propagation, attr};
use crate::plan::{ChildPlan, ContainerPlan, RootChange};
use crate::procfs::Proc;

/// The root of the container, before and after it is `/`.
pub(super) struct Root {
    /// The root mount's own fd.
    mount: OwnedFd,
    /// Lookups inside it.
    pub(super) places: Places,
    /// The kernel has move_mount: detached trees can be attached.
    pub(super) moves_mounts: bool,
    early: bool,
    changed: bool,
}

/// Attaches the root file system in this mount namespace. Decides when the root is changed: before the container's
/// mounts, unless something still needs the host's paths.
pub(super) fn attach(
    session: &mut ChildSession,
    slots: &mut Slots,
    plan: &ChildPlan,
    container: &ContainerPlan,
    proc: &Proc,
) -> Result<Root> {
    if !container.own_mounts {
        return chrooted(container);
    }
    let since = session.recorder.now();
    // Mounts made here must not appear on the host; those that the host makes may still appear below slave trees.
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::DOWNSTREAM | rustix::mount::MountPropagationFlags::REC,
    )
    .context(|| "make `/` a slave")?;
    let all_here = slots.all_are_here(session)?;
    let why_late = match () {
        () if plan.shape.hooks => Some("hooks run before pivot_root"),
        () if container.needs_visible_host => Some("a user namespace needs the host's proc to mount its own"),
        () if container.root_change == RootChange::Move => Some("--no-pivot"),
        () if !all_here => Some("a source needs a path of the host"),
        () => None,
    };
    let tree = match slots.take(session, 0)? {
        Opened::Tree(tree) => Some(tree),
        Opened::Empty(reason) => {
            session.recorder.fallback("rootfs by path", || reason.to_string());
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let rootfs = rustix::fs::open(&container.rootfs, flags, Mode::empty());
            let rootfs = rootfs.context(|| format!("open the rootfs `{}`", container.rootfs.display()))?;
            tree::try_clone(rootfs.as_fd(), true).context(|| "open_tree the rootfs")?
        }
    };
    let mut root = None;
    if let Some(tree) = tree {
        let changes = Changes {
            attrs: Attrs::default(),
            recursive: Attrs::default(),
            // What is attached below must not travel to wherever the host has this tree mounted. A slave still gets what
            // the host mounts; a shared root becomes so at the end, in a peer group of its own.
            propagation: Some(match container.propagation.0 {
                Propagation::Slave => (Propagation::Slave, true),
                _ => (Propagation::Private, true),
            }),
        };
        let left = changes.make(tree.as_fd(), &mut session.recorder)?;
        match attach_tree(&tree, plan, container) {
            Ok(()) => {
                if let Some(left) = left {
                    left.make_by_path(tree.as_fd(), proc)?;
                }
                root = Some(tree);
            }
            Err(e) if e.errno() == Some(Errno::NOSYS) => {}
            Err(e) => return Err(e).context(|| format!("mount the rootfs `{}`", container.rootfs.display())),
        }
    }
    let moves_mounts = root.is_some();
    let mount = match root {
        Some(mount) => mount,
        None => bind_by_path(session, container, proc)
            .context(|| format!("mount the rootfs `{}`", container.rootfs.display()))?,
    };
    let early = why_late.is_none() && moves_mounts;
    session.recorder.step("rootfs", since, || match (why_late, moves_mounts) {
        (None, true) => "open_tree, move_mount; pivot_root before the mounts".into(),
        (Some(why), true) => format!("open_tree, move_mount; pivot_root after the mounts: {why}"),
        (_, false) => "mount(2); pivot_root after the mounts: the kernel moves no trees".into(),
    });
    Ok(Root { places: Places::new(mount.as_fd())?, mount, moves_mounts, early, changed: false })
}

/// Without a mount namespace: a directory.
fn chrooted(container: &ContainerPlan) -> Result<Root> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mount = rustix::fs::open(&container.rootfs, flags, Mode::empty())
        .context(|| format!("open the rootfs `{}`", container.rootfs.display()))?;
    Ok(Root { places: Places::new(mount.as_fd())?, mount, moves_mounts: false, early: false, changed: false })
}

/// The tree goes on top of `/`: no path is needed, so no directory on the way to the bundle must be passable for the
/// container's users. Where hooks look for it, or `--no-pivot` moves it from, it goes to its own path.
fn attach_tree(tree: &OwnedFd, plan: &ChildPlan, container: &ContainerPlan) -> Result<()> {
    let by_path = plan.shape.hooks || container.root_change == RootChange::Move;
    let at = if by_path { &container.rootfs } else { Path::new("/") };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    rustix::mount::move_mount(tree, "", CWD, at, flags).context(|| format!("move_mount on `{}`", at.display()))
}

fn bind_by_path(session: &mut ChildSession, container: &ContainerPlan, proc: &Proc) -> Result<OwnedFd> {
    session.recorder.fallback("rootfs by path", || "mount(2): the kernel lacks open_tree or move_mount".into());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = || rustix::fs::open(&container.rootfs, flags, Mode::empty()).context(|| "open");
    let target = open()?;
    legacy::bind_path(&container.rootfs, true, false, target.as_fd(), proc)?;
    let mount = open()?;
    if container.propagation.0 != Propagation::Slave {
        legacy::propagate(mount.as_fd(), Propagation::Private, true, proc)?;
    }
    Ok(mount)
}

impl Root {
    /// Whether the root is changed before the container's mounts are made.
    pub(super) fn pivots_early(&self) -> bool {
        self.early
    }

    /// Guards what uses a path of the host: after the change it would mean a path of the container.
    pub(super) fn must_not_be_changed_yet(&self) -> Result<()> {
        match self.changed {
            false => Ok(()),
            true => Err(Error::system("a path of the host is needed after the root was changed")),
        }
    }

    /// The point of no return: this becomes `/`, and the host is gone.
    pub(super) fn change(&mut self, session: &mut ChildSession, container: &ContainerPlan) -> Result<()> {
        let since = session.recorder.now();
        rustix::process::fchdir(&self.mount).context(|| "fchdir to the root")?;
        let how = match container.root_change {
            RootChange::Pivot => {
                // With "." for both, the old root ends up on top of the new one, and needs no directory in it.
                rustix::process::pivot_root(".", ".").context(|| "pivot_root")?;
                rustix::mount::unmount(".", UnmountFlags::DETACH).context(|| "unmount the old root")?;
                "pivot_root"
            }
            RootChange::Move => {
                rustix::mount::mount_move(".", "/").context(|| "mount --move the root on `/`")?;
                rustix::process::chroot(".").context(|| "chroot")?;
                "mount --move, chroot"
            }
            RootChange::Chroot => {
                rustix::process::chroot(".").context(|| "chroot")?;
                "chroot"
            }
        };
        rustix::process::chdir("/").context(|| "chdir to `/`")?;
        self.changed = true;
        session.recorder.step("change root", since, || how.into());
        Ok(())
    }

    /// Gives the root mount its propagation and, last, takes the right to write.
    pub(super) fn finish(&self, session: &mut ChildSession, container: &ContainerPlan, proc: &Proc) -> Result<()> {
        // The mounts below have their own, each as it was asked for.
        let (propagation, recursive) = (container.propagation.0, false);
        let readonly = if container.readonly_rootfs { attr::RDONLY } else { 0 };
        let changes = Changes {
            attrs: Attrs { set: readonly, clear: 0 },
            recursive: Attrs::default(),
            // Private and slave it is already.
            propagation: matches!(propagation, Propagation::Shared | Propagation::Unbindable)
                .then_some((propagation, recursive)),
        };
        if !container.own_mounts {
            return Ok(());
        }
        tree::change_attached(self.mount.as_fd(), changes, proc, &mut session.recorder)
            .context(|| "set up the root mount")
    }

    /// A copy of a mount, attached or detached, at an fd of this namespace.
    pub(super) fn clone_tree(&self, of: &OwnedFd) -> Result<OwnedFd, Errno> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        rustix::mount::open_tree(of, "", flags)
    }
}

/// Makes the working directory if the image has none, while the root can still be written.
pub(super) fn make_working_directory(root: &Root, cwd: &str) -> Result<()> {
    let cwd = Path::new(cwd);
    match root.places.find(cwd) {
        Ok(None) => root.places.make_directory(cwd).map(drop),
        // What is there is for chdir to judge, as the process's own user.
        _ => Ok(()),
    }
}
