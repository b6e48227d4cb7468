//! Namespaces that a process of the test keeps, for a container to join.

use std::process::{Child, Command, Stdio};

use super::{look, wait_until};

/// A process in namespaces of its own, to be joined; killed when dropped.
pub(crate) struct Holder(Child);

impl Holder {
    /// `flags` are those of unshare(1), which must not fork here: the pid is that of the process itself.
    pub(crate) fn new(flags: &[&str]) -> Holder {
        let mut command = Command::new("unshare");
        command.args(flags).args(["sleep", "100000"]).stdin(Stdio::null());
        let holder = Holder(command.spawn().expect("unshare (util-linux)"));
        wait_until("the holder has its namespaces", || {
            look::strings(holder.pid(), "cmdline").first().is_some_and(|c| c == "sleep")
        });
        holder
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn path(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.pid())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
