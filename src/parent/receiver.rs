//! The socket of the host that gets a seccomp filter's listener.
//! runtime-spec, config-linux.md, "The Container Process State".

use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::unix;
use crate::error::{Context, Error, Result};
use crate::plan::HookState;
use crate::plan::seccomp::ListenerPlan;
use crate::procfs::Proc;

/// Who gets the listener; connected to before the payload may run.
pub(super) struct Receiver {
    socket: UnixStream,
    plan: ListenerPlan,
    state: serde_json::Value,
}

impl Receiver {
    /// Connects, where there is a listener to hand over. `status` and `init` are the container's; of one whose first process
    /// has not been executed the specification has it be `creating`.
    pub(super) fn connect(
        plan: Option<&ListenerPlan>,
        state: &HookState,
        status: &str,
        init: i32,
    ) -> Result<Option<Receiver>> {
        let Some(plan) = plan else { return Ok(None) };
        let socket = unix::connect(&plan.path, "seccomp receiver")?;
        let state = crate::hooks::state_json(state, status, init);
        let state = serde_json::from_str(&state).map_err(|e| Error::system(e.to_string()))?;
        Ok(Some(Receiver { socket, plan: plan.clone(), state }))
    }

    /// Sends the listener, checked by [`check_listener`], of process `pid`, and closes the connection.
    pub(super) fn hand_over(mut self, listener: &OwnedFd, pid: i32) -> Result<()> {
        let mut state = serde_json::json!({
            "ociVersion": self.state["ociVersion"],
            "fds": ["seccompFd"],
            "pid": pid,
            "state": self.state,
        });
        if let Some(metadata) = &self.plan.metadata {
            state["metadata"] = metadata.as_str().into();
        }
        let text = state.to_string();
        let doing = || format!("send the seccomp listener to `{}`", self.plan.path.display());
        // In one message: agents read no second one. What a signal cut off follows.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [listener.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let parts = [IoSlice::new(text.as_bytes())];
        let send = || sendmsg(&self.socket, &parts, &mut control, SendFlags::NOSIGNAL);
        let sent = rustix::io::retry_on_intr(send).context(doing)?;
        let rest = text.as_bytes().get(sent..).unwrap_or_default();
        self.socket.write_all(rest).context(doing)
    }
}

/// What the child sent is a filter's listener, and not a file of the host's, say: by the name that the kernel gives it. No
/// file's name is without a slash, and no file system is asked, which might never answer.
pub(crate) fn check_listener(listener: &OwnedFd, proc: &Proc) -> Result<()> {
    const LISTENER: &str = "anon_inode:seccomp notify";
    let name = proc.own_fd_name(listener.as_fd())?;
    match name == LISTENER {
        true => Ok(()),
        false => Err(Error::system(format!("the child sent `{name}` in place of the seccomp listener"))),
    }
}
