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

/// Read-only file systems and binds in which mount points are missing, one in another and behind a symlink, a working
/// directory too; in the end all of them are read-only.
#[test]
fn a_mount_point_is_made_in_what_is_to_be_read_only() {
    tandem_only!("TANDEM_MOUNT_STRATEGY");
    for (n, way) in WAYS.into_iter().cycle().take(WAYS.len() * 2).enumerate() {
        let user = n >= WAYS.len();
        let why = format!("by `{way}`, user namespace: {user}");
        let mut case = case!("belowro");
        let source = volume(&case);
        std::os::unix::fs::chown(&source, Some(100_000), Some(100_000)).unwrap();
        fs::write(case.path("file"), "content").unwrap();
        let file = case.text("file");
        symlink("/outer/led", case.rootfs().join("link")).unwrap();
        case.alter(|c| {
            mount(c, "/outer", "tmpfs", "tmpfs", &["ro", "nosuid"]);
            mount(c, "/outer/a/inner", "tmpfs", "tmpfs", &["rro"]);
            mount(c, "/outer/a/inner/b/file", "bind", &file, &["bind", "ro"]);
            mount(c, "/link/c", "ramfs", "ramfs", &["ro"]);
            mount(c, "/data", "bind", &source, &["rbind", "ro"]);
            mount(c, "/data/new", "tmpfs", "tmpfs", &[]);
            c["root"]["readonly"] = true.into();
            c["process"]["cwd"] = "/outer/work".into();
            c["linux"]["devices"] =
                serde_json::json!([{"path": "/outer/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]);
            if user {
                c["linux"]["devices"] = serde_json::json!([]);
                common::bundle::user_namespace(c, 100_000);
            }
        });
        if user {
            for place in ["outer", "data"] {
                fs::create_dir(case.rootfs().join(place)).unwrap();
            }
            std::os::unix::fs::chown(case.rootfs(), Some(100_000), Some(100_000)).unwrap();
        }
        let pid = created(&case, way);
        for place in ["/outer", "/outer/a/inner", "/outer/a/inner/b/file", "/outer/led/c", "/data"] {
            assert!(at(pid, place).has("ro"), "{why}: {place}: {:?}", at(pid, place));
            assert!(look::inside(pid, place).exists(), "{why}: {place}");
        }
        assert!(at(pid, "/outer").has("nosuid") && !at(pid, "/data/new").has("ro"), "{why}");
        assert!(look::inside(pid, "/outer/work").is_dir(), "{why}");
        assert!(case.path("source/new").is_dir(), "made in the source, {why}");
        case.start();
        case.wait_payload(pid);
        for place in ["/outer/x", "/outer/a/inner/x", "/data/x", "/link/x"] {
            assert_ne!(case.exec(&["touch", place]).code(), 0, "{why}: {place}");
        }
        case.exec(&["touch", "/data/new/x"]).ok();
        if !user {
            case.exec(&["sh", "-c", "echo > /outer/null"]).ok();
        }
    }
}

/// What the host has read-only is not the container's to open.
#[test]
fn no_mount_point_is_made_in_what_the_host_has_read_only() {
    tandem_only!("TANDEM_MOUNT_STRATEGY");
    for way in WAYS {
        let mut case = case!("hostro");
        let source = volume(&case);
        case.alter(|c| {
            mount(c, "/data", "bind", &source, &["rbind", "ro"]);
            mount(c, "/data/new", "tmpfs", "tmpfs", &[]);
        });
        let script = format!("mount --bind {source} {source}; mount -o remount,bind,ro {source}; exec \"$@\"");
        let alone = ["unshare", "-m", "env", &format!("TANDEM_MOUNT_STRATEGY={way}"), "sh", "-c", &script, "sh"];
        case.create_behind(&alone, &[]).refused_with(&["/data/new", "Read-only file system"]);
        assert!(!case.path("source/new").exists(), "by `{way}`");
        case.nothing_left("a refused create");
    }
}

/// Only a mount point that the configuration names is made in a volume of the host's that the container gets read-only: neither
/// the image's symlinks nor its working directory, nor a device, make anything there.
#[test]
fn an_image_makes_nothing_in_a_read_only_volume() {
    tandem_only!("TANDEM_MOUNT_STRATEGY");
    for (way, what) in WAYS.into_iter().flat_map(|way| ["cwd", "link", "device", "over"].map(|what| (way, what))) {
        let mut case = case!("imagero");
        let source = volume(&case);
        let file = case.text("file");
        fs::write(&file, "content").unwrap();
        symlink("/data/led", case.rootfs().join("link")).unwrap();
        case.alter(|c| {
            if what == "over" {
                mount(c, "/data", "tmpfs", "tmpfs", &["ro"]);
            }
            mount(c, "/data", "bind", &source, &["rbind", "ro"]);
            match what {
                "link" => mount(c, "/link", "bind", &file, &["bind"]),
                "device" => {
                    c["linux"]["devices"] =
                        serde_json::json!([{"path": "/data/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]);
                }
                _ => c["process"]["cwd"] = "/data/work/deep".into(),
            }
        });
        let strategy = format!("TANDEM_MOUNT_STRATEGY={way}");
        case.create_behind(&["env", &strategy], &[]).refused();
        assert_eq!(fs::read_dir(case.path("source")).unwrap().count(), 0, "by `{way}`: {what}");
        case.nothing_left("a refused create");
    }
}
