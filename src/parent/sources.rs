//! Opens on the host what the child mounts, and streams it in slots.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use rustix::process::{Resource, getrlimit};

use super::conversation::Conversation;
use super::mapped::Mappings;
use super::pinned::Pinned;
use super::stage::Stage;
use super::{instances, namespaces};
use crate::error::{Context, Error, Result};
use crate::filesystem;
use crate::node;
use crate::plan::Plan;
use crate::plan::devices::DevicePlan;
use crate::plan::idmapped::Idmapped;
use crate::plan::mounts::Filesystem;
use crate::plan::namespaces::outside;
use crate::plan::options::{Attrs, attr};
use crate::plan::sources::{ONE_OF_A_LOCKED_TREE, Source};
use crate::plan::strategy::SourcesFrom;
use crate::procfs::Proc;
use crate::protocol::codec::{FDS_CAP, FRAME_CAP};
use crate::protocol::event::About;
use crate::protocol::journal;
use crate::protocol::{Slot, ToChild};
use crate::sys::mount::{MountAttr, mount_setattr};

/// Opens all sources of the plan where the plan says, and sends them, in batches that fit the limit of open files. What
/// can't be opened is an empty slot: the child then takes the path-based way, if it still can.
pub(super) fn stream(plan: &Plan, talk: &mut Conversation<'_>) -> Result<()> {
    match plan.mount_strategy.sources {
        // While the child enters its namespaces.
        SourcesFrom::Here => Opener::new(plan, talk)?.stream(talk),
        SourcesFrom::ChildsNamespace => {
            talk.await_namespaces(&plan.child)?;
            let mut opener = Opener::new(plan, talk)?;
            // The child begins with the first batch.
            let copy = plan.sources.len() > batch_size();
            // In the runtime's own mount namespace, where it may.
            opener.make_instances();
            let there =
                namespaces::InMountNamespace::enter(talk.child.pid, copy, talk.proc, &mut talk.session.recorder)?;
            let streamed = opener.stream(talk);
            there.leave()?;
            streamed
        }
        SourcesFrom::Stage => {
            let mut opener = Opener::new(plan, talk)?;
            // While the child enters its namespaces.
            opener.fill_stage(talk)?;
            talk.await_namespaces(&plan.child)?;
            opener.pid = talk.child.pid;
            opener.make_instances();
            if let Some(stage) = &opener.stage {
                talk.session.send(ToChild::Stage, &[stage.as_fd()])?;
            }
            opener.stream(talk)
        }
    }
}

/// A source whose turn has not come yet.
enum Early {
    Opened(OwnedFd),
    Staged,
}

/// The longest text of an empty slot's reason, in bytes: as many as a batch has, each of a few texts, must fit a frame.
fn reason_cap(slots: usize) -> usize {
    const TEXTS: usize = 6;
    (FRAME_CAP / (slots * TEXTS)).clamp(40, 1024)
}

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
    proc: &'a Proc,
    /// The container's process, for what shows its namespaces.
    pid: i32,
    /// The tmpfs that fresh device nodes are made in, once there is one, with the names used in it.
    nodes: Option<Result<OwnedFd>>,
    stage: Option<Stage>,
    /// By slot, what was opened, or put on the stage, before its turn.
    early: BTreeMap<usize, Result<Early>>,
    /// Mount namespaces that the host keeps under a path.
    pinned: Pinned,
    mappings: Mappings,
}

impl<'a> Opener<'a> {
    fn new(plan: &'a Plan, talk: &Conversation<'a>) -> Result<Opener<'a>> {
        let attaches = plan.mount_strategy.strategy.attaches();
        // In the child's own namespace there are none: the kernel leaves them out of a copy.
        let looks = attaches && plan.mount_strategy.sources != SourcesFrom::ChildsNamespace && plan.binds_trees();
        let pinned = if looks { Pinned::find(talk.proc)? } else { Pinned::default() };
        Ok(Opener {
            plan,
            proc: talk.proc,
            pid: talk.child.pid,
            nodes: None,
            stage: None,
            early: BTreeMap::new(),
            pinned,
            mappings: Mappings::default(),
        })
    }

    /// Puts every source that is a path of the host on the stage: all but the root, of which the namespace is made, and what
    /// hooks alone are shown.
    fn fill_stage(&mut self, talk: &mut Conversation<'_>) -> Result<()> {
        let plan = self.plan;
        let since = talk.session.recorder.now();
        let stage = Stage::new()?;
        for (slot, source) in plan.sources.iter().enumerate() {
            if slot == 0 || Some(slot) == plan.shown_host() || matches!(source, Source::Instance { .. }) {
                continue;
            }
            let put = |tree: OwnedFd| stage.put(slot, tree.as_fd()).context(|| "move_mount to the stage");
            let staged = self.open(source, talk).and_then(put);
            self.early.insert(slot, staged.map(|()| Early::Staged));
        }
        self.stage = Some(stage);
        talk.session.recorder.step("stage", since, || format!("{} sources", self.early.len()));
        Ok(())
    }

    /// Makes the file systems that show the container's namespaces.
    fn make_instances(&mut self) {
        for (slot, source) in self.plan.sources.iter().enumerate() {
            if let Source::Instance { fs, attrs, idmapped } = source {
                let made = instances::make(fs, *attrs, self.pid, self.proc);
                let mapped = made.and_then(|tree| self.map(tree, idmapped.as_ref()));
                self.early.insert(slot, mapped.map(Early::Opened));
            }
        }
    }

    fn stream(&mut self, talk: &mut Conversation<'_>) -> Result<()> {
        let plan = self.plan;
        if plan.sources.is_empty() {
            return Ok(());
        }
        let since = talk.session.recorder.now();
        let size = batch_size();
        let batches = plan.sources.len().div_ceil(size);
        for (i, batch) in plan.sources.chunks(size).enumerate() {
            let mut fds = vec![];
            let mut slots = vec![];
            for (at, source) in batch.iter().enumerate() {
                let early = self.early.remove(&(i * size + at));
                let opened = early.unwrap_or_else(|| self.open(source, talk).map(Early::Opened));
                slots.push(match opened {
                    Ok(Early::Opened(tree)) => {
                        fds.push(tree);
                        Slot::Tree
                    }
                    Ok(Early::Staged) => Slot::Staged,
                    Err(reason) => Slot::Empty { reason: reason.shortened(reason_cap(batch.len())) },
                });
            }
            let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            talk.session.send(ToChild::Mounts { slots, last: i + 1 == batches }, &fds)?;
        }
        talk.session
            .recorder
            .step("open sources", since, || format!("{} slots in {batches} batches", plan.sources.len()));
        Ok(())
    }

    fn open(&mut self, source: &Source, talk: &mut Conversation<'_>) -> Result<OwnedFd> {
        match source {
            Source::Path { path, recursive, nofollow, idmapped } => {
                let pin = if *recursive { self.pinned.below(path) } else { None };
                let tree = match pin {
                    Some(pin) => {
                        let why = || format!("`{pin}` keeps a mount namespace, which no attached tree may hold");
                        talk.session.recorder.fallback("open source", || {
                            About::object(path.display().to_string()).by("a copy of the mount namespace").why(why())
                        });
                        namespaces::in_copy(self.proc, || open_tree(CWD, path, *recursive, *nofollow))
                    }
                    None => open_tree(CWD, path, *recursive, *nofollow).map_err(|e| {
                        match self.plan.mount_strategy.sources {
                            SourcesFrom::ChildsNamespace => explain_locked(e, *recursive),
                            SourcesFrom::Here | SourcesFrom::Stage => e,
                        }
                    }),
                }?;
                self.map(tree, idmapped.as_ref()).context(|| format!("`{}`", path.display()))
            }
            Source::Cgroup { controller } => {
                Err(Error::system(format!("the container has no `{controller}` cgroup to show")))
            }
            Source::Instance { fs, attrs, idmapped } => {
                let tree = instances::make(fs, *attrs, self.pid, self.proc)?;
                self.map(tree, idmapped.as_ref()).context(|| format!("`{}`", fs.fstype))
            }
            Source::Device { index } => self.device(*index, talk),
        }
    }

    fn map(&mut self, tree: OwnedFd, wanted: Option<&Idmapped>) -> Result<OwnedFd> {
        let Some(wanted) = wanted else { return Ok(tree) };
        let since = journal::now();
        let own = (self.plan.maps_at_clone(), self.pid);
        let mapped = self.mappings.map(tree.as_fd(), wanted, own, self.proc);
        journal::ended("map ids", since, &mapped, || About::default().by("MOUNT_ATTR_IDMAP").with(wanted.describe()));
        mapped.map(|()| tree)
    }

    fn device(&mut self, index: usize, talk: &mut Conversation<'_>) -> Result<OwnedFd> {
        let device = &self.plan.devices[index];
        if self.plan.fresh_devices {
            // Each container gets nodes of its own: with the host's, a chmod in the container would change the host's
            // `/dev/null`.
            return self.node(device, index, |refused| {
                if refused.errno() != Some(Errno::PERM) {
                    return Err(refused);
                }
                // No CAP_MKNOD, or a device cgroup around the runtime.
                talk.session.recorder.fallback("devices", || {
                    About::object(device.path.display().to_string())
                        .by("the host's node, with the host's owner and mode")
                        .why(refused.to_string())
                });
                hosts_node(device)
            });
        }
        // A user namespace gets the host's node, whose owner and mode decide who may open it.
        let Err(other) = node::is_there(&device.path, device) else {
            return open_tree(CWD, &device.path, false, true);
        };
        if !self.plan.mount_strategy.instances_by_parent {
            return Err(other);
        }
        let maps = self.plan.id_maps.as_ref();
        let owner = maps.and_then(|maps| Some((outside(&maps.uid, device.uid)?, outside(&maps.gid, device.gid)?)));
        let Some((uid, gid)) = owner else {
            return Err(other.also_advise("or give it an owner that the user namespace has"));
        };
        self.node(&DevicePlan { uid, gid, ..device.clone() }, index, Err).map_err(|e| match e.errno() {
            Some(Errno::INVAL) => {
                e.advise("before Linux 6.15 a user namespace gets only devices that the host has there")
            }
            _ => e,
        })
    }

    /// A new node, on a tmpfs of this container's; or what comes of it that none may be made.
    fn node(
        &mut self,
        device: &DevicePlan,
        index: usize,
        refused: impl FnOnce(Error) -> Result<OwnedFd>,
    ) -> Result<OwnedFd> {
        let safe = Attrs { set: attr::NOSUID | attr::NOEXEC, clear: 0 };
        let label = self.plan.child.container.as_ref().and_then(|c| c.mount_label.as_deref());
        let nodes = self.nodes.get_or_insert_with(|| {
            filesystem::make(&Filesystem::tmpfs(Some("755"), label), safe).context(|| "stage device nodes")
        });
        let nodes = nodes.as_ref().map_err(Clone::clone)?;
        let name = node::name(&self.plan.devices, index);
        match node::make(nodes.as_fd(), &name, device) {
            Ok(()) => open_tree(nodes.as_fd(), Path::new(&name), false, true),
            Err(e) => refused(e),
        }
    }
}

/// The host's own node, on a mount by which nothing but the device can be written: no root in a container changes the mode or
/// the owner that the host has given it.
fn hosts_node(device: &DevicePlan) -> Result<OwnedFd> {
    node::is_there(&device.path, device)?;
    let tree = open_tree(CWD, &device.path, false, true)?;
    let guarded = MountAttr { set: attr::RDONLY | attr::NOSUID | attr::NOEXEC, ..MountAttr::default() };
    match mount_setattr(tree.as_fd(), false, &guarded) {
        // Before Linux 5.12 it is the node as the host has it, or none.
        Ok(()) | Err(Errno::NOSYS) => Ok(tree),
        Err(errno) => Err(Error::call(format!("mount_setattr `{}`", device.path.display()), errno)),
    }
}

/// Clones a tree of the host.
pub(super) fn open_tree(dir: BorrowedFd<'_>, path: &Path, recursive: bool, nofollow: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    flags.set(OpenTreeFlags::AT_SYMLINK_NOFOLLOW, nofollow);
    rustix::mount::open_tree(dir, path, flags).context(|| format!("open_tree `{}`", path.display()))
}

/// What a refusal means in a mount namespace that a user namespace owns.
pub(super) fn explain_locked(error: Error, recursive: bool) -> Error {
    match error.errno() {
        Some(Errno::INVAL) if !recursive => error.advise(ONE_OF_A_LOCKED_TREE),
        _ => error,
    }
}
