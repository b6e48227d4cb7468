//! What is shown of the host is what was asked for: the same directory, the same peer group, the option as it was
//! written. And the host's own mounts stay as they were.
//!
//! Each test has a mount namespace of its own; what is "the host's" is that namespace's.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;

use common::bundle::{mount, user_namespace};
use common::case::Case;
use common::look;
use common::seccomp::without;
use common::supervise::watched;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::json;

/// The new mount calls; without them mount(2) is what is left.
const NEW_CALLS: [&str; 7] = ["open_tree", "fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "mount_setattr"];

fn tmpfs_on(path: &std::path::Path) {
    fs::create_dir_all(path).unwrap();
    rustix::mount::mount("x", path, "tmpfs", MountFlags::empty(), None).unwrap();
}

fn unmount_below(case: &Case, name: &str) {
    for m in look::mounts("self").iter().rev().filter(|m| m.point.starts_with(&case.text(name))) {
        rustix::mount::unmount(m.point.as_str(), UnmountFlags::DETACH).unwrap();
    }
}

/// snapd and others keep a mount namespace by a bind of its file below /run. A tree with such a file in it can't be
/// attached to another namespace (ELOOP); a peer dropped that error and mounted the container's own root in its place.
#[test]
fn a_bind_of_the_hosts_root_is_the_hosts_root_beside_a_pinned_namespace() {
    let test = "a_bind_of_the_hosts_root_is_the_hosts_root_beside_a_pinned_namespace";
    // A mount namespace may be pinned only in one of a lower number, and each processor counts for itself.
    let pin = "mount -t tmpfs run /run && mount --make-private /run && mkdir /run/pin && touch /run/pin/mnt && \
               for cpu in $(seq 0 $(($(nproc) - 1))); do \
               taskset -c $cpu unshare --mount=/run/pin/mnt true 2>/dev/null && break; done && grep -q ' /run/pin/mnt .* nsfs ' /proc/self/mountinfo";
    if !common::isolated(test, pin) {
        return;
    }
    let mut case = case!("pinned");
    let hook = json!({"createRuntime": [{"path": "/bin/true"}]});
    let host = fs::metadata("/").unwrap();
    let container = fs::metadata(case.rootfs()).unwrap();
    let before = look::mounts("self");
    for (recursive, hooks, user) in [
        ("rbind", false, false),
        ("bind", false, false),
        ("rbind", true, false),
        ("rbind", false, true),
        ("bind", false, true),
    ] {
        let why = format!("{recursive}, hooks: {hooks}, user namespace: {user}");
        case.alter(|c| {
            c["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/host");
            mount(c, "/host", "bind", "/", &[recursive, "rprivate"]);
            c["hooks"] = if hooks { hook.clone() } else { json!({}) };
            if user {
                user_namespace(c, 100_000);
            }
        });
        fs::create_dir_all(case.rootfs().join("host")).unwrap();
        let outcome = case.create_with(&[]);
        if outcome.status.success() {
            let pid = case.pid();
            let shown = fs::metadata(look::inside(pid, "/host")).unwrap();
            assert_ne!((shown.dev(), shown.ino()), (container.dev(), container.ino()), "{why}: it is its own root");
            assert_eq!((shown.dev(), shown.ino()), (host.dev(), host.ino()), "{why}");
            let shows_run = look::inside(pid, "/host/run/pin").exists();
            assert_eq!(shows_run, recursive == "rbind", "{why}: what is mounted on the host's /run");
            case.delete_by_force();
        } else if user && recursive == "bind" {
            // One mount without those below it is nothing that the kernel lets a user namespace have.
            outcome.refused_with(&["/host", "use `rbind`"]);
            case.nothing_left(&why);
        } else {
            outcome.refused_with(&["/host", "/run/pin/mnt", "Too many levels of symbolic links"]);
            case.nothing_left(&why);
        }
        assert_eq!(look::mounts("self"), before, "the host's table after {why}");
    }
    rustix::mount::unmount("/run/pin/mnt", UnmountFlags::DETACH).unwrap();
}

/// A peer made the tree private without its submounts: the container's devpts appeared on the host's.
#[test]
fn a_devpts_of_the_containers_own_on_the_hosts_dev_stays_there() {
    let test = "a_devpts_of_the_containers_own_on_the_hosts_dev_stays_there";
    if !common::isolated(test, "mount --make-rshared /") {
        return;
    }
    let mut case = case!("hostdev");
    let before = look::mounts("self");
    let dev_of = |m: &look::Mount| m.dev.clone();
    let hosts = look::mount_at(&before, "/dev/pts");
    for propagation in ["rslave", "rprivate", "rshared"] {
        for (root, user) in [("rslave", false), ("rprivate", false), ("rslave", true)] {
            let why = format!("{propagation} below a root that is {root}, user namespace: {user}");
            case.config = common::bundle::config(&case.id);
            case.alter(|c| {
                c["linux"]["rootfsPropagation"] = json!(root);
                c["mounts"].as_array_mut().unwrap().retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
                mount(c, "/dev", "bind", "/dev", &["rbind", propagation]);
                let options = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
                if propagation != "rshared" {
                    mount(c, "/dev/pts", "devpts", "devpts", &options);
                }
                if user {
                    user_namespace(c, 100_000);
                }
            });
            let pid = case.running();
            let table = look::mounts(pid);
            let own = look::mount_at(&table, "/dev/pts");
            assert_eq!(own.kind, "devpts", "{why}");
            if propagation != "rshared" {
                assert_ne!(dev_of(&own), dev_of(&hosts), "{why}: an instance of its own");
            }
            assert_eq!(look::mounts("self"), before, "the host's table beside {why}");
            case.stop();
            case.delete();
            assert_eq!(look::mounts("self"), before, "the host's table after {why}");
        }
    }
}

/// A tree with a mount in it, and the container's own mounts on and below that.
#[test]
fn the_containers_mounts_on_a_slave_tree_are_not_the_hosts() {
    if !common::isolated("the_containers_mounts_on_a_slave_tree_are_not_the_hosts", "mount --make-rshared /") {
        return;
    }
    let mut case = case!("slavetree");
    tmpfs_on(&case.path("source/sub"));
    fs::create_dir_all(case.path("source/sub/deep")).unwrap();
    tmpfs_on(&case.path("source/sub/deep/er"));
    let source = case.text("source");
    fs::create_dir_all(case.rootfs().join("tree")).unwrap();
    let before = look::mounts("self");
    for kind in ["rslave", "rprivate", "slave", "private"] {
        for (root, hooks, user) in
            [("rslave", false, false), ("private", false, false), ("rslave", true, false), ("rslave", false, true)]
        {
            let why = format!("{kind} below a root that is {root}, hooks: {hooks}, user namespace: {user}");
            case.config = common::bundle::config(&case.id);
            case.alter(|c| {
                c["linux"]["rootfsPropagation"] = json!(root);
                mount(c, "/tree", "bind", &source, &["rbind", kind]);
                if kind.starts_with('r') {
                    mount(c, "/tree/sub", "tmpfs", "own", &["size=4k"]);
                    mount(c, "/tree/sub/inner", "tmpfs", "own", &["size=4k"]);
                }
                if hooks {
                    c["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}]});
                }
                if user {
                    user_namespace(c, 100_000);
                }
            });
            let pid = case.running();
            let top = look::mount_at(&look::mounts(pid), "/tree/sub");
            assert_eq!(top.source == "own", kind.starts_with('r'), "{why}: {top:?}");
            assert_eq!(look::mounts("self"), before, "the host's table beside {why}");
            case.stop();
            case.delete();
            assert_eq!(look::mounts("self"), before, "the host's table after {why}");
        }
    }
    unmount_below(&case, "source");
}

/// Each mount of the tree is in the peer group that its source is in, and what the host mounts later arrives.
#[test]
fn every_mount_of_a_tree_keeps_its_peer_group() {
    if !common::isolated("every_mount_of_a_tree_keeps_its_peer_group", "mount --make-rprivate /") {
        return;
    }
    let mut case = case!("peers");
    tmpfs_on(&case.path("source"));
    tmpfs_on(&case.path("source/sub"));
    for path in ["source", "source/sub"] {
        let shared = rustix::mount::MountPropagationFlags::SHARED;
        rustix::mount::mount_change(case.path(path), shared).unwrap();
    }
    let source = case.text("source");
    fs::create_dir_all(case.rootfs().join("tree")).unwrap();
    let host = look::mounts("self");
    let group = |path: &str| look::mount_at(&host, &case.text(path)).tag("shared").expect("shared");
    let groups = [group("source"), group("source/sub")];
    for (n, (kind, hooks, user)) in
        [("rshared", false, false), ("rslave", false, false), ("rshared", true, false), ("rslave", true, false)]
            .into_iter()
            .chain([("rslave", false, true)])
            .enumerate()
    {
        let why = format!("{kind}, hooks: {hooks}, user namespace: {user}");
        case.config = common::bundle::config(&case.id);
        case.alter(|c| {
            c["linux"]["rootfsPropagation"] = json!(kind);
            mount(c, "/tree", "bind", &source, &["rbind", kind]);
            if hooks {
                c["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}]});
            }
            if user {
                user_namespace(c, 100_000);
            }
        });
        let pid = case.running();
        let table = look::mounts(pid);
        let tag = if kind == "rshared" { "shared" } else { "master" };
        let got = ["/tree", "/tree/sub"].map(|p| look::mount_at(&table, p).tag(tag));
        assert_eq!(got, groups.map(Some), "{why}: {table:#?}");
        for (at, seen) in [("source", "/tree"), ("source/sub", "/tree/sub")] {
            let later = format!("later{n}");
            tmpfs_on(&case.path(&format!("{at}/{later}")));
            let arrived = look::mount_at(&look::mounts(pid), &format!("{seen}/{later}"));
            assert_eq!(arrived.kind, "tmpfs", "{why}");
        }
        case.stop();
        case.delete();
    }
    unmount_below(&case, "source");
}

const LABEL: &str = "system_u:object_r:container_file_t:s0:c17,c512";

/// A label has a comma in it. A peer passed it twice, and cut it there.
#[test]
fn a_label_reaches_the_kernel_whole_and_once() {
    tandem_only!("which calls it makes");
    let mut case = case!("label");
    let selinux = fs::read_to_string("/proc/self/attr/current").is_ok_and(|l| l.contains(":object_r:"));
    case.alter(|c| c["linux"]["mountLabel"] = json!(LABEL));
    if !selinux {
        // Never taken for applied where it can't be; as an option of a mount it is the kernel's to refuse.
        case.create_with(&[]).refused_with(&["SELinux"]);
        case.alter(|c| {
            c["linux"].as_object_mut().unwrap().remove("mountLabel");
            mount(c, "/labelled", "tmpfs", "tmpfs", &["nosuid", &format!("context={LABEL}"), "size=4k"]);
        });
    }
    for lacking in [&["listmount"][..], &NEW_CALLS] {
        let ((), calls) = watched(&["fsopen", "fsconfig", "mount"], || {
            without(lacking, Errno::NOSYS, || {
                let outcome = case.create_with(&[]);
                if outcome.status.success() {
                    case.delete_by_force();
                } else if !selinux {
                    outcome.refused_with(&["`tmpfs` on `/labelled`", "Invalid argument"]);
                }
            });
        });
        let keys: Vec<_> = calls.iter().filter(|c| c.name == "fsconfig" && !c.text.is_empty()).collect();
        for call in &keys {
            assert!(!call.text[0].starts_with("c512"), "cut at the comma: {}", call.show());
            assert!(call.text[0] != "context" || call.text[1] == LABEL, "{}", call.show());
        }
        let mut times = 0;
        for (n, _) in calls.iter().enumerate().filter(|(_, c)| c.name == "fsopen") {
            // The context that this opens is configured before the next one is.
            let until = calls[n + 1..].iter().position(|c| c.name == "fsopen").map_or(calls.len(), |m| n + 1 + m);
            let given = calls[n..until].iter().filter(|c| c.name == "fsconfig" && c.text[0] == "context").count();
            assert!(given <= 1, "twice: {:#?}", &calls[n..until]);
            times += given;
        }
        for call in calls.iter().filter(|c| c.name == "mount" && c.text[3].contains("context")) {
            times += 1;
            let quoted = format!("context=\"{LABEL}\"");
            assert!(call.text[3].contains(&quoted), "the kernel cuts data at commas: {}", call.show());
            assert_eq!(call.text[3].matches("context").count(), 1, "{}", call.show());
        }
        assert!(times >= 1, "it was passed at all: {calls:#?}");
    }
}

/// An overlay of two directories of the host: `what` is their names, the file in each is named after its first letter.
fn overlay_of(what: [&str; 2]) {
    let mut case = Case::new("overlay");
    // On a tmpfs of its own: the temporary directory may itself be something that can be no layer.
    tmpfs_on(&case.path("layers"));
    let layers = what.map(|name| {
        let path = case.path("layers").join(name);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(format!("of-{}", &name[..1])), "").unwrap();
        path.to_str().unwrap().to_owned()
    });
    let option = format!("lowerdir={}:{}", layers[0], layers[1]);
    fs::create_dir_all(case.rootfs().join("over")).unwrap();
    case.alter(|c| mount(c, "/over", "overlay", "overlay", &["ro", &option]));
    let mut refused = Vec::new();
    for lacking in [&["listmount"][..], &NEW_CALLS] {
        without(lacking, Errno::NOSYS, || {
            let outcome = case.create_with(&[]);
            if outcome.status.success() {
                for name in what {
                    let file = format!("/over/of-{}", &name[..1]);
                    assert!(look::inside(case.pid(), &file).exists(), "{file} of {option}");
                }
                case.delete_by_force();
            } else {
                refused.push(outcome.refused());
            }
        });
    }
    unmount_below(&case, "layers");
    for line in &refused {
        // A kernel that can't take it (an old one, by fsconfig) is an answer if the line shows it; half of it is none.
        assert!(what[0].contains(','), "{line}");
        for part in ["`overlay` on `/over`", what[0]] {
            assert!(line.contains(part), "no `{part}` in: {line}");
        }
    }
}

macro_rules! needs_overlay {
    () => {
        let has = || fs::read_to_string("/proc/filesystems").unwrap().contains("overlay");
        if !has() {
            let _ = std::process::Command::new("modprobe").arg("overlay").status();
        }
        if !has() {
            skip!("the kernel has no overlay file system");
        }
    };
}

#[test]
fn an_overlay_shows_the_hosts_layers() {
    if !common::isolated("an_overlay_shows_the_hosts_layers", "") {
        return;
    }
    needs_overlay!();
    overlay_of(["one", "two"]);
}

#[test]
fn an_overlay_with_a_comma_in_its_options_shows_its_layers() {
    if !common::isolated("an_overlay_with_a_comma_in_its_options_shows_its_layers", "") {
        return;
    }
    needs_overlay!();
    overlay_of(["a,b", "c"]);
}

/// fsconfig takes no string of 256 bytes.
#[test]
fn an_overlay_with_long_options_shows_its_layers() {
    if !common::isolated("an_overlay_with_long_options_shows_its_layers", "") {
        return;
    }
    needs_overlay!();
    overlay_of([&"d".repeat(150), &"e".repeat(150)]);
}

/// The source of a file system is a path of the host, too, and is looked up when it is made.
#[test]
fn a_file_system_on_a_device_of_the_host_is_that_devices() {
    if !common::isolated("a_file_system_on_a_device_of_the_host_is_that_devices", "") {
        return;
    }
    let mut case = case!("blockdev");
    let (image, dir) = (case.text("image"), case.text("content"));
    let script = format!(
        "mkdir {dir} && echo of the device >{dir}/file && truncate -s 4M {image} && \
         mkfs.ext4 -q -d {dir} {image} && losetup --find --show {image}"
    );
    let shell = |script: &str| {
        let mut command = std::process::Command::new("sh");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").args(["-c", script]).output().unwrap()
    };
    let made = shell(&script);
    if !made.status.success() {
        skip!("no file system on a loop device: {}", String::from_utf8_lossy(&made.stderr).trim());
    }
    let device = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    case.alter(|c| mount(c, "/data", "ext4", &device, &["ro"]));
    let outcome = case.create_with(&[]);
    let shown = outcome.status.success().then(|| fs::read_to_string(look::inside(case.pid(), "/data/file")));
    let _ = case.call(&["delete", "--force", &case.id]);
    assert!(shell(&format!("losetup -d {device}")).status.success());
    outcome.ok();
    assert_eq!(shown.unwrap().unwrap(), "of the device\n");
}

/// Where something is mounted below the host's /proc, the kernel gives a user namespace no new one. A root runtime has
/// other rights than its container.
#[test]
fn a_user_namespace_gets_its_proc_though_the_hosts_is_partly_covered() {
    let test = "a_user_namespace_gets_its_proc_though_the_hosts_is_partly_covered";
    if !common::isolated(test, "mount -t tmpfs -o ro cover /proc/tty") {
        return;
    }
    let mut case = case!("coveredproc");
    case.alter(|c| user_namespace(c, 100_000));
    let before = look::mounts("self");
    for hooks in [false, true] {
        if hooks {
            case.alter(|c| c["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}]}));
        }
        let pid = case.running();
        assert_eq!(look::mount_at(&look::mounts(pid), "/proc").kind, "proc");
        let first = fs::read_to_string(look::inside(pid, "/proc/1/cmdline")).unwrap();
        assert_eq!(first, "sleep\u{0}100000\u{0}", "/proc/1 is the container's init");
        assert_eq!(case.exec(&["cat", "/proc/sys/kernel/hostname"]).ok().out().trim(), "contained");
        let sys = look::mount_at(&look::mounts(pid), "/sys");
        assert_eq!(sys.kind, "sysfs");
        case.stop();
        case.delete();
        assert_eq!(look::mounts("self"), before, "the host's table");
    }
}

/// A read-only id-mapped bind in a writable one, ten times: nothing of it stays on the host.
#[test]
fn nested_id_mapped_binds_leave_the_hosts_table_as_it_was() {
    if !common::isolated("nested_id_mapped_binds_leave_the_hosts_table_as_it_was", "mount --make-rshared /") {
        return;
    }
    if !look::maps_ids_of_a_tmpfs() {
        skip!("no id-mapped tmpfs before Linux 6.3");
    }
    let mut case = case!("idmapped");
    tmpfs_on(&case.path("source"));
    fs::create_dir_all(case.path("source/inner")).unwrap();
    let source = case.text("source");
    let map = json!([{"containerID": 0, "hostID": 5000, "size": 1000}]);
    case.alter(|c| {
        for (destination, from, option) in
            [("/outer", source.clone(), "rw"), ("/outer/inner", format!("{source}/inner"), "ro")]
        {
            c["mounts"].as_array_mut().unwrap().push(json!({
                "destination": destination, "type": "bind", "source": from, "options": ["bind", option],
                "uidMappings": map.clone(), "gidMappings": map.clone()
            }));
        }
    });
    let before = look::mounts("self");
    for _ in 0..10 {
        let table = look::mounts(case.create());
        let [outer, inner] = ["/outer", "/outer/inner"].map(|p| look::mount_at(&table, p));
        assert!(inner.has("ro") && !outer.has("ro"), "{table:#?}");
        let owner = fs::metadata(look::inside(case.pid(), "/outer")).unwrap().uid();
        assert_eq!(owner, 5000);
        case.delete_by_force();
        assert_eq!(look::mounts("self"), before, "the host's table");
    }
    unmount_below(&case, "source");
}
