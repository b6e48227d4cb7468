//! Figures from the files of cgroup v1 (Documentation/admin-guide/cgroup-v1/).

use std::collections::BTreeMap;

use super::cpuset::numbers;
use super::dir::Dir;
use super::stats::{
    BlockIo, BlockIoEntry, CpuSet, CpuUsage, Hugetlb, Memory, MemoryEntry, Throttling, device, figure, pairs, text,
};
use crate::error::{Context, Result};

/// cpuacct.rst; nanoseconds.
pub(super) fn cpu_usage(dir: &Dir) -> Result<CpuUsage> {
    let per_cpu = text(dir, "cpuacct.usage_percpu")?.unwrap_or_default();
    let mut usage = CpuUsage {
        total: figure(dir, "cpuacct.usage")?,
        percpu: per_cpu.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect(),
        user: figure(dir, "cpuacct.usage_user")?,
        kernel: figure(dir, "cpuacct.usage_sys")?,
        ..CpuUsage::default()
    };
    // A title, then `CPU USER KERNEL` a line.
    for line in text(dir, "cpuacct.usage_all")?.unwrap_or_default().lines().skip(1) {
        let numbers: Vec<u64> = line.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
        if let [_, user, kernel] = numbers[..] {
            usage.percpu_user.push(user);
            usage.percpu_kernel.push(kernel);
        }
    }
    Ok(usage)
}

/// sched-bwc.rst.
pub(super) fn throttling(dir: &Dir) -> Result<Throttling> {
    let stat = pairs(dir, "cpu.stat")?;
    let of = |name: &str| stat.get(name).copied().unwrap_or(0);
    Ok(Throttling {
        periods: of("nr_periods"),
        throttled_periods: of("nr_throttled"),
        throttled_time: of("throttled_time"),
    })
}

/// cpusets.rst. In v2 only the two lists are there; the ones in force, where none are set.
pub(super) fn cpuset(dir: &Dir) -> Result<CpuSet> {
    let of = |file: &str| figure(dir, &format!("cpuset.{file}"));
    let listed = |file: &str| -> Result<Vec<u32>> {
        let own = text(dir, &format!("cpuset.{file}"))?.filter(|text| !text.trim().is_empty());
        let text = own.map_or_else(|| text(dir, &format!("cpuset.{file}.effective")), |own| Ok(Some(own)))?;
        Ok(numbers(&text.unwrap_or_default()).into_iter().collect())
    };
    let level = text(dir, "cpuset.sched_relax_domain_level")?.and_then(|text| text.trim().parse().ok());
    Ok(CpuSet {
        cpus: listed("cpus")?,
        cpu_exclusive: of("cpu_exclusive")?,
        mems: listed("mems")?,
        mem_hardwall: of("mem_hardwall")?,
        mem_exclusive: of("mem_exclusive")?,
        memory_migrate: of("memory_migrate")?,
        memory_spread_page: of("memory_spread_page")?,
        memory_spread_slab: of("memory_spread_slab")?,
        memory_pressure: of("memory_pressure")?,
        sched_load_balance: of("sched_load_balance")?,
        sched_relax_domain_level: level.unwrap_or(0),
    })
}

/// memory.rst.
pub(super) fn memory(dir: &Dir) -> Result<Memory> {
    let entry = |part: &str| -> Result<MemoryEntry> {
        let of = |name: &str| figure(dir, &format!("memory.{part}{name}"));
        let (limit, usage) = (of("limit_in_bytes")?, of("usage_in_bytes")?);
        Ok(MemoryEntry { limit, usage, max: of("max_usage_in_bytes")?, failcnt: of("failcnt")? })
    };
    let raw = pairs(dir, "memory.stat")?;
    Ok(Memory {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: entry("")?,
        swap: entry("memsw.")?,
        kernel: entry("kmem.")?,
        kernel_tcp: entry("kmem.tcp.")?,
        raw,
        psi: None,
    })
}

/// blkio-controller.rst. What the schedulers count is there only where one of them does.
pub(super) fn block_io(dir: &Dir) -> Result<BlockIo> {
    let first = |files: &[&str]| -> Result<Vec<BlockIoEntry>> {
        for file in files {
            let entries = entries(&text(dir, file)?.unwrap_or_default());
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        Ok(vec![])
    };
    Ok(BlockIo {
        io_service_bytes_recursive: first(&[
            "blkio.bfq.io_service_bytes_recursive",
            "blkio.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes",
        ])?,
        io_serviced_recursive: first(&[
            "blkio.bfq.io_serviced_recursive",
            "blkio.io_serviced_recursive",
            "blkio.throttle.io_serviced_recursive",
            "blkio.throttle.io_serviced",
        ])?,
        io_queue_recursive: first(&["blkio.bfq.io_queued_recursive", "blkio.io_queued_recursive"])?,
        io_service_time_recursive: first(&["blkio.bfq.io_service_time_recursive", "blkio.io_service_time_recursive"])?,
        io_wait_time_recursive: first(&["blkio.bfq.io_wait_time_recursive", "blkio.io_wait_time_recursive"])?,
        io_merged_recursive: first(&["blkio.bfq.io_merged_recursive", "blkio.io_merged_recursive"])?,
        io_time_recursive: first(&["blkio.bfq.time_recursive", "blkio.time_recursive"])?,
        sectors_recursive: first(&["blkio.bfq.sectors_recursive", "blkio.sectors_recursive"])?,
        psi: None,
    })
}

/// `8:0 Read 4096` a line, or `8:0 4096`; a sum at the end.
fn entries(text: &str) -> Vec<BlockIoEntry> {
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (major, minor) = device(words.first()?)?;
        let (op, value) = match words[1..] {
            [value] => ("", value),
            [op, value] => (op, value),
            _ => return None,
        };
        Some(BlockIoEntry { major, minor, op: op.to_owned(), value: value.parse().ok()? })
    };
    text.lines().filter_map(entry).collect()
}

/// hugetlb.rst.
pub(super) fn hugetlb(dir: &Dir) -> Result<BTreeMap<String, Hugetlb>> {
    let sizes = sizes(dir, ".usage_in_bytes")?;
    let figures = sizes.into_iter().map(|size| -> Result<(String, Hugetlb)> {
        let of = |name: &str| figure(dir, &format!("hugetlb.{size}.{name}"));
        let (usage, max, failcnt) = (of("usage_in_bytes")?, of("max_usage_in_bytes")?, of("failcnt")?);
        Ok((size, Hugetlb { usage, max, failcnt }))
    });
    figures.collect()
}

/// The page sizes that there are files `hugetlb.SIZE<end>` for.
pub(super) fn sizes(dir: &Dir, end: &str) -> Result<Vec<String>> {
    let files = dir.files().context(|| format!("read directory `{}`", dir.path()))?;
    let size = |file: &String| Some(file.strip_prefix("hugetlb.")?.strip_suffix(end)?.to_owned());
    Ok(files.iter().filter_map(size).filter(|size| !size.contains('.')).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_io_lines_with_and_without_a_direction() {
        let text = "8:0 Read 4096\n8:0 Write 1\n9:1 7\nTotal 4104\n";
        let entry = |major, minor, op: &str, value| BlockIoEntry { major, minor, op: op.into(), value };
        assert_eq!(entries(text), [entry(8, 0, "Read", 4096), entry(8, 0, "Write", 1), entry(9, 1, "", 7)]);
    }
}
