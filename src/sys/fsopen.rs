//! `fsopen(2)` as a process of another pid namespace.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::check;

/// A context for a proc of the pid namespace that children of this process are born in (setns(2), `CLONE_NEWPID`): a
/// proc shows the pid namespace of the process that called fsopen(2), and no process changes its own. A child that
/// shares this one's fds makes the call and ends.
///
/// # Errors
/// The errno of clone(2), pipe(2) or fsopen(2).
pub fn proc_of_children() -> Result<OwnedFd, Errno> {
    let (reading, writing) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // No exit signal: nobody but this function is to notice.
    // SAFETY: without CLONE_VM the child has its own copy of all memory. It makes three raw system calls on values of its
    // own stack and on fds of the shared table, takes no lock, allocates nothing, and never returns. The fd it opens is
    // in this process's table too, and stays there when it ends.
    let ret = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_FILES, 0usize, 0usize, 0usize, 0usize) };
    let pid = check(ret)? as i32;
    if pid == 0 {
        const FSOPEN_CLOEXEC: libc::c_uint = 1;
        // SAFETY: as above; `answer` lives until the process ends.
        unsafe {
            let fd = libc::syscall(libc::SYS_fsopen, c"proc".as_ptr(), FSOPEN_CLOEXEC);
            let answer = if fd < 0 { -*libc::__errno_location() } else { fd as i32 };
            libc::write(writing.as_raw_fd(), (&raw const answer).cast(), size_of::<i32>());
            libc::_exit(0)
        }
    }
    super::reap_unannounced(pid)?;
    let mut answer = [0u8; 4];
    // Killed before it could answer: as if it had not been born.
    if rustix::io::read(&reading, &mut answer) != Ok(4) {
        return Err(Errno::AGAIN);
    }
    match i32::from_ne_bytes(answer) {
        // SAFETY: the child opened it in the shared table, and nobody else knows the number.
        fd if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        errno => Err(Errno::from_raw_os_error(-errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_is_this_processs_to_use() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let context = proc_of_children().unwrap();
        rustix::mount::fsconfig_create(&context).unwrap();
    }
}
