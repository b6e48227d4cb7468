//! Replays a recorded conversation against one real end: its decoder, its sequence, its way with fds. The other end is
//! played from the frames, with stand-ins for their fds.
//!
//! The parent's end is [`ParentSession`] as `create`, `exec` and `start` drive it, and the checks of a terminal and of a
//! seccomp listener. The child's end is [`ChildSession`], told what it was told and made to say what it said: what a child
//! *does* between two messages is system calls on its own process, and is not replayed.

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::error::{Error, Kind as ErrorKind, Result};
use crate::plan::ChildPlan;
use crate::procfs::Proc;
use crate::protocol::channel::Channel;
use crate::protocol::codec;
use crate::protocol::event::{Recorder, Side};
use crate::protocol::message::Wire;
use crate::protocol::recording::{FdKind, Frame, Recording, borrowed};
use crate::protocol::sequence::{Direction, Sequence};
use crate::protocol::{ChildSession, Forks, Kind, ParentSession, ToChild, ToParent};

/// Is shown each frame before it is sent, with its number.
pub type Watch<'a> = dyn FnMut(usize, &Frame) -> Result<()> + 'a;

/// Every frame is there before it is asked for; what is not will not come.
const PATIENCE: Duration = Duration::from_secs(2);

/// The order that the frames of a command keep to, by the plan among them.
///
/// # Errors
/// There is no plan, or it does not decode.
pub fn sequence(command: &str, frames: &[Frame]) -> Result<Sequence> {
    if command == "start" {
        let listener = frames.iter().any(|f| kind_of(f) == Some(Kind::Listener));
        return Ok(Sequence::start(listener));
    }
    Ok(Sequence::new(codec::decode_payload::<ChildPlan>(&plan_in(frames))?.shape))
}

/// The plan of its parts, empty where there are none.
fn plan_in(frames: &[Frame]) -> Vec<u8> {
    let part = |frame: &Frame| match codec::decode(&frame.bytes) {
        Ok(ToChild::Plan(part)) => part.bytes,
        _ => vec![],
    };
    frames.iter().filter(|frame| frame.direction == Direction::ToChild).flat_map(part).collect()
}

/// Which message a frame is, if it is one.
pub fn kind_of(frame: &Frame) -> Option<Kind> {
    match frame.direction {
        Direction::ToChild => codec::decode::<ToChild>(&frame.bytes).ok().map(|m| m.kind()),
        Direction::ToParent => codec::decode::<ToParent>(&frame.bytes).ok().map(|m| m.kind()),
    }
}

/// What a person is told of a frame; never environment values.
pub fn describe(frame: &Frame) -> String {
    let (way, summary) = match frame.direction {
        Direction::ToChild => ("parent -> child", codec::decode::<ToChild>(&frame.bytes).map(|m| m.summary())),
        Direction::ToParent => ("child -> parent", codec::decode::<ToParent>(&frame.bytes).map(|m| m.summary())),
    };
    let name = kind_of(frame).map_or("no message", Kind::name);
    let summary = summary.unwrap_or_else(|e| e.to_string());
    let fds: Vec<String> = frame.fds.iter().map(|kind| format!("{kind:?}").to_lowercase()).collect();
    let fds = if fds.is_empty() { String::new() } else { format!(" + {}", fds.join(", ")) };
    format!("{way}  {name}{fds}  {} bytes  {summary}", frame.bytes.len()).trim_end().to_owned()
}

/// Plays the child of `frames` against the parent's end.
///
/// # Errors
/// What the parent's end finds wrong, as it would tell a user.
pub fn against_parent(frames: &[Frame], sequence: Sequence, watch: &mut Watch<'_>) -> Result<()> {
    let (ours, played) = Channel::pair()?;
    let mut session = ParentSession::parent(ours, sequence, Recorder::new(Side::Parent, true)).patient(Some(PATIENCE));
    for (i, frame) in frames.iter().enumerate() {
        watch(i, frame)?;
        let fds = stand_ins(frame)?;
        match frame.direction {
            Direction::ToChild => {
                session.send(codec::decode(&frame.bytes)?, &borrowed(&fds))?;
                played.receive_raw()?;
            }
            Direction::ToParent => {
                played.send_raw(&frame.bytes, &borrowed(&fds))?;
                drop(fds);
                if kind_of(frame) == Some(Kind::Trace) {
                    session.take_traces()?;
                    continue;
                }
                let (message, fds) = session.expect_next()?;
                match (message, fds.first()) {
                    (ToParent::Console, Some(master)) => crate::parent::check_master(master)?,
                    (ToParent::Listener, Some(listener)) => crate::parent::check_listener(listener, &Proc::open()?)?,
                    _ => {}
                }
            }
        }
    }
    drop(played);
    session.expect_end()
}

/// Plays the parent of `frames` against the child's end.
///
/// # Errors
/// What the child's end finds wrong, as it would report it.
pub fn against_child(command: &str, frames: &[Frame], watch: &mut Watch<'_>) -> Result<()> {
    let (ours, played) = Channel::pair()?;
    let opening = if command == "start" { sequence(command, frames)? } else { Sequence::opening() };
    let mut session = ChildSession::child(ours, opening, Recorder::new(Side::Child, false));
    let mut at = 0;
    while let Some(frame) = frames.get(at) {
        watch(at, frame)?;
        match (frame.direction, kind_of(frame)) {
            (Direction::ToChild, Some(kind @ (Kind::Plan | Kind::Filter))) => {
                let parts = frames[at..].iter().take_while(|f| kind_of(f) == Some(kind)).count();
                in_parts(&mut session, &played, &frames[at..at + parts], kind)?;
                at += parts;
                continue;
            }
            (Direction::ToChild, _) => {
                let fds = stand_ins(frame)?;
                played.send_raw(&frame.bytes, &borrowed(&fds))?;
                session.expect_next()?;
            }
            (Direction::ToParent, _) => {
                session.send(codec::decode(&frame.bytes)?, &borrowed(&stand_ins(frame)?))?;
                played.receive_raw()?;
            }
        }
        at += 1;
    }
    Ok(())
}

/// A payload may be bigger than what a socket holds: one thread writes while this one reads. It stops at what is not the
/// last part, by the end of the socket.
fn in_parts(session: &mut ChildSession, played: &Channel, parts: &[Frame], kind: Kind) -> Result<()> {
    let last = |frame: &Frame| codec::decode::<ToChild>(&frame.bytes).is_ok_and(|m| m.is_last());
    if !parts.last().is_some_and(last) {
        return Err(Error::new(ErrorKind::Protocol, format!("{} has no last part", kind.name())));
    }
    std::thread::scope(|scope| {
        let writer = scope
            .spawn(|| parts.iter().try_for_each(|part| played.send_raw(&part.bytes, &borrowed(&stand_ins(part)?))));
        let read = match kind {
            Kind::Plan => session.receive_plan(|plan: &ChildPlan| plan.shape).map(drop),
            _ => session.receive_filter().map(drop),
        };
        if read.is_err() {
            // The writer may wait for room that nobody will make.
            session.hang_up();
        }
        let written = writer.join().map_err(|_| Error::system("the thread that plays the parent panicked"))?;
        read.and(written)
    })
}

fn stand_ins(frame: &Frame) -> Result<Vec<OwnedFd>> {
    frame.fds.iter().map(|kind: &FdKind| kind.stand_in()).collect()
}

/// Frames as the fuzz targets take them: for each a byte for direction (its lowest bit) and number of fds, their kinds, two
/// bytes of length, little-endian, and as many bytes.
pub fn pack(frames: &[Frame]) -> Vec<u8> {
    let mut packed = vec![];
    for frame in frames {
        let fds = frame.fds.len().min(127);
        let bytes = &frame.bytes[..frame.bytes.len().min(usize::from(u16::MAX))];
        packed.push((fds as u8) << 1 | u8::from(frame.direction == Direction::ToParent));
        packed.extend(frame.fds[..fds].iter().map(|kind| *kind as u8));
        packed.extend((bytes.len() as u16).to_le_bytes());
        packed.extend(bytes);
    }
    packed
}

/// The opposite, of any bytes.
pub fn unpack(mut data: &[u8]) -> Vec<Frame> {
    let mut frames = vec![];
    while let [head, rest @ ..] = data {
        let (fds, rest) = rest.split_at(usize::from(head >> 1).min(rest.len()));
        let [low, high, rest @ ..] = rest else { break };
        let (bytes, rest) = rest.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(rest.len()));
        let direction = if head & 1 == 1 { Direction::ToParent } else { Direction::ToChild };
        let fds = fds.iter().map(|kind| FdKind::ALL[usize::from(*kind) % FdKind::ALL.len()]).collect();
        frames.push(Frame { direction, bytes: bytes.to_vec(), fds });
        data = rest;
    }
    frames
}

/// A recording as inputs of the session targets: name of the target, and the bytes.
///
/// # Errors
/// It holds no plan.
pub fn seeds(recording: &Recording) -> Result<Vec<(&'static str, Vec<u8>)>> {
    // No answers of the kernel: every call succeeds.
    let mut seeds = vec![("child_session", [&[0][..], &pack(&recording.frames)].concat())];
    let mut bits: u16 = if recording.command == "start" { 1 << 11 } else { 0 };
    seeds.extend(recording.frames.iter().map(|frame| ("frame_decode", frame.bytes.clone())));
    let plan = plan_in(&recording.frames);
    if !plan.is_empty() {
        let s = codec::decode_payload::<ChildPlan>(&plan)?.shape;
        seeds.push(("frame_decode", plan));
        let output = s.hook_output.is_some();
        let stderr = s.hook_output.is_some_and(|(_, stderr)| stderr);
        let flags = [
            s.joins,
            s.late_userns,
            s.forks != Forks::Never,
            s.sources,
            s.stage,
            s.hooks,
            s.terminal,
            output,
            stderr,
            s.filter,
            s.listener,
            // Of who calls `start`.
            false,
            s.forks == Forks::Last,
        ];
        bits |= flags.iter().enumerate().fold(0, |bits, (i, on)| bits | u16::from(*on) << i);
    }
    seeds.push(("parent_session", [&bits.to_le_bytes()[..], &pack(&recording.frames)].concat()));
    Ok(seeds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &ToParent, fds: Vec<FdKind>) -> Frame {
        Frame { direction: Direction::ToParent, bytes: codec::encode(message).unwrap(), fds }
    }

    fn terminal() -> Sequence {
        Sequence::new(crate::protocol::Shape { terminal: true, ..Default::default() })
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let frames = vec![said(&ToParent::Console, vec![FdKind::Terminal]), said(&ToParent::Ready, vec![])];
        assert_eq!(unpack(&pack(&frames)), frames);
    }

    #[test]
    fn a_child_replayed_to_its_end_is_no_error() {
        let frames = [
            said(&ToParent::NamespacesReady, vec![]),
            said(&ToParent::Console, vec![FdKind::Terminal]),
            said(&ToParent::Ready, vec![]),
            said(&ToParent::Executing, vec![]),
        ];
        against_parent(&frames, terminal(), &mut |_, _| Ok(())).unwrap();
    }

    #[test]
    fn a_listener_is_checked() {
        let listened = |kind| {
            let fds = vec![kind];
            let frames = [said(&ToParent::Executing, vec![]), said(&ToParent::Listener, fds)];
            against_parent(&frames, Sequence::start(true), &mut |_, _| Ok(()))
        };
        listened(FdKind::Listener).unwrap();
        let error = listened(FdKind::Anonymous).unwrap_err();
        assert!(error.to_string().contains("in place of the seccomp listener"), "{error}");
    }

    #[test]
    fn a_directory_is_no_terminal() {
        let frames = [said(&ToParent::NamespacesReady, vec![]), said(&ToParent::Console, vec![FdKind::Directory])];
        let error = against_parent(&frames, terminal(), &mut |_, _| Ok(())).unwrap_err();
        assert!(error.to_string().contains("something else than a terminal"), "{error}");
    }
}
