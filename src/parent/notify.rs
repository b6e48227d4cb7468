//! Readiness, as systemd asks for it (sd_notify(3)): the container gets a socket of its own, and what its service says there
//! is told to the caller's `NOTIFY_SOCKET`, with the payload as the main process.
//!
//! `create` shows the container a directory of its state; `start` and `run` make the socket in it, which is how the one that
//! listens need not be the one that has made the container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{Context, Error, Result};
use crate::state::ContainerDir;

/// What of a service's words means the same outside. Its process IDs and its fds do not.
const FORWARDED: [&str; 6] = ["READY=", "STATUS=", "ERRNO=", "RELOADING=", "STOPPING=", "EXTEND_TIMEOUT_USEC="];

/// Whether the caller wants to be told: the address of its socket.
///
/// # Errors
/// It is none.
pub(super) fn wanted() -> Result<Option<SocketAddrUnix>> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(None) };
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name),
        path => SocketAddrUnix::new(path),
    };
    address.context(|| format!("NOTIFY_SOCKET `{}`", name.display())).map(Some)
}

/// Between the container's socket and the caller's.
#[derive(Debug)]
pub struct Notify {
    container: OwnedFd,
    caller: SocketAddrUnix,
}

impl Notify {
    /// Listens for a caller that wants to be told, if the container was made to tell.
    ///
    /// # Errors
    /// A socket that can't be made.
    pub(super) fn listen(caller: Option<SocketAddrUnix>, dir: &ContainerDir) -> Result<Option<Notify>> {
        let (Some(caller), true) = (caller, dir.has_notify()) else { return Ok(None) };
        let config = dir.read_config()?;
        let label = config.linux().as_ref().and_then(|linux| linux.mount_label().as_deref());
        Ok(Some(Notify { container: dir.bind_notify(label.filter(|label| !label.is_empty()))?, caller }))
    }

    /// Waits until the service says that it is ready, or its process has ended. `pid` is the payload.
    ///
    /// # Errors
    /// A socket that can't be read.
    pub fn await_ready(&self, pid: i32) -> Result<()> {
        let process = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        loop {
            let mut fds = vec![PollFd::new(&self.container, PollFlags::IN)];
            fds.extend(process.as_ref().map(|process| PollFd::new(process, PollFlags::IN)));
            // Without a pidfd the process is looked at by its number, now and then.
            let patience = process.is_none().then_some(Timespec { tv_sec: 0, tv_nsec: 100_000_000 });
            rustix::io::retry_on_intr(|| poll(&mut fds, patience.as_ref())).context(|| "poll")?;
            if self.carry(pid)? {
                return Ok(());
            }
            let ended = match &process {
                Some(_) => !fds[1].revents().is_empty(),
                None => crate::sys::signal::kill(pid, 0) == Err(Errno::SRCH),
            };
            if ended {
                return Ok(());
            }
        }
    }

    /// Tells the caller all that has come; whether the service is ready by now.
    pub(super) fn carry(&self, pid: i32) -> Result<bool> {
        let mut ready = false;
        let mut buffer = [0u8; 4096];
        loop {
            match rustix::net::recv(&self.container, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => ready |= self.forward(&String::from_utf8_lossy(&buffer[..length]), pid),
                Err(Errno::AGAIN) => return Ok(ready),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::call("read the container's notify socket", errno)),
            }
        }
    }

    /// A caller that can't be told is worth a word, not the container, which runs.
    fn forward(&self, message: &str, pid: i32) -> bool {
        let Some(text) = translated(message, pid) else { return false };
        if let Err(e) = self.tell(&text) {
            log::warn!("{e}");
        }
        text.lines().any(|line| line == "READY=1")
    }

    fn tell(&self, text: &str) -> Result<()> {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .context(|| "socket")?;
        rustix::net::sendto(&socket, text.as_bytes(), SendFlags::NOSIGNAL, &self.caller)
            .context(|| "tell the caller's NOTIFY_SOCKET")
            .map(drop)
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.container.as_fd()
    }
}

fn translated(message: &str, pid: i32) -> Option<String> {
    let mut lines: Vec<&str> =
        message.lines().filter(|line| FORWARDED.iter().any(|name| line.starts_with(name))).collect();
    let main = format!("MAINPID={pid}");
    if lines.contains(&"READY=1") {
        lines.push(&main);
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::translated;

    #[test]
    fn only_what_means_the_same_outside_is_told() {
        assert_eq!(translated("READY=1\nMAINPID=1\nSTATUS=up\n", 77).unwrap(), "READY=1\nSTATUS=up\nMAINPID=77");
        assert_eq!(translated("FDSTORE=1\nMAINPID=1", 77), None);
        assert_eq!(translated("STATUS=x", 77).unwrap(), "STATUS=x");
        assert_eq!(translated("", 77), None);
    }
}
