//! What the container will find at a path: in its root file system, or in what is mounted there.
//!
//! Looked up by hand, from directory to directory, so that links lead where they will lead in the container. It only looks;
//! nothing that it finds is trusted with more than a warning.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};

use crate::plan::mounts::destination;

/// How many links may be followed; path_resolution(7).
const LINKS: usize = 40;

/// What is at a path.
#[derive(Debug)]
pub(super) enum Seen {
    /// This, at this place of the host.
    Found(Metadata),
    /// Nothing.
    Missing,
    /// It can't be known: another file system will be there, or this user may not look.
    Unknown,
}

impl Seen {
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Seen::Missing)
    }

    /// A regular file that somebody may execute.
    pub(super) fn is_executable(&self) -> bool {
        matches!(self, Seen::Found(found) if found.is_file() && found.permissions().mode() & 0o111 != 0)
    }
}

/// The container's files, as far as they are there before it is.
pub(super) struct View {
    rootfs: PathBuf,
    /// Where something is mounted, and the place on the host that it shows; None for a new file system.
    mounts: Vec<(PathBuf, Option<PathBuf>)>,
}

impl View {
    pub(super) fn new(spec: &Spec, bundle: &Path) -> View {
        let rootfs = spec.root().as_ref().map(|root| bundle.join(root.path())).unwrap_or_default();
        let mut view = View { rootfs, mounts: vec![] };
        for mount in spec.mounts().iter().flatten() {
            let Ok(destination) = destination(mount.destination(), "") else { continue };
            let at = view.resolved(&destination);
            view.mounts.push((at, bind_source(mount, bundle)));
        }
        view
    }

    /// Whether the root file system itself can be looked at.
    pub(super) fn has_rootfs(&self) -> bool {
        self.rootfs.is_dir()
    }

    /// What is at an absolute path of the container, behind links.
    pub(super) fn at(&self, path: &Path) -> Seen {
        if !self.has_rootfs() {
            return Seen::Unknown;
        }
        self.walk(path).1
    }

    /// What a script says that it is to be run by, if it is one; execve(2), "Interpreter scripts".
    pub(super) fn interpreter(&self, path: &Path) -> Option<PathBuf> {
        use std::io::Read;
        use std::os::unix::ffi::OsStringExt;
        use std::os::unix::fs::OpenOptionsExt;
        let (here, seen) = self.walk(path);
        let place = self.place(&here).filter(|_| seen.is_executable())?;
        // Another file may be there by now, and none is waited for.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(place).ok()?;
        let mut line = vec![];
        file.take(256).read_to_end(&mut line).ok()?;
        let line = line.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
        let name = line.trim_ascii().split(u8::is_ascii_whitespace).next().filter(|name| !name.is_empty())?;
        Some(PathBuf::from(OsString::from_vec(name.to_vec())))
    }

    /// Whether a mount stands at a path or above it, links followed.
    pub(super) fn covers(&self, path: &Path) -> bool {
        let path = self.resolved(path);
        self.mounts.iter().any(|(at, _)| path.starts_with(at))
    }

    /// The root file system before anything is mounted.
    pub(super) fn below_mounts(&self) -> View {
        View { rootfs: self.rootfs.clone(), mounts: vec![] }
    }

    /// Of a path that is missing, the directory that it would be made in, if that is on a file system without writing.
    pub(super) fn sealed_above(&self, path: &Path) -> Option<PathBuf> {
        if !self.at(path).is_missing() {
            return None;
        }
        let above = path.ancestors().skip(1).find(|above| matches!(self.at(above), Seen::Found(_)))?;
        let place = self.place(&self.resolved(above))?;
        let sealed = rustix::fs::access(&place, rustix::fs::Access::WRITE_OK) == Err(rustix::io::Errno::ROFS);
        sealed.then_some(place)
    }

    fn resolved(&self, path: &Path) -> PathBuf {
        self.walk(path).0
    }

    /// The place of the host that a path without links shows.
    fn place(&self, path: &Path) -> Option<PathBuf> {
        let over = self.mounts.iter().rev().find(|(at, _)| path.starts_with(at));
        match over {
            None => Some(self.rootfs.join(path.strip_prefix("/").ok()?)),
            Some((at, source)) => {
                let below = path.strip_prefix(at).ok()?;
                let source = source.as_ref()?;
                // A file's path must not end in a slash.
                Some(if below.as_os_str().is_empty() { source.clone() } else { source.join(below) })
            }
        }
    }

    /// Where a path leads, and what is there. What is missing is taken to be where it is named.
    fn walk(&self, path: &Path) -> (PathBuf, Seen) {
        let mut left: VecDeque<OsString> = names(path);
        let mut here = PathBuf::from("/");
        let mut seen = self.look(&here);
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            if name == ".." {
                here.pop();
                seen = self.look(&here);
                continue;
            }
            here.push(&name);
            seen = self.look(&here);
            match &seen {
                Seen::Found(found) if found.is_symlink() => {
                    let target = self.place(&here).and_then(|place| std::fs::read_link(place).ok());
                    links += 1;
                    let Some(target) = target.filter(|_| links <= LINKS) else { return (here, Seen::Unknown) };
                    here.pop();
                    if target.is_absolute() {
                        here = PathBuf::from("/");
                    }
                    for name in names(&target).into_iter().rev() {
                        left.push_front(name);
                    }
                    seen = self.look(&here);
                }
                Seen::Found(_) => {}
                // What is mounted further down may be there all the same.
                Seen::Missing | Seen::Unknown if self.mounts.iter().any(|(at, _)| at.starts_with(&here)) => {}
                Seen::Missing | Seen::Unknown => {
                    here.extend(left);
                    return (here, seen);
                }
            }
        }
        (here, seen)
    }

    fn look(&self, path: &Path) -> Seen {
        let Some(place) = self.place(path) else { return Seen::Unknown };
        // The source of a mount is followed, as the runtime does.
        let is_source = self.mounts.iter().any(|(at, _)| at == path);
        let found = if is_source { std::fs::metadata(&place) } else { std::fs::symlink_metadata(&place) };
        match found {
            Ok(found) => Seen::Found(found),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Seen::Missing,
            Err(_) => Seen::Unknown,
        }
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

/// Whether a mount shows a tree of the host.
pub(super) fn is_bind(mount: &Mount) -> bool {
    let by_option = mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind");
    by_option || mount.typ().as_deref() == Some("bind")
}

/// The place of the host that a bind mount shows.
pub(super) fn bind_source(mount: &Mount, bundle: &Path) -> Option<PathBuf> {
    let source = mount.source().as_ref().filter(|source| is_bind(mount) && !source.as_os_str().is_empty())?;
    Some(bundle.join(source))
}
