//! The guard: what of a container is still there, found without asking the runtime.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::look;

/// By what a container's remains are known.
pub(crate) struct Marks<'a> {
    /// In cgroup names, command lines, environments and mount points.
    pub(crate) id: &'a str,
    /// The test's directory, with bundle and rootfs: nothing may be mounted below it, no process live in it.
    pub(crate) dir: &'a Path,
    /// The runtime's `--root`, private to the test.
    pub(crate) root: &'a Path,
    /// Each runtime process that was started leads a process group; what it forks is in there until it calls setsid.
    pub(crate) groups: &'a [u32],
}

/// What is left of a container. Empty is what every test ends with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) processes: Vec<(u32, String)>,
    pub(crate) cgroups: Vec<PathBuf>,
    pub(crate) mounts: Vec<String>,
    pub(crate) states: Vec<PathBuf>,
}

impl Left {
    pub(crate) fn behind(marks: &Marks<'_>) -> Left {
        Left {
            processes: processes(marks),
            cgroups: cgroups(marks.id),
            mounts: mounts(marks),
            states: states(marks.root),
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        *self == Left::default()
    }

    /// Processes, cgroups, mounts, state entries.
    pub(crate) fn count(&self) -> [usize; 4] {
        [self.processes.len(), self.cgroups.len(), self.mounts.len(), self.states.len()]
    }
}

fn processes(marks: &Marks<'_>) -> Vec<(u32, String)> {
    let own = std::process::id();
    let mut found = Vec::new();
    for p in look::processes() {
        // A zombie holds nothing; it is the reaper's to collect, and that is us.
        if p.pid == own || p.state == 'Z' || p.state == 'X' {
            continue;
        }
        let dir = marks.dir.to_string_lossy();
        let link = |name: &str| fs::read_link(format!("/proc/{}/{name}", p.pid)).unwrap_or_default();
        let file = |name: &str| {
            String::from_utf8_lossy(&fs::read(format!("/proc/{}/{name}", p.pid)).unwrap_or_default()).replace('\0', " ")
        };
        let line = file("cmdline");
        let why = if marks.groups.contains(&p.group) || marks.groups.contains(&p.session) {
            "process group"
        } else if line.contains(marks.id) {
            "command line"
        } else if file("cgroup").contains(marks.id) {
            "cgroup"
        } else if file("environ").contains(marks.id) {
            "environment"
        } else if ["exe", "root", "cwd"].iter().any(|l| link(l).to_string_lossy().starts_with(dir.as_ref())) {
            "path"
        } else {
            continue;
        };
        found.push((p.pid, format!("state {}, parent {}, known by its {why}: {line}", p.state, p.parent)));
    }
    found
}

/// Every cgroup, in every mounted hierarchy, with `id` in its name; children before their parents.
pub(crate) fn cgroups(id: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, id: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                walk(&entry.path(), id, found);
                if entry.path().to_string_lossy().contains(id) {
                    found.push(entry.path());
                }
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), id, &mut found);
    found
}

fn mounts(marks: &Marks<'_>) -> Vec<String> {
    let dir = marks.dir.to_string_lossy();
    look::mounts("self")
        .into_iter()
        .filter(|m| m.point.starts_with(dir.as_ref()) || m.point.contains(marks.id) || m.root.contains(marks.id))
        .map(|m| m.point)
        .collect()
}

fn states(root: &Path) -> Vec<PathBuf> {
    fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path()).collect()
}
