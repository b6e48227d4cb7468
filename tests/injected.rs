//! Each call of the runtime failing in turn: a clean error that names it, nothing left behind, and past the point of no
//! return no second try by a path.
//!
//! What makes it fail is outside the runtime: a supervisor that answers the k-th call of a name with an errno.

#[macro_use]
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use common::case::Case;
use common::look;
use common::outcome::Outcome;
use common::rich::{self, Seen, assert_same, for_a_user_namespace, rich};
use common::supervise::{Call, MOUNT_CALLS, supervised};
use rustix::io::Errno;

/// Beside EIO, in turn. ENOSYS has a test of its own: it is the one that says "not here" instead of "no".
const ERRNOS: [Errno; 7] =
    [Errno::PERM, Errno::NOMEM, Errno::INVAL, Errno::LOOP, Errno::BUSY, Errno::NOENT, Errno::MFILE];

/// The words by which an error may name a call.
fn names_of(call: &str) -> &[&str] {
    match call {
        "umount2" => &["umount", "unmount"],
        "fchmod" | "fchmodat" => &["chmod"],
        "clone3" | "clone" => &["clone"],
        "mount" => &["mount"],
        "setresuid" | "setresgid" => &["setresuid", "setresgid"],
        "openat" => &["open"],
        "close_range" => &["close"],
        _ => &[],
    }
}

fn names(line: &str, call: &str) -> bool {
    line.contains(call) || names_of(call).iter().any(|name| line.contains(name))
}

fn words(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// What came of a create, and what the container looks like if there is one.
type Created = (Outcome, Option<Seen>);

/// Creates the container, looks at it and deletes it; `decide` is asked about the calls of the create alone. The look is
/// while the supervisor is there: without it, the waiting child's next call fails.
fn create(case: &Case, calls: &[&str], mut decide: impl FnMut(&Call) -> Option<Errno> + Send) -> (Created, Vec<Call>) {
    let creating = AtomicBool::new(true);
    let mut during = 0;
    let decide = |call: &Call| {
        let creating = creating.load(Ordering::SeqCst);
        during += usize::from(creating);
        if creating { decide(call) } else { None }
    };
    let (created, mut seen) = supervised(calls, decide, || {
        let outcome = case.create_with(&[]);
        creating.store(false, Ordering::SeqCst);
        if !outcome.status.success() {
            return (outcome, None);
        }
        let dead = fs::read_to_string(format!("/proc/{}/mountinfo", case.pid())).is_err();
        let seen = if dead {
            (vec!["create succeeded, and its init is dead".into()], vec![])
        } else {
            rich::at(case, case.pid())
        };
        case.delete_by_force();
        (outcome, Some(seen))
    });
    seen.truncate(during);
    (created, seen)
}

/// The same; the `k`-th call of `name` (from 1 on) answers `errno`.
fn create_failing(case: &Case, calls: &[&str], name: &str, k: usize, errno: Errno) -> (Created, Vec<Call>) {
    let mut nth = 0;
    create(case, calls, |call| {
        let this = call.name == name;
        nth += usize::from(this);
        (this && nth == k).then_some(errno)
    })
}

/// The whole container, and how often each call is made for it, in the whole family of processes.
fn whole(case: &Case, calls: &[&str]) -> (Seen, BTreeMap<String, usize>) {
    let ((outcome, seen), calls) = create(case, calls, |_| None);
    outcome.ok();
    let mut counts = BTreeMap::new();
    for call in calls {
        *counts.entry(call.name).or_default() += 1;
    }
    (seen.unwrap(), counts)
}

fn show(calls: &[Call]) -> String {
    let from = calls.iter().position(|c| c.failed).unwrap_or(0).saturating_sub(5);
    calls[from..].iter().take(25).map(|c| format!("{}\n", c.show())).collect()
}

/// No call by a path of the host once the failed one was past the point of no return.
fn assert_no_path_follows(calls: &[Call], why: &str) {
    let gone = calls.iter().position(Call::is_point_of_no_return);
    let failed = calls.iter().position(|c| c.failed);
    let (Some(gone), Some(failed)) = (gone, failed) else { return };
    if failed < gone {
        return;
    }
    if let Some(after) = calls[failed + 1..].iter().find(|c| c.name == "mount") {
        panic!("{why}: a mount by path after it: {}\n{}", after.show(), show(calls));
    }
}

/// Every mount call fails once, each with an errno of `errno_of`.
fn each_mount_call_fails(case: &Case, errno_of: impl Fn(usize) -> Errno) {
    let (whole, counts) = whole(case, &MOUNT_CALLS);
    let host = look::mounts("self");
    let mut wrong = Vec::new();
    for (name, times) in counts {
        // A kernel that lacks it is only asked for it, and has answered.
        if name == "mount_setattr" && !look::has_mount_setattr() {
            continue;
        }
        for k in 1..=times {
            let errno = errno_of(k);
            let why = format!("call {k} of {times} of {name}, {errno:?}");
            let ((outcome, seen), calls) = create_failing(case, &MOUNT_CALLS, &name, k, errno);
            assert!(calls.iter().any(|c| c.failed), "{why}: it was made");
            assert_no_path_follows(&calls, &why);
            if let Some(seen) = seen {
                // Before the point of no return another way may lead to the same; nothing else may pass for it.
                assert_same(&whole, &seen, &why);
                let failed = calls.iter().position(|c| c.failed).unwrap();
                if calls[..failed].iter().any(Call::is_point_of_no_return) {
                    wrong.push(format!("{why}: was passed over\n{}", show(&calls)));
                }
            } else {
                let line = outcome.refused();
                if !line.contains(&words(errno)) || !names(&line, &name) {
                    wrong.push(format!("{why}: {line}"));
                }
            }
            case.nothing_left(&why);
            assert_eq!(look::mounts("self"), host, "the host's table after {why}");
        }
    }
    assert!(wrong.is_empty(), "{} are not as they should be:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_supervisor_sees_each_call_and_lets_one_fail() {
    // What every other test here stands on.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made");
    let make = || {
        std::process::Command::new("sh").args(["-c", "mkdir \"$0\"; mkdir \"$0\"; mkdir \"$0/x\""]).arg(&path).output()
    };
    let (outcome, calls) = supervised(
        &["mkdir", "mkdirat"],
        |call| call.text.iter().any(|t| t.ends_with("/x")).then_some(Errno::NOSPC),
        || make().unwrap(),
    );
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert!(said.contains("File exists") && said.contains("No space left on device"), "{said}");
    assert_eq!(calls.iter().map(|c| c.failed).collect::<Vec<_>>(), [false, false, true], "{calls:?}");
    assert!(path.is_dir() && !path.join("x").exists());
}

#[test]
fn every_mount_call_failing_is_an_error_that_names_it() {
    if !common::isolated("every_mount_call_failing_is_an_error_that_names_it", "") {
        return;
    }
    tandem_only!("the words of its errors");
    let mut case = case!("injected");
    rich(&mut case);
    each_mount_call_fails(&case, |_| Errno::IO);
}

#[test]
fn every_mount_call_failing_in_other_ways_is_an_error_that_names_it() {
    if !common::isolated("every_mount_call_failing_in_other_ways_is_an_error_that_names_it", "") {
        return;
    }
    tandem_only!("the words of its errors");
    let mut case = case!("injectedmore");
    rich(&mut case);
    each_mount_call_fails(&case, |k| ERRNOS[k % ERRNOS.len()]);
}

#[test]
fn every_mount_call_of_a_user_namespace_failing_is_an_error_that_names_it() {
    if !common::isolated("every_mount_call_of_a_user_namespace_failing_is_an_error_that_names_it", "") {
        return;
    }
    tandem_only!("the words of its errors");
    let mut case = case!("injecteduser");
    rich(&mut case);
    for_a_user_namespace(&mut case);
    each_mount_call_fails(&case, |_| Errno::IO);
}

/// Calls that are not about mounts. Without those that the standard library makes for itself while it starts a process,
/// and the accept on which a created container waits.
const OTHER_CALLS: [&str; 44] = [
    "openat2",
    "mkdirat",
    "mknodat",
    "symlinkat",
    "readlinkat",
    "renameat",
    "renameat2",
    "rename",
    "fchdir",
    "chdir",
    "fchmod",
    "fchmodat",
    "fchownat",
    "fstatfs",
    "socketpair",
    "socket",
    "bind",
    "listen",
    "sendmsg",
    "recvmsg",
    "clone3",
    "clone",
    "pidfd_open",
    "pidfd_send_signal",
    "unshare",
    "sethostname",
    "setdomainname",
    "setresuid",
    "setresgid",
    "setgroups",
    "capset",
    "capget",
    "prctl",
    "seccomp",
    "setsid",
    "ioctl",
    "flock",
    "ftruncate",
    "memfd_create",
    "execveat",
    "getdents64",
    "waitid",
    "close_range",
    "connect",
];

fn each_other_call_fails(case: &mut Case, part: usize, parts: usize) {
    let (whole, counts) = whole(case, &OTHER_CALLS);
    let host = look::mounts("self");
    let mut wrong = Vec::new();
    let all: Vec<(String, usize, usize)> =
        counts.into_iter().flat_map(|(name, times)| (1..=times).map(move |k| (name.clone(), k, times))).collect();
    for (name, k, times) in all.into_iter().skip(part).step_by(parts) {
        let why = format!("call {k} of {times} of {name}");
        let ((outcome, seen), calls) = create_failing(case, &OTHER_CALLS, &name, k, Errno::IO);
        if let Some(seen) = seen {
            // What fails once the runtime has let go is the container's own end, as if it had been killed then.
            let let_go = name == "recvmsg" && k == times && seen.0.first().is_some_and(|s| s.ends_with("init is dead"));
            // A failure that does not matter must not matter.
            if whole != seen && !let_go {
                wrong.push(format!("{why}: another container: {:?}\n{}", seen.0.first(), show(&calls)));
            }
        } else {
            let said = outcome.err();
            if said.lines().count() != 1
                || said.len() < 12
                || said.contains("panicked")
                || outcome.status.code().is_none()
            {
                wrong.push(format!("{why}: {}, said: {said}\n{}", outcome.status, show(&calls)));
            }
        }
        let left = case.left_in_the_end();
        if !left.is_nothing() {
            wrong.push(format!("{why}: left behind: {left:?}\n{}", show(&calls)));
            case.delete_by_force();
        }
        assert_eq!(look::mounts("self"), host, "the host's table after {why}");
    }
    assert!(wrong.is_empty(), "{} are not as they should be:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_other_call_failing_leaves_nothing_behind() {
    if !common::isolated("every_other_call_failing_leaves_nothing_behind", "") {
        return;
    }
    tandem_only!("the words of its errors");
    let mut case = case!("injectedother");
    rich(&mut case);
    each_other_call_fails(&mut case, 0, 1);
}

#[test]
fn every_other_call_of_a_user_namespace_failing_leaves_nothing_behind() {
    if !common::isolated("every_other_call_of_a_user_namespace_failing_leaves_nothing_behind", "") {
        return;
    }
    tandem_only!("the words of its errors");
    let mut case = case!("injectedothers");
    rich(&mut case);
    for_a_user_namespace(&mut case);
    each_other_call_fails(&mut case, 0, 3);
}

/// Two owners of one fd: the second close hits whatever got its number meanwhile.
#[test]
fn no_descriptor_is_closed_twice() {
    let mut case = case!("twiceclosed");
    rich(&mut case);
    let mut twice = Vec::new();
    let changes = if look::has_mount_setattr() { "mount_setattr" } else { "mount" };
    let fails = [(None, 0), (Some("move_mount"), 3), (Some(changes), 3), (Some("pivot_root"), 1), (Some("fsmount"), 3)];
    for (fail, at) in fails {
        let mut nth = 0;
        let decide = |call: &Call| {
            if call.name == "close" && fs::symlink_metadata(format!("/proc/{}/fd/{}", call.pid, call.args[0])).is_err()
            {
                twice.push(call.show());
            }
            nth += usize::from(Some(call.name.as_str()) == fail);
            (Some(call.name.as_str()) == fail && nth == at).then_some(Errno::IO)
        };
        let calls = ["close", "move_mount", changes, "pivot_root", "fsmount"];
        let (_, seen) = create(&case, &calls, decide);
        assert!(seen.len() > 20, "{} calls", seen.len());
        assert_eq!(seen.iter().filter(|call| call.failed).count(), usize::from(fail.is_some()), "{fail:?} failed");
    }
    assert!(twice.is_empty(), "{twice:#?}");
}

/// What a container hides must be hidden, or it must not start; and the reason must be the kernel's.
#[test]
fn masking_that_fails_is_one_error_with_its_errno() {
    tandem_only!("the words of its errors");
    let mut case = case!("maskfails");
    case.alter(|c| {
        c["linux"]["maskedPaths"] = serde_json::json!(["/secret", "/etc/passwd", "/proc/cpuinfo"]);
        c["linux"]["readonlyPaths"] = serde_json::json!(["/proc/sys", "/var"]);
    });
    fs::create_dir(case.rootfs().join("secret")).unwrap();
    let (_, counts) = whole(&case, &MOUNT_CALLS);
    // The masks come last: the last calls of each name are theirs.
    let mut hit = 0;
    for name in ["move_mount", "fsopen", "fsmount", "open_tree", "mount"] {
        let times = counts.get(name).copied().unwrap_or(0);
        for k in times.saturating_sub(6)..times {
            let ((outcome, seen), _) = create_failing(&case, &MOUNT_CALLS, name, k + 1, Errno::NOSPC);
            if seen.is_some() {
                continue;
            }
            let line = outcome.refused();
            assert!(line.contains("No space left on device"), "{line}");
            hit += usize::from(line.contains("mask `") || line.contains("read-only"));
            case.nothing_left(&line);
        }
    }
    assert!(hit >= 5, "only {hit} of them hit a mask");
}
