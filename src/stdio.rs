//! Gives the standard streams that a process inherits to its user: whoever opens `/dev/stdout` opens the file behind it
//! anew, which is the engine's until it is given away.

use crate::kernel::rustix;
use crate::kernel::rustix::fs::{FileType, OFlags, Uid};
use crate::kernel::rustix::io::Errno;

use crate::protocol::event::{About, Recorder};

/// How a file is opened that may be written to.
const WRITES: OFlags = OFlags::WRONLY.union(OFlags::RDWR);

/// Changes the owner of those that are pipes, sockets or files to write to; `uid` is the user's as the calling process knows it.
/// The group stays, as with runc. A device is the host's: its other users would lose it.
///
/// What can't be given is told in the trace alone: a file system, or an owner who is not mapped, may refuse, and most programs
/// only write to the streams that they have.
pub(crate) fn give_to(uid: u32, recorder: &mut Recorder) {
    let streams = [
        ("standard input", rustix::stdio::stdin()),
        ("standard output", rustix::stdio::stdout()),
        ("standard error", rustix::stdio::stderr()),
    ];
    for (name, stream) in streams {
        let refused = |call: &'static str, errno: Errno| About::object(name).by(call).why(errno.to_string());
        let stat = match rustix::fs::fstat(stream) {
            Ok(stat) => stat,
            // Closed: there is nothing to open anew.
            Err(Errno::BADF) => continue,
            Err(errno) => {
                recorder.fallback("stdio", || refused("fstat", errno));
                continue;
            }
        };
        let can_be_given = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Fifo | FileType::Socket => true,
            // Its owner may write to a file, whatever it was opened for: what is only read (`run <FILE`) stays the caller's.
            FileType::RegularFile => rustix::fs::fcntl_getfl(stream).is_ok_and(|flags| flags.intersects(WRITES)),
            _ => false,
        };
        if can_be_given
            && stat.st_uid != uid
            && let Err(errno) = rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), None)
        {
            recorder.fallback("stdio", || refused("fchown", errno));
        }
    }
}
