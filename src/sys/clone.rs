//! Starts the child image in new namespaces: clone3, the few calls that must stand between clone and exec, exec.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::{check, last_errno};

/// How to start the child image.
pub struct Spawn<'a> {
    /// `CLONE_NEW*` flags of clone(2).
    pub namespaces: u64,
    /// The cgroup v2 directory that the child is born in (`CLONE_INTO_CGROUP`, Linux 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
    /// `tasks` files of cgroup v1: the child writes "0" to each. A single thread that moves itself this way takes no
    /// global lock, where a write of its pid to `cgroup.procs` waits for an RCU grace period.
    pub tasks: &'a [OwnedFd],
    /// Wait for [`Spawned::go`] before anything else: id maps must be written first.
    pub gated: bool,
    /// Become user and group 0 of the new user namespace before exec, so that exec keeps the capabilities.
    pub become_root: bool,
    /// The program: any fd that execveat(2) takes.
    pub image: BorrowedFd<'a>,
    /// The sync socket, and the number it has in the child image.
    pub socket: BorrowedFd<'a>,
    /// See `socket`.
    pub socket_number: RawFd,
    /// The arguments of the image; its environment is empty.
    pub args: &'a [&'a CStr],
    /// Make the new process a child of the caller's parent (`CLONE_PARENT`).
    pub sibling: bool,
}

/// A started child image.
pub struct Spawned {
    /// Its process ID, in the caller's pid namespace.
    pub pid: i32,
    /// Its pidfd; None where the kernel has none (before Linux 5.2).
    pub pidfd: Option<OwnedFd>,
    /// Whether it was born in the cgroup asked for; else the caller must move it.
    pub in_cgroup: bool,
    gate: OwnedFd,
}

/// The step of the stub that failed before exec, with its errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StubFailure {
    /// What it did.
    pub step: &'static str,
    /// What the kernel said.
    pub errno: Errno,
}

const STEPS: [&str; 5] = [
    "wait for the id maps",
    "write `0` to the tasks file of a cgroup",
    "become root of the user namespace",
    "hand over the sync socket",
    "execveat the child image",
];

impl Spawned {
    /// Lets a gated child go on.
    ///
    /// # Errors
    /// EPIPE if it is dead.
    pub fn go(&self) -> Result<(), Errno> {
        rustix::net::send(&self.gate, b"g", rustix::net::SendFlags::NOSIGNAL).map(drop)
    }

    /// Why the child image did not start: None if it did, or if it was killed. Blocks until one is known.
    pub fn stub_failure(&self) -> Option<StubFailure> {
        let mut report = [0u8; 8];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.gate, &mut report)) {
            Ok(8) => {
                let step = STEPS.get(report[0] as usize)?;
                let errno = i32::from_ne_bytes([report[4], report[5], report[6], report[7]]);
                Some(StubFailure { step, errno: Errno::from_raw_os_error(errno) })
            }
            _ => None,
        }
    }
}

/// libc has it as an int, which it overflows.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of clone(2), up to the fields of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Clones a child into new namespaces and executes `spawn.image` in it.
///
/// # Errors
/// The errno of clone3(2) (EPERM, ENOSPC for a namespace limit, EBUSY for a cgroup with controllers that can't hold
/// processes, ...). What fails after that is in [`Spawned::stub_failure`].
pub fn spawn(spawn: &Spawn<'_>) -> Result<Spawned, Errno> {
    let (ours, theirs) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // Everything the stub needs is laid out before the clone, so that it allocates nothing.
    let mut argv: Vec<*const libc::c_char> = spawn.args.iter().map(|a| a.as_ptr()).collect();
    argv.push(std::ptr::null());
    let (pid, pidfd, in_cgroup) = clone(spawn, || {
        // The stub's copy of our end would keep a dead parent's gate open for ever.
        // SAFETY: only the stub runs this, on its own copy of the fd table; `ours` is dropped by no destructor there.
        unsafe { libc::close(ours.as_raw_fd()) };
        stub(spawn, &theirs, &argv)
    })?;
    Ok(Spawned { pid, pidfd, in_cgroup, gate: ours })
}

/// clone3, or clone where a kernel or a seccomp filter does not have it (ENOSYS, of some filters EPERM: where that is the
/// kernel's own word, clone says the same). Runs `stub` in the child.
fn clone(spawn: &Spawn<'_>, stub: impl FnOnce() -> StubStop) -> Result<(i32, Option<OwnedFd>, bool), Errno> {
    let mut pidfd: RawFd = -1;
    let base = spawn.namespaces | if spawn.sibling { libc::CLONE_PARENT as u64 } else { 0 };
    let mut args = CloneArgs {
        flags: base | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        // With CLONE_PARENT the kernel takes the exit signal of the caller and refuses another.
        exit_signal: if spawn.sibling { 0 } else { libc::SIGCHLD as u64 },
        ..CloneArgs::default()
    };
    if let Some(cgroup) = spawn.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM this is a fork: the child has its own copy of all memory and runs only `stub`, which
    // makes raw system calls on values laid out before, allocates nothing, takes no lock, and never returns. `args`
    // and `pidfd` live for the call.
    let mut ret = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    let mut in_cgroup = spawn.cgroup.is_some();
    if ret < 0 && matches!(last_errno(), Errno::NOSYS | Errno::PERM) {
        in_cgroup = false;
        let flags = base | args.exit_signal | libc::CLONE_PIDFD as u64;
        // SAFETY: as above; clone(2) with a null stack is a fork, and writes the pidfd through its third argument.
        ret = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, &raw mut pidfd, 0usize, 0usize) };
    }
    match check(ret)? {
        0 => stub().exit(),
        pid => {
            // SAFETY: CLONE_PIDFD stored a new fd there that only this call has seen; -1 where it stored none.
            let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
            Ok((pid as i32, pidfd, in_cgroup))
        }
    }
}

/// The stub stopped at a step of [`STEPS`]. It can only exit.
struct StubStop {
    report_to: RawFd,
    step: u8,
    errno: i32,
}

impl StubStop {
    fn exit(self) -> ! {
        let mut report = [0u8; 8];
        report[0] = self.step;
        report[4..].copy_from_slice(&self.errno.to_ne_bytes());
        // SAFETY: writes eight bytes of a live array to an fd number and ends this process without destructors or
        // exit handlers, which belong to the process that was forked.
        unsafe {
            libc::write(self.report_to, report.as_ptr().cast(), report.len());
            libc::_exit(1)
        }
    }
}

/// Runs between clone and exec, in the child. Returns only on failure.
fn stub(spawn: &Spawn<'_>, gate: &OwnedFd, argv: &[*const libc::c_char]) -> StubStop {
    let stop = |step: u8| {
        // SAFETY: reads the calling thread's errno.
        let errno = unsafe { *libc::__errno_location() };
        StubStop { report_to: gate.as_raw_fd(), step, errno }
    };
    // SAFETY: in the whole block plain system calls on fd numbers that the parent keeps open over the clone, on a byte of
    // this stack, and on the null-terminated arrays that `spawn()` laid out; no allocation, no lock, no Rust drop.
    unsafe {
        // If the runtime dies, so does a half-made container. Cleared again before the payload runs.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if spawn.gated {
            let mut byte = 0u8;
            if libc::read(gate.as_raw_fd(), (&raw mut byte).cast(), 1) != 1 {
                return stop(0);
            }
        }
        for tasks in spawn.tasks {
            if libc::write(tasks.as_raw_fd(), c"0".as_ptr().cast(), 1) != 1 {
                return stop(1);
            }
        }
        if spawn.become_root && !become_root() {
            return stop(2);
        }
        if spawn.socket.as_raw_fd() == spawn.socket_number {
            if libc::fcntl(spawn.socket_number, libc::F_SETFD, 0) < 0 {
                return stop(3);
            }
        } else if libc::syscall(libc::SYS_dup3, spawn.socket.as_raw_fd(), spawn.socket_number, 0) < 0 {
            return stop(3);
        }
        let environment: [*const libc::c_char; 1] = [std::ptr::null()];
        libc::syscall(
            libc::SYS_execveat,
            spawn.image.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
        stop(4)
    }
}

/// Becomes user and group 0 by raw calls (the C library's wrappers would lock). Where 0 has no mapping, all
/// capabilities are made ambient instead, which exec keeps for any user.
///
/// # Safety
/// Only for the stub: changes the credentials of the calling thread.
unsafe fn become_root() -> bool {
    // SAFETY: calls on integers, and on two arrays of this stack of the layout capset(2) documents.
    unsafe {
        if libc::syscall(libc::SYS_setresuid, 0, 0, 0) == 0 {
            // Group 0 may be unmapped while user 0 is not; exec keeps capabilities by the user alone.
            libc::syscall(libc::SYS_setresgid, 0, 0, 0);
            return true;
        }
        const VERSION_3: u32 = 0x2008_0522;
        let header: [u32; 2] = [VERSION_3, 0];
        let mut data = [0u32; 6];
        if libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) != 0 {
            return false;
        }
        (data[2], data[5]) = (data[1], data[4]);
        if libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) != 0 {
            return false;
        }
        let permitted = u64::from(data[1]) | (u64::from(data[4]) << 32);
        for cap in (0..64).filter(|cap| permitted & (1 << cap) != 0) {
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, cap, 0, 0);
        }
        true
    }
}

/// What a fork returned.
pub enum Forked {
    /// In the process that forked: the new process's ID, as seen from here.
    Parent(i32),
    /// In the new process.
    Child,
}

/// Forks the calling *single-threaded* process; with `CLONE_PARENT`, so that the new process is its sibling and the
/// runtime, not this process, waits for it. `threads` is how many threads it has, by what procfs says.
///
/// # Errors
/// The errno of clone(2).
///
/// # Panics
/// If the process has more than one thread: the copy of a lock that another thread holds would never open.
pub fn fork_sibling(threads: usize) -> Result<Forked, Errno> {
    assert_eq!(threads, 1, "fork of a threaded process");
    // SAFETY: a fork of a process with one thread (checked above): the copy holds no foreign lock, and all of Rust's
    // and the C library's state in it is consistent.
    let ret = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_PARENT, 0usize, 0usize, 0usize, 0usize) };
    Ok(match check(ret)? {
        0 => Forked::Child,
        pid => Forked::Parent(pid as i32),
    })
}
