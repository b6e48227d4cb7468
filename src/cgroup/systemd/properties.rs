//! Limits as properties of a unit (systemd.resource-control(5)), so that systemd and the container's own cgroup agree.
//!
//! The limits are taken as the cgroup files that would be written, `linux.resources` and `unified` alike: systemd has a
//! property for most of those. What it has none for is only in the container's own cgroup.

use super::wire::Value;
use crate::cgroup::devices;
use crate::cgroup::layout::Layout;
use crate::cgroup::limits::{Current, Write, v1_writes, v2_writes};
use crate::error::Result;
use crate::plan::resources::{DeviceKind, DeviceRule, Resources};

/// The kernel's own period of a quota, in microseconds.
const PERIOD: u64 = 100_000;
/// systemd knows a quota in whole percents of a CPU's second.
const PERCENT: u64 = 10_000;

/// A property: its name and value.
pub(super) type Property = (String, Value);

/// The properties for limits. `current` is what is in force.
///
/// # Errors
/// A limit that this version of cgroups doesn't have.
pub(super) fn of_limits(resources: &Resources, layout: Layout, current: &Current<'_>) -> Result<Vec<Property>> {
    let mut properties = match layout {
        Layout::V2 => {
            let mut writes: Vec<(String, String)> =
                v2_writes(resources, current)?.into_iter().flat_map(first).collect();
            let lines = |(file, text): (&String, &String)| {
                text.lines().map(|line| (file.clone(), line.trim().to_owned())).collect::<Vec<_>>()
            };
            writes.extend(resources.unified.iter().flat_map(lines));
            writes.iter().flat_map(|(file, value)| of_v2(file, value)).collect()
        }
        _ => of_v1(&v1_writes(resources)?.into_iter().flat_map(first).collect::<Vec<_>>()),
    };
    // The last one counts, as with files.
    let mut index = 0;
    while index < properties.len() {
        match properties[index + 1..].iter().any(|(name, _)| *name == properties[index].0)
            && !is_list(&properties[index])
        {
            true => drop(properties.remove(index)),
            false => index += 1,
        }
    }
    if let (Layout::V1 | Layout::Hybrid, Some(rules)) = (layout, &resources.devices) {
        properties.extend(of_devices(rules));
    }
    Ok(properties)
}

/// A property that is set again for each device.
fn is_list(property: &Property) -> bool {
    matches!(property.1, Value::Array(..)) && property.0 == "IODeviceWeight"
}

fn first(write: Write) -> Option<(String, String)> {
    write.files.into_iter().next()
}

fn number(name: &str, value: u64) -> Property {
    (name.to_owned(), Value::U64(value))
}

/// `max` and -1 are infinity.
fn amount(value: &str) -> Option<u64> {
    match value {
        "max" | "-1" => Some(u64::MAX),
        value => value.parse().ok(),
    }
}

/// The property for one line of a v2 file.
fn of_v2(file: &str, value: &str) -> Vec<Property> {
    let limit = |name: &str, least: u64| {
        // What systemd would refuse is left to the file.
        amount(value).filter(|v| *v >= least).map(|v| number(name, v)).into_iter().collect()
    };
    match file {
        "memory.max" => limit("MemoryMax", 1),
        "memory.high" => limit("MemoryHigh", 1),
        "memory.low" => limit("MemoryLow", 0),
        "memory.min" => limit("MemoryMin", 0),
        "memory.swap.max" => limit("MemorySwapMax", 0),
        "memory.zswap.max" => limit("MemoryZSwapMax", 0),
        "pids.max" => limit("TasksMax", 1),
        "cpu.weight" => limit("CPUWeight", 1),
        // An idle group's weight, in systemd's terms.
        "cpu.idle" if value == "1" => vec![number("CPUWeight", 0)],
        "cpu.idle" => vec![number("CPUWeight", u64::MAX)],
        "cpu.max" => {
            let mut words = value.split_whitespace();
            let quota = words.next().and_then(amount);
            let period = words.next().and_then(|period| period.parse().ok());
            quota.map_or(vec![], |quota| of_quota(quota, period))
        }
        "cpuset.cpus" => of_list("AllowedCPUs", value),
        "cpuset.mems" => of_list("AllowedMemoryNodes", value),
        "io.weight" => of_weight(value, |weight| weight),
        "io.bfq.weight" => of_weight(value, of_bfq),
        _ => vec![],
    }
}

/// The properties for v1 files.
fn of_v1(writes: &[(String, String)]) -> Vec<Property> {
    let find = |file: &str| writes.iter().find(|(name, _)| name == file).and_then(|(_, value)| amount(value));
    let mut properties = Vec::new();
    let simple = [
        ("memory.limit_in_bytes", "MemoryLimit"),
        ("cpu.shares", "CPUShares"),
        ("pids.max", "TasksMax"),
        ("blkio.bfq.weight", "BlockIOWeight"),
    ];
    for (file, name) in simple {
        properties.extend(find(file).filter(|value| *value > 0).map(|value| number(name, value)));
    }
    let (quota, period) = (find("cpu.cfs_quota_us"), find("cpu.cfs_period_us"));
    match (quota, period) {
        (Some(quota), period) => properties.extend(of_quota(quota, period)),
        (None, Some(period)) => properties.push(number("CPUQuotaPeriodUSec", period)),
        (None, None) => {}
    }
    properties
}

/// A quota a period as one a second, rounded up to what systemd knows: the container's own cgroup has the exact one.
fn of_quota(quota: u64, period: Option<u64>) -> Vec<Property> {
    let mut properties: Vec<Property> =
        period.filter(|period| *period > 0).map(|period| number("CPUQuotaPeriodUSec", period)).into_iter().collect();
    let per_second = match quota {
        u64::MAX => u64::MAX,
        quota => {
            let period = u128::from(period.filter(|period| *period > 0).unwrap_or(PERIOD));
            let exact = u128::from(quota) * 1_000_000 / period;
            let percents = exact.div_ceil(u128::from(PERCENT)).max(1);
            u64::try_from(percents * u128::from(PERCENT)).unwrap_or(u64::MAX)
        }
    };
    properties.push(number("CPUQuotaPerSecUSec", per_second));
    properties
}

/// A list of CPUs or memory nodes as a bit mask, lowest first.
fn of_list(name: &str, list: &str) -> Vec<Property> {
    mask(list).map(|mask| (name.to_owned(), Value::bytes(&mask))).into_iter().collect()
}

/// `0-2,5` as bits; `None` for what only the kernel understands, such as `0-7:2/4`.
fn mask(list: &str) -> Option<Vec<u8>> {
    /// More CPUs than any kernel can be built for.
    const MOST: usize = 1 << 16;
    let mut mask = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        if mask.len() <= last / 8 {
            mask.resize(last / 8 + 1, 0);
        }
        (first..=last).for_each(|bit| mask[bit / 8] |= 1 << (bit % 8));
    }
    (!mask.is_empty()).then_some(mask)
}

/// `100`, `default 100` or `8:0 100`.
fn of_weight(line: &str, convert: fn(u64) -> u64) -> Vec<Property> {
    let (device, weight) = line.trim().rsplit_once(' ').unwrap_or(("default", line.trim()));
    let Ok(weight) = weight.parse::<u64>() else { return vec![] };
    let weight = convert(weight);
    match device.trim() {
        "default" => vec![number("IOWeight", weight)],
        device => {
            let pair = Value::Struct(vec![Value::Str(format!("/dev/block/{device}")), Value::U64(weight)]);
            vec![("IODeviceWeight".to_owned(), Value::Array("(st)".into(), vec![pair]))]
        }
    }
}

/// BFQ's weight (1 to 1000) in systemd's terms (1 to 10000), so that systemd's own way back meets it: both have 100 in
/// the middle.
fn of_bfq(weight: u64) -> u64 {
    match weight {
        0..=100 => weight.max(1),
        weight => 100 + (weight.min(1000) - 100) * 11,
    }
}

/// The device rules for systemd's own filter in cgroup v1, which it writes afresh when it reloads: it must then not let
/// more through than ours. It knows only what is allowed; what it can't say is left to our rules, which deny.
fn of_devices(rules: &[DeviceRule]) -> Vec<Property> {
    let pair = |device: String, access: String| Value::Struct(vec![Value::Str(device), Value::Str(access)]);
    let policy = |name: &str| ("DevicePolicy".to_owned(), Value::str(name));
    let list = |list| ("DeviceAllow".to_owned(), Value::Array("(ss)".into(), list));
    // The empty list takes back what was set before.
    if devices::allow_all(rules) {
        return vec![policy("auto"), list(vec![])];
    }
    let rules = devices::complete(rules);
    let begin = rules.iter().rposition(DeviceRule::is_total).map_or(0, |at| at + 1);
    let mut allowed = Vec::new();
    for rule in rules[begin..].iter().filter(|rule| rule.allow) {
        let kinds = match rule.kind {
            DeviceKind::All => &["char", "block"][..],
            DeviceKind::Char => &["char"],
            DeviceKind::Block => &["block"],
        };
        for kind in kinds {
            let device = match (rule.major, rule.minor) {
                (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
                (Some(major), None) => format!("{kind}-{major}"),
                (None, None) => format!("{kind}-*"),
                (None, Some(_)) => continue,
            };
            allowed.push(pair(device, rule.access.to_string()));
        }
    }
    vec![policy("strict"), list(vec![]), list(allowed)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::plan::resources::{BlockIo, Cpu, DeviceAccess, Limit, Memory, WeightDevice};

    fn limits(resources: &Resources, layout: Layout) -> BTreeMap<String, Value> {
        let list = of_limits(resources, layout, &Current { dir: None }).unwrap();
        let map: BTreeMap<_, _> = list.iter().cloned().collect();
        assert_eq!(map.len(), list.len(), "{list:?}");
        map
    }

    fn resources() -> Resources {
        let at = |n| Some(Limit::At(n));
        Resources {
            memory: Memory { limit: at(64), reservation: at(32), swap: at(96), ..Memory::default() },
            cpu: Cpu {
                shares: Some(1024),
                quota: at(5000),
                period: Some(30_000),
                cpus: Some("0-2,9".into()),
                ..Cpu::default()
            },
            pids: Some(Limit::Max),
            ..Resources::default()
        }
    }

    #[test]
    fn limits_of_v2() {
        let found = limits(&resources(), Layout::V2);
        for (name, value) in [
            ("MemoryMax", 64),
            ("MemoryLow", 32),
            ("MemorySwapMax", 32),
            ("CPUWeight", 100),
            ("CPUQuotaPeriodUSec", 30_000),
            ("CPUQuotaPerSecUSec", 170_000),
            ("TasksMax", u64::MAX),
        ] {
            assert_eq!(found[name], Value::U64(value), "{name}");
        }
        assert_eq!(found["AllowedCPUs"], Value::bytes(&[7, 2]));
        assert_eq!(found.len(), 8);
        assert!(limits(&Resources::default(), Layout::V2).is_empty());
    }

    #[test]
    fn limits_of_v1() {
        let found = limits(&resources(), Layout::V1);
        assert_eq!((&found["MemoryLimit"], &found["CPUShares"]), (&Value::U64(64), &Value::U64(1024)));
        assert_eq!(found["CPUQuotaPerSecUSec"], Value::U64(170_000));
        assert!(!found.contains_key("MemoryMax") && !found.contains_key("AllowedCPUs"));
    }

    #[test]
    fn unified_files_override() {
        let mut resources = resources();
        for (file, value) in [("memory.high", "50"), ("memory.max", "max"), ("cpu.max", "max 200000"), ("x.y", "1")] {
            resources.unified.insert(file.into(), value.into());
        }
        let found = limits(&resources, Layout::V2);
        assert_eq!((&found["MemoryHigh"], &found["MemoryMax"]), (&Value::U64(50), &Value::U64(u64::MAX)));
        assert_eq!(found["CPUQuotaPerSecUSec"], Value::U64(u64::MAX));
        assert_eq!(found["CPUQuotaPeriodUSec"], Value::U64(200_000));
    }

    #[test]
    fn weights_of_devices_are_listed() {
        let device = |minor| WeightDevice { major: 8, minor, weight: Some(1000), leaf_weight: None };
        let block_io = BlockIo { weight: Some(50), weight_device: vec![device(0), device(1)], ..BlockIo::default() };
        let resources = Resources { block_io, ..Resources::default() };
        let found = of_limits(&resources, Layout::V2, &Current { dir: None }).unwrap();
        assert_eq!(found[0], number("IOWeight", 50));
        let pair = Value::Struct(vec![Value::str("/dev/block/8:0"), Value::U64(10_000)]);
        assert_eq!(found[1].1, Value::Array("(st)".into(), vec![pair]));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn an_idle_group_is_weight_zero() {
        let cpu = Cpu { idle: Some(true), shares: Some(9), ..Cpu::default() };
        assert_eq!(limits(&Resources { cpu, ..Resources::default() }, Layout::V2)["CPUWeight"], Value::U64(0));
    }

    #[test]
    fn quotas_are_rounded_up_to_percents() {
        let per_second = |quota, period| of_quota(quota, period).pop().unwrap().1;
        assert_eq!(per_second(1, None), Value::U64(10_000));
        assert_eq!(per_second(50_000, None), Value::U64(500_000));
        assert_eq!(per_second(u64::MAX, Some(1)), Value::U64(u64::MAX));
        assert_eq!(per_second(u64::MAX - 1, Some(1)), Value::U64(u64::MAX));
    }

    #[test]
    fn masks_of_lists() {
        assert_eq!(mask("0"), Some(vec![1]));
        assert_eq!(mask("1,7-8"), Some(vec![0x82, 1]));
        for odd in ["", "all", "0-7:2/4", "3-1", "99999999"] {
            assert_eq!(mask(odd), None, "{odd}");
        }
    }

    #[test]
    fn devices_of_v1() {
        let rule = |allow, kind, major, minor, access| DeviceRule { allow, kind, major, minor, access };
        let deny = rule(false, DeviceKind::All, None, None, DeviceAccess::ALL);
        let fuse = rule(true, DeviceKind::Char, Some(10), Some(229), DeviceAccess::ALL);
        let found = of_devices(&[deny, fuse]);
        assert_eq!((found[0].1.clone(), found.len()), (Value::str("strict"), 3));
        let Value::Array(_, allowed) = &found[2].1 else { panic!() };
        let pair = |device: &str, access: &str| Value::Struct(vec![Value::str(device), Value::str(access)]);
        assert_eq!(allowed[..3], [pair("/dev/char/10:229", "rwm"), pair("char-*", "m"), pair("block-*", "m")]);
        assert!(allowed.contains(&pair("char-136", "rwm")));
        let allow = rule(true, DeviceKind::All, None, None, DeviceAccess::ALL);
        assert_eq!(of_devices(&[deny, allow])[0].1, Value::str("auto"));
    }
}
