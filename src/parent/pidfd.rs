//! `--pidfd-socket` (runc) and `run.oci.pidfd_receiver` (crun): a pidfd of the new process for whoever asks for one.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use passfd::FdPassingExt;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::unix;
use crate::error::{Context, Error, Result};

/// Connected before anything is made.
pub(super) struct PidfdSocket(UnixStream);

impl PidfdSocket {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there, or the path is no socket.
    pub(super) fn connect(path: Option<&Path>) -> Result<Option<PidfdSocket>> {
        path.map(|path| unix::connect(path, "pidfd socket").map(PidfdSocket)).transpose()
    }

    /// Sends a pidfd of the process; `kind` is the message beside it: `standard` of a container's first process, `setns` of
    /// one that joins.
    ///
    /// # Errors
    /// A kernel without pidfds (before Linux 5.3), or a receiver that is gone.
    pub(super) fn send(&self, pid: i32, kind: &str) -> Result<()> {
        let process = Pid::from_raw(pid).ok_or_else(|| Error::system(format!("{pid} is no process")))?;
        let pidfd = pidfd_open(process, PidfdFlags::empty()).context(|| format!("pidfd_open {pid}"))?;
        let sent = self.0.send_fd_with_payload(pidfd.as_raw_fd(), kind.as_bytes());
        sent.context(|| "send the pidfd to the pidfd socket").map(drop)
    }
}
