//! Programs that tests make, to be executed.
//!
//! Another process writes each: what this one had open for writing, a command that another of its threads starts at that moment
//! would have too until it is executed, and the program could not be (ETXTBSY, execve(2)).

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// A copy that anybody may execute.
pub(crate) fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let status = install(from.as_ref(), to.as_ref()).status().expect("install (coreutils)");
    assert!(status.success(), "{} is not copied", from.as_ref().display());
}

/// A file of these bytes that anybody may execute.
pub(crate) fn write(to: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    let mut child = install(Path::new("/dev/stdin"), to.as_ref()).stdin(Stdio::piped()).spawn().expect("install");
    child.stdin.take().expect("a pipe").write_all(bytes.as_ref()).expect("the program's text");
    assert!(child.wait().expect("install").success(), "{} is not written", to.as_ref().display());
}

fn install(from: &Path, to: &Path) -> Command {
    let mut command = Command::new("install");
    command.args(["--mode=755", "--"]).arg(from).arg(to);
    command
}
