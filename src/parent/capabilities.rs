//! Capabilities that are asked for and that nobody can give: config.md, "process.capabilities", wants a warning.

use rustix::thread::CapabilitySet;

use crate::error::{Context, Result};
use crate::plan::process::CapabilityPlan;

/// Tells of those that this process can't hand on, for a payload in the same user namespace; in one of its own it gets all.
///
/// # Errors
/// capget(2)'s.
pub(super) fn tell_lacking(asked: &CapabilityPlan, own_userns: bool) -> Result<()> {
    let all = asked.bounding | asked.effective | asked.permitted | asked.inheritable | asked.ambient;
    let own = match own_userns {
        true => u64::MAX,
        false => rustix::thread::capabilities(None).context(|| "capget")?.permitted.bits(),
    };
    // The kernel keeps the ambient set below these two.
    let ambient = asked.ambient & !(asked.inheritable & (asked.permitted | asked.effective));
    for (lacking, why) in [
        (all & !own, "the runtime does not have it"),
        (ambient & own, "it is ambient, and not both inheritable and permitted"),
    ] {
        for (name, _) in CapabilitySet::from_bits_retain(lacking).iter_names() {
            log::warn!("capability CAP_{name} can't be given: {why}");
        }
    }
    Ok(())
}
