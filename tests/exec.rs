//! exec: a second process in a running container.

#[macro_use]
mod common;

use std::fs;

use common::case::Case;
use common::console::ConsoleSocket;
use common::outcome::Outcome;
use common::{look, wait_until};
use serde_json::{Value, json};

/// What an engine writes for exec --process.
fn process(args: &[&str]) -> Value {
    json!({
        "terminal": false,
        "user": {"uid": 0, "gid": 0},
        "args": args,
        "env": ["PATH=/bin"],
        "cwd": "/",
        "capabilities": {}
    })
}

fn write_process(case: &Case, process: &Value) -> String {
    fs::write(case.path("process.json"), process.to_string()).unwrap();
    case.text("process.json")
}

/// exec as conmon calls it: detached, with process.json and pid file. Gives the outcome and, if it worked, the pid.
fn exec_detached(case: &Case, process: &Value, more: &[&str]) -> (Outcome, Option<u32>) {
    let (file, pid_file) = (write_process(case, process), case.text("exec.pid"));
    let mut args = vec!["exec", "--pid-file", &pid_file, "--process", &file, "--detach"];
    args.extend(more);
    args.push(&case.id);
    let outcome = case.call(&args);
    let pid = fs::read_to_string(&pid_file).ok().map(|p| p.parse().expect("a decimal without newline"));
    if let Some(pid) = pid {
        case.adopt(pid);
    }
    (outcome, pid)
}

#[test]
fn exec_gives_the_exit_code() {
    let case = case!("execcode");
    case.running();
    for code in [0, 1, 7, 255] {
        assert_eq!(case.exec(&["sh", "-c", &format!("exit {code}")]).code(), code);
    }
    assert_eq!(case.exec(&["sh", "-c", "kill -KILL $$"]).code(), 137);
    assert_eq!(case.exec(&["sh", "-c", "kill -TERM $$; sleep 100000"]).code(), 143);
    assert_eq!(case.status(), "running");
}

#[test]
fn exec_passes_standard_streams() {
    let case = case!("execio");
    case.running();
    fs::write(case.path("in"), "asked\n").unwrap();
    let mut command = case.command();
    command.args(["exec", &case.id, "sh", "-c", "cat; echo told >&2"]);
    command.stdin(fs::File::open(case.path("in")).unwrap());
    let outcome = case.launch(command).wait().ok();
    assert_eq!((outcome.out().as_str(), outcome.err().as_str()), ("asked\n", "told\n"));
}

#[test]
fn exec_joins_every_namespace_and_cgroup_of_the_container() {
    let case = case!("execjoin");
    let init = case.running();
    let (outcome, pid) = exec_detached(&case, &process(&["sleep", "100000"]), &[]);
    outcome.ok();
    let pid = pid.expect("pid file");
    case.wait_payload(pid);
    for kind in ["pid", "net", "ipc", "uts", "mnt", "user", "cgroup"] {
        assert_eq!(look::namespace(pid, kind), look::namespace(init, kind), "{kind}");
    }
    assert_eq!(look::cgroups(pid), look::cgroups(init));
    assert_eq!(look::mounts(pid), look::mounts(init), "the same root");
    case.call(&["kill", &case.id, "KILL"]).ok();
    wait_until("exec dies with the pid namespace", || {
        case.reap();
        !fs::exists(format!("/proc/{pid}/exe")).unwrap()
    });
}

#[test]
fn exec_detached_leaves_the_process_to_the_caller() {
    let case = case!("execdetach");
    case.running();
    let (outcome, pid) = exec_detached(&case, &process(&["sleep", "100000"]), &[]);
    outcome.ok();
    let pid = pid.expect("pid file");
    assert_eq!(look::status(pid)["PPid"], std::process::id().to_string(), "engines wait on this pid");
}

#[test]
fn process_json_decides_everything_about_the_process() {
    let case = case!("execjson");
    case.running();
    let mut process = process(&["sleep", "100000"]);
    process["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [7, 9], "umask": 0o027});
    process["env"] = json!(["PATH=/bin", "ONE=1", "TWO=a b=c"]);
    process["cwd"] = json!("/tmp");
    process["noNewPrivileges"] = json!(true);
    process["oomScoreAdj"] = json!(321);
    process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}]);
    process["capabilities"] = json!({"bounding": ["CAP_KILL", "CAP_CHOWN"], "inheritable": ["CAP_KILL"],
        "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
    let (outcome, pid) = exec_detached(&case, &process, &[]);
    outcome.ok();
    let pid = pid.expect("pid file");
    case.wait_payload(pid);
    assert_eq!(look::words(pid, "Uid"), ["1000"; 4]);
    assert_eq!(look::words(pid, "Gid"), ["1001"; 4]);
    let mut groups = look::words(pid, "Groups");
    groups.retain(|g| g != "1001");
    assert_eq!(groups, ["7", "9"]);
    if common::is_tandem() {
        assert_eq!(look::status(pid)["Umask"], "0027");
        assert_eq!(look::value(format!("/proc/{pid}/oom_score_adj")), "321");
    }
    assert_eq!(look::status(pid)["NoNewPrivs"], "1");
    let environment = look::strings(pid, "environ");
    assert!(
        environment.contains(&"ONE=1".to_owned()) && environment.contains(&"TWO=a b=c".to_owned()),
        "{environment:?}"
    );
    assert!(!environment.iter().any(|e| e.starts_with("TANDEM_TEST=")), "init's or ours: {environment:?}");
    assert!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().ends_with("tmp"));
    assert_eq!(look::limit(pid, "Max open files"), ("77".into(), "88".into()));
    assert_eq!(look::mask(pid, "CapBnd"), 1 << 5 | 1);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(look::mask(pid, set), 1 << 5, "{set}");
    }
}

#[test]
fn exec_without_capabilities_has_no_inheritable_or_ambient_ones() {
    let case = case!("execcaps");
    case.running();
    let (outcome, pid) = exec_detached(&case, &process(&["sleep", "100000"]), &[]);
    outcome.ok();
    let pid = pid.expect("pid file");
    case.wait_payload(pid);
    assert_eq!((look::mask(pid, "CapInh"), look::mask(pid, "CapAmb")), (0, 0));
}

#[test]
fn a_capability_that_is_added_is_not_inherited() {
    let mut case = case!("execaddcap");
    // As engines wrote it before CVE-2022-24769, and people still do.
    case.alter(|c| c["process"]["capabilities"]["inheritable"] = json!(["CAP_KILL"]));
    case.running();
    let sets = |more: &[&str]| {
        let args = [&["exec"], more, &[&*case.id, "grep", "^Cap", "/proc/self/status"]].concat();
        let text = case.call(&args).ok().out();
        let mask = |name: &str| {
            let line =
                text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        ["CapInh:", "CapAmb:", "CapPrm:", "CapEff:", "CapBnd:"].map(mask)
    };
    let ([inheritable, ambient, ..], more) = (sets(&[]), sets(&["--cap", "CAP_SYS_TIME"]));
    assert_eq!(inheritable, 1 << 5, "CAP_KILL");
    assert_eq!(more[..2], [inheritable, ambient]);
    assert!(more[2..].iter().all(|set| set & 1 << 25 != 0), "CAP_SYS_TIME is had: {more:x?}");
}

#[test]
fn without_a_mount_namespace_it_is_in_the_containers_root() {
    let mut case = case!("execchroot");
    tandem_only!("the root of a further process without a mount namespace");
    fs::write(case.rootfs().join("etc/whose"), "the container's\n").unwrap();
    case.alter(|c| {
        common::bundle::without_namespace(c, "mount");
        c["mounts"] = json!([]);
    });
    let init = case.running();
    let (outcome, pid) = exec_detached(&case, &process(&["sleep", "100000"]), &[]);
    outcome.ok();
    let pid = pid.expect("pid file");
    case.wait_payload(pid);
    for link in ["root", "cwd"] {
        let link = |pid: u32| fs::read_link(format!("/proc/{pid}/{link}")).unwrap();
        assert_eq!(link(pid), link(init));
    }
    assert_eq!(look::namespace(pid, "pid"), look::namespace(init, "pid"));
    assert_eq!(case.exec(&["cat", "/etc/whose"]).ok().out(), "the container's\n");
}

#[test]
fn flags_stand_for_what_process_json_says() {
    let case = case!("execflags");
    case.running();
    let told = |args: &[&str]| {
        let mut all = vec!["exec"];
        all.extend(args);
        case.call(&all).ok().out()
    };
    let id = case.id.as_str();
    assert_eq!(told(&["--user", "1000", id, "id", "-u"]), "1000\n");
    assert_eq!(told(&["--user", "1000:1001", id, "sh", "-c", "id -u; id -g"]), "1000\n1001\n");
    assert_eq!(told(&["-u", "0:5", id, "id", "-g"]), "5\n");
    assert_eq!(told(&["--cwd", "/tmp", id, "pwd"]), "/tmp\n");
    assert_eq!(told(&["--env", "A=1", "--env", "B=two words", id, "sh", "-c", "echo $A-$B"]), "1-two words\n");
    assert_eq!(told(&[id, "sh", "-c", "echo $HOME-$TANDEM_TEST"]), format!("/root-{id}\n"), "init's environment");
    let caps = told(&["--cap", "CAP_SYS_TIME", id, "grep", "CapEff", "/proc/self/status"]);
    let mask = u64::from_str_radix(caps.split_whitespace().nth(1).unwrap(), 16).unwrap();
    assert!(mask & 1 << 25 != 0, "CAP_SYS_TIME is added: {caps}");
    assert_eq!(told(&[id, "echo", "--user", "-x"]), "--user -x\n", "what follows the ID is the command's");
}

#[test]
fn a_user_that_is_no_number_is_never_root() {
    tandem_only!("`--user 4294967296` not being 0");
    let case = case!("execuser");
    case.running();
    for user in ["1", "01", "+1", "1:", "-1", "4294967295", "4294967296", "x", "", "1:x", "0x0"] {
        let outcome = case.call(&["exec", "--user", user, &case.id, "id", "-u"]);
        assert!(outcome.code() != 0 || outcome.out() == "1\n", "`--user {user}` became {}", outcome.out());
    }
}

#[test]
fn a_terminal_is_sent_to_the_console_socket() {
    let case = case!("exectty");
    case.running();
    let socket = ConsoleSocket::new(&case.path("tty.sock"));
    let mut process = process(&["sh", "-c", "tty; stty size; read line; echo got $line; sleep 100000"]);
    process["terminal"] = json!(true);
    process["consoleSize"] = json!({"height": 33, "width": 121});
    let (outcome, pid) = exec_detached(&case, &process, &["--tty", "--console-socket", &case.text("tty.sock")]);
    outcome.ok();
    let pid = pid.expect("pid file");
    let console = socket.receive();
    let shown = console.read_until("33 121");
    assert!(shown.contains("/dev/pts/"), "{shown}");
    console.write("a line\n");
    console.read_until("got a line");
    let fds = look::descriptors(pid);
    assert!(fds.values().all(|t| t.starts_with("/dev/pts/") || t.ends_with("/dev/tty")), "{fds:?}");
}

#[test]
fn preserved_descriptors_are_passed_and_no_others() {
    let case = case!("execfds");
    case.running();
    fs::write(case.path("a"), "").unwrap();
    // 3 and 5 of three preserved ones are open (a hole at 4), 7 is a leak of the engine's.
    let shell = format!("exec 3<'{0}' 5<'{0}' 7<'{0}'; exec \"$@\"", case.text("a"));
    let file = write_process(&case, &process(&["sleep", "100000"]));
    let pid_file = case.text("exec.pid");
    let args = ["exec", "--pid-file", &pid_file, "--process", &file, "--detach", "--preserve-fds", "3", &case.id];
    case.call_behind(&["sh", "-c", &shell, "sh"], &args).ok();
    let pid: u32 = look::value(&pid_file).parse().unwrap();
    case.adopt(pid);
    case.wait_payload(pid);
    let fds: Vec<u32> = look::descriptors(pid).into_keys().collect();
    // A peer fills the hole with something of its own.
    let hole = if common::is_tandem() { None } else { fds.iter().find(|f| **f == 4) };
    assert_eq!(fds.iter().filter(|f| Some(*f) != hole).copied().collect::<Vec<_>>(), [0, 1, 2, 3, 5]);
}

#[test]
fn a_failed_exec_says_why_in_podmans_words_and_writes_no_pid_file() {
    let case = case!("execfail");
    case.running();
    fs::write(case.rootfs().join("etc/plain"), "text").unwrap();
    let not_found = ["no such file or directory", "executable file not found"];
    let denied = ["permission denied", "operation not permitted"];
    let cases: [(&[&str], &[&str]); 5] = [
        (&["no-such-command"], &not_found),
        (&["/no/such/file"], &not_found),
        (&["/etc/plain"], &denied),
        (&["/etc"], &denied),
        (&[""], &["no such file or directory", "executable file not found", "no command"]),
    ];
    for (args, words) in cases {
        let (outcome, pid) = exec_detached(&case, &process(args), &[]);
        let line = outcome.refused();
        assert!(words.iter().any(|w| line.to_lowercase().contains(w)), "{args:?}: {line}");
        assert_eq!(pid, None, "{args:?}: a pid file after a failure");
        assert!(!(matches!(words[0], "permission denied") && line.to_lowercase().contains("no such file")), "{line}");
        case.exec(&["sh", "-c", "exit 3"]).code();
    }
    for (field, value) in [("cwd", json!("/no/such/dir")), ("args", json!([])), ("user", json!({"uid": -1, "gid": 0}))]
    {
        if !common::is_tandem() && field == "cwd" {
            continue; // A peer may make the directory.
        }
        let mut process = process(&["true"]);
        process[field] = value;
        let (outcome, pid) = exec_detached(&case, &process, &[]);
        assert_ne!(outcome.code(), 0, "{field}: {}", outcome.all());
        assert_eq!(pid, None, "{field}");
    }
    case.call(&["exec", "--process", "/no/such.json", &case.id]).refused();
    assert_eq!(case.status(), "running", "init is none the worse");
}

#[test]
fn exec_works_on_a_created_container_or_says_that_it_does_not_run() {
    let case = case!("execcreated");
    let pid = case.create();
    let outcome = case.exec(&["true"]);
    assert!(outcome.code() == 0 || !outcome.err().is_empty(), "{}", outcome.all());
    assert_eq!(case.status(), "created");
    assert!(fs::exists(format!("/proc/{pid}/exe")).unwrap());
}

#[test]
fn only_standard_descriptors_are_open_whatever_the_caller_leaked() {
    let case = case!("execleak");
    case.running();
    fs::write(case.path("secret"), "").unwrap();
    let shell = format!("exec 3<'{0}' 4<'{0}' 9<'{0}'; exec \"$@\"", case.text("secret"));
    // ls itself opens the directory: that one is the last.
    let outcome = case.call_behind(&["sh", "-c", &shell, "sh"], &["exec", &case.id, "ls", "/proc/self/fd"]).ok();
    assert_eq!(outcome.out(), "0\n1\n2\n3\n");
    let links = case.call_behind(&["sh", "-c", &shell, "sh"], &["exec", &case.id, "ls", "-l", "/proc/self/fd"]).ok();
    assert!(!links.out().contains("secret"), "{}", links.out());
}

#[test]
fn many_execs_at_once_each_get_their_own_code() {
    let case = case!("execmany");
    case.running();
    std::thread::scope(|scope| {
        for code in 1..=8 {
            let case = &case;
            scope.spawn(move || assert_eq!(case.exec(&["sh", "-c", &format!("exit {code}")]).code(), code));
        }
    });
    assert_eq!(case.status(), "running");
}
