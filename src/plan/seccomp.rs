//! `linux.seccomp`, checked and in libseccomp's own terms. seccomp(2), runtime-spec config-linux.md.

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};

use crate::error::{Error, Result};

/// A filter to compile.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterPlan {
    /// For every system call that no rule names.
    pub default: ScmpAction,
    /// Beside the native one.
    pub architectures: Vec<ScmpArch>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u64,
    /// In order.
    pub rules: Vec<Rule>,
}

/// One entry of `linux.seccomp.syscalls`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// System calls by name; one the C library does not know is left out, as every runtime does.
    pub names: Vec<String>,
    /// What happens to them.
    pub action: ScmpAction,
    /// With the number of the argument; all must hold.
    pub conditions: Vec<(u32, ScmpArgCompare)>,
}

const FLAG_TSYNC: u64 = 1;
const FLAG_LOG: u64 = 2;
const FLAG_SPEC_ALLOW: u64 = 4;
const FLAG_WAIT_KILLABLE_RECV: u64 = 32;

impl FilterPlan {
    /// Checks a filter. None for one that allows everything.
    ///
    /// # Errors
    /// An unknown action, or one that this version can't honour.
    pub fn from_spec(seccomp: &LinuxSeccomp) -> Result<Option<FilterPlan>> {
        let default = action(seccomp.default_action(), seccomp.default_errno_ret(), "linux.seccomp.defaultAction")?;
        let mut rules = vec![];
        for (i, syscall) in seccomp.syscalls().iter().flatten().enumerate() {
            let at = format!("linux.seccomp.syscalls[{i}]");
            let action = action(syscall.action(), syscall.errno_ret(), &at)?;
            if syscall.names().is_empty() {
                return Err(Error::config(format!("`{at}.names` is empty")));
            }
            let conditions =
                syscall.args().iter().flatten().map(|arg| condition(arg, &at)).collect::<Result<Vec<_>>>()?;
            // libseccomp refuses a rule that says what the default says.
            if action != default {
                rules.push(Rule { names: syscall.names().clone(), action, conditions });
            }
        }
        if rules.is_empty() && default == ScmpAction::Allow {
            return Ok(None);
        }
        let architectures = seccomp.architectures().iter().flatten().map(|a| architecture(*a)).collect();
        let flags = seccomp.flags().iter().flatten().fold(0, |flags, flag| {
            flags
                | match flag {
                    // The process has one thread when the filter is loaded, and TSYNC excludes a listener.
                    LinuxSeccompFilterFlag::SeccompFilterFlagTsync => FLAG_TSYNC,
                    LinuxSeccompFilterFlag::SeccompFilterFlagLog => FLAG_LOG,
                    LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
                    LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => FLAG_WAIT_KILLABLE_RECV,
                }
        });
        Ok(Some(FilterPlan { default, architectures, flags, rules }))
    }
}

fn action(action: LinuxSeccompAction, errno: Option<u32>, at: &str) -> Result<ScmpAction> {
    let errno_or_eperm = || {
        i32::try_from(errno.unwrap_or(libc::EPERM as u32))
            .ok()
            .filter(|e| (0..=4095).contains(e))
            .ok_or_else(|| Error::config(format!("`{at}`: errnoRet {} is not 0 to 4095", errno.unwrap_or_default())))
    };
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(errno_or_eperm()?),
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(errno_or_eperm()? as u16),
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActNotify => {
            return Err(Error::config(format!("`{at}`: SCMP_ACT_NOTIFY is not supported yet")));
        }
    })
}

fn condition(arg: &LinuxSeccompArg, at: &str) -> Result<(u32, ScmpArgCompare)> {
    let index = u32::try_from(arg.index()).ok().filter(|i| *i < 6);
    let index = index.ok_or_else(|| Error::config(format!("`{at}.args`: index {} is not 0 to 5", arg.index())))?;
    let (value, second) = (arg.value(), arg.value_two().unwrap_or(0));
    let (op, datum) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, value),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, value),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, value),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, value),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, value),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, value),
        // `value` is the mask here, and `valueTwo` what the masked argument is compared with.
        LinuxSeccompOperator::ScmpCmpMaskedEq => (ScmpCompareOp::MaskedEqual(value), second),
    };
    Ok((index, ScmpArgCompare::new(index, op, datum)))
}

fn architecture(arch: Arch) -> ScmpArch {
    match arch {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchMips => ScmpArch::Mips,
        Arch::ScmpArchMips64 => ScmpArch::Mips64,
        Arch::ScmpArchMips64n32 => ScmpArch::Mips64N32,
        Arch::ScmpArchMipsel => ScmpArch::Mipsel,
        Arch::ScmpArchMipsel64 => ScmpArch::Mipsel64,
        Arch::ScmpArchMipsel64n32 => ScmpArch::Mipsel64N32,
        Arch::ScmpArchPpc => ScmpArch::Ppc,
        Arch::ScmpArchPpc64 => ScmpArch::Ppc64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390 => ScmpArch::S390,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchParisc => ScmpArch::Parisc,
        Arch::ScmpArchParisc64 => ScmpArch::Parisc64,
        Arch::ScmpArchLoongarch64 => ScmpArch::Loongarch64,
        Arch::ScmpArchM68k => ScmpArch::M68k,
        Arch::ScmpArchSh => ScmpArch::Sh,
        Arch::ScmpArchSheb => ScmpArch::Sheb,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<Option<FilterPlan>> {
        FilterPlan::from_spec(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn an_errno_is_eperm_unless_given() {
        let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["mount"],"action":"SCMP_ACT_ERRNO"},{"names":["chmod"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}"#;
        let rules = plan(json).unwrap().unwrap().rules;
        assert_eq!(rules[0].action, ScmpAction::Errno(libc::EPERM));
        assert_eq!(rules[1].action, ScmpAction::Errno(38));
    }

    #[test]
    fn what_changes_nothing_is_no_filter() {
        let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mount"],"action":"SCMP_ACT_ALLOW"}]}"#;
        assert_eq!(plan(json).unwrap(), None);
    }

    #[test]
    fn refuses_what_it_cannot_honour() {
        let with = |rule: &str| plan(&format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#));
        assert!(with(r#"{"names":["x"],"action":"SCMP_ACT_NOTIFY"}"#).is_err());
        assert!(with(r#"{"names":[],"action":"SCMP_ACT_ERRNO"}"#).is_err());
        assert!(with(r#"{"names":["x"],"action":"SCMP_ACT_ERRNO","errnoRet":70000}"#).is_err());
        let args = r#"[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]"#;
        assert!(with(&format!(r#"{{"names":["x"],"action":"SCMP_ACT_ERRNO","args":{args}}}"#)).is_err());
    }
}
