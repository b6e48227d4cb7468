//! What becomes of a call under each action, operator, flag and architecture of a seccomp profile: programs of a few
//! instructions make it, and their exit code tells.
#![cfg(target_arch = "x86_64")]

#[macro_use]
mod common;

use common::case::Case;
use common::machine::Code;
use common::{look, supervise};
use serde_json::{Value, json};

/// lseek(2) of no file: EBADF, whatever the second argument, which has 64 bits, unless a filter has its say before.
const LSEEK: u64 = 8;
const LSEEK_I386: u32 = 19;
const X32: u64 = 0x4000_0000;
const EBADF: i32 = 9;
const NO_FILE: u64 = u64::MAX;

/// What the rules of these tests answer: nothing else here does.
const EOPNOTSUPP: i32 = 95;

/// A death by SIGSYS, as `exec` tells it.
const KILLED: i32 = 128 + 31;

fn lseek(offset: u64) -> Code {
    Code::default().call(LSEEK, &[NO_FILE, offset, 0]).exit_with_errno()
}

/// A container with a rule about lseek(2), and more of the profile.
fn filtered(case: &mut Case, rule: Value, more: Value) {
    let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]});
    profile["syscalls"] = json!([{"names": ["lseek"]}]);
    profile["syscalls"][0].as_object_mut().unwrap().extend(rule.as_object().unwrap().clone());
    profile.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    case.alter(|c| c["linux"]["seccomp"] = profile);
    case.delete_by_force();
    case.running();
}

/// The exit code of a program in the container.
fn code(case: &Case, program: Code) -> i32 {
    program.install(&case.rootfs().join("bin/program"));
    case.exec(&["/bin/program"]).code()
}

fn errno(number: i32) -> Value {
    json!({"action": "SCMP_ACT_ERRNO", "errnoRet": number})
}

#[test]
fn each_action_does_what_it_is_called() {
    let mut case = case!("secactions");
    const SIGSYS: u64 = 31;
    /// By what a program ends that takes SIGSYS, and by what one the other thread of which made the call.
    const HANDLED: u8 = 8;
    const THREAD_DEAD: u8 = 7;
    for (action, alone, handled, threaded) in [
        ("SCMP_ACT_ALLOW", EBADF, EBADF, EBADF),
        ("SCMP_ACT_LOG", EBADF, EBADF, EBADF),
        ("SCMP_ACT_ERRNO", 1, 1, 1),
        // ENOSYS: there is no tracer.
        ("SCMP_ACT_TRACE", 38, 38, 38),
        ("SCMP_ACT_TRAP", KILLED, HANDLED.into(), KILLED),
        ("SCMP_ACT_KILL", KILLED, KILLED, THREAD_DEAD.into()),
        ("SCMP_ACT_KILL_THREAD", KILLED, KILLED, THREAD_DEAD.into()),
        ("SCMP_ACT_KILL_PROCESS", KILLED, KILLED, KILLED),
    ] {
        filtered(&mut case, json!({"action": action}), json!({}));
        assert_eq!(code(&case, lseek(0)), alone, "{action}");
        let handling = Code::handling(SIGSYS, &Code::default().exit(HANDLED));
        let handling = handling.call(LSEEK, &[NO_FILE, 0, 0]).exit_with_errno();
        assert_eq!(code(&case, handling), handled, "{action}, with a handler of SIGSYS");
        let threads = Code::default().in_a_thread(lseek(0)).exit(THREAD_DEAD);
        assert_eq!(code(&case, threads), threaded, "{action}, in a thread");
    }
}

#[test]
fn a_rule_overrides_what_happens_by_default() {
    let mut case = case!("secallow");
    let Some(mut profile) = of_an_engine(EOPNOTSUPP) else { skip!("no podman-config.json") };
    let seven = json!([{"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}]);
    let lseeks = json!({"names": ["lseek"], "action": "SCMP_ACT_ALLOW", "args": seven});
    profile["syscalls"].as_array_mut().unwrap().push(lseeks);
    filtered(&mut case, json!({"action": "SCMP_ACT_ALLOW"}), profile);
    assert_eq!(code(&case, lseek(7)), EBADF);
    assert_eq!(code(&case, lseek(8)), EOPNOTSUPP);
}

/// All that podman's profile allows but lseek(2), the rest refused with an errno.
fn of_an_engine(errno: i32) -> Option<Value> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/podman-config.json");
    let podman: Value = serde_json::from_str(&std::fs::read_to_string(file).ok()?).expect("podman-config.json");
    let mut profile = podman["linux"]["seccomp"].clone();
    for rule in profile["syscalls"].as_array_mut().unwrap() {
        rule["names"].as_array_mut().unwrap().retain(|name| name != "lseek");
    }
    profile["defaultErrnoRet"] = json!(errno);
    Some(profile)
}

#[test]
fn what_is_newer_than_the_profile_is_not_there() {
    let mut case = case!("secnewer");
    const ENOSYS: i32 = 38;
    const EACCES: i32 = 13;
    // No kernel has such a call.
    const NEWER: u64 = 999;
    let call = |number| Code::default().call(number, &[]).exit_with_errno();
    let i386 = |number| Code::default().call_i386(number, &[u32::MAX, 0, 0]).exit_with_errno();
    case.running();
    let kernel_has_i386 = code(&case, i386(LSEEK_I386)) == EBADF;
    if !kernel_has_i386 {
        common::skipped_in_part("no 32-bit calls on this kernel");
    }
    for default in [1, EACCES, ENOSYS] {
        let Some(profile) = of_an_engine(default) else { skip!("no podman-config.json") };
        filtered(&mut case, json!({}), profile);
        assert_eq!(code(&case, lseek(0)), default, "lseek is older than what the profile names");
        for (which, number) in [("x86-64", NEWER), ("x32", NEWER | X32)] {
            assert_eq!(code(&case, call(number)), ENOSYS, "{default}, {which}");
        }
        if kernel_has_i386 {
            assert_eq!(code(&case, i386(LSEEK_I386)), default);
            assert_eq!(code(&case, i386(NEWER as u32)), ENOSYS, "{default}, i386");
        }
    }
    // A profile that has another answer is taken at its word.
    let Some(mut profile) = of_an_engine(1) else { skip!("no podman-config.json") };
    profile.as_object_mut().unwrap().remove("defaultErrnoRet");
    profile["defaultAction"] = json!("SCMP_ACT_KILL_PROCESS");
    filtered(&mut case, json!({}), profile);
    assert_eq!(code(&case, call(NEWER)), KILLED);
}

#[test]
fn each_operator_compares_all_of_an_argument() {
    let mut case = case!("secoperators");
    // Over what 32 bits hold, where libseccomp has to look at both halves.
    const BIG: u64 = (1 << 32) + 5;
    const ABOVE: u64 = 2 << 32;
    /// Operator, `value`, `valueTwo`, arguments that the rule is about, and others.
    type Row = (&'static str, u64, u64, &'static [u64], &'static [u64]);
    let rows: [Row; 7] = [
        ("NE", BIG, 0, &[BIG + 1, 5, ABOVE], &[BIG]),
        ("LT", BIG, 0, &[BIG - 1, 7, 0], &[BIG, BIG + 1, ABOVE]),
        ("LE", BIG, 0, &[BIG, BIG - 1, 7], &[BIG + 1, ABOVE]),
        ("EQ", BIG, 0, &[BIG], &[5, BIG + 1, ABOVE + 5]),
        ("GE", BIG, 0, &[BIG, BIG + 1, ABOVE], &[BIG - 1, 7]),
        ("GT", BIG, 0, &[BIG + 1, ABOVE], &[BIG, BIG - 1, 7]),
        ("MASKED_EQ", 0xff_0000_00f0, 0x12_0000_0030, &[0x12_0000_0030, 0x7712_0000_003f], &[0x30, 0x13_0000_0030]),
    ];
    for (operator, value, second, about, others) in rows {
        let arg = json!({"index": 1, "value": value, "valueTwo": second, "op": format!("SCMP_CMP_{operator}")});
        let mut rule = errno(EOPNOTSUPP);
        rule["args"] = json!([arg]);
        filtered(&mut case, rule, json!({}));
        for (arguments, answer) in [(about, EOPNOTSUPP), (others, EBADF)] {
            for argument in arguments {
                assert_eq!(code(&case, lseek(*argument)), answer, "{argument:#x} {operator} {value:#x} {second:#x}");
            }
        }
    }
}

#[test]
fn conditions_on_several_arguments_must_all_hold() {
    let mut case = case!("secand");
    let mut rule = errno(EOPNOTSUPP);
    rule["args"] =
        json!([{"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 1, "op": "SCMP_CMP_GE"}]);
    filtered(&mut case, rule, json!({}));
    for (offset, whence, answer) in [(7, 1, EOPNOTSUPP), (7, 2, EOPNOTSUPP), (7, 0, EBADF), (8, 1, EBADF)] {
        let program = Code::default().call(LSEEK, &[NO_FILE, offset, whence]).exit_with_errno();
        assert_eq!(code(&case, program), answer, "{offset} {whence}");
    }
}

#[test]
fn the_calls_of_another_architecture_have_their_rules_or_kill() {
    let mut case = case!("secarch");
    let i386 = || Code::default().call_i386(LSEEK_I386, &[u32::MAX, 0, 0]).exit_with_errno();
    let x32 = || Code::default().call(LSEEK | X32, &[NO_FILE, 0, 0]).exit_with_errno();
    case.running();
    let kernel_has_i386 = code(&case, i386()) == EBADF;
    if !kernel_has_i386 {
        common::skipped_in_part("no 32-bit calls on this kernel");
    }
    for (others, answer) in [(&[][..], KILLED), (&["SCMP_ARCH_X86", "SCMP_ARCH_X32"][..], EOPNOTSUPP)] {
        // The machine's own is meant whether it is named or not.
        for own in [None, Some("SCMP_ARCH_X86_64"), Some("SCMP_ARCH_NATIVE")] {
            let all: Vec<&str> = own.into_iter().chain(others.iter().copied()).collect();
            filtered(&mut case, errno(EOPNOTSUPP), json!({"architectures": all}));
            assert_eq!(code(&case, lseek(0)), EOPNOTSUPP, "{all:?}");
            // The filter is asked before the kernel looks for the call: it need not have x32.
            assert_eq!(code(&case, x32()), answer, "x32: {all:?}");
            if kernel_has_i386 {
                assert_eq!(code(&case, i386()), answer, "i386: {all:?}");
            }
        }
    }
}

#[test]
fn each_flag_reaches_the_kernel() {
    let mut case = case!("secflags");
    tandem_only!("how it loads the filter");
    const SET_MODE_FILTER: u64 = 1;
    let speculation = |case: &Case| look::status(case.pid())["Speculation_Store_Bypass"].clone();
    let all = [("TSYNC", 1), ("LOG", 2), ("SPEC_ALLOW", 4)];
    let every = all.map(|(name, _)| name);
    let sets = all.iter().map(|(name, bit)| (std::slice::from_ref(name), *bit)).chain([(&[][..], 0), (&every[..], 7)]);
    let mut bypass = vec![];
    for (names, bits) in sets {
        let flags: Vec<String> = names.iter().map(|name| format!("SECCOMP_FILTER_FLAG_{name}")).collect();
        case.alter(|c| {
            let rule = json!({"names": ["lseek"], "action": "SCMP_ACT_ERRNO"});
            c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags, "syscalls": [rule]});
        });
        case.delete_by_force();
        let (_, calls) = supervise::watched(&["seccomp"], || case.running());
        // Without a program libseccomp asks what the kernel has.
        let loads = calls.iter().filter(|call| call.args[0] == SET_MODE_FILTER && call.args[2] != 0);
        let loads: Vec<u64> = loads.map(|call| call.args[1]).collect();
        assert_eq!(loads, [bits], "{names:?}: {calls:?}");
        bypass.push((bits, speculation(&case)));
    }
    // Of a kernel that mitigates each process with a filter: before 5.16 by itself, later where it is told to.
    let of = |wanted: u64| &bypass.iter().find(|(bits, _)| *bits == wanted).unwrap().1;
    match of(0).contains("force mitigated") {
        true => assert!(!of(4).contains("force mitigated") && !of(7).contains("force mitigated"), "{bypass:?}"),
        false => common::skipped_in_part("this machine mitigates no process for its filter: SPEC_ALLOW is not seen"),
    }
}
