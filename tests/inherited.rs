//! What passes from the caller to the payload and what must not: descriptors, signals, the terminal, the binary.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use common::console::ConsoleSocket;
use common::{look, wait_until};
use rustix::fs::{FileType, Mode, OFlags};
use serde_json::json;

#[test]
fn a_working_directory_behind_a_descriptor_of_the_runtime_is_refused() {
    let mut case = case!("cwdleak");
    // CVE-2024-21626: a descriptor of the host, left open in the process that becomes the payload.
    for fd in 3..20 {
        case.alter(|c| c["process"]["cwd"] = json!(format!("/proc/self/fd/{fd}")));
        assert_ne!(case.run().code(), 0, "/proc/self/fd/{fd}");
    }
}

#[test]
fn only_standard_descriptors_are_open() {
    let case = case!("fds");
    fs::write(case.path("secret"), "").unwrap();
    let shell = format!("exec 3<'{0}' 4<'{0}' 17<'{0}'; exec \"$@\"", case.text("secret"));
    case.create_behind(&["bash", "-c", &shell, "bash"], &[]).ok();
    case.start();
    case.wait_payload(case.pid());
    assert_eq!(look::descriptors(case.pid()).into_keys().collect::<Vec<_>>(), [0, 1, 2]);
}

/// What was done to the host's by `/proc/self/fd/0`, as chmod(2), would be done to the host's own file.
#[test]
fn standard_descriptors_that_are_the_hosts_null_device_become_the_containers() {
    let case = case!("null");
    let identity = |path: &str| fs::metadata(path).map(|m| (m.dev(), m.ino())).unwrap();
    fs::write(case.path("kept"), "").unwrap();
    let shell = format!("exec 2>/dev/null >>'{}'; exec \"$@\"", case.text("kept"));
    case.create_behind(&["sh", "-c", &shell, "sh"], &[]).ok();
    let pid = case.pid();
    let own = identity(&format!("/proc/{pid}/root/dev/null"));
    assert_ne!(own, identity("/dev/null"), "the container has a node of its own");
    for fd in [0, 2] {
        assert_eq!(identity(&format!("/proc/{pid}/fd/{fd}")), own, "descriptor {fd}");
    }
    assert_eq!(identity(&format!("/proc/{pid}/fd/1")), identity(&case.text("kept")), "what is no null device stays");
    // Those of a further process too; what somebody in the container has put in its place is not opened.
    case.start();
    case.wait_payload(pid);
    let numbers = "stat -L -c %d:%i /dev/null /proc/self/fd/0";
    let exec = |script: &str| case.call(&["exec", &case.id, "sh", "-c", script]).ok().out();
    let seen = exec(numbers);
    assert_eq!(seen.lines().next(), seen.lines().last(), "exec");
    let mount =
        ["exec", "--cap", "CAP_SYS_ADMIN", &case.id, "sh", "-c", "mkfifo /tmp/p && mount --bind /tmp/p /dev/null"];
    case.call(&mount).ok();
    assert_eq!(exec("echo runs"), "runs\n");
}

#[test]
fn preserved_descriptors_are_passed_with_their_holes() {
    let case = case!("preserve");
    for name in ["a", "b", "c"] {
        fs::write(case.path(name), "").unwrap();
    }
    let (a, b, c) = (case.text("a"), case.text("b"), case.text("c"));
    let shell = format!("exec 3<'{a}' 5<'{b}' 6<'{c}' 4<&-; exec \"$@\"");
    case.create_behind(&["sh", "-c", &shell, "sh"], &["--preserve-fds", "3"]).ok();
    case.start();
    case.wait_payload(case.pid());
    let fds = look::descriptors(case.pid());
    assert_eq!(fds.get(&3), Some(&a));
    assert_eq!(fds.get(&5), Some(&b));
    assert_eq!(fds.get(&6), None, "three are preserved, not four");
    if common::is_tandem() {
        assert_eq!(fs::canonicalize(&a).unwrap().to_str(), Some(a.as_str()));
        assert_eq!(fds.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 5]);
    }
}

#[test]
fn listen_fds_are_passed_with_their_number_and_the_payloads_pid() {
    let case = case!("listen");
    fs::write(case.path("a"), "").unwrap();
    // systemd's protocol: LISTEN_PID is the pid of the runtime.
    let shell = format!("exec 3<'{0}' 4<'{0}' 5<'{0}'; export LISTEN_FDS=2 LISTEN_PID=$$; exec \"$@\"", case.text("a"));
    case.create_behind(&["sh", "-c", &shell, "sh"], &[]).ok();
    case.start();
    case.wait_payload(case.pid());
    let fds: Vec<u32> = look::descriptors(case.pid()).into_keys().collect();
    assert_eq!(fds, [0, 1, 2, 3, 4]);
    let environment = look::strings(case.pid(), "environ");
    assert!(environment.contains(&"LISTEN_FDS=2".to_owned()), "{environment:?}");
    assert_eq!(environment.iter().filter(|e| e.starts_with("LISTEN_PID=")).collect::<Vec<_>>(), ["LISTEN_PID=1"]);
}

#[test]
fn signal_dispositions_and_mask_are_reset() {
    let case = case!("signals");
    // As conmon leaves SIGPIPE, and then some.
    let wrapper = ["env", "--ignore-signal=PIPE,HUP,INT,USR1", "--block-signal=USR2,TERM"];
    case.create_behind(&wrapper, &[]).ok();
    case.start();
    let pid = case.pid();
    case.wait_payload(pid);
    let fields = if common::is_tandem() { &["SigIgn", "SigBlk", "SigCgt"][..] } else { &["SigIgn", "SigCgt"] };
    for field in fields {
        // The C library and the Go run time keep 32 and 33 for themselves.
        assert_eq!(look::mask(pid, field) & 0x7fff_ffff, 0, "{field}");
    }
    let pid_file = case.text("exec.pid");
    case.call_behind(&wrapper, &["exec", "--detach", "--pid-file", &pid_file, &case.id, "sleep", "100000"]).ok();
    let pid: u32 = look::value(pid_file).parse().unwrap();
    case.adopt(pid);
    case.wait_payload(pid);
    for field in fields {
        assert_eq!(look::mask(pid, field) & 0x7fff_ffff, 0, "{field} of exec");
    }
}

#[test]
fn the_payload_leads_a_session_of_its_own() {
    let case = case!("session");
    let pid = case.running();
    let process = look::processes().into_iter().find(|p| p.pid == pid).unwrap();
    assert_eq!((process.group, process.session), (pid, pid));
}

/// Opens the files behind its streams anew, as nginx, php-fpm and many an image's script do.
const ANEW: &str = "echo out >>/dev/stdout; echo err >>/dev/stderr; cat </dev/stdin";

/// Pipes of root's, as most engines have them; what was said there.
const PIPES: [&str; 4] = ["sh", "-c", "echo in | \"$@\" 2>&1 | cat", "sh"];

#[test]
fn the_streams_are_the_users_to_open_anew() {
    let mut case = case!("stdio");
    case.alter(|c| c["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    let shell = format!("cd '{}'; echo in >in; exec \"$@\" <in >>both 2>&1", case.text(""));
    for host in [None, Some(300_000)] {
        host.map_or_else(|| (), |host| case.alter(|c| common::bundle::user_namespace(c, host)));
        if host.is_some() && !common::is_tandem() {
            skip!("a peer leaves them to root of a user namespace, who may not");
        }
        case.script(&format!("{ANEW}; echo first >>/proc/1/fd/1"));
        let run = ["run", "--bundle", &case.text("bundle"), &case.id];
        assert_eq!(case.call_behind(&PIPES, &run).ok().out(), "out\nerr\nin\nfirst\n", "pipes, {host:?}");
        // The caller's own files, which outlive the call.
        case.create_behind(&["sh", "-c", &shell, "sh"], &[]).ok();
        case.start();
        case.wait_status("stopped");
        assert_eq!(fs::read_to_string(case.path("both")).unwrap(), "out\nerr\nin\nfirst\n", "files, {host:?}");
        let owner = |name: &str| fs::metadata(case.path(name)).map(|file| (file.uid(), file.gid())).unwrap();
        let user = host.unwrap_or(0) + 1000;
        assert_eq!(owner("both"), (user, 0), "the user's, and of the group that it was");
        assert_eq!(owner("in"), (0, 0), "what is only read stays the caller's: its owner may write to it");
        case.delete();
        fs::remove_file(case.path("both")).unwrap();
        case.args(&["sleep", "100000"]);
        case.running();
        let exec = ["exec", "--user", "1001:1001", &case.id, "sh", "-c", ANEW];
        assert_eq!(case.call_behind(&PIPES, &exec).ok().out(), "out\nerr\nin\n", "exec, {host:?}");
        case.delete_by_force();
    }
}

#[test]
fn a_device_stays_the_hosts() {
    let mut case = case!("stdiodev");
    // Devices on a /tmp that is a tmpfs of systemd's can't be opened.
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let null = directory.path().join("null");
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, &null, FileType::CharacterDevice, mode, rustix::fs::makedev(1, 3)).unwrap();
    case.alter(|c| c["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    let shell = format!("exec \"$@\" <'{}'", null.display());
    case.create_behind(&["sh", "-c", &shell, "sh"], &[]).ok();
    case.start();
    case.wait_payload(case.pid());
    let null = fs::metadata(null).unwrap();
    assert_eq!((null.uid(), null.gid()), (0, 0));
}

#[test]
fn a_stream_that_can_not_be_given_away_is_no_failure() {
    let mut case = case!("stdiono");
    case.alter(|c| c["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    case.args(&["echo", "said"]);
    // What has been opened for writing stays so; fchown(2) says EROFS.
    let shell = format!(
        "cd '{}' && mkdir -p d && mount -t tmpfs none d && echo x >d/in && exec 3<d/in && mount -o remount,ro d && \
         umount -l d && exec \"$@\" <&3 3<&-",
        case.text("")
    );
    let wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &shell, "sh"];
    let run = ["run", "--bundle", &case.text("bundle"), &case.id];
    let outcome = case.call_behind(&wrapper, &run).ok();
    assert_eq!((outcome.out().as_str(), outcome.err().as_str()), ("said\n", ""));
}

#[test]
fn ignored_children_are_heard_of_all_the_same() {
    let mut case = case!("sigchld");
    case.alter(|c| {
        c["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}], "createContainer": [{"path": "/bin/true"}]});
    });
    case.script("exit 7");
    let wrapper = ["timeout", "60", "sh", "-c", "trap '' CHLD; exec \"$@\"", "sh"];
    let run = ["run", "--bundle", &case.text("bundle"), &case.id];
    assert_eq!(case.call_behind(&wrapper, &run).code(), 7);
    case.args(&["sleep", "100000"]);
    case.running();
    assert_eq!(case.call_behind(&wrapper, &["exec", &case.id, "sh", "-c", "exit 9"]).code(), 9);
}

#[test]
fn a_working_directory_that_the_caller_may_not_use_is_in_nobodys_way() {
    let mut case = case!("cwd");
    tandem_only!("--cgroup-manager disabled");
    // Root may make a cgroup by CAP_DAC_OVERRIDE alone.
    case.globals.push("--cgroup-manager=disabled".into());
    case.alter(|c| drop(c["linux"].as_object_mut().unwrap().remove("resources")));
    let closed = case.path("closed");
    fs::create_dir(&closed).unwrap();
    std::os::unix::fs::chown(&closed, Some(12345), Some(12345)).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    // As an ordinary user is there, or a confined runtime where SELinux enforces its policy.
    let wrapper = ["env", "-C", &case.text("closed"), "setpriv", "--bounding-set=-dac_override,-dac_read_search"];
    for host in [None, Some(100_000)] {
        host.map_or_else(|| (), |host| case.alter(|c| common::bundle::user_namespace(c, host)));
        case.create_behind(&wrapper, &[]).ok();
        case.call_behind(&wrapper, &["start", &case.id]).ok();
        case.wait_payload(case.pid());
        case.call_behind(&wrapper, &["exec", &case.id, "true"]).ok();
        case.stop();
        case.call_behind(&wrapper, &["delete", &case.id]).ok();
    }
}

#[test]
fn the_callers_cpus_are_not_the_containers() {
    let case = case!("cpus");
    tandem_only!("the CPUs of a runtime that is confined to few");
    let own = look::status(std::process::id())["Cpus_allowed_list"].clone();
    if !own.contains(['-', ',']) {
        skip!("needs two CPUs");
    }
    let first = own.split(['-', ',']).next().unwrap();
    let wrapper = ["taskset", "--cpu-list", first];
    case.create_behind(&wrapper, &[]).ok();
    case.start();
    case.wait_payload(case.pid());
    assert_eq!(look::status(case.pid())["Cpus_allowed_list"], own, "the first process");
    let exec = ["exec", &case.id, "grep", "Cpus_allowed_list", "/proc/self/status"];
    let seen = case.call_behind(&wrapper, &exec).ok().out();
    assert_eq!(seen.split_whitespace().last(), Some(&*own), "exec");
}

#[test]
fn a_terminal_of_the_asked_size_is_sent_to_the_console_socket() {
    let mut case = case!("tty");
    case.alter(|c| {
        c["process"]["terminal"] = json!(true);
        c["process"]["consoleSize"] = json!({"height": 43, "width": 132});
    });
    case.script("stty size; tty; read line; echo got $line; exec sleep 100000");
    let socket = ConsoleSocket::new(&case.path("tty.sock"));
    case.create_with(&["--console-socket", &case.text("tty.sock")]).ok();
    let console = socket.receive();
    assert!((1..4096).contains(&console.bytes.len()), "{:?}", console.bytes);
    let size = rustix::termios::tcgetwinsize(&console.fd).unwrap();
    assert_eq!((size.ws_row, size.ws_col), (43, 132), "set before it is sent");
    case.start();
    let shown = console.read_until("/dev/");
    assert!(shown.contains("43 132"), "{shown}");
    console.write("hello\n");
    console.read_until("got hello");
    let pid = case.pid();
    let console_file = fs::metadata(look::inside(pid, "/dev/console")).expect("/dev/console");
    assert!(console_file.file_type().is_char_device());
    let fds = look::descriptors(pid);
    assert!(fds.values().all(|t| !t.starts_with(&case.text(""))), "the caller's streams stay out: {fds:?}");
    assert_eq!(fs::metadata(format!("/proc/{pid}/fd/0")).unwrap().rdev(), console_file.rdev());
    // It is the container's own devpts that has it.
    let pts = look::mount_at(&look::mounts(pid), "/dev/pts");
    assert_eq!(pts.kind, "devpts");
    assert_ne!(pts.dev, look::mount_at(&look::mounts("self"), "/dev/pts").dev);
}

#[test]
fn a_terminal_belongs_to_the_payloads_user() {
    let mut case = case!("ttyuser");
    case.alter(|c| {
        c["process"]["terminal"] = json!(true);
        c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    case.script("echo hello > /dev/tty; exec sleep 100000");
    let socket = ConsoleSocket::new(&case.path("tty.sock"));
    case.create_with(&["--console-socket", &case.text("tty.sock")]).ok();
    let console = socket.receive();
    case.start();
    console.read_until("hello");
    assert_eq!(fs::metadata(format!("/proc/{}/fd/0", case.pid())).unwrap().uid(), 1000);
}

#[test]
fn a_console_socket_may_be_deeper_than_an_address_has_room_for() {
    let mut case = case!("ttydeep");
    tandem_only!("a console socket of over 107 bytes");
    let deep = case.path(&"d".repeat(90)).join("e".repeat(90));
    fs::create_dir_all(&deep).unwrap();
    std::os::unix::fs::symlink(&deep, case.path("short")).unwrap();
    case.alter(|c| c["process"]["terminal"] = json!(true));
    case.script("echo hello; exec sleep 100000");
    let socket = ConsoleSocket::new(&case.path("short/tty.sock"));
    let path = deep.join("tty.sock").to_str().unwrap().to_owned();
    case.create_with(&["--console-socket", &path]).ok();
    let console = socket.receive();
    case.start();
    console.read_until("hello");
    case.call(&["exec", "--tty", "--console-socket", &path, &case.id, "echo", "again"]).ok();
    socket.receive().read_until("again");
}

#[test]
fn a_console_socket_goes_with_a_terminal_and_a_terminal_with_a_socket() {
    let mut case = case!("ttyno");
    let socket = ConsoleSocket::new(&case.path("tty.sock"));
    let with_socket = case.create_with(&["--console-socket", &case.text("tty.sock")]);
    assert_ne!(with_socket.code(), 0, "a socket without a terminal");
    case.alter(|c| c["process"]["terminal"] = json!(true));
    let without_socket = case.create_with(&[]);
    assert_ne!(without_socket.code(), 0, "a terminal without a socket");
    let missing = case.create_with(&["--console-socket", &case.text("no-such.sock")]);
    missing.refused();
    case.nothing_left("refused creates");
    drop(socket);
}

#[test]
fn the_runtimes_binary_is_out_of_the_payloads_reach() {
    let mut case = case!("exe");
    // CVE-2019-5736: init's executable, opened by a program in the container while the runtime is still in it.
    let hash = |path: &std::path::Path| fs::read(path).unwrap();
    let Ok(binary) = fs::canonicalize(common::binary()) else { skip!("the binary is found by PATH only") };
    let before = hash(&binary);
    case.script("while :; do for p in /proc/[0-9]*; do (echo x >> $p/exe) 2>/dev/null; done; done");
    case.alter(|c| {
        c["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"],
        "permitted": ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"], "effective": ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]})
    });
    case.running();
    std::os::unix::fs::symlink("/proc/self/exe", case.rootfs().join("bin/self")).unwrap();
    for _ in 0..20 {
        let _ = case.exec(&["true"]);
        let _ = case.exec(&["/bin/self"]);
        let _ = case.exec(&["/proc/self/exe", "--version"]);
    }
    assert!(hash(&binary) == before, "the host's binary was written to");
    wait_until("the container still answers", || case.exec(&["true"]).code() == 0);
}

#[test]
fn inits_image_can_not_be_written_even_when_it_is_over() {
    let case = case!("image");
    let pid = case.create();
    // CVE-2019-5736 without the luck: a reference taken while it runs, opened for writing when nothing runs it.
    let image = rustix::fs::open(format!("/proc/{pid}/exe"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    case.call(&["delete", "--force", &case.id]).ok();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&image);
    let written = rustix::fs::open(format!("/proc/self/fd/{fd}"), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        // The byte that is there already: ELF's first.
        .and_then(|file| rustix::io::write(file, b"\x7f"));
    assert!(written.is_err(), "the image of init was written to");
}

#[test]
fn a_waiting_init_and_a_hook_hold_no_directory_of_the_host() {
    let mut case = case!("fddirs");
    let log = case.text("log");
    case.alter(|c| {
        let hook = json!([{"path": "/bin/sh", "env": ["PATH=/usr/bin:/bin"],
            "args": ["sh", "-c", format!("readlink /proc/self/fd/* >> '{log}'; true")]}]);
        c["hooks"] = json!({"createRuntime": hook, "createContainer": hook});
    });
    let pid = case.create();
    // CVE-2024-21626: one directory of the host is enough to walk out. The container's own root is no way out, nor is a
    // file system that the host has not mounted.
    let root = fs::metadata(case.rootfs()).unwrap();
    let host: Vec<String> = look::mounts("self").into_iter().map(|m| m.dev).collect();
    for (fd, target) in look::descriptors(pid) {
        let Ok(file) = fs::metadata(format!("/proc/{pid}/fd/{fd}")) else { continue };
        let own_root = (file.dev(), file.ino()) == (root.dev(), root.ino());
        let device = format!("{}:{}", rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
        assert!(
            !file.is_dir() || own_root || !host.contains(&device),
            "{fd} is {target}, inode {} of the host's device {device}",
            file.ino()
        );
    }
    if common::is_tandem() {
        // Standard streams are pipes or files, in memory too; neither sockets nor trees of mounts are among them.
        for line in look::value(&log).lines() {
            let own = line == "/memfd:hook (deleted)";
            assert!(own || (!line.starts_with("socket:") && !line.contains("memfd:")), "a hook inherited {line}");
            assert!(!fs::metadata(line).is_ok_and(|m| m.is_dir()), "a hook inherited {line}");
        }
    }
}
