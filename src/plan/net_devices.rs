//! `linux.netDevices`: devices of the host that become the container's.

use oci_spec::runtime::Linux;

use super::namespaces::{Namespaces, flag};
use crate::error::{Error, Result};

/// A device to move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetDevicePlan {
    /// Its name on the host.
    pub host: String,
    /// Its name in the container; may end in `%d`, for which the kernel takes the first free number.
    pub name: String,
}

/// Reads and checks them, in the order of their names.
///
/// # Errors
/// No network namespace of the container's own; a name that is none, or is there twice.
pub(super) fn from_spec(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<NetDevicePlan>> {
    let mut plans: Vec<NetDevicePlan> = vec![];
    for (host, device) in linux.net_devices().iter().flatten() {
        let bad = |why: &str| Err(Error::config(format!("`linux.netDevices.{host}`: {why}")));
        if !namespaces.has(flag::NET) {
            return bad("it needs a network namespace in `linux.namespaces`");
        }
        let name = device.name().as_ref().filter(|name| !name.is_empty()).unwrap_or(host);
        for name in [host, name] {
            let stem = name.strip_suffix("%d").unwrap_or(name);
            // dev_valid_name() of the kernel: IFNAMSIZ is 16, with the NUL.
            let wrong = |c: char| c.is_whitespace() || matches!(c, '/' | ':' | '%' | '\0');
            if name.is_empty() || name.len() > 15 || matches!(name.as_str(), "." | "..") || stem.contains(wrong) {
                return bad(&format!("`{name}` is no name of a network device"));
            }
        }
        if plans.iter().any(|plan| plan.name == *name && !name.ends_with("%d")) {
            return bad(&format!("two devices are to be `{name}`"));
        }
        plans.push(NetDevicePlan { host: host.clone(), name: name.clone() });
    }
    plans.sort_by(|a, b| a.host.cmp(&b.host));
    Ok(plans)
}
