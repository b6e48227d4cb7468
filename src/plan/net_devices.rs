//! `linux.netDevices`: devices of the host that become the container's.

use oci_spec::runtime::Linux;
use serde::Serialize;

use super::findings::Findings;
use super::namespaces::{Namespaces, flag};
use crate::error::{Error, Result, member};

/// A device to move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetDevicePlan {
    /// Its name on the host.
    pub host: String,
    /// Its name in the container; may end in `%d`, for which the kernel takes the first free number.
    pub name: String,
}

/// Reads and checks them, in the order of their names. Wrong are a container without a network namespace of its own, and a
/// name that is none, or is there twice.
pub(super) fn read(linux: &Linux, namespaces: &Namespaces, findings: &mut Findings) -> Vec<NetDevicePlan> {
    let mut plans: Vec<NetDevicePlan> = vec![];
    let mut devices: Vec<_> = linux.net_devices().iter().flatten().collect();
    devices.sort_by_key(|(host, _)| host.as_str());
    for (host, device) in devices {
        let name = device.name().as_ref().filter(|name| !name.is_empty()).unwrap_or(host);
        let plan = NetDevicePlan { host: host.clone(), name: name.clone() };
        if findings.take(check(&plan, &plans, namespaces)).is_some() {
            plans.push(plan);
        }
    }
    plans
}

fn check(plan: &NetDevicePlan, others: &[NetDevicePlan], namespaces: &Namespaces) -> Result<()> {
    let NetDevicePlan { host, name } = plan;
    let at = format!("linux.netDevices.{host}");
    let bad = |why: &str| Err(Error::at(at, why).about(member("linux.netDevices", host)));
    if !namespaces.has(flag::NET) {
        return bad("it needs a network namespace in `linux.namespaces`");
    }
    for name in [host, name] {
        let stem = name.strip_suffix("%d").unwrap_or(name);
        // dev_valid_name() of the kernel: IFNAMSIZ is 16, with the NUL.
        let wrong = |c: char| c.is_whitespace() || matches!(c, '/' | ':' | '%' | '\0');
        if name.is_empty() || name.len() > 15 || matches!(name.as_str(), "." | "..") || stem.contains(wrong) {
            return bad(&format!("`{name}` is no name of a network device"));
        }
    }
    match others.iter().any(|other| other.name == *name && !name.ends_with("%d")) {
        true => bad(&format!("two devices are to be `{name}`")),
        false => Ok(()),
    }
}
