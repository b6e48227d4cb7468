//! State files that are emptied, cut, swapped or gone: commands say which, others are not disturbed, and `delete --force` ends
//! and removes what can be found.

#[macro_use]
mod common;

use std::fs;
use std::path::PathBuf;

use common::case::Case;
use common::{look, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

fn record(case: &Case) -> PathBuf {
    case.root().join(&case.id).join("state.json")
}

/// Creates a container of another bundle in the state root of `case`.
fn create_beside(case: &Case, other: &Case) -> u32 {
    let (bundle, pid_file) = (other.text("bundle"), other.text("pid"));
    case.call(&["create", "--bundle", &bundle, "--pid-file", &pid_file, &other.id]).ok();
    other.adopt(other.pid());
    other.pid()
}

fn is_gone(pid: u32) -> bool {
    !fs::exists(format!("/proc/{pid}/exe")).unwrap_or(false)
}

/// What may befall a record.
fn damages(text: &str, case: &Case) -> Vec<(&'static str, Option<String>)> {
    let broken_cgroup = text.replace(&format!("\"path\":\"/{}\"", case.id), "\"path\":\"/..\"");
    assert_ne!(broken_cgroup, text);
    vec![
        ("emptied", Some(String::new())),
        ("cut before the process", Some(text[..text.find("\"created\"").unwrap()].to_owned())),
        ("cut after the process", Some(text[..text.find("\"complete\"").unwrap()].to_owned())),
        ("cut at its end", Some(text[..text.len() - 2].to_owned())),
        ("another's", Some(text.replace(&format!("\"id\":\"{}\"", case.id), "\"id\":\"another\""))),
        ("with a cgroup out of bounds", Some(broken_cgroup)),
        ("null", Some("null".to_owned())),
        ("removed", None),
    ]
}

#[test]
fn a_container_whose_record_is_damaged_is_named_and_deleted_by_force() {
    tandem_only!("a damaged state file");
    let mut case = case!("lost");
    case.script("sleep 100000 & exec sleep 100000");
    for n in 0..8 {
        // Beside it one that nothing is wrong with.
        let other = Case::new("lostother");
        create_beside(&case, &other);
        let pid = case.running();
        let text = fs::read_to_string(record(&case)).unwrap();
        let (what, damage) = damages(&text, &case).swap_remove(n);
        match damage {
            Some(text) => fs::write(record(&case), text).unwrap(),
            None => fs::remove_file(record(&case)).unwrap(),
        }
        for args in [&["state"][..], &["kill"], &["start"], &["pause"], &["ps"], &["exec"], &["delete"]] {
            let more: &[&str] = if args == ["exec"] { &["true"] } else { &[] };
            let outcome = case.call(&[args, &[&case.id], more].concat());
            let line = outcome.refused();
            assert!(line.contains("state.json") && line.contains("--force"), "{what}: {args:?}: {line}");
            assert!(!line.contains("No such file") && !line.contains("does not exist"), "{what}: {line}");
        }
        let list = case.call(&["list", "--quiet"]).ok();
        assert_eq!(list.out(), format!("{}\n", other.id), "{what}");
        assert!(list.err().contains(&case.id) && list.err().contains("state.json"), "{what}: {}", list.err());
        assert!(!is_gone(pid), "{what}: nothing but delete --force ends it");
        let outcome = case.call(&["delete", "--force", &case.id]).ok();
        assert_eq!(outcome.err().lines().count(), 1, "{what}: {}", outcome.all());
        assert!(outcome.err().contains("state.json") && outcome.err().contains(&case.id), "{what}: {}", outcome.err());
        wait_until("the process is gone", || {
            case.reap();
            is_gone(pid)
        });
        assert!(case.call(&["state", &other.id]).ok().out().contains("\"created\""), "{what}");
        case.call(&["delete", "--force", &other.id]).ok();
        case.nothing_left(what);
        let _ = fs::remove_file(case.path("pid"));
    }
}

#[test]
fn a_process_without_a_cgroup_is_ended_if_the_record_still_has_it_and_else_named() {
    tandem_only!("a damaged state file");
    let mut case = case!("lostpid");
    case.globals = vec!["--cgroup-manager=disabled".into()];
    for whole in [true, false] {
        let pid = case.running();
        let text = fs::read_to_string(record(&case)).unwrap();
        let end = if whole { text.find("\"complete\"").unwrap() } else { 0 };
        fs::write(record(&case), &text[..end]).unwrap();
        let said = case.call(&["delete", "--force", &case.id]).ok().err();
        if whole {
            assert!(said.contains(&pid.to_string()), "{said}");
        } else {
            assert!(said.contains("lives on"), "{said}");
            assert!(!is_gone(pid));
            kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
        }
        wait_until("the process is gone", || {
            case.reap();
            is_gone(pid)
        });
        case.nothing_left("delete --force");
        let _ = fs::remove_file(case.path("pid"));
    }
}

#[test]
fn a_record_that_is_lost_with_the_configuration_is_no_reason_to_keep_the_entry() {
    tandem_only!("a damaged state file");
    let case = case!("lostall");
    let pid = case.running();
    for name in ["state.json", "config.json"] {
        fs::write(case.root().join(&case.id).join(name), "{").unwrap();
    }
    let said = case.call(&["delete", "--force", &case.id]).ok().err();
    assert!(said.contains("lives on") && !is_gone(pid), "{said}");
    case.call(&["state", &case.id]).refused_with(&["does not exist"]);
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    wait_until("its cgroups can be removed", || {
        case.reap();
        let dirs: Vec<_> = look::hierarchies().into_iter().map(|(_, point)| point.join(&case.id)).collect();
        dirs.iter().for_each(|dir| drop(fs::remove_dir(dir)));
        dirs.iter().all(|dir| !dir.exists())
    });
}

#[test]
fn the_cgroup_of_another_container_is_left_alone() {
    tandem_only!("a damaged state file");
    let case = case!("lostshared");
    // Its own is gone with its process, and its path another's by now.
    case.running();
    case.stop();
    for (_, point) in look::hierarchies() {
        fs::remove_dir(point.join(&case.id)).unwrap();
    }
    let mut other = Case::new("lostheir");
    let path = format!("/{}", case.id);
    other.alter(|c| c["linux"]["cgroupsPath"] = json!(path));
    let pid = create_beside(&case, &other);
    fs::write(record(&case), "").unwrap();
    case.call(&["delete", "--force", &case.id]).ok();
    assert!(!is_gone(pid));
    assert!(case.call(&["state", &other.id]).ok().out().contains("\"created\""));
    case.call(&["delete", "--force", &other.id]).ok();
}

#[test]
fn a_file_in_the_state_root_is_no_container() {
    let case = case!("lostfile");
    case.create();
    fs::write(case.root().join("stray"), "x").unwrap();
    let list = case.call(&["list", "--quiet"]).ok();
    assert_eq!((list.out(), list.err()), (format!("{}\n", case.id), String::new()));
    if common::is_tandem() {
        case.call(&["state", "stray"]).refused_with(&["does not exist"]);
    }
    fs::remove_file(case.root().join("stray")).unwrap();
}

/// A container that has no cgroup, though its configuration names one: what is in there is somebody else's.
#[test]
fn what_is_in_the_named_cgroup_and_not_the_containers_lives_on() {
    tandem_only!("a damaged state file");
    let mut case = case!("lostnone");
    case.globals = vec!["--cgroup-manager=disabled".into()];
    case.script("exec sleep 100000");
    let pid = case.running();
    let cgroup = PathBuf::from("/sys/fs/cgroup/unified").join(&case.id);
    let cgroup = if cgroup.parent().is_some_and(|parent| parent.is_dir()) {
        cgroup
    } else {
        PathBuf::from("/sys/fs/cgroup").join(&case.id)
    };
    fs::create_dir(&cgroup).unwrap();
    let mut neighbour = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(cgroup.join("cgroup.procs"), neighbour.id().to_string()).unwrap();
    fs::write(record(&case), "").unwrap();
    let said = case.call(&["delete", "--force", &case.id]).ok().err();
    let lives = neighbour.try_wait().unwrap().is_none();
    neighbour.kill().unwrap();
    neighbour.wait().unwrap();
    wait_until("the cgroup can be removed", || fs::remove_dir(&cgroup).is_ok());
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).ok();
    assert!(lives, "{said}");
    assert!(said.contains("not its own"), "{said}");
}

/// What keeps a record from being read may pass: then there is nothing to find out in other ways.
#[test]
fn a_record_that_can_not_be_read_now_is_not_lost() {
    tandem_only!("a damaged state file");
    let mut case = case!("unread");
    case.script("exec sleep 100000");
    let pid = case.running();
    let mut refused = 0;
    for files in 4..40 {
        let few = format!("--nofile={files}:{files}");
        let outcome = case.call_behind(&["prlimit", &few], &["delete", "--force", &case.id]);
        let said = outcome.err();
        assert!(!said.contains("lost") && !said.contains("--force"), "{files}: {said}");
        if outcome.code() == 0 {
            break;
        }
        refused += 1;
        assert_eq!(said.lines().count(), 1, "{files}: {said}");
        if !is_gone(pid) {
            case.exec(&["true"]).ok();
        }
    }
    assert!(refused > 0, "the limit was never low enough");
    wait_until("the process is gone", || {
        case.reap();
        is_gone(pid)
    });
}

#[test]
fn with_too_few_files_nothing_of_a_create_stays() {
    tandem_only!("how many files it takes");
    let case = case!("few");
    let mut refused = 0;
    for files in 4..40 {
        let few = format!("--nofile={files}:{files}");
        let outcome = case.create_behind(&["prlimit", &few], &[]);
        if outcome.code() == 0 {
            break;
        }
        refused += 1;
        let said = outcome.err();
        assert!(said.lines().count() == 1 && !said.contains("clean-up failed"), "{files}: {said}");
        case.nothing_left(&format!("a create with {files} files"));
    }
    assert!(refused > 3, "the limit was never low enough");
}
