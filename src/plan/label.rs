//! SELinux labels: of which shape they are, and how a new file system gets `linux.mountLabel`.

use oci_spec::runtime::Linux;

use super::host::Host;
use super::options::LABELS;
use crate::error::{Error, Result};

/// `linux.mountLabel`.
#[derive(Clone, Copy, Debug)]
pub(super) struct MountLabel<'a> {
    /// The mount option that sets it: `run.oci.mount_context_type`.
    pub(super) option: &'static str,
    /// The label itself.
    pub(super) text: &'a str,
}

impl MountLabel<'_> {
    /// Puts the label into a new file system's options, or returns what its root is to be labelled with. The rest is as in
    /// [`way`].
    pub(super) fn put(
        self,
        fstype: &str,
        data: &mut Vec<(String, Option<String>)>,
        in_userns: bool,
        own_ipc: bool,
    ) -> Option<String> {
        match way(fstype, data, in_userns, own_ipc) {
            Way::Option => data.push((self.option.into(), Some(self.text.into()))),
            Way::Root => return Some(self.text.to_owned()),
            Way::None => {}
        }
        None
    }
}

/// How a new file system gets a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By an option of the mount.
    Option,
    /// Its root gets one once it is made.
    Root,
    /// Not at all.
    None,
}

/// File systems of which there is one for all: their labels are the host's.
const ONE_FOR_ALL: [&str; 11] = [
    "sysfs",
    "cgroup",
    "cgroup2",
    "debugfs",
    "tracefs",
    "securityfs",
    "configfs",
    "pstore",
    "efivarfs",
    "fusectl",
    "binfmt_misc",
];

/// The only ones that the kernel takes a label for in a user namespace.
const OF_USER_NAMESPACES: [&str; 4] = ["tmpfs", "ramfs", "devpts", "overlay"];

/// How a file system gets its label. `in_userns`: it will be a user namespace's. `own_ipc`: the container has an IPC namespace
/// that is not the host's.
fn way(fstype: &str, data: &[(String, Option<String>)], in_userns: bool, own_ipc: bool) -> Way {
    match fstype {
        // It is made with its IPC namespace and not by its mount, which can't change its options; and the host's keeps its own.
        "mqueue" if own_ipc => Way::Root,
        "mqueue" => Way::None,
        // Its files are labelled by what they show.
        "proc" => Way::None,
        _ if ONE_FOR_ALL.contains(&fstype) => Way::None,
        // The mount's own options say which.
        _ if data.iter().any(|(key, _)| LABELS.contains(&key.as_str())) => Way::None,
        _ if in_userns && !OF_USER_NAMESPACES.contains(&fstype) => Way::None,
        _ => Way::Option,
    }
}

/// A label as a configuration has it, None where it is absent or empty. `at` is its JSON path.
///
/// # Errors
/// It has not the shape of a label, or the host has no SELinux.
pub(super) fn checked<'a>(label: Option<&'a str>, at: &str, host: &Host) -> Result<Option<&'a str>> {
    let Some(label) = label.filter(|label| !label.is_empty()) else { return Ok(None) };
    let fields: Vec<&str> = label.splitn(4, ':').collect();
    if fields.len() < 3 || fields.iter().any(|field| field.is_empty()) || label.contains(char::is_whitespace) {
        let why = format!("{label:?} is no SELinux label, which is USER:ROLE:TYPE or USER:ROLE:TYPE:LEVEL");
        return Err(Error::at(at, why));
    }
    match host.selinux {
        true => Ok(Some(label)),
        false => Err(Error::at(at, "SELinux is not enabled on this host")),
    }
}

/// `linux.mountLabel`, which is set by an option of this name.
///
/// # Errors
/// As [`checked`].
pub(super) fn of_mounts<'a>(linux: &'a Linux, option: &'static str, host: &Host) -> Result<Option<MountLabel<'a>>> {
    let text = checked(linux.mount_label().as_deref(), "linux.mountLabel", host)?;
    Ok(text.map(|text| MountLabel { option, text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_three_fields_or_four() {
        let host = Host { selinux: true, ..Host::default() };
        let check = |label| checked(Some(label), "x", &host);
        for good in ["u:r:t", "system_u:system_r:container_t:s0:c1,c2", "u:r:t:s0-s15:c0.c1023"] {
            assert_eq!(check(good).unwrap(), Some(good));
        }
        assert_eq!(check("").unwrap(), None);
        for bad in ["junk", "a:b", "::", "a:b:", ":b:c", "a:b:c:", "a:b:c d"] {
            assert!(check(bad).unwrap_err().to_string().contains("no SELinux label"), "{bad}");
        }
        assert!(checked(Some("a:b:c"), "x", &Host::default()).unwrap_err().to_string().contains("not enabled"));
    }

    #[test]
    fn a_label_reaches_a_file_system_in_the_way_that_it_takes() {
        for (fstype, own, in_userns) in [
            ("tmpfs", Way::Option, Way::Option),
            ("devpts", Way::Option, Way::Option),
            ("overlay", Way::Option, Way::Option),
            ("ext4", Way::Option, Way::None),
            ("mqueue", Way::Root, Way::Root),
            ("proc", Way::None, Way::None),
            ("sysfs", Way::None, Way::None),
            ("cgroup2", Way::None, Way::None),
        ] {
            assert_eq!(way(fstype, &[], false, true), own, "{fstype}");
            assert_eq!(way(fstype, &[], true, true), in_userns, "{fstype} in a user namespace");
        }
        assert_eq!(way("mqueue", &[], false, false), Way::None, "the host's");
        let own = [("context".to_owned(), Some("a:b:c".to_owned()))];
        assert_eq!(way("tmpfs", &own, false, true), Way::None, "one of its own");
    }
}
