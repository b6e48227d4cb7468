//! Who is in a container's pid namespace and may look at any process of it (CAP_SYS_PTRACE, no user namespace) finds nothing of
//! the host's in those that the runtime has born there: not their root, their fds, their memory, nor rights to use.

#[macro_use]
mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use common::bundle::{mount, namespace, user_namespace, without_namespace};
use common::case::Case;
use common::console::ConsoleSocket;
use common::{look, wait_until};
use rustix::fs::FileType;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use serde_json::{Value, json};

/// The environment variable that makes a copy of this program the onlooker: what it looks for.
const ORDERS: &str = "TANDEM_ONLOOKER";
/// How the runtime's processes are called until they are the payload: with more, the child.
const RUNTIME: &str = "tandem";
/// What the memory of no process of the container may hold. Put together, for it is not to be in this program's own.
const MARK: [&str; 2] = ["of-the-callers-", "environment-alone"];

// The onlooker.

/// What it has found, and how many of the runtime's processes it has seen.
struct Onlooker {
    secret: String,
    forbidden: Vec<(u64, u64)>,
    rights: u64,
    /// How many a process of the runtime's may have.
    sockets: usize,
    mark: Vec<u8>,
    found: BTreeSet<String>,
    out: File,
    seen: usize,
}

/// In the container: looks on until it is told to stop. Elsewhere, as a test, it does nothing.
#[test]
fn look_on() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let orders: Value = serde_json::from_str(&orders).expect("orders");
    let pairs = orders["forbidden"].as_array().expect("forbidden").iter();
    let mut onlooker = Onlooker {
        secret: orders["secret"].as_str().expect("secret").to_owned(),
        forbidden: pairs.map(|p| (p[0].as_u64().expect("device"), p[1].as_u64().expect("inode"))).collect(),
        rights: orders["rights"].as_u64().expect("rights"),
        sockets: orders["sockets"].as_u64().expect("sockets") as usize,
        mark: MARK.concat().into_bytes(),
        found: BTreeSet::new(),
        out: File::create("/out/found").expect("/out/found"),
        seen: 0,
    };
    fs::write("/out/ready", "").expect("/out/ready");
    let stop = Path::new("/out/stop");
    while !stop.exists() {
        // The next to be born are those behind the last.
        for _ in 0..50 {
            onlooker.round();
        }
    }
    fs::write("/out/seen", onlooker.seen.to_string()).expect("/out/seen");
    fs::write("/out/stopped", "").expect("/out/stopped");
}

impl Onlooker {
    fn round(&mut self) {
        let own = std::process::id();
        let Ok(all) = fs::read_dir("/proc") else { return };
        let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| *pid != own && *pid != 1).for_each(|pid| self.look_at(pid));
    }

    fn tell(&mut self, what: String) {
        if self.found.insert(what.clone()) {
            writeln!(self.out, "{what}").expect("/out/found");
        }
    }

    /// A host's file by a directory that should be none of the host's.
    fn lead_out(&mut self, way: &str) {
        let up = "/../../../../../../../..";
        for path in [format!("{way}{}", self.secret), format!("{way}{up}{}", self.secret)] {
            for (how, opened) in
                [("read", File::open(&path)), ("written", fs::OpenOptions::new().write(true).open(&path))]
            {
                if opened.is_ok() {
                    let numbers = |c: char| c.is_ascii_digit();
                    self.tell(format!("a file of the host can be {how} by {}", way.replace(numbers, "")));
                }
            }
        }
    }

    fn look_at(&mut self, pid: u32) {
        let of = |name: &str| format!("/proc/{pid}/{name}");
        self.lead_out(&of("root"));
        self.lead_out(&of("cwd"));
        let looked = self.fds(pid);
        // What a payload has open is its own.
        if !fs::read_to_string(of("comm")).is_ok_and(|comm| comm.starts_with(RUNTIME)) {
            return;
        }
        looked.into_iter().for_each(|what| self.tell(what));
        self.seen += 1;
        if let Ok(status) = fs::read_to_string(of("status")) {
            let mask = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name))?;
                u64::from_str_radix(line.trim(), 16).ok()
            };
            for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
                let more = mask(set).unwrap_or_default() & !self.rights;
                if more != 0 {
                    self.tell(format!("it has rights that the payload is not to have: {set} {more:x}"));
                }
            }
        }
        if fs::OpenOptions::new().write(true).open(of("exe")).is_ok() {
            self.tell("its image can be written".into());
        }
        self.memory(pid);
    }

    /// What of its fds is not as a process of the runtime's should have them.
    fn fds(&mut self, pid: u32) -> Vec<String> {
        let (mut wrong, mut sockets) = (vec![], 0);
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let path = entry.path();
            let number: i32 = entry.file_name().to_str().and_then(|n| n.parse().ok()).unwrap_or(-1);
            let Ok(stat) = fs::metadata(&path) else { continue };
            let link = fs::read_link(&path).unwrap_or_default();
            wrong.extend(self.judge("proc", number, (stat.dev(), stat.ino(), stat.mode()), &link));
            sockets += usize::from(number > 2 && link.to_string_lossy().starts_with("socket:"));
            if stat.is_dir() {
                let way = path.to_str().expect("a number");
                self.lead_out(way);
                self.lead_out(&format!("{way}/1/root"));
            }
        }
        if sockets > self.sockets {
            wrong.push(format!("it has {sockets} sockets"));
        }
        let pidfd = Pid::from_raw(pid as i32).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        for number in (0..24).filter(|_| pidfd.is_some()) {
            let taken = pidfd.as_ref().map(|pidfd| pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty()));
            if let Some(Ok(fd)) = taken
                && let Ok(stat) = rustix::fs::fstat(&fd)
            {
                wrong.extend(self.judge(
                    "pidfd_getfd",
                    number,
                    (stat.st_dev, stat.st_ino, stat.st_mode),
                    Path::new(""),
                ));
            }
        }
        wrong
    }

    /// Beside its standard streams a process of the runtime's has a socket and a pipe to the runtime.
    fn judge(&self, how: &str, number: i32, (dev, ino, mode): (u64, u64, u32), link: &Path) -> Option<String> {
        let kind = FileType::from_raw_mode(mode);
        if self.forbidden.contains(&(dev, ino)) {
            return Some(format!("{how}: fd {number} is the caller's"));
        }
        let other = number > 2 && !matches!(kind, FileType::Socket | FileType::Fifo);
        other.then(|| format!("{how}: fd {number} is a {kind:?} {}", link.display()))
    }

    fn memory(&mut self, pid: u32) {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let holds = |bytes: &[u8], mark: &[u8]| bytes.windows(mark.len()).any(|window| window == mark);
        let mut held = holds(&environ, &self.mark);
        let exe = fs::metadata(format!("/proc/{pid}/exe")).map(|exe| (exe.dev(), exe.ino()));
        for entry in fs::read_dir(format!("/proc/{pid}/map_files")).into_iter().flatten().flatten() {
            let mapped = fs::metadata(entry.path()).map(|file| (file.dev(), file.ino()));
            if let (Ok(mapped), Ok(exe)) = (mapped, &exe)
                && mapped != *exe
            {
                self.tell("it has another file than its image in its memory".into());
            }
        }
        // One in a few: it takes longer than the process lives.
        if self.seen.is_multiple_of(4)
            && let (Ok(maps), Ok(mem)) =
                (fs::read_to_string(format!("/proc/{pid}/maps")), File::open(format!("/proc/{pid}/mem")))
        {
            for line in maps.lines().filter(|line| line.split(' ').nth(1) == Some("rw-p")) {
                let range = line.split(' ').next().and_then(|range| range.split_once('-'));
                let number = |text: &str| u64::from_str_radix(text, 16).ok();
                let Some((from, to)) = range.and_then(|(from, to)| Some((number(from)?, number(to)?))) else {
                    continue;
                };
                let mut bytes = vec![0; (to - from).min(1 << 20) as usize];
                let read = mem.read_at(&mut bytes, from).unwrap_or(0);
                held |= holds(&bytes[..read], &self.mark);
            }
        }
        if held {
            self.tell("its memory holds the caller's environment".into());
        }
    }
}

// The tests.

/// What the payloads may do; the onlooker may look at all processes too.
const RIGHTS: [(&str, u32); 3] = [("CAP_CHOWN", 0), ("CAP_KILL", 5), ("CAP_SYS_PTRACE", 19)];

fn out(case: &Case, name: &str) -> PathBuf {
    case.path("out").join(name)
}

/// A container whose first process looks on. `sockets` is how many the processes of the runtime's may have.
fn onlooker(name: &'static str, sockets: usize, change: impl FnOnce(&mut Value)) -> Case {
    let mut case = Case::new(name);
    fs::write(case.path("secret"), "of the host\n").unwrap();
    fs::set_permissions(case.path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(case.path("stdin"), "typed\n").unwrap();
    fs::create_dir(case.path("out")).unwrap();
    fs::set_permissions(case.path("out"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::create_dir(case.rootfs().join("out")).unwrap();
    common::program::copy(std::env::current_exe().unwrap(), case.rootfs().join("bin/onlooker"));
    let stdin = fs::metadata(case.path("stdin")).unwrap();
    let caps: Vec<&str> = RIGHTS.iter().map(|(name, _)| *name).collect();
    let rights = RIGHTS.iter().fold(0, |mask, (_, bit)| mask | 1u64 << bit);
    let orders = json!({
        "secret": case.path("secret").canonicalize().unwrap(),
        "forbidden": [[stdin.dev(), stdin.ino()]],
        "rights": rights,
        "sockets": sockets,
    });
    let share = case.text("out");
    case.alter(|c| {
        mount(c, "/out", "bind", &share, &["bind"]);
        c["process"]["args"] = json!(["/bin/onlooker", "--exact", "look_on", "--nocapture"]);
        c["process"]["env"].as_array_mut().unwrap().push(json!(format!("{ORDERS}={orders}")));
        c["process"]["capabilities"] = json!({"bounding": caps, "effective": caps, "permitted": caps});
        change(c);
    });
    let pid = case.create();
    case.start();
    case.adopt(pid);
    wait_until("the onlooker looks on", || out(&case, "ready").exists());
    case
}

/// What it has found, once it has stopped, and how many of the runtime's processes it has seen.
fn found(case: &Case) -> (String, usize) {
    fs::write(out(case, "stop"), "").unwrap();
    wait_until("the onlooker stops", || out(case, "stopped").exists());
    (fs::read_to_string(out(case, "found")).unwrap(), look::value(out(case, "seen")).parse().unwrap())
}

fn saw_nothing(case: &Case) {
    let (found, seen) = found(case);
    assert_eq!(found, "", "{seen} processes of the runtime's were seen");
    assert!(seen > 0, "the onlooker never saw a process of the runtime's");
    eprintln!("{}: {seen} looks at the runtime's processes, nothing found", case.id);
}

/// Executes something, with what must not be seen in the runtime's environment, on its standard input and in a leaked fd.
fn exec(case: &Case, args: &[&str]) {
    let mark = format!("{}={}", "TANDEM_MARK", MARK.concat());
    let (script, stdin) = (r#"exec 7<"$0" 8</ <"$0"; exec "$@""#, case.text("stdin"));
    let mut all = vec!["exec"];
    all.extend(args);
    all.extend([&*case.id, "true"]);
    case.call_behind(&["env", &mark, "sh", "-c", script, &stdin], &all).ok();
}

#[test]
fn exec_shows_nothing_of_the_host() {
    if !rustix::process::geteuid().is_root() {
        skip!("needs root");
    }
    tandem_only!("what onlookers see");
    let case = onlooker("onlookexec", 1, |_| ());
    let name = case.text("process.json");
    let mut process = case.config["process"].clone();
    process["env"] = json!(["PATH=/bin"]);
    process["args"] = json!(["true"]);
    fs::write(&name, process.to_string()).unwrap();
    for i in 0..100 {
        match i % 5 {
            0 => exec(&case, &["--process", &name]),
            1 => {
                exec(&case, &["--process", &name, "--detach", "--pid-file", &case.text("exec.pid")]);
                case.adopt(look::value(case.path("exec.pid")).parse().unwrap());
            }
            2 => exec(&case, &["--user", "1000", "--cap", "CAP_KILL"]),
            _ => exec(&case, &[]),
        }
    }
    // Without a terminal the caller's standard input is the payload's too.
    let (found, seen) = found(&case);
    let theirs = |line: &&str| !line.ends_with("fd 0 is the caller's");
    assert_eq!(found.lines().filter(theirs).collect::<Vec<_>>(), Vec::<&str>::new(), "{seen} seen");
    assert!(seen > 0, "the onlooker never saw a process of the runtime's");
    eprintln!("{}: {seen} looks at the runtime's processes", case.id);
}

#[test]
fn exec_with_a_terminal_shows_nothing_of_the_callers() {
    if !rustix::process::geteuid().is_root() {
        skip!("needs root");
    }
    tandem_only!("what onlookers see");
    let case = onlooker("onlooktty", 1, |_| ());
    let console = ConsoleSocket::new(&case.path("console.sock"));
    for _ in 0..40 {
        let at = case.text("console.sock");
        exec(&case, &["--tty", "--detach", "--console-socket", &at, "--pid-file", &case.text("exec.pid")]);
        case.adopt(look::value(case.path("exec.pid")).parse().unwrap());
        drop(console.receive());
    }
    saw_nothing(&case);
}

#[test]
fn exec_in_a_user_namespace_shows_nothing() {
    if !rustix::process::geteuid().is_root() {
        skip!("needs root");
    }
    tandem_only!("what onlookers see");
    let case = onlooker("onlookuser", 1, |c| user_namespace(c, 100_000));
    for _ in 0..30 {
        exec(&case, &[]);
    }
    let (found, _) = found(&case);
    // It may not even look at them: the image was executed outside its user namespace. What rights they have it may read.
    let theirs = |line: &&str| !line.ends_with("fd 0 is the caller's") && !line.starts_with("it has rights");
    assert_eq!(found.lines().filter(theirs).collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn a_container_that_joins_the_pid_namespace_shows_nothing_of_the_host() {
    if !rustix::process::geteuid().is_root() {
        skip!("needs root");
    }
    tandem_only!("what onlookers see");
    if look::kernel() < (6, 18) {
        skip!(
            "before Linux 6.18 a process of the runtime's has to open the proc in that pid namespace, and is seen there"
        );
    }
    // The runtime's, the one on which `start` calls, and its call.
    let watching = onlooker("onlookwatch", 3, |_| ());
    let joined = format!("/proc/{}/ns/pid", watching.pid());
    for (i, change) in JOINING.iter().cycle().take(40).enumerate() {
        let mut case = Case::new("onlookjoin");
        case.alter(|c| {
            namespace(c, "pid", Some(&joined));
            let caps: Vec<&str> = RIGHTS.iter().map(|(name, _)| *name).collect();
            c["process"]["capabilities"] = json!({"bounding": caps, "effective": caps, "permitted": caps});
            c["linux"]["maskedPaths"] = json!(["/proc/keys"]);
            c["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
            change(c);
        });
        let pid = case.create();
        assert_eq!(look::namespace(pid, "pid"), look::namespace(watching.pid(), "pid"), "{i}");
        case.start();
        case.wait_payload(pid);
        // Its proc is of the pid namespace that it is in.
        if case.config["mounts"][0]["type"] == "proc" {
            let shown = case.exec(&["sh", "-c", "read a </proc/1/comm; read b </proc/$$/comm; echo $a $b"]).ok().out();
            assert_eq!(shown, "onlooker sh\n", "{i}");
        }
        case.delete_by_force();
    }
    saw_nothing(&watching);
}

/// Containers of several kinds.
const JOINING: [fn(&mut Value); 5] = [
    |_| (),
    |c| c["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}], "createContainer": [{"path": "/bin/true"}]}),
    |c| {
        without_namespace(c, "network");
        mount(c, "/tmp", "tmpfs", "tmpfs", &["tmpcopyup"]);
    },
    |c| mount(c, "/mnt", "bind", "/usr", &["rbind", "ro", "rslave"]),
    // No user namespace may mount a proc of a pid namespace that another owns.
    |c| {
        user_namespace(c, 100_000);
        c["mounts"].as_array_mut().unwrap().retain(|m| m["type"] != "proc");
    },
];
