//! Where the time went: in which step, in waiting for the other side, in nothing that was recorded.

use crate::protocol::event::{Event, Side, Sort};

/// From which share of the whole on a gap is one, in percent.
pub(super) const GAP_FROM: u64 = 5;

/// A time in which no step ran on either side, and no message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) at_us: u64,
    pub(super) took_us: u64,
}

/// What a side has waited for the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) side: Side,
    pub(super) took_us: u64,
    /// The message that was waited for longest, and how long.
    pub(super) longest: (usize, u64),
}

fn end(event: &Event) -> u64 {
    event.at_us.saturating_add(event.took_us)
}

/// Of each step, the time that is not that of steps within it. The events are in the order of their times.
pub(super) fn own_times(events: &[Event]) -> Vec<u64> {
    let mut own: Vec<u64> = events.iter().map(|event| event.took_us).collect();
    for side in [Side::Parent, Side::Child] {
        let steps = events.iter().enumerate().filter(|(_, e)| e.side == side && e.took_us > 0);
        let mut steps: Vec<(usize, &Event)> = steps.collect();
        steps.sort_by_key(|(_, e)| (e.at_us, std::cmp::Reverse(e.took_us)));
        // Those that are not over, each within the one before it.
        let mut open: Vec<usize> = vec![];
        for (i, event) in steps {
            while open.last().is_some_and(|outer| end(&events[*outer]) < end(event)) {
                open.pop();
            }
            if let Some(outer) = open.last() {
                own[*outer] = own[*outer].saturating_sub(event.took_us);
            }
            open.push(i);
        }
    }
    own
}

/// The gaps that are a share of the whole worth a word. The events are in the order of their times.
pub(super) fn gaps(events: &[Event], total: u64) -> Vec<Gap> {
    let mut gaps = vec![];
    let mut covered = events.first().map_or(0, |event| event.at_us);
    for event in events {
        let took_us = event.at_us.saturating_sub(covered);
        if took_us > 0 && took_us.saturating_mul(100) / total.max(1) >= GAP_FROM {
            gaps.push(Gap { at_us: covered, took_us });
        }
        covered = covered.max(end(event));
    }
    gaps
}

/// What each side has waited: from the end of what it did to a message that it got.
pub(super) fn waits(events: &[Event]) -> Vec<Wait> {
    let of = |side| {
        let mut busy = None;
        let mut wait: Option<Wait> = None;
        for (i, event) in events.iter().enumerate().filter(|(_, event)| event.side == side) {
            let idle = event.at_us.saturating_sub(busy.unwrap_or(event.at_us));
            if event.event == Sort::Receive && idle > 0 {
                let wait = wait.get_or_insert(Wait { side, took_us: 0, longest: (i, 0) });
                wait.took_us += idle;
                wait.longest = if idle > wait.longest.1 { (i, idle) } else { wait.longest };
            }
            busy = Some(busy.unwrap_or(0).max(end(event)));
        }
        wait
    };
    [Side::Parent, Side::Child].into_iter().filter_map(of).collect()
}

/// Which message a side gets next after a time, if that is the next that it does.
pub(super) fn awaited(events: &[Event], side: Side, at_us: u64) -> Option<&Event> {
    events.iter().find(|e| e.side == side && e.at_us > at_us).filter(|e| e.event == Sort::Receive)
}

#[cfg(test)]
mod tests {
    use super::super::read::tests::event;
    use super::*;

    #[test]
    fn a_step_within_another_is_not_counted_twice() {
        let events = [
            event(Side::Parent, Sort::Step, "cgroup", 0, 100),
            event(Side::Parent, Sort::Step, "cgroup write", 10, 80),
            event(Side::Child, Sort::Step, "mount", 10, 5),
        ];
        assert_eq!(own_times(&events), [20, 80, 5]);
    }

    #[test]
    fn a_gap_has_neither_a_step_nor_a_message() {
        let events = [
            event(Side::Parent, Sort::Step, "clone", 0, 400),
            event(Side::Parent, Sort::Send, "Plan", 410, 0),
            event(Side::Child, Sort::Step, "namespaces", 700, 100),
            event(Side::Parent, Sort::Receive, "NamespacesReady", 1000, 0),
        ];
        let gap = |at_us, took_us| Gap { at_us, took_us };
        assert_eq!(gaps(&events, 1000), [gap(410, 290), gap(800, 200)]);
        assert_eq!(awaited(&events, Side::Parent, 410).unwrap().name, "NamespacesReady");
        assert_eq!(awaited(&events, Side::Child, 410), None);
    }

    #[test]
    fn who_has_nothing_to_do_before_a_message_waits_for_it() {
        let events = [
            event(Side::Parent, Sort::Step, "clone", 0, 400),
            event(Side::Child, Sort::Step, "mount", 500, 100),
            event(Side::Parent, Sort::Receive, "NamespacesReady", 450, 0),
            event(Side::Parent, Sort::Receive, "Ready", 900, 0),
        ];
        assert_eq!(waits(&events), [Wait { side: Side::Parent, took_us: 500, longest: (3, 450) }]);
    }
}
