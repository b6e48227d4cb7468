//! Limits in the files of cgroup v1 (Documentation/admin-guide/cgroup-v1/), and those that v2 kept as they were.

use super::limits::{Current, Write};
use crate::error::Result;
use crate::plan::resources::{Limit, Resources, ThrottleDevice};

/// Version 1 writes "no limit" as -1.
fn bytes(limit: Limit) -> String {
    match limit {
        Limit::Max => "-1".to_owned(),
        Limit::At(bytes) => bytes.to_string(),
    }
}

/// memory.rst. The kernel keeps memory.limit <= memory.memsw.limit at every moment, which orders the two writes.
pub(super) fn memory(resources: &Resources, current: &Current<'_>) -> Result<Vec<Write>> {
    let memory = &resources.memory;
    let mut writes = Vec::new();
    let limit = memory.limit.map(|limit| Write::new("memory limit", "memory.limit_in_bytes", bytes(limit)));
    // Memory and swap together are never 0: that is for v2, which limits swap alone. A limit that is lifted takes the one of
    // both along, which could not stay below it.
    let swap = memory.swap.filter(|swap| *swap != Limit::At(0));
    let swap = swap.or(memory.limit.filter(|limit| *limit == Limit::Max));
    let swap_write = swap.map(|swap| {
        let write = Write::new("memory and swap limit", "memory.memsw.limit_in_bytes", bytes(swap));
        // A kernel that doesn't account swap doesn't limit it.
        write.may_lack(swap == Limit::Max)
    });
    let swap_first = match (limit.is_some(), swap) {
        (false, _) | (_, None) => false,
        // Only needed where something may be in force; a new cgroup's limits are at their greatest.
        (true, Some(swap)) => match current.read("memory.limit_in_bytes")?.map(|text| text.parse::<u64>()) {
            None => false,
            Some(now) => match (swap, now) {
                (Limit::Max, _) => true,
                (Limit::At(swap), Ok(now)) => swap >= now,
                (Limit::At(_), Err(_)) => false,
            },
        },
    };
    match swap_first {
        true => writes.extend([swap_write, limit].into_iter().flatten()),
        false => writes.extend([limit, swap_write].into_iter().flatten()),
    }
    if let Some(limit) = memory.reservation {
        writes.push(Write::new("memory reservation", "memory.soft_limit_in_bytes", bytes(limit)));
    }
    if let Some(limit) = memory.kernel_tcp {
        writes.push(Write::new("TCP memory limit", "memory.kmem.tcp.limit_in_bytes", bytes(limit)));
    }
    if let Some(value) = memory.swappiness {
        writes.push(Write::new("memory swappiness", "memory.swappiness", value));
    }
    if let Some(disable) = memory.disable_oom_killer {
        writes.push(Write::new("OOM killer", "memory.oom_control", u8::from(disable)).may_lack(!disable));
    }
    Ok(writes)
}

/// cpusets.rst; the same in v2.
pub(super) fn cpuset(resources: &Resources, _: &Current<'_>) -> Result<Vec<Write>> {
    let cpus = resources.cpu.cpus.iter().map(|list| Write::new("CPU list", "cpuset.cpus", list));
    let mems = resources.cpu.mems.iter().map(|list| Write::new("memory node list", "cpuset.mems", list));
    Ok(cpus.chain(mems).collect())
}

/// sched-bwc.rst. The kernel compares each of quota, period and burst with the others and with the parents', so that
/// each may have to wait for another.
pub(super) fn cpu(resources: &Resources, _: &Current<'_>) -> Result<Vec<Write>> {
    let cpu = &resources.cpu;
    let mut writes = Vec::new();
    if let Some(idle) = cpu.idle {
        writes.push(Write::new("CPU idle class", "cpu.idle", u8::from(idle)).may_lack(!idle));
    }
    // An idle group has a fixed weight, and refuses another.
    if let Some(shares) = cpu.shares.filter(|_| cpu.idle != Some(true)) {
        writes.push(Write::new("CPU shares", "cpu.shares", shares));
    }
    if let Some(burst) = cpu.burst {
        writes.push(Write::new("CPU burst", "cpu.cfs_burst_us", burst).may_lack(burst == 0).later());
    }
    if let Some(period) = cpu.period {
        writes.push(Write::new("CPU period", "cpu.cfs_period_us", period).later());
    }
    if let Some(quota) = cpu.quota {
        writes.push(Write::new("CPU quota", "cpu.cfs_quota_us", bytes(quota)).later());
    }
    if let Some(period) = cpu.realtime_period {
        writes.push(Write::new("CPU realtime period", "cpu.rt_period_us", period).later());
    }
    if let Some(runtime) = cpu.realtime_runtime {
        writes.push(Write::new("CPU realtime runtime", "cpu.rt_runtime_us", runtime));
    }
    Ok(writes)
}

/// pids.rst; the same in v2.
pub(super) fn pids(resources: &Resources, _: &Current<'_>) -> Result<Vec<Write>> {
    let value = |limit| match limit {
        Limit::Max => "max".to_owned(),
        Limit::At(limit) => limit.to_string(),
    };
    Ok(resources.pids.iter().map(|limit| Write::new("pids limit", "pids.max", value(*limit))).collect())
}

/// blkio-controller.rst. Linux 5.0 took out CFQ, and `blkio.weight` with it; BFQ has its own file.
pub(super) fn block_io(resources: &Resources, _: &Current<'_>) -> Result<Vec<Write>> {
    let io = &resources.block_io;
    let mut writes = Vec::new();
    if let Some(weight) = io.weight {
        writes.push(Write::new("block I/O weight", "blkio.bfq.weight", weight).or("blkio.weight", weight));
    }
    if let Some(weight) = io.leaf_weight {
        writes.push(Write::new("block I/O leaf weight", "blkio.leaf_weight", weight));
    }
    for device in &io.weight_device {
        let (major, minor) = (device.major, device.minor);
        if let Some(weight) = device.weight {
            let line = format!("{major}:{minor} {weight}");
            let write = Write::new("block I/O device weight", "blkio.bfq.weight_device", &line);
            writes.push(write.or("blkio.weight_device", line));
        }
        if let Some(weight) = device.leaf_weight {
            let line = format!("{major}:{minor} {weight}");
            writes.push(Write::new("block I/O device leaf weight", "blkio.leaf_weight_device", line));
        }
    }
    let throttles: [(&'static str, &str, &[ThrottleDevice]); 4] = [
        ("block read rate", "blkio.throttle.read_bps_device", &io.read_bps),
        ("block write rate", "blkio.throttle.write_bps_device", &io.write_bps),
        ("block read operation rate", "blkio.throttle.read_iops_device", &io.read_iops),
        ("block write operation rate", "blkio.throttle.write_iops_device", &io.write_iops),
    ];
    for (what, file, devices) in throttles {
        let line = |device: &ThrottleDevice| format!("{}:{} {}", device.major, device.minor, device.rate);
        writes.extend(devices.iter().map(|device| Write::new(what, file, line(device))));
    }
    Ok(writes)
}

/// hugetlb.rst. Reservations are counted apart since Linux 5.7; without limiting both, one gets around the other.
pub(super) fn hugetlb(resources: &Resources, _: &Current<'_>) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    for huge in &resources.hugepages {
        let (size, value) = (&huge.page_size, bytes(huge.limit));
        writes.push(Write::new("huge page limit", format!("hugetlb.{size}.limit_in_bytes"), &value));
        let reserved = format!("hugetlb.{size}.rsvd.limit_in_bytes");
        writes.push(Write::new("huge page reservation limit", reserved, value).may_lack(true));
    }
    Ok(writes)
}

/// rdma.rst; the same in v2.
pub(super) fn rdma(resources: &Resources, _: &Current<'_>) -> Result<Vec<Write>> {
    let lines = resources.rdma.iter().filter_map(|(device, limits)| {
        let handles = limits.handles.map(|n| format!(" hca_handle={n}")).unwrap_or_default();
        let objects = limits.objects.map(|n| format!(" hca_object={n}")).unwrap_or_default();
        let line = format!("{device}{handles}{objects}");
        (line != *device).then_some(line)
    });
    Ok(lines.map(|line| Write::new("RDMA limit", "rdma.max", line)).collect())
}

/// net_cls.rst.
pub(super) fn net_cls(resources: &Resources, _: &Current<'_>) -> Result<Vec<Write>> {
    Ok(resources.network.class_id.iter().map(|id| Write::new("network class", "net_cls.classid", id)).collect())
}

/// net_prio.rst.
pub(super) fn net_prio(resources: &Resources, _: &Current<'_>) -> Result<Vec<Write>> {
    let lines = resources.network.priorities.iter().map(|(name, priority)| format!("{name} {priority}"));
    Ok(lines.map(|line| Write::new("network priority", "net_prio.ifpriomap", line)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::dir::Dir;
    use super::*;
    use crate::plan::resources::{BlockIo, Cpu, Memory, Rdma, WeightDevice};

    fn shown(writes: Vec<Write>) -> Vec<String> {
        writes.iter().map(|w| format!("{}={}", w.files[0].0, w.files[0].1)).collect()
    }

    #[test]
    fn memory_and_swap_never_cross() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path().to_str().unwrap()).unwrap();
        std::fs::write(temp.path().join("memory.limit_in_bytes"), "200\n").unwrap();
        let order = |current: &Current<'_>, limit, swap| {
            let memory = Memory { limit: Some(limit), swap, ..Memory::default() };
            shown(super::memory(&Resources { memory, ..Resources::default() }, current).unwrap())
        };
        let (limit, swap) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
        let (fresh, live) = (Current { dir: None }, Current { dir: Some(&dir) });
        let at = |n| Limit::At(n);
        assert_eq!(order(&fresh, at(100), Some(at(150))), [format!("{limit}=100"), format!("{swap}=150")]);
        assert_eq!(order(&live, at(300), Some(at(400))), [format!("{swap}=400"), format!("{limit}=300")]);
        assert_eq!(order(&live, at(100), Some(at(150))), [format!("{limit}=100"), format!("{swap}=150")]);
        assert_eq!(order(&live, at(300), Some(Limit::Max)), [format!("{swap}=-1"), format!("{limit}=300")]);
        assert_eq!(order(&live, Limit::Max, None), [format!("{swap}=-1"), format!("{limit}=-1")]);
        assert_eq!(order(&live, at(100), None), [format!("{limit}=100")]);
        assert_eq!(order(&fresh, at(100), Some(at(0))), [format!("{limit}=100")]);
    }

    /// No kernel since 5.0 has the files of CFQ: this is all that can be seen of them.
    #[test]
    fn weights_of_leaves_and_of_devices_have_their_lines() {
        let device = |minor, weight, leaf_weight| WeightDevice { major: 8, minor, weight, leaf_weight };
        let weight_device =
            vec![device(0, Some(300), Some(20)), device(16, None, Some(1000)), device(32, Some(10), None)];
        let block_io = BlockIo { leaf_weight: Some(77), weight_device, ..BlockIo::default() };
        let resources = Resources { block_io, ..Resources::default() };
        let writes = super::block_io(&resources, &Current { dir: None }).unwrap();
        assert_eq!(writes[1].files[1], ("blkio.weight_device".to_owned(), "8:0 300".to_owned()));
        let expected = [
            "blkio.leaf_weight=77",
            "blkio.bfq.weight_device=8:0 300",
            "blkio.leaf_weight_device=8:0 20",
            "blkio.leaf_weight_device=8:16 1000",
            "blkio.bfq.weight_device=8:32 10",
        ];
        assert_eq!(shown(writes), expected);
    }

    /// A machine with RDMA devices is needed to see it in cgroupfs.
    #[test]
    fn an_rdma_device_has_a_line_of_what_is_limited() {
        let limits = |handles, objects| Rdma { handles, objects };
        let rdma = [("a", limits(Some(3), Some(10))), ("b", limits(None, Some(7))), ("c", limits(None, None))];
        let rdma = rdma.into_iter().map(|(name, limits)| (name.to_owned(), limits)).collect();
        let writes = super::rdma(&Resources { rdma, ..Resources::default() }, &Current { dir: None }).unwrap();
        assert_eq!(shown(writes), ["rdma.max=a hca_handle=3 hca_object=10", "rdma.max=b hca_object=7"]);
    }

    #[test]
    fn an_idle_group_keeps_its_weight() {
        let cpu = |idle| Cpu { idle: Some(idle), shares: Some(512), ..Cpu::default() };
        let writes = |idle| {
            let resources = Resources { cpu: cpu(idle), ..Resources::default() };
            shown(super::cpu(&resources, &Current { dir: None }).unwrap())
        };
        assert_eq!(writes(true), ["cpu.idle=1"]);
        assert_eq!(writes(false), ["cpu.idle=0", "cpu.shares=512"]);
    }
}
