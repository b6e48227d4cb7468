//! Read-only mounts in which a mount point is missing: they are made writable again until all is made.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::kernel::rustix;
use crate::kernel::rustix::fs::{AtFlags, FileType, OFlags, StatVfsMountFlags, StatxFlags};
use crate::kernel::rustix::io::Errno;

use super::attach::Places;
use super::mounts::{Destination, Mounter};
use super::tree::{self, Changes};
use crate::error::{Context, Result};
use crate::plan::options::{Attrs, attr};

/// What this process has mounted, and what of that it has opened again.
#[derive(Default)]
pub(super) struct Readonly {
    made: Vec<Mounted>,
    opened: Vec<OwnedFd>,
}

/// A mount of this container's, in the order in which they were made: of several in one place the last is seen.
struct Mounted {
    path: PathBuf,
    nofollow: bool,
    opens: Opens,
}

/// For what a read-only mount may be opened again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opens {
    /// For all that is made: it is the container's own, in memory.
    Always,
    /// For a mount point that the configuration names below it, and for nothing that the image chooses by a symlink or as its
    /// working directory: what is made is made in a directory of the host's.
    ForMountPoints,
    /// It is writable, or the host itself has it read-only.
    Never,
}

/// Who has chosen the path of what is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Chosen {
    /// The configuration's mounts.
    AsMountPoint,
    /// The image may have a part in it.
    Otherwise,
}

impl Readonly {
    /// Remembers what is about to be bound.
    pub(super) fn remember(
        &mut self,
        tree: BorrowedFd<'_>,
        destination: Destination<'_>,
        changes: &Changes,
    ) -> Result<()> {
        let mut opens = Opens::Never;
        if (changes.attrs.set | changes.recursive.set) & attr::RDONLY != 0 {
            let flags = rustix::fs::fstatvfs(tree).context(|| "fstatvfs")?.f_flag;
            if !flags.contains(StatVfsMountFlags::RDONLY) {
                opens = Opens::ForMountPoints;
            }
        }
        self.push(destination, opens);
        Ok(())
    }

    /// Remembers a new file system.
    pub(super) fn remember_new(&mut self, destination: Destination<'_>, in_memory: bool, attrs: Attrs) {
        let opens = if in_memory && attrs.set & attr::RDONLY != 0 { Opens::Always } else { Opens::Never };
        self.push(destination, opens);
    }

    fn push(&mut self, destination: Destination<'_>, opens: Opens) {
        // Below the first that opens nothing can be on top of it: it is as good as one that is not there.
        if self.made.is_empty() && opens == Opens::Never {
            return;
        }
        self.made.push(Mounted { path: destination.path.to_owned(), nofollow: destination.nofollow, opens });
    }
}

impl Mounter<'_> {
    /// Makes something in the container. Where a mount of this container's own that is read-only already is in the way of it,
    /// that is opened.
    pub(super) fn making<T>(&mut self, path: &Path, chosen: Chosen, make: impl Fn(&Places) -> Result<T>) -> Result<T> {
        match make(&self.root.places) {
            Err(error) if error.errno() == Some(Errno::ROFS) && self.open_readonly(path, chosen)? => {
                make(&self.root.places)
            }
            made => made,
        }
    }

    /// Makes the mount writable in which something is missing of a path. False if that is not one of ours, or not for this.
    fn open_readonly(&mut self, path: &Path, chosen: Chosen) -> Result<bool> {
        let there = self.root.places.as_far_as_it_is(path)?;
        let wanted = mount_of(there.as_fd())?;
        for Mounted { path: destination, nofollow, opens } in self.readonly.made.iter().rev() {
            let flags = if *nofollow { OFlags::PATH | OFlags::NOFOLLOW } else { OFlags::PATH };
            let Some(mount) = self.root.places.open(destination, flags)? else { continue };
            if mount_of(mount.as_fd())? != wanted {
                continue;
            }
            let for_this = match opens {
                Opens::Always => true,
                Opens::ForMountPoints => {
                    chosen == Chosen::AsMountPoint && path.starts_with(destination) && self.is_straight(path)?
                }
                Opens::Never => false,
            };
            if !for_this {
                return Ok(false);
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

    /// Whether no part of a path that is there is a symlink.
    fn is_straight(&self, path: &Path) -> Result<bool> {
        let mut parts: Vec<&Path> = path.ancestors().collect();
        parts.pop();
        for part in parts.into_iter().rev() {
            let Some(there) = self.root.places.open(part, OFlags::PATH | OFlags::NOFOLLOW)? else { break };
            let stat = rustix::fs::fstat(&there).context(|| "fstat")?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                return Ok(false);
            }
        }
        Ok(true)
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
