//! `linux.intelRdt`: the resctrl group of the container; runtime-spec, config-linux.md, "IntelRdt".

use oci_spec::runtime::{Linux, LinuxIntelRdt};
use serde::Serialize;

use super::host::Host;
use super::id::ContainerId;
use crate::cgroup::resctrl::MOUNT;
use crate::error::{Error, Result};

/// Names in resctrl's root that are no groups.
const TAKEN: [&str; 4] = ["info", "mon_groups", "mon_data", "pseudo_lock"];

/// A resctrl group, and what is written there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RdtPlan {
    /// The group's directory; None for the root group, `closID` "/".
    pub group: Option<String>,
    /// `closID` names it: it may be there before and be others' too, and stays when the container is deleted.
    pub named: bool,
    /// `l3CacheSchema` and `memBwSchema`: lines for the file `schemata` of a new group, and what one that is there has to
    /// have already.
    pub schemata: Vec<String>,
    /// `schemata`: lines that are written after those, whatever group it is.
    pub last: Vec<String>,
    /// The name of a monitoring group in it.
    pub monitor: Option<String>,
}

/// Whether no property is set: there is nothing that would not hold.
fn asks_for_nothing(rdt: &LinuxIntelRdt) -> bool {
    let texts = [rdt.clos_id(), rdt.l3_cache_schema(), rdt.mem_bw_schema()];
    texts.iter().all(|text| text.is_none()) && rdt.schemata().is_none() && rdt.enable_monitoring().is_none()
}

/// Plans the group.
///
/// # Errors
/// A name that is no directory's or is resctrl's own, schemata of more than a line, and a host without resctrl.
pub(super) fn from_spec(linux: &Linux, id: &ContainerId, host: &Host) -> Result<Option<RdtPlan>> {
    let Some(rdt) = linux.intel_rdt() else { return Ok(None) };
    if !host.resctrl && asks_for_nothing(rdt) {
        return Ok(None);
    }
    if !host.resctrl {
        let what = format!("`linux.intelRdt`: no resctrl file system is mounted on `{MOUNT}`");
        let how = format!("on a processor that has RDT: mount -t resctrl resctrl {MOUNT}");
        return Err(Error::config(what).advise(how).about("linux.intelRdt"));
    }
    let named = rdt.clos_id().as_deref().filter(|name| !name.is_empty());
    let name = named.unwrap_or(id.as_str());
    let group = (name != "/").then(|| name.to_owned());
    if let Some(name) = &group
        && (name.contains(['/', '\n', '\0']) || name == "." || name == ".." || TAKEN.contains(&name.as_str()))
    {
        return Err(Error::at("linux.intelRdt.closID", format!("`{name}` is no name of a resctrl group")));
    }
    let bandwidth = rdt.mem_bw_schema().as_deref().filter(|schema| !schema.is_empty());
    if let Some(schema) = bandwidth.filter(|schema| !schema.starts_with("MB:") || schema.contains('\n')) {
        return Err(Error::at(
            "linux.intelRdt.memBwSchema",
            format!("{schema:?} is not one line that begins with MB:"),
        ));
    }
    let schemata = schemata(rdt.l3_cache_schema().as_deref(), bandwidth);
    let last = rdt.schemata().clone().unwrap_or_default();
    if let Some(line) = last.iter().find(|line| line.trim().is_empty() || line.contains(['\n', '\0'])) {
        return Err(Error::at("linux.intelRdt.schemata", format!("{line:?} is not one line")));
    }
    let monitor = (*rdt.enable_monitoring() == Some(true)).then(|| id.to_string());
    Ok(Some(RdtPlan { group, named: named.is_some(), schemata, last, monitor }))
}

/// The lines of both schemas. A bandwidth among the cache's lines gives way to the bandwidth's own property.
pub fn schemata(cache: Option<&str>, bandwidth: Option<&str>) -> Vec<String> {
    let lines = |text: Option<&str>| -> Vec<String> {
        text.iter().flat_map(|text| text.lines()).map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect()
    };
    let bandwidth = lines(bandwidth);
    let mut schemata = lines(cache);
    schemata.retain(|line| bandwidth.is_empty() || !line.starts_with("MB:"));
    schemata.extend(bandwidth);
    schemata
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str, resctrl: bool) -> Result<Option<RdtPlan>> {
        let linux = serde_json::from_str(&format!(r#"{{"intelRdt": {json}}}"#)).unwrap();
        let host = Host { resctrl, ..Host::default() };
        from_spec(&linux, &ContainerId::parse("box").unwrap(), &host)
    }

    #[test]
    fn without_a_name_the_group_is_the_containers() {
        let rdt = plan(r#"{"l3CacheSchema": "L3:0=f\nMB:0=10\n", "memBwSchema": "MB:0=20"}"#, true).unwrap().unwrap();
        assert_eq!((rdt.group.as_deref(), rdt.named, rdt.monitor), (Some("box"), false, None));
        assert_eq!(rdt.schemata, ["L3:0=f", "MB:0=20"]);
    }

    #[test]
    fn schemata_come_after_the_other_two() {
        let text = r#"{"closID": "gold", "schemata": ["L2:0=3"], "l3CacheSchema": "L3:0=f", "enableMonitoring": true}"#;
        let rdt = plan(text, true).unwrap().unwrap();
        assert_eq!((rdt.group.as_deref(), rdt.named, &*rdt.schemata), (Some("gold"), true, &["L3:0=f".to_owned()][..]));
        assert_eq!((rdt.last, rdt.monitor), (vec!["L2:0=3".to_owned()], Some("box".to_owned())));
        assert_eq!(plan(r#"{"closID": "/"}"#, true).unwrap().unwrap().group, None);
    }

    #[test]
    fn a_host_without_resctrl_and_a_name_of_its_own_are_refused() {
        assert_eq!(plan("{}", false).unwrap(), None);
        assert!(plan(r#"{"closID": "a"}"#, false).unwrap_err().to_string().contains("resctrl"));
        for name in ["a/b", "..", ".", "info", "mon_groups"] {
            assert!(plan(&format!(r#"{{"closID": "{name}"}}"#), true).is_err(), "{name}");
        }
        for wrong in
            [r#"{"schemata": ["a\nb"]}"#, r#"{"memBwSchema": "L3:0=f"}"#, r#"{"memBwSchema": "MB:0=1\nL2:0=1"}"#]
        {
            assert!(plan(wrong, true).is_err(), "{wrong}");
        }
    }
}
