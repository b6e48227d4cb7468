//! Warnings about `linux` and `hooks`.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Hook, Linux, LinuxDeviceType, LinuxIdMapping, LinuxMemory, LinuxNamespaceType, LinuxResources, LinuxSeccomp,
    LinuxSeccompAction, LinuxSeccompFilterFlag, Spec,
};

use super::process::{has_user_namespace, is_runnable};
use super::rootfs::View;
use super::{Finding, Subject};
use crate::cgroup::allows;
use crate::error::member;
use crate::plan::devices::{self, NodeKind};
use crate::plan::findings::Findings;
use crate::plan::namespaces::joined_at;
use crate::plan::properties::path_of;
use crate::plan::resources::{DeviceKind, Resources};
use crate::plan::seccomp::unknown;

pub(super) fn warnings(subject: &Subject<'_>, view: &View) -> Vec<Finding> {
    let mut findings = hooks(subject.spec, view);
    let Some(linux) = subject.spec.linux() else { return findings };
    findings.extend(namespaces(linux));
    findings.extend(of_root(subject.spec));
    findings.extend(mappings(linux));
    findings.extend(sysctls(linux));
    findings.extend(cgroups_path(linux, subject.systemd));
    // What is left of rules with errors is not what was meant, and nothing is said of it.
    if !subject.refused.iter().any(|path| path.starts_with("linux.seccomp")) {
        findings.extend(linux.seccomp().iter().flat_map(seccomp));
    }
    findings.extend(forbidden_devices(linux));
    findings.extend(linux.resources().iter().flat_map(resources));
    findings
}

fn namespaces(linux: &Linux) -> Vec<Finding> {
    let paths = linux.namespaces().iter().flatten().enumerate();
    let paths = paths.filter_map(|(i, namespace)| Some((i, namespace.path().as_ref()?)));
    let missing = paths.filter(|(_, path)| path.is_absolute() && path.symlink_metadata().is_err_and(is_missing));
    missing
        .map(|(i, path)| {
            let message = format!("there is no `{}`", path.display());
            let advice = "a namespace that is joined must be there before the container is";
            Finding::warning(format!("linux.namespaces[{i}].path"), message, advice)
        })
        .collect()
}

/// For a user who has rights in a user namespace alone.
fn of_root(spec: &Spec) -> Option<Finding> {
    (!rustix::process::geteuid().is_root() && !has_user_namespace(spec)).then(|| {
        let message = "there is no user namespace, and only root can make a container without";
        Finding::warning("linux.namespaces", message, "add one, with mappings; `tandem spec --rootless` has an example")
    })
}

/// Mappings that are made up, and those of no user namespace.
fn mappings(linux: &Linux) -> Vec<Finding> {
    let namespaces = || linux.namespaces().iter().flatten().filter(|n| n.typ() == LinuxNamespaceType::User);
    let is_new = namespaces().any(|namespace| joined_at(namespace).is_none());
    let lists = [("linux.uidMappings", linux.uid_mappings()), ("linux.gidMappings", linux.gid_mappings())];
    let finding = |(property, lines): (&str, &Option<Vec<LinuxIdMapping>>)| {
        let empty = lines.as_ref().is_none_or(Vec::is_empty);
        if is_new && empty {
            let message = "there is none for the new user namespace: the process has the runtime's own ID, and what \
                           /etc/subuid and /etc/subgid give around it";
            return Some(Finding::warning(property, message, "say which IDs of the host it may have"));
        }
        (!empty && namespaces().next().is_none()).then(|| {
            let message = "there is no user namespace that it would map: it is passed over";
            Finding::warning(property, message, "add {\"type\": \"user\"} to `linux.namespaces`, or leave it out")
        })
    };
    lists.into_iter().filter_map(finding).collect()
}

/// Sysctls that this kernel does not have, or not until a module or a device of that name comes.
fn sysctls(linux: &Linux) -> Vec<Finding> {
    let top = Path::new("/proc/sys");
    let missing = |(name, _): (&String, &String)| {
        let path = path_of(name)?;
        let steps: Vec<&str> = path.split('/').collect();
        // Those of a network device, which will be another namespace's: every one has the same.
        let of_device = matches!(steps[..], ["net", "ipv4" | "ipv6" | "mpls", "conf" | "neigh", _, ..]);
        let step =
            |(i, step): (usize, &&str)| if of_device && i == 3 { "default".to_owned() } else { (*step).to_owned() };
        let here: PathBuf = steps.iter().enumerate().map(step).collect();
        top.join(here).symlink_metadata().is_err_and(is_missing).then(|| {
            let message = format!("this kernel has no /proc/sys/{path}");
            Finding::warning(member("linux.sysctl", name), message, "a typing mistake, or a module that is not loaded")
        })
    };
    let mut findings: Vec<Finding> = linux.sysctl().iter().flatten().filter_map(missing).collect();
    findings.sort_by(|a, b| a.path.cmp(&b.path));
    if top.is_dir() { findings } else { vec![] }
}

fn is_missing(error: std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

/// Of the form that the other cgroup manager takes.
fn cgroups_path(linux: &Linux, systemd: bool) -> Option<Finding> {
    let path = linux.cgroups_path().as_ref()?.to_str()?;
    let form = match path.split(':').count() {
        2 => "SLICE:NAME",
        3 => "SLICE:PREFIX:NAME",
        _ => return None,
    };
    let for_systemd = path.split(':').next().is_some_and(|slice| slice.ends_with(".slice"));
    (for_systemd && !systemd).then(|| {
        let message = format!("`{path}` is {form}, which would be the name of one directory");
        Finding::warning("linux.cgroupsPath", message, "call with --systemd-cgroup, or give a path")
    })
}

fn seccomp(seccomp: &LinuxSeccomp) -> Vec<Finding> {
    let mut findings = vec![];
    let allow = LinuxSeccompAction::ScmpActAllow;
    let rules = seccomp.syscalls().as_deref().unwrap_or_default();
    if seccomp.default_action() == allow && rules.iter().all(|rule| rule.action() == allow) {
        let message = "everything is allowed: there will be no filter at all";
        let advice = "SCMP_ACT_ERRNO refuses what no rule allows; or leave linux.seccomp out";
        findings.push(Finding::warning("linux.seccomp.defaultAction", message, advice));
    }
    let notifies = |action| action == LinuxSeccompAction::ScmpActNotify;
    let receiver = seccomp.listener_path().as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    if receiver && !notifies(seccomp.default_action()) && !rules.iter().any(|rule| notifies(rule.action())) {
        let message = "nothing is notified of: no listener is sent there";
        let advice = "give a rule SCMP_ACT_NOTIFY, or leave it out";
        findings.push(Finding::warning("linux.seccomp.listenerPath", message, advice));
    }
    let same = |rule: &&oci_spec::runtime::LinuxSyscall| {
        rule.action() == seccomp.default_action() && rule.errno_ret() == seccomp.default_errno_ret()
    };
    if seccomp.default_action() != allow {
        for (i, rule) in rules.iter().enumerate().filter(|(_, rule)| same(rule)) {
            let message = format!("{} is what happens by default", rule.action());
            let advice = "the rule changes nothing: leave it out, or give it another action";
            findings.push(Finding::warning(format!("linux.seccomp.syscalls[{i}].action"), message, advice));
        }
    }
    findings.extend(
        [("execve", "no program starts"), ("exit_group", "no program ends by itself")].into_iter().filter_map(
            |(call, what)| {
                forbidden(seccomp, call).map(|(path, action)| {
                    let message = format!("`{call}` is answered with {action}: {what}");
                    Finding::warning(
                        path,
                        message,
                        format!("allow it: {{\"names\": [\"{call}\"], \"action\": \"SCMP_ACT_ALLOW\"}}"),
                    )
                })
            },
        ),
    );
    for (path, name) in unknown(seccomp) {
        let message = format!("libseccomp knows no system call `{name}`: the rule leaves it out");
        let advice = "a typing mistake, or newer than this runtime, or another architecture's";
        findings.push(Finding::warning(path, message, advice));
    }
    let flags = seccomp.flags().as_deref().unwrap_or_default();
    let tsync = LinuxSeccompFilterFlag::SeccompFilterFlagTsync;
    if let Some(i) = flags.iter().position(|flag| *flag == tsync)
        && rules.iter().any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify)
    {
        let message = "the kernel takes no SECCOMP_FILTER_FLAG_TSYNC with a listener: it is left out";
        findings.push(Finding::warning(format!("linux.seccomp.flags[{i}]"), message, "leave it out"));
    }
    findings
}

/// Where a call is refused, whatever its arguments, and by which action.
fn forbidden(seccomp: &LinuxSeccomp, call: &str) -> Option<(String, LinuxSeccompAction)> {
    use LinuxSeccompAction as Action;
    let rules = seccomp.syscalls().iter().flatten().enumerate();
    let mut about = rules.filter(|(_, rule)| rule.names().iter().any(|name| name == call));
    // Of several, or with conditions, it depends.
    let (path, action) = match (about.next(), about.next()) {
        (None, _) => ("linux.seccomp.defaultAction".to_owned(), seccomp.default_action()),
        (Some((i, rule)), None) if rule.args().iter().flatten().next().is_none() => {
            (format!("linux.seccomp.syscalls[{i}].action"), rule.action())
        }
        _ => return None,
    };
    let refuses =
        !matches!(action, Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace | Action::ScmpActNotify);
    refuses.then_some((path, action))
}

/// Nodes that the device rules forbid to be opened.
fn forbidden_devices(linux: &Linux) -> Vec<Finding> {
    // What is wrong with them has been told.
    let mut told = Findings::default();
    let planned = devices::read(Some(linux), &mut told);
    // Without rules an engine may have left the matter to somebody else.
    let rules = linux.resources().as_ref().and_then(|resources| Resources::read(resources, &mut told).devices);
    let Some(rules) = rules else { return vec![] };
    let listed = linux.devices().iter().flatten().enumerate();
    let forbidden = listed.filter_map(|(i, device)| {
        let plan = planned.iter().find(|plan| plan.path == *device.path())?;
        let kind = match plan.kind {
            NodeKind::Character => DeviceKind::Char,
            NodeKind::Block => DeviceKind::Block,
            NodeKind::Fifo => return None,
        };
        let letter = if device.typ() == LinuxDeviceType::B { "b" } else { "c" };
        (!allows(&rules, kind, plan.major, plan.minor)).then(|| {
            let (path, major, minor) = (plan.path.display(), plan.major, plan.minor);
            let message = format!("linux.resources.devices lets nobody open `{path}` ({letter} {major}:{minor})");
            let advice = format!(
                "add {{\"allow\": true, \"type\": \"{letter}\", \"major\": {major}, \"minor\": {minor}, \"access\": \
                 \"rw\"}} there"
            );
            Finding::warning(format!("linux.devices[{i}]"), message, advice)
        })
    });
    forbidden.collect()
}

fn resources(resources: &LinuxResources) -> Vec<Finding> {
    let mut findings: Vec<Finding> = resources.memory().iter().flat_map(memory).collect();
    let cpus = resources.cpu().as_ref().and_then(|cpu| cpu.cpus().as_ref());
    findings.extend(cpus.and_then(|cpus| absent(cpus)));
    if resources.pids().as_ref().is_some_and(|pids| pids.limit() == 0) {
        let message = "0 is no limit, as it was until version 1.3 of the specification";
        findings.push(Finding::warning("linux.resources.pids.limit", message, "-1 says so, 1 is the least limit"));
    }
    findings
}

/// CPUs beyond those of this host.
fn absent(cpus: &str) -> Option<Finding> {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    let last = |list: &str| list.split([',', '-']).filter_map(|number| number.trim().parse::<u32>().ok()).max();
    (last(cpus)? > last(&online)?).then(|| {
        let message = format!("`{cpus}` has more CPUs than are online here, {}", online.trim());
        Finding::warning("linux.resources.cpu.cpus", message, "the kernel refuses them, or leaves them out")
    })
}

fn memory(memory: &LinuxMemory) -> Vec<Finding> {
    const PAGE: i64 = 4096;
    let at = |name: &str| format!("linux.resources.memory.{name}");
    let mut findings = vec![];
    let limit = memory.limit().filter(|limit| *limit > 0);
    if let Some(limit) = limit.filter(|limit| *limit < 256 * PAGE) {
        let message = format!("{limit} bytes are too few for any program to start");
        findings.push(Finding::warning(at("limit"), message, "it counts bytes, not KiB or MiB"));
    }
    if let (Some(limit), Some(reservation)) = (limit, memory.reservation())
        && reservation > limit
    {
        let message = format!("{reservation} is over the limit, {limit}: there will never be so much to reserve");
        findings.push(Finding::warning(at("reservation"), message, "lower it"));
    }
    #[allow(deprecated)]
    let ignored = [("kernel", memory.kernel().is_some()), ("useHierarchy", memory.use_hierarchy().is_some())];
    for (name, _) in ignored.into_iter().filter(|(_, set)| *set) {
        let message = "no supported kernel has it: it does nothing";
        findings.push(Finding::warning(at(name), message, "leave it out"));
    }
    findings
}

/// Programs of hooks that can't be run. Those of the container are looked for there.
fn hooks(spec: &Spec, view: &View) -> Vec<Finding> {
    let Some(hooks) = spec.hooks() else { return vec![] };
    #[allow(deprecated)]
    let lists = [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    let each = lists
        .into_iter()
        .flat_map(|(kind, list)| list.iter().flatten().enumerate().map(move |(i, hook)| (kind, i, hook)));
    each.filter_map(|(kind, i, hook)| {
        let why = if kind == "startContainer" { in_container(hook, view) } else { is_runnable(hook.path()) };
        let message = format!("`{}` {}", hook.path().display(), why?);
        let advice = if kind.starts_with("post") { "the hook will fail" } else { "the container can't be started so" };
        Some(Finding::warning(format!("hooks.{kind}[{i}].path"), message, advice))
    })
    .collect()
}

fn in_container(hook: &Hook, view: &View) -> Option<&'static str> {
    let seen = view.at(hook.path());
    match () {
        () if !hook.path().is_absolute() => None,
        () if seen.is_missing() => Some("is not there in the container"),
        () if matches!(seen, super::rootfs::Seen::Unknown) || seen.is_executable() => None,
        () => Some("is not executable"),
    }
}
