//! How long a child may take for one message.
//!
//! A child that a container took over, or that a dead file server holds, must not hold the command for ever. Slow mounts and
//! hooks are legitimate: the time is long, hooks have theirs beside it, and who needs more says so.

use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::plan::ContainerPlan;
use crate::plan::hooks::HookPlan;

/// Seconds, in decimal; 0 waits for ever.
pub(super) const VARIABLE: &str = "TANDEM_CHILD_TIMEOUT";

/// Without it.
const USUAL: Duration = Duration::from_secs(300);

/// The longest time that is told from none.
const LONGEST: u64 = 10 * 365 * 86_400;

/// What the environment asks for, and `hooks` more seconds for hooks that the child runs itself; None for ever.
///
/// # Errors
/// The variable holds no number.
pub(super) fn patience(hooks: u64) -> Result<Option<Duration>> {
    let asked = std::env::var_os(VARIABLE).filter(|text| !text.is_empty());
    let base = match asked {
        None => USUAL,
        Some(text) => {
            let seconds = text.to_str().and_then(|text| text.parse::<u64>().ok());
            let wrong = || {
                let message = format!("{VARIABLE}: `{}` is no number of seconds", text.display());
                Error::new(Kind::Usage, message)
            };
            Duration::from_secs(seconds.ok_or_else(wrong)?.min(LONGEST))
        }
    };
    Ok((!base.is_zero()).then(|| base + Duration::from_secs(hooks.min(LONGEST))))
}

/// The timeouts of all hooks that the child runs before it is created, in seconds. One without a timeout has the usual time.
pub(super) fn of_hooks(container: Option<&ContainerPlan>) -> u64 {
    let hooks = container.iter().flat_map(|c| c.create_container_hooks.iter().chain(&c.start_container_hooks));
    seconds(hooks)
}

/// The timeouts of hooks together.
pub(super) fn seconds<'a>(hooks: impl Iterator<Item = &'a HookPlan>) -> u64 {
    hooks.filter_map(|hook| hook.timeout).fold(0, u64::saturating_add)
}

/// What the user can do about a child that stalled.
pub(super) fn advise(error: Error) -> Error {
    error.context("the child was killed").advise(format!("{VARIABLE}=SECONDS gives it more time, 0 all of it"))
}

/// Whether an error is that of a child that stalled.
pub(super) fn is_stall(error: &Error) -> bool {
    error.kind() == Kind::Stalled
}
