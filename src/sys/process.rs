//! Properties of the calling process that no safe crate sets.

use rustix::io::Errno;

use super::check;

/// `personality(2)`.
///
/// # Errors
/// EINVAL for a persona the kernel refuses.
pub fn set_personality(persona: u32) -> Result<(), Errno> {
    // SAFETY: the call takes one integer.
    let ret = unsafe { libc::personality(persona.into()) };
    check(ret.into()).map(drop)
}

/// `ioprio_set(IOPRIO_WHO_PROCESS, 0, class << 13 | level)`; ioprio_set(2).
///
/// # Errors
/// EPERM for the realtime class without CAP_SYS_ADMIN or CAP_SYS_NICE.
pub fn set_io_priority(class: u32, level: u32) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IOPRIO_CLASS_SHIFT: u32 = 13;
    // SAFETY: the call takes integers only.
    let ret =
        unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, (class << IOPRIO_CLASS_SHIFT) | level) };
    check(ret).map(drop)
}

/// The arguments of `sched_setattr(2)`; times in nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SchedAttr {
    /// Of this struct; set by [`set_scheduler`].
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// For SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// For SCHED_DEADLINE.
    pub runtime: u64,
    /// For SCHED_DEADLINE.
    pub deadline: u64,
    /// For SCHED_DEADLINE.
    pub period: u64,
}

/// `sched_setattr(0, attr, 0)`; sched_setattr(2).
///
/// # Errors
/// EPERM without CAP_SYS_NICE, EBUSY where SCHED_DEADLINE has no room.
pub fn set_scheduler(attr: SchedAttr) -> Result<(), Errno> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..attr };
    // SAFETY: the kernel reads `size` bytes of a struct of the documented layout, alive for the call.
    let ret = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    check(ret).map(drop)
}

/// `set_mempolicy(2)`: `mode` with its flags, one bit a node.
///
/// # Errors
/// EINVAL for nodes that are not there or not allowed, ENOSYS of a kernel without NUMA.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<(), Errno> {
    let (mask, bits) = match nodes {
        [] => (std::ptr::null(), 0),
        // The kernel takes one bit less than it is told.
        nodes => (nodes.as_ptr(), nodes.len() * 64 + 1),
    };
    // SAFETY: the kernel reads the bits of `nodes`, alive for the call: a count of n + 1 makes it read n, and none of null.
    let ret = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) };
    check(ret).map(drop)
}

/// Sets a limit of a process, 0 being the caller, for any resource by number; `u64::MAX` is no limit. prlimit(2).
///
/// # Errors
/// EPERM for a hard limit over the present one without CAP_SYS_RESOURCE in the initial user namespace.
pub fn set_rlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel reads one struct that lives for the call; a null old limit is allowed.
    let ret =
        unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const limit, std::ptr::null_mut::<u8>()) };
    check(ret).map(drop)
}

/// A limit of a process, 0 being the caller, for any resource by number: the soft one and the hard one. prlimit(2).
///
/// # Errors
/// EINVAL for a resource that the kernel does not know.
pub fn rlimit(pid: i32, resource: u32) -> Result<(u64, u64), Errno> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one struct that lives for the call; a null new limit changes none.
    let ret = unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, std::ptr::null::<u8>(), &raw mut limit) };
    check(ret).map(|_| (limit.rlim_cur, limit.rlim_max))
}

/// Lets the caller run on every CPU that its cpuset has; sched_setaffinity(2).
///
/// # Errors
/// EPERM of a sandbox around this process; a mask of all CPUs is one that the kernel takes.
pub fn run_anywhere() -> Result<(), Errno> {
    // More than any kernel is built for: it takes what it knows of, and of that what the cpuset has.
    let all = [u8::MAX; 8192 / 8];
    // SAFETY: the kernel reads at most `len` bytes of an array that lives for the call.
    let ret = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, all.len(), all.as_ptr()) };
    check(ret).map(drop)
}

/// `keyctl(KEYCTL_JOIN_SESSION_KEYRING, name)`: a new session keyring, of which the caller is the only user; keyctl(2).
///
/// # Errors
/// ENOSYS without keyrings, EDQUOT over the user's quota.
pub fn join_session_keyring(name: &std::ffi::CStr) -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: the kernel reads a null-terminated string that lives for the call.
    let ret = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    check(ret).map(drop)
}
