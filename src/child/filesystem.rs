//! New instances of file systems: by mount(2), and the mode of a tmpfs.

use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::kernel::rustix;
use crate::kernel::rustix::mount::MountFlags;

use super::attach::Places;
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
            "iversion" => flags |= MountFlags::from_bits_retain(libc::MS_I_VERSION as _),
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
        .map_err(|error| crate::filesystem::of_options(fs, "", error))
}

/// A tmpfs for which no mode was asked has that of the directory it covers, if there is one: so crun and runc have it.
pub(crate) fn with_mode_of_covered(fs: &Filesystem, places: &Places, destination: &Path) -> Result<Option<Filesystem>> {
    if fs.fstype != "tmpfs" || fs.data.iter().any(|(key, _)| key == "mode") {
        return Ok(None);
    }
    let Some(covered) = places.find(destination)? else { return Ok(None) };
    let mode = rustix::fs::fstat(&covered.fd).context(|| "fstat the mount point")?.st_mode & 0o7777;
    let mut fs = fs.clone();
    fs.data.push(("mode".into(), Some(format!("{mode:o}"))));
    Ok(Some(fs))
}
