//! Properties that the specification does not have: nobody reads them. And those that have no value.

use serde_json::Value;

use super::Finding;
use super::known::{Kind, SPEC};
use crate::error::member;
use crate::nearest::nearest;

pub(super) fn warnings(json: &Value) -> Vec<Finding> {
    let mut findings = vec![];
    look(json, &SPEC, "", &mut findings);
    findings
}

fn look(json: &Value, kind: &Kind, at: &str, findings: &mut Vec<Finding>) {
    match (kind, json) {
        (Kind::List(of), Value::Array(list)) => {
            list.iter().enumerate().for_each(|(i, entry)| look(entry, of, &format!("{at}[{i}]"), findings));
        }
        (Kind::Named(of), Value::Object(members)) => {
            members.iter().for_each(|(name, entry)| look(entry, of, &member(at, name), findings));
        }
        (Kind::Object(known), Value::Object(members)) => {
            for (name, entry) in members {
                let path = join(at, name);
                match known.iter().find(|(known, _)| known == name) {
                    Some((_, Kind::Foreign)) => findings.push(foreign(path)),
                    Some(_) if entry.is_null() => findings.push(null(path)),
                    Some((_, kind)) => look(entry, kind, &path, findings),
                    None => findings.push(unknown(path, name, known)),
                }
            }
        }
        // A wrong type is an error, and not told twice.
        _ => {}
    }
}

fn join(at: &str, name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match (at.is_empty(), plain) {
        (true, true) => name.to_owned(),
        (false, true) => format!("{at}.{name}"),
        (_, false) => member(at, name),
    }
}

fn null(path: String) -> Finding {
    Finding::warning(path, "null is read as if it were not there", "leave it out")
}

fn foreign(path: String) -> Finding {
    Finding::warning(path, "it is for another platform than Linux", "leave it out: it does nothing here")
}

fn unknown(path: String, name: &str, known: &[(&str, Kind)]) -> Finding {
    let advice = match nearest(name, known.iter().map(|(known, _)| *known)) {
        Some((_, known)) => format!("`{known}` is what comes nearest"),
        None => "it does nothing: leave it out, or look up its place in the specification".into(),
    };
    Finding::warning(path, format!("the specification has no property `{name}` here"), advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_named_with_its_place() {
        let json = serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {"noNewPrivilege": true, "User": {"uid": 0}},
            "linux": {"resources": {"memory": {"limits": 7}, "unified": {"memory.hihg": "1"}},
                      "seccomp": {"syscalls": [{"names": [], "actoin": "x"}]}, "sysctl": {"a.b": "c"}},
            "windows": {"whatever": 1},
            "completely": {"other": 1},
        });
        let found: Vec<String> = warnings(&json).iter().map(ToString::to_string).collect();
        let begins = [
            "warning completely: ",
            "warning linux.resources.memory.limits: the specification has no property `limits` here (`limit` is",
            "warning linux.seccomp.syscalls[0].actoin: the specification has no property `actoin` here (`action` is",
            "warning process.User: the specification has no property `User` here (`user` is",
            "warning process.noNewPrivilege: the specification has no property `noNewPrivilege` here (`noNewPrivileges`",
            "warning windows: it is for another platform",
        ];
        let mut sorted = found.clone();
        sorted.sort();
        assert_eq!(sorted.len(), begins.len(), "{found:#?}");
        sorted.iter().zip(begins).for_each(|(found, begin)| assert!(found.starts_with(begin), "{found}"));
    }

    #[test]
    fn what_engines_and_this_runtime_write_is_known() {
        let podman = include_str!("../../tests/data/podman-config.json");
        let every = include_str!("../../tests/data/every-property.json");
        for text in [podman, every] {
            assert_eq!(warnings(&serde_json::from_str(text).unwrap()), []);
        }
    }
}
