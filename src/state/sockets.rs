//! The sockets in a container's directory: one on which `start` calls, one to which a service says that it is ready.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::Timeout;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::dir::ContainerDir;
use crate::error::{Context, Error, Result};
use crate::procfs::Proc;
use crate::selinux;

pub(super) const SOCKET: &str = "start.sock";
/// The directory of [`NOTIFY_SOCKET`].
pub(super) const NOTIFY: &str = "notify";
const NOTIFY_SOCKET: &str = "notify/notify";

impl ContainerDir {
    /// Makes the socket on which `start` will call.
    ///
    /// # Errors
    /// The state directory can't be written.
    pub fn listen(&self) -> Result<OwnedFd> {
        let doing = || format!("make the socket `{}`", self.path.join(SOCKET).display());
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .context(doing)?;
        self.inside(SOCKET, |address| rustix::net::bind(&socket, address).context(|| "bind")).context(doing)?;
        rustix::net::listen(&socket, 1).context(doing)?;
        Ok(socket)
    }

    /// Calls the created container, which has a time to answer. The socket is removed: a container is started once.
    ///
    /// # Errors
    /// EAGAIN where it does not answer; the socket is gone (it was started), or nobody listens.
    pub fn call(&self, patience: Option<Duration>) -> Result<OwnedFd> {
        let doing = || "call the created container";
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .context(doing)?;
        // connect(2) waits where others have called, and nobody answers.
        rustix::net::sockopt::set_socket_timeout(&socket, Timeout::Send, patience).context(doing)?;
        self.inside(SOCKET, |address| rustix::net::connect(&socket, address).context(|| "connect")).context(doing)?;
        rustix::fs::unlinkat(&self.fd, SOCKET, AtFlags::empty()).context(|| "remove the start socket")?;
        Ok(socket)
    }

    pub(super) fn waits_for_start(&self) -> Result<bool> {
        match rustix::fs::statat(&self.fd, SOCKET, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(Error::call("look for the start socket", errno)),
        }
    }

    /// Makes the directory that the container is shown, for [`ContainerDir::bind_notify`].
    ///
    /// # Errors
    /// The state directory can't be written.
    pub fn make_notify(&self) -> Result<()> {
        // For whichever user the service is: what keeps others out is the state directory above.
        let made = rustix::fs::mkdirat(&self.fd, NOTIFY, Mode::from_raw_mode(0o755));
        made.and_then(|()| rustix::fs::chmodat(&self.fd, NOTIFY, Mode::from_raw_mode(0o755), AtFlags::empty()))
            .context(|| format!("make `{}`", self.path.join(NOTIFY).display()))
    }

    /// Whether the container was shown such a directory.
    pub fn has_notify(&self) -> bool {
        rustix::fs::statat(&self.fd, NOTIFY, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Makes the socket to which the container's service says that it is ready; sd_notify(3). A service that SELinux confines
    /// may write to what has its label alone.
    ///
    /// # Errors
    /// The state directory can't be written.
    pub fn bind_notify(&self, label: Option<&str>) -> Result<OwnedFd> {
        let doing = || format!("make the socket `{}`", self.path.join(NOTIFY_SOCKET).display());
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .context(doing)?;
        self.inside(NOTIFY_SOCKET, |address| {
            rustix::net::bind(&socket, address).context(|| "bind")?;
            // Before the service starts, so that none finds it closed.
            rustix::fs::chmodat(&self.fd, NOTIFY_SOCKET, Mode::from_raw_mode(0o777), AtFlags::empty())
                .context(|| "chmod")
        })
        .context(doing)?;
        for name in [NOTIFY, NOTIFY_SOCKET] {
            label.map_or(Ok(()), |label| selinux::label(&self.path.join(name), label)).context(doing)?;
        }
        Ok(socket)
    }

    /// Calls with the address of a socket of this name, in the directory itself: a socket's path has room for 107 bytes, and the
    /// state root may be deeper.
    fn inside(&self, name: &str, call: impl FnOnce(&SocketAddrUnix) -> Result<()>) -> Result<()> {
        in_directory(self.fd.as_fd(), name.as_ref(), call)
    }
}

/// Calls with the address of a socket of this name, with its directory as the working directory.
///
/// # Errors
/// Those of the call; a name that no address has room for.
pub(crate) fn in_directory(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    call: impl FnOnce(&SocketAddrUnix) -> Result<()>,
) -> Result<()> {
    let address = |path: &OsStr| SocketAddrUnix::new(path).context(|| format!("address of `{}`", name.display()));
    let back = match rustix::fs::open(".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        // No way would lead back to a working directory that this process may not use: another user's, or what SELinux's
        // policy keeps from a confined domain.
        Err(Errno::ACCESS) => {
            let path = Path::new("/proc").join(Proc::path_of(directory)).join(name);
            return call(&address(path.as_os_str())?);
        }
        back => back.context(|| "open the working directory")?,
    };
    rustix::process::fchdir(directory).context(|| "fchdir to the socket's directory")?;
    let called = address(name).and_then(|address| call(&address));
    rustix::process::fchdir(&back).context(|| "go back to the working directory")?;
    called
}
