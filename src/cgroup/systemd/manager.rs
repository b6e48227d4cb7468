//! What is asked of systemd's manager: to start, to change and to stop a unit (org.freedesktop.systemd1(5)).

use std::time::{Duration, Instant};

use super::address::{Surroundings, addresses};
use super::bus::{Bus, Refusal};
use super::names::Names;
use super::properties::Property;
use super::wire::{Value, unit_path};
use super::{UnitPlan, UnitRecord};
use crate::cgroup::layout::Layout;
use crate::cgroup::record::CgroupRecord;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::namespaces::{IdMap, outside};
use crate::procfs::Proc;

/// How long a job may take. Starting and stopping a scope whose processes are dead waits for nothing.
const PATIENCE: Duration = Duration::from_secs(30);

const UNIT: &str = "org.freedesktop.systemd1.Unit";

/// A connection to the systemd that makes the container's unit.
#[derive(Debug)]
pub struct Systemd {
    bus: Bus,
    /// What was done in another way than asked, for the trace.
    pub(super) notes: Vec<String>,
    /// How long the last job took.
    job: Duration,
}

impl Systemd {
    /// Connects to the machine's systemd, or to the user's.
    ///
    /// # Errors
    /// There is none, with its address.
    pub(crate) fn connect(machine_root: bool, proc: &Proc) -> Result<Systemd> {
        let variable = |name: &str| std::env::var(name).ok();
        let root = rustix::process::geteuid().is_root();
        let uid = if machine_root { 0 } else { outer_uid(proc)? };
        let addresses = addresses(&Surroundings { variable: &variable, uid, root, machine_root });
        Systemd::at(&addresses)
    }

    pub(super) fn of(unit: &UnitRecord) -> Result<Systemd> {
        Systemd::at(std::slice::from_ref(&unit.address))
    }

    fn at(addresses: &[String]) -> Result<Systemd> {
        Ok(Systemd { bus: Bus::connect(addresses)?, notes: Vec::new(), job: Duration::ZERO })
    }

    /// The address it is connected to.
    pub fn address(&self) -> &str {
        self.bus.address()
    }

    /// How long the last job took.
    pub fn job_time(&self) -> Duration {
        self.job
    }

    /// What will be made, to be stored before it is: the unit alone, as only systemd knows where its cgroup will be.
    ///
    /// # Errors
    /// The unit is another container's, and active.
    pub fn record(&mut self, plan: &UnitPlan, layout: Layout) -> Result<CgroupRecord> {
        let unit = &plan.names.unit;
        let state = self.bus.property(&unit_path(unit), UNIT, "ActiveState");
        let state = state.map_err(|refusal| refusal.error().context(format!("look for unit `{unit}`")))?;
        match state.as_str() {
            Some("inactive") => {}
            // What is left of a container that was killed; systemd keeps it until it is told not to.
            Some("failed") => drop(self.bus.manager("ResetFailedUnit", vec![Value::str(unit)])),
            _ => return Err(exists(unit)),
        }
        let unit = UnitRecord { name: unit.clone(), address: self.bus.address().to_owned() };
        Ok(CgroupRecord { layout, dirs: Vec::new(), unit: Some(unit) })
    }

    /// Starts the unit around a process, and waits until that is done.
    pub(super) fn start(&mut self, plan: &UnitPlan, limits: Vec<Property>, pid: i32) -> Result<()> {
        let unit = &plan.names.unit;
        let mut properties = unit_properties(plan, limits, pid);
        let mut again = true;
        let reply = loop {
            let list = as_value(&properties);
            let body = vec![Value::str(unit), Value::str("fail"), list, Value::Array("(sa(sv))".into(), vec![])];
            match self.bus.manager("StartTransientUnit", body) {
                Ok(reply) => break reply,
                Err(refusal) if refusal.is("UnitExists") => {
                    if !std::mem::take(&mut again) {
                        return Err(exists(unit));
                    }
                    let _ = self.bus.manager("ResetFailedUnit", vec![Value::str(unit)]);
                }
                Err(refusal) => self.do_without(refusal, &mut properties, &plan.properties)?,
            }
        };
        match self.ended(&reply)?.as_str() {
            "done" => Ok(()),
            result => Err(Error::system(format!("the job ended as `{result}`"))),
        }
    }

    /// How the job of a reply ended.
    fn ended(&mut self, reply: &[Value]) -> Result<String> {
        let job = reply.first().and_then(Value::as_str);
        let job = job.ok_or_else(|| Error::system("systemd names no job"))?;
        let begin = Instant::now();
        let result = self.bus.job(job, PATIENCE);
        self.job = begin.elapsed();
        result
    }

    /// Takes out a property that this systemd is too old for, if only the container's own cgroup needs it; else fails.
    fn do_without(&mut self, refusal: Refusal, from: &mut Vec<Property>, asked: &[Property]) -> Result<()> {
        let name = match &refusal {
            Refusal::Said(_, words) => unknown_property(words).map(str::to_owned),
            Refusal::Lost(_) => None,
        };
        let at = name.and_then(|name| from.iter().position(|property| property.0 == name));
        match at.filter(|at| !asked.contains(&from[*at])) {
            Some(at) => {
                self.notes.push(format!("this systemd has no property `{}`", from.remove(at).0));
                Ok(())
            }
            None => Err(refusal.error()),
        }
    }

    /// The unit's cgroup, below the hierarchies' mount points.
    pub(super) fn control_group(&mut self, names: &Names) -> Result<String> {
        let interface = match names.is_slice() {
            true => "org.freedesktop.systemd1.Slice",
            false => "org.freedesktop.systemd1.Scope",
        };
        let value = self.bus.property(&unit_path(&names.unit), interface, "ControlGroup");
        let value = value.map_err(Refusal::error)?;
        let path = value.as_str().unwrap_or_default();
        match path.ends_with(&names.path()) {
            true => Ok(path.to_owned()),
            false => Err(Error::system(format!("systemd gives it the cgroup `{path}`, not one in `{}`", names.slice))),
        }
    }

    /// Sets properties of a unit, until it ends.
    pub(super) fn set(&mut self, unit: &UnitRecord, mut properties: Vec<Property>) -> Result<()> {
        loop {
            let body = vec![Value::str(&unit.name), Value::Bool(true), as_value(&properties)];
            match self.bus.manager("SetUnitProperties", body) {
                Ok(_) => return Ok(()),
                Err(refusal) => self
                    .do_without(refusal, &mut properties, &[])
                    .context(|| format!("update unit `{}` by systemd at `{}`", unit.name, unit.address))?,
            }
        }
    }

    /// Moves a process into a unit's cgroup, or one below it.
    pub(super) fn attach(&mut self, unit: &UnitRecord, below: &str, pid: i32) -> Result<()> {
        let pids = Value::Array("u".into(), vec![Value::U32(pid.unsigned_abs())]);
        let body = vec![Value::str(&unit.name), Value::str(below), pids];
        let attached = self.bus.manager("AttachProcessesToUnit", body).map(drop);
        attached.map_err(|refusal| refusal.error().context(format!("attach process {pid} to unit `{}`", unit.name)))
    }

    /// Stops a unit and makes systemd forget it. One that is gone is fine.
    fn stop(&mut self, unit: &str) -> Result<()> {
        let reply = match self.bus.manager("StopUnit", vec![Value::str(unit), Value::str("replace")]) {
            Ok(reply) => reply,
            Err(refusal) if refusal.is("NoSuchUnit") => return Ok(()),
            Err(refusal) => return Err(refusal.error()),
        };
        let result = self.ended(&reply)?;
        // It has failed if its processes were killed for want of memory; most often it is gone by now.
        let _ = self.bus.manager("ResetFailedUnit", vec![Value::str(unit)]);
        match result.as_str() {
            // Stopped by another, or by the end of its last process.
            "done" | "canceled" | "skipped" => Ok(()),
            result => Err(Error::system(format!("the job ended as `{result}`"))),
        }
    }
}

/// All properties of a new unit. Where two have one name, an annotation's goes before a limit's, and that before ours.
fn unit_properties(plan: &UnitPlan, limits: Vec<Property>, pid: i32) -> Vec<Property> {
    let names = &plan.names;
    let on = |name: &str| (name.to_owned(), Value::Bool(true));
    let mut properties = vec![
        ("Description".to_owned(), Value::Str(format!("tandem container {}", plan.id))),
        ("DefaultDependencies".to_owned(), Value::Bool(false)),
        // A scope whose processes were killed for want of memory has failed, and would stay until it is reset.
        ("CollectMode".to_owned(), Value::str("inactive-or-failed")),
        on("MemoryAccounting"),
        on("CPUAccounting"),
        on("IOAccounting"),
        on("TasksAccounting"),
    ];
    match names.is_slice() {
        // A slice's name says which slice it is in; it holds no process, and all below it is its owner's.
        true => properties.push(("Wants".to_owned(), Value::strings(&[&names.slice]))),
        false => properties.extend([
            ("Slice".to_owned(), Value::str(&names.slice)),
            on("Delegate"),
            ("PIDs".to_owned(), Value::Array("u".into(), vec![Value::U32(pid.unsigned_abs())])),
        ]),
    }
    for (higher, is_limits) in [(&limits, true), (&plan.properties, false)] {
        properties.retain(|(name, _)| !higher.iter().any(|(other, _)| other == name));
        if is_limits {
            properties.extend(limits.iter().cloned());
        }
    }
    properties.extend(plan.properties.iter().cloned());
    properties
}

fn as_value(properties: &[Property]) -> Value {
    let pair =
        |(name, value): &Property| Value::Struct(vec![Value::str(name), Value::Variant(Box::new(value.clone()))]);
    Value::Array("(sv)".into(), properties.iter().map(pair).collect())
}

/// The property that systemd doesn't know, in its own words (bus_unit_set_properties in its source).
fn unknown_property(words: &str) -> Option<&str> {
    words.strip_prefix("Cannot set property ")?.strip_suffix(", or unknown property.")
}

fn exists(unit: &str) -> Error {
    Error::new(Kind::Exists, format!("unit `{unit}` exists already"))
        .advise("choose another linux.cgroupsPath, or stop it with systemctl")
}

/// The user's ID in the initial user namespace: podman says it to those it runs in its own; else the namespace's map
/// has it, if it is not nested.
fn outer_uid(proc: &Proc) -> Result<u32> {
    let said = std::env::var("_CONTAINERS_ROOTLESS_UID").ok().and_then(|uid| uid.parse().ok());
    if let Some(uid) = said {
        return Ok(uid);
    }
    let map = proc.read("self/uid_map")?;
    let own = rustix::process::geteuid().as_raw();
    Ok(map_uid(&map, own).unwrap_or(own))
}

fn map_uid(map: &str, uid: u32) -> Option<u32> {
    outside(&IdMap::lines(map), uid)
}

/// Ends a unit and everything in it; what is gone already is fine.
pub(in crate::cgroup) fn stop(unit: &UnitRecord, cgroup_known: bool) -> Result<()> {
    let doing = || format!("stop unit `{}` by systemd at `{}`", unit.name, unit.address);
    let mut systemd = Systemd::of(unit).context(doing)?;
    if !cgroup_known {
        // Else its processes have been killed, and systemd needs not wait for them to heed SIGTERM.
        let body = vec![Value::str(&unit.name), Value::str("all"), Value::I32(libc::SIGKILL)];
        let _ = systemd.bus.manager("KillUnit", body);
    }
    systemd.stop(&unit.name).context(doing)
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;

    #[test]
    fn annotations_go_before_limits_and_those_before_ours() {
        let plan =
            plan(&[("org.systemd.property.Description", "'mine'"), ("org.systemd.property.MemoryMax", "uint64 5")]);
        let limits = vec![("MemoryMax".to_owned(), Value::U64(1)), ("TasksAccounting".to_owned(), Value::Bool(false))];
        let properties = unit_properties(&plan.unwrap(), limits, 42);
        let all = |name: &str| properties.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone()).collect::<Vec<_>>();
        assert_eq!(all("Description"), [Value::str("mine")]);
        assert_eq!(all("MemoryMax"), [Value::U64(5)]);
        assert_eq!(all("TasksAccounting"), [Value::Bool(false)]);
        assert_eq!(all("PIDs"), [Value::Array("u".into(), vec![Value::U32(42)])]);
        assert_eq!((all("Delegate"), all("Slice")), (vec![Value::Bool(true)], vec![Value::str("m.slice")]));
    }

    #[test]
    fn properties_that_a_systemd_does_not_know() {
        assert_eq!(unknown_property("Cannot set property AllowedCPUs, or unknown property."), Some("AllowedCPUs"));
        assert_eq!(unknown_property("Unit x.scope not loaded."), None);
    }

    #[test]
    fn users_in_a_namespace() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!((map_uid(map, 0), map_uid(map, 1), map_uid(map, 65_537)), (Some(1000), Some(100_000), None));
        assert_eq!(map_uid("nonsense", 0), None);
    }
}
