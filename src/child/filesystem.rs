//! New instances of file systems by mount(2).

use std::os::fd::BorrowedFd;

use rustix::mount::MountFlags;

use super::legacy;
use crate::error::{Context, Result};
use crate::plan::mounts::Filesystem;
use crate::plan::options::{Attrs, LABELS};
use crate::procfs::Proc;

/// Makes and attaches an instance.
pub(super) fn mount_by_path(fs: &Filesystem, attrs: Attrs, target: BorrowedFd<'_>, proc: &Proc) -> Result<()> {
    let mut flags = legacy::flags(attrs.set);
    let mut data: Vec<String> = vec![];
    for word in &fs.superblock {
        match word.as_str() {
            "ro" => flags |= MountFlags::RDONLY,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            "lazytime" => flags |= MountFlags::LAZYTIME,
            "mand" => flags |= MountFlags::PERMIT_MANDATORY_FILE_LOCKING,
            "silent" => flags |= MountFlags::SILENT,
            word => data.push(word.to_owned()),
        }
    }
    data.extend(fs.data.iter().map(|(key, value)| match value {
        Some(value) if LABELS.contains(&key.as_str()) && value.contains(',') => format!("{key}=\"{value}\""),
        Some(value) => format!("{key}={value}"),
        None => key.clone(),
    }));
    legacy::filesystem(&fs.fstype, &fs.source, flags, &data.join(","), target, proc)
        .context(|| format!("file system `{}`", fs.fstype))
}
