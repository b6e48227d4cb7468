//! What the plan must know of the host. Asked once, before the plan; the plan itself asks nothing.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Process, Spec};
use rustix::io::Errno;

use super::namespaces::joined_at;
use super::strategy::{MountApi, OVERRIDE};
use super::user::{IdRange, name_of, range_of};
use crate::cgroup::Hierarchies;
use crate::error::Result;
use crate::procfs::Proc;
use crate::selinux;
use crate::sys::mount::{Call, ask};

/// As crun has it.
const RECEIVER: &str = "RUN_OCI_SECCOMP_RECEIVER";

/// Facts about the host and about the runtime's own place on it.
#[derive(Debug, Default)]
pub struct Host {
    /// The effective user is 0 in the runtime's own user namespace.
    pub root: bool,
    /// The runtime is in the initial user namespace: its root is the machine's.
    pub initial_userns: bool,
    /// What the kernel has of the new mount API.
    pub mount_api: MountApi,
    /// The strategy that [`super::strategy::OVERRIDE`] asks for.
    pub strategy: Option<String>,
    /// Where control groups are.
    pub cgroups: Hierarchies,
    /// `RUN_OCI_SECCOMP_RECEIVER`: where the listener of a seccomp filter goes that names no place.
    pub seccomp_receiver: Option<PathBuf>,
    /// A resctrl file system is mounted.
    pub resctrl: bool,
    /// SELinux is enabled.
    pub selinux: bool,
    /// AppArmor is enabled.
    pub apparmor: bool,
    /// What a user namespace without mappings of its own can be given.
    pub ids: Ids,
}

/// The runtime's own IDs in its user namespace, and those that it may map beside them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ids {
    #[allow(missing_docs)]
    pub uid: u32,
    #[allow(missing_docs)]
    pub gid: u32,
    /// Of `/etc/subuid`.
    pub uids: Option<IdRange>,
    /// Of `/etc/subgid`.
    pub gids: Option<IdRange>,
}

impl Ids {
    fn look() -> Ids {
        let read = |file| std::fs::read_to_string(file).unwrap_or_default();
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        // Without NSS, which a static program has not.
        let name = name_of(uid, &read("/etc/passwd"));
        let range = |file| range_of(uid, name.as_deref(), &read(file));
        Ids { uid, gid, uids: range("/etc/subuid"), gids: range("/etc/subgid") }
    }
}

impl Host {
    /// Looks. LSMs, resctrl and ranges of IDs only if the configuration needs them.
    ///
    /// # Errors
    /// A `/proc` or `/sys/fs/cgroup` that can't be read.
    pub(crate) fn look(spec: &Spec, proc: &Proc) -> Result<Host> {
        let process = spec.process().as_ref();
        let mount_label = spec.linux().as_ref().and_then(|l| l.mount_label().as_ref());
        let selinux = is_named(process.and_then(|p| p.selinux_label().as_ref())) || is_named(mount_label);
        let apparmor = is_named(process.and_then(|p| p.apparmor_profile().as_ref()));
        let rdt = spec.linux().as_ref().is_some_and(|l| l.intel_rdt().is_some());
        Ok(Host {
            resctrl: rdt && crate::cgroup::resctrl::is_mounted(),
            selinux: selinux && selinux::is_enabled(proc),
            apparmor: apparmor && has_apparmor(proc),
            ids: if lacks_mappings(spec) { Ids::look() } else { Ids::default() },
            ..Host::plain(proc)?
        })
    }

    /// The same for a further process, which may name an LSM that the container's configuration does not.
    pub(crate) fn look_for_labels(&mut self, process: &Process, proc: &Proc) {
        self.selinux = self.selinux || is_named(process.selinux_label().as_ref()) && selinux::is_enabled(proc);
        self.apparmor = self.apparmor || is_named(process.apparmor_profile().as_ref()) && has_apparmor(proc);
    }

    /// Looks at what concerns every container.
    fn plain(proc: &Proc) -> Result<Host> {
        Ok(Host {
            root: rustix::process::geteuid().is_root(),
            initial_userns: proc.in_initial_userns()?,
            strategy: std::env::var(OVERRIDE).ok().filter(|name| !name.is_empty()),
            cgroups: Hierarchies::detect(proc)?,
            seccomp_receiver: std::env::var_os(RECEIVER).filter(|path| !path.is_empty()).map(PathBuf::from),
            ..Host::default()
        })
    }

    /// Looks at everything, whatever a configuration names.
    ///
    /// # Errors
    /// As [`Host::look`].
    pub(crate) fn look_at_all(proc: &Proc) -> Result<Host> {
        let host = Host::plain(proc)?;
        Ok(Host {
            mount_api: mount_api(host.is_machine_root()),
            resctrl: crate::cgroup::resctrl::is_mounted(),
            selinux: selinux::is_enabled(proc),
            apparmor: has_apparmor(proc),
            ..host
        })
    }

    /// Looks at what a container's mounts need to know, too.
    ///
    /// # Errors
    /// As [`Host::look`].
    pub(crate) fn look_for_mounts(spec: &Spec, proc: &Proc) -> Result<Host> {
        let host = Host::look(spec, proc)?;
        Ok(Host { mount_api: mount_api(host.is_machine_root()), ..host })
    }

    /// Whether the runtime has the machine's own root rights.
    pub fn is_machine_root(&self) -> bool {
        self.root && self.initial_userns
    }
}

/// Asks for each call. What answers EPERM to the machine's root is a filter around the runtime, and as good as not there;
/// to another it may just say that it has no rights here, which its child will have in a user namespace of its own.
fn mount_api(machine_root: bool) -> MountApi {
    let has = |call| match ask(call) {
        Errno::NOSYS => false,
        Errno::PERM => !machine_root,
        _ => true,
    };
    MountApi {
        open_tree: has(Call::OpenTree),
        move_mount: has(Call::MoveMount),
        fsopen: [Call::Fsopen, Call::Fsconfig, Call::Fsmount].into_iter().all(has),
        mount_setattr: has(Call::MountSetattr),
        // Only a kernel that knows the flag gets as far as to look for the fd.
        namespace: ask(Call::OpenTreeNamespace) == Errno::BADF,
    }
}

/// Whether there is a new user namespace whose mapping is to be made up.
fn lacks_mappings(spec: &Spec) -> bool {
    let Some(linux) = spec.linux() else { return false };
    let mut namespaces = linux.namespaces().iter().flatten();
    let none = |lines: &Option<Vec<LinuxIdMapping>>| lines.as_ref().is_none_or(Vec::is_empty);
    namespaces.any(|namespace| namespace.typ() == LinuxNamespaceType::User && joined_at(namespace).is_none())
        && (none(linux.uid_mappings()) || none(linux.gid_mappings()))
}

fn is_named(label: Option<&String>) -> bool {
    label.is_some_and(|label| !label.is_empty())
}

/// A confined runtime, or one without the host's `/sys`, may not see the module; what it is confined by itself it may see
/// wherever there is AppArmor.
fn has_apparmor(proc: &Proc) -> bool {
    starts_with_y("/sys/module/apparmor/parameters/enabled")
        || proc.read("self/attr/apparmor/current").is_ok_and(|text| !text.is_empty())
}

fn starts_with_y(path: &str) -> bool {
    std::fs::read(PathBuf::from(path)).is_ok_and(|text| text.starts_with(b"Y"))
}
