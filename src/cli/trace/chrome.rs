//! A trace as Chrome trace events, which Perfetto and chrome://tracing open: steps as slices, messages as arrows.

use serde_json::{Value, json};

use super::read::Section;
use super::summary::Summary;
use super::text::{bare_name, sort};
use crate::protocol::event::{Event, Side, Sort};

pub(super) fn json(sections: &[Section]) -> String {
    let start = sections.iter().map(|section| Summary::of(section).start).min().unwrap_or(0);
    let events = sections.iter().enumerate().flat_map(|(n, section)| of_section(n, section, start));
    let events: Vec<Value> = events.collect();
    format!("{}\n", json!({"traceEvents": events, "displayTimeUnit": "ms"}))
}

/// Each side of each command is a process there: in their own pid namespaces two may have the same number.
fn process(n: usize, side: Side) -> usize {
    n * 2 + if side == Side::Parent { 1 } else { 2 }
}

fn of_section(n: usize, section: &Section, start: u64) -> Vec<Value> {
    let summary = Summary::of(section);
    let header = &section.header;
    let mut all = vec![];
    for (side, name) in [(Side::Parent, "parent"), (Side::Child, "child")] {
        let Some(first) = section.events.iter().find(|event| event.side == side) else { continue };
        let pid = process(n, side);
        let named =
            |what: &str, name: String| json!({"ph": "M", "name": what, "pid": pid, "tid": 1, "args": {"name": name}});
        all.push(named("process_name", format!("{} {}: {name}", header.command, header.id)));
        all.push(named("thread_name", format!("{name}, pid {}", first.pid)));
        all.push(json!({"ph": "M", "name": "process_sort_index", "pid": pid, "args": {"sort_index": pid}}));
    }
    // Slices of a thread lie within each other or apart, and of two that begin at once the longer has to come first: else the
    // reader drops one. A message is made longer than it was.
    let mut slices: Vec<&Event> = section.events.iter().chain(&section.after).collect();
    slices.sort_by_key(|event| (event.at_us, std::cmp::Reverse(event.took_us)));
    all.extend(slices.into_iter().map(|event| slice(n, event, start)));
    let mut arrows: Vec<_> = summary.arrows.iter().collect();
    arrows.sort();
    for (from, to) in arrows {
        let id = n * 1_000_000 + from;
        for (ph, event) in [("s", &section.events[*from]), ("f", &section.events[*to])] {
            let (ts, pid) = (event.at_us - start, process(n, event.side));
            let mut arrow =
                json!({"ph": ph, "id": id, "name": event.name, "cat": "message", "ts": ts, "pid": pid, "tid": 1});
            if ph == "f" {
                // It ends at the slice around it, not at the next one.
                arrow["bp"] = "e".into();
            }
            all.push(arrow);
        }
    }
    all
}

fn slice(n: usize, event: &Event, start: u64) -> Value {
    let args = json!({
        "object": event.object, "mechanism": event.mechanism, "why": event.why, "detail": event.detail,
        "fds": event.fds, "pid": event.pid,
    });
    let (ts, pid) = (event.at_us.saturating_sub(start), process(n, event.side));
    let mut value =
        json!({"name": bare_name(event), "cat": sort(event.event), "ts": ts, "pid": pid, "tid": 1, "args": args});
    match event.event {
        Sort::Fallback | Sort::Error | Sort::Refused if event.took_us == 0 => {
            value["ph"] = "i".into();
            value["s"] = "t".into();
        }
        _ => {
            value["ph"] = "X".into();
            // An arrow needs a slice that it begins in.
            value["dur"] = event.took_us.max(1).into();
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::super::read::tests::{event, section};
    use super::*;

    #[test]
    fn steps_are_slices_and_messages_arrows() {
        let text = json(&[section(vec![
            event(Side::Parent, Sort::Step, "plan", 100, 50),
            event(Side::Parent, Sort::Send, "Plan", 160, 0),
            event(Side::Child, Sort::Receive, "Plan", 170, 0),
            event(Side::Child, Sort::Error, "failed", 180, 0),
        ])]);
        let value: Value = serde_json::from_str(&text).unwrap();
        let events = value["traceEvents"].as_array().unwrap();
        let of = |ph: &str| events.iter().filter(|e| e["ph"] == ph).collect::<Vec<_>>();
        assert_eq!((of("X").len(), of("i").len(), of("s").len(), of("f").len(), of("M").len()), (3, 1, 1, 1, 6));
        assert_eq!((&of("X")[0]["ts"], &of("X")[0]["dur"]), (&json!(0), &json!(50)));
        assert_eq!(of("s")[0]["id"], of("f")[0]["id"]);
        assert_ne!(of("s")[0]["pid"], of("f")[0]["pid"]);
    }

    /// What the Trace Event Format asks of each phase, and a slice's time.
    fn checked(event: &Value) -> Option<(u64, u64)> {
        let number = |key: &str| event[key].as_u64().unwrap_or_else(|| panic!("`{key}` of {event}"));
        let text = |key: &str| event[key].as_str().unwrap_or_else(|| panic!("`{key}` of {event}"));
        number("pid");
        assert!(!text("name").is_empty(), "{event}");
        match text("ph") {
            "M" => match text("name") {
                "process_name" | "thread_name" => assert!(event["args"]["name"].is_string(), "{event}"),
                "process_sort_index" => assert!(event["args"]["sort_index"].is_u64(), "{event}"),
                other => panic!("no metadata is called {other}"),
            },
            "X" => return Some((number("ts"), number("ts") + number("dur"))),
            "i" => assert!(event["ts"].is_u64() && ["g", "p", "t"].contains(&text("s")), "{event}"),
            "s" | "f" => assert!(event["ts"].is_u64() && event["id"].is_u64() && event["cat"].is_string(), "{event}"),
            other => panic!("{other} is no phase that is written here"),
        }
        None
    }

    #[test]
    fn it_keeps_to_the_trace_event_format() {
        let mut events = vec![
            event(Side::Parent, Sort::Step, "cgroup", 0, 50),
            event(Side::Parent, Sort::Step, "cgroup write", 10, 0),
            event(Side::Parent, Sort::Send, "Plan", 50, 0),
            event(Side::Parent, Sort::Step, "open sources", 50, 20),
            event(Side::Parent, Sort::Send, "Begin", 60, 0),
            event(Side::Child, Sort::Receive, "Plan", 60, 0),
            event(Side::Child, Sort::Receive, "Begin", 61, 0),
            event(Side::Child, Sort::Refused, "bind", 70, 3),
            event(Side::Child, Sort::Fallback, "bind", 75, 0),
            event(Side::Child, Sort::Send, "Ready", 80, 0),
            event(Side::Parent, Sort::Receive, "Ready", 80, 0),
            event(Side::Parent, Sort::Error, "failed", 90, 0),
        ];
        let first = section(events.clone());
        events.iter_mut().for_each(|event| event.at_us += 1000);
        let value: Value = serde_json::from_str(&json(&[first, section(events)])).unwrap();
        let all = value["traceEvents"].as_array().unwrap();
        let track = |event: &Value| (event["pid"].as_u64(), event["tid"].as_u64());
        let slices: Vec<_> = all.iter().filter_map(|event| Some((track(event), checked(event)?))).collect();
        // Those of a thread are within each other or apart, by the rule that a reader closes each at its end.
        let mut open = vec![];
        for (track, (from, to)) in &slices {
            open.retain(|(other, end)| other != track || end > from);
            assert!(open.iter().all(|(other, end)| other != track || end >= to), "{from} to {to} overlaps: {all:#?}");
            open.push((*track, *to));
        }
        let flows = |ph: &str| all.iter().filter(|e| e["ph"] == ph).collect::<Vec<_>>();
        let mut ids: Vec<_> = flows("s").iter().map(|e| e["id"].as_u64()).collect();
        assert_eq!((ids.len(), flows("f").len()), (6, 6));
        ids.dedup();
        assert_eq!(ids.len(), 6, "each arrow has a number of its own");
        for (begin, end) in flows("s").into_iter().zip(flows("f")) {
            for same in ["id", "cat", "name"] {
                assert_eq!(begin[same], end[same]);
            }
            assert_eq!(end["bp"], "e");
            for at in [begin, end] {
                let ts = at["ts"].as_u64().unwrap();
                let within = |(on, (from, to)): &(_, (u64, u64))| *on == track(at) && *from <= ts && ts < *to;
                assert!(slices.iter().any(within), "no slice around {at}");
            }
        }
    }
}
