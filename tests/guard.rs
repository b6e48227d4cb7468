//! The tests' own guard: it must see what it is there to see, or every "nothing left behind" is worth nothing.

#[macro_use]
mod common;

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use common::{look, wait_until};
use rustix::mount::{MountFlags, UnmountFlags};

#[test]
fn nothing_is_seen_where_nothing_is() {
    let case = case!("guard0");
    assert!(case.left().is_nothing(), "{:#?}", case.left());
}

#[test]
fn a_process_is_seen_by_each_of_its_marks() {
    let case = case!("guardproc");
    let sleep = |command: &mut Command| command.stdin(Stdio::null()).spawn().unwrap();
    let other = case.id.chars().rev().collect::<String>();
    let mut marked = vec![
        ("environment", sleep(Command::new("sleep").arg("100000").env("X", &case.id))),
        ("command line", sleep(Command::new("sleep").arg0(&case.id).arg("100000"))),
        ("path", sleep(Command::new("sleep").arg("100000").current_dir(case.rootfs()))),
        ("nothing", sleep(Command::new("sleep").arg("100000").env("X", &other))),
    ];
    for (why, child) in &mut marked {
        let pid = child.id();
        wait_until("it runs", || look::strings(pid, "cmdline").iter().any(|a| a.contains("100000")));
        let seen = case.left().processes.into_iter().find(|(p, _)| *p == pid);
        match *why {
            "nothing" => assert!(seen.is_none(), "{seen:?}"),
            why => assert!(seen.as_ref().is_some_and(|(_, w)| w.contains(why)), "{why}: {seen:?}"),
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_cgroup_is_seen() {
    let case = case!("guardcg");
    for (_, point) in look::hierarchies() {
        let cgroup = point.join(&case.id);
        fs::create_dir_all(cgroup.join("below")).unwrap();
        let seen = case.left().cgroups;
        assert_eq!(seen, [cgroup.join("below"), cgroup.clone()]);
        fs::remove_dir(cgroup.join("below")).unwrap();
        fs::remove_dir(cgroup).unwrap();
    }
}

#[test]
fn a_mount_and_a_state_directory_are_seen() {
    let case = case!("guardmnt");
    rustix::mount::mount("x", case.rootfs().join("tmp"), "tmpfs", MountFlags::empty(), None).unwrap();
    fs::create_dir_all(case.root().join("state")).unwrap();
    assert_eq!(case.left().count(), [0, 0, 1, 1]);
    rustix::mount::unmount(case.rootfs().join("tmp"), UnmountFlags::empty()).unwrap();
    fs::remove_dir(case.root().join("state")).unwrap();
    assert!(case.left().is_nothing());
}

#[test]
fn a_running_container_is_seen_by_all_but_mounts() {
    let case = case!("guardrun");
    case.running();
    let [processes, cgroups, mounts, states] = case.left().count();
    assert_eq!((processes, mounts, states), (1, 0, 1));
    assert_eq!(cgroups, look::hierarchies().len());
}
