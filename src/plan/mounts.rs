//! `mounts`: what is mounted where, in which way, and from which slot of the protocol.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use serde::{Deserialize, Serialize};

use super::cgroup_mount;
use super::findings::Findings;
use super::host::Host;
use super::idmapped::{self, Idmapped, OwnMaps};
use super::label::MountLabel;
use super::namespaces::{Namespaces, flag};
use super::options::{Attrs, Options, Propagation, attr, is_idle_for_bind};
use super::sources::{Source, Sources};
use super::strategy::{MountStrategy, names_host};
use crate::error::{Error, Result};

/// One entry of `mounts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPlan {
    /// In the container; absolute and without `.` or `..`.
    pub destination: PathBuf,
    /// A symlink as its last component is mounted on, not followed.
    pub nofollow: bool,
    /// What is mounted.
    pub what: What,
    /// Of this mount alone.
    pub attrs: Attrs,
    /// Of this mount and all below it.
    pub recursive_attrs: Attrs,
    /// With whether it is recursive.
    pub propagation: (Propagation, bool),
    /// A mount before it is shared: what is attached below that becomes so too, and its propagation is set afterwards.
    pub below_shared: bool,
}

impl MountPlan {
    /// Of a read-only file system on `/dev`: lets it be filled first. Returns whether it is one.
    pub(super) fn open_dev(&mut self) -> bool {
        let What::Filesystem(fs) = &mut self.what else { return false };
        let readonly = (self.attrs.set | self.recursive_attrs.set) & attr::RDONLY != 0;
        if self.destination != Path::new("/dev") || !readonly {
            return false;
        }
        self.attrs.set &= !attr::RDONLY;
        self.recursive_attrs.set &= !attr::RDONLY;
        fs.superblock.retain(|word| word != "ro");
        true
    }
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A tree of the host, from a slot.
    Bind(Bind),
    /// A new instance of a file system.
    Filesystem(Filesystem),
    /// A tmpfs with one directory a cgroup v1 hierarchy.
    CgroupV1(CgroupV1),
}

/// A tree of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// The slot that holds it.
    pub slot: u32,
    /// Its path on the host: for the path-based way, and for errors.
    pub source: PathBuf,
    /// With the mounts below it.
    pub recursive: bool,
    /// A symlink as the last component is the source itself.
    pub nofollow: bool,
    /// If the source is a symlink, make the same one and mount nothing.
    pub copy_symlink: bool,
    /// The parent maps its IDs: there is no path-based way.
    pub idmapped: bool,
}

/// A new instance of a file system; fsopen(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    /// As the kernel names it: a line of `/proc/filesystems`.
    pub fstype: String,
    /// What mountinfo shows as its source.
    pub source: String,
    /// Superblock flags by name.
    pub superblock: Vec<String>,
    /// File-system data.
    pub data: Vec<(String, Option<String>)>,
    /// The SELinux label that its root gets once it is made.
    pub root_label: Option<String>,
    /// Copy what the destination holds into it.
    pub tmpcopyup: bool,
    /// The slot with an instance that the parent has made.
    pub instance: Option<u32>,
    /// The parent maps its IDs: no other instance will do.
    pub idmapped: bool,
    /// Where the kernel refuses a new instance to a user namespace (EPERM): bind the host's instead.
    pub or_bind: Option<Bind>,
}

impl Filesystem {
    /// A file system with nothing but a mode, and an SELinux label for all that is in it.
    pub fn tmpfs(mode: Option<&str>, label: Option<&str>) -> Filesystem {
        let data = [("mode", mode), ("context", label)].into_iter();
        Filesystem {
            fstype: "tmpfs".into(),
            source: "tmpfs".into(),
            superblock: vec![],
            data: data.filter_map(|(key, value)| Some((key.into(), Some(value?.into())))).collect(),
            root_label: None,
            tmpcopyup: false,
            instance: None,
            idmapped: false,
            or_bind: None,
        }
    }

    /// Whether it begins empty, and can be written by whoever may mount it.
    pub(crate) fn is_memory(&self) -> bool {
        matches!(self.fstype.as_str(), "tmpfs" | "ramfs")
    }
}

/// A cgroup v1 mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupV1 {
    /// One a hierarchy.
    pub entries: Vec<CgroupEntry>,
}

/// One hierarchy of a cgroup v1 mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupEntry {
    /// Its directory's name: `cpu,cpuacct`, `systemd`.
    pub name: String,
    /// Its file-system data: `cpu,cpuacct`, `name=systemd`.
    pub data: String,
    /// Names that are links to it.
    pub links: Vec<String>,
    /// Without a cgroup namespace: the container's own directory, from a slot.
    pub bind: Option<Bind>,
}

/// What a mount is planned from beside its own entry.
pub(super) struct Surroundings<'a> {
    pub(super) bundle: &'a Path,
    pub(super) namespaces: &'a Namespaces,
    pub(super) host: &'a Host,
    pub(super) label: Option<MountLabel<'a>>,
    pub(super) strategy: &'a MountStrategy,
    pub(super) own_maps: &'a OwnMaps<'a>,
}

/// Plans all mounts; each source gets a slot.
pub(super) fn from_spec(spec: &Spec, around: &Surroundings<'_>, sources: &mut Sources) -> Result<Vec<MountPlan>> {
    Findings::first(|findings| read(spec, around, sources, findings))
}

/// The same, with all that is wrong.
pub(super) fn read(
    spec: &Spec,
    around: &Surroundings<'_>,
    sources: &mut Sources,
    findings: &mut Findings,
) -> Vec<MountPlan> {
    let mounts = spec.mounts().iter().flatten().enumerate();
    let mut shared = false;
    let plan = |(i, mount)| {
        let planned = one(mount, &format!("mounts[{i}]"), around, sources, findings);
        let planned = findings.take(planned)?;
        let below_shared = shared;
        shared |= planned.propagation.0 == Propagation::Shared;
        Some(MountPlan { below_shared, ..planned })
    };
    mounts.filter_map(plan).collect()
}

/// What is wrong in the options goes to the findings, all of it.
fn one(
    mount: &Mount,
    at: &str,
    around: &Surroundings<'_>,
    sources: &mut Sources,
    findings: &mut Findings,
) -> Result<MountPlan> {
    let options = Options::read(mount.options().as_deref().unwrap_or_default(), at, findings);
    let destination = destination(mount.destination(), at)?;
    let typ = mount.typ().as_deref().unwrap_or(if options.bind.is_some() { "bind" } else { "" });
    let (mut attrs, recursive_attrs) = (options.attrs, options.recursive_attrs);
    check(typ, &options, at, findings);
    let nofollow = options.destination_nofollow;
    let idmapped = idmapped::of_mount(mount, typ, &options, at, around)?;
    let propagation = options.propagation.unwrap_or((Propagation::Private, true));
    let what = match typ {
        _ if typ == "bind" || options.bind.is_some() => {
            What::Bind(bind(mount, &options, at, around, (sources, idmapped))?)
        }
        "" => {
            let message = format!("`{at}.type` is missing, and no option says `bind`");
            return Err(Error::config(message).about(format!("{at}.type")));
        }
        "cgroup" | "cgroup2" => cgroup_mount::plan(typ, mount, options, &mut attrs, around, sources),
        _ => What::Filesystem(filesystem(typ, mount, options, attrs, around, (sources, idmapped))),
    };
    // `rro` holds whatever is said without the `r`, before or after it: under every runtime it is made last.
    let attrs = attrs.but(recursive_attrs);
    Ok(MountPlan { destination, nofollow, what, attrs, recursive_attrs, propagation, below_shared: false })
}

/// Whether the kernel lets a user namespace mount a file system, `FS_USERNS_MOUNT` of linux/fs.h.
pub(crate) fn for_user_namespaces(fstype: &str) -> bool {
    const ALL: [&str; 13] = [
        "binder",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "devpts",
        "fuse",
        "mqueue",
        "overlay",
        "proc",
        "ramfs",
        "sysfs",
        "tmpfs",
    ];
    // What follows the dot is for the program that serves it.
    ALL.contains(&fstype.split('.').next().unwrap_or(fstype))
}

/// What an option can't mean here.
fn check(typ: &str, options: &Options, at: &str, findings: &mut Findings) {
    let mut refuse = |why: String| findings.add(Error::at(format!("{at}.options"), why));
    let binds = typ == "bind" || options.bind.is_some();
    if !binds && (options.source_nofollow || options.copy_symlink) {
        refuse("`src-nofollow` and `copy-symlink` are about the source of a bind mount".into());
    }
    if options.tmpcopyup && (options.bind.is_some() || typ != "tmpfs") {
        refuse("`tmpcopyup` is about a tmpfs".into());
    }
    for (key, value) in &options.data {
        match typ {
            _ if binds && is_idle_for_bind(key) => {}
            _ if binds => refuse(format!("`{key}` is no option of a bind mount")),
            // The kernel takes them from the machine's own mount alone (cgroup_namespaces(7)), and would keep them there.
            "cgroup" | "cgroup2" if cgroup_mount::OPTIONS.contains(&key.as_str()) => {}
            "cgroup" | "cgroup2" => refuse(format!("`{key}` is no option of a cgroup mount")),
            // Relative to what would depend on who makes it, and when.
            "overlay" if matches!(key.as_str(), "lowerdir" | "upperdir" | "workdir" | "lowerdir+" | "datadir+") => {
                let mut parts = value.iter().flat_map(|value| value.split(':')).filter(|part| !part.is_empty());
                if let Some(part) = parts.find(|part| !part.starts_with('/')) {
                    refuse(format!("`{key}`: `{part}` is not absolute"));
                }
            }
            _ => {}
        }
    }
}

/// A destination: taken as absolute, as every runtime does since the specification allowed relative ones.
pub(crate) fn destination(path: &Path, at: &str) -> Result<PathBuf> {
    if path.as_os_str().is_empty() {
        return Err(Error::config(format!("`{at}.destination` is empty")).about(format!("{at}.destination")));
    }
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    match clean.parent() {
        Some(_) => Ok(clean),
        None => Err(Error::at(format!("{at}.destination"), "a mount can't cover the root of the container")),
    }
}

fn bind(
    mount: &Mount,
    options: &Options,
    at: &str,
    around: &Surroundings<'_>,
    (sources, idmapped): (&mut Sources, Option<Idmapped>),
) -> Result<Bind> {
    let source = mount.source().as_ref().filter(|s| !s.as_os_str().is_empty());
    let missing = || Error::config(format!("`{at}.source` is missing: a bind mount needs one"));
    let source = source.ok_or_else(|| missing().about(format!("{at}.source")))?;
    let source = around.bundle.join(source);
    let recursive = options.bind.unwrap_or(false);
    let nofollow = options.source_nofollow || options.copy_symlink;
    let mapped = idmapped.is_some();
    let slot = sources.add(Source::Path { path: source.clone(), recursive, nofollow, idmapped });
    Ok(Bind { slot, source, recursive, nofollow, copy_symlink: options.copy_symlink, idmapped: mapped })
}

pub(super) fn filesystem(
    typ: &str,
    mount: &Mount,
    options: Options,
    attrs: Attrs,
    around: &Surroundings<'_>,
    (sources, idmapped): (&mut Sources, Option<Idmapped>),
) -> Filesystem {
    let superblock = options.superblock;
    let mut data = options.data;
    let own_ipc = around.namespaces.has(flag::IPC);
    let root_label = around.label.and_then(|label| label.put(typ, &mut data, in_userns(around), own_ipc));
    let source = mount.source().as_ref().and_then(|s| s.to_str()).unwrap_or(typ).to_owned();
    let tmpcopyup = options.tmpcopyup;
    let (fstype, mapped, instance, or_bind) = (typ.to_owned(), idmapped.is_some(), None, None);
    let mut fs =
        Filesystem { fstype, source, superblock, data, root_label, tmpcopyup, instance, idmapped: mapped, or_bind };
    // As mount(2) does: a new file system that is to be read-only is so in its superblock too. One that is filled first, by
    // its contents or the mount points of others, can be so in its mount alone.
    if options.attrs.set & attr::RDONLY != 0 && !fs.is_memory() {
        fs.superblock.push("ro".into());
    }
    if mapped || made_by_parent(typ, mount, around) {
        // What is filled first is made read-only when it is.
        let sealed = if tmpcopyup { attr::RDONLY } else { 0 };
        let attrs = Attrs { set: attrs.set & !sealed, ..attrs };
        fs.instance = Some(sources.add(Source::Instance { fs: fs.clone(), attrs, idmapped }));
    }
    fs.or_bind = refused_to_userns(typ, around).map(|path| host_tree(path, sources));
    fs
}

/// Whether the parent makes the instance: of what a user namespace may not make while nothing of its kind is visible, and
/// of what is made from the host's paths.
fn made_by_parent(typ: &str, mount: &Mount, around: &Surroundings<'_>) -> bool {
    let of = match typ {
        "proc" => flag::PID,
        "sysfs" => flag::NET,
        _ => return names_host(mount) && around.strategy.strategy.attaches() && around.strategy.late.is_none(),
    };
    around.strategy.instances_by_parent && around.namespaces.has(of)
}

fn in_userns(around: &Surroundings<'_>) -> bool {
    around.namespaces.has_user() || !around.host.initial_userns
}

/// The host's tree that stands in for a file system of which a user namespace may get no new instance.
fn refused_to_userns(typ: &str, around: &Surroundings<'_>) -> Option<&'static str> {
    let new = |flag| around.namespaces.new & flag != 0;
    match typ {
        _ if !in_userns(around) => None,
        // Who may mount them is decided by the owner of the namespace that they show.
        "proc" if !around.namespaces.has(flag::PID) => Some("/proc"),
        "sysfs" if !new(flag::NET) => Some("/sys"),
        "mqueue" if !new(flag::IPC) => Some("/dev/mqueue"),
        "cgroup2" if !new(flag::CGROUP) => cgroup_mount::of_host(around.host.cgroups.layout()),
        _ => None,
    }
}

/// Where the payload says that it is ready; runc's and crun's place for it.
const NOTIFY_DIRECTORY: &str = "/run/notify";
/// What tells it so.
pub(super) const NOTIFY_VARIABLE: &str = "NOTIFY_SOCKET=/run/notify/notify";

/// The directory with the socket on which the payload says that it is ready.
pub(super) fn notify(dir: &Path, sources: &mut Sources) -> MountPlan {
    let source = Source::Path { path: dir.into(), recursive: false, nofollow: true, idmapped: None };
    let slot = sources.add(source);
    let bind =
        Bind { slot, source: dir.into(), recursive: false, nofollow: true, copy_symlink: false, idmapped: false };
    MountPlan {
        destination: NOTIFY_DIRECTORY.into(),
        nofollow: false,
        what: What::Bind(bind),
        attrs: Attrs { set: attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC, clear: 0 },
        recursive_attrs: Attrs::default(),
        propagation: (Propagation::Private, true),
        below_shared: false,
    }
}

pub(super) fn host_tree(path: &str, sources: &mut Sources) -> Bind {
    let slot = sources.add(Source::tree(path));
    Bind { slot, source: path.into(), recursive: true, nofollow: false, copy_symlink: false, idmapped: false }
}
