//! Compiles a seccomp filter, by libseccomp. seccomp_rule_add(3), seccomp_export_bpf(3).

use std::io::{Read, Seek};

use libseccomp::error::SeccompError;
use libseccomp::{ScmpArch, ScmpFilterContext, ScmpSyscall};
use rustix::fs::MemfdFlags;

use crate::error::{Context, Error, Result};
use crate::plan::seccomp::FilterPlan;

/// The program, ready for seccomp(2).
///
/// # Errors
/// libseccomp's, with the rule.
pub(super) fn compile(plan: &FilterPlan) -> Result<Vec<u8>> {
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
    for (i, rule) in plan.rules.iter().enumerate() {
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
    export(&filter)
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
        assert!(!program.is_empty() && program.len().is_multiple_of(crate::sys::seccomp::INSTRUCTION_SIZE));
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
