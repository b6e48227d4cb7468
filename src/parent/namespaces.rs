//! The parent's part in namespaces: opening those to join, and those that only its children enter.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sched::CloneFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Context, Error, Kind, Result};
use crate::plan::namespaces::{Join, Namespaces, flag, proc_name};
use crate::procfs::Proc;
use crate::protocol::event::{About, Recorder};
use crate::protocol::message::AS_ROOT;
use crate::state::ProcessId;
use crate::sys;

/// An open namespace, or a process by its pidfd, with the flags that setns(2) takes for it; or a directory, with [`AS_ROOT`].
pub(super) struct Joined {
    pub(super) flags: u32,
    pub(super) fd: OwnedFd,
    /// Of a pidfd: whose it is.
    pub(super) process: Option<i32>,
}

/// Opens the namespaces to join and checks what each is.
pub(super) fn open(joins: &[Join]) -> Result<Vec<Joined>> {
    joins
        .iter()
        .map(|join| Ok(Joined { flags: join.flag, fd: open_one(join.flag, &join.path)?, process: None }))
        .collect()
}

pub(super) fn open_one(flag: u32, path: &Path) -> Result<OwnedFd> {
    let name = proc_name(flag);
    let doing = || format!("join the {name} namespace `{}`", path.display());
    let fd =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()).context(doing)?;
    match crate::sys::namespace::kind(fd.as_fd()) {
        Ok(kind) if kind == flag => Ok(fd),
        Ok(kind) => Err(Error::config(format!("it is of type `{}`", proc_name(kind))).context(doing())),
        Err(Errno::NOTTY) => Err(Error::config("it is no namespace").context(doing())),
        Err(errno) => Err(Error::call("ioctl NS_GET_NSTYPE", errno).context(doing())),
    }
}

/// The namespaces of a container's first process, to be joined by `exec`: all at once by its pidfd (Linux 5.8), or one by one;
/// and its root, if that is not the one of a mount namespace.
///
/// # Errors
/// It is no more; its number may be another's by now.
pub(super) fn of_process(process: &ProcessId, flags: u32, proc: &Proc) -> Result<Vec<Joined>> {
    let pid = process.pid;
    let by_pidfd = rustix::process::Pid::from_raw(pid)
        .ok_or(Errno::SRCH)
        .and_then(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()));
    let mut joined = match by_pidfd {
        Ok(fd) => vec![Joined { flags, fd, process: Some(pid) }],
        Err(Errno::NOSYS | Errno::PERM) => one_by_one(pid, flags, proc)?,
        Err(errno) => return Err(Error::call(format!("pidfd_open {pid}"), errno)),
    };
    if flags & flag::MOUNT == 0 {
        joined.push(Joined { flags: AS_ROOT, fd: proc.open_root(pid)?, process: None });
    }
    // Whether it was that process all the while: what is open now stays its.
    match process.is_alive(proc)? {
        true => Ok(joined),
        false => Err(Error::new(Kind::State, "container not running")),
    }
}

fn one_by_one(pid: i32, flags: u32, proc: &Proc) -> Result<Vec<Joined>> {
    // The user namespace first, for the rights over the others; the mount namespace last.
    let order = [flag::USER, flag::CGROUP, flag::UTS, flag::IPC, flag::NET, flag::PID, flag::TIME, flag::MOUNT];
    let wanted = order.into_iter().filter(|f| flags & f != 0);
    wanted
        .map(|flag| {
            Ok(Joined { flags: flag, fd: proc.open_namespace(&pid.to_string(), proc_name(flag))?, process: None })
        })
        .collect()
}

/// Has children of this process, for good, be born in the pid namespace that is to be joined, and takes it from what is left
/// to join. Returns whether it could: an ordinary user has no right to, before joining the user namespace.
pub(super) fn set_pid_of(joined: &mut Vec<Joined>) -> Result<bool> {
    let Some(with_pid) = joined.iter().find(|j| j.flags & flag::PID != 0) else { return Ok(true) };
    match nix::sched::setns(&with_pid.fd, CloneFlags::CLONE_NEWPID) {
        Ok(()) => {
            joined.retain_mut(|j| {
                let is_root = j.flags == AS_ROOT;
                j.flags &= !flag::PID;
                is_root || j.flags != 0
            });
            Ok(true)
        }
        Err(nix::errno::Errno::EPERM | nix::errno::Errno::EINVAL) => Ok(false),
        Err(errno) => Err(errno).context(|| "setns to the container's pid namespace"),
    }
}

/// Which pid namespace a process is in, or which is so many levels above that: equal for the same one alone.
pub(super) fn pid_namespace(pid: i32, above: usize, proc: &Proc) -> Result<(u64, u64)> {
    let mut fd = proc.open_namespace(&pid.to_string(), proc_name(flag::PID))?;
    for _ in 0..above {
        fd = sys::namespace::parent(fd.as_fd()).context(|| format!("NS_GET_PARENT of `/proc/{pid}/ns/pid`"))?;
    }
    sys::identity(fd.as_fd()).context(|| format!("fstat `/proc/{pid}/ns/pid`"))
}

/// Namespaces that a process sets only for its children, set for the time of the clone. Hooks that run later are
/// children too, and belong to the runtime's own.
pub(super) struct ForChildren {
    restore: Vec<(u32, OwnedFd)>,
}

impl ForChildren {
    /// Sets the pid namespace that is joined and makes the time namespace, where the plan leaves these to the parent.
    pub(super) fn set(plan: &Namespaces, proc: &Proc) -> Result<ForChildren> {
        let mut set = ForChildren { restore: vec![] };
        if let Some(path) = &plan.join_pid {
            let fd = open_one(flag::PID, path)?;
            set.enter(flag::PID, proc, || nix::sched::setns(&fd, CloneFlags::CLONE_NEWPID))
                .context(|| format!("setns to the pid namespace `{}`", path.display()))?;
        }
        if plan.time_by_parent {
            set.enter(flag::TIME, proc, || nix::sched::unshare(CloneFlags::from_bits_retain(flag::TIME as i32)))
                .context(|| "unshare a time namespace")?;
            if let Some(offsets) = &plan.child.time_offsets {
                proc.write_self("timens_offsets", &offsets.text)?;
            }
        }
        Ok(set)
    }

    fn enter(&mut self, flag: u32, proc: &Proc, enter: impl FnOnce() -> nix::Result<()>) -> Result<()> {
        let own = proc.open_namespace("self", proc_name(flag))?;
        enter().context(|| "enter")?;
        self.restore.push((flag, own));
        Ok(())
    }

    /// Goes back, for later children.
    pub(super) fn restore(self) -> Result<()> {
        self.restore.into_iter().try_for_each(|(flag, own)| {
            nix::sched::setns(&own, CloneFlags::from_bits_retain(flag as i32))
                .context(|| format!("setns back to the runtime's own {} namespace", proc_name(flag)))
        })
    }
}

/// This process, for a while, in the child's mount namespace: with the host's rights, but with the mounts as a user
/// namespace has them. The kernel has locked those (mount_namespaces(7)): a copy of a read-only mount that is taken here
/// stays read-only for the container's root, where one taken on the host could be made writable.
pub(super) struct InMountNamespace(Option<WayBack>);

/// The mount namespace, the root and the working directory that this process comes from. Dropped, it goes back if it has not yet:
/// whatever failed elsewhere, what is undone is undone where it was made.
struct WayBack {
    namespace: OwnedFd,
    root: OwnedFd,
    cwd: OwnedFd,
    taken: bool,
}

impl WayBack {
    fn remember(proc: &Proc) -> Result<WayBack> {
        let open = |path: &str| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let namespace = proc.open_namespace("self", "mnt")?;
        let cwd = match open(".") {
            // No relative path meant anything there, and in procfs none makes a file by mistake.
            Err(Errno::ACCESS) => proc.directory()?,
            cwd => cwd.context(|| "open the working directory")?,
        };
        Ok(WayBack { namespace, root: open("/").context(|| "open `/`")?, cwd, taken: false })
    }

    fn take(mut self) -> Result<()> {
        self.go()
    }

    fn go(&mut self) -> Result<()> {
        nix::sched::setns(&self.namespace, CloneFlags::CLONE_NEWNS)
            .context(|| "setns back to the runtime's own mount namespace")?;
        // setns goes to the namespace's own root, which a chroot around this process is not.
        rustix::process::fchdir(&self.root).context(|| "fchdir back to the root")?;
        rustix::process::chroot(".").context(|| "chroot back")?;
        rustix::process::fchdir(&self.cwd).context(|| "fchdir back to the working directory")?;
        self.taken = true;
        Ok(())
    }
}

impl Drop for WayBack {
    fn drop(&mut self) {
        if !self.taken {
            // The failure that led here is told already.
            let _ = self.go();
        }
    }
}

/// Runs `act` in a copy of this process's mount namespace, which ends with it.
pub(super) fn in_copy<T>(proc: &Proc, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let back = WayBack::remember(proc)?;
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).context(|| "unshare a mount namespace")?;
    let result = act();
    back.take()?;
    result
}

impl InMountNamespace {
    /// Enters. An ordinary user has no right to, and none to open trees either: the child takes the path-based way.
    ///
    /// In a `copy` of it, where the child goes on meanwhile: what it mounts is no source.
    pub(super) fn enter(pid: i32, copy: bool, proc: &Proc, recorder: &mut Recorder) -> Result<InMountNamespace> {
        let back = WayBack::remember(proc)?;
        let theirs = proc.open_namespace(&pid.to_string(), "mnt")?;
        match nix::sched::setns(&theirs, CloneFlags::CLONE_NEWNS) {
            Ok(()) => {
                let there = InMountNamespace(Some(back));
                if copy {
                    nix::sched::unshare(CloneFlags::CLONE_NEWNS).context(|| "unshare a mount namespace")?;
                }
                Ok(there)
            }
            Err(nix::errno::Errno::EPERM) => {
                recorder.fallback("mount namespace", || {
                    About::default().by("opening sources where this process is").why("setns: EPERM")
                });
                Ok(InMountNamespace(None))
            }
            Err(errno) => Err(errno).context(|| "setns to the container's mount namespace"),
        }
    }

    /// Goes back, to the working directory too.
    pub(super) fn leave(self) -> Result<()> {
        self.0.map_or(Ok(()), WayBack::take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_took_over_the_number_is_not_joined() {
        let proc = Proc::open().unwrap();
        let own = ProcessId::of(std::process::id() as i32, &proc).unwrap();
        let joined = |process: &ProcessId, flags| of_process(process, flags, &proc).map(|joined| joined.len());
        assert_eq!(joined(&own, flag::MOUNT).unwrap(), 1);
        assert_eq!(joined(&own, flag::PID).unwrap(), 2, "its root is not a mount namespace's");
        let earlier = ProcessId { start_time: own.start_time - 1, ..own };
        assert_eq!(joined(&earlier, flag::MOUNT).unwrap_err().to_string(), "container not running");
    }
}
