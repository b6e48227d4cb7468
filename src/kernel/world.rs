//! What a played child has said, heard and done, and what its kernel answers.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, MemfdFlags, Mode, OFlags, PROC_SUPER_MAGIC};
use rustix::io::Errno;

use crate::error::Error;
use crate::protocol::Kind;
use crate::protocol::sequence::Direction;

/// One thing in the life of a played child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// A message of this kind was taken as legal; the last part of one, if it has parts.
    Heard(Kind),
    /// The same, sent.
    Said(Kind),
    /// A path was opened that leads from this process's root, not from an fd.
    Opened(String),
    /// A call that would have changed something, with what it was about.
    Did(&'static str, String),
    /// What it gave up with.
    Ended(String),
}

/// Errors that a kernel answers with, for the ways that the child has around some of them.
const ERRNOS: [Errno; 16] = [
    Errno::PERM,
    Errno::NOSYS,
    Errno::INVAL,
    Errno::NOENT,
    Errno::ACCESS,
    Errno::EXIST,
    Errno::BUSY,
    Errno::ROFS,
    Errno::LOOP,
    Errno::AGAIN,
    Errno::XDEV,
    Errno::NOTDIR,
    Errno::BADF,
    Errno::MFILE,
    Errno::NOSPC,
    Errno::NODEV,
];

/// A byte from here on is one of [`ERRNOS`]; below it, and where none is left, a call succeeds.
const REFUSES: u8 = 0x80;

/// More calls than this are no child any more: every list of a plan is finite, but not short.
const MOST: usize = 1 << 16;

pub(crate) struct World {
    deeds: Vec<Deed>,
    /// One for each call. Where it is empty, a call succeeds, and a look-up finds what was made.
    answers: VecDeque<u8>,
    /// What has been made, by its name alone.
    made: HashMap<OsString, FileType>,
    /// Who calls on the socket of a created container, in turn.
    callers: VecDeque<OwnedFd>,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

fn with<T>(act: impl FnOnce(&mut World) -> T) -> Option<T> {
    WORLD.with_borrow_mut(|world| world.as_mut().map(act))
}

/// Whether this thread plays a child.
pub(super) fn played() -> bool {
    WORLD.with_borrow(Option::is_some)
}

/// Plays a child on this thread, and tells what it did.
pub(super) fn play(answers: &[u8], callers: Vec<OwnedFd>, child: impl FnOnce() -> Error) -> Vec<Deed> {
    let (answers, callers) = (answers.iter().copied().collect(), callers.into());
    WORLD.set(Some(World { deeds: vec![], answers, made: HashMap::new(), callers }));
    let end = Deed::Ended(child().to_string());
    WORLD.take().map(|world| world.deeds).unwrap_or_default().into_iter().chain([end]).collect()
}

/// Called by an end of a conversation: a message that is legal here goes this way.
pub(crate) fn note(direction: Direction, kind: Kind, last: bool) {
    if last {
        let deed = if direction == Direction::ToChild { Deed::Heard(kind) } else { Deed::Said(kind) };
        with(|world| world.deeds.push(deed));
    }
}

impl World {
    fn answer(&mut self) -> Result<u8, Errno> {
        if self.deeds.len() > MOST {
            return Err(Errno::NOMEM);
        }
        match self.answers.pop_front().unwrap_or(0) {
            byte if byte < REFUSES => Ok(byte),
            byte => Err(ERRNOS[usize::from(byte) % ERRNOS.len()]),
        }
    }
}

/// A call that changes something: noted, and not made. None where no child is played.
pub(super) fn did(call: &'static str, about: impl FnOnce() -> String) -> Option<Result<(), Errno>> {
    with(|world| {
        world.deeds.push(Deed::Did(call, about()));
        world.answer().map(drop)
    })
}

/// The same for one that makes something in a directory, which a look-up will find.
pub(super) fn made(call: &'static str, dir: BorrowedFd<'_>, path: &[u8], what: FileType) -> Option<Result<(), Errno>> {
    use std::os::fd::AsRawFd;
    let answer = did(call, || String::from_utf8_lossy(path).into_owned())?;
    // Whatever a plan says, nothing is made by a path of the host.
    assert_ne!(dir.as_raw_fd(), libc::AT_FDCWD, "{call} by a path");
    let name = last_of(path);
    Some(answer.and_then(|()| match with(|world| world.made.insert(name, what)) {
        Some(Some(_)) => Err(Errno::EXIST),
        _ => Ok(()),
    }))
}

/// A question: not noted.
pub(super) fn asked() -> Option<Result<u8, Errno>> {
    with(World::answer)
}

/// A path is opened. None where no child is played, or procfs is read: that is this process's own.
pub(super) fn opened(dir: Option<BorrowedFd<'_>>, path: &[u8], flags: OFlags) -> Option<Result<OwnedFd, Errno>> {
    if !played() {
        return None;
    }
    let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::CREATE);
    let text = || String::from_utf8_lossy(path).into_owned();
    match dir {
        Some(dir) if on_procfs(dir) && !writes => return None,
        Some(dir) if on_procfs(dir) => return Some(did("write", text)?.and_then(|()| written())),
        Some(_) => {}
        None => {
            with(|world| world.deeds.push(Deed::Opened(text())));
        }
    }
    let name = last_of(path);
    let answer = asked()?;
    let there = with(|world| world.made.get(&name).copied()).flatten();
    let by_path = dir.is_none();
    Some(answer.and_then(|byte| match (byte, there) {
        _ if flags.contains(OFlags::DIRECTORY) || name.is_empty() => named(&name.to_string_lossy()),
        (0, _) if name == "null" => at("/dev/null", OFlags::PATH),
        (0, _) if name == "ptmx" => at("/dev/pts/ptmx", OFlags::PATH).or_else(|_| directory()),
        (0, Some(FileType::Directory)) => named(&name.to_string_lossy()),
        (0, Some(what)) => of(what),
        (0, None) if by_path => file(),
        (0, None) => Err(Errno::NOENT),
        (byte, _) => of(ANY[usize::from(byte) % ANY.len()]),
    }))
}

const ANY: [FileType; 5] =
    [FileType::Directory, FileType::RegularFile, FileType::Symlink, FileType::CharacterDevice, FileType::Fifo];

/// The socket of the next who calls.
pub(super) fn caller() -> Option<Result<OwnedFd, Errno>> {
    let answer = did("accept", String::new)?;
    Some(answer.and_then(|()| with(|world| world.callers.pop_front()).flatten().ok_or(Errno::CONNABORTED)))
}

fn on_procfs(dir: BorrowedFd<'_>) -> bool {
    use std::os::fd::AsRawFd;
    dir.as_raw_fd() != libc::AT_FDCWD && rustix::fs::fstatfs(dir).is_ok_and(|fs| fs.f_type == PROC_SUPER_MAGIC)
}

fn last_of(path: &[u8]) -> OsString {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    path.file_name().map(OsString::from).unwrap_or_default()
}

fn at(path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
}

/// A file that is written to.
fn written() -> Result<OwnedFd, Errno> {
    rustix::fs::memfd_create("double", MemfdFlags::CLOEXEC)
}

/// The names of directories that are each another than all the rest: the child compares them.
const TOLD_APART: [&str; 5] = ["proc", "sys", "dev", "", "any"];

/// Removed already: nothing is in them, and nothing can be made there.
fn dead_directories() -> Vec<OwnedFd> {
    let make = |name: &&str| {
        let thread = std::thread::current().id();
        let path = std::env::temp_dir().join(format!("tandem-double-{}-{thread:?}-{name}", std::process::id()));
        std::fs::create_dir(&path).expect("a directory");
        let dir = at(path.to_str().expect("a plain path"), OFlags::PATH).expect("it opens");
        std::fs::remove_dir(&path).expect("it is empty");
        dir
    };
    TOLD_APART.iter().map(make).collect()
}

thread_local! {
    static DIRECTORIES: Vec<OwnedFd> = dead_directories();
    static FILE: OwnedFd = written().expect("a file");
}

fn file() -> Result<OwnedFd, Errno> {
    FILE.with(|file| rustix::io::fcntl_dupfd_cloexec(file, 0))
}

/// Any directory.
pub(super) fn directory() -> Result<OwnedFd, Errno> {
    named("any")
}

fn named(name: &str) -> Result<OwnedFd, Errno> {
    let which = TOLD_APART.iter().position(|told| *told == name).unwrap_or(TOLD_APART.len() - 1);
    DIRECTORIES.with(|all| rustix::io::fcntl_dupfd_cloexec(&all[which], 0))
}

fn of(what: FileType) -> Result<OwnedFd, Errno> {
    match what {
        FileType::Directory => directory(),
        FileType::Symlink => at("/proc/self", OFlags::PATH | OFlags::NOFOLLOW),
        FileType::CharacterDevice => at("/dev/null", OFlags::PATH),
        FileType::Fifo => rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map(|(reading, _)| reading),
        _ => file(),
    }
}

/// What an fd of the same kind is: a copy of a mount tree.
pub(super) fn copy(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    use std::os::fd::AsRawFd;
    if fd.as_raw_fd() == libc::AT_FDCWD {
        return directory();
    }
    rustix::io::fcntl_dupfd_cloexec(fd, 0)
}

/// What stat(2) says of a path.
pub(super) fn stat(dir: Option<BorrowedFd<'_>>, path: &[u8]) -> Option<Result<rustix::fs::Stat, Errno>> {
    let found = match opened(dir, path, OFlags::PATH)? {
        Ok(fd) => rustix::fs::statat(fd.as_fd(), "", AtFlags::EMPTY_PATH),
        Err(errno) => Err(errno),
    };
    Some(found)
}
