//! Everything the two sides can say. The order is in [`super::sequence`].

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::sequence::Kind;
use crate::error::Error;

/// In place of the flags of a namespace: the fd is a directory, which becomes the root.
pub const AS_ROOT: u32 = 0;

/// Parent to child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToChild {
    /// The child's plan, in parts.
    Plan(Part),
    /// Namespaces to join, in this order: for each fd the `CLONE_NEW*` flags that setns(2) takes with it, or [`AS_ROOT`].
    Namespaces {
        /// One set of flags an fd.
        flags: Vec<u32>,
    },
    /// Id maps are written, time offsets set, the cgroup joined. With one fd: the trusted procfs.
    Begin,
    /// What the hooks in the container's namespaces write to rides along.
    HookOutput {
        /// How many files.
        files: usize,
    },
    /// The detached file system that holds the [`Slot::Staged`] sources, each under the number of its slot, rides along.
    Stage,
    /// Detached mount trees for the next slots of the plan, or empty ones for which the child takes the path-based way.
    Mounts {
        /// One an announced slot; fds ride along for the filled ones, in order.
        slots: Vec<Slot>,
        /// No more will come.
        last: bool,
    },
    /// The hooks of the runtime namespace have run.
    HooksDone,
    /// The compiled seccomp filter, in parts.
    Filter(Part),
    /// State and pid file are written: go on. With one fd: the socket on which `start` will call.
    Release {
        /// Whether the socket rides along; without it the payload is executed at once.
        wait_for_start: bool,
    },
    /// On the socket of [`ToChild::Release`]: execute the payload.
    Start {
        /// Whether to report what it does.
        trace: bool,
    },
    /// Stop: the parent failed.
    Abort {
        /// Why.
        reason: String,
    },
}

/// Child to parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToParent {
    /// The user namespace exists; its id maps are missing.
    UsernsCreated,
    /// The process that speaks from now on, in the parent's pid namespace: a pid namespace was joined or made late.
    Forked {
        /// Its process ID.
        pid: i32,
    },
    /// All namespaces are joined or made.
    NamespacesReady,
    /// The root file system is mounted and not yet pivoted to: hooks of the runtime namespace may run.
    RootfsReady,
    /// The master side of the container's terminal rides along.
    Console,
    /// Everything is set up; only the payload is missing.
    Ready,
    /// The payload is about to be executed; end of file after it means that it was.
    Executing,
    /// The filter is loaded: its listener rides along.
    Listener,
    /// A step failed. The child ends.
    Failed(Error),
    /// What the child did since it last said so. Where it is too much for the next message, and before a failure.
    Trace(Events),
    /// A message with what the child did up to it. Only when tracing.
    Traced(Said, Events),
}

/// A message that the parent waits for, and that carries nothing but events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// [`ToParent::RootfsReady`].
    RootfsReady,
    /// [`ToParent::Ready`].
    Ready,
    /// [`ToParent::Executing`].
    Executing,
}

impl From<Said> for ToParent {
    fn from(said: Said) -> ToParent {
        match said {
            Said::RootfsReady => ToParent::RootfsReady,
            Said::Ready => ToParent::Ready,
            Said::Executing => ToParent::Executing,
        }
    }
}

/// Events of a trace, encoded, one behind the other; none when not tracing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events(#[serde(with = "serde_bytes")] pub Vec<u8>);

/// A piece of a payload bigger than a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// No more will come.
    pub last: bool,
}

/// One mount source of the plan, opened or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Slot {
    /// A detached tree rides along.
    Tree,
    /// It is on the stage.
    Staged,
    /// The parent could not open it, for this reason.
    Empty {
        /// The error, for the trace, and for the user if the child can't either.
        reason: Error,
    },
}

/// A message of one direction.
pub trait Wire: Serialize + DeserializeOwned {
    /// Which message it is.
    fn kind(&self) -> Kind;
    /// How many fds it announces.
    fn fds(&self) -> usize;
    /// Of a message that may repeat, whether this is the last; true for all others.
    fn is_last(&self) -> bool;
    /// What rides along of a trace, taken out.
    fn take_events(&mut self) -> Events {
        Events::default()
    }
    /// What the trace says of it, beside its name. Never environment values or file contents.
    fn summary(&self) -> String;
}

impl Wire for ToChild {
    fn kind(&self) -> Kind {
        match self {
            ToChild::Plan(_) => Kind::Plan,
            ToChild::Namespaces { .. } => Kind::Namespaces,
            ToChild::Begin => Kind::Begin,
            ToChild::HookOutput { .. } => Kind::HookOutput,
            ToChild::Stage => Kind::Stage,
            ToChild::Mounts { .. } => Kind::Mounts,
            ToChild::HooksDone => Kind::HooksDone,
            ToChild::Filter(_) => Kind::Filter,
            ToChild::Release { .. } => Kind::Release,
            ToChild::Start { .. } => Kind::Start,
            ToChild::Abort { .. } => Kind::Abort,
        }
    }

    fn fds(&self) -> usize {
        match self {
            ToChild::Namespaces { flags } => flags.len(),
            ToChild::Begin | ToChild::Stage => 1,
            ToChild::HookOutput { files } => *files,
            ToChild::Mounts { slots, .. } => slots.iter().filter(|s| matches!(s, Slot::Tree)).count(),
            ToChild::Release { wait_for_start } => usize::from(*wait_for_start),
            _ => 0,
        }
    }

    fn is_last(&self) -> bool {
        match self {
            ToChild::Plan(part) | ToChild::Filter(part) => part.last,
            ToChild::Mounts { last, .. } => *last,
            _ => true,
        }
    }

    fn summary(&self) -> String {
        match self {
            ToChild::Plan(part) | ToChild::Filter(part) => format!("{} bytes", part.bytes.len()),
            ToChild::Mounts { slots, last } => {
                let empty: Vec<_> = slots
                    .iter()
                    .filter_map(|s| match s {
                        Slot::Empty { reason } => Some(reason.to_string()),
                        Slot::Tree | Slot::Staged => None,
                    })
                    .collect();
                let more = if *last { "" } else { ", more to come" };
                let staged = slots.iter().filter(|s| matches!(s, Slot::Staged)).count();
                match empty.is_empty() {
                    true if staged > 0 => format!("{} trees, {staged} of them staged{more}", slots.len()),
                    true => format!("{} trees{more}", slots.len()),
                    false => format!("{} slots, {} empty{more}: {}", slots.len(), empty.len(), empty.join("; ")),
                }
            }
            ToChild::Release { wait_for_start: true } => "wait for start".into(),
            ToChild::Abort { reason } => reason.clone(),
            _ => String::new(),
        }
    }
}

impl Wire for ToParent {
    fn kind(&self) -> Kind {
        match self {
            ToParent::UsernsCreated => Kind::UsernsCreated,
            ToParent::Forked { .. } => Kind::Forked,
            ToParent::NamespacesReady => Kind::NamespacesReady,
            ToParent::RootfsReady | ToParent::Traced(Said::RootfsReady, _) => Kind::RootfsReady,
            ToParent::Console => Kind::Console,
            ToParent::Ready | ToParent::Traced(Said::Ready, _) => Kind::Ready,
            ToParent::Executing | ToParent::Traced(Said::Executing, _) => Kind::Executing,
            ToParent::Listener => Kind::Listener,
            ToParent::Failed(_) => Kind::Failed,
            ToParent::Trace(_) => Kind::Trace,
        }
    }

    fn fds(&self) -> usize {
        usize::from(matches!(self, ToParent::Console | ToParent::Listener))
    }

    fn is_last(&self) -> bool {
        true
    }

    fn take_events(&mut self) -> Events {
        match self {
            ToParent::Traced(_, events) => std::mem::take(events),
            _ => Events::default(),
        }
    }

    fn summary(&self) -> String {
        match self {
            ToParent::Forked { pid } => format!("pid {pid}"),
            ToParent::Failed(error) => error.to_string(),
            ToParent::Trace(events) => format!("{} bytes", events.0.len()),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_error() -> impl Strategy<Value = Error> {
        (".{0,40}", 1..100i32, prop::option::of(".{0,20}")).prop_map(|(text, errno, advice)| {
            let error = Error::call(text, rustix::io::Errno::from_raw_os_error(errno));
            advice.map_or(error.clone(), |a| error.advise(a))
        })
    }

    fn any_part() -> impl Strategy<Value = Part> {
        (prop::collection::vec(any::<u8>(), 0..4000), any::<bool>()).prop_map(|(bytes, last)| Part { bytes, last })
    }

    fn any_slot() -> impl Strategy<Value = Slot> {
        prop_oneof![Just(Slot::Tree), Just(Slot::Staged), any_error().prop_map(|reason| Slot::Empty { reason })]
    }

    /// The codec does not look into them.
    fn any_events() -> impl Strategy<Value = Events> {
        prop::collection::vec(any::<u8>(), 0..200).prop_map(Events)
    }

    /// Any message the parent can send.
    pub(crate) fn any_to_child() -> impl Strategy<Value = ToChild> {
        prop_oneof![
            any_part().prop_map(ToChild::Plan),
            prop::collection::vec(any::<u32>(), 0..9).prop_map(|flags| ToChild::Namespaces { flags }),
            Just(ToChild::Begin),
            (0usize..3).prop_map(|files| ToChild::HookOutput { files }),
            Just(ToChild::Stage),
            (prop::collection::vec(any_slot(), 0..30), any::<bool>())
                .prop_map(|(slots, last)| ToChild::Mounts { slots, last }),
            Just(ToChild::HooksDone),
            any_part().prop_map(ToChild::Filter),
            any::<bool>().prop_map(|wait_for_start| ToChild::Release { wait_for_start }),
            any::<bool>().prop_map(|trace| ToChild::Start { trace }),
            ".{0,80}".prop_map(|reason| ToChild::Abort { reason }),
        ]
    }

    /// Any message the child can send.
    pub(crate) fn any_to_parent() -> impl Strategy<Value = ToParent> {
        prop_oneof![
            Just(ToParent::UsernsCreated),
            any::<i32>().prop_map(|pid| ToParent::Forked { pid }),
            Just(ToParent::NamespacesReady),
            Just(ToParent::RootfsReady),
            Just(ToParent::Console),
            Just(ToParent::Ready),
            Just(ToParent::Executing),
            any_events().prop_map(|events| ToParent::Traced(Said::Executing, events)),
            Just(ToParent::Listener),
            any_error().prop_map(ToParent::Failed),
            any_events().prop_map(ToParent::Trace),
        ]
    }
}
