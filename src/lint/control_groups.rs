//! A warning about the host's control groups, which a read-only bind mount of what they are below leaves writable.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};

use super::Finding;
use super::rootfs::bind_source;
use crate::mountinfo;
use crate::plan::options::{Options, attr};

/// Where they are on every host that has them.
const USUAL: &str = "/sys/fs/cgroup";

/// Where this host has control groups mounted.
pub(super) fn places() -> Vec<PathBuf> {
    // Without the file there is the usual place still.
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let cgroups = mountinfo::Mount::all(&text).filter(|mount| matches!(mount.fstype, "cgroup" | "cgroup2"));
    [PathBuf::from(USUAL)].into_iter().chain(cgroups.map(|mount| mount.point.into())).collect()
}

/// `ro` is about the one mount, and not about those below it (CVE-2023-25809). `later` are the mounts behind this one, with their
/// destinations.
pub(super) fn left_writable(
    (i, at, mount): (usize, &Path, &Mount),
    later: &[(PathBuf, &Mount)],
    places: &[PathBuf],
    (spec, bundle): (&Spec, &Path),
) -> Option<Finding> {
    let source = bind_source(mount, bundle)?;
    let source = source.canonicalize().unwrap_or(source);
    // What is wrong otherwise is an error.
    let options = Options::parse(mount.options().as_deref().unwrap_or_default(), "").ok()?;
    if options.bind != Some(true) || options.attrs.set & !options.recursive_attrs.set & attr::RDONLY == 0 {
        return None;
    }
    let shown = places.iter().filter_map(|place| {
        let below = place.strip_prefix(&source).ok().filter(|below| !below.as_os_str().is_empty())?;
        Some((place, at.join(below)))
    });
    let covered = |seen: &Path| later.iter().any(|(over, _)| !over.as_os_str().is_empty() && seen.starts_with(over));
    let hidden = |seen: &Path| {
        let linux = spec.linux().as_ref();
        let mut masked = linux.iter().flat_map(|linux| linux.masked_paths().iter().flatten());
        let mut sealed = linux.iter().flat_map(|linux| linux.readonly_paths().iter().flatten());
        masked.any(|path| seen.starts_with(path)) || sealed.any(|path| seen == Path::new(path))
    };
    let (place, seen) = shown.into_iter().find(|(_, seen)| !covered(seen) && !hidden(seen))?;
    let message = format!(
        "`ro` leaves what is mounted below it as it is: `{}` shows the control groups at the host's `{}`, to be written to",
        seen.display(),
        place.display()
    );
    Some(Finding::warning(format!("mounts[{i}].options"), message, "`rro` makes all of it read-only"))
}
