//! How the container's mounts come about: decided here, from what the kernel has and what the configuration asks for, and
//! not changed afterwards.

use std::borrow::Cow;

use oci_spec::runtime::Mount;
use serde::{Deserialize, Serialize};

use super::hooks::Hooks;
use super::host::Host;
use super::namespaces::{Namespaces, flag};
use crate::error::{Error, Result};
use crate::protocol::event::About;

/// The environment variable that asks for another strategy than the best: `namespace`, `pivot` or `mount`.
pub const OVERRIDE: &str = "TANDEM_MOUNT_STRATEGY";

/// What this kernel, and any filter around the runtime, lets be called of the new mount API. Asked once, before the plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountApi {
    /// open_tree(2), Linux 5.2.
    pub open_tree: bool,
    /// move_mount(2), Linux 5.2.
    pub move_mount: bool,
    /// fsopen(2), fsconfig(2), fsmount(2), Linux 5.2.
    pub fsopen: bool,
    /// mount_setattr(2), Linux 5.12.
    pub mount_setattr: bool,
    /// open_tree(2) with `OPEN_TREE_NAMESPACE`, Linux 7.0.
    pub namespace: bool,
}

impl MountApi {
    /// Whether detached trees can be made and attached.
    pub fn moves_mounts(self) -> bool {
        self.open_tree && self.move_mount
    }

    /// The first thing that is missing, for people.
    fn missing(self) -> Option<&'static str> {
        match self {
            MountApi { open_tree: false, .. } => Some("open_tree"),
            MountApi { move_mount: false, .. } => Some("move_mount"),
            MountApi { fsopen: false, .. } => Some("fsopen"),
            MountApi { mount_setattr: false, .. } => Some("mount_setattr"),
            MountApi { namespace: false, .. } => Some("OPEN_TREE_NAMESPACE (Linux 7.0)"),
            _ => None,
        }
    }
}

/// One of the three ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// A mount namespace that never held anything but the root file system: open_tree(2) with `OPEN_TREE_NAMESPACE`, then
    /// setns(2). No mount of the host is copied.
    Namespace,
    /// A copy of the runtime's mount namespace, mounts by the new API, pivot_root(2).
    Pivot,
    /// The same with mount(2), for a kernel that moves no trees.
    Mount,
}

impl Strategy {
    /// Its name in the trace and in [`OVERRIDE`].
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Namespace => "namespace",
            Strategy::Pivot => "pivot",
            Strategy::Mount => "mount",
        }
    }

    /// Whether it attaches trees that somebody else has opened.
    pub fn attaches(self) -> bool {
        self != Strategy::Mount
    }

    fn parse(name: &str) -> Option<Strategy> {
        [Strategy::Namespace, Strategy::Pivot, Strategy::Mount].into_iter().find(|s| s.name() == name)
    }
}

/// The strategy, and all that follows from it for the parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MountStrategy {
    /// How the mounts come about.
    pub strategy: Strategy,
    /// Why no better one, or why this one in an unusual order; for the trace.
    pub why: String,
    /// Something must happen between the container's mounts and the change of its root: what.
    pub late: Option<&'static str>,
    /// Hooks find the host's mounts in the namespace, with the container at the path of its rootfs.
    pub shows_host: bool,
    /// Where the parent opens mount sources.
    pub sources: SourcesFrom,
    /// The parent makes the container's proc and sysfs: a user namespace may have none of its own where none is visible, or
    /// where the host's hides something.
    pub instances_by_parent: bool,
}

/// Where the parent opens mount sources. A copy of a mount that is taken by a user namespace's own process, or in a mount
/// namespace that it owns, has its flags locked (mount_namespaces(7)): what the host has read-only, the container's root
/// can't make writable. A copy that the parent takes of the host's has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum SourcesFrom {
    /// Where it is: there is no user namespace to lock them against.
    Here,
    /// In the child's mount namespace, a copy of the runtime's that the container's user namespace owns.
    ChildsNamespace,
    /// Where it is, and gathers them on a stage, of which the child takes a locked copy.
    Stage,
}

/// What a strategy is chosen from.
pub(super) struct Wanted<'a> {
    pub(super) namespaces: &'a Namespaces,
    pub(super) host: &'a Host,
    pub(super) hooks: &'a Hooks,
    pub(super) mounts: &'a [Mount],
    pub(super) no_pivot: bool,
}

impl MountStrategy {
    /// Chooses.
    ///
    /// # Errors
    /// [`OVERRIDE`] asks for what can't be had.
    pub(super) fn choose(wanted: &Wanted<'_>) -> Result<MountStrategy> {
        let Against { namespace, pivot } = wanted.against();
        let asked = |name: &String| asked(name, namespace.as_deref(), pivot.as_deref());
        wanted.host.strategy.as_ref().map(asked).transpose().map(|asked| MountStrategy::of(wanted, asked))
    }

    /// What a container as engines write it gets on a host: namespaces of its own, a proc, no hooks.
    ///
    /// # Errors
    /// As [`MountStrategy::choose`].
    pub(crate) fn usual(host: &Host, user_namespace: bool) -> Result<MountStrategy> {
        let user = if user_namespace { flag::USER } else { 0 };
        let new = flag::MOUNT | flag::PID | flag::UTS | flag::IPC | flag::NET | user;
        let namespaces = Namespaces { new, ..Namespaces::default() };
        let mut proc = Mount::default();
        proc.set_destination("/proc".into()).set_typ(Some("proc".into())).set_options(None);
        let (mounts, hooks) = ([proc], Hooks::default());
        MountStrategy::choose(&Wanted {
            namespaces: &namespaces,
            host,
            hooks: &hooks,
            mounts: &mounts,
            no_pivot: false,
        })
    }

    /// The best that can be had, whatever is asked for.
    pub(super) fn best(wanted: &Wanted<'_>) -> MountStrategy {
        MountStrategy::of(wanted, None)
    }

    fn of(wanted: &Wanted<'_>, asked: Option<Strategy>) -> MountStrategy {
        let Wanted { namespaces, host, hooks, .. } = wanted;
        let Against { namespace: against_namespace, pivot: against_pivot } = wanted.against();
        let best = match (&against_namespace, &against_pivot) {
            (None, _) => Strategy::Namespace,
            (_, None) => Strategy::Pivot,
            _ => Strategy::Mount,
        };
        let strategy = asked.unwrap_or(best);
        let why = match strategy {
            _ if strategy != best => format!("{OVERRIDE} asks for it"),
            Strategy::Namespace if wanted.no_pivot => "--no-pivot: nothing is pivoted".into(),
            Strategy::Namespace => String::new(),
            Strategy::Pivot => against_namespace.unwrap_or_default(),
            Strategy::Mount => against_pivot.unwrap_or_default(),
        };
        let in_userns = namespaces.has_user() || !host.initial_userns;
        let instances_by_parent = wanted.instances_by_parent(strategy);
        let needs_proc = wanted.mounts.iter().any(is_proc_or_sysfs);
        let parent_makes = |m| strategy.attaches() && wanted.parent_makes(m);
        let by_child = wanted.mounts.iter().any(|m| names_host(m) && !parent_makes(m));
        let late = match () {
            () if strategy == Strategy::Namespace => None,
            () if hooks.before_pivot() => Some("hooks run before the root is changed"),
            () if by_child => Some(NAMES_HOST),
            () if in_userns && needs_proc && !instances_by_parent => {
                Some("a user namespace needs the host's proc to mount its own")
            }
            () if wanted.no_pivot => Some("--no-pivot"),
            () => None,
        };
        let owns_mounts = namespaces.has_user() && namespaces.new & flag::MOUNT != 0;
        let sources = match strategy {
            _ if !owns_mounts => SourcesFrom::Here,
            Strategy::Namespace => SourcesFrom::Stage,
            _ => SourcesFrom::ChildsNamespace,
        };
        let shows_host = strategy == Strategy::Namespace && hooks.before_pivot();
        MountStrategy { strategy, why, late, shows_host, sources, instances_by_parent }
    }

    /// What of the new mount API is called.
    pub fn api(&self, kernel: MountApi) -> MountApi {
        match self.strategy {
            // A mount that is attached can be changed by mount_setattr(2) all the same.
            Strategy::Mount => MountApi { mount_setattr: kernel.mount_setattr, ..MountApi::default() },
            Strategy::Namespace | Strategy::Pivot => kernel,
        }
    }

    /// What it does.
    fn how(&self) -> Cow<'static, str> {
        match (self.strategy, self.late) {
            (Strategy::Namespace, _) if self.shows_host => {
                "OPEN_TREE_NAMESPACE and setns, then the mounts; the host's are shown to the hooks".into()
            }
            (Strategy::Namespace, _) => "OPEN_TREE_NAMESPACE and setns, then the mounts".into(),
            (Strategy::Pivot, None) => "pivot_root, then the mounts".into(),
            (Strategy::Pivot, Some(late)) => format!("the mounts, then pivot_root: {late}").into(),
            (Strategy::Mount, _) => "the mounts by mount(2), then pivot_root".into(),
        }
    }

    /// On a line: the strategy, what it does, and why not another.
    pub fn describe(&self) -> String {
        let why = if self.why.is_empty() { String::new() } else { format!("; {}", self.why) };
        format!("{}: {}{why}", self.strategy.name(), self.how())
    }

    /// The same for the trace, in its fields.
    pub fn about(&self) -> About<'_> {
        About::object(self.strategy.name()).by(self.how()).why(self.why.clone())
    }
}

fn lacks(api: MountApi) -> Option<String> {
    api.missing().map(|missing| format!("the kernel has no {missing}"))
}

fn asked(name: &str, against_namespace: Option<&str>, against_pivot: Option<&str>) -> Result<Strategy> {
    let refuse = |why: &str| Err(Error::config(format!("{OVERRIDE}={name}: {why}")));
    match (Strategy::parse(name), against_namespace, against_pivot) {
        (None, ..) => refuse("it must be namespace, pivot or mount"),
        (Some(Strategy::Namespace), Some(why), _) | (Some(Strategy::Pivot), _, Some(why)) => refuse(why),
        (Some(strategy), ..) => Ok(strategy),
    }
}

/// What stands against each of the better two, if anything does.
struct Against {
    namespace: Option<String>,
    pivot: Option<String>,
}

impl Wanted<'_> {
    fn against(&self) -> Against {
        let api = self.host.mount_api;
        let pivot = if api.moves_mounts() { None } else { lacks(api) };
        Against { namespace: self.against_namespace(), pivot }
    }

    /// The first condition of [`Strategy::Namespace`] that does not hold.
    fn against_namespace(&self) -> Option<String> {
        let (namespaces, host) = (self.namespaces, self.host);
        if let Some(why) = lacks(host.mount_api) {
            return Some(why);
        }
        let why = match () {
            () if namespaces.new & flag::MOUNT == 0 && namespaces.has(flag::MOUNT) => "the mount namespace is joined",
            () if namespaces.new & flag::MOUNT == 0 => "the container has no mount namespace",
            () if !host.root => "the runtime is not root",
            // A tree of a mount namespace that another user namespace owns is not the runtime's to take.
            () if !host.initial_userns => "the runtime is in a user namespace",
            () if self.mounts.iter().any(|m| names_host(m) && !self.parent_makes(m)) => NAMES_HOST,
            () => return None,
        };
        Some(why.into())
    }

    /// Whether the parent can make a file system that names paths of the host. In a user namespace's name it can't: the
    /// instance would act with the host's rights.
    fn parent_makes(&self, mount: &Mount) -> bool {
        let fits =
            mount.options().iter().flatten().all(|word| word.len() <= FSCONFIG_STRING && word != NOT_FOR_FSCONFIG);
        self.host.root && self.host.mount_api.fsopen && !self.namespaces.has_user() && fits
    }

    fn instances_by_parent(&self, strategy: Strategy) -> bool {
        let host = self.host;
        let can = host.is_machine_root() && host.mount_api.fsopen && strategy.attaches();
        // In a joined mount namespace the child looks for itself.
        can && self.namespaces.has_user() && self.namespaces.new & flag::MOUNT != 0
    }
}

fn is_proc_or_sysfs(mount: &Mount) -> bool {
    matches!(mount.typ().as_deref(), Some("proc" | "sysfs")) && !is_bind(mount)
}

fn is_bind(mount: &Mount) -> bool {
    mount.options().iter().flatten().any(|word| word == "bind" || word == "rbind")
}

/// Why the child makes a file system while it still sees the host.
const NAMES_HOST: &str = "a file system that the parent can't make names a path of the host";

/// fsconfig(2) takes no longer string.
pub(crate) const FSCONFIG_STRING: usize = 255;

/// An option that mount(2) has alone, as `MS_I_VERSION`.
pub(crate) const NOT_FOR_FSCONFIG: &str = "iversion";

/// File systems that are made of nothing but memory and the kernel's own state, whatever their source is called.
const OF_THE_KERNEL: [&str; 14] = [
    "bpf",
    "binfmt_misc",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "hugetlbfs",
    "mqueue",
    "proc",
    "ramfs",
    "securityfs",
    "sysfs",
    "tmpfs",
];

/// File systems of the network, which are made in the container's network namespace.
const OF_THE_NETWORK: [&str; 9] = ["9p", "afs", "ceph", "cifs", "fuse", "nfs", "nfs4", "nfsd", "smb3"];

/// Whether a file system is made from paths, of a device or of directories: they are the host's.
pub(super) fn names_host(mount: &Mount) -> bool {
    let kind = mount.typ().as_deref().unwrap_or_default();
    let of_a_path = mount.source().as_ref().is_some_and(|source| source.is_absolute());
    let of_no_path = matches!(kind, "" | "bind") || OF_THE_KERNEL.contains(&kind) || OF_THE_NETWORK.contains(&kind);
    (kind == "overlay" || (of_a_path && !of_no_path)) && !is_bind(mount)
}

#[cfg(test)]
mod tests;
