//! A service's readiness, sd_notify(3): from a socket in the container to the one that the runtime was given.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use common::bundle::user_namespace;
use common::case::Case;
use common::outcome::Running;
use common::{look, program, wait_until};

/// The payload: a service that says that it is ready when it is told to, and then waits.
const SERVICE: &str = "echo $NOTIFY_SOCKET >/out/socket; until [ -e /out/go ]; do sleep 0.05; done; \
                       /bin/say; sleep 100000";

/// busybox has no datagrams of the unix kind: a copy of this test's own program is the service.
fn service(case: &mut Case) -> UnixDatagram {
    let out = case.path("out");
    fs::create_dir(&out).unwrap();
    fs::set_permissions(&out, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let say = case.rootfs().join("bin/say");
    program::write(say, "#!/bin/sh\nexec /bin/sayer say_that_it_is_ready --exact --nocapture\n");
    program::copy(std::env::current_exe().unwrap(), case.rootfs().join("bin/sayer"));
    case.script(SERVICE);
    case.alter(|c| common::bundle::mount(c, "/out", "bind", out.to_str().unwrap(), &["bind"]));
    fs::create_dir_all(case.rootfs().join("out")).unwrap();
    fs::create_dir_all(case.rootfs().join("run/notify")).unwrap();
    let socket = UnixDatagram::bind(case.path("host.sock")).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// In the container: says it. Elsewhere, as a test, it says nothing.
#[test]
fn say_that_it_is_ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| *path == "/run/notify/notify") else { return };
    let socket = UnixDatagram::unbound().unwrap();
    for message in ["STATUS=nearly\n", "MAINPID=1\nREADY=1\n"] {
        socket.send_to(message.as_bytes(), PathBuf::from(&path)).unwrap();
    }
}

fn told(socket: &UnixDatagram) -> Option<String> {
    let mut buffer = [0; 4096];
    socket.recv(&mut buffer).ok().map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned())
}

fn call(case: &Case, args: &[&str]) -> Running {
    let variable = format!("NOTIFY_SOCKET={}", case.text("host.sock"));
    let mut command = case.command_behind(&["env", &variable]);
    command.args(args);
    case.launch(command)
}

/// Lets the service go on, and gives all that the caller was told until it was ready.
fn let_it_be_ready(case: &Case, socket: &UnixDatagram) -> Vec<String> {
    assert_eq!(told(socket), None, "the service has said nothing yet");
    fs::write(case.path("out/go"), "").unwrap();
    let mut all = vec![];
    wait_until("the service is ready", || {
        all.extend(told(socket));
        all.last().is_some_and(|last: &String| last.contains("READY=1"))
    });
    all
}

fn assert_told(all: &[String], pid: u32) {
    assert_eq!(all, ["STATUS=nearly".to_owned(), format!("READY=1\nMAINPID={pid}")]);
}

#[test]
fn start_returns_when_the_service_is_ready() {
    let mut case = case!("notifystart");
    let socket = service(&mut case);
    for mapped in [false, true] {
        if mapped {
            case.alter(|c| user_namespace(c, 100_000));
            let _ = fs::remove_file(case.path("out/go"));
        }
        let bundle = case.text("bundle");
        let pid_file = case.text("pid");
        call(&case, &["create", "--bundle", &bundle, "--pid-file", &pid_file, &case.id]).wait().ok();
        let pid = case.pid();
        case.adopt(pid);
        let m = look::mount_at(&look::mounts(pid), "/run/notify");
        assert!(["ro", "nosuid", "nodev", "noexec"].iter().all(|flag| m.has(flag)), "{m:?}");
        let start = call(&case, &["start", &case.id]);
        case.wait_status("running");
        wait_until("the service runs", || case.path("out/socket").exists());
        let all = let_it_be_ready(&case, &socket);
        start.wait().ok();
        assert_told(&all, pid);
        assert_eq!(fs::read_to_string(case.path("out/socket")).unwrap().trim(), "/run/notify/notify");
        case.delete_by_force();
        case.nothing_left("delete");
    }
}

#[test]
fn run_tells_it_in_the_foreground_and_detached() {
    let mut case = case!("notifyrun");
    let socket = service(&mut case);
    let (bundle, pid_file) = (case.text("bundle"), case.text("pid"));
    let run = call(&case, &["run", "--bundle", &bundle, "--pid-file", &pid_file, &case.id]);
    wait_until("the service runs", || case.path("out/socket").exists() && case.path("pid").exists());
    let all = let_it_be_ready(&case, &socket);
    assert_told(&all, case.pid());
    case.call(&["kill", &case.id, "KILL"]).ok();
    assert_eq!(run.wait().code(), 137);
    for left in ["out/go", "out/socket"] {
        fs::remove_file(case.path(left)).unwrap();
    }
    let run = call(&case, &["run", "--detach", "--bundle", &bundle, "--pid-file", &pid_file, &case.id]);
    wait_until("the service runs", || case.path("out/socket").exists());
    let all = let_it_be_ready(&case, &socket);
    run.wait().ok();
    assert_told(&all, case.pid());
    case.adopt(case.pid());
    case.delete_by_force();
}

/// A caller that is gone is worth a word, and not the container.
#[test]
fn a_caller_that_can_not_be_told_costs_the_container_nothing() {
    let mut case = case!("notifygone");
    let socket = service(&mut case);
    let (bundle, pid_file) = (case.text("bundle"), case.text("pid"));
    drop(socket);
    fs::remove_file(case.path("host.sock")).unwrap();
    fs::write(case.path("out/go"), "").unwrap();
    let run =
        call(&case, &["--log-level=warn", "run", "--detach", "--bundle", &bundle, "--pid-file", &pid_file, &case.id]);
    let run = run.wait();
    assert_eq!(run.code(), 0, "{}", run.all());
    assert!(run.err().contains("NOTIFY_SOCKET"), "{}", run.err());
    case.adopt(case.pid());
    assert_eq!(case.status(), "running");
    case.delete_by_force();
}

#[test]
fn an_address_that_is_none_is_refused_before_anything_is_made() {
    let case = case!("notifybad");
    let variable = format!("NOTIFY_SOCKET=/{}", "x".repeat(150));
    let mut command = case.command_behind(&["env", &variable]);
    command.args(["run", "--bundle", &case.text("bundle"), &case.id]);
    case.launch(command).wait().refused_with(&["NOTIFY_SOCKET"]);
    case.nothing_left("a run with a bad address");
}

/// One that ends without a word is not waited for.
#[test]
fn a_service_that_ends_is_not_waited_for() {
    let mut case = case!("notifyends");
    let socket = service(&mut case);
    case.script("exit 3");
    let bundle = case.text("bundle");
    call(&case, &["create", "--bundle", &bundle, "--pid-file", &case.text("pid"), &case.id]).wait().ok();
    case.adopt(case.pid());
    call(&case, &["start", &case.id]).wait().ok();
    assert_eq!(told(&socket), None);
    case.wait_status("stopped");
}

/// Nobody wants to know: there is no socket, and no variable.
#[test]
fn without_a_socket_of_the_callers_there_is_none_in_the_container() {
    let mut case = case!("notifynone");
    case.script("echo \"[$NOTIFY_SOCKET]\"; ls /run");
    assert_eq!(case.run().ok().out().trim(), "[]");
}
