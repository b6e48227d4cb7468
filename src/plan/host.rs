//! What the plan must know of the host. Asked once, before the plan; the plan itself asks nothing.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::cgroup::Hierarchies;
use crate::error::{Context, Result};

/// Facts about the host and about the runtime's own place on it.
#[derive(Debug, Default)]
pub struct Host {
    /// The effective user is 0 in the runtime's own user namespace.
    pub root: bool,
    /// The runtime is in the initial user namespace: its root is the machine's.
    pub initial_userns: bool,
    /// Where control groups are.
    pub cgroups: Hierarchies,
    /// SELinux is enabled.
    pub selinux: bool,
    /// AppArmor is enabled.
    pub apparmor: bool,
}

impl Host {
    /// Looks. LSMs only if the configuration names their labels.
    ///
    /// # Errors
    /// A `/proc` or `/sys/fs/cgroup` that can't be read.
    pub fn look(spec: &Spec) -> Result<Host> {
        let process = spec.process().as_ref();
        let label = |l: Option<&String>| l.is_some_and(|l| !l.is_empty());
        let mount_label = spec.linux().as_ref().and_then(|l| l.mount_label().as_ref());
        let selinux = label(process.and_then(|p| p.selinux_label().as_ref())) || label(mount_label);
        let apparmor = label(process.and_then(|p| p.apparmor_profile().as_ref()));
        Ok(Host {
            root: rustix::process::geteuid().is_root(),
            initial_userns: in_initial_userns()?,
            cgroups: Hierarchies::detect()?,
            selinux: selinux && Path::new("/sys/fs/selinux/enforce").exists(),
            apparmor: apparmor && starts_with_y("/sys/module/apparmor/parameters/enabled"),
        })
    }

    /// Whether the runtime has the machine's own root rights.
    pub fn is_machine_root(&self) -> bool {
        self.root && self.initial_userns
    }
}

/// Whether this process is in the initial user namespace: it maps all IDs to themselves.
///
/// # Errors
/// An unreadable `/proc/self/uid_map`.
pub fn in_initial_userns() -> Result<bool> {
    let map = std::fs::read_to_string("/proc/self/uid_map").context(|| "read `/proc/self/uid_map`")?;
    Ok(map.split_ascii_whitespace().eq(["0", "0", "4294967295"]))
}

fn starts_with_y(path: &str) -> bool {
    std::fs::read(PathBuf::from(path)).is_ok_and(|text| text.starts_with(b"Y"))
}
