//! An open cgroup directory, whose files are read and written relative to it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Context, Result};
use crate::protocol::event::About;
use crate::protocol::journal;

/// The longest file read here is `cgroup.procs`; it is read to its end in pieces of this size.
const PIECE: usize = 4096;

/// One cgroup directory, opened once: what happens to the path afterwards doesn't matter.
#[derive(Debug)]
pub(super) struct Dir {
    path: String,
    fd: OwnedFd,
}

impl Dir {
    /// Opens an absolute path.
    pub(super) fn open(path: impl Into<String>) -> Result<Dir, Errno> {
        let path = path.into();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path.as_str(), flags, Mode::empty())?;
        Ok(Dir { path, fd })
    }

    /// Opens a sub-cgroup, and no symbolic link in its place.
    pub(super) fn open_child(&self, name: &str) -> Result<Dir, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())?;
        Ok(Dir { path: self.file(name), fd })
    }

    /// The directory's path.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The path of a file in it, for messages.
    pub(super) fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// A file in it, opened for writing.
    pub(super) fn open_file(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(&self.fd, name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
    }

    /// Writes a value. A cgroup file takes one value in one write(2), so a part of one counts as refused.
    pub(super) fn try_write(&self, name: &str, value: &str) -> Result<(), Errno> {
        let since = journal::now();
        let written = self.open_file(name, OFlags::WRONLY).and_then(|file| write_value(&file, value));
        self.note(since, name, value, written.as_ref().map(drop));
        written
    }

    /// Tells the trace of a write.
    pub(super) fn note(&self, since: u64, name: &str, value: &str, result: Result<(), &Errno>) {
        journal::call("cgroup write", since, result, || About::object(self.file(name)).by("write").with(value));
    }

    /// [`Dir::try_write`] with an error that names file and value.
    pub(super) fn write(&self, name: &str, value: &str) -> Result<()> {
        self.try_write(name, value).context(|| self.written(name, value))
    }

    /// What a write was, for messages.
    pub(super) fn written(&self, name: &str, value: &str) -> String {
        format!("write `{value}` to `{}`", self.file(name))
    }

    /// The whole of a file.
    pub(super) fn try_read(&self, name: &str) -> Result<String, Errno> {
        let file = self.open_file(name, OFlags::RDONLY)?;
        let mut text = Vec::new();
        let mut piece = [0u8; PIECE];
        loop {
            match retry_on_intr(|| rustix::io::read(&file, &mut piece[..]))? {
                0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
                n => text.extend_from_slice(&piece[..n]),
            }
        }
    }

    /// [`Dir::try_read`] with an error that names the file.
    pub(super) fn read(&self, name: &str) -> Result<String> {
        self.try_read(name).context(|| format!("read `{}`", self.file(name)))
    }

    /// The names of the sub-cgroups.
    pub(super) fn children(&self) -> Result<Vec<String>, Errno> {
        self.entries(true)
    }

    /// The names of the files.
    pub(super) fn files(&self) -> Result<Vec<String>, Errno> {
        self.entries(false)
    }

    fn entries(&self, dirs: bool) -> Result<Vec<String>, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut entries = rustix::fs::Dir::new(rustix::fs::openat(&self.fd, ".", flags, Mode::empty())?)?;
        let mut names = Vec::new();
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            // cgroupfs always says what an entry is.
            if entry.file_type().is_dir() == dirs && name != "." && name != ".." {
                names.push(name.into_owned());
            }
        }
        Ok(names)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Writes a value to an open file, in one call.
pub(super) fn write_value(file: &OwnedFd, value: &str) -> Result<(), Errno> {
    match retry_on_intr(|| rustix::io::write(file, value.as_bytes()))? {
        n if n == value.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}
