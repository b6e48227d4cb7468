//! `tmpcopyup`: copies what a directory of the image holds into the tmpfs that will cover it.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use crate::kernel::rustix;
use crate::kernel::rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};

use crate::error::{Context, Result};

/// Copies the entries of a directory, with owner, mode and times, and these of the directory itself. Symlinks are copied
/// as they are, so nothing outside is read.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let from = rustix::fs::openat(from, ".", directory(), Mode::empty()).context(|| "open the directory")?;
    let to = rustix::fs::openat(to, ".", directory(), Mode::empty()).context(|| "open the tmpfs")?;
    copy_entries(from.as_fd(), to.as_fd())?;
    let stat = rustix::fs::fstat(&from).context(|| "fstat the directory")?;
    // The mode of the tmpfs itself is what its options say.
    let (uid, gid) = owner(&stat);
    rustix::fs::fchown(&to, Some(uid), Some(gid)).context(|| "fchown the tmpfs")
}

fn directory() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn owner(stat: &Stat) -> (Uid, Gid) {
    (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))
}

fn copy_entries(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    for entry in Dir::read_from(from).context(|| "read the directory")? {
        let entry = entry.context(|| "read the directory")?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        copy_entry(from, to, name).context(|| format!("copy `{}`", name.to_string_lossy()))?;
    }
    Ok(())
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).context(|| "stat")?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    let file_type = FileType::from_raw_mode(stat.st_mode);
    match file_type {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, Mode::RWXU).context(|| "mkdir")?;
            let from = rustix::fs::openat(from, name, directory(), Mode::empty()).context(|| "open")?;
            let to = rustix::fs::openat(to, name, directory(), Mode::empty()).context(|| "open the copy")?;
            copy_entries(from.as_fd(), to.as_fd())?;
        }
        FileType::Symlink => {
            let link = rustix::fs::readlinkat(from, name, []).context(|| "readlink")?;
            rustix::fs::symlinkat(link.as_c_str(), to, name).context(|| "symlink")?;
        }
        FileType::RegularFile => {
            // What was a file a moment ago may be a fifo by now.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let source = rustix::fs::openat(from, name, flags, Mode::empty()).context(|| "open")?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let copy = rustix::fs::openat(to, name, flags, Mode::RWXU).context(|| "make the copy")?;
            std::io::copy(&mut std::fs::File::from(source), &mut std::fs::File::from(copy)).context(|| "copy")?;
        }
        other => rustix::fs::mknodat(to, name, other, mode, stat.st_rdev).context(|| "mknod")?,
    }
    let (uid, gid) = owner(&stat);
    rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).context(|| "chown the copy")?;
    if file_type != FileType::Symlink {
        // After chown, which drops set-user-ID bits.
        rustix::fs::chmodat(to, name, mode, AtFlags::empty()).context(|| "chmod the copy")?;
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    };
    rustix::fs::utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW).context(|| "set the times of the copy")
}
