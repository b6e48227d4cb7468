//! Becomes the user of the payload: session, terminal, ids, capabilities, working directory; finds the program.

use std::ffi::CString;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::kernel::rustix;
use crate::kernel::rustix::fs::{Access, FileType, Mode, OFlags};
use crate::kernel::rustix::io::Errno;
use crate::kernel::rustix::process::{Gid, Uid};

use super::{ChildSession, capabilities};
use crate::error::{Context, Error, Result, in_lower_case};
use crate::kernel::sys;
use crate::plan::ChildPlan;
use crate::plan::process::{ProcessPlan, UserPlan, capability_names};
use crate::protocol::event::About;

/// Where programs are looked for when the environment has no PATH.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// As every runtime has it, whatever the caller's.
const DEFAULT_UMASK: u32 = 0o022;

/// No image needs a bigger `/etc/passwd`.
const PASSWD_CAP: u64 = 1 << 20;

/// What is left to do: exec, with all its arguments laid out.
pub(super) struct Start {
    /// The program, resolved.
    pub(super) program: CString,
    /// argv.
    pub(super) args: Vec<CString>,
    /// The environment.
    pub(super) env: Vec<CString>,
    /// The seccomp filter, to be loaded last.
    pub(super) filter: Option<Vec<u8>>,
}

impl Start {
    /// Tells the payload which process its listening sockets are for: the one that becomes it.
    pub(super) fn named(mut self, process: &ProcessPlan) -> Result<Start> {
        if process.listen_fds > 0 {
            let pid = rustix::process::getpid().as_raw_nonzero();
            self.env.push(c_string(format!("LISTEN_PID={pid}").as_bytes())?);
        }
        Ok(self)
    }
}

/// The rights beyond the payload's that loading its filter takes.
///
/// Without no_new_privs the kernel wants CAP_SYS_ADMIN for a filter, which is loaded last so that it need not allow what is
/// done before. What exec gives the payload does not depend on this: its permitted set comes from the bounding, inheritable and
/// ambient sets alone (capabilities(7), "Transformation of capabilities during execve").
pub(super) fn for_filter(plan: &ChildPlan) -> u64 {
    if plan.shape.filter && !plan.process.no_new_privileges { capabilities::SYS_ADMIN } else { 0 }
}

/// The same of a process that is yet to be born, and to have its threads and its scheduling: few that could be of use to others.
pub(super) fn for_birth(plan: &ChildPlan) -> u64 {
    let ours = &plan.process;
    let unlimited = if ours.rlimits.is_empty() && !plan.shape.listener { 0 } else { capabilities::SYS_RESOURCE };
    let scheduled = if ours.scheduler.is_some() { capabilities::SYS_NICE } else { 0 };
    for_filter(plan) | unlimited | scheduled
}

/// Changes everything about this process that says whose it is, but its session. Of the rights beyond the payload's `extra`
/// stay.
pub(super) fn become_user(
    session: &mut ChildSession,
    plan: &ChildPlan,
    filter: Option<Vec<u8>>,
    extra: u64,
) -> Result<Start> {
    let ours = &plan.process;
    if let Some(persona) = ours.personality {
        sys::process::set_personality(persona).context(|| "personality")?;
    }
    // Tried with all rights first, for a directory that only root may enter, then as the user.
    let entered = enter(&ours.cwd);
    capabilities::limit_bounding(ours.capabilities.bounding)?;
    change_ids(session, &ours.user)?;
    let lacking = capabilities::apply(&ours.capabilities, extra)?;
    if !lacking.is_empty() {
        session.recorder.fallback("capabilities", || {
            About::object(capability_names(lacking))
                .by("leaving them out")
                .why("the runtime does not have them to give")
        });
    }
    if entered.is_err() {
        enter(&ours.cwd)?;
    }
    stay_inside(&ours.cwd)?;
    let umask = ours.user.umask.unwrap_or(DEFAULT_UMASK);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
    if ours.no_new_privileges {
        rustix::thread::set_no_new_privs(true).context(|| "set no_new_privs")?;
    }
    let env = environment(ours);
    let program = match ours.args.first() {
        Some(name) => {
            let since = session.recorder.now();
            let program = find_program(name, &env);
            session.recorder.failed("program", since, &program, || name.clone());
            program?
        }
        // `start` refuses to start it.
        None => PathBuf::new(),
    };
    Ok(Start {
        program: c_string(program.as_os_str().as_encoded_bytes())?,
        args: ours.args.iter().map(|a| c_string(a.as_bytes())).collect::<Result<_>>()?,
        env: env.iter().map(|e| c_string(e.as_bytes())).collect::<Result<_>>()?,
        filter,
    })
}

fn c_string(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::config("an argument has a NUL byte"))
}

/// A session of its own, with the terminal, which is the three standard fds, as its controlling one.
pub(super) fn own_session(terminal: bool) -> Result<()> {
    match rustix::process::setsid() {
        // A leader already: a new process of a container that shares the runtime's pid namespace never is.
        Ok(_) | Err(Errno::PERM) => {}
        Err(errno) => return Err(Error::call("setsid", errno)),
    }
    if terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).context(|| "make it the controlling terminal")?;
    }
    Ok(())
}

fn enter(cwd: &str) -> Result<()> {
    rustix::process::chdir(cwd)
        .map_err(|e| Error::call(format!("chdir to the working directory `{cwd}`: {}", in_lower_case(e)), e))
}

/// A working directory that is outside the root, as `/proc/self/fd/7` of a leaked fd would be, has no path: getcwd(2)
/// says `(unreachable)` or ENOENT then (CVE-2024-21626).
fn stay_inside(cwd: &str) -> Result<()> {
    match rustix::process::getcwd(vec![]) {
        Ok(path) if path.to_bytes().starts_with(b"/") => Ok(()),
        Ok(_) | Err(Errno::NOENT) => {
            Err(Error::system(format!("the working directory `{cwd}` is not inside the container's root")))
        }
        Err(errno) => Err(Error::call("getcwd", errno)),
    }
}

fn change_ids(session: &mut ChildSession, user: &UserPlan) -> Result<()> {
    use crate::kernel::rustix::thread::{
        set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    };
    let groups: Vec<Gid> = user.additional_gids.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match if user.keep_groups { Ok(()) } else { set_thread_groups(&groups) } {
        Ok(()) => {}
        // A user namespace that an ordinary user mapped for itself denies setgroups; nothing was asked for.
        Err(Errno::PERM) if groups.is_empty() => {}
        // Its image may ask for some all the same, as `root:x:0:root` in /etc/group does. As with crun and runc it has none.
        Err(Errno::PERM) if capabilities::has_setgid()? => {
            let listed = || About::object(crate::plan::numbers::listed(&user.additional_gids)).by("leaving them out");
            session.recorder.fallback("groups", || listed().why("the user namespace denies setgroups"));
        }
        Err(errno) => {
            return Err(mapped(errno, format!("setgroups {}", crate::plan::numbers::listed(&user.additional_gids))));
        }
    }
    let gid = Gid::from_raw(user.gid);
    set_thread_res_gid(gid, gid, gid).map_err(|e| mapped(e, format!("setresgid {}", user.gid)))?;
    set_keep_capabilities(true).context(|| "prctl PR_SET_KEEPCAPS")?;
    let uid = Uid::from_raw(user.uid);
    set_thread_res_uid(uid, uid, uid).map_err(|e| mapped(e, format!("setresuid {}", user.uid)))
}

/// The error of a call that takes IDs.
fn mapped(errno: Errno, call: String) -> Error {
    let error = Error::call(call, errno);
    if errno == Errno::INVAL { error.advise("the user namespace does not map this id") } else { error }
}

/// The payload's environment: what was asked for, and HOME, which programs expect and engines leave to the runtime.
fn environment(process: &ProcessPlan) -> Vec<String> {
    let mut env = process.env.clone();
    // Empty is as good as none, as with runc: `docker exec -e HOME= ...` and images whose HOME nobody has set.
    env.retain(|e| e != "HOME=");
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        env.push(format!("HOME={}", home(process.user.uid).unwrap_or_else(|| "/".into())));
    }
    env
}

/// The home directory of a user in the container's `/etc/passwd`.
fn home(uid: u32) -> Option<String> {
    let uid = uid.to_string();
    // The image's own: what is no regular file, or has no end, is not waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open("/etc/passwd", flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut passwd = vec![];
    std::fs::File::from(file).take(PASSWD_CAP).read_to_end(&mut passwd).ok()?;
    let passwd = String::from_utf8_lossy(&passwd);
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|f| f.get(2) == Some(&&*uid))?;
    fields.get(5).filter(|home| !home.is_empty()).map(ToString::to_string)
}

/// How much of a PATH an error tells, in bytes.
const PATH_SHOWN: usize = 256;

/// Finds the program as the user that will run it.
fn find_program(name: &str, env: &[String]) -> Result<PathBuf> {
    if name.contains('/') {
        return check_program(Path::new(name)).map_err(|errno| not_executable(name, errno));
    }
    let path = env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let mut refused = None;
    for dir in path.split(':').filter(|_| !name.is_empty()) {
        let candidate = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
        match check_program(&candidate) {
            Ok(program) => return Ok(program),
            Err(Errno::ACCESS) => refused = Some(candidate),
            Err(_) => {}
        }
    }
    Err(match refused {
        Some(path) => not_executable(&path.display().to_string(), Errno::ACCESS),
        None => not_in_path(name, path),
    })
}

fn not_in_path(name: &str, path: &str) -> Error {
    let error = Error::call(format!("exec `{name}`: executable file not found in $PATH"), Errno::NOENT);
    let mut path = path.to_owned();
    crate::error::shorten(&mut path, PATH_SHOWN);
    // A directory of that name would be read as the error.
    let lower = path.to_lowercase();
    if ["permission denied", "operation not permitted", "is a directory"].iter().any(|words| lower.contains(words)) {
        return error;
    }
    error.advise(format!("PATH is `{path}`: name the program with its directory, or set PATH in process.env"))
}

/// Why a file is no program, in words by which engines know what to make of it. Docker's client minds the case: 127 for
/// `executable file not found`, 126 for `permission denied`. Podman does not, has 126 for `permission denied` anywhere, and
/// else 127 for `no such file or directory`.
fn not_executable(name: &str, errno: Errno) -> Error {
    let found = |how: &str| format!("exec `{name}`: {how}");
    match errno {
        Errno::ISDIR => Error::call(found("permission denied"), errno),
        Errno::ACCESS => Error::call(found("permission denied"), errno)
            .advise("a program is a regular file that the process's user may execute, on a mount without `noexec`"),
        Errno::NOTDIR => Error::call(found("executable file not found"), Errno::NOENT)
            .advise("what its path has for a directory is a file"),
        errno => Error::call(found("executable file not found"), errno),
    }
}

fn check_program(path: &Path) -> Result<PathBuf, Errno> {
    let stat = rustix::fs::stat(path)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => rustix::fs::access(path, Access::EXEC_OK).map(|()| path.to_owned()),
        FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::ACCESS),
    }
}
