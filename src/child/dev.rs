//! Fills the container's `/dev`: device nodes, links.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::kernel::rustix;
use crate::kernel::rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use crate::kernel::rustix::io::Errno;
use crate::kernel::rustix::mount::UnmountFlags;

use super::attach::{Target, name};
use super::mounts::Mounter;
use super::readonly::Chosen;
use super::rootfs::Root;
use super::slots::Opened;
use super::tree::{self, Changes};
use super::{ChildSession, filesystem, legacy, refused};
use crate::error::{Context, Error, Result};
use crate::node;
use crate::plan::ContainerPlan;
use crate::plan::devices::DevicePlan;
use crate::plan::mounts::Filesystem;
use crate::plan::options::{Attrs, attr};
use crate::procfs::Proc;
use crate::protocol::event::About;

/// Links that every process expects; runtime-spec, runtime-linux.md, "Dev symbolic links".
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Attaches all device nodes and makes the links. Nothing where the configuration brings its own `/dev`.
pub(super) fn populate(mounter: &mut Mounter<'_>, container: &ContainerPlan) -> Result<()> {
    if !container.own_dev {
        return Ok(());
    }
    for (device, _) in container.devices.iter().filter(|(device, _)| device.path.parent() != Some(Path::new("/dev"))) {
        mounter
            .making(&device.path, Chosen::Otherwise, |places| places.file(&device.path))
            .context(|| format!("device `{}`", device.path.display()))?;
    }
    let Mounter { session, slots, root, proc, label, .. } = mounter;
    let since = session.recorder.now();
    let dev = root.places.plain_directory(Path::new("/dev"))?;
    let mut by_path = vec![];
    let devices: Vec<DevicePlan> = container.devices.iter().map(|(device, _)| device.clone()).collect();
    for (index, (device, slot)) in container.devices.iter().enumerate() {
        match slots.take(session, *slot)? {
            Opened::Tree(tree) if root.api.moves_mounts() => {
                // Fresh nodes are on a tmpfs that has these already.
                let attrs = if container.fresh_devices { Attrs::default() } else { SAFE };
                attach(session, &tree, device, &dev, root, attrs, proc)
                    .context(|| format!("device `{}`", device.path.display()))?;
            }
            Opened::Tree(_) => by_path.push((index, String::new())),
            Opened::Empty(reason) if root.sees_host() => by_path.push((index, reason.to_string())),
            Opened::Empty(reason) => return Err(reason.context(format!("device `{}`", device.path.display()))),
        }
    }
    if !by_path.is_empty() {
        // Without, the whole strategy is so, and the trace has said why.
        if root.api.moves_mounts() {
            session.recorder.fallback("devices", || {
                About::object(format!("{} nodes", by_path.len())).by("their paths").why(by_path[0].1.clone())
            });
        }
        let indexes: Vec<usize> = by_path.iter().map(|(index, _)| *index).collect();
        match container.fresh_devices {
            true => make_by_path(&devices, &indexes, &dev, root, (proc, *label))?,
            false => indexes.iter().try_for_each(|i| bind_by_path(session, &devices[*i], &dev, root, proc))?,
        }
    }
    links(dev.fd.as_fd(), root)?;
    session.recorder.step("devices", since, || format!("{} nodes", container.devices.len()));
    Ok(())
}

/// Makes `/dev` read-only, now that all is in it.
pub(super) fn seal(session: &mut ChildSession, root: &Root, proc: &Proc) -> Result<()> {
    let dev = root.places.plain_directory(Path::new("/dev"))?;
    tree::seal(dev.fd.as_fd(), root.api, proc, &mut session.recorder).context(|| "make `/dev` read-only")
}

/// What a device node's mount gets, whatever the host's `/dev` has.
const SAFE: Attrs = Attrs { set: attr::NOSUID | attr::NOEXEC, clear: 0 };

/// Attaches a node that the parent sent. In `/dev` itself, where nearly all are, that is two calls.
fn attach(
    session: &mut ChildSession,
    tree: &OwnedFd,
    device: &DevicePlan,
    dev: &Target,
    root: &Root,
    attrs: Attrs,
    proc: &Proc,
) -> Result<()> {
    let changes = Changes { attrs, ..Changes::default() };
    let left = changes.make(tree.as_fd(), root.api, &mut session.recorder)?;
    match device.path.strip_prefix("/dev").ok().and_then(|rest| rest.to_str()).filter(|rest| !rest.contains('/')) {
        Some(file) => {
            let there = make_mount_point(dev.fd.as_fd(), file)?;
            there.map_or(Ok(()), |there| must_match(&there, device))?;
            let flags = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            rustix::mount::move_mount(tree, "", &dev.fd, file, flags).context(|| "move_mount")?;
        }
        None => {
            let target = root.places.file(&device.path)?;
            must_match(&rustix::fs::fstat(&target.fd).context(|| "fstat the mount point")?, device)?;
            tree::attach(tree.as_fd(), target.fd.as_fd()).context(|| "move_mount")?;
        }
    }
    left.map_or(Ok(()), |left| left.make_by_path(tree.as_fd(), proc))
}

/// What the image has where a device is to be: nothing that it would hide; config-linux.md, "Devices". An empty file is a
/// mount point of an earlier container's. What is in the way of a default device is nobody's data.
fn must_match(there: &Stat, device: &DevicePlan) -> Result<()> {
    let kind = FileType::from_raw_mode(there.st_mode);
    let same = node::is(there, device);
    let empty = kind == FileType::RegularFile && there.st_size == 0;
    match same || empty || crate::plan::devices::is_default(&device.path) {
        true => Ok(()),
        false => Err(Error::system(format!("the image has {} there, which is not this device", name(kind)))),
    }
}

/// An empty file to mount a node on. What the image has there may be anything but a symlink or a directory: it is returned.
pub(super) fn make_mount_point(dev: BorrowedFd<'_>, file: &str) -> Result<Option<Stat>> {
    match rustix::fs::mknodat(dev, file, FileType::RegularFile, Mode::from_raw_mode(0o644), 0) {
        Ok(()) => Ok(None),
        Err(Errno::EXIST) => {
            let stat = rustix::fs::statat(dev, file, AtFlags::SYMLINK_NOFOLLOW).context(|| "stat the mount point")?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile | FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo => {
                    Ok(Some(stat))
                }
                other => Err(Error::system(format!("the image has {} there", name(other)))),
            }
        }
        Err(errno) => Err(refused("mknod", file, errno)),
    }
}

/// Where a device's mount point is, made if missing, for the path-based ways.
fn mount_point(device: &DevicePlan, dev: &Target, root: &Root) -> Result<Target> {
    if device.path.parent() == Some(Path::new("/dev"))
        && let Some(file) = device.path.file_name().and_then(|n| n.to_str())
    {
        make_mount_point(dev.fd.as_fd(), file)?;
    }
    let target = root.places.file(&device.path)?;
    must_match(&rustix::fs::fstat(&target.fd).context(|| "fstat the mount point")?, device)?;
    Ok(target)
}

/// Binds the host's node.
fn bind_by_path(session: &mut ChildSession, device: &DevicePlan, dev: &Target, root: &Root, proc: &Proc) -> Result<()> {
    let bind = || -> Result<()> {
        node::is_there(&device.path, device)?;
        let target = mount_point(device, dev, root)?;
        legacy::bind_path(&device.path, false, false, target.fd.as_fd(), proc)
    };
    bind().context(|| format!("device `{}`", device.path.display()))?;
    if let Some(mount) = root.places.find(&device.path)? {
        let changes = Changes { attrs: SAFE, ..Changes::default() };
        tree::change_attached(mount.fd.as_fd(), changes, root.api, proc, &mut session.recorder)?;
    }
    Ok(())
}

/// Open files that are left for the making itself, when a batch of places is open.
const SPARE_FILES: usize = 8;

/// Makes fresh nodes as the parent does, in a tmpfs of their own, and binds each: the same mounts in the end. The tmpfs
/// is mounted over `/dev` while the nodes are made, and the places they go to are opened before that: where few files
/// may be open, in batches with a tmpfs each.
fn make_by_path(
    all: &[DevicePlan],
    indexes: &[usize],
    dev: &Target,
    root: &Root,
    (proc, label): (&Proc, Option<&str>),
) -> Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let batch = limit.saturating_sub(proc.own_fds()?.len() + SPARE_FILES).max(1);
    let stage = Filesystem::tmpfs(Some("755"), label);
    indexes.chunks(batch).try_for_each(|indexes| make_batch_by_path(all, indexes, dev, root, (proc, &stage)))
}

fn make_batch_by_path(
    all: &[DevicePlan],
    indexes: &[usize],
    dev: &Target,
    root: &Root,
    (proc, stage): (&Proc, &Filesystem),
) -> Result<()> {
    let target =
        |device: &DevicePlan| mount_point(device, dev, root).context(|| format!("device `{}`", device.path.display()));
    let targets: Vec<Target> = indexes.iter().map(|i| target(&all[*i])).collect::<Result<_>>()?;
    filesystem::mount_by_path(stage, SAFE, dev.fd.as_fd(), proc).context(|| "stage device nodes")?;
    let stage = root.places.directory(Path::new("/dev"))?;
    for (index, target) in indexes.iter().zip(&targets) {
        let device = &all[*index];
        let make = || -> Result<()> {
            // The same name as in the parent's tmpfs, as mountinfo shows it.
            let name = node::name(all, *index);
            node::make(stage.fd.as_fd(), &name, device)?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let node = rustix::fs::openat(&stage.fd, &*name, flags, Mode::empty()).context(|| "open the node")?;
            legacy::bind(node.as_fd(), false, target.fd.as_fd(), proc)
        };
        make().context(|| format!("device `{}`", device.path.display()))?;
    }
    proc.enter()?;
    rustix::mount::unmount(&*Proc::path_of(stage.fd.as_fd()), UnmountFlags::DETACH)
        .context(|| "unmount the staged device nodes")
}

fn links(dev: BorrowedFd<'_>, root: &Root) -> Result<()> {
    // Every runtime makes this one too, where the kernel has the file.
    let core = root.places.find(Path::new("/proc/kcore"))?.map(|_| ("core", "/proc/kcore"));
    for (link, to) in LINKS.into_iter().chain(core) {
        match rustix::fs::symlinkat(to, dev, link) {
            Ok(()) | Err(Errno::EXIST | Errno::ROFS) => {}
            Err(errno) => return Err(refused("symlink", format!("/dev/{link}"), errno)),
        }
    }
    Ok(())
}
