//! SELinux labels, from outside: what the kernel says that mounts, files, processes and keys have, and that a container can do
//! its work where the policy is enforced.
//!
//! `scripts/vm 7.3 selinux` boots a machine with Debian's policy, which is permissive until a test enforces it.

#[macro_use]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use common::bundle::mount;
use common::case::Case;
use common::look;
use common::machine::Code;
use serde_json::json;

const ENFORCE: &str = "/sys/fs/selinux/enforce";
const FILES: &str = "system_u:object_r:container_file_t:s0:c17,c512";
const PROCESS: &str = "system_u:system_r:container_t:s0:c17,c512";
/// The policy's domains of engines, which runtimes run in too.
const DOMAINS: [&str; 2] = ["container_engine_t", "podman_t"];
const STRATEGIES: [&str; 3] = ["namespace", "pivot", "mount"];
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Whether the policy is enforced is the whole machine's: tests that do so are alone.
static MODE: RwLock<()> = RwLock::new(());

fn permissive() -> RwLockReadGuard<'static, ()> {
    MODE.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

struct Enforced(#[allow(dead_code)] RwLockWriteGuard<'static, ()>);

impl Enforced {
    fn set() -> Enforced {
        let alone = MODE.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        fs::write(ENFORCE, "1").expect("enforce the policy");
        Enforced(alone)
    }
}

impl Drop for Enforced {
    fn drop(&mut self) {
        let _ = fs::write(ENFORCE, "0");
    }
}

macro_rules! needs_selinux {
    () => {
        if !Path::new(ENFORCE).exists() {
            skip!("SELinux is not enabled in this kernel: `scripts/vm 7.3 selinux` has it");
        }
    };
}

fn label_at(path: &Path) -> Option<String> {
    let mut label = [0u8; 256];
    let length = rustix::fs::getxattr(path, "security.selinux", &mut label[..]).ok()?;
    Some(String::from_utf8_lossy(&label[..length]).trim_end_matches('\0').to_owned())
}

fn label_of(path: impl AsRef<Path>) -> String {
    label_at(path.as_ref()).unwrap_or_else(|| panic!("{} has no label", path.as_ref().display()))
}

fn set_label(path: &Path, label: &str) {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::lsetxattr(path, "security.selinux", label.as_bytes(), flags)
        .unwrap_or_else(|e| panic!("label {}: {e}", path.display()));
}

/// A whole tree, as an engine labels a root file system.
fn label_tree(root: &Path, label: &str) {
    set_label(root, label);
    let kind = fs::symlink_metadata(root).expect("stat").file_type();
    for entry in fs::read_dir(root).into_iter().filter(|_| kind.is_dir()).flatten() {
        label_tree(&entry.expect("entry").path(), label);
    }
}

fn process_label(pid: u32) -> String {
    let label = fs::read_to_string(format!("/proc/{pid}/attr/current")).expect("attr/current");
    label.trim_end_matches(['\0', '\n']).to_owned()
}

/// What an engine asks for, and something of every kind that is made for a container.
fn labelled(case: &mut Case) {
    fs::write(case.rootfs().join("file"), "secret").expect("file");
    fs::create_dir_all(case.rootfs().join("directory/full")).expect("directory");
    label_tree(&case.rootfs(), FILES);
    case.alter(|c| {
        c["process"]["selinuxLabel"] = json!(PROCESS);
        c["process"]["noNewPrivileges"] = json!(false);
        c["linux"]["mountLabel"] = json!(FILES);
        c["linux"]["maskedPaths"] = json!(["/file", "/directory", "/proc/kcore"]);
        c["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
        mount(c, "/own", "tmpfs", "tmpfs", &["nosuid", "size=64k"]);
        mount(c, "/ram", "ramfs", "ramfs", &["nosuid"]);
        mount(c, "/copied", "tmpfs", "tmpfs", &["tmpcopyup"]);
    });
}

fn create_by(case: &Case, strategy: &str) -> u32 {
    case.create_behind(&["env", &format!("TANDEM_MOUNT_STRATEGY={strategy}")], &[]).ok();
    case.start();
    case.wait_payload(case.pid());
    case.pid()
}

/// The label of a key, asked of the kernel by keyctl(2).
fn keyring_label(name: &str) -> String {
    let keys = fs::read_to_string("/proc/keys").expect("keys");
    let line =
        keys.lines().find(|line| line.contains(&format!(" {name}:"))).unwrap_or_else(|| panic!("{name}: {keys}"));
    let serial = line.split(' ').next().expect("serial");
    let script = "$b = \"\\0\" x 256; syscall(250, 17, hex($ARGV[0]), $b, 256); $b =~ s/\\0.*//s; print $b";
    let out = Command::new("perl").args(["-e", script, serial]).output().expect("perl");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn assert_labels(pid: u32, why: &str) {
    let inside = |path: &str| look::inside(pid, path);
    for path in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/own", "/ram", "/copied", "/file", "/directory"] {
        assert_eq!(label_of(inside(path)), FILES, "{path}, {why}");
    }
    for device in DEVICES {
        assert_eq!(label_of(inside("/dev").join(device)), FILES, "/dev/{device}, {why}");
    }
    assert_eq!(label_of(inside("/proc/kcore")), FILES, "the mask of /proc/kcore, {why}");
    for (path, kind) in [("/proc/uptime", "proc_t"), ("/sys", "sysfs_t")] {
        assert!(label_of(inside(path)).contains(kind), "{path}: {}, {why}", label_of(inside(path)));
    }
    assert_eq!(process_label(pid), PROCESS, "{why}");
}

#[test]
fn everything_has_the_label_in_every_strategy() {
    let mut case = case!("selinux");
    needs_selinux!();
    tandem_only!("TANDEM_MOUNT_STRATEGY");
    let _mode = permissive();
    labelled(&mut case);
    for strategy in STRATEGIES {
        let pid = create_by(&case, strategy);
        assert_labels(pid, strategy);
        assert_eq!(keyring_label(&format!("_ses.{}", case.id)), PROCESS, "the session keyring, {strategy}");
        let shm = look::mount_at(&look::mounts(pid), "/dev/shm").super_options.join(",");
        assert!(shm.contains(&format!("context=\"{FILES}\"")), "{shm}");
        let mqueue = look::mount_at(&look::mounts(pid), "/dev/mqueue");
        assert!(!mqueue.super_options.iter().any(|option| option.starts_with("context")), "{mqueue:?}");
        case.stop();
        case.delete();
    }
}

#[test]
fn a_user_namespace_changes_nothing_about_labels() {
    let mut case = case!("selinux-userns");
    needs_selinux!();
    tandem_only!("TANDEM_MOUNT_STRATEGY");
    let _mode = permissive();
    labelled(&mut case);
    case.alter(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map;
    });
    for strategy in STRATEGIES {
        let pid = create_by(&case, strategy);
        for path in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/own", "/directory"] {
            assert_eq!(label_of(look::inside(pid, path)), FILES, "{path}, {strategy}");
        }
        assert_eq!(process_label(pid), PROCESS, "{strategy}");
        case.stop();
        case.delete();
    }
}

#[test]
fn the_label_is_set_by_the_option_that_the_annotation_names() {
    let mut case = case!("selinux-how");
    needs_selinux!();
    tandem_only!("TANDEM_MOUNT_STRATEGY");
    let _mode = permissive();
    labelled(&mut case);
    for option in ["context", "fscontext", "rootcontext"] {
        for strategy in ["pivot", "mount"] {
            case.alter(|c| c["annotations"] = json!({"run.oci.mount_context_type": option}));
            let pid = create_by(&case, strategy);
            let shm = look::mount_at(&look::mounts(pid), "/dev/shm").super_options.join(",");
            assert!(shm.split(',').any(|o| o.starts_with(&format!("{option}="))), "{option}: {shm}, {strategy}");
            // The runtime's own are labelled whole: nobody has asked for them by an option.
            assert_eq!(label_of(look::inside(pid, "/dev/null")), FILES, "{option}, {strategy}");
            assert_eq!(label_of(look::inside(pid, "/dev/mqueue")), FILES, "{option}, {strategy}");
            case.stop();
            case.delete();
        }
    }
    // The kernel has it for file systems alone that keep labels on a disk.
    case.alter(|c| c["annotations"] = json!({"run.oci.mount_context_type": "defcontext"}));
    case.create_with(&[]).refused_with(&["Invalid argument", "SELinux", FILES]);
    case.nothing_left("an option that a tmpfs has not");
}

#[test]
fn the_hosts_message_queues_keep_their_label() {
    let mut case = case!("selinux-ipc");
    needs_selinux!();
    let _mode = permissive();
    labelled(&mut case);
    case.alter(|c| c["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "ipc"));
    let before = label_of("/dev/mqueue");
    let pid = case.running();
    assert_eq!(label_of("/dev/mqueue"), before);
    assert_eq!(label_of(look::inside(pid, "/dev/mqueue")), before, "it is the same file system");
}

#[test]
fn the_socket_for_readiness_has_the_label() {
    let mut case = case!("selinux-notify");
    needs_selinux!();
    let _mode = permissive();
    labelled(&mut case);
    let _host = std::os::unix::net::UnixDatagram::bind(case.path("host.sock")).unwrap();
    case.create_behind(&["env", &format!("NOTIFY_SOCKET={}", case.text("host.sock"))], &[]).ok();
    let variable = format!("NOTIFY_SOCKET={}", case.text("host.sock"));
    let mut start = case.command_behind(&["env", &variable]);
    start.args(["start", &case.id]);
    let start = case.launch(start);
    let socket = look::inside(case.pid(), "/run/notify/notify");
    common::wait_until("the socket is there", || label_at(&socket).is_some_and(|label| label == FILES));
    case.stop();
    start.wait().ok();
}

#[test]
fn a_mount_that_is_added_has_the_label() {
    let mut case = case!("selinux-added");
    needs_selinux!();
    tandem_only!("mounts add");
    let _mode = permissive();
    labelled(&mut case);
    let pid = case.running();
    let added = json!([{"destination": "/added", "type": "tmpfs", "source": "tmpfs"}]);
    fs::write(case.path("added.json"), added.to_string()).unwrap();
    case.call(&["mounts", "add", &case.id, &case.text("added.json")]).ok();
    assert_eq!(label_of(look::inside(pid, "/added")), FILES);
}

#[test]
fn a_further_process_has_the_containers_label_or_its_own() {
    let mut case = case!("selinux-exec");
    needs_selinux!();
    let _mode = permissive();
    labelled(&mut case);
    case.running();
    let own = case.exec(&["cat", "/proc/self/attr/current"]).ok().out();
    assert_eq!(own.trim_end_matches(['\0', '\n']), PROCESS);
    let process = json!({"args": ["cat", "/proc/self/attr/current"], "cwd": "/", "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0}});
    fs::write(case.path("process.json"), process.to_string()).unwrap();
    let by_file = case.call(&["exec", "--process", &case.text("process.json"), &case.id]).ok().out();
    assert_eq!(by_file.trim_end_matches(['\0', '\n']), PROCESS, "without a label in the file");
    let other = "system_u:system_r:spc_t:s0";
    let args = ["exec", "--process-label", other, &case.id, "cat", "/proc/self/attr/current"];
    assert_eq!(case.call(&args).ok().out().trim_end_matches(['\0', '\n']), other);
}

/// Programs that end with the errno of what they do with keys.
fn install_key_program(path: &Path) {
    const KEYCTL: u64 = 250;
    const CLEAR: u64 = 7;
    const SESSION_KEYRING: u64 = -3i64 as u64;
    Code::default().call(KEYCTL, &[CLEAR, SESSION_KEYRING]).exit_with_errno().install(path);
}

/// What a container does all day; each line of the result names what failed.
const WORK: &str = "
    out=/result; : >$out
    try() { what=$1; shift; \"$@\" >/own/said 2>&1 || echo \"$what: $(cat /own/said)\" >>$out; }
    try 'write /dev/null' sh -c 'echo x >/dev/null'
    try 'read /dev/zero' sh -c 'head -c 1 /dev/zero >/own/zero'
    try 'read /dev/urandom' sh -c 'head -c 1 /dev/urandom >/own/random'
    try 'write a tmpfs' sh -c 'echo x >/dev/shm/f && cat /dev/shm/f'
    try 'read the root' cat /etc/passwd
    try 'write the root' sh -c 'echo x >/tmp/f'
    try 'list a masked directory' ls /directory
    try 'read a masked file' cat /file
    try 'list message queues' ls /dev/mqueue
    try 'use the session keyring' keys
    echo done >>$out
    exec sleep 100000";

fn works(case: &mut Case) {
    labelled(case);
    install_key_program(&case.rootfs().join("bin/keys"));
    label_tree(&case.rootfs(), FILES);
    case.script(WORK);
}

fn result(case: &Case) -> String {
    let path = case.rootfs().join("result");
    common::wait_until("the work is done", || fs::read_to_string(&path).is_ok_and(|text| text.ends_with("done\n")));
    fs::read_to_string(path).unwrap()
}

/// The runtime as an engine's confined domain may execute it.
struct Installed(PathBuf);

impl Installed {
    fn new(name: &str) -> Installed {
        let path = Path::new("/usr/bin").join(format!("tandem-{name}-{}", std::process::id()));
        common::program::copy(common::binary(), &path);
        set_label(&path, "system_u:object_r:container_engine_exec_t:s0");
        Installed(path)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// From the domains that the policy has for engines, which is where a host's containers are started from.
#[test]
fn a_container_does_its_work_where_the_policy_is_enforced() {
    let mut case = case!("selinux-enforced");
    needs_selinux!();
    tandem_only!("TANDEM_MOUNT_STRATEGY");
    works(&mut case);
    // The policy lets an engine label a tmpfs, and no ramfs.
    case.alter(|c| c["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/ram"));
    let runtime = Installed::new("enforced");
    label_tree(&case.path(""), "system_u:object_r:container_file_t:s0");
    label_tree(&case.rootfs(), FILES);
    for (strategy, domain) in STRATEGIES.into_iter().flat_map(|way| DOMAINS.map(|domain| (way, domain))) {
        // In place of the case's own binary, and not in the directory of the tests, which has no label.
        let engine = format!(
            "shift; export TANDEM_MOUNT_STRATEGY={strategy}; exec runcon system_u:system_r:{domain}:s0 {} \"$@\"",
            runtime.0.display()
        );
        let wrapper = ["sh", "-c", &engine, "sh"];
        let enforced = Enforced::set();
        case.create_behind(&wrapper, &[]).ok();
        case.call_behind(&wrapper, &["start", &case.id]).ok();
        assert_eq!(result(&case), "done\n", "{strategy}, {domain}");
        assert_eq!(process_label(case.pid()), PROCESS);
        drop(enforced);
        case.stop();
        case.delete();
        fs::remove_file(case.rootfs().join("result")).unwrap();
    }
}

#[test]
fn a_confined_runtime_knows_that_there_is_selinux() {
    needs_selinux!();
    if !rustix::process::geteuid().is_root() {
        skip!("needs root");
    }
    tandem_only!("doctor");
    let (runtime, _enforced) = (Installed::new("confined"), Enforced::set());
    for domain in DOMAINS {
        let label = format!("system_u:system_r:{domain}:s0");
        let out = Command::new("runcon").arg(&label).arg(&runtime.0).arg("doctor").output().expect("runcon");
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        let known = |line: &str| line.contains("SELinux: enabled");
        assert!(said.lines().any(known), "{domain}: {said}");
    }
}

#[test]
fn what_the_policy_refuses_is_said_with_the_label_and_a_remedy() {
    let mut case = case!("selinux-refused");
    needs_selinux!();
    tandem_only!("the words");
    works(&mut case);
    let unknown = "system_u:system_r:nonesuch_t:s0";
    let good = case.config.clone();
    {
        let _mode = permissive();
        case.alter(|c| c["process"]["selinuxLabel"] = json!(unknown));
        case.create_with(&[]).refused_with(&["SELinux", unknown, "Invalid argument", "seinfo"]);
        case.alter(|c| *c = good.clone());
        case.alter(|c| c["linux"]["mountLabel"] = json!("system_u:object_r:nonesuch_t:s0"));
        case.create_with(&[]).refused_with(&["SELinux", "nonesuch_t", "Invalid argument", "seinfo"]);
        case.alter(|c| *c = good.clone());
        case.alter(|c| c["process"]["selinuxLabel"] = json!("junk"));
        case.create_with(&[]).refused_with(&["`process.selinuxLabel`", "junk", "USER:ROLE:TYPE"]);
    }
    case.alter(|c| *c = good.clone());
    // Its own root file system is nothing that a container may execute.
    label_tree(&case.rootfs(), "system_u:object_r:shadow_t:s0");
    let _enforced = Enforced::set();
    case.run().refused_with(&["execve", PROCESS, "ausearch"]);
}
