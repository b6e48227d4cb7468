//! Eyes outside the container: /proc/PID, mountinfo, cgroupfs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One line of a mountinfo file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) id: u32,
    pub(crate) parent: u32,
    pub(crate) dev: String,
    pub(crate) root: String,
    pub(crate) point: String,
    pub(crate) options: Vec<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) super_options: Vec<String>,
}

impl Mount {
    fn parse(line: &str) -> Mount {
        let (left, right) = line.split_once(" - ").expect("mountinfo separator");
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let list = |s: &str| s.split(',').map(str::to_owned).collect();
        Mount {
            id: left[0].parse().expect("mount id"),
            parent: left[1].parse().expect("parent id"),
            dev: left[2].to_owned(),
            root: left[3].to_owned(),
            point: left[4].to_owned(),
            options: list(left[5]),
            tags: left[6..].iter().map(|s| s.to_string()).collect(),
            kind: right[0].to_owned(),
            source: right[1].to_owned(),
            super_options: list(right.get(2).copied().unwrap_or("")),
        }
    }

    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    /// The peer group number behind `shared:` or `master:`.
    pub(crate) fn tag(&self, name: &str) -> Option<u32> {
        self.tags.iter().find_map(|t| t.strip_prefix(name)?.strip_prefix(':')?.parse().ok())
    }
}

/// The mount table that a process sees; `who` is a pid or "self".
pub(crate) fn mounts(who: impl std::fmt::Display) -> Vec<Mount> {
    let text = fs::read_to_string(format!("/proc/{who}/mountinfo")).expect("mountinfo");
    text.lines().map(Mount::parse).collect()
}

/// The topmost mount at `point`.
pub(crate) fn mount_at(mounts: &[Mount], point: &str) -> Mount {
    let found = mounts.iter().rev().find(|m| m.point == point);
    found.unwrap_or_else(|| panic!("nothing is mounted at {point}: {mounts:#?}")).clone()
}

/// The mount that `path` lies on.
pub(crate) fn mount_of(mounts: &[Mount], path: &Path) -> Mount {
    let above = mounts.iter().filter(|m| path.starts_with(&m.point));
    above.max_by_key(|m| m.point.len()).expect("the root").clone()
}

/// A mount table with everything taken out that differs between two equal containers: mount IDs (the parent's mount
/// point stands for it), peer group numbers (in order of appearance) and minor numbers of anonymous devices.
pub(crate) fn normalised(pid: u32) -> Vec<String> {
    let table = mounts(pid);
    let point_of: BTreeMap<u32, &str> = table.iter().map(|m| (m.id, m.point.as_str())).collect();
    let mut by_point: Vec<&Mount> = table.iter().collect();
    // Stable: mounts stacked on one point keep their order, which decides what is seen.
    by_point.sort_by(|a, b| a.point.cmp(&b.point));
    let mut groups = Vec::new();
    let number_of = |seen: &mut Vec<String>, name: &str| match seen.iter().position(|s| s == name) {
        Some(n) => n,
        None => {
            seen.push(name.to_owned());
            seen.len() - 1
        }
    };
    let mut lines = Vec::new();
    for m in by_point {
        let parent = point_of.get(&m.parent).copied().unwrap_or("outside");
        let dev = if m.dev.starts_with("0:") { "0:#" } else { &m.dev };
        let tags: Vec<String> = m
            .tags
            .iter()
            .map(|t| match t.split_once(':') {
                Some((name, group)) => format!("{name}:#{}", number_of(&mut groups, group)),
                None => t.clone(),
            })
            .collect();
        lines.push(format!(
            "{} on {parent}: {} from {} {} {} {:?} {} {:?}",
            m.point,
            m.kind,
            m.source,
            m.root,
            dev,
            m.options,
            tags.join(" "),
            m.super_options
        ));
    }
    lines
}

/// /proc/PID/status.
pub(crate) fn status(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    text.lines().filter_map(|l| l.split_once(':')).map(|(k, v)| (k.to_owned(), v.trim().to_owned())).collect()
}

/// A capability or signal mask of /proc/PID/status.
pub(crate) fn mask(pid: u32, field: &str) -> u64 {
    u64::from_str_radix(&status(pid)[field], 16).expect("mask")
}

/// The words of a field of /proc/PID/status.
pub(crate) fn words(pid: u32, field: &str) -> Vec<String> {
    status(pid)[field].split_whitespace().map(str::to_owned).collect()
}

/// A namespace's identity, as `net:[4026531840]`; `who` is a pid or "self".
pub(crate) fn namespace(who: impl std::fmt::Display, kind: &str) -> String {
    let link = fs::read_link(format!("/proc/{who}/ns/{kind}")).expect("namespace link");
    link.to_string_lossy().into_owned()
}

/// A NUL-separated file of /proc/PID: `cmdline`, `environ`.
pub(crate) fn strings(pid: u32, file: &str) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// A path inside the container, followed from outside through its own mounts.
pub(crate) fn inside(pid: u32, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root{path}"))
}

/// The open descriptors of a process and what they point to.
pub(crate) fn descriptors(pid: u32) -> BTreeMap<u32, String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("fd directory");
    entries
        .filter_map(|e| {
            let e = e.ok()?;
            let target = fs::read_link(e.path()).ok()?;
            Some((e.file_name().to_string_lossy().parse().ok()?, target.to_string_lossy().into_owned()))
        })
        .collect()
}

/// A row of /proc/PID/limits: soft and hard.
pub(crate) fn limit(pid: u32, name: &str) -> (String, String) {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let row = text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("no limit {name}"));
    let mut words = row.split_whitespace().map(str::to_owned);
    (words.next().expect("soft"), words.next().expect("hard"))
}

/// Every process.
pub(crate) fn processes() -> Vec<Process> {
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    pids.filter_map(|e| process(e.file_name().to_string_lossy().parse().ok()?)).collect()
}

/// The fields of a process's stat line after the command.
pub(crate) fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |n: usize| fields[n].parse().unwrap_or(0);
    let state = fields[0].chars().next().unwrap_or('?');
    Some(Process { pid, state, parent: number(1), group: number(2), session: number(3) })
}

#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) state: char,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    pub(crate) session: u32,
}

/// Every cgroup hierarchy that is mounted: the controllers' names ("" for v2) and the mount point.
pub(crate) fn hierarchies() -> Vec<(String, PathBuf)> {
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    for m in mounts("self") {
        match m.kind.as_str() {
            "cgroup2" => found.push((String::new(), m.point.into())),
            "cgroup" => {
                let skip = ["rw", "ro", "xattr", "noprefix", "clone_children"];
                let names: Vec<&str> =
                    m.super_options.iter().map(String::as_str).filter(|o| !skip.contains(o)).collect();
                found.push((names.join(","), m.point.into()));
            }
            _ => {}
        }
    }
    found
}

/// The mount point of the v1 hierarchy of a controller, if there is one.
pub(crate) fn v1(controller: &str) -> Option<PathBuf> {
    hierarchies().into_iter().find(|(names, _)| names.split(',').any(|n| n == controller)).map(|(_, point)| point)
}

/// The mount point of the v2 hierarchy, if there is one.
pub(crate) fn v2() -> Option<PathBuf> {
    hierarchies().into_iter().find(|(names, _)| names.is_empty()).map(|(_, point)| point)
}

/// Whether every one of these controllers is to be had, on v1 or on v2.
pub(crate) fn has_controllers(controllers: &[&str]) -> bool {
    let v2 = v2().map(|p| value(p.join("cgroup.controllers"))).unwrap_or_default();
    controllers.iter().all(|c| v1(c).is_some() || v2.split(' ').any(|v| v == *c))
}

/// A file of a container's cgroup: of a v1 controller, or the one that stands for it on v2.
pub(crate) fn cgroup_file(id: &str, controller: &str, v1_file: &str, v2_file: &str) -> String {
    match v1(controller) {
        Some(point) => value(point.join(id).join(v1_file)),
        None => value(v2().expect("cgroup2").join(id).join(v2_file)),
    }
}

/// /proc/PID/cgroup: the path by the hierarchy's controllers ("" for v2; "name=x" for a named one).
pub(crate) fn cgroups(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup");
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        found.insert(parts.next().expect("controllers").to_owned(), parts.next().expect("path").to_owned());
    }
    found
}

/// A file's content without the newline at its end.
pub(crate) fn value(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim_end().to_owned()
}

/// Whether this kernel maps the IDs of a tmpfs: Linux 6.3.
pub(crate) fn maps_ids_of_a_tmpfs() -> bool {
    kernel() >= (6, 3)
}

/// The kernel's version, as far as it tells what there is.
pub(crate) fn kernel() -> (u32, u32) {
    let release = value("/proc/sys/kernel/osrelease");
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().expect("a kernel's release"));
    (parts.next().unwrap(), parts.next().unwrap())
}

/// mount_setattr(2) came with Linux 5.12.
pub(crate) fn has_mount_setattr() -> bool {
    kernel() >= (5, 12)
}
