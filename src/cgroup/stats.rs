//! What a container uses, in the shape that engines parse: runc's `events`, which containerd reads.
//!
//! Each group of figures comes from whichever hierarchy has its controller: cgroup v1's files, or v2's.

use std::collections::BTreeMap;

use rustix::io::Errno;
use serde::Serialize;

use super::dir::Dir;
use super::{Cgroup, stats_v1, stats_v2};
use crate::error::{Error, Result};

/// All figures. Bytes, and nanoseconds of CPU time; `u64::MAX` for no limit, as runc has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Stats {
    pub cpu: Cpu,
    pub cpuset: CpuSet,
    pub memory: Memory,
    pub pids: Pids,
    pub blkio: BlockIo,
    /// By page size.
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// Empty: the container's groups of resctrl are not read.
    pub intel_rdt: BTreeMap<String, u64>,
    /// Empty: they are the network's, not the cgroup's.
    pub network_interfaces: Vec<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Cpu {
    pub usage: CpuUsage,
    pub throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct CpuUsage {
    pub total: u64,
    /// In v1 alone, as the next two.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    pub kernel: u64,
    pub user: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Throttling {
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_time: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct CpuSet {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u32>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u32>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Memory {
    pub cache: u64,
    pub usage: MemoryEntry,
    /// Memory and swap together, in v2 too.
    pub swap: MemoryEntry,
    pub kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// `memory.stat`.
    pub raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct MemoryEntry {
    pub limit: u64,
    pub usage: u64,
    /// The most that was used.
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Pids {
    pub current: u64,
    /// 0 is no limit.
    pub limit: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct BlockIo {
    pub io_service_bytes_recursive: Vec<BlockIoEntry>,
    pub io_serviced_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_queue_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct BlockIoEntry {
    pub major: u64,
    pub minor: u64,
    /// `Read`, `Write` and so on; empty where the file tells none apart.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    pub value: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Hugetlb {
    pub usage: u64,
    pub max: u64,
    pub failcnt: u64,
}

/// Pressure stall information; Documentation/accounting/psi.rst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Pressure {
    pub some: PressureLine,
    pub full: PressureLine,
}

/// Per cent of the last 10, 60 and 300 seconds; microseconds in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct PressureLine {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

impl Cgroup {
    /// What the container uses now. A controller that it has not leaves zeros.
    ///
    /// # Errors
    /// A file that is there and can't be read.
    pub fn stats(&self) -> Result<Stats> {
        let v2 = self.v2();
        let mut stats = Stats::default();
        match (self.v1("cpuacct"), self.v1("cpu"), v2) {
            (None, None, Some(dir)) => stats.cpu = stats_v2::cpu(dir)?,
            (usage, limits, _) => {
                stats.cpu.usage = usage.map(stats_v1::cpu_usage).transpose()?.unwrap_or_default();
                stats.cpu.throttling = limits.map(stats_v1::throttling).transpose()?.unwrap_or_default();
            }
        }
        match (self.v1("memory"), v2) {
            (Some(dir), _) => stats.memory = stats_v1::memory(dir)?,
            (None, Some(dir)) => stats.memory = stats_v2::memory(dir)?,
            (None, None) => {}
        }
        match (self.v1("blkio"), v2) {
            (Some(dir), _) => stats.blkio = stats_v1::block_io(dir)?,
            (None, Some(dir)) => stats.blkio = stats_v2::block_io(dir)?,
            (None, None) => {}
        }
        match (self.v1("hugetlb"), v2) {
            (Some(dir), _) => stats.hugetlb = stats_v1::hugetlb(dir)?,
            (None, Some(dir)) => stats.hugetlb = stats_v2::hugetlb(dir)?,
            (None, None) => {}
        }
        // These two have the same files in both versions.
        if let Some(dir) = self.v1("pids").or(v2) {
            stats.pids = Pids {
                current: figure(dir, "pids.current")?,
                limit: number(dir, "pids.max")?.filter(|limit| *limit != u64::MAX).unwrap_or(0),
            };
        }
        if let Some(dir) = self.v1("cpuset").or(v2) {
            stats.cpuset = stats_v1::cpuset(dir)?;
        }
        Ok(stats)
    }
}

/// A file's text; None if there is no such file, or none of its kind here.
pub(super) fn text(dir: &Dir, file: &str) -> Result<Option<String>> {
    match dir.try_read(file) {
        Ok(text) => Ok(Some(text)),
        Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(Error::call(format!("read `{}`", dir.file(file)), errno)),
    }
}

/// A file with one number, or `max`.
pub(super) fn number(dir: &Dir, file: &str) -> Result<Option<u64>> {
    Ok(text(dir, file)?.and_then(|text| limit(text.trim())))
}

/// The same, 0 if there is no such file.
pub(super) fn figure(dir: &Dir, file: &str) -> Result<u64> {
    Ok(number(dir, file)?.unwrap_or(0))
}

/// A number, or `max`.
pub(super) fn limit(text: &str) -> Option<u64> {
    if text == "max" { Some(u64::MAX) } else { text.parse().ok() }
}

/// A file with a name and a number a line.
pub(super) fn pairs(dir: &Dir, file: &str) -> Result<BTreeMap<String, u64>> {
    let text = text(dir, file)?.unwrap_or_default();
    let pair = |line: &str| line.split_once(' ').and_then(|(name, n)| Some((name.to_owned(), n.trim().parse().ok()?)));
    Ok(text.lines().filter_map(pair).collect())
}

/// A device as `8:16`.
pub(super) fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_parts_are_read() {
        assert_eq!(limit("max"), Some(u64::MAX));
        assert_eq!(device("8:16"), Some((8, 16)));
        assert_eq!(device("Total"), None);
    }

    #[test]
    fn the_names_are_those_that_engines_parse() {
        let stats = serde_json::to_value(Stats::default()).unwrap();
        for name in ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"] {
            assert!(!stats[name].is_null(), "{name}");
        }
        assert!(stats["memory"]["kernelTCP"].is_object() && stats["cpu"]["throttling"]["throttledTime"] == 0);
        assert!(stats["blkio"]["ioServiceBytesRecursive"].is_array());
    }
}
