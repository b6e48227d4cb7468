//! Stays with a process in the foreground: forwards signals, relays its terminal, returns its exit code.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait, waitpid};

use super::console::{RawMode, copy_size};
use crate::error::{Context, Error, Result};

/// Signals held back from the default action, to be forwarded. Taken before the process is made, so that none is lost
/// between its start and the first look.
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks them; with `subreaper`, orphans of the container come to this process (prctl(2)).
    ///
    /// # Errors
    /// signalfd(2)'s or prctl(2)'s.
    pub fn hold(subreaper: bool) -> Result<Signals> {
        let mut set = SigSet::all();
        // These come from a fault of this process itself.
        for signal in
            [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGTRAP, Signal::SIGABRT]
        {
            set.remove(signal);
        }
        nix::sys::signal::sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).context(|| "block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let fd = SignalFd::with_flags(&set, flags).context(|| "signalfd")?;
        if subreaper {
            nix::sys::prctl::set_child_subreaper(true).context(|| "become the subreaper")?;
        }
        Ok(Signals { fd })
    }
}

/// Waits for a child of this process to end: its exit code, 128 and the signal's number for one that was killed.
///
/// # Errors
/// A terminal or signals that can't be read.
pub fn wait_for(pid: i32, master: Option<OwnedFd>, signals: Signals) -> Result<i32> {
    let mut relay = master.map(Relay::new).transpose()?;
    loop {
        let ready = wait_for_something(&signals, relay.as_ref())?;
        if let Some(relay) = &mut relay {
            relay.carry(ready)?;
        }
        while let Some(signal) = signals.fd.read_signal().context(|| "read a signal")? {
            match signal.ssi_signo as i32 {
                libc::SIGCHLD => {
                    if let Some(code) = reap(pid)? {
                        if let Some(relay) = &mut relay {
                            relay.drain();
                        }
                        return Ok(code);
                    }
                }
                libc::SIGWINCH if relay.is_some() => {
                    if let Some(relay) = &relay {
                        copy_size(&relay.master);
                    }
                }
                number => match crate::sys::signal::kill(pid, number) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(errno) => return Err(Error::call(format!("forward signal {number}"), errno)),
                },
            }
        }
    }
}

/// Reaps all that has ended; the code of the one that is waited for, if it is among them.
fn reap(pid: i32) -> Result<Option<i32>> {
    loop {
        match rustix::io::retry_on_intr(|| wait(WaitOptions::NOHANG)) {
            Ok(Some((ended, status))) if ended.as_raw_nonzero().get() == pid => return Ok(Some(code(status))),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(Errno::CHILD) => return Err(Error::system(format!("process {pid} is not a child of this process"))),
            Err(errno) => return Err(Error::call("wait for the container", errno)),
        }
    }
}

fn code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, signal) => 128 + signal.unwrap_or_default(),
    }
}

/// Waits for one child by its number, with no signals held: for commands that only need its end.
///
/// # Errors
/// waitpid(2)'s.
pub fn reap_one(pid: i32) -> Result<i32> {
    let status = rustix::io::retry_on_intr(|| waitpid(Pid::from_raw(pid), WaitOptions::empty()));
    let status = status.context(|| format!("wait for process {pid}"))?;
    Ok(status.map_or(0, |(_, status)| code(status)))
}

/// What there is to do.
#[derive(Default, Clone, Copy)]
struct Ready {
    input: bool,
    output: bool,
}

fn wait_for_something(signals: &Signals, relay: Option<&Relay>) -> Result<Ready> {
    let mut fds = vec![PollFd::new(&signals.fd, PollFlags::IN)];
    if let Some(relay) = relay {
        fds.push(PollFd::new(&relay.master, if relay.output_open { PollFlags::IN } else { PollFlags::empty() }));
        if relay.input_open {
            fds.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
        }
    }
    rustix::io::retry_on_intr(|| poll(&mut fds, None)).context(|| "poll")?;
    let ready = |i: usize| fds.get(i).is_some_and(|fd| !fd.revents().is_empty());
    Ok(Ready { output: ready(1), input: ready(2) })
}

/// Carries bytes between this process's standard streams and the container's terminal.
struct Relay {
    master: OwnedFd,
    input_open: bool,
    output_open: bool,
    _raw: RawMode,
}

impl Relay {
    fn new(master: OwnedFd) -> Result<Relay> {
        copy_size(&master);
        Ok(Relay { master, input_open: true, output_open: true, _raw: RawMode::set()? })
    }

    fn carry(&mut self, ready: Ready) -> Result<()> {
        if ready.input {
            self.input_open = carry_input(&self.master)?;
        }
        if ready.output && self.output_open {
            self.output_open = self.carry_output()?;
        }
        Ok(())
    }

    fn carry_output(&self) -> Result<bool> {
        let mut buffer = [0u8; 8192];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.master, &mut buffer)) {
            // EIO: nobody has the other side open any more.
            Ok(0) | Err(Errno::IO) => Ok(false),
            Ok(n) => write_all(rustix::stdio::stdout(), &buffer[..n]).map(|()| true),
            Err(errno) => Err(Error::call("read the terminal", errno)),
        }
    }

    /// What the process wrote before it ended.
    fn drain(&mut self) {
        while self.output_open {
            let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            let ready = poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0);
            // The exit code is worth more than an error about the last words.
            self.output_open = ready && self.carry_output().unwrap_or(false);
        }
    }
}

/// Carries what is typed. False at the end of the input.
fn carry_input(master: &OwnedFd) -> Result<bool> {
    let mut buffer = [0u8; 8192];
    match rustix::io::retry_on_intr(|| rustix::io::read(rustix::stdio::stdin(), &mut buffer)) {
        Ok(0) | Err(Errno::IO) => Ok(false),
        Ok(n) => write_all(master.as_fd(), &buffer[..n]).map(|()| true),
        Err(errno) => Err(Error::call("read standard input", errno)),
    }
}

fn write_all(to: std::os::fd::BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::retry_on_intr(|| rustix::io::write(to, bytes)) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::IO | Errno::PIPE) => return Ok(()),
            Err(errno) => return Err(Error::call("write to the terminal", errno)),
        }
    }
    Ok(())
}
