//! The other end of a container's terminal: handed to the engine's console socket, or relayed to this terminal.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use passfd::FdPassingExt;
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::unix;
use crate::error::{Context, Error, Result};
use crate::plan::process::TerminalSize;
use crate::protocol::recording::FdKind;

/// Where the terminal's master goes.
pub(super) enum Console {
    /// No terminal.
    None,
    /// To the engine.
    Socket(UnixStream),
    /// To this process's own terminal, for a command in the foreground.
    Own,
}

impl Console {
    /// Decides, and connects to the engine before anything is made.
    ///
    /// # Errors
    /// A console socket without a terminal, a detached terminal without a console socket, or a socket nobody listens on.
    pub(super) fn choose(terminal: bool, socket: Option<&Path>, detached: bool) -> Result<Console> {
        match (terminal, socket) {
            (false, None) => Ok(Console::None),
            (false, Some(_)) => Err(Error::config("a console socket is given, and `process.terminal` is not set")),
            (true, None) if detached => {
                Err(Error::config("`process.terminal` is set: a detached container needs --console-socket")
                    .advise("or set process.terminal to false"))
            }
            (true, None) if !isatty(rustix::stdio::stdin()) => {
                let error = Error::config("`process.terminal` is set, and standard input is no terminal");
                Err(error.advise("set process.terminal to false, of exec leave out -t, or call from a terminal"))
            }
            (true, None) => Ok(Console::Own),
            (true, Some(path)) => {
                let doing = || format!("connect to the console socket `{}`", path.display());
                let is_socket = std::fs::metadata(path).context(doing)?.file_type().is_socket();
                if !is_socket {
                    return Err(Error::call(doing(), Errno::NOTSOCK));
                }
                Ok(Console::Socket(unix::connect(path, "console socket")?))
            }
        }
    }

    /// Hands the master over, or keeps it for the relay.
    pub(super) fn take(self, master: OwnedFd) -> Result<Option<OwnedFd>> {
        check_master(&master)?;
        match self {
            Console::Socket(socket) => {
                socket
                    .send_fd_with_payload(master.as_raw_fd(), b"/dev/ptmx")
                    .context(|| "send the terminal to the console socket")?;
                Ok(None)
            }
            Console::Own => Ok(Some(master)),
            Console::None => Err(Error::system("the child sent a terminal that nobody asked for")),
        }
    }
}

/// What the child sent is a terminal's master, and not a directory of the host's, say. First by its kind, for which no file
/// system is asked: one that the child serves itself might never answer an ioctl.
pub(crate) fn check_master(master: &OwnedFd) -> Result<()> {
    let doing = || "the child sent something else than a terminal's master";
    if FdKind::of(master.as_fd()).context(doing)? != FdKind::Terminal {
        return Err(Error::call(doing(), Errno::NOTTY));
    }
    rustix::pty::ptsname(master, Vec::new()).context(doing).map(drop)
}

/// The size of the terminal on standard input, where the configuration has none.
pub(super) fn own_size() -> TerminalSize {
    match tcgetwinsize(rustix::stdio::stdin()) {
        Ok(Winsize { ws_row: rows, ws_col: columns, .. }) => TerminalSize { rows, columns },
        Err(_) => TerminalSize::default(),
    }
}

/// Puts this process's terminal in raw mode until dropped.
pub(super) struct RawMode(Option<Termios>);

impl RawMode {
    pub(super) fn set() -> Result<RawMode> {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) {
            return Ok(RawMode(None));
        }
        let before = tcgetattr(stdin).context(|| "read the terminal's mode")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw).context(|| "set the terminal to raw mode")?;
        Ok(RawMode(Some(before)))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // The terminal may be gone; there is nobody to tell.
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, before);
        }
    }
}

/// Gives the container's terminal the size of this one.
pub(super) fn copy_size(master: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
        // The container's side may be closed already.
        let _ = tcsetwinsize(master.as_fd(), size);
    }
}
