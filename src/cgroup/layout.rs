//! Which cgroup hierarchies this machine has, and where a container's directories go in them.

use std::path::{Component, Path, PathBuf};

use rustix::fs::StatFs;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::dir::Dir;
use super::processes;
use super::record::{CgroupRecord, RecordDir};
use crate::error::{Error, Result};
use crate::mountinfo::{Mount, unescape};
use crate::procfs::Proc;

/// Where every distribution mounts cgroups.
const ROOT: &str = "/sys/fs/cgroup";
/// `statfs.f_type` of the two versions; see statfs(2).
const CGROUP_SUPER_MAGIC: i64 = 0x27e0eb;
const CGROUP2_SUPER_MAGIC: i64 = 0x63677270;

/// How the cgroup hierarchies are laid out; see cgroups(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// Version 1 only.
    V1,
    /// Version 1, with a version 2 hierarchy at `/sys/fs/cgroup/unified`.
    Hybrid,
    /// Version 2 only.
    V2,
    /// No cgroups are mounted.
    #[default]
    None,
}

impl Layout {
    /// Why a container that was to have a cgroup has none, and how to get one.
    pub(crate) fn why_none(self) -> &'static str {
        match self {
            Layout::V1 | Layout::Hybrid => "only root can make one in v1 hierarchies; see `tandem doctor`",
            Layout::V2 => {
                "this user can make none here: tandem's --systemd-cgroup in a systemd session has one made; see `tandem doctor`"
            }
            Layout::None => "no cgroup hierarchies are mounted here",
        }
    }
}

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hierarchy {
    /// Its mount point.
    mount: String,
    /// Its v1 controllers, or its `name=`; empty for v2.
    controllers: Vec<String>,
    /// The runtime's own cgroup in it; `None` until asked for.
    own: Option<String>,
    /// Whether it is of version 2.
    unified: bool,
}

/// The hierarchies a container's cgroups are made in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hierarchies {
    layout: Layout,
    list: Vec<Hierarchy>,
}

/// A line of /proc/self/cgroup.
struct Membership<'a> {
    controllers: &'a str,
    path: &'a str,
}

impl Hierarchies {
    /// Finds the hierarchies: from the file system types at the usual places and /proc/self/cgroup, and only where
    /// a v1 controller is somewhere else from /proc/self/mountinfo, which is slow on a machine with many mounts.
    pub(crate) fn detect(proc: &Proc) -> Result<Hierarchies> {
        if kind(ROOT)? == Some(true) {
            let unified = Hierarchy { mount: ROOT.into(), controllers: Vec::new(), own: None, unified: true };
            return Ok(Hierarchies { layout: Layout::V2, list: vec![unified] });
        }
        let memberships = proc.read("self/cgroup")?;
        let mut mountinfo = None;
        let mut list = Vec::new();
        let mut unified = None;
        for line in memberships.lines() {
            let Some(Membership { controllers, path }) = membership(line) else {
                continue;
            };
            if controllers.is_empty() {
                let mount = format!("{ROOT}/unified");
                if kind(&mount)? == Some(true) {
                    unified = Some(Hierarchy { mount, controllers: Vec::new(), own: Some(path.into()), unified: true });
                }
                continue;
            }
            if let Some(mount) = v1_mount(controllers, proc, &mut mountinfo)? {
                let controllers = controllers.split(',').map(str::to_owned).collect();
                list.push(Hierarchy { mount, controllers, own: Some(path.into()), unified: false });
            }
        }
        let layout = match (list.is_empty(), &unified) {
            (true, None) => Layout::None,
            (true, Some(_)) => Layout::V2,
            (false, None) => Layout::V1,
            (false, Some(_)) => Layout::Hybrid,
        };
        // Last: a process joins it by being cloned into it, after the others are prepared.
        list.extend(unified);
        Ok(Hierarchies { layout, list })
    }

    /// How the machine is laid out.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The v1 hierarchies by their controllers (`["cpu", "cpuacct"]`, `["name=systemd"]`), in the order in which
    /// `Hierarchies::record` lists their directories.
    pub fn v1_controllers(&self) -> Vec<Vec<String>> {
        self.list.iter().filter(|hierarchy| !hierarchy.unified).map(|hierarchy| hierarchy.controllers.clone()).collect()
    }

    /// The runtime's own cgroup in the v1 hierarchy of a controller.
    pub(crate) fn own_dir(&self, controller: &str, proc: &Proc) -> Option<PathBuf> {
        let hierarchy = self.list.iter().find(|h| !h.unified && h.controllers.iter().any(|c| c == controller))?;
        let own = hierarchy.base(self.layout, proc).ok()?;
        Some(format!("{}{own}", hierarchy.mount).into())
    }

    /// Where containers' cgroups go if nothing else is asked for, with the controllers of each hierarchy: its top for the
    /// machine's root, beside the runtime's own for others.
    ///
    /// # Errors
    /// A `/proc/self` that can't be read.
    pub(crate) fn places(&self, machine_root: bool, proc: &Proc) -> Result<Vec<(Vec<String>, PathBuf)>> {
        let place = |hierarchy: &Hierarchy| {
            let base = if machine_root { String::new() } else { hierarchy.base(self.layout, proc)? };
            let path = PathBuf::from(format!("{}{base}", hierarchy.mount));
            let controllers = match hierarchy.unified {
                false => hierarchy.controllers.clone(),
                true => {
                    let list = std::fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
                    list.split_whitespace().map(str::to_owned).collect()
                }
            };
            Ok((controllers, path))
        };
        self.list.iter().map(place).collect()
    }

    /// What making a container's cgroup at `path` will make: to be stored before [`super::Cgroup::create`].
    ///
    /// An absolute path is below each hierarchy's mount point. A relative one is below the runtime's own cgroup; in
    /// a pure v2 layout below its parent, because a v2 cgroup that holds processes, as the runtime's own does, can't
    /// give controllers to its children ("no internal processes", Documentation/admin-guide/cgroup-v2.rst).
    ///
    /// A path that is another container's, with processes in it, is refused here, before anything is recorded.
    pub(crate) fn record(&self, path: &Path, proc: &Proc) -> Result<CgroupRecord> {
        let dirs = self.look(path, proc)?;
        dirs.iter().filter(|dir| dir.made == 0).try_for_each(|dir| refuse_if_used(&dir.full_path()))?;
        Ok(CgroupRecord { layout: self.layout, dirs, unit: None })
    }

    /// The directories that are there of a container's cgroup, whoever uses them: for one whose record is lost.
    pub(crate) fn find(&self, path: &Path, proc: &Proc) -> Result<CgroupRecord> {
        let there = self.look(path, proc)?.into_iter().filter(|dir| dir.made == 0);
        let dirs = there.map(|dir| RecordDir { made: 1, ..dir }).collect();
        Ok(CgroupRecord { layout: self.layout, dirs, unit: None })
    }

    /// The directories of a path, and how much of each is there already.
    fn look(&self, path: &Path, proc: &Proc) -> Result<Vec<RecordDir>> {
        let steps = steps(path)?.join("/");
        let look = |hierarchy: &Hierarchy| {
            let base = if path.is_absolute() { String::new() } else { hierarchy.base(self.layout, proc)? };
            hierarchy.look(&format!("{base}/{steps}"))
        };
        self.list.iter().map(look).collect()
    }

    /// The directories of a cgroup that systemd has made, at `path` below each mount point: with processes in them, and
    /// yet to be made in the hierarchies that systemd leaves alone.
    pub(super) fn dirs_at(&self, path: &str) -> Result<Vec<RecordDir>> {
        self.list.iter().map(|hierarchy| hierarchy.look(path)).collect()
    }
}

impl Hierarchy {
    /// The cgroup that relative paths start from, as a path below the mount point, empty for the mount point itself.
    fn base(&self, layout: Layout, proc: &Proc) -> Result<String> {
        let own = match &self.own {
            Some(own) => own.clone(),
            None => own_unified(&proc.read("self/cgroup")?)?,
        };
        // Seen from a cgroup namespace the runtime has left, its own cgroup starts with `/..`: out of reach.
        let own = if own == "/.." || own.starts_with("/../") { "/" } else { own.trim_end_matches('/') };
        if own.is_empty() || own == "/" {
            return Ok(String::new());
        }
        let own = match exists(&format!("{}{own}", self.mount))? {
            true => own.to_owned(),
            // In a container without a cgroup namespace the mount shows only a part of the hierarchy.
            false => within_mount(own, &self.mount, &proc.read("self/mountinfo")?),
        };
        Ok(match layout {
            Layout::V2 => own.rsplit_once('/').map_or(String::new(), |(parent, _)| parent.to_owned()),
            _ => own,
        })
    }

    /// The record of one directory: looks how much of the path is there already.
    fn look(&self, path: &str) -> Result<RecordDir> {
        let mut made = 0;
        let mut rest = path;
        while !rest.is_empty() && !exists(&format!("{}{rest}", self.mount))? {
            made += 1;
            rest = rest.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
        Ok(RecordDir {
            mount: self.mount.clone(),
            path: path.to_owned(),
            controllers: self.controllers.clone(),
            unified: self.unified,
            made,
        })
    }
}

/// Two containers in one cgroup would be stopped and deleted together.
pub(super) fn refuse_if_used(path: &str) -> Result<()> {
    let dir = match Dir::open(path) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(Error::call(format!("open `{path}`"), errno)),
    };
    let who = match processes::of(&dir)?.as_slice() {
        [] => return Ok(()),
        [one] => format!("process {one} is in it"),
        [one, two] => format!("processes {one} and {two} are in it"),
        [one, more @ ..] => format!("process {one} and {} more are in it", more.len()),
    };
    Err(Error::system(format!("cgroup `{path}` exists and is not empty: {who}"))
        .advise("choose another linux.cgroupsPath, or end what runs there"))
}

/// Refuses a path that leads to no cgroup of a container's own.
pub(crate) fn check_path(path: &Path) -> Result<()> {
    steps(path).map(drop).map_err(|error| error.about("linux.cgroupsPath"))
}

/// The components of a cgroup path, which must lead downwards.
pub(super) fn steps(path: &Path) -> Result<Vec<&str>> {
    let shown = path.display();
    let mut steps = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(step) => match step.to_str() {
                Some(step) if !step.chars().any(char::is_control) => steps.push(step),
                _ => {
                    return Err(Error::config(format!("linux.cgroupsPath: `{shown}` holds unprintable bytes")));
                }
            },
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::config(format!("linux.cgroupsPath: `{shown}` holds `..`")));
            }
        }
    }
    match steps.is_empty() {
        true => Err(Error::config(format!("linux.cgroupsPath: `{shown}` is the root of the hierarchy"))),
        false => Ok(steps),
    }
}

/// What kind of file system is mounted at a path: `Some(true)` cgroup v2, `Some(false)` v1, `None` another or nothing.
fn kind(path: &str) -> Result<Option<bool>> {
    match rustix::fs::statfs(path) {
        Ok(stat) => Ok(version(&stat)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(None),
        Err(errno) => Err(Error::call(format!("statfs `{path}`"), errno)),
    }
}

/// The cgroup version of a file system, in the terms of [`kind`].
#[allow(clippy::unnecessary_cast)] // The field's type differs between architectures.
pub(super) fn version(stat: &StatFs) -> Option<bool> {
    match stat.f_type as i64 {
        CGROUP2_SUPER_MAGIC => Some(true),
        CGROUP_SUPER_MAGIC => Some(false),
        _ => None,
    }
}

fn exists(path: &str) -> Result<bool> {
    match rustix::fs::access(path, rustix::fs::Access::EXISTS) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(Error::call(format!("access `{path}`"), errno)),
    }
}

/// Splits `4:cpu,cpuacct:/path`. A controllers field may hold no colon, the path may.
fn membership(line: &str) -> Option<Membership<'_>> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Membership { controllers, path })
}

fn own_unified(text: &str) -> Result<String> {
    let line = text.lines().filter_map(membership).find(|line| line.controllers.is_empty());
    line.map(|line| line.path.to_owned())
        .ok_or_else(|| Error::system("/proc/self/cgroup has no line for the v2 hierarchy"))
}

/// Where a v1 hierarchy is mounted: under its controllers' names, or one of them (`cpu` for `cpu,cpuacct`), or, for
/// controllers, anywhere. A named hierarchy that is not at its usual place is nothing a container needs.
fn v1_mount(controllers: &str, proc: &Proc, mountinfo: &mut Option<String>) -> Result<Option<String>> {
    let whole = controllers.strip_prefix("name=").unwrap_or(controllers);
    let singles = controllers.split(',').filter(|single| *single != controllers);
    for name in std::iter::once(whole).chain(singles) {
        let mount = format!("{ROOT}/{name}");
        if kind(&mount)? == Some(false) {
            return Ok(Some(mount));
        }
    }
    if controllers.starts_with("name=") {
        return Ok(None);
    }
    if mountinfo.is_none() {
        *mountinfo = Some(proc.read("self/mountinfo")?);
    }
    Ok(mountinfo.as_deref().and_then(|text| find_v1_mount(text, controllers)))
}

/// The mount point of the v1 hierarchy that has these controllers among its super block options.
fn find_v1_mount(mountinfo: &str, controllers: &str) -> Option<String> {
    let mut mounts = Mount::all(mountinfo);
    let found = mounts.find(|mount| {
        let has = |wanted: &str| mount.super_options.split(',').any(|option| option == wanted);
        mount.fstype == "cgroup" && controllers.split(',').all(has)
    });
    found.map(|mount| mount.point)
}

/// The part of a cgroup path that a mount of a part of the hierarchy shows; empty if it shows none of it.
fn within_mount(own: &str, mount: &str, mountinfo: &str) -> String {
    // The last mount at a place is the one that is seen.
    let seen = Mount::all(mountinfo).rfind(|one| one.point == mount);
    match seen.map(|one| unescape(one.root)).as_deref().and_then(|root| own.strip_prefix(root)) {
        Some(rest) if rest.starts_with('/') => rest.to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_downwards() {
        assert_eq!(steps(Path::new("/a//./b/")).unwrap(), ["a", "b"]);
        assert_eq!(steps(Path::new("a:b")).unwrap(), ["a:b"]);
        for bad in ["", "/", ".", "..", "/a/../b", "a/..", "a\nb"] {
            let error = steps(Path::new(bad)).unwrap_err().to_string();
            assert!(error.starts_with("linux.cgroupsPath: "), "{error}");
        }
    }

    #[test]
    fn reads_memberships() {
        let line = membership("4:cpu,cpuacct:/a:b").unwrap();
        assert_eq!((line.controllers, line.path), ("cpu,cpuacct", "/a:b"));
        assert_eq!(own_unified("1:name=systemd:/x\n0::/y\n").unwrap(), "/y");
        assert!(membership("nonsense").is_none());
    }

    #[test]
    fn finds_mounts_in_unusual_places() {
        let text = "30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                    31 30 0:27 /docker/x /cg/my\\040cpu rw shared:9 - cgroup cgroup rw,cpuacct,cpu\n";
        assert_eq!(find_v1_mount(text, "cpu,cpuacct").as_deref(), Some("/cg/my cpu"));
        assert_eq!(find_v1_mount(text, "memory"), None);
        assert_eq!(within_mount("/docker/x/y", "/cg/my cpu", text), "/y");
        assert_eq!(within_mount("/docker/x", "/cg/my cpu", text), "");
        assert_eq!(within_mount("/docker/xy", "/cg/my cpu", text), "");
        assert_eq!(within_mount("/docker/x", "/elsewhere", text), "");
    }
}
