//! From config.json to a [`Plan`]: every rejection, before any side effect. Nothing else reads the configuration.
//!
//! The plan is what the parent carries out; its [`ChildPlan`] is what the child is told, over the socket.

pub mod annotations;
pub(crate) mod architectures;
pub mod cgroup;
mod cgroup_mount;
mod container;
mod default_ids;
mod describe;
mod device_rule;
pub mod devices;
pub mod findings;
pub mod hooks;
pub mod host;
pub mod id;
pub mod idmapped;
pub(crate) mod json;
mod label;
pub mod live;
pub mod load;
pub(crate) mod meant;
pub mod memory_policy;
pub mod mounts;
pub mod namespaces;
pub mod net_devices;
pub(crate) mod numbers;
pub mod options;
mod parted;
pub mod process;
pub(crate) mod properties;
pub mod rdt;
pub(crate) mod required;
pub mod resources;
pub mod scheduler;
pub mod seccomp;
pub mod sources;
pub mod strategy;
pub mod time_offsets;
pub mod user;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Process;
use serde::{Deserialize, Serialize};

use crate::cgroup::Tolerance;
use crate::error::Result;
use crate::protocol::Shape;
use annotations::HookOutput;
pub use cgroup::{CgroupManager, CgroupPlan};
use devices::DevicePlan;
use hooks::{HookPlan, Hooks};
use host::Host;
use id::ContainerId;
use mounts::MountPlan;
use namespaces::{ChildNamespaces, IdMaps, Namespaces};
use net_devices::NetDevicePlan;
use options::Propagation;
use process::{Extras, ProcessPlan};
use rdt::RdtPlan;
use seccomp::FilterPlan;
use sources::Source;
use strategy::{MountApi, MountStrategy, Strategy};

/// All that the parent does for one container.
#[derive(Debug, Serialize)]
pub struct Plan {
    #[allow(missing_docs)]
    pub id: ContainerId,
    /// `ociVersion` of the configuration.
    pub oci_version: String,
    /// Absolute.
    pub bundle: PathBuf,
    /// Absolute.
    pub rootfs: PathBuf,
    #[allow(missing_docs)]
    pub annotations: BTreeMap<String, String>,
    #[allow(missing_docs)]
    pub namespaces: Namespaces,
    /// Of a new user namespace.
    pub id_maps: Option<IdMaps>,
    /// None with `--cgroup-manager disabled`.
    pub cgroup: Option<CgroupPlan>,
    /// The container's resctrl group.
    pub rdt: Option<RdtPlan>,
    /// How the mounts come about.
    pub mount_strategy: MountStrategy,
    /// What to open for the child.
    pub sources: Vec<Source>,
    /// The device nodes, which [`Source::Device`] counts.
    pub devices: Vec<DevicePlan>,
    /// Make fresh device nodes for the container; else bind the host's.
    pub fresh_devices: bool,
    #[allow(missing_docs)]
    pub filter: Option<FilterPlan>,
    /// Devices of the host that become the container's.
    pub net_devices: Vec<NetDevicePlan>,
    /// A socket that gets the first process's pidfd.
    pub pidfd_receiver: Option<PathBuf>,
    #[allow(missing_docs)]
    pub hooks: Hooks,
    /// Where they write.
    pub hook_output: HookOutput,
    /// What the child is told.
    pub child: ChildPlan,
}

/// All that a child does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildPlan {
    /// Which messages will be sent.
    pub shape: Shape,
    /// Whether to report a trace.
    pub trace: bool,
    #[allow(missing_docs)]
    pub namespaces: ChildNamespaces,
    /// `SECCOMP_FILTER_FLAG_*` of the filter that will be sent.
    pub filter_flags: u64,
    /// The process to become.
    pub process: ProcessPlan,
    /// The container to build first; None for `exec`.
    pub container: Option<Box<ContainerPlan>>,
}

/// What the child builds before it becomes the container's first process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPlan {
    /// Absolute, on the host.
    pub rootfs: PathBuf,
    #[allow(missing_docs)]
    pub readonly_rootfs: bool,
    /// Of the root mount, recursive or not.
    pub propagation: (Propagation, bool),
    /// Whether there is a mount namespace of the container's own; without, the rootfs is only chrooted to.
    pub own_mounts: bool,
    /// How the mounts come about.
    pub strategy: Strategy,
    /// What of the new mount API may be called.
    pub mount_api: MountApi,
    /// How the root is changed, where it is not entered with its namespace ([`Strategy::Namespace`]).
    pub root_change: RootChange,
    /// The child's copies of the host's mounts stay as shared as they are until they are left behind: sources that are bound
    /// by path keep their peer groups. Hooks could mount on them, and a root that is moved needs a parent that is not shared.
    pub host_stays_shared: bool,
    /// What must happen between the mounts and the change of the root.
    pub change_late: Option<String>,
    /// The slot with the host's own root, for hooks to see.
    pub host: Option<u32>,
    #[allow(missing_docs)]
    pub mounts: Vec<MountPlan>,
    /// Device nodes with the slots they come from; none where the configuration mounts its own `/dev`.
    pub devices: Vec<(DevicePlan, u32)>,
    /// Whether the devices are made afresh, which is also how the child makes those whose slot is empty.
    pub fresh_devices: bool,
    /// Whether `/dev` is the container's to fill: links, console.
    pub own_dev: bool,
    /// The SELinux label of all that is made for the container beside its mounts: device nodes, masks.
    pub mount_label: Option<String>,
    /// It is to be read-only once it is filled.
    pub seal_dev: bool,
    #[allow(missing_docs)]
    pub masked_paths: Vec<PathBuf>,
    #[allow(missing_docs)]
    pub readonly_paths: Vec<PathBuf>,
    /// Path below `/proc/sys` and value.
    pub sysctls: Vec<(String, String)>,
    #[allow(missing_docs)]
    pub hostname: Option<String>,
    #[allow(missing_docs)]
    pub domainname: Option<String>,
    #[allow(missing_docs)]
    pub create_container_hooks: Vec<HookPlan>,
    #[allow(missing_docs)]
    pub start_container_hooks: Vec<HookPlan>,
    /// What hooks read on standard input, without pid and status.
    pub state: HookState,
}

/// The part of the container's state that is known before its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookState {
    #[allow(missing_docs)]
    pub oci_version: String,
    #[allow(missing_docs)]
    pub id: String,
    #[allow(missing_docs)]
    pub bundle: PathBuf,
    #[allow(missing_docs)]
    pub annotations: BTreeMap<String, String>,
}

/// How the container's root becomes `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootChange {
    /// pivot_root(2).
    Pivot,
    /// `--no-pivot`: MS_MOVE over `/`, then chroot, for a root on a ramfs.
    Move,
    /// chroot alone: there is no mount namespace to change the root of.
    Chroot,
}

/// What the command line decides.
#[derive(Clone, Copy, Debug)]
pub struct Choices<'a> {
    /// `--no-pivot`.
    pub no_pivot: bool,
    /// `--cgroup-manager`.
    pub cgroups: CgroupManager,
    /// `--rootless`: what to make of a refused cgroup; None where the host is to decide.
    pub tolerance: Option<Tolerance>,
    /// Whether a trace is wanted.
    pub trace: bool,
    /// The directory for the socket on which the payload says that it is ready; sd_notify(3).
    pub notify: Option<&'a Path>,
    #[allow(missing_docs)]
    pub extras: Extras<'a>,
}

impl Plan {
    /// The id maps of a user namespace that the clone itself makes: the child image starts once they are written.
    pub fn maps_at_clone(&self) -> Option<&IdMaps> {
        self.id_maps.as_ref().filter(|_| !self.namespaces.child.late_userns)
    }

    /// The slot with the host's root, for hooks to see.
    pub fn shown_host(&self) -> Option<usize> {
        self.child.container.as_ref()?.host.map(|slot| slot as usize)
    }

    /// Whether any source but the root is a tree of mounts.
    pub fn binds_trees(&self) -> bool {
        self.sources.iter().skip(1).any(|source| matches!(source, Source::Path { recursive: true, .. }))
    }

    /// Completes the plan with the environment of createContainer hooks that have none of their own: the command's, which
    /// the child does not know.
    ///
    /// Not the payload's, as with runc: their programs are the host's, run with its root's rights, and an image must not
    /// set LD_PRELOAD for them (CVE-2025-23266).
    pub fn give_hooks_environment(&mut self, env: impl Fn() -> Vec<String>) {
        let hooks = self.child.container.iter_mut().flat_map(|container| &mut container.create_container_hooks);
        hooks.for_each(|hook| *hook = hook.or_env(&env));
    }

    /// Completes the plan once the places of the container's control groups are known: without a cgroup namespace, they
    /// are what its `/sys/fs/cgroup` shows.
    pub fn place_cgroups(&mut self, place: impl Fn(&str) -> Option<PathBuf>) {
        for source in &mut self.sources {
            if let Source::Cgroup { controller } = source
                && let Some(path) = place(controller)
            {
                *source = Source::Path { path, recursive: false, nofollow: true, idmapped: None };
            }
        }
        let Some(container) = &mut self.child.container else { return };
        for mount in &mut container.mounts {
            let mounts::What::CgroupV1(cgroup) = &mut mount.what else { continue };
            for entry in &mut cgroup.entries {
                let controller = entry.data.split(',').next().unwrap_or_default();
                if let (Some(bind), Some(place)) = (&mut entry.bind, place(controller)) {
                    bind.source = place;
                }
            }
        }
    }
}

impl ChildPlan {
    /// Plans a process that joins a running container, whose namespaces are joined first.
    ///
    /// # Errors
    /// What can't be honoured of the process.
    pub fn exec(
        process: &Process,
        filter: Option<&FilterPlan>,
        keep_groups: bool,
        host: &Host,
        choices: Choices<'_>,
    ) -> Result<ChildPlan> {
        let mut process = ProcessPlan::from_spec(process, "process", host, choices.extras)?;
        process.user.keep_groups = keep_groups;
        let terminal = process.terminal.is_some();
        Ok(ChildPlan {
            shape: Shape {
                joins: true,
                terminal,
                filter: filter.is_some(),
                listener: filter.is_some_and(|f| f.listener.is_some()),
                ..Shape::default()
            },
            trace: choices.trace,
            namespaces: ChildNamespaces::default(),
            filter_flags: filter.map_or(0, |f| f.flags),
            process,
            container: None,
        })
    }
}

#[cfg(test)]
mod tests;
