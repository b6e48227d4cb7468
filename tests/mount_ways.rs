//! Options, propagation and places that a mount made by the new API and one made by mount(2) must agree on.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::symlink;

use common::bundle::mount;
use common::case::Case;
use common::look;
use common::outcome::Outcome;

/// The best way that there is, and the two below it.
const WAYS: [&str; 3] = ["", "pivot", "mount"];

fn create(case: &Case, way: &str) -> Outcome {
    case.create_behind(&["env", &format!("TANDEM_MOUNT_STRATEGY={way}")], &[])
}

/// Creates the container that way.
fn created(case: &Case, way: &str) -> u32 {
    create(case, way).ok();
    case.pid()
}

/// An empty directory of the host.
fn volume(case: &Case) -> String {
    fs::create_dir(case.path("source")).unwrap();
    case.text("source")
}

/// The last mount at a place, as the container sees it.
fn at(pid: u32, place: &str) -> look::Mount {
    look::mounts(pid).into_iter().rfind(|m| m.point == place).unwrap_or_else(|| panic!("no mount on {place}"))
}

#[test]
fn a_recursive_option_holds_beside_a_plain_one() {
    tandem_only!("TANDEM_MOUNT_STRATEGY");
    for (options, holds) in [
        (["rw", "rro"], "ro"),
        (["rro", "rw"], "ro"),
        (["ro", "rrw"], "rw"),
        (["exec", "rnoexec"], "noexec"),
        (["rnosuid", "suid"], "nosuid"),
        (["relatime", "rnoatime"], "noatime"),
    ] {
        for way in WAYS {
            let mut case = case!("recursive");
            let source = volume(&case);
            case.alter(|c| mount(c, "/m", "bind", &source, &["rbind", options[0], options[1]]));
            let pid = created(&case, way);
            let seen = at(pid, "/m").options;
            assert!(seen.iter().any(|option| option == holds), "{options:?} by `{way}`: {seen:?}");
        }
    }
}

#[test]
fn below_a_shared_mount_a_mount_has_the_propagation_that_is_asked_for() {
    tandem_only!("TANDEM_MOUNT_STRATEGY");
    for way in WAYS {
        let mut case = case!("belowshared");
        let source = volume(&case);
        case.alter(|c| {
            mount(c, "/t", "tmpfs", "tmpfs", &["rshared"]);
            mount(c, "/t/none", "bind", &source, &["bind"]);
            mount(c, "/t/private", "bind", &source, &["bind", "rprivate"]);
            mount(c, "/t/fs", "tmpfs", "tmpfs", &["rprivate"]);
            mount(c, "/t/shared", "tmpfs", "tmpfs", &["shared"]);
        });
        let pid = created(&case, way);
        for (place, shared) in
            [("/t", true), ("/t/none", false), ("/t/private", false), ("/t/fs", false), ("/t/shared", true)]
        {
            let tags = at(pid, place).tags;
            assert_eq!(tags.iter().any(|tag| tag.starts_with("shared")), shared, "{place} by `{way}`: {tags:?}");
        }
    }
}

#[test]
fn a_symlink_of_the_host_gets_its_own_options_and_no_other_mount_does() {
    tandem_only!("TANDEM_MOUNT_STRATEGY");
    for way in WAYS {
        let mut case = case!("ownoptions");
        let (source, link) = (volume(&case), case.text("link"));
        symlink("/data", &link).unwrap();
        case.alter(|c| {
            mount(c, "/data", "bind", &source, &["bind"]);
            mount(c, "/l", "bind", &link, &["bind", "src-nofollow", "ro", "noexec"]);
        });
        let pid = created(&case, way);
        let (of_link, of_data) = (at(pid, "/l").options, at(pid, "/data").options);
        let has = |options: &[String], option| options.iter().any(|o| o == option);
        assert!(has(&of_link, "ro") && has(&of_link, "noexec"), "by `{way}`: {of_link:?}");
        assert!(has(&of_data, "rw") && !has(&of_data, "noexec"), "by `{way}`: {of_data:?}");
    }
}

/// An image may not decide that a volume covers the root, or what the runtime and the payload take for the kernel's.
#[test]
fn an_image_leads_no_mount_to_the_root_or_to_proc_sys_and_dev() {
    tandem_only!("the words");
    for (link, to) in
        [("/", "/"), (".", "/"), ("bin/../../..", "/"), ("/proc", "/proc"), ("dev", "/dev"), ("/sys", "/sys")]
    {
        for way in WAYS {
            let mut case = case!("ledto");
            let source = volume(&case);
            symlink(link, case.rootfs().join("l")).unwrap();
            case.alter(|c| mount(c, "/l", "bind", &source, &["bind"]));
            create(&case, way).refused_with(&["on `/l`", &format!("leads to `{to}`")]);
            case.nothing_left("a mount that is led astray");
            assert_eq!(fs::read_dir(&source).unwrap().count(), 0, "nothing is made in the volume");
        }
    }
}

#[test]
fn a_symlink_in_place_of_proc_is_no_place_for_a_bind_either() {
    tandem_only!("the words");
    for way in WAYS {
        let mut case = case!("bindproc");
        let _ = fs::remove_dir(case.rootfs().join("proc"));
        symlink("/tmp", case.rootfs().join("proc")).unwrap();
        case.alter(|c| {
            c["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/proc");
            mount(c, "/proc", "bind", "/proc", &["rbind"]);
        });
        create(&case, way).refused_with(&["`/proc` is a symlink"]);
        case.nothing_left("a bind on a symlink");
    }
}

#[test]
fn a_read_only_dev_by_a_recursive_option_is_filled_first() {
    tandem_only!("TANDEM_MOUNT_STRATEGY");
    for way in WAYS {
        let mut case = case!("rrodev");
        case.alter(|c| {
            for mount in c["mounts"].as_array_mut().unwrap().iter_mut().filter(|m| m["destination"] == "/dev") {
                mount["options"] = serde_json::json!(["nosuid", "rro"]);
            }
        });
        let pid = created(&case, way);
        assert!(at(pid, "/dev").options.iter().any(|o| o == "ro"), "by `{way}`");
        assert!(fs::exists(format!("/proc/{pid}/root/dev/null")).unwrap());
    }
}

#[test]
fn silent_is_taken_in_every_way() {
    tandem_only!("TANDEM_MOUNT_STRATEGY");
    for way in WAYS {
        let mut case = case!("silent");
        case.alter(|c| mount(c, "/m", "tmpfs", "tmpfs", &["silent", "iversion"]));
        assert_eq!(at(created(&case, way), "/m").kind, "tmpfs", "by `{way}`");
    }
}
