//! What holds of everything that a child does, whoever its parent is and whatever its kernel answers.

use super::world::Deed;
use crate::protocol::Kind;

/// Before [`Kind::Begin`] a child may only enter namespaces, or the root that it was sent, and let its parent at its procfs
/// files.
const BEFORE_BEGIN: [&str; 5] = ["setns", "unshare", "set_dumpable_behavior", "fchdir", "chroot"];

/// Changes of this process that no mount namespace holds.
const ENTERING: [&str; 13] = [
    "setns",
    "unshare",
    "set_dumpable_behavior",
    "set_thread_groups",
    "set_thread_res_gid",
    "set_thread_res_uid",
    "write",
    "fork_sibling",
    "set_parent_process_death_signal",
    "bring_up_loopback",
    "fchdir",
    "chdir",
    "chroot",
];

/// Once it is about to become another user, a child changes itself alone.
const AS_USER: [&str; 24] = [
    "setsid",
    "ioctl_tiocsctty",
    "chdir",
    "fork_sibling",
    "set_dumpable_behavior",
    "set_scheduler",
    "remove_capability_from_bounding_set",
    "set_thread_groups",
    "set_thread_res_gid",
    "set_thread_res_uid",
    "set_keep_capabilities",
    "set_capabilities",
    "clear_ambient_capability_set",
    "configure_capability_in_ambient_set",
    "umask",
    "set_no_new_privs",
    "set_parent_process_death_signal",
    "accept",
    "hooks",
    "reset_signals",
    "load",
    "execve",
    "set_name",
    "write",
];

/// Once it has said that it is ready, it only waits, and becomes the payload.
const READY: [&str; 5] = ["accept", "hooks", "reset_signals", "load", "execve"];

/// The words that change the root.
const ROOT_CHANGES: [&str; 2] = ["pivot_root", "chroot"];

/// What it does when it becomes another user, and at no other time.
const BECOMES_USER: [&str; 1] = ["set_keep_capabilities"];

/// What has been, at one place of a child's life.
struct Past<'a>(&'a [Deed]);

impl Past<'_> {
    fn heard(&self, kind: Kind) -> bool {
        self.0.contains(&Deed::Heard(kind))
    }

    fn said(&self, kind: Kind) -> bool {
        self.0.contains(&Deed::Said(kind))
    }

    fn did(&self, calls: &[&str]) -> bool {
        self.0.iter().any(|deed| matches!(deed, Deed::Did(call, _) if calls.contains(call)))
    }
}

/// Panics where a deed is out of its place.
pub(super) fn check(deeds: &[Deed]) {
    for (i, deed) in deeds.iter().enumerate() {
        if let Some(why) = wrong(&Past(&deeds[..i]), deed) {
            panic!("{deed:?}: {why}; before it: {:#?}", &deeds[i.saturating_sub(40)..i]);
        }
    }
}

fn wrong(past: &Past<'_>, deed: &Deed) -> Option<&'static str> {
    let over = past.said(Kind::Failed) || past.heard(Kind::Abort) || past.did(&["execve"]);
    match deed {
        Deed::Heard(_) if over => Some("after the end"),
        Deed::Said(kind) if over && *kind != Kind::Failed => Some("after the end"),
        Deed::Said(Kind::Executing) if !past.did(&["reset_signals"]) => Some("before it executes"),
        Deed::Heard(_) | Deed::Said(_) | Deed::Ended(_) => None,
        _ if over => Some("after the end"),
        _ if !past.heard(Kind::Plan) => Some("before the plan"),
        Deed::Opened(path) => opened(past, path),
        Deed::Did(call, about) => did(past, call, about),
    }
}

/// No path of the host after the root is changed: it would be one of the container's.
fn opened(past: &Past<'_>, path: &str) -> Option<&'static str> {
    let fixed = path == "/" || path == "/etc/passwd";
    match past.heard(Kind::Begin) {
        false => Some("before Begin"),
        // From then on the program is looked for, in the container.
        true if past.did(&BECOMES_USER) || fixed => None,
        true if past.did(&ROOT_CHANGES) => Some("a path of the host, after the root was changed"),
        true => None,
    }
}

fn did(past: &Past<'_>, call: &str, about: &str) -> Option<&'static str> {
    let called = |calls: &[&str]| calls.contains(&call);
    if !past.heard(Kind::Begin) && !called(&BEFORE_BEGIN) {
        return Some("before Begin");
    }
    if call == "setns" && !past.heard(Kind::Namespaces) && !past.heard(Kind::Mounts) {
        return Some("into a namespace that nobody has sent");
    }
    if !past.said(Kind::NamespacesReady) && !called(&ENTERING) {
        return Some("before all namespaces are entered");
    }
    if call == "fork_sibling" && past.said(Kind::NamespacesReady) && !past.did(&["close_range", "close"]) {
        return Some("with all that it was born with");
    }
    if past.did(&BECOMES_USER) && !called(&AS_USER) {
        return Some("after it became a user's");
    }
    if past.said(Kind::Ready) && !called(&READY) {
        return Some("after Ready");
    }
    let executes = called(&["reset_signals", "load", "execve"]);
    if (executes || called(&["accept"]) || about == "startContainer") && !past.heard(Kind::Release) {
        return Some("before Release");
    }
    if (executes || about == "startContainer") && past.did(&["accept"]) && !past.heard(Kind::Start) {
        return Some("before Start");
    }
    if called(&["load", "execve"]) && !past.said(Kind::Executing) {
        return Some("before Executing");
    }
    if about == "createContainer" && !(past.said(Kind::RootfsReady) && past.heard(Kind::HooksDone)) {
        return Some("before the hooks of the runtime namespace");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A child that did this first, and then the last of it: why that is wrong.
    fn last(deeds: &[Deed]) -> Option<&'static str> {
        let (last, past) = deeds.split_last().unwrap();
        wrong(&Past(past), last)
    }

    #[test]
    fn what_is_out_of_place_is_told() {
        let did = |call| Deed::Did(call, String::new());
        let opening = [Deed::Heard(Kind::Plan), Deed::Heard(Kind::Begin), Deed::Said(Kind::NamespacesReady)];
        let after = |rest: &[Deed]| last(&[&opening[..], rest].concat());
        assert_eq!(last(&[did("unshare")]), Some("before the plan"));
        assert_eq!(last(&[Deed::Heard(Kind::Plan), did("move_mount")]), Some("before Begin"));
        assert_eq!(last(&[&opening[..2], &[did("move_mount")]].concat()), Some("before all namespaces are entered"));
        assert_eq!(after(&[did("move_mount")]), None);
        assert_eq!(after(&[did("set_keep_capabilities"), did("move_mount")]), Some("after it became a user's"));
        assert_eq!(after(&[did("fork_sibling")]), Some("with all that it was born with"));
        assert_eq!(after(&[did("close_range"), did("set_keep_capabilities"), did("fork_sibling")]), None);
        assert!(after(&[did("pivot_root"), Deed::Opened("/home".into())]).is_some());
        assert_eq!(after(&[did("pivot_root"), Deed::Opened("/".into())]), None);
        assert_eq!(after(&[Deed::Said(Kind::Ready), did("execve")]), Some("before Release"));
        assert_eq!(after(&[Deed::Heard(Kind::Abort), did("unmount")]), Some("after the end"));
    }
}
