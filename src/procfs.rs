//! A `/proc` that is known to be one: opened once, early, and passed to whoever needs a file of it.
//!
//! A path such as `/proc/self/attr/exec` is only as good as what is mounted there; a label written to a regular file in
//! the container's own `/proc` is a label that was never applied (CVE-2019-16884). Every lookup here stays on procfs.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};

/// A handle on procfs.
#[derive(Debug)]
pub(crate) struct Proc {
    root: OwnedFd,
}

impl Proc {
    /// Opens `/proc` and checks that it is procfs.
    ///
    /// # Errors
    /// `/proc` is missing or something else.
    pub(crate) fn open() -> Result<Proc> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open("/proc", flags, Mode::empty()).context(|| "open `/proc`")?;
        check(root.as_fd()).context(|| "`/proc`")?;
        Ok(Proc { root })
    }

    /// Writes a file below `/proc/self`, in one write.
    ///
    /// # Errors
    /// The call and the path.
    pub(crate) fn write_self(&self, path: &str, text: &str) -> Result<()> {
        self.write(&format!("self/{path}"), text)
    }

    /// Writes a file below `/proc/PID`.
    ///
    /// # Errors
    /// The call and the path.
    pub(crate) fn write_pid(&self, pid: i32, path: &str, text: &str) -> Result<()> {
        self.write(&format!("{pid}/{path}"), text)
    }

    /// Writes a file below `/proc/sys`.
    ///
    /// # Errors
    /// The call and the path.
    pub(crate) fn write_sysctl(&self, path: &str, value: &str) -> Result<()> {
        self.write(&format!("sys/{path}"), value)
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let doing = || format!("write {:?} to `/proc/{path}`", text.trim_end());
        let file = self.open_file(path, OFlags::WRONLY).context(doing)?;
        rustix::io::retry_on_intr(|| rustix::io::write(&file, text.as_bytes())).context(doing).map(drop)
    }

    /// Opens a file of this very procfs: nothing mounted on it, no magic link out of it.
    fn open_file(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS) => {
                let file = rustix::fs::openat(&self.root, path, flags, Mode::empty()).context(|| "openat")?;
                check(file.as_fd())?;
                Ok(file)
            }
            file => file.context(|| "openat2"),
        }
    }

    /// The numbers of the caller's open fds.
    ///
    /// # Errors
    /// The call and the path.
    pub(crate) fn own_fds(&self) -> Result<Vec<i32>> {
        let doing = || "read `/proc/self/fd`";
        let fds = self.open_file("self/fd", OFlags::RDONLY | OFlags::DIRECTORY).context(doing)?;
        let entries = rustix::fs::Dir::read_from(&fds).context(doing)?;
        let mut numbers = vec![];
        for entry in entries {
            let entry = entry.context(doing)?;
            numbers.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()));
        }
        Ok(numbers)
    }

    /// The process ID that this procfs knows the caller by: in a new pid namespace, the host's number for it.
    ///
    /// # Errors
    /// The caller has no number in this procfs's pid namespace.
    pub(crate) fn own_pid(&self) -> Result<i32> {
        let link = rustix::fs::readlinkat(&self.root, "self", []).context(|| "read the link `/proc/self`")?;
        let pid = link.to_str().ok().and_then(|pid| pid.parse().ok());
        pid.ok_or_else(|| crate::error::Error::system("`/proc/self` is no process ID"))
    }

    /// The path of an fd *relative to procfs's root*: for calls that know only paths, after [`Proc::enter`].
    pub(crate) fn path_of(fd: BorrowedFd<'_>) -> String {
        format!("self/fd/{}", fd.as_raw_fd())
    }

    /// Makes procfs the working directory.
    ///
    /// # Errors
    /// fchdir(2)'s.
    pub(crate) fn enter(&self) -> Result<()> {
        rustix::process::fchdir(&self.root).context(|| "fchdir to procfs")
    }
}

fn check(fd: BorrowedFd<'_>) -> Result<()> {
    let stat = rustix::fs::fstatfs(fd).context(|| "fstatfs")?;
    match stat.f_type == PROC_SUPER_MAGIC {
        true => Ok(()),
        false => Err(Error::system("it is not on procfs")),
    }
}

impl AsFd for Proc {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}
