//! Plays the child's own code against any parent, with the double for its kernel.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::net::Shutdown;

use super::{order, world};
use crate::error::{Context, Result};
use crate::protocol::channel::Channel;
use crate::protocol::event::{Recorder, Side};
use crate::protocol::recording::{FdKind, Frame, borrowed};
use crate::protocol::sequence::{Direction, Sequence};
use crate::protocol::{ChildSession, Kind};
use crate::replay::{kind_of, unpack};

/// What a socket holds without a reader; a parent that has more to say stops in the middle of it.
const ROOM: usize = 160 * 1024;

/// What a frame takes in the kernel beside its bytes.
const OVERHEAD: usize = 2048;

/// A child's trace may be more than a socket holds, and nobody reads it.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(50);

/// Of an input: how many answers of the kernel follow, those, and frames, of which the parent's are taken. What comes after
/// Release is said by who calls `start`, each Start by another.
pub(crate) fn from_bytes(data: &[u8]) -> Vec<world::Deed> {
    let [answers, rest @ ..] = data else { return vec![] };
    let (answers, frames) = rest.split_at(usize::from(*answers).min(rest.len()));
    let mut frames = unpack(frames);
    frames.retain(|frame| frame.direction == Direction::ToChild);
    child(answers, &frames)
}

/// Plays a child, checks what it did, and tells it.
pub(crate) fn child(answers: &[u8], frames: &[Frame]) -> Vec<world::Deed> {
    let release = frames.iter().position(|frame| kind_of(frame) == Some(Kind::Release)).map_or(frames.len(), |i| i + 1);
    let (opening, rest) = frames.split_at(release);
    let callers: Vec<&[Frame]> = rest.chunk_by(|_, next| kind_of(next) != Some(Kind::Start)).collect();
    let Ok((theirs, parent)) = talk(opening) else { return vec![] };
    let Ok(callers) = callers.into_iter().map(talk).collect::<Result<Vec<_>>>() else { return vec![] };
    let (sockets, _callers): (Vec<OwnedFd>, Vec<Channel>) = callers.into_iter().unzip();
    let deeds = world::play(answers, sockets, || {
        let recorder = Recorder::new(Side::Child, false);
        let channel = Channel::from_socket(theirs);
        let mut session = ChildSession::child(channel, Sequence::opening(), recorder).patient(Some(PATIENCE));
        let Err(error) = crate::child::run(&mut session);
        session.fail(error.clone());
        error
    });
    drop(parent);
    order::check(&deeds);
    deeds
}

/// A socket on which a parent has said all of this and will say no more.
fn talk(frames: &[Frame]) -> Result<(OwnedFd, Channel)> {
    let (theirs, ours) = Channel::pair()?;
    let mut room = ROOM;
    for frame in frames {
        let Some(left) = room.checked_sub(2 * frame.bytes.len() + OVERHEAD) else { break };
        room = left;
        let fds: Vec<OwnedFd> = frame.fds.iter().map(|kind| stand_in(*kind, frame)).collect::<Result<_>>()?;
        ours.send_raw(&frame.bytes, &borrowed(&fds))?;
    }
    rustix::net::shutdown(ours.socket(), Shutdown::Write).context(|| "shutdown")?;
    Ok((theirs.into_socket(), ours))
}

/// The procfs that rides along with Begin is looked at for what it is, and read: it is this process's own.
fn stand_in(kind: FdKind, frame: &Frame) -> Result<OwnedFd> {
    match kind {
        FdKind::Directory if kind_of(frame) == Some(Kind::Begin) => {
            rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context(|| "open `/proc`")
        }
        FdKind::Directory => world::directory().context(|| "a directory"),
        kind => kind.stand_in(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::Deed;
    use super::*;
    use crate::protocol::codec;
    use crate::protocol::message::ToChild;

    #[test]
    fn what_is_no_parent_has_no_effect() {
        for data in [&[][..], &[0], &[9, 1], &[0, 0, 1, 0, 200]] {
            let deeds = from_bytes(data);
            assert!(!deeds.iter().any(|deed| matches!(deed, Deed::Did(..) | Deed::Opened(_))), "{deeds:?}");
        }
    }

    /// The recorded parents that seed the fuzzer, each with one who calls `start`.
    fn parents() -> Vec<Vec<Frame>> {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/child_session");
        let start = ToChild::Start { trace: true };
        let start = Frame { direction: Direction::ToChild, bytes: codec::encode(&start).unwrap(), fds: vec![] };
        let mut all = vec![];
        for seed in std::fs::read_dir(dir).unwrap() {
            let data = std::fs::read(seed.unwrap().path()).unwrap();
            let mut frames = unpack(&data[1..]);
            frames.retain(|frame| frame.direction == Direction::ToChild);
            if frames.iter().any(|frame| kind_of(frame) == Some(Kind::Plan)) {
                frames.push(start.clone());
                all.push(frames);
            }
        }
        assert!(all.len() > 4, "there are seeds");
        all
    }

    fn executes(deeds: &[Deed]) -> bool {
        deeds.iter().any(|deed| matches!(deed, Deed::Did("execve", _)))
    }

    #[test]
    fn a_recorded_parent_leads_its_child_to_the_payload() {
        for frames in parents() {
            let deeds = child(&[], &frames);
            assert!(executes(&deeds), "{deeds:#?}");
            let changed = deeds.iter().any(|deed| matches!(deed, Deed::Did("pivot_root" | "setns", _)));
            assert!(changed, "{deeds:#?}");
        }
    }

    #[test]
    fn a_parent_that_stops_anywhere_is_obeyed_no_further() {
        for frames in parents() {
            for stop in 0..frames.len() - 1 {
                let whole = frames[..stop].iter().any(|frame| kind_of(frame) == Some(Kind::Release));
                assert!(whole || !executes(&child(&[], &frames[..stop])));
            }
        }
    }

    #[test]
    fn a_parent_that_leaves_one_message_out_or_says_it_twice_is_not_obeyed() {
        for frames in parents() {
            for i in 0..frames.len() - 1 {
                let mut without = frames.clone();
                let left_out = without.remove(i);
                assert!(!executes(&child(&[], &without)), "without {:?}", kind_of(&left_out));
                let mut twice = frames.clone();
                twice.insert(i, left_out);
                if kind_of(&frames[i]) != Some(Kind::Release) {
                    assert!(!executes(&child(&[], &twice)), "twice {:?}", kind_of(&frames[i]));
                }
            }
        }
    }

    #[test]
    fn whichever_call_is_refused_the_order_holds() {
        for frames in parents() {
            // More answers than deeds: questions are answered too.
            for at in 0..2 * child(&[], &frames).len() {
                for refusal in [0x80, 0x81 + at as u8 % 15] {
                    child(&[vec![0; at], vec![refusal]].concat(), &frames);
                }
            }
        }
    }
}
