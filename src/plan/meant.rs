//! What JSON means, in the form that oci-spec reads: properties that are null or left out, names that it has otherwise, options
//! that stand in one string.

use oci_spec::runtime::{Capability, Mount};
use serde_json::{Value, json};

use super::json;
use super::load::UnknownCapability;
use super::parted::parted;

/// Brings what has a process at `process` (a JSON pointer) into that form. Returns the capabilities that nobody knows, which are
/// taken out, and whether anything was changed.
pub(super) fn mend(json: &mut Value, process: &str) -> (Vec<UnknownCapability>, bool) {
    let without_nulls = leave_nulls_out(json);
    let at = process.trim_start_matches('/');
    let Some(process) = json.pointer_mut(process).filter(|process| process.is_object()) else {
        return (vec![], without_nulls);
    };
    let named = name_user(process);
    let renamed = rename_flags(process);
    let unknown = leave_unknown_out(process, at);
    let changed = without_nulls || named || renamed || !unknown.is_empty();
    (unknown, changed)
}

/// A property that is null is not there: Go's encoders, which engines are written in, write it for what is not set. Returns
/// whether there was any.
pub(crate) fn leave_nulls_out(json: &mut Value) -> bool {
    match json {
        Value::Array(list) => list.iter_mut().fold(false, |any, entry| leave_nulls_out(entry) | any),
        Value::Object(members) => {
            // Here the name says something by itself: which device becomes the container's.
            let devices = members.get_mut("netDevices").and_then(Value::as_object_mut);
            let unnamed = devices.into_iter().flatten().filter(|(_, device)| device.is_null());
            let filled = unnamed.fold(0, |filled, (_, device)| {
                *device = json!({});
                filled + 1
            });
            let before = members.len();
            members.retain(|_, value| !value.is_null());
            let left_out = members.len() < before || filled > 0;
            members.values_mut().fold(left_out, |any, value| leave_nulls_out(value) | any)
        }
        _ => false,
    }
}

/// A process of nobody's is root's, as of one whose IDs are left out.
fn name_user(process: &mut Value) -> bool {
    let lacks = process.get("user").is_none();
    if lacks {
        process["user"] = json!({});
    }
    lacks
}

fn rename_flags(process: &mut Value) -> bool {
    let mut renamed = false;
    let flags = process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        let other = match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
            Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
            _ => continue,
        };
        *flag = other.into();
        renamed = true;
    }
    renamed
}

/// Takes out the capabilities that nobody knows, which the specification wants to be a warning and no error.
fn leave_unknown_out(process: &mut Value, at: &str) -> Vec<UnknownCapability> {
    let mut unknown = vec![];
    let sets = process.get_mut("capabilities").and_then(Value::as_object_mut);
    for (set, names) in sets.into_iter().flatten() {
        let Some(names) = names.as_array_mut() else { continue };
        let mut index = 0;
        names.retain(|entry| {
            let path = format!("{}[{index}]", json::join(&json::join(at, "capabilities"), set));
            index += 1;
            match entry.as_str().filter(|_| serde_json::from_value::<Capability>(entry.clone()).is_err()) {
                None => true,
                Some(name) => {
                    unknown.push(UnknownCapability { path, name: name.to_owned() });
                    false
                }
            }
        });
    }
    unknown
}

/// Gives each mount one option a string, where several stand in one as mount(8) and mount(2) have them.
pub(super) fn part_options(mounts: &mut [Mount]) {
    for mount in mounts {
        let words = mount.options().iter().flatten();
        if !words.clone().any(|word| word.contains(',')) {
            continue;
        }
        let parted: Vec<String> = words.flat_map(|word| parted(word)).collect();
        mount.set_options(Some(parted));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_not_there() {
        let mut json = json!({"a": null, "b": {"c": null, "d": 1}, "e": [null, {"f": null}],
            "linux": {"netDevices": {"eth0": null}}});
        assert!(leave_nulls_out(&mut json));
        assert_eq!(json, json!({"b": {"d": 1}, "e": [null, {}], "linux": {"netDevices": {"eth0": {}}}}));
        assert!(!leave_nulls_out(&mut json));
    }
}
