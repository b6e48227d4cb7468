//! **tandem**, an OCI container runtime in two phases: a parent on the host, a child in the container's namespaces, and a
//! typed protocol between them that can be seen, replayed and attacked.
//!
//! ```text
//! config.json -> Spec (oci-spec) -> Plan (pure, validated) -> parent -> protocol -> child -> execve
//! ```
//!
//! Read it in that order: [`plan`] makes every rejection and no effect; [`parent`] does what needs the host;
//! [`protocol`] is all that the two say to each other; [`child`] builds the container from the inside.
//!
//! # As a library
//!
//! A program makes containers of its own with [`parent::request::Request`], whose `plan` says what would be made, and
//! [`parent::create::create`]; [`parent::exec`] and [`parent::lifecycle`] have the rest. `examples/contain.rs` is such a
//! program. Three things are its duty:
//!
//! - `main` calls [`become_child_if_asked`] first of all: the child is the same program, executed once more.
//! - It does not ignore SIGCHLD, for hooks are waited for.
//! - What is created is its child process, to be waited for; [`parent::foreground`] does that as `tandem run` does.
//!
//! Planning has no effect, and neither reads nor writes anything but the bundle, `/proc`, `/sys` and the state directory.
//! Errors are of one type, [`error::Error`], whose kind says whose fault it is.

pub mod cgroup;
pub mod child;
mod classic_bpf;
pub mod cli;
pub mod doctor;
pub mod error;
mod filesystem;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hooks;
mod kernel;
pub mod lint;
mod mountinfo;
mod nearest;
mod node;
pub mod parent;
pub mod plan;
mod procfs;
pub mod protocol;
pub mod replay;
mod selinux;
pub mod state;
mod stdio;
pub mod sys;

/// `argv[0]` of the child's image, by which `main` tells it from a command.
pub const CHILD_IMAGE_NAME: &str = "tandem: child";

/// Becomes a container's first process, if that is what this process was started for, and then never returns. To be called
/// before anything else in the `main` of a program that makes containers: before threads, and before it opens files.
pub fn become_child_if_asked() {
    let mut args = std::env::args_os();
    if args.next().is_some_and(|name| name == CHILD_IMAGE_NAME) {
        let socket = args.next().and_then(|arg| arg.to_str()?.parse().ok()).unwrap_or(-1);
        std::process::exit(child::main(socket));
    }
}

/// The name that the child's image gives itself, and loses when it executes the payload: `comm` of proc_pid_stat(5).
pub(crate) const CHILD_COMM: &std::ffi::CStr = c"tandem:child";
