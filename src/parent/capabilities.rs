//! Capabilities that are asked for and that nobody can give: config.md, "process.capabilities", wants a warning.

use rustix::thread::CapabilitySet;

use crate::plan::process::{CapabilityPlan, capability_names};

/// Tells of those that this process can't hand on, for a payload in the same user namespace; in one of its own it gets all.
pub(super) fn tell_lacking(asked: &CapabilityPlan, own_userns: bool) {
    let all = asked.bounding | asked.effective | asked.permitted | asked.inheritable | asked.ambient;
    let own = match own_userns {
        true => u64::MAX,
        // That call on oneself can't fail; there is nothing to tell then.
        false => rustix::thread::capabilities(None).map_or(u64::MAX, |sets| sets.permitted.bits()),
    };
    let ambient = asked.ambient & !asked.ambient_to_raise();
    for (lacking, why) in [
        (all & !own, "the runtime lacks them"),
        (ambient & own, "the ambient set has only what is both inheritable and permitted"),
    ] {
        if lacking != 0 {
            log::warn!("{} can't be given: {why}", capability_names(CapabilitySet::from_bits_retain(lacking)));
        }
    }
}
