//! The rules of the device filter: `linux.resources.devices`, in the kernel's terms.

use std::fmt;

use oci_spec::runtime as oci;
use serde::{Deserialize, Serialize};

use super::resources::invalid;
use crate::error::Result;

/// The device types a rule can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Character and block devices.
    All,
    /// Character devices.
    Char,
    /// Block devices.
    Block,
}

/// What a rule speaks of: any set of reading, writing and making the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAccess {
    /// Open for reading.
    pub read: bool,
    /// Open for writing.
    pub write: bool,
    /// mknod(2).
    pub mknod: bool,
}

impl DeviceAccess {
    /// Everything.
    pub const ALL: DeviceAccess = DeviceAccess { read: true, write: true, mknod: true };
    /// Only mknod(2).
    pub const MKNOD: DeviceAccess = DeviceAccess { read: false, write: false, mknod: true };

    /// A missing `access` stands for every access, as a missing type stands for every type.
    fn parse(path: &str, access: Option<&str>) -> Result<DeviceAccess> {
        let access = access.unwrap_or_default();
        if access.is_empty() {
            return Ok(DeviceAccess::ALL);
        }
        let mut parsed = DeviceAccess::default();
        for letter in access.chars() {
            match letter {
                'r' => parsed.read = true,
                'w' => parsed.write = true,
                'm' => parsed.mknod = true,
                _ => {
                    return Err(invalid(path, format!("`{access}` holds more than the letters r, w and m")));
                }
            }
        }
        Ok(parsed)
    }
}

impl fmt::Display for DeviceAccess {
    /// In the letters of the specification and of cgroup v1's device files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (set, letter) in [(self.read, "r"), (self.write, "w"), (self.mknod, "m")] {
            if set {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// One rule of the device filter. Later rules override earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Allow, or deny.
    pub allow: bool,
    /// The devices' type.
    pub kind: DeviceKind,
    /// Their major number; `None` is any.
    pub major: Option<u32>,
    /// Their minor number; `None` is any.
    pub minor: Option<u32>,
    /// The accesses the rule decides.
    pub access: DeviceAccess,
}

impl DeviceRule {
    /// Whether the rule decides every access to every device, so that no earlier rule matters.
    pub fn is_total(&self) -> bool {
        self.kind == DeviceKind::All && self.major.is_none() && self.minor.is_none() && self.access == DeviceAccess::ALL
    }

    pub(super) fn from_spec(path: &str, spec: &oci::LinuxDeviceCgroup) -> Result<DeviceRule> {
        let kind = match spec.typ() {
            None | Some(oci::LinuxDeviceType::A) => DeviceKind::All,
            Some(oci::LinuxDeviceType::C | oci::LinuxDeviceType::U) => DeviceKind::Char,
            Some(oci::LinuxDeviceType::B) => DeviceKind::Block,
            Some(oci::LinuxDeviceType::P) => {
                return Err(invalid(&format!("{path}.type"), "no device rule applies to a FIFO (`p`)"));
            }
        };
        Ok(DeviceRule {
            allow: spec.allow(),
            kind,
            major: device_number(&format!("{path}.major"), spec.major())?,
            minor: device_number(&format!("{path}.minor"), spec.minor())?,
            access: DeviceAccess::parse(&format!("{path}.access"), spec.access().as_deref())?,
        })
    }
}

/// `-1` is any device, in the specification's older wording and in what engines write.
fn device_number(path: &str, number: Option<i64>) -> Result<Option<u32>> {
    match number {
        None | Some(-1) => Ok(None),
        Some(number) => match u32::try_from(number) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(invalid(path, format!("{number} is no device number"))),
        },
    }
}
