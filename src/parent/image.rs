//! The child's image: this binary, by a reference that nobody can write through.
//!
//! The first process of a container is visible to it, and `/proc/1/exe` would otherwise be a way to the host's binary
//! (CVE-2019-5736).

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::mount::OpenTreeFlags;

use crate::error::{Context, Result};
use crate::plan::options::attr;
use crate::procfs::Proc;
use crate::protocol::event::{About, Recorder};
use crate::sys::mount::{MountAttr, mount_setattr};

/// Below procfs: a link that leads to the binary itself, wherever it is by now.
const SELF: &str = "self/exe";

/// A sealed reference to this binary.
pub(super) struct Image(OwnedFd);

impl Image {
    /// A detached, read-only mount of the binary; a sealed copy in memory where the kernel or a lack of privilege does
    /// not allow that.
    pub(super) fn sealed(proc: &Proc, recorder: &mut Recorder) -> Result<Image> {
        match readonly_mount(proc) {
            Ok(mount) => Ok(Image(mount)),
            Err(why) => {
                recorder.fallback("image", || About::default().by("a sealed copy in memory").why(why.to_string()));
                let since = recorder.now();
                let copied = copy(proc).context(|| "copy the binary into memory");
                recorder.ended("image", since, &copied, || About::default().by("a sealed copy in memory"));
                copied.map(Image)
            }
        }
    }
}

impl AsFd for Image {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn readonly_mount(proc: &Proc) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(proc, SELF, flags).context(|| format!("open_tree `/proc/{SELF}`"))?;
    let readonly = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
    mount_setattr(mount.as_fd(), false, &readonly).context(|| "mount_setattr")?;
    Ok(mount)
}

fn copy(proc: &Proc) -> Result<OwnedFd> {
    let open = |path: &str| {
        let file = rustix::fs::openat(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        file.context(|| format!("open `/proc/{path}` for reading")).map(File::from)
    };
    let mut binary = open(SELF)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = rustix::fs::memfd_create("tandem", flags).context(|| "memfd_create")?;
    let mut file = File::from(copy);
    std::io::copy(&mut binary, &mut file).context(|| "copy")?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals).context(|| "seal")?;
    // The descriptor itself is open for writing, which execve refuses (ETXTBSY).
    open(&Proc::path_of(file.as_fd())).map(OwnedFd::from)
}
