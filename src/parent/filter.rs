//! Compiles a seccomp filter, by libseccomp. seccomp_rule_add(3), seccomp_export_bpf(3).
//!
//! libseccomp takes some ten milliseconds for the four hundred rules of an engine's default profile, more than the whole
//! rest of a container's start; so what it made is kept, by the content of the profile.

use std::fmt::Write as _;
use std::fs::DirBuilder;
use std::io::{Read, Seek};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use libseccomp::error::SeccompError;
use libseccomp::{ScmpArch, ScmpFilterContext, ScmpSyscall};
use rustix::fs::MemfdFlags;

use super::newer_calls;
use crate::error::{Context, Error, Result};
use crate::plan::seccomp::FilterPlan;
use crate::state::replace;
use crate::sys::seccomp::INSTRUCTION_SIZE;
use sha2::{Digest, Sha256};

/// Another one where the same plan gives another program than before.
const FORM: u32 = 2;

/// How many compiled filters are kept; a host has a handful of profiles.
const KEPT: usize = 64;

/// A compiled filter.
pub(super) struct Compiled {
    pub(super) program: Vec<u8>,
    /// How it was come by, for the trace.
    pub(super) how: String,
}

/// The program for a filter: from the cache in `dir`, or compiled, and kept there.
///
/// # Errors
/// libseccomp's, with the rule. A cache that can't be used costs time, and is told in the trace.
pub(super) fn program(plan: &FilterPlan, dir: Option<&Path>) -> Result<Compiled> {
    if let Some(program) = &plan.program {
        return Ok(Compiled { program: program.clone(), how: "as the annotation has it".into() });
    }
    let Some(dir) = dir else {
        return Ok(Compiled { program: compile(plan)?, how: "compiled; there is no place to keep it".into() });
    };
    let path = dir.join(key(plan));
    if let Ok(program) = std::fs::read(&path)
        && !program.is_empty()
        && program.len().is_multiple_of(INSTRUCTION_SIZE)
    {
        return Ok(Compiled { program, how: "from the cache".into() });
    }
    let program = compile(plan)?;
    let how = match keep(&path, &program) {
        Ok(()) => "compiled".into(),
        Err(e) => format!("compiled; not kept: {e}"),
    };
    Ok(Compiled { program, how })
}

/// A name that no other filter, compiler or version of this program has.
fn key(plan: &FilterPlan) -> PathBuf {
    let version = libseccomp::ScmpVersion::current().map(|v| v.to_string()).unwrap_or_default();
    // Who hears of a call is not part of the program.
    let plan = FilterPlan { listener: None, ..plan.clone() };
    let text = format!("{plan:?} {version} {FORM} {} {}", env!("CARGO_PKG_VERSION"), env!("TANDEM_COMMIT"));
    let hash = Sha256::digest(text.as_bytes());
    hash.iter()
        .fold(String::new(), |mut name, byte| {
            // Writing to a String can't fail.
            let _ = write!(name, "{byte:02x}");
            name
        })
        .into()
}

fn keep(path: &Path, program: &[u8]) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut kept: Vec<_> = std::fs::read_dir(dir)?
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    kept.sort();
    for (_, oldest) in kept.iter().take((kept.len() + 1).saturating_sub(KEPT)) {
        std::fs::remove_file(oldest)?;
    }
    replace(path, program)
}

/// The program, ready for seccomp(2).
pub(crate) fn compile(plan: &FilterPlan) -> Result<Vec<u8>> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |e: SeccompError| Error::config(format!("`linux.seccomp`: {what}: {e}"))
    };
    let mut filter = ScmpFilterContext::new(plan.default).map_err(failed("defaultAction"))?;
    // no_new_privs is the process's own property, and set from there.
    filter.set_ctl_nnp(false).map_err(failed("no_new_privs"))?;
    // A binary tree over the system calls: a few comparisons a call instead of hundreds. Older libseccomp has none.
    let _ = filter.set_ctl_optimize(2);
    for arch in &plan.architectures {
        let native = ScmpArch::native();
        if *arch != native && *arch != ScmpArch::Native {
            filter.add_arch(*arch).map_err(failed("architectures"))?;
        }
    }
    // libseccomp refuses a rule that says what the default says.
    for (i, rule) in plan.rules.iter().enumerate().filter(|(_, rule)| rule.action != plan.default) {
        for name in &rule.names {
            // A call that this libseccomp has never heard of has no number to filter by.
            let Ok(syscall) = ScmpSyscall::from_name(name) else {
                continue;
            };
            let added = match rule.conditions.is_empty() {
                true => filter.add_rule(rule.action, syscall),
                false => add_conditional(&mut filter, rule, syscall),
            };
            added.map_err(|e| Error::config(format!("`linux.seccomp.syscalls[{i}]`: `{name}`: {e}")))?;
        }
    }
    let mut program = newer_calls::prologue(plan);
    program.append(&mut export(&filter)?);
    Ok(program)
}

/// Conditions on one argument each are all to hold; on the same argument twice libseccomp can't join them, and, as in
/// every runtime, any of them is enough.
fn add_conditional<'f>(
    filter: &'f mut ScmpFilterContext,
    rule: &crate::plan::seccomp::Rule,
    syscall: ScmpSyscall,
) -> Result<&'f mut ScmpFilterContext, SeccompError> {
    let (mut arguments, conditions): (Vec<u32>, Vec<_>) = rule.conditions.iter().copied().unzip();
    arguments.sort_unstable();
    arguments.dedup();
    if arguments.len() == conditions.len() {
        return filter.add_rule_conditional(rule.action, syscall, &conditions);
    }
    for condition in &conditions {
        filter.add_rule_conditional(rule.action, syscall, std::slice::from_ref(condition))?;
    }
    Ok(filter)
}

fn export(filter: &ScmpFilterContext) -> Result<Vec<u8>> {
    let doing = || "export the seccomp filter";
    let memory = rustix::fs::memfd_create("filter", MemfdFlags::CLOEXEC).context(doing)?;
    filter.export_bpf(&memory).map_err(|e| Error::system(e.to_string()).context(doing()))?;
    let mut memory = std::fs::File::from(memory);
    let mut program = vec![];
    memory.rewind().context(doing)?;
    memory.read_to_end(&mut program).context(doing)?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use libseccomp::ScmpAction;

    fn plan(json: &str) -> FilterPlan {
        FilterPlan::from_spec(&serde_json::from_str(json).unwrap()).unwrap().unwrap()
    }

    #[test]
    fn compiles_whole_instructions() {
        let program = compile(&plan(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],
                "syscalls":[{"names":["read","not_a_call"],"action":"SCMP_ACT_ALLOW"}]}"#,
        ))
        .unwrap();
        assert!(!program.is_empty() && program.len().is_multiple_of(INSTRUCTION_SIZE));
    }

    /// What an action of the profile is in the program; from outside, LOG can be told from ALLOW by the kernel's log alone.
    #[test]
    fn each_action_is_the_kernels() {
        for (action, value) in [
            ("SCMP_ACT_KILL", 0u32),
            ("SCMP_ACT_KILL_THREAD", 0),
            ("SCMP_ACT_KILL_PROCESS", 0x8000_0000),
            ("SCMP_ACT_TRAP", 0x0003_0000),
            ("SCMP_ACT_ERRNO", 0x0005_0001),
            ("SCMP_ACT_TRACE", 0x7ff0_0001),
            ("SCMP_ACT_NOTIFY", 0x7fc0_0000),
            ("SCMP_ACT_LOG", 0x7ffc_0000),
        ] {
            let rule = format!(r#"{{"names":["mkdir"],"action":"{action}"}}"#);
            let program =
                compile(&plan(&format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#))).unwrap();
            const RETURN: u16 = 0x06;
            let mut returned: Vec<u32> = program
                .chunks_exact(INSTRUCTION_SIZE)
                .filter(|i| u16::from_ne_bytes([i[0], i[1]]) == RETURN)
                .map(|i| u32::from_ne_bytes([i[4], i[5], i[6], i[7]]))
                .collect();
            returned.sort_unstable();
            returned.dedup();
            // Another architecture's calls kill.
            let mut expected = vec![0, value, 0x7fff_0000];
            expected.sort_unstable();
            expected.dedup();
            assert_eq!(returned, expected, "{action}");
        }
    }

    #[test]
    fn a_kept_filter_is_the_same_and_a_broken_one_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let plan =
            plan(r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mount"],"action":"SCMP_ACT_ERRNO"}]}"#);
        let first = program(&plan, Some(dir.path())).unwrap();
        let second = program(&plan, Some(dir.path())).unwrap();
        assert_eq!((first.how.as_str(), second.how.as_str()), ("compiled", "from the cache"));
        assert_eq!(first.program, second.program);
        std::fs::write(dir.path().join(key(&plan)), "broken!").unwrap();
        assert_eq!(program(&plan, Some(dir.path())).unwrap().program, first.program);
    }

    #[test]
    fn the_cache_stays_small() {
        let dir = tempfile::tempdir().unwrap();
        (0..KEPT + 10).for_each(|i| keep(&dir.path().join(i.to_string()), b"x").unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), KEPT);
    }

    #[test]
    fn two_conditions_on_one_argument_are_alternatives() {
        let arg = |value| format!(r#"{{"index":0,"value":{value},"op":"SCMP_CMP_EQ"}}"#);
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW",
                "syscalls":[{{"names":["personality"],"action":"SCMP_ACT_ERRNO","args":[{},{}]}}]}}"#,
            arg(1),
            arg(2)
        );
        let plan = plan(&json);
        assert_eq!(plan.rules[0].action, ScmpAction::Errno(1));
        compile(&plan).unwrap();
    }
}
