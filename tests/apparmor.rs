//! AppArmor profiles, from outside: what /proc says that a process is confined by, and that the confinement holds.

#[macro_use]
mod common;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use common::case::Case;
use serde_json::json;

/// Where the VMs have it: off the PATH, for podman would confine its containers where it finds one.
const PARSERS: [&str; 3] =
    ["/usr/lib/tandem-tests/apparmor_parser", "/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"];

/// A profile that is in the kernel as long as the test runs.
struct Profile {
    parser: &'static str,
    text: String,
}

impl Profile {
    /// Allows all but to read `/denied`.
    fn load(parser: &'static str, name: &str) -> Profile {
        let rules = "file, capability, mount, umount, pivot_root, network, signal, ptrace, unix, dbus,";
        let text = format!("profile {name} flags=(attach_disconnected) {{ {rules} deny /denied rw, }}\n");
        let profile = Profile { parser, text };
        assert!(profile.tell("--replace"), "the parser takes the profile");
        profile
    }

    fn tell(&self, what: &str) -> bool {
        let mut child = Command::new(self.parser)
            .args([what, "--skip-cache", "--quiet"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("apparmor_parser");
        child.stdin.take().unwrap().write_all(self.text.as_bytes()).unwrap();
        child.wait().unwrap().success()
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.tell("--remove");
    }
}

fn is_enabled() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

fn confined_by(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/attr/apparmor/current")).unwrap().trim().to_owned()
}

/// What loads a profile; skips the test where none can be in force.
macro_rules! parser {
    () => {{
        if !is_enabled() {
            skip!("AppArmor is not enabled in this kernel");
        }
        let Some(parser) = PARSERS.into_iter().find(|path| fs::exists(path).unwrap_or(false)) else {
            skip!("no apparmor_parser on this machine");
        };
        parser
    }};
}

fn with_profile(case: &mut Case, name: &str) {
    case.alter(|c| {
        c["process"]["apparmorProfile"] = json!(name);
        c["process"]["args"] = json!(["sleep", "100000"]);
    });
}

#[test]
fn a_profile_confines_the_first_process_and_those_of_exec() {
    let mut case = case!("apparmor");
    let parser = parser!();
    let name = format!("tandem-test-{}", std::process::id());
    let other = format!("{name}-other");
    let (_one, _two) = (Profile::load(parser, &name), Profile::load(parser, &other));
    fs::write(case.rootfs().join("denied"), "secret").unwrap();
    with_profile(&mut case, &name);
    let init = case.running();
    assert_eq!(confined_by(init), format!("{name} (enforce)"));
    let refused = case.exec(&["cat", "/denied"]);
    assert!(refused.out().is_empty() && refused.err().contains("Permission denied"), "{}", refused.all());
    let own = case.exec(&["cat", "/proc/self/attr/apparmor/current"]).ok();
    assert_eq!(own.out().trim(), format!("{name} (enforce)"), "of exec without an option");
    let args = ["exec", "--apparmor", &other, &case.id, "cat", "/proc/self/attr/apparmor/current"];
    assert_eq!(case.call(&args).ok().out().trim(), format!("{other} (enforce)"), "of exec --apparmor");
}

#[test]
fn a_process_file_without_a_profile_takes_the_containers() {
    let mut case = case!("apparmor-file");
    let parser = parser!();
    let name = format!("tandem-test-file-{}", std::process::id());
    let _profile = Profile::load(parser, &name);
    let show = ["cat", "/proc/self/attr/apparmor/current"];
    let process = json!({"args": show, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
    fs::write(case.path("process.json"), process.to_string()).unwrap();
    case.running();
    let own = case.call(&["exec", "--apparmor", &name, &case.id, show[0], show[1]]).ok();
    assert_eq!(own.out().trim(), format!("{name} (enforce)"), "where the container has none");
    case.stop();
    case.delete();
    with_profile(&mut case, &name);
    case.running();
    let by_file = case.call(&["exec", "--process", &case.text("process.json"), &case.id]).ok();
    assert_eq!(by_file.out().trim(), format!("{name} (enforce)"));
}

#[test]
fn a_profile_that_is_not_loaded_is_an_error_that_names_it() {
    let mut case = case!("apparmor-none");
    tandem_only!("the words");
    with_profile(&mut case, "tandem-test-of-nobody");
    let refused = case.create_with(&[]);
    match is_enabled() {
        true => refused.refused_with(&["tandem-test-of-nobody", "attr", "load it first"]),
        false => refused.refused_with(&["process.apparmorProfile", "AppArmor is not enabled"]),
    };
    case.nothing_left("a profile that is not there");
}

#[test]
fn unconfined_is_a_profile_of_every_host() {
    let mut case = case!("unconfined");
    with_profile(&mut case, "unconfined");
    let init = case.running();
    if is_enabled() {
        assert_eq!(confined_by(init), "unconfined");
    }
}
