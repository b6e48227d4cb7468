//! What a new directory needs before limits can be set: v2 controllers, and v1's cpusets.

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::dir::{Dir, write_value};
use super::record::RecordDir;
use super::{Cgroup, Layout, threaded};
use crate::error::{Context, Error, Result};

const AVAILABLE: &str = "cgroup.controllers";
const GIVEN: &str = "cgroup.subtree_control";

/// Gives a v2 cgroup the controllers that its hierarchy has, or of them `only` the one named, by enabling them in
/// every parent. Returns why one or the other could not be enabled: that matters only if a limit needs it.
pub(super) fn enable(place: &RecordDir, dir: &Dir, only: Option<&str>) -> Result<Vec<(String, Error)>> {
    let root = Dir::open(place.mount.as_str()).context(|| format!("open `{}`", place.mount))?;
    let available = root.read(AVAILABLE)?;
    let mut wanted: Vec<&str> = available.split_whitespace().filter(|name| only.is_none_or(|o| o == *name)).collect();
    let have = dir.read(AVAILABLE)?;
    wanted.retain(|name| !has(&have, name));
    let mut refused = Vec::new();
    if wanted.is_empty() {
        return Ok(refused);
    }
    let steps = place.steps();
    let mut parent = root;
    for step in &steps {
        let given = parent.read(GIVEN)?;
        // What a parent doesn't have itself, it can't give; the reason is already in `refused`, or is another's choice.
        let available = parent.read(AVAILABLE)?;
        let missing: Vec<&str> =
            wanted.iter().copied().filter(|name| has(&available, name) && !has(&given, name)).collect();
        if !missing.is_empty() {
            give(&parent, &missing, &mut refused);
        }
        let path = format!("{}{step}", place.mount);
        parent = match Dir::open(path.as_str()) {
            Ok(dir) => dir,
            Err(errno) => return Err(Error::call(format!("open `{path}`"), errno)),
        };
    }
    Ok(refused)
}

/// Gives the cgroups below one all controllers that it has itself. Returns why one could not be given: EBUSY, while there
/// are processes in it.
pub(super) fn pass_on(dir: &Dir) -> Result<Vec<(String, Error)>> {
    let (available, given) = (dir.read(AVAILABLE)?, dir.read(GIVEN)?);
    let missing: Vec<&str> = available.split_whitespace().filter(|name| !has(&given, name)).collect();
    let mut refused = Vec::new();
    if !missing.is_empty() {
        give(dir, &missing, &mut refused);
    }
    Ok(refused)
}

fn give(parent: &Dir, names: &[&str], refused: &mut Vec<(String, Error)>) {
    let text = names.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
    if parent.try_write(GIVEN, &text).is_ok() {
        return;
    }
    // One bad controller refuses all: each for itself then, and each with its own reason.
    for name in names {
        if let Err(error) = parent.write(GIVEN, &format!("+{name}")) {
            refused.push(((*name).to_owned(), error));
        }
    }
}

/// Whether a v2 cgroup has a controller, enabling it where the layout leaves that to those who need it.
pub(super) fn provide(cgroup: &Cgroup, dir: &Dir, name: &str) -> Result<bool> {
    if is_there(dir, name)? {
        return Ok(true);
    }
    if let Some(place) = cgroup.record().v2() {
        let refused = enable(place, dir, Some(name))?;
        if let Some((_, error)) = refused.into_iter().next() {
            let error = error.context(format!("enable the `{name}` controller"));
            return Err(if threaded::is(dir) { error.advise(threaded::ADVICE) } else { error });
        }
    }
    is_there(dir, name)
}

/// Whether a v2 cgroup has a controller.
pub(super) fn is_there(dir: &Dir, name: &str) -> Result<bool> {
    Ok(has(&dir.read(AVAILABLE)?, name))
}

/// Waits until whatever another command enables for a v2 cgroup is enabled: a controller is listed before its files are there.
/// Returns whether there was anything to wait for: v1 has nothing of the kind.
pub(super) fn settle(dir: &Dir) -> bool {
    // It changes nothing, and takes the lock that who enables a controller holds until the last of its files is there.
    // The cgroup is the container's own, so whoever may make one may write there.
    let nothing = dir.open_file(GIVEN, OFlags::WRONLY).and_then(|file| write_value(&file, " "));
    nothing.is_ok()
}

impl Cgroup {
    /// Why a controller is not there.
    pub(super) fn lacks(&self, controller: &str) -> Error {
        // The v2 hierarchy as a whole has the empty name.
        let reason = self.refused.iter().find(|(name, _)| name == controller || name.is_empty());
        let message = match (self.record.is_none(), self.v2()) {
            (true, _) => "the container has no cgroup".to_owned(),
            (false, Some(dir)) if self.record.layout == Layout::V2 => {
                format!("`{}` does not have the `{controller}` controller", dir.path())
            }
            _ => format!("no cgroup hierarchy with the `{controller}` controller is mounted"),
        };
        let error = match reason {
            Some((_, error)) => error.clone().context(message),
            None => Error::system(message),
        };
        let error = match self.v2().is_some_and(|dir| self.record.layout == Layout::V2 && threaded::is(dir)) {
            true => error.advise(threaded::ADVICE),
            false => error,
        };
        if self.record.is_none() { error.advise(self.record.layout.why_none()) } else { error }
    }
}

fn has(list: &str, name: &str) -> bool {
    list.split_whitespace().any(|entry| entry == name)
}

/// Fills the v1 cpuset files that have no value, from the parents': a cpuset without CPUs or memory nodes takes no
/// process. Only what is not going to be set anyway.
pub(super) fn fill_cpuset(place: &RecordDir, cpus: bool, mems: bool) -> Result<()> {
    let mut paths = vec![place.mount.clone()];
    paths.extend(place.steps().iter().map(|step| format!("{}{step}", place.mount)));
    for (file, own) in [("cpuset.cpus", cpus), ("cpuset.mems", mems)] {
        // The parents need a value in any case.
        let last = if own { paths.len() - 2 } else { paths.len() - 1 };
        fill(&paths, last, file).context(|| "prepare the cpuset")?;
    }
    Ok(())
}

fn fill(paths: &[String], at: usize, file: &str) -> Result<String> {
    let path = paths[at].as_str();
    let dir = Dir::open(path).map_err(|errno: Errno| Error::call(format!("open `{path}`"), errno))?;
    let text = dir.read(file)?;
    if !text.trim().is_empty() || at == 0 {
        return Ok(text.trim().to_owned());
    }
    let value = fill(paths, at - 1, file)?;
    dir.write(file, &value)?;
    Ok(value)
}
