//! Compares two traces: what is new, what is gone, what went another way, what got slower.

use std::collections::{BTreeMap, HashMap};

use super::paint::{Paint, duration, safe};
use super::read::Section;
use super::summary::Summary;
use super::text::{side, sort};
use crate::error::{Error, Result};
use crate::protocol::event::{Event, Sort};

/// How many durations are listed; the others are counted.
const LISTED: usize = 15;

/// Pairs the commands of two files: the first `create` with the first, and so on.
pub(super) fn compare(before: &[Section], after: &[Section], paint: Paint) -> Result<String> {
    let mut text = String::new();
    let mut left: Vec<&Section> = after.iter().collect();
    let mut paired = 0;
    for section in before {
        match left.iter().position(|other| other.header.command == section.header.command) {
            Some(at) => {
                text.push_str(&pair(section, left.remove(at), paint));
                paired += 1;
            }
            None => text.push_str(&format!("{}: only before\n\n", safe(&section.header.command))),
        }
    }
    left.iter().for_each(|section| text.push_str(&format!("{}: only after\n\n", safe(&section.header.command))));
    match paired {
        0 => Err(Error::config("the two traces have no command in common")),
        _ => Ok(text),
    }
}

/// An event by what it is, and which of that it is: what differs between any two starts is no part of it.
type Key = (&'static str, &'static str, String, String, usize);

fn keyed(section: &Section) -> BTreeMap<Key, &Event> {
    let mut seen: HashMap<(&str, &str, String, String), usize> = HashMap::new();
    let mut keyed = BTreeMap::new();
    for event in section.events.iter().filter(|e| e.event != Sort::Receive) {
        let object = if event.object.starts_with("pid ") { String::new() } else { common(section, &event.object) };
        // A step that fails is the same step.
        let kind = if event.event == Sort::Step { "" } else { sort(event.event) };
        let kind = if event.event == Sort::Error && event.name != "failed" { "" } else { kind };
        let what = (side(event.side), kind, event.name.to_string(), object);
        let nth = seen.entry(what.clone()).or_default();
        keyed.insert((what.0, what.1, what.2, what.3, *nth), event);
        *nth += 1;
    }
    keyed
}

/// A text without the container's name, which is in paths of cgroups and of the state.
fn common(section: &Section, text: &str) -> String {
    let id = &section.header.id;
    if id.len() < 3 { text.to_owned() } else { text.replace(id.as_str(), "ID") }
}

fn label((side, kind, name, object, nth): &Key) -> String {
    let which = if *nth > 0 { format!(" ({})", nth + 1) } else { String::new() };
    let words = [kind, name.as_str(), object.as_str()].into_iter().filter(|word| !word.is_empty());
    format!("{side:<6} {}{which}", safe(&words.collect::<Vec<_>>().join(" ")))
}

fn pair(before: &Section, after: &Section, paint: Paint) -> String {
    let totals = (Summary::of(before).total, Summary::of(after).total);
    let mut text = paint.bold(&format!(
        "{}: {} before, {} after ({})",
        safe(&before.header.command),
        duration(totals.0),
        duration(totals.1),
        change(totals.0, totals.1)
    ));
    text.push_str("\n\n");
    let (old, new) = (keyed(before), keyed(after));
    let mut changed = vec![];
    for (key, event) in &old {
        match new.get(key) {
            None => changed.push(format!("  gone     {}{}", label(key), more(before, event))),
            Some(other) => changed
                .extend(differs((before, event), (after, other)).map(|d| format!("  changed  {}: {d}", label(key)))),
        }
    }
    for (key, event) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
        changed.push(format!("  new      {}{}", label(key), more(after, event)));
    }
    let head = if changed.is_empty() { "the same steps, in the same way\n" } else { "what changed:\n" };
    text.push_str(head);
    changed.iter().for_each(|line| text.push_str(&format!("{}\n", paint.cyan(line))));
    text.push_str(&durations(&old, &new, paint));
    text + "\n"
}

/// The durations, by how much they differ. What is on one side alone took no time on the other.
fn durations(old: &BTreeMap<Key, &Event>, new: &BTreeMap<Key, &Event>, paint: Paint) -> String {
    let took = |of: &BTreeMap<Key, &Event>, key: &Key| of.get(key).map_or(0, |event| event.took_us);
    let added = new.keys().filter(|key| !old.contains_key(*key)).map(|key| (key, " (new)"));
    let kept = old.keys().map(|key| (key, if new.contains_key(key) { "" } else { " (gone)" }));
    let both = kept.chain(added).map(|(key, alone)| (key, alone, took(old, key), took(new, key)));
    let mut both: Vec<_> = both.filter(|(.., a, b)| a != b).collect();
    both.sort_by_key(|(.., a, b)| std::cmp::Reverse(a.abs_diff(*b)));
    if both.is_empty() {
        return String::new();
    }
    let mut text = format!("\nslower and faster, the greatest difference first:\n{:>11} {:>11}\n", "before", "after");
    for (key, alone, a, b) in both.iter().take(LISTED) {
        let line = format!("{:>11} {:>11}  {:<22} {}{alone}", duration(*a), duration(*b), change(*a, *b), label(key));
        let line = if b > a { paint.yellow(&line) } else { paint.green(&line) };
        text.push_str(&format!("{line}\n"));
    }
    if let Some(rest) = both.len().checked_sub(LISTED).filter(|rest| *rest > 0) {
        text.push_str(&format!("and {rest} smaller ones\n"));
    }
    text
}

/// Which of the two was done in another way, or ended in another.
fn differs((before, old): (&Section, &Event), (after, new): (&Section, &Event)) -> Option<String> {
    if old.event != new.event {
        let text = if new.event == Sort::Error { &new.detail } else { &old.detail };
        return Some(format!("{} before, {} after: {}", sort(old.event), sort(new.event), safe(text)));
    }
    let fields = [("by", &*old.mechanism, &*new.mechanism), ("because", &*old.why, &*new.why)];
    let fields = fields.into_iter().map(|(word, a, b)| (word, common(before, a), common(after, b)));
    let differ = fields
        .filter(|(_, a, b)| a != b)
        .map(|(word, a, b)| format!("{word} `{}` before, `{}` after", safe(&a), safe(&b)));
    let mut differ: Vec<String> = differ.collect();
    // Of a mount and a write the detail is what was asked for; of others it has numbers that always differ.
    if matches!(&*old.name, "mount" | "cgroup write" | "map ids")
        && common(before, &old.detail) != common(after, &new.detail)
    {
        differ.push(format!("`{}` before, `{}` after", safe(&old.detail), safe(&new.detail)));
    }
    (!differ.is_empty()).then(|| differ.join("; "))
}

fn more(section: &Section, event: &Event) -> String {
    let fields = [(", by ", &*event.mechanism), (", because ", &*event.why)];
    let fields = fields.into_iter().filter(|(_, field)| !field.is_empty());
    fields.map(|(word, field)| format!("{word}{}", safe(&common(section, field)))).collect()
}

/// The difference, and the ratio.
fn change(before: u64, after: u64) -> String {
    let sign = if after >= before { "+" } else { "-" };
    let difference = duration(before.abs_diff(after));
    match before {
        0 => format!("{sign}{difference}"),
        _ => format!("{sign}{difference}, x {:.2}", after as f64 / before as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::super::paint::Color;
    use super::super::read::tests::{event, section};
    use super::*;
    use crate::protocol::event::Side;

    #[test]
    fn what_changed_and_what_got_slower() {
        let step = |name, took| event(Side::Child, Sort::Step, name, 0, took);
        let mut by = step("mount", 10);
        by.mechanism = "mount(2)".into();
        let before = section(vec![step("plan", 100), step("mount", 10), step("devices", 5)]);
        let after = section(vec![step("plan", 900), by, event(Side::Child, Sort::Fallback, "image", 1, 0)]);
        let text = compare(&[before], &[after], Paint::new(Color::Never)).unwrap();
        for line in [
            "gone     child  devices",
            "new      child  fallback image",
            "by `` before, `mount(2)` after",
            "+800 µs, x 9.00",
            "devices object (gone)",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }

    #[test]
    fn two_names_are_no_difference() {
        let of = |id: &str| {
            let mut made = section(vec![event(Side::Parent, Sort::Step, "cgroup make", 0, 5)]);
            made.header.id = id.into();
            made.events[0].object = format!("/sys/fs/cgroup/{id}");
            made
        };
        let text = compare(&[of("first")], &[of("second")], Paint::new(Color::Never)).unwrap();
        assert!(text.contains("the same steps"), "{text}");
    }
}
