//! However the container's mounts are made, it has the same ones.
//!
//! There are several ways, each for kernels that can: a mount namespace made of the rootfs, the new mount API and
//! pivot_root, mount(2) by paths. `TANDEM_MOUNT_STRATEGY` forces a lower one. Which was taken is read from the trace.

#[macro_use]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use common::bundle::{config, mount, namespace, user_namespace};
use common::case::Case;
use common::console::ConsoleSocket;
use common::look;
use common::rich::{for_a_user_namespace, rich};
use common::seccomp::without;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use serde_json::{Value, json};

/// How a way is asked for: by the variable, by what the kernel lacks.
const WAYS: [(&str, Option<&str>, &[&str]); 4] = [
    ("the best", None, &["listmount"]),
    ("pivot", Some("pivot"), &["listmount"]),
    ("mount", Some("mount"), &["listmount"]),
    ("no new call", None, &["open_tree", "fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "mount_setattr"]),
];

/// Everything that two ways must agree on.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    table: Vec<String>,
    /// By mount point: the host's device and inode, and the host's own peer groups, by their numbers.
    host: Vec<String>,
}

fn groups(tags: &[String]) -> Vec<(&str, &str)> {
    tags.iter().filter_map(|t| t.split_once(':')).collect()
}

fn seen(pid: u32) -> Seen {
    use std::os::unix::fs::MetadataExt;
    let host = look::mounts("self");
    let devices: BTreeSet<&str> = host.iter().map(|m| m.dev.as_str()).collect();
    let of_host: BTreeSet<&str> = host.iter().flat_map(|m| groups(&m.tags)).map(|(_, group)| group).collect();
    let mut lines = Vec::new();
    let table = look::mounts(pid);
    for m in &table {
        let mut line = format!("{}:", m.point);
        if devices.contains(m.dev.as_str()) {
            line += &format!(" device {} root {}", m.dev, m.root);
            // Of several on one point only the topmost could be asked. A cgroup is made anew for each container.
            let alone = table.iter().filter(|o| o.point == m.point).count() == 1;
            if alone && !m.kind.starts_with("cgroup") {
                let there = fs::symlink_metadata(look::inside(pid, &m.point)).unwrap();
                line += &format!(" inode {}:{}", there.dev(), there.ino());
            }
        }
        for (name, group) in groups(&m.tags) {
            line += &format!(" {name}:{}", if of_host.contains(group) { group } else { "its own" });
        }
        lines.push(line);
    }
    lines.sort();
    Seen { table: look::normalised(pid), host: lines }
}

/// The strategy that the trace names: its first word.
fn strategy(trace: &Path) -> String {
    let text = fs::read_to_string(trace).unwrap_or_default();
    let events = text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
    let mut details = events.filter(|e| e["name"] == "strategy").map(|e| e["object"].as_str().unwrap().to_owned());
    let detail = details.next().unwrap_or("none that the trace names".to_owned());
    ["namespace", "pivot", "mount"].into_iter().find(|n| detail.starts_with(n)).map_or(detail, str::to_owned)
}

/// Gives the pid, or the line that says why there is none.
fn create(case: &mut Case, variable: Option<&str>) -> Result<u32, String> {
    let trace = case.text("trace");
    let _ = fs::remove_file(&trace);
    case.globals = vec!["--trace".into(), trace];
    let mut command = case.command();
    command.env_remove("TANDEM_MOUNT_STRATEGY").args(case.create_args());
    if let Some(value) = variable {
        command.env("TANDEM_MOUNT_STRATEGY", value);
    }
    let console = case.config["process"]["terminal"] == true;
    let socket = console.then(|| {
        let path = case.path("console");
        let _ = fs::remove_file(&path);
        command.arg("--console-socket").arg(&path);
        ConsoleSocket::new(&path)
    });
    command.arg(&case.id);
    let outcome = case.launch(command).wait();
    case.globals.clear();
    if !outcome.status.success() {
        return Err(outcome.refused());
    }
    case.adopt(case.pid());
    if let Some(socket) = socket {
        drop(socket.receive());
    }
    Ok(case.pid())
}

/// What came of all comparisons of a test.
#[derive(Default)]
struct Verdict {
    wrong: Vec<String>,
    skips: BTreeSet<String>,
}

impl Verdict {
    fn end(self) {
        self.skips.iter().for_each(|reason| common::skipped_in_part(reason));
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
    }
}

/// Makes the container in each way, looks at it, and notes in what the ways differ.
fn compare(case: &mut Case, what: &str, verdict: &mut Verdict) {
    let Verdict { wrong, skips } = verdict;
    let host = look::mounts("self");
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    let mut first: Option<(String, Seen)> = None;
    for (way, variable, lacking) in WAYS {
        let pid = match without(lacking, Errno::NOSYS, || create(case, variable)) {
            Ok(pid) => pid,
            Err(line) if line.contains("need Linux 5.12") => {
                skips.insert(format!("{way}: recursive flags need mount_setattr"));
                continue;
            }
            Err(line) => {
                wrong.push(format!("{what}, {way}: {line}"));
                continue;
            }
        };
        let now = seen(pid);
        case.delete_by_force();
        assert_eq!(look::mounts("self"), host, "{what}, {way}: the host's table");
        match &first {
            None => first = Some((way.to_owned(), now)),
            Some((other, before)) if *before != now => {
                let only =
                    |a: &[String], b: &[String]| a.iter().filter(|l| !b.contains(l)).cloned().collect::<Vec<_>>();
                let all = |s: &Seen| [s.table.clone(), s.host.clone()].concat();
                let (before, now) = (all(before), all(&now));
                wrong.push(format!(
                    "{what}: only with {other}: {:#?}\nonly with {way}: {:#?}",
                    only(&before, &now),
                    only(&now, &before)
                ));
            }
            Some(_) => {}
        }
        if common::is_tandem() {
            taken.insert(way.to_owned(), strategy(&case.path("trace")));
        }
    }
    // What was compared is worth something only if these really were different ways.
    let best = taken.get("the best").map_or("namespace", String::as_str);
    for (way, asked) in [("the best", best), ("pivot", "pivot"), ("mount", "mount"), ("no new call", "mount")] {
        match taken.get(way).map(String::as_str) {
            // What the kernel lacks altogether can't be asked for.
            Some("mount") if asked == "pivot" && best == "mount" => {
                skips.insert("the kernel has no new mount API".to_owned());
            }
            Some(got) if got != asked || !["namespace", "pivot", "mount"].contains(&got) => {
                wrong.push(format!("{what}: asked for {way}, the strategy is {got}"));
            }
            _ => {}
        }
    }
    if best != "namespace" {
        skips.insert(format!("no namespace of the rootfs here; the best is {best}"));
    }
}

fn hook() -> Value {
    let hook = json!([{"path": "/bin/true"}]);
    json!({"prestart": hook, "createRuntime": hook, "createContainer": hook})
}

#[test]
fn one_of_everything() {
    if !common::isolated("one_of_everything", "") {
        return;
    }
    let mut case = case!("parity");
    let mut verdict = Verdict::default();
    rich(&mut case);
    compare(&mut case, "as root", &mut verdict);
    case.alter(|c| c["hooks"] = hook());
    compare(&mut case, "as root, with hooks", &mut verdict);
    verdict.end();
}

#[test]
fn one_of_everything_in_a_user_namespace() {
    if !common::isolated("one_of_everything_in_a_user_namespace", "") {
        return;
    }
    let mut case = case!("parityuser");
    let mut verdict = Verdict::default();
    rich(&mut case);
    for_a_user_namespace(&mut case);
    compare(&mut case, "in a user namespace", &mut verdict);
    case.alter(|c| {
        c["hooks"] = hook();
    });
    compare(&mut case, "in a user namespace, with hooks", &mut verdict);
    case.alter(|c| {
        c["hooks"] = json!({});
        common::bundle::without_namespace(c, "network");
    });
    compare(&mut case, "in a user namespace, with the host's network", &mut verdict);
    verdict.end();
}

#[test]
fn trees_of_every_propagation() {
    if !common::isolated("trees_of_every_propagation", "mount --make-rshared /") {
        return;
    }
    let mut case = case!("paritytree");
    let mut verdict = Verdict::default();
    fs::create_dir_all(case.path("source")).unwrap();
    rustix::mount::mount("x", case.path("source"), "tmpfs", MountFlags::NODEV, None).unwrap();
    for (name, propagation) in [
        ("shared", MountPropagationFlags::SHARED),
        ("private", MountPropagationFlags::PRIVATE),
        ("flags", MountPropagationFlags::SHARED),
    ] {
        let path = case.path("source").join(name);
        fs::create_dir_all(&path).unwrap();
        let flags = if name == "flags" { MountFlags::NOEXEC | MountFlags::NOSUID } else { MountFlags::empty() };
        rustix::mount::mount(name, &path, "tmpfs", flags, None).unwrap();
        rustix::mount::mount_change(&path, propagation).unwrap();
    }
    let source = case.text("source");
    let all = ["rshared", "rslave", "rprivate", "runbindable", "none", "shared", "slave", "private"];
    for user in [false, true] {
        // A part of a tree without what covers it is not to be had in a user namespace.
        let kinds = if user { &all[..5] } else { &all };
        for root in ["rshared", "rslave", "rprivate", "shared", "slave", "private", ""] {
            if user && root.ends_with("shared") {
                continue; // A copy in a user namespace's mount namespace is a slave of the host's.
            }
            case.config = config(&case.id);
            case.alter(|c| {
                if user {
                    user_namespace(c, 100_000);
                }
                if !root.is_empty() {
                    c["linux"]["rootfsPropagation"] = json!(root);
                }
                for kind in kinds {
                    let one = if kind.starts_with('r') || *kind == "none" { "rbind" } else { "bind" };
                    let options: Vec<&str> = [one, "ro", kind].into_iter().filter(|o| *o != "none").collect();
                    mount(c, &format!("/tree-{kind}"), "bind", &source, &options);
                }
                mount(c, "/tree-rslave/shared", "tmpfs", "own", &["size=4k"]);
            });
            for name in all.iter().map(|k| format!("tree-{k}")).chain(["recursive".to_owned()]) {
                fs::create_dir_all(case.rootfs().join(name)).unwrap();
            }
            compare(&mut case, &format!("trees below a root that is {root:?}, user namespace: {user}"), &mut verdict);
        }
    }
    for user in [false, true] {
        case.config = config(&case.id);
        case.alter(|c| {
            if user {
                user_namespace(c, 100_000);
            }
            mount(c, "/recursive", "bind", &source, &["rbind", "rro", "rnosuid", "rnodev", "rnoexec"]);
        });
        compare(&mut case, &format!("recursive flags, user namespace: {user}"), &mut verdict);
    }
    for m in look::mounts("self").iter().rev().filter(|m| m.point.starts_with(&source)) {
        rustix::mount::unmount(m.point.as_str(), UnmountFlags::DETACH).unwrap();
    }
    verdict.end();
}

/// A v2 hierarchy where the machine's own is.
const ONLY_V2: &str = "if ! [ -e /sys/fs/cgroup/cgroup.controllers ]; then umount -R /sys/fs/cgroup && \
                       mount -t cgroup2 none /sys/fs/cgroup; fi";

#[test]
fn a_cgroup_v2_mount() {
    if !common::isolated("a_cgroup_v2_mount", ONLY_V2) {
        return;
    }
    let mut case = case!("paritycgroup");
    let mut verdict = Verdict::default();
    for user in [false, true] {
        for own in [false, true] {
            for writable in [false, true] {
                case.config = config(&case.id);
                case.alter(|c| {
                    if user {
                        user_namespace(c, 100_000);
                    }
                    if own {
                        namespace(c, "cgroup", None);
                    }
                    let options = ["nosuid", "noexec", "nodev", "relatime", if writable { "rw" } else { "ro" }];
                    mount(c, "/sys/fs/cgroup", "cgroup", "cgroup", &options);
                });
                let what = format!("user namespace: {user}, cgroup namespace: {own}, writable: {writable}");
                compare(&mut case, &what, &mut verdict);
            }
        }
    }
    verdict.end();
}

#[test]
fn a_copied_up_tmpfs_a_read_only_root_and_a_terminal() {
    if !common::isolated("a_copied_up_tmpfs_a_read_only_root_and_a_terminal", "") {
        return;
    }
    let mut case = case!("parityterminal");
    let mut verdict = Verdict::default();
    fs::create_dir_all(case.rootfs().join("copied/sub")).unwrap();
    fs::write(case.rootfs().join("copied/sub/file"), "of the image").unwrap();
    for user in [false, true] {
        for hooks in [false, true] {
            case.alter(|c| {
                c["process"]["terminal"] = json!(true);
                c["root"]["readonly"] = json!(true);
                c["hooks"] = if hooks { hook() } else { json!({}) };
                c["linux"]["maskedPaths"] = json!(["/etc/passwd", "/var", "/proc/cpuinfo"]);
                c["linux"]["readonlyPaths"] = json!(["/proc/sys", "/etc"]);
                c["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/copied");
                mount(c, "/copied", "tmpfs", "tmpfs", &["tmpcopyup", "size=64k"]);
                if user {
                    user_namespace(c, 100_000);
                }
            });
            compare(&mut case, &format!("a terminal, user namespace: {user}, hooks: {hooks}"), &mut verdict);
            // What was copied is there in every way of mounting.
            for (way, variable, lacking) in WAYS {
                let pid = without(lacking, Errno::NOSYS, || create(&mut case, variable)).unwrap();
                let copied = fs::read_to_string(look::inside(pid, "/copied/sub/file")).unwrap();
                assert_eq!(copied, "of the image", "{way}");
                case.delete_by_force();
            }
        }
    }
    verdict.end();
}
