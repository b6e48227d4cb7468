//! Figures from the files of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst).

use std::collections::BTreeMap;

use super::dir::Dir;
use super::stats::{
    BlockIo, BlockIoEntry, Cpu, CpuUsage, Hugetlb, Memory, MemoryEntry, Pressure, PressureLine, Throttling, device,
    figure, pairs, text,
};
use super::stats_v1::sizes;
use crate::error::Result;

/// The kernel counts microseconds; runc's figures are nanoseconds.
const NS_A_US: u64 = 1000;

pub(super) fn cpu(dir: &Dir) -> Result<Cpu> {
    let stat = pairs(dir, "cpu.stat")?;
    let of = |name: &str| stat.get(name).copied().unwrap_or(0);
    let ns = |name: &str| of(name).saturating_mul(NS_A_US);
    Ok(Cpu {
        usage: CpuUsage {
            total: ns("usage_usec"),
            user: ns("user_usec"),
            kernel: ns("system_usec"),
            ..CpuUsage::default()
        },
        throttling: Throttling {
            periods: of("nr_periods"),
            throttled_periods: of("nr_throttled"),
            throttled_time: ns("throttled_usec"),
        },
        psi: pressure(dir, "cpu.pressure")?,
    })
}

pub(super) fn memory(dir: &Dir) -> Result<Memory> {
    let raw = pairs(dir, "memory.stat")?;
    let entry = |part: &str| -> Result<MemoryEntry> {
        let of = |name: &str| figure(dir, &format!("memory.{part}{name}"));
        let failcnt = pairs(dir, &format!("memory.{part}events"))?.get("max").copied().unwrap_or(0);
        Ok(MemoryEntry { limit: of("max")?, usage: of("current")?, max: of("peak")?, failcnt })
    };
    let (usage, mut swap) = (entry("")?, entry("swap.")?);
    // v1 counts both together, and so do all who read this. The peaks were at different times: their sum is none.
    swap.usage = swap.usage.saturating_add(usage.usage);
    swap.limit = swap.limit.saturating_add(usage.limit);
    swap.max = 0;
    let of = |name: &str| raw.get(name).copied().unwrap_or(0);
    Ok(Memory {
        cache: of("file"),
        usage,
        swap,
        kernel: MemoryEntry { usage: of("kernel"), ..MemoryEntry::default() },
        kernel_tcp: MemoryEntry::default(),
        raw,
        psi: pressure(dir, "memory.pressure")?,
    })
}

pub(super) fn block_io(dir: &Dir) -> Result<BlockIo> {
    let mut block_io = BlockIo { psi: pressure(dir, "io.pressure")?, ..BlockIo::default() };
    for line in text(dir, "io.stat")?.unwrap_or_default().lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match name {
                "rbytes" => (&mut block_io.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut block_io.io_service_bytes_recursive, "Write"),
                "dbytes" => (&mut block_io.io_service_bytes_recursive, "Discard"),
                "rios" => (&mut block_io.io_serviced_recursive, "Read"),
                "wios" => (&mut block_io.io_serviced_recursive, "Write"),
                "dios" => (&mut block_io.io_serviced_recursive, "Discard"),
                _ => continue,
            };
            let Ok(value) = value.parse() else { continue };
            list.push(BlockIoEntry { major, minor, op: op.to_owned(), value });
        }
    }
    Ok(block_io)
}

pub(super) fn hugetlb(dir: &Dir) -> Result<BTreeMap<String, Hugetlb>> {
    let figures = sizes(dir, ".current")?.into_iter().map(|size| -> Result<(String, Hugetlb)> {
        let usage = figure(dir, &format!("hugetlb.{size}.current"))?;
        let failcnt = pairs(dir, &format!("hugetlb.{size}.events"))?.get("max").copied().unwrap_or(0);
        Ok((size, Hugetlb { usage, max: 0, failcnt }))
    });
    figures.collect()
}

/// None where the kernel keeps none.
fn pressure(dir: &Dir, file: &str) -> Result<Option<Pressure>> {
    Ok(text(dir, file)?.map(|text| {
        let mut pressure = Pressure::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let to = match words.next() {
                Some("some") => &mut pressure.some,
                Some("full") => &mut pressure.full,
                _ => continue,
            };
            *to = pressure_line(words);
        }
        pressure
    }))
}

fn pressure_line<'a>(words: impl Iterator<Item = &'a str>) -> PressureLine {
    let mut line = PressureLine::default();
    for (name, value) in words.filter_map(|word| word.split_once('=')) {
        let share = || value.parse().unwrap_or(0.0);
        match name {
            "avg10" => line.avg10 = share(),
            "avg60" => line.avg60 = share(),
            "avg300" => line.avg300 = share(),
            "total" => line.total = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_v2_directory_reads_as_runc_shows_it() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path().to_str().unwrap()).unwrap();
        for (file, text) in [
            ("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 7\nthrottled_usec 4\n"),
            ("cpu.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=9\n"),
            ("memory.current", "100\n"),
            ("memory.max", "200\n"),
            ("memory.swap.current", "10\n"),
            ("memory.swap.max", "max\n"),
            ("memory.events", "low 0\nmax 6\noom 0\n"),
            ("memory.stat", "anon 40\nfile 60\nkernel 5\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n8:16\n"),
            ("hugetlb.2MB.current", "4096\n"),
            ("hugetlb.2MB.rsvd.current", "0\n"),
            ("hugetlb.2MB.events", "max 1\n"),
        ] {
            std::fs::write(temp.path().join(file), text).unwrap();
        }
        let cpu = cpu(&dir).unwrap();
        assert_eq!((cpu.usage.total, cpu.usage.user, cpu.throttling.throttled_time), (5000, 3000, 4000));
        assert_eq!(cpu.psi.unwrap().some, PressureLine { avg10: 1.5, total: 9, ..PressureLine::default() });
        let memory = memory(&dir).unwrap();
        assert_eq!(memory.usage, MemoryEntry { limit: 200, usage: 100, max: 0, failcnt: 6 });
        assert_eq!((memory.swap.usage, memory.swap.limit, memory.cache, memory.kernel.usage), (110, u64::MAX, 60, 5));
        let io = block_io(&dir).unwrap();
        assert_eq!(io.io_service_bytes_recursive.len(), 3);
        assert_eq!(io.io_serviced_recursive[1], BlockIoEntry { major: 8, minor: 0, op: "Write".into(), value: 4 });
        assert_eq!(hugetlb(&dir).unwrap(), [("2MB".to_owned(), Hugetlb { usage: 4096, max: 0, failcnt: 1 })].into());
    }
}
