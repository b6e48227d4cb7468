//! File systems that the parent makes: those that are made from the host's paths (an overlay, a disk), and proc and sysfs
//! for a container in a user namespace.
//!
//! The kernel gives a user namespace a new proc or sysfs only where one that hides nothing is visible (mount_namespaces(7)
//! does not tell; `mount_too_revealing` does). The machine's root is not asked. So neither must the host's `/proc` lie
//! beneath the container's while it is made, nor does it matter what is masked there.

use std::os::fd::{AsFd, OwnedFd};

use nix::sched::CloneFlags;

use crate::error::{Context, Error, Result};
use crate::filesystem;
use crate::plan::mounts::Filesystem;
use crate::plan::namespaces::{flag, proc_name};
use crate::plan::options::Attrs;
use crate::procfs::Proc;
use crate::sys;

/// Makes an instance for the namespaces of a process.
///
/// # Errors
/// The namespace that it shows is not the container's own, or what the kernel refuses.
pub(super) fn make(fs: &Filesystem, attrs: Attrs, pid: i32, proc: &Proc) -> Result<OwnedFd> {
    let of = match fs.fstype.as_str() {
        "proc" => "pid",
        "sysfs" => "net",
        _ => return filesystem::make(fs, attrs),
    };
    let namespace = owned(pid, of, proc)?;
    let context = match of {
        "pid" => filesystem::proc_of(namespace.as_fd()),
        _ => sysfs_of(&namespace, proc),
    };
    let context = context.context(|| format!("make a {} of the container's {of} namespace", fs.fstype))?;
    filesystem::finish(context.as_fd(), fs, attrs)
}

/// A namespace of the process, which its user namespace must own: an instance for a namespace of the host's would give
/// the container's root what is the host's.
fn owned(pid: i32, name: &str, proc: &Proc) -> Result<OwnedFd> {
    let who = pid.to_string();
    let namespace = proc.open_namespace(&who, name)?;
    let user = proc.open_namespace(&who, "user")?;
    let owner = sys::namespace::owner(namespace.as_fd()).context(|| "ioctl NS_GET_USERNS")?;
    let own = proc.open_namespace("self", "user")?;
    let number = |fd: &OwnedFd| sys::identity(fd.as_fd()).context(|| "fstat");
    let user = number(&user)?;
    match number(&owner)? == user && user != number(&own)? {
        true => Ok(namespace),
        false => Err(Error::system(format!("the container's user namespace does not own its {name} namespace"))),
    }
}

fn sysfs_of(namespace: &OwnedFd, proc: &Proc) -> Result<OwnedFd> {
    inside(namespace, flag::NET, proc, || filesystem::open("sysfs").context(|| "fsopen `sysfs`"))
}

/// Runs `act` in another namespace of a kind, and goes back whatever came of it.
fn inside<T>(namespace: &OwnedFd, kind: u32, proc: &Proc, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let name = proc_name(kind);
    let own = proc.open_namespace("self", name)?;
    let set = |to: &OwnedFd| nix::sched::setns(to, CloneFlags::from_bits_retain(kind as i32));
    set(namespace).context(|| format!("setns to the container's {name} namespace"))?;
    let result = act();
    set(&own).context(|| format!("setns back to the runtime's own {name} namespace"))?;
    result
}
