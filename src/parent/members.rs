//! The processes of a container without a cgroup: those of the pid namespace that its first process is the first of.

use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::error::{Context, Result};
use crate::procfs::Proc;
use crate::sys::namespace;

/// The processes of a pid namespace and of those made in it, in ascending order.
///
/// None where `init` is not the first process of its pid namespace: then the others there are not all the container's, and
/// nothing tells which are.
///
/// # Errors
/// `init` is gone, or may not be looked at.
pub(super) fn of(init: i32, proc: &Proc) -> Result<Option<Vec<i32>>> {
    let pids = proc.pids_of(init)?;
    if pids.len() < 2 || pids.last() != Some(&1) {
        return Ok(None);
    }
    let own = identity(init, 0, proc)?;
    let is_ours = |pid: i32| match proc.pid_depth(pid)?.checked_sub(pids.len()) {
        Some(above) => identity(pid, above, proc).map(|theirs| theirs == own),
        None => Ok(false),
    };
    let mut found = vec![];
    for pid in proc.processes()? {
        match is_ours(pid) {
            Ok(true) => found.push(pid),
            Ok(false) => {}
            // It has ended meanwhile; or it is another user's, which a process of the container is to nobody who may signal it.
            Err(e) if matches!(e.errno(), Some(Errno::NOENT | Errno::SRCH | Errno::ACCESS | Errno::PERM)) => {}
            Err(e) => return Err(e),
        }
    }
    found.sort_unstable();
    Ok(Some(found))
}

/// Device and inode of a process's pid namespace, or of the one `above` levels above it.
fn identity(pid: i32, above: usize, proc: &Proc) -> Result<(u64, u64)> {
    let mut fd = proc.open_namespace(&pid.to_string(), "pid")?;
    for _ in 0..above {
        fd = namespace::parent(fd.as_fd()).context(|| format!("NS_GET_PARENT of `/proc/{pid}/ns/pid`"))?;
    }
    let stat = rustix::fs::fstat(&fd).context(|| format!("fstat `/proc/{pid}/ns/pid`"))?;
    Ok((stat.st_dev, stat.st_ino))
}
