//! Compares two traces: what is new, what is gone, what went another way, what got slower.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::fold::{self, FOLDED_FROM};
use super::paint::{Paint, duration, safe, shorten};
use super::read::Section;
use super::summary::{Failure, Summary};
use super::text::{id, side, sort};
use crate::error::{Error, Result};
use crate::protocol::event::{Event, Sort};

/// How many durations are listed; the others are counted.
const LISTED: usize = 15;
/// How much of a container's name a row has: an engine's is 64 characters long.
const ID: usize = 12;

/// Pairs the commands of two files: those of one name and one container, then those of one name in their order.
pub(super) fn compare(before: &[Section], after: &[Section], paint: Paint) -> Result<String> {
    let mut left: Vec<&Section> = after.iter().collect();
    let mut take = |same: &dyn Fn(&Section) -> bool| {
        let at = left.iter().position(|other| same(other))?;
        Some(left.remove(at))
    };
    let mut pairs: Vec<(&Section, Option<&Section>)> = before.iter().map(|section| (section, None)).collect();
    for with_id in [true, false] {
        for (section, other) in pairs.iter_mut().filter(|(_, other)| other.is_none()) {
            let (command, id) = (&section.header.command, &section.header.id);
            *other = take(&|o| o.header.command == *command && (!with_id || o.header.id == *id));
        }
    }
    let several = before.len() > 1 || after.len() > 1;
    let mut text = String::new();
    for (section, other) in &pairs {
        match other {
            Some(other) => {
                let (before, after) = (Named::of(section, before), Named::of(other, after));
                text.push_str(&pair(&before, &after, several, paint));
            }
            None => text.push_str(&format!("{}: only before\n\n", title(section))),
        }
    }
    left.iter().for_each(|section| text.push_str(&format!("{}: only after\n\n", title(section))));
    match pairs.iter().any(|(_, other)| other.is_some()) {
        true => Ok(text),
        false => Err(Error::config("the two traces have no command in common")),
    }
}

/// The command, and of which container.
fn title(section: &Section) -> String {
    format!("{} of `{}`", safe(&section.header.command), id(&section.header.id))
}

/// What failed, before and after, if anything did.
fn errors(before: &Summary<'_>, after: &Summary<'_>, paint: Paint) -> String {
    let failure = |summary: &Summary<'_>| {
        let told = |Failure { place, message, .. }| format!("{place}: {}", safe(message));
        summary.failure().map(told)
    };
    match (failure(before), failure(after)) {
        (None, None) => String::new(),
        (before, after) => [("before", before), ("after", after)]
            .map(|(when, error)| match error {
                Some(error) => paint.red(&format!("error {when:<6}  {error}")) + "\n",
                None => format!("error {when:<6}  none\n"),
            })
            .concat(),
    }
}

/// A section, and what differs between any two containers in it: those texts, with the words for them.
struct Named<'a> {
    section: &'a Section,
    words: Vec<(String, &'static str)>,
}

impl<'a> Named<'a> {
    /// `all`: the file's sections. Not every command tells where the bundle is.
    fn of(section: &'a Section, all: &[Section]) -> Named<'a> {
        let id = &section.header.id;
        let events = || all.iter().filter(|other| other.header.id == *id).flat_map(|other| &other.events);
        let object = |name: &str| events().find(|e| e.name == name && e.object.starts_with('/')).map(|e| &*e.object);
        let bundle = object("plan").and_then(|config| Some(Path::new(config).parent()?.to_str()?.to_owned()));
        let rootfs = object("rootfs").map(str::to_owned);
        // `/` alone is in every path.
        let places = [(bundle, "BUNDLE"), (rootfs, "ROOTFS")].map(|(text, word)| (text.filter(|t| t.len() > 2), word));
        let words = places.into_iter().chain([(Some(id.clone()).filter(|id| !id.is_empty()), "ID")]);
        Named { section, words: words.filter_map(|(text, word)| Some((text?, word))).collect() }
    }

    /// A text with those words.
    fn common(&self, text: &str) -> String {
        let named = self.words.iter().fold(text.to_owned(), |text, (name, word)| replace(&text, name, word));
        without_pids(&named)
    }
}

/// Replaces a name where it is not a part of a longer word. A short one may be a word of any text: only a part of a path, a unit
/// or a quoted name is replaced.
fn replace(text: &str, name: &str, word: &str) -> String {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let stands = |c: Option<char>| name.len() > 2 || c.is_some_and(|c| "/-:.`".contains(c));
    let mut replaced = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        let previous = before.chars().next_back().or(replaced.chars().next_back());
        let whole = !part(after.chars().next()) && !part(previous) && stands(previous);
        replaced.push_str(before);
        replaced.push_str(if whole { word } else { name });
        rest = after;
    }
    replaced + rest
}

/// `pid 4711`, which is another each time.
fn without_pids(text: &str) -> String {
    let mut parts = text.split("pid ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| match part.trim_start_matches(|c: char| c.is_ascii_digit()) {
        rest if rest.len() < part.len() => format!("{text}pid PID{rest}"),
        _ => format!("{text}pid {part}"),
    })
}

/// An event by what it is, and which of that it is: what differs between any two starts is no part of it.
type Key = (&'static str, &'static str, String, String, usize);

fn keyed<'a>(named: &Named<'a>) -> BTreeMap<Key, &'a Event> {
    let mut seen: HashMap<(&str, &str, String, String), usize> = HashMap::new();
    let mut keyed = BTreeMap::new();
    for event in named.section.events.iter().filter(|e| e.event != Sort::Receive) {
        let object = named.common(&event.object);
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

fn label((side, kind, name, object, nth): &Key) -> String {
    let which = if *nth > 0 { format!(" ({})", nth + 1) } else { String::new() };
    let words = [kind, name.as_str(), object.as_str()].into_iter().filter(|word| !word.is_empty());
    format!("{side:<6} {}{which}", safe(&words.collect::<Vec<_>>().join(" ")))
}

/// `several`: there are other pairs, and each row says of which it is.
fn pair(before: &Named<'_>, after: &Named<'_>, several: bool, paint: Paint) -> String {
    let (first, second) = (Summary::of(before.section), Summary::of(after.section));
    let totals = (first.total, second.total);
    let (command, ids) = (safe(&before.section.header.command), [before, after].map(|n| id(&n.section.header.id)));
    let of = if ids[0] == ids[1] { format!("`{}`", ids[0]) } else { format!("`{}`, then of `{}`", ids[0], ids[1]) };
    let mut text = paint.bold(&format!(
        "{command} of {of}: {} before, {} after ({})",
        duration(totals.0),
        duration(totals.1),
        change(totals.0, totals.1)
    ));
    text.push('\n');
    text.push_str(&errors(&first, &second, paint));
    text.push('\n');
    let whose = if several { format!("{command} {}: ", shorten(&ids[0], ID)) } else { String::new() };
    let label = |key: &Key| format!("{whose}{}", label(key));
    let (old, new) = (keyed(before), keyed(after));
    let gone = old.iter().filter(|(key, _)| !new.contains_key(*key));
    let mut changed = alone("gone", gone, before, &whose);
    for (key, event) in &old {
        let differ = new.get(key).and_then(|other| differs((before, event), (after, other)));
        changed.extend(differ.map(|d| format!("  changed  {}: {d}", label(key))));
    }
    changed.extend(alone("new", new.iter().filter(|(key, _)| !old.contains_key(*key)), after, &whose));
    let head = if changed.is_empty() { "the same steps, in the same way\n" } else { "what changed:\n" };
    text.push_str(head);
    changed.iter().for_each(|line| text.push_str(&format!("{}\n", paint.cyan(line))));
    text.push_str(&durations(&old, &new, &whose, totals.0.max(totals.1), paint));
    text + "\n"
}

/// What is on one side alone; like ones are one row.
fn alone<'a>(
    word: &str,
    events: impl Iterator<Item = (&'a Key, &'a &'a Event)>,
    named: &Named<'_>,
    whose: &str,
) -> Vec<String> {
    let mut kinds: Vec<Vec<(&Key, &Event)>> = vec![];
    for (key, event) in events {
        match kinds.iter_mut().find(|kind| fold::kind(kind[0].1) == fold::kind(event)) {
            Some(kind) => kind.push((key, *event)),
            None => kinds.push(vec![(key, *event)]),
        }
    }
    let row = |words: String| format!("  {word:<8} {whose}{words}");
    let rows = |kind: Vec<(&Key, &Event)>| match kind.len() >= FOLDED_FROM {
        true => vec![row(run(&kind, named))],
        false => kind.iter().map(|(key, event)| row(format!("{}{}", label(key), more(named, event)))).collect(),
    };
    kinds.into_iter().flat_map(rows).collect()
}

/// What a row of like events is called.
fn run(kind: &[(&Key, &Event)], named: &Named<'_>) -> String {
    let (what, of) = fold::words(&kind.iter().map(|(_, event)| *event).collect::<Vec<_>>());
    let of = if of.is_empty() { of } else { format!(": {}", named.common(&of)) };
    format!("{:<6} {what}{of}", kind[0].0.0)
}

/// The durations, by how much they differ, those of like steps together. What is on one side alone took no time on the other.
fn durations(
    old: &BTreeMap<Key, &Event>,
    new: &BTreeMap<Key, &Event>,
    whose: &str,
    whole: u64,
    paint: Paint,
) -> String {
    // What is so much of the whole is a row of its own, and what is less than that none.
    let (is_slow, is_told) = (|us: u64| us.saturating_mul(10) >= whole, |us: u64| us.saturating_mul(100) >= whole);
    let took = |of: &BTreeMap<Key, &Event>, key: &Key| of.get(key).map_or(0, |event| event.took_us);
    let added = new.keys().filter(|key| !old.contains_key(*key)).map(|key| (key, " (new)"));
    let kept = old.keys().map(|key| (key, if new.contains_key(key) { "" } else { " (gone)" }));
    let mut kinds: BTreeMap<_, Vec<(&Key, u64, u64)>> = BTreeMap::new();
    for (n, (key, alone)) in kept.chain(added).enumerate() {
        let (a, b) = (took(old, key), took(new, key));
        let single = if is_slow(a.max(b)) { n + 1 } else { 0 };
        kinds.entry((key.0, key.1, key.2.as_str(), alone, single)).or_default().push((key, a, b));
    }
    let mut both: Vec<(String, &str, u64, u64)> = vec![];
    for ((side, kind, name, alone, _), keys) in kinds {
        if keys.len() < FOLDED_FROM {
            both.extend(keys.iter().map(|(key, a, b)| (label(key), alone, *a, *b)));
            continue;
        }
        let (a, b) = keys.iter().fold((0, 0), |(x, y), (_, a, b)| (x + a, y + b));
        let words = [kind, name].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        both.push((format!("{side:<6} {} x{}", safe(&words), keys.len()), alone, a, b));
    }
    both.retain(|(.., a, b)| a != b);
    both.sort_by_key(|(.., a, b)| std::cmp::Reverse(a.abs_diff(*b)));
    let told = both.iter().take_while(|(.., a, b)| is_told(a.abs_diff(*b))).count().min(LISTED);
    if told == 0 {
        return String::new();
    }
    let mut text = format!("\nslower and faster, the greatest difference first:\n{:>11} {:>11}\n", "before", "after");
    for (label, alone, a, b) in both.iter().take(told) {
        let (before, after, change) = (duration(*a), duration(*b), change(*a, *b));
        let line = format!("{before:>11} {after:>11}  {change:<22} {whose}{label}{alone}");
        let line = if b > a { paint.yellow(&line) } else { paint.green(&line) };
        text.push_str(&format!("{line}\n"));
    }
    if let Some(rest) = both.len().checked_sub(told).filter(|rest| *rest > 0) {
        text.push_str(&format!("and {rest} smaller ones\n"));
    }
    text
}

/// Which of the two was done in another way, or ended in another.
fn differs((before, old): (&Named<'_>, &Event), (after, new): (&Named<'_>, &Event)) -> Option<String> {
    if old.event != new.event {
        let text = if new.event == Sort::Error { &new.detail } else { &old.detail };
        return Some(format!("{} before, {} after: {}", sort(old.event), sort(new.event), safe(text)));
    }
    let why = if new.event == Sort::Error { "what to do" } else { "because" };
    let fields = [("by", &*old.mechanism, &*new.mechanism), (why, &*old.why, &*new.why)];
    let fields = fields.into_iter().map(|(word, a, b)| (word, before.common(a), after.common(b)));
    let differ = fields
        .filter(|(_, a, b)| a != b)
        .map(|(word, a, b)| format!("{word} `{}` before, `{}` after", safe(&a), safe(&b)));
    let mut differ: Vec<String> = differ.collect();
    // Of an error the detail is its message, of a mount and a write what was asked for; of others it has numbers that always differ.
    if (old.event == Sort::Error || matches!(&*old.name, "mount" | "cgroup write" | "map ids"))
        && before.common(&old.detail) != after.common(&new.detail)
    {
        differ.push(format!("`{}` before, `{}` after", safe(&old.detail), safe(&new.detail)));
    }
    (!differ.is_empty()).then(|| differ.join("; "))
}

fn more(named: &Named<'_>, event: &Event) -> String {
    let why = if event.event == Sort::Error { ": " } else { ", because " };
    let told = if event.event == Sort::Error { &event.detail } else { &event.why };
    let fields = [(", by ", &*event.mechanism), (why, &**told)];
    let fields = fields.into_iter().filter(|(_, field)| !field.is_empty());
    fields.map(|(word, field)| format!("{word}{}", safe(&named.common(field)))).collect()
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
        let before = section(vec![step("plan", 100), step("mount", 10), step("devices", 50)]);
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
    fn a_failure_is_on_top_and_like_rows_are_one() {
        let many = |name: &'static str| {
            (0..4).map(move |i| Event {
                object: format!("/sys/fs/cgroup/{i}/x"),
                ..event(Side::Parent, Sort::Step, name, i * 10, 5)
            })
        };
        let mut failed = event(Side::Parent, Sort::Error, "failed", 1000, 0);
        (failed.object, failed.detail, failed.why) = ("plan".into(), "no such file".into(), "make it".into());
        let before = section(many("cgroup write").collect());
        let after = section(many("cgroup make").chain([failed]).collect());
        let text = compare(&[before], &[after], Paint::new(Color::Never)).unwrap();
        let top: Vec<&str> = text.lines().skip(1).take(2).collect();
        assert_eq!(top, ["error before  none", "error after   parent  plan: no such file"], "{text}");
        for line in [
            "  gone     parent cgroup write x4: 4 files below /sys/fs/cgroup\n",
            "  new      parent cgroup make x4: 4 directories below /sys/fs/cgroup\n",
            "parent cgroup make x4 (new)\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("because") && !text.contains("make it"), "{text}");
    }

    #[test]
    fn a_difference_of_less_than_a_hundredth_is_counted() {
        let step = |name, took| event(Side::Child, Sort::Step, name, 0, took);
        let (before, after) = ([step("plan", 900), step("mount", 1)], [step("plan", 1000), step("mount", 8)]);
        let text = compare(&[section(before.into())], &[section(after.into())], Paint::new(Color::Never)).unwrap();
        assert!(text.contains("child  plan object") && !text.contains("mount"), "{text}");
        assert!(text.contains("and 1 smaller ones"), "{text}");
    }

    /// A create of a container in a bundle, and what it did with a process.
    fn create(id: &str, bundle: &str, pid: i32) -> Section {
        let of = |name, object: String| Event { object, ..event(Side::Parent, Sort::Step, name, 0, 5) };
        let mut made = section(vec![
            of("plan", format!("{bundle}/config.json")),
            of("cgroup make", format!("/sys/fs/cgroup/libpod-{id}.scope")),
            of("clone", format!("pid {pid}")),
            of("hook", format!("createRuntime[0] {bundle}/hook")),
        ]);
        (made.header.id, made.header.command) = (id.into(), "create".into());
        made
    }

    #[test]
    fn names_and_places_are_no_difference() {
        let (before, after) = (create("first", "/srv/a", 17), create("second", "/tmp/b", 4711));
        let text = compare(&[before], &[after], Paint::new(Color::Never)).unwrap();
        assert!(text.contains("the same steps") && text.contains("create of `first`, then of `second`"), "{text}");
        let text =
            compare(&[create("a", "/srv/a", 17)], &[create("b2", "/tmp/b", 4711)], Paint::new(Color::Never)).unwrap();
        assert!(text.contains("the same steps"), "{text}");
        assert_eq!(replace("a copy of /x/a", "a", "ID"), "a copy of /x/ID");
        assert_eq!(replace("a", "a", "ID"), "a");
        assert_eq!(replace("/bx/bin /bx/bx", "/bx", "BUNDLE"), "BUNDLE/bin BUNDLE/bx");
        assert_eq!(replace("/bxin/x /bx", "/bx", "BUNDLE"), "/bxin/x BUNDLE");
        assert_eq!(without_pids("pid 12: of pid x, pid 3"), "pid PID: of pid x, pid PID");
    }

    #[test]
    fn of_several_commands_each_is_compared_with_its_like() {
        let mut other = create("second", "/tmp/b", 4711);
        other.events.truncate(3);
        let before = [create("first", "/srv/a", 17), create("second", "/tmp/b", 18)];
        let text = compare(&before, &[other, create("first", "/srv/a", 3)], Paint::new(Color::Never)).unwrap();
        let (first, second) = text.split_once("create of `second`:").unwrap();
        assert!(first.contains("create of `first`:") && first.contains("the same steps"), "{text}");
        assert!(second.contains("gone     create second: parent hook createRuntime[0] BUNDLE/hook"), "{text}");
    }
}
