//! Groups of the resctrl file system, by which a processor shares out its caches and its memory bandwidth;
//! Documentation/filesystems/resctrl.rst of the kernel. They are no control groups, and are set, joined and removed alike.

use std::collections::BTreeMap;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::dir::Dir;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::rdt::RdtPlan;

/// Where it is mounted, on every distribution.
pub const MOUNT: &str = "/sys/fs/resctrl";
/// In a group, its monitoring groups.
const MONITORS: &str = "mon_groups";
/// `RDTGROUP_SUPER_MAGIC` of linux/magic.h.
const MAGIC: u64 = 0x0765_5821;

/// The group of one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdtRecord {
    /// The mount point.
    mount: String,
    /// The group's directory below it; None for the root group.
    group: Option<String>,
    /// Whether the group is removed with the container.
    own: bool,
    /// The name of a monitoring group in it, removed with the container.
    monitor: Option<String>,
}

/// Whether resctrl is mounted.
pub(crate) fn is_mounted() -> bool {
    rustix::fs::statfs(MOUNT).is_ok_and(|stat| u64::try_from(stat.f_type).is_ok_and(|magic| magic == MAGIC))
}

impl RdtRecord {
    /// What will be made for a plan.
    pub fn of(plan: &RdtPlan) -> RdtRecord {
        let own = !plan.named;
        RdtRecord { mount: MOUNT.into(), group: plan.group.clone(), own, monitor: plan.monitor.clone() }
    }

    /// The group's path, for the trace.
    pub fn describe(&self) -> String {
        format!("`{}/{}`", self.mount, self.group.as_deref().unwrap_or_default())
    }

    /// Makes or finds the group, and sets its schemata. Returns what is to be removed if the container can't be made:
    /// also a named group, if it was not there.
    ///
    /// # Errors
    /// A group of the container's own that exists, a named one that is to be there and is not, or has other schemata;
    /// what the kernel refuses, in its own words. Nothing is left of it.
    pub fn make(&self, plan: &RdtPlan) -> Result<RdtRecord> {
        let root = self.root()?;
        let may_be_made = !plan.named || !plan.schemata.is_empty() || !plan.last.is_empty();
        let made = match &self.group {
            Some(group) if may_be_made => {
                match rustix::fs::mkdirat(&root, group.as_str(), Mode::from_raw_mode(0o755)) {
                    Ok(()) => true,
                    Err(Errno::EXIST) if plan.named => false,
                    Err(Errno::EXIST) => {
                        let what = format!("the resctrl group `{}` exists already", root.file(group));
                        return Err(Error::new(Kind::Exists, what));
                    }
                    Err(errno) => return Err(explained(&root, format!("mkdir `{}`", root.file(group)), errno)),
                }
            }
            _ => false,
        };
        // A monitoring group that was there is another's: only once it is made is it to be removed.
        let mut undo = RdtRecord { own: made, monitor: None, ..self.clone() };
        match self.fill(plan, &root, made, &mut undo) {
            Ok(()) => Ok(undo),
            Err(error) => Err(error.and_undone(undo.remove())),
        }
    }

    fn fill(&self, plan: &RdtPlan, root: &Dir, made: bool, undo: &mut RdtRecord) -> Result<()> {
        let dir = self.open(root)?;
        match made {
            true => write_schemata(&dir, root, &plan.schemata)?,
            false => has(&dir, &plan.schemata)?,
        }
        write_schemata(&dir, root, &plan.last)?;
        let Some(name) = &self.monitor else { return Ok(()) };
        let groups = match dir.open_child(MONITORS) {
            Err(Errno::NOENT) => {
                let what = "`linux.intelRdt.enableMonitoring`: this processor monitors nothing by resctrl";
                return Err(Error::config(what));
            }
            opened => opened.context(|| format!("open `{}`", dir.file(MONITORS)))?,
        };
        rustix::fs::mkdirat(&groups, name.as_str(), Mode::from_raw_mode(0o755))
            .map_err(|errno| explained(root, format!("mkdir `{}`", groups.file(name)), errno))?;
        undo.monitor = Some(name.clone());
        Ok(())
    }

    /// Moves a process in; its children are born there.
    ///
    /// # Errors
    /// The group is gone, or the kernel refuses.
    pub fn join(&self, pid: i32) -> Result<()> {
        let dir = self.open(&self.root()?)?;
        dir.write("tasks", &pid.to_string())?;
        match &self.monitor {
            Some(name) => {
                let groups = dir.open_child(MONITORS).context(|| format!("open `{}`", dir.file(MONITORS)))?;
                let monitor = groups.open_child(name).context(|| format!("open `{}`", groups.file(name)))?;
                monitor.write("tasks", &pid.to_string())
            }
            None => Ok(()),
        }
    }

    /// Sets other schemata.
    ///
    /// # Errors
    /// What the kernel refuses, in its own words.
    pub fn update(&self, schemata: &[String]) -> Result<()> {
        let root = self.root()?;
        write_schemata(&self.open(&root)?, &root, schemata)
    }

    /// Removes what is the container's. What is not there counts as removed; processes in it go to the root group.
    ///
    /// # Errors
    /// What rmdir(2) refuses.
    pub fn remove(&self) -> Result<()> {
        let Ok(root) = self.root() else { return Ok(()) };
        if let Some(name) = &self.monitor
            && let Ok(dir) = self.open(&root)
            && let Ok(groups) = dir.open_child(MONITORS)
        {
            rmdir(&groups, name)?;
        }
        match (&self.group, self.own) {
            (Some(group), true) => rmdir(&root, group),
            _ => Ok(()),
        }
    }

    fn root(&self) -> Result<Dir> {
        Dir::open(self.mount.as_str()).context(|| format!("open `{}`", self.mount))
    }

    /// The group's directory.
    fn open(&self, root: &Dir) -> Result<Dir> {
        let Some(group) = &self.group else { return self.root() };
        match root.open_child(group) {
            Ok(dir) => Ok(dir),
            Err(Errno::NOENT) => {
                let what = format!("`linux.intelRdt.closID`: there is no resctrl group `{}`", root.file(group));
                Err(Error::config(what).advise("make it first, or give its schemata for it to be made"))
            }
            Err(errno) => Err(Error::call(format!("open `{}`", root.file(group)), errno)),
        }
    }
}

/// Writes all lines at once: the kernel takes them all or none of a line's.
fn write_schemata(dir: &Dir, root: &Dir, schemata: &[String]) -> Result<()> {
    if schemata.is_empty() {
        return Ok(());
    }
    // The kernel wants each line's end.
    let text: String = schemata.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    let doing = || format!("write `{}` to `{}`", schemata.join("; "), dir.file("schemata"));
    dir.try_write("schemata", &text).map_err(|errno| explained(root, doing(), errno))
}

/// Refuses a group that has other schemata than these.
fn has(dir: &Dir, wanted: &[String]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let text = dir.read("schemata")?;
    let there: BTreeMap<_, _> = text.lines().map(parse).collect();
    for line in wanted {
        let (resource, domains) = parse(line);
        let of = there.get(resource);
        if !domains.iter().all(|(domain, value)| of.and_then(|of| of.get(domain)) == Some(value)) {
            let what = format!("`linux.intelRdt`: the group `{}` has not `{line}`", dir.path());
            return Err(Error::config(what)
                .advise("its file `schemata` has what it has; leave the schema out to use it as it is"));
        }
    }
    Ok(())
}

/// `L3:0=00f;1=3` is a resource, and a value for each of its domains: the kernel pads with zeros and spaces.
fn parse(line: &str) -> (&str, BTreeMap<&str, String>) {
    let (resource, domains) = line.trim().split_once(':').unwrap_or((line.trim(), ""));
    let number = |value: &str| value.trim().trim_start_matches('0').to_ascii_lowercase();
    let pairs = domains.split(';').filter_map(|pair| pair.split_once('='));
    (resource.trim(), pairs.map(|(domain, value)| (domain.trim(), number(value))).collect())
}

/// An error with what resctrl says of it.
fn explained(root: &Dir, doing: String, errno: Errno) -> Error {
    let said = root.try_read("info/last_cmd_status").unwrap_or_default();
    let error = Error::call(doing, errno);
    match said.trim() {
        "" | "ok" => error,
        said => error.advise(format!("resctrl says: {}", said.replace('\n', "; "))),
    }
}

fn rmdir(parent: &Dir, name: &str) -> Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::call(format!("rmdir `{}`", parent.file(name)), errno)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// A directory that looks like resctrl, with a group `gold`. What the kernel makes in a new group is not there.
    fn tree() -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("gold/mon_groups")).unwrap();
        fs::create_dir(temp.path().join("info")).unwrap();
        fs::write(temp.path().join("gold/schemata"), "    L3:0=00ff;1=0fff\n    MB:0=100;1= 50\n").unwrap();
        fs::write(temp.path().join("gold/tasks"), "").unwrap();
        fs::write(temp.path().join("info/last_cmd_status"), "ok\n").unwrap();
        temp
    }

    fn plan(group: &str, named: bool, schemata: &[&str], monitor: bool) -> RdtPlan {
        let schemata = schemata.iter().map(|&line| line.to_owned()).collect();
        let monitor = monitor.then(|| "box".to_owned());
        RdtPlan { group: Some(group.into()), named, schemata, last: vec![], monitor }
    }

    fn make(root: &Path, plan: &RdtPlan) -> (RdtRecord, Result<RdtRecord>) {
        let record = RdtRecord { mount: root.to_str().unwrap().into(), ..RdtRecord::of(plan) };
        let made = record.make(plan);
        (record, made)
    }

    #[test]
    fn a_group_that_is_there_is_compared_and_stays() {
        let temp = tree();
        let (record, made) = make(temp.path(), &plan("gold", true, &["L3:0=ff", "MB:1=50"], false));
        made.unwrap();
        record.join(7).unwrap();
        assert_eq!(fs::read_to_string(temp.path().join("gold/tasks")).unwrap(), "7");
        record.remove().unwrap();
        assert!(temp.path().join("gold").exists());
        for line in ["L3:0=f", "L3:2=ff", "L2:0=ff"] {
            let (_, made) = make(temp.path(), &plan("gold", true, &[line], false));
            assert!(made.unwrap_err().to_string().contains(line));
        }
        assert!(temp.path().join("gold").exists());
    }

    #[test]
    fn schemata_are_written_as_they_are() {
        let temp = tree();
        let lines = RdtPlan { last: vec!["L3:0=1".into(), "L2:0=3".into()], ..plan("gold", true, &[], false) };
        make(temp.path(), &lines).1.unwrap();
        let text = fs::read_to_string(temp.path().join("gold/schemata")).unwrap();
        assert!(text.starts_with("L3:0=1\nL2:0=3\n"), "{text}");
    }

    #[test]
    fn a_named_group_without_schemata_must_be_there() {
        let temp = tree();
        let (_, made) = make(temp.path(), &plan("silver", true, &[], false));
        assert!(made.unwrap_err().to_string().contains("silver"));
        assert!(!temp.path().join("silver").exists());
    }

    #[test]
    fn the_containers_own_group_is_removed_and_must_be_free() {
        let temp = tree();
        let (record, made) = make(temp.path(), &plan("box", false, &[], false));
        assert_eq!(made.unwrap(), record);
        assert!(temp.path().join("box").exists());
        let (_, again) = make(temp.path(), &plan("box", false, &[], false));
        assert_eq!(again.unwrap_err().kind(), Kind::Exists);
        record.remove().unwrap();
        assert!(!temp.path().join("box").exists());
        record.remove().unwrap();
    }

    #[test]
    fn a_monitoring_group_is_the_containers() {
        let temp = tree();
        let (record, made) = make(temp.path(), &plan("gold", true, &[], true));
        made.unwrap();
        let monitor = temp.path().join("gold/mon_groups/box");
        assert!(monitor.exists());
        record.remove().unwrap();
        assert!(!monitor.exists() && temp.path().join("gold").exists());
    }

    #[test]
    fn nothing_is_left_of_what_is_refused_and_the_kernels_words_are_told() {
        let temp = tree();
        fs::write(temp.path().join("info/last_cmd_status"), "Mask out of range\n").unwrap();
        // The directory is no resctrl: there is no `schemata` in a new group.
        let (_, made) = make(temp.path(), &plan("box", false, &["L3:0=fffff"], false));
        let error = made.unwrap_err().to_string();
        assert!(error.contains("L3:0=fffff") && error.contains("Mask out of range"), "{error}");
        assert!(!temp.path().join("box").exists());
    }
}
