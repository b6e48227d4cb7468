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
    // An ambient one that is not inheritable too, as in what `runc spec` writes, can be given to nobody. It is no loss of this
    // container's: `lint` tells of it.
    let lacking = all & !own;
    if lacking != 0 {
        let names = capability_names(CapabilitySet::from_bits_retain(lacking));
        log::warn!("{names} can't be given: the runtime lacks them");
    }
}
