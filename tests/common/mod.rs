//! What the integration tests stand on: bundles to run, a wrapper around the binary, and eyes outside the container.
//!
//! A test owns a [`case::Case`]: an ID, a bundle, a state root and a temporary directory that nobody else uses, so
//! tests may run side by side. Dropping it deletes the container by force and then *checks* that no process, cgroup,
//! mount or state entry of it remains: each test is a test of cleaning up, too.
//!
//! Environment:
//!
//! * `TANDEM_BIN`: the runtime to test instead of the one Cargo built (a peer, or a release build).
//! * `TANDEM_TEST_MOMENTS`: how many moments `crash` tries, 60 by itself.
//! * `TANDEM_SKIPS`: a file to which each skip is appended, so that a runner can count them.
#![allow(dead_code)] // Every test binary compiles this module and uses its own part of it.

#[allow(unused_macros)]
macro_rules! skip {
    ($($reason:tt)*) => {{
        $crate::common::skipped(&format!($($reason)*));
        return;
    }};
}

/// A case of its own for the calling test; skips (counted) where containers can't be made at all.
#[allow(unused_macros)]
macro_rules! case {
    ($name:literal) => {{
        if !rustix::process::geteuid().is_root() {
            skip!("needs root");
        }
        $crate::common::case::Case::new($name)
    }};
}

/// For what no peer has: lets the suite be developed and checked against another runtime.
#[allow(unused_macros)]
macro_rules! tandem_only {
    ($what:literal) => {{
        if !$crate::common::is_tandem() {
            skip!("{} is not asked of a peer", $what);
        }
    }};
}

pub(crate) mod bundle;
pub(crate) mod case;
pub(crate) mod console;
pub(crate) mod holder;
pub(crate) mod left;
pub(crate) mod limits;
pub(crate) mod look;
pub(crate) mod machine;
pub(crate) mod outcome;
pub(crate) mod program;
pub(crate) mod rich;
pub(crate) mod seccomp;
pub(crate) mod supervise;

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Bounds every wait. It is a liveness bound and no measurement: nothing that works comes near it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    match std::env::var_os("TANDEM_BIN").filter(|b| !b.is_empty()) {
        // A bare name is looked up in PATH by exec; a path must survive a change of directory.
        Some(b) if b.to_string_lossy().contains('/') => std::fs::canonicalize(b).expect("TANDEM_BIN"),
        Some(b) => b.into(),
        None => env!("CARGO_BIN_EXE_tandem").into(),
    }
}

/// Whether it is ours, or a peer that the suite is checked against.
pub(crate) fn is_tandem() -> bool {
    binary().file_name().is_some_and(|n| n.to_string_lossy().starts_with("tandem"))
}

/// Says what part of the calling test proves nothing here; the rest of it runs.
pub(crate) fn skipped_in_part(reason: &str) {
    skipped(&format!("{reason} (the rest of the test ran)"));
}

/// Says that the calling test proves nothing here, and why. Past libtest's capture, so that it is never silent.
pub(crate) fn skipped(reason: &str) {
    let test = std::env::var(ISOLATED)
        .unwrap_or_else(|_| std::thread::current().name().unwrap_or("a test of no name").to_owned());
    // One line each: they are counted.
    let line = format!("SKIP {test}: {}\n", reason.lines().next().unwrap_or_default());
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(file) = std::env::var_os("TANDEM_SKIPS").filter(|f| !f.is_empty()) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file).expect("TANDEM_SKIPS");
        file.write_all(line.as_bytes()).expect("TANDEM_SKIPS");
    }
}

/// Polls until `done` is true; panics, naming `what`, when that can't be expected any more.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

const ISOLATED: &str = "TANDEM_TEST_ISOLATED";

/// The cgroup layouts that one machine with hybrid or pure v2 hierarchies can show.
pub(crate) const V1_ONLY: &str = "umount /sys/fs/cgroup/unified";
pub(crate) const V2_ONLY: &str = "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup";

/// [`isolated`], on cgroup v2 alone.
pub(crate) fn on_v2(test: &str) -> bool {
    isolated(test, if look::v1("pids").is_some() { V2_ONLY } else { "" })
}

/// True inside a mount namespace of the calling test's own, made ready by the shell command `setup`. Outside it,
/// runs the test again in there, asserts that it passed, and is false: the test has then nothing left to do.
pub(crate) fn isolated(test: &str, setup: &str) -> bool {
    if std::env::var(ISOLATED).is_ok_and(|t| t == test) {
        return true;
    }
    let script = format!("{} && exec \"$@\"", if setup.is_empty() { "true" } else { setup });
    let out = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"])
        .arg(std::env::current_exe().expect("own executable"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ISOLATED, test)
        .output()
        .expect("unshare (util-linux)");
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    for line in text.lines().filter(|l| l.starts_with("SKIP ")) {
        let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
    }
    assert!(out.status.success(), "in a mount namespace of its own after `{setup}`:\n{text}");
    assert!(text.contains("1 passed"), "no test of the name `{test}` ran:\n{text}");
    false
}
