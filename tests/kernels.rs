//! A kernel, or a filter around the runtime, that lacks one system call: the same mounts, or a clean error.
//!
//! What comes of each is documented in docs/kernels.md, under "When a system call is missing", and held to that here.
//! `TANDEM_PRINT_TABLE=1 cargo test --test kernels -- --nocapture` prints that table as it is.

#[macro_use]
mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use common::case::Case;
use common::look;
use common::rich::{Seen, assert_same, for_a_user_namespace, rich, seen};
use common::seccomp::without;
use common::supervise::supervised;
use rustix::io::Errno;

/// Those that a kernel of 5.10 may lack, that a seccomp profile of an older time does not know, or both.
const CALLS: [&str; 16] = [
    "open_tree",
    "fsopen",
    "fsconfig",
    "fsmount",
    "move_mount",
    "mount_setattr",
    "openat2",
    "clone3",
    "close_range",
    "pidfd_open",
    "pidfd_send_signal",
    "faccessat2",
    "statmount",
    "listmount",
    "memfd_create",
    "execveat",
];

const ERRNOS: [(&str, Errno); 2] = [("ENOSYS", Errno::NOSYS), ("EPERM", Errno::PERM)];

const DOCUMENT: &str = "docs/kernels.md";
const TEXT: &str = include_str!("../docs/kernels.md");
const HEADING: &str = "## When a system call is missing";

/// What came of a container: `same`, or `error: ` and the line without what differs from run to run.
fn outcome(case: &Case, whole: &Seen, call: &str, name: &str, errno: Errno) -> String {
    let why = format!("{call} answers {name}");
    let create = || {
        let outcome = case.create_with(&[]);
        if !outcome.status.success() {
            let line = outcome.refused();
            return format!("error: {}", general(&line, case));
        }
        case.delete_by_force();
        assert_same(whole, &seen(case), &why);
        "same".to_owned()
    };
    if call == "clone3" && errno == Errno::PERM {
        // The C library that starts the runtime takes this for an answer: the runtime alone gets it.
        return supervised(&[call], |call| (call.comm == "tandem").then_some(errno), create).0;
    }
    without(&[call], errno, create)
}

fn general(line: &str, case: &Case) -> String {
    let line = line.replace(&case.text("bundle"), "BUNDLE").replace(&case.text(""), "DIR/").replace(&case.id, "ID");
    let words = line.trim_start_matches("tandem: ").replace('|', "\\|");
    let is_pid = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    words.split('/').map(|part| if is_pid(part) { "PID" } else { part }).collect::<Vec<_>>().join("/")
}

/// Whether what is may stand for what is documented. An error's words before the call depend on how far the container's
/// making had come, which differs between the ways of mounting; the kernel's own words do not.
fn agrees(is: &str, documented: &str, call: &str, errno: &str) -> bool {
    let words = match errno {
        "ENOSYS" => "Function not implemented",
        _ => "Operation not permitted",
    };
    match documented.starts_with("error: ") {
        true => is.starts_with("error: ") && [is, documented].iter().all(|e| e.contains(words) && e.contains(call)),
        false => is == documented,
    }
}

/// call, errno -> outcome as root, outcome in a user namespace.
type Table = BTreeMap<(String, String), [String; 2]>;

fn measured() -> Table {
    let mut table = Table::new();
    for (column, for_users) in [false, true].into_iter().enumerate() {
        let mut case = Case::new(if for_users { "kerneluser" } else { "kernel" });
        rich(&mut case);
        if for_users {
            for_a_user_namespace(&mut case);
        }
        let whole = seen(&case);
        assert!(whole.0.len() > 15, "a table worth comparing: {:#?}", whole.0);
        for call in CALLS {
            for (name, errno) in ERRNOS {
                let row = table.entry((call.to_owned(), name.to_owned())).or_default();
                row[column] = outcome(&case, &whole, call, name, errno);
                case.nothing_left(&format!("{call} answered {name}"));
            }
        }
    }
    table
}

fn markdown(table: &Table) -> String {
    let mut text = "| call | answers | as root | in a user namespace |\n|---|---|---|---|\n".to_owned();
    for call in CALLS {
        for (name, _) in ERRNOS {
            if let Some([root, user]) = table.get(&(call.to_owned(), name.to_owned())) {
                writeln!(text, "| `{call}` | {name} | {root} | {user} |").unwrap();
            }
        }
    }
    text
}

/// The rows of the document's table.
fn documented() -> Table {
    let section = TEXT.split_once(HEADING).unwrap_or_else(|| panic!("no `{HEADING}` in {DOCUMENT}")).1;
    let section = section.split("\n## ").next().unwrap();
    let mut table = Table::new();
    for line in section.lines().filter(|l| l.starts_with("| `")) {
        let line = line.replace("\\|", "\u{1}");
        let cells: Vec<String> = line.split('|').map(|c| c.trim().replace('\u{1}', "\\|")).collect();
        let [_, call, errno, root, user, _] = &cells[..] else { panic!("five cells in {line}") };
        table.insert((call.trim_matches('`').to_owned(), errno.clone()), [root.clone(), user.clone()]);
    }
    table
}

#[test]
fn a_missing_call_is_made_up_for_or_named_as_documented() {
    tandem_only!("what is documented of it");
    if !rustix::process::geteuid().is_root() {
        skip!("needs root");
    }
    let measured = measured();
    if std::env::var_os("TANDEM_PRINT_TABLE").is_some() {
        println!("{}", markdown(&measured));
    }
    let documented = documented();
    let mut wrong = Vec::new();
    // Two that are lacking at once: what the text below the table says of it.
    let no_copy = "error: copy the binary into memory: memfd_create: Function not implemented, Operation not permitted";
    let no_copy = [no_copy.to_owned(), no_copy.to_owned()];
    for (key, [root, user]) in &measured {
        let Some(mut said) = documented.get(key) else {
            wrong.push(format!("{key:?} has no row"));
            continue;
        };
        if key.0 == "memfd_create" && !look::has_mount_setattr() {
            said = &no_copy;
        }
        let [said_root, said_user] = said;
        for (is, said, whose) in [(root, said_root, "root"), (user, said_user, "a user namespace")] {
            if !agrees(is, said, &key.0, &key.1) {
                wrong.push(format!("{key:?}, {whose}: documented `{said}`, is `{is}`"));
            }
        }
    }
    for key in documented.keys() {
        if !measured.contains_key(key) {
            wrong.push(format!("{key:?} is documented and not tried"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), markdown(&measured));
}

/// All of the new mount calls at once, as Linux 5.1 has them, and as a profile of that time forbids them.
#[test]
fn a_profile_that_knows_no_new_mount_call_is_no_obstacle() {
    let mut case = case!("oldprofile");
    rich(&mut case);
    let whole = seen(&case);
    let calls = ["open_tree", "fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "mount_setattr"];
    let now = without(&calls, Errno::NOSYS, || seen(&case));
    assert_same(&whole, &now, "without any new mount call");
}

/// mount_setattr came with Linux 5.12: bound files such as `etc/hosts` are remounted by the path of an fd before.
#[test]
fn files_are_bound_with_their_options_without_mount_setattr() {
    let mut case = case!("hosts");
    fs::write(case.path("hosts"), "127.0.0.1 me\n").unwrap();
    let source = case.text("hosts");
    case.alter(|c| {
        let options = ["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"];
        for name in ["hosts", "hostname", "resolv.conf"] {
            common::bundle::mount(c, &format!("/etc/{name}"), "bind", &source, &options);
        }
    });
    for user in [false, true] {
        if user {
            case.alter(|c| common::bundle::user_namespace(c, 100_000));
        }
        for calls in [&["mount_setattr"][..], &["mount_setattr", "openat2"], &["mount_setattr", "move_mount"]] {
            without(calls, Errno::NOSYS, || {
                let pid = case.running();
                let table = look::mounts(pid);
                for name in ["hosts", "hostname", "resolv.conf"] {
                    let m = look::mount_at(&table, &format!("/etc/{name}"));
                    for option in ["ro", "nosuid", "nodev", "noexec"] {
                        assert!(m.has(option), "{option} of {name} without {calls:?}: {m:?}");
                    }
                    assert!(m.tags.is_empty(), "{m:?}");
                }
                let text = fs::read_to_string(look::inside(pid, "/etc/hosts")).unwrap();
                assert_eq!(text, "127.0.0.1 me\n", "without {calls:?}");
                case.stop();
                case.delete();
            });
        }
    }
}
