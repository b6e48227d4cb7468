//! The property names of the specification: config.md and config-linux.md of version 1.3.

/// What may stand at a place.
pub(super) enum Kind {
    /// Nothing with properties.
    Plain,
    /// An object with these properties.
    Object(&'static [(&'static str, Kind)]),
    /// A list of such.
    List(&'static Kind),
    /// An object whose names are free, of such.
    Named(&'static Kind),
    /// For another platform.
    Foreign,
}

use Kind::{Foreign, List, Named, Object, Plain};

/// A configuration.
pub(super) const SPEC: Kind = Object(&[
    ("ociVersion", Plain),
    ("root", Object(&[("path", Plain), ("readonly", Plain)])),
    ("mounts", List(&MOUNT)),
    ("process", PROCESS),
    ("hostname", Plain),
    ("domainname", Plain),
    ("hooks", HOOKS),
    ("annotations", Named(&Plain)),
    ("linux", LINUX),
    ("solaris", Foreign),
    ("windows", Foreign),
    ("freebsd", Foreign),
    ("zos", Foreign),
    // The plan refuses it.
    ("vm", Plain),
]);

const MOUNT: Kind = Object(&[
    ("destination", Plain),
    ("type", Plain),
    ("source", Plain),
    ("options", Plain),
    ("uidMappings", List(&ID_MAPPING)),
    ("gidMappings", List(&ID_MAPPING)),
]);

const ID_MAPPING: Kind = Object(&[("containerID", Plain), ("hostID", Plain), ("size", Plain)]);

const PROCESS: Kind = Object(&[
    ("terminal", Plain),
    ("consoleSize", Object(&[("height", Plain), ("width", Plain)])),
    ("cwd", Plain),
    ("env", Plain),
    ("args", Plain),
    ("commandLine", Foreign),
    (
        "user",
        Object(&[("uid", Plain), ("gid", Plain), ("umask", Plain), ("additionalGids", Plain), ("username", Foreign)]),
    ),
    (
        "capabilities",
        Object(&[
            ("effective", Plain),
            ("bounding", Plain),
            ("inheritable", Plain),
            ("permitted", Plain),
            ("ambient", Plain),
        ]),
    ),
    ("rlimits", List(&Object(&[("type", Plain), ("soft", Plain), ("hard", Plain)]))),
    ("noNewPrivileges", Plain),
    ("apparmorProfile", Plain),
    ("oomScoreAdj", Plain),
    (
        "scheduler",
        Object(&[
            ("policy", Plain),
            ("nice", Plain),
            ("priority", Plain),
            ("flags", Plain),
            ("runtime", Plain),
            ("deadline", Plain),
            ("period", Plain),
        ]),
    ),
    ("selinuxLabel", Plain),
    ("ioPriority", Object(&[("class", Plain), ("priority", Plain)])),
    ("execCPUAffinity", Object(&[("initial", Plain), ("final", Plain)])),
]);

const HOOKS: Kind = Object(&[
    ("prestart", List(&HOOK)),
    ("createRuntime", List(&HOOK)),
    ("createContainer", List(&HOOK)),
    ("startContainer", List(&HOOK)),
    ("poststart", List(&HOOK)),
    ("poststop", List(&HOOK)),
]);

const HOOK: Kind = Object(&[("path", Plain), ("args", Plain), ("env", Plain), ("timeout", Plain)]);

const LINUX: Kind = Object(&[
    ("namespaces", List(&Object(&[("type", Plain), ("path", Plain)]))),
    ("uidMappings", List(&ID_MAPPING)),
    ("gidMappings", List(&ID_MAPPING)),
    ("timeOffsets", Named(&Object(&[("secs", Plain), ("nanosecs", Plain)]))),
    (
        "devices",
        List(&Object(&[
            ("type", Plain),
            ("path", Plain),
            ("major", Plain),
            ("minor", Plain),
            ("fileMode", Plain),
            ("uid", Plain),
            ("gid", Plain),
        ])),
    ),
    ("netDevices", Named(&Object(&[("name", Plain)]))),
    ("cgroupsPath", Plain),
    ("resources", RESOURCES),
    ("rootfsPropagation", Plain),
    ("seccomp", SECCOMP),
    ("sysctl", Named(&Plain)),
    ("maskedPaths", Plain),
    ("readonlyPaths", Plain),
    ("mountLabel", Plain),
    (
        "intelRdt",
        Object(&[
            ("closID", Plain),
            ("schemata", Plain),
            ("l3CacheSchema", Plain),
            ("memBwSchema", Plain),
            ("enableMonitoring", Plain),
            // Before 1.3.
            ("enableCMT", Plain),
            ("enableMBM", Plain),
        ]),
    ),
    ("memoryPolicy", Object(&[("mode", Plain), ("nodes", Plain), ("flags", Plain)])),
    ("personality", Object(&[("domain", Plain), ("flags", Plain)])),
]);

const SECCOMP: Kind = Object(&[
    ("defaultAction", Plain),
    ("defaultErrnoRet", Plain),
    ("architectures", Plain),
    ("flags", Plain),
    ("listenerPath", Plain),
    ("listenerMetadata", Plain),
    (
        "syscalls",
        List(&Object(&[
            ("names", Plain),
            ("action", Plain),
            ("errnoRet", Plain),
            ("args", List(&Object(&[("index", Plain), ("value", Plain), ("valueTwo", Plain), ("op", Plain)]))),
        ])),
    ),
]);

const RESOURCES: Kind = Object(&[
    (
        "devices",
        List(&Object(&[("allow", Plain), ("type", Plain), ("major", Plain), ("minor", Plain), ("access", Plain)])),
    ),
    (
        "memory",
        Object(&[
            ("limit", Plain),
            ("reservation", Plain),
            ("swap", Plain),
            ("kernel", Plain),
            ("kernelTCP", Plain),
            ("swappiness", Plain),
            ("disableOOMKiller", Plain),
            ("useHierarchy", Plain),
            ("checkBeforeUpdate", Plain),
        ]),
    ),
    (
        "cpu",
        Object(&[
            ("shares", Plain),
            ("quota", Plain),
            ("burst", Plain),
            ("period", Plain),
            ("realtimeRuntime", Plain),
            ("realtimePeriod", Plain),
            ("cpus", Plain),
            ("mems", Plain),
            ("idle", Plain),
        ]),
    ),
    ("pids", Object(&[("limit", Plain)])),
    (
        "blockIO",
        Object(&[
            ("weight", Plain),
            ("leafWeight", Plain),
            (
                "weightDevice",
                List(&Object(&[("major", Plain), ("minor", Plain), ("weight", Plain), ("leafWeight", Plain)])),
            ),
            ("throttleReadBpsDevice", List(&THROTTLE)),
            ("throttleWriteBpsDevice", List(&THROTTLE)),
            ("throttleReadIOPSDevice", List(&THROTTLE)),
            ("throttleWriteIOPSDevice", List(&THROTTLE)),
        ]),
    ),
    ("hugepageLimits", List(&Object(&[("pageSize", Plain), ("limit", Plain)]))),
    ("network", Object(&[("classID", Plain), ("priorities", List(&Object(&[("name", Plain), ("priority", Plain)])))])),
    ("rdma", Named(&Object(&[("hcaHandles", Plain), ("hcaObjects", Plain)]))),
    ("unified", Named(&Plain)),
]);

const THROTTLE: Kind = Object(&[("major", Plain), ("minor", Plain), ("rate", Plain)]);
