//! Questions to the kernel, by calls that can't succeed or do nothing: whether it has them.

use rustix::io::Errno;

use super::check;

/// A system call, or a flag of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Feature {
    Clone3,
    /// clone3(2) with `CLONE_INTO_CGROUP`.
    CloneIntoCgroup,
    PidfdOpen,
    PidfdSendSignal,
    CloseRange,
    /// close_range(2) with `CLOSE_RANGE_CLOEXEC`.
    CloseRangeCloexec,
    Openat2,
    Faccessat2,
    MemfdCreate,
    Execveat,
}

/// `struct clone_args` of clone(2), up to the fields of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    others: [u64; 9],
    cgroup: u64,
}

/// Asks. None where the kernel has it; else its errno: ENOSYS or EINVAL for what it lacks, EPERM for what a filter forbids.
pub fn lacks(feature: Feature) -> Option<Errno> {
    const NO_FD: libc::c_int = -1;
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    const LAST: libc::c_uint = libc::c_uint::MAX;
    let none = std::ptr::null::<u8>();
    // An fd that no process has open: the kernel looks for it before it makes a process.
    let args = CloneArgs { flags: CLONE_INTO_CGROUP, cgroup: i32::MAX as u64, ..CloneArgs::default() };
    // SAFETY: each call gets an fd that is none, a null pointer, a size of 0 or an empty range, so that the kernel refuses it
    // before it reads or makes anything; the only memory that it may read is a static empty C string and `args`, of the size
    // that is told, alive for the call. close_range alone may succeed, on an fd that no process can have.
    let ret = unsafe {
        match feature {
            Feature::Clone3 => libc::syscall(libc::SYS_clone3, none, 0usize),
            Feature::CloneIntoCgroup => libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()),
            Feature::PidfdOpen => libc::syscall(libc::SYS_pidfd_open, NO_FD, 0),
            Feature::PidfdSendSignal => libc::syscall(libc::SYS_pidfd_send_signal, NO_FD, 0, none, 0),
            Feature::CloseRange => libc::syscall(libc::SYS_close_range, LAST, LAST, 0),
            Feature::CloseRangeCloexec => libc::syscall(libc::SYS_close_range, LAST, LAST, CLOSE_RANGE_CLOEXEC),
            Feature::Openat2 => libc::syscall(libc::SYS_openat2, NO_FD, none, none, 0usize),
            Feature::Faccessat2 => libc::syscall(libc::SYS_faccessat2, NO_FD, c"".as_ptr(), 0, libc::AT_EMPTY_PATH),
            Feature::MemfdCreate => libc::syscall(libc::SYS_memfd_create, none, 0),
            Feature::Execveat => {
                libc::syscall(libc::SYS_execveat, NO_FD, c"".as_ptr(), none, none, libc::AT_EMPTY_PATH)
            }
        }
    };
    let errno = check(ret).err()?;
    let unknown_flag = matches!(feature, Feature::CloneIntoCgroup | Feature::CloseRangeCloexec);
    let lacking = errno == Errno::NOSYS || errno == Errno::PERM || (unknown_flag && errno == Errno::INVAL);
    lacking.then_some(errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_an_answer_and_no_effect() {
        for feature in [Feature::Clone3, Feature::CloneIntoCgroup, Feature::PidfdOpen, Feature::Openat2] {
            // Every kernel of the tests has them; a filter may forbid them.
            assert!(matches!(lacks(feature), None | Some(Errno::PERM)), "{feature:?}: {:?}", lacks(feature));
        }
        assert_eq!(lacks(Feature::Execveat), None, "this process is still here");
    }
}
