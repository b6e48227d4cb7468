//! Mounts, masked and read-only paths: as mountinfo and st_rdev show them from outside.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use common::bundle::mount;
use common::look;
use rustix::fs::makedev;
use serde_json::json;

#[test]
fn a_bind_shows_the_hosts_directory() {
    let mut case = case!("bind");
    fs::create_dir(case.path("source")).unwrap();
    fs::write(case.path("source/file"), "of the host").unwrap();
    let source = case.text("source");
    case.alter(|c| {
        mount(c, "/rw", "bind", &source, &["bind"]);
        mount(c, "/ro", "bind", &source, &["bind", "ro", "nosuid", "nodev", "noexec"]);
        mount(c, "/by-type", "none", &source, &["rbind", "ro"]);
    });
    let pid = case.running();
    let host = fs::metadata(case.path("source")).unwrap();
    let table = look::mounts(pid);
    for point in ["/rw", "/ro", "/by-type"] {
        let there = fs::metadata(look::inside(pid, point)).unwrap();
        assert_eq!((there.dev(), there.ino()), (host.dev(), host.ino()), "{point}");
        assert_eq!(look::mount_at(&table, point).has("ro"), point != "/rw", "{point}");
    }
    // What the host's own mount has (Debian 13's /tmp is nosuid,nodev), the bind has too.
    let hosts = look::mount_of(&look::mounts("self"), &case.path("source"));
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(look::mount_at(&table, "/ro").has(option), "{option}");
        assert_eq!(look::mount_at(&table, "/rw").has(option), hosts.has(option), "{option} on the other");
    }
    assert_ne!(case.exec(&["touch", "/ro/new"]).code(), 0);
    case.exec(&["touch", "/rw/new"]).ok();
    assert!(case.path("source/new").exists());
}

#[test]
fn a_file_is_bound_on_a_file_that_is_made_for_it() {
    let mut case = case!("bindfile");
    fs::write(case.path("hosts"), "127.0.0.1 me\n").unwrap();
    let source = case.text("hosts");
    case.alter(|c| {
        mount(c, "/etc/hosts", "bind", &source, &["bind", "ro"]);
        mount(c, "/new/dir/hosts", "bind", &source, &["rbind"]);
    });
    let pid = case.running();
    for point in ["/etc/hosts", "/new/dir/hosts"] {
        assert_eq!(fs::read_to_string(look::inside(pid, point)).unwrap(), "127.0.0.1 me\n", "{point}");
        assert_eq!(fs::metadata(look::inside(pid, point)).unwrap().ino(), fs::metadata(&source).unwrap().ino());
        let below = fs::symlink_metadata(case.rootfs().join(&point[1..])).unwrap();
        assert!(below.is_file() && below.len() == 0, "an empty file is below {point}");
    }
}

#[test]
fn a_tmpfs_has_its_options_and_mode() {
    let mut case = case!("tmpfs");
    fs::create_dir(case.rootfs().join("small")).unwrap();
    fs::set_permissions(case.rootfs().join("small"), fs::Permissions::from_mode(0o700)).unwrap();
    case.alter(|c| {
        let options = ["nosuid", "nodev", "noexec", "mode=1777", "size=64k", "nr_inodes=100"];
        mount(c, "/small", "tmpfs", "mine", &options);
        mount(c, "/owned", "tmpfs", "tmpfs", &["mode=0750", "uid=7", "gid=8", "ro"]);
    });
    let pid = case.running();
    let table = look::mounts(pid);
    let small = look::mount_at(&table, "/small");
    assert_eq!((small.kind.as_str(), small.source.as_str()), ("tmpfs", "mine"));
    for option in ["nosuid", "nodev", "noexec"] {
        assert!(small.has(option), "{option}: {small:?}");
    }
    for option in ["size=64k", "nr_inodes=100"] {
        assert!(small.super_options.iter().any(|o| o == option), "{option}: {small:?}");
    }
    if common::is_tandem() {
        // The mode of the directory below is no reason to change the one that is asked for.
        assert_eq!(fs::metadata(look::inside(pid, "/small")).unwrap().mode() & 0o7777, 0o1777);
    }
    let owned = fs::metadata(look::inside(pid, "/owned")).unwrap();
    assert_eq!((owned.mode() & 0o7777, owned.uid(), owned.gid()), (0o750, 7, 8));
    assert!(look::mount_at(&table, "/owned").has("ro"));
}

#[test]
fn the_default_mounts_are_what_the_configuration_says() {
    let case = case!("defaults");
    let pid = case.running();
    let table = look::mounts(pid);
    for (point, kind) in
        [("/proc", "proc"), ("/dev", "tmpfs"), ("/dev/pts", "devpts"), ("/dev/mqueue", "mqueue"), ("/sys", "sysfs")]
    {
        assert_eq!(look::mount_at(&table, point).kind, kind, "{point}");
    }
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(look::mount_at(&table, "/sys").has(option), "{option}");
    }
    assert_eq!(fs::metadata(look::inside(pid, "/proc")).unwrap().mode() & 0o7777, 0o555);
    assert_eq!(fs::metadata(look::inside(pid, "/dev/shm")).unwrap().mode() & 0o7777, 0o1777);
    assert!(look::inside(pid, "/proc/1").exists());
    let shows_own = fs::read_to_string(look::inside(pid, "/proc/1/cmdline")).unwrap();
    assert_eq!(shows_own, "sleep\u{0}100000\u{0}", "proc is of the container's pid namespace");
    // Nothing of the host's table is left behind the new root.
    assert!(
        table.iter().all(|m| m.point == "/"
            || m.point.starts_with("/proc")
            || m.point.starts_with("/dev")
            || m.point == "/sys"),
        "{table:#?}"
    );
}

#[test]
fn the_root_is_read_only_if_asked() {
    let mut case = case!("readonly");
    case.alter(|c| c["root"]["readonly"] = json!(true));
    let pid = case.running();
    assert!(look::mount_at(&look::mounts(pid), "/").has("ro"));
    assert_ne!(case.exec(&["touch", "/new"]).code(), 0);
    case.exec(&["touch", "/dev/shm/new"]).ok();
    assert!(!look::mount_at(&look::mounts("self"), "/").has("ro"), "the host's own");
    assert!(fs::write(case.rootfs().join("new"), "").is_ok(), "the file system itself stays writable");
}

#[test]
fn masked_paths_are_empty_and_read_only_paths_read_only() {
    let mut case = case!("masked");
    fs::create_dir_all(case.rootfs().join("secret/dir")).unwrap();
    fs::write(case.rootfs().join("secret/dir/file"), "secret").unwrap();
    fs::write(case.rootfs().join("etc/secret"), "secret").unwrap();
    fs::create_dir(case.rootfs().join("fixed")).unwrap();
    case.alter(|c| {
        c["linux"]["maskedPaths"] =
            json!(["/secret/dir", "/etc/secret", "/proc/cpuinfo", "/proc/sysvipc", "/no/such/path"]);
        c["linux"]["readonlyPaths"] = json!(["/fixed", "/proc/sys", "/proc/fs", "/no/such/path"]);
    });
    let pid = case.running();
    let table = look::mounts(pid);
    assert_eq!(fs::read_dir(look::inside(pid, "/secret/dir")).unwrap().count(), 0);
    assert!(look::mount_at(&table, "/secret/dir").has("ro"));
    for path in ["/etc/secret", "/proc/cpuinfo"] {
        let masked = fs::metadata(look::inside(pid, path)).unwrap();
        assert!(masked.file_type().is_char_device(), "{path}");
        assert_eq!(masked.rdev(), makedev(1, 3), "{path}");
    }
    for path in ["/fixed", "/proc/sys", "/proc/fs"] {
        assert!(look::mount_at(&table, path).has("ro"), "{path}");
    }
    assert!(!look::mount_at(&table, "/proc").has("ro"));
    assert_ne!(case.exec(&["touch", "/fixed/new"]).code(), 0);
    assert_eq!(case.exec(&["cat", "/etc/secret"]).ok().out(), "");
}

#[test]
fn links_in_the_destination_are_followed_inside_the_root() {
    let mut case = case!("symlink");
    let root = case.rootfs();
    fs::create_dir(case.path("source")).unwrap();
    fs::write(case.path("source/file"), "").unwrap();
    // Absolute, to a directory that the host has, too; dangling; out of the root by dots.
    fs::create_dir(case.path("hostdir")).unwrap();
    symlink(case.path("hostdir"), root.join("absolute")).unwrap();
    symlink("/run", root.join("var/run")).unwrap();
    symlink("/no/such/yet", root.join("dangling")).unwrap();
    symlink("../../../../../../../..", root.join("up")).unwrap();
    let source = case.text("source");
    let inside_twin = case.text("hostdir/x");
    case.alter(|c| {
        mount(c, "/absolute/x", "bind", &source, &["bind"]);
        mount(c, "/var/run/x", "bind", &source, &["bind"]);
        mount(c, "/dangling/x", "bind", &source, &["bind"]);
        mount(c, "/up/tmp/x", "bind", &source, &["bind"]);
    });
    let pid = case.running();
    for point in [inside_twin.as_str(), "/run/x", "/no/such/yet/x", "/tmp/x"] {
        assert!(look::inside(pid, &format!("{point}/file")).exists(), "{point}");
        look::mount_at(&look::mounts(pid), point);
    }
    assert_eq!(fs::read_dir(case.path("hostdir")).unwrap().count(), 0, "something was made on the host");
}

#[test]
fn a_proc_that_is_a_link_is_refused() {
    let case = case!("proclink");
    fs::create_dir(case.rootfs().join("elsewhere")).unwrap();
    fs::remove_dir(case.rootfs().join("proc")).unwrap();
    symlink("/elsewhere", case.rootfs().join("proc")).unwrap();
    case.create_with(&[]).refused_with(&["/proc"]);
    case.nothing_left("a refused create");
}

#[test]
fn a_relative_source_is_below_the_bundle() {
    let mut case = case!("relative");
    fs::create_dir(case.bundle().join("data")).unwrap();
    fs::write(case.bundle().join("data/file"), "of the bundle").unwrap();
    case.alter(|c| mount(c, "/data", "bind", "data", &["bind"]));
    let mut command = case.command();
    command.args(case.create_args()).arg(&case.id).current_dir("/");
    case.launch(command).wait().ok();
    case.adopt(case.pid());
    case.start();
    case.wait_payload(case.pid());
    assert_eq!(fs::read_to_string(look::inside(case.pid(), "/data/file")).unwrap(), "of the bundle");
}

#[test]
fn later_mounts_cover_earlier_ones_in_the_configured_order() {
    let mut case = case!("order");
    for name in ["a", "b"] {
        fs::create_dir(case.path(name)).unwrap();
        fs::write(case.path(name).join(name), "").unwrap();
    }
    let (a, b) = (case.text("a"), case.text("b"));
    case.alter(|c| {
        mount(c, "/mnt", "bind", &a, &["bind"]);
        mount(c, "/mnt", "bind", &b, &["bind"]);
        mount(c, "/mnt/inner", "tmpfs", "tmpfs", &["size=4k"]);
    });
    let pid = case.running();
    assert!(look::inside(pid, "/mnt/b").exists() && !look::inside(pid, "/mnt/a").exists());
    assert!(case.path("b/inner").is_dir(), "made below the mount that is seen");
    assert_eq!(look::mount_at(&look::mounts(pid), "/mnt/inner").kind, "tmpfs");
}

#[test]
fn many_binds_all_arrive() {
    let mut case = case!("many");
    for n in 0..300 {
        fs::create_dir_all(case.path(&format!("src/{n}"))).unwrap();
    }
    let source = case.text("src");
    case.alter(|c| {
        for n in 0..300 {
            // More than one message holds, at 253 descriptors each.
            mount(
                c,
                &format!("/m/{n}"),
                "bind",
                &format!("{source}/{n}"),
                &["bind", if n % 2 == 0 { "ro" } else { "rw" }],
            );
        }
    });
    let pid = case.running();
    let table = look::mounts(pid);
    for n in 0..300 {
        let m = look::mount_at(&table, &format!("/m/{n}"));
        assert!(m.root.ends_with(&format!("/src/{n}")), "{m:?}");
        assert_eq!(m.has("ro"), n % 2 == 0, "{m:?}");
    }
}
