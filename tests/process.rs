//! What the payload is: capabilities, limits, environment, IDs, working directory.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;

use common::look;
use serde_json::json;

const CHOWN: u64 = 1;

const KILL: u64 = 1 << 5;

const NET_BIND_SERVICE: u64 = 1 << 10;

const SYS_CHROOT: u64 = 1 << 18;

#[test]
fn each_capability_set_is_what_is_asked() {
    let mut case = case!("caps");
    case.alter(|c| {
        c["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT"],
            "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "inheritable": ["CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "effective": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "ambient": ["CAP_NET_BIND_SERVICE"]
        });
        // Root's exec would recompute permitted and effective from the bounding set.
        c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    let pid = case.running();
    assert_eq!(look::mask(pid, "CapBnd"), CHOWN | KILL | NET_BIND_SERVICE | SYS_CHROOT);
    assert_eq!(look::mask(pid, "CapInh"), KILL | NET_BIND_SERVICE);
    assert_eq!(look::mask(pid, "CapAmb"), NET_BIND_SERVICE);
    // What survives the exec of a plain file by no root: the ambient set.
    assert_eq!(look::mask(pid, "CapPrm"), NET_BIND_SERVICE);
    assert_eq!(look::mask(pid, "CapEff"), NET_BIND_SERVICE);
}

#[test]
fn root_gets_its_bounding_set_and_nothing_inheritable_or_ambient() {
    let mut case = case!("caproot");
    case.alter(|c| {
        let set = json!(["CAP_CHOWN", "CAP_KILL"]);
        c["process"]["capabilities"] = json!({"bounding": set, "permitted": set, "effective": set});
    });
    let pid = case.running();
    for set in ["CapBnd", "CapPrm", "CapEff"] {
        assert_eq!(look::mask(pid, set), CHOWN | KILL, "{set}");
    }
    assert_eq!((look::mask(pid, "CapInh"), look::mask(pid, "CapAmb")), (0, 0));
}

/// Root's exec makes the permitted and the effective set anew, of the bounding and the inheritable one (capabilities(7)):
/// no new privileges keep it to what it had.
#[test]
fn roots_five_sets_are_what_the_kernel_makes_of_the_asked_ones() {
    let mut case = case!("caprootsets");
    let asked = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"]
    });
    for (no_new_privileges, gained) in [(true, CHOWN | KILL), (false, CHOWN | KILL | NET_BIND_SERVICE)] {
        case.alter(|c| {
            c["process"]["capabilities"] = asked.clone();
            c["process"]["noNewPrivileges"] = json!(no_new_privileges);
        });
        let pid = case.running();
        let sets = ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"].map(|set| look::mask(pid, set));
        let expected = [CHOWN | KILL | NET_BIND_SERVICE, gained, gained, KILL, KILL];
        assert_eq!(sets, expected, "noNewPrivileges {no_new_privileges}");
        case.delete_by_force();
    }
}

#[test]
fn no_capabilities_are_none() {
    let mut case = case!("capnone");
    case.alter(|c| c["process"]["capabilities"] = json!({}));
    let pid = case.running();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(look::mask(pid, set), 0, "{set}");
    }
}

#[test]
fn limits_are_what_is_asked() {
    let mut case = case!("rlimits");
    case.alter(|c| {
        c["process"]["rlimits"] = json!([
            {"type": "RLIMIT_NOFILE", "soft": 123, "hard": 456},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            {"type": "RLIMIT_STACK", "soft": 4_194_304, "hard": 8_388_608},
            {"type": "RLIMIT_MSGQUEUE", "soft": 1000, "hard": 2000}
        ]);
    });
    let pid = case.running();
    for (name, soft, hard) in [
        ("Max open files", "123", "456"),
        ("Max core file size", "0", "0"),
        ("Max stack size", "4194304", "8388608"),
        ("Max msgqueue size", "1000", "2000"),
    ] {
        assert_eq!(look::limit(pid, name), (soft.to_owned(), hard.to_owned()), "{name}");
    }
}

/// Such as podman's 1048576 with `--userns=auto` on a host whose own hard limit is 524288.
#[test]
fn limits_above_the_callers_are_had_in_a_user_namespace_too() {
    let mut case = case!("rlimituser");
    const SYS_RESOURCE: u64 = 1 << 24;
    if look::mask(std::process::id(), "CapEff") & SYS_RESOURCE == 0 {
        skip!("needs CAP_SYS_RESOURCE");
    }
    case.alter(|c| {
        common::bundle::user_namespace(c, 300_000);
        c["process"]["rlimits"] = json!([
            {"type": "RLIMIT_NOFILE", "soft": 2000, "hard": 3000},
            {"type": "RLIMIT_MSGQUEUE", "soft": 7, "hard": 8},
        ]);
    });
    let wrapper = ["prlimit", "--nofile=500:1000", "--"];
    case.create_behind(&wrapper, &[]).ok();
    case.start();
    case.wait_payload(case.pid());
    let limits = ["Max open files", "Max msgqueue size"].map(|name| look::limit(case.pid(), name));
    assert_eq!(limits, [("2000".into(), "3000".into()), ("7".into(), "8".into())]);
    let seen = case.call_behind(&wrapper, &["exec", &case.id, "sh", "-c", "ulimit -Sn; ulimit -Hn"]).ok().out();
    assert_eq!(seen, "2000\n3000\n", "exec");
}

#[test]
fn a_low_limit_of_open_files_does_not_keep_it_from_starting() {
    let mut case = case!("nofile");
    case.alter(|c| {
        c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 16, "hard": 16}]);
        for n in 0..60 {
            common::bundle::mount(c, &format!("/mnt/{n}"), "bind", "/etc", &["rbind", "ro"]);
        }
    });
    let pid = case.running();
    assert_eq!(look::limit(pid, "Max open files").1, "16");
    assert_eq!(look::mounts(pid).iter().filter(|m| m.point.starts_with("/mnt/")).count(), 60);
}

#[test]
fn a_limit_of_no_known_name_or_listed_twice_is_refused() {
    let mut case = case!("badlimit");
    case.alter(|c| c["process"]["rlimits"] = json!([{"type": "RLIMIT_NONESUCH", "soft": 1, "hard": 1}]));
    case.create_with(&[]).refused_with(&["RLIMIT_NONESUCH"]);
    case.nothing_left("a refused create");
}

/// config.md, "process.capabilities": what can't be granted is a warning, and no failure.
#[test]
fn a_capability_that_nobody_knows_is_told_and_left_out() {
    let mut case = case!("capunknown");
    tandem_only!("the words");
    case.alter(|c| {
        c["process"]["capabilities"] = json!({"bounding": ["CAP_KILL", "CAP_NONE_SUCH"], "ambient": ["CAP_KILL"]});
        c["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    });
    case.args(&["grep", "CapBnd", "/proc/self/status"]);
    case.globals = vec!["--log-level=warn".into()];
    let outcome = case.run().ok();
    assert_eq!(outcome.out().split_whitespace().last(), Some("0000000000000020"));
    // An ambient one that is not inheritable can be given to nobody: that is not worth a word at each start.
    assert!(outcome.err().contains("CAP_NONE_SUCH") && !outcome.err().contains("CAP_KILL"), "{}", outcome.err());
    // Nobody asked for words where the container's are.
    case.globals.clear();
    assert_eq!(case.run().ok().err(), "");
}

#[test]
fn no_new_privileges_is_as_asked() {
    let mut case = case!("nnp");
    for (asked, seen) in [(true, "1"), (false, "0")] {
        case.alter(|c| c["process"]["noNewPrivileges"] = json!(asked));
        assert_eq!(look::status(case.running())["NoNewPrivs"], seen);
        case.stop();
        case.delete();
    }
}

#[test]
fn the_environment_is_exactly_the_configured_one() {
    let mut case = case!("environ");
    let asked = ["PATH=/bin", "EMPTY=", "SPACED=a b  c", "EQUALS=a=b=c", "UNICODE=ü", "HOME=/nowhere"];
    case.alter(|c| c["process"]["env"] = json!(asked));
    let mut command = case.command();
    command.args(case.create_args()).arg(&case.id).env("LEAKED_FROM_THE_ENGINE", "1").env("_OCI_SYNCPIPE", "3");
    case.launch(command).wait().ok();
    let pid = case.pid();
    case.adopt(pid);
    case.start();
    case.wait_payload(pid);
    assert_eq!(look::strings(pid, "environ"), asked);
}

#[test]
fn an_empty_home_is_the_users_own() {
    let mut case = case!("home");
    case.alter(|c| {
        c["process"]["env"] = json!(["PATH=/bin", "HOME="]);
        c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    case.script("echo $HOME");
    assert_eq!(case.run().ok().out(), "/tmp\n");
    case.args(&["sleep", "100000"]);
    case.running();
    let exec = ["exec", "--env", "HOME=", "--user", "1000", &case.id, "sh", "-c", "echo $HOME"];
    if common::is_tandem() {
        assert_eq!(case.call(&exec).ok().out(), "/tmp\n");
    }
}

#[test]
fn a_large_environment_arrives_whole() {
    let mut case = case!("bigenv");
    // Above any one packet or pipe buffer, below the kernel's limit for arguments.
    let asked: Vec<String> = (0..1000).map(|n| format!("V{n}={}", "x".repeat(1000))).collect();
    case.alter(|c| c["process"]["env"] = json!(asked));
    case.args(&["/bin/sleep", "100000"]);
    let pid = case.running();
    let mut environment = look::strings(pid, "environ");
    // Runtimes add one where there is none.
    environment.retain(|e| !e.starts_with("HOME="));
    assert!(environment == asked, "{} of {} variables", environment.len(), asked.len());
}

#[test]
fn the_working_directory_is_as_asked_and_made_if_absent() {
    let mut case = case!("cwdmade");
    for cwd in ["/", "/tmp", "/made/for/it"] {
        case.alter(|c| c["process"]["cwd"] = json!(cwd));
        let pid = case.running();
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some(cwd));
        let at = fs::metadata(format!("/proc/{pid}/cwd")).unwrap();
        assert_eq!(at.ino(), fs::metadata(case.rootfs().join(&cwd[1..])).unwrap().ino());
        case.stop();
        case.delete();
    }
}

#[test]
fn the_umask_is_as_asked_and_0022_by_default() {
    let mut case = case!("umask");
    assert_eq!(look::status(case.running())["Umask"], "0022");
    case.stop();
    case.delete();
    case.alter(|c| c["process"]["user"]["umask"] = json!(0o027));
    assert_eq!(look::status(case.running())["Umask"], "0027");
}

#[test]
fn user_group_and_additional_groups_are_as_asked() {
    let mut case = case!("ids");
    case.alter(|c| c["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 99, 4_000_000]}));
    let pid = case.running();
    assert_eq!(look::words(pid, "Uid"), ["1000"; 4]);
    assert_eq!(look::words(pid, "Gid"), ["1001"; 4]);
    let mut groups = look::words(pid, "Groups");
    groups.retain(|g| g != "1001");
    assert_eq!(groups, ["5", "99", "4000000"]);
}

#[test]
fn groups_that_a_user_namespace_denies_are_left_out() {
    let mut case = case!("groupsdenied");
    case.alter(|c| {
        c["process"]["user"]["additionalGids"] = json!([0]);
        c["linux"].as_object_mut().unwrap().remove("cgroupsPath");
        let pts = c["mounts"].as_array_mut().unwrap().iter_mut().find(|m| m["destination"] == "/dev/pts").unwrap();
        pts["options"].as_array_mut().unwrap().retain(|o| o != "gid=5");
    });
    // As podman has it for a user without ranges in /etc/subgid.
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount"];
    case.args(&["cat", "/proc/self/setgroups"]);
    let outcome = case.call_behind(&wrapper, &["run", "--bundle", &case.text("bundle"), &case.id]).ok();
    assert_eq!((outcome.out().as_str(), outcome.err().as_str()), ("deny\n", ""));
}

#[test]
fn the_callers_groups_are_dropped() {
    let case = case!("groups");
    case.create_behind(&["setpriv", "--groups", "7,8,9"], &[]).ok();
    case.start();
    case.wait_payload(case.pid());
    let mut groups = look::words(case.pid(), "Groups");
    groups.retain(|g| g != "0");
    assert!(groups.is_empty(), "{groups:?}");
}

#[test]
fn the_oom_score_is_as_asked_or_the_callers() {
    let mut case = case!("oom");
    case.alter(|c| c["process"]["oomScoreAdj"] = json!(777));
    assert_eq!(look::value(format!("/proc/{}/oom_score_adj", case.running())), "777");
    case.stop();
    case.delete();
    case.alter(|c| drop(c["process"].as_object_mut().unwrap().remove("oomScoreAdj")));
    case.create_behind(&["choom", "--adjust", "123", "--"], &[]).ok();
    assert_eq!(look::value(format!("/proc/{}/oom_score_adj", case.pid())), "123");
}

#[test]
fn a_script_with_an_interpreter_is_a_payload() {
    let mut case = case!("shebang");
    let script = case.rootfs().join("bin/hello");
    common::program::write(script, "#!/bin/sh\necho hello $1\n");
    case.args(&["hello", "world"]);
    assert_eq!(case.run().ok().out(), "hello world\n");
}

#[test]
fn the_command_is_looked_up_in_the_containers_path() {
    let mut case = case!("path");
    fs::create_dir_all(case.rootfs().join("opt/tools")).unwrap();
    fs::rename(case.rootfs().join("bin/hostname"), case.rootfs().join("opt/tools/only-here")).unwrap();
    std::os::unix::fs::symlink("/bin/busybox", case.rootfs().join("opt/tools/hostname")).unwrap();
    fs::remove_file(case.rootfs().join("opt/tools/only-here")).unwrap();
    case.alter(|c| c["process"]["env"] = json!(["PATH=/nowhere:/opt/tools:/bin"]));
    case.args(&["hostname"]);
    assert_eq!(case.run().ok().out(), "contained\n");
}
