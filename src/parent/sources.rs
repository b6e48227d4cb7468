//! Opens on the host what the child mounts, and streams it in slots.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};
use rustix::process::{Resource, getrlimit};

use crate::error::{Context, Error, Result};
use crate::node;
use crate::plan::Plan;
use crate::plan::sources::Source;
use crate::protocol::codec::FDS_CAP;
use crate::protocol::session::ParentSession;
use crate::protocol::{Slot, ToChild};

/// Opens all sources of the plan and sends them, in batches that fit the limit of open files. What can't be opened is
/// an empty slot: the child then takes the path-based way, and fails with the better error if that can't be had either.
pub(super) fn stream(session: &mut ParentSession, plan: &Plan) -> Result<()> {
    if plan.sources.is_empty() {
        return Ok(());
    }
    let since = session.recorder.now();
    let mut opener = Opener { plan, nodes: None };
    let batches: Vec<&[Source]> = plan.sources.chunks(batch_size()).collect();
    for (i, batch) in batches.iter().enumerate() {
        let opened: Vec<Result<OwnedFd>> = batch.iter().map(|source| opener.open(source)).collect();
        let fds: Vec<BorrowedFd<'_>> = opened.iter().flatten().map(AsFd::as_fd).collect();
        let slot = |opened: &Result<OwnedFd>| match opened {
            Ok(_) => Slot::Tree,
            // As many as fit a batch must fit a frame.
            Err(reason) => Slot::Empty { reason: reason.clone().shortened(REASON_CAP) },
        };
        let slots = opened.iter().map(slot).collect();
        session.send(ToChild::Mounts { slots, last: i + 1 == batches.len() }, &fds)?;
    }
    session
        .recorder
        .step("open sources", since, || format!("{} slots in {} batches", plan.sources.len(), batches.len()));
    Ok(())
}

/// The longest reason of an empty slot, in bytes.
const REASON_CAP: usize = 100;

/// How many fds to have open at once: a part of what this process may have, and what fits a message. The child, with
/// the same limit, holds one batch too.
fn batch_size() -> usize {
    const OTHERS: u64 = 24;
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let spare = limit.saturating_sub(OTHERS) / 2;
    usize::try_from(spare).unwrap_or(FDS_CAP).clamp(1, FDS_CAP)
}

struct Opener<'a> {
    plan: &'a Plan,
    /// The tmpfs that fresh device nodes are made in, once there is one, with the names used in it.
    nodes: Option<Result<OwnedFd>>,
}

impl Opener<'_> {
    fn open(&mut self, source: &Source) -> Result<OwnedFd> {
        match source {
            Source::Path { path, recursive, nofollow } => open_tree(CWD, path, *recursive, *nofollow),
            Source::Cgroup { controller } => {
                Err(Error::system(format!("the container has no `{controller}` cgroup to show")))
            }
            Source::Device { index } => self.device(*index),
        }
    }

    fn device(&mut self, index: usize) -> Result<OwnedFd> {
        let device = &self.plan.devices[index];
        if !self.plan.fresh_devices {
            return open_tree(CWD, &device.path, false, true);
        }
        let nodes = self.nodes.get_or_insert_with(|| stage().context(|| "stage device nodes"));
        let nodes = nodes.as_ref().map_err(Clone::clone)?;
        let name = node::name(&self.plan.devices, index);
        match node::make(nodes.as_fd(), &name, device) {
            Ok(()) => open_tree(nodes.as_fd(), Path::new(&name), false, true),
            // No CAP_MKNOD, or a device cgroup around the runtime: the host's own node, as a user namespace gets it.
            Err(e) if e.errno() == Some(Errno::PERM) => open_tree(CWD, &device.path, false, true),
            Err(e) => Err(e),
        }
    }
}

fn open_tree(dir: BorrowedFd<'_>, path: &Path, recursive: bool, nofollow: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    flags.set(OpenTreeFlags::AT_SYMLINK_NOFOLLOW, nofollow);
    rustix::mount::open_tree(dir, path, flags).context(|| format!("open_tree `{}`", path.display()))
}

/// A detached tmpfs for device nodes. Each container gets nodes of its own: with the host's, a chmod in the container
/// would change the host's `/dev/null`.
fn stage() -> Result<OwnedFd> {
    use rustix::mount::{fsconfig_create, fsconfig_set_string, fsmount, fsopen};
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).context(|| "fsopen tmpfs")?;
    fsconfig_set_string(&context, "source", "tmpfs").context(|| "fsconfig source")?;
    fsconfig_set_string(&context, "mode", "755").context(|| "fsconfig mode")?;
    fsconfig_create(&context).context(|| "fsconfig create")?;
    let attrs = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attrs).context(|| "fsmount tmpfs")
}
