//! The systemd cgroup manager: a container's cgroup is the scope of a transient unit, which systemd makes, limits and
//! removes (systemd.scope(5), org.freedesktop.systemd1(5), "Control Group APIs and Delegation").
//!
//! A scope exists around a process: it can only be made once the child is there. systemd moves the child in; below the
//! scope, which is delegated, the container's own sub-cgroup is ours as any other cgroup is. In cgroup v2 that is where
//! the container's limits and device filter are; the scope has the same limits as properties of the unit, so that
//! systemd never has another opinion. In v1, and without a sub-cgroup, both are in one directory.

mod address;
mod bus;
mod manager;
mod message;
mod names;
mod properties;
mod unit;
mod variant;
mod wire;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use self::manager::Systemd;
pub(super) use self::manager::stop;
pub use self::names::Names;
use self::properties::Property;
pub use self::unit::Wanted;
use super::layout::Layout;
use crate::error::{Error, Result, member};

const SUBGROUP: &str = "run.oci.systemd.subgroup";

/// What the other cgroup manager does, and who chooses it: the user or an engine.
fn other_manager(does: &str) -> String {
    format!("tandem's `--cgroup-manager cgroupfs` {does}; an engine has a setting for its cgroup manager or driver")
}

/// The unit to make for a container.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UnitPlan {
    /// Slice and unit.
    pub names: Names,
    /// A cgroup below the unit's, which is the container's own.
    pub subgroup: Option<String>,
    /// What annotations ask for.
    properties: Vec<Property>,
    /// The container's ID, for the description.
    id: String,
}

impl UnitPlan {
    /// Plans the unit. `path` is `linux.cgroupsPath`.
    ///
    /// # Errors
    /// A path of another form, an annotation that is not understood.
    pub fn new(
        path: Option<&Path>,
        id: &str,
        machine_root: bool,
        annotations: &BTreeMap<String, String>,
        layout: Layout,
    ) -> Result<UnitPlan> {
        let names = Names::parse(path, id, if machine_root { "system.slice" } else { "user.slice" })?;
        let properties =
            variant::from_annotations(annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())))?;
        // In v1 no process has to leave the scope for its children to have controllers.
        let default = if layout == Layout::V2 { "container" } else { "" };
        let subgroup = annotations.get(SUBGROUP).map_or(default, String::as_str);
        let subgroup = (!subgroup.is_empty()).then(|| subgroup.to_owned());
        if let Some(name) = &subgroup {
            check_name(SUBGROUP, name)?;
        }
        Ok(UnitPlan { names, subgroup, properties, id: id.to_owned() })
    }
}

/// Refuses an annotation's value that is no name of a single sub-cgroup.
pub(crate) fn check_name(annotation: &str, name: &str) -> Result<()> {
    let bad =
        name.is_empty() || name == "." || name == ".." || name.contains('/') || name.chars().any(char::is_control);
    // The names of the kernel's own files begin so.
    let taken = name.split_once('.').is_some_and(|(first, _)| first == "cgroup");
    match bad || taken || name.len() > 255 {
        false => Ok(()),
        true => {
            let message = format!("annotation `{annotation}`: `{}` is no name of a sub-cgroup", name.escape_default());
            Err(Error::config(message).about(member("annotations", annotation)))
        }
    }
}

/// The unit of a container, as later commands find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitRecord {
    /// The unit's name.
    pub name: String,
    /// The address of the systemd that has it.
    pub address: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn plan(annotations: &[(&str, &str)]) -> Result<UnitPlan> {
        let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        UnitPlan::new(Some(Path::new("m.slice:p:n")), "id", true, &annotations, Layout::V2)
    }

    #[test]
    fn subgroups_by_annotation_and_layout() {
        assert_eq!(plan(&[]).unwrap().subgroup.as_deref(), Some("container"));
        assert_eq!(plan(&[(SUBGROUP, "x")]).unwrap().subgroup.as_deref(), Some("x"));
        assert_eq!(plan(&[(SUBGROUP, "")]).unwrap().subgroup, None);
        for bad in ["a/b", "..", ".", "a\n", "cgroup.x"] {
            let error = plan(&[(SUBGROUP, bad)]).unwrap_err().to_string();
            assert!(error.contains("run.oci.systemd.subgroup") && error.contains("no name of a sub-cgroup"), "{error}");
        }
        let v1 = UnitPlan::new(None, "id", false, &BTreeMap::new(), Layout::Hybrid).unwrap();
        assert_eq!((v1.subgroup, v1.names.slice.as_str()), (None, "user.slice"));
    }
}
