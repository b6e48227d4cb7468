//! New instances of file systems by the new mount API: the child makes them in its own namespaces, the parent those that a
//! user namespace may not have.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::kernel::rustix;
use crate::kernel::rustix::fs::{Mode, OFlags, XattrFlags};
use crate::kernel::rustix::io::Errno;
use crate::kernel::rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::error::{Context, Error, Result};
use crate::plan::mounts::Filesystem;
use crate::plan::options::{Attrs, LABELS};
use crate::plan::strategy::{FSCONFIG_STRING, NOT_FOR_FSCONFIG};
use crate::protocol::event::About;
use crate::protocol::journal;
use crate::selinux::{self, XATTR};

/// Why fsconfig(2) can't be told all that is asked for.
pub(crate) fn unfit_for_fsconfig(fs: &Filesystem) -> Option<String> {
    if fs.superblock.iter().any(|word| word == NOT_FOR_FSCONFIG) {
        return Some(format!("it has no `{NOT_FOR_FSCONFIG}`"));
    }
    let (key, _) = fs.data.iter().find(|(_, v)| v.as_ref().is_some_and(|v| v.len() > FSCONFIG_STRING))?;
    Some(format!("the value of `{key}` has over {FSCONFIG_STRING} bytes"))
}

/// Makes a detached instance for the namespaces of this process.
///
/// # Errors
/// What the kernel refuses, in its own words where it has any.
pub(crate) fn make(fs: &Filesystem, attrs: Attrs) -> Result<OwnedFd> {
    let context = open(&fs.fstype).context(|| format!("fsopen `{}`", fs.fstype)).map_err(|e| of_options(fs, "", e))?;
    finish(context.as_fd(), fs, attrs)
}

/// Makes a detached proc of another pid namespace than this process's.
///
/// # Errors
/// As [`make`].
pub(crate) fn make_proc(fs: &Filesystem, attrs: Attrs, pid_namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    let context =
        proc_of(pid_namespace).context(|| format!("make a {} of the pid namespace that is joined", fs.fstype))?;
    finish(context.as_fd(), fs, attrs)
}

/// A context for a proc of a pid namespace. Since Linux 6.18 it can be told which. Before, a process of that namespace must
/// open it.
pub(crate) fn proc_of(pid_namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    let context = open("proc").context(|| "fsopen `proc`")?;
    match rustix::mount::fsconfig_set_fd(&context, "pidns", pid_namespace) {
        Ok(()) => return Ok(context),
        Err(Errno::INVAL) => {}
        Err(errno) => return Err(Error::call("fsconfig `pidns`", errno)),
    }
    drop(context);
    crate::kernel::sys::fsopen::proc_of(pid_namespace).context(|| "fsopen `proc` in that pid namespace")
}

/// A context for an instance: proc and sysfs show the namespaces of the process that opens it.
///
/// # Errors
/// fsopen(2)'s: ENODEV for a file system that the kernel has not.
pub(crate) fn open(fstype: &str) -> Result<OwnedFd, Errno> {
    rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)
}

/// Makes the detached instance of a context.
///
/// # Errors
/// What the kernel refuses, in its own words where it has any.
pub(crate) fn finish(context: BorrowedFd<'_>, fs: &Filesystem, attrs: Attrs) -> Result<OwnedFd> {
    configure(fs, context).map_err(|(call, errno)| of_options(fs, &call, explain(context, call.clone(), errno)))?;
    let attrs = MountAttrFlags::from_bits_retain(attrs.set as u32);
    let mount = rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attrs)
        .map_err(|errno| explain(context, "fsmount".into(), errno))?;
    label_root(fs, mount.as_fd())?;
    Ok(mount)
}

/// Labels the root of a new instance that takes a label in no other way.
///
/// # Errors
/// What the kernel refuses.
pub(crate) fn label_root(fs: &Filesystem, mount: BorrowedFd<'_>) -> Result<()> {
    let Some(label) = &fs.root_label else { return Ok(()) };
    let since = journal::now();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(mount, ".", flags, Mode::empty()).context(|| "open its root to label it")?;
    match rustix::fs::fsetxattr(&root, XATTR, label.as_bytes(), XattrFlags::empty()) {
        Ok(()) => Ok(()),
        // The policy has no labels for files of this type: there is nothing that a label could open or shut.
        Err(Errno::OPNOTSUPP) => {
            let about = || About::object(fs.fstype.clone()).by("leaving it as it is");
            journal::call("label", since, Err(&Error::call("setxattr", Errno::OPNOTSUPP)), about);
            Ok(())
        }
        Err(errno) => {
            let error = Error::call(format!("label its root `{label}`: setxattr `{XATTR}`"), errno);
            Err(error.advise(selinux::advice(errno, label)))
        }
    }
}

fn configure(fs: &Filesystem, context: BorrowedFd<'_>) -> Result<(), (String, Errno)> {
    use crate::kernel::rustix::mount::{fsconfig_create, fsconfig_set_flag, fsconfig_set_string};
    let named = |what: &str| format!("fsconfig `{what}`");
    fsconfig_set_string(context, "source", &*fs.source).map_err(|e| (named("source"), e))?;
    // `silent` is about what mount(2) prints to the kernel's log, which this call does not.
    for flag in fs.superblock.iter().filter(|flag| *flag != "silent") {
        fsconfig_set_flag(context, flag.as_str()).map_err(|e| (named(flag), e))?;
    }
    for (key, value) in &fs.data {
        match value {
            Some(value) => fsconfig_set_string(context, key.as_str(), value.as_str()),
            None => fsconfig_set_flag(context, key.as_str()),
        }
        .map_err(|e| (named(key), e))?;
    }
    fsconfig_create(context).map_err(|e| ("fsconfig create".into(), e))
}

/// What a refusal of the type or an option means; `what` names the option in backticks, or else is about all of them.
pub(crate) fn of_options(fs: &Filesystem, what: &str, error: Error) -> Error {
    // With a source on a device, it may be the device that is not there.
    if error.errno() == Some(Errno::NODEV) {
        return error.advise("see /proc/filesystems for those of this kernel; `modprobe` may add to them");
    }
    let key = what.split('`').nth(1).unwrap_or_default();
    let label = fs.data.iter().find(|(name, value)| LABELS.contains(&name.as_str()) && value.is_some());
    match (label, error.errno()) {
        (Some((option, Some(label))), Some(errno @ (Errno::INVAL | Errno::ACCESS))) if option == key => {
            return error.advise(selinux::advice(errno, label));
        }
        // Of the whole file system, only that it may not be labelled so.
        (Some((_, Some(label))), Some(Errno::ACCESS)) if key.is_empty() => {
            return error.advise(selinux::advice(Errno::ACCESS, label));
        }
        (Some((option, Some(label))), Some(Errno::INVAL)) if key.is_empty() => {
            let fstype = &fs.fstype;
            return error.advise(format!(
                "does `{fstype}` know these options, and take these values, and SELinux the label `{label}` by `{option}`?"
            ));
        }
        _ => {}
    }
    if error.errno() != Some(Errno::INVAL) || fs.data.is_empty() {
        return error;
    }
    let advice = match (fs.fstype.as_str(), key) {
        ("tmpfs", "size" | "nr_blocks") => {
            "a number is expected, with k, m, g or t, or with % of the memory; tmpfs(5)".into()
        }
        ("tmpfs", "nr_inodes") => "a number is expected, with k, m or g; tmpfs(5)".into(),
        (_, "mode") => "an octal number is expected, as in mode=1777".into(),
        (_, "uid" | "gid") => "a number is expected, of an ID that the container's user namespace has".into(),
        (fstype, "") => format!("does `{fstype}` know these options, and take these values?"),
        (fstype, key) => format!("does `{fstype}` know the option `{key}`, and take this value?"),
    };
    error.advise(advice)
}

/// The kernel's own words about a file-system context: it queues one message a read, `e `, `w ` or `i ` in front.
fn explain(context: BorrowedFd<'_>, call: String, errno: Errno) -> Error {
    let mut words = vec![];
    let mut line = [0u8; 512];
    while let Ok(n) = rustix::io::read(context, &mut line) {
        let text = String::from_utf8_lossy(&line[..n]);
        let text = text.trim();
        words.push(text.split_once(' ').map_or(text, |(_, rest)| rest).to_owned());
    }
    let said = if words.is_empty() { String::new() } else { format!(" (the kernel says: {})", words.join("; ")) };
    Error::call(format!("{call}{said}"), errno)
}
