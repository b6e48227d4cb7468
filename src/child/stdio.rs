//! Standard input, output and error that are the host's `/dev/null` become the container's.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::kernel::rustix;
use crate::kernel::rustix::fs::OFlags;
use crate::kernel::rustix::io::Errno;

use super::ChildSession;
use super::attach::Places;
use super::rootfs::Root;
use crate::error::{Context, Error, Result};
use crate::kernel::sys;
use crate::plan::ContainerPlan;
use crate::procfs::Proc;
use crate::protocol::event::About;

/// Engines start a container with `/dev/null` as its input. That is a file of the host, with the host's mount, owner and label:
/// what would be done to it, as by chmod(2) on `/proc/self/fd/0`, would be done to the host's.
pub(super) fn replace_null(session: &mut ChildSession, root: &Root, container: &ContainerPlan) -> Result<()> {
    let wanted = sys::stdio::null_devices();
    // A `/dev` that is the host's has the host's own.
    if !container.own_dev || wanted == [false; 3] {
        return Ok(());
    }
    match root.places.open(Path::new("/dev/null"), OFlags::RDWR | OFlags::NOCTTY) {
        Ok(Some(null)) if sys::stdio::is_null(null.as_fd()) => replace(wanted, &null),
        Ok(_) => Err(not_null()),
        // The container's own rules for devices.
        Err(e) if matches!(e.errno(), Some(Errno::PERM | Errno::ACCESS)) => {
            left_the_hosts(session, e.to_string());
            Ok(())
        }
        Err(e) => Err(e.context("open the container's `/dev/null`")),
    }
}

/// Does that for a process that joins a running container, whose `/dev/null` may be anything by now: then the streams are left as
/// they are.
pub(super) fn replace_null_for_exec(session: &mut ChildSession, proc: &Proc) -> Result<()> {
    let wanted = sys::stdio::null_devices();
    if wanted == [false; 3] {
        return Ok(());
    }
    match open_null(proc) {
        Ok(null) => replace(wanted, &null),
        Err(e) => {
            left_the_hosts(session, e.to_string());
            Ok(())
        }
    }
}

/// Looked at before it is opened: opening another device may have an effect, or wait.
fn open_null(proc: &Proc) -> Result<OwnedFd> {
    let root = super::rootfs::open_directory(Path::new("/")).context(|| "open `/`")?;
    let found = Places::new(root.as_fd())?.open(Path::new("/dev/null"), OFlags::PATH)?;
    let null = found.filter(|found| sys::stdio::is_null(found.as_fd())).ok_or_else(not_null)?;
    proc.reopen(null.as_fd(), OFlags::RDWR | OFlags::NOCTTY)
}

fn not_null() -> Error {
    Error::system("the container's `/dev/null` is not the null device")
}

fn left_the_hosts(session: &mut ChildSession, why: String) {
    session.recorder.fallback("standard fds", || About::object("/dev/null").by("leaving them the host's").why(why));
}

fn replace([input, output, error]: [bool; 3], null: &OwnedFd) -> Result<()> {
    let doing = || "dup2 the container's `/dev/null`";
    if input {
        rustix::stdio::dup2_stdin(null).context(doing)?;
    }
    if output {
        rustix::stdio::dup2_stdout(null).context(doing)?;
    }
    if error {
        rustix::stdio::dup2_stderr(null).context(doing)?;
    }
    Ok(())
}
