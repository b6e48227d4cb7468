//! Seccomp, sysctls, host name: what confines the payload, and that it really does.

#[macro_use]
mod common;

use std::fs;
use std::process::Command;

use common::bundle::{namespace, user_namespace, without_namespace};
use common::look;
use serde_json::{Value, json};

/// A file as a process in these namespaces of `pid` reads it, without the runtime's help.
fn read_in(pid: u32, flags: &[&str], args: &[&str]) -> String {
    let out = Command::new("nsenter").arg(format!("--target={pid}")).args(flags).args(args).output().expect("nsenter");
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
}

fn seccomp(default: &str, rules: Value) -> Value {
    json!({"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules})
}

#[test]
fn a_rule_answers_with_its_errno() {
    let mut case = case!("errno");
    case.alter(|c| {
        c["linux"]["seccomp"] = seccomp(
            "SCMP_ACT_ALLOW",
            json!([
                {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18},
                {"names": ["rmdir"], "action": "SCMP_ACT_ERRNO"}
            ]),
        );
    });
    let pid = case.running();
    assert_eq!(look::status(pid)["Seccomp"], "2");
    assert_eq!(look::status(pid)["Seccomp_filters"], "1");
    fs::create_dir(case.rootfs().join("tmp/there")).unwrap();
    // EXDEV, and EPERM when none is named; nothing else is touched.
    for (command, words) in
        [("mkdir /tmp/new", "Invalid cross-device link"), ("rmdir /tmp/there", "Operation not permitted")]
    {
        let outcome = case.exec(&["sh", "-c", command]);
        assert_ne!(outcome.code(), 0, "{command}");
        assert!(outcome.err().contains(words), "{command}: {}", outcome.err());
    }
    assert!(!case.rootfs().join("tmp/new").exists());
    case.exec(&["touch", "/tmp/file"]).ok();
}

#[test]
fn a_rule_looks_at_arguments() {
    let mut case = case!("args");
    // nice(1) calls setpriority or nice; kill(1) is what busybox surely makes: signal 10 only.
    case.alter(|c| {
        c["linux"]["seccomp"] = seccomp(
            "SCMP_ACT_ALLOW",
            json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
                    "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]}]),
        );
    });
    case.running();
    let refused = case.exec(&["sh", "-c", "sleep 100 & kill -USR1 $!; kill -USR2 $!"]);
    assert!(refused.err().contains("No space left on device"), "{}", refused.all());
    assert_eq!(refused.err().lines().count(), 1, "USR2 passes: {}", refused.all());
}

#[test]
fn a_rule_kills() {
    let mut case = case!("seckill");
    case.alter(|c| {
        c["linux"]["seccomp"] =
            seccomp("SCMP_ACT_ALLOW", json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]));
    });
    case.running();
    assert_eq!(case.exec(&["mkdir", "/tmp/new"]).code(), 128 + 31, "SIGSYS");
    assert!(!case.rootfs().join("tmp/new").exists());
}

#[test]
fn a_filter_without_no_new_privileges_is_set_too() {
    let mut case = case!("secnonnp");
    case.alter(|c| {
        c["process"]["noNewPrivileges"] = json!(false);
        c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        c["linux"]["seccomp"] =
            seccomp("SCMP_ACT_ALLOW", json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]));
    });
    let pid = case.running();
    let status = look::status(pid);
    assert_eq!((status["Seccomp"].as_str(), status["NoNewPrivs"].as_str()), ("2", "0"));
}

#[test]
fn no_profile_is_no_filter() {
    let case = case!("nosec");
    let pid = case.running();
    assert_eq!(look::status(pid)["Seccomp"], look::status(std::process::id())["Seccomp"]);
}

#[test]
fn an_unknown_action_or_operator_is_refused() {
    let mut case = case!("secbad");
    for bad in [
        seccomp("SCMP_ACT_NONESUCH", json!([])),
        seccomp("SCMP_ACT_ALLOW", json!([{"names": ["mkdir"], "action": "SCMP_ACT_NONESUCH"}])),
        seccomp(
            "SCMP_ACT_ALLOW",
            json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 1, "op": "SCMP_CMP_NONESUCH"}]}]),
        ),
    ] {
        case.alter(|c| c["linux"]["seccomp"] = bad);
        let outcome = case.create_with(&[]);
        assert_ne!(outcome.code(), 0, "{}", outcome.all());
        if common::is_tandem() {
            outcome.refused();
            case.nothing_left("a refused create");
        }
    }
}

#[test]
fn a_call_of_no_known_name_is_passed_over() {
    let mut case = case!("secnew");
    // An engine's profile names calls of kernels and libraries to come.
    case.alter(|c| {
        c["linux"]["seccomp"] = seccomp(
            "SCMP_ACT_ALLOW",
            json!([{"names": ["a_call_of_the_future", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]),
        );
    });
    case.running();
    assert_ne!(case.exec(&["mkdir", "/tmp/new"]).code(), 0);
}

#[test]
fn podmans_default_profile_lets_it_run_and_keeps_it_in() {
    let mut case = case!("podmanprofile");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/podman-config.json");
    let Ok(text) = fs::read_to_string(file) else { skip!("no {file}") };
    let podman: Value = serde_json::from_str(&text).expect("podman-config.json");
    case.alter(|c| {
        c["linux"]["seccomp"] = podman["linux"]["seccomp"].clone();
        // So that it is the filter that refuses what is refused.
        let mut caps = podman["process"]["capabilities"]["bounding"].clone();
        caps.as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
        c["process"]["capabilities"] = json!({"bounding": caps, "permitted": caps, "effective": caps});
        c["linux"]["maskedPaths"] = podman["linux"]["maskedPaths"].clone();
        c["linux"]["readonlyPaths"] = podman["linux"]["readonlyPaths"].clone();
    });
    let pid = case.running();
    assert_eq!(look::status(pid)["Seccomp"], "2");
    case.exec(&["sh", "-c", "mkdir /tmp/a && touch /tmp/a/b && rm -r /tmp/a && id && ls / >/dev/null && ps"]).ok();
    let outcome = case.exec(&["hostname", "another"]);
    assert_ne!(outcome.code(), 0, "sethostname is not in the profile");
    assert!(outcome.err().contains("Operation not permitted"), "{}", outcome.all());
}

#[test]
fn sysctls_are_set_in_the_containers_namespaces_and_not_on_the_host() {
    let mut case = case!("sysctl");
    let host = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/shmmni"].map(look::value);
    let forward = if host[0] == "1" { "0" } else { "1" };
    case.alter(|c| {
        c["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": forward, "kernel.shmmni": "1234", "net.ipv4.ip_local_port_range": "2000\t3000"});
    });
    let pid = case.running();
    assert_eq!(read_in(pid, &["--net"], &["cat", "/proc/sys/net/ipv4/ip_forward"]), forward);
    assert_eq!(read_in(pid, &["--net"], &["cat", "/proc/sys/net/ipv4/ip_local_port_range"]), "2000\t3000");
    assert_eq!(read_in(pid, &["--ipc"], &["cat", "/proc/sys/kernel/shmmni"]), "1234");
    assert_eq!(["/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/shmmni"].map(look::value), host);
}

#[test]
fn sysctls_of_a_user_namespace_are_set_in_the_containers() {
    let mut case = case!("usersysctl");
    tandem_only!("sysctls of user namespaces");
    const NAME: &str = "/proc/sys/user/max_mnt_namespaces";
    let host = look::value(NAME);
    case.alter(|c| {
        user_namespace(c, 100_000);
        c["linux"]["sysctl"] = json!({"user.max_mnt_namespaces": "123"});
    });
    let pid = case.running();
    assert_eq!(read_in(pid, &["--user"], &["cat", NAME]), "123");
    assert_eq!(look::value(NAME), host);
}

#[test]
fn a_sysctl_that_would_be_the_hosts_is_refused() {
    let mut case = case!("hostsysctl");
    let before = look::value("/proc/sys/net/ipv4/ip_forward");
    for (namespace, key) in [
        ("network", "net.ipv4.ip_forward"),
        ("ipc", "kernel.shmmni"),
        ("", "user.max_mnt_namespaces"),
        ("", "vm.swappiness"),
        ("", "kernel.core_pattern"),
    ] {
        case.alter(|c| {
            if !namespace.is_empty() {
                without_namespace(c, namespace);
                c["mounts"]
                    .as_array_mut()
                    .unwrap()
                    .retain(|m| m["destination"] != "/sys" && m["destination"] != "/dev/mqueue");
            }
            c["linux"]["sysctl"] = json!({ key: "1" });
        });
        let outcome = case.create_with(&[]);
        assert_ne!(outcome.code(), 0, "{key}");
        if common::is_tandem() {
            outcome.refused_with(&[key]);
            case.nothing_left("a refused create");
        }
    }
    assert_eq!(look::value("/proc/sys/net/ipv4/ip_forward"), before);
}

#[test]
fn the_host_and_domain_names_are_the_containers_own() {
    let mut case = case!("hostname");
    let host = look::value("/proc/sys/kernel/hostname");
    case.alter(|c| {
        c["hostname"] = json!("a-name");
        if common::is_tandem() {
            c["domainname"] = json!("example.org");
        }
    });
    let pid = case.running();
    assert_eq!(read_in(pid, &["--uts"], &["cat", "/proc/sys/kernel/hostname"]), "a-name");
    if common::is_tandem() {
        assert_eq!(read_in(pid, &["--uts"], &["cat", "/proc/sys/kernel/domainname"]), "example.org");
    }
    assert_eq!(look::value("/proc/sys/kernel/hostname"), host);
}

#[test]
fn a_host_name_without_a_uts_namespace_is_refused() {
    let mut case = case!("hostuts");
    let host = look::value("/proc/sys/kernel/hostname");
    case.alter(|c| without_namespace(c, "uts"));
    case.create_with(&[]).refused();
    assert_eq!(look::value("/proc/sys/kernel/hostname"), host);
    case.nothing_left("a refused create");
}

#[test]
fn a_new_network_namespace_has_its_loopback_up() {
    let case = case!("loopback");
    let pid = case.running();
    // A tunnel or virtual device may be there on some kernels; no address of the host is.
    let links = read_in(pid, &["--net"], &["cat", "/proc/net/dev"]);
    assert!(links.contains("lo:"), "{links}");
    let addresses = read_in(pid, &["--net"], &["cat", "/proc/net/fib_trie"]);
    if addresses.is_empty() && common::is_tandem() {
        panic!("lo is down");
    }
}

#[test]
fn a_kernel_setting_can_not_be_written_from_inside() {
    let mut case = case!("procsys");
    case.alter(|c| {
        namespace(c, "cgroup", None);
        c["linux"]["readonlyPaths"] = json!(["/proc/sys", "/proc/sysrq-trigger"]);
        c["linux"]["maskedPaths"] = json!(["/proc/kcore", "/sys/firmware"]);
    });
    case.running();
    for path in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches"] {
        let outcome = case.exec(&["sh", "-c", &format!("echo x > {path}")]);
        assert_ne!(outcome.code(), 0, "{path}");
    }
}
