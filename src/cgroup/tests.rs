//! The whole module against the kernel, as root, in the layout the machine has and, each in a mount namespace of its
//! own, in the two pure ones.

mod races;

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::plan::resources::Limit;
use crate::procfs::Proc;
use serde_json::json;

/// Says which layout a re-executed test is to find.
const LAYOUT: &str = "TANDEM_TEST_CGROUP_LAYOUT";

const PURE_V1: &str = "umount /sys/fs/cgroup/unified; exec \"$@\"";
const PURE_V2: &str = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec \"$@\"";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs one test of this module again, under a wrapper.
fn again(test: &str, wrapper: &[&str], layout: &str) {
    let exe = std::env::current_exe().unwrap();
    let name = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(exe).args(["--exact", &name, "--nocapture"]).env(LAYOUT, layout);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{layout}: {text}");
}

fn unshared(test: &str, script: &str, layout: &str) {
    if !is_root() || Hierarchies::detect(&Proc::open().unwrap()).unwrap().layout() != Layout::Hybrid {
        return eprintln!("skipped: needs root and a hybrid layout");
    }
    again(test, &["unshare", "-m", "--propagation", "private", "sh", "-c", script, "--"], layout);
}

/// A path that no other test uses, two levels deep.
fn path() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let (pid, n) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    PathBuf::from(format!("/tandem-test-{pid}-{n}/container"))
}

fn resources(value: serde_json::Value) -> Resources {
    Resources::from_spec(&serde_json::from_value(value).unwrap()).unwrap()
}

/// A process to be moved around. It is killed and reaped whatever the test does.
struct Process(Child);

impl Process {
    fn start(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Process(command.spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either fails only for a process that is reaped already.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// What a shell in the cgroup says when it opens a device node.
fn open_in(cgroup: &Cgroup, node: &std::path::Path) -> String {
    let mut process = Process::start(&format!("read go; : < {}", node.display()));
    cgroup.join(process.pid()).unwrap();
    drop(process.0.stdin.take());
    let mut text = String::new();
    process.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    process.0.wait().unwrap();
    text
}

fn left(record: &CgroupRecord) -> Vec<String> {
    let parents = record.dirs.iter().map(|dir| format!("{}{}", dir.mount, dir.steps()[0]));
    parents.filter(|path| std::path::Path::new(path).exists()).collect()
}

/// Removes what a failed test leaves.
struct Guard(CgroupRecord);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Err(error) = Cgroup::remove(&self.0)
        {
            eprintln!("{error}");
        }
    }
}

fn value(cgroup: &Cgroup, controller: &str, file: &str) -> String {
    let dir = cgroup.v1(controller).or(cgroup.v2()).unwrap();
    dir.read(file).unwrap().trim().to_owned()
}

#[test]
fn whole_life() {
    if !is_root() {
        return eprintln!("skipped: not root");
    }
    let hierarchies = Hierarchies::detect(&Proc::open().unwrap()).unwrap();
    let layout = hierarchies.layout();
    if let Ok(expected) = std::env::var(LAYOUT) {
        assert_eq!(format!("{layout:?}"), expected);
    }
    let record = hierarchies.record(&path(), &Proc::open().unwrap()).unwrap();
    let _guard = Guard(record.clone());
    assert!(record.dirs.iter().all(|dir| dir.made == 2), "{record:?}");
    let mut asked = Resources::default();
    if layout != Layout::V2 {
        asked = resources(json!({
            "memory": {"limit": 67108864, "swap": 134217728, "reservation": 33554432, "disableOOMKiller": false},
            "cpu": {"shares": 512, "quota": 50000, "period": 20000, "cpus": "0"},
            "pids": {"limit": 20}
        }));
    }
    if layout != Layout::V1 {
        asked.merge(&resources(json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]})));
    }
    let cgroup = Cgroup::create(&record, &asked, Tolerance::Strict).unwrap();
    assert_eq!((cgroup.record(), cgroup.notes()), (&record, &[][..]));
    if layout != Layout::V2 {
        assert_eq!(value(&cgroup, "memory", "memory.memsw.limit_in_bytes"), "134217728");
        assert_eq!(value(&cgroup, "cpu", "cpu.cfs_quota_us"), "50000");
        assert_eq!(value(&cgroup, "cpu", "cpu.cfs_period_us"), "20000");
        assert_eq!(value(&cgroup, "cpuset", "cpuset.cpus"), "0");
        assert_ne!(value(&cgroup, "cpuset", "cpuset.mems"), "");
        assert_eq!(value(&cgroup, "pids", "pids.max"), "20");
    }
    if layout != Layout::V1 {
        assert_eq!(value(&cgroup, "hugetlb", "hugetlb.2MB.max"), "4194304");
        assert!(cgroup.into_fd().is_some());
    }

    // A process joins from outside, another by itself.
    let process = Process::start("read go");
    cgroup.join(process.pid()).unwrap();
    let fds = cgroup.task_fds().unwrap();
    let v1 = record.dirs.iter().filter(|dir| !dir.unified).count();
    assert_eq!(fds.len(), v1);
    let mut pids = vec![process.pid()];
    let me = std::process::id();
    let writes = fds.iter().map(|fd| format!("echo 0 > /proc/{me}/fd/{};", std::os::fd::AsRawFd::as_raw_fd(fd)));
    let mut second = Process::start(&format!("read go; {} echo done; exec sleep 60", writes.collect::<String>()));
    if layout != Layout::V1 {
        cgroup.v2().unwrap().write("cgroup.procs", &second.pid().to_string()).unwrap();
        let beside = cgroup.beside(second.pid(), &Proc::open().unwrap()).unwrap();
        assert_eq!(beside.record(), cgroup.record());
    }
    drop(second.0.stdin.take());
    second.0.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
    pids.push(second.pid());
    pids.sort();
    assert_eq!(cgroup.pids().unwrap(), pids);
    let membership = std::fs::read_to_string(format!("/proc/{}/cgroup", second.pid())).unwrap();
    let joined = membership.lines().filter(|line| line.ends_with("/container")).count();
    assert!(joined >= record.dirs.len(), "{membership}");

    // Another container can't have it.
    let error =
        hierarchies.record(&PathBuf::from(&record.dirs[0].path), &Proc::open().unwrap()).unwrap_err().to_string();
    let who = pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    assert!(error.contains(&format!("not empty: processes {who} are in it")), "{error}");
    let error = Cgroup::create(&record, &asked, Tolerance::Strict).unwrap_err().to_string();
    assert!(error.contains("not empty"), "{error}");
    assert_eq!(cgroup.pids().unwrap(), pids);

    assert!(!cgroup.is_frozen().unwrap());
    cgroup.freeze().unwrap();
    assert!(cgroup.is_frozen().unwrap());
    cgroup.thaw().unwrap();
    assert!(!cgroup.is_frozen().unwrap());

    let opened = Cgroup::open(&record).unwrap();
    if layout != Layout::V2 {
        for (limit, swap) in [(100 << 20, 200 << 20), (32 << 20, 48 << 20), (48 << 20, -1i64)] {
            let update = resources(json!({"memory": {"limit": limit, "swap": swap}, "pids": {"limit": 30}}));
            opened.update(&update).unwrap();
            assert_eq!(value(&cgroup, "memory", "memory.limit_in_bytes"), limit.to_string());
        }
        assert_eq!(value(&cgroup, "pids", "pids.max"), "30");
        assert_eq!(value(&cgroup, "cpu", "cpu.shares"), "512");
    }

    // Sub-cgroups count, are killed, and are removed. Frozen processes die too.
    for (_, dir) in cgroup.places() {
        std::fs::create_dir_all(format!("{}/a/b", dir.path())).unwrap();
    }
    let watched = cgroup.watched().unwrap();
    watched.open_child("a").unwrap().open_child("b").unwrap().write("cgroup.procs", &second.pid().to_string()).unwrap();
    assert_eq!(cgroup.pids().unwrap(), pids);
    cgroup.freeze().unwrap();
    opened.kill_all(libc::SIGKILL).unwrap();
    drop((process, second));
    Cgroup::remove(&record).unwrap();
    assert_eq!(left(&record), Vec::<String>::new());
    Cgroup::remove(&record).unwrap();
    assert_eq!(cgroup.pids().unwrap(), Vec::<i32>::new());
    let gone = Cgroup::open(&record).unwrap();
    gone.kill_all(libc::SIGKILL).unwrap();
    assert!(gone.freeze().is_err());
}

#[test]
fn whole_life_v1() {
    unshared("whole_life", PURE_V1, "V1");
}

#[test]
fn whole_life_v2() {
    unshared("whole_life", PURE_V2, "V2");
}

#[test]
fn filters_devices() {
    if !is_root() {
        return eprintln!("skipped: not root");
    }
    let hierarchies = Hierarchies::detect(&Proc::open().unwrap()).unwrap();
    let record = hierarchies.record(&path(), &Proc::open().unwrap()).unwrap();
    let _guard = Guard(record.clone());
    // A device that no driver has: what the filter lets through ends with ENXIO.
    let temp = tempfile::tempdir().unwrap();
    let node = temp.path().join("node");
    let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::RUSR);
    let device = rustix::fs::makedev(240, 7);
    rustix::fs::mknodat(rustix::fs::CWD, &node, kind, mode, device).unwrap();
    let (denied, passed) = ("Operation not permitted", "No such device or address");
    let rules = |allow: bool, access: &str| {
        resources(json!({"devices": [{"allow": false, "access": "rwm"},
            {"allow": allow, "type": "c", "major": 240, "minor": 7, "access": access}]}))
    };

    let cgroup = Cgroup::create(&record, &Resources::default(), Tolerance::Strict).unwrap();
    let says = open_in(&cgroup, &node);
    assert!(says.contains(denied), "{says}");
    assert_eq!(open_in(&cgroup, std::path::Path::new("/dev/null")), "");
    for (allow, access, expected) in
        [(true, "r", passed), (true, "w", denied), (true, "rw", passed), (false, "rwm", denied), (true, "rwm", passed)]
    {
        cgroup.update(&rules(allow, access)).unwrap();
        let says = open_in(&cgroup, &node);
        assert!(says.contains(expected), "{allow} {access}: {says}");
        assert_eq!(open_in(&cgroup, std::path::Path::new("/dev/null")), "");
    }
    let filters = if cgroup.v1("devices").is_some() { 0 } else { 1 };
    if let Some(dir) = cgroup.v2() {
        assert_eq!(crate::sys::bpf::device_filters(dir.as_fd()).unwrap().len(), filters);
    }
    cgroup.update(&resources(json!({"devices": [{"allow": true, "access": "rwm"}]}))).unwrap();
    let says = open_in(&cgroup, &node);
    assert!(says.contains(passed), "{says}");
    Cgroup::remove(&record).unwrap();
    assert_eq!(left(&record), Vec::<String>::new());

    let privileged = resources(json!({"devices": [{"allow": true, "access": "rwm"}]}));
    let cgroup = Cgroup::create(&record, &privileged, Tolerance::Strict).unwrap();
    let says = open_in(&cgroup, &node);
    assert!(says.contains(passed), "{says}");
    Cgroup::remove(&record).unwrap();
    assert_eq!(left(&record), Vec::<String>::new());
}

#[test]
fn filters_devices_v1() {
    unshared("filters_devices", PURE_V1, "V1");
}

#[test]
fn filters_devices_v2() {
    unshared("filters_devices", PURE_V2, "V2");
}

#[test]
fn a_failure_leaves_nothing() {
    if !is_root() {
        return eprintln!("skipped: not root");
    }
    let hierarchies = Hierarchies::detect(&Proc::open().unwrap()).unwrap();
    let layout = hierarchies.layout();
    let cases = match layout {
        Layout::V2 => vec![
            (json!({"pids": {"limit": 5}}), "set pids limit: `/sys/fs/cgroup/"),
            (json!({"network": {"classID": 5}}), "linux.resources.network.classID: cgroup v2"),
            (json!({"unified": {"nothing.max": "5"}}), "set linux.resources.unified.nothing.max: `/sys/"),
            (json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 5}]}), "set huge page limit: `/sys/"),
        ],
        _ => vec![
            (json!({"cpu": {"cpus": "4000"}}), "set CPU list: write `4000` to `/sys/fs/cgroup/cpuset/tandem-test"),
            (json!({"network": {"classID": 5}}), "set network class: no cgroup hierarchy with the `net_cls` con"),
            (json!({"unified": {"pids.max": "5"}}), "linux.resources.unified.pids.max: "),
            (json!({"blockIO": {"leafWeight": 50}}), "set block I/O leaf weight: `/sys/fs/cgroup/blkio/tandem-test"),
        ],
    };
    let record = hierarchies.record(&path(), &Proc::open().unwrap()).unwrap();
    let _guard = Guard(record.clone());
    for (asked, start) in cases {
        let error = Cgroup::create(&record, &resources(asked), Tolerance::Strict).unwrap_err().to_string();
        assert!(error.starts_with(start), "{error}");
        assert_eq!(left(&record), Vec::<String>::new());
    }
    // No limit is no demand.
    let asked = resources(json!({"pids": {"limit": -1}, "memory": {"limit": -1, "disableOOMKiller": false}}));
    assert_eq!(asked.pids, Some(Limit::Max));
    Cgroup::create(&record, &asked, Tolerance::Strict).unwrap();
    Cgroup::remove(&record).unwrap();
    assert_eq!(left(&record), Vec::<String>::new());
}

#[test]
fn a_failure_leaves_nothing_v1() {
    unshared("a_failure_leaves_nothing", PURE_V1, "V1");
}

#[test]
fn a_failure_leaves_nothing_v2() {
    unshared("a_failure_leaves_nothing", PURE_V2, "V2");
}

#[test]
fn keeps_the_parents_of_others() {
    if !is_root() {
        return eprintln!("skipped: not root");
    }
    let hierarchies = Hierarchies::detect(&Proc::open().unwrap()).unwrap();
    let first = hierarchies.record(&path(), &Proc::open().unwrap()).unwrap();
    let _guard = Guard(first.clone());
    let parent = PathBuf::from(first.dirs[0].steps()[0]);
    Cgroup::create(&first, &Resources::default(), Tolerance::Strict).unwrap();
    let second = hierarchies.record(&parent.join("second"), &Proc::open().unwrap()).unwrap();
    let _second_guard = Guard(second.clone());
    assert!(second.dirs.iter().all(|dir| dir.made == 1));
    Cgroup::create(&second, &Resources::default(), Tolerance::Strict).unwrap();
    // The parents were made for the first, and the second is still in them.
    Cgroup::remove(&first).unwrap();
    assert_eq!(left(&first).len(), first.dirs.len());
    // A directory that exists and is empty is taken over.
    Cgroup::create(&second, &Resources::default(), Tolerance::Strict).unwrap();
    Cgroup::remove(&second).unwrap();
    assert_eq!(left(&first).len(), first.dirs.len());
    // What is left then are the first's: its record removes them.
    Cgroup::remove(&first).unwrap();
    assert_eq!(left(&first), Vec::<String>::new());
}

#[test]
fn a_create_that_was_killed_is_removed() {
    if !is_root() {
        return eprintln!("skipped: not root");
    }
    let hierarchies = Hierarchies::detect(&Proc::open().unwrap()).unwrap();
    let record = hierarchies.record(&path(), &Proc::open().unwrap()).unwrap();
    let _guard = Guard(record.clone());
    let controllers: Vec<_> = record.dirs.iter().filter(|d| !d.unified).map(|d| d.controllers.clone()).collect();
    assert_eq!(controllers, hierarchies.v1_controllers());
    // Stopped after each of the directories, or between a parent and its child.
    for (i, place) in record.dirs.iter().enumerate() {
        for whole in &record.dirs[..i] {
            std::fs::create_dir_all(whole.full_path()).unwrap();
        }
        std::fs::create_dir(format!("{}{}", place.mount, place.steps()[0])).unwrap();
        let stored = serde_json::to_string(&record).unwrap();
        Cgroup::remove(&serde_json::from_str(&stored).unwrap()).unwrap();
        assert_eq!(left(&record), Vec::<String>::new());
    }
}

#[test]
fn relative_paths_start_at_the_own_cgroup() {
    let hierarchies = Hierarchies::detect(&Proc::open().unwrap()).unwrap();
    let name = format!("tandem-test-{}-relative", std::process::id());
    let record = hierarchies.record(&PathBuf::from(&name), &Proc::open().unwrap()).unwrap();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    if let (Some(dir), Some(line)) = (record.v1("memory"), own.lines().find(|line| line.contains(":memory:"))) {
        let own = line.rsplit_once(':').unwrap().1.trim_end_matches('/');
        assert_eq!(dir.path, format!("{own}/{name}"));
    }
}

/// What [`without_rights`] runs as another user.
#[test]
fn as_nobody() {
    if std::env::var(LAYOUT).as_deref() != Ok("nobody") {
        return;
    }
    assert!(!is_root());
    let record = Hierarchies::detect(&Proc::open().unwrap()).unwrap().record(&path(), &Proc::open().unwrap()).unwrap();
    let error = Cgroup::create(&record, &Resources::default(), Tolerance::Strict).unwrap_err().to_string();
    assert!(error.starts_with("make the cgroup: mkdir `/sys/") && error.ends_with(": Permission denied"), "{error}");
    let rules = resources(json!({"devices": [{"allow": false}], "pids": {"limit": -1}}));
    let cgroup = Cgroup::create(&record, &rules, Tolerance::Rootless).unwrap();
    assert!(cgroup.record().is_none() && cgroup.notes().len() >= record.dirs.len());
    assert!(cgroup.into_fd().is_none() && cgroup.task_fds().unwrap().is_empty() && cgroup.pids().unwrap().is_empty());
    let limited = resources(json!({"pids": {"limit": 5}}));
    let error = Cgroup::create(&record, &limited, Tolerance::Rootless).unwrap_err().to_string();
    assert!(error.starts_with("set pids limit: the container has no cgroup: mkdir `/sys/"), "{error}");
}

#[test]
fn without_rights() {
    if !is_root() {
        return eprintln!("skipped: not root");
    }
    again("as_nobody", &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], "nobody");
}
