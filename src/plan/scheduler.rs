//! `process.scheduler`; sched_setattr(2).

use oci_spec::runtime::{LinuxSchedulerFlag, LinuxSchedulerPolicy, Scheduler};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The arguments of sched_setattr(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SchedulerPlan {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

const FIFO: u32 = 1;
const RR: u32 = 2;
const DEADLINE: u32 = 6;

/// SCHED_FLAG_KEEP_PARAMS; linux/sched.h.
const KEEP_PARAMS: u64 = 0x10;

/// The least runtime of SCHED_DEADLINE, in nanoseconds; sched(7).
const LEAST_RUNTIME: u64 = 1024;

impl SchedulerPlan {
    /// Checks the scheduler of the process at the JSON path `at`.
    ///
    /// # Errors
    /// What the kernel takes on no machine.
    pub(super) fn from_spec(scheduler: Option<&Scheduler>, at: &str) -> Result<Option<SchedulerPlan>> {
        let Some(s) = scheduler else { return Ok(None) };
        let bad = |name: &str, why: String| Err(Error::at(format!("{at}.scheduler.{name}"), why));
        let policy = match s.policy() {
            LinuxSchedulerPolicy::SchedOther => 0,
            LinuxSchedulerPolicy::SchedFifo => FIFO,
            LinuxSchedulerPolicy::SchedRr => RR,
            LinuxSchedulerPolicy::SchedBatch => 3,
            LinuxSchedulerPolicy::SchedIso => return bad("policy", "Linux has no SCHED_ISO".into()),
            LinuxSchedulerPolicy::SchedIdle => 5,
            LinuxSchedulerPolicy::SchedDeadline => DEADLINE,
        };
        let flags = s.flags().iter().flatten().fold(0, |flags, flag| flags | bit(*flag));
        if let Some(nice) = s.nice().filter(|nice| !(-20..=19).contains(nice)) {
            return bad("nice", format!("{nice} is not -20 to 19"));
        }
        let priority = s.priority().unwrap_or(0);
        let Ok(priority) = u32::try_from(priority) else {
            return bad("priority", format!("{priority} is negative"));
        };
        let plan = SchedulerPlan {
            policy,
            flags,
            nice: s.nice().unwrap_or(0),
            priority,
            runtime: s.runtime().unwrap_or(0),
            deadline: s.deadline().unwrap_or(0),
            period: s.period().unwrap_or(0),
        };
        if flags & KEEP_PARAMS != 0 {
            // What there is stays, whatever is said here: sched_setattr(2) looks at none of the rest.
            return Ok(Some(plan));
        }
        match (plan.is_realtime(), priority) {
            (true, 0) | (true, 100..) => return bad("priority", format!("{priority} is not 1 to 99")),
            (false, 1..) => return bad("priority", "SCHED_FIFO and SCHED_RR alone have one".into()),
            _ => {}
        }
        let (runtime, deadline, period) = (plan.runtime, plan.deadline, plan.period);
        if policy == DEADLINE {
            if runtime < LEAST_RUNTIME {
                return bad("runtime", format!("{runtime} ns are under {LEAST_RUNTIME}"));
            }
            if deadline < runtime {
                return bad("deadline", format!("{deadline} ns are under the runtime, {runtime}"));
            }
            if period != 0 && period < deadline {
                return bad("period", format!("{period} ns are under the deadline, {deadline}"));
            }
        }
        Ok(Some(plan))
    }

    /// SCHED_FIFO or SCHED_RR: what a cgroup v1 gives time to apart.
    pub(crate) fn is_realtime(&self) -> bool {
        matches!(self.policy, FIFO | RR)
    }
}

fn bit(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => KEEP_PARAMS,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refuses_what_no_kernel_takes() {
        let property = |scheduler: serde_json::Value| {
            let scheduler: Scheduler = serde_json::from_value(scheduler).unwrap();
            SchedulerPlan::from_spec(Some(&scheduler), "process").err().and_then(|e| e.property().map(str::to_owned))
        };
        for (scheduler, wrong) in [
            (json!({"policy": "SCHED_OTHER", "nice": -20}), None),
            (json!({"policy": "SCHED_FIFO", "priority": 99}), None),
            (json!({"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 2000}), None),
            (json!({"policy": "SCHED_ISO"}), Some("policy")),
            (json!({"policy": "SCHED_OTHER", "nice": 20}), Some("nice")),
            (json!({"policy": "SCHED_OTHER", "priority": -1}), Some("priority")),
            (json!({"policy": "SCHED_BATCH", "priority": 1}), Some("priority")),
            (json!({"policy": "SCHED_RR"}), Some("priority")),
            (json!({"policy": "SCHED_FIFO", "priority": 100}), Some("priority")),
            (json!({"policy": "SCHED_DEADLINE", "deadline": 2000}), Some("runtime")),
            (json!({"policy": "SCHED_DEADLINE", "runtime": 2000}), Some("deadline")),
            (json!({"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 3000, "period": 2999}), Some("period")),
        ] {
            let wrong = wrong.map(|name| format!("process.scheduler.{name}"));
            assert_eq!(property(scheduler.clone()), wrong, "{scheduler}");
        }
    }
}
