//! Mount namespaces that something on the host keeps alive by a bind mount, as snapd does below `/run/snapd/ns`.
//!
//! A tree that holds one can be cloned, and not attached elsewhere: move_mount(2) answers ELOOP, lest a mount namespace
//! keep itself alive. A runtime that drops this error mounts something else in place of the tree. The kernel leaves such
//! mounts out when it copies a mount namespace, so a clone that is taken in a copy is free of them.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::mountinfo::Mount;
use crate::procfs::Proc;

/// Where they are.
#[derive(Debug, Default)]
pub(super) struct Pinned(Vec<PathBuf>);

impl Pinned {
    /// Looks for them in the runtime's own mount namespace.
    ///
    /// # Errors
    /// An unreadable mountinfo.
    pub(super) fn find(proc: &Proc) -> Result<Pinned> {
        Ok(Pinned::parse(&proc.read("self/mountinfo")?))
    }

    fn parse(mountinfo: &str) -> Pinned {
        let pinned = Mount::all(mountinfo).filter(|mount| mount.fstype == "nsfs" && mount.root.starts_with("mnt:["));
        Pinned(pinned.map(|mount| PathBuf::from(mount.point)).collect())
    }

    /// One that a recursive clone of a path would hold; not the path itself, which is then what is asked for.
    pub(super) fn below(&self, path: &Path) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let real = std::fs::canonicalize(path).ok()?;
        self.0.iter().find(|pin| pin.starts_with(&real) && **pin != real).map(|pin| pin.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mount_namespaces_count() {
        let text = "\
22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:4 net:[4026531840] /run/netns/a rw - nsfs nsfs rw
31 22 0:4 mnt:[4026532570] /run/snapd/ns/a\\040b.mnt rw - nsfs nsfs rw
";
        let pinned = Pinned::parse(text);
        assert_eq!(pinned.0, [Path::new("/run/snapd/ns/a b.mnt")]);
        assert!(pinned.below(Path::new("/")).is_some());
        assert!(pinned.below(Path::new("/proc")).is_none());
        assert!(Pinned(vec!["/proc".into()]).below(Path::new("/proc")).is_none());
        assert!(Pinned::default().below(Path::new("/")).is_none());
    }
}
