//! The container's control group: where it is to be, who makes it, and what it limits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Linux;

use super::host::Host;
use super::id::ContainerId;
use super::namespaces::{IdMap, IdMaps};
use super::resources::Resources;
use crate::cgroup::systemd::{UnitPlan, check_name};
use crate::cgroup::{Layout, Tolerance};
use crate::error::{Error, Result};

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
#[derive(Clone, Debug, PartialEq)]
pub struct CgroupPlan {
    /// As a path below each hierarchy; the unit's below the one of its systemd.
    pub path: PathBuf,
    /// The unit to have systemd make; None if the runtime makes the cgroup itself.
    pub unit: Option<UnitPlan>,
    /// The limits: `linux.resources`.
    pub resources: Resources,
    /// Make do without a cgroup where the kernel refuses one and no limit is asked for.
    pub tolerance: Tolerance,
    /// A further sub-cgroup, which the container may arrange as it likes.
    pub delegate: Option<String>,
    /// The container's root, where it is another user than the runtime.
    pub owner: Option<(u32, u32)>,
}

impl CgroupPlan {
    /// Plans it, unless there is to be none.
    ///
    /// # Errors
    /// A limit, a path or an annotation that is wrong.
    pub(super) fn from_spec(
        linux: &Linux,
        id: &ContainerId,
        host: &Host,
        (manager, tolerance): (CgroupManager, Option<Tolerance>),
        (annotations, id_maps): (&BTreeMap<String, String>, Option<&IdMaps>),
    ) -> Result<Option<CgroupPlan>> {
        let resources = linux.resources().as_ref().map(Resources::from_spec).transpose()?.unwrap_or_default();
        if manager == CgroupManager::Disabled {
            return Ok(None);
        }
        let path = linux.cgroups_path().as_ref().filter(|p| !p.as_os_str().is_empty());
        let machine_root = host.is_machine_root();
        let layout = host.cgroups.layout();
        let unit = match manager {
            CgroupManager::Systemd if layout == Layout::None => {
                return Err(Error::config("the systemd cgroup manager needs cgroups, and none are mounted"));
            }
            CgroupManager::Systemd => {
                let path = path.map(PathBuf::as_path);
                Some(UnitPlan::new(path, id.as_str(), machine_root, annotations, layout)?)
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
        let delegate = annotations.get(DELEGATE).filter(|name| !name.is_empty()).cloned();
        if let Some(name) = &delegate {
            check_name(DELEGATE, name)?;
            if layout != Layout::V2 {
                return Err(Error::config(format!("annotation `{DELEGATE}`: only cgroup v2 can be delegated")));
            }
        }
        Ok(Some(CgroupPlan {
            path,
            unit,
            resources,
            tolerance: match (tolerance, machine_root) {
                (Some(tolerance), _) => tolerance,
                (None, true) => Tolerance::Strict,
                (None, false) => Tolerance::Rootless,
            },
            delegate,
            owner: id_maps.and_then(|maps| Some((outside(&maps.uid)?, outside(&maps.gid)?))),
        }))
    }
}

/// What 0 in the container is outside.
fn outside(map: &[IdMap]) -> Option<u32> {
    map.iter().find(|line| line.container == 0 && line.size > 0).map(|line| line.host)
}
