//! The container's control group: where it is to be, who makes it, and what it limits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Linux;
use serde::Serialize;

use super::findings::Findings;
use super::host::Host;
use super::id::ContainerId;
use super::namespaces::{IdMap, IdMaps};
use super::resources::Resources;
use crate::cgroup::systemd::{UnitPlan, check_name};
use crate::cgroup::{Layout, Tolerance, check_path};
use crate::error::{Error, member};

const DELEGATE: &str = "run.oci.delegate-cgroup";

/// Who makes control groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupManager {
    /// The runtime itself.
    #[default]
    Cgroupfs,
    /// The machine's systemd, or the user's.
    Systemd,
    /// Nobody: the container stays in the runtime's.
    Disabled,
}

/// The container's control group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CgroupPlan {
    /// As a path below each hierarchy; the unit's below the one of its systemd.
    pub path: PathBuf,
    /// The unit to have systemd make; None if the runtime makes the cgroup itself.
    pub unit: Option<UnitPlan>,
    /// The limits: `linux.resources`.
    pub resources: Resources,
    /// Make do without a cgroup where the kernel refuses one and no limit is asked for.
    pub tolerance: Tolerance,
    /// A further sub-cgroup, by its path, which the container may arrange as it likes.
    pub delegate: Option<String>,
    /// The container's root, where it is another user than the runtime.
    pub owner: Option<(u32, u32)>,
}

impl CgroupPlan {
    /// Plans it, unless there is to be none. Wrong may be a limit, the path or an annotation.
    pub(super) fn read(
        linux: &Linux,
        id: &ContainerId,
        host: &Host,
        (manager, tolerance): (CgroupManager, Option<Tolerance>),
        (annotations, id_maps): (&BTreeMap<String, String>, Option<&IdMaps>),
        findings: &mut Findings,
    ) -> Option<CgroupPlan> {
        let resources = linux.resources().as_ref().map(|r| Resources::read(r, findings)).unwrap_or_default();
        if manager == CgroupManager::Disabled {
            return None;
        }
        let path = linux.cgroups_path().as_ref().filter(|p| !p.as_os_str().is_empty());
        let asked_for = path.is_some();
        let machine_root = host.is_machine_root();
        let layout = host.cgroups.layout();
        let unit = match manager {
            CgroupManager::Systemd if layout == Layout::None => {
                let message = "the systemd cgroup manager needs cgroups, and none are mounted";
                findings.add(Error::config(message).about("linux.cgroupsPath"));
                None
            }
            CgroupManager::Systemd => {
                let path = path.map(PathBuf::as_path);
                findings.take(UnitPlan::new(path, id.as_str(), machine_root, annotations, layout))
            }
            _ => None,
        };
        let path = match (&unit, path) {
            (Some(unit), _) => PathBuf::from(unit.names.path()),
            (None, Some(path)) => path.clone(),
            // Beside the runtime's own cgroup where it may not write at the top.
            (None, None) if machine_root => Path::new("/").join(id.as_str()),
            (None, None) => PathBuf::from(id.as_str()),
        };
        let delegate = annotations.get(DELEGATE).map(|path| path.trim_matches('/')).filter(|path| !path.is_empty());
        if let Some(path) = delegate {
            for name in path.split('/') {
                findings.take(check_name(DELEGATE, name));
            }
            if layout != Layout::V2 {
                let message = format!("annotation `{DELEGATE}`: only cgroup v2 can be delegated");
                findings.add(Error::config(message).about(member("annotations", DELEGATE)));
            }
        }
        if manager == CgroupManager::Cgroupfs {
            findings.take(check_path(&path));
        }
        Some(CgroupPlan {
            path,
            unit,
            resources,
            tolerance: match (tolerance, machine_root) {
                (Some(tolerance), _) => tolerance,
                (None, true) => Tolerance::Strict,
                // An engine in a user namespace of its own names a path whether or not it may have one.
                (None, false) if asked_for && host.initial_userns => Tolerance::RootlessByPath,
                (None, false) => Tolerance::Rootless,
            },
            delegate: delegate.map(str::to_owned),
            owner: id_maps.and_then(|maps| Some((outside(&maps.uid)?, outside(&maps.gid)?))),
        })
    }
}

/// What 0 in the container is outside.
fn outside(map: &[IdMap]) -> Option<u32> {
    map.iter().find(|line| line.container == 0 && line.size > 0).map(|line| line.host)
}
