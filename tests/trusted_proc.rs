//! A `/proc` of which a part, or all, is something else: what the runtime writes lands on the kernel's own file, or it
//! says that it can't; never in whatever covers it. What it reads there it does not believe.
//!
//! The covers are made in a mount namespace of the runtime's alone.

#[macro_use]
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::bundle::user_namespace;
use common::case::Case;
use common::look;
use common::outcome::Outcome;
use common::seccomp::without;
use rustix::io::Errno;
use serde_json::json;

/// What covers, made by `script`, in which `$$` is the pid of the runtime.
fn behind(case: &Case, script: &str, args: &[&str]) -> Outcome {
    let script = format!("{script} || exit 100; exec \"$@\"");
    let outcome = case.call_behind(&["unshare", "-m", "--propagation", "private", "sh", "-c", &script, "sh"], args);
    assert_ne!(outcome.status.code(), Some(100), "{}", outcome.all());
    outcome
}

fn create_behind(case: &Case, script: &str) -> Outcome {
    let args = case.create_args();
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    args.push(&case.id);
    let outcome = behind(case, script, &args);
    if outcome.status.success() {
        case.adopt(case.pid());
    }
    outcome
}

/// Everything below a directory and what is in it.
fn contents(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.display().to_string(), fs::read_to_string(&path).unwrap());
        }
    }
    found
}

fn sysctl(pid: u32, name: &str) -> String {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    let out =
        std::process::Command::new("nsenter").args(["-t", &pid.to_string(), "-n", "cat", &path]).output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// Whether TOMOYO is among the kernel's security modules. Until Linux 6.14 it refuses execveat(2) of an fd where the name
/// that the kernel makes of that, `/dev/fd/3`, leads nowhere.
fn asks_for_dev_fd() -> bool {
    fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(|modules| modules.contains("tomoyo"))
}

/// A runtime that may make a procfs of its own needs none on the host.
#[test]
fn a_proc_that_is_missing_or_another_file_system_is_not_needed() {
    let mut case = case!("notproc");
    for user in [false, true] {
        if user {
            case.alter(|c| user_namespace(c, 100_000));
        }
        for script in ["mount -t tmpfs cover /proc", "umount -l /proc"] {
            // Without the second the child is started from a copy.
            for lacking in ["listmount", "mount_setattr"] {
                let outcome = without(&[lacking], Errno::NOSYS, || create_behind(&case, script));
                let why = format!("behind `{script}`, without {lacking}");
                if !outcome.status.success() && asks_for_dev_fd() {
                    outcome.refused_with(&["execveat", "No such file or directory", "TOMOYO", "/proc"]);
                    case.nothing_left(&why);
                    skip!("TOMOYO of this kernel executes no open file without `/proc`");
                }
                outcome.ok();
                let pid = case.pid();
                assert_eq!(look::mount_at(&look::mounts(pid), "/proc").kind, "proc", "{why}");
                case.delete_by_force();
            }
        }
    }
}

/// One that may not says what is wrong with the host's.
#[test]
fn without_one_of_its_own_the_hosts_proc_must_be_one() {
    tandem_only!("the words of its errors");
    let case = case!("noproc");
    for (script, words) in [
        ("mount -t tmpfs cover /proc", &["`/proc`", "not procfs"][..]),
        ("mount --bind /proc/self /proc", &["`/proc`", "not the root of a procfs"]),
        ("umount -l /proc", &["/proc"]),
    ] {
        let outcome = without(&["fsopen"], Errno::NOSYS, || create_behind(&case, script));
        outcome.refused_with(words);
        case.nothing_left(script);
    }
}

/// A runtime that can't see whether the container runs must not take it for dead.
#[test]
fn a_running_container_is_not_taken_for_dead_where_proc_is_covered() {
    let case = case!("blind");
    let pid = case.running();
    for script in ["mount -t tmpfs cover /proc", &format!("mount -t tmpfs cover /proc/{pid}"), "umount -l /proc"] {
        let deleted = behind(&case, script, &["delete", &case.id]);
        assert_ne!(deleted.code(), 0, "a running container was deleted: {}", deleted.all());
        assert!(look::process(pid).is_some_and(|p| p.state != 'Z'), "{script}: it was killed");
        assert_eq!(case.status(), "running", "after a delete behind `{script}`");
        let state = behind(&case, script, &["state", &case.id]);
        let told = state.out();
        assert!(state.code() != 0 || told.contains("\"running\""), "{script}: told to be: {told}");
        // Also by another container of the same ID.
        let again = create_behind(&case, script);
        assert_ne!(again.code(), 0, "{script}: a second one was made: {}", again.all());
        assert_eq!(case.status(), "running", "after a create behind `{script}`");
    }
}

/// The sysctl that a container is given, and a file in its place: an ordinary one, and another sysctl.
#[test]
fn a_sysctl_is_written_to_no_file_that_covers_it() {
    let mut case = case!("coveredctl");
    case.alter(|c| c["linux"]["sysctl"] = json!({"net.ipv4.ip_default_ttl": "77"}));
    fs::write(case.path("file"), "untouched").unwrap();
    fs::create_dir_all(case.path("dir/ipv4")).unwrap();
    fs::write(case.path("dir/ipv4/ip_default_ttl"), "untouched").unwrap();
    let real = "/proc/sys/net/ipv4/ip_default_ttl";
    let other = "net.ipv4.tcp_keepalive_probes";
    let host = [look::value(real), look::value("/proc/sys/net/ipv4/tcp_keepalive_probes")];
    for (what, script) in [
        ("a file", format!("mount --bind {} {real}", case.text("file"))),
        ("another sysctl", format!("mount --bind /proc/sys/net/ipv4/tcp_keepalive_probes {real}")),
        ("a directory", format!("mount --bind {} /proc/sys/net", case.text("dir"))),
        ("/dev/null", format!("mount --bind /dev/null {real}")),
    ] {
        for user in [false, true] {
            case.alter(|c| {
                if user {
                    user_namespace(c, 100_000);
                } else {
                    common::bundle::without_namespace(c, "user");
                    c["linux"].as_object_mut().unwrap().retain(|k, _| !k.ends_with("Mappings"));
                }
            });
            for lacking in [&["listmount"][..], &["openat2"]] {
                let why = format!("{what}, user namespace: {user}, without {lacking:?}");
                let outcome = without(lacking, Errno::NOSYS, || create_behind(&case, &script));
                if outcome.status.success() {
                    assert_eq!(
                        sysctl(case.pid(), "net.ipv4.ip_default_ttl"),
                        "77",
                        "{why}: it is not what was asked for"
                    );
                    assert_eq!(sysctl(case.pid(), other), host[1], "{why}: another one was changed");
                    case.delete_by_force();
                } else if common::is_tandem() {
                    // In a user namespace the cover may be in the way of a new proc before it is in that of the write.
                    let line = outcome.refused();
                    assert!(line.contains("ip_default_ttl") || (user && line.contains("/proc")), "{why}: {line}");
                    case.nothing_left(&why);
                }
                assert_eq!(look::value(case.path("file")), "untouched", "{why}");
                assert_eq!(look::value(case.path("dir/ipv4/ip_default_ttl")), "untouched", "{why}");
                let now = [look::value(real), look::value("/proc/sys/net/ipv4/tcp_keepalive_probes")];
                assert_eq!(now, host, "{why}: the host's own");
            }
        }
    }
}

/// A directory of lies in place of the runtime's own.
#[test]
fn id_maps_and_oom_score_land_on_the_process_itself() {
    let mut case = case!("coveredself");
    case.alter(|c| {
        user_namespace(c, 100_000);
        c["process"]["oomScoreAdj"] = json!(500);
    });
    let fake = case.path("fake");
    fs::create_dir_all(fake.join("attr")).unwrap();
    for (name, text) in [
        ("oom_score_adj", "untouched"),
        ("uid_map", "untouched"),
        ("gid_map", "untouched"),
        ("setgroups", "untouched"),
        ("attr/exec", "untouched"),
        ("timens_offsets", "untouched"),
        ("cgroup", "0::/tt-nowhere\n"),
        ("mountinfo", "1 1 0:1 / / rw - tmpfs none rw\n"),
        ("status", "Name:\tnone\n"),
    ] {
        fs::write(fake.join(name), text).unwrap();
    }
    let before = contents(&fake);
    let files = ["oom_score_adj", "uid_map", "gid_map", "setgroups", "cgroup", "mountinfo"];
    let one_by_one = files.map(|f| format!("mount --bind {0}/{f} /proc/$$/{f}", case.text("fake"))).join(" && ");
    for script in
        [format!("mount --bind {} /proc/$$", case.text("fake")), "mount -t tmpfs cover /proc/$$".to_owned(), one_by_one]
    {
        for lacking in [&["listmount"][..], &["openat2"]] {
            let outcome = without(lacking, Errno::NOSYS, || create_behind(&case, &script));
            if outcome.status.success() {
                let pid = case.pid();
                let map = |file: &str| {
                    let text = look::value(format!("/proc/{pid}/{file}"));
                    text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
                };
                assert_eq!([map("uid_map"), map("gid_map")], [["0", "100000", "65536"], ["0", "100000", "65536"]]);
                assert_eq!(look::value(format!("/proc/{pid}/oom_score_adj")), "500", "{script}");
                let cgroups = look::cgroups(pid);
                assert!(cgroups.values().all(|c| !c.contains("tt-nowhere")), "{cgroups:?}");
                case.delete_by_force();
            } else if common::is_tandem() {
                let line = outcome.refused();
                assert!(line.contains("/proc"), "{script}: {line}");
                case.nothing_left(&script);
            }
            assert_eq!(contents(&fake), before, "{script}, without {lacking:?}");
            assert!(common::left::cgroups("tt-nowhere").is_empty(), "{script}: made where a lie said");
        }
    }
}

/// What the container sees is its own /proc: no cover of the runtime's is in it.
#[test]
fn a_cover_of_the_hosts_is_not_in_the_containers_proc() {
    let mut case = case!("owncover");
    fs::write(case.path("file"), "a lie").unwrap();
    let script = format!("mount --bind {} /proc/uptime && mount -t tmpfs cover /proc/tty", case.text("file"));
    for hooks in [false, true] {
        case.alter(|c| c["hooks"] = if hooks { json!({"createRuntime": [{"path": "/bin/true"}]}) } else { json!({}) });
        create_behind(&case, &script).ok();
        let pid = case.pid();
        assert_ne!(look::value(look::inside(pid, "/proc/uptime")), "a lie", "hooks: {hooks}");
        assert!(fs::read_dir(look::inside(pid, "/proc/tty")).unwrap().count() > 0, "hooks: {hooks}");
        let below = look::mounts(pid).into_iter().filter(|m| m.point.starts_with("/proc/")).count();
        assert_eq!(below, 0, "hooks: {hooks}");
        case.delete_by_force();
    }
}
