//! On which CPUs a process of `exec` runs. runtime-spec, config.md, "execCPUAffinity"; sched_setaffinity(2).

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::{Context, Result};
use crate::plan::numbers::listed;

/// The CPUs of this process, until dropped those that its child is to begin on: one that is born in a cgroup has them before
/// it is there.
pub(super) struct Initial(Option<CpuSet>);

impl Initial {
    /// Sets them; nothing if there are none.
    pub(super) fn set(cpus: &[u32]) -> Result<Initial> {
        if cpus.is_empty() {
            return Ok(Initial(None));
        }
        let before = sched_getaffinity(None).context(|| "sched_getaffinity")?;
        set(None, cpus, "initial")?;
        Ok(Initial(Some(before)))
    }
}

impl Drop for Initial {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // What was this process's a moment ago; it has nothing left to do that would mind.
            let _ = sched_setaffinity(None, before);
        }
    }
}

/// Sets the CPUs of a process that is in the container's cgroup.
pub(super) fn finally(pid: i32, cpus: &[u32]) -> Result<()> {
    if cpus.is_empty() { Ok(()) } else { set(Pid::from_raw(pid), cpus, "final") }
}

fn set(pid: Option<Pid>, cpus: &[u32], which: &str) -> Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu as usize));
    let set = sched_setaffinity(pid, &set);
    set.context(|| format!("`process.execCPUAffinity.{which}`: sched_setaffinity to CPUs {}", listed(cpus)))
        .map_err(|e| e.advise("at least one of them must be a CPU of the machine and of the cpuset"))
}
