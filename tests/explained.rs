//! A mount that the kernel refuses: the line says where, what was asked for, and the kernel's own words; and where a
//! mount of somebody else's is in the way, which.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::bundle::{mount, user_namespace};
use common::case::Case;
use common::seccomp::without;
use rustix::io::Errno;
use serde_json::json;

/// Whether this kernel answers a bad option of a tmpfs with words of its own: by fsconfig, and into the context's log.
fn kernel_speaks() -> bool {
    use rustix::mount::{FsOpenFlags, fsconfig_set_string, fsopen};
    let Ok(context) = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC) else { return false };
    fsconfig_set_string(&context, "size", "abc").is_err()
        && rustix::io::read(&context, &mut [0_u8; 200]).is_ok_and(|n| n > 2)
}

#[test]
fn a_bad_option_of_a_tmpfs_is_shown_with_the_kernels_words() {
    tandem_only!("the words of its errors");
    let mut case = case!("badsize");
    case.alter(|c| mount(c, "/small", "tmpfs", "mine", &["nosuid", "mode=0700", "size=abc"]));
    for user in [false, true] {
        if user {
            case.alter(|c| user_namespace(c, 100_000));
            fs::create_dir_all(case.rootfs().join("small")).unwrap();
        }
        let outcome = case.create_with(&[]);
        outcome.refused_with(&["`/small`", "tmpfs", "size=abc", "mode=0700", "Invalid argument"]);
        if kernel_speaks() {
            outcome.refused_with(&["Bad value for 'size'"]);
        }
        case.nothing_left("a bad option");
        // mount(2) has no words; the options are all the more needed.
        let outcome = without(&["fsopen"], Errno::NOSYS, || case.create_with(&[]));
        outcome.refused_with(&["`/small`", "tmpfs", "size=abc", "mode=0700", "Invalid argument"]);
        case.nothing_left("a bad option");
    }
}

#[test]
fn an_option_that_a_file_system_does_not_know_is_shown() {
    tandem_only!("the words of its errors");
    let mut case = case!("badoption");
    case.alter(|c| mount(c, "/small", "tmpfs", "mine", &["nosuid", "sizes=4k"]));
    let outcome = case.create_with(&[]);
    outcome.refused_with(&["`/small`", "tmpfs", "sizes=4k", "Invalid argument"]);
    if kernel_speaks() {
        outcome.refused_with(&["Unknown parameter 'sizes'"]);
    }
    case.nothing_left("an unknown option");
}

#[test]
fn an_unknown_file_system_is_named() {
    tandem_only!("the words of its errors");
    let mut case = case!("nofs");
    case.alter(|c| mount(c, "/strange", "nosuchfs", "none", &["answer=42"]));
    for lacking in [&["listmount"][..], &["fsopen"]] {
        let outcome = without(lacking, Errno::NOSYS, || case.create_with(&[]));
        outcome.refused_with(&["`/strange`", "`nosuchfs`", "No such device"]);
        case.nothing_left("an unknown file system");
    }
}

#[test]
fn an_overlay_without_its_lower_directory_is_explained() {
    tandem_only!("the words of its errors");
    let mut case = case!("nolower");
    if !fs::read_to_string("/proc/filesystems").unwrap().contains("overlay") {
        skip!("the kernel has no overlay file system");
    }
    fs::create_dir_all(case.path("upper")).unwrap();
    fs::create_dir_all(case.path("work")).unwrap();
    let lower = case.text("missing");
    let options = [
        format!("lowerdir={lower}"),
        format!("upperdir={}", case.text("upper")),
        format!("workdir={}", case.text("work")),
    ];
    case.alter(|c| mount(c, "/over", "overlay", "overlay", &options.each_ref().map(String::as_str)));
    for lacking in [&["listmount"][..], &["fsopen"]] {
        let outcome = without(lacking, Errno::NOSYS, || case.create_with(&[]));
        outcome.refused_with(&["`/over`", "overlay", &options[0], &options[1], "No such file or directory"]);
        case.nothing_left("a missing layer");
    }
}

#[test]
fn a_source_that_is_not_there_is_named() {
    tandem_only!("the words of its errors");
    let mut case = case!("nosource");
    let source = case.text("missing/source");
    case.alter(|c| mount(c, "/data", "bind", &source, &["rbind", "ro"]));
    for user in [false, true] {
        if user {
            case.alter(|c| user_namespace(c, 100_000));
        }
        case.create_with(&[]).refused_with(&["`/data`", &source, "No such file or directory"]);
        case.nothing_left("a missing source");
    }
}

/// Below a file nothing can be mounted; the image is to blame, and not the host.
#[test]
fn a_destination_that_can_not_be_is_named() {
    tandem_only!("the words of its errors");
    let mut case = case!("nodest");
    case.alter(|c| mount(c, "/etc/passwd/below", "tmpfs", "tmpfs", &["size=4k"]));
    case.create_with(&[]).refused_with(&["/etc/passwd", "Not a directory"]);
    case.nothing_left("a destination below a file");
}

/// Where the user of the runtime is no root of the host's, the bundle and the state directory must be that user's.
fn of_an_ordinary_user(case: &mut Case, uid: u32) {
    fs::set_permissions(case.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(case.root()).unwrap();
    for name in ["bundle", "bundle/rootfs", "root"] {
        std::os::unix::fs::chown(case.path(name), Some(uid), Some(uid)).unwrap();
    }
    let status = std::process::Command::new("chown")
        .args(["-hR", &format!("{uid}:{uid}")])
        .args([case.path("bundle"), case.path("root")])
        .status();
    assert!(status.unwrap().success());
    case.alter(|c| {
        common::bundle::namespace(c, "user", None);
        let map = json!([{"containerID": 0, "hostID": uid, "size": 1}]);
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map;
        c["linux"].as_object_mut().unwrap().remove("cgroupsPath");
        c["linux"].as_object_mut().unwrap().remove("resources");
        for mount in c["mounts"].as_array_mut().unwrap() {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|o| o != "gid=5");
            }
        }
    });
}

const UID: u32 = 54_321;

/// Runs a create as an ordinary user; its pid file is where that user may write.
fn create_as_user(case: &Case) -> common::outcome::Outcome {
    let id = UID.to_string();
    let wrapper = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
    let pid_file = case.text("root/pid");
    let args = ["create", "--bundle", &case.text("bundle"), "--pid-file", &pid_file, &case.id];
    let args: Vec<&str> = args.to_vec();
    case.call_behind(&wrapper, &args)
}

fn user_namespaces_for_all() -> bool {
    let allowed = std::process::Command::new("setpriv")
        .args(["--reuid", "54321", "--regid", "54321", "--clear-groups", "unshare", "-Ur", "true"])
        .status();
    allowed.is_ok_and(|s| s.success())
}

/// The control of the next test: what is refused there works here.
#[test]
fn an_ordinary_user_starts_a_container() {
    let mut case = case!("ordinary");
    if !user_namespaces_for_all() {
        skip!("no user namespaces for ordinary users");
    }
    of_an_ordinary_user(&mut case, UID);
    create_as_user(&case).ok();
    let pid: u32 = common::look::value(case.path("root/pid")).parse().unwrap();
    case.adopt(pid);
    let table = common::look::mounts(pid);
    assert_eq!(common::look::mount_at(&table, "/proc").kind, "proc");
    assert_eq!(common::look::mount_at(&table, "/sys").kind, "sysfs");
    case.delete_by_force();
    fs::remove_file(case.path("root/pid")).unwrap();
}

/// A user namespace gets no proc that shows more than the ones it sees: mount_too_revealing() in the kernel, whose EPERM
/// tells nobody that a mount somewhere below the host's /proc is what is in the way.
#[test]
fn a_proc_that_is_refused_names_the_mount_in_the_way() {
    let test = "a_proc_that_is_refused_names_the_mount_in_the_way";
    if !common::isolated(test, "mount -t tmpfs -o ro cover /proc/tty") {
        return;
    }
    tandem_only!("the words of its errors");
    let mut case = case!("revealing");
    if !user_namespaces_for_all() {
        skip!("no user namespaces for ordinary users");
    }
    of_an_ordinary_user(&mut case, UID);
    for lacking in [&["listmount"][..], &["fsopen"]] {
        let outcome = without(lacking, Errno::NOSYS, || create_as_user(&case));
        outcome.refused_with(&["`/proc`", "Operation not permitted", "/proc/tty"]);
        let _ = fs::remove_file(case.path("root/pid"));
        case.nothing_left("a refused proc");
    }
}

/// The same for sysfs.
#[test]
fn a_sysfs_that_is_refused_names_the_mount_in_the_way() {
    let test = "a_sysfs_that_is_refused_names_the_mount_in_the_way";
    if !common::isolated(test, "mount -t tmpfs -o ro cover /sys/class") {
        return;
    }
    tandem_only!("the words of its errors");
    let mut case = case!("revealingsys");
    if !user_namespaces_for_all() {
        skip!("no user namespaces for ordinary users");
    }
    of_an_ordinary_user(&mut case, UID);
    let outcome = create_as_user(&case);
    if outcome.status.success() {
        // The host's own tree in its place is no worse than what the user sees anyway.
        let pid: u32 = common::look::value(case.path("root/pid")).parse().unwrap();
        case.adopt(pid);
        assert!(common::look::mount_at(&common::look::mounts(pid), "/sys").has("ro"));
        assert_eq!(
            fs::read_dir(common::look::inside(pid, "/sys/class")).unwrap().count(),
            0,
            "what is covered stays so"
        );
        case.delete_by_force();
    } else {
        outcome.refused_with(&["`/sys`", "Operation not permitted", "/sys/class"]);
    }
    let _ = fs::remove_file(case.path("root/pid"));
}
