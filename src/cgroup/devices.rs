//! The device filter: what is allowed on top of the rules, and its form in cgroup v1.

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::dir::{Dir, write_value};
use crate::error::{Error, Result};
use crate::plan::resources::{DeviceAccess, DeviceKind, DeviceRule};
use crate::protocol::journal;

/// What every container may do whatever its rules say, as with runc and crun: make any node (which gives no access to
/// the device), and use the devices that are in every `/dev`: null, zero, full, random, urandom, tty, console, ptmx,
/// its terminals, and /dev/net/tun.
pub(super) fn defaults() -> impl Iterator<Item = DeviceRule> {
    let any = |kind| DeviceRule { allow: true, kind, major: None, minor: None, access: DeviceAccess::MKNOD };
    let devices = [
        (1, Some(3)),
        (1, Some(5)),
        (1, Some(7)),
        (1, Some(8)),
        (1, Some(9)),
        (5, Some(0)),
        (5, Some(1)),
        (5, Some(2)),
        (136, None),
        (10, Some(200)),
    ];
    let devices = devices.into_iter().map(|(major, minor)| DeviceRule {
        allow: true,
        kind: DeviceKind::Char,
        major: Some(major),
        minor,
        access: DeviceAccess::ALL,
    });
    [any(DeviceKind::Char), any(DeviceKind::Block)].into_iter().chain(devices)
}

/// The container's rules, then the defaults: what a v2 filter is made of. Nothing allowed is denied.
pub(super) fn complete(rules: &[DeviceRule]) -> Vec<DeviceRule> {
    rules.iter().copied().chain(defaults()).collect()
}

/// Whether a container with these rules may open a device for reading or writing.
pub(crate) fn allows(rules: &[DeviceRule], kind: DeviceKind, major: u32, minor: u32) -> bool {
    let speaks_of = |rule: &DeviceRule| {
        (rule.kind == DeviceKind::All || rule.kind == kind)
            && rule.major.is_none_or(|m| m == major)
            && rule.minor.is_none_or(|m| m == minor)
    };
    let rules: Vec<DeviceRule> = complete(rules).into_iter().filter(speaks_of).collect();
    // The last one that speaks of an access decides it; without any it is denied.
    let decides = |access: fn(&DeviceAccess) -> bool| rules.iter().rev().find(|rule| access(&rule.access));
    let accesses: [fn(&DeviceAccess) -> bool; 2] = [|access| access.read, |access| access.write];
    accesses.into_iter().filter_map(decides).any(|rule| rule.allow)
}

/// Whether the rules allow everything, as a privileged container's do: no filter is needed then.
pub(super) fn allow_all(rules: &[DeviceRule]) -> bool {
    let last_total = rules.iter().rposition(DeviceRule::is_total);
    last_total.is_some_and(|last| rules[last..].iter().all(|rule| rule.allow))
}

/// A state of cgroup v1's controller: what it does by default, and the exceptions from that, by device
/// (security/device_cgroup.c, Documentation/admin-guide/cgroup-v1/devices.rst).
#[derive(Clone, Debug, PartialEq)]
struct State {
    allow: bool,
    exceptions: Vec<Exception>,
}

/// The kernel keeps one access set for each triple.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Exception {
    kind: DeviceKind,
    major: Option<u32>,
    minor: Option<u32>,
    access: DeviceAccess,
}

impl Exception {
    fn covers(&self, other: &Exception) -> bool {
        self.kind == other.kind
            && (self.major.is_none() || self.major == other.major)
            && (self.minor.is_none() || self.minor == other.minor)
    }

    fn same_device(&self, other: &Exception) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    fn overlaps(&self, other: &Exception) -> bool {
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == other.kind && meet(self.major, other.major) && meet(self.minor, other.minor)
    }

    /// As written to `devices.allow` and `devices.deny`, and read in `devices.list`.
    fn line(&self) -> String {
        let kind = match self.kind {
            DeviceKind::All => 'a',
            DeviceKind::Char => 'c',
            DeviceKind::Block => 'b',
        };
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        format!("{kind} {}:{} {}", number(self.major), number(self.minor), self.access)
    }
}

impl State {
    /// The state that a list of rules leads to. The controller can't express a hole in a wider exception; such rules
    /// are refused rather than half obeyed.
    fn from_rules(rules: &[DeviceRule]) -> Result<State> {
        let mut state = State { allow: false, exceptions: Vec::new() };
        for rule in rules {
            state.follow(rule)?;
        }
        Ok(state)
    }

    /// The state for a container: its rules, then the defaults, less those that its own wider denials leave no room for.
    fn for_container(rules: &[DeviceRule]) -> Result<State> {
        let mut state = State::from_rules(rules)?;
        for rule in defaults() {
            let mut with = state.clone();
            if with.follow(&rule).is_ok() {
                state = with;
            }
        }
        Ok(state)
    }

    fn follow(&mut self, rule: &DeviceRule) -> Result<()> {
        if rule.is_total() {
            *self = State { allow: rule.allow, exceptions: Vec::new() };
            return Ok(());
        }
        let kinds: &[DeviceKind] = match rule.kind {
            DeviceKind::All => &[DeviceKind::Char, DeviceKind::Block],
            DeviceKind::Char => &[DeviceKind::Char],
            DeviceKind::Block => &[DeviceKind::Block],
        };
        for kind in kinds {
            let entry = Exception { kind: *kind, major: rule.major, minor: rule.minor, access: rule.access };
            match rule.allow == self.allow {
                false => self.add(entry),
                true => self.take_away(entry)?,
            }
        }
        Ok(())
    }

    fn add(&mut self, entry: Exception) {
        match self.exceptions.iter_mut().find(|e| e.same_device(&entry)) {
            Some(same) => same.access = union(same.access, entry.access),
            None => self.exceptions.push(entry),
        }
    }

    fn take_away(&mut self, entry: Exception) -> Result<()> {
        for exception in &mut self.exceptions {
            if entry.covers(exception) {
                exception.access = minus(exception.access, entry.access);
            } else if entry.overlaps(exception) && is_any(common(entry.access, exception.access)) {
                let (verb, was) = if self.allow { ("allow", "denied") } else { ("deny", "allowed") };
                let message =
                    format!("cgroup v1 can't {verb} `{}` within `{}`, {was} before", entry.line(), exception.line());
                return Err(Error::config(format!("linux.resources.devices: {message}")));
            }
        }
        self.exceptions.retain(|exception| is_any(exception.access));
        Ok(())
    }

    /// Reads `devices.list`. It shows the exceptions of a controller that denies by default; one that allows by
    /// default shows `a *:* rwm`, and hides its exceptions.
    fn parse(list: &str) -> Option<State> {
        let mut state = State { allow: false, exceptions: Vec::new() };
        for line in list.lines() {
            let mut words = line.split([' ', ':']);
            let (kind, major, minor, access) = (words.next()?, words.next()?, words.next()?, words.next()?);
            let kind = match kind {
                "a" => {
                    return Some(State { allow: true, exceptions: Vec::new() });
                }
                "c" => DeviceKind::Char,
                "b" => DeviceKind::Block,
                _ => return None,
            };
            let number = |word: &str| {
                if word == "*" { Some(None) } else { word.parse().ok().map(Some) }
            };
            let has = |letter| access.contains(letter);
            let access = DeviceAccess { read: has('r'), write: has('w'), mknod: has('m') };
            state.exceptions.push(Exception { kind, major: number(major)?, minor: number(minor)?, access });
        }
        Some(state)
    }
}

fn each(a: DeviceAccess, b: DeviceAccess, f: impl Fn(bool, bool) -> bool) -> DeviceAccess {
    DeviceAccess { read: f(a.read, b.read), write: f(a.write, b.write), mknod: f(a.mknod, b.mknod) }
}

fn union(a: DeviceAccess, b: DeviceAccess) -> DeviceAccess {
    each(a, b, |a, b| a | b)
}

fn minus(a: DeviceAccess, b: DeviceAccess) -> DeviceAccess {
    each(a, b, |a, b| a & !b)
}

fn common(a: DeviceAccess, b: DeviceAccess) -> DeviceAccess {
    each(a, b, |a, b| a & b)
}

fn is_any(access: DeviceAccess) -> bool {
    access != DeviceAccess::default()
}

/// Which file a line goes to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum To {
    Allow,
    Deny,
}

/// The writes that lead from one state to another. What is to be allowed is allowed before the rest is taken away, so
/// that a running container keeps what it has both before and after. A change of the default (`a`) is avoided where
/// it can be: it cuts everything off for a moment, and the kernel refuses it to a cgroup with children.
fn transition(from: &State, to: &State) -> Vec<(To, String)> {
    let mut writes = Vec::new();
    let (to_add, to_remove) = if to.allow { (To::Deny, To::Allow) } else { (To::Allow, To::Deny) };
    // A state that allows by default hides its exceptions: only a reset is sure to remove them.
    let reset = from.allow != to.allow || to.allow;
    if reset {
        writes.push((to_remove, "a".to_owned()));
    }
    let have: &[Exception] = if reset { &[] } else { &from.exceptions };
    for wanted in &to.exceptions {
        let had = have.iter().find(|e| e.same_device(wanted)).map_or(DeviceAccess::default(), |e| e.access);
        let access = minus(wanted.access, had);
        if is_any(access) {
            writes.push((to_add, Exception { access, ..*wanted }.line()));
        }
    }
    for old in have {
        let keep = to.exceptions.iter().find(|e| e.same_device(old)).map_or(DeviceAccess::default(), |e| e.access);
        let access = minus(old.access, keep);
        if is_any(access) {
            writes.push((to_remove, Exception { access, ..*old }.line()));
        }
    }
    writes
}

/// Applies the rules to a v1 cgroup; `fresh` if it has just been made.
///
/// Default devices that the parent cgroup denies stay denied: the rules asked for nothing else. They are returned.
pub(super) fn apply_v1(dir: &Dir, rules: &[DeviceRule], fresh: bool) -> Result<Vec<String>> {
    if fresh && allow_all(rules) {
        return Ok(Vec::new());
    }
    let wanted = State::for_container(rules)?;
    // Taking everything away from a new cgroup needs no look at what it inherited.
    let now = match fresh {
        true => State { allow: !wanted.allow, exceptions: Vec::new() },
        false => {
            let list = dir.read("devices.list")?;
            State::parse(&list).ok_or_else(|| Error::system(format!("`{}` is unreadable", dir.file("devices.list"))))?
        }
    };
    let asked = State::from_rules(rules)?;
    let mut files = [None, None];
    let mut kept_from_us = Vec::new();
    for (to, line) in transition(&now, &wanted) {
        let (slot, name) = match to {
            To::Allow => (0, "devices.allow"),
            To::Deny => (1, "devices.deny"),
        };
        let since = journal::now();
        let result = match &files[slot] {
            Some(file) => write_value(file, &line),
            None => dir.open_file(name, OFlags::WRONLY).and_then(|file| {
                let result = write_value(&file, &line);
                files[slot] = Some(file);
                result
            }),
        };
        dir.note(since, name, &line, result.as_ref().map(drop));
        match result {
            Ok(()) => {}
            Err(Errno::PERM) if to == To::Allow && !asked.exceptions.iter().any(|e| line.starts_with(&device(e))) => {
                kept_from_us.push(line);
            }
            Err(errno) => return Err(Error::call(dir.written(name, &line), errno).context("set the device rules")),
        }
    }
    Ok(kept_from_us)
}

/// The part of an exception's line that names the device.
fn device(exception: &Exception) -> String {
    let line = exception.line();
    line.rsplit_once(' ').map_or(line.clone(), |(device, _)| format!("{device} "))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `+c 1:* rw` allows, `-a *:* rwm` denies.
    pub(crate) fn rule(text: &str) -> DeviceRule {
        let list = State::parse(&text[1..].replacen('a', "c", usize::from(text[1..].starts_with('a')))).unwrap();
        let e = list.exceptions[0];
        let kind = if text[1..].starts_with('a') { DeviceKind::All } else { e.kind };
        DeviceRule { allow: text.starts_with('+'), kind, major: e.major, minor: e.minor, access: e.access }
    }

    fn state(rules: &[&str]) -> State {
        State::from_rules(&rules.iter().map(|text| rule(text)).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn knows_when_no_filter_is_needed() {
        let all = |rules: &[&str]| allow_all(&rules.iter().map(|text| rule(text)).collect::<Vec<_>>());
        assert!(all(&["-a *:* rwm", "+a *:* rwm", "+c 1:3 r"]));
        assert!(!all(&[]) && !all(&["+a *:* rwm", "-c 1:3 r"]) && !all(&["+a *:* rw"]) && !all(&["+c *:* rwm"]));
    }

    #[test]
    fn later_rules_override_earlier_ones() {
        let both = state(&["+c 1:3 r", "+c 1:3 w", "+b 8:0 rwm", "-b *:* rw", "-c 7:7 rwm"]);
        let lines: Vec<_> = both.exceptions.iter().map(Exception::line).collect();
        assert_eq!((both.allow, lines), (false, vec!["c 1:3 rw".to_owned(), "b 8:0 m".to_owned()]));
        assert_eq!(state(&["+c 1:3 r", "-a *:* rwm"]), State { allow: false, exceptions: vec![] });
        assert_eq!(state(&["+a *:* rw"]).exceptions.len(), 2);
        let exceptions = state(&["+a *:* rwm", "-b 8:0 w"]);
        assert_eq!((exceptions.allow, exceptions.exceptions[0].line()), (true, "b 8:0 w".to_owned()));
    }

    #[test]
    fn the_last_rule_that_speaks_of_a_device_decides() {
        let rules = |texts: &[&str]| texts.iter().map(|text| rule(text)).collect::<Vec<_>>();
        assert!(allows(&[], DeviceKind::Char, 1, 3), "a default");
        assert!(!allows(&[], DeviceKind::Char, 10, 229));
        assert!(allows(&rules(&["-a *:* rwm", "+c 10:229 r"]), DeviceKind::Char, 10, 229));
        assert!(!allows(&rules(&["+c 10:229 rw", "-a *:* rwm"]), DeviceKind::Char, 10, 229));
        assert!(!allows(&rules(&["+c 10:229 m"]), DeviceKind::Char, 10, 229), "made is not opened");
    }

    #[test]
    fn refuses_a_hole() {
        let rules = [rule("+c *:* rw"), rule("-c 1:3 r")];
        let error = State::from_rules(&rules).unwrap_err().to_string();
        assert!(error.starts_with("linux.resources.devices: cgroup v1 can't deny `c 1:3 r`"), "{error}");
        // No hole: the accesses differ.
        State::from_rules(&[rule("+c *:* m"), rule("-c 1:3 rw")]).unwrap();
    }

    #[test]
    fn writes_only_differences() {
        let writes = |from: &[&str], to: &[&str]| {
            let lines = transition(&state(from), &state(to));
            lines.into_iter().map(|(to, line)| format!("{to:?} {line}")).collect::<Vec<_>>()
        };
        assert_eq!(writes(&["+a *:* rwm"], &["+c 1:3 rw"]), ["Deny a", "Allow c 1:3 rw"]);
        assert_eq!(writes(&["+c 1:3 rw"], &["+a *:* rwm", "-b 8:0 w"]), ["Allow a", "Deny b 8:0 w"]);
        let (from, to) = (["+c 1:3 rw", "+c 1:5 r"], ["+c 1:3 rm", "+c 1:7 r"]);
        assert_eq!(writes(&from, &to), ["Allow c 1:3 m", "Allow c 1:7 r", "Deny c 1:3 w", "Deny c 1:5 r"]);
        assert!(writes(&to, &to).is_empty());
    }

    #[test]
    fn reads_the_kernels_list() {
        let lines = State::parse("c *:* m\nb 8:0 rw\n").unwrap();
        assert_eq!(lines.exceptions.iter().map(Exception::line).collect::<Vec<_>>(), ["c *:* m", "b 8:0 rw"]);
        assert!(State::parse("a *:* rwm\n").unwrap().allow);
        assert_eq!(State::parse("z 1:1 r"), None);
        assert_eq!(State::parse(""), Some(State { allow: false, exceptions: vec![] }));
    }
}
