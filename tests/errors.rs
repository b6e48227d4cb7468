//! Bad calls: IDs, executables, files, damaged state. One line, an exit code, nothing left behind.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::symlink;

use common::outcome::Outcome;
use common::{look, program};

#[test]
fn an_id_that_is_none() {
    let case = case!("badid");
    let long = "x".repeat(1025);
    let outside = case.path("escape");
    for id in ["..", ".", "", "a/b", "/a", "../escape", "a b", "a\nb", "ü", long.as_str()] {
        if !common::is_tandem() && (id == "." || id.len() > 1024) {
            continue; // A peer lets these pass, or fails in its own way.
        }
        for args in
            [&["create", "--bundle", &case.text("bundle"), "--"][..], &["run", "--bundle", &case.text("bundle"), "--"]]
        {
            let mut all = args.to_vec();
            all.push(id);
            let outcome = case.call(&all);
            assert_ne!(outcome.code(), 0, "{id:.20}");
            if common::is_tandem() {
                outcome.refused();
            }
            case.nothing_left(&format!("id {id:.20}"));
        }
        for command in ["state", "start", "kill", "delete"] {
            let outcome = case.call(&[command, "--", id]);
            assert_ne!(outcome.code(), 0, "{command} {id:.20}");
            assert!(!outcome.err().contains("panicked"), "{}", outcome.err());
        }
    }
    assert!(!outside.exists());
    // Force is for containers that are gone, not for a way out of the state directory.
    fs::create_dir_all(case.root()).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "precious").unwrap();
    let _ = case.call(&["delete", "--force", "--", "../escape"]);
    assert!(outside.join("file").exists());
}

#[test]
fn an_id_that_is_as_long_as_may_be() {
    let mut case = case!("longid");
    // A file name's limit, which a cgroup and a state directory are named by.
    let long = format!("{}{}", case.id, "x".repeat(200 - case.id.len()));
    case.args(&["true"]);
    case.call(&["run", "--bundle", &case.text("bundle"), &long]).ok();
    for id in ["a.b_c-d+e", "0", "A1"] {
        case.call(&["run", "--bundle", &case.text("bundle"), id]).ok();
    }
}

#[test]
fn an_id_that_is_taken() {
    let case = case!("twice");
    let pid = case.running();
    let line = case.call(&["create", "--bundle", &case.text("bundle"), &case.id]).refused();
    assert!(line.contains("exists") || line.contains("in use"), "{line}");
    case.run().refused();
    // The one that has it is none the worse.
    assert_eq!(case.status(), "running");
    assert_eq!(case.state()["pid"], pid);
    assert!(look::v1("pids").or_else(look::v2).unwrap().join(&case.id).is_dir());
    case.exec(&["true"]).ok();
    case.stop();
    case.call(&["create", "--bundle", &case.text("bundle"), &case.id]).refused();
    case.delete();
    case.create();
}

#[test]
fn two_creates_of_one_id_at_once() {
    tandem_only!("one winner of a race");
    let case = case!("race");
    for _ in 0..10 {
        let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..3)
                .map(|n| {
                    let (case, pid_file) = (&case, case.text(&format!("pid.{n}")));
                    scope.spawn(move || {
                        case.call(&["create", "--bundle", &case.text("bundle"), "--pid-file", &pid_file, &case.id])
                    })
                })
                .collect();
            calls.into_iter().map(|c| c.join().unwrap()).collect()
        });
        let won = outcomes.iter().filter(|o| o.status.success()).count();
        assert_eq!(won, 1, "{:?}", outcomes.iter().map(Outcome::all).collect::<Vec<_>>());
        assert_eq!(case.status(), "created");
        for n in 0..3 {
            if let Ok(pid) = fs::read_to_string(case.path(&format!("pid.{n}"))) {
                case.adopt(pid.parse().unwrap());
                fs::remove_file(case.path(&format!("pid.{n}"))).unwrap();
            }
        }
        case.call(&["delete", "--force", &case.id]).ok();
        case.nothing_left("delete of the winner");
    }
}

#[test]
fn an_executable_that_is_missing_or_none() {
    let mut case = case!("noexe");
    fs::write(case.rootfs().join("etc/plain"), "text").unwrap();
    program::write(case.rootfs().join("bin/nofmt"), "neither ELF nor script");
    program::write(case.rootfs().join("bin/badinterp"), "#!/no/such/interpreter\n");
    symlink("/bin/loop", case.rootfs().join("bin/loop")).unwrap();
    // podman makes 127 of the one kind of text, and 126 of the other.
    let (not_found, denied) = (127, 126);
    for (command, kind) in [
        ("no-such-command", not_found),
        ("/no/such/file", not_found),
        ("/etc/plain", denied),
        ("/etc", denied),
        ("plain", not_found),
    ] {
        case.args(&[command]);
        for outcome in [case.create_with(&[]), case.run()] {
            let line = outcome.refused();
            let lower = line.to_lowercase();
            let (found, refused) = (
                lower.contains("no such file or directory") || lower.contains("executable file not found"),
                lower.contains("permission denied") || lower.contains("operation not permitted"),
            );
            assert!(if kind == denied { refused } else { found && !refused }, "{command}: {line}");
            assert!(line.contains(command), "{command}: {line}");
            if common::is_tandem() {
                case.nothing_left(command);
            } else {
                let _ = case.call(&["delete", "--force", &case.id]);
            }
            assert!(!case.path("pid").exists(), "{command}: a pid file");
        }
    }
    // These can be known only by the exec itself, which comes with start.
    for command in ["nofmt", "badinterp", "loop"] {
        case.args(&[command]);
        let outcome = case.run();
        assert_ne!(outcome.code(), 0, "{command}");
        assert!(!outcome.err().is_empty(), "{command}: silence");
        case.nothing_left(command);
    }
}

#[test]
fn a_pid_file_that_can_not_be_written() {
    let case = case!("badpidfile");
    let pid_file = case.text("no/such/dir/pid");
    let outcome = case.call(&["create", "--bundle", &case.text("bundle"), "--pid-file", &pid_file, &case.id]);
    assert_ne!(outcome.code(), 0);
    if common::is_tandem() {
        outcome.refused_with(&["no/such/dir/pid"]);
        case.nothing_left("a create without pid file");
    }
}

#[test]
fn no_command_and_an_unknown_command() {
    tandem_only!("one line for a wrong command line");
    let case = case!("nocommand");
    assert_ne!(case.call(&[]).code(), 0);
    let outcome = case.call(&["no-such-command"]);
    assert_ne!(outcome.code(), 0);
    assert!(outcome.err().contains("no-such-command"), "{}", outcome.all());
    assert_ne!(case.call(&["create"]).code(), 0, "without an ID");
    assert_ne!(case.call(&["exec", &case.id]).code(), 0, "without a command");
}

#[test]
fn damaged_state_is_an_error_and_hides_no_other_container() {
    tandem_only!("reading damaged state");
    let case = case!("badstate");
    case.running();
    let record = case.root().join(&case.id).join("state.json");
    let whole = fs::read(&record).unwrap();
    fs::write(&record, "{").unwrap();
    case.call(&["state", &case.id]).refused();
    case.call(&["list"]).ok();
    // What can be found without the record is ended: tests/lost.rs.
    case.call(&["delete", &case.id]).refused();
    fs::write(&record, whole).unwrap();
}
