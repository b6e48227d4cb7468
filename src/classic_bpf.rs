//! What a seccomp filter answers to a system call: its program, run here. seccomp(2), linux/filter.h.

use crate::sys::seccomp::INSTRUCTION_SIZE;

/// `struct seccomp_data` begins with these, in 32-bit words.
pub(crate) const NUMBER: u32 = 0;
pub(crate) const ARCHITECTURE: u32 = 4;
const WORDS: usize = 16;

// linux/bpf_common.h: the instructions that libseccomp makes use of, and its like.
pub(crate) const LOAD: u16 = 0x20;
pub(crate) const JUMP: u16 = 0x05;
pub(crate) const JUMP_EQUAL: u16 = 0x15;
pub(crate) const JUMP_GREATER: u16 = 0x25;
const JUMP_NOT_LESS: u16 = 0x35;
pub(crate) const JUMP_BITS: u16 = 0x45;
const AND: u16 = 0x54;
pub(crate) const RETURN: u16 = 0x06;

/// `SECCOMP_RET_*` with its data, for a call whose arguments are all 0. None of a program with other instructions.
pub(crate) fn answer(program: &[u8], architecture: u32, number: u32) -> Option<u32> {
    let data: [u32; WORDS] = std::array::from_fn(|word| match word as u32 * 4 {
        NUMBER => number,
        ARCHITECTURE => architecture,
        _ => 0,
    });
    let mut loaded = 0;
    let mut at = 0;
    loop {
        let i = program.get(at * INSTRUCTION_SIZE..(at + 1) * INSTRUCTION_SIZE)?;
        let constant = u32::from_ne_bytes([i[4], i[5], i[6], i[7]]);
        let branch = |holds: bool| usize::from(if holds { i[2] } else { i[3] });
        // Jumps lead forward only: it ends.
        at += 1 + match u16::from_ne_bytes([i[0], i[1]]) {
            LOAD => {
                loaded = *data.get(constant as usize / 4)?;
                0
            }
            AND => {
                loaded &= constant;
                0
            }
            JUMP => constant as usize,
            JUMP_EQUAL => branch(loaded == constant),
            JUMP_GREATER => branch(loaded > constant),
            JUMP_NOT_LESS => branch(loaded >= constant),
            JUMP_BITS => branch(loaded & constant != 0),
            RETURN => return Some(constant),
            _ => return None,
        };
    }
}

/// What a failure of execve(2) has to do with the filter, in words: nothing, where that allows it.
pub(crate) fn of_execve(program: &[u8]) -> Option<String> {
    let number = u32::try_from(libc::SYS_execve).ok()?;
    let answer = answer(program, NATIVE?, number)?;
    let action = match answer & 0xffff_0000 {
        libc::SECCOMP_RET_ERRNO => "SCMP_ACT_ERRNO",
        libc::SECCOMP_RET_TRACE => "SCMP_ACT_TRACE",
        libc::SECCOMP_RET_USER_NOTIF => "SCMP_ACT_NOTIFY",
        _ => return None,
    };
    Some(format!(
        "the seccomp filter answers execve with {action}: let `linux.seccomp` allow it, no program starts without"
    ))
}

/// `AUDIT_ARCH_*` of linux/audit.h.
const NATIVE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else {
    None
};
