//! One test's container: its bundle, its state root, the runtime to call on it, and the check that all of it goes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_child_subreaper};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::left::{Left, Marks};
use crate::common::outcome::{Outcome, Reaper, Running};
use crate::common::{binary, bundle, look, wait_until};

pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) config: Value,
    /// Global options, before the command.
    pub(crate) globals: Vec<String>,
    dir: Option<TempDir>,
    counter: AtomicU32,
    dead: Arc<Reaper>,
}

impl Case {
    /// `name` is in the container's ID, to tell in a process list whose it is.
    pub(crate) fn new(name: &str) -> Case {
        static SUBREAPER: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // A detached container's init must become our child when the runtime exits: somewhere above us there may be
        // a PID 1 that reaps late, and a zombie would look like a process left behind.
        SUBREAPER.call_once(|| set_child_subreaper(Pid::from_raw(1)).expect("PR_SET_CHILD_SUBREAPER"));
        let id = format!("tt-{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::Builder::new().prefix("tt-").tempdir().expect("temporary directory");
        // A container's user that is mapped to some other host user must be able to pass.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).expect("chmod");
        let case = Case {
            config: bundle::config(&id),
            id,
            globals: Vec::new(),
            dir: Some(dir),
            counter: AtomicU32::new(0),
            dead: Arc::default(),
        };
        fs::create_dir_all(case.rootfs()).expect("rootfs");
        bundle::rootfs(&case.rootfs());
        case.write_config();
        case
    }

    /// A file in the test's own directory, outside the bundle.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.as_ref().expect("directory").path().join(name)
    }

    /// The same, as text for an argument.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.path("bundle")
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path("bundle/rootfs")
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// Changes config.json.
    pub(crate) fn alter(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.config);
        self.write_config();
    }

    pub(crate) fn args(&mut self, args: &[&str]) {
        self.alter(|c| c["process"]["args"] = json!(args));
    }

    /// Makes a shell script the payload.
    pub(crate) fn script(&mut self, script: &str) {
        self.args(&["sh", "-c", script]);
    }

    fn write_config(&self) {
        let text = serde_json::to_vec_pretty(&self.config).expect("config");
        fs::write(self.bundle().join("config.json"), text).expect("config.json");
    }

    /// The runtime behind a wrapper such as `sh -c 'exec 3<file; exec "$@"' sh`.
    pub(crate) fn command_behind(&self, wrapper: &[&str]) -> Command {
        let binary = binary();
        let mut all: Vec<&OsStr> = wrapper.iter().map(OsStr::new).collect();
        all.push(binary.as_os_str());
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).arg("--root").arg(self.root()).args(&self.globals);
        for name in ["TANDEM_TRACE", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
            command.env_remove(name);
        }
        command.env("TANDEM_TEST", &self.id).stdin(Stdio::null()).process_group(0);
        command
    }

    pub(crate) fn command(&self) -> Command {
        self.command_behind(&[])
    }

    /// Starts it with output to files: a pipe would stay open for as long as the payload has it.
    pub(crate) fn launch(&self, mut command: Command) -> Running {
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (self.path(&format!("out.{n}")), self.path(&format!("err.{n}")));
        command.stdout(File::create(&out).expect("out")).stderr(File::create(&err).expect("err"));
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        self.dead.groups.lock().expect("groups").push(child.id());
        Running { child, out, err, command: format!("{command:?}"), dead: Arc::clone(&self.dead) }
    }

    /// Runs the runtime with these arguments to its end.
    pub(crate) fn call(&self, args: &[&str]) -> Outcome {
        let mut command = self.command();
        command.args(args);
        self.launch(command).wait()
    }

    /// The same behind a wrapper.
    pub(crate) fn call_behind(&self, wrapper: &[&str], args: &[&str]) -> Outcome {
        let mut command = self.command_behind(wrapper);
        command.args(args);
        self.launch(command).wait()
    }

    /// `run --bundle B ID` in the foreground.
    pub(crate) fn run(&self) -> Outcome {
        self.call(&["run", "--bundle", &self.text("bundle"), &self.id])
    }

    /// The arguments of a create; a test may add to them.
    pub(crate) fn create_args(&self) -> Vec<String> {
        ["create", "--bundle", &self.text("bundle"), "--pid-file", &self.text("pid")].map(str::to_owned).to_vec()
    }

    pub(crate) fn create_with(&self, more: &[&str]) -> Outcome {
        self.create_behind(&[], more)
    }

    pub(crate) fn create_behind(&self, wrapper: &[&str], more: &[&str]) -> Outcome {
        let mut command = self.command_behind(wrapper);
        command.args(self.create_args()).args(more).arg(&self.id);
        let outcome = self.launch(command).wait();
        if outcome.status.success() {
            self.adopt(self.pid());
        }
        outcome
    }

    /// Creates the container and gives the pid of its init.
    pub(crate) fn create(&self) -> u32 {
        self.create_with(&[]).ok();
        self.pid()
    }

    pub(crate) fn start(&self) {
        self.call(&["start", &self.id]).ok();
    }

    /// Creates and starts it; returns when the payload's own program runs.
    pub(crate) fn running(&self) -> u32 {
        let pid = self.create();
        self.start();
        self.wait_payload(pid);
        pid
    }

    /// The pid in the pid file of `create`.
    pub(crate) fn pid(&self) -> u32 {
        look::value(self.path("pid")).parse().expect("pid file")
    }

    /// Makes a process ours to reap and the guard's to look for.
    pub(crate) fn adopt(&self, pid: u32) {
        self.dead.pids.lock().expect("pids").push(pid);
    }

    /// Leaves zombies where they are from now on.
    pub(crate) fn stop_reaping(&self) {
        self.dead.off.store(true, Ordering::Relaxed);
    }

    /// Until the process has executed busybox, with an environment: `start` may return before that.
    pub(crate) fn wait_payload(&self, pid: u32) {
        wait_until("the payload runs", || {
            // The executable changes a moment before the arguments are in place, and the environment comes last.
            fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|e| e.to_string_lossy().ends_with("/bin/busybox"))
                && !look::strings(pid, "environ").is_empty()
        });
    }

    pub(crate) fn state(&self) -> Value {
        let text = self.call(&["state", &self.id]).ok().out();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("state: {e}: {text}"))
    }

    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().expect("status").to_owned()
    }

    pub(crate) fn wait_status(&self, status: &str) {
        wait_until(&format!("the container is {status}"), || {
            self.reap();
            self.status() == status
        });
    }

    /// Kills it and waits until it is stopped.
    pub(crate) fn stop(&self) {
        self.call(&["kill", &self.id, "KILL"]).ok();
        self.wait_status("stopped");
    }

    pub(crate) fn delete(&self) {
        self.call(&["delete", &self.id]).ok();
    }

    /// Whatever its state.
    pub(crate) fn delete_by_force(&self) {
        self.call(&["delete", "--force", &self.id]).ok();
    }

    /// Runs a command in the container, by the runtime.
    pub(crate) fn exec(&self, args: &[&str]) -> Outcome {
        let mut all = vec!["exec", self.id.as_str()];
        all.extend(args);
        self.call(&all)
    }

    /// Collects our dead: known inits, and whatever was forked by a runtime that died first.
    pub(crate) fn reap(&self) {
        self.dead.adopt_orphans();
        self.dead.reap();
    }

    /// Collects every dead orphan from now on. Only for a test that is alone in its process.
    pub(crate) fn reap_all(&self) {
        self.dead.orphans.store(true, Ordering::Relaxed);
    }

    /// What is there of the container now.
    pub(crate) fn left(&self) -> Left {
        self.reap();
        let groups = self.dead.groups.lock().expect("groups").clone();
        let (dir, root) = (self.path(""), self.root());
        Left::behind(&Marks { id: &self.id, dir: &dir, root: &root, groups: &groups })
    }

    /// What is still there after those that are dying had time to die.
    pub(crate) fn left_in_the_end(&self) -> Left {
        let begin = Instant::now();
        loop {
            let left = self.left();
            if left.is_nothing() || begin.elapsed() > Duration::from_secs(10) {
                return left;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asserts that nothing is there, without the help of a `delete`.
    pub(crate) fn nothing_left(&self, after: &str) {
        let left = self.left_in_the_end();
        assert!(left.is_nothing(), "left behind after {after}: {left:#?}");
    }

    /// Takes away by force what a broken runtime left, so that the machine stays clean whatever failed.
    fn sweep(&self) {
        for _ in 0..50 {
            let left = self.left();
            for (pid, _) in &left.processes {
                let _ = kill_process(Pid::from_raw(*pid as i32).expect("pid"), Signal::KILL);
            }
            for cgroup in &left.cgroups {
                let _ = fs::write(cgroup.join("freezer.state"), "THAWED");
                let _ = fs::write(cgroup.join("cgroup.freeze"), "0");
                let _ = fs::remove_dir(cgroup);
            }
            for mount in &left.mounts {
                let _ = rustix::mount::unmount(mount.as_str(), rustix::mount::UnmountFlags::DETACH);
            }
            if left.processes.is_empty() && left.cgroups.is_empty() && left.mounts.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.command().args(["delete", "--force", &self.id]).stderr(Stdio::null()).status();
            self.sweep();
        } else {
            self.dead.off.store(false, Ordering::Relaxed);
            let outcome = self.call(&["delete", "--force", &self.id]);
            let said = outcome.all();
            let left = self.left_in_the_end();
            self.sweep();
            let dir = self.dir.take().expect("directory");
            remove(dir);
            assert!(outcome.status.success(), "{said}");
            assert!(left.is_nothing(), "left behind after delete --force: {left:#?}");
        }
        if let Some(dir) = self.dir.take() {
            remove(dir);
        }
    }
}

/// Removes the directory, unless something is mounted in it still: that might be the host's own files.
fn remove(dir: TempDir) {
    let inside = |m: &look::Mount| m.point.starts_with(dir.path().to_str().expect("UTF-8"));
    if look::mounts("self").iter().any(inside) {
        eprintln!("mounted still, and therefore kept: {}", dir.keep().display());
    }
}
