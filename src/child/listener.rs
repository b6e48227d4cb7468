//! Hands a filter's listener to the parent. seccomp_unotify(2).
//!
//! Whoever has loaded a filter that notifies must make no system call before somebody holds its listener: any may be one that
//! waits for an answer, sendmsg(2) too. And the listener is closed by exec. So a second thread, which the filter does not
//! bind, sends it, while the first waits without the kernel's help. Started before rights, limits and priorities change, it
//! is bound by none of them; exec ends it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::kernel::rustix::io::Errno;

use super::ChildSession;
use crate::error::{Context, Error, Result};
use crate::kernel::sys;
use crate::protocol::ToParent;
use crate::protocol::channel::Channel;

/// The thread that will send the listener.
pub(super) struct Messenger {
    orders: Sender<Channel>,
}

/// The listener, once there is one.
static LISTENER: OnceLock<OwnedFd> = OnceLock::new();
/// What became of it: [`WAITS`], 0 once it is sent, or an errno.
static SENT: AtomicI32 = AtomicI32::new(WAITS);
const WAITS: i32 = -1;

/// Starts the thread.
pub(super) fn messenger() -> Result<Messenger> {
    let (orders, wanted) = channel();
    crate::kernel::thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(move || deliver(&wanted))
        .context(|| "start the thread that hands over the seccomp listener")?;
    Ok(Messenger { orders })
}

fn deliver(wanted: &Receiver<Channel>) {
    // Without an order this process ends, or has no filter.
    let Ok(channel) = wanted.recv() else { return };
    let listener = loop {
        match LISTENER.get() {
            Some(listener) => break listener,
            None => crate::kernel::thread::sleep(Duration::from_micros(20)),
        }
    };
    let sent = channel.send(&ToParent::Listener, &[listener.as_fd()]);
    SENT.store(if sent.is_ok() { 0 } else { Errno::PIPE.raw_os_error() }, Ordering::Release);
}

/// Loads a filter that notifies. When this returns, the parent has the listener.
pub(super) fn load(session: &mut ChildSession, messenger: Messenger, program: &[u8], flags: u64) -> Result<()> {
    let channel = session.for_listener()?;
    messenger.orders.send(channel).map_err(|_| Error::system("the thread for the seccomp listener is gone"))?;
    let listener = sys::seccomp::load(program, flags).context(|| "load the seccomp filter")?;
    // From here on not a single system call: no lock that could sleep, no memory.
    if let Some(listener) = listener {
        let _ = LISTENER.set(listener);
    }
    loop {
        match SENT.load(Ordering::Acquire) {
            WAITS => std::hint::spin_loop(),
            0 => return Ok(()),
            errno => return Err(Error::call("hand over the seccomp listener", Errno::from_raw_os_error(errno))),
        }
    }
}
