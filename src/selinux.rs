//! SELinux, from the outside: whether the kernel has it, and what its refusals mean.

use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::mountinfo::Mount;
use crate::procfs::Proc;

/// The extended attribute that holds a file's label.
pub(crate) const XATTR: &str = "security.selinux";

/// `statfs.f_type` of selinuxfs; `SELINUX_MAGIC` of the kernel.
const SELINUX_MAGIC: i64 = 0xf97c_ff8c;

/// Whether it is enabled, with a policy loaded. A confined runtime may look at no file of selinuxfs: what the file system is,
/// and that it is mounted, it may know.
pub(crate) fn is_enabled(proc: &Proc) -> bool {
    rustix::fs::statfs("/sys/fs/selinux").is_ok_and(|stat| stat.f_type == SELINUX_MAGIC)
        || proc.read("self/mountinfo").is_ok_and(|text| Mount::all(&text).any(|mount| mount.fstype == "selinuxfs"))
}

/// Labels a file, unless the policy has no labels for those of its file system.
///
/// # Errors
/// What the kernel refuses.
pub(crate) fn label(path: &Path, label: &str) -> Result<()> {
    match rustix::fs::lsetxattr(path, XATTR, label.as_bytes(), XattrFlags::empty()) {
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(Error::call(format!("label `{}` `{label}`: setxattr `{XATTR}`", path.display()), errno)
            .advise(advice(errno, label))),
    }
}

/// What it means that the kernel does not take a label for a file or a process.
pub(crate) fn advice(errno: Errno, label: &str) -> String {
    match errno {
        Errno::INVAL => format!(
            "SELinux's policy does not know the label `{label}`: is its type one of the policy's (`seinfo -t`; \
             container-selinux has those of containers), and its level in range?"
        ),
        _ => format!(
            "SELinux's policy refuses the label `{label}` to this runtime: `ausearch -m avc -ts recent` shows what; the \
             runtime's file wants the type that crun's has (`chcon --reference=/usr/bin/crun FILE`)"
        ),
    }
}

/// What it may mean that the program can't be executed as a process with a label.
pub(crate) fn of_transition(label: &str, no_new_privileges: bool) -> String {
    let nnp = match no_new_privileges {
        true => "; with process.noNewPrivileges it must allow nnp_transition, too",
        false => "",
    };
    format!(
        "SELinux's policy may refuse the change to `{label}`: `ausearch -m avc -ts recent` shows that; the root file system \
         wants a label that this type may execute, as container_file_t{nnp}"
    )
}
