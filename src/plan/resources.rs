//! What a container may use: `linux.resources`, validated, in the kernel's terms but of no cgroup version.
//!
//! One type serves a new container and `update`: a property that is `None` is left as it is, which in a new cgroup
//! is the kernel's default. The zeros that Go's encoders write for "not set" (docker's `"weight": 0`) read as `None`.

use std::collections::BTreeMap;
use std::fmt;

use oci_spec::runtime as oci;
use serde::{Deserialize, Serialize};

pub use super::device_rule::{DeviceAccess, DeviceKind, DeviceRule};
use super::findings::Findings;
use crate::error::{Error, Result, member};

mod read;

/// A limit that can be lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// No limit: `-1` in the specification and in cgroup v1's files, `max` in v2's.
    Max,
    /// At most so many.
    At(u64),
}

impl Limit {
    /// `-1` is no limit; another negative number is a mistake.
    fn from_signed(path: &str, value: i64) -> Result<Limit> {
        match u64::try_from(value) {
            Ok(value) => Ok(Limit::At(value)),
            Err(_) if value == -1 => Ok(Limit::Max),
            Err(_) => Err(invalid(path, format!("{value} is neither a limit nor -1, which means no limit"))),
        }
    }

    /// As [`Limit::from_signed`], where zero can't be meant and so means "not set".
    fn from_signed_unset(path: &str, value: Option<i64>) -> Result<Option<Limit>> {
        value.filter(|value| *value != 0).map(|value| Limit::from_signed(path, value)).transpose()
    }
}

/// The memory controller's limits, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Memory.
    pub limit: Option<Limit>,
    /// What reclaim tries to leave the container (v2 `memory.low`) or brings it down to (v1 soft limit).
    pub reservation: Option<Limit>,
    /// Memory *and* swap, as the specification and cgroup v1 count; v2 counts swap alone. 0 is no swap on v2, and on v1 as
    /// good as not set.
    pub swap: Option<Limit>,
    /// TCP buffers; v1 only.
    pub kernel_tcp: Option<Limit>,
    /// 0 to 100; v1 only.
    pub swappiness: Option<u64>,
    /// Pause instead of killing when memory runs out; v1 only.
    pub disable_oom_killer: Option<bool>,
    /// Refuse a new limit that is below what is used, where the kernel would rather reclaim or kill.
    pub check_before_update: bool,
}

/// The CPU controllers' limits, times in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// Relative weight, 2 to 262144.
    pub shares: Option<u64>,
    /// CPU time in each period.
    pub quota: Option<Limit>,
    /// The period.
    pub period: Option<u64>,
    /// Time that may be saved up and used over the quota.
    pub burst: Option<u64>,
    /// SCHED_IDLE for the whole container.
    pub idle: Option<bool>,
    /// Realtime time in each realtime period; v1 only.
    pub realtime_runtime: Option<i64>,
    /// The realtime period; v1 only.
    pub realtime_period: Option<u64>,
    /// The CPUs that may be used, as `0-3,5`.
    pub cpus: Option<String>,
    /// The memory nodes that may be used, as `0-1`.
    pub mems: Option<String>,
}

/// A block device's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// 10 to 1000; only kernels before 5.0 have it.
    pub leaf_weight: Option<u16>,
}

/// A block device's rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottleDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes or operations a second; 0 lifts the limit.
    pub rate: u64,
}

/// The block I/O controller's limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockIo {
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// 10 to 1000; only kernels before 5.0 have it.
    pub leaf_weight: Option<u16>,
    /// Weights of single devices.
    pub weight_device: Vec<WeightDevice>,
    /// Bytes read a second.
    pub read_bps: Vec<ThrottleDevice>,
    /// Bytes written a second.
    pub write_bps: Vec<ThrottleDevice>,
    /// Reads a second.
    pub read_iops: Vec<ThrottleDevice>,
    /// Writes a second.
    pub write_iops: Vec<ThrottleDevice>,
}

/// The limit of one huge page size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hugepage {
    /// As the kernel names it in the file: `2MB`.
    pub page_size: String,
    /// In bytes.
    pub limit: Limit,
}

/// The limits of one RDMA device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rdma {
    /// HCA handles.
    pub handles: Option<u32>,
    /// HCA objects.
    pub objects: Option<u32>,
}

/// Network classes; v1 only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// net_cls: the class of the container's packets.
    pub class_id: Option<u32>,
    /// net_prio: the priority on each interface of the host.
    pub priorities: Vec<(String, u32)>,
}

/// Everything `linux.resources` asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// The device rules in order. `None`: the defaults in a new cgroup, unchanged in an update.
    pub devices: Option<Vec<DeviceRule>>,
    /// Memory.
    pub memory: Memory,
    /// CPU time and placement.
    pub cpu: Cpu,
    /// Processes and threads.
    pub pids: Option<Limit>,
    /// Block devices.
    pub block_io: BlockIo,
    /// Huge pages.
    pub hugepages: Vec<Hugepage>,
    /// Network classes.
    pub network: Network,
    /// RDMA, by device.
    pub rdma: BTreeMap<String, Rdma>,
    /// cgroup v2 files and what to write to them, last.
    pub unified: BTreeMap<String, String>,
}

impl Resources {
    /// Reads and checks `linux.resources`, or the same object given to `update`.
    ///
    /// `memory.kernel` and `memory.useHierarchy` are accepted and ignored: the specification deprecates the first,
    /// Linux 5.16 took it out, and since Linux 5.11 every hierarchy is what the second asks for.
    pub fn from_spec(spec: &oci::LinuxResources) -> Result<Resources> {
        Findings::first(|findings| Resources::read(spec, findings))
    }

    /// The same, with all that is wrong.
    pub(crate) fn read(spec: &oci::LinuxResources, findings: &mut Findings) -> Resources {
        let mut resources = Resources::default();
        let devices = spec.devices().as_deref().unwrap_or_default();
        if !devices.is_empty() {
            let rules = devices.iter().enumerate();
            let rules = rules.map(|(i, rule)| DeviceRule::from_spec(&format!("linux.resources.devices[{i}]"), rule));
            resources.devices = Some(rules.filter_map(|rule| findings.take(rule)).collect());
        }
        if let Some(memory) = spec.memory() {
            resources.memory = read::memory(memory, findings);
        }
        if let Some(cpu) = spec.cpu() {
            resources.cpu = read::cpu(cpu, findings);
        }
        // Zero is no limit: that is how the specification had it until 1.3, what crun does with it, and what podman 4
        // writes for `--pids-limit=-1`.
        resources.pids = spec.pids().as_ref().and_then(|pids| match pids.limit() {
            0 => Some(Limit::Max),
            limit => findings.take(read::pids(limit)),
        });
        if let Some(block_io) = spec.block_io() {
            resources.block_io = read::block_io(block_io, findings);
        }
        for (i, huge) in spec.hugepage_limits().iter().flatten().enumerate() {
            let path = format!("linux.resources.hugepageLimits[{i}]");
            let page_size = findings.take(read::page_size(&format!("{path}.pageSize"), huge.page_size()));
            let limit = findings.take(Limit::from_signed(&format!("{path}.limit"), huge.limit()));
            resources.hugepages.extend(page_size.zip(limit).map(|(page_size, limit)| Hugepage { page_size, limit }));
        }
        if let Some(network) = spec.network() {
            resources.network.class_id = network.class_id();
            for (i, entry) in network.priorities().iter().flatten().enumerate() {
                findings.take(read::word(&format!("linux.resources.network.priorities[{i}].name"), entry.name()));
                resources.network.priorities.push((entry.name().clone(), entry.priority()));
            }
        }
        for (device, limits) in spec.rdma().iter().flatten() {
            let at = "linux.resources.rdma";
            findings.take(read::word(at, device).map_err(|error| error.about(member(at, device))));
            let limits = Rdma { handles: limits.hca_handles(), objects: limits.hca_objects() };
            for (name, limit) in [("hcaHandles", limits.handles), ("hcaObjects", limits.objects)] {
                findings.take(read::rdma(&format!("{}.{name}", member(at, device)), limit));
            }
            resources.rdma.insert(device.clone(), limits);
        }
        for (file, value) in spec.unified().iter().flatten() {
            findings.take(read::unified_key(file));
            resources.unified.insert(file.clone(), value.clone());
        }
        resources
    }

    /// Whether nothing is asked for: an update would do nothing, a new cgroup only gets the default device filter.
    pub fn is_empty(&self) -> bool {
        *self == Resources::default()
    }

    /// Whether anything is limited. A container that asks for no limit can do without a cgroup; what only spells out
    /// a default (podman's `"disableOOMKiller": false`, a limit of -1) and device rules don't count.
    pub fn has_limits(&self) -> bool {
        let mut rest = self.clone();
        rest.devices = None;
        rest.hugepages.retain(|huge| huge.limit != Limit::Max);
        let memory = &mut rest.memory;
        for limit in [
            &mut memory.limit,
            &mut memory.reservation,
            &mut memory.swap,
            &mut memory.kernel_tcp,
            &mut rest.cpu.quota,
            &mut rest.pids,
        ] {
            *limit = limit.filter(|limit| *limit != Limit::Max);
        }
        memory.disable_oom_killer = memory.disable_oom_killer.filter(|disable| *disable);
        memory.check_before_update = false;
        rest.cpu.idle = rest.cpu.idle.filter(|idle| *idle);
        rest.cpu.burst = rest.cpu.burst.filter(|burst| *burst != 0);
        !rest.is_empty()
    }

    /// Takes over what `update` holds and keeps the rest: what the container has once the update is made.
    pub fn merge(&mut self, update: &Resources) {
        fn take<T: Clone>(old: &mut Option<T>, new: &Option<T>) {
            if new.is_some() {
                old.clone_from(new);
            }
        }
        fn take_list<T: Clone>(old: &mut Vec<T>, new: &[T], same: impl Fn(&T, &T) -> bool) {
            for entry in new {
                old.retain(|o| !same(o, entry));
                old.push(entry.clone());
            }
        }
        take(&mut self.devices, &update.devices);
        let (memory, new) = (&mut self.memory, &update.memory);
        take(&mut memory.limit, &new.limit);
        take(&mut memory.reservation, &new.reservation);
        take(&mut memory.swap, &new.swap);
        take(&mut memory.kernel_tcp, &new.kernel_tcp);
        take(&mut memory.swappiness, &new.swappiness);
        take(&mut memory.disable_oom_killer, &new.disable_oom_killer);
        memory.check_before_update |= new.check_before_update;
        let (cpu, new) = (&mut self.cpu, &update.cpu);
        take(&mut cpu.shares, &new.shares);
        take(&mut cpu.quota, &new.quota);
        take(&mut cpu.period, &new.period);
        take(&mut cpu.burst, &new.burst);
        take(&mut cpu.idle, &new.idle);
        take(&mut cpu.realtime_runtime, &new.realtime_runtime);
        take(&mut cpu.realtime_period, &new.realtime_period);
        take(&mut cpu.cpus, &new.cpus);
        take(&mut cpu.mems, &new.mems);
        take(&mut self.pids, &update.pids);
        let (io, new) = (&mut self.block_io, &update.block_io);
        take(&mut io.weight, &new.weight);
        take(&mut io.leaf_weight, &new.leaf_weight);
        take_list(&mut io.weight_device, &new.weight_device, |a, b| (a.major, a.minor) == (b.major, b.minor));
        for (old, new) in [
            (&mut io.read_bps, &new.read_bps),
            (&mut io.write_bps, &new.write_bps),
            (&mut io.read_iops, &new.read_iops),
            (&mut io.write_iops, &new.write_iops),
        ] {
            take_list(old, new, |a, b| (a.major, a.minor) == (b.major, b.minor));
        }
        take_list(&mut self.hugepages, &update.hugepages, |a, b| a.page_size == b.page_size);
        take(&mut self.network.class_id, &update.network.class_id);
        take_list(&mut self.network.priorities, &update.network.priorities, |a, b| a.0 == b.0);
        self.rdma.extend(update.rdma.iter().map(|(device, limits)| (device.clone(), *limits)));
        self.unified.extend(update.unified.iter().map(|(file, value)| (file.clone(), value.clone())));
    }
}

pub(super) fn invalid(path: &str, message: impl fmt::Display) -> Error {
    Error::config(format!("{path}: {message}")).about(path)
}

#[cfg(test)]
mod tests;
