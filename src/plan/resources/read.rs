//! Each group of `linux.resources`, read and checked.

use std::ops::RangeInclusive;

use oci_spec::runtime as oci;

use super::{BlockIo, Cpu, Limit, Memory, ThrottleDevice, WeightDevice, invalid};
use crate::error::{Error, Result, member};
use crate::plan::devices::{MAJOR, MINOR};
use crate::plan::findings::Findings;

pub(super) fn memory(spec: &oci::LinuxMemory, findings: &mut Findings) -> Memory {
    let mut limit = |name: &str, value: Option<i64>| {
        findings.or_default(Limit::from_signed_unset(&format!("linux.resources.memory.{name}"), value))
    };
    let memory = Memory {
        limit: limit("limit", spec.limit()),
        reservation: limit("reservation", spec.reservation()),
        swap: match (spec.limit(), spec.swap()) {
            // Beside a limit of 0, which is none, it is not set either: who writes Go's types writes both.
            (Some(0), Some(0)) => None,
            (_, Some(0)) => Some(Limit::At(0)),
            (_, swap) => limit("swap", swap),
        },
        kernel_tcp: limit("kernelTCP", spec.kernel_tcp()),
        // Older engines write -1, unsigned, for "not set".
        swappiness: spec.swappiness().filter(|value| *value != u64::MAX),
        disable_oom_killer: spec.disable_oom_killer(),
        check_before_update: spec.check_before_update().unwrap_or_default(),
    };
    if let Some(value) = memory.swappiness.filter(|value| *value > 100) {
        findings.add(invalid("linux.resources.memory.swappiness", format!("{value} is not between 0 and 100")));
    }
    match (memory.limit, memory.swap) {
        (_, Some(Limit::At(0))) => {}
        (Some(Limit::At(limit)), Some(Limit::At(swap))) if swap < limit => {
            let message = format!("{swap} counts memory and swap, and is below memory.limit, {limit}");
            findings.add(invalid("linux.resources.memory.swap", message));
        }
        (Some(Limit::Max), Some(Limit::At(_))) => {
            let message = "a limit of memory and swap needs a limit of memory";
            findings.add(invalid("linux.resources.memory.swap", message));
        }
        _ => {}
    }
    memory
}

pub(super) fn cpu(spec: &oci::LinuxCpu, findings: &mut Findings) -> Cpu {
    let cpu = Cpu {
        shares: spec.shares().filter(|value| *value != 0),
        // Every negative quota lifts the limit, as in the kernel.
        quota: spec.quota().filter(|value| *value != 0).map(|v| u64::try_from(v).map_or(Limit::Max, Limit::At)),
        period: spec.period().filter(|value| *value != 0),
        burst: spec.burst(),
        idle: match spec.idle() {
            None => None,
            Some(0) => Some(false),
            Some(1) => Some(true),
            Some(other) => {
                findings.add(invalid("linux.resources.cpu.idle", format!("{other} is neither 0 nor 1")));
                None
            }
        },
        realtime_runtime: spec.realtime_runtime().filter(|value| *value != 0),
        realtime_period: spec.realtime_period().filter(|value| *value != 0),
        cpus: findings.or_default(id_list("linux.resources.cpu.cpus", spec.cpus().as_deref())),
        mems: findings.or_default(id_list("linux.resources.cpu.mems", spec.mems().as_deref())),
    };
    for error in times(&cpu) {
        findings.add(error);
    }
    cpu
}

/// The kernel's own bounds of a period and of a quota, in microseconds: a millisecond, a second, and what its fixed-point
/// numbers hold. kernel/sched, the same since Linux 5.8.
const PERIOD: RangeInclusive<u64> = 1000..=1_000_000;
const QUOTA: RangeInclusive<u64> = 1000..=(1 << 44) - 1;

/// What the kernel refuses of CPU times, whatever is in force.
fn times(cpu: &Cpu) -> Vec<Error> {
    let bad = |name: &str, message: String| invalid(&format!("linux.resources.cpu.{name}"), message);
    let outside = |name: &str, value: u64, bounds: RangeInclusive<u64>| {
        let message = format!("{value} microseconds are not between {} and {}", bounds.start(), bounds.end());
        (!bounds.contains(&value)).then(|| bad(name, message))
    };
    let quota = match cpu.quota {
        Some(Limit::At(quota)) => Some(quota),
        _ => None,
    };
    let burst = cpu.burst.zip(quota).filter(|(burst, quota)| burst > quota);
    let realtime = cpu.realtime_runtime.zip(cpu.realtime_period);
    let realtime = realtime.filter(|(runtime, period)| u64::try_from(*runtime).is_ok_and(|runtime| runtime > *period));
    let errors = [
        quota.and_then(|quota| outside("quota", quota, QUOTA)),
        cpu.period.and_then(|period| outside("period", period, PERIOD)),
        burst.map(|(burst, quota)| bad("burst", format!("{burst} is over the quota, {quota}"))),
        realtime.map(|(runtime, period)| bad("realtimeRuntime", format!("{runtime} is over the period, {period}"))),
    ];
    errors.into_iter().flatten().collect()
}

/// As many process IDs as there can be; pid_max of proc_sys_kernel(5).
const PIDS: u64 = 1 << 22;

/// The kernel refuses a limit that nothing could reach.
pub(super) fn pids(limit: i64) -> Result<Limit> {
    let path = "linux.resources.pids.limit";
    match Limit::from_signed(path, limit)? {
        Limit::At(limit) if limit > PIDS => {
            let message = format!("{limit} is over {PIDS}, as many as Linux can have");
            Err(invalid(path, message).advise("-1 is no limit"))
        }
        limit => Ok(limit),
    }
}

/// rdma.max takes the numbers of a C `int`.
pub(super) fn rdma(path: &str, limit: Option<u32>) -> Result<()> {
    match limit.filter(|limit| i32::try_from(*limit).is_err()) {
        Some(limit) => Err(invalid(path, format!("{limit} is over {}", i32::MAX)).advise("left out, it is no limit")),
        None => Ok(()),
    }
}

/// A list of CPUs or memory nodes. The kernel judges the numbers; what else could reach it is refused here.
fn id_list(path: &str, list: Option<&str>) -> Result<Option<String>> {
    let list = list.unwrap_or_default().trim();
    if list.is_empty() {
        return Ok(None);
    }
    let plain = list.chars().all(|c| c.is_ascii_digit() || matches!(c, ',' | '-' | ':' | '/' | 'N'));
    match plain || list == "all" {
        true => Ok(Some(list.to_owned())),
        false => Err(invalid(path, format!("`{list}` is no list such as `0-3,5`"))),
    }
}

pub(super) fn block_io(spec: &oci::LinuxBlockIo, findings: &mut Findings) -> BlockIo {
    let weight = |name: &str, value: Option<u16>| match value.filter(|value| *value != 0) {
        Some(value) if !(10..=1000).contains(&value) => {
            let path = format!("linux.resources.blockIO.{name}");
            Err(invalid(&path, format!("{value} is not between 10 and 1000")))
        }
        value => Ok(value),
    };
    let mut weight_device = Vec::new();
    for (i, device) in spec.weight_device().iter().flatten().enumerate() {
        let name = format!("weightDevice[{i}]");
        let path = format!("linux.resources.blockIO.{name}");
        let numbers = findings.take(block_device(&path, device.major(), device.minor()));
        let leaf_weight = findings.or_default(weight(&format!("{name}.leafWeight"), device.leaf_weight()));
        let weight = findings.or_default(weight(&format!("{name}.weight"), device.weight()));
        weight_device.extend(numbers.map(|(major, minor)| WeightDevice { major, minor, weight, leaf_weight }));
    }
    let (own, leaf) = (weight("weight", spec.weight()), weight("leafWeight", spec.leaf_weight()));
    let (own, leaf) = (findings.or_default(own), findings.or_default(leaf));
    let mut throttle = |name: &str, list: &Option<Vec<oci::LinuxThrottleDevice>>| {
        let entries = list.iter().flatten().enumerate().filter_map(|(i, device)| {
            let path = format!("linux.resources.blockIO.{name}[{i}]");
            let (major, minor) = findings.take(block_device(&path, device.major(), device.minor()))?;
            Some(ThrottleDevice { major, minor, rate: device.rate() })
        });
        entries.collect()
    };
    BlockIo {
        weight: own,
        leaf_weight: leaf,
        weight_device,
        read_bps: throttle("throttleReadBpsDevice", spec.throttle_read_bps_device()),
        write_bps: throttle("throttleWriteBpsDevice", spec.throttle_write_bps_device()),
        read_iops: throttle("throttleReadIOPSDevice", spec.throttle_read_iops_device()),
        write_iops: throttle("throttleWriteIOPSDevice", spec.throttle_write_iops_device()),
    }
}

fn block_device(path: &str, major: i64, minor: i64) -> Result<(u32, u32)> {
    match (u32::try_from(major), u32::try_from(minor)) {
        (Ok(major), Ok(minor)) if major <= MAJOR && minor <= MINOR => Ok((major, minor)),
        _ => Err(invalid(path, format!("{major}:{minor} is no device number"))),
    }
}

/// A page size becomes part of a file's name, so nothing but digits, a unit and `B` may stand in it.
pub(super) fn page_size(path: &str, size: &str) -> Result<String> {
    let number = ["KB", "MB", "GB"].into_iter().find_map(|unit| size.strip_suffix(unit));
    match number {
        Some(n) if !n.is_empty() && !n.starts_with('0') && n.bytes().all(|b| b.is_ascii_digit()) => Ok(size.to_owned()),
        _ => Err(invalid(path, format!("`{size}` is no page size such as `2MB`"))),
    }
}

/// A name that is written between blanks, one line a name.
pub(super) fn word(path: &str, name: &str) -> Result<()> {
    match name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        true => Err(invalid(path, format!("`{}` is no name", name.escape_default()))),
        false => Ok(()),
    }
}

/// Files of cgroup v2 that do something to processes and limit nothing: `cgroup.freeze` would have `create` wait for ever.
const NO_LIMITS: [&str; 5] = ["cgroup.freeze", "cgroup.kill", "cgroup.procs", "cgroup.threads", "cgroup.type"];

/// A key of `unified` is a file of the container's own cgroup, and of no other.
pub(super) fn unified_key(file: &str) -> Result<()> {
    let bad = file.is_empty() || matches!(file, "." | "..") || file.contains(['/', '\0', '\n']);
    let why = match (bad, NO_LIMITS.contains(&file)) {
        (false, false) => return Ok(()),
        (true, _) => "is not the name of a file in a cgroup",
        (_, true) => "is about the processes of a cgroup, and no limit",
    };
    let message = format!("`{}` {why}", file.escape_default());
    Err(invalid("linux.resources.unified", message).about(member("linux.resources.unified", file)))
}
