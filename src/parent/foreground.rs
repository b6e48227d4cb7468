//! Stays with a process in the foreground: forwards signals, relays its terminal, returns its exit code.

use std::fmt;
use std::os::fd::OwnedFd;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{WaitOptions, WaitStatus, wait};

use super::console::{RawMode, copy_size};
use super::notify::Notify;
use super::oom::MemoryWatch;
use crate::error::{Context, Error, Result};

/// Signals held back from the default action, to be forwarded. Taken before the process is made, so that none is lost
/// between its start and the first look.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

/// What ends a command that hangs: these keep their default action until there is a process to forward them to.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGHUP];

impl Signals {
    /// Blocks them, those that end a command excepted; with `subreaper`, orphans of the container come to this process
    /// (prctl(2)).
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
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let fd = SignalFd::with_flags(&set, flags).context(|| "signalfd")?;
        ENDING.into_iter().for_each(|signal| set.remove(signal));
        nix::sys::signal::sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).context(|| "block signals")?;
        if subreaper {
            nix::sys::prctl::set_child_subreaper(true).context(|| "become the subreaper")?;
        }
        Ok(Signals { fd })
    }

    /// Blocks the rest: there is about to be a process to forward them to.
    pub(super) fn hold_all(&self) -> Result<()> {
        let set: SigSet = ENDING.into_iter().collect();
        nix::sys::signal::sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).context(|| "block signals")
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl End {
    /// The exit code that tells it: 128 and the signal's number for one that was killed.
    pub fn code(self) -> i32 {
        match self {
            End::Exited(code) => code,
            End::Killed(signal) => 128 + signal,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(code) => write!(f, "exited with {code}"),
            End::Killed(signal) => write!(f, "was killed by signal {signal}"),
        }
    }
}

/// Waits for a child of this process to end. `memory`: what is to be looked at while it is there.
///
/// # Errors
/// A terminal or signals that can't be read.
pub fn wait_for(
    pid: i32,
    master: Option<OwnedFd>,
    notify: Option<Notify>,
    mut memory: Option<&mut MemoryWatch>,
    signals: Signals,
) -> Result<End> {
    let mut relay = master.map(Relay::new).transpose()?;
    loop {
        let ready = wait_for_something(&signals, relay.as_ref(), notify.as_ref(), memory.as_deref())?;
        if let Some(memory) = memory.as_mut().filter(|_| ready.memory) {
            memory.look();
        }
        if let Some(notify) = &notify {
            notify.carry(pid)?;
        }
        if let Some(relay) = &mut relay {
            relay.carry(ready)?;
        }
        while let Some(signal) = signals.fd.read_signal().context(|| "read a signal")? {
            match signal.ssi_signo as i32 {
                libc::SIGCHLD => {
                    if let Some(end) = reap(pid)? {
                        if let Some(relay) = &mut relay {
                            relay.drain();
                        }
                        return Ok(end);
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

/// Reaps all that has ended; how the one that is waited for did, if it is among them.
fn reap(pid: i32) -> Result<Option<End>> {
    loop {
        match rustix::io::retry_on_intr(|| wait(WaitOptions::NOHANG)) {
            Ok(Some((ended, status))) if ended.as_raw_nonzero().get() == pid => return Ok(Some(end(status))),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(Errno::CHILD) => return Err(Error::system(format!("process {pid} is not a child of this process"))),
            Err(errno) => return Err(Error::call("wait for the container", errno)),
        }
    }
}

fn end(status: WaitStatus) -> End {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => End::Exited(code),
        (None, signal) => End::Killed(signal.unwrap_or_default()),
    }
}

/// What there is to do.
#[derive(Clone, Copy)]
struct Ready {
    input: bool,
    master: PollFlags,
    memory: bool,
}

fn wait_for_something(
    signals: &Signals,
    relay: Option<&Relay>,
    notify: Option<&Notify>,
    memory: Option<&MemoryWatch>,
) -> Result<Ready> {
    let mut fds = vec![PollFd::new(&signals.fd, PollFlags::IN)];
    fds.extend(notify.map(|notify| PollFd::new(notify, PollFlags::IN)));
    let changes = memory.and_then(MemoryWatch::changes);
    let counter = changes.is_some().then_some(fds.len());
    fds.extend(changes.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::PRI)));
    let mut timeout = None;
    let (mut master, mut input) = (None, None);
    if let Some(relay) = relay {
        let wanted = relay.wanted();
        // A terminal that nobody has open reports a hang-up whatever is asked; it is looked at again later.
        if wanted.is_empty() {
            timeout = Some(Timespec { tv_sec: 0, tv_nsec: RETRY_NS });
        } else {
            master = Some(fds.len());
            fds.push(PollFd::new(&relay.master, wanted));
        }
        // More is read only when what was read has been taken.
        if relay.input_open && relay.pending.is_empty() {
            input = Some(fds.len());
            fds.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
        }
    }
    rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref())).context(|| "poll")?;
    let events = |at: Option<usize>| at.and_then(|at| fds.get(at)).map_or(PollFlags::empty(), PollFd::revents);
    let memory = !events(counter).is_empty();
    Ok(Ready { input: !events(input).is_empty(), master: events(master), memory })
}

/// How long a terminal that nobody has open is left alone, in nanoseconds.
const RETRY_NS: i64 = 100_000_000;

/// Carries bytes between this process's standard streams and the container's terminal. It never waits for either side
/// to take what the other has sent, so signals are always heard.
struct Relay {
    /// Non-blocking.
    master: OwnedFd,
    input_open: bool,
    /// Nobody had the other side open when it was last looked at.
    hung_up: bool,
    /// Read from standard input and not yet taken by the terminal.
    pending: Vec<u8>,
    _raw: RawMode,
}

impl Relay {
    fn new(master: OwnedFd) -> Result<Relay> {
        copy_size(&master);
        rustix::io::ioctl_fionbio(&master, true).context(|| "make the terminal non-blocking")?;
        Ok(Relay { master, input_open: true, hung_up: false, pending: vec![], _raw: RawMode::set()? })
    }

    /// What to wait for on the terminal; nothing while it is hung up.
    fn wanted(&self) -> PollFlags {
        match (self.hung_up, self.pending.is_empty()) {
            (true, _) => PollFlags::empty(),
            (false, true) => PollFlags::IN,
            (false, false) => PollFlags::IN | PollFlags::OUT,
        }
    }

    fn carry(&mut self, ready: Ready) -> Result<()> {
        if ready.input {
            self.read_input()?;
        }
        if self.hung_up || ready.master.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.carry_output()?;
        }
        if !self.pending.is_empty() {
            self.write_pending()?;
        }
        Ok(())
    }

    fn read_input(&mut self) -> Result<()> {
        let mut buffer = [0u8; 8192];
        match rustix::io::retry_on_intr(|| rustix::io::read(rustix::stdio::stdin(), &mut buffer)) {
            Ok(0) | Err(Errno::IO) => self.input_open = false,
            Ok(n) => self.pending.extend_from_slice(&buffer[..n]),
            Err(errno) => return Err(Error::call("read standard input", errno)),
        }
        Ok(())
    }

    fn write_pending(&mut self) -> Result<()> {
        match rustix::io::retry_on_intr(|| rustix::io::write(&self.master, &self.pending)) {
            Ok(n) => drop(self.pending.drain(..n)),
            Err(Errno::AGAIN | Errno::IO) => {}
            Err(errno) => return Err(Error::call("write to the terminal", errno)),
        }
        Ok(())
    }

    /// Carries what there is to standard output. Returns whether there was anything.
    fn carry_output(&mut self) -> Result<bool> {
        let mut buffer = [0u8; 8192];
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.master, &mut buffer));
        // EIO: nobody has the other side open, now; a process of the container may open it again.
        self.hung_up = matches!(read, Ok(0) | Err(Errno::IO));
        match read {
            Ok(0) | Err(Errno::IO | Errno::AGAIN) => Ok(false),
            Ok(n) => write_all(rustix::stdio::stdout(), &buffer[..n]).map(|()| true),
            Err(errno) => Err(Error::call("read the terminal", errno)),
        }
    }

    /// What the process wrote before it ended. The exit code is worth more than an error about the last words.
    fn drain(&mut self) {
        while self.carry_output().unwrap_or(false) {}
    }
}

fn write_all(to: std::os::fd::BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::retry_on_intr(|| rustix::io::write(to, bytes)) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::IO | Errno::PIPE) => return Ok(()),
            Err(errno) => return Err(Error::call("write to standard output", errno)),
        }
    }
    Ok(())
}
