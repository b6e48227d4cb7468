//! The double's calls, by the names and with the arguments of the crates that they stand in for.

/// Calls that change something: the real one, or a note of it. `=> {..}` is what a success returns.
macro_rules! deeds {
    ($real:path; $(fn $name:ident [$($generics:tt)*] ($($arg:ident: $kind:ty),*) $shown:tt $(-> $ret:ty = $made:expr)?;)*) => {
        $(
            #[allow(non_camel_case_types)]
            pub(crate) fn $name<$($generics)*>($($arg: $kind),*) -> Result<deeds!(@ $($ret)?), Errno> {
                use $real as real;
                match world::did(stringify!($name), || deeds!(# $shown)) {
                    None => real::$name($($arg),*),
                    Some(answer) => answer.and_then(|()| deeds!(= $($made)?)),
                }
            }
        )*
    };
    (@) => { () };
    (@ $ret:ty) => { $ret };
    (=) => { Ok(()) };
    (= $made:expr) => { $made };
    (# []) => { String::new() };
    (# [$shown:expr]) => { $shown };
}

fn shown(path: &impl ::rustix::path::Arg) -> String {
    path.to_string_lossy().into_owned()
}

/// rustix.
pub(crate) mod rustix {
    pub(crate) mod io {
        pub(crate) use ::rustix::io::{Errno, read, retry_on_intr, write};
    }
    pub(crate) mod pipe {
        pub(crate) use ::rustix::pipe::{PipeFlags, pipe_with};
    }
    pub(crate) use super::{fs, mount, net, process, pty, stdio, system, termios, threads as thread};
}

pub(crate) mod fs {
    use std::ffi::CString;
    use std::os::fd::{AsFd, OwnedFd};

    use ::rustix::io::Errno;
    use ::rustix::path::Arg;

    pub(crate) use ::rustix::fs::{
        Access, AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, Stat,
        StatVfsMountFlags, StatxAttributes, StatxFlags, Timespec, Timestamps, Uid, XattrFlags, fcntl_getfl, fstat,
        fstatfs, fstatvfs, makedev, statx,
    };

    use super::super::world;

    fn bytes(path: &impl Arg) -> Vec<u8> {
        path.to_string_lossy().into_owned().into_bytes()
    }

    pub(crate) fn open<P: Arg>(path: P, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        world::opened(None, &bytes(&path), flags).unwrap_or_else(|| ::rustix::fs::open(path, flags, mode))
    }

    pub(crate) fn openat<P: Arg, F: AsFd>(dir: F, path: P, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let answer = world::opened(Some(dir.as_fd()), &bytes(&path), flags);
        answer.unwrap_or_else(|| ::rustix::fs::openat(dir, path, flags, mode))
    }

    pub(crate) fn openat2<F: AsFd, P: Arg>(
        dir: F,
        path: P,
        flags: OFlags,
        mode: Mode,
        resolve: ResolveFlags,
    ) -> Result<OwnedFd, Errno> {
        let answer = world::opened(Some(dir.as_fd()), &bytes(&path), flags);
        answer.unwrap_or_else(|| ::rustix::fs::openat2(dir, path, flags, mode, resolve))
    }

    pub(crate) fn stat<P: Arg>(path: P) -> Result<Stat, Errno> {
        // A program, which is there unless it is said not to be.
        world::stat(None, &bytes(&path)).unwrap_or_else(|| ::rustix::fs::stat(path))
    }

    pub(crate) fn statat<P: Arg, F: AsFd>(dir: F, path: P, flags: AtFlags) -> Result<Stat, Errno> {
        let answer = world::stat(Some(dir.as_fd()), &bytes(&path));
        answer.unwrap_or_else(|| ::rustix::fs::statat(dir, path, flags))
    }

    pub(crate) fn access<P: Arg>(path: P, access: Access) -> Result<(), Errno> {
        world::asked().map_or_else(|| ::rustix::fs::access(path, access), |answer| answer.map(drop))
    }

    pub(crate) fn readlinkat<P: Arg, F: AsFd>(dir: F, path: P, reuse: [u8; 0]) -> Result<CString, Errno> {
        const TARGETS: [&std::ffi::CStr; 4] = [c"/", c"..", c"dev/null", c"/proc/self/fd/3"];
        match path.to_string_lossy() != "self" && world::played() {
            true => world::asked().unwrap_or(Ok(0)).map(|byte| TARGETS[usize::from(byte) % TARGETS.len()].to_owned()),
            // Of the trusted procfs.
            false => ::rustix::fs::readlinkat(dir, path, reuse),
        }
    }

    pub(crate) fn mkdirat<P: Arg, F: AsFd>(dir: F, path: P, mode: Mode) -> Result<(), Errno> {
        let answer = world::made("mkdirat", dir.as_fd(), &bytes(&path), FileType::Directory);
        answer.unwrap_or_else(|| ::rustix::fs::mkdirat(dir, path, mode))
    }

    pub(crate) fn mknodat<P: Arg, F: AsFd>(dir: F, path: P, kind: FileType, mode: Mode, dev: u64) -> Result<(), Errno> {
        let answer = world::made("mknodat", dir.as_fd(), &bytes(&path), kind);
        answer.unwrap_or_else(|| ::rustix::fs::mknodat(dir, path, kind, mode, dev))
    }

    pub(crate) fn symlinkat<P: Arg, Q: Arg, F: AsFd>(to: P, dir: F, path: Q) -> Result<(), Errno> {
        let answer = world::made("symlinkat", dir.as_fd(), &bytes(&path), FileType::Symlink);
        answer.unwrap_or_else(|| ::rustix::fs::symlinkat(to, dir, path))
    }

    deeds! { ::rustix::fs;
        fn chmodat[P: Arg, F: AsFd](dir: F, path: P, mode: Mode, flags: AtFlags) [super::shown(&path)];
        fn chownat[P: Arg, F: AsFd](dir: F, path: P, uid: Option<Uid>, gid: Option<Gid>, flags: AtFlags) [super::shown(&path)];
        fn fchown[F: AsFd](fd: F, uid: Option<Uid>, gid: Option<Gid>) [];
        fn fsetxattr[P: Arg, F: AsFd](fd: F, name: P, value: &[u8], flags: XattrFlags) [super::shown(&name)];
        fn utimensat[P: Arg, F: AsFd](dir: F, path: P, times: &Timestamps, flags: AtFlags) [super::shown(&path)];
    }
}

pub(crate) mod mount {
    use std::ffi::CStr;
    use std::os::fd::{AsFd, OwnedFd};

    use ::rustix::io::Errno;
    use ::rustix::path::Arg;

    pub(crate) use ::rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
        UnmountFlags,
    };

    use super::super::world;
    use super::shown;

    deeds! { ::rustix::mount;
        fn fsconfig_create[F: AsFd](context: F) [];
        fn fsconfig_set_fd[K: Arg, F: AsFd, G: AsFd](context: F, key: K, fd: G) [shown(&key)];
        fn fsconfig_set_flag[K: Arg, F: AsFd](context: F, key: K) [shown(&key)];
        fn fsconfig_set_string[K: Arg, V: Arg, F: AsFd](context: F, key: K, value: V) [shown(&key)];
        fn fsmount[F: AsFd](context: F, flags: FsMountFlags, attrs: MountAttrFlags) [] -> OwnedFd = world::directory();
        fn fsopen[N: Arg](name: N, flags: FsOpenFlags) [shown(&name)] -> OwnedFd = world::directory();
        fn mount[S: Arg, T: Arg, N: Arg](source: S, target: T, name: N, flags: MountFlags, data: Option<&CStr>) [shown(&target)];
        fn mount_bind[S: Arg, T: Arg](source: S, target: T) [shown(&target)];
        fn mount_bind_recursive[S: Arg, T: Arg](source: S, target: T) [shown(&target)];
        fn mount_change[T: Arg](target: T, flags: MountPropagationFlags) [shown(&target)];
        fn mount_move[S: Arg, T: Arg](source: S, target: T) [shown(&target)];
        fn mount_remount[T: Arg, D: Arg](target: T, flags: MountFlags, data: D) [shown(&target)];
        fn move_mount[P: Arg, Q: Arg, F: AsFd, G: AsFd](from: F, path: P, to: G, target: Q, flags: MoveMountFlags) [shown(&target)];
        fn open_tree[P: Arg, F: AsFd](dir: F, path: P, flags: OpenTreeFlags) [shown(&path)] -> OwnedFd = world::copy(dir.as_fd());
        fn unmount[T: Arg](target: T, flags: UnmountFlags) [shown(&target)];
    }
}

pub(crate) mod net {
    use std::os::fd::{AsFd, OwnedFd};

    use ::rustix::io::Errno;
    pub(crate) use ::rustix::net::SocketFlags;

    pub(crate) fn accept_with<F: AsFd>(socket: F, flags: SocketFlags) -> Result<OwnedFd, Errno> {
        super::super::world::caller().unwrap_or_else(|| ::rustix::net::accept_with(socket, flags))
    }
}

pub(crate) mod process {
    use std::ffi::CString;
    use std::os::fd::AsFd;

    use ::rustix::fs::Mode;
    use ::rustix::io::Errno;
    use ::rustix::path::Arg;

    pub(crate) use ::rustix::process::{DumpableBehavior, Gid, Pid, Resource, Signal, Uid, getpid, getrlimit};

    use super::super::world;
    use super::shown;

    deeds! { ::rustix::process;
        fn chdir[P: Arg](path: P) [shown(&path)];
        fn chroot[P: Arg](path: P) [shown(&path)];
        fn fchdir[F: AsFd](fd: F) [];
        fn pivot_root[P: Arg, Q: Arg](new: P, old: Q) [shown(&new)];
        fn set_dumpable_behavior[](behavior: DumpableBehavior) [format!("{behavior:?}")];
        fn set_parent_process_death_signal[](signal: Option<Signal>) [];
        fn setsid[]() [] -> Pid = Ok(getpid());
        fn ioctl_tiocsctty[F: AsFd](fd: F) [];
    }

    pub(crate) fn umask(mask: Mode) -> Mode {
        world::did("umask", String::new).map_or_else(|| ::rustix::process::umask(mask), |_| Mode::empty())
    }

    pub(crate) fn getcwd(reuse: Vec<u8>) -> Result<CString, Errno> {
        let Some(answer) = world::asked() else { return ::rustix::process::getcwd(reuse) };
        answer.map(|byte| if byte == 0 { c"/".into() } else { c"(unreachable)/".into() })
    }
}

pub(crate) mod pty {
    use std::os::fd::{AsFd, OwnedFd};

    use ::rustix::io::Errno;
    pub(crate) use ::rustix::pty::OpenptFlags;

    use super::super::world;

    deeds! { ::rustix::pty;
        fn unlockpt[F: AsFd](fd: F) [];
        fn ioctl_tiocgptpeer[F: AsFd](fd: F, flags: OpenptFlags) [] -> OwnedFd = world::copy(fd.as_fd());
    }
}

pub(crate) mod stdio {
    use std::os::fd::AsFd;

    use ::rustix::io::Errno;
    pub(crate) use ::rustix::stdio::{stderr, stdin, stdout};

    use super::super::world;

    deeds! { ::rustix::stdio;
        fn dup2_stdin[F: AsFd](fd: F) [];
        fn dup2_stdout[F: AsFd](fd: F) [];
        fn dup2_stderr[F: AsFd](fd: F) [];
    }
}

pub(crate) mod system {
    use ::rustix::io::Errno;

    use super::super::world;

    deeds! { ::rustix::system;
        fn sethostname[](name: &[u8]) [];
        fn setdomainname[](name: &[u8]) [];
    }
}

pub(crate) mod termios {
    use std::os::fd::AsFd;

    use ::rustix::io::Errno;
    pub(crate) use ::rustix::termios::Winsize;

    use super::super::world;

    pub(crate) fn tcgetwinsize<F: AsFd>(fd: F) -> Result<Winsize, Errno> {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        world::asked().map_or_else(|| ::rustix::termios::tcgetwinsize(fd), |answer| answer.map(|_| size))
    }

    deeds! { ::rustix::termios;
        fn tcsetwinsize[F: AsFd](fd: F, size: Winsize) [];
    }
}

/// `rustix::thread`.
pub(crate) mod threads {
    use std::ffi::CStr;

    use ::rustix::io::Errno;
    use ::rustix::process::{Gid, Pid, Uid};
    pub(crate) use ::rustix::thread::{CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set};

    use super::super::world;

    deeds! { ::rustix::thread;
        fn set_name[](name: &CStr) [];
        fn set_no_new_privs[](on: bool) [];
        fn set_keep_capabilities[](on: bool) [];
        fn set_thread_groups[](groups: &[Gid]) [];
        fn set_thread_res_gid[](real: Gid, effective: Gid, saved: Gid) [];
        fn set_thread_res_uid[](real: Uid, effective: Uid, saved: Uid) [];
        fn clear_ambient_capability_set[]() [];
        fn configure_capability_in_ambient_set[](capability: CapabilitySet, on: bool) [];
        fn remove_capability_from_bounding_set[](capability: CapabilitySet) [];
        fn set_capabilities[](pid: Option<Pid>, sets: CapabilitySets) [];
    }
}

/// nix.
pub(crate) mod nix {
    pub(crate) mod sched {
        use std::os::fd::AsFd;

        use ::nix::errno::Errno;
        pub(crate) use ::nix::sched::CloneFlags;

        use super::super::super::world;

        fn refused(errno: ::rustix::io::Errno) -> Errno {
            Errno::from_raw(errno.raw_os_error())
        }

        pub(crate) fn setns<F: AsFd>(fd: F, flags: CloneFlags) -> Result<(), Errno> {
            let answer = world::did("setns", || format!("{:#x}", flags.bits()));
            answer.map_or_else(|| ::nix::sched::setns(fd, flags), |answer| answer.map_err(refused))
        }

        pub(crate) fn unshare(flags: CloneFlags) -> Result<(), Errno> {
            let answer = world::did("unshare", || format!("{:#x}", flags.bits()));
            answer.map_or_else(|| ::nix::sched::unshare(flags), |answer| answer.map_err(refused))
        }
    }

    pub(crate) mod unistd {
        use std::convert::Infallible;
        use std::ffi::{CStr, CString};

        use ::nix::errno::Errno;

        /// The end of a played child: its next word is that this failed.
        pub(crate) fn execve(program: &CStr, args: &[CString], env: &[CString]) -> Result<Infallible, Errno> {
            match super::super::super::world::did("execve", || program.to_string_lossy().into_owned()) {
                None => ::nix::unistd::execve(program, args, env),
                Some(_) => Err(Errno::ENOEXEC),
            }
        }
    }
}

/// [`crate::sys`].
pub(crate) mod sys {
    pub(crate) use crate::sys::identity;

    pub(crate) mod clone {
        use ::rustix::io::Errno;

        pub(crate) use crate::sys::clone::Forked;

        use super::super::super::world;

        // The played child is the new process.
        deeds! { crate::sys::clone;
            fn fork_sibling[](threads: usize) [threads.to_string()] -> Forked = Ok(Forked::Child);
        }
    }

    pub(crate) mod fsopen {
        use std::os::fd::{BorrowedFd, OwnedFd};

        use ::rustix::io::Errno;

        use super::super::super::world;

        deeds! { crate::sys::fsopen;
            fn proc_of[](namespace: BorrowedFd<'_>) [] -> OwnedFd = world::directory();
        }
    }

    pub(crate) mod stdio {
        pub(crate) use crate::sys::stdio::is_null;

        use super::super::super::world;

        /// A played child's are all three, whatever those of who plays it.
        pub(crate) fn null_devices() -> [bool; 3] {
            if world::played() { [true; 3] } else { crate::sys::stdio::null_devices() }
        }
    }

    pub(crate) mod exec {
        use std::os::fd::RawFd;

        use ::rustix::io::Errno;

        pub(crate) use crate::sys::exec::inherited;

        use super::super::super::world;

        deeds! { crate::sys::exec;
            fn cloexec_from[](first: RawFd) [first.to_string()];
            fn set_cloexec[](fd: RawFd, on: bool) [fd.to_string()];
            fn close_range[](first: RawFd, last: RawFd) [format!("{first} to {last}")];
            fn close[](fd: RawFd) [fd.to_string()];
        }

        pub(crate) fn reset_signals() {
            world::did("reset_signals", String::new).map_or_else(crate::sys::exec::reset_signals, drop);
        }
    }

    pub(crate) mod mount {
        use std::os::fd::BorrowedFd;

        use ::rustix::io::Errno;

        pub(crate) use crate::sys::mount::{MountAttr, OPEN_TREE_NAMESPACE};

        use super::super::super::world;

        deeds! { crate::sys::mount;
            fn mount_setattr[](mount: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) [format!("{attr:?}")];
        }
    }

    pub(crate) mod net {
        use ::rustix::io::Errno;

        use super::super::super::world;

        deeds! { crate::sys::net;
            fn bring_up_loopback[]() [];
        }
    }

    pub(crate) mod process {
        use std::ffi::CStr;

        use ::rustix::io::Errno;

        pub(crate) use crate::sys::process::{SchedAttr, rlimit};

        use super::super::super::world;

        deeds! { crate::sys::process;
            fn set_personality[](persona: u32) [];
            fn set_io_priority[](class: u32, level: u32) [];
            fn set_scheduler[](attr: SchedAttr) [];
            fn set_memory_policy[](mode: u32, nodes: &[u64]) [];
            fn set_rlimit[](pid: i32, resource: u32, soft: u64, hard: u64) [];
            fn run_anywhere[]() [];
            fn join_session_keyring[](name: &CStr) [];
        }
    }

    pub(crate) mod seccomp {
        use std::os::fd::OwnedFd;

        use ::rustix::io::Errno;

        use super::super::super::world;

        deeds! { crate::sys::seccomp;
            fn load[](program: &[u8], flags: u64) [] -> Option<OwnedFd> = Ok(None);
        }
    }
}

/// What the child runs of hooks.
pub(crate) mod hooks {
    use std::path::Path;

    use super::super::world;
    use crate::error::{Error, Result};
    pub(crate) use crate::hooks::{Output, state_json};
    use crate::plan::hooks::HookPlan;

    pub(crate) fn run(kind: &str, hooks: &[HookPlan], state: &str, cwd: Option<&Path>, output: &Output) -> Result<()> {
        match world::did("hooks", || kind.to_owned()) {
            None => crate::hooks::run(kind, hooks, state, cwd, output),
            Some(answer) => answer.map_err(|errno| Error::call("execute", errno)),
        }
    }
}

/// `std::thread`. A played child has one: the thread that hands a listener over is not played.
pub(crate) mod thread {
    use super::super::world;

    pub(crate) struct Builder(std::thread::Builder);

    impl Builder {
        pub(crate) fn new() -> Builder {
            Builder(std::thread::Builder::new())
        }

        pub(crate) fn stack_size(self, size: usize) -> Builder {
            Builder(self.0.stack_size(size))
        }

        pub(crate) fn spawn(self, act: impl FnOnce() + Send + 'static) -> std::io::Result<std::thread::JoinHandle<()>> {
            match world::played() {
                true => Err(std::io::ErrorKind::Unsupported.into()),
                false => self.0.spawn(act),
            }
        }
    }

    pub(crate) fn sleep(time: std::time::Duration) {
        if !world::played() {
            std::thread::sleep(time);
        }
    }
}
