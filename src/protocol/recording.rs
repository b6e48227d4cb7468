//! A conversation as raw frames in a file, as the parent's end sends and receives them: to be replayed, and to fuzz from.
//!
//! JSON lines: a header for each conversation, then a frame each. It holds all that was said, the environment's values
//! too: the file is made with mode 0600, and one that others can read is not written to.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{AtFlags, FileType, MemfdFlags, Mode, OFlags, StatxFlags, statx};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use super::sequence::Direction;
use crate::error::{Context, Error, Result};
use crate::sys::seccomp;

/// Names the file to record to.
pub const VARIABLE: &str = "TANDEM_RECORD";

/// The version of the lines; a reader refuses another.
pub const VERSION: u32 = 3;

/// What an fd was open on: as much as a stand-in needs to be the same to who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FdKind {
    /// A directory; most mount trees are one.
    Directory,
    /// A regular file.
    File,
    /// A socket.
    Socket,
    /// A pipe or FIFO.
    Pipe,
    /// The master of a terminal.
    Terminal,
    /// Another device.
    Device,
    /// What has no file type: a pidfd.
    Anonymous,
    /// That of a seccomp filter that notifies.
    Listener,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which way it went.
    pub direction: Direction,
    /// As they were on the socket.
    pub bytes: Vec<u8>,
    /// One an fd that rode along.
    pub fds: Vec<FdKind>,
}

/// One conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// `create`, `run`, `exec` or `start`.
    pub command: String,
    /// In the order in which the parent sent or read them.
    pub frames: Vec<Frame>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    recording_version: u32,
    command: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    direction: Direction,
    bytes: String,
    fds: Vec<FdKind>,
}

impl FdKind {
    /// All of them.
    pub const ALL: [FdKind; 8] = [
        FdKind::Directory,
        FdKind::File,
        FdKind::Socket,
        FdKind::Pipe,
        FdKind::Terminal,
        FdKind::Device,
        FdKind::Anonymous,
        FdKind::Listener,
    ];

    /// What an fd is open on. No file system is asked: one that a container serves might never answer.
    ///
    /// # Errors
    /// statx(2)'s.
    pub fn of(fd: BorrowedFd<'_>) -> Result<FdKind> {
        const PTMX: (u32, u32) = (5, 2);
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let file = statx(fd, "", flags, StatxFlags::TYPE).context(|| "statx")?;
        Ok(match FileType::from_raw_mode(file.stx_mode.into()) {
            FileType::Directory => FdKind::Directory,
            FileType::RegularFile | FileType::Symlink => FdKind::File,
            FileType::Socket => FdKind::Socket,
            FileType::Fifo => FdKind::Pipe,
            FileType::CharacterDevice if (file.stx_rdev_major, file.stx_rdev_minor) == PTMX => FdKind::Terminal,
            FileType::CharacterDevice | FileType::BlockDevice => FdKind::Device,
            // The kernel's own: to ask it is to ask no file system.
            FileType::Unknown if seccomp::is_listener(fd) => FdKind::Listener,
            FileType::Unknown => FdKind::Anonymous,
        })
    }

    /// An fd of this kind that leads nowhere.
    ///
    /// # Errors
    /// The kernel has none.
    pub fn stand_in(self) -> Result<OwnedFd> {
        let open = |path: &str, flags| {
            rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).context(|| format!("open `{path}`"))
        };
        match self {
            FdKind::Directory => open("/", OFlags::PATH | OFlags::DIRECTORY),
            FdKind::File => rustix::fs::memfd_create("stand-in", MemfdFlags::CLOEXEC).context(|| "memfd_create"),
            FdKind::Socket => {
                let made =
                    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
                made.context(|| "socket")
            }
            FdKind::Pipe => rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context(|| "pipe").map(|p| p.0),
            FdKind::Terminal => open("/dev/ptmx", OFlags::RDWR | OFlags::NOCTTY),
            FdKind::Device => open("/dev/null", OFlags::RDWR),
            FdKind::Anonymous => rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).context(|| "eventfd"),
            FdKind::Listener => seccomp::idle_listener().context(|| "load a seccomp filter that notifies"),
        }
    }
}

/// Where one conversation is recorded to.
#[derive(Debug)]
pub struct Tape(File);

impl Tape {
    /// The file that the environment names, if it names one, with a new conversation begun.
    ///
    /// # Errors
    /// It can't be written, or others can read it.
    pub fn asked_for(command: &str) -> Result<Option<Tape>> {
        let path = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
        path.map(|path| Tape::open(Path::new(&path), command)).transpose()
    }

    /// Begins a conversation at the end of a file.
    ///
    /// # Errors
    /// As [`Tape::asked_for`].
    pub fn open(path: &Path, command: &str) -> Result<Tape> {
        let doing = || format!("write the recording `{}`", path.display());
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(path).context(doing)?;
        let mode = file.metadata().context(doing)?.mode();
        if mode & 0o077 != 0 {
            let error = Error::system("others can read or write it, and it would hold environment values");
            return Err(error.context(doing()).advise("chmod it to 0600, or name another file"));
        }
        let tape = Tape(file);
        tape.line(&Header { recording_version: VERSION, command: command.to_owned() })?;
        Ok(tape)
    }

    /// Records a frame with the fds that ride along.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn frame(&self, direction: Direction, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        let fds = fds.iter().map(|fd| FdKind::of(*fd)).collect::<Result<_>>()?;
        self.line(&Line { direction, bytes: STANDARD.encode(bytes), fds })
    }

    /// In one write, so that conversations at the same time don't mix their lines.
    fn line(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value).map_err(|e| Error::system(e.to_string()))? + "\n";
        (&self.0).write_all(text.as_bytes()).context(|| "write the recording")
    }
}

/// Reads all conversations of a file.
///
/// # Errors
/// It can't be read, or a line of it is wrong.
pub fn read(path: &Path) -> Result<Vec<Recording>> {
    let text = std::fs::read_to_string(path).context(|| format!("read `{}`", path.display()))?;
    let mut all: Vec<Recording> = vec![];
    for (i, line) in text.lines().enumerate() {
        let bad = |why: String| Error::config(format!("`{}`, line {}: {why}", path.display(), i + 1));
        if let Ok(header) = serde_json::from_str::<Header>(line) {
            if header.recording_version != VERSION {
                return Err(bad(format!("version {} is not {VERSION}", header.recording_version)));
            }
            all.push(Recording { command: header.command, frames: vec![] });
            continue;
        }
        let line: Line = match serde_json::from_str(line) {
            Ok(frame) => frame,
            Err(_) if has(line, "trace_version") => {
                let advice = format!("a recording is made by {VARIABLE}=FILE");
                return Err(bad("this is a trace: `tandem trace show` reads it".into()).advise(advice));
            }
            Err(e) => return Err(bad(format!("it is no frame: {e}"))),
        };
        let bytes = STANDARD.decode(line.bytes).map_err(|e| bad(e.to_string()))?;
        let last = all.last_mut().ok_or_else(|| bad("a frame before any header".into()))?;
        last.frames.push(Frame { direction: line.direction, bytes, fds: line.fds });
    }
    match all.is_empty() {
        true => Err(Error::config(format!("`{}` holds no recording", path.display()))),
        false => Ok(all),
    }
}

/// Whether a line is an object with this member: what else a file may be is told by its header.
pub(crate) fn has(line: &str, member: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(line).is_ok_and(|value| value.get(member).is_some())
}

/// Borrows fds for a call.
pub(crate) fn borrowed(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_read_again_and_nobody_else_may() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        let fd = FdKind::Terminal.stand_in().unwrap();
        Tape::open(&path, "create").unwrap().frame(Direction::ToParent, b"\x04", &[fd.as_fd()]).unwrap();
        let frame = Frame { direction: Direction::ToParent, bytes: vec![4], fds: vec![FdKind::Terminal] };
        assert_eq!(read(&path).unwrap(), [Recording { command: "create".into(), frames: vec![frame] }]);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert!(Tape::open(&path, "create").unwrap_err().to_string().contains("environment values"));
    }

    #[test]
    fn a_stand_in_is_of_its_kind() {
        for kind in FdKind::ALL {
            assert_eq!(FdKind::of(kind.stand_in().unwrap().as_fd()).unwrap(), kind);
        }
    }
}
