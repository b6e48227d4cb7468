use std::time::Duration;

use rustix::io::Errno;

use super::super::channel::Channel;
use super::super::event::{Recorder, Side};
use super::super::message::{Events, Said, ToChild, ToParent};
use super::super::sequence::{Kind, Sequence, Shape};
use super::{ChildSession, ParentSession};
use crate::error::Error;

fn pair(shape: Shape) -> (ParentSession, ChildSession) {
    let (a, b) = Channel::pair().unwrap();
    let recorder = |side| Recorder::new(side, false);
    (
        ParentSession::parent(a, Sequence::new(shape), recorder(Side::Parent)),
        ChildSession::child(b, Sequence::opening(), recorder(Side::Child)),
    )
}

#[test]
fn a_plan_bigger_than_a_frame_arrives_whole() {
    let (mut parent, mut child) = pair(Shape::default());
    let plan: Vec<String> = (0..40_000).map(|i| format!("NAME_{i}=value")).collect();
    let sent = plan.clone();
    let sender = std::thread::spawn(move || parent.send_plan(&sent).map(|()| parent).unwrap());
    assert_eq!(child.receive_plan(|_: &Vec<String>| Shape::default()).unwrap(), plan);
    let mut parent = sender.join().unwrap();
    parent.send(ToChild::Begin, &[rustix::stdio::stdin()]).unwrap();
    assert_eq!(child.expect(Kind::Begin).unwrap().1.len(), 1);
}

#[test]
fn a_failure_of_the_child_is_the_parents_error_word_for_word() {
    let (mut parent, mut child) = pair(Shape::default());
    let error = Error::call("mount `/proc`", rustix::io::Errno::PERM).context("set up mounts");
    child.fail(error.clone());
    assert_eq!(parent.expect(Kind::NamespacesReady).unwrap_err(), error);
}

#[test]
fn a_child_that_skips_a_step_is_refused() {
    let (mut parent, child) = pair(Shape { terminal: true, ..Shape::default() });
    child.channel.send(&ToParent::NamespacesReady, &[]).unwrap();
    child.channel.send(&ToParent::Ready, &[]).unwrap();
    parent.expect(Kind::NamespacesReady).unwrap();
    let error = parent.expect(Kind::Console).unwrap_err();
    assert_eq!(error.to_string(), "sync protocol: expected Console, got Ready");
}

#[test]
fn an_early_end_says_what_was_awaited() {
    let (mut parent, child) = pair(Shape::default());
    drop(child);
    let error = parent.expect(Kind::NamespacesReady).unwrap_err();
    assert_eq!(error.to_string(), "sync protocol: the other side closed the socket; expected NamespacesReady");
}

fn impatient(shape: Shape) -> (ParentSession, ChildSession) {
    let (parent, child) = pair(shape);
    (parent.patient(Some(Duration::from_millis(50))), child)
}

#[test]
fn a_child_that_stalls_is_waited_for_no_longer_than_its_time() {
    let (mut parent, _child) = impatient(Shape::default());
    let error = parent.expect(Kind::NamespacesReady).unwrap_err();
    assert_eq!(error.to_string(), "sync protocol: wait for NamespacesReady: the other side stalled for 50ms");
}

#[test]
fn a_child_that_does_not_read_does_not_hold_the_parent() {
    let (mut parent, _child) = impatient(Shape::default());
    let error = parent.send_plan(&vec![0u8; 4 << 20]).unwrap_err();
    assert_eq!(error.to_string(), "sync protocol: send Plan: the other side stalled for 50ms");
}

#[test]
fn traces_buy_no_time() {
    let (mut parent, child) = impatient(Shape::default());
    let chatter =
        std::thread::spawn(move || while child.channel.send(&ToParent::Trace(Events::default()), &[]).is_ok() {});
    let error = parent.expect(Kind::NamespacesReady).unwrap_err();
    assert!(error.to_string().contains("stalled"), "{error}");
    drop(parent);
    chatter.join().unwrap();
}

#[test]
fn a_flood_of_traces_ends_at_its_cap() {
    let (parent, child) = pair(Shape::default());
    let mut parent = parent.patient(Some(Duration::from_secs(60)));
    let mut talker = Recorder::new(Side::Child, true);
    (0..15).for_each(|i| talker.step("step", i, || "x".repeat(4000)));
    let flood = ToParent::Trace(Events(talker.take_pieces().remove(0)));
    let sender = std::thread::spawn(move || while child.channel.send(&flood, &[]).is_ok() {});
    let error = parent.expect(Kind::NamespacesReady).unwrap_err();
    assert!(error.to_string().contains("over the cap of 67108864"), "{error}");
    drop(parent);
    sender.join().unwrap();
}

#[test]
fn events_that_ride_along_are_looked_at() {
    let piece = |side| {
        let mut talker = Recorder::new(side, true);
        talker.step("step", 1, String::new);
        talker.take_pieces().remove(0)
    };
    let told = |events: Vec<u8>| {
        let (mut parent, child) = pair(Shape::default());
        parent.recorder = Recorder::new(Side::Parent, true).in_lines();
        child.channel.send(&ToParent::NamespacesReady, &[]).unwrap();
        child.channel.send(&ToParent::Traced(Said::Ready, Events(events)), &[]).unwrap();
        parent.expect(Kind::NamespacesReady).unwrap();
        parent.expect(Kind::Ready).map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(told(piece(Side::Child)), Ok(()));
    assert!(told(piece(Side::Parent)).unwrap_err().contains("its trace tells of this side"));
    assert!(told(vec![255; 9]).unwrap_err().contains("malformed frame"));
}

#[test]
fn a_child_that_will_not_hear_is_not_waited_for() {
    let (mut parent, child) = pair(Shape::default());
    rustix::net::shutdown(child.channel.socket(), rustix::net::Shutdown::Read).unwrap();
    assert_eq!(parent.send_plan(&0u8).unwrap_err().errno(), Some(Errno::PIPE));
    assert_eq!(parent.last_words(), None);
}

#[test]
fn an_abort_ends_the_child() {
    let (mut parent, mut child) = pair(Shape::default());
    parent.send(ToChild::Abort { reason: "no cgroup".into() }, &[]).unwrap();
    let error = child.receive_plan(|_: &u8| Shape::default()).unwrap_err();
    assert_eq!(error.to_string(), "the parent gave up: no cgroup");
}
