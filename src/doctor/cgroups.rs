//! Control groups: how they are laid out, what may be limited there, and who makes them.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::Check;
use crate::cgroup::Layout;
use crate::cgroup::resctrl::MOUNT;
use crate::cgroup::systemd::Systemd;
use crate::plan::host::Host;
use crate::procfs::Proc;

/// Those that limits of `linux.resources` need in v2; devices are filtered without one.
const WANTED: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

pub(super) fn checks(host: &Host, proc: &Proc) -> Vec<Check> {
    let mut checks = vec![layout(host)];
    match (host.cgroups.layout(), host.cgroups.places(host.is_machine_root(), proc)) {
        (_, Err(error)) => {
            let follows = "where a container's cgroup is to be is not known";
            checks.push(Check::missing("place", error.to_string(), follows, "give linux.cgroupsPath"));
        }
        (Layout::V2, Ok(places)) => checks.extend(places.iter().map(|(of, place)| v2(host, of, place))),
        (Layout::V1 | Layout::Hybrid, Ok(places)) => checks.extend(v1(&places)),
        (Layout::None, Ok(_)) => {}
    }
    if matches!(host.cgroups.layout(), Layout::V2 | Layout::Hybrid) {
        checks.push(kill(host, proc));
    }
    checks.push(systemd(host, proc));
    checks.push(match host.resctrl {
        true => Check::ok("resctrl", format!("mounted on {MOUNT}")),
        false => {
            let advice = format!("on a processor that has RDT: mount -t resctrl resctrl {MOUNT}");
            Check::missing("resctrl", format!("not mounted on {MOUNT}"), "linux.intelRdt is refused", &advice)
        }
    });
    checks
}

fn layout(host: &Host) -> Check {
    match host.cgroups.layout() {
        Layout::V2 => Check::ok("layout", "v2 alone"),
        Layout::Hybrid => {
            let found = "hybrid: v1 controllers, and a v2 hierarchy without them";
            Check::partly("layout", found, V1, "boot with systemd.unified_cgroup_hierarchy=1")
        }
        Layout::V1 => Check::partly("layout", "v1 alone", V1, "boot with systemd.unified_cgroup_hierarchy=1"),
        Layout::None => {
            let found = "none is mounted on /sys/fs/cgroup";
            Check::missing("layout", found, "no limits, no device filter", "mount -t cgroup2 none /sys/fs/cgroup")
        }
    }
}

const V1: &str = "an ordinary user has no limits, nothing can be delegated, limits that only v2 has are an error";

/// Whether a container's cgroup can be made, and what it can limit.
fn v2(host: &Host, controllers: &[String], place: &Path) -> Check {
    let name = place.display().to_string();
    if access(place, Access::WRITE_OK).is_err() {
        let advice = "a systemd session of this user: loginctl enable-linger, then --systemd-cgroup";
        return Check::missing(name, "this user may make none there", REFUSED, advice);
    }
    let lacking: Vec<&str> = WANTED.into_iter().filter(|wanted| !controllers.iter().any(|c| c == wanted)).collect();
    let found = if controllers.is_empty() { "no controllers".to_owned() } else { controllers.join(" ") };
    if lacking.is_empty() {
        return Check::ok(name, found);
    }
    let advice = match host.is_machine_root() {
        true => "v1 hierarchies hold them, or the kernel is built without",
        false => "systemctl edit user@.service: [Service] Delegate=cpu cpuset io memory pids",
    };
    Check::partly(name, found, &format!("limits of {} are an error", lacking.join(", ")), advice)
}

const REFUSED: &str = "a container has no cgroup there, and one with limits fails";

/// Those where a cgroup can be made, and those where none can.
fn v1(places: &[(Vec<String>, PathBuf)]) -> Vec<Check> {
    let (open, closed): (Vec<_>, Vec<_>) =
        places.iter().partition(|(_, place)| access(place.as_path(), Access::WRITE_OK).is_ok());
    let names = |places: &[&(Vec<String>, PathBuf)]| {
        let name = |place: &&(Vec<String>, PathBuf)| if place.0.is_empty() { "v2".into() } else { place.0.join(",") };
        places.iter().map(name).collect::<Vec<String>>().join(" ")
    };
    let mut checks = vec![];
    if !open.is_empty() {
        checks.push(Check::ok("hierarchies", names(&open)));
    }
    if !closed.is_empty() {
        let found = format!("this user may make none in {}", names(&closed));
        checks.push(Check::missing("hierarchies", found, REFUSED, "only root has them in v1"));
    }
    checks
}

/// In the root of a hierarchy there is no such file: it is looked for in a cgroup that is none.
fn kill(host: &Host, proc: &Proc) -> Check {
    let own = host.cgroups.places(false, proc).ok().and_then(|places| places.last().cloned());
    let top = host.cgroups.places(true, proc).ok().and_then(|places| places.last().cloned());
    let below = |dir: &Path| {
        let entries = std::fs::read_dir(dir).ok()?;
        entries.flatten().map(|entry| entry.path()).find(|path| path.join("cgroup.procs").exists())
    };
    let places = [own, top].into_iter().flatten().map(|(_, place)| place);
    let looked = places.flat_map(|place| [below(&place), Some(place)]).flatten();
    let looked: Vec<_> = looked.filter(|place| place.join("cgroup.type").exists()).collect();
    let without = "processes are killed one by one, until none is left";
    match looked.first() {
        None => Check::partly("cgroup.kill", "there is no cgroup to look into", without, ""),
        Some(place) if place.join("cgroup.kill").exists() => Check::ok("cgroup.kill", "the kernel has it (Linux 5.14)"),
        Some(_) => Check::missing("cgroup.kill", "the kernel has none", without, "Linux 5.14 has it"),
    }
}

fn systemd(host: &Host, proc: &Proc) -> Check {
    let name = if host.is_machine_root() { "systemd of the machine" } else { "systemd of the user" };
    match Systemd::connect(host.is_machine_root(), proc) {
        Ok(systemd) => Check::ok(name, format!("it answers at `{}`", systemd.address())),
        Err(error) => {
            let advice = match host.is_machine_root() {
                true => "the other manager, cgroupfs, needs none",
                false => "loginctl enable-linger, and XDG_RUNTIME_DIR=/run/user/UID",
            };
            Check::missing(name, error.message(), "--systemd-cgroup is refused", advice)
        }
    }
}
