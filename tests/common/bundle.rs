//! A root file system of busybox, and a config.json to alter.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};

/// Where every Debian's busybox-static can be found, with and without a merged /usr.
const BUSYBOX: &str = "/bin/busybox";

/// The applets that payloads of the tests call.
const APPLETS: &[&str] = &[
    "[", "basename", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "dirname", "echo", "env", "expr",
    "false", "find", "grep", "head", "hostname", "id", "ifconfig", "ip", "kill", "ln", "ls", "mkdir", "mkfifo",
    "mknod", "mount", "mv", "nc", "nice", "ping", "printf", "ps", "pwd", "readlink", "rm", "rmdir", "sed", "seq",
    "setsid", "sh", "sleep", "sort", "stat", "stty", "sync", "tail", "tee", "test", "timeout", "touch", "tr", "true",
    "tty", "umount", "uname", "unshare", "wc", "which", "xargs", "yes",
];

/// A payload that does nothing until it is killed.
pub(crate) const SLEEP: [&str; 2] = ["sleep", "100000"];

/// Fills `root` as an image would: busybox (a copy: a payload may write to it) and the usual empty directories.
pub(crate) fn rootfs(root: &Path) {
    for dir in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var"] {
        fs::create_dir_all(root.join(dir)).expect("rootfs directory");
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("rootfs tmp");
    super::program::copy(BUSYBOX, root.join("bin/busybox"));
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).expect("rootfs applet");
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n")
        .expect("rootfs passwd");
    fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\n").expect("rootfs group");
}

/// What an engine would write: five namespaces, the usual mounts, few capabilities, a cgroup named after `id` at the
/// top of each hierarchy, so that it can be found again and leaves no parent behind.
pub(crate) fn config(id: &str) -> Value {
    let caps = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_SETGID",
        "CAP_SETUID"
    ]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": SLEEP,
            // The mark lets the guard find a payload that left every other trace of its container.
            "env": ["PATH=/bin", "HOME=/root", format!("TANDEM_TEST={id}")],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "contained",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]}
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}
            ],
            "resources": {}
        }
    })
}

/// Adds a mount at the end of the list.
pub(crate) fn mount(config: &mut Value, destination: &str, kind: &str, source: &str, options: &[&str]) {
    let mount = json!({"destination": destination, "type": kind, "source": source, "options": options});
    config["mounts"].as_array_mut().expect("mounts").push(mount);
}

/// Adds a namespace, in place of one of the same type; `path` joins an existing one.
pub(crate) fn namespace(config: &mut Value, kind: &str, path: Option<&str>) {
    without_namespace(config, kind);
    let namespace = match path {
        Some(path) => json!({"type": kind, "path": path}),
        None => json!({"type": kind}),
    };
    config["linux"]["namespaces"].as_array_mut().expect("namespaces").push(namespace);
}

/// Takes a namespace out, which leaves the container in the host's.
pub(crate) fn without_namespace(config: &mut Value, kind: &str) {
    config["linux"]["namespaces"].as_array_mut().expect("namespaces").retain(|n| n["type"] != kind);
}

/// A user namespace whose IDs 0 to 65535 are the host's from `host` on.
pub(crate) fn user_namespace(config: &mut Value, host: u32) {
    namespace(config, "user", None);
    let map = json!([{"containerID": 0, "hostID": host, "size": 65536}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
}
