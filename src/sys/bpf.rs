//! The part of `bpf(2)` that a cgroup v2 device filter needs.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::check;

// linux/bpf.h: enum bpf_cmd.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_PROG_QUERY: libc::c_long = 16;

/// `BPF_PROG_TYPE_CGROUP_DEVICE` of enum bpf_prog_type.
const PROG_TYPE: u32 = 15;
/// `BPF_CGROUP_DEVICE` of enum bpf_attach_type.
const ATTACH_TYPE: u32 = 6;
/// Programs of parents and children all run, and all must allow.
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
/// The new program takes the place of a given one (Linux 5.6).
const BPF_F_REPLACE: u32 = 1 << 2;

/// One instruction: `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// The operation.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high ones.
    pub regs: u8,
    /// Jump distance or memory offset.
    pub off: i16,
    /// The constant.
    pub imm: i32,
}

/// The `BPF_PROG_LOAD` member of `union bpf_attr`, as far as it is used. The kernel takes a shorter attribute for one
/// whose rest is zero.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// The `BPF_PROG_ATTACH` and `BPF_PROG_DETACH` member.
#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// The `BPF_PROG_QUERY` member.
#[repr(C)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
    /// Since Linux 6.17 the kernel writes the `revision` that follows, whatever size it was given; this leaves room
    /// for that and for what is still to come. Older kernels accept a tail that is zero.
    rest: [u64; 12],
}

/// The `BPF_PROG_GET_FD_BY_ID` member.
#[repr(C)]
struct IdAttr {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// # Safety
/// `attr` must be the member of `union bpf_attr` that `command` reads and writes, without padding, and what its
/// addresses point to must be valid for the call.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> Result<libc::c_long, Errno> {
    // SAFETY: the kernel reads and writes at most the size given, of an exclusively borrowed value; the addresses
    // within are the caller's promise.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) })
}

/// The kernel's unsigned form of a descriptor, which is never negative while it is borrowed.
fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

fn owned(ret: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = RawFd::try_from(ret).map_err(|_| Errno::BADF)?;
    // SAFETY: only called with what bpf(2) has just returned as a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Loads a device filter. With `log`, the verifier explains itself in it.
///
/// # Errors
/// EPERM without CAP_BPF (CAP_SYS_ADMIN before Linux 5.8) in the initial user namespace, or, before Linux 5.11, over
/// RLIMIT_MEMLOCK; EINVAL or EACCES for a program that the verifier refuses; ENOSYS without BPF.
pub fn load_device_filter(program: &[Insn], log: Option<&mut [u8]>) -> Result<OwnedFd, Errno> {
    const LICENSE: &CStr = c"Apache-2.0";
    let (log_level, log_size, log_buf) = match log {
        Some(log) => (1, u32::try_from(log.len()).map_err(|_| Errno::INVAL)?, log.as_mut_ptr() as u64),
        None => (0, 0, 0),
    };
    let mut attr = LoadAttr {
        prog_type: PROG_TYPE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        insns: program.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level,
        log_size,
        log_buf,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"tandem_devices\0\0",
    };
    // SAFETY: the attribute is the command's; program, license and log outlive the call, and their sizes are theirs
    // (the license ends with NUL). LoadAttr has no padding: 8-byte fields start at offsets 8, 16 and 32.
    let ret = unsafe { bpf(BPF_PROG_LOAD, &mut attr)? };
    owned(ret)
}

/// Attaches a device filter to a cgroup: beside the ones that are there, or in the place of `replaced`.
///
/// # Errors
/// EINVAL for `replaced` before Linux 5.6, ENOENT if it is not attached; EPERM if a parent cgroup's program forbids
/// others; E2BIG for more than 64 programs.
pub fn attach_device_filter(
    cgroup: BorrowedFd<'_>,
    filter: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mut attr = AttachAttr {
        target_fd: number(cgroup),
        attach_bpf_fd: number(filter),
        attach_type: ATTACH_TYPE,
        attach_flags: BPF_F_ALLOW_MULTI | if replaced.is_some() { BPF_F_REPLACE } else { 0 },
        replace_bpf_fd: replaced.map_or(0, number),
    };
    // SAFETY: the attribute is the command's, made of 32-bit integers, and holds no address.
    unsafe { bpf(BPF_PROG_ATTACH, &mut attr)? };
    Ok(())
}

/// Takes a device filter off a cgroup.
///
/// # Errors
/// ENOENT if it is not attached.
pub fn detach_device_filter(cgroup: BorrowedFd<'_>, filter: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attr = AttachAttr {
        target_fd: number(cgroup),
        attach_bpf_fd: number(filter),
        attach_type: ATTACH_TYPE,
        attach_flags: 0,
        replace_bpf_fd: 0,
    };
    // SAFETY: the attribute is the command's, made of 32-bit integers, and holds no address.
    unsafe { bpf(BPF_PROG_DETACH, &mut attr)? };
    Ok(())
}

/// The device filters attached to a cgroup itself, in order.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN and CAP_SYS_ADMIN, by the kernel's version.
pub fn device_filters(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Errno> {
    // The kernel attaches at most this many (BPF_CGROUP_MAX_PROGS).
    let mut ids = [0u32; 64];
    let mut attr = QueryAttr {
        target_fd: number(cgroup),
        attach_type: ATTACH_TYPE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        pad: 0,
        rest: [0; 12],
    };
    // SAFETY: the attribute is the command's, without padding; `ids` has room for the count given and outlives it.
    unsafe { bpf(BPF_PROG_QUERY, &mut attr)? };
    let mut filters = Vec::new();
    for id in ids.iter().take(attr.prog_cnt as usize) {
        let mut attr = IdAttr { prog_id: *id, next_id: 0, open_flags: 0 };
        // SAFETY: the attribute is the command's, made of 32-bit integers, and holds no address.
        match unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attr) } {
            Ok(ret) => filters.push(owned(ret)?),
            // Detached and gone since the query.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(filters)
}
