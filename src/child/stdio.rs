//! Standard input, output and error that are the host's `/dev/null` become the container's.

use std::os::fd::AsFd;
use std::path::Path;

use crate::kernel::rustix;
use crate::kernel::rustix::fs::OFlags;
use crate::kernel::rustix::io::Errno;

use super::ChildSession;
use super::rootfs::Root;
use crate::error::{Context, Error, Result};
use crate::kernel::sys;
use crate::plan::ContainerPlan;
use crate::protocol::event::About;

/// Engines start a container with `/dev/null` as its input. That is a file of the host, with the host's mount, owner and label:
/// what would be done to it, as by chmod(2) on `/proc/self/fd/0`, would be done to the host's.
pub(super) fn replace_null(session: &mut ChildSession, root: &Root, container: &ContainerPlan) -> Result<()> {
    // A `/dev` that is the host's has the host's own.
    if !container.own_dev {
        return Ok(());
    }
    let [input, output, error] = sys::stdio::null_devices();
    if !(input || output || error) {
        return Ok(());
    }
    let null = match root.places.open(Path::new("/dev/null"), OFlags::RDWR | OFlags::NOCTTY) {
        Ok(Some(null)) if sys::stdio::is_null(null.as_fd()) => null,
        Ok(_) => return Err(Error::system("the container's `/dev/null` is not the null device")),
        // The container's own rules for devices.
        Err(e) if matches!(e.errno(), Some(Errno::PERM | Errno::ACCESS)) => {
            session.recorder.fallback("standard fds", || {
                About::object("/dev/null").by("leaving them the host's").why(e.to_string())
            });
            return Ok(());
        }
        Err(e) => return Err(e.context("open the container's `/dev/null`")),
    };
    let doing = || "dup2 the container's `/dev/null`";
    if input {
        rustix::stdio::dup2_stdin(&null).context(doing)?;
    }
    if output {
        rustix::stdio::dup2_stdout(&null).context(doing)?;
    }
    if error {
        rustix::stdio::dup2_stderr(&null).context(doing)?;
    }
    Ok(())
}
