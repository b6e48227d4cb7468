//! The processes of a container without a cgroup: those of the pid namespace that its first process is the first of.

use rustix::io::Errno;

use super::namespaces::pid_namespace;
use crate::error::Result;
use crate::procfs::Proc;

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
    let own = pid_namespace(init, 0, proc)?;
    let is_ours = |pid: i32| match proc.pid_depth(pid)?.checked_sub(pids.len()) {
        Some(above) => pid_namespace(pid, above, proc).map(|theirs| theirs == own),
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
