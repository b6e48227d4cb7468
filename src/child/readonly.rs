//! Read-only mounts in which a mount point is missing: they are made writable again until all is made.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::kernel::rustix;
use crate::kernel::rustix::fs::{AtFlags, OFlags, StatVfsMountFlags, StatxFlags};
use crate::kernel::rustix::io::Errno;

use super::attach::Places;
use super::mounts::{Destination, Mounter};
use super::tree::{self, Changes};
use crate::error::{Context, Result};
use crate::plan::options::{Attrs, attr};

/// What this process has made read-only, and what of that it has opened again.
#[derive(Default)]
pub(super) struct Readonly {
    /// Where mounts are that were writable before.
    made: Vec<(PathBuf, bool)>,
    opened: Vec<OwnedFd>,
}

impl Readonly {
    /// Remembers what is about to be mounted read-only, if it could be written without that.
    pub(super) fn remember(
        &mut self,
        tree: BorrowedFd<'_>,
        destination: Destination<'_>,
        changes: &Changes,
    ) -> Result<()> {
        if (changes.attrs.set | changes.recursive.set) & attr::RDONLY == 0 {
            return Ok(());
        }
        let flags = rustix::fs::fstatvfs(tree).context(|| "fstatvfs")?.f_flag;
        if !flags.contains(StatVfsMountFlags::RDONLY) {
            self.made.push((destination.path.to_owned(), destination.nofollow));
        }
        Ok(())
    }

    /// The same of a new file system.
    pub(super) fn remember_new(&mut self, destination: Destination<'_>, attrs: Attrs) {
        if attrs.set & attr::RDONLY != 0 {
            self.made.push((destination.path.to_owned(), destination.nofollow));
        }
    }
}

impl Mounter<'_> {
    /// Makes something in the container. Where a mount of this container's own that is read-only already is in the way of it,
    /// that is opened.
    pub(super) fn making<T>(&mut self, path: &Path, make: impl Fn(&Places) -> Result<T>) -> Result<T> {
        match make(&self.root.places) {
            Err(error) if error.errno() == Some(Errno::ROFS) && self.open_readonly(path)? => make(&self.root.places),
            made => made,
        }
    }

    /// Makes the mount writable in which something is missing of a path. False if that is not one of ours.
    fn open_readonly(&mut self, path: &Path) -> Result<bool> {
        let there = self.root.places.as_far_as_it_is(path)?;
        let wanted = mount_of(there.as_fd())?;
        for (destination, nofollow) in self.readonly.made.iter().rev() {
            let flags = if *nofollow { OFlags::PATH | OFlags::NOFOLLOW } else { OFlags::PATH };
            let Some(mount) = self.root.places.open(destination, flags)? else { continue };
            if mount_of(mount.as_fd())? != wanted {
                continue;
            }
            let attrs = Attrs { set: 0, clear: attr::RDONLY };
            let changes = Changes { attrs, ..Changes::default() };
            tree::change_attached(mount.as_fd(), changes, self.root.api, self.proc, &mut self.session.recorder)
                .context(|| format!("make `{}` writable, to make `{}`", destination.display(), path.display()))?;
            self.readonly.opened.push(mount);
            return Ok(true);
        }
        Ok(false)
    }

    /// Makes read-only again what was opened: all is made.
    pub(super) fn close_readonly(&mut self) -> Result<()> {
        let opened = std::mem::take(&mut self.readonly.opened);
        if opened.is_empty() {
            return Ok(());
        }
        let since = self.session.recorder.now();
        for mount in &opened {
            tree::seal(mount.as_fd(), self.root.api, self.proc, &mut self.session.recorder)
                .context(|| "make mounts read-only again")?;
        }
        self.session.recorder.step("read-only", since, || format!("{} mounts, in which others are", opened.len()));
        Ok(())
    }
}

fn mount_of(fd: BorrowedFd<'_>) -> Result<u64> {
    Ok(rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).context(|| "statx")?.stx_mnt_id)
}
