//! Room for the limits of a process that is in a user namespace: only the machine's root, in the initial one, raises a hard
//! limit; getrlimit(2), capabilities(7).
//!
//! The child sets its limits itself, once it needs no more than they leave it. So it is only given hard limits that are high
//! enough, and keeps its soft ones until then.

use rustix::io::Errno;

use super::spawn::Child;
use crate::error::{Context, Result};
use crate::plan::process::{ProcessPlan, RlimitPlan};
use crate::sys::process::{rlimit, set_rlimit};

/// Raises those hard limits of a child with users of its own that are below what its process is to have. To be done before it
/// is told anything: a process that it forks has them too.
///
/// # Errors
/// prlimit(2)'s, but for the lack of CAP_SYS_RESOURCE: the child tells of that, with what to do.
pub(super) fn make_room(process: &ProcessPlan, own_users: bool, child: &mut Child) -> Result<()> {
    if !own_users {
        return Ok(());
    }
    raise(child.pid, &process.rlimits).map_err(|error| child.explain_if_ended(error))
}

fn raise(pid: i32, limits: &[RlimitPlan]) -> Result<()> {
    for limit in limits {
        let doing = || format!("prlimit {} to hard {} of process {pid}", limit.name, limit.hard);
        let (soft, hard) = rlimit(pid, limit.resource).context(doing)?;
        if limit.hard > hard {
            match set_rlimit(pid, limit.resource, soft, limit.hard) {
                Ok(()) | Err(Errno::PERM) => {}
                refused => refused.context(doing)?,
            }
        }
    }
    Ok(())
}
