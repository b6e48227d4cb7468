//! `mounts add` and `mounts remove`: what a running container has mounted.
//!
//! This process ends in the container's mount namespace. What comes from the host it opens before, in a copy of the host's
//! mounts that the container's user namespace owns, if it has one of its own: the kernel has then locked their flags
//! (mount_namespaces(7)), and the container's root can't make writable what the host has read-only.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::sched::CloneFlags;
use oci_spec::runtime::Mount;
use rustix::fs::CWD;

use super::lifecycle::Container;
use super::mapped::Mappings;
use super::sources;
use super::trace::TraceFile;
use crate::child::{Places, live, with_mode_of_covered};
use crate::error::{Context, Error, Result};
use crate::filesystem;
use crate::plan::host::Host;
use crate::plan::idmapped::Idmapped;
use crate::plan::live::{LivePlan, destinations};
use crate::plan::mounts::{Filesystem, MountPlan, What};
use crate::plan::namespaces::{flag, proc_name};
use crate::plan::options::{Attrs, attr};
use crate::plan::sources::Source;
use crate::procfs::Proc;
use crate::protocol::event::Recorder;
use crate::state::StateRoot;

/// Adds mounts, in order: all, or none.
///
/// # Errors
/// A container that does not run; a mount that is wrong, or that the kernel refuses.
pub fn add(state: &StateRoot, id: &str, added: Vec<Mount>, trace: &TraceFile) -> Result<()> {
    trace.traced("mounts add", id, |recorder| try_add(state, id, added, recorder))
}

fn try_add(state: &StateRoot, id: &str, added: Vec<Mount>, recorder: &mut Recorder) -> Result<()> {
    let since = recorder.now();
    let container = Container::open(state, id)?;
    let lock = container.dir.lock()?;
    let proc = state.proc();
    let spec = container.dir.read_config()?;
    let host = Host::look_for_mounts(&spec, proc)?;
    let plan = LivePlan::new(&spec, added, &container.record.state.bundle, &host);
    recorder.failed("plan", since, &plan, String::new);
    let plan = plan?;
    recorder.step("plan", since, || format!("{} mounts", plan.mounts.len()));
    let since = recorder.now();
    let there = Namespaces::of(&container, proc)?;
    // What only the covered directory tells.
    let filesystems = plan.mounts.iter().map(|mount| with_mode(mount, &there)).collect::<Result<Vec<_>>>()?;

    // Only who has rights over a file system may map its IDs: before they are given up.
    let mut mappings = Mappings::default();
    let mut opened = vec![];
    for (mount, fs) in plan.mounts.iter().zip(&filesystems) {
        let map = |tree: BorrowedFd<'_>, by: &Idmapped| mappings.map(tree, by, (None, container.pid()), proc);
        opened.push(mapped(mount, fs.as_ref(), &plan.sources, map).context(|| on(mount))?);
    }
    there.enter_user()?;
    // What a path of the host leads to is opened by who calls, what is made is the container's root's.
    for (mount, tree) in plan.mounts.iter().zip(&mut opened).filter(|(_, tree)| tree.is_none()) {
        *tree = open_source(mount, &plan.sources).context(|| on(mount))?;
    }
    there.become_root()?;
    there.enter_others()?;
    let mut trees = vec![];
    for ((mount, tree), fs) in plan.mounts.iter().zip(opened).zip(filesystems) {
        let tree = match (tree, fs) {
            (Some(tree), _) => tree,
            (None, Some(fs)) => make(&fs, mount.attrs, there.get(flag::PID)).context(|| on(mount))?,
            (None, None) => return Err(Error::system("it is neither a tree nor a file system").context(on(mount))),
        };
        trees.push((mount, tree));
    }
    there.enter_mounts()?;
    recorder.step("open sources", since, || format!("{} trees, and the container's namespaces joined", trees.len()));
    live::attach_all(&trees, plan.api, proc, recorder)?;
    drop(lock);
    Ok(())
}

/// Takes mounts away: all, or none.
///
/// # Errors
/// A container that does not run; a place where nothing is mounted.
pub fn remove(state: &StateRoot, id: &str, removed: &[Mount], trace: &TraceFile) -> Result<()> {
    trace.traced("mounts remove", id, |recorder| try_remove(state, id, removed, recorder))
}

fn try_remove(state: &StateRoot, id: &str, removed: &[Mount], recorder: &mut Recorder) -> Result<()> {
    let container = Container::open(state, id)?;
    let lock = container.dir.lock()?;
    let destinations: Vec<PathBuf> = destinations(removed)?;
    let there = Namespaces::of(&container, state.proc())?;
    there.enter_user()?;
    there.become_root()?;
    there.enter_mounts()?;
    live::detach_all(&destinations, state.proc(), recorder)?;
    drop(lock);
    Ok(())
}

fn on(mount: &MountPlan) -> String {
    format!("mount on `{}`", mount.destination.display())
}

/// The container's namespaces, opened before any of them is joined: afterwards its processes are out of sight.
struct Namespaces {
    open: Vec<(u32, OwnedFd)>,
    root: OwnedFd,
}

impl Namespaces {
    fn of(container: &Container, proc: &Proc) -> Result<Namespaces> {
        container.must_run()?;
        let flags = container.record.namespaces;
        // The order in which they are joined: the user namespace gives the rights over the others.
        let order = [flag::USER, flag::PID, flag::NET, flag::IPC, flag::CGROUP, flag::MOUNT];
        let pid = container.pid();
        let open = |flag| Ok((flag, proc.open_namespace(&pid.to_string(), proc_name(flag))?));
        let open = order.into_iter().filter(|flag| flags & flag != 0).map(open).collect::<Result<_>>()?;
        let root = proc.open_root(pid)?;
        // Whether it was that process all the while.
        container.must_run()?;
        Ok(Namespaces { open, root })
    }

    fn get(&self, wanted: u32) -> Option<&OwnedFd> {
        self.open.iter().find(|(flag, _)| *flag == wanted).map(|(_, fd)| fd)
    }

    fn join(&self, flag: u32) -> Result<()> {
        let Some(fd) = self.get(flag) else { return Ok(()) };
        let joined = nix::sched::setns(fd, CloneFlags::from_bits_retain(flag as i32));
        joined.context(|| format!("setns to the container's {} namespace", proc_name(flag)))
    }

    /// From here on this process is out of reach of what it meets: not dumpable, it can't be traced (prctl(2)).
    fn enter_user(&self) -> Result<()> {
        let not = rustix::process::DumpableBehavior::NotDumpable;
        rustix::process::set_dumpable_behavior(not).context(|| "prctl PR_SET_DUMPABLE")?;
        self.join(flag::USER)?;
        // The kernel leaves out of a copy what no attached tree may hold: mount namespaces that are kept by a mount.
        nix::sched::unshare(CloneFlags::CLONE_NEWNS).context(|| "unshare a mount namespace")
    }

    /// Of the container's user namespace, so that what is made is its.
    fn become_root(&self) -> Result<()> {
        rustix::process::umask(rustix::fs::Mode::empty());
        if self.get(flag::USER).is_none() {
            return Ok(());
        }
        let (uid, gid) = (nix::unistd::Uid::from_raw(0), nix::unistd::Gid::from_raw(0));
        match nix::unistd::setgroups(&[]) {
            // `/proc/PID/setgroups` says `deny`.
            Ok(()) | Err(nix::errno::Errno::EPERM) => {}
            Err(errno) => return Err(errno).context(|| "setgroups"),
        }
        nix::unistd::setresgid(gid, gid, gid).context(|| "setresgid to the container's root")?;
        nix::unistd::setresuid(uid, uid, uid).context(|| "setresuid to the container's root")
    }

    /// Those that new file systems show. No process of ours enters the pid namespace: the container could look at it.
    fn enter_others(&self) -> Result<()> {
        [flag::NET, flag::IPC, flag::CGROUP].into_iter().try_for_each(|flag| self.join(flag))
    }

    fn enter_mounts(&self) -> Result<()> {
        self.join(flag::MOUNT)
    }
}

/// The tree of a mount whose IDs are mapped.
fn mapped(
    mount: &MountPlan,
    fs: Option<&Filesystem>,
    sources: &[Source],
    map: impl FnOnce(BorrowedFd<'_>, &Idmapped) -> Result<()>,
) -> Result<Option<OwnedFd>> {
    let slot = match &mount.what {
        What::Bind(bind) => Some(bind.slot),
        What::Filesystem(fs) => fs.instance,
        What::CgroupV1(_) => None,
    };
    let (tree, by) = match (slot.and_then(|slot| sources.get(slot as usize)), fs) {
        (Some(Source::Path { idmapped: Some(by), .. }), _) => (open_source(mount, sources)?, by),
        (Some(Source::Instance { idmapped: Some(by), .. }), Some(fs)) => (Some(make(fs, mount.attrs, None)?), by),
        _ => return Ok(None),
    };
    tree.as_ref().map_or(Ok(()), |tree| map(tree.as_fd(), by))?;
    Ok(tree)
}

fn open_source(mount: &MountPlan, sources: &[Source]) -> Result<Option<OwnedFd>> {
    let What::Bind(bind) = &mount.what else { return Ok(None) };
    let Some(Source::Path { path, recursive, nofollow, .. }) = sources.get(bind.slot as usize) else {
        return Err(Error::system("its source is no path of the host"));
    };
    let tree = sources::open_tree(CWD, path, *recursive, *nofollow);
    tree.map_err(|e| sources::explain_locked(e, *recursive)).map(Some)
}

/// What is to be made, as at the container's start.
fn with_mode(mount: &MountPlan, there: &Namespaces) -> Result<Option<Filesystem>> {
    let What::Filesystem(fs) = &mount.what else { return Ok(None) };
    let places = Places::of_running(there.root.as_fd())?;
    let with_mode = with_mode_of_covered(fs, &places, &mount.destination)?;
    Ok(Some(with_mode.unwrap_or_else(|| fs.clone())))
}

fn make(fs: &Filesystem, attrs: Attrs, pid_namespace: Option<&OwnedFd>) -> Result<OwnedFd> {
    // What is filled first is made read-only when it is.
    let sealed = if fs.tmpcopyup { attr::RDONLY } else { 0 };
    let attrs = Attrs { set: attrs.set & !sealed, ..attrs };
    if let Some(why) = filesystem::unfit_for_fsconfig(fs) {
        return Err(Error::config(why));
    }
    match pid_namespace.filter(|_| fs.fstype == "proc") {
        Some(shown) => filesystem::make_proc(fs, attrs, shown.as_fd()),
        None => filesystem::make(fs, attrs),
    }
}
