//! Replays the mounts of the configuration, in its order.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::kernel::rustix;
use crate::kernel::rustix::fs::{FileType, Mode, OFlags};
use crate::kernel::rustix::io::Errno;

use super::attach::{Target, file_type};
use super::readonly::{Chosen, Readonly};
use super::rootfs::Root;
use super::slots::{Opened, Slots};
use super::tree::{self, Changes};
use super::{ChildSession, cgroup_v1, filesystem, legacy, revealing};
use crate::error::{Context, Error, Result};
use crate::kernel::sys;
use crate::plan::ContainerPlan;
use crate::plan::mounts::{Bind, Filesystem, MountPlan, What};
use crate::plan::options::{Attrs, Propagation, attr};
use crate::plan::sources::ONE_OF_A_LOCKED_TREE;
use crate::procfs::Proc;
use crate::protocol::event::About;
use crate::protocol::journal;

/// A file system that is not attached yet, or the reason to make it by path.
enum Made {
    Detached(OwnedFd),
    /// None where the whole strategy is so.
    ByPath(Option<String>),
}

/// Where a mount goes, in the container.
#[derive(Clone, Copy)]
pub(super) struct Destination<'a> {
    pub(super) path: &'a Path,
    /// A symlink as its last component is mounted on, not followed.
    pub(super) nofollow: bool,
}

impl<'a> From<&'a Path> for Destination<'a> {
    fn from(path: &'a Path) -> Destination<'a> {
        Destination { path, nofollow: false }
    }
}

/// What every mount and every device needs.
pub(super) struct Mounter<'a> {
    pub(super) session: &'a mut ChildSession,
    pub(super) slots: &'a mut Slots,
    pub(super) root: &'a Root,
    pub(super) proc: &'a Proc,
    /// One that this process will enter last: what a proc shows.
    pub(super) pid_namespace: Option<&'a OwnedFd>,
    pub(super) readonly: Readonly,
    /// The SELinux label of what is made beside the mounts that the configuration names.
    pub(super) label: Option<&'a str>,
}

/// Mounts all, in order.
pub(super) fn mount_all(mounter: &mut Mounter<'_>, container: &ContainerPlan) -> Result<()> {
    container.mounts.iter().try_for_each(|mount| {
        let since = mounter.session.recorder.now();
        let how = mounter.mount(mount).context(|| format!("mount {}{}", mount.describe(), mount.options()));
        mounter.session.recorder.failed("mount", since, &how, || mount.describe());
        let how = how?;
        mounter.session.recorder.step("mount", since, || mount.about(how));
        Ok(())
    })
}

impl Mounter<'_> {
    /// Mounts one and says by which mechanism.
    fn mount(&mut self, mount: &MountPlan) -> Result<&'static str> {
        let changes = Changes {
            attrs: mount.attrs,
            recursive: mount.recursive_attrs,
            propagation: Some(mount.propagation),
            below_shared: mount.below_shared,
        };
        let destination = Destination { path: &mount.destination, nofollow: mount.nofollow };
        match &mount.what {
            What::Bind(bind) => self.bind(bind, destination, changes),
            What::Filesystem(fs) => self.filesystem(fs, destination, changes),
            What::CgroupV1(cgroup) => {
                cgroup_v1::mount(self, cgroup, destination, changes).map(|()| "a tmpfs and one mount a hierarchy")
            }
        }
    }

    /// Attaches a tree of the host.
    pub(super) fn bind(&mut self, bind: &Bind, destination: Destination<'_>, changes: Changes) -> Result<&'static str> {
        match self.slots.take(self.session, bind.slot)? {
            Opened::Tree(tree) if self.root.api.moves_mounts() => {
                self.attach_tree(bind, tree, destination, changes).map(|()| "open_tree in the parent, move_mount")
            }
            // The whole strategy is so, and the trace has said why.
            Opened::Tree(_) => self.bind_by_path(bind, destination, changes),
            Opened::Empty(reason) if self.root.sees_host() && !bind.idmapped => {
                let since = self.session.recorder.now();
                let bound = self.bind_by_path(bind, destination, changes);
                let about = || About::object(bind.source.display().to_string());
                match &bound {
                    _ if !self.root.api.moves_mounts() => {}
                    Ok(_) => {
                        let about = || about().by("a path that the child opens").why(reason.to_string());
                        self.session.recorder.fallback("bind", about);
                    }
                    // It led nowhere: what failed is the mount.
                    Err(_) => journal::call("bind", since, Err(&reason), || about().by("open_tree in the parent")),
                }
                bound
            }
            // The path would be one of the container's; or it is an id mapping that failed.
            Opened::Empty(reason) => Err(of_source(reason)),
        }
    }

    fn attach_tree(
        &mut self,
        bind: &Bind,
        tree: OwnedFd,
        destination: Destination<'_>,
        changes: Changes,
    ) -> Result<()> {
        let source_type = file_type(tree.as_fd()).map_err(of_source)?;
        if source_type == FileType::Symlink && bind.copy_symlink {
            return self.copy_symlink(tree.as_fd(), destination.path);
        }
        self.readonly.remember(tree.as_fd(), destination, &changes)?;
        let target = self.place(source_type, destination)?;
        self.attach(tree.as_fd(), target.fd.as_fd(), changes)
    }

    /// Changes a detached tree and attaches it.
    fn attach(&mut self, tree: BorrowedFd<'_>, target: BorrowedFd<'_>, changes: Changes) -> Result<()> {
        let (before, after) = changes.around_attach();
        let left = before.make(tree, self.root.api, &mut self.session.recorder)?;
        tree::attach(tree, target).context(|| "move_mount")?;
        if let Some(left) = left {
            left.make_by_path(tree, self.proc)?;
        }
        tree::change_attached(tree, after, self.root.api, self.proc, &mut self.session.recorder)
    }

    fn bind_by_path(&mut self, bind: &Bind, destination: Destination<'_>, changes: Changes) -> Result<&'static str> {
        let follow = if bind.nofollow { OFlags::NOFOLLOW } else { OFlags::empty() };
        let source = rustix::fs::open(&bind.source, OFlags::PATH | OFlags::CLOEXEC | follow, Mode::empty())
            .context(|| format!("open `{}`", bind.source.display()))
            .map_err(of_source)?;
        if self.root.api.moves_mounts() {
            let tree = tree::clone(source.as_fd(), bind.recursive).map_err(|errno| match errno {
                Errno::INVAL if !bind.recursive => Error::call("open_tree", errno).advise(ONE_OF_A_LOCKED_TREE),
                errno => Error::call("open_tree", errno),
            })?;
            return self.attach_tree(bind, tree, destination, changes).map(|()| "open_tree in the child, move_mount");
        }
        let source_type = file_type(source.as_fd()).map_err(of_source)?;
        if source_type == FileType::Symlink && bind.copy_symlink {
            return self.copy_symlink(source.as_fd(), destination.path).map(|()| "the same symlink");
        }
        self.readonly.remember(source.as_fd(), destination, &changes)?;
        let target = self.place(source_type, destination)?;
        legacy::bind(source.as_fd(), bind.recursive, target.fd.as_fd(), self.proc).map_err(|e| match e.errno() {
            Some(Errno::INVAL) if !bind.recursive => e.advise(ONE_OF_A_LOCKED_TREE),
            _ => e,
        })?;
        // A symlink that was mounted would lead away from its mount.
        let nofollow = destination.nofollow || source_type == FileType::Symlink;
        let mount = self.reopen(Destination { nofollow, ..destination })?;
        let identity = |fd| sys::identity(fd).context(|| "fstat");
        if identity(mount.as_fd())? != identity(source.as_fd())? {
            let what = format!("reopen `{}`: something else than what was mounted there", destination.path.display());
            return Err(Error::system(what).advise("mount on the place itself, not on a symlink to it"));
        }
        tree::change_attached(mount.as_fd(), changes, self.root.api, self.proc, &mut self.session.recorder)?;
        Ok("mount(2)")
    }

    fn copy_symlink(&mut self, source: BorrowedFd<'_>, destination: &Path) -> Result<()> {
        let link = rustix::fs::readlinkat(source, "", []).context(|| "read the symlink")?;
        self.making(destination, Chosen::AsMountPoint, |places| {
            let parent = places.directory(destination.parent().unwrap_or(Path::new("/")))?;
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
        })
    }

    /// Where something is mounted, found or made.
    fn place(&mut self, kind: FileType, Destination { path, nofollow }: Destination<'_>) -> Result<Target> {
        self.making(path, Chosen::AsMountPoint, |places| places.mount_point(kind, path, nofollow))
    }

    /// Makes a new file system.
    pub(super) fn filesystem(
        &mut self,
        fs: &Filesystem,
        destination: Destination<'_>,
        changes: Changes,
    ) -> Result<&'static str> {
        let with_mode = filesystem::with_mode_of_covered(fs, &self.root.places, destination.path)?;
        let target = self.place(FileType::Directory, destination)?;
        let fs = with_mode.as_ref().unwrap_or(fs);
        let all = Attrs { set: changes.attrs.set | changes.recursive.set, clear: 0 };
        self.readonly.remember_new(destination, fs.is_memory(), all);
        // What is filled first is made read-only afterwards, and what mount(2) would make so in its superblock.
        let later = fs.tmpcopyup || fs.is_memory() && self.only_by_path(fs).is_some();
        let sealed = if later { changes.attrs.set & attr::RDONLY } else { 0 };
        let attrs = Attrs { set: changes.attrs.set & !sealed, ..changes.attrs };
        let (made, how) = match self.instance(fs)? {
            Ok(mount) => (Made::Detached(mount), "fsopen, fsmount in the parent, move_mount"),
            Err(reason) => match (self.make(fs, attrs), &fs.or_bind) {
                (Err(e), None) if e.errno() == Some(Errno::PERM) => return Err(reason.unwrap_or(e)),
                (Err(e), Some(bind)) if e.errno() == Some(Errno::PERM) => {
                    return self.bind_instead(fs, bind, destination, changes, &e);
                }
                (made, _) => (made?, "fsopen, fsmount, move_mount"),
            },
        };
        // What was given to fsmount, and that a new mount under a private one is private, needs no call.
        let propagation = changes.propagation.filter(|(p, _)| changes.below_shared || *p != Propagation::Private);
        let rest = Changes { attrs: Attrs { set: sealed, clear: 0 }, propagation, ..changes };
        match made {
            Made::Detached(mount) => {
                if fs.tmpcopyup {
                    copy_up(target.fd.as_fd(), mount.as_fd())?;
                }
                self.attach(mount.as_fd(), target.fd.as_fd(), rest)?;
                Ok(how)
            }
            Made::ByPath(why) => {
                if let Some(why) = why {
                    let about = || About::object(fs.fstype.clone()).by("mount(2)").why(why);
                    self.session.recorder.fallback("file system", about);
                }
                match (filesystem::mount_by_path(fs, attrs, target.fd.as_fd(), self.proc), &fs.or_bind) {
                    (Err(e), Some(bind)) if e.errno() == Some(Errno::PERM) => {
                        return self.bind_instead(fs, bind, destination, changes, &e);
                    }
                    (mounted, _) => mounted.map_err(|e| self.explain(fs, e))?,
                }
                let mount = self.reopen(destination)?;
                crate::filesystem::label_root(fs, mount.as_fd())?;
                if fs.tmpcopyup {
                    copy_up(target.fd.as_fd(), mount.as_fd())?;
                }
                tree::change_attached(mount.as_fd(), rest, self.root.api, self.proc, &mut self.session.recorder)?;
                Ok("mount(2)")
            }
        }
    }

    /// The host's instance, where a user namespace may have no new one.
    fn bind_instead(
        &mut self,
        fs: &Filesystem,
        bind: &Bind,
        destination: Destination<'_>,
        changes: Changes,
        why: &Error,
    ) -> Result<&'static str> {
        self.session
            .recorder
            .fallback("file system", || About::object(fs.fstype.clone()).by("binding the host's").why(why.to_string()));
        // The host's has mounts below it, which the new one would not have had.
        let below = Attrs { set: changes.attrs.set & attr::INHERITED, clear: 0 };
        self.bind(bind, destination, Changes { recursive: below, ..changes })
    }

    /// The instance that the parent has made, or why it could not: the kernel may still give this process one.
    fn instance(&mut self, fs: &Filesystem) -> Result<Result<OwnedFd, Option<Error>>> {
        let Some(slot) = fs.instance else { return Ok(Err(None)) };
        let shows_namespace = matches!(fs.fstype.as_str(), "proc" | "sysfs");
        match self.slots.take(self.session, slot)? {
            Opened::Tree(mount) => Ok(Ok(mount)),
            Opened::Empty(reason) if fs.idmapped || !shows_namespace && !self.root.sees_host() => Err(reason),
            Opened::Empty(reason) => {
                self.session.recorder.fallback("file system", || {
                    About::object(fs.fstype.clone()).by("the child").why(reason.to_string())
                });
                Ok(Err(Some(reason)))
            }
        }
    }

    /// Makes a detached instance, or says why only mount(2) can make it.
    fn make(&self, fs: &Filesystem, attrs: Attrs) -> Result<Made> {
        match (self.only_by_path(fs), self.pid_namespace.filter(|_| fs.fstype == "proc")) {
            (Some(why), Some(_)) => {
                let why = why.unwrap_or_else(|| "the kernel lacks fsopen".into());
                Err(Error::system(format!("a proc of a pid namespace that is joined needs fsopen(2): {why}")))
            }
            (Some(why), None) => Ok(Made::ByPath(why)),
            (None, Some(shown)) => crate::filesystem::make_proc(fs, attrs, shown.as_fd()).map(Made::Detached),
            (None, None) => crate::filesystem::make(fs, attrs).map(Made::Detached),
        }
        .map_err(|e| self.explain(fs, e))
    }

    /// Whether only mount(2) can make it; why, unless the whole strategy is so.
    fn only_by_path(&self, fs: &Filesystem) -> Option<Option<String>> {
        match self.root.api.fsopen && self.root.api.moves_mounts() {
            true => crate::filesystem::unfit_for_fsconfig(fs).map(Some),
            false => Some(None),
        }
    }

    /// What a refusal means, where it needs to be told.
    fn explain(&self, fs: &Filesystem, error: Error) -> Error {
        match error.errno() {
            Some(Errno::PERM) => revealing::explain(&fs.fstype, self.proc, error),
            _ => error,
        }
    }

    /// The mount that was just made at a destination: the fd of its mount point shows what is below it.
    pub(super) fn reopen(&self, Destination { path, nofollow }: Destination<'_>) -> Result<OwnedFd> {
        let flags = if nofollow { OFlags::PATH | OFlags::NOFOLLOW } else { OFlags::PATH };
        match self.root.places.open(path, flags)? {
            Some(mount) => Ok(mount),
            None => Err(Error::call(format!("reopen `{}`", path.display()), Errno::NOENT)),
        }
    }
}

/// What a source that can't be opened means.
fn of_source(error: Error) -> Error {
    match error.errno() {
        Some(Errno::NOENT) if error.advice().is_none() => {
            error.advise("the source of a bind mount must be there: make it, or take the mount out")
        }
        Some(Errno::ACCESS) if error.advice().is_none() => error.advise(
            "this user may not pass a directory on the way; or a FUSE file system, which lets in only who mounted it, root not \
             either: mount that with `allow_other`",
        ),
        _ => error,
    }
}

/// `tmpcopyup`: copies what a directory holds into the tmpfs that will cover it, with the directory's own mode and
/// owner, by `cp -a` in all but name: owners, modes, times, symlinks, nodes.
fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    super::copy_up::copy(from, to).context(|| "tmpcopyup")
}
