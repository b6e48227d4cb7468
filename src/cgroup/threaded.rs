//! Threaded cgroups of v2 (Documentation/admin-guide/cgroup-v2.rst, "Threads"): below one there are no others, and a new
//! one takes no process before it is threaded too.

use rustix::io::Errno;

use super::dir::Dir;
use super::record::RecordDir;
use crate::error::{Context, Error, Result};

const TYPE: &str = "cgroup.type";

/// What to do about a controller that such a cgroup can't have.
pub(super) const ADVICE: &str = "it is below a threaded cgroup, and such have cpu, cpuset, perf_event and pids alone: choose \
     another linux.cgroupsPath, or do without the limit";

/// Whether a cgroup is threaded.
pub(super) fn is(dir: &Dir) -> bool {
    dir.try_read(TYPE).is_ok_and(|text| text.trim() == "threaded")
}

/// Makes a cgroup that takes no processes threaded, with the parents that were made for it; says so if it did.
///
/// # Errors
/// The kernel refuses.
pub(super) fn become_so(place: &RecordDir, dir: &Dir) -> Result<Option<String>> {
    match dir.try_read(TYPE) {
        Ok(text) if text.trim() == "domain invalid" => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(Error::call(format!("read `{}`", dir.file(TYPE)), errno)),
    }
    // From the top: one whose parent is no valid domain yet is refused.
    for step in place.steps() {
        let path = format!("{}{step}", place.mount);
        let step = Dir::open(path.as_str()).context(|| format!("open `{path}`"))?;
        if step.read(TYPE)?.trim() == "domain invalid" {
            step.write(TYPE, "threaded")
                .context(|| format!("make the cgroup threaded, as the one above `{path}` is"))?;
        }
    }
    Ok(Some(format!("`{}` is threaded, as the cgroup above it is", dir.path())))
}
