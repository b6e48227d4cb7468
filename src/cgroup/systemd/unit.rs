//! The container's cgroup in a unit: made with it, limited as it is, joined, and given away.

use rustix::io::Errno;

use super::manager::Systemd;
use super::{UnitPlan, UnitRecord, properties};
use crate::cgroup::dir::Dir;
use crate::cgroup::layout::{Hierarchies, Layout};
use crate::cgroup::limits::{self, Current};
use crate::cgroup::record::CgroupRecord;
use crate::cgroup::{Cgroup, Tolerance, controllers};
use crate::error::{Context, Error, Result};
use crate::plan::resources::Resources;

/// What a container's unit is to have.
pub struct Wanted<'a> {
    /// The unit.
    pub plan: &'a UnitPlan,
    /// The limits: `linux.resources`.
    pub resources: &'a Resources,
    /// What a refused limit means.
    pub tolerance: Tolerance,
    /// User and group that the sub-cgroup is given to.
    pub owner: Option<(u32, u32)>,
}

impl Cgroup {
    /// Makes the container's unit around its process, moves the process into the container's own cgroup in it, and sets
    /// limits and device filter there too. `record` says what has been made so far, also after a failure.
    ///
    /// # Errors
    /// What systemd or the kernel refuses; [`crate::error::Kind::Exists`] if the unit is another's.
    pub fn create_unit(
        record: &mut CgroupRecord,
        systemd: &mut Systemd,
        wanted: &Wanted<'_>,
        hierarchies: &Hierarchies,
        pid: i32,
    ) -> Result<Cgroup> {
        let (plan, resources) = (wanted.plan, wanted.resources);
        let doing = format!("make unit `{}` by systemd at `{}`", plan.names.unit, systemd.address());
        let limits = properties::of_limits(resources, record.layout, &Current { dir: None })?;
        systemd.start(plan, limits, pid).context(|| doing.clone())?;
        let mut path = systemd.control_group(&plan.names).context(|| doing)?;
        if let Some(name) = &plan.subgroup {
            path = format!("{path}/{name}");
        }
        record.dirs = hierarchies.dirs_at(&path)?;
        let mut cgroup = Cgroup {
            record: CgroupRecord { dirs: Vec::new(), ..record.clone() },
            dirs: Vec::new(),
            refused: Vec::new(),
            notes: std::mem::take(&mut systemd.notes),
        };
        for place in &mut record.dirs {
            // What systemd made is ours to remove if it does not: the unit's own cgroup, and nothing above.
            place.made = place.made.max(1 + usize::from(plan.subgroup.is_some()));
            let joined = place.make().and_then(|_| {
                let path = place.full_path();
                let dir = Dir::open(path.as_str()).context(|| format!("open `{path}`"))?;
                // A cpuset without CPUs takes no process.
                if place.controllers.iter().any(|name| name == "cpuset") {
                    controllers::fill_cpuset(place, false, false)?;
                }
                dir.write("cgroup.procs", &pid.to_string()).map(|()| dir)
            });
            match joined {
                Ok(dir) => {
                    cgroup.record.dirs.push(place.clone());
                    cgroup.dirs.push(Some(dir));
                }
                Err(error) if wanted.tolerance.covers(&error) => {
                    cgroup.notes.push(format!("no cgroup: {error}"));
                }
                Err(error) => return Err(error.context("make the cgroup")),
            }
        }
        cgroup.prepare(resources)?;
        // systemd's limits are in v1's files already, and in v2's where there is no sub-cgroup.
        let fresh = record.layout == Layout::V2 && plan.subgroup.is_some();
        limits::apply(&cgroup, resources, fresh)?;
        cgroup.limit_scope(resources)?;
        let rules = resources.devices.as_deref().unwrap_or_default();
        cgroup.filter_devices(rules, record.layout == Layout::V2, wanted.tolerance)?;
        if let (Some(owner), Some(dir), true) = (wanted.owner, cgroup.v2(), plan.subgroup.is_some()) {
            match give(dir, owner) {
                Err(error) if wanted.tolerance.covers(&error) => cgroup.notes.push(format!("not its own: {error}")),
                given => given?,
            }
        }
        Ok(cgroup)
    }

    /// Sets the limits that `update` holds as properties of the unit.
    pub(in crate::cgroup) fn update_unit(&self, unit: &UnitRecord, update: &Resources) -> Result<()> {
        let limits = properties::of_limits(update, self.record.layout, &Current { dir: self.v2() })?;
        if !limits.is_empty() {
            Systemd::of(unit)?.set(unit, limits)?;
        }
        self.limit_scope(update)
    }

    /// What systemd has no property for, and the scope must have as well as the sub-cgroup: a burst that a quota around
    /// it allows for.
    fn limit_scope(&self, resources: &Resources) -> Result<()> {
        let (Some(burst), Some(place)) = (resources.cpu.burst, self.record.v2()) else { return Ok(()) };
        let steps = place.steps();
        let above = match steps.len().checked_sub(2).map(|at| steps[at]) {
            Some(above) if above.ends_with(".scope") => format!("{}{above}", place.mount),
            _ => return Ok(()),
        };
        let dir = Dir::open(above.as_str()).context(|| format!("open `{above}`"))?;
        match dir.try_write("cpu.max.burst", &burst.to_string()) {
            Err(Errno::NOENT) if burst == 0 => Ok(()),
            written => written.context(|| dir.written("cpu.max.burst", &burst.to_string())),
        }
    }

    /// Moves a process into the cgroup by systemd, which may move what this user may not: a process of another cgroup
    /// that is not the user's.
    ///
    /// # Errors
    /// The cgroup is no unit's, or systemd refuses.
    pub fn join_by_systemd(&self, pid: i32) -> Result<()> {
        let unit = self.record.unit.as_ref().ok_or_else(|| Error::system("the cgroup is no unit's"))?;
        let path = self.record.v2().map(|place| place.path.as_str()).unwrap_or_default();
        let below = path.rsplit_once(&unit.name).map(|(_, below)| below).unwrap_or_default();
        Systemd::of(unit)?.attach(unit, below, pid)
    }

    /// Moves a process further down, into a sub-cgroup that is its owner's to arrange, with every controller that the
    /// container has, and without limits of its own. Only in v2, where that is safe. Returns what could not be had.
    ///
    /// # Errors
    /// A refusal of the kernel's.
    pub fn delegate(&self, path: &str, owner: Option<(u32, u32)>, pid: i32) -> Result<Vec<String>> {
        let Some(dir) = self.v2().filter(|_| self.record.layout == Layout::V2) else { return Ok(vec![]) };
        let mut above: Vec<Dir> = vec![];
        for name in path.split('/') {
            let parent = above.last().unwrap_or(dir);
            let below = child(parent, name)?;
            above.push(below);
        }
        let below = above.pop().ok_or_else(|| Error::system("the delegated cgroup has no name"))?;
        if let Some(owner) = owner {
            give(&below, owner)?;
        }
        below.write("cgroup.procs", &pid.to_string()).context(|| "delegate the cgroup")?;
        // Only now: a cgroup with processes in it gives its children nothing.
        let mut refused = controllers::pass_on(dir)?;
        for dir in &above {
            refused.extend(controllers::pass_on(dir)?);
        }
        Ok(refused.into_iter().map(|(name, error)| format!("`{path}` has no `{name}` controller: {error}")).collect())
    }
}

/// A sub-cgroup, made if it is not there.
fn child(dir: &Dir, name: &str) -> Result<Dir> {
    match rustix::fs::mkdirat(dir, name, rustix::fs::Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(Error::call(format!("mkdir `{}`", dir.file(name)), errno)),
    }
    dir.open_child(name).context(|| format!("open `{}`", dir.file(name)))
}

/// Gives a cgroup to a user, who may then make sub-cgroups in it and move processes between them, and change no limit
/// (Documentation/admin-guide/cgroup-v2.rst, "Model of Delegation").
fn give(dir: &Dir, (uid, gid): (u32, u32)) -> Result<()> {
    use rustix::fs::{AtFlags, Gid, Uid, chownat};
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    for file in [".", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
        match chownat(dir, file, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(Error::call(format!("chown `{}`", dir.file(file)), errno)),
        }
    }
    Ok(())
}
