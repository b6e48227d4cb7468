//! What is left out, and what then goes for it: legal, and worth a look.

use serde_json::Value;

use super::Finding;

pub(super) fn warnings(json: &Value) -> Vec<Finding> {
    if !json.is_object() {
        return vec![];
    }
    let lacks = |object: &Value, name: &str| object.get(name).is_none();
    let mut findings = vec![];
    let mut told = |path: &str, message: &str, advice: &str| findings.push(Finding::warning(path, message, advice));
    if lacks(json, "linux") {
        told("linux", "it is left out: the container has the runtime's own namespaces", "name namespaces in it");
    }
    let Some(process) = json.get("process").filter(|process| process.is_object()) else {
        if lacks(json, "process") {
            told("process", "it is left out: the container can be created and never started", "say what to run");
        }
        return findings;
    };
    match process.get("user") {
        None => told("process.user", "it is left out: the process is root's", "name user and group"),
        Some(user) if user.is_object() => {
            for (name, who) in [("uid", "root's"), ("gid", "of the group 0")] {
                if lacks(user, name) {
                    let message = format!("it is left out: the process is {who}");
                    told(&format!("process.user.{name}"), &message, "write it down");
                }
            }
        }
        Some(_) => {}
    }
    if process.get("ioPriority").is_some_and(|priority| priority.is_object() && lacks(priority, "priority")) {
        told("process.ioPriority.priority", "it is left out: it is 0, the most urgent of its class", "write it down");
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_is_told_with_its_path() {
        let paths = |json: Value| warnings(&json).into_iter().map(|finding| finding.path).collect::<Vec<_>>();
        assert_eq!(paths(json!({})), ["linux", "process"]);
        assert_eq!(paths(json!({"linux": {}, "process": {}})), ["process.user"]);
        assert_eq!(
            paths(json!({"linux": {}, "process": {"user": {"uid": 1}, "ioPriority": {"class": "x"}}})),
            ["process.user.gid", "process.ioPriority.priority"]
        );
        assert_eq!(paths(json!({"linux": {}, "process": {"user": {"uid": 1, "gid": 1}}})), [""; 0]);
    }
}
