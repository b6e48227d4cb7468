//! The container's terminal: made on its own devpts, its master sent to the parent.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::kernel::rustix;
use crate::kernel::rustix::fs::OFlags;
use crate::kernel::rustix::io::Errno;
use crate::kernel::rustix::pty::OpenptFlags;
use crate::kernel::rustix::termios::Winsize;

use super::attach::Places;
use super::rootfs::Root;
use super::{ChildSession, legacy, tree};
use crate::error::{Context, Error, Result};
use crate::plan::ContainerPlan;
use crate::plan::process::{ProcessPlan, TerminalSize};
use crate::procfs::Proc;
use crate::protocol::ToParent;

/// `statfs.f_type` of devpts; statfs(2).
const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

/// The side of the terminal that the payload has.
pub(super) struct Terminal {
    slave: OwnedFd,
}

/// Makes the terminal of a new container, binds it on `/dev/console`, and sends its master. None if none is wanted.
pub(super) fn for_container(
    session: &mut ChildSession,
    root: &Root,
    container: &ContainerPlan,
    process: &ProcessPlan,
    proc: &Proc,
) -> Result<Option<Terminal>> {
    let Some(size) = process.terminal else { return Ok(None) };
    let terminal = make(session, &root.places, size, process.user.uid)?;
    if container.own_dev {
        bind_console(root, &terminal.slave, proc).context(|| "bind the terminal on `/dev/console`")?;
    }
    Ok(Some(terminal))
}

/// Makes the terminal of a process in a running container, whose mount namespace this process has joined.
pub(super) fn for_exec(session: &mut ChildSession, process: &ProcessPlan) -> Result<Option<Terminal>> {
    let Some(size) = process.terminal else { return Ok(None) };
    let root = super::rootfs::open_directory(Path::new("/")).context(|| "open `/`")?;
    make(session, &Places::new(root.as_fd())?, size, process.user.uid).map(Some)
}

fn make(session: &mut ChildSession, places: &Places, size: TerminalSize, uid: u32) -> Result<Terminal> {
    let since = session.recorder.now();
    let master = open_master(places)?;
    rustix::pty::unlockpt(&master).context(|| "unlock the terminal")?;
    // By the master, not by a path that a process of the container could replace (CVE-2025-52565).
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).context(|| "open the terminal's other side")?;
    if size.rows > 0 && size.columns > 0 {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&slave, size).context(|| "set the size of the terminal")?;
    }
    let owner = rustix::fs::Uid::from_raw(uid);
    match rustix::fs::fchown(&slave, Some(owner), None) {
        // A user namespace without a mapping for it, or a read-only devpts: the terminal stays root's.
        Ok(()) | Err(Errno::INVAL | Errno::ROFS | Errno::PERM) => {}
        Err(errno) => return Err(Error::call("fchown the terminal", errno)),
    }
    session.recorder.step("terminal", since, || format!("{} rows, {} columns", size.rows, size.columns));
    session.send(ToParent::Console, &[master.as_fd()])?;
    Ok(Terminal { slave })
}

/// The multiplexer of the container's own devpts. What the container has at the path is not believed: it must be one.
fn open_master(places: &Places) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = places.open(Path::new("/dev/pts/ptmx"), flags)?;
    let master = match master {
        Some(master) => master,
        None => places.open(Path::new("/dev/ptmx"), flags)?.ok_or_else(|| {
            Error::call("open `/dev/pts/ptmx`", Errno::NOENT).advise("a terminal needs a devpts mounted on `/dev/pts`")
        })?,
    };
    let stat = rustix::fs::fstatfs(&master).context(|| "fstatfs the terminal multiplexer")?;
    match stat.f_type == DEVPTS_SUPER_MAGIC {
        true => Ok(master),
        false => Err(Error::system("the container's `/dev/pts/ptmx` is not on a devpts")),
    }
}

fn bind_console(root: &Root, slave: &OwnedFd, proc: &Proc) -> Result<()> {
    let dev = root.places.plain_directory(Path::new("/dev"))?;
    super::dev::make_mount_point(dev.fd.as_fd(), "console")?;
    let target = root.places.file(Path::new("/dev/console"))?;
    if root.api.moves_mounts() {
        let copy = tree::clone(slave.as_fd(), false).context(|| "open_tree the terminal")?;
        return tree::attach(copy.as_fd(), target.fd.as_fd()).context(|| "move_mount");
    }
    legacy::bind(slave.as_fd(), false, target.fd.as_fd(), proc)
}

impl Terminal {
    /// Makes it standard input, output and error.
    pub(super) fn make_standard(self) -> Result<()> {
        rustix::stdio::dup2_stdin(&self.slave).context(|| "dup2 the terminal on standard input")?;
        rustix::stdio::dup2_stdout(&self.slave).context(|| "dup2 the terminal on standard output")?;
        rustix::stdio::dup2_stderr(&self.slave).context(|| "dup2 the terminal on standard error")
    }
}
