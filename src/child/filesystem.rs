//! New instances of file systems: fsopen, fsconfig, fsmount; mount(2) where the kernel has none of them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags};

use super::legacy;
use crate::error::{Context, Error, Result};
use crate::plan::mounts::Filesystem;
use crate::plan::options::Attrs;
use crate::procfs::Proc;

/// fsconfig(2) takes no longer string.
const FSCONFIG_STRING: usize = 255;

/// A file system that is not attached yet, or the reason to make it by path.
pub(super) enum Made {
    /// A detached mount.
    Detached(OwnedFd),
    /// Only mount(2) can make it; why.
    ByPath(String),
}

/// Makes a detached instance. The `source` errors of the kernel are reported with the text of its own log.
pub(super) fn make(fs: &Filesystem, attrs: Attrs) -> Result<Made> {
    if let Some((key, _)) = fs.data.iter().find(|(_, v)| v.as_ref().is_some_and(|v| v.len() > FSCONFIG_STRING)) {
        return Ok(Made::ByPath(format!("the value of `{key}` has over {FSCONFIG_STRING} bytes")));
    }
    let context = match rustix::mount::fsopen(fs.fstype.as_str(), FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(context) => context,
        Err(Errno::NOSYS) => return Ok(Made::ByPath("fsopen: ENOSYS".into())),
        Err(errno) => return Err(Error::call(format!("fsopen `{}`", fs.fstype), errno)),
    };
    let fd = context.as_fd();
    match configure(fs, fd) {
        Err((call, Errno::NOSYS)) => return Ok(Made::ByPath(format!("{call}: ENOSYS"))),
        Err((call, errno)) => return Err(explain(fd, call, errno)),
        Ok(()) => {}
    }
    let attrs = MountAttrFlags::from_bits_retain(attrs.set as u32);
    match rustix::mount::fsmount(fd, FsMountFlags::FSMOUNT_CLOEXEC, attrs) {
        Ok(mount) => Ok(Made::Detached(mount)),
        Err(Errno::NOSYS) => Ok(Made::ByPath("fsmount: ENOSYS".into())),
        Err(errno) => Err(explain(fd, "fsmount".into(), errno)),
    }
}

fn configure(fs: &Filesystem, context: BorrowedFd<'_>) -> Result<(), (String, Errno)> {
    use rustix::mount::{fsconfig_create, fsconfig_set_flag, fsconfig_set_string};
    let named = |what: &str| format!("fsconfig `{what}`");
    fsconfig_set_string(context, "source", &*fs.source).map_err(|e| (named("source"), e))?;
    for flag in &fs.superblock {
        fsconfig_set_flag(context, flag.as_str()).map_err(|e| (named(flag), e))?;
    }
    for (key, value) in &fs.data {
        match value {
            Some(value) => fsconfig_set_string(context, key.as_str(), value.as_str()),
            None => fsconfig_set_flag(context, key.as_str()),
        }
        .map_err(|e| (named(key), e))?;
    }
    fsconfig_create(context).map_err(|e| ("fsconfig create".into(), e))
}

/// The kernel's own words about a file-system context: it queues one message a read, `e `, `w ` or `i ` in front.
fn explain(context: BorrowedFd<'_>, call: String, errno: Errno) -> Error {
    let mut words = vec![];
    let mut line = [0u8; 512];
    while let Ok(n) = rustix::io::read(context, &mut line) {
        let text = String::from_utf8_lossy(&line[..n]);
        let text = text.trim();
        words.push(text.split_once(' ').map_or(text, |(_, rest)| rest).to_owned());
    }
    let said = if words.is_empty() { String::new() } else { format!(" (the kernel says: {})", words.join("; ")) };
    Error::call(format!("{call}{said}"), errno)
}

/// Makes and attaches an instance by mount(2).
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
        Some(value) => format!("{key}={value}"),
        None => key.clone(),
    }));
    legacy::filesystem(&fs.fstype, &fs.source, flags, &data.join(","), target, proc)
        .context(|| format!("file system `{}`", fs.fstype))
}
