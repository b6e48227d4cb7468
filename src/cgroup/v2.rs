//! Limits in the files of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst), converted from the specification's
//! terms, which are version 1's.

use super::limits::{Current, Write, unsupported};
use crate::error::{Error, Result};
use crate::plan::resources::{Limit, Resources, ThrottleDevice};

const VERSION: &str = "cgroup v2";

/// Version 2 writes "no limit" as `max`.
fn value(limit: Limit) -> String {
    match limit {
        Limit::Max => "max".to_owned(),
        Limit::At(value) => value.to_string(),
    }
}

fn parse(text: &str) -> Option<Limit> {
    match text {
        "max" => Some(Limit::Max),
        number => number.parse().ok().map(Limit::At),
    }
}

/// "Memory Interface Files".
pub(super) fn memory(resources: &Resources, current: &Current<'_>) -> Result<Vec<Write>> {
    let memory = &resources.memory;
    if memory.swappiness.is_some() {
        return Err(unsupported("memory.swappiness", VERSION));
    }
    if memory.disable_oom_killer == Some(true) {
        return Err(unsupported("memory.disableOOMKiller", VERSION));
    }
    if memory.kernel_tcp.is_some_and(|limit| limit != Limit::Max) {
        return Err(unsupported("memory.kernelTCP", VERSION));
    }
    if let (true, Some(Limit::At(limit))) = (memory.check_before_update, memory.limit) {
        // Otherwise the kernel reclaims, and kills if that is not enough.
        let used = current.read("memory.current")?.and_then(|used| used.parse::<u64>().ok());
        if let Some(used) = used.filter(|used| limit < *used) {
            let message = format!("linux.resources.memory.limit: {limit} is below the {used} bytes in use");
            return Err(Error::config(message).advise("memory.checkBeforeUpdate is set"));
        }
    }
    let mut writes = Vec::new();
    // A limit that is lifted takes the swap limit along, as in v1.
    let swap = memory.swap.or(memory.limit.filter(|limit| *limit == Limit::Max));
    if let Some(swap) = swap {
        let limit = match memory.limit {
            Some(limit) => Some(limit),
            None if swap == Limit::At(0) => None,
            None => current.read("memory.max")?.as_deref().and_then(parse),
        };
        let swap = swap_alone(swap, limit)?;
        // A kernel without swap gives none and limits none.
        let may_lack = matches!(swap, Limit::Max | Limit::At(0));
        writes.push(Write::new("swap limit", "memory.swap.max", value(swap)).may_lack(may_lack));
    }
    if let Some(limit) = memory.limit {
        writes.push(Write::new("memory limit", "memory.max", value(limit)));
    }
    if let Some(limit) = memory.reservation {
        writes.push(Write::new("memory reservation", "memory.low", value(limit)));
    }
    Ok(writes)
}

/// The specification limits memory and swap together, v2 swap alone.
fn swap_alone(both: Limit, memory: Option<Limit>) -> Result<Limit> {
    let invalid = |message: String| Err(Error::config(format!("linux.resources.memory.swap: {message}")));
    match (both, memory) {
        (Limit::Max, _) => Ok(Limit::Max),
        // Less than any limit of memory: no swap.
        (Limit::At(0), _) => Ok(Limit::At(0)),
        (Limit::At(both), Some(Limit::At(memory))) => match both.checked_sub(memory) {
            Some(swap) => Ok(Limit::At(swap)),
            None => invalid(format!("{both} counts memory and swap, and is below the memory limit, {memory}")),
        },
        (Limit::At(_), Some(Limit::Max) | None) => {
            invalid("a limit of memory and swap needs a limit of memory".to_owned())
        }
    }
}

/// "CPU Interface Files".
pub(super) fn cpu(resources: &Resources, current: &Current<'_>) -> Result<Vec<Write>> {
    let cpu = &resources.cpu;
    if cpu.realtime_runtime.is_some() {
        return Err(unsupported("cpu.realtimeRuntime", VERSION));
    }
    if cpu.realtime_period.is_some() {
        return Err(unsupported("cpu.realtimePeriod", VERSION));
    }
    let mut writes = Vec::new();
    if let Some(idle) = cpu.idle {
        writes.push(Write::new("CPU idle class", "cpu.idle", u8::from(idle)).may_lack(!idle));
    }
    // An idle group has a fixed weight, and refuses another.
    if let Some(shares) = cpu.shares.filter(|_| cpu.idle != Some(true)) {
        writes.push(Write::new("CPU weight", "cpu.weight", weight_of_shares(shares)));
    }
    if let Some(burst) = cpu.burst {
        writes.push(Write::new("CPU burst", "cpu.max.burst", burst).may_lack(burst == 0).later());
    }
    let max = match (cpu.quota, cpu.period) {
        (None, None) => None,
        // The kernel keeps the period that is not given.
        (Some(quota), None) => Some(value(quota)),
        (Some(quota), Some(period)) => Some(format!("{} {period}", value(quota))),
        (None, Some(period)) => {
            let now = current.read("cpu.max")?;
            let quota = now.as_deref().and_then(|text| text.split(' ').next()).unwrap_or("max");
            Some(format!("{quota} {period}"))
        }
    };
    writes.extend(max.map(|max| Write::new("CPU quota", "cpu.max", max).later()));
    Ok(writes)
}

/// The weight (1 to 10000, default 100) for v1's shares (2 to 262144, default 1024).
///
/// A curve through both ends and both defaults, which a straight line between the ends misses by far: it gave a
/// default container 39. The formula is the one the other runtimes agreed on, with the logarithm's square:
/// 10^((log2(shares)^2 + 125 * log2(shares)) / 612 - 7/34).
fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            // Less than rounding errors make of a whole number.
            (10f64.powf(exponent) - 1e-6).ceil() as u64
        }
    }
}

/// "IO Interface Files".
pub(super) fn block_io(resources: &Resources, _: &Current<'_>) -> Result<Vec<Write>> {
    let io = &resources.block_io;
    if io.leaf_weight.is_some() || io.weight_device.iter().any(|device| device.leaf_weight.is_some()) {
        return Err(unsupported("blockIO.leafWeight", VERSION));
    }
    let mut writes = Vec::new();
    // BFQ's file takes the specification's range; the cost model's is wider.
    if let Some(weight) = io.weight {
        let write = Write::new("block I/O weight", "io.bfq.weight", weight);
        writes.push(write.or("io.weight", format!("default {}", io_weight(weight))));
    }
    for device in &io.weight_device {
        if let Some(weight) = device.weight {
            let name = format!("{}:{}", device.major, device.minor);
            let write = Write::new("block I/O device weight", "io.bfq.weight", format!("{name} {weight}"));
            writes.push(write.or("io.weight", format!("{name} {}", io_weight(weight))));
        }
    }
    let throttles: [(&'static str, &str, &[ThrottleDevice]); 4] = [
        ("block read rate", "rbps", &io.read_bps),
        ("block write rate", "wbps", &io.write_bps),
        ("block read operation rate", "riops", &io.read_iops),
        ("block write operation rate", "wiops", &io.write_iops),
    ];
    for (what, key, devices) in throttles {
        for device in devices {
            let rate = if device.rate == 0 { Limit::Max } else { Limit::At(device.rate) };
            let line = format!("{}:{} {key}={}", device.major, device.minor, value(rate));
            writes.push(Write::new(what, "io.max", line));
        }
    }
    Ok(writes)
}

/// From 10..=1000 to 1..=10000, straight.
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9999 / 990
}

/// "HugeTLB Interface Files". Reservations are counted apart since Linux 5.7.
pub(super) fn hugetlb(resources: &Resources, _: &Current<'_>) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    for huge in &resources.hugepages {
        let (size, value) = (&huge.page_size, value(huge.limit));
        writes.push(Write::new("huge page limit", format!("hugetlb.{size}.max"), &value));
        let reserved = format!("hugetlb.{size}.rsvd.max");
        writes.push(Write::new("huge page reservation limit", reserved, value).may_lack(true));
    }
    Ok(writes)
}

/// Version 2 has no network controllers: packets are classed by their cgroup.
pub(super) fn network(resources: &Resources, _: &Current<'_>) -> Result<Vec<Write>> {
    match resources.network.class_id {
        Some(_) => Err(unsupported("network.classID", VERSION)),
        None => Err(unsupported("network.priorities", VERSION)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::dir::Dir;
    use super::*;
    use crate::plan::resources::{BlockIo, Cpu, Memory};

    fn shown(writes: Vec<Write>) -> Vec<String> {
        writes.iter().map(|w| format!("{}={}", w.files[0].0, w.files[0].1)).collect()
    }

    #[test]
    fn weights_meet_at_both_ends_and_both_defaults() {
        let pairs = [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000), (512, 59), (2048, 174)];
        for (shares, weight) in pairs {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        let all: Vec<u64> = (2..=262_144).map(weight_of_shares).collect();
        assert!(all.is_sorted() && all.iter().all(|w| (1..=10_000).contains(w)));
        assert_eq!((io_weight(10), io_weight(500), io_weight(1000)), (1, 4950, 10_000));
    }

    #[test]
    fn memory_converts_swap() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path().to_str().unwrap()).unwrap();
        std::fs::write(temp.path().join("memory.max"), "100\n").unwrap();
        std::fs::write(temp.path().join("memory.current"), "90\n").unwrap();
        let (fresh, live) = (Current { dir: None }, Current { dir: Some(&dir) });
        let run = |memory: Memory, current: &Current<'_>| {
            super::memory(&Resources { memory, ..Resources::default() }, current).map(shown)
        };
        let of = |limit, swap| Memory { limit, swap, ..Memory::default() };
        let at = |n| Some(Limit::At(n));
        assert_eq!(run(of(at(64), at(96)), &fresh).unwrap(), ["memory.swap.max=32", "memory.max=64"]);
        assert_eq!(run(of(at(64), Some(Limit::Max)), &fresh).unwrap(), ["memory.swap.max=max", "memory.max=64"]);
        assert_eq!(run(of(Some(Limit::Max), None), &fresh).unwrap(), ["memory.swap.max=max", "memory.max=max"]);
        assert_eq!(run(of(None, at(130)), &live).unwrap(), ["memory.swap.max=30"]);
        for limit in [None, at(64), Some(Limit::Max)] {
            assert_eq!(run(of(limit, at(0)), &fresh).unwrap()[0], "memory.swap.max=0", "{limit:?}");
            assert_eq!(run(of(limit, at(0)), &live).unwrap()[0], "memory.swap.max=0", "{limit:?}");
        }
        assert_eq!(run(of(at(64), at(64)), &fresh).unwrap(), ["memory.swap.max=0", "memory.max=64"]);
        assert!(run(of(None, at(130)), &fresh).is_err() && run(of(None, at(80)), &live).is_err());
        let checked = Memory { check_before_update: true, ..of(at(80), None) };
        let error = run(checked, &live).unwrap_err().to_string();
        assert!(error.starts_with("linux.resources.memory.limit: 80 is below the 90"), "{error}");
        run(checked, &fresh).unwrap();
        run(Memory { disable_oom_killer: Some(false), ..Memory::default() }, &fresh).unwrap();
        let error = run(Memory { swappiness: Some(1), ..Memory::default() }, &fresh).unwrap_err().to_string();
        assert_eq!(error, "linux.resources.memory.swappiness: cgroup v2 has no such limit");
    }

    #[test]
    fn cpu_max_keeps_what_is_not_given() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path().to_str().unwrap()).unwrap();
        std::fs::write(temp.path().join("cpu.max"), "5000 100000\n").unwrap();
        let run = |quota, period, current: &Current<'_>| {
            let cpu = Cpu { quota, period, ..Cpu::default() };
            shown(super::cpu(&Resources { cpu, ..Resources::default() }, current).unwrap())
        };
        let (fresh, live) = (Current { dir: None }, Current { dir: Some(&dir) });
        assert_eq!(run(Some(Limit::At(7)), Some(9), &fresh), ["cpu.max=7 9"]);
        assert_eq!(run(Some(Limit::Max), None, &live), ["cpu.max=max"]);
        assert_eq!(run(None, Some(9), &fresh), ["cpu.max=max 9"]);
        assert_eq!(run(None, Some(9), &live), ["cpu.max=5000 9"]);
    }

    #[test]
    fn a_rate_of_zero_is_none() {
        let device = |rate| vec![ThrottleDevice { major: 8, minor: 0, rate }];
        let block_io = BlockIo { read_bps: device(0), write_iops: device(5), weight: Some(10), ..BlockIo::default() };
        let writes = super::block_io(&Resources { block_io, ..Resources::default() }, &Current { dir: None }).unwrap();
        assert_eq!(writes[0].files[1], ("io.weight".to_owned(), "default 1".to_owned()));
        assert_eq!(shown(writes), ["io.bfq.weight=10", "io.max=8:0 rbps=max", "io.max=8:0 wiops=5"]);
    }
}
