//! The device nodes of a container: the six of the specification and those it lists.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType};
use serde::{Deserialize, Serialize};

use super::findings::Findings;
use crate::error::{Error, Result};

/// One device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePlan {
    /// Where, in the container; absolute.
    pub path: PathBuf,
    #[allow(missing_docs)]
    pub kind: NodeKind,
    #[allow(missing_docs)]
    pub major: u32,
    #[allow(missing_docs)]
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    #[allow(missing_docs)]
    pub uid: u32,
    #[allow(missing_docs)]
    pub gid: u32,
}

/// Whether there is a device at this path in every container.
pub(crate) fn is_default(path: &Path) -> bool {
    DEFAULTS.iter().any(|(default, ..)| Path::new(default) == path)
}

/// What mknod(2) makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum NodeKind {
    Character,
    Block,
    Fifo,
}

/// Runtime-spec, config-linux.md, "Default Devices"; all are character devices open to all.
const DEFAULTS: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The greatest numbers of a device. mknod(2) takes the low bits of greater ones, which are another device's.
pub(super) const MAJOR: u32 = (1 << 12) - 1;
pub(super) const MINOR: u32 = (1 << 20) - 1;

/// The devices of `linux.devices`, after the six defaults that it does not replace.
///
/// # Errors
/// A relative path, a wrong number, or a path that is there twice with different nodes.
pub fn from_spec(linux: Option<&Linux>) -> Result<Vec<DevicePlan>> {
    Findings::first(|findings| read(linux, findings))
}

/// The same, with all that is wrong.
pub(crate) fn read(linux: Option<&Linux>, findings: &mut Findings) -> Vec<DevicePlan> {
    let mut listed: Vec<DevicePlan> = vec![];
    for (i, device) in linux.iter().flat_map(|l| l.devices().iter().flatten()).enumerate() {
        // Every container has its own, on its own devpts.
        if device.path() == std::path::Path::new("/dev/ptmx") {
            continue;
        }
        let at = format!("linux.devices[{i}]");
        let Some(plan) = findings.take(one(device, &at)) else { continue };
        match listed.iter().find(|d| d.path == plan.path) {
            Some(same) if *same == plan => {}
            Some(_) => {
                let why = format!("`{}` is there twice, as different nodes", plan.path.display());
                findings.add(Error::at(at, why));
            }
            None => listed.push(plan),
        }
    }
    let defaults = DEFAULTS.iter().map(|(path, major, minor)| DevicePlan {
        path: path.into(),
        kind: NodeKind::Character,
        major: *major,
        minor: *minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    });
    let mut all: Vec<DevicePlan> = defaults.filter(|d| !listed.iter().any(|l| l.path == d.path)).collect();
    all.append(&mut listed);
    all
}

fn one(device: &LinuxDevice, at: &str) -> Result<DevicePlan> {
    let refuse = |property: &str, why: String| Error::at(at, why).about(format!("{at}.{property}"));
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => NodeKind::Character,
        LinuxDeviceType::B => NodeKind::Block,
        LinuxDeviceType::P => NodeKind::Fifo,
        LinuxDeviceType::A => return Err(refuse("type", "type `a` stands for all devices; it is none".into())),
    };
    let path = device.path().clone();
    if !path.is_absolute() || path.components().any(|c| c == std::path::Component::ParentDir) {
        return Err(refuse("path", format!("the path `{}` is not absolute, or has `..`", path.display())));
    }
    let number = |n: i64, what: &str, cap: u32| match (kind, u32::try_from(n)) {
        (NodeKind::Fifo, _) => Ok(0),
        (_, Ok(n)) if n <= cap => Ok(n),
        _ => Err(refuse(what, format!("{what} {n} is not between 0 and {cap}"))),
    };
    if kind != NodeKind::Fifo && (device.major(), device.minor()) == (0, 0) {
        let why = "no device has the numbers 0, 0";
        return Err(refuse("major", why.into()));
    }
    Ok(DevicePlan {
        kind,
        major: number(device.major(), "major", MAJOR)?,
        minor: number(device.minor(), "minor", MINOR)?,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(json: &str) -> Result<Vec<DevicePlan>> {
        from_spec(Some(&serde_json::from_str(&format!(r#"{{"devices":{json}}}"#)).unwrap()))
    }

    #[test]
    fn the_six_are_always_there() {
        let paths: Vec<_> = from_spec(None).unwrap().into_iter().map(|d| d.path.display().to_string()).collect();
        assert_eq!(paths, ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"]);
    }

    #[test]
    fn a_listed_device_replaces_a_default() {
        let devices = devices(r#"[{"path":"/dev/null","type":"c","major":9,"minor":9,"fileMode":384}]"#).unwrap();
        let null: Vec<_> = devices.iter().filter(|d| d.path.ends_with("null")).collect();
        assert_eq!((null.len(), null[0].major, null[0].mode), (1, 9, 0o600));
    }

    #[test]
    fn refuses_what_is_no_node() {
        assert!(devices(r#"[{"path":"dev/x","type":"c","major":1,"minor":1}]"#).is_err());
        assert!(devices(r#"[{"path":"/dev/../x","type":"c","major":1,"minor":1}]"#).is_err());
        assert!(devices(r#"[{"path":"/dev/x","type":"c","major":-1,"minor":1}]"#).is_err());
        assert!(devices(r#"[{"path":"/dev/x","type":"a","major":1,"minor":1}]"#).is_err());
        // mknod(2) would make /dev/null of the first.
        assert!(devices(r#"[{"path":"/dev/x","type":"c","major":4097,"minor":3}]"#).is_err());
        assert!(devices(r#"[{"path":"/dev/x","type":"c","major":1,"minor":1048576}]"#).is_err());
        assert!(devices(r#"[{"path":"/dev/x","type":"b","major":4095,"minor":1048575}]"#).is_ok());
    }
}
