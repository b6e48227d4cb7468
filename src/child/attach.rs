//! Mount points inside the container's root: found or made, never outside it.
//!
//! Every lookup is relative to the root's own fd, with symlinks resolved inside it (openat2(2), RESOLVE_IN_ROOT), so it
//! means the same before and after pivot_root, and whatever the image holds. It needs no `/proc`: in the middle of a
//! container's making there is none.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use crate::kernel::rustix;
use crate::kernel::rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use crate::kernel::rustix::io::Errno;

use crate::error::{Context, Error, Result};
use crate::kernel::sys::identity;

/// How many symlinks one path may go through; the kernel's own limit.
const MAX_SYMLINKS: usize = 40;

/// How often a lookup is tried again that a rename elsewhere has disturbed (EAGAIN).
const MAX_RETRIES: usize = 128;

/// What the container's processes trust to be what it is called.
const TRUSTED: [&str; 3] = ["/proc", "/sys", "/dev"];

/// A place to mount on.
pub(crate) struct Target {
    /// O_PATH.
    pub(crate) fd: OwnedFd,
}

/// The container's root directory as a place to look things up in.
pub(crate) struct Places {
    root: OwnedFd,
    /// A symlink on the way is an error.
    strict: bool,
}

/// What a walk does about a component that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Stop,
    /// End in the directory in which it is missing.
    Stay,
    /// Make all as directories, 0755.
    Directory,
    /// Make the last as an empty file, 0644, those before it as directories.
    File,
}

impl Places {
    pub(crate) fn new(root: BorrowedFd<'_>) -> Result<Places> {
        let root = root.try_clone_to_owned().context(|| "duplicate the root's fd")?;
        Ok(Places { root, strict: false })
    }

    /// The same for a container that runs: its processes could lead a path to a place that nobody has named, be it the root
    /// itself, by a symlink of theirs.
    pub(crate) fn of_running(root: BorrowedFd<'_>) -> Result<Places> {
        Ok(Places { strict: true, ..Places::new(root)? })
    }

    /// What is at a path, symlinks followed inside the root; None if nothing is.
    pub(crate) fn find(&self, path: &Path) -> Result<Option<Target>> {
        let found = self.open(path, OFlags::PATH)?;
        Ok(found.map(|fd| Target { fd }))
    }

    /// Opens what is at a path, symlinks followed inside the root; None if nothing is.
    pub(super) fn open(&self, path: &Path, flags: OFlags) -> Result<Option<OwnedFd>> {
        match self.open_in_root(path, flags, self.strict) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT) => Ok(None),
            // A filter that does not know the call may answer EPERM, which opening a path never does.
            Err(Errno::NOSYS | Errno::PERM) => self.open_by_walk(path, flags),
            Err(Errno::LOOP) if self.strict => Err(self.led_by_symlink(path)),
            Err(errno) => Err(Error::call(format!("look up `{}` in the container: openat2", path.display()), errno)),
        }
    }

    fn open_in_root(&self, path: &Path, flags: OFlags, straight: bool) -> Result<OwnedFd, Errno> {
        let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        resolve.set(ResolveFlags::NO_SYMLINKS, straight);
        let mut tries = 0;
        loop {
            match rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if tries < MAX_RETRIES => tries += 1,
                opened => return opened,
            }
        }
    }

    fn led_by_symlink(&self, path: &Path) -> Error {
        let call = format!("look up `{}` in the container, where a symlink is on the way", path.display());
        Error::call(call, Errno::LOOP).advise("name the place itself: the symlink is the container's to change")
    }

    /// The same for a kernel without openat2: the last component is opened in the directory that the walk ends in.
    fn open_by_walk(&self, path: &Path, flags: OFlags) -> Result<Option<OwnedFd>> {
        if flags == OFlags::PATH {
            return self.walk(path, Missing::Stop);
        }
        let Some(parent) = self.walk(path.parent().unwrap_or(Path::new("/")), Missing::Stop)? else {
            return Ok(None);
        };
        let name = path.file_name().unwrap_or(OsStr::new("."));
        match rustix::fs::openat(&parent, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::call(format!("open `{}` in the container", path.display()), errno)),
        }
    }

    /// Where a tree is to be mounted, that is a directory or a file. `plain`: a symlink as the last component is the mount
    /// point itself.
    ///
    /// # Errors
    /// What is there is of the other kind.
    pub(super) fn mount_point(&self, kind: FileType, path: &Path, plain: bool) -> Result<Target> {
        // What mounts on `/proc`, `/sys` and `/dev` decides what the container's processes trust: no symlink stands in.
        let plain = plain || TRUSTED.iter().any(|trusted| path == Path::new(trusted));
        match (kind, plain) {
            (FileType::Directory, true) => return self.plain_directory(path),
            (_, true) => return self.plain_file(path),
            _ => {}
        }
        let straight = self.straight(path);
        let led = straight.is_none();
        let missing = if kind == FileType::Directory { Missing::Directory } else { Missing::File };
        let target = straight.map_or_else(|| self.place(path, missing), Ok)?;
        let target = match kind {
            FileType::Directory => a_directory(target, path)?,
            _ => no_directory(target, path)?,
        };
        // Only a symlink leads from one of these names to another.
        if led {
            self.must_not_be_trusted(path, &target)?;
        }
        Ok(target)
    }

    /// Refuses a mount that a symlink of the image leads to the container's root, or to what its processes trust: that
    /// would be covered, though the configuration names another place.
    fn must_not_be_trusted(&self, path: &Path, target: &Target) -> Result<()> {
        let identity = |fd: BorrowedFd<'_>| identity(fd).context(|| "fstat");
        let led = identity(target.fd.as_fd())?;
        for trusted in ["/"].iter().chain(&TRUSTED) {
            let there = self.find(Path::new(trusted))?.map(|there| identity(there.fd.as_fd())).transpose()?;
            if there == Some(led) {
                let what =
                    format!("the image's `{}` leads to `{trusted}`, which the mount would cover", path.display());
                return Err(Error::system(what).advise("name the place itself as the destination"));
            }
        }
        Ok(())
    }

    /// What is at a path that no symlink is on; None where there is one, or nothing, or no openat2.
    fn straight(&self, path: &Path) -> Option<Target> {
        self.open_in_root(path, OFlags::PATH, true).ok().map(|fd| Target { fd })
    }

    /// What is at a path, symlinks followed inside the root; made, with its parent directories, if nothing is.
    fn place(&self, path: &Path, missing: Missing) -> Result<Target> {
        match self.find(path)? {
            Some(target) => Ok(target),
            None => self.make(path, missing),
        }
    }

    /// Where a new file system is to be mounted.
    ///
    /// # Errors
    /// What is there is no directory.
    pub(super) fn for_filesystem(&self, path: &Path, plain: bool) -> Result<Target> {
        self.mount_point(FileType::Directory, path, plain)
    }

    /// The directory at a path, made with its parents (0755) if nothing is there.
    ///
    /// # Errors
    /// What is there is no directory.
    pub(super) fn directory(&self, path: &Path) -> Result<Target> {
        a_directory(self.place(path, Missing::Directory)?, path)
    }

    /// The file at a path, made empty, with its parent directories, if nothing is there.
    ///
    /// # Errors
    /// What is there is a directory.
    pub(super) fn file(&self, path: &Path) -> Result<Target> {
        no_directory(self.place(path, Missing::File)?, path)
    }

    /// The same, with a symlink as the last component being the mount point itself (`dest-nofollow`).
    ///
    /// # Errors
    /// What is there is a directory.
    fn plain_file(&self, path: &Path) -> Result<Target> {
        no_directory(Target { fd: self.open_or_make_plain(path, true)? }, path)
    }

    /// What is at a path, a symlink as the last component not followed; made, with its parents, if nothing is there.
    fn open_or_make_plain(&self, path: &Path, file: bool) -> Result<OwnedFd> {
        if let Some(fd) = self.open(path, OFlags::PATH | OFlags::NOFOLLOW)? {
            return Ok(fd);
        }
        let parent = self.directory(path.parent().unwrap_or(Path::new("/")))?;
        let name = path.file_name().unwrap_or(OsStr::new("."));
        make_one(parent.fd.as_fd(), name, file)?;
        // Whatever has come there meanwhile is not followed.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&parent.fd, name, flags, Mode::empty()).context(|| format!("open `{}`", path.display()))
    }

    /// A directory that must not be reached through a symlink as the last component: `/proc`, `/sys`, `/dev`, and where
    /// `dest-nofollow` is asked for.
    ///
    /// # Errors
    /// The image has something else there (CVE-2019-16884, CVE-2026-41579).
    pub(super) fn plain_directory(&self, path: &Path) -> Result<Target> {
        let fd = self.open_or_make_plain(path, false)?;
        match file_type(fd.as_fd())? {
            FileType::Directory => Ok(Target { fd }),
            other => {
                let (path, other) = (path.display(), name(other));
                Err(Error::system(format!("the image's `{path}` is {other}; it must be a directory")))
            }
        }
    }

    /// The last directory of a path that is there.
    pub(super) fn as_far_as_it_is(&self, path: &Path) -> Result<OwnedFd> {
        let found =
            self.walk(path, Missing::Stay).context(|| format!("look up `{}` in the container", path.display()))?;
        found.ok_or_else(|| Error::call(format!("look up `{}`", path.display()), Errno::NOENT))
    }

    pub(super) fn make_directory(&self, path: &Path) -> Result<Target> {
        self.make(path, Missing::Directory)
    }

    fn make(&self, path: &Path, missing: Missing) -> Result<Target> {
        let made = self.walk(path, missing).context(|| format!("make `{}` in the container", path.display()))?;
        // A walk that makes what is missing has nothing left to miss.
        made.map(|fd| Target { fd }).ok_or_else(|| Error::call(format!("make `{}`", path.display()), Errno::NOENT))
    }

    /// Follows a path component by component, symlinks inside the root, dangling ones too: `/var/run -> /run`, with no
    /// `/run` in the image, is a place to make things in.
    fn walk(&self, path: &Path, missing: Missing) -> Result<Option<OwnedFd>> {
        let step = |dir: BorrowedFd<'_>, name: &OsStr| {
            rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        };
        let own = || self.root.try_clone().context(|| "duplicate the root's fd");
        // Every directory on the way, for `..`.
        let mut way = vec![own()?];
        let mut rest: VecDeque<OsString> = components(path).collect();
        let mut links = 0;
        while let Some(component) = rest.pop_front() {
            if component == ".." {
                way.truncate((way.len() - 1).max(1));
                continue;
            }
            let dir = way.last().map_or(self.root.as_fd(), AsFd::as_fd);
            let doing = || format!("`{}`", component.display());
            let next = match step(dir, &component) {
                Err(Errno::NOENT) if missing == Missing::Stop => return Ok(None),
                Err(Errno::NOENT) if missing == Missing::Stay => break,
                Err(Errno::NOENT) => {
                    make_one(dir, &component, missing == Missing::File && rest.is_empty())?;
                    step(dir, &component).context(doing)?
                }
                next => next.context(doing)?,
            };
            if file_type(next.as_fd())? != FileType::Symlink {
                way.push(next);
                continue;
            }
            if self.strict {
                return Err(self.led_by_symlink(path));
            }
            links += 1;
            if links > MAX_SYMLINKS {
                return Err(Error::call(doing(), Errno::LOOP));
            }
            let link = rustix::fs::readlinkat(&next, "", []).context(doing)?;
            let link = PathBuf::from(OsString::from_vec(link.into_bytes()));
            if link.is_absolute() {
                way.truncate(1);
            }
            for component in components(&link).collect::<Vec<_>>().into_iter().rev() {
                rest.push_front(component);
            }
        }
        Ok(way.pop())
    }
}

/// What goes on what. Both errors say "not a directory": mount(2) answers ENOTDIR to both, and engines look for its words.
const LIKE_ON_LIKE: &str = "a directory is mounted on a directory, a file on a file: is the source what it should be?";

/// A directory goes on a directory.
fn a_directory(target: Target, path: &Path) -> Result<Target> {
    match file_type(target.fd.as_fd())? {
        FileType::Directory => Ok(target),
        other => {
            let there = format!("`{}`, which is {} in the container", path.display(), name(other));
            Err(Error::system(format!("mount a directory on {there}: not a directory")).advise(LIKE_ON_LIKE))
        }
    }
}

/// A file goes on no directory.
fn no_directory(target: Target, path: &Path) -> Result<Target> {
    match file_type(target.fd.as_fd())? {
        FileType::Directory => {
            let there = format!("`{}`, which is a directory in the container", path.display());
            Err(Error::system(format!("mount a file on {there}: not a directory")).advise(LIKE_ON_LIKE))
        }
        _ => Ok(target),
    }
}

fn make_one(dir: BorrowedFd<'_>, name: &OsStr, file: bool) -> Result<()> {
    let made = match file {
        true => rustix::fs::mknodat(dir, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0),
        false => rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)),
    };
    match made {
        // Somebody else was faster; what they made is looked at next.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => {
            let error = Error::call(format!("{} `{}`", if file { "mknod" } else { "mkdir" }, name.display()), errno);
            Err(match errno {
                Errno::ROFS => error.advise("make it before what holds it is read-only"),
                _ => error,
            })
        }
    }
}

fn components(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

/// The type of what an fd refers to.
pub(super) fn file_type(fd: BorrowedFd<'_>) -> Result<FileType> {
    let stat = rustix::fs::fstat(fd).context(|| "fstat")?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// A file type for people.
pub(super) fn name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symlink",
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        _ => "of an unknown type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn image() -> (tempfile::TempDir, Places) {
        let dir = tempfile::tempdir().unwrap();
        let fd = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        (dir, Places::new(fd.as_fd()).unwrap())
    }

    #[test]
    fn a_dangling_absolute_symlink_is_made_inside() {
        let (dir, places) = image();
        std::fs::create_dir(dir.path().join("var")).unwrap();
        symlink("/run", dir.path().join("var/run")).unwrap();
        places.directory(Path::new("/var/run/app")).unwrap();
        places.file(Path::new("/var/run/lock/x")).unwrap();
        assert!(dir.path().join("run/app").is_dir());
        assert!(dir.path().join("run/lock/x").is_file());
    }

    #[test]
    fn a_symlink_never_leads_out() {
        let (dir, places) = image();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        symlink("../../../../../..", dir.path().join("up")).unwrap();
        places.file(Path::new("/out/a")).unwrap();
        places.directory(Path::new("/up/b")).unwrap();
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        assert!(dir.path().join("b").is_dir());
    }

    #[test]
    fn a_symlink_in_place_of_proc_is_refused() {
        let (dir, places) = image();
        symlink("/tmp", dir.path().join("proc")).unwrap();
        let error = places.plain_directory(Path::new("/proc")).err().unwrap().to_string();
        assert_eq!(error, "the image's `/proc` is a symlink; it must be a directory");
        places.plain_directory(Path::new("/sys")).unwrap();
    }

    #[test]
    fn a_loop_of_symlinks_ends() {
        let (dir, places) = image();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert!(places.directory(Path::new("/a/x")).is_err());
    }

    #[test]
    fn a_file_and_a_directory_do_not_cover_each_other() {
        let (dir, places) = image();
        std::fs::write(dir.path().join("f"), "").unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        assert!(places.directory(Path::new("/f")).is_err());
        assert!(places.file(Path::new("/d")).is_err());
    }
}
