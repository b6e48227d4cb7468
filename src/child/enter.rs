//! The best of the three strategies: a mount namespace that is made of the root alone, entered by setns. No mount of the
//! host is copied, and none ever lies beneath the container's.
//!
//! open_tree(2) with `OPEN_TREE_NAMESPACE`, Linux 7.0. A process in a user namespace of its own makes one that its user
//! namespace owns, and the kernel locks the flags of what is copied into it (mount_namespaces(7)).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::kernel::nix::sched::CloneFlags;
use crate::kernel::rustix::fs::CWD;
use crate::kernel::rustix::io::Errno;
use crate::kernel::rustix::mount::{OpenTreeFlags, UnmountFlags};
use crate::kernel::{nix, rustix};

use super::ChildSession;
use super::attach::Places;
use super::slots::{Opened, Slots};
use super::tree::{self, Changes};
use crate::error::{Context, Error, Result};
use crate::kernel::sys::mount::OPEN_TREE_NAMESPACE;
use crate::plan::options::Propagation;
use crate::plan::{ChildPlan, ContainerPlan};
use crate::procfs::Proc;

/// Enters a namespace of the root that the parent has sent. Returns the root mount. From here on no path of the host is
/// left: what the parent could not send can't be had.
pub(super) fn enter(
    session: &mut ChildSession,
    slots: &mut Slots,
    plan: &ChildPlan,
    container: &ContainerPlan,
    proc: &Proc,
) -> Result<OwnedFd> {
    // Both while this process still sees the namespace that they are trees of.
    let stage = plan.shape.stage.then(|| slots.receive_stage(session)).transpose()?;
    let root = match slots.take(session, 0)? {
        Opened::Tree(tree) => tree,
        Opened::Empty(reason) => return Err(reason),
    };
    let namespace = of_tree(root.as_fd())?;
    drop(root);
    let stage = stage.map(|stage| locked_copy(stage.as_fd())).transpose()?;
    set(&namespace)?;
    let root = super::rootfs::open_directory(Path::new("/")).context(|| "open `/`")?;
    let changes = Changes { propagation: Some(of_root(container)), ..Changes::default() };
    tree::change_attached(root.as_fd(), changes, container.mount_api, proc, &mut session.recorder)?;
    if let Some(stage) = stage {
        // Attached, it can be cloned from. It goes on top of the root, which this process has beneath it: no lookup meets
        // it there, and it needs no directory.
        tree::attach(stage.as_fd(), root.as_fd()).context(|| "move_mount the stage")?;
        slots.set_stage(stage);
    }
    Ok(root)
}

/// What is attached below the root must not travel to wherever the host has this tree mounted. A slave still gets what the
/// host mounts; a shared root becomes so at the end, in a peer group of its own.
pub(super) fn of_root(container: &ContainerPlan) -> (Propagation, bool) {
    match container.propagation.0 {
        Propagation::Slave => (Propagation::Slave, true),
        _ => (Propagation::Private, true),
    }
}

/// Shows the host to hooks, as every runtime does before it pivots: this namespace's root becomes a copy of the host's
/// mounts, and the container, with all that is mounted in it, is at the path of its rootfs. The namespace stays the one
/// that the container will have.
pub(super) fn show_host(
    tree: OwnedFd,
    root: &OwnedFd,
    container: &ContainerPlan,
    session: &mut ChildSession,
    proc: &Proc,
) -> Result<()> {
    let since = session.recorder.now();
    // A copy that shares would take what hooks mount to the host.
    let propagation = Some((Propagation::Slave, true));
    let changes = Changes { propagation, ..Changes::default() };
    tree::change_attached(tree.as_fd(), changes, container.mount_api, proc, &mut session.recorder)?;
    tree::attach(tree.as_fd(), root.as_fd()).context(|| "move_mount the host's root")?;
    let rootfs = Places::new(tree.as_fd())?.directory(&container.rootfs)?;
    proc.enter()?;
    rustix::process::pivot_root(&*Proc::path_of(tree.as_fd()), &*Proc::path_of(rootfs.fd.as_fd()))
        .context(|| "pivot_root to the host's root")?;
    rustix::process::chdir("/").context(|| "chdir to `/`")?;
    session.recorder.step("show host", since, || format!("the container is at `{}`", container.rootfs.display()));
    Ok(())
}

fn of_tree(tree: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::from_bits_retain(OPEN_TREE_NAMESPACE)
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(tree, "", flags).map_err(|errno| {
        let error = Error::call("open_tree OPEN_TREE_NAMESPACE", errno);
        match errno {
            Errno::NOSPC => error.advise("the limit in /proc/sys/user/max_mnt_namespaces is reached"),
            _ => error,
        }
    })
}

fn set(namespace: &OwnedFd) -> Result<()> {
    nix::sched::setns(namespace, CloneFlags::CLONE_NEWNS).context(|| "setns to the new mount namespace")
}

/// A detached copy of the stage whose mounts have their flags locked, as those of a namespace that another user namespace's
/// process has copied.
fn locked_copy(stage: BorrowedFd<'_>) -> Result<OwnedFd> {
    let copy = || -> Result<OwnedFd> {
        set(&of_tree(stage)?)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        rustix::mount::open_tree(CWD, "/", flags).context(|| "open_tree")
    };
    copy().context(|| "lock the mount sources")
}

/// Takes the stage away again.
pub(super) fn unmount_stage(stage: &OwnedFd) -> Result<()> {
    rustix::process::fchdir(stage).context(|| "fchdir to the stage")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).context(|| "unmount the stage")?;
    rustix::process::chdir("/").context(|| "chdir to `/`")
}
