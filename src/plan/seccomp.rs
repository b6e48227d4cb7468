//! `linux.seccomp`, checked and in libseccomp's own terms. seccomp(2), runtime-spec config-linux.md.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpSyscall};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};

use serde::{Deserialize, Serialize, Serializer};

use super::annotations::Annotations;
use super::architectures;
use super::findings::Findings;
use crate::error::{Error, Result, member};

/// A filter to compile.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FilterPlan {
    /// For every system call that no rule names.
    #[serde(serialize_with = "as_debug")]
    pub default: ScmpAction,
    /// Beside the native one.
    #[serde(serialize_with = "each_as_debug")]
    pub architectures: Vec<ScmpArch>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u64,
    /// In order; some may say what happens by default.
    pub rules: Vec<Rule>,
    /// The program as it is to be loaded, where the configuration brings one; all but the flags is then not looked at.
    pub program: Option<Vec<u8>>,
    /// Who gets the listener of a filter that notifies.
    pub listener: Option<ListenerPlan>,
}

/// Who gets a filter's listener; seccomp_unotify(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerPlan {
    /// A listening socket of the host.
    pub path: PathBuf,
    /// What the receiver is told beside the state.
    pub metadata: Option<String>,
}

/// One entry of `linux.seccomp.syscalls`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// System calls by name; one the C library does not know is left out, as every runtime does.
    pub names: Vec<String>,
    /// What happens to them.
    #[serde(serialize_with = "as_debug")]
    pub action: ScmpAction,
    /// With the number of the argument; all must hold.
    #[serde(serialize_with = "each_as_debug")]
    pub conditions: Vec<(u32, ScmpArgCompare)>,
}

/// For people: libseccomp's types have no other form.
fn as_debug<S: Serializer>(value: &impl Debug, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{value:?}"))
}

fn each_as_debug<S: Serializer>(values: &[impl Debug], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(|value| format!("{value:?}")))
}

const FLAG_TSYNC: u64 = libc::SECCOMP_FILTER_FLAG_TSYNC;
const FLAG_LOG: u64 = 2;
const FLAG_SPEC_ALLOW: u64 = 4;
const FLAG_NEW_LISTENER: u64 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
const FLAG_WAIT_KILLABLE_RECV: u64 = 32;

impl FilterPlan {
    /// The filter of a container, or of a further process in it. `receiver` is where a listener goes if neither the filter
    /// nor an annotation says it.
    ///
    /// # Errors
    /// An action, an errno, a listener or a system call that can't be had.
    pub fn choose(
        seccomp: Option<&LinuxSeccomp>,
        annotations: &Annotations,
        receiver: Option<&Path>,
    ) -> Result<Option<FilterPlan>> {
        Findings::first(|findings| FilterPlan::decide(seccomp, annotations, receiver, findings))
    }

    /// The same, with all that is wrong.
    pub(super) fn decide(
        seccomp: Option<&LinuxSeccomp>,
        annotations: &Annotations,
        receiver: Option<&Path>,
        findings: &mut Findings,
    ) -> Option<FilterPlan> {
        let receiver = annotations.seccomp_receiver.as_deref().or(receiver);
        if let Some(program) = &annotations.seccomp_program {
            return findings.take(FilterPlan::raw(program, receiver));
        }
        let seccomp = seccomp?;
        let mut plan = FilterPlan::read(seccomp, findings)?;
        if plan.notifies() {
            findings.take(plan.hand_to(seccomp, receiver));
        }
        for (at, name) in unknown(seccomp).filter(|_| annotations.fail_unknown_syscall) {
            let why = format!("libseccomp knows no `{name}`");
            findings.add(Error::at("linux.seccomp.syscalls", why).about(at));
        }
        Some(plan)
    }

    /// A program that is loaded as it is.
    fn raw(program: &[u8], receiver: Option<&Path>) -> Result<FilterPlan> {
        const RETURN: u16 = 0x06;
        const RETURN_A: u16 = 0x16;
        const USER_NOTIF: u32 = libc::SECCOMP_RET_USER_NOTIF;
        let notifies = program.chunks_exact(crate::sys::seccomp::INSTRUCTION_SIZE).any(|i| {
            let value = u32::from_ne_bytes([i[4], i[5], i[6], i[7]]);
            match u16::from_ne_bytes([i[0], i[1]]) {
                // The low half is data, which the kernel takes off.
                RETURN => value & 0xffff_0000 == USER_NOTIF,
                // Whatever was computed: it may be that.
                RETURN_A => true,
                _ => false,
            }
        });
        let listener = receiver.map(|path| ListenerPlan { path: path.into(), metadata: None }).filter(|_| notifies);
        if notifies && listener.is_none() {
            let property = member("annotations", "run.oci.seccomp_bpf_data");
            return Err(no_receiver("annotation `run.oci.seccomp_bpf_data`").about(property));
        }
        Ok(FilterPlan {
            default: ScmpAction::Allow,
            architectures: vec![],
            flags: if notifies { FLAG_NEW_LISTENER } else { 0 },
            rules: vec![],
            program: Some(program.to_vec()),
            listener,
        })
    }

    fn notifies(&self) -> bool {
        self.default == ScmpAction::Notify || self.rules.iter().any(|rule| rule.action == ScmpAction::Notify)
    }

    fn hand_to(&mut self, seccomp: &LinuxSeccomp, receiver: Option<&Path>) -> Result<()> {
        let named = seccomp.listener_path().as_deref().filter(|path| !path.as_os_str().is_empty());
        let path = named.or(receiver);
        let path = path.ok_or_else(|| no_receiver("`linux.seccomp`").about("linux.seccomp.listenerPath"))?;
        if !path.is_absolute() {
            let why = format!("`{}` is not an absolute path", path.display());
            return Err(Error::at("linux.seccomp.listenerPath", why));
        }
        let metadata = seccomp.listener_metadata().clone().filter(|text| !text.is_empty());
        self.listener = Some(ListenerPlan { path: path.into(), metadata });
        // The filter is for the thread that becomes the payload alone: another one hands the listener over.
        self.flags = self.flags & !FLAG_TSYNC | FLAG_NEW_LISTENER;
        Ok(())
    }

    /// Checks a filter. None for one that allows everything.
    ///
    /// # Errors
    /// An unknown action, or one that this version can't honour.
    pub fn from_spec(seccomp: &LinuxSeccomp) -> Result<Option<FilterPlan>> {
        Findings::first(|findings| FilterPlan::read(seccomp, findings))
    }

    fn read(seccomp: &LinuxSeccomp, findings: &mut Findings) -> Option<FilterPlan> {
        let default = action(seccomp.default_action(), seccomp.default_errno_ret(), "linux.seccomp.defaultAction");
        let default = default.map_err(|error| error.about("linux.seccomp.defaultErrnoRet"));
        let default = findings.take(default).unwrap_or(ScmpAction::Errno(libc::EPERM));
        let rules = seccomp.syscalls().iter().flatten().enumerate();
        let rules = rules.filter_map(|(i, rule)| findings.take(one(rule, &format!("linux.seccomp.syscalls[{i}]"))));
        // One that says what the default says, too: it names calls that the profile knows.
        let rules: Vec<Rule> = rules.collect();
        let metadata = seccomp.listener_metadata().as_ref().is_some_and(|text| !text.is_empty());
        if metadata && seccomp.listener_path().as_ref().is_none_or(|path| path.as_os_str().is_empty()) {
            let message = "`linux.seccomp.listenerMetadata` needs `listenerPath`";
            findings.add(Error::config(message).about("linux.seccomp.listenerMetadata"));
        }
        if default == ScmpAction::Allow && rules.iter().all(|rule| rule.action == default) {
            return None;
        }
        let architectures = seccomp.architectures().iter().flatten().enumerate();
        let architectures =
            architectures.filter_map(|(i, arch)| findings.take(architectures::read(*arch, i))).collect();
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
        let plan = FilterPlan { default, architectures, flags, rules, program: None, listener: None };
        if flags & FLAG_WAIT_KILLABLE_RECV != 0 && !plan.notifies() {
            let why = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with SCMP_ACT_NOTIFY";
            findings.add(Error::at("linux.seccomp.flags", why));
        }
        Some(plan)
    }
}

fn one(syscall: &LinuxSyscall, at: &str) -> Result<Rule> {
    let action = action(syscall.action(), syscall.errno_ret(), at);
    let action = action.map_err(|error| error.about(format!("{at}.errnoRet")))?;
    if syscall.names().is_empty() {
        return Err(Error::config(format!("`{at}.names` is empty")).about(format!("{at}.names")));
    }
    let args = syscall.args().iter().flatten().enumerate();
    let conditions =
        args.map(|(i, arg)| condition(arg, at).map_err(|error| error.about(format!("{at}.args[{i}].index"))));
    Ok(Rule { names: syscall.names().clone(), action, conditions: conditions.collect::<Result<_>>()? })
}

/// The names that libseccomp does not know, each with its JSON path.
pub(crate) fn unknown(seccomp: &LinuxSeccomp) -> impl Iterator<Item = (String, &str)> {
    let rules = seccomp.syscalls().iter().flatten().enumerate();
    let names = rules.flat_map(|(i, rule)| rule.names().iter().enumerate().map(move |(n, name)| (i, n, name)));
    names
        .filter(|(_, _, name)| ScmpSyscall::from_name(name).is_err())
        .map(|(i, n, name)| (format!("linux.seccomp.syscalls[{i}].names[{n}]"), name.as_str()))
}

fn no_receiver(at: &str) -> Error {
    Error::config(format!("{at}: SCMP_ACT_NOTIFY needs somebody to notify"))
        .advise("set `linux.seccomp.listenerPath`, or the annotation run.oci.seccomp.receiver")
}

fn action(action: LinuxSeccompAction, errno: Option<u32>, at: &str) -> Result<ScmpAction> {
    let errno_or_eperm = || {
        i32::try_from(errno.unwrap_or(libc::EPERM as u32))
            .ok()
            .filter(|e| (0..=4095).contains(e))
            .ok_or_else(|| Error::at(at, format!("errnoRet {} is not 0 to 4095", errno.unwrap_or_default())))
    };
    if errno.is_some() && !matches!(action, LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace) {
        return Err(Error::at(at, format!("{action} has no errno to return: leave errnoRet out")));
    }
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(errno_or_eperm()?),
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(errno_or_eperm()? as u16),
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActNotify => ScmpAction::Notify,
    })
}

fn condition(arg: &LinuxSeccompArg, at: &str) -> Result<(u32, ScmpArgCompare)> {
    let index = u32::try_from(arg.index()).ok().filter(|i| *i < 6);
    let index = index.ok_or_else(|| Error::at(format!("{at}.args"), format!("index {} is not 0 to 5", arg.index())))?;
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
    fn a_listener_has_a_receiver() {
        let json = |more: &str| {
            let rule = r#"{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}"#;
            format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]{more}}}"#)
        };
        let choose = |more: &str, receiver: Option<&str>| {
            let seccomp: LinuxSeccomp = serde_json::from_str(&json(more)).unwrap();
            FilterPlan::choose(Some(&seccomp), &Annotations::default(), receiver.map(Path::new))
        };
        assert!(choose("", None).is_err());
        assert!(choose(r#","listenerMetadata":"x""#, Some("/s")).is_err());
        assert!(choose(r#","listenerPath":"s""#, None).is_err());
        let more = r#","listenerPath":"/own","listenerMetadata":"x","flags":["SECCOMP_FILTER_FLAG_TSYNC"]"#;
        let plan = choose(more, Some("/other")).unwrap().unwrap();
        assert_eq!(plan.listener, Some(ListenerPlan { path: "/own".into(), metadata: Some("x".into()) }));
        assert_eq!(plan.flags, FLAG_NEW_LISTENER);
        assert!(choose("", Some("/other")).unwrap().unwrap().listener.is_some());
    }

    #[test]
    fn a_name_nobody_knows_is_an_error_where_it_is_to_be() {
        let json =
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["not_a_call"],"action":"SCMP_ACT_ERRNO"}]}"#;
        let seccomp: LinuxSeccomp = serde_json::from_str(json).unwrap();
        let choose = |fail_unknown_syscall| {
            let annotations = Annotations { fail_unknown_syscall, ..Annotations::default() };
            FilterPlan::choose(Some(&seccomp), &annotations, None)
        };
        assert!(choose(false).is_ok());
        assert!(choose(true).unwrap_err().to_string().contains("not_a_call"));
    }

    #[test]
    fn refuses_what_it_cannot_honour() {
        let with = |rule: &str| plan(&format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#));
        assert!(with(r#"{"names":[],"action":"SCMP_ACT_ERRNO"}"#).is_err());
        assert!(with(r#"{"names":["x"],"action":"SCMP_ACT_ERRNO","errnoRet":70000}"#).is_err());
        let args = r#"[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]"#;
        assert!(with(&format!(r#"{{"names":["x"],"action":"SCMP_ACT_ERRNO","args":{args}}}"#)).is_err());
    }
}
