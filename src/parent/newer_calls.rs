//! What a seccomp filter answers to system calls that are newer than its profile.
//!
//! A C library tries a new call first and an older one where the kernel says ENOSYS. A profile that refuses what it does not
//! list with EPERM would refuse the new call so too, and the library would take that for its answer. As under runc, a call
//! with a higher number than any that the profile names, of its architecture, is therefore answered with ENOSYS: by a few
//! instructions in front of libseccomp's program. seccomp(2), linux/filter.h.

use std::collections::BTreeMap;

use libseccomp::{ScmpAction, ScmpArch, ScmpSyscall};

use crate::classic_bpf::{ARCHITECTURE, JUMP, JUMP_BITS, JUMP_EQUAL, JUMP_GREATER, LOAD, NUMBER, RETURN};
use crate::plan::seccomp::FilterPlan;
use crate::sys::seccomp::INSTRUCTION_SIZE;

/// `X32_SYSCALL_BIT`: a call of x32, which has the architecture of x86-64.
const X32_BIT: u32 = 0x4000_0000;
// linux/audit.h: beside the machine's number of elf(5).
const WIDE: u32 = 0x8000_0000;
const LITTLE: u32 = 0x4000_0000;
const X86_64: u32 = 62 | WIDE | LITTLE;

/// The greatest numbers that a profile names, of calls that the kernel tells apart by their architecture.
struct Last {
    own: u32,
    /// Those of x32.
    x32: u32,
}

impl Default for Last {
    /// What no number is greater than: the filter has none of these calls, and its answer to them stays.
    fn default() -> Last {
        Last { own: u32::MAX, x32: u32::MAX }
    }
}

/// One instruction: the operation, how many to skip if it holds and if not, the constant.
type Instruction = (u16, u8, u8, u32);

/// The instructions for in front of the program; none where the profile has another answer to what it does not name.
pub(super) fn prologue(plan: &FilterPlan) -> Vec<u8> {
    match plan.default {
        ScmpAction::Errno(errno) if errno != libc::ENOSYS => {}
        _ => return vec![],
    }
    let native = ScmpArch::native();
    let mut all = vec![native];
    all.extend(plan.architectures.iter().map(|arch| if *arch == ScmpArch::Native { native } else { *arch }));
    let mut sections: BTreeMap<u32, Last> = BTreeMap::new();
    for arch in all {
        let (Some(audit), Some(last)) = (audit(arch), last(plan, arch)) else { continue };
        let section = sections.entry(audit).or_default();
        *(if arch == ScmpArch::X32 { &mut section.x32 } else { &mut section.own }) = last;
    }
    let instructions = assemble(&sections).into_iter();
    let bytes = |(code, holds, fails, constant): Instruction| {
        let mut bytes = [0; INSTRUCTION_SIZE];
        bytes[..2].copy_from_slice(&code.to_ne_bytes());
        bytes[2..4].copy_from_slice(&[holds, fails]);
        bytes[4..].copy_from_slice(&constant.to_ne_bytes());
        bytes
    };
    instructions.flat_map(bytes).collect()
}

/// The greatest number that the profile names.
fn last(plan: &FilterPlan, arch: ScmpArch) -> Option<u32> {
    let numbers = plan.rules.iter().flat_map(|rule| &rule.names).filter_map(|name| {
        // Calls that an architecture does not have get negative numbers from libseccomp.
        let number = i32::from(ScmpSyscall::from_name_by_arch(name, arch).ok()?);
        u32::try_from(number).ok()
    });
    let numbers = numbers.map(|number| if arch == ScmpArch::X32 { number | X32_BIT } else { number });
    numbers.max()
}

/// `AUDIT_ARCH_*` of linux/audit.h. None for those of the other byte order, which this runtime is not built for.
fn audit(arch: ScmpArch) -> Option<u32> {
    const MIPS_N32: u32 = 0x2000_0000;
    Some(match arch {
        ScmpArch::X86 => 3 | LITTLE,
        ScmpArch::X8664 | ScmpArch::X32 => X86_64,
        ScmpArch::Arm => 40 | LITTLE,
        ScmpArch::Aarch64 => 183 | WIDE | LITTLE,
        ScmpArch::Mipsel => 8 | LITTLE,
        ScmpArch::Mipsel64 => 8 | WIDE | LITTLE,
        ScmpArch::Mipsel64N32 => 8 | WIDE | LITTLE | MIPS_N32,
        ScmpArch::Ppc64Le => 21 | WIDE | LITTLE,
        ScmpArch::Riscv64 => 243 | WIDE | LITTLE,
        ScmpArch::Loongarch64 => 258 | WIDE | LITTLE,
        _ => return None,
    })
}

/// What is not answered here goes on to the instruction after the last.
fn assemble(sections: &BTreeMap<u32, Last>) -> Vec<Instruction> {
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let mut program: Vec<Instruction> = vec![];
    // The last first: how far it is to the end is then known.
    for (audit, last) in sections.iter().rev() {
        let go_on = (JUMP, 0, 0, program.len() as u32 + 1);
        let mut section = vec![(LOAD, 0, 0, NUMBER)];
        match *audit {
            X86_64 => section.extend([
                (JUMP_BITS, 1, 0, X32_BIT),
                (JUMP_GREATER, 2, 1, last.own),
                (JUMP_GREATER, 1, 0, last.x32),
            ]),
            _ => section.push((JUMP_GREATER, 1, 0, last.own)),
        }
        section.extend([go_on, (RETURN, 0, 0, ENOSYS)]);
        section.insert(0, (JUMP_EQUAL, 0, section.len() as u8, *audit));
        program.splice(..0, section);
    }
    if !program.is_empty() {
        program.insert(0, (LOAD, 0, 0, ARCHITECTURE));
    }
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    const I386: u32 = 3 | LITTLE;
    const LET_ON: u32 = libc::SECCOMP_RET_ALLOW;

    fn plan(default: &str, architectures: &str, rules: &str) -> FilterPlan {
        let json = format!(r#"{{"defaultAction":{default},"architectures":[{architectures}],"syscalls":[{rules}]}}"#);
        FilterPlan::from_spec(&serde_json::from_str(&json).unwrap()).unwrap().unwrap()
    }

    /// What the instructions, and one more that allows, answer to a call.
    fn answer(plan: &FilterPlan, audit: u32, number: u32) -> u32 {
        let mut program = prologue(plan);
        program.extend(RETURN.to_ne_bytes());
        program.extend([0, 0]);
        program.extend(LET_ON.to_ne_bytes());
        crate::classic_bpf::answer(&program, audit, number).unwrap()
    }

    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    const EPERM: &str = r#""SCMP_ACT_ERRNO""#;
    /// mkdir is 83, rmdir 84 on x86-64 and x32, 39 and 40 on i386; bpf 321 and 357.
    const RULES: &str = r#"{"names":["rmdir","bpf","not_a_call"],"action":"SCMP_ACT_ALLOW"},
        {"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}"#;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn each_architecture_has_its_own_last_call() {
        let all = plan(EPERM, r#""SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32""#, RULES);
        for (audit, number, answered) in [
            (X86_64, 0, LET_ON),
            (X86_64, 321, LET_ON),
            (X86_64, 322, ENOSYS),
            (X86_64, 0x3fff_ffff, ENOSYS),
            (X86_64, X32_BIT | 321, LET_ON),
            (X86_64, X32_BIT | 322, ENOSYS),
            (X86_64, u32::MAX, ENOSYS),
            (I386, 357, LET_ON),
            (I386, 358, ENOSYS),
            // The filter knows nothing of it, and kills.
            (183 | WIDE | LITTLE, 1000, LET_ON),
        ] {
            assert_eq!(answer(&all, audit, number), answered, "{audit:#x} {number}");
        }
        // The machine's own is meant whether it is named or not, and what is not named is the filter's to judge.
        for named in ["", r#""SCMP_ARCH_X86_64""#, r#""SCMP_ARCH_NATIVE""#] {
            let own = plan(EPERM, named, RULES);
            assert_eq!(answer(&own, X86_64, 322), ENOSYS, "{named}");
            assert_eq!(answer(&own, X86_64, X32_BIT | 322), LET_ON, "{named}");
            assert_eq!(answer(&own, I386, 358), LET_ON, "{named}");
        }
        let x32 = plan(EPERM, r#""SCMP_ARCH_X32""#, RULES);
        assert_eq!(answer(&x32, X86_64, X32_BIT | 322), ENOSYS);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_rule_of_any_action_names_its_calls() {
        let explicit = plan(EPERM, "", r#"{"names":["bpf"],"action":"SCMP_ACT_ERRNO","errnoRet":1}"#);
        assert_eq!(answer(&explicit, X86_64, 321), LET_ON);
        assert_eq!(answer(&explicit, X86_64, 322), ENOSYS);
    }

    #[test]
    fn an_answer_other_than_an_errno_stays() {
        for default in ["ALLOW", "LOG", "TRACE", "TRAP", "KILL", "KILL_THREAD", "KILL_PROCESS", "NOTIFY"] {
            let default = format!(r#""SCMP_ACT_{default}""#);
            assert!(prologue(&plan(&default, "", RULES)).is_empty(), "{default}");
        }
        let nothing = |default: &str, rules: &str| prologue(&plan(default, "", rules)).is_empty();
        assert!(nothing(r#""SCMP_ACT_ERRNO","defaultErrnoRet":38"#, RULES));
        assert!(!nothing(r#""SCMP_ACT_ERRNO","defaultErrnoRet":13"#, RULES));
        assert!(nothing(EPERM, r#"{"names":["not_a_call"],"action":"SCMP_ACT_ALLOW"}"#));
    }
}
