//! What the container must not see or change: names, sysctls, masked and read-only paths.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::kernel::rustix;
use crate::kernel::rustix::fs::FileType;
use crate::kernel::rustix::io::Errno;

use super::attach::{Target, file_type};
use super::rootfs::Root;
use super::tree::{self, Changes, Stamp};
use super::{ChildSession, filesystem, legacy};
use crate::error::{Context, Error, Result};
use crate::plan::ContainerPlan;
use crate::plan::mounts::Filesystem;
use crate::plan::options::{Attrs, Propagation, attr};
use crate::procfs::Proc;

/// Host name, domain name and sysctls, each in a namespace of the container's own: the plan has checked that.
pub(super) fn set_names(container: &ContainerPlan, proc: &Proc) -> Result<()> {
    if let Some(name) = &container.hostname {
        rustix::system::sethostname(name.as_bytes()).context(|| format!("sethostname `{name}`"))?;
    }
    if let Some(name) = &container.domainname {
        rustix::system::setdomainname(name.as_bytes()).context(|| format!("setdomainname `{name}`"))?;
    }
    container.sysctls.iter().try_for_each(|(path, value)| {
        proc.write_sysctl(path, value).map_err(|e| match e.errno() {
            Some(Errno::NOENT) => e.advise(
                "this kernel has no such sysctl, or not in the container's namespace: `linux.sysctl` has a typing mistake, or a \
                 module is not loaded",
            ),
            Some(Errno::INVAL) => e.advise("the sysctl takes no such value"),
            _ => e,
        })
    })
}

/// Masks and seals paths. What does not exist needs neither.
pub(super) fn hide(session: &mut ChildSession, root: &Root, container: &ContainerPlan, proc: &Proc) -> Result<()> {
    if container.masked_paths.is_empty() && container.readonly_paths.is_empty() {
        return Ok(());
    }
    let since = session.recorder.now();
    let mut masks = Masks { root, proc, label: container.mount_label.as_deref(), file: None, directory: None, session };
    for path in &container.masked_paths {
        masks.mask(path).context(|| format!("mask `{}`", path.display()))?;
    }
    for path in &container.readonly_paths {
        masks.seal(path).context(|| format!("make `{}` read-only", path.display()))?;
    }
    let (masked, sealed) = (container.masked_paths.len(), container.readonly_paths.len());
    session.recorder.step("paths", since, || format!("{masked} masked, {sealed} read-only, where they exist"));
    Ok(())
}

/// The two mounts that all masks are copies of.
struct Masks<'a> {
    root: &'a Root,
    proc: &'a Proc,
    label: Option<&'a str>,
    file: Option<Stamp>,
    directory: Option<Stamp>,
    session: &'a mut ChildSession,
}

impl Masks<'_> {
    fn mask(&mut self, path: &Path) -> Result<()> {
        let Some(target) = self.root.places.find(path)? else {
            return Ok(());
        };
        match file_type(target.fd.as_fd())? {
            FileType::Directory => self.mask_directory(&target),
            _ => self.mask_file(&target),
        }
    }

    /// An empty, read-only tmpfs, one for all.
    fn mask_directory(&mut self, target: &Target) -> Result<()> {
        let api = self.root.api;
        if self.directory.is_none() && api.moves_mounts() && api.fsopen {
            let attrs = Attrs { set: attr::RDONLY, clear: 0 };
            self.directory = Some(Stamp::new(crate::filesystem::make(&self.empty_tmpfs(), attrs)?));
        }
        match &mut self.directory {
            Some(stamp) => stamp.attach(target.fd.as_fd()),
            None => {
                let attrs = Attrs { set: attr::RDONLY, clear: 0 };
                filesystem::mount_by_path(&self.empty_tmpfs(), attrs, target.fd.as_fd(), self.proc)
            }
        }
    }

    fn empty_tmpfs(&self) -> Filesystem {
        Filesystem { superblock: vec!["ro".into()], ..Filesystem::tmpfs(None, self.label) }
    }

    /// The container's own `/dev/null`, once it is known to be that (CVE-2025-31133).
    fn mask_file(&mut self, target: &Target) -> Result<()> {
        if self.root.api.moves_mounts() && self.file.is_none() {
            let copy = tree::clone(self.null()?.as_fd(), false).context(|| "open_tree `/dev/null`")?;
            self.file = Some(Stamp::new(copy));
        }
        match &mut self.file {
            Some(stamp) => stamp.attach(target.fd.as_fd()),
            None => legacy::bind(self.null()?.as_fd(), false, target.fd.as_fd(), self.proc),
        }
    }

    fn null(&self) -> Result<OwnedFd> {
        let null = self.root.places.find(Path::new("/dev/null"))?;
        let null = null.ok_or_else(|| Error::system("the container has no `/dev/null` to mask files with"))?.fd;
        let stat = rustix::fs::fstat(&null).context(|| "fstat `/dev/null`")?;
        let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == rustix::fs::makedev(1, 3);
        match is_null {
            true => Ok(null),
            false => Err(Error::system("the container's `/dev/null` is not the null device")),
        }
    }

    /// Mounts a path over itself, read-only; what is mounted below it stays as it is.
    fn seal(&mut self, path: &Path) -> Result<()> {
        let Some(target) = self.root.places.find(path)? else {
            return Ok(());
        };
        let attrs = Attrs { set: attr::RDONLY, clear: 0 };
        let changes = Changes { attrs, ..Changes::default() };
        if self.root.api.moves_mounts() {
            let copy = tree::clone(target.fd.as_fd(), true).context(|| "open_tree")?;
            let left = changes.make(copy.as_fd(), self.root.api, &mut self.session.recorder)?;
            tree::attach(copy.as_fd(), target.fd.as_fd()).context(|| "move_mount")?;
            return left.map_or(Ok(()), |left| left.make_by_path(copy.as_fd(), self.proc));
        }
        legacy::bind(target.fd.as_fd(), true, target.fd.as_fd(), self.proc)?;
        let mount = self.root.places.find(path)?.ok_or_else(|| Error::system("it is gone"))?;
        legacy::propagate(mount.fd.as_fd(), Propagation::Private, true, self.proc)?;
        tree::change_attached(mount.fd.as_fd(), changes, self.root.api, self.proc, &mut self.session.recorder)
    }
}
