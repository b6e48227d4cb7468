//! Looks over every call of some kinds that the runtime makes, and may let one fail: seccomp user notification.
//!
//! Where [`super::seccomp::without`] takes a call away for good, this lets the k-th of them fail, and keeps a record of
//! all, in the order of the whole family of processes. Needs Linux 5.5.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, mpsc};

use libseccomp::{
    ScmpAction, ScmpFd, ScmpFilterContext, ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags, ScmpSyscall,
    reset_global_state,
};
use rustix::io::Errno;

/// One system call, as it was about to be made.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) pid: u32,
    /// The process's name: tells the parent from the child.
    pub(crate) comm: String,
    pub(crate) name: String,
    pub(crate) args: [u64; 6],
    /// Its string arguments, in their order.
    pub(crate) text: Vec<String>,
    pub(crate) failed: bool,
}

impl Call {
    pub(crate) fn show(&self) -> String {
        let failed = if self.failed { " FAILED" } else { "" };
        format!("{} {} {}{:?} {:x?}{failed}", self.pid, self.comm, self.name, self.text, self.args)
    }

    /// From here on a path of the host is none any more: the process has another root.
    pub(crate) fn is_point_of_no_return(&self) -> bool {
        const NEWNS: u64 = 0x2_0000;
        match self.name.as_str() {
            "pivot_root" | "chroot" => true,
            // Into the namespace that it has made of the rootfs. The parent goes in and out of the child's.
            "setns" => self.comm.contains("child") && self.args[1] & NEWNS != 0,
            // `mount --move . /`, for --no-pivot.
            "mount" => self.args[3] & 0x2000 != 0,
            _ => false,
        }
    }
}

/// Calls that make, change or move mounts, or the root.
pub(crate) const MOUNT_CALLS: [&str; 11] = [
    "open_tree",
    "fsopen",
    "fsconfig",
    "fsmount",
    "move_mount",
    "mount_setattr",
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "setns",
];

/// Which arguments of a call are strings.
fn strings(call: &str, args: &[u64; 6]) -> &'static [usize] {
    const SET_STRING: u64 = 1;
    match call {
        "open_tree" | "openat" | "openat2" | "mkdirat" | "mknodat" | "mount_setattr" | "readlinkat" | "newfstatat" => {
            &[1]
        }
        "move_mount" => &[1, 3],
        "fsopen" | "umount2" | "chroot" | "sethostname" | "mkdir" => &[0],
        "fsconfig" if args[1] == SET_STRING => &[2, 3],
        "fsconfig" => &[2],
        "mount" => &[0, 1, 2, 4],
        "pivot_root" => &[0, 1],
        _ => &[],
    }
}

fn string(pid: u32, at: u64) -> String {
    let mut bytes = vec![0; 4096];
    let n = match fs::File::open(format!("/proc/{pid}/mem")) {
        _ if at == 0 => return "NULL".into(),
        Err(e) => return format!("? {e}"),
        // A read that goes on into a page that is not there gives what is before it.
        Ok(memory) => memory.read_at(&mut bytes, at).unwrap_or(0),
    };
    let end = bytes[..n].iter().position(|b| *b == 0).unwrap_or(n);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A listener is one for the process in libseccomp: one supervised call at a time.
static ONE: Mutex<()> = Mutex::new(());

/// Runs `act` on a thread of which, and of all that it starts, each call of a name in `calls` is shown to `decide`
/// before it is made. An errno is the call's answer then, and it is not made. Gives what `act` gave, and all calls.
pub(crate) fn supervised<T: Send>(
    calls: &[&str],
    mut decide: impl FnMut(&Call) -> Option<Errno> + Send,
    act: impl FnOnce() -> T + Send,
) -> (T, Vec<Call>) {
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (sender, receiver) = mpsc::channel();
    let result = std::thread::scope(|scope| {
        let acting = scope.spawn(move || {
            let mut filter = ScmpFilterContext::new(ScmpAction::Allow).expect("seccomp filter");
            filter.set_ctl_nnp(false).expect("seccomp without no_new_privs");
            for call in calls.iter().copied().chain([END]) {
                let call = ScmpSyscall::from_name(call).unwrap_or_else(|e| panic!("{call}: {e}"));
                filter.add_rule(ScmpAction::Notify, call).expect("seccomp rule");
            }
            filter.load().expect("seccomp load");
            let own = rustix::thread::gettid().as_raw_nonzero().get() as u32;
            sender.send((filter.get_notify_fd().expect("listener"), own)).expect("send");
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
            let _ = rustix::system::sysinfo();
            result
        });
        let (listener, own) = receiver.recv().expect("the thread that is looked over");
        let seen = listen(listener, own, &mut decide);
        (acting.join().expect("thread"), seen)
    });
    reset_global_state().expect("libseccomp 2.5.1");
    match result {
        (Ok(result), seen) => (result, seen),
        (Err(panic), _) => std::panic::resume_unwind(panic),
    }
}

/// Its call by the supervised thread itself says that it is done.
const END: &str = "sysinfo";

fn listen(listener: ScmpFd, own: u32, decide: &mut impl FnMut(&Call) -> Option<Errno>) -> Vec<Call> {
    let mut seen = Vec::new();
    loop {
        // A process that was killed before its call is looked at is gone: the next one, then.
        let Ok(request) = ScmpNotifReq::receive(listener) else { continue };
        let go_on = ScmpNotifResp::new_continue(request.id, ScmpNotifRespFlags::empty());
        let name = request.data.syscall.get_name().unwrap_or_default();
        if request.pid == own || name == END {
            let _ = go_on.respond(listener);
            if request.pid == own && name == END {
                return seen;
            }
            continue;
        }
        let (pid, args) = (request.pid, request.data.args);
        let text = strings(&name, &args).iter().map(|n| string(pid, args[*n])).collect();
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned();
        let mut call = Call { pid, comm, name, args, text, failed: false };
        let answer = match decide(&call) {
            Some(errno) => {
                call.failed = true;
                ScmpNotifResp::new_error(request.id, -errno.raw_os_error(), ScmpNotifRespFlags::empty())
            }
            None => go_on,
        };
        seen.push(call);
        let _ = answer.respond(listener);
    }
}

/// Looks only.
pub(crate) fn watched<T: Send>(calls: &[&str], act: impl FnOnce() -> T + Send) -> (T, Vec<Call>) {
    supervised(calls, |_| None, act)
}
