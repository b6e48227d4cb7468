//! `spec`: a config.json to begin with.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::error::{Context, Error, Result};
use crate::plan::load::CONFIG;

#[derive(Args, Debug)]
pub(super) struct Spec {
    /// The bundle to make it in
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    bundle: PathBuf,
    /// The file to make, relative to the bundle [default: config.json]
    #[arg(short, long, alias = "config", value_name = "FILE")]
    file: Option<PathBuf>,
    /// For an ordinary user: with a user namespace of its own
    #[arg(long = "rootless", id = "spec_rootless")]
    rootless: bool,
}

impl Spec {
    pub(super) fn run(&self) -> Result<()> {
        let path = self.bundle.join(self.file.as_deref().unwrap_or(Path::new(CONFIG)));
        let spec = if self.rootless { rootless() } else { default() };
        let text = serde_json::to_string_pretty(&spec).map_err(|e| Error::system(e.to_string()))? + "\n";
        let doing = || format!("make `{}`", path.display());
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path).context(doing);
        let mut file = file.map_err(|e| match e.errno() {
            Some(Errno::EXIST) => e.advise("remove it first, or name another by --file"),
            _ => e,
        })?;
        file.write_all(text.as_bytes()).context(doing)
    }
}

fn default() -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let standard = |extra: &[&'static str]| [&["nosuid", "noexec", "nodev"], extra].concat();
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "tandem",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": standard(&["mode=1777", "size=65536k"])},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": standard(&[])},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": standard(&["ro"])},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": standard(&["relatime", "ro"])},
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                           {"type": "cgroup"}],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                            "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                            "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

/// The same for an ordinary user: one mapping, the caller's own id; no limits; the host's network, so that its `/sys`
/// is bound; no gid that is not mapped.
fn rootless() -> Value {
    let mut spec = default();
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let linux = &mut spec["linux"];
    linux["uidMappings"] = json!([{"containerID": 0, "hostID": uid, "size": 1}]);
    linux["gidMappings"] = json!([{"containerID": 0, "hostID": gid, "size": 1}]);
    linux["namespaces"] = ["pid", "ipc", "uts", "mount", "cgroup", "user"].map(|t| json!({"type": t})).into();
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
    spec["mounts"] = spec["mounts"].as_array().into_iter().flatten().filter_map(for_user).collect();
    spec
}

fn for_user(mount: &Value) -> Option<Value> {
    let mut mount = mount.clone();
    match mount["destination"].as_str() {
        // `ro` alone would leave the control groups below it writable, and a process of the caller's outside the container could be
        // killed through them (CVE-2023-25809).
        Some("/sys") => Some(json!({"destination": "/sys", "type": "none", "source": "/sys",
                        "options": ["rbind", "rnosuid", "rnoexec", "rnodev", "rro"]})),
        Some("/sys/fs/cgroup") => None,
        Some("/dev/pts") => {
            mount["options"].as_array_mut()?.retain(|option| option != "gid=5");
            Some(mount)
        }
        _ => Some(mount),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_makes_is_read_back() {
        for spec in [default(), rootless()] {
            crate::plan::load::spec_from_text(spec.to_string().as_bytes()).unwrap();
        }
    }
}
