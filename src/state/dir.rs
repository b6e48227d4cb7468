//! The state root and the directories in it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::record::{Record, Remains, Status};
use super::sockets::{NOTIFY, SOCKET};
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::id::ContainerId;
use crate::procfs::Proc;

const RECORD: &str = "state.json";
const CONFIG: &str = "config.json";

/// The directory of all containers' directories.
#[derive(Clone, Debug)]
pub struct StateRoot {
    path: PathBuf,
    filters: Option<PathBuf>,
    /// The one procfs of this command.
    proc: Arc<Proc>,
}

/// One container's directory.
#[derive(Debug)]
pub struct ContainerDir {
    pub(super) path: PathBuf,
    pub(super) fd: OwnedFd,
    proc: Arc<Proc>,
}

impl StateRoot {
    /// `--root`, else `$XDG_RUNTIME_DIR/tandem` for who is not the machine's root, else `/run/tandem`.
    ///
    /// # Errors
    /// There is no place for it, or no procfs.
    pub fn choose(root: Option<&Path>) -> Result<StateRoot> {
        // Engines set it to an empty string for root.
        let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
        let proc = Arc::new(Proc::open()?);
        let is_root = rustix::process::geteuid().is_root();
        let base = match runtime_dir {
            Some(dir) if !is_root || !proc.in_initial_userns()? => Some(PathBuf::from(dir)),
            None if !is_root => None,
            _ => Some(PathBuf::from("/run")),
        };
        let path = match (root, &base) {
            (Some(root), _) => std::path::absolute(root).context(|| format!("--root `{}`", root.display()))?,
            (None, Some(base)) => base.join("tandem"),
            (None, None) => {
                let message = "there is no place for the containers' state: XDG_RUNTIME_DIR is not set";
                return Err(Error::new(Kind::Usage, message).advise(
                    "a login session sets it to /run/user/UID, and `loginctl enable-linger` keeps that; or give --root",
                ));
            }
        };
        Ok(StateRoot { path, filters: base.map(|base| base.join("tandem-filters")), proc })
    }

    /// Where it is, or will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The procfs that everything a command does about processes, namespaces and mounts goes through.
    pub(crate) fn proc(&self) -> &Arc<Proc> {
        &self.proc
    }

    /// Where compiled seccomp filters are kept: one place for all state roots, since a filter is known by its content.
    pub fn filter_cache(&self) -> Option<&Path> {
        self.filters.as_deref()
    }

    /// The directory of a container with the socket on which its service says that it is ready.
    pub(crate) fn notify_dir(&self, id: &ContainerId) -> PathBuf {
        self.path.join(id.as_str()).join(NOTIFY)
    }

    /// Looks whether an ID is taken, before anything is done for it. What claims it is [`StateRoot::create`].
    ///
    /// # Errors
    /// [`Kind::Exists`].
    pub fn must_be_free(&self, id: &ContainerId) -> Result<()> {
        match self.path.join(id.as_str()).exists() {
            true => Err(taken(id, &self.path)),
            false => Ok(()),
        }
    }

    /// Makes a container's directory, which claims the ID.
    ///
    /// # Errors
    /// [`Kind::Exists`] if the ID is taken.
    pub fn create(&self, id: &ContainerId) -> Result<ContainerDir> {
        let make = |path: &Path, recursive| DirBuilder::new().recursive(recursive).mode(0o700).create(path);
        let path = self.path.join(id.as_str());
        let made = match make(&path, false) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                make(&self.path, true).context(|| format!("make the state root `{}`", self.path.display()))?;
                make(&path, false)
            }
            made => made,
        };
        match made {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(taken(id, &self.path));
            }
            made => made.context(|| format!("make the state directory `{}`", path.display()))?,
        }
        ContainerDir::open(path, &self.proc).map_err(|errno| match errno {
            Errno::NOENT => gone(id),
            errno => {
                // Nobody else has anything in it yet.
                let _ = std::fs::remove_dir(self.path.join(id.as_str()));
                Error::call("open the new state directory", errno)
            }
        })
    }

    /// Opens a container's directory.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn open(&self, id: &ContainerId) -> Result<ContainerDir> {
        ContainerDir::open(self.path.join(id.as_str()), &self.proc).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => missing(id, &self.path),
            errno => Error::call(format!("open the state directory of `{id}`"), errno),
        })
    }

    /// The IDs of all containers, sorted.
    ///
    /// # Errors
    /// An unreadable state root; a missing one is empty.
    pub fn ids(&self) -> Result<Vec<ContainerId>> {
        let doing = || format!("read the state root `{}`", self.path.display());
        let entries = match std::fs::read_dir(&self.path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            entries => entries.context(doing)?,
        };
        let mut ids = vec![];
        for entry in entries {
            let entry = entry.context(doing)?;
            // A container is a directory; another file is somebody's who does not know that.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let name = entry.file_name();
                ids.extend(name.to_str().and_then(|name| ContainerId::parse(name).ok()));
            }
        }
        ids.sort();
        Ok(ids)
    }
}

fn taken(id: &ContainerId, root: &Path) -> Error {
    Error::new(Kind::Exists, format!("container with ID `{id}` already exists"))
        .advise(format!("`tandem --root {} delete {id}` first, or take another ID", root.display()))
}

/// The error of a command whose container another one has deleted.
pub(crate) fn gone(id: impl std::fmt::Display) -> Error {
    Error::new(Kind::NotFound, format!("container `{id}` does not exist any more: it was deleted meanwhile"))
}

/// The error of every command that is told an unknown ID; engines match on "does not exist".
fn missing(id: &ContainerId, root: &Path) -> Error {
    let advice = format!("`tandem --root {} list` has those that do; another --root looks elsewhere", root.display());
    Error::new(Kind::NotFound, format!("container `{id}` does not exist")).advise(advice)
}

impl ContainerDir {
    fn open(path: PathBuf, proc: &Arc<Proc>) -> Result<ContainerDir, Errno> {
        let fd = rustix::fs::open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(ContainerDir { path, fd, proc: Arc::clone(proc) })
    }

    /// The procfs of the command that opened it.
    pub(crate) fn proc(&self) -> &Proc {
        &self.proc
    }

    /// The user whose container it is.
    ///
    /// # Errors
    /// fstat(2)'s.
    pub fn owner(&self) -> Result<u32> {
        rustix::fs::fstat(&self.fd).map(|stat| stat.st_uid).context(|| format!("fstat `{}`", self.path.display()))
    }

    /// Writes the record, whole or not at all.
    ///
    /// # Errors
    /// The state directory can't be written.
    pub fn write_record(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record).map_err(|e| Error::system(e.to_string()))?;
        self.write(RECORD, &text)
    }

    /// Reads the record. None where `create` was killed before it wrote one.
    ///
    /// # Errors
    /// A record that can't be read, is damaged or gone.
    pub fn read_record(&self, id: &ContainerId) -> Result<Option<Record>> {
        let path = self.path.join(RECORD);
        match self.read(RECORD) {
            Ok(text) => {
                let record: Record = crate::plan::load::parse(&text).of_file(&path)?;
                record.check(id).of_file(&path).map(|()| Some(record))
            }
            // The configuration is written after it.
            Err(e) if e.errno() == Some(Errno::NOENT) && self.path.join(CONFIG).exists() => {
                // Not the kernel's words: engines read them as a container that is not there.
                Err(Error::system("it is gone").context(format!("`{}`", path.display())))
            }
            Err(e) if e.errno() == Some(Errno::NOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The record of a container that a command is about.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where there is none yet.
    pub fn record(&self, id: &ContainerId) -> Result<Record> {
        let root = self.path.parent().unwrap_or(&self.path).display();
        let record = self.read_record(id).map_err(|error| {
            if !is_lost(&error) {
                return error;
            }
            let command = format!("`tandem --root {root} delete --force {id}`");
            error.advise(format!("{command} ends what it can find of the container, and removes the rest"))
        });
        record?.ok_or_else(|| missing(id, self.path.parent().unwrap_or(&self.path)))
    }

    /// What is left of a record that is lost, and the configuration, if it is there and JSON.
    ///
    /// # Errors
    /// What may be there can't be read.
    pub(crate) fn remains(&self) -> Result<Remains> {
        let read = |name| match self.read(name) {
            Err(e) if matches!(e.errno(), Some(Errno::NOENT | Errno::ISDIR)) => Ok(vec![]),
            read => read,
        };
        let config = serde_json::from_slice(&read(CONFIG)?).ok();
        Ok(Remains { record: String::from_utf8_lossy(&read(RECORD)?).into_owned(), config })
    }

    /// Keeps a copy of the configuration.
    ///
    /// # Errors
    /// The state directory can't be written.
    pub fn write_config(&self, text: &[u8]) -> Result<()> {
        self.write(CONFIG, text)
    }

    /// The copy of the configuration.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read_config(&self) -> Result<oci_spec::runtime::Spec> {
        crate::plan::load::spec_from_text(&self.read(CONFIG)?).of_file(&self.path.join(CONFIG))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path.join(name);
        match std::fs::read(&path) {
            // The one failure that comes without an errno.
            Err(e) if e.kind() == std::io::ErrorKind::OutOfMemory => {
                Err(Error::call(format!("read `{}`", path.display()), Errno::NOMEM))
            }
            read => read.context(|| format!("read `{}`", path.display())),
        }
    }

    fn write(&self, name: &str, text: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        replace(&path, text).context(|| format!("write `{}`", path.display()))
    }

    /// Where the container is in its life. An incomplete record is one of a `create` that was killed: whoever asks holds
    /// the lock, or has seen that nobody does ([`ContainerDir::is_locked`]).
    ///
    /// # Errors
    /// `/proc` or the freezer can't be read.
    pub fn status(&self, record: &Record) -> Result<Status> {
        let Some(process) = record.process.as_ref().filter(|_| record.complete) else {
            return Ok(Status::Stopped);
        };
        if !process.is_alive(&self.proc)? {
            return Ok(Status::Stopped);
        }
        // First: one that was paused before its start can't be started.
        let frozen = match &record.cgroup {
            Some(cgroup) => Cgroup::open(cgroup)?.is_frozen()?,
            None => false,
        };
        Ok(match (frozen, self.waits_for_start()?) {
            (true, _) => Status::Paused,
            (false, true) => Status::Created,
            (false, false) => Status::Running,
        })
    }

    /// Waits until no other command changes the container, and keeps others from it until dropped.
    ///
    /// # Errors
    /// Another command that does not end; [`Kind::NotFound`] if the container is gone by then.
    pub fn lock(&self) -> Result<Lock> {
        self.lock_past(|| Ok(()))
    }

    /// The same, past another command that has the lock: `busy` is called once before that is waited for.
    ///
    /// # Errors
    /// As [`ContainerDir::lock`], and those of `busy`.
    pub(crate) fn lock_past(&self, busy: impl FnOnce() -> Result<()>) -> Result<Lock> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let doing = || format!("lock `{}`", self.path.display());
        let file = self.lock_file()?;
        let mut deadline = Instant::now() + PATIENCE;
        let mut busy = Some(busy);
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if busy.is_some() => {
                    busy.take().map_or(Ok(()), |busy| busy())?;
                    deadline = Instant::now() + PATIENCE;
                }
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
                Err(Errno::WOULDBLOCK) => {
                    let message = "another command has been at work on the container for 10 s";
                    return Err(Error::new(Kind::State, message).advise("end that command first"));
                }
                Err(errno) => return Err(Error::call(doing(), errno)),
            }
        }
        // Whoever held the lock may have deleted the container, and another of the same ID may be there by now.
        let (ours, there) = (rustix::fs::fstat(&file).context(doing)?, rustix::fs::stat(&self.path));
        match there {
            Ok(there) if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino) => Ok(Lock { _file: file }),
            Ok(_) | Err(Errno::NOENT) => Err(gone(self.path.file_name().unwrap_or_default().display())),
            Err(errno) => Err(Error::call(doing(), errno)),
        }
    }

    /// Whether another command has deleted the container.
    pub(crate) fn is_removed(&self) -> bool {
        rustix::fs::fstat(&self.fd).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Whether a command is changing the container right now.
    ///
    /// # Errors
    /// flock(2)'s.
    pub fn is_locked(&self) -> Result<bool> {
        // Shared, so that two who look do not see each other.
        match rustix::fs::flock(self.lock_file()?, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(errno) => Err(Error::call(format!("lock `{}`", self.path.display()), errno)),
        }
    }

    /// The directory, opened anew: a lock belongs to the open file.
    fn lock_file(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, ".", flags, Mode::empty()).context(|| format!("open `{}`", self.path.display()))
    }

    /// Removes the directory and all in it. One that is gone is fine.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn remove(&self) -> Result<()> {
        // First the configuration: who looks meanwhile would take it for that of a container whose record is lost. By their
        // names, because there may be no further fd to be had.
        for name in [CONFIG, SOCKET, RECORD] {
            let _ = rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
        }
        let removed = match std::fs::remove_dir(&self.path) {
            Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty => std::fs::remove_dir_all(&self.path),
            removed => removed,
        };
        match removed {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.context(|| format!("remove the state directory `{}`", self.path.display())),
        }
    }
}

/// Whether an error of [`ContainerDir::read_record`] says that there is no record to be had, now or later: one that was read,
/// and is none, or is gone. Whatever else kept it from being read may pass.
pub(crate) fn is_lost(error: &Error) -> bool {
    matches!(error.errno(), None | Some(Errno::ISDIR))
}

/// Keeps other commands from a container.
#[derive(Debug)]
pub struct Lock {
    _file: OwnedFd,
}

/// Writes a file under a temporary name and renames it: a reader sees the old text or the new, never a part.
pub fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let mut options = OpenOptions::new();
    let written = options
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&temporary)
        .and_then(|mut file: File| file.write_all(text))
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // The error that matters is the one above; the file may not even be there.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Names the file of a parse error.
trait OfFile<T> {
    fn of_file(self, path: &Path) -> Result<T>;
}

impl<T> OfFile<T> for Result<T> {
    fn of_file(self, path: &Path) -> Result<T> {
        self.context(|| format!("`{}`", path.display()))
    }
}
