//! The device filter of cgroup v2: a BPF program made from the rules.
//!
//! The kernel runs it for each open and mknod of a device with a `struct bpf_cgroup_dev_ctx` (linux/bpf.h): access and
//! type in one word, major, minor. It returns 1 to allow, 0 for EPERM.

use crate::plan::resources::{DeviceAccess, DeviceKind, DeviceRule};
use crate::sys::bpf::Insn;

// linux/bpf.h: BPF_DEVCG_*. A device that is not a character device (2) is a block device (1).
const TYPE_CHAR: i32 = 2;
const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;

// Operations: class, width or source, and operator of linux/bpf_common.h and linux/bpf.h in one byte.
const LOAD_WORD: u8 = 0x61; // LDX | MEM | W
const MOV: u8 = 0xb7; // ALU64 | MOV | K
const MOV_REG: u8 = 0xbf; // ALU64 | MOV | X
const AND: u8 = 0x57; // ALU64 | AND | K
const OR_REG: u8 = 0x4f; // ALU64 | OR | X
const SHIFT_LEFT: u8 = 0x67; // ALU64 | LSH | K
const SHIFT_RIGHT: u8 = 0x77; // ALU64 | RSH | K
const JUMP: u8 = 0x05; // JMP | JA
const JUMP_EQUAL: u8 = 0x15; // JMP | JEQ | K
const JUMP_NOT_EQUAL: u8 = 0x55; // JMP | JNE | K
const JUMP_SET: u8 = 0x45; // JMP | JSET | K
const EXIT: u8 = 0x95; // JMP | EXIT

// Registers: the result, the context, and what the program keeps.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
/// The accesses asked for that no rule has decided yet.
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// Both numbers as the kernel's `dev_t` has them, so that one comparison does.
const DEVICE: u8 = 6;

/// How `dev_t` divides (linux/kdev_t.h). No device has greater numbers.
const MINOR_BITS: u32 = 20;
const MAJOR_BITS: u32 = 12;

/// Where a jump goes: the parts of the program after the character devices' rules.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    /// The next instruction: no jump.
    Next,
    /// So many instructions on, within a rule.
    Skip(i16),
    /// The block devices' rules.
    Block,
    Deny,
    Allow,
}

/// A program whose jumps are not placed yet.
#[derive(Default)]
struct Draft(Vec<(Insn, Target)>);

impl Draft {
    fn add(&mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) {
        let insn = Insn { code, regs: dst | src << 4, off, imm };
        self.0.push((insn, Target::Next));
    }

    fn jump(&mut self, code: u8, dst: u8, imm: i32, target: Target) {
        let insn = Insn { code, regs: dst, off: 0, imm };
        self.0.push((insn, target));
    }

    /// One type's rules, from the last to the first, up to one that decides everything.
    fn section(&mut self, rules: &[DeviceRule], kind: DeviceKind) {
        for rule in rules.iter().rev().filter(|rule| rule.kind == kind || rule.kind == DeviceKind::All) {
            let verdict = if rule.allow { Target::Allow } else { Target::Deny };
            let Some(test) = Test::of(rule) else { continue };
            match (test, rule.access == DeviceAccess::ALL) {
                (Test::Any, true) => return self.jump(JUMP, 0, 0, verdict),
                (Test::Equal { register, value }, true) => {
                    self.jump(compare(JUMP_EQUAL, value), register, value, verdict)
                }
                (test, false) => {
                    if let Test::Equal { register, value } = test {
                        let skip = Target::Skip(if rule.allow { 2 } else { 1 });
                        self.jump(compare(JUMP_NOT_EQUAL, value), register, value, skip);
                    }
                    self.decide(access_mask(rule.access), rule.allow);
                }
            }
        }
        self.jump(JUMP, 0, 0, Target::Deny);
    }

    /// Decides some accesses: one denied denies the call, and the call is allowed once none is left.
    fn decide(&mut self, mask: i32, allow: bool) {
        if allow {
            self.add(AND, ACCESS, 0, 0, !mask);
            self.jump(JUMP_EQUAL, ACCESS, 0, Target::Allow);
        } else {
            self.jump(JUMP_SET, ACCESS, mask, Target::Deny);
        }
    }

    /// Adds the ends that are jumped to (the verifier refuses code that can't be reached) and places the jumps. `None`
    /// if one is too far.
    fn finish(mut self, block: usize) -> Option<Vec<Insn>> {
        let mut ends = [0; 2];
        for (end, target, result) in [(0, Target::Deny, 0), (1, Target::Allow, 1)] {
            ends[end] = self.0.len();
            if self.0.iter().any(|(_, to)| *to == target) {
                self.add(MOV, RESULT, 0, 0, result);
                self.add(EXIT, 0, 0, 0, 0);
            }
        }
        let place = |(at, (insn, target)): (usize, (Insn, Target))| {
            let to = match target {
                Target::Next => return Some(insn),
                Target::Skip(off) => return Some(Insn { off, ..insn }),
                Target::Block => block,
                Target::Deny => ends[0],
                Target::Allow => ends[1],
            };
            Some(Insn { off: i16::try_from(to - at - 1).ok()?, ..insn })
        };
        self.0.into_iter().enumerate().map(place).collect()
    }
}

/// What a rule compares.
#[derive(Clone, Copy)]
enum Test {
    Any,
    Equal { register: u8, value: i32 },
}

impl Test {
    /// `None` for numbers that no device has.
    fn of(rule: &DeviceRule) -> Option<Test> {
        let fits = |number: Option<u32>, bits: u32| number.is_none_or(|number| number >> bits == 0);
        if !fits(rule.major, MAJOR_BITS) || !fits(rule.minor, MINOR_BITS) {
            return None;
        }
        let equal = |register, value: u32| Test::Equal { register, value: value.cast_signed() };
        Some(match (rule.major, rule.minor) {
            (None, None) => Test::Any,
            (Some(major), None) => equal(MAJOR, major),
            (None, Some(minor)) => equal(MINOR, minor),
            (Some(major), Some(minor)) => equal(DEVICE, major << MINOR_BITS | minor),
        })
    }
}

/// A 64-bit comparison extends the constant's sign: majors from 2048 on need one of 32 bits (JMP32 instead of JMP, the
/// next class; Linux 5.1).
fn compare(code: u8, value: i32) -> u8 {
    if value < 0 { code + 1 } else { code }
}

/// The program for a list of rules, of which later ones override earlier ones and none means deny; `None` if it is
/// longer than jumps reach.
///
/// It goes through the rules of the device's type from the last to the first. Each access asked for (read, write,
/// mknod) is decided by the first rule met that speaks of it. A rule that speaks of all is one comparison: what the
/// verifier does with each branch is most of the cost of a filter.
pub(super) fn program(rules: &[DeviceRule]) -> Option<Vec<Insn>> {
    let mut draft = Draft::default();
    draft.add(LOAD_WORD, TYPE, CONTEXT, 0, 0);
    draft.add(MOV_REG, ACCESS, TYPE, 0, 0);
    draft.add(AND, TYPE, 0, 0, 0xffff);
    draft.add(SHIFT_RIGHT, ACCESS, 0, 0, 16);
    draft.add(LOAD_WORD, MAJOR, CONTEXT, 4, 0);
    draft.add(LOAD_WORD, MINOR, CONTEXT, 8, 0);
    draft.add(MOV_REG, DEVICE, MAJOR, 0, 0);
    draft.add(SHIFT_LEFT, DEVICE, 0, 0, MINOR_BITS.cast_signed());
    draft.add(OR_REG, DEVICE, MINOR, 0, 0);
    draft.jump(JUMP_NOT_EQUAL, TYPE, TYPE_CHAR, Target::Block);
    draft.section(rules, DeviceKind::Char);
    let block = draft.0.len();
    draft.section(rules, DeviceKind::Block);
    draft.finish(block)
}

fn access_mask(access: DeviceAccess) -> i32 {
    let bits = [(access.mknod, ACCESS_MKNOD), (access.read, ACCESS_READ), (access.write, ACCESS_WRITE)];
    bits.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::devices::{defaults, tests::rule};
    use super::*;

    const TYPE_BLOCK: i32 = 1;

    /// What the kernel's interpreter would return.
    fn run(program: &[Insn], kind: i32, major: u32, minor: u32, access: i32) -> u64 {
        let context = [(access << 16 | kind) as u32, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0usize;
        loop {
            let Insn { code, regs, off, imm } = program[at];
            let (dst, src) = (usize::from(regs & 15), usize::from(regs >> 4));
            let constant = i64::from(imm) as u64;
            let jump = match code {
                LOAD_WORD => {
                    assert_eq!(src, usize::from(CONTEXT));
                    registers[dst] = u64::from(context[off as usize / 4]);
                    false
                }
                MOV => {
                    registers[dst] = constant;
                    false
                }
                MOV_REG => {
                    registers[dst] = registers[src];
                    false
                }
                AND => {
                    registers[dst] &= constant;
                    false
                }
                OR_REG => {
                    registers[dst] |= registers[src];
                    false
                }
                SHIFT_LEFT => {
                    registers[dst] <<= imm;
                    false
                }
                SHIFT_RIGHT => {
                    registers[dst] >>= imm;
                    false
                }
                JUMP => true,
                JUMP_EQUAL => registers[dst] == constant,
                JUMP_NOT_EQUAL => registers[dst] != constant,
                JUMP_SET => registers[dst] & constant != 0,
                // Their 32-bit forms.
                0x16 => registers[dst] as u32 == imm as u32,
                0x56 => registers[dst] as u32 != imm as u32,
                EXIT => return registers[0],
                other => panic!("unknown operation {other:#x}"),
            };
            at += 1 + if jump { off as usize } else { 0 };
        }
    }

    /// The meaning of a rule list, straight from the specification: per access, the last rule that speaks of it.
    fn meaning(rules: &[DeviceRule], kind: i32, major: u32, minor: u32, access: i32) -> u64 {
        let decides = |rule: &DeviceRule, bit: i32| {
            let kind_matches = match rule.kind {
                DeviceKind::All => true,
                DeviceKind::Char => kind == TYPE_CHAR,
                DeviceKind::Block => kind == TYPE_BLOCK,
            };
            kind_matches
                && rule.major.is_none_or(|m| m == major)
                && rule.minor.is_none_or(|m| m == minor)
                && access_mask(rule.access) & bit != 0
        };
        let allowed = |bit: i32| rules.iter().rev().find(|rule| decides(rule, bit)).is_some_and(|rule| rule.allow);
        let bits = [ACCESS_MKNOD, ACCESS_READ, ACCESS_WRITE];
        u64::from(bits.iter().filter(|bit| access & **bit != 0).all(|bit| allowed(*bit)))
    }

    pub(in super::super) fn lists() -> Vec<Vec<DeviceRule>> {
        let mut podman = vec![rule("-a *:* rwm"), rule("+c 1:3 rw"), rule("+b 8:* r"), rule("-c 1:5 w")];
        podman.extend(defaults());
        vec![
            vec![],
            vec![rule("+a *:* rwm")],
            vec![rule("+a *:* rwm"), rule("-b 8:0 w"), rule("-c *:* m")],
            vec![rule("+c 1:3 r"), rule("+c 1:3 w"), rule("-c 1:* w"), rule("+a *:3 rw")],
            vec![
                rule("+b 8:0 rwm"),
                rule("-a *:* rwm"),
                rule("+c 4095:1048575 rwm"),
                rule("-b 2048:* w"),
                rule("+b 2048:7 w"),
            ],
            podman,
        ]
    }

    #[test]
    fn decides_as_the_rules_do() {
        for rules in lists() {
            let program = program(&rules).unwrap();
            for kind in [TYPE_BLOCK, TYPE_CHAR] {
                for major in [0, 1, 5, 8, 10, 136, 2048, 4095] {
                    for minor in [0, 1, 2, 3, 5, 7, 200, 1_048_575] {
                        for access in 1..8 {
                            let got = run(&program, kind, major, minor, access);
                            let wanted = meaning(&rules, kind, major, minor, access);
                            assert_eq!(got, wanted, "{rules:?}: {kind} {major}:{minor} {access}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_that_no_device_has_match_none() {
        let wrapped = DeviceRule { major: Some(4097), ..rule("+c 1:3 rwm") };
        let program = program(&[wrapped, DeviceRule { minor: Some(1 << 20), ..wrapped }]).unwrap();
        assert_eq!(run(&program, TYPE_CHAR, 1, 3, ACCESS_READ), 0);
    }

    #[test]
    fn refuses_what_jumps_cannot_reach() {
        let rules = vec![rule("+c 1:3 rwm"); 40_000];
        assert_eq!(program(&rules), None);
    }
}
