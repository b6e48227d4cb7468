//! The five capability sets; capabilities(7).

use crate::kernel::rustix::io::Errno;
use crate::kernel::rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
};

use crate::error::{Context, Error, Result};
use crate::plan::process::{CapabilityPlan, capability_names as names};

/// CAP_SYS_ADMIN, which seccomp(2) wants where `no_new_privs` is not set.
pub(super) const SYS_ADMIN: u64 = CapabilitySet::SYS_ADMIN.bits();
/// CAP_SYS_NICE, which a realtime policy wants.
pub(super) const SYS_NICE: u64 = CapabilitySet::SYS_NICE.bits();
/// CAP_SYS_RESOURCE, with which a limit of processes is none.
pub(super) const SYS_RESOURCE: u64 = CapabilitySet::SYS_RESOURCE.bits();

/// Takes all but these out of the bounding set.
pub(super) fn limit_bounding(keep: u64) -> Result<()> {
    for bit in (0..64).map(|n| 1u64 << n).filter(|bit| keep & bit == 0) {
        let capability = CapabilitySet::from_bits_retain(bit);
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // One past the last that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(errno) if capability_is_in_bounding_set(capability) == Ok(true) => {
                return Err(Error::call(format!("drop {} from the bounding set", names(capability)), errno));
            }
            Err(_) => {}
        }
    }
    Ok(())
}

/// Whether this process has the right that setgroups(2) needs.
pub(super) fn has_setgid() -> Result<bool> {
    Ok(capabilities(None).context(|| "capget")?.effective.contains(CapabilitySet::SETGID))
}

/// Sets the other four. `extra` stays permitted and effective too, until exec.
///
/// Returns the capabilities that were asked for and that the runtime does not have itself: they can't be given.
pub(super) fn apply(plan: &CapabilityPlan, extra: u64) -> Result<CapabilitySet> {
    let own = capabilities(None).context(|| "capget")?.permitted.bits();
    let set = |bits: u64| CapabilitySet::from_bits_retain(bits & own);
    let sets = CapabilitySets {
        effective: set(plan.effective | extra),
        permitted: set(plan.permitted | plan.effective | extra),
        inheritable: set(plan.inheritable),
    };
    set_capabilities(None, sets).context(|| "capset")?;
    clear_ambient_capability_set().context(|| "clear the ambient set")?;
    let ambient = plan.ambient_to_raise() & own;
    for bit in (0..64).map(|n| 1u64 << n).filter(|bit| ambient & bit != 0) {
        let capability = CapabilitySet::from_bits_retain(bit);
        configure_capability_in_ambient_set(capability, true)
            .context(|| format!("raise {} in the ambient set", names(capability)))?;
    }
    let asked = plan.effective | plan.permitted | plan.inheritable | plan.ambient;
    Ok(CapabilitySet::from_bits_retain(asked & !own))
}

/// Gives up what [`apply`] has left beside the plan's, but `extra`.
pub(super) fn give_up_all_but(plan: &CapabilityPlan, extra: u64) -> Result<()> {
    let now = capabilities(None).context(|| "capget")?;
    let set = |of: CapabilitySet, bits: u64| CapabilitySet::from_bits_retain(of.bits() & bits);
    let sets = CapabilitySets {
        effective: set(now.effective, plan.effective | extra),
        permitted: set(now.permitted, plan.permitted | plan.effective | extra),
        inheritable: now.inheritable,
    };
    set_capabilities(None, sets).context(|| "capset")
}
