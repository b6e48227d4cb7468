//! The page of `trace show --html`, in a real browser, and the trace through podman.

#[macro_use]
mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::bundle::mount;
use common::look;

/// What a browser makes of a page.
fn dom(page: &str, profile: &str) -> Option<String> {
    let browser = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()))?;
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--dump-dom"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args([format!("--user-data-dir={profile}"), format!("file://{page}")])
        .output()
        .expect("the browser");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_browser_shows_the_page_and_runs_no_name_of_a_container() {
    tandem_only!("a trace");
    let mut case = case!("tracepage");
    case.args(&["true"]);
    case.alter(|c| mount(c, "/<img src=x onerror=document.title=1><script>document.title=2<", "tmpfs", "tmpfs", &[]));
    let (file, page) = (case.text("trace"), case.text("page.html"));
    case.globals = vec!["--trace".into(), file.clone()];
    case.run().ok();
    case.globals.clear();
    case.call(&["trace", "show", "--html", &page, &file]).ok();
    let Some(dom) = dom(&page, &case.text("profile")) else { skip!("no chromium: the page is not looked at") };
    assert!(dom.contains("<title>Trace of run"), "a name of the container has run: {dom}");
    assert!(!dom.contains("<img"), "a name became an element");
    assert!(dom.contains("<rect") && dom.contains("class=\"ladder\""), "no timeline, or no ladder");
    // The script has run: it shows the search.
    let search = dom.split("id=\"search\"").nth(1).and_then(|rest| rest.split('>').next()).expect("the search");
    assert!(!search.contains("hidden"), "{search}");
}

/// Removes a cgroup and those below it, if no process is in one.
fn removed(cgroup: &Path) -> bool {
    let entries = fs::read_dir(cgroup).into_iter().flatten().flatten();
    for below in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let _ = fs::remove_dir(below.path());
    }
    fs::remove_dir(cgroup).is_ok() || !cgroup.exists()
}

#[test]
fn podmans_flag_traces_a_create_and_its_start() {
    tandem_only!("a trace");
    if !Command::new("podman").arg("--version").output().is_ok_and(|output| output.status.success()) {
        skip!("no podman");
    }
    let case = case!("tracepodman");
    let (file, store) = (case.text("trace"), case.text("store"));
    // One of the test's own: podman's usual one stays when its last container is gone.
    let parent = format!("/{}-parent", case.id);
    let runtime = common::binary();
    let runtime = runtime.to_str().expect("UTF-8");
    let output = Command::new("podman")
        .args(["--root", &store, "--runroot", &case.text("run"), "--storage-driver", "vfs", "--runtime", runtime])
        .args(["--cgroup-manager", "cgroupfs", "--runtime-flag", &format!("trace={file}")])
        .args([
            "run",
            "--rm",
            "--cgroup-parent",
            &parent,
            "--network",
            "none",
            "--security-opt",
            "seccomp=unconfined",
            "--ulimit",
            "nofile=512:512",
            "--ulimit",
            "nproc=512:512",
            "--rootfs",
        ])
        .args([&case.text("bundle/rootfs"), "/bin/true"])
        .output()
        .expect("podman");
    // Its monitor ends a moment after it.
    common::wait_until("podman's cgroups are removed", || {
        look::hierarchies().iter().all(|(_, point)| removed(&point.join(&parent[1..])))
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&file).expect("the trace");
    let lines =
        text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap_or_else(|e| panic!("{e}: {l}")));
    let commands: Vec<String> = lines.filter_map(|l| l["command"].as_str().map(str::to_owned)).collect();
    // Some versions leave the flag out of `delete`.
    assert_eq!(commands[..2], ["create", "start"], "{commands:?}");
    case.call(&["trace", "show", &file]).ok();
}
