//! Which namespaces are made, which are joined, by whom and in which order.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespace, LinuxNamespaceType, Spec};
use serde::{Deserialize, Serialize};

use super::default_ids;
use super::findings::Findings;
use super::host::Host;
use super::time_offsets::TimeOffsets;
use crate::error::{Error, Result};
use crate::protocol::Forks;

/// `CLONE_NEW*` flags, as clone(2), unshare(2) and setns(2) take them.
pub mod flag {
    #![allow(missing_docs)]
    pub const TIME: u32 = 0x80;
    pub const MOUNT: u32 = 0x2_0000;
    pub const CGROUP: u32 = 0x200_0000;
    pub const UTS: u32 = 0x400_0000;
    pub const IPC: u32 = 0x800_0000;
    pub const USER: u32 = 0x1000_0000;
    pub const PID: u32 = 0x2000_0000;
    pub const NET: u32 = 0x4000_0000;
}

/// The name under `/proc/PID/ns` of the namespace with this flag.
pub fn proc_name(flag: u32) -> &'static str {
    match flag {
        flag::TIME => "time",
        flag::MOUNT => "mnt",
        flag::CGROUP => "cgroup",
        flag::UTS => "uts",
        flag::IPC => "ipc",
        flag::USER => "user",
        flag::PID => "pid",
        _ => "net",
    }
}

/// The names of several `CLONE_NEW*` flags, for people.
pub fn names(flags: u32) -> String {
    let all = [flag::USER, flag::MOUNT, flag::PID, flag::NET, flag::IPC, flag::UTS, flag::CGROUP, flag::TIME];
    let names: Vec<_> = all.into_iter().filter(|flag| flags & flag != 0).map(proc_name).collect();
    if names.is_empty() { "none".into() } else { names.join(" ") }
}

/// A namespace to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Join {
    /// Its `CLONE_NEW*` flag.
    pub flag: u32,
    /// Where it is.
    pub path: PathBuf,
}

/// What becomes of the eight namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Namespaces {
    /// All that are made, by whomever.
    pub new: u32,
    /// Made by clone3, with the child.
    pub at_clone: u32,
    /// Joined by the child, in this order.
    pub join: Vec<Join>,
    /// A pid namespace that the parent sets for its children before the clone, where the child can't wait with that.
    pub join_pid: Option<PathBuf>,
    /// The parent makes a time namespace for its children before the clone.
    pub time_by_parent: bool,
    /// The child's part.
    pub child: ChildNamespaces,
}

/// What the child does about namespaces after it has joined those that were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildNamespaces {
    /// The user namespace is made after the joins: one that is joined may belong to the host.
    pub late_userns: bool,
    /// Become root of the user namespace that was joined or made late.
    pub become_root: bool,
    /// The supplementary groups are not touched when it becomes root.
    pub keep_groups: bool,
    /// Made by the child.
    pub unshare: u32,
    /// The new time namespace's offsets, which its maker writes before a process enters it.
    pub time_offsets: Option<TimeOffsets>,
    /// A pid or time namespace is entered only by a new process.
    pub forks: Forks,
    /// The network namespace is new: its `lo` is brought up, as every runtime does.
    pub loopback: bool,
}

impl ChildNamespaces {
    /// By how much CLOCK_MONOTONIC is ahead of the host's once all of them are entered, in microseconds.
    pub(crate) fn ahead_us(&self) -> i64 {
        self.time_offsets.as_ref().map_or(0, |offsets| offsets.monotonic_us)
    }
}

/// One line of `/proc/PID/uid_map`; user_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdMap {
    /// First ID inside.
    pub container: u32,
    /// First ID outside.
    pub host: u32,
    /// How many.
    pub size: u32,
}

impl IdMap {
    /// What an ID inside is outside; None of one that the line is not about.
    pub(crate) fn outside(&self, id: u32) -> Option<u32> {
        let nth = id.checked_sub(self.container).filter(|nth| *nth < self.size)?;
        self.host.checked_add(nth)
    }

    /// The lines of a `/proc/PID/uid_map` or `gid_map`.
    pub(crate) fn lines(text: &str) -> Vec<IdMap> {
        let line = |line: &str| {
            let numbers: Vec<u32> = line.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect();
            let [container, host, size] = numbers[..] else { return None };
            Some(IdMap { container, host, size })
        };
        text.lines().filter_map(line).collect()
    }
}

/// What an ID inside a user namespace is outside, by the line that has it.
pub(crate) fn outside(lines: &[IdMap], id: u32) -> Option<u32> {
    lines.iter().find_map(|line| line.outside(id))
}

/// The mappings of a new user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdMaps {
    /// User IDs.
    pub uid: Vec<IdMap>,
    /// Group IDs.
    pub gid: Vec<IdMap>,
}

/// The kernel's limit of lines in a map (since Linux 4.15).
const MAP_LINES: usize = 340;

impl Namespaces {
    /// Decides from `linux.namespaces`.
    ///
    /// # Errors
    /// A duplicate type, a relative path, or offsets without a time namespace.
    pub fn from_spec(linux: &Linux, host: &Host) -> Result<Namespaces> {
        Findings::first(|findings| Namespaces::read(linux, host, findings))
    }

    /// The same, with all that is wrong.
    pub(super) fn read(linux: &Linux, host: &Host, findings: &mut Findings) -> Namespaces {
        let (new, joins) = requested(linux, findings);
        let offsets = TimeOffsets::read(linux, new, findings);
        let joins_user = joins.iter().any(|j| j.flag == flag::USER);
        let makes_user = new & flag::USER != 0;
        // With a user namespace in play and others joined, joins come first, in the child: what is joined may belong to
        // the host, and the new user namespace has no rights over it.
        let late = joins_user || (makes_user && !joins.is_empty());
        let mut plan = Namespaces { new, ..Namespaces::default() };
        let joins_pid = joins.iter().any(|j| j.flag == flag::PID);
        // The cgroup namespace's root is the cgroup of whoever makes it: that must be the child, in its own cgroup.
        // The root of mqueue belongs to whoever makes the ipc namespace: that must be the user namespace's root.
        let by_child = new & if makes_user { flag::CGROUP | flag::IPC } else { flag::CGROUP };
        if late {
            plan.child.late_userns = makes_user;
            plan.child.become_root = true;
            plan.child.unshare = new & !flag::USER;
            // Who is in a user namespace that is joined may look at nothing of a process that is not dumpable and whose image was
            // executed outside of it (ptrace(2)); who is in a pid namespace of others may.
            plan.child.forks = match (joins_pid, joins_user || new & flag::TIME != 0) {
                (true, false) => Forks::Last,
                (true, true) => Forks::First,
                (false, _) if new & (flag::PID | flag::TIME) != 0 => Forks::First,
                (false, _) => Forks::Never,
            };
        } else {
            let time_late = makes_user && new & flag::TIME != 0;
            // A process in a new user namespace may make a time namespace there; then a pid namespace too must wait for
            // the fork that enters it.
            let waits = if time_late { flag::TIME | flag::PID } else { 0 };
            plan.time_by_parent = new & flag::TIME != 0 && !time_late;
            plan.at_clone = new & !(by_child | flag::TIME | waits);
            plan.child.unshare = by_child | (new & waits);
            // Who is in a pid namespace that is joined may have the rights to look at whatever this process holds.
            plan.child.forks = match (time_late, joins_pid) {
                (true, _) => Forks::First,
                (false, true) => Forks::Last,
                (false, false) => Forks::Never,
            };
        }
        plan.child.time_offsets = offsets;
        plan.child.loopback = new & flag::NET != 0;
        plan.join = joins;
        order_joins(&mut plan.join, host.root);
        plan
    }

    /// Whether the container has a user namespace other than the runtime's.
    pub fn has_user(&self) -> bool {
        self.new & flag::USER != 0 || self.join.iter().any(|j| j.flag == flag::USER)
    }

    /// Whether the container has its own namespace of this type, made or joined.
    pub fn has(&self, flag: u32) -> bool {
        self.new & flag != 0
            || self.join.iter().any(|j| j.flag == flag)
            || (flag == flag::PID && self.join_pid.is_some())
    }

    /// The child is born in the pid namespace that it would enter last: it has to mount a proc by mount(2), which shows the
    /// pid namespace of who mounts it.
    pub(super) fn born_in_joined_pid(&mut self) {
        let at = self.join.iter().position(|j| j.flag == flag::PID);
        if let Some(at) = at.filter(|_| self.child.forks == Forks::Last && !self.child.late_userns) {
            self.join_pid = Some(self.join.remove(at).path);
            self.child.forks = Forks::Never;
        }
    }

    /// Nobody makes this one with clone(2) or unshare(2): it comes about in another way.
    pub(super) fn leave_out(&mut self, flag: u32) {
        self.at_clone &= !flag;
        self.child.unshare &= !flag;
    }

    /// The flags of all namespaces that the container does not share with the runtime: what `exec` joins.
    pub fn all(&self) -> u32 {
        let joined = self.join.iter().fold(0, |flags, j| flags | j.flag);
        self.new | joined | if self.join_pid.is_some() { flag::PID } else { 0 }
    }
}

/// Who is privileged joins the user namespace last, while it still has its rights over the others; who is not gets
/// rights only by joining it.
fn order_joins(joins: &mut [Join], root: bool) {
    joins.sort_by_key(|j| match j.flag {
        flag::USER => 2 * usize::from(root),
        // The mount namespace after the rest: paths under /proc are opened before, but nothing should depend on it.
        flag::MOUNT if root => 1,
        flag::MOUNT => 3,
        _ if root => 0,
        _ => 1,
    });
}

fn requested(linux: &Linux, findings: &mut Findings) -> (u32, Vec<Join>) {
    let (mut seen, mut new, mut joins) = (0, 0, vec![]);
    for (i, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let flag = flag_of(namespace.typ());
        if seen & flag != 0 {
            let name = proc_name(flag);
            findings.add(Error::at(format!("linux.namespaces[{i}]"), format!("a second namespace of type `{name}`")));
            continue;
        }
        seen |= flag;
        let Some(path) = joined_at(namespace) else {
            new |= flag;
            continue;
        };
        if !path.is_absolute() {
            let why = format!("`{}` is not absolute", path.display());
            findings.add(Error::at(format!("linux.namespaces[{i}].path"), why));
        }
        joins.push(Join { flag, path: path.to_owned() });
    }
    (new, joins)
}

/// Where a namespace is that is joined; None for a new one.
pub(crate) fn joined_at(namespace: &LinuxNamespace) -> Option<&Path> {
    namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty())
}

/// The flag of a type of the specification.
pub fn flag_of(typ: LinuxNamespaceType) -> u32 {
    match typ {
        LinuxNamespaceType::Mount => flag::MOUNT,
        LinuxNamespaceType::Cgroup => flag::CGROUP,
        LinuxNamespaceType::Uts => flag::UTS,
        LinuxNamespaceType::Ipc => flag::IPC,
        LinuxNamespaceType::User => flag::USER,
        LinuxNamespaceType::Pid => flag::PID,
        LinuxNamespaceType::Network => flag::NET,
        LinuxNamespaceType::Time => flag::TIME,
    }
}

impl IdMaps {
    /// Reads `linux.uidMappings` and `linux.gidMappings`.
    ///
    /// # Errors
    /// Empty, overlapping or too many mappings.
    pub fn from_spec(linux: &Linux) -> Result<IdMaps> {
        Findings::first(|findings| IdMaps::read(linux, findings).unwrap_or_default())
    }

    /// The same, with all that is wrong; None if anything is.
    pub(super) fn read(linux: &Linux, findings: &mut Findings) -> Option<IdMaps> {
        let uid = findings.take(id_maps(linux.uid_mappings().as_deref(), "linux.uidMappings"));
        let gid = findings.take(id_maps(linux.gid_mappings().as_deref(), "linux.gidMappings"));
        uid.zip(gid).map(|(uid, gid)| IdMaps { uid, gid })
    }

    /// Those of a new user namespace; None without one. Engines repeat the mappings of a user namespace that is joined, and
    /// without any there is nothing to map: every runtime passes over them then.
    pub fn of_new(&self, namespaces: &Namespaces) -> Option<IdMaps> {
        (namespaces.new & flag::USER != 0).then(|| self.clone())
    }

    /// The same lines, and what a new user namespace has in place of those that are missing.
    pub(super) fn filled(mut self, namespaces: &Namespaces, spec: &Spec, host: &Host) -> IdMaps {
        if namespaces.new & flag::USER != 0 {
            default_ids::fill(&mut self, spec, host);
        }
        self
    }
}

pub(super) fn id_maps(mappings: Option<&[LinuxIdMapping]>, property: &str) -> Result<Vec<IdMap>> {
    let mappings = mappings.unwrap_or_default();
    if mappings.len() > MAP_LINES {
        let message = format!("`{property}` has {} lines; the kernel's limit is {MAP_LINES}", mappings.len());
        return Err(Error::config(message).about(property));
    }
    let mut maps = Vec::with_capacity(mappings.len());
    for (i, m) in mappings.iter().enumerate() {
        let map = IdMap { container: m.container_id(), host: m.host_id(), size: m.size() };
        let over = |first: u32| first.checked_add(map.size).is_none();
        if map.size == 0 || over(map.container) || over(map.host) {
            let why = format!("{} IDs from {} are out of range", map.size, map.host);
            return Err(Error::at(format!("{property}[{i}]"), why));
        }
        let meets = |a: u32, b: u32, size: u32| a < b + size && b < a + map.size;
        let both = |m: &&IdMap| meets(map.container, m.container, m.size) || meets(map.host, m.host, m.size);
        if let Some(other) = maps.iter().find(both) {
            let (first, size) = (other.container, other.size);
            let message = format!("`{property}[{i}]` overlaps with that of {size} IDs from {first}");
            return Err(Error::config(message).about(format!("{property}[{i}]")));
        }
        maps.push(map);
    }
    Ok(maps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(namespaces: &str, root: bool) -> Result<Namespaces> {
        let linux: Linux = serde_json::from_str(&format!(r#"{{"namespaces":{namespaces}}}"#)).unwrap();
        Namespaces::from_spec(&linux, &Host { root, ..Host::default() })
    }

    #[test]
    fn a_default_container_is_cloned_into_all_but_the_cgroup_namespace() {
        let types = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|t| format!(r#"{{"type":"{t}"}}"#));
        let plan = plan(&format!("[{}]", types.join(",")), true).unwrap();
        assert_eq!(plan.at_clone, flag::PID | flag::NET | flag::IPC | flag::UTS | flag::MOUNT);
        assert_eq!(plan.child.unshare, flag::CGROUP);
        assert!(plan.child.forks == Forks::Never && !plan.child.late_userns);
    }

    #[test]
    fn joins_before_a_new_user_namespace() {
        let plan = plan(r#"[{"type":"user"},{"type":"pid"},{"type":"network","path":"/n"}]"#, true).unwrap();
        assert_eq!(plan.at_clone, 0);
        assert!(plan.child.late_userns && plan.child.forks == Forks::First);
        assert_eq!(plan.child.unshare, flag::PID);
    }

    #[test]
    fn the_user_namespace_is_joined_last_by_root_and_first_by_others() {
        let spec = r#"[{"type":"user","path":"/u"},{"type":"network","path":"/n"},{"type":"mount","path":"/m"}]"#;
        let order = |root| plan(spec, root).unwrap().join.iter().map(|j| j.flag).collect::<Vec<_>>();
        assert_eq!(order(true), [flag::NET, flag::MOUNT, flag::USER]);
        assert_eq!(order(false), [flag::USER, flag::NET, flag::MOUNT]);
    }

    #[test]
    fn a_joined_pid_namespace_is_entered_last() {
        let mut plan = plan(r#"[{"type":"pid","path":"/p"},{"type":"mount"}]"#, true).unwrap();
        assert_eq!(plan.join, [Join { flag: flag::PID, path: "/p".into() }]);
        assert!(plan.child.forks == Forks::Last && plan.at_clone == flag::MOUNT && plan.has(flag::PID));
        // Without the calls for that, before the child is born.
        plan.born_in_joined_pid();
        assert_eq!(plan.join_pid.as_deref(), Some(std::path::Path::new("/p")));
        assert!(plan.child.forks == Forks::Never && plan.join.is_empty() && plan.has(flag::PID));
    }

    #[test]
    fn refuses_duplicates_and_relative_paths() {
        assert!(plan(r#"[{"type":"pid"},{"type":"pid"}]"#, true).is_err());
        assert!(plan(r#"[{"type":"pid","path":"proc/1/ns/pid"}]"#, true).is_err());
    }

    #[test]
    fn mappings_need_a_user_namespace_and_the_other_way_round() {
        let maps = r#","uidMappings":[{"containerID":0,"hostID":1,"size":9}],"gidMappings":[{"containerID":0,"hostID":1,"size":9}]"#;
        let check = |namespaces: &str, maps: &str| {
            let linux: Linux = serde_json::from_str(&format!(r#"{{"namespaces":{namespaces}{maps}}}"#)).unwrap();
            IdMaps::from_spec(&linux).unwrap().of_new(&Namespaces::from_spec(&linux, &Host::default()).unwrap())
        };
        assert!(check(r#"[{"type":"user"}]"#, maps).is_some());
        assert!(check(r#"[{"type":"user","path":"/u"}]"#, maps).is_none());
        assert!(check("[]", maps).is_none());
        assert!(check("[]", "").is_none());
    }
}
