//! Brings the device filter of cgroup v2 to a cgroup: loads its program, attaches it, replaces it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::dir::Dir;
use super::ebpf::program;
use crate::error::{Context, Error, Result};
use crate::plan::resources::DeviceRule;
use crate::sys::bpf::{self, Insn};

/// Loads the filter for `rules` and attaches it to a new cgroup.
pub(super) fn attach(dir: &Dir, rules: &[DeviceRule]) -> Result<()> {
    let filter = load(rules)?;
    bpf::attach_device_filter(dir.as_fd(), filter.as_fd(), None)
        .context(|| format!("bpf BPF_PROG_ATTACH to `{}`", dir.path()))
}

/// Puts the filter for `rules` in the place of the ones a cgroup has.
pub(super) fn replace(dir: &Dir, rules: &[DeviceRule]) -> Result<()> {
    let old = bpf::device_filters(dir.as_fd()).context(|| format!("bpf BPF_PROG_QUERY of `{}`", dir.path()))?;
    let filter = load(rules)?;
    let attach =
        |replaced: Option<&OwnedFd>| bpf::attach_device_filter(dir.as_fd(), filter.as_fd(), replaced.map(AsFd::as_fd));
    // In one step where there is one old filter and the kernel can (Linux 5.6). Otherwise the new one first: for a
    // moment both apply, never none.
    if let [only] = old.as_slice() {
        match attach(Some(only)) {
            Ok(()) => return Ok(()),
            Err(Errno::INVAL) => {}
            Err(errno) => return Err(Error::call(format!("bpf BPF_PROG_ATTACH to `{}`", dir.path()), errno)),
        }
    }
    attach(None).context(|| format!("bpf BPF_PROG_ATTACH to `{}`", dir.path()))?;
    for filter in &old {
        match bpf::detach_device_filter(dir.as_fd(), filter.as_fd()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(Error::call(format!("bpf BPF_PROG_DETACH from `{}`", dir.path()), errno)),
        }
    }
    Ok(())
}

fn load(rules: &[DeviceRule]) -> Result<OwnedFd> {
    let program = program(rules).ok_or_else(|| Error::config("linux.resources.devices: too many rules"))?;
    let errno = match bpf::load_device_filter(&program, None) {
        Ok(filter) => return Ok(filter),
        Err(Errno::PERM) => match load_with_locked_memory(&program) {
            Ok(filter) => return Ok(filter),
            Err(errno) => errno,
        },
        Err(errno) => errno,
    };
    let error = Error::call("bpf BPF_PROG_LOAD of the device filter", errno);
    Err(match errno {
        Errno::INVAL | Errno::ACCESS => match explain(&program) {
            Some(line) => error.context(format!("verifier: {line}")),
            None => error,
        },
        _ => error,
    })
}

/// Before Linux 5.11 programs count against RLIMIT_MEMLOCK, whose 64 KiB a few containers use up. What can be had
/// without CAP_SYS_RESOURCE is the hard limit; the soft one is put back, as the payload inherits it.
fn load_with_locked_memory(program: &[Insn]) -> Result<OwnedFd, Errno> {
    let limit = getrlimit(Resource::Memlock);
    if limit.current == limit.maximum {
        return Err(Errno::PERM);
    }
    setrlimit(Resource::Memlock, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let filter = bpf::load_device_filter(program, None);
    setrlimit(Resource::Memlock, limit)?;
    filter
}

/// The verifier's last words on a program it has just refused.
fn explain(program: &[Insn]) -> Option<String> {
    let mut log = vec![0; 64 << 10];
    bpf::load_device_filter(program, Some(&mut log)).err()?;
    let text = String::from_utf8_lossy(&log);
    let mut lines = text.trim_end_matches('\0').lines().filter(|line| !line.starts_with("processed "));
    lines.next_back().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::devices::tests::rule;
    use super::super::ebpf::tests::lists;
    use super::*;

    #[test]
    fn the_verifier_accepts_it() {
        let mut lists = lists();
        let many =
            |i: u32| DeviceRule { major: Some(i), minor: Some(i), allow: !i.is_multiple_of(3), ..rule("+c *:* rw") };
        lists.push((0..400).map(many).collect());
        for rules in lists {
            match load(&rules) {
                Ok(_) => {}
                // Not on this machine.
                Err(error) if matches!(error.errno(), Some(Errno::PERM | Errno::NOSYS)) => {
                    eprintln!("skipped: {error}");
                }
                Err(error) => panic!("{error}: {rules:?}"),
            }
        }
    }
}
