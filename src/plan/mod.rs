//! From config.json to a [`Plan`]: every rejection, before any side effect. Nothing else reads the configuration.
//!
//! The plan is what the parent carries out; its [`ChildPlan`] is what the child is told, over the socket.

pub mod annotations;
pub mod cgroup;
pub mod devices;
pub mod hooks;
pub mod host;
pub mod id;
pub mod idmapped;
pub mod live;
pub mod load;
pub mod memory_policy;
pub mod mounts;
pub mod namespaces;
pub mod net_devices;
mod numbers;
pub mod options;
pub mod process;
mod properties;
pub mod rdt;
pub mod resources;
pub mod seccomp;
pub mod sources;
pub mod strategy;
pub mod user;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};
use serde::{Deserialize, Serialize};

use crate::cgroup::Tolerance;
use crate::error::{Error, Result};
use crate::protocol::Shape;
use annotations::{Annotations, HookOutput};
pub use cgroup::{CgroupManager, CgroupPlan};
use devices::DevicePlan;
use hooks::{HookPlan, Hooks};
use host::Host;
use id::ContainerId;
use idmapped::OwnMaps;
use mounts::MountPlan;
use namespaces::{ChildNamespaces, IdMaps, Namespaces, flag};
use net_devices::NetDevicePlan;
use options::Propagation;
use process::{Extras, ProcessPlan};
use properties::{named, paths, personality, rootfs_propagation, sysctls};
use rdt::RdtPlan;
use seccomp::FilterPlan;
use sources::{Source, Sources};
use strategy::{MountApi, MountStrategy, Strategy, Wanted};

/// All that the parent does for one container.
#[derive(Debug)]
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
    /// Persona of personality(2).
    pub personality: Option<u32>,
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
    /// Plans one container. `bundle` is absolute.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration, or that can't be honoured on this host, each with its property.
    pub fn from_spec(spec: &Spec, id: ContainerId, bundle: &Path, host: &Host, choices: Choices<'_>) -> Result<Plan> {
        let linux = spec.linux().as_ref().ok_or_else(|| Error::config("`linux` is missing"))?;
        if spec.vm().is_some() {
            return Err(Error::config("`vm`: this runtime makes containers, not virtual machines"));
        }
        let root = spec.root().as_ref().ok_or_else(|| Error::config("`root` is missing"))?;
        if root.path().as_os_str().is_empty() {
            return Err(Error::config("`root.path` is empty"));
        }
        let rootfs = bundle.join(root.path());
        let process = spec.process().as_ref().ok_or_else(|| Error::config("`process` is missing"))?;
        let mut namespaces = Namespaces::from_spec(linux, host)?;
        let lines = IdMaps::from_spec(linux)?;
        let id_maps = lines.of_new(&namespaces)?;
        let asked = Annotations::from_spec(spec.annotations().as_ref())?;
        let annotations: BTreeMap<_, _> =
            spec.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        let label = linux.mount_label().as_deref().filter(|l| !l.is_empty());
        if label.is_some() && !host.selinux {
            return Err(Error::config("`linux.mountLabel`: SELinux is not enabled on this host"));
        }

        let rdt = rdt::from_spec(linux, &id, host)?;
        let net_devices = net_devices::from_spec(linux, &namespaces)?;
        let hooks = Hooks::from_spec(spec)?;
        let strategy = MountStrategy::choose(&Wanted {
            namespaces: &namespaces,
            host,
            hooks: &hooks,
            mounts: spec.mounts().as_deref().unwrap_or_default(),
            no_pivot: choices.no_pivot,
        })?;
        let mut sources = Sources::default();
        if namespaces.has(flag::MOUNT) {
            // Slot 0: the root itself, so that the child needs no path to it.
            sources.add(Source::tree(&rootfs));
        }
        let own_maps = OwnMaps::new(lines, &namespaces);
        let around = mounts::Surroundings {
            bundle,
            namespaces: &namespaces,
            host,
            label: label.map(|label| (asked.mount_context, label)),
            strategy: &strategy,
            own_maps: &own_maps,
        };
        let mut mounts = mounts::from_spec(spec, &around, &mut sources)?;
        mounts.extend(choices.notify.map(|dir| mounts::notify(dir, &mut sources)));
        let seal_dev = mounts.iter_mut().map(MountPlan::open_dev).filter(|opened| *opened).count() > 0;
        let own_mounts = namespaces.has(flag::MOUNT);
        let own_dev = own_mounts && !mounts.iter().any(binds_dev);
        let devices = if own_dev { devices::from_spec(Some(linux))? } else { vec![] };
        let slots = (0..devices.len()).map(|index| sources.add(Source::Device { index }));
        let slotted: Vec<_> = devices.iter().cloned().zip(slots).collect();
        // Last: it is taken when all others are.
        let shown = strategy.shows_host.then(|| sources.add(Source::tree("/")));
        let fresh_devices = host.is_machine_root() && !namespaces.has_user();

        let filter = FilterPlan::choose(linux.seccomp().as_ref(), &asked, host.seccomp_receiver.as_deref())?;
        let mut process_plan = ProcessPlan::from_spec(process, "process", host, choices.extras)?;
        process_plan.env.extend(choices.notify.map(|_| mounts::NOTIFY_VARIABLE.to_owned()));
        process_plan.user.keep_groups = asked.keep_original_groups;
        process_plan.memory_policy = memory_policy::from_spec(linux)?;
        namespaces.child.keep_groups = asked.keep_original_groups;
        let masked_paths = paths(linux.masked_paths().as_deref(), "linux.maskedPaths")?;
        let readonly_paths = paths(linux.readonly_paths().as_deref(), "linux.readonlyPaths")?;
        let mounts_nothing = mounts.is_empty() && masked_paths.is_empty() && readonly_paths.is_empty();
        if !own_mounts && !mounts_nothing {
            let what = "`mounts`, `linux.maskedPaths` and `linux.readonlyPaths` need a mount namespace: without one they \
                        would change the host";
            return Err(Error::config(what).advise("add {\"type\": \"mount\"} to `linux.namespaces`"));
        }
        if !own_mounts && root.readonly().unwrap_or(false) {
            return Err(Error::config("`root.readonly` needs a mount namespace"));
        }
        let root_change = match (own_mounts, choices.no_pivot) {
            (false, _) => RootChange::Chroot,
            (true, true) => RootChange::Move,
            (true, false) => RootChange::Pivot,
        };
        let container = ContainerPlan {
            rootfs: rootfs.clone(),
            readonly_rootfs: root.readonly().unwrap_or(false),
            propagation: rootfs_propagation(linux)?,
            own_mounts,
            strategy: strategy.strategy,
            mount_api: strategy.api(host.mount_api),
            root_change,
            host_stays_shared: strategy.strategy == Strategy::Mount
                && root_change == RootChange::Pivot
                && !hooks.before_pivot(),
            change_late: strategy.late.map(str::to_owned),
            host: shown,
            mounts,
            devices: slotted,
            fresh_devices,
            own_dev,
            seal_dev,
            masked_paths,
            readonly_paths,
            sysctls: sysctls(linux, &namespaces)?,
            hostname: named(spec.hostname(), "hostname", &namespaces)?,
            domainname: named(spec.domainname(), "domainname", &namespaces)?,
            personality: personality(linux)?,
            create_container_hooks: hooks.create_container.clone(),
            start_container_hooks: hooks.start_container.clone(),
            state: HookState {
                oci_version: spec.version().clone(),
                id: id.to_string(),
                bundle: bundle.into(),
                annotations: annotations.clone(),
            },
        };
        let shape = Shape {
            joins: !namespaces.join.is_empty(),
            late_userns: namespaces.child.late_userns,
            forks: namespaces.child.fork,
            sources: !sources.list().is_empty(),
            stage: strategy.sources == strategy::SourcesFrom::Stage,
            // A sysctl may be a device's: the child waits for them as it does for hooks.
            hooks: hooks.before_pivot() || !net_devices.is_empty(),
            terminal: process_plan.terminal.is_some(),
            filter: filter.is_some(),
            hook_output: (asked.hooks != HookOutput::default()
                && !(hooks.create_container.is_empty() && hooks.start_container.is_empty()))
            .then(|| (asked.hooks.stdout.is_some(), asked.hooks.stderr.is_some())),
            listener: filter.as_ref().is_some_and(|f| f.listener.is_some()),
        };
        if strategy.strategy == Strategy::Namespace {
            namespaces.leave_out(flag::MOUNT);
        }
        Ok(Plan {
            mount_strategy: strategy,
            oci_version: spec.version().clone(),
            bundle: bundle.into(),
            rootfs,
            cgroup: {
                let (manager, tolerance) = (choices.cgroups, choices.tolerance);
                CgroupPlan::from_spec(linux, &id, host, (manager, tolerance), (&annotations, id_maps.as_ref()))?
            },
            rdt,
            annotations,
            id_maps,
            sources: sources.list().to_vec(),
            devices,
            fresh_devices,
            hooks,
            child: ChildPlan {
                shape,
                trace: choices.trace,
                namespaces: namespaces.child.clone(),
                filter_flags: filter.as_ref().map_or(0, |f| f.flags),
                process: process_plan,
                container: Some(Box::new(container)),
            },
            namespaces,
            filter,
            net_devices,
            pidfd_receiver: asked.pidfd_receiver,
            hook_output: asked.hooks,
            id,
        })
    }
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
    /// Plans a process that joins a running container, whose namespaces, beside the pid namespace that the parent sets
    /// itself, are joined first.
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

fn binds_dev(mount: &MountPlan) -> bool {
    mount.destination == Path::new("/dev") && matches!(mount.what, mounts::What::Bind(_))
}

#[cfg(test)]
mod tests;
