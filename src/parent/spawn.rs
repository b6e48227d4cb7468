//! Starts the child image and holds it until it is known to be safe to let go.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::WaitOptions;

use super::image::Image;
use crate::error::{Context, Error, Result};
use crate::plan::namespaces;
use crate::protocol::channel::Channel;
use crate::protocol::event::{About, Recorder};
use crate::protocol::journal;
use crate::sys::clone::{Spawn, Spawned, spawn};

/// What decides how the child is started.
pub(super) struct Start<'a> {
    pub(super) image: &'a Image,
    /// `CLONE_NEW*` flags for the clone itself.
    pub(super) namespaces: u32,
    pub(super) cgroup: Option<BorrowedFd<'a>>,
    pub(super) tasks: &'a [OwnedFd],
    /// Wait for the id maps of a user namespace made by the clone.
    pub(super) gated: bool,
    /// Fds 3 to 2 + this go to the payload.
    pub(super) preserve_fds: u32,
}

/// A started child image, killed and reaped when dropped, unless it was let go.
pub(super) struct Child {
    spawned: Spawned,
    /// The process that is or will be the payload.
    pub(super) pid: i32,
    released: bool,
}

/// Starts the child image. Returns the parent's end of the sync socket too.
pub(super) fn start(start: &Start<'_>) -> Result<(Child, Channel)> {
    let (ours, theirs) = Channel::pair()?;
    // Above the fds that the payload gets; the lower numbers are the engine's.
    let first = i32::try_from(start.preserve_fds).unwrap_or(i32::MAX).saturating_add(3);
    let theirs = rustix::io::fcntl_dupfd_cloexec(theirs.socket(), first).context(|| "duplicate the sync socket")?;
    let number = CString::new(theirs.as_raw_fd().to_string()).map_err(|e| Error::system(e.to_string()))?;
    let name = CString::new(crate::CHILD_IMAGE_NAME).map_err(|e| Error::system(e.to_string()))?;
    let spawned = spawn(&Spawn {
        namespaces: start.namespaces.into(),
        cgroup: start.cgroup,
        tasks: start.tasks,
        gated: start.gated,
        become_root: start.gated,
        image: std::os::fd::AsFd::as_fd(start.image),
        socket: std::os::fd::AsFd::as_fd(&theirs),
        socket_number: theirs.as_raw_fd(),
        args: &[&name, &number],
        sibling: false,
    })
    .map_err(|errno| explain(errno, start))?;
    let pid = spawned.pid;
    Ok((Child { spawned, pid, released: false }, ours))
}

fn explain(errno: Errno, start: &Start<'_>) -> Error {
    let error = Error::call(format!("clone3 into new namespaces ({})", namespaces::names(start.namespaces)), errno);
    match errno {
        Errno::NOSPC => error.advise("a limit in /proc/sys/user/max_*_namespaces is reached"),
        Errno::BUSY => error.advise("the cgroup has controllers enabled for its children and can't hold processes"),
        Errno::PERM if start.namespaces & namespaces::flag::USER != 0 => {
            error.advise("may this user make user namespaces? `tandem doctor` tells, and what to do")
        }
        Errno::PERM if !rustix::process::geteuid().is_root() => {
            error.advise("an ordinary user's container needs a user namespace: `tandem spec --rootless` has one")
        }
        Errno::PERM => error.advise("that needs CAP_SYS_ADMIN, or a user namespace"),
        Errno::AGAIN => error.advise("the limit of processes is reached"),
        _ => error,
    }
}

impl Child {
    /// Whether it was born in the cgroup it was to be born in.
    pub(super) fn in_cgroup(&self) -> bool {
        self.spawned.in_cgroup
    }

    /// Says in the trace that it was not, and why: `moved`, or else the lack of the call.
    pub(super) fn record_late_join(&self, moved: Option<String>, recorder: &mut Recorder) {
        if !self.in_cgroup() {
            let why = || moved.unwrap_or_else(|| "no clone3".into());
            recorder.fallback("cgroup", || About::default().by("cgroup.procs").why(why()));
        }
    }

    /// Opens the gate of a child that waits for its id maps.
    pub(super) fn go(&self) -> Result<()> {
        self.spawned.go().context(|| "let the child go on")
    }

    /// The image has handed over to another process, which [`super::handover::Origin`] has checked.
    pub(super) fn handed_over(&mut self, pid: i32) -> Result<()> {
        // It has nothing left to do but to exit, and one that does not must not hold this command.
        kill(self.pid);
        // Once it is reaped its number may be another's.
        let first = std::mem::replace(&mut self.pid, pid);
        reap(first)
    }

    /// Lets it live on by itself.
    pub(super) fn release(mut self) -> i32 {
        self.released = true;
        self.pid
    }

    /// What became of a child whose end of the socket is closed before its time: what its stub said, or how it died.
    pub(super) fn explain_end(&mut self, error: Error) -> Error {
        let ended = self.await_end(Duration::from_secs(1));
        self.explain_as(error, ended)
    }

    /// The same for a failure that may or may not come from the child's end.
    pub(super) fn explain_if_ended(&mut self, error: Error) -> Error {
        match self.await_end(Duration::from_millis(20)) {
            // One that lives waits for us: its stub has nothing to say yet.
            None => error,
            ended => self.explain_as(error, ended),
        }
    }

    /// [`Child::ended`], as a step.
    fn await_end(&mut self, patience: Duration) -> Option<Option<i32>> {
        let since = journal::now();
        let ended = self.ended(patience);
        journal::step("await end", since, || {
            let how = match ended {
                Some(Some(signal)) => format!("killed by signal {signal}"),
                Some(None) => "it exited".into(),
                None => "it lives".into(),
            };
            About::object(format!("pid {}", self.pid)).with(how)
        });
        ended
    }

    fn explain_as(&self, error: Error, ended: Option<Option<i32>>) -> Error {
        if let Some(failure) = self.spawned.stub_failure() {
            let error = Error::call(format!("start the child image: {}", failure.step), failure.errno);
            return match failure.errno {
                // The image is an open file, and no script. TOMOYO knows it by the name that the kernel gives it.
                Errno::NOENT if failure.step.starts_with("execveat") => {
                    error.advise("the security module TOMOYO looks for `/dev/fd` and needs `/proc`")
                }
                _ => error,
            };
        }
        match ended {
            // Who did it is for others to find out: another command, or the kernel for want of memory.
            Some(Some(libc::SIGKILL)) => error.context("the child was killed"),
            Some(Some(signal)) => error.context(format!("the child was killed by signal {signal}")),
            Some(None) | None => error,
        }
    }

    /// How it ended, if it does so now: who closes the socket is about to. One that is not is killed when dropped.
    fn ended(&mut self, patience: Duration) -> Option<Option<i32>> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            let status = rustix::process::waitpid(rustix::process::Pid::from_raw(self.pid), WaitOptions::NOHANG);
            match status {
                Ok(Some((_, status))) => {
                    self.released = true;
                    return Some(status.terminating_signal());
                }
                Ok(None) | Err(Errno::INTR) => std::thread::sleep(Duration::from_millis(1)),
                Err(_) => return None,
            }
        }
        None
    }
}

/// One that is gone already has nothing to be killed.
fn kill(pid: i32) {
    if let Some(id) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
    }
}

/// Collects a child of this process that was killed. Not for ever: what a dead file server holds does not even die.
fn reap(pid: i32) -> Result<()> {
    use rustix::process::{Pid, waitpid};
    const PATIENCE: Duration = Duration::from_secs(10);
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(50);
    loop {
        match waitpid(Pid::from_raw(pid), WaitOptions::NOHANG) {
            Ok(Some(_)) => return Ok(()),
            Ok(None) | Err(Errno::INTR) if Instant::now() < deadline => std::thread::sleep(pause),
            Ok(None) | Err(Errno::INTR) => {
                return Err(Error::system(format!("process {pid} does not end after SIGKILL")));
            }
            Err(errno) => return Err(Error::call(format!("wait for the child {pid}"), errno)),
        }
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        let since = journal::now();
        kill(self.pid);
        if let Err(e) = reap(self.pid)
            && e.errno() != Some(Errno::CHILD)
        {
            log::warn!("{e}");
        }
        journal::step("kill", since, || About::object(format!("pid {}", self.pid)).by("SIGKILL, waitpid"));
    }
}
