//! A kernel that lacks system calls, for one thread and all that it starts.

use libseccomp::{ScmpAction, ScmpFilterContext, ScmpSyscall};
use rustix::io::Errno;

/// Runs `act` on a thread where each of `calls` answers `errno`. A filter belongs to the thread that loads it and is
/// inherited over fork and exec, so the runtime that `act` starts sees that kernel and the rest of the test doesn't.
/// No no_new_privs: it would be inherited as well and change what is under test, and root doesn't need it.
pub(crate) fn without<T: Send>(calls: &[&str], errno: Errno, act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let named = std::thread::Builder::new().name(format!("without {calls:?}"));
        let thread = named.spawn_scoped(scope, || {
            let mut filter = ScmpFilterContext::new(ScmpAction::Allow).expect("seccomp filter");
            filter.set_ctl_nnp(false).expect("seccomp without no_new_privs");
            for call in calls {
                let call = number(call);
                filter.add_rule(ScmpAction::Errno(errno.raw_os_error()), call).expect("seccomp rule");
            }
            filter.load().expect("seccomp load");
            act()
        });
        let thread = thread.expect("thread");
        // The panic of an assertion keeps its message.
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A call by its name; libseccomp knows only those of its own time.
fn number(call: &str) -> ScmpSyscall {
    match (ScmpSyscall::from_name(call), call) {
        (Ok(known), _) => known,
        // Numbers from 424 on are the same on every architecture.
        (Err(_), "statmount") => ScmpSyscall::from(457),
        (Err(_), "listmount") => ScmpSyscall::from(458),
        (Err(e), _) => panic!("{call}: {e}"),
    }
}
