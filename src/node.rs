//! Makes device nodes: in the parent, which streams them, and in the child, where the parent could not.

use std::os::fd::BorrowedFd;

use crate::kernel::rustix;
use crate::kernel::rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};

use crate::error::{Context, Result};
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
