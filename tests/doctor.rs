//! `tandem doctor`: what it says of this host is so, and nothing is made by asking.

#[macro_use]
mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::case::Case;
use common::look;
use common::outcome::Outcome;
use common::seccomp::without;
use rustix::io::Errno;
use serde_json::Value;

fn doctor(case: &Case) -> (Value, i32) {
    read(&case.call(&["doctor", "--format", "json"]))
}

fn read(outcome: &Outcome) -> (Value, i32) {
    let report = serde_json::from_str(&outcome.out()).unwrap_or_else(|e| panic!("{e}: {}", outcome.all()));
    (report, outcome.code())
}

/// What is said of one thing.
fn check<'a>(report: &'a Value, section: &str, name: &str) -> &'a Value {
    let section = report["sections"].as_array().unwrap().iter().find(|s| s["name"] == section).unwrap();
    let checks = section["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no `{name}` in {section:#}"))
}

/// Calls it as a user who is nobody here.
fn as_nobody(case: &Case, runtime_dir: Option<&Path>, args: &[&str]) -> Outcome {
    const NOBODY: u32 = 54321;
    let program = case.path("tandem");
    common::program::copy(common::binary(), &program);
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]).args(["--clear-groups", "--"]);
    command.arg(program).args(args).current_dir("/");
    match runtime_dir {
        Some(dir) => {
            fs::create_dir_all(dir).unwrap();
            std::os::unix::fs::chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
            command.env("XDG_RUNTIME_DIR", dir)
        }
        None => command.env_remove("XDG_RUNTIME_DIR"),
    };
    for name in ["TANDEM_TRACE", "TANDEM_MOUNT_STRATEGY"] {
        command.env_remove(name);
    }
    case.launch(command).wait()
}

#[test]
fn what_is_said_to_be_missing_says_what_follows() {
    tandem_only!("doctor");
    let case = case!("doctor");
    let (report, code) = doctor(&case);
    assert_eq!((report["hindrances"].as_array().unwrap().len(), code), (0, 0), "{report:#}");
    assert_eq!(report["user"], "the machine's root");
    let sections = report["sections"].as_array().unwrap();
    for check in sections.iter().flat_map(|section| section["checks"].as_array().unwrap()) {
        assert!(!check["found"].as_str().unwrap().is_empty(), "{check}");
        assert!(check["state"] == "ok" || check["follows"].is_string(), "{check}");
    }
    let text = case.call(&["doctor"]).ok().out();
    assert!(text.ends_with("\ncontainers can be made\n"), "{text}");
    // There is a container to be made, and it is made as was said.
    let trace = case.text("trace");
    let mut case = case;
    case.args(&["true"]);
    case.call(&["--trace", &trace, "run", "--bundle", &case.text("bundle"), &case.id]).ok();
    let outlook = &report["mount_strategies"][0];
    let how = outlook["why"].as_str().unwrap();
    let shown = case.call(&["trace", "show", "--format", "text", &trace]).ok().out();
    // Its name, what it does and why not another are fields of their own.
    let said = shown.lines().find(|line| line.contains(" strategy ")).expect("which strategy it was");
    for part in how.split([':', ';']).map(str::trim) {
        assert!(said.contains(part), "{part}\n{said}");
    }
}

#[test]
fn nothing_is_left_of_the_questions() {
    tandem_only!("doctor");
    let case = case!("doctornothing");
    let cgroups = || common::left::cgroups("");
    let (mounts, groups) = (look::mounts("self"), cgroups());
    case.call(&["doctor"]).ok();
    assert_eq!(look::mounts("self"), mounts);
    // Other tests make cgroups of their own at the same time.
    let ours = |group: &&std::path::PathBuf| !group.to_string_lossy().contains("tt-");
    let new: Vec<_> = cgroups().into_iter().filter(|group| !groups.contains(group)).collect();
    assert_eq!(new.iter().find(ours), None);
    assert!(!case.root().exists());
    case.nothing_left("doctor");
}

#[test]
fn a_call_that_is_not_there_is_missing() {
    tandem_only!("doctor");
    let case = case!("doctorlacks");
    let calls = [
        ("openat2", "openat2"),
        ("pidfd_open", "pidfd_open"),
        ("close_range", "close_range"),
        ("clone3", "clone3"),
        ("open_tree", "open_tree"),
        ("mount_setattr", "mount_setattr"),
    ];
    for (call, name) in calls {
        if check(&doctor(&case).0, "kernel", name)["state"] != "ok" {
            common::skipped_in_part(&format!("this kernel has no {call}"));
            continue;
        }
        // The C library, by which the test starts it, takes clone for clone3 only where that is not there.
        let errnos: &[Errno] = if call == "clone3" { &[Errno::NOSYS] } else { &[Errno::NOSYS, Errno::PERM] };
        for errno in errnos {
            let (report, code) = without(&[call], *errno, || doctor(&case));
            let check = check(&report, "kernel", name);
            assert_eq!(check["state"], "missing", "{call} {errno:?}: {check}");
            assert_eq!(code, 0, "{call}: {:#}", report["hindrances"]);
        }
    }
    // The same code as the plan's.
    let (report, _) = without(&["open_tree"], Errno::NOSYS, || doctor(&case));
    assert_eq!(report["mount_strategies"][0]["strategy"], "mount");
    assert!(report["mount_strategies"][0]["why"].as_str().unwrap().contains("no open_tree"));
}

#[test]
fn what_root_has_not_is_missing() {
    tandem_only!("doctor");
    let case = case!("doctorcaps");
    let without = ["setpriv", "--bounding-set=-sys_resource,-mknod"];
    let (report, _) = read(&case.call_behind(&without, &["doctor", "--format", "json"]));
    let all = check(&report, "security", "capabilities");
    assert_eq!(all["state"], "partly");
    for name in ["CAP_SYS_RESOURCE", "CAP_MKNOD"] {
        assert_eq!(check(&report, "security", name)["state"], "missing");
        assert!(all["found"].as_str().unwrap().contains(name), "{all}");
    }
    assert_eq!(check(&report, "runtime", "checkpoints")["state"], "missing");
}

#[test]
fn a_host_that_can_make_no_container_says_why() {
    tandem_only!("doctor");
    let case = case!("doctorno");
    let (report, code) = without(&["execveat"], Errno::NOSYS, || doctor(&case));
    assert_eq!((report["hindrances"][0].as_str(), code), (Some("execveat: Function not implemented"), 1));
    without(&["execveat"], Errno::NOSYS, || case.run()).refused_with(&["execveat"]);
}

#[test]
fn an_ordinary_user_is_told_of_users_and_places() {
    tandem_only!("doctor");
    let case = case!("doctoruser");
    let (report, code) = read(&as_nobody(&case, None, &["doctor", "--format", "json"]));
    assert_eq!(code, 1, "no place for state: {report:#}");
    assert_eq!(check(&report, "runtime", "state")["state"], "missing");
    assert!(report["hindrances"].to_string().contains("XDG_RUNTIME_DIR"));

    assert!(check(&report, "runtime", "state")["advice"].as_str().unwrap().contains("/run/user/"), "{report:#}");
    // A place that is not this user's is none.
    let (report, code) = read(&as_nobody(&case, None, &["--root", "/root/nonesuch", "doctor", "--format", "json"]));
    assert_eq!((code, &check(&report, "runtime", "state")["state"]), (1, &Value::from("missing")));

    let dir = case.path("run");
    let (report, code) = read(&as_nobody(&case, Some(&dir), &["doctor", "--format", "json"]));
    assert!(report["user"].as_str().unwrap().starts_with("an ordinary user"), "{report:#}");
    assert_eq!(check(&report, "runtime", "state")["state"], "ok");
    assert_eq!(check(&report, "users", "range of IDs")["state"], "missing");
    assert!(report["mount_strategies"][0]["strategy"].is_null());
    let namespaces = check(&report, "namespaces", "user")["state"] == "ok";
    assert_eq!(code, i32::from(!report["hindrances"].as_array().unwrap().is_empty()));
    assert!(namespaces || code == 1, "{report:#}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "nothing is made");
    // To look at a configuration needs no place for state; this one is root's.
    let said = as_nobody(&case, None, &["lint", &case.text("bundle")]).ok().out();
    assert!(said.starts_with("warning linux.namespaces: ") && said.lines().count() == 1, "{said}");
}
