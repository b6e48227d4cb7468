//! Configurations that leave out what nearly every one has: no /proc, no /sys, no /dev, no mounts at all.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::bundle::user_namespace;
use common::case::Case;
use common::look;
use serde_json::{Value, json};

/// What is left in the list of mounts.
const KEPT: [(&str, &[&str]); 5] = [
    ("no mounts", &[]),
    ("only /proc", &["/proc"]),
    ("only /dev", &["/dev"]),
    ("no /proc", &["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"]),
    ("no /sys", &["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"]),
];

fn keep(case: &mut Case, kept: &[&str]) {
    case.config = common::bundle::config(&case.id);
    case.alter(|c| {
        let mounts = c["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| kept.iter().any(|k| m["destination"] == *k));
        c["linux"].as_object_mut().unwrap().remove("resources");
    });
}

/// Starts it; what is mounted is what was asked for, nothing of the host's is left, and a payload runs to its end.
fn assert_starts(case: &Case, kept: &[&str], why: &str) -> u32 {
    let outcome = case.create_with(&[]);
    assert!(outcome.status.success(), "{why}: {}", outcome.all());
    let pid = case.pid();
    case.start();
    case.wait_payload(pid);
    let table = look::mounts(pid);
    for point in kept {
        look::mount_at(&table, point);
    }
    for m in &table {
        let asked = m.point == "/" || kept.iter().any(|k| m.point.starts_with(k));
        // The devices have a place without a mount on /dev, too; and there are the masks.
        let hides = ["maskedPaths", "readonlyPaths"].iter().any(|list| {
            case.config["linux"][list].as_array().into_iter().flatten().any(|p| m.point == p.as_str().unwrap())
        });
        assert!(asked || hides || m.point.starts_with("/dev/"), "{why}: {m:?}");
    }
    assert_ne!(look::namespace(pid, "mnt"), look::namespace("self", "mnt"), "{why}");
    pid
}

/// exec needs its caller's /proc, and none of the container's.
#[test]
fn a_process_is_added_without_the_usual_mounts() {
    let mut case = case!("bareexec");
    for (what, kept) in KEPT {
        for user in [false, true] {
            images(&case, true);
            keep(&mut case, kept);
            if user {
                case.alter(|c| user_namespace(c, 100_000));
            }
            let why = format!("{what}, user namespace: {user}");
            assert_starts(&case, kept, &why);
            let outcome = case.exec(&["sh", "-c", "echo inside"]);
            assert_eq!(outcome.out(), "inside\n", "{why}: {}", outcome.all());
            end(&case);
        }
    }
}

fn end(case: &Case) {
    case.stop();
    case.delete();
}

/// Their directories may be there or not.
fn images(case: &Case, with_directories: bool) {
    for name in ["proc", "sys", "dev"] {
        let path = case.rootfs().join(name);
        let _ = fs::remove_dir_all(&path);
        if with_directories {
            fs::create_dir_all(&path).unwrap();
            // Another user, the root of a user namespace, must be able to make mount points for the devices.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        }
    }
}

#[test]
fn a_container_starts_without_the_usual_mounts() {
    let mut case = case!("bare");
    for (what, kept) in KEPT {
        for directories in [true, false] {
            images(&case, directories);
            keep(&mut case, kept);
            assert_starts(&case, kept, &format!("{what}, directories: {directories}"));
            end(&case);
        }
    }
}

#[test]
fn a_user_namespace_starts_without_the_usual_mounts() {
    let mut case = case!("bareuser");
    for (what, kept) in KEPT {
        images(&case, true);
        keep(&mut case, kept);
        case.alter(|c| user_namespace(c, 100_000));
        assert_starts(&case, kept, what);
        end(&case);
    }
}

/// `mounts` may be left out, and so may `linux.maskedPaths`; a mask of what is not there needs no /dev/null.
#[test]
fn what_is_left_out_altogether_is_no_obstacle() {
    let mut case = case!("left");
    for user in [false, true] {
        images(&case, true);
        keep(&mut case, &[]);
        case.alter(|c| {
            c.as_object_mut().unwrap().remove("mounts");
            c.as_object_mut().unwrap().remove("hostname");
            c["process"].as_object_mut().unwrap().remove("capabilities");
            if user {
                user_namespace(c, 100_000);
            }
        });
        assert_starts(&case, &[], &format!("no mounts property, user namespace: {user}"));
        end(&case);
    }
}

#[test]
fn masks_host_name_and_sysctls_work_without_proc_and_sys() {
    let mut case = case!("baremasks");
    fs::create_dir(case.rootfs().join("secret")).unwrap();
    fs::write(case.rootfs().join("secret/file"), "secret").unwrap();
    fs::write(case.rootfs().join("etc/secret"), "secret").unwrap();
    let apparmor = fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|e| e.starts_with('Y'));
    for (what, kept) in KEPT {
        for user in [false, true] {
            let why = format!("{what}, user namespace: {user}, AppArmor on this host: {apparmor}");
            images(&case, true);
            keep(&mut case, kept);
            case.alter(|c| {
                c["linux"]["maskedPaths"] = json!(["/secret", "/etc/secret", "/proc/cpuinfo", "/sys/kernel", "/none"]);
                c["linux"]["readonlyPaths"] = json!(["/proc/sys", "/etc/passwd", "/var", "/none"]);
                c["linux"]["sysctl"] = json!({"net.ipv4.ip_default_ttl": "77", "net.ipv4.ip_forward": "1"});
                if user {
                    user_namespace(c, 100_000);
                }
            });
            let pid = assert_starts(&case, kept, &why);
            assert_eq!(fs::read_dir(look::inside(pid, "/secret")).unwrap().count(), 0, "{why}");
            let masked = fs::read_to_string(look::inside(pid, "/etc/secret")).unwrap_or_default();
            assert_eq!(masked, "", "{why}");
            let table = look::mounts(pid);
            for path in ["/var", "/etc/passwd"] {
                assert!(look::mount_at(&table, path).has("ro"), "{why}: {path}");
            }
            // Seen from outside: by the network namespace, whatever is mounted in the container.
            assert_eq!(sysctl(pid, "net.ipv4.ip_default_ttl"), "77", "{why}");
            assert_eq!(sysctl(pid, "net.ipv4.ip_forward"), "1", "{why}");
            assert_eq!(host_name(pid), "contained", "{why}");
            end(&case);
        }
    }
}

fn in_namespaces_of(pid: u32, flags: &[&str], args: &[&str]) -> String {
    let mut command = std::process::Command::new("nsenter");
    let out = command.args(["-t", &pid.to_string()]).args(flags).args(args).output().expect("nsenter (util-linux)");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

fn sysctl(pid: u32, name: &str) -> String {
    in_namespaces_of(pid, &["-n"], &["cat", &format!("/proc/sys/{}", name.replace('.', "/"))])
}

fn host_name(pid: u32) -> String {
    in_namespaces_of(pid, &["-u"], &["uname", "-n"])
}

/// Label, profile and most namespaces are left out, too.
#[test]
fn hooks_and_few_namespaces_work_without_the_usual_mounts() {
    let mut case = case!("barehooks");
    let namespaces: [&[&str]; 3] =
        [&["mount"], &["mount", "pid"], &["mount", "pid", "network", "ipc", "uts", "cgroup"]];
    for kinds in namespaces {
        for hooks in [false, true] {
            keep(&mut case, &[]);
            let list: Vec<Value> = kinds.iter().map(|k| json!({"type": k})).collect();
            case.alter(|c| {
                c["linux"]["namespaces"] = json!(list);
                c["root"]["readonly"] = json!(true);
                if !kinds.contains(&"uts") {
                    c.as_object_mut().unwrap().remove("hostname");
                }
                if hooks {
                    let hook = json!([{"path": "/bin/true"}]);
                    c["hooks"] = json!({"createRuntime": hook, "createContainer": hook, "poststart": hook});
                }
            });
            let pid = assert_starts(&case, &[], &format!("{kinds:?}, hooks: {hooks}"));
            assert!(look::mount_at(&look::mounts(pid), "/").has("ro"));
            end(&case);
        }
    }
}
