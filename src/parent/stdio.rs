//! The standard streams of a process, given to its user from the host's side: see [`crate::stdio`].
//!
//! Here, because root of a new user namespace may not: the streams are the engine's, whom the namespace does not map. An
//! ordinary user's command is the other way round; its child gives them ([`ProcessPlan::gives_stdio`]).

use crate::error::Result;
use crate::plan::Plan;
use crate::plan::namespaces::{IdMap, outside};
use crate::plan::process::ProcessPlan;
use crate::procfs::Proc;
use crate::protocol::event::{About, Recorder};

/// By which IDs this process knows the users of the container.
pub(super) enum Users<'a> {
    /// The same.
    Own,
    /// Those of a new user namespace.
    Mapped(&'a [IdMap]),
    /// Those of the user namespace that a process has joined.
    Of(i32),
}

impl Users<'_> {
    /// Those of a container whose first process is `pid`.
    pub(super) fn planned(plan: &Plan, pid: i32) -> Users<'_> {
        match &plan.id_maps {
            Some(maps) => Users::Mapped(&maps.uid),
            None if plan.namespaces.has_user() => Users::Of(pid),
            None => Users::Own,
        }
    }
}

/// Gives them, unless they are the container's own terminal.
pub(super) fn give(process: &ProcessPlan, users: &Users<'_>, proc: &Proc, recorder: &mut Recorder) -> Result<()> {
    if process.gives_stdio || process.terminal.is_some() {
        return Ok(());
    }
    let uid = process.user.uid;
    let own = match users {
        Users::Own => Some(uid),
        Users::Mapped(lines) => outside(lines, uid),
        Users::Of(pid) => {
            match proc.namespace(*pid, "user")? == proc.namespace(std::process::id().cast_signed(), "user")? {
                // That of this process itself, whose lines tell what another calls its users.
                true => Some(uid),
                false => outside(&IdMap::lines(&proc.read(&format!("{pid}/uid_map"))?), uid),
            }
        }
    };
    match own {
        Some(uid) => crate::stdio::give_to(uid, recorder),
        // Nobody; the child has the error.
        None => recorder.fallback("stdio", || About::default().why(format!("the user {uid} is not mapped"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_in_the_line_that_has_it() {
        let lines = [(0, 1000, 1), (1, 100_000, 65536)].map(|(container, host, size)| IdMap { container, host, size });
        let found = [0, 1, 1000, 65536, 65537].map(|uid| outside(&lines, uid));
        assert_eq!(found, [Some(1000), Some(100_000), Some(100_999), Some(165_535), None]);
    }
}
