//! The end of a process that a command stays with: told in the trace, and, if the kernel killed it for want of memory, to the
//! user, to whom its exit status alone says nothing.

use super::foreground::End;
use super::oom::MemoryWatch;
use super::trace::Stay;
use crate::error::Error;

/// Whose end it is.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// That of a container's first process, by the container's ID.
    Container(&'a str),
    /// That of one process more in a container.
    Process(i32),
}

/// Tells the trace how the process ended. Returns what is to be told the user: that it, or a process of its, was killed for
/// memory, if a counter says so.
pub fn told(
    end: End,
    pid: i32,
    whose: Whose<'_>,
    memory: Option<&mut MemoryWatch>,
    trace: Option<Stay>,
) -> Option<Error> {
    let killed = matches!(end, End::Killed(libc::SIGKILL));
    let what = match whose {
        Whose::Container(id) if killed => Some(format!("container `{id}`")),
        // A shell, say, ends with the status of what it ran.
        Whose::Container(id) if end.code() != 0 => Some(format!("a process of container `{id}`")),
        // Others of the container may have been killed meanwhile, which is none of its business.
        Whose::Process(pid) if killed => Some(format!("process {pid}")),
        Whose::Process(_) if end.code() == 128 + libc::SIGKILL => Some("a process of the container".into()),
        _ => None,
    };
    let error = what.and_then(|what| memory?.killed(&what));
    let file = trace.and_then(|trace| trace.ended(pid, &end.to_string(), error.as_ref()));
    error.map(|error| match file {
        Some(file) => error.also_advise(format!("its trace is in `{}`", file.display())),
        None => error,
    })
}
