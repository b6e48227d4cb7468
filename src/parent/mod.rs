//! The parent: what a command does on the host. Control groups, id maps, mount sources, device nodes, seccomp compilation,
//! state, hooks of the runtime namespace, clean-up.
//!
//! [`create`] and [`exec`] are the visible lists of steps; [`lifecycle`] has what is done to a container that exists.

mod affinity;
mod capabilities;
mod clean;
mod console;
mod conversation;
pub mod create;
mod delete;
pub mod ending;
pub mod exec;
pub(crate) mod filter;
pub mod foreground;
mod handover;
pub(crate) mod idmap;
mod image;
mod instances;
pub mod lifecycle;
mod lost;
mod mapped;
mod meanwhile;
mod members;
pub mod mounts;
mod namespaces;
mod net_devices;
mod netlink;
mod newer_calls;
pub mod notify;
pub mod oom;
mod patience;
mod pidfd;
mod pinned;
mod receiver;
pub mod request;
mod rlimits;
mod sources;
mod spawn;
mod stage;
mod stdio;
pub mod trace;
mod unix;
pub mod users;

pub(crate) use console::check_master;
pub(crate) use receiver::check_listener;
