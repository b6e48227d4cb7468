//! The command line itself: what engines probe, both spellings, where errors go, help, completions, manual pages.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use common::bundle::without_namespace;
use common::case::Case;
use common::outcome::Outcome;
use common::{binary, look, wait_until};
use serde_json::{Value, json};

/// Without any of the options that a case adds.
fn bare(args: &[&str]) -> (i32, String, String) {
    let out = Command::new(binary()).args(args).env_remove("TANDEM_TRACE").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
}

#[test]
fn every_command_and_option_of_the_peers_is_known() {
    tandem_only!("the union of all peers' options");
    let id = "checkpoint --image-path --work-path --parent-path --leave-running --tcp-established --ext-unix-sk --shell-job \
              --lazy-pages --status-fd --page-server --file-locks --pre-dump --manage-cgroups-mode --empty-ns --auto-dedup \
              --tcp-skip-in-flight --link-remap";
    let all = [
        id,
        "create --bundle --config --console-socket --pid-file --no-pivot --no-new-keyring --preserve-fds --pidfd-socket",
        "run --bundle --config --console-socket --pid-file --no-pivot --no-new-keyring --preserve-fds --pidfd-socket --detach \
         --keep --no-subreaper",
        "delete --force --regex",
        "events --stats --interval",
        "exec --console-socket --pidfd-socket --cwd --env --tty --user --additional-gids --process --detach --pid-file \
         --process-label --apparmor --no-new-privs --cap --preserve-fds --cgroup --ignore-paused",
        "kill --all --regex",
        "list --format --quiet",
        "mounts add remove",
        "pause",
        "ps --format",
        "restore --console-socket --image-path --work-path --tcp-established --ext-unix-sk --shell-job --file-locks \
         --manage-cgroups-mode --bundle --detach --pid-file --no-subreaper --no-pivot --empty-ns --auto-dedup --lazy-pages \
         --lsm-profile --lsm-mount-context --tcp-close --network-lock",
        "resume",
        "spec --bundle --rootless --file",
        "start",
        "state",
        "update --resources --blkio-weight --cpu-period --cpu-quota --cpu-share --cpu-rt-period --cpu-rt-runtime \
         --cpuset-cpus --cpuset-mems --memory --memory-reservation --memory-swap --pids-limit --l3-cache-schema \
         --mem-bw-schema --kernel-memory --kernel-memory-tcp --cpu-burst --cpu-idle",
        "features",
        "completion",
    ];
    for line in all {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (code, out, err) = bare(&[words[0], "--help"]);
        assert_eq!((code, err.as_str()), (0, ""), "{}", words[0]);
        for word in &words[1..] {
            assert!(out.split(|c: char| !(c.is_alphanumeric() || c == '-')).any(|w| w == *word), "{word}:\n{out}");
        }
    }
    let (code, out, _) = bare(&["--help"]);
    assert_eq!(code, 0);
    for word in [
        "--root",
        "--log",
        "--log-format",
        "--log-level",
        "--debug",
        "--rootless",
        "--cgroup-manager",
        "--systemd-cgroup",
    ] {
        assert!(out.contains(word), "{word}:\n{out}");
    }
}

#[test]
fn a_bare_call_shows_what_there_is() {
    tandem_only!("help on standard error");
    for (args, words) in
        [(&[][..], ["create", "--root"]), (&["trace"], ["show", "--trace"]), (&["mounts"], ["add", "remove"])]
    {
        let (code, out, err) = bare(args);
        assert_ne!(code, 0, "{args:?}: nothing was done");
        assert_eq!(out, "", "{args:?}");
        assert!(words.iter().all(|w| err.contains(w)), "{args:?}: {err}");
    }
    assert_eq!(bare(&["-v"]).1, bare(&["--version"]).1);
}

#[test]
fn checkpoint_and_restore_answer_probes_and_refuse() {
    tandem_only!("a refused checkpoint");
    let case = case!("criu");
    case.running();
    // podman's probe.
    let (code, out, err) = bare(&["restore", "--lsm-mount-context"]);
    assert!(code != 0 && format!("{out}{err}").contains("requires an argument"), "{err}");
    let images = case.text("images");
    case.call(&["checkpoint", "--image-path", &images, "--leave-running", "--leave-running", &case.id])
        .refused_with(&["checkpoint", "not support"]);
    assert_eq!(case.status(), "running");
    let args =
        ["restore", "--detach", "--pid-file", &images, "-no-subreaper", "--bundle", &case.text("bundle"), "other"];
    case.call(&args).refused_with(&["restore", "not support"]);
    assert!(!case.path("images").exists());
}

#[test]
fn signals_by_every_name_reach_the_payload() {
    let mut case = case!("signals");
    case.script(
        "trap 'echo usr1' USR1; trap 'echo rt' RTMIN+2; trap 'echo hup' HUP; echo ready; while :; do sleep 0.01; done",
    );
    let mut command = case.command();
    command.args(["run", "--bundle", &case.text("bundle"), &case.id]);
    let running = case.launch(command);
    wait_until("the traps are set", || running.out().contains("ready"));
    let hup = libc::SIGHUP.to_string();
    for (signal, word) in [("USR1", "usr1"), ("SIGUSR1", "usr1"), ("usr1", "usr1"), (&hup, "hup")] {
        let before = running.out().matches(word).count();
        case.call(&["kill", &case.id, signal]).ok();
        wait_until(signal, || running.out().matches(word).count() > before);
    }
    case.call(&["kill", &case.id, "NOSUCH"]).refused();
    case.call(&["kill", "--all", &case.id, "KILL"]).ok();
    assert_eq!(running.wait().code(), 137);
}

#[test]
fn a_realtime_signal_has_its_name() {
    let mut case = case!("rtsignal");
    // The first process of a pid namespace ignores what it has no handler for.
    case.alter(|c| without_namespace(c, "pid"));
    let pid = case.running();
    let number = libc::SIGRTMIN() + 3;
    // Sleep dies of it: the exit tells which signal it was.
    case.stop_reaping();
    case.call(&["kill", &case.id, "SIGRTMIN+3"]).ok();
    wait_until("it is a zombie", || look::process(pid).is_some_and(|p| p.state == 'Z'));
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // exit_code is the last field; proc_pid_stat(5).
    assert_eq!(stat.split_whitespace().last().unwrap().parse::<i32>().unwrap() & 0x7f, number);
}

#[test]
fn a_regular_expression_kills_and_deletes_what_it_matches() {
    tandem_only!("--regex with an exit code");
    let case = case!("regex");
    case.running();
    let other = format!("{}-b", case.id);
    let args = ["create", "--bundle", &case.text("bundle"), "--pid-file", &case.text("b.pid"), &other];
    // Its own cgroup, or it would be the first one's.
    fs::write(case.path("b.json"), case.config.to_string().replace(&format!("/{}\"", case.id), &format!("/{other}\"")))
        .unwrap();
    let mut all = args.to_vec();
    let config = case.text("b.json");
    all.splice(1..1, ["--config", &config]);
    case.call(&all).ok();
    case.adopt(look::value(case.path("b.pid")).parse().unwrap());
    let ids = |case: &Case| case.call(&["list", "-q"]).ok().out();
    let pattern = format!("^{}-[b]$", case.id);
    case.call(&["delete", "--force", "--regex", "^no-such-"]).ok();
    assert_eq!(ids(&case).lines().count(), 2);
    case.call(&["kill", "-r", &pattern, "KILL"]).ok();
    wait_until("it is stopped", || {
        case.reap();
        let text = case.call(&["state", &other]).ok().out();
        serde_json::from_str::<Value>(&text).unwrap()["status"] == "stopped"
    });
    assert_eq!(case.status(), "running", "it does not match");
    case.call(&["delete", "--regex", &pattern]).ok();
    assert_eq!(ids(&case).trim(), case.id);
    case.call(&["delete", "--regex", "("]).refused_with(&["--regex"]);
    // One that can't be deleted is named.
    case.call(&["delete", "-r", &case.id]).refused_with(&[&case.id, "running"]);
}

#[test]
fn update_takes_every_option_or_says_why_not() {
    tandem_only!("the words of refused limits");
    let case = case!("updateall");
    case.running();
    let mut command = case.command();
    fs::write(case.path("limits"), r#"{"pids": {"limit": 55}}"#).unwrap();
    command.args(["update", "--resources", "-", &case.id]).stdin(fs::File::open(case.path("limits")).unwrap());
    case.launch(command).wait().ok();
    let pids = look::v1("pids").or_else(look::v2).unwrap().join(&case.id).join("pids.max");
    assert_eq!(look::value(&pids), "55");
    let outcome = case.call(&["update", "--kernel-memory", "5000000", &case.id]).ok();
    assert!(outcome.err().contains("no effect"), "{}", outcome.err());
    if !fs::exists("/sys/fs/resctrl/schemata").unwrap() {
        for option in ["--l3-cache-schema=L3:0=f", "--mem-bw-schema=MB:0=50"] {
            case.call(&["update", "--pids-limit", "44", option, &case.id]).refused_with(&["resctrl"]);
        }
        assert_eq!(look::value(&pids), "55", "nothing of a refused update is done");
    }
    // A limit beside the file would be passed over by other runtimes, in silence.
    fs::write(case.path("twice"), r#"{"pids": {"limit": 9}, "pids": {"limit": 7}}"#).unwrap();
    case.call(&["update", "--resources", &case.text("twice"), &case.id]).refused_with(&["`pids` is there twice"]);
    case.call(&["update", "--resources", &case.text("limits"), "--memory", "64m", &case.id]).refused_with(&[
        "--resources",
        "memory.limit",
        "file",
    ]);
    assert_eq!(look::value(&pids), "55");
    for text in ["[]", "7", ""] {
        fs::write(case.path("limits"), text).unwrap();
        case.call(&["update", "--resources", &case.text("limits"), &case.id]).refused();
    }
}

#[test]
fn words_as_gos_parser_takes_them() {
    tandem_only!("Go's single dash on every command");
    let case = case!("gowords");
    let (bundle, pid_file) = (case.text("bundle"), case.text("pid"));
    case.call(&["run", "-detach=true", "-bundle", &bundle, &format!("-pid-file={pid_file}"), &case.id]).ok();
    case.adopt(case.pid());
    let said = case.call(&["exec", "-tu", "0", "-tty=false", "-cwd", "/tmp", &case.id, "pwd"]).ok().out();
    assert_eq!(said, "/tmp\n");
    let said = case.call(&["exec", &case.id, "--tty=false", "echo", "--tty=true", "-cwd"]).ok().out();
    assert_eq!(said, "--tty=true -cwd\n");
    let second = case.text("second");
    case.call(&["exec", &case.id, "--detach=true", "-pid-file", &second, "sleep", "100000"]).ok();
    case.adopt(look::value(&second).parse().unwrap());
    // youki's name for what `doctor` prints.
    let (info, doctor) = (bare(&["info", "--format", "json"]), bare(&["doctor", "--format", "json"]));
    assert_eq!(info.0, doctor.0);
    let kernel = |out: &str| serde_json::from_str::<Value>(out).unwrap()["kernel"].clone();
    assert_eq!(kernel(&info.1), kernel(&doctor.1));
    assert!(bare(&["completion", "bash"]).1.contains("info"));
}

#[test]
fn debug_speaks_in_words() {
    tandem_only!("--debug");
    let mut case = case!("debugwords");
    case.args(&["true"]);
    case.globals.push("--debug".into());
    let said = case.run().ok().err();
    assert!(said.contains("parent sends Plan") && said.contains("child receives Begin"), "{said}");
    assert!(said.contains("parent clone pid "), "{said}");
    for form in ["Some(", "None", " { ", "Parent ", "Step ", "\\'", "CapabilitySet"] {
        assert!(!said.contains(form), "`{form}`: {said}");
    }
}

#[test]
fn spec_writes_the_file_that_is_named() {
    tandem_only!("spec --file");
    let case = case!("specfile");
    case.call(&["spec", "--bundle", &case.text("bundle"), "-f", "other.json"]).ok();
    case.call(&["spec", "--bundle", &case.text("bundle"), "--rootless", "--config", "user.json"]).ok();
    let read =
        |name: &str| -> Value { serde_json::from_str(&fs::read_to_string(case.bundle().join(name)).unwrap()).unwrap() };
    assert!(read("other.json")["linux"]["uidMappings"].is_null());
    assert!(read("user.json")["linux"]["uidMappings"].is_array());
}

#[test]
fn rootless_says_what_a_refused_cgroup_means() {
    if !common::isolated(
        "rootless_says_what_a_refused_cgroup_means",
        "for m in $(awk '$5 ~ \"^/sys/fs/cgroup\" {print $5}' /proc/self/mountinfo); do mount -o remount,bind,ro $m; done",
    ) {
        return;
    }
    tandem_only!("--rootless");
    let mut case = case!("rootless");
    case.args(&["true"]);
    let run = |case: &mut Case, rootless: &str| -> Outcome {
        case.globals = vec![rootless.to_owned()];
        let outcome = case.run();
        case.globals.clear();
        outcome
    };
    // The machine's root is strict of itself.
    run(&mut case, "--rootless=auto").refused_with(&["cgroup"]);
    run(&mut case, "--rootless=false").refused_with(&["cgroup"]);
    run(&mut case, "--rootless=true").ok();
    // A limit that can't be set is a failure all the same.
    case.alter(|c| c["linux"]["resources"] = json!({"pids": {"limit": 5}}));
    run(&mut case, "--rootless=true").refused();
    run(&mut case, "--rootless=perhaps").refused_with(&["--rootless"]);
}

const LOGS: &str = "mount -t tmpfs t /run && mkdir -p /run/systemd/journal /run/dev && mount --rbind /dev /run/dev && \
                    mount -t tmpfs t /dev && for n in null zero full random urandom; do : >/dev/$n; \
                    mount --bind /run/dev/$n /dev/$n; done";

#[test]
fn errors_go_to_journald_and_to_syslog() {
    if !common::isolated("errors_go_to_journald_and_to_syslog", LOGS) {
        return;
    }
    tandem_only!("--log journald:");
    let mut case = case!("logs");
    let receive = |socket: &UnixDatagram| {
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut text = vec![0; 4096];
        let n = socket.recv(&mut text).expect("a message");
        String::from_utf8(text[..n].to_vec()).unwrap()
    };
    let mut fail = |log: &str| {
        case.globals = vec![format!("--log={log}")];
        let outcome = case.call(&["state", "no-such"]);
        case.globals.clear();
        outcome
    };
    fail("journald:box").refused_with(&["/run/systemd/journal/socket"]);
    fail("syslog:box").refused_with(&["/dev/log"]);
    let journal = UnixDatagram::bind("/run/systemd/journal/socket").unwrap();
    let syslog = UnixDatagram::bind("/dev/log").unwrap();
    fail("journald:box").refused_with(&["does not exist"]);
    let fields = receive(&journal);
    for field in ["MESSAGE=container `no-such` does not exist", "PRIORITY=3", "SYSLOG_IDENTIFIER=box"] {
        assert!(fields.lines().any(|l| l.starts_with(field)), "{field}: {fields}");
    }
    fail("syslog:").refused_with(&["does not exist"]);
    let record = receive(&syslog);
    assert!(record.starts_with("<27>tandem[") && record.contains("]: container `no-such` does not exist"), "{record}");
}

#[test]
fn a_level_is_known_by_its_name() {
    tandem_only!("--log-level");
    let mut case = case!("level");
    case.args(&["true"]);
    for (globals, words) in [(vec!["--log-level=debug", "--criu", "/x"], true), (vec!["--log-level", "warning"], false)]
    {
        case.globals = globals.iter().map(|s| s.to_string()).collect();
        let outcome = case.run().ok();
        assert_eq!(outcome.err().contains("--criu"), words, "{}", outcome.err());
    }
    case.globals = vec!["--log-level=loud".into()];
    case.run().refused_with(&["error, warn, info, debug"]);
    case.globals.clear();
}

#[test]
fn completions_and_manual_pages_are_made() {
    tandem_only!("completion");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, out, err) = bare(&["completion", shell]);
        assert_eq!((code, err.as_str()), (0, ""), "{shell}");
        assert!(out.contains("checkpoint") && out.contains("preserve-fds"), "{shell}");
    }
    let (_, script, _) = bare(&["completion", "bash"]);
    let check = Command::new("bash").args(["-n", "-c", &script]).output().expect("bash");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    assert_ne!(bare(&["completion", "tcsh"]).0, 0);
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    assert_eq!(bare(&["man", pages.to_str().unwrap()]).0, 0);
    let page = |name: &str| fs::read_to_string(pages.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(page("tandem.1").contains("tandem\\-create(1)") || page("tandem.1").contains("create"));
    assert!(page("tandem-exec.1").contains("ignore"));
}
