//! Maps the IDs of mount sources; mount_setattr(2), `MOUNT_ATTR_IDMAP`. Only who has rights over the file system may, so it
//! is the parent's to do, and before the tree is attached.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::{idmap, namespaces};
use crate::error::{Context, Error, Result};
use crate::plan::idmapped::{Idmapped, Mapping};
use crate::plan::namespaces::{IdMaps, flag};
use crate::procfs::Proc;
use crate::sys;
use crate::sys::mount::{MountAttr, mount_setattr};

/// User namespaces that stand for mappings, each made once.
#[derive(Default)]
pub(super) struct Mappings(BTreeMap<Mapping, OwnedFd>);

impl Mappings {
    /// Maps the IDs of a detached tree. `own` is the mapping of the container's user namespace, which `pid` is in.
    pub(super) fn map(
        &mut self,
        tree: BorrowedFd<'_>,
        wanted: &Idmapped,
        (own, pid): (Option<&IdMaps>, i32),
        proc: &Proc,
    ) -> Result<()> {
        let namespace = self.namespace(&wanted.by, (own, pid), proc).context(|| "a user namespace for its IDs")?;
        let attr =
            MountAttr { set: libc::MOUNT_ATTR_IDMAP, userns_fd: namespace.as_raw_fd() as u64, ..MountAttr::default() };
        let recursive = if wanted.recursive { " of the whole tree" } else { "" };
        mount_setattr(tree, wanted.recursive, &attr)
            .map_err(|errno| explain(errno, Error::call(format!("mount_setattr (map the IDs{recursive})"), errno)))
    }

    fn namespace(
        &mut self,
        mapping: &Mapping,
        (own, pid): (Option<&IdMaps>, i32),
        proc: &Proc,
    ) -> Result<BorrowedFd<'_>> {
        if !self.0.contains_key(mapping) {
            let fd = match mapping {
                Mapping::Joined(path) => namespaces::open_one(flag::USER, path)?,
                // The container's own stands for its mapping without being made.
                Mapping::Lines(lines) if own == Some(lines) => proc.open_namespace(&pid.to_string(), "user")?,
                Mapping::Lines(lines) => with_lines(lines, proc)?,
            };
            self.0.insert(mapping.clone(), fd);
        }
        Ok(self.0[mapping].as_fd())
    }
}

fn with_lines(lines: &IdMaps, proc: &Proc) -> Result<OwnedFd> {
    let made = sys::userns::with_new(|pid| {
        idmap::write(pid, lines, proc)?;
        proc.open_namespace(&pid.to_string(), "user")
    });
    made.context(|| "clone into a new user namespace")?
}

fn explain(errno: Errno, error: Error) -> Error {
    match errno {
        Errno::INVAL => error.advise("the file system of the source may not support id-mapped mounts"),
        Errno::PERM => error.advise(
            "the runtime needs rights over the source's file system, whose mount must not be id-mapped already",
        ),
        _ => error,
    }
}
