//! Mounts of a container that runs: attached and taken away by a process that has joined its mount namespace.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::kernel::rustix;
use crate::kernel::rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use crate::kernel::rustix::io::Errno;
use crate::kernel::rustix::mount::UnmountFlags;

use super::attach::{Places, Target, file_type};
use super::tree::{self, Changes};
use crate::error::{Context, Error, Result};
use crate::plan::mounts::{MountPlan, What};
use crate::plan::options::{Attrs, attr};
use crate::plan::strategy::MountApi;
use crate::procfs::Proc;
use crate::protocol::event::{About, Recorder};

/// The root of the mount namespace that this process is in.
fn places() -> Result<Places> {
    let root = super::rootfs::open_directory(Path::new("/")).context(|| "open the container's root")?;
    Places::of_running(root.as_fd())
}

/// Attaches detached trees, in order, as their plans say. After a failure those before it are taken away again.
///
/// # Errors
/// A mount point that can't be had, or what the kernel refuses.
pub(crate) fn attach_all(
    mounts: &[(&MountPlan, OwnedFd)],
    api: MountApi,
    proc: &Proc,
    recorder: &mut Recorder,
) -> Result<()> {
    let places = places()?;
    for (i, (mount, tree)) in mounts.iter().enumerate() {
        let since = recorder.now();
        let attached = attach(mount, tree.as_fd(), &places, (api, proc), recorder);
        recorder.failed("mount", since, &attached, || mount.describe());
        if attached.is_ok() {
            recorder.step("mount", since, || mount.about("move_mount into the running container"));
        }
        let Err(error) = attached.context(|| format!("mount on `{}`", mount.destination.display())) else { continue };
        let undone = mounts[..i].iter().rev().map(|(_, tree)| unmount(tree.as_fd(), proc)).fold(Ok(()), Result::and);
        return Err(error.and_undone(undone));
    }
    Ok(())
}

fn attach(
    mount: &MountPlan,
    tree: BorrowedFd<'_>,
    places: &Places,
    (api, proc): (MountApi, &Proc),
    recorder: &mut Recorder,
) -> Result<()> {
    let path = &mount.destination;
    let target = match &mount.what {
        What::Filesystem(_) => places.for_filesystem(path, mount.nofollow)?,
        _ => places.mount_point(file_type(tree)?, path, mount.nofollow)?,
    };
    if let What::Filesystem(fs) = &mount.what
        && fs.tmpcopyup
    {
        super::copy_up::copy(target.fd.as_fd(), tree).context(|| "tmpcopyup")?;
    }
    let changes = Changes {
        attrs: match &mount.what {
            // fsmount has set the others. What is filled first is made read-only afterwards.
            What::Filesystem(_) => Attrs { set: mount.attrs.set & attr::RDONLY, clear: 0 },
            _ => mount.attrs,
        },
        recursive: mount.recursive_attrs,
        propagation: Some(mount.propagation),
        // What is there may be shared.
        below_shared: true,
    };
    let (before, after) = changes.around_attach();
    let left = before.make(tree, api, recorder)?;
    tree::attach(tree, target.fd.as_fd()).context(|| "move_mount")?;
    let finished = left.map_or(Ok(()), |left| by_path(left, tree, proc));
    let finished = finished.and_then(|()| tree::change_attached(tree, after, api, proc, recorder));
    finished.map_err(|error| error.and_undone(unmount(tree, proc)))
}

/// Without mount_setattr. What a user namespace may not make writable stays as the host has it, as it does with the call.
fn by_path(left: Changes, tree: BorrowedFd<'_>, proc: &Proc) -> Result<()> {
    let keep = |attrs: Attrs| Attrs { clear: attrs.clear & attr::ATIME, ..attrs };
    let kept = Changes { attrs: keep(left.attrs), recursive: keep(left.recursive), ..left };
    match left.make_by_path(tree, proc) {
        Err(e) if e.errno() == Some(Errno::PERM) && (kept.attrs, kept.recursive) != (left.attrs, left.recursive) => {
            kept.make_by_path(tree, proc)
        }
        made => made,
    }
}

/// Takes away what is mounted at each place, with all below it; nothing, if at one of them there is no mount.
///
/// # Errors
/// A place without a mount; one that came with the user namespace, which the kernel lets nobody take away.
pub(crate) fn detach_all(destinations: &[PathBuf], proc: &Proc, recorder: &mut Recorder) -> Result<()> {
    let places = places()?;
    let found: Vec<(&PathBuf, Target)> =
        destinations.iter().map(|path| Ok((path, find_mount(&places, path)?))).collect::<Result<_>>()?;
    found.iter().try_for_each(|(path, target)| {
        let since = recorder.now();
        let gone = unmount(target.fd.as_fd(), proc).context(|| format!("take away the mount on `{}`", path.display()));
        recorder.ended("unmount", since, &gone, || About::object(path.display().to_string()).by("umount, detached"));
        gone
    })
}

fn find_mount(places: &Places, path: &Path) -> Result<Target> {
    let none = || Error::config(format!("nothing is mounted on `{}` in the container", path.display()));
    let target = places.find(path)?.ok_or_else(none)?;
    let stat = rustix::fs::statx(&target.fd, "", AtFlags::EMPTY_PATH, StatxFlags::empty()).context(|| "statx")?;
    match stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        true => Ok(target),
        false => Err(none()),
    }
}

/// By the fd's own name in a procfs that the container has no part in.
fn unmount(mount: BorrowedFd<'_>, proc: &Proc) -> Result<()> {
    proc.enter()?;
    rustix::mount::unmount(Proc::path_of(mount), UnmountFlags::DETACH).context(|| "umount")
}
