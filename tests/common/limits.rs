//! Limits, and which of them this machine has.

use std::fs;

use serde_json::Value;

use super::case::Case;
use super::look;

/// A container with these resources, created.
pub(crate) fn limited(case: &mut Case, resources: Value) {
    case.alter(|c| c["linux"]["resources"] = resources);
    case.create();
}

/// Whether the cgroups of a controller have a file: kernels differ.
pub(crate) fn has_file(controller: &str, v1: &str, v2: &str) -> bool {
    let (point, file) = match look::v1(controller) {
        Some(point) => (point, v1),
        None => {
            let top = look::v2().expect("cgroup2");
            fs::write(top.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
            (top, v2)
        }
    };
    // The top of v2 has no limits: another cgroup has to tell.
    let probe = point.join(format!("tt-probe-{controller}-{}", std::process::id()));
    fs::create_dir(&probe).unwrap();
    let found = probe.join(file).exists();
    fs::remove_dir(&probe).unwrap();
    found
}
