//! `fsopen(2)` as a process of another pid namespace.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::check;

/// The socket to who asked, and the pid namespace, in the process that asks for the other.
const SOCKET: RawFd = 0;
const NAMESPACE: RawFd = 1;

/// A context for a proc of a pid namespace: a proc shows the pid namespace of the process that called fsopen(2), and no process
/// changes its own.
///
/// So one is born there. Who is in that namespace already sees it, and may have the rights to look at all that it holds and to
/// act in its name: it has an empty root in a mount namespace of its own, no fds, and no right but the one that the call takes.
/// All that is taken away from the process in between, which is outside.
///
/// # Errors
/// The errno of the first call that fails.
pub fn proc_of(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let (mut socket, mut answer) = ([-1; 2], [0i32; 2]);
    // SAFETY: the kernel writes two numbers to an array of two.
    check(unsafe {
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        libc::socketpair(libc::AF_UNIX, kind, 0, socket.as_mut_ptr()).into()
    })?;
    // SAFETY: two new fds that nobody else knows.
    let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(socket[0]), OwnedFd::from_raw_fd(socket[1])) };
    // No exit signal: nobody but this function is to notice.
    // SAFETY: without CLONE_VM the child has its own copy of all memory. It makes raw system calls on values of its own stack
    // and on fds of its own table, takes no lock, allocates nothing, and never returns.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, 0usize, 0usize, 0usize, 0usize, 0usize) })? as i32;
    if pid == 0 {
        // SAFETY: as above.
        unsafe {
            if let Err(errno) = ask_in(namespace.as_raw_fd(), theirs.as_raw_fd()) {
                let answer = [errno.raw_os_error(); 2];
                libc::send(SOCKET, answer.as_ptr().cast(), size_of_val(&answer), libc::MSG_NOSIGNAL);
            }
            libc::_exit(0)
        }
    }
    drop(theirs);
    let received = receive(&ours, &mut answer);
    super::reap_unannounced(pid)?;
    match (received?, answer) {
        (Some(context), _) => Ok(context),
        // Killed before it could answer: as if it had not been born.
        (None, [0, _]) => Err(Errno::AGAIN),
        (None, [errno, _]) => Err(Errno::from_raw_os_error(errno)),
    }
}

fn receive(socket: &OwnedFd, answer: &mut [i32; 2]) -> Result<Option<OwnedFd>, Errno> {
    use std::io::IoSliceMut;
    use std::mem::MaybeUninit;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut bytes = [0u8; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    answer[0] = i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    Ok(fds.flatten().next())
}

/// The process in between: gives up all, has the other born, and sends what that has opened.
///
/// # Safety
/// Only in a process that was just forked and ends after it: the fds of its owner are closed.
unsafe fn ask_in(namespace: RawFd, socket: RawFd) -> Result<(), Errno> {
    // SAFETY: as the caller promises; all calls are on integers and on values of this stack.
    unsafe {
        // Above both numbers that they get, whatever they have now.
        let namespace = check(libc::fcntl(namespace, libc::F_DUPFD, 3).into())? as RawFd;
        let socket = check(libc::fcntl(socket, libc::F_DUPFD, 3).into())? as RawFd;
        check(libc::dup2(socket, SOCKET).into())?;
        check(libc::dup2(namespace, NAMESPACE).into())?;
        close_from(2)?;
        empty_root()?;
        check(libc::setns(NAMESPACE, libc::CLONE_NEWPID).into())?;
        libc::close(NAMESPACE);
        keep_sys_admin_alone()?;
        // What it opens is in this process's table too, and stays there when it ends.
        let pid = check(libc::syscall(libc::SYS_clone, libc::CLONE_FILES, 0usize, 0usize, 0usize, 0usize))?;
        if pid == 0 {
            let opened = libc::syscall(libc::SYS_fsopen, c"proc".as_ptr(), 0);
            libc::_exit(if opened < 0 { *libc::__errno_location() } else { 0 })
        }
        let mut status = 0;
        while libc::waitpid(pid as i32, &raw mut status, libc::__WALL) < 0 {
            if *libc::__errno_location() != libc::EINTR {
                return Err(super::last_errno());
            }
        }
        match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
            (true, 0) => send(NAMESPACE),
            (true, errno) => Err(Errno::from_raw_os_error(errno)),
            (false, _) => Err(Errno::AGAIN),
        }
    }
}

/// Closes all fds from a number on.
///
/// # Safety
/// As [`ask_in`].
unsafe fn close_from(first: RawFd) -> Result<(), Errno> {
    // SAFETY: as the caller promises.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, RawFd::MAX, 0) == 0 {
            return Ok(());
        }
        // Before Linux 5.9, or where a filter does not know it.
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit).into())?;
        for fd in first..RawFd::try_from(limit.rlim_max).unwrap_or(RawFd::MAX) {
            libc::close(fd);
        }
    }
    Ok(())
}

/// Enters a mount namespace that holds nothing but an empty tmpfs.
///
/// # Safety
/// As [`ask_in`].
unsafe fn empty_root() -> Result<(), Errno> {
    const CREATE: libc::c_uint = 6;
    const EMPTY_PATH: libc::c_uint = 4;
    let (none, empty, here): (_, &CStr, &CStr) = (std::ptr::null::<libc::c_char>(), c"", c".");
    // SAFETY: as the caller promises; the paths are static.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS).into())?;
        let private = libc::MS_REC | libc::MS_PRIVATE;
        check(libc::mount(none, c"/".as_ptr(), none, private, std::ptr::null()).into())?;
        let context = check(libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0))?;
        check(libc::syscall(libc::SYS_fsconfig, context, CREATE, none, none, 0))?;
        let root = check(libc::syscall(libc::SYS_fsmount, context, 0, 0))?;
        let at = libc::AT_FDCWD;
        check(libc::syscall(libc::SYS_move_mount, root, empty.as_ptr(), at, c"/".as_ptr(), EMPTY_PATH))?;
        check(libc::fchdir(root as RawFd).into())?;
        check(libc::syscall(libc::SYS_pivot_root, here.as_ptr(), here.as_ptr()))?;
        check(libc::umount2(here.as_ptr(), libc::MNT_DETACH).into())?;
        check(libc::chdir(c"/".as_ptr()).into())?;
        close_from(2)
    }
}

/// Gives up all rights but CAP_SYS_ADMIN, of what it executes too: that the call takes.
///
/// # Safety
/// As [`ask_in`].
unsafe fn keep_sys_admin_alone() -> Result<(), Errno> {
    const VERSION_3: u32 = 0x2008_0522;
    const SYS_ADMIN: u32 = 1 << 21;
    let header = [VERSION_3, 0];
    // Effective, permitted, inheritable; the upper halves behind them.
    let sets = [SYS_ADMIN, SYS_ADMIN, 0, 0, 0, 0];
    // SAFETY: as the caller promises; both arrays have the layout that capset(2) documents.
    unsafe {
        check(libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0).into())?;
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
        check(libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr())).map(drop)
    }
}

/// Sends an fd to who asked.
///
/// # Safety
/// As [`ask_in`].
unsafe fn send(fd: RawFd) -> Result<(), Errno> {
    use std::io::IoSlice;
    use std::mem::MaybeUninit;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    // SAFETY: both are open for as long as this process lives.
    let (fd, socket) = unsafe { ([BorrowedFd::borrow_raw(fd)], BorrowedFd::borrow_raw(SOCKET)) };
    control.push(SendAncillaryMessage::ScmRights(&fd));
    sendmsg(socket, &[IoSlice::new(&[0; 8])], &mut control, SendFlags::NOSIGNAL).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_context_is_of_that_pid_namespace() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let mut holder = std::process::Command::new("unshare");
        let mut holder = holder.args(["--pid", "--fork", "--kill-child", "sleep", "100"]).spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", holder.id());
        let comm = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let first = loop {
            let child = std::fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
            if comm(&child) == "sleep\n" {
                break child;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        let namespace = std::fs::File::open(format!("/proc/{first}/ns/pid")).unwrap();
        let context = proc_of(namespace.as_fd()).unwrap();
        rustix::mount::fsconfig_create(&context).unwrap();
        let flags = rustix::mount::FsMountFlags::FSMOUNT_CLOEXEC;
        let proc = rustix::mount::fsmount(&context, flags, rustix::mount::MountAttrFlags::empty()).unwrap();
        let read = rustix::fs::openat(&proc, "1/comm", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
        let mut shown = String::new();
        std::io::Read::read_to_string(&mut std::fs::File::from(read.unwrap()), &mut shown).unwrap();
        assert_eq!(shown, "sleep\n");
        holder.kill().unwrap();
        holder.wait().unwrap();
        let other = std::fs::File::open("/proc/self/ns/net").unwrap();
        assert_eq!(proc_of(other.as_fd()).unwrap_err(), Errno::INVAL);
    }
}
