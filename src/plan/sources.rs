//! The slots of the protocol: what the parent opens on the host and streams to the child, in this order.

use std::path::PathBuf;

use serde::Serialize;

use super::idmapped::Idmapped;
use super::mounts::Filesystem;
use super::options::Attrs;

/// What EINVAL of open_tree(2) means for one mount that has others below it, where the kernel has locked them together.
pub(crate) const ONE_OF_A_LOCKED_TREE: &str =
    "a user namespace may not take one mount without those that cover parts of it: use `rbind`";

/// One thing that the parent opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Source {
    /// A path of the host.
    Path {
        /// On the host; a relative one was one of the bundle.
        path: PathBuf,
        /// With the mounts below it.
        recursive: bool,
        /// A symlink as the last component is the source itself.
        nofollow: bool,
        /// Its IDs are mapped.
        idmapped: Option<Idmapped>,
    },
    /// The container's own directory in a cgroup v1 hierarchy.
    Cgroup {
        /// One of its controllers, or its `name=`.
        controller: String,
    },
    /// A new file system that the parent makes: a proc or sysfs of the container's own pid or network namespace, what is
    /// made from paths of the host, or what has its IDs mapped.
    Instance {
        /// What is made.
        fs: Filesystem,
        /// Of its mount.
        attrs: Attrs,
        /// Its IDs are mapped.
        idmapped: Option<Idmapped>,
    },
    /// A device node, by its place in the plan's list of devices.
    Device {
        /// In [`super::Plan::devices`].
        index: usize,
    },
}

impl Source {
    /// A directory and all that is mounted below it.
    pub(super) fn tree(path: impl Into<PathBuf>) -> Source {
        Source::Path { path: path.into(), recursive: true, nofollow: false, idmapped: None }
    }
}

/// The list, as it grows while the plan is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Adds a source and returns its slot.
    pub fn add(&mut self, source: Source) -> u32 {
        self.0.push(source);
        u32::try_from(self.0.len() - 1).expect("a config.json with four billion mounts does not fit in memory")
    }

    /// All, in the order of their slots.
    pub fn list(&self) -> &[Source] {
        &self.0
    }
}
