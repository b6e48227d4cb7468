//! Cpusets in v2, and the kernels that do not apply them to a process born in one.
//!
//! Before Linux 6.4 (and the stable releases that took "cgroup/cpuset: Make cpuset_fork() handle CLONE_INTO_CGROUP
//! properly") such a process keeps the CPUs and the memory nodes of the one that cloned it. Afterwards nothing mends that:
//! the kernel skips a process that is there already, and a list that is the same. It must be moved in.

use std::collections::BTreeSet;

use rustix::io::Errno;

use super::Cgroup;
use super::dir::Dir;
use crate::error::{Context, Error, Result};
use crate::procfs::Proc;

/// The first release in which every kernel applies them.
const MENDED: (u32, u32) = (6, 4);

/// The lists of a cgroup, and those of a process in `/proc/PID/status`.
const LISTS: [(&str, &str); 2] =
    [("cpuset.cpus.effective", "Cpus_allowed_list:"), ("cpuset.mems.effective", "Mems_allowed_list:")];

impl Cgroup {
    /// Why a child of this process must be moved into the cgroup by [`Cgroup::join`], and not be born in it. Costs nothing on a
    /// kernel that has no such fault.
    ///
    /// # Errors
    /// A list that can't be read.
    pub(crate) fn why_moved(&self, proc: &Proc) -> Result<Option<String>> {
        let (Some(place), Some(dir)) = (self.record.v2(), self.v2()) else { return Ok(None) };
        let kernel = rustix::system::uname();
        let kernel = kernel.release().to_string_lossy();
        if !has_fault(&kernel) {
            return Ok(None);
        }
        let mut status = None;
        for (file, field) in LISTS {
            let wanted = match dir.try_read(file) {
                Ok(list) => numbers(&list),
                // No cpuset controller here.
                Err(Errno::NOENT) => return Ok(None),
                Err(errno) => return Err(Error::call(format!("read `{}`", dir.file(file)), errno)),
            };
            if status.is_none() {
                status = Some(proc.read("self/status")?);
            }
            let own = status.iter().flat_map(|text| text.lines()).find_map(|line| line.strip_prefix(field));
            // A process that nobody has confined may have numbers of CPUs and nodes that the machine lacks.
            let top = Dir::open(place.mount.as_str()).context(|| format!("open `{}`", place.mount))?;
            let there = numbers(&top.read(file)?);
            let own: BTreeSet<u32> = numbers(own.unwrap_or_default()).intersection(&there).copied().collect();
            if own != wanted {
                let why = format!("Linux {kernel} may not apply the cpuset to a process born in it");
                return Ok(Some(format!("{why} (`{file}`): joined by cgroup.procs")));
            }
        }
        Ok(None)
    }
}

/// Whether a release may be one of those; one that can't be read is none.
fn has_fault(release: &str) -> bool {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < MENDED,
        _ => false,
    }
}

/// The numbers of a list such as `0-3,8`; cgroup-v2.rst, "Cpuset Interface Files".
pub(super) fn numbers(list: &str) -> BTreeSet<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_kernels_apart() {
        for faulty in ["5.10.0-32-cloud-amd64", "5.7.1", "6.3.13", "6.1.0-28-amd64", "5.15"] {
            assert!(has_fault(faulty), "{faulty}");
        }
        for right in ["6.4.0", "6.12.57+deb13-cloud-amd64", "7.0-rc1", "7.3.1", "strange", ""] {
            assert!(!has_fault(right), "{right}");
        }
    }

    #[test]
    fn reads_lists() {
        assert_eq!(numbers("0-2,5,7-8\n"), BTreeSet::from([0, 1, 2, 5, 7, 8]));
        assert_eq!(numbers("\t3"), BTreeSet::from([3]));
        assert_eq!(numbers("\n"), BTreeSet::new());
    }
}
