//! Runs hooks. runtime-spec, config.md, "POSIX-platform Hooks".

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::{Context, Error, Result};
use crate::plan::HookState;
use crate::plan::annotations::HookOutput;
use crate::plan::hooks::HookPlan;
use crate::protocol::event::About;
use crate::protocol::journal;

/// What a hook reads on standard input; runtime-spec, runtime.md, "State".
///
/// `pid` is the host's number of the container's process, 0 once it is gone.
pub(crate) fn state_json(state: &HookState, status: &str, pid: i32) -> String {
    let mut json = serde_json::json!({
        "ociVersion": state.oci_version,
        "id": state.id,
        "status": status,
        "bundle": state.bundle,
        "annotations": state.annotations,
    });
    if pid > 0 {
        json["pid"] = pid.into();
    }
    json.to_string()
}

/// The open files that hooks write to.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

impl Output {
    /// Opens them, made if missing, to be added to.
    ///
    /// # Errors
    /// The annotation and the path.
    pub(crate) fn open(plan: &HookOutput) -> Result<Output> {
        let open = |path: &Option<PathBuf>, name: &str| -> Result<Option<OwnedFd>> {
            let Some(path) = path else { return Ok(None) };
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY;
            let doing = || format!("annotation `run.oci.hooks.{name}`: open `{}`", path.display());
            // A fifo that nobody reads must not hold the command up.
            let file = rustix::fs::open(path, flags | OFlags::NONBLOCK, Mode::from_raw_mode(0o600)).context(doing)?;
            rustix::fs::fcntl_setfl(&file, OFlags::APPEND).context(doing)?;
            Ok(Some(file))
        };
        Ok(Output { stdout: open(&plan.stdout, "stdout")?, stderr: open(&plan.stderr, "stderr")? })
    }

    /// Those that are there, standard output first.
    pub(crate) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.stdout.iter().chain(&self.stderr).map(AsFd::as_fd).collect()
    }
}

/// Runs hooks of a kind in their order, in a working directory. The first that fails ends it.
///
/// # Errors
/// A hook that can't be run, exits non-zero, is killed, or takes longer than its timeout.
pub(crate) fn run(kind: &str, hooks: &[HookPlan], state: &str, cwd: Option<&Path>, output: &Output) -> Result<()> {
    hooks.iter().enumerate().try_for_each(|(i, hook)| {
        run_traced((kind, i), hook, state, cwd, output)
            .context(|| format!("hook {kind}[{i}] `{}`", hook.path.display()))
    })
}

/// Runs hooks of a kind that comes after the fact: each of them, whatever became of the others. Failures are told and
/// change nothing. They run in the bundle, as all of the host's do, while there is one.
pub(crate) fn run_all(kind: &str, hooks: &[HookPlan], state: &str, bundle: &Path, output: &HookOutput) {
    if hooks.is_empty() {
        return;
    }
    let cwd = Some(bundle).filter(|bundle| bundle.is_dir());
    let output = Output::open(output).unwrap_or_else(|e| {
        log::warn!("{e}");
        Output::default()
    });
    for (i, hook) in hooks.iter().enumerate() {
        if let Err(e) = run_traced((kind, i), hook, state, cwd, &output) {
            log::warn!("hook {kind}[{i}] `{}`: {e}", hook.path.display());
        }
    }
}

/// Runs one, which is an event of the trace. Its arguments and environment are not in it: they may hold secrets.
fn run_traced(
    (kind, i): (&str, usize),
    hook: &HookPlan,
    state: &str,
    cwd: Option<&Path>,
    output: &Output,
) -> Result<()> {
    let since = journal::now();
    let result = run_one((kind, i), hook, state, cwd, output);
    journal::ended("hook", since, &result, || {
        About::object(format!("{kind}[{i}] {}", hook.path.display())).with("it exited with 0")
    });
    result
}

fn run_one((kind, i): (&str, usize), hook: &HookPlan, state: &str, cwd: Option<&Path>, output: &Output) -> Result<()> {
    let mut command = Command::new(&hook.path);
    if let Some(cwd) = cwd {
        command.current_dir(cwd);
    }
    // Files, not pipes: a hook need not read its input nor anybody its output for either to go on.
    let (input, said) = (memory()?, memory()?);
    (&input).write_all(state.as_bytes()).and_then(|()| (&input).rewind()).context(|| "lay out the state")?;
    let stderr = match &output.stderr {
        Some(file) => file.try_clone().map(Stdio::from),
        None => said.try_clone().map(Stdio::from),
    };
    let stderr = stderr.context(|| "duplicate the file for standard error")?;
    let stdout = match &output.stdout {
        Some(file) => Stdio::from(file.try_clone().context(|| "duplicate the file for standard output")?),
        None => Stdio::null(),
    };
    command.stdin(Stdio::from(input)).stdout(stdout).stderr(stderr);
    command.args(hook.args.iter().skip(1));
    if let Some(name) = hook.args.first() {
        command.arg0(name);
    }
    if let Some(env) = &hook.env {
        command.env_clear().envs(env.iter().map(|entry| entry.split_once('=').unwrap_or((entry, ""))));
    }
    // A group of its own, so that what it has started ends with it.
    command.process_group(0);
    let child = command.spawn().context(|| "execute");
    let mut child = child.map_err(|e| match e.errno().and_then(|errno| unrun(kind, hook, errno)) {
        Some(advice) => e.advise(advice),
        None => e,
    })?;
    let status = match hook.timeout {
        None => child.wait().context(|| "wait for it")?,
        Some(seconds) => wait_at_most(&mut child, Duration::from_secs(seconds))?
            .ok_or_else(|| Error::system(format!("it took longer than its timeout of {seconds} s and was killed")))
            .map_err(|e| e.advise(format!("raise `hooks.{kind}[{i}].timeout`")))?,
    };
    if status.success() {
        return Ok(());
    }
    let said = first_line(said);
    let said = if said.is_empty() { said } else { format!(": {said}") };
    let error = Error::system(match (status.code(), status.signal()) {
        (Some(code), _) => format!("it exited with {code}{said}"),
        (None, signal) => format!("it was killed by signal {}{said}", signal.unwrap_or_default()),
    });
    Err(match output.stderr {
        Some(_) => error.advise("what it said is in the file of the annotation `run.oci.hooks.stderr`"),
        None => error.advise("the annotation `run.oci.hooks.stderr` names a file for all that it says"),
    })
}

/// What to do about a program that can't be executed.
fn unrun(kind: &str, hook: &HookPlan, errno: Errno) -> Option<&'static str> {
    let there = hook.path.exists();
    match errno {
        Errno::NOENT if there => Some("the file is there; its interpreter or loader is not"),
        Errno::NOENT if kind == "startContainer" => Some("it is looked for in the container's root file system"),
        Errno::NOENT => Some("it is looked for on the host, not in the container's root file system"),
        Errno::ACCESS if there => Some("make it executable, `chmod +x`; is its file system mounted noexec?"),
        Errno::NOEXEC => Some("it has no `#!` line, or is built for another architecture"),
        _ => None,
    }
}

/// None if it took longer, and is dead and reaped.
fn wait_at_most(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait().context(|| "wait for it")? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
                kill_process_group(group, Signal::KILL).context(|| "kill it after its timeout")?;
            }
            child.wait().context(|| "wait for it")?;
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The environment of this process, but for what is no text, which a plan can't hold.
pub(crate) fn own_environment() -> Vec<String> {
    let text = |(name, value): (OsString, OsString)| {
        Some(format!("{}={}", name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// A file in memory.
fn memory() -> Result<File> {
    rustix::fs::memfd_create("hook", rustix::fs::MemfdFlags::CLOEXEC).map(File::from).context(|| "memfd_create")
}

/// The first line a hook wrote to standard error.
fn first_line(mut said: File) -> String {
    let mut text = vec![];
    let read = said.rewind().and_then(|()| said.take(1024).read_to_end(&mut text));
    // What can't be read back is no reason to hide that the hook failed.
    if read.is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout: Option<u64>) -> HookPlan {
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        HookPlan { path: "/bin/sh".into(), args, env: Some(vec!["PATH=/usr/bin:/bin".into()]), timeout }
    }

    #[test]
    fn the_state_is_on_standard_input() {
        let state = HookState { id: "c1".into(), ..HookState::default() };
        let json = state_json(&state, "creating", 7);
        run("prestart", &[hook("grep -q '\"pid\":7'", None), hook("true", Some(5))], &json, None, &Output::default())
            .unwrap();
    }

    #[test]
    fn a_failure_says_which_hook_and_what_it_said() {
        let error = run(
            "poststop",
            &[hook("true", None), hook("echo no net >&2; exit 3", None)],
            "{}",
            None,
            &Output::default(),
        )
        .unwrap_err();
        assert_eq!(error.message(), "hook poststop[1] `/bin/sh`: it exited with 3: no net");
    }

    #[test]
    fn a_hook_that_hangs_is_killed() {
        let error = run("prestart", &[hook("sleep 100", Some(1))], "{}", None, &Output::default()).unwrap_err();
        assert!(error.to_string().contains("timeout of 1 s"), "{error}");
        assert_eq!(error.advice(), Some("raise `hooks.prestart[0].timeout`"));
    }

    #[test]
    fn a_hook_need_not_read() {
        run("prestart", &[hook("exec <&-; true", None)], &"x".repeat(200_000), None, &Output::default()).unwrap();
    }

    #[test]
    fn a_hook_may_say_as_much_as_it_likes() {
        let hook = hook("head -c 300000 /dev/zero >&2; echo; exit 1", Some(20));
        assert!(
            run("prestart", &[hook], "{}", None, &Output::default()).unwrap_err().to_string().contains("exited with 1")
        );
    }
}
