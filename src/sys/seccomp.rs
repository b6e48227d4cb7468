//! Loads a compiled seccomp filter.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::check;

/// One instruction of classic BPF, as `seccomp_export_bpf(3)` writes them.
pub const INSTRUCTION_SIZE: usize = size_of::<libc::sock_filter>();

/// `seccomp(SECCOMP_SET_MODE_FILTER, flags, program)` for the calling thread; seccomp(2).
///
/// With `SECCOMP_FILTER_FLAG_NEW_LISTENER` in `flags`, the listener is returned.
///
/// # Errors
/// EACCES without `no_new_privs` and CAP_SYS_ADMIN; EINVAL for a program the kernel refuses or an unknown flag.
pub fn load(program: &[u8], flags: u64) -> Result<Option<OwnedFd>, Errno> {
    if program.is_empty() || !program.len().is_multiple_of(INSTRUCTION_SIZE) {
        return Err(Errno::INVAL);
    }
    let filter: Vec<libc::sock_filter> = program
        .chunks_exact(INSTRUCTION_SIZE)
        .map(|c| libc::sock_filter {
            code: u16::from_ne_bytes([c[0], c[1]]),
            jt: c[2],
            jf: c[3],
            k: u32::from_ne_bytes([c[4], c[5], c[6], c[7]]),
        })
        .collect();
    let len = u16::try_from(filter.len()).map_err(|_| Errno::INVAL)?;
    let prog = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    // SAFETY: `prog` names `len` instructions of `filter`, alive for the call; the kernel copies them and writes none.
    let ret = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const prog) };
    // To give memory back may take a system call, and the filter's listener, which would have to answer it, is nobody's yet.
    std::mem::forget(filter);
    let value = check(ret)?;
    if flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    let fd = i32::try_from(value).map_err(|_| Errno::BADF)?;
    // SAFETY: with NEW_LISTENER the return value is a new fd that only this call has seen.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Whether an fd without a file type is a filter's listener; seccomp_unotify(2). Another driver does not know the question.
pub fn is_listener(fd: BorrowedFd<'_>) -> bool {
    /// `_IOW('!', 2, __u64)` of linux/seccomp.h.
    const SECCOMP_IOCTL_NOTIF_ID_VALID: libc::c_ulong = 0x4008_2102;
    // No notification has this number.
    let id: u64 = u64::MAX;
    // SAFETY: a listener reads one u64, which lives for the call; `fd` is open, and no other driver has this number.
    let ret = unsafe { libc::ioctl(fd.as_raw_fd(), SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) };
    ret == 0 || super::last_errno() == Errno::NOENT
}

/// A listener of a filter that asks about nothing, and that no process has any more.
///
/// # Errors
/// seccomp(2)'s, or no thread can be started.
pub fn idle_listener() -> Result<OwnedFd, Errno> {
    // `BPF_RET`, `SECCOMP_RET_ALLOW`.
    const ALLOW: [u8; INSTRUCTION_SIZE] = [6, 0, 0, 0, 0, 0, 0xff, 0x7f];
    let load = || {
        rustix::thread::set_no_new_privs(true)?;
        load(&ALLOW, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?.ok_or(Errno::INVAL)
    };
    // A filter is its thread's for as long as that lives.
    let thread = std::thread::Builder::new().spawn(load).map_err(|_| Errno::AGAIN)?;
    thread.join().map_err(|_| Errno::AGAIN)?
}

/// Whether the running kernel knows a seccomp action (`SECCOMP_GET_ACTION_AVAIL`).
pub fn action_available(action: u32) -> bool {
    // SAFETY: the kernel reads one u32 that lives for the call.
    let ret = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    ret == 0
}

/// Only with a listener; Linux 5.19.
const WAIT_KILLABLE_RECV: u64 = 32;

/// Whether the running kernel knows a filter flag: a null program is EFAULT where it does, EINVAL where it doesn't.
pub fn flag_available(flag: u64) -> bool {
    // This one alone is refused by every kernel.
    let flag = if flag == WAIT_KILLABLE_RECV { flag | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { flag };
    // SAFETY: a null program makes the kernel refuse in every case; it dereferences nothing.
    let ret = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flag, std::ptr::null::<libc::sock_fprog>())
    };
    ret < 0 && super::last_errno() == Errno::FAULT
}
