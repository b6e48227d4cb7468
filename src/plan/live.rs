//! `mounts add`: mounts for a container that runs already, planned as those of config.json are.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};

use super::annotations::Annotations;
use super::hooks::Hooks;
use super::host::Host;
use super::idmapped::OwnMaps;
use super::label;
use super::mounts::{self, MountPlan, What};
use super::namespaces::{IdMaps, Namespaces, flag};
use super::sources::{Source, Sources};
use super::strategy::{MountApi, MountStrategy, Wanted};
use crate::error::{Error, Kind, Result};

/// What is to be mounted.
#[derive(Debug)]
pub struct LivePlan {
    /// In the order in which they are attached.
    pub mounts: Vec<MountPlan>,
    /// What the slots of the mounts stand for.
    pub sources: Vec<Source>,
    /// What of the new mount API may be called.
    pub api: MountApi,
}

impl LivePlan {
    /// Plans them. `spec` is the container's own configuration.
    ///
    /// # Errors
    /// As for `mounts` of a configuration; and what only a container that is being made can have.
    pub fn new(spec: &Spec, added: Vec<Mount>, bundle: &Path, host: &Host) -> Result<LivePlan> {
        let linux = spec.linux().as_ref().ok_or_else(|| Error::config("`linux` is missing"))?;
        let annotations = Annotations::from_spec(spec.annotations().as_ref())?;
        let namespaces = Namespaces::from_spec(linux, host)?;
        if !namespaces.has(flag::MOUNT) {
            return Err(Error::new(Kind::State, "the container has no mount namespace: a mount would be the host's"));
        }
        if !host.mount_api.open_tree || !host.mount_api.move_mount || !host.mount_api.fsopen {
            return Err(Error::system(
                "a running container gets mounts by open_tree, fsopen and move_mount, which the kernel lacks",
            ));
        }
        let hooks = Hooks::default();
        let wanted = Wanted { namespaces: &namespaces, host, hooks: &hooks, mounts: &added, no_pivot: false };
        let strategy = MountStrategy::choose(&wanted)?;
        let label = label::of_mounts(linux, annotations.mount_context, host)?;
        let own_maps = OwnMaps::new(IdMaps::from_spec(linux)?.filled(&namespaces, spec, host), &namespaces);
        let (namespaces, strategy, own_maps) = (&namespaces, &strategy, &own_maps);
        let around = mounts::Surroundings { bundle, namespaces, host, label, strategy, own_maps };
        let mut with_added = Spec::default();
        with_added.set_mounts(Some(added));
        let mut sources = Sources::default();
        let mounts = mounts::from_spec(&with_added, &around, &mut sources)?;
        for (i, mount) in mounts.iter().enumerate() {
            let refuse = |what: &str| {
                Err(Error::config(format!("`mounts[{i}]`: {what} is only for a container that is being created")))
            };
            match &mount.what {
                What::CgroupV1(_) => return refuse("a mount of cgroup v1"),
                What::Bind(bind) if bind.idmapped && namespaces.has_user() => return refuse(LOCKED),
                What::Bind(bind) if bind.copy_symlink => return refuse("`copy-symlink`"),
                What::Bind(_) | What::Filesystem(_) => {}
            }
        }
        Ok(LivePlan { mounts, sources: sources.list().to_vec(), api: host.mount_api })
    }
}

/// The kernel locks the flags of what is copied into a user namespace's mounts, and maps only what is not there yet.
const LOCKED: &str = "an id-mapped bind in a container with a user namespace, which could take its flags off,";

/// Where mounts are to be taken away.
///
/// # Errors
/// A place that is the container's root.
pub fn destinations(removed: &[Mount]) -> Result<Vec<PathBuf>> {
    let places = removed.iter().enumerate();
    places.map(|(i, mount)| mounts::destination(mount.destination(), &format!("mounts[{i}]"))).collect()
}
