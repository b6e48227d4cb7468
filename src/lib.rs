//! **tandem**, an OCI container runtime in two phases: a parent on the host, a child in the container's namespaces, and a
//! typed protocol between them that can be seen, replayed and attacked.
//!
//! ```text
//! config.json -> Spec (oci-spec) -> Plan (pure, validated) -> parent -> protocol -> child -> execve
//! ```
//!
//! Read it in that order: [`plan`] makes every rejection and no effect; [`parent`] does what needs the host;
//! [`protocol`] is all that the two say to each other; [`child`] builds the container from the inside.

pub mod cgroup;
pub mod child;
pub mod cli;
pub mod error;
mod filesystem;
mod hooks;
mod mountinfo;
mod node;
pub mod parent;
pub mod plan;
mod procfs;
pub mod protocol;
pub mod state;
pub mod sys;

/// argv[0] of the child's image, by which `main` tells it from a command.
pub const CHILD_IMAGE_NAME: &str = "tandem: child";

/// The name that the child's image gives itself, and loses when it executes the payload: `comm` of proc_pid_stat(5).
pub(crate) const CHILD_COMM: &std::ffi::CStr = c"tandem:child";
