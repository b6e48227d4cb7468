//! A user namespace that no process lives in for long.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

use super::check;

/// The types that clone(2) takes: no other flag may come from outside.
const NAMESPACES: u32 = 0x7e02_0000;

/// Makes a user namespace and lets `act` work on it by a process that is in it: whose ID it gets, and that waits and does
/// nothing else. The namespace goes on for as long as `act`'s result holds it open.
///
/// # Errors
/// The errno of clone(2): ENOSPC for a limit of user namespaces, EPERM where they are forbidden.
pub fn with_new<T>(act: impl FnOnce(i32) -> T) -> Result<T, Errno> {
    with_namespaces(libc::CLONE_NEWUSER as u32, act)
}

/// The same with namespaces of any types, `CLONE_NEW*` of clone(2).
///
/// # Errors
/// As [`with_new`]; EPERM without the rights to make them, EINVAL for what the kernel lacks.
pub fn with_namespaces<T>(flags: u32, act: impl FnOnce(i32) -> T) -> Result<T, Errno> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    // No exit signal: nobody but this function is to notice.
    // SAFETY: without CLONE_VM this is a fork, whose child makes only raw system calls on values of its own copy of this
    // stack, takes no lock, allocates nothing, and never returns.
    let ret = unsafe { libc::syscall(libc::SYS_clone, u64::from(flags & NAMESPACES), 0usize, 0usize, 0usize, 0usize) };
    let pid = check(ret)? as i32;
    if pid == 0 {
        wait_and_end(&ours, &theirs);
    }
    drop(theirs);
    let result = act(pid);
    // What it answers does not matter: a closed socket ends it too.
    let _ = rustix::net::send(&ours, b"e", SendFlags::NOSIGNAL);
    drop(ours);
    super::reap_unannounced(pid)?;
    Ok(result)
}

fn wait_and_end(ours: &OwnedFd, theirs: &OwnedFd) -> ! {
    use std::os::fd::AsRawFd;
    let mut byte = 0u8;
    // SAFETY: closes this process's copy of the parent's end, without which it would wait for itself; reads one byte to
    // its own stack; ends without destructors or exit handlers, which belong to the process that was forked.
    unsafe {
        libc::close(ours.as_raw_fd());
        libc::read(theirs.as_raw_fd(), (&raw mut byte).cast(), 1);
        libc::_exit(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lives_on_by_its_fd_alone() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let own = std::fs::read_link("/proc/self/ns/user").unwrap();
        let (pid, fd) = with_new(|pid| (pid, std::fs::File::open(format!("/proc/{pid}/ns/user")).unwrap())).unwrap();
        let fd = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd))).unwrap();
        assert_ne!(own, fd);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
