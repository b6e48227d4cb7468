//! The container's root: attached, entered, sealed.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::kernel::rustix;
use crate::kernel::rustix::fs::{CWD, Mode, OFlags};
use crate::kernel::rustix::io::Errno;
use crate::kernel::rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags};

use super::attach::Places;
use super::mounts::Mounter;
use super::readonly::Chosen;
use super::slots::{Opened, Slots};
use super::tree::{self, Changes};
use super::{ChildSession, legacy};
use crate::error::{Context, Result};
use crate::plan::options::{Attrs, Propagation, attr};
use crate::plan::strategy::{MountApi, Strategy};
use crate::plan::{ChildPlan, ContainerPlan, RootChange};
use crate::procfs::Proc;
use crate::protocol::event::About;

/// The root of the container, before and after it is `/`.
pub(super) struct Root {
    /// The root mount's own fd.
    mount: OwnedFd,
    /// Lookups inside it.
    pub(super) places: Places,
    /// What of the new mount API may be called.
    pub(super) api: MountApi,
    /// Why the root is not changed before the mounts.
    late: Option<String>,
    changed: bool,
}

/// Attaches the root file system in this mount namespace, or enters one that is made of it.
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
    if container.strategy == Strategy::Namespace {
        let mount = super::enter::enter(session, slots, plan, container, proc);
        let mount =
            mount.context(|| format!("enter a mount namespace of the rootfs `{}`", container.rootfs.display()))?;
        session.recorder.step("rootfs", since, || {
            About::object(container.rootfs.display().to_string()).by("OPEN_TREE_NAMESPACE, setns")
        });
        return Root::new(mount, container, None, true);
    }
    keep_mounts_here(container, proc)?;
    let not_here = slots.why_not_all(session)?;
    let moves_mounts = container.mount_api.moves_mounts();
    let late = match &container.change_late {
        Some(why) => Some(why.clone()),
        None if !moves_mounts => Some("mounts are made by path".into()),
        None => not_here.map(str::to_owned),
    };
    let sent = slots.take(session, 0)?;
    let mount = match moves_mounts {
        true => attach_sent(session, sent, plan, container, proc),
        false => bind_by_path(container, proc),
    };
    let mount = mount.context(|| format!("mount the rootfs `{}`", container.rootfs.display()))?;
    session.recorder.step("rootfs", since, || {
        let how = if moves_mounts { "open_tree, move_mount" } else { "mount(2)" };
        let about = About::object(container.rootfs.display().to_string()).by(how);
        match &late {
            None => about.with("the root is changed before the mounts"),
            Some(why) => about.with(format!("the root is changed after the mounts: {why}")),
        }
    });
    Root::new(mount, container, late, false)
}

/// A directory, by a path that still is the host's, or `/`.
pub(super) fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Makes the mount at an fd this namespace's root, and leaves the one before behind. `old_root` is that, where its mounts may
/// still be shared with the host.
pub(super) fn pivot(to: &OwnedFd, old_root: Option<OwnedFd>) -> Result<()> {
    rustix::process::fchdir(to).context(|| "fchdir to the root")?;
    // With "." for both, the old root ends up on top of the new one, and needs no directory in it.
    rustix::process::pivot_root(".", ".").context(|| "pivot_root").map_err(|e| match e.errno() {
        Some(Errno::INVAL) => {
            e.advise(format!("if the root is on a ramfs, use tandem's --no-pivot; or {NO_MOUNT_POINT}"))
        }
        _ => e,
    })?;
    if let Some(old_root) = old_root {
        // What is unmounted here must stay mounted on the host.
        rustix::process::fchdir(&old_root).context(|| "fchdir to the old root")?;
        rustix::mount::mount_change(".", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
            .context(|| "mount --make-rslave the old root")?;
    }
    rustix::mount::unmount(".", UnmountFlags::DETACH).context(|| "unmount the old root")?;
    rustix::process::chdir("/").context(|| "chdir to `/`")
}

fn chroot_here() -> Result<()> {
    rustix::process::chroot(".").context(|| "chroot")?;
    rustix::process::chdir("/").context(|| "chdir to `/`")
}

/// Mounts made here must not appear on the host; those that the host makes may still appear below slave trees.
fn keep_mounts_here(container: &ContainerPlan, proc: &Proc) -> Result<()> {
    // Where sources are bound by path a shared one must be shared until it is: only what the root is mounted on must not.
    if container.host_stays_shared {
        let rootfs = open_directory(&container.rootfs);
        let rootfs = rootfs.context(|| format!("open the rootfs `{}`", container.rootfs.display()))?;
        return legacy::make_holder_slave(rootfs.as_fd(), proc);
    }
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .context(|| "mount --make-rslave `/`")
        .map_err(|e| match e.errno() {
            Some(Errno::INVAL) => e.advise(NO_MOUNT_POINT),
            _ => e,
        })
}

/// What EINVAL of a change to the mount of `/` means.
pub(super) const NO_MOUNT_POINT: &str = "`/` is no mount point here, as in a chroot, and pivot_root(2) can't leave it: bind \
                                         the directory on itself (mount --bind DIR DIR) before the chroot into it";

/// Attaches the tree that the parent has sent, or, if it could not, one that is cloned here by path.
fn attach_sent(
    session: &mut ChildSession,
    sent: Opened,
    plan: &ChildPlan,
    container: &ContainerPlan,
    proc: &Proc,
) -> Result<OwnedFd> {
    let tree = match sent {
        Opened::Tree(tree) => tree,
        Opened::Empty(reason) => {
            session.recorder.fallback("rootfs", || {
                About::object(container.rootfs.display().to_string())
                    .by("a path that the child opens")
                    .why(reason.to_string())
            });
            let rootfs = open_directory(&container.rootfs).context(|| "open")?;
            tree::clone(rootfs.as_fd(), true).context(|| "open_tree")?
        }
    };
    let propagation = Some(super::enter::of_root(container));
    let changes = Changes { propagation, ..Changes::default() };
    let left = changes.make(tree.as_fd(), container.mount_api, &mut session.recorder)?;
    attach_tree(&tree, plan, container)?;
    left.map_or(Ok(()), |left| left.make_by_path(tree.as_fd(), proc))?;
    Ok(tree)
}

/// Without a mount namespace: a directory.
fn chrooted(container: &ContainerPlan) -> Result<Root> {
    let mount =
        open_directory(&container.rootfs).context(|| format!("open the rootfs `{}`", container.rootfs.display()))?;
    Root::new(mount, container, Some("there is no mount namespace".into()), false)
}

/// The tree goes on top of `/`: no path is needed, so no directory on the way to the bundle must be passable for the
/// container's users. Where hooks look for it, or `--no-pivot` moves it from, it goes to its own path.
fn attach_tree(tree: &OwnedFd, plan: &ChildPlan, container: &ContainerPlan) -> Result<()> {
    let by_path = plan.shape.hooks || container.root_change == RootChange::Move;
    let at = if by_path { &container.rootfs } else { Path::new("/") };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    rustix::mount::move_mount(tree, "", CWD, at, flags).context(|| format!("move_mount on `{}`", at.display()))
}

fn bind_by_path(container: &ContainerPlan, proc: &Proc) -> Result<OwnedFd> {
    let open = || open_directory(&container.rootfs).context(|| "open");
    let target = open()?;
    legacy::bind_path(&container.rootfs, true, false, target.as_fd(), proc)?;
    let mount = open()?;
    let (propagation, recursive) = super::enter::of_root(container);
    legacy::propagate(mount.as_fd(), propagation, recursive, proc)?;
    Ok(mount)
}

impl Root {
    fn new(mount: OwnedFd, container: &ContainerPlan, late: Option<String>, changed: bool) -> Result<Root> {
        Ok(Root { places: Places::new(mount.as_fd())?, mount, api: container.mount_api, late, changed })
    }

    /// Whether a path still is the host's: after the change it would mean one of the container.
    pub(super) fn sees_host(&self) -> bool {
        !self.changed
    }

    /// Changes the root before the mounts, if nothing of them needs the host.
    pub(super) fn change_early(&mut self, session: &mut ChildSession, container: &ContainerPlan) -> Result<()> {
        match self.late {
            None => self.change(session, container),
            Some(_) => Ok(()),
        }
    }

    /// Lets hooks see the host, where the root is changed already and they expect that it is not. Returns whether it did.
    pub(super) fn show_host(
        &self,
        session: &mut ChildSession,
        slots: &mut Slots,
        container: &ContainerPlan,
        proc: &Proc,
    ) -> Result<bool> {
        let Some(slot) = container.host else { return Ok(false) };
        match slots.take(session, slot)? {
            Opened::Tree(tree) => super::enter::show_host(tree, &self.mount, container, session, proc).map(|()| true),
            Opened::Empty(reason) => Err(reason),
        }
        .context(|| "show the host to the hooks")
    }

    /// The end of [`Root::show_host`].
    pub(super) fn hide_host(&self) -> Result<()> {
        pivot(&self.mount, None).context(|| "take the host away from the hooks")
    }

    /// The point of no return: this becomes `/`, and the host is gone. Once; where that is done there is nothing to do.
    pub(super) fn change(&mut self, session: &mut ChildSession, container: &ContainerPlan) -> Result<()> {
        if self.changed {
            return Ok(());
        }
        let since = session.recorder.now();
        let how = match container.root_change {
            RootChange::Pivot => {
                let old_root = container.host_stays_shared.then(|| open_directory(Path::new("/"))).transpose();
                let old_root = old_root.context(|| "open `/`")?;
                pivot(&self.mount, old_root)
                    .context(|| format!("change the root to `{}`", container.rootfs.display()))?;
                "pivot_root"
            }
            RootChange::Move => {
                rustix::process::fchdir(&self.mount).context(|| "fchdir to the root")?;
                rustix::mount::mount_move(".", "/").context(|| "mount --move the root on `/`")?;
                chroot_here()?;
                "mount --move, chroot"
            }
            RootChange::Chroot => {
                rustix::process::fchdir(&self.mount).context(|| "fchdir to the root")?;
                chroot_here()?;
                "chroot"
            }
        };
        self.changed = true;
        session.recorder.step("change root", since, || About::default().by(how));
        Ok(())
    }

    /// Gives the root mount its propagation and, last, takes the right to write.
    pub(super) fn finish(&self, session: &mut ChildSession, container: &ContainerPlan, proc: &Proc) -> Result<()> {
        // The mounts below have their own, each as it was asked for.
        let (propagation, recursive) = (container.propagation.0, false);
        let readonly = if container.readonly_rootfs { attr::RDONLY } else { 0 };
        let changes = Changes {
            attrs: Attrs { set: readonly, clear: 0 },
            // Private and slave it is already.
            propagation: matches!(propagation, Propagation::Shared | Propagation::Unbindable)
                .then_some((propagation, recursive)),
            ..Changes::default()
        };
        if !container.own_mounts {
            return Ok(());
        }
        tree::change_attached(self.mount.as_fd(), changes, self.api, proc, &mut session.recorder)
            .context(|| "set up the root mount")
    }
}

/// Makes the working directory if the image has none, while the root can still be written.
pub(super) fn make_working_directory(mounter: &mut Mounter<'_>, cwd: &str) -> Result<()> {
    let cwd = Path::new(cwd);
    match mounter.root.places.find(cwd) {
        Ok(None) => mounter.making(cwd, Chosen::Otherwise, |places| places.make_directory(cwd)).map(drop),
        // What is there is for chdir to judge, as the process's own user.
        _ => Ok(()),
    }
}
