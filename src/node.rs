//! Makes device nodes: in the parent, which streams them, and in the child, where the parent could not.

use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::kernel::rustix;
use crate::kernel::rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Uid};
use crate::kernel::rustix::io::Errno;

use crate::error::{Context, Error, Result};
use crate::plan::devices::{DevicePlan, NodeKind};

/// Makes one node with its mode and owner, whatever the umask.
///
/// # Errors
/// EPERM without CAP_MKNOD in the initial user namespace, or where a device cgroup forbids it.
pub(crate) fn make(dir: BorrowedFd<'_>, name: &str, device: &DevicePlan) -> Result<()> {
    let kind = match device.kind {
        NodeKind::Character => FileType::CharacterDevice,
        NodeKind::Block => FileType::BlockDevice,
        NodeKind::Fifo => FileType::Fifo,
    };
    let number = rustix::fs::makedev(device.major, device.minor);
    let mode = Mode::from_raw_mode(device.mode);
    rustix::fs::mknodat(dir, name, kind, mode, number).context(|| format!("mknod `{name}`"))?;
    rustix::fs::chmodat(dir, name, mode, AtFlags::empty()).context(|| format!("chmod `{name}`"))?;
    if device.uid != 0 || device.gid != 0 {
        let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::empty()).context(|| format!("chown `{name}`"))?;
    }
    Ok(())
}

/// Whether the host has this device at a path.
///
/// # Errors
/// Nothing is there, or another device.
pub(crate) fn is_there(path: &Path, device: &DevicePlan) -> Result<()> {
    let stat = rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW);
    let why = match stat {
        Ok(stat) if is(&stat, device) => return Ok(()),
        Ok(_) => "is another file",
        Err(Errno::NOENT) => "is not there",
        Err(errno) => return Err(errno).context(|| format!("stat `{}`", path.display())),
    };
    let what = match device.kind {
        NodeKind::Character => format!("character device {}:{}", device.major, device.minor),
        NodeKind::Block => format!("block device {}:{}", device.major, device.minor),
        NodeKind::Fifo => "fifo".into(),
    };
    Err(Error::system(format!("the host's `{}` {why}, not the {what}", path.display())).advise(
        "only the machine's root can make a node: bind the host's own by `mounts`, or give the path that it has there",
    ))
}

/// Whether a file is this device.
pub(crate) fn is(stat: &Stat, device: &DevicePlan) -> bool {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let number = rustix::fs::makedev(device.major, device.minor);
    match device.kind {
        NodeKind::Character => kind == FileType::CharacterDevice && stat.st_rdev == number,
        NodeKind::Block => kind == FileType::BlockDevice && stat.st_rdev == number,
        NodeKind::Fifo => kind == FileType::Fifo,
    }
}

/// The name of a node in the directory where all of a container's are made: its own, or, where two devices in different
/// directories share one, with its place in the list.
pub(crate) fn name(devices: &[DevicePlan], index: usize) -> String {
    let name = |d: &DevicePlan| d.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let own = name(&devices[index]);
    match devices.iter().filter(|d| name(d) == own).count() {
        1 => own,
        _ => format!("{index}-{own}"),
    }
}
