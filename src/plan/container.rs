//! The plan of one container, part after part.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use super::annotations::{Annotations, HookOutput};
use super::devices::{self, DevicePlan};
use super::findings::Findings;
use super::hooks::Hooks;
use super::host::Host;
use super::id::ContainerId;
use super::idmapped::OwnMaps;
use super::mounts::{self, MountPlan};
use super::namespaces::{IdMaps, Namespaces, flag};
use super::process::ProcessPlan;
use super::properties::{DEFAULT_PROPAGATION, named, paths, personality, rootfs_propagation, sysctls};
use super::seccomp::FilterPlan;
use super::sources::{Source, Sources};
use super::strategy::{MountStrategy, SourcesFrom, Strategy, Wanted};
use super::{
    CgroupPlan, ChildPlan, Choices, ContainerPlan, HookState, Plan, RootChange, label, memory_policy, net_devices, rdt,
};
use crate::error::{Error, Result};
use crate::protocol::Shape;

impl Plan {
    /// Plans one container. `bundle` is absolute.
    ///
    /// # Errors
    /// The first thing that is wrong with the configuration, or that can't be honoured on this host, with its property.
    pub fn from_spec(spec: &Spec, id: ContainerId, bundle: &Path, host: &Host, choices: Choices<'_>) -> Result<Plan> {
        Findings::first(|findings| Plan::read(spec, id, bundle, host, choices, findings))?
    }

    /// The same, with all that is wrong.
    ///
    /// # Errors
    /// Without what is wrong now the rest would mean nothing.
    pub(crate) fn read(
        spec: &Spec,
        id: ContainerId,
        bundle: &Path,
        host: &Host,
        choices: Choices<'_>,
        findings: &mut Findings,
    ) -> Result<Plan> {
        let rootfs = bundle.join(root(spec, findings));
        let readonly_rootfs = spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false);
        let mut process = match spec.process() {
            Some(process) => ProcessPlan::read(process, "process", host, choices.extras, findings),
            None => ProcessPlan::none(choices.extras),
        };
        let asked = Annotations::read(spec.annotations().as_ref(), findings);
        let annotations: BTreeMap<_, _> =
            spec.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        let hooks = Hooks::read(spec, findings);
        let linux = spec.linux().as_ref().ok_or_else(|| missing("linux"))?;

        let mut namespaces = Namespaces::read(linux, host, findings);
        let lines = IdMaps::read(linux, findings).map(|lines| lines.filled(&namespaces, spec, host));
        let id_maps = lines.as_ref().and_then(|lines| lines.of_new(&namespaces));
        let label = findings.or_default(label::of_mounts(linux, asked.mount_context, host));
        let rdt = findings.or_default(rdt::from_spec(linux, &id, host));
        let net_devices = net_devices::read(linux, &namespaces, findings);
        let wanted = Wanted {
            namespaces: &namespaces,
            host,
            hooks: &hooks,
            mounts: spec.mounts().as_deref().unwrap_or_default(),
            no_pivot: choices.no_pivot,
        };
        let strategy = findings.take(MountStrategy::choose(&wanted)).unwrap_or_else(|| MountStrategy::best(&wanted));

        if !(strategy.strategy.attaches() && host.mount_api.fsopen) {
            namespaces.born_in_joined_pid();
        }
        let own_mounts = namespaces.has(flag::MOUNT);
        let mut sources = Sources::default();
        if own_mounts {
            // Slot 0: the root itself, so that the child needs no path to it.
            sources.add(Source::tree(&rootfs));
        }
        let own_maps = OwnMaps::new(lines.unwrap_or_default(), &namespaces);
        let around = mounts::Surroundings {
            bundle,
            namespaces: &namespaces,
            host,
            label,
            strategy: &strategy,
            own_maps: &own_maps,
        };
        let mut mounts = mounts::read(spec, &around, &mut sources, findings);
        mounts.extend(choices.notify.map(|dir| mounts::notify(dir, &mut sources)));
        let seal_dev = mounts.iter_mut().map(MountPlan::open_dev).filter(|opened| *opened).count() > 0;
        let own_dev = own_mounts && !mounts.iter().any(binds_dev);
        let mut devices = if own_dev { devices::read(Some(linux), findings) } else { vec![] };
        devices.retain(|device| !is_mounted(device, &mounts));
        let slotted = slots(&devices, &mut sources);
        // Last: it is taken when all others are.
        let shown = strategy.shows_host.then(|| sources.add(Source::tree("/")));
        let fresh_devices = host.is_machine_root() && !namespaces.has_user();

        let filter = FilterPlan::decide(linux.seccomp().as_ref(), &asked, host.seccomp_receiver.as_deref(), findings);
        process.env.extend(choices.notify.map(|_| mounts::NOTIFY_VARIABLE.to_owned()));
        process.user.keep_groups = asked.keep_original_groups;
        process.memory_policy = findings.or_default(memory_policy::from_spec(linux));
        process.personality = findings.or_default(personality(linux));
        namespaces.child.keep_groups = asked.keep_original_groups;
        let masked_paths = paths(linux.masked_paths().as_deref(), "linux.maskedPaths", findings);
        let readonly_paths = paths(linux.readonly_paths().as_deref(), "linux.readonlyPaths", findings);
        if !own_mounts {
            needs_no_mounts(&mounts, &masked_paths, &readonly_paths, readonly_rootfs, findings);
        }
        let root_change = match (own_mounts, choices.no_pivot) {
            (false, _) => RootChange::Chroot,
            (true, true) => RootChange::Move,
            (true, false) => RootChange::Pivot,
        };
        let container = ContainerPlan {
            rootfs: rootfs.clone(),
            readonly_rootfs,
            propagation: findings.take(rootfs_propagation(linux)).unwrap_or(DEFAULT_PROPAGATION),
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
            mount_label: label.map(|label| label.text.to_owned()),
            seal_dev,
            masked_paths,
            readonly_paths,
            sysctls: sysctls(linux, &namespaces, findings),
            hostname: findings.or_default(named(spec.hostname(), "hostname", &namespaces, linux)),
            domainname: findings.or_default(named(spec.domainname(), "domainname", &namespaces, linux)),
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
            forks: namespaces.child.forks,
            sources: !sources.list().is_empty(),
            stage: strategy.sources == SourcesFrom::Stage,
            // A sysctl may be a device's: the child waits for them as it does for hooks.
            hooks: hooks.before_pivot() || !net_devices.is_empty(),
            terminal: process.terminal.is_some(),
            filter: filter.is_some(),
            hook_output: hook_output(&asked, &hooks),
            listener: filter.as_ref().is_some_and(|f| f.listener.is_some()),
        };
        if strategy.strategy == Strategy::Namespace {
            namespaces.leave_out(flag::MOUNT);
        }
        let managed = (choices.cgroups, choices.tolerance);
        let cgroup = CgroupPlan::read(linux, &id, host, managed, (&annotations, id_maps.as_ref()), findings);
        Ok(Plan {
            mount_strategy: strategy,
            oci_version: spec.version().clone(),
            bundle: bundle.into(),
            rootfs,
            cgroup,
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
                process,
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

fn missing(property: &str) -> Error {
    Error::config(format!("`{property}` is missing")).about(property)
}

/// `root.path`, empty if there is none.
fn root(spec: &Spec, findings: &mut Findings) -> PathBuf {
    if spec.vm().is_some() {
        findings.add(Error::at("vm", "this runtime makes containers, not virtual machines"));
    }
    let root = findings.take(spec.root().as_ref().ok_or_else(|| missing("root")));
    if root.is_some_and(|root| root.path().as_os_str().is_empty()) {
        findings.add(Error::config("`root.path` is empty").about("root.path"));
    }
    root.map(|root| root.path().clone()).unwrap_or_default()
}

fn binds_dev(mount: &MountPlan) -> bool {
    mount.destination == Path::new("/dev") && matches!(mount.what, mounts::What::Bind(_))
}

/// Whether a mount takes the place of a device that every container has, as `/dev/urandom` on `/dev/random` does. Not of
/// `/dev/null`: files are masked with it.
fn is_mounted(device: &DevicePlan, mounts: &[MountPlan]) -> bool {
    let default = devices::is_default(&device.path) && device.path != Path::new("/dev/null");
    default && mounts.iter().any(|mount| mount.destination == device.path)
}

/// A slot for each device.
fn slots(devices: &[DevicePlan], sources: &mut Sources) -> Vec<(DevicePlan, u32)> {
    let slot = |(index, device): (usize, &DevicePlan)| (device.clone(), sources.add(Source::Device { index }));
    devices.iter().enumerate().map(slot).collect()
}

/// Without a mount namespace there is nothing to mount in.
fn needs_no_mounts(
    mounts: &[MountPlan],
    masked: &[PathBuf],
    readonly: &[PathBuf],
    readonly_rootfs: bool,
    findings: &mut Findings,
) {
    const ADD: &str = "add {\"type\": \"mount\"} to `linux.namespaces`";
    let first =
        [("mounts", mounts.len()), ("linux.maskedPaths", masked.len()), ("linux.readonlyPaths", readonly.len())];
    if let Some((property, _)) = first.into_iter().find(|(_, count)| *count > 0) {
        let what = "`mounts`, `linux.maskedPaths` and `linux.readonlyPaths` need a mount namespace: without one they \
                    would change the host";
        findings.add(Error::config(what).advise(ADD).about(property));
    }
    if readonly_rootfs {
        findings.add(Error::config("`root.readonly` needs a mount namespace").advise(ADD).about("root.readonly"));
    }
}

/// Which of the hooks' two outputs are files, if a hook of the child's is to write to any.
fn hook_output(asked: &Annotations, hooks: &Hooks) -> Option<(bool, bool)> {
    let hooked = !(hooks.create_container.is_empty() && hooks.start_container.is_empty());
    let files = (asked.hooks.stdout.is_some(), asked.hooks.stderr.is_some());
    (asked.hooks != HookOutput::default() && hooked).then_some(files)
}
