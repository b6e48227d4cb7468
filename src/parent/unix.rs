//! Connections to unix sockets that the caller names.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::error::{Context, Result};
use crate::state::in_directory;

/// What an address has room for, in bytes; unix(7).
const LONGEST: usize = 107;

/// Connects to a stream socket, however deep its directory is; `what` it is called.
///
/// # Errors
/// Nobody listens there, or it is none.
pub(super) fn connect(path: &Path, what: &str) -> Result<UnixStream> {
    let doing = || format!("connect to the {what} `{}`", path.display());
    match (path.parent(), path.file_name()) {
        (Some(directory), Some(name)) if path.as_os_str().len() > LONGEST => connect_in(directory, name).context(doing),
        _ => UnixStream::connect(path).context(doing),
    }
}

fn connect_in(directory: &Path, name: &OsStr) -> Result<UnixStream> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty()).context(|| "open its directory")?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let socket = socket.context(|| "socket")?;
    in_directory(directory.as_fd(), name, |address| rustix::net::connect(&socket, address).context(|| "connect"))?;
    Ok(socket.into())
}
