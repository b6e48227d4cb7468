//! The users that a running container knows, by its own files.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

use crate::child::Places;
use crate::error::{Context, Error, Result};
use crate::plan::user::{Identity, UserSpec};
use crate::procfs::Proc;

/// A file of users that is longer than this, in bytes, is none.
const LONGEST: u64 = 16 << 20;

/// Where to look: the root of a container's first process.
pub struct Users<'a> {
    pid: i32,
    proc: &'a Proc,
}

impl<'a> Users<'a> {
    pub(super) fn of(pid: i32, proc: &'a Proc) -> Users<'a> {
        Users { pid, proc }
    }

    /// Finds a user. Every lookup stays in the container's root, whatever links its image has.
    ///
    /// # Errors
    /// A name that is not there, or a file that can't be read.
    pub fn find(&self, who: &UserSpec) -> Result<Identity> {
        let (passwd, group) = who.needs();
        let read = |needed: bool, path: &str| if needed { self.read(Path::new(path)) } else { Ok(String::new()) };
        who.resolve(&read(passwd, "/etc/passwd")?, &read(group, "/etc/group")?)
    }

    fn read(&self, path: &Path) -> Result<String> {
        self.try_read(path).context(|| format!("read the container's `{}`", path.display()))
    }

    fn try_read(&self, path: &Path) -> Result<String> {
        let root = self.proc.open_root(self.pid)?;
        // Looked at before it is opened: to open a fifo or a device is to do something to it.
        let Some(file) = Places::new(root.as_fd())?.find(path)? else { return Ok(String::new()) };
        let stat = rustix::fs::fstat(&file.fd).context(|| "fstat")?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::system("it is no regular file"));
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(self.proc, Proc::path_of(file.fd.as_fd()), flags, Mode::empty());
        let mut text = vec![];
        let opened = std::fs::File::from(opened.context(|| "open it")?);
        opened.take(LONGEST + 1).read_to_end(&mut text).context(|| "read it")?;
        match text.len() as u64 > LONGEST {
            true => Err(Error::system(format!("it has over {LONGEST} bytes"))),
            false => Ok(String::from_utf8_lossy(&text).into_owned()),
        }
    }
}
