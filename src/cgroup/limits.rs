//! Limits: which hierarchy each belongs to, and the writing of them.

use rustix::io::Errno;

use super::Cgroup;
use super::dir::Dir;
use super::layout::Layout;
use super::{controllers, v1, v2};
use crate::error::{Error, Result};
use crate::plan::resources::{Cpu, Resources};

/// One value on its way into a cgroup file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Write {
    /// The limit, for messages: `pids limit`.
    pub(super) what: &'static str,
    /// Files and what to write to them: the first that exists is the one.
    pub(super) files: Vec<(String, String)>,
    /// Whether a kernel without the file does what is asked anyway.
    pub(super) may_lack: bool,
    /// Whether EINVAL may come from another limit that is yet to be written: it is then tried again at the end.
    pub(super) later: bool,
}

impl Write {
    /// A write that must succeed.
    pub(super) fn new(what: &'static str, file: impl Into<String>, value: impl ToString) -> Write {
        Write { what, files: vec![(file.into(), value.to_string())], may_lack: false, later: false }
    }

    /// With a file that is written where the first doesn't exist.
    pub(super) fn or(mut self, file: impl Into<String>, value: impl ToString) -> Write {
        self.files.push((file.into(), value.to_string()));
        self
    }

    /// See [`Write::may_lack`].
    pub(super) fn may_lack(mut self, may: bool) -> Write {
        self.may_lack = may;
        self
    }

    /// See [`Write::later`].
    pub(super) fn later(mut self) -> Write {
        self.later = true;
        self
    }

    fn run(&self, dir: &Dir) -> Result<()> {
        if self.try_files(dir)? || (controllers::settle(dir) && self.try_files(dir)?) || self.may_lack {
            return Ok(());
        }
        // Not the kernel's words: engines read "No such file or directory" as a missing executable.
        let files: Vec<_> = self.files.iter().map(|(file, _)| format!("`{file}`")).collect();
        let message = format!("`{}` has no {}: the kernel lacks this limit", dir.path(), files.join(" or "));
        Err(Error::system(message).context(format!("set {}", self.what)))
    }

    /// Writes the first file that is there, if one is.
    fn try_files(&self, dir: &Dir) -> Result<bool> {
        for (file, value) in &self.files {
            match dir.try_write(file, value) {
                Ok(()) => return Ok(true),
                Err(Errno::NOENT) => {}
                Err(errno) => {
                    let error = Error::call(dir.written(file, value), errno).context(format!("set {}", self.what));
                    return Err(match (errno, file.as_str()) {
                        (Errno::BUSY, "memory.limit_in_bytes") => error.advise(in_use(dir)),
                        (Errno::INVAL | Errno::RANGE | Errno::ACCESS | Errno::NOSPC, "cpuset.cpus") => {
                            has(error, "/sys/devices/system/cpu/online")
                        }
                        (Errno::INVAL | Errno::RANGE | Errno::ACCESS | Errno::NOSPC, "cpuset.mems") => {
                            has(error, "/sys/devices/system/node/online")
                        }
                        _ => error,
                    });
                }
            }
        }
        Ok(false)
    }
}

/// What of a cpuset's list there is; a kernel without NUMA does not say.
fn has(error: Error, list: &str) -> Error {
    match std::fs::read_to_string(list) {
        Ok(online) => error.advise(format!("this host has {}, and the cgroup above may have fewer", online.trim())),
        Err(_) => error,
    }
}

/// Why the kernel refuses to lower a v1 memory limit.
fn in_use(dir: &Dir) -> String {
    match dir.try_read("memory.usage_in_bytes") {
        Ok(usage) => format!("{} bytes are in use and can't be reclaimed", usage.trim()),
        Err(errno) => format!("the memory in use can't be reclaimed, nor its amount read: {errno}"),
    }
}

/// Writes a hierarchy's limits in order.
pub(super) fn write_all(dir: &Dir, writes: &[Write]) -> Result<()> {
    let mut again = Vec::new();
    for write in writes {
        match write.run(dir) {
            Err(error) if write.later && error.errno() == Some(Errno::INVAL) => again.push(write),
            result => result?,
        }
    }
    again.into_iter().try_for_each(|write| write.run(dir))
}

/// What is in force in a cgroup now, for limits that depend on others.
pub(super) struct Current<'a> {
    /// `None` in a cgroup that was just made: everything is the kernel's default.
    pub(super) dir: Option<&'a Dir>,
}

impl Current<'_> {
    /// A file's content without its newline.
    pub(super) fn read(&self, file: &str) -> Result<Option<String>> {
        self.dir.map(|dir| Ok(dir.read(file)?.trim().to_owned())).transpose()
    }
}

/// A limit that this version of cgroups doesn't have.
pub(super) fn unsupported(property: &str, version: &str) -> Error {
    Error::config(format!("linux.resources.{property}: {version} has no such limit"))
}

/// The limits of one controller.
struct Section {
    what: &'static str,
    /// Its name in v1, and in v2 where it exists.
    v1: &'static str,
    v2: Option<&'static str>,
    /// The part of the resources it looks at.
    part: Resources,
    to_v1: fn(&Resources, &Current<'_>) -> Result<Vec<Write>>,
    to_v2: fn(&Resources, &Current<'_>) -> Result<Vec<Write>>,
}

/// The sections that anything is asked of.
fn sections(all: &Resources) -> Vec<Section> {
    let none = Resources::default;
    let (cpus, mems) = (all.cpu.cpus.clone(), all.cpu.mems.clone());
    let time = Cpu { cpus: None, mems: None, ..all.cpu.clone() };
    let place = Cpu { cpus, mems, ..Cpu::default() };
    let net =
        |part: Resources, v1, to_v1| Section { what: "network class", v1, v2: None, part, to_v1, to_v2: v2::network };
    let mut class = none();
    class.network.class_id = all.network.class_id;
    let mut priorities = none();
    priorities.network.priorities.clone_from(&all.network.priorities);
    #[rustfmt::skip]
    let sections = [
        Section { what: "memory limit", v1: "memory", v2: Some("memory"),
            part: Resources { memory: all.memory, ..none() }, to_v1: v1::memory, to_v2: v2::memory },
        Section { what: "cpuset", v1: "cpuset", v2: Some("cpuset"),
            part: Resources { cpu: place, ..none() }, to_v1: v1::cpuset, to_v2: v1::cpuset },
        Section { what: "cpu limit", v1: "cpu", v2: Some("cpu"),
            part: Resources { cpu: time, ..none() }, to_v1: v1::cpu, to_v2: v2::cpu },
        Section { what: "pids limit", v1: "pids", v2: Some("pids"),
            part: Resources { pids: all.pids, ..none() }, to_v1: v1::pids, to_v2: v1::pids },
        Section { what: "block I/O limit", v1: "blkio", v2: Some("io"),
            part: Resources { block_io: all.block_io.clone(), ..none() }, to_v1: v1::block_io, to_v2: v2::block_io },
        Section { what: "huge page limit", v1: "hugetlb", v2: Some("hugetlb"),
            part: Resources { hugepages: all.hugepages.clone(), ..none() }, to_v1: v1::hugetlb, to_v2: v2::hugetlb },
        Section { what: "RDMA limit", v1: "rdma", v2: Some("rdma"),
            part: Resources { rdma: all.rdma.clone(), ..none() }, to_v1: v1::rdma, to_v2: v1::rdma },
        net(class, "net_cls", v1::net_cls),
        net(priorities, "net_prio", v1::net_prio),
    ];
    sections.into_iter().filter(|section| !section.part.is_empty()).collect()
}

/// What a cgroup that has every controller in v2 would have written.
pub(super) fn v2_writes(resources: &Resources, current: &Current<'_>) -> Result<Vec<Write>> {
    let writes = sections(resources).into_iter().map(|section| (section.to_v2)(&section.part, current));
    Ok(writes.collect::<Result<Vec<_>>>()?.concat())
}

/// The same in v1, in a cgroup that was just made.
pub(super) fn v1_writes(resources: &Resources) -> Result<Vec<Write>> {
    let writes = sections(resources).into_iter().map(|section| (section.to_v1)(&section.part, &Current { dir: None }));
    Ok(writes.collect::<Result<Vec<_>>>()?.concat())
}

/// Applies every limit asked for; `fresh` if the cgroup has just been made.
pub(super) fn apply(cgroup: &Cgroup, resources: &Resources, fresh: bool) -> Result<()> {
    for section in sections(resources) {
        if let Some(dir) = cgroup.v1(section.v1) {
            let current = Current { dir: (!fresh).then_some(dir) };
            write_all(dir, &(section.to_v1)(&section.part, &current)?)?;
            continue;
        }
        let unified = cgroup.v2();
        let (Some(name), Some(dir)) = (section.v2, unified) else {
            if unified.is_some() && cgroup.record().layout == Layout::V2 {
                // Without a controller in v2 there is no file to write either: this names the property.
                (section.to_v2)(&section.part, &Current { dir: None })?;
            }
            lacking(cgroup, &section)?;
            continue;
        };
        if !controllers::provide(cgroup, dir, name)? {
            lacking(cgroup, &section)?;
            continue;
        }
        let current = Current { dir: (!fresh).then_some(dir) };
        write_all(dir, &(section.to_v2)(&section.part, &current)?)?;
    }
    unified(cgroup, resources)
}

/// No hierarchy of the container has the controller. That is a failure if a limit was asked for, not if only its
/// absence was.
fn lacking(cgroup: &Cgroup, section: &Section) -> Result<()> {
    if !section.part.has_limits() {
        return Ok(());
    }
    let name = match cgroup.record().layout {
        Layout::V2 => section.v2.unwrap_or(section.v1),
        _ => section.v1,
    };
    Err(cgroup.lacks(name).context(format!("set {}", section.what)))
}

/// Writes `unified`'s files into the v2 directory, one line at a time, as cgroup files take them.
fn unified(cgroup: &Cgroup, resources: &Resources) -> Result<()> {
    for (file, value) in &resources.unified {
        let property = format!("unified.{file}");
        let Some(dir) = cgroup.v2() else {
            return Err(unsupported(&property, "cgroup v1"));
        };
        // The cgroup core's own files (`cgroup.max.depth`) need no controller; what has no dot is no controller's.
        let controller = file.split_once('.').map(|(controller, _)| controller).filter(|name| *name != "cgroup");
        if let Some(controller) = controller {
            if cgroup.v1(controller).is_some() {
                let message = format!("linux.resources.{property}: the `{controller}` controller is in cgroup v1 here");
                return Err(Error::config(message));
            }
            controllers::provide(cgroup, dir, controller)?;
        }
        write_unified(cgroup, dir, controller, file, value)
            .map_err(|error| error.context(format!("set linux.resources.{property}")))?;
    }
    Ok(())
}

fn write_unified(cgroup: &Cgroup, dir: &Dir, controller: Option<&str>, file: &str, value: &str) -> Result<()> {
    // An empty value too is a file that must be there.
    for line in value.lines().chain(Some("").filter(|_| value.is_empty())) {
        let written = match dir.try_write(file, line) {
            Err(Errno::NOENT) if controllers::settle(dir) => dir.try_write(file, line),
            written => written,
        };
        match (written, controller) {
            (Ok(()), _) => {}
            (Err(Errno::NOENT), Some(controller)) if !controllers::is_there(dir, controller)? => {
                return Err(cgroup.lacks(controller));
            }
            // Not the kernel's words: engines read "No such file or directory" as a missing executable.
            (Err(Errno::NOENT), _) => {
                let error = Error::system(format!("`{}` has no file `{file}`", dir.path()));
                return Err(error.advise("is its name right? this kernel may not have it"));
            }
            (Err(errno), _) => return Err(Error::call(dir.written(file, line), errno)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path().to_str().unwrap()).unwrap();
        (temp, dir)
    }

    #[test]
    fn takes_the_first_file_there_is() {
        let (temp, dir) = dir();
        std::fs::write(temp.path().join("io.weight"), "").unwrap();
        let write = Write::new("weight", "io.bfq.weight", 10).or("io.weight", "default 1");
        write_all(&dir, &[write]).unwrap();
        assert_eq!(dir.read("io.weight").unwrap(), "default 1");
        write_all(&dir, &[Write::new("x", "absent", 1).may_lack(true)]).unwrap();
        let error = write_all(&dir, &[Write::new("the limit", "absent", 1)]).unwrap_err().to_string();
        assert!(error.starts_with("set the limit: `/") && error.contains("has no `absent`"), "{error}");
        // podman takes these words for a missing executable.
        assert!(!error.contains("No such file"), "{error}");
    }
}
