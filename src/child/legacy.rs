//! The path-based way: mount(2), for what a kernel lacks of the new mount API, and for sources that the parent could
//! not open. Targets are fds, named through the trusted procfs, never paths of the container.

use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::kernel::rustix;
use crate::kernel::rustix::fs::{AtFlags, Mode, OFlags, StatVfsMountFlags, StatxFlags};
use crate::kernel::rustix::mount::{MountFlags, MountPropagationFlags};

use crate::error::{Context, Error, Result};
use crate::mountinfo::Mount;
use crate::plan::options::{Attrs, Propagation, attr};
use crate::procfs::Proc;

/// Binds a path of the host on a target. Only before the root is changed: afterwards the path names something else.
pub(super) fn bind_path(
    source: &Path,
    recursive: bool,
    nofollow: bool,
    target: BorrowedFd<'_>,
    proc: &Proc,
) -> Result<()> {
    let follow = if nofollow { OFlags::NOFOLLOW } else { OFlags::empty() };
    let doing = || format!("open `{}`", source.display());
    let source = rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC | follow, Mode::empty()).context(doing)?;
    bind(std::os::fd::AsFd::as_fd(&source), recursive, target, proc)
}

/// Binds what one fd refers to on another.
pub(super) fn bind(source: BorrowedFd<'_>, recursive: bool, target: BorrowedFd<'_>, proc: &Proc) -> Result<()> {
    proc.enter()?;
    let (source, target) = (Proc::path_of(source), Proc::path_of(target));
    match recursive {
        true => rustix::mount::mount_bind_recursive(&*source, &*target),
        false => rustix::mount::mount_bind(&*source, &*target),
    }
    .context(|| "mount --bind")
}

/// Mounts a new file system on a target.
pub(super) fn filesystem(
    fstype: &str,
    source: &str,
    flags: MountFlags,
    data: &str,
    target: BorrowedFd<'_>,
    proc: &Proc,
) -> Result<()> {
    proc.enter()?;
    let data = std::ffi::CString::new(data).map_err(|_| Error::config("mount data with a NUL byte"))?;
    let target = Proc::path_of(target);
    rustix::mount::mount(source, &*target, fstype, flags, Some(data.as_c_str())).context(|| "mount")
}

/// Changes propagation of the mount at an fd.
pub(super) fn propagate(mount: BorrowedFd<'_>, to: Propagation, recursive: bool, proc: &Proc) -> Result<()> {
    proc.enter()?;
    let mut flags = match to {
        Propagation::Shared => MountPropagationFlags::SHARED,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Unbindable => MountPropagationFlags::UNBINDABLE,
    };
    if recursive {
        flags |= MountPropagationFlags::REC;
    }
    rustix::mount::mount_change(&*Proc::path_of(mount), flags).context(|| format!("mount --make-{}", to.name()))
}

/// `ST_NOSYMFOLLOW` of statfs(2), Linux 5.10.
const ST_NOSYMFOLLOW: u64 = 0x2000;

/// Changes attributes of the mount at an fd. Flags that nothing is said about stay: a user namespace may not drop
/// those it inherited, and mount(2) wants the whole list.
pub(super) fn remount(mount: BorrowedFd<'_>, attrs: Attrs, proc: &Proc) -> Result<()> {
    let has = rustix::fs::fstatvfs(mount).context(|| "fstatvfs")?.f_flag;
    let mut set = 0;
    for (flag, bit) in [
        (StatVfsMountFlags::RDONLY, attr::RDONLY),
        (StatVfsMountFlags::NOSUID, attr::NOSUID),
        (StatVfsMountFlags::NODEV, attr::NODEV),
        (StatVfsMountFlags::NOEXEC, attr::NOEXEC),
        (StatVfsMountFlags::NOATIME, attr::NOATIME),
        (StatVfsMountFlags::NODIRATIME, attr::NODIRATIME),
        (StatVfsMountFlags::from_bits_retain(ST_NOSYMFOLLOW), attr::NOSYMFOLLOW),
    ] {
        if has.contains(flag) {
            set |= bit;
        }
    }
    if !has.intersects(StatVfsMountFlags::NOATIME | StatVfsMountFlags::RELATIME) {
        set |= attr::STRICTATIME;
    }
    set = (set & !attrs.clear) | attrs.set;
    proc.enter()?;
    rustix::mount::mount_remount(&*Proc::path_of(mount), MountFlags::BIND | flags(set), c"")
        .context(|| format!("mount -o remount,bind with attributes {set:#x}"))
}

/// Makes the mount that a directory is on a slave: what is mounted there stays in this namespace.
pub(super) fn make_holder_slave(directory: BorrowedFd<'_>, proc: &Proc) -> Result<()> {
    let stat = rustix::fs::statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).context(|| "statx")?;
    let mountinfo = proc.read("self/mountinfo")?;
    let holder = Mount::all(&mountinfo).find(|mount| mount.id == stat.stx_mnt_id);
    let holder = holder.ok_or_else(|| {
        Error::system("mountinfo has no line for the mount of the rootfs").advise(super::rootfs::NO_MOUNT_POINT)
    })?;
    rustix::mount::mount_change(&*holder.point, MountPropagationFlags::DOWNSTREAM)
        .context(|| format!("mount --make-slave `{}`", holder.point))
}

/// The same for a mount and all below it, which mount(2) can't do in one: each by itself, found in mountinfo.
pub(super) fn remount_tree(mount: BorrowedFd<'_>, attrs: Attrs, proc: &Proc) -> Result<()> {
    let stat = rustix::fs::statx(mount, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).context(|| "statx")?;
    let mountinfo = proc.read("self/mountinfo")?;
    let mounts: Vec<Mount<'_>> = Mount::all(&mountinfo).collect();
    let top = mounts.iter().find(|mount| mount.id == stat.stx_mnt_id);
    let top = top.ok_or_else(|| Error::system("mountinfo has no line for the top of the tree"))?;
    remount(mount, attrs, proc)?;
    let mut parents = vec![stat.stx_mnt_id];
    while let Some(parent) = parents.pop() {
        for child in mounts.iter().filter(|mount| mount.parent == parent) {
            parents.push(child.id);
            // From the tree's own top: by its whole path it is not to be found while the container's root lies on this
            // process's. A mount point is no symlink, and nobody of the container is here yet to move it.
            let path = child.point.strip_prefix(&*top.point).unwrap_or_default().trim_start_matches('/');
            let path = if path.is_empty() { "." } else { path };
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below = rustix::fs::openat(mount, path, flags, Mode::empty());
            let below = below.context(|| format!("open `{}`", child.point))?;
            let found = rustix::fs::statx(&below, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).context(|| "statx")?;
            // What is covered by a further mount can't be reached, nor be seen.
            if found.stx_mnt_id == child.id {
                remount(std::os::fd::AsFd::as_fd(&below), attrs, proc).context(|| format!("`{}`", child.point))?;
            }
        }
    }
    Ok(())
}

/// `MS_*` for `MOUNT_ATTR_*`.
pub(super) fn flags(attrs: u64) -> MountFlags {
    let mut flags = MountFlags::empty();
    for (bit, flag) in [
        (attr::RDONLY, MountFlags::RDONLY),
        (attr::NOSUID, MountFlags::NOSUID),
        (attr::NODEV, MountFlags::NODEV),
        (attr::NOEXEC, MountFlags::NOEXEC),
        (attr::NODIRATIME, MountFlags::NODIRATIME),
        (attr::NOSYMFOLLOW, MountFlags::NOSYMFOLLOW),
    ] {
        flags.set(flag, attrs & bit != 0);
    }
    match attrs & attr::ATIME {
        attr::NOATIME => flags |= MountFlags::NOATIME,
        attr::STRICTATIME => flags |= MountFlags::STRICTATIME,
        _ => {}
    }
    flags
}
