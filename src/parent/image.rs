//! The child's image: this binary, by a reference that nobody can write through.
//!
//! The first process of a container is visible to it, and `/proc/1/exe` would otherwise be a way to the host's binary
//! (CVE-2019-5736).

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, MemfdFlags, SealFlags};
use rustix::mount::OpenTreeFlags;

use crate::error::{Context, Result};
use crate::plan::options::attr;
use crate::protocol::event::Recorder;
use crate::sys::mount::{MountAttr, mount_setattr};

const SELF: &str = "/proc/self/exe";

/// A sealed reference to this binary.
pub(super) struct Image(OwnedFd);

impl Image {
    /// A detached, read-only mount of the binary; a sealed copy in memory where the kernel or a lack of privilege does
    /// not allow that.
    pub(super) fn sealed(recorder: &mut Recorder) -> Result<Image> {
        match readonly_mount() {
            Ok(mount) => Ok(Image(mount)),
            Err(why) => {
                recorder.fallback("image", || format!("a sealed copy in memory: {why}"));
                copy().context(|| "copy the binary into memory").map(Image)
            }
        }
    }
}

impl AsFd for Image {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn readonly_mount() -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(CWD, SELF, flags).context(|| format!("open_tree `{SELF}`"))?;
    let readonly = MountAttr { set: attr::RDONLY, ..MountAttr::default() };
    mount_setattr(mount.as_fd(), false, &readonly).context(|| "mount_setattr")?;
    Ok(mount)
}

fn copy() -> Result<OwnedFd> {
    let mut binary = File::open(SELF).context(|| format!("open `{SELF}`"))?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = rustix::fs::memfd_create("tandem", flags).context(|| "memfd_create")?;
    let mut file = File::from(copy);
    std::io::copy(&mut binary, &mut file).context(|| "copy")?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals).context(|| "seal")?;
    // The descriptor itself is open for writing, which execve refuses (ETXTBSY).
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let readonly = File::open(&path).context(|| format!("open `{path}` for reading"))?;
    Ok(readonly.into())
}
