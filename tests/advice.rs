//! What went wrong, and what to do about it: the errors that a user meets first.

#[macro_use]
mod common;

use std::fs;

use common::bundle::mount;
use common::look;
use serde_json::json;

#[test]
fn a_source_or_an_option_of_a_mount_says_what_is_expected() {
    tandem_only!("advice");
    let mut case = case!("advmount");
    let good = case.config.clone();
    let missing = case.text("missing");
    case.alter(|c| mount(c, "/data", "bind", &missing, &["bind"]));
    case.create_with(&[]).refused_with(&["/data", "missing", "No such file", "must be there: make it"]);
    for (option, words) in
        [("size=bogus", "a number is expected, with k, m, g"), ("mode=rwx", "an octal number is expected")]
    {
        case.alter(|c| {
            *c = good.clone();
            mount(c, "/data", "tmpfs", "tmpfs", &[option]);
        });
        case.create_with(&[]).refused_with(&["/data", option, words]);
    }
}

#[test]
fn a_container_that_is_not_there_says_where_it_was_looked_for() {
    tandem_only!("advice");
    let case = case!("advmissing");
    let root = case.root().display().to_string();
    for command in ["state", "start", "kill", "delete", "pause", "ps"] {
        case.call(&[command, &case.id]).refused_with(&["does not exist", &root, "tandem list"]);
    }
}

#[test]
fn a_program_that_is_not_found_tells_the_path() {
    tandem_only!("advice");
    let mut case = case!("advpath");
    case.alter(|c| c["process"]["env"] = json!(["PATH=/opt/none:/bin"]));
    case.args(&["nonesuch"]);
    case.create_with(&[]).refused_with(&["`nonesuch` not found in $PATH", "PATH is `/opt/none:/bin`"]);
}

#[test]
fn a_limit_over_the_runtimes_own_tells_that() {
    tandem_only!("advice");
    let mut case = case!("advlimit");
    case.alter(|c| {
        c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100_000, "hard": 100_000}]);
    });
    let without = ["prlimit", "--nofile=600:600", "setpriv", "--bounding-set=-sys_resource"];
    let outcome = case.create_behind(&without, &[]);
    outcome.refused_with(&["RLIMIT_NOFILE", "hard limit is 600", "CAP_SYS_RESOURCE", "--ulimit nofile=600:600"]);
}

#[test]
fn a_cgroup_that_is_taken_names_who_is_in_it() {
    tandem_only!("advice");
    let first = case!("advfirst");
    let pid = first.running();
    let mut second = case!("advsecond");
    second.alter(|c| c["linux"]["cgroupsPath"] = json!(format!("/{}", first.id)));
    second.create_with(&[]).refused_with(&["is not empty", &format!("process {pid} is in it"), "linux.cgroupsPath"]);
    first.exec(&["sh", "-c", "true"]).ok();
    assert_eq!(first.status(), "running");
}

#[test]
fn a_pid_file_goes_with_its_process() {
    tandem_only!("a pid file after a failed hook");
    let mut case = case!("advpid");
    case.alter(|c| c["hooks"] = json!({"poststart": [{"path": "/bin/false"}]}));
    let (bundle, pid_file) = (case.text("bundle"), case.text("pid"));
    for more in [&["--detach"][..], &[]] {
        let args = [&["run", "--bundle", &bundle, "--pid-file", &pid_file], more, &[&case.id]].concat();
        case.call(&args).refused_with(&["poststart"]);
        assert!(!case.path("pid").exists(), "{more:?}");
        case.nothing_left("a failed poststart hook");
    }
}

#[test]
fn a_memory_limit_that_kills_the_set_up_is_named() {
    tandem_only!("what an error says of memory");
    let mut case = case!("advoom");
    if !look::has_controllers(&["memory"]) {
        skip!("no memory controller");
    }
    let mut killed = 0;
    // At which of them the kernel kills, and does not refuse by itself, depends on the kernel.
    for limit in [100_000, 200_000, 300_000, 500_000, 800_000, 1_200_000] {
        case.alter(|c| c["linux"]["resources"] = json!({"memory": {"limit": limit, "swap": limit}}));
        let outcome = case.create_with(&[]);
        if !outcome.status.success() {
            let said = outcome.refused();
            assert!(!said.contains("sync protocol"), "{limit}: {said}");
            if said.contains("out of memory") {
                killed += 1;
                assert!(said.contains("linux.resources.memory.limit"), "{limit}: {said}");
            }
        }
        case.delete_by_force();
        case.nothing_left("a start without memory");
        let _ = fs::remove_file(case.path("pid"));
    }
    assert!(killed > 0, "no limit was low enough");
}
