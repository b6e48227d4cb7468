//! A call of the runtime: while it runs, and what came of it.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::common::{PATIENCE, look};

/// Collects dead children. Processes of a pid namespace that nobody reaps keep its init from dying, so this goes on
/// while a call of the runtime is awaited, as it does in an engine.
#[derive(Default)]
pub(crate) struct Reaper {
    /// Whom to wait for.
    pub(crate) pids: Mutex<Vec<u32>>,
    /// Each runtime process that was started, and the process group that it leads. Its `Child` collects it.
    pub(crate) groups: Mutex<Vec<u32>>,
    /// Collect every orphan, for a test that is alone in its process: on other threads they are others' children.
    pub(crate) orphans: AtomicBool,
    pub(crate) off: AtomicBool,
}

impl Reaper {
    pub(crate) fn reap(&self) {
        if self.off.load(Ordering::Relaxed) {
            return;
        }
        if self.orphans.load(Ordering::Relaxed) {
            self.adopt_orphans();
        }
        let reaped = |pid: &u32| {
            let pid = Pid::from_raw(*pid as i32).expect("pid");
            !matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None))
        };
        self.pids.lock().expect("pids").retain(|pid| !reaped(pid));
    }

    /// Takes in what was forked by a runtime that died first.
    pub(crate) fn adopt_orphans(&self) {
        let own = std::process::id();
        let groups = self.groups.lock().expect("groups").clone();
        let all = self.orphans.load(Ordering::Relaxed);
        let orphans = look::processes().into_iter().filter(|p| {
            p.parent == own && p.state == 'Z' && !groups.contains(&p.pid) && (all || groups.contains(&p.group))
        });
        self.pids.lock().expect("pids").extend(orphans.map(|p| p.pid));
    }
}

/// A call that is not over yet.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) out: PathBuf,
    pub(crate) err: PathBuf,
    pub(crate) command: String,
    pub(crate) dead: Arc<Reaper>,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_raw(self.child.id() as i32).expect("pid"), signal);
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.out).expect("out")).into_owned()
    }

    pub(crate) fn wait(mut self) -> Outcome {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            if begin.elapsed() > PATIENCE {
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!("hangs: {}\n{}", self.command, String::from_utf8_lossy(&fs::read(&self.err).expect("err")));
            }
            self.dead.reap();
            std::thread::sleep(Duration::from_millis(1));
        };
        Outcome { status, out: self.out, err: self.err, command: self.command }
    }
}

/// A call that is over. Output is read when asked for: a payload may still be adding to it.
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) out: PathBuf,
    pub(crate) err: PathBuf,
    pub(crate) command: String,
}

impl Outcome {
    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.out).expect("out")).into_owned()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.err).expect("err")).into_owned()
    }

    /// Everything, for a failure's message.
    pub(crate) fn all(&self) -> String {
        format!("{}\n{}\nstdout: {}\nstderr: {}", self.command, self.status, self.out(), self.err())
    }

    /// It succeeded.
    pub(crate) fn ok(self) -> Outcome {
        assert!(self.status.success(), "{}", self.all());
        self
    }

    /// The exit code, which must not be a death by signal.
    pub(crate) fn code(&self) -> i32 {
        assert!(self.status.signal().is_none(), "{}", self.all());
        self.status.code().expect("code")
    }

    /// It failed as a command should: an exit code, and one line on stderr, which is returned.
    pub(crate) fn refused(&self) -> String {
        assert_ne!(self.code(), 0, "{}", self.all());
        let err = self.err();
        let lines: Vec<&str> = err.lines().collect();
        assert_eq!(lines.len(), 1, "one line on stderr: {}", self.all());
        assert!(!lines[0].trim().is_empty(), "{}", self.all());
        assert!(!err.contains("panicked"), "{}", self.all());
        lines[0].to_owned()
    }

    /// It failed, and the line holds each of `parts`.
    pub(crate) fn refused_with(&self, parts: &[&str]) {
        let line = self.refused();
        for part in parts {
            assert!(line.contains(part), "no `{part}` in: {line}");
        }
    }
}
