//! `update`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::{Context, read_json};
use crate::error::{Context as _, Error, Kind, Result};
use crate::parent::lifecycle::Container;
use crate::plan::resources::Resources;
use crate::plan::{load, rdt};

#[derive(Args, Debug)]
pub(super) struct Update {
    /// Limits as JSON, as `linux.resources` of config.json; `-` is standard input. Takes no limit beside it
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Memory limit in bytes, or with a unit (64m, 1g); -1 is none
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = bytes)]
    memory: Option<i64>,
    /// Soft memory limit in bytes
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = bytes)]
    memory_reservation: Option<i64>,
    /// Limit of memory and swap together, in bytes
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = bytes)]
    memory_swap: Option<i64>,
    /// Limit of processes; -1 is none, 0 leaves it as it is
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// CPU time a period, in microseconds; -1 is no limit
    #[arg(long, value_name = "USECS", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// The period, in microseconds
    #[arg(long, value_name = "USECS")]
    cpu_period: Option<u64>,
    /// Relative share of CPU time
    #[arg(long, visible_alias = "cpu-share", value_name = "N")]
    cpu_shares: Option<u64>,
    /// Realtime CPU time a period, in microseconds
    #[arg(long, value_name = "USECS", allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,
    /// The realtime period, in microseconds
    #[arg(long, value_name = "USECS")]
    cpu_rt_period: Option<u64>,
    /// CPU time that may be saved up for a burst, in microseconds
    #[arg(long, value_name = "USECS")]
    cpu_burst: Option<u64>,
    /// 1 for the idle scheduling class of cgroups, 0 for the usual one; -1 leaves it as it is
    #[arg(long, value_name = "0|1", allow_negative_numbers = true)]
    cpu_idle: Option<i64>,
    /// CPUs to run on, as `0-2,4`
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to allocate from
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Relative share of block I/O, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
    /// Limit of TCP buffers in bytes; cgroup v1 alone has it
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = bytes)]
    kernel_memory_tcp: Option<i64>,
    /// Without effect, as under every runtime: Linux 5.16 took this limit out
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = bytes)]
    kernel_memory: Option<i64>,
    /// Schema of the L3 cache, by Intel RDT
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Schema of the memory bandwidth, by Intel RDT
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    /// The container
    id: String,
}

impl Update {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let mut resources = match (&self.resources, self.options().first()) {
            (None, _) => Value::Object(Map::new()),
            (Some(path), None) => read_json(path)?,
            // Other runtimes pass over it in silence: who wrote both would have another limit than he thinks.
            (Some(_), Some((group, property, _))) => {
                let message = format!("--resources is given, and an option that sets `{group}.{property}` too");
                return Err(
                    Error::new(Kind::Usage, message).advise("put all limits into the file, or give options alone")
                );
            }
        };
        if !resources.is_object() {
            return Err(Error::config("--resources: it is no JSON object"));
        }
        let groups = ["memory", "pids", "cpu", "blockIO"];
        if let Some(group) =
            groups.into_iter().find(|group| !(resources[*group].is_object() || resources[*group].is_null()))
        {
            return Err(Error::config(format!("--resources: `{group}` is no JSON object")));
        }
        for (group, property, value) in self.options() {
            resources[group][property] = value;
        }
        leave_unset_out(&mut resources);
        let spec = load::resources(&resources).context(|| "--resources")?;
        let resources = Resources::from_spec(&spec)?;
        let schemata = rdt::schemata(self.l3_cache_schema.as_deref(), self.mem_bw_schema.as_deref());
        Container::open(&context.state, &self.id)?.update(&resources, &schemata)?;
        if self.kernel_memory.is_some() {
            log::warn!("--kernel-memory has no effect: Linux 5.16 took this limit out, and it was deprecated before");
        }
        Ok(())
    }

    /// The limits that options set, each with its place in `linux.resources`.
    fn options(&self) -> Vec<(&'static str, &'static str, Value)> {
        let options = [
            ("memory", "limit", json!(self.memory)),
            ("memory", "reservation", json!(self.memory_reservation)),
            ("memory", "swap", json!(self.memory_swap)),
            ("memory", "kernelTCP", json!(self.kernel_memory_tcp)),
            ("pids", "limit", json!(self.pids_limit)),
            ("cpu", "quota", json!(self.cpu_quota)),
            ("cpu", "period", json!(self.cpu_period)),
            ("cpu", "shares", json!(self.cpu_shares)),
            ("cpu", "realtimeRuntime", json!(self.cpu_rt_runtime)),
            ("cpu", "realtimePeriod", json!(self.cpu_rt_period)),
            ("cpu", "burst", json!(self.cpu_burst)),
            ("cpu", "idle", json!(self.cpu_idle.filter(|idle| *idle != -1))),
            ("cpu", "cpus", json!(self.cpuset_cpus)),
            ("cpu", "mems", json!(self.cpuset_mems)),
            ("blockIO", "weight", json!(self.blkio_weight)),
        ];
        options.into_iter().filter(|(_, _, value)| !value.is_null()).collect()
    }
}

/// Who writes Go's types writes 0 for a limit that is to stay. Of most the plan knows; of processes, 0 is none for a new
/// container, and -1 alone for one that runs.
fn leave_unset_out(resources: &mut Value) {
    let limit = &resources["pids"]["limit"];
    if limit.is_null() || *limit == 0 {
        resources["pids"] = Value::Null;
    }
}

/// A number of bytes, with a unit of 1024 (k, m, g, t) or none.
fn bytes(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is no number of bytes; 67108864, 64m and -1 are examples");
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let unit = lower.chars().last().and_then(|unit| "kmgt".find(unit));
    let (number, shift) = match unit {
        Some(at) => (&lower[..lower.len() - 1], 10 * (at as u32 + 1)),
        None => (lower, 0),
    };
    let number: i64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_with_and_without_a_unit() {
        assert_eq!(bytes("67108864"), bytes("64m"));
        assert_eq!(bytes("1G"), Ok(1 << 30));
        assert_eq!(bytes("2kb"), Ok(2048));
        assert_eq!(bytes("-1"), Ok(-1));
        for text in ["", "m", "1x", "9999999t", "1.5g"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
