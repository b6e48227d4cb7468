//! `features`; runtime-spec, features.md.

use serde_json::{Value, json};

use super::print_json;
use crate::error::Result;
use crate::plan::options;
use crate::sys::seccomp::{action_available, flag_available};

/// Prints what this version honours, whatever the host has of it. What it refuses is not there.
pub(super) fn print() -> Result<()> {
    print_json(&json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": options::known(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities(),
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
            "seccomp": seccomp(),
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
            "memoryPolicy": {
                "modes": ["MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED",
                          "MPOL_PREFERRED_MANY", "MPOL_LOCAL"],
                "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"],
            },
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
        },
        "annotations": {
            "io.github.seccomp.libseccomp.version": libseccomp_version(),
            "org.opencontainers.runc.checkpoint.enabled": "false",
            "run.oci.crun.checkpoint.enabled": "false",
            "org.opencontainers.runc.commit": env!("TANDEM_COMMIT"),
            "run.oci.tandem.version": env!("CARGO_PKG_VERSION"),
        },
        "potentiallyUnsafeConfigAnnotations": [
            "org.systemd.property.",
            "run.oci.delegate-cgroup",
            "run.oci.hooks.stderr",
            "run.oci.hooks.stdout",
            "run.oci.keep_original_groups",
            "run.oci.mount_context_type",
            "run.oci.pidfd_receiver",
            "run.oci.seccomp.receiver",
            "run.oci.seccomp_bpf_data",
            "run.oci.seccomp_fail_unknown_syscall",
            "run.oci.systemd.subgroup",
        ],
    }))
}

/// None where the library does not tell, which old ones don't.
fn libseccomp_version() -> Option<String> {
    let version = libseccomp::ScmpVersion::current().ok()?;
    Some(format!("{}.{}.{}", version.major, version.minor, version.micro))
}

fn capabilities() -> Vec<String> {
    let set = rustix::thread::CapabilitySet::all();
    set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
}

fn seccomp() -> Value {
    const ACTIONS: [(&str, u32); 9] = [
        ("SCMP_ACT_KILL", 0),
        ("SCMP_ACT_KILL_PROCESS", 0x8000_0000),
        ("SCMP_ACT_KILL_THREAD", 0),
        ("SCMP_ACT_TRAP", 0x0003_0000),
        ("SCMP_ACT_ERRNO", 0x0005_0000),
        ("SCMP_ACT_TRACE", 0x7ff0_0000),
        ("SCMP_ACT_NOTIFY", 0x7fc0_0000),
        ("SCMP_ACT_LOG", 0x7ffc_0000),
        ("SCMP_ACT_ALLOW", 0x7fff_0000),
    ];
    const FLAGS: [(&str, u64); 4] = [
        ("SECCOMP_FILTER_FLAG_TSYNC", 1),
        ("SECCOMP_FILTER_FLAG_LOG", 2),
        ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", 4),
        ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 32),
    ];
    let actions: Vec<&str> = ACTIONS.iter().filter(|(_, n)| action_available(*n)).map(|(name, _)| *name).collect();
    let known: Vec<&str> = FLAGS.iter().map(|(name, _)| *name).collect();
    let supported: Vec<&str> = FLAGS.iter().filter(|(_, n)| flag_available(*n)).map(|(name, _)| *name).collect();
    json!({
        "enabled": true,
        "actions": actions,
        "operators": ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT",
                      "SCMP_CMP_MASKED_EQ"],
        "archs": crate::plan::architectures::supported(),
        "knownFlags": known,
        "supportedFlags": supported,
    })
}
