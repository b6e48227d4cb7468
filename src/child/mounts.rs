//! Replays the mounts of the configuration, in its order.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::attach::{Target, file_type};
use super::filesystem::{self, Made};
use super::rootfs::Root;
use super::slots::{Opened, Slots};
use super::tree::{self, Changes};
use super::{ChildSession, cgroup_v1, legacy};
use crate::error::{Context, Error, Result};
use crate::plan::ContainerPlan;
use crate::plan::mounts::{Bind, Filesystem, MountPlan, What};
use crate::plan::options::{Attrs, Propagation};
use crate::procfs::Proc;

/// What every mount and every device needs.
pub(super) struct Mounter<'a> {
    pub(super) session: &'a mut ChildSession,
    pub(super) slots: &'a mut Slots,
    pub(super) root: &'a Root,
    pub(super) proc: &'a Proc,
}

/// Mounts all, in order.
pub(super) fn mount_all(mounter: &mut Mounter<'_>, container: &ContainerPlan) -> Result<()> {
    container.mounts.iter().try_for_each(|mount| {
        let since = mounter.session.recorder.now();
        let how = mounter.mount(mount).context(|| format!("mount {}", describe(mount)))?;
        mounter.session.recorder.step("mount", since, || format!("{} by {how}", describe(mount)));
        Ok(())
    })
}

/// A mount for people: what, and where.
fn describe(mount: &MountPlan) -> String {
    let destination = mount.destination.display();
    match &mount.what {
        What::Bind(bind) => format!("`{}` on `{destination}`", bind.source.display()),
        What::Filesystem(fs) => format!("`{}` on `{destination}`", fs.fstype),
        What::CgroupV1(_) => format!("`cgroup` on `{destination}`"),
    }
}

impl Mounter<'_> {
    /// Mounts one and says by which mechanism.
    fn mount(&mut self, mount: &MountPlan) -> Result<&'static str> {
        let changes =
            Changes { attrs: mount.attrs, recursive: mount.recursive_attrs, propagation: Some(mount.propagation) };
        match &mount.what {
            What::Bind(bind) => self.bind(bind, &mount.destination, changes),
            What::Filesystem(fs) => self.filesystem(fs, &mount.destination, changes),
            What::CgroupV1(cgroup) => cgroup_v1::mount(self, cgroup, &mount.destination, changes)
                .map(|()| "a tmpfs and one mount a hierarchy"),
        }
    }

    /// Attaches a tree of the host.
    pub(super) fn bind(&mut self, bind: &Bind, destination: &Path, changes: Changes) -> Result<&'static str> {
        match self.slots.take(self.session, bind.slot)? {
            Opened::Tree(tree) if self.root.moves_mounts => {
                self.attach_tree(bind, tree, destination, changes).map(|()| "open_tree in the parent, move_mount")
            }
            Opened::Tree(_) => self.bind_by_path(bind, destination, changes, "move_mount: ENOSYS"),
            Opened::Empty(reason) => self.bind_by_path(bind, destination, changes, &reason.to_string()),
        }
    }

    fn attach_tree(&mut self, bind: &Bind, tree: OwnedFd, destination: &Path, changes: Changes) -> Result<()> {
        let source_type = file_type(tree.as_fd())?;
        if source_type == FileType::Symlink && bind.copy_symlink {
            return self.copy_symlink(tree.as_fd(), destination);
        }
        let target = self.target(source_type, destination)?;
        let left = changes.make(tree.as_fd(), &mut self.session.recorder)?;
        tree::attach(tree.as_fd(), target.fd.as_fd()).context(|| "move_mount")?;
        if let Some(left) = left {
            left.make_by_path(tree.as_fd(), self.proc)?;
        }
        Ok(())
    }

    fn bind_by_path(&mut self, bind: &Bind, destination: &Path, changes: Changes, why: &str) -> Result<&'static str> {
        self.session.recorder.fallback("bind by path", || format!("`{}`: {why}", bind.source.display()));
        self.root.must_not_be_changed_yet()?;
        let follow = if bind.nofollow { OFlags::NOFOLLOW } else { OFlags::empty() };
        let source = rustix::fs::open(&bind.source, OFlags::PATH | OFlags::CLOEXEC | follow, Mode::empty())
            .context(|| format!("open `{}`", bind.source.display()))?;
        if self.root.moves_mounts
            && let Some(tree) = tree::try_clone(source.as_fd(), bind.recursive).context(|| "open_tree")?
        {
            return self.attach_tree(bind, tree, destination, changes).map(|()| "open_tree in the child, move_mount");
        }
        let source_type = file_type(source.as_fd())?;
        if source_type == FileType::Symlink && bind.copy_symlink {
            return self.copy_symlink(source.as_fd(), destination).map(|()| "the same symlink");
        }
        let target = self.target(source_type, destination)?;
        legacy::bind(source.as_fd(), bind.recursive, target.fd.as_fd(), self.proc)?;
        let mount = self.reopen(destination)?;
        tree::change_attached(mount.as_fd(), changes, self.proc, &mut self.session.recorder)?;
        Ok("mount(2)")
    }

    fn copy_symlink(&mut self, source: BorrowedFd<'_>, destination: &Path) -> Result<()> {
        let link = rustix::fs::readlinkat(source, "", []).context(|| "read the symlink")?;
        let parent = self.root.places.directory(destination.parent().unwrap_or(Path::new("/")))?;
        let name = destination.file_name().unwrap_or_default();
        match rustix::fs::symlinkat(link.as_c_str(), &parent.fd, name) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let there = rustix::fs::readlinkat(&parent.fd, name, []).context(|| "read what is there")?;
                match there == link {
                    true => Ok(()),
                    false => Err(Error::system(format!("`{}` is another symlink", destination.display()))),
                }
            }
            Err(errno) => Err(Error::call("symlink", errno)),
        }
    }

    /// Makes a new file system.
    pub(super) fn filesystem(&mut self, fs: &Filesystem, destination: &Path, changes: Changes) -> Result<&'static str> {
        let made = filesystem::make(fs, changes.attrs);
        let made = match (made, &fs.or_bind) {
            (Err(e), Some(bind)) if e.errno() == Some(Errno::PERM) => {
                self.session.recorder.fallback("bind instead", || format!("`{}`: {e}", fs.fstype));
                return self.bind(bind, destination, changes);
            }
            (made, _) => made?,
        };
        // What mounts on these three decides what the container's processes trust.
        let target = match destination.to_str() {
            Some("/proc" | "/sys" | "/dev") => self.root.places.plain_directory(destination)?,
            _ => self.root.places.directory(destination)?,
        };
        // What was given to fsmount, and that a new mount under a private one is private, needs no call.
        let private = changes.propagation.filter(|(p, _)| *p != Propagation::Private);
        let rest = Changes { attrs: Attrs::default(), propagation: private, ..changes };
        match made {
            Made::Detached(mount) if self.root.moves_mounts => {
                if fs.tmpcopyup {
                    copy_up(target.fd.as_fd(), mount.as_fd())?;
                }
                let left = rest.make(mount.as_fd(), &mut self.session.recorder)?;
                tree::attach(mount.as_fd(), target.fd.as_fd()).context(|| "move_mount")?;
                if let Some(left) = left {
                    left.make_by_path(mount.as_fd(), self.proc)?;
                }
                Ok("fsopen, fsmount, move_mount")
            }
            made => {
                let why = match made {
                    Made::ByPath(why) => why,
                    Made::Detached(_) => "move_mount: ENOSYS".into(),
                };
                self.session.recorder.fallback("mount by path", || format!("`{}`: {why}", fs.fstype));
                filesystem::mount_by_path(fs, changes.attrs, target.fd.as_fd(), self.proc)?;
                let mount = self.reopen(destination)?;
                if fs.tmpcopyup {
                    copy_up(target.fd.as_fd(), mount.as_fd())?;
                }
                tree::change_attached(mount.as_fd(), rest, self.proc, &mut self.session.recorder)?;
                Ok("mount(2)")
            }
        }
    }

    /// A mount point of the right kind.
    fn target(&self, source: FileType, destination: &Path) -> Result<Target> {
        match source {
            FileType::Directory => self.root.places.directory(destination),
            _ => self.root.places.file(destination),
        }
    }

    /// The mount that was just made at a destination: the fd of its mount point shows what is below it.
    pub(super) fn reopen(&self, destination: &Path) -> Result<OwnedFd> {
        match self.root.places.find(destination)? {
            Some(target) => Ok(target.fd),
            None => Err(Error::call(format!("reopen `{}`", destination.display()), Errno::NOENT)),
        }
    }
}

/// `tmpcopyup`: copies what a directory holds into the tmpfs that will cover it, with the directory's own mode and
/// owner, by `cp -a` in all but name: owners, modes, times, symlinks, nodes.
fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    super::copy_up::copy(from, to).context(|| "tmpcopyup")
}
