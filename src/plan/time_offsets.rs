//! `linux.timeOffsets`; time_namespaces(7).

use oci_spec::runtime::Linux;
use serde::{Deserialize, Serialize};

use super::findings::Findings;
use super::namespaces::flag;
use crate::error::{Error, member};

/// The text of `/proc/PID/timens_offsets`; time_namespaces(7).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeOffsets {
    /// One line a clock.
    pub text: String,
    /// By how much CLOCK_MONOTONIC is ahead of the host's, in microseconds.
    pub monotonic_us: i64,
}

/// No clock of Linux shows more seconds, 146 years: half of what 64 bits hold in nanoseconds. kernel/time/namespace.c.
const CLOCK: u64 = i64::MAX as u64 / 1_000_000_000 / 2;

impl TimeOffsets {
    /// Reads `linux.timeOffsets`; `new` are the namespaces that are made.
    pub(super) fn read(linux: &Linux, new: u32, findings: &mut Findings) -> Option<TimeOffsets> {
        let offsets = linux.time_offsets().as_ref().filter(|o| !o.is_empty())?;
        if new & flag::TIME == 0 {
            let message = "`linux.timeOffsets` needs a new time namespace in `linux.namespaces`";
            findings.add(Error::config(message).about("linux.timeOffsets"));
        }
        let mut result = TimeOffsets::default();
        let mut clocks: Vec<_> = offsets.iter().collect();
        clocks.sort_by_key(|(clock, _)| clock.as_str());
        for (clock, offset) in clocks {
            if clock != "monotonic" && clock != "boottime" {
                let why = format!("unknown clock `{clock}`; monotonic and boottime are");
                findings.add(Error::at("linux.timeOffsets", why).about(member("linux.timeOffsets", clock)));
            }
            let (secs, nanos) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
            let mut refuse = |name: &str, why: String| {
                findings.add(Error::at(format!("{}.{name}", member("linux.timeOffsets", clock)), why));
            };
            if secs.unsigned_abs() > CLOCK {
                refuse("secs", format!("{secs} is not between -{CLOCK} and {CLOCK}"));
            }
            if nanos >= 1_000_000_000 {
                refuse("nanosecs", format!("{nanos} is a second or more"));
            }
            result.text.push_str(&format!("{clock} {secs} {nanos}\n"));
            if clock == "monotonic" {
                result.monotonic_us = microseconds(secs, nanos.into());
            }
        }
        Some(result)
    }

    /// Those that a process has, of its `/proc/PID/timens_offsets`; nothing is to be set.
    pub(crate) fn of_process(text: &str) -> TimeOffsets {
        let line = text.lines().find_map(|line| line.strip_prefix("monotonic"));
        let mut numbers = line.unwrap_or_default().split_whitespace().map_while(|number| number.parse::<i64>().ok());
        let (secs, nanos) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        TimeOffsets { text: String::new(), monotonic_us: microseconds(secs, nanos) }
    }
}

fn microseconds(secs: i64, nanos: i64) -> i64 {
    secs.saturating_mul(1_000_000).saturating_add(nanos / 1000)
}

#[cfg(test)]
mod tests {
    use super::super::host::Host;
    use super::super::namespaces::Namespaces;

    #[test]
    fn a_clock_is_set_off_by_what_the_kernel_takes() {
        let refused = |offsets: &str| {
            let json = format!(r#"{{"namespaces":[{{"type":"time"}}],"timeOffsets":{offsets}}}"#);
            let made = Namespaces::from_spec(&serde_json::from_str(&json).unwrap(), &Host::default());
            made.err().and_then(|error| error.property().map(str::to_owned))
        };
        let path = |name: &str| Some(format!("linux.timeOffsets[\"boottime\"].{name}"));
        assert_eq!(refused(r#"{"boottime":{"secs":-4611686018,"nanosecs":999999999}}"#), None);
        assert_eq!(refused(r#"{"boottime":{"nanosecs":1000000000}}"#), path("nanosecs"));
        assert_eq!(refused(r#"{"boottime":{"secs":4611686019}}"#), path("secs"));
        assert_eq!(refused(r#"{"boottime":{"secs":-9223372036854775808}}"#), path("secs"));
    }

    #[test]
    fn those_of_a_process_are_read() {
        let ahead = |text| super::TimeOffsets::of_process(text).monotonic_us;
        assert_eq!(ahead("monotonic         500         7000\nboottime           9         0\n"), 500_000_007);
        assert_eq!(ahead("monotonic          -5 0\n"), -5_000_000);
        assert_eq!(ahead(""), 0);
    }
}
