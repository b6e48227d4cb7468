//! exec --user, --cgroup, --pidfd-socket: who the process is, where it is born, and who is told of it.

#[macro_use]
mod common;

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use common::case::Case;
use common::console::ConsoleSocket;
use common::look;

fn who(case: &Case, user: &str) -> String {
    let told = case.call(&["exec", "--user", user, &case.id, "sh", "-c", "id -u; id -g; id -G"]).ok().out();
    told.split('\n').collect::<Vec<_>>().join(" ").trim().to_owned()
}

#[test]
fn a_name_is_looked_up_in_the_containers_own_files() {
    tandem_only!("exec --user NAME");
    let case = case!("execname");
    let etc = case.rootfs().join("etc");
    fs::write(etc.join("passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\nbad:x:-1:0:::\n").unwrap();
    fs::write(etc.join("group"), "root:x:0:\nweb:x:34:\ntty:x:5:other,web\nlog:x:7:web\n").unwrap();
    case.running();
    assert_eq!(who(&case, "web"), "33 34 34 5 7");
    assert_eq!(who(&case, "web:tty"), "33 5 5 7");
    assert_eq!(who(&case, "web:99"), "33 99 99 5 7");
    assert_eq!(who(&case, "12:log"), "12 7 7");
    assert_eq!(who(&case, "12"), "12 0 0");
    assert_eq!(who(&case, "root"), "0 0 0");
    // Known to the host, not to the container.
    case.call(&["exec", "--user", "daemon", &case.id, "id"]).refused_with(&["`/etc/passwd`", "`daemon`"]);
    case.call(&["exec", "--user", "web:none", &case.id, "id"]).refused_with(&["`/etc/group`", "`none`"]);
    case.call(&["exec", "--user", "bad", &case.id, "id"]).refused_with(&["`bad`"]);
    for user in ["", ":", "1:", ":1", "01", "+1", "-1", "4294967295", "4294967296", "1:2:3", "a b", "0x0", "root:"] {
        case.call(&["exec", "--user", user, &case.id, "id"]).refused();
    }
}

#[test]
fn the_files_of_users_are_the_containers_whatever_links_it_has() {
    tandem_only!("exec --user NAME");
    let case = case!("execlink");
    fs::write(case.path("passwd"), "ghost:x:0:0::/:/bin/sh\n").unwrap();
    let (passwd, group) = (case.rootfs().join("etc/passwd"), case.rootfs().join("etc/group"));
    fs::remove_file(&passwd).unwrap();
    symlink(case.path("passwd"), &passwd).unwrap();
    case.running();
    case.call(&["exec", "--user", "ghost", &case.id, "id"]).refused_with(&["has no `/etc/passwd`"]);
    // A link that stays inside is followed.
    fs::write(case.rootfs().join("tmp/real"), "inner:x:44:45::/:/bin/sh\n").unwrap();
    fs::remove_file(&passwd).unwrap();
    symlink("/tmp/real", &passwd).unwrap();
    assert_eq!(who(&case, "inner"), "44 45 45");
    // What is no file is not opened: a fifo would have it wait for ever.
    fs::remove_file(&group).unwrap();
    case.exec(&["mkfifo", "/etc/group"]).ok();
    case.call(&["exec", "--user", "inner", &case.id, "id"]).refused_with(&["`/etc/group`", "no regular file"]);
    assert_eq!(case.exec(&["id", "-u"]).ok().out(), "0\n");
}

/// The container's directories, by the hierarchy's controllers.
fn cgroups(id: &str) -> Vec<(String, PathBuf)> {
    look::hierarchies()
        .into_iter()
        .map(|(names, point)| (names, point.join(id)))
        .filter(|(_, dir)| dir.is_dir())
        .collect()
}

fn detached(case: &Case, more: &[&str]) -> u32 {
    let pid_file = case.text("exec.pid");
    let mut args = vec!["exec", "--detach", "--pid-file", &pid_file];
    args.extend(more);
    args.extend([case.id.as_str(), "sleep", "100000"]);
    case.call(&args).ok();
    let pid = look::value(&pid_file).parse().expect("pid file");
    case.adopt(pid);
    pid
}

#[test]
fn a_process_is_born_in_a_sub_cgroup() {
    let case = case!("execcgroup");
    let init = case.running();
    for (names, dir) in cgroups(&case.id) {
        fs::create_dir_all(dir.join("sub/deep")).unwrap();
        // A cpuset of v1 takes no process before it has these.
        if names.split(',').any(|name| name == "cpuset") {
            for (sub, file) in [
                ("sub", "cpuset.cpus"),
                ("sub", "cpuset.mems"),
                ("sub/deep", "cpuset.cpus"),
                ("sub/deep", "cpuset.mems"),
            ] {
                fs::write(dir.join(sub).join(file), look::value(dir.join(file))).unwrap();
            }
        }
    }
    let pid = detached(&case, &["--cgroup", "sub/deep"]);
    for (names, path) in look::cgroups(pid) {
        let own = &look::cgroups(init)[&names];
        match cgroups(&case.id).iter().any(|(n, _)| *n == names) {
            true => assert_eq!(path, format!("{own}/sub/deep"), "{names}"),
            false => assert_eq!(path, *own, "{names}"),
        }
    }
    let Some((names, _)) = cgroups(&case.id).into_iter().find(|(names, _)| !names.is_empty() && !names.contains('='))
    else {
        return;
    };
    let controller = names.split(',').next().unwrap();
    // The last that names a hierarchy is the one.
    let pid =
        detached(&case, &["--cgroup", &format!("{controller}:sub/deep"), "--cgroup", &format!("{controller}:sub")]);
    for (n, path) in look::cgroups(pid) {
        let own = &look::cgroups(init)[&n];
        assert_eq!(path, if n == names { format!("{own}/sub") } else { own.clone() }, "{n}");
    }
}

#[test]
fn a_sub_cgroup_must_be_there_and_be_the_containers() {
    tandem_only!("the words of a refused --cgroup");
    let case = case!("execnocgroup");
    case.running();
    for (wanted, words) in
        [("none", "there is no cgroup"), ("../..", "downwards"), ("nosuch:x", "nosuch"), ("", "--cgroup")]
    {
        let outcome = case.call(&["exec", "--cgroup", wanted, &case.id, "true"]);
        outcome.refused_with(&[words]);
        assert!(!outcome.err().contains("No such file"), "engines read it as a missing command: {}", outcome.err());
    }
}

/// What a pidfd in this process refers to.
fn pid_of(fd: &impl AsRawFd) -> u32 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
    let pid = info.lines().find_map(|l| l.strip_prefix("Pid:")).unwrap_or_else(|| panic!("no pidfd: {info}"));
    pid.trim().parse().unwrap()
}

#[test]
fn a_pidfd_is_sent_to_the_socket() {
    tandem_only!("--pidfd-socket");
    let case = case!("pidfd");
    let socket = ConsoleSocket::new(&case.path("pidfd.sock"));
    case.create_with(&["--pidfd-socket", &case.text("pidfd.sock")]).ok();
    let first = socket.receive();
    assert_eq!((pid_of(&first.fd), first.bytes.as_slice()), (case.pid(), &b"standard"[..]));
    case.start();
    case.wait_payload(case.pid());
    let pid = detached(&case, &["--pidfd-socket", &case.text("pidfd.sock")]);
    let second = socket.receive();
    assert_eq!((pid_of(&second.fd), second.bytes.as_slice()), (pid, &b"setns"[..]));
    let other = Case::new("nopidfd");
    other.create_with(&["--pidfd-socket", "/no/such.sock"]).refused_with(&["/no/such.sock"]);
    other.nothing_left("a pidfd socket that is not there");
}
