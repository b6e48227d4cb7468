//! `delete --force` of a container whose record is lost: what can be found of it is ended and removed, the rest is named. It is
//! never refused for the record's sake: nobody could mend it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::clean;
use super::delete::end_process;
use crate::cgroup::systemd::UnitPlan;
use crate::cgroup::{Cgroup, CgroupRecord, Hierarchies, RecordDir};
use crate::error::{Error, Result};
use crate::plan::id::ContainerId;
use crate::state::{ContainerDir, Remains, StateRoot};

/// Deletes it. `why`: what is wrong with the record.
pub(super) fn delete(state: &StateRoot, id: &ContainerId, dir: &ContainerDir, why: &Error) -> Result<()> {
    let remains = dir.remains()?;
    let mut told = vec![];
    let cgroup = match remains.cgroup() {
        Some(cgroup) => Some(cgroup),
        None => by_configuration(state, id, &remains, &mut told),
    };
    let process = remains.process();
    if let Some(process) = process {
        end_process(process, cgroup.as_ref(), state.proc())?;
        told.push(format!("its first process was {}", process.pid));
    }
    match &cgroup {
        Some(cgroup) => {
            clean::remove_cgroup(cgroup)?;
            let path = cgroup.dirs.last().map(|dir| dir.full_path()).unwrap_or_default();
            told.push(format!("what was in its cgroup `{path}` is ended"));
        }
        None if process.is_some() => told.push("its cgroup was not found".into()),
        None => told.push("neither its cgroup nor its first process was found: what still runs of it lives on".into()),
    }
    remains.rdt().map_or(Ok(()), |rdt| rdt.remove())?;
    if remains.config.is_none_or(|config| config["hooks"]["poststop"].as_array().is_some_and(|hooks| !hooks.is_empty()))
    {
        told.push("poststop hooks, if it had any, were not run".into());
    }
    clean::remove_state(dir)?;
    log::warn!("container `{id}` is deleted, and its record was lost ({}): {}", why.message(), told.join("; "));
    Ok(())
}

/// The cgroup that a container of its configuration has, if it is there and no other container's.
fn by_configuration(
    state: &StateRoot,
    id: &ContainerId,
    remains: &Remains,
    told: &mut Vec<String>,
) -> Option<CgroupRecord> {
    // Without it the cgroup could be anywhere, and what has the container's name could be another's.
    let config = remains.config.as_ref()?;
    let mut found = find(state, id, config["linux"]["cgroupsPath"].as_str(), told)?;
    let others = state.ids().unwrap_or_default();
    let others =
        others.iter().filter(|other| *other != id).filter_map(|other| state.open(other).ok()?.record(other).ok());
    let others: Vec<_> = others.filter_map(|record| record.cgroup).flat_map(|cgroup| cgroup.dirs).collect();
    let is_below = |other: &RecordDir, dir: &RecordDir| Path::new(&other.full_path()).starts_with(dir.full_path());
    found.dirs.retain(|dir| !others.iter().any(|other| is_below(other, dir)));
    if found.is_none() {
        return None;
    }
    // What this command itself is in is no container's.
    let own = i32::try_from(std::process::id()).ok()?;
    match Cgroup::open(&found).and_then(|cgroup| cgroup.pids()) {
        Ok(pids) if !pids.contains(&own) && are_its(&pids, config) => Some(found),
        Ok(_) => {
            let path = found.dirs.last().map(RecordDir::full_path).unwrap_or_default();
            told.push(format!("its configuration names the cgroup `{path}`, with processes that are not its own"));
            None
        }
        Err(error) => {
            told.push(error.to_string());
            None
        }
    }
}

/// Whether processes in that cgroup can be the container's: none has the machine's root, and one has the container's, where the
/// configuration says where that is. The cgroup may be another's by now, or never have been this container's.
fn are_its(pids: &[i32], config: &serde_json::Value) -> bool {
    let identity = |path: &str| std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    // One that has ended meanwhile has no root, and needs no end.
    let roots: Vec<_> = pids.iter().filter_map(|pid| identity(&format!("/proc/{pid}/root/"))).collect();
    let path = config["root"]["path"].as_str().filter(|path| path.starts_with('/'));
    let own = path.and_then(identity);
    let machine = identity("/");
    roots.iter().all(|root| Some(*root) != machine) && own.is_none_or(|own| roots.is_empty() || roots.contains(&own))
}

/// The directories that are there, at the place that the one or the other cgroup manager takes.
fn find(state: &StateRoot, id: &ContainerId, path: Option<&str>, told: &mut Vec<String>) -> Option<CgroupRecord> {
    let proc = state.proc();
    let mut places = vec![];
    let looked = Hierarchies::detect(proc).and_then(|hierarchies| {
        let machine_root = rustix::process::geteuid().is_root() && proc.in_initial_userns()?;
        let path = path.filter(|path| !path.is_empty());
        let named = path.map(PathBuf::from);
        // A path of systemd's form is hardly one of the other.
        let unit =
            UnitPlan::new(named.as_deref(), id.as_str(), machine_root, &Default::default(), hierarchies.layout());
        places.extend(unit.ok().map(|unit| PathBuf::from(unit.names.path())));
        places.push(named.unwrap_or_else(|| match machine_root {
            true => PathBuf::from("/").join(id.as_str()),
            false => PathBuf::from(id.as_str()),
        }));
        let mut found = None;
        for place in &places {
            let cgroup = hierarchies.find(place, proc)?;
            found = found.or(Some(cgroup).filter(|cgroup| !cgroup.is_none()));
        }
        Ok(found)
    });
    looked.unwrap_or_else(|error| {
        told.push(error.to_string());
        None
    })
}
