//! Numbers that the specification requires, and that oci-spec reads as 0 where they are left out: an ID of 0 is the root, a
//! limit of 0 leaves nothing. Go's types, which engines write, hold them all. Of a process, user and group are not among them,
//! nor is the level of its I/O priority: there every runtime takes 0 for what is left out.

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// Where, as a path in which `[]` is each entry of a list, and what must be there.
type Required = (&'static str, &'static [&'static str]);

const PROCESS: [Required; 1] = [("rlimits[]", &["soft", "hard"])];
const TERMINAL: [Required; 1] = [("consoleSize", &["height", "width"])];
const MAPPINGS: [Required; 2] =
    [("uidMappings[]", &["containerID", "hostID", "size"]), ("gidMappings[]", &["containerID", "hostID", "size"])];
const DEVICE: [Required; 1] = [("", &["major", "minor"])];
const RESOURCES: [Required; 7] = [
    ("hugepageLimits[]", &["limit"]),
    ("network.priorities[]", &["priority"]),
    ("blockIO.weightDevice[]", &["major", "minor"]),
    ("blockIO.throttleReadBpsDevice[]", &["major", "minor", "rate"]),
    ("blockIO.throttleWriteBpsDevice[]", &["major", "minor", "rate"]),
    ("blockIO.throttleReadIOPSDevice[]", &["major", "minor", "rate"]),
    ("blockIO.throttleWriteIOPSDevice[]", &["major", "minor", "rate"]),
];

/// What of a configuration has such numbers, its version, and what else oci-spec does not see whole. Its seccomp profile, which
/// may be most of the text, has none of that.
#[derive(Deserialize)]
pub(super) struct Config {
    #[serde(rename = "ociVersion")]
    pub(super) version: Option<String>,
    #[serde(default)]
    process: Value,
    #[serde(default)]
    mounts: Value,
    pub(super) linux: Option<Linux>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Linux {
    #[serde(default)]
    uid_mappings: Value,
    #[serde(default)]
    gid_mappings: Value,
    #[serde(default)]
    devices: Value,
    #[serde(default)]
    pub(super) resources: Value,
    #[serde(default)]
    pub(super) intel_rdt: Value,
}

/// Whether a property of this name is such a number.
pub(crate) fn is_number(name: &str) -> bool {
    let all = PROCESS.iter().chain(&TERMINAL).chain(&MAPPINGS).chain(&DEVICE).chain(&RESOURCES);
    all.flat_map(|(_, names)| *names).any(|number| *number == name)
}

/// Checks a configuration, the types of which are right.
///
/// # Errors
/// The first number that is missing.
pub(super) fn of_config(config: &Config) -> Result<()> {
    if !config.process.is_null() {
        of_process(&config.process, "process")?;
    }
    for (i, mount) in entries(&config.mounts) {
        all(mount, &format!("mounts[{i}]"), &MAPPINGS)?;
    }
    let Some(linux) = &config.linux else { return Ok(()) };
    for (name, list) in [("uidMappings", &linux.uid_mappings), ("gidMappings", &linux.gid_mappings)] {
        look(list, "[]", &format!("linux.{name}"), MAPPINGS[0].1)?;
    }
    for (i, device) in entries(&linux.devices).filter(|(_, device)| device["type"] != "p") {
        all(device, &format!("linux.devices[{i}]"), &DEVICE)?;
    }
    of_resources(&linux.resources)
}

/// Checks a process at the JSON path `at`.
///
/// # Errors
/// The first number that is missing.
pub(super) fn of_process(process: &Value, at: &str) -> Result<()> {
    all(process, at, &PROCESS)?;
    // Without a terminal its size is to be passed over.
    if process["terminal"] == true { all(process, at, &TERMINAL) } else { Ok(()) }
}

/// Checks `linux.resources`.
///
/// # Errors
/// The first number that is missing.
pub(super) fn of_resources(resources: &Value) -> Result<()> {
    all(resources, "linux.resources", &RESOURCES)
}

fn all(json: &Value, at: &str, required: &[Required]) -> Result<()> {
    required.iter().try_for_each(|(path, names)| look(json, path, at, names))
}

/// Goes down `path`, into each entry of a list on the way. What is not there needs nothing.
fn look(json: &Value, path: &str, at: &str, names: &[&str]) -> Result<()> {
    if let Some(rest) = path.strip_prefix("[]") {
        return entries(json).try_for_each(|(i, entry)| look(entry, rest, &format!("{at}[{i}]"), names));
    }
    let path = path.trim_start_matches('.');
    if !path.is_empty() {
        let end = path.find(['.', '[']).unwrap_or(path.len());
        return look(&json[&path[..end]], &path[end..], &format!("{at}.{}", &path[..end]), names);
    }
    match names.iter().find(|name| json.is_object() && json[**name].is_null()) {
        Some(name) => {
            let path = format!("{at}.{name}");
            Err(Error::config(format!("`{path}` is missing")).about(path))
        }
        None => Ok(()),
    }
}

fn entries(json: &Value) -> impl Iterator<Item = (usize, &Value)> {
    json.as_array().into_iter().flatten().enumerate()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::load::spec_from_text;
    use serde_json::json;

    fn whole() -> Value {
        let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
        let rate = json!([{"major": 0, "minor": 0, "rate": 0}]);
        json!({
            "ociVersion": "1.3.0",
            "process": {"cwd": "/", "terminal": true, "consoleSize": {"height": 0, "width": 0},
                "rlimits": [{"type": "RLIMIT_CPU", "soft": 0, "hard": 0}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
                "ioPriority": {"class": "IOPRIO_CLASS_BE"}},
            "mounts": [{"destination": "/a"}, {"destination": "/b", "uidMappings": map, "gidMappings": map}],
            "linux": {"uidMappings": map, "gidMappings": map,
                "devices": [{"path": "/dev/x", "type": "c", "major": 0, "minor": 0}],
                "resources": {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
                    "network": {"priorities": [{"name": "eth0", "priority": 0}]},
                    "blockIO": {"weightDevice": [{"major": 0, "minor": 0}], "throttleReadBpsDevice": rate,
                        "throttleWriteBpsDevice": rate, "throttleReadIOPSDevice": rate, "throttleWriteIOPSDevice": rate}}},
        })
    }

    /// The JSON pointer of each 0, and of each number else that `whole` has.
    fn numbers(json: &Value, at: &str, found: &mut Vec<String>) {
        match json {
            Value::Object(members) => members.iter().for_each(|(k, v)| numbers(v, &format!("{at}/{k}"), found)),
            Value::Array(list) => list.iter().enumerate().for_each(|(i, v)| numbers(v, &format!("{at}/{i}"), found)),
            Value::Number(_) => found.push(at.to_owned()),
            _ => {}
        }
    }

    #[test]
    fn each_is_missed_and_named() {
        let mut pointers = vec![];
        numbers(&whole(), "", &mut pointers);
        assert_eq!(pointers.len(), 36);
        spec_from_text(whole().to_string().as_bytes()).unwrap();
        for pointer in pointers {
            let mut json = whole();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            json.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
            let error = spec_from_text(json.to_string().as_bytes()).unwrap_err();
            let mut steps = parent[1..].split('/');
            let at = steps.next().unwrap().to_owned();
            let at = steps.fold(at, |at, step| match step.parse::<usize>() {
                Ok(i) => format!("{at}[{i}]"),
                Err(_) => format!("{at}.{step}"),
            });
            assert_eq!(error.to_string(), format!("`{at}.{name}` is missing"));
            assert_eq!(error.property(), Some(format!("{at}.{name}").as_str()));
        }
    }

    #[test]
    fn what_needs_none_lacks_none() {
        let mut json = whole();
        json["process"]["terminal"] = json!(false);
        json["process"]["consoleSize"] = json!({});
        json["linux"]["devices"] = json!([{"path": "/dev/x", "type": "p"}]);
        json["linux"]["resources"]["hugepageLimits"] = json!(null);
        json["linux"]["resources"]["blockIO"] = json!({});
        spec_from_text(json.to_string().as_bytes()).unwrap();
        assert!(spec_from_text(br#"{"ociVersion":"1.3.0"}"#).is_ok());
    }
}
