//! `exec`.

use std::collections::HashSet;
use std::path::PathBuf;

use clap::Args;
use oci_spec::runtime::{Capability, LinuxCapabilities, Process};

use super::globals::Globals;
use super::{Context, log};
use crate::cgroup::SubCgroup;
use crate::error::{Error, Kind, Result};
use crate::parent::ending::{Whose, told};
use crate::parent::exec::{Executed, Request, exec};
use crate::parent::foreground::{Signals, wait_for};
use crate::parent::oom::MemoryWatch;
use crate::parent::users::Users;
use crate::plan::load::{self, UnknownCapability};
use crate::plan::user::{Identity, UserSpec};

#[derive(Args, Debug)]
pub(super) struct Exec {
    /// The process as JSON, as in config.json; the other options change it
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Return once the process runs
    #[arg(short, long)]
    detach: bool,
    /// Write the process ID here
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Send the terminal to this socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Send a pidfd of the process to this socket
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// Give the process a terminal
    #[arg(short, long)]
    tty: bool,
    /// Its user, and its group, each by number or by a name that the container knows
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Further groups, by comma
    #[arg(short = 'g', long, value_name = "GID", value_delimiter = ',')]
    additional_gids: Vec<u32>,
    /// Its working directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// Add NAME=VALUE to its environment
    #[arg(short, long, value_name = "NAME=VALUE", allow_hyphen_values = true)]
    env: Vec<String>,
    /// Add a capability
    #[arg(short, long, value_name = "CAP")]
    cap: Vec<String>,
    /// Never gain privileges by exec
    #[arg(long)]
    no_new_privs: bool,
    /// Its AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Its SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// Keep the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// Pass this many fds, from 3 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Start it in an existing sub-cgroup of the container's; with CONTROLLER: in that hierarchy of cgroup v1 alone
    #[arg(long, value_name = "[CONTROLLER:]PATH")]
    cgroup: Vec<String>,
    /// Execute in a paused container too
    #[arg(long)]
    ignore_paused: bool,
    /// The container
    id: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Exec {
    pub(super) fn run(&self, context: &Context, globals: &Globals) -> Result<i32> {
        if self.process.is_none() && self.command.is_empty() {
            return Err(Error::new(Kind::Usage, "exec needs a command, or --process"));
        }
        let user = self.user.as_deref().map(UserSpec::parse).transpose()?;
        let cgroups = self.cgroup.iter().map(|text| SubCgroup::parse(text)).collect::<Result<Vec<_>>>()?;
        let process = self.process.as_deref().map(load::process).transpose()?;
        let (process, unknown) = process.map_or((None, vec![]), |read| (Some(read.value), read.unknown));
        let tell = || unknown.iter().for_each(UnknownCapability::tell);
        let request = Request {
            id: &self.id,
            state: &context.state,
            process: &|default, users| self.process(process.as_ref(), default, user.as_ref(), users),
            cgroups: &cgroups,
            pid_file: self.pid_file.as_deref(),
            console_socket: self.console_socket.as_deref(),
            pidfd_socket: self.pidfd_socket.as_deref(),
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds,
            detached: self.detach,
            ignore_paused: self.ignore_paused,
            signals: None,
            trace: &context.trace,
        };
        if self.detach {
            return exec(&request).map(|_| {
                tell();
                0
            });
        }
        let signals = Signals::hold(false)?;
        let executed = exec(&Request { signals: Some(&signals), ..request })?;
        tell();
        let Executed { pid, master, cgroup, trace } = executed;
        let mut memory = MemoryWatch::of(cgroup.as_ref(), false);
        let end = wait_for(pid, master, None, memory.as_mut(), signals)?;
        if let Some(error) = told(end, pid, Whose::Process(pid), memory.as_mut(), trace) {
            log::fatal(globals, &error);
        }
        Ok(end.code())
    }

    /// The process of a file, or the container's own with another command; then what the options change.
    fn process(
        &self,
        read: Option<&Process>,
        default: &Process,
        user: Option<&UserSpec>,
        users: &Users<'_>,
    ) -> Result<Process> {
        let mut process = match read {
            Some(process) => process.clone(),
            None => {
                let mut process = default.clone();
                process.set_terminal(None).set_console_size(None);
                process
            }
        };
        if !self.command.is_empty() {
            process.set_args(Some(self.command.clone()));
        }
        if self.tty {
            process.set_terminal(Some(true));
        }
        if let Some(user) = user {
            let Identity { uid, gid, groups } = users.find(user)?;
            process.user_mut().set_uid(uid);
            process.user_mut().set_gid(gid);
            process.user_mut().set_additional_gids(Some(groups).filter(|groups| !groups.is_empty()));
        }
        if !self.additional_gids.is_empty() {
            let mut gids = process.user().additional_gids().clone().unwrap_or_default();
            gids.extend(&self.additional_gids);
            process.user_mut().set_additional_gids(Some(gids));
        }
        if let Some(cwd) = self.cwd.as_deref().filter(|cwd| !cwd.is_empty()) {
            process.set_cwd(cwd.into());
        }
        if let Some(entry) = self.env.iter().find(|entry| !entry.contains('=')) {
            return Err(Error::new(Kind::Usage, format!("--env `{entry}`: NAME=VALUE is expected")));
        }
        if !self.env.is_empty() {
            process.set_env(Some(merge_env(process.env().clone().unwrap_or_default(), &self.env)));
        }
        if !self.cap.is_empty() {
            process.set_capabilities(Some(add_capabilities(process.capabilities().as_ref(), &self.cap)?));
        }
        if self.no_new_privs {
            process.set_no_new_privileges(Some(true));
        }
        if self.apparmor.is_some() {
            process.set_apparmor_profile(self.apparmor.clone());
        }
        if self.process_label.is_some() {
            process.set_selinux_label(self.process_label.clone());
        }
        Ok(process)
    }
}

/// A later value of a name replaces the earlier one.
fn merge_env(mut env: Vec<String>, more: &[String]) -> Vec<String> {
    for entry in more {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        env.retain(|e| e.split_once('=').map_or(e.as_str(), |(n, _)| n) != name);
        env.push(entry.clone());
    }
    env
}

/// Into the bounding, effective and permitted sets alone: what is inheritable or ambient, programs that are executed later have
/// too, which nobody has asked for (CVE-2022-29162).
fn add_capabilities(sets: Option<&LinuxCapabilities>, names: &[String]) -> Result<LinuxCapabilities> {
    // The crate's default is not empty.
    let mut sets = sets.cloned().unwrap_or_else(|| {
        let mut none = LinuxCapabilities::default();
        none.set_bounding(None).set_effective(None).set_permitted(None).set_inheritable(None).set_ambient(None);
        none
    });
    let parse = |name: &String| {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name).to_owned();
        serde_json::from_value::<Capability>(serde_json::Value::String(format!("CAP_{name}")))
            .map_err(|_| Error::new(Kind::Usage, format!("unknown capability `{name}`")))
    };
    let more: HashSet<Capability> = names.iter().map(parse).collect::<Result<_>>()?;
    let with = |set: &Option<HashSet<Capability>>| Some(set.iter().flatten().chain(&more).copied().collect());
    let (bounding, effective, permitted) = (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_value_replaces() {
        let env = merge_env(vec!["A=1".into(), "B=2".into()], &["A=3".into(), "C".into()]);
        assert_eq!(env, ["B=2", "A=3", "C"]);
    }

    #[test]
    fn capabilities_by_any_spelling() {
        let sets = add_capabilities(None, &["cap_sys_admin".into(), "KILL".into()]).unwrap();
        assert_eq!(sets.effective().as_ref().unwrap().len(), 2);
        assert!(sets.ambient().is_none());
        let mut own = sets.clone();
        own.set_inheritable(sets.permitted().clone());
        let more = add_capabilities(Some(&own), &["CHOWN".into()]).unwrap();
        assert_eq!(more.permitted().as_ref().unwrap().len(), 3);
        assert_eq!((more.inheritable(), more.ambient()), (own.inheritable(), own.ambient()));
        assert!(add_capabilities(None, &["CAP_NONE_SUCH".into()]).is_err());
    }
}
