//! A `/proc` that is known to be one: opened once, early, and passed to whoever needs a file of it, the child too.
//!
//! A path such as `/proc/self/attr/exec` is only as good as what is mounted there; a label written to a regular file in
//! the container's own `/proc` is a label that was never applied (CVE-2019-16884). So the runtime makes a procfs of its
//! own that is mounted nowhere, and that nobody can mount anything over. Where it may not, it takes `/proc`, if that is
//! the root of a procfs, and every lookup stays on that very mount (CVE-2025-52881).

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::kernel::rustix;
use crate::kernel::rustix::fs::{AtFlags, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, StatxFlags};
use crate::kernel::rustix::io::Errno;
use crate::kernel::rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::error::{Context, Error, Result};

/// The inode of procfs's root; `PROC_ROOT_INO` of the kernel.
const ROOT_INODE: u64 = 1;

/// The inode of the initial user namespace on nsfs; `USER_NS_INIT_INO` of the kernel's interface.
const INITIAL_USERNS: u64 = 0xEFFF_FFFD;

/// A handle on procfs.
#[derive(Debug)]
pub(crate) struct Proc {
    root: OwnedFd,
    detached: Option<Errno>,
}

impl Proc {
    /// Makes a procfs of this process's own or, without the right to (CAP_SYS_ADMIN, fsopen), opens `/proc` and checks
    /// that it is one.
    ///
    /// # Errors
    /// `/proc` is missing or something else.
    pub(crate) fn open() -> Result<Proc> {
        match detached() {
            Ok(root) => Ok(Proc { root, detached: None }),
            Err(errno) => Ok(Proc { root: mounted()?, detached: Some(errno) }),
        }
    }

    /// The one that the other side of the sync socket has opened.
    ///
    /// # Errors
    /// It is no procfs.
    pub(crate) fn from_fd(root: OwnedFd) -> Result<Proc> {
        check_root(root.as_fd()).context(|| "the `/proc` that came over the socket")?;
        Ok(Proc { root, detached: None })
    }

    /// Which of the two ways it was had, for the trace.
    pub(crate) fn describe(&self) -> String {
        match self.detached {
            None => "a procfs of the runtime's own, mounted nowhere".into(),
            Some(errno) => format!("the host's `/proc`, checked; none of its own to be had ({errno})"),
        }
    }

    /// Writes a file below `/proc/self`, in one write.
    ///
    /// # Errors
    /// The call and the path.
    pub(crate) fn write_self(&self, path: &str, text: &str) -> Result<()> {
        self.write(&format!("self/{path}"), text)
    }

    /// Writes a file below `/proc/PID`.
    ///
    /// # Errors
    /// The call and the path.
    pub(crate) fn write_pid(&self, pid: i32, path: &str, text: &str) -> Result<()> {
        self.write(&format!("{pid}/{path}"), text)
    }

    /// Writes a file below `/proc/sys`.
    ///
    /// # Errors
    /// The call and the path.
    pub(crate) fn write_sysctl(&self, path: &str, value: &str) -> Result<()> {
        self.write(&format!("sys/{path}"), value)
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let doing = || format!("write {:?} to `/proc/{path}`", text.trim_end());
        let file = self.open_file(path, OFlags::WRONLY).context(doing)?;
        rustix::io::retry_on_intr(|| rustix::io::write(&file, text.as_bytes())).context(doing).map(drop)
    }

    /// Reads a text file, such as `self/mountinfo`.
    ///
    /// # Errors
    /// The call and the path.
    pub(crate) fn read(&self, path: &str) -> Result<String> {
        let doing = || format!("read `/proc/{path}`");
        let file = self.open_file(path, OFlags::RDONLY).context(doing)?;
        let mut bytes = vec![];
        std::fs::File::from(file).read_to_end(&mut bytes).context(doing)?;
        // Names of mount points and cgroups may be any bytes.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Opens a namespace by its link, such as `self/ns/net`.
    ///
    /// # Errors
    /// The call and the path.
    pub(crate) fn open_namespace(&self, who: &str, name: &str) -> Result<OwnedFd> {
        let doing = || format!("open `/proc/{who}/ns/{name}`");
        let dir = self.open_file(&format!("{who}/ns"), OFlags::PATH | OFlags::DIRECTORY).context(doing)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&dir, name, flags, Mode::empty()).context(doing)
    }

    /// Which namespace a process is in: equal for the same one alone. None where this process may not look, or the kernel has
    /// none of the type.
    ///
    /// # Errors
    /// The call and the path.
    pub(crate) fn namespace(&self, pid: i32, name: &str) -> Result<Option<(u64, u64)>> {
        let doing = || format!("stat `/proc/{pid}/ns/{name}`");
        let dir = self.open_file(&format!("{pid}/ns"), OFlags::PATH | OFlags::DIRECTORY).context(doing)?;
        match rustix::fs::statat(&dir, name, AtFlags::empty()) {
            Ok(stat) => Ok(Some((stat.st_dev, stat.st_ino))),
            Err(Errno::ACCESS | Errno::PERM | Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::call(doing(), errno)),
        }
    }

    /// Opens the root directory of a process by its link.
    ///
    /// # Errors
    /// The call and the path.
    pub(crate) fn open_root(&self, pid: i32) -> Result<OwnedFd> {
        let doing = || format!("open `/proc/{pid}/root`");
        let dir = self.open_file(&pid.to_string(), OFlags::PATH | OFlags::DIRECTORY).context(doing)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&dir, "root", flags, Mode::empty()).context(doing)
    }

    /// Whether this process is in the initial user namespace. Its number tells: one that maps all IDs to themselves may
    /// be another.
    ///
    /// # Errors
    /// The call and the path.
    pub(crate) fn in_initial_userns(&self) -> Result<bool> {
        let dir = self.open_file("self/ns", OFlags::PATH | OFlags::DIRECTORY).context(|| "open `/proc/self/ns`")?;
        match rustix::fs::statat(&dir, "user", AtFlags::empty()) {
            Ok(stat) => Ok(stat.st_ino == INITIAL_USERNS),
            // A kernel without user namespaces is all one.
            Err(Errno::NOENT) => Ok(true),
            Err(errno) => Err(Error::call("stat `/proc/self/ns/user`", errno)),
        }
    }

    /// Opens a file of this very procfs: nothing mounted on it, no magic link out of it.
    fn open_file(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
            // No openat2, or a filter that does not know it.
            Err(Errno::NOSYS | Errno::PERM) => {
                let file = rustix::fs::openat(&self.root, path, flags, Mode::empty()).context(|| "openat")?;
                self.check_same_mount(file.as_fd())?;
                Ok(file)
            }
            Err(Errno::XDEV) => Err(Error::call("openat2", Errno::XDEV).advise("something is mounted over it")),
            file => file.context(|| "openat2"),
        }
    }

    /// What openat2 would have checked: the file is on this mount, not on one that covers a part of it.
    fn check_same_mount(&self, file: BorrowedFd<'_>) -> Result<()> {
        let mount = |fd: BorrowedFd<'_>| {
            let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).context(|| "statx")?;
            match stat.stx_mask & StatxFlags::MNT_ID.bits() {
                0 => Err(Error::call("statx STATX_MNT_ID", Errno::NOSYS).advise("Linux 5.8 has it")),
                _ => Ok(stat.stx_mnt_id),
            }
        };
        match mount(file)? == mount(self.root.as_fd())? {
            true => Ok(()),
            false => Err(Error::system("it is not on the trusted procfs: something is mounted over it")),
        }
    }

    /// The numbers of the caller's open fds.
    ///
    /// # Errors
    /// The call and the path.
    pub(crate) fn own_fds(&self) -> Result<Vec<i32>> {
        self.numbers("self/fd")
    }

    /// How many threads the caller has.
    ///
    /// # Errors
    /// A directory that can't be read.
    pub(crate) fn own_threads(&self) -> Result<usize> {
        self.numbers("self/task").map(|threads| threads.len())
    }

    /// The process IDs that this procfs has now.
    ///
    /// # Errors
    /// A directory that can't be read.
    pub(crate) fn processes(&self) -> Result<Vec<i32>> {
        self.numbers(".")
    }

    fn numbers(&self, dir: &str) -> Result<Vec<i32>> {
        let doing = || format!("read `/proc/{dir}`");
        let opened = self.open_file(dir, OFlags::RDONLY | OFlags::DIRECTORY).context(doing)?;
        let entries = rustix::fs::Dir::read_from(&opened).context(doing)?;
        let mut numbers = vec![];
        for entry in entries {
            let entry = entry.context(doing)?;
            numbers.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()));
        }
        Ok(numbers)
    }

    /// The process ID that this procfs knows the caller by: in a new pid namespace, the host's number for it.
    ///
    /// # Errors
    /// The caller has no number in this procfs's pid namespace.
    pub(crate) fn own_pid(&self) -> Result<i32> {
        let link = rustix::fs::readlinkat(&self.root, "self", []).context(|| "read the link `/proc/self`")?;
        let pid = link.to_str().ok().and_then(|pid| pid.parse().ok());
        pid.ok_or_else(|| crate::error::Error::system("`/proc/self` is no process ID"))
    }

    /// The path of an fd *relative to procfs's root*: for calls that know only paths, after [`Proc::enter`].
    pub(crate) fn path_of(fd: BorrowedFd<'_>) -> String {
        format!("self/fd/{}", fd.as_raw_fd())
    }

    /// How many pid namespaces, counted from this procfs's own, a process is in; `NSpid` of proc_pid_status(5).
    ///
    /// # Errors
    /// It is gone.
    pub(crate) fn pid_depth(&self, pid: i32) -> Result<usize> {
        self.pids_of(pid).map(|pids| pids.len())
    }

    /// Its process ID in each of them, the innermost last.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) fn pids_of(&self, pid: i32) -> Result<Vec<i32>> {
        let path = format!("{pid}/status");
        let text = self.read(&path)?;
        let numbers = text.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let numbers =
            numbers.map(|line| line.split_ascii_whitespace().map(str::parse).collect::<Result<Vec<i32>, _>>());
        match numbers {
            Some(Ok(numbers)) => Ok(numbers),
            _ => Err(Error::system(format!("`/proc/{path}` has no NSpid"))),
        }
    }

    /// What the kernel calls the file that an fd of this process is open on; proc_pid_fd(5).
    ///
    /// # Errors
    /// readlink(2)'s.
    pub(crate) fn own_fd_name(&self, fd: BorrowedFd<'_>) -> Result<String> {
        let path = Proc::path_of(fd);
        let name =
            rustix::fs::readlinkat(&self.root, &*path, []).context(|| format!("read the link `/proc/{path}`"))?;
        Ok(name.to_string_lossy().into_owned())
    }

    /// Opens what an fd of this process is open on anew.
    ///
    /// # Errors
    /// open(2)'s.
    pub(crate) fn reopen(&self, fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
        let path = Proc::path_of(fd);
        let opened = rustix::fs::openat(&self.root, &*path, flags | OFlags::CLOEXEC, Mode::empty());
        opened.context(|| format!("open `/proc/{path}`"))
    }

    /// A further fd of its root.
    ///
    /// # Errors
    /// dup(2)'s.
    pub(crate) fn directory(&self) -> Result<OwnedFd> {
        self.root.try_clone().context(|| "duplicate the fd of procfs")
    }

    /// Makes procfs the working directory.
    ///
    /// # Errors
    /// fchdir(2)'s.
    pub(crate) fn enter(&self) -> Result<()> {
        rustix::process::fchdir(&self.root).context(|| "fchdir to procfs")
    }
}

fn detached() -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    let attrs =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attrs)
}

fn mounted() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open("/proc", flags, Mode::empty()).context(|| "open `/proc`")?;
    check_root(root.as_fd()).context(|| "`/proc`")?;
    Ok(root)
}

/// A directory of procfs is not enough: one bound on `/proc` would be another's.
fn check_root(fd: BorrowedFd<'_>) -> Result<()> {
    let kind = rustix::fs::fstatfs(fd).context(|| "fstatfs")?.f_type;
    let inode = rustix::fs::fstat(fd).context(|| "fstat")?.st_ino;
    match (kind == PROC_SUPER_MAGIC, inode == ROOT_INODE) {
        (true, true) => Ok(()),
        (false, _) => Err(Error::system("it is not procfs: something else is mounted there")),
        (true, false) => Err(Error::system("it is not the root of a procfs: a part of one is mounted there")),
    }
}

impl AsFd for Proc {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_no_procfs_is_refused() {
        let open = |path: &str| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        assert!(Proc::from_fd(open("/")).is_err());
        let part = Proc::from_fd(open("/proc/self")).unwrap_err().to_string();
        assert!(part.contains("not the root of a procfs"), "{part}");
    }

    #[test]
    fn it_is_this_processs_own() {
        let proc = Proc::from_fd(mounted().unwrap()).unwrap();
        assert_eq!(proc.own_pid().unwrap() as u32, std::process::id());
        assert!(proc.read("self/mountinfo").unwrap().contains(" / "));
        assert!(proc.own_fds().unwrap().len() > 3);
    }

    #[test]
    fn a_file_of_another_mount_is_told_apart() {
        let proc = Proc::from_fd(mounted().unwrap()).unwrap();
        let other = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        assert!(proc.check_same_mount(other.as_fd()).is_err());
        proc.check_same_mount(proc.as_fd()).unwrap();
    }
}
