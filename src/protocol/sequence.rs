//! In which order messages are legal: a pure type, computed from the plan, that drives both ends.
//!
//! Each direction has its own track. Between the directions nothing is ordered here beyond what each side waits for:
//! the parent opens mount sources while the child enters its namespaces.

use serde::{Deserialize, Serialize};

use super::ProtocolError;

/// A message without its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// See [`super::ToChild`], also for the next ten.
    Plan,
    #[allow(missing_docs)]
    Namespaces,
    #[allow(missing_docs)]
    Begin,
    #[allow(missing_docs)]
    HookOutput,
    #[allow(missing_docs)]
    Stage,
    #[allow(missing_docs)]
    Mounts,
    #[allow(missing_docs)]
    HooksDone,
    #[allow(missing_docs)]
    Filter,
    #[allow(missing_docs)]
    Release,
    #[allow(missing_docs)]
    Start,
    #[allow(missing_docs)]
    Abort,
    /// See [`super::ToParent`], also for the rest.
    UsernsCreated,
    #[allow(missing_docs)]
    Forked,
    #[allow(missing_docs)]
    NamespacesReady,
    #[allow(missing_docs)]
    RootfsReady,
    #[allow(missing_docs)]
    Console,
    #[allow(missing_docs)]
    Ready,
    #[allow(missing_docs)]
    Executing,
    #[allow(missing_docs)]
    Listener,
    #[allow(missing_docs)]
    Failed,
    #[allow(missing_docs)]
    Trace,
}

impl Kind {
    /// All of them, those to the child first.
    pub const ALL: [Kind; 21] = [
        Kind::Plan,
        Kind::Namespaces,
        Kind::Begin,
        Kind::HookOutput,
        Kind::Stage,
        Kind::Mounts,
        Kind::HooksDone,
        Kind::Filter,
        Kind::Release,
        Kind::Start,
        Kind::Abort,
        Kind::UsernsCreated,
        Kind::Forked,
        Kind::NamespacesReady,
        Kind::RootfsReady,
        Kind::Console,
        Kind::Ready,
        Kind::Executing,
        Kind::Listener,
        Kind::Failed,
        Kind::Trace,
    ];

    /// Those of a direction that have their place in a conversation.
    pub fn of(direction: Direction) -> impl Iterator<Item = Kind> {
        let first_to_parent = Kind::UsernsCreated as usize;
        let (to_child, to_parent) = Kind::ALL.split_at(first_to_parent);
        let kinds = if direction == Direction::ToChild { to_child } else { to_parent };
        kinds.iter().copied().filter(|kind| !kind.is_out_of_band())
    }

    /// Its name, as the trace and the errors write it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Plan => "Plan",
            Kind::Namespaces => "Namespaces",
            Kind::Begin => "Begin",
            Kind::HookOutput => "HookOutput",
            Kind::Stage => "Stage",
            Kind::Mounts => "Mounts",
            Kind::HooksDone => "HooksDone",
            Kind::Filter => "Filter",
            Kind::Release => "Release",
            Kind::Start => "Start",
            Kind::Abort => "Abort",
            Kind::UsernsCreated => "UsernsCreated",
            Kind::Forked => "Forked",
            Kind::NamespacesReady => "NamespacesReady",
            Kind::RootfsReady => "RootfsReady",
            Kind::Console => "Console",
            Kind::Ready => "Ready",
            Kind::Executing => "Executing",
            Kind::Listener => "Listener",
            Kind::Failed => "Failed",
            Kind::Trace => "Trace",
        }
    }

    /// Whether it may come at any time.
    fn is_out_of_band(self) -> bool {
        matches!(self, Kind::Abort | Kind::Failed | Kind::Trace)
    }

    /// Whether it may come several times, up to one that is marked as the last.
    fn repeats(self) -> bool {
        matches!(self, Kind::Plan | Kind::Mounts | Kind::Filter)
    }
}

/// When a child hands over to a process that it forks: a pid or time namespace holds only processes born into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Forks {
    /// It does not.
    #[default]
    Never,
    /// First of all: nobody is there yet who could look at it, or who may.
    First,
    /// Last of all: others are there, who may look at whatever it holds.
    Last,
}

/// What of a plan decides which messages are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Namespaces are joined.
    pub joins: bool,
    /// The user namespace is made by the child, after joins, and its id maps are the parent's to write.
    pub late_userns: bool,
    /// A pid namespace is joined or made after the start of the child image, which only a new process enters.
    pub forks: Forks,
    /// Mount sources are sent.
    pub sources: bool,
    /// Those that are paths of the host are gathered on a stage.
    pub stage: bool,
    /// Hooks of the runtime namespace run between mounts and pivot.
    pub hooks: bool,
    /// The process has a terminal.
    pub terminal: bool,
    /// Files for the child's hooks to write to are sent: one for standard output, one for standard error.
    pub hook_output: Option<(bool, bool)>,
    /// A seccomp filter is sent.
    pub filter: bool,
    /// It has a listener, which comes back.
    pub listener: bool,
}

/// One direction: the kinds that are still to come, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Track {
    steps: Vec<Kind>,
    at: usize,
}

impl Track {
    fn new(steps: &[(bool, Kind)]) -> Track {
        Track { steps: steps.iter().filter(|(sent, _)| *sent).map(|(_, kind)| *kind).collect(), at: 0 }
    }

    fn expected(&self) -> Option<Kind> {
        self.steps.get(self.at).copied()
    }

    fn advance(&mut self, kind: Kind, last: bool) -> Result<(), ProtocolError> {
        if kind.is_out_of_band() {
            return Ok(());
        }
        if self.expected() != Some(kind) {
            return Err(ProtocolError::OutOfOrder { expected: name(self.expected()), got: kind.name() });
        }
        if last || !kind.repeats() {
            self.at += 1;
        }
        Ok(())
    }
}

fn name(kind: Option<Kind>) -> String {
    kind.map_or("the end", Kind::name).to_owned()
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Parent to child.
    ToChild,
    /// Child to parent.
    ToParent,
}

/// The legal rest of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    to_child: Track,
    to_parent: Track,
}

impl Sequence {
    /// All of it, for the side that has the plan.
    pub fn new(shape: Shape) -> Sequence {
        let to_child = [
            (true, Kind::Plan),
            (shape.joins, Kind::Namespaces),
            (true, Kind::Begin),
            (shape.hook_output.is_some(), Kind::HookOutput),
            (shape.stage, Kind::Stage),
            (shape.sources, Kind::Mounts),
            (shape.hooks, Kind::HooksDone),
            (shape.filter, Kind::Filter),
            (true, Kind::Release),
        ];
        let to_parent = [
            (shape.late_userns, Kind::UsernsCreated),
            (shape.forks == Forks::First, Kind::Forked),
            (true, Kind::NamespacesReady),
            (shape.hooks, Kind::RootfsReady),
            (shape.terminal, Kind::Console),
            (shape.forks == Forks::Last, Kind::Forked),
            (true, Kind::Ready),
            (true, Kind::Executing),
            (shape.listener, Kind::Listener),
        ];
        Sequence { to_child: Track::new(&to_child), to_parent: Track::new(&to_parent) }
    }

    /// What the child knows before it has the plan: that the plan comes, and that it may fail.
    pub fn opening() -> Sequence {
        Sequence { to_child: Track::new(&[(true, Kind::Plan)]), to_parent: Track::new(&[]) }
    }

    /// The conversation of `start` with a created container.
    pub fn start(listener: bool) -> Sequence {
        Sequence {
            to_child: Track::new(&[(true, Kind::Start)]),
            to_parent: Track::new(&[(true, Kind::Executing), (listener, Kind::Listener)]),
        }
    }

    /// The rest, once the plan that [`Sequence::opening`] awaited is here.
    pub fn after_plan(shape: Shape) -> Sequence {
        let mut sequence = Sequence::new(shape);
        sequence.to_child.at = 1;
        sequence
    }

    /// Takes one message of a direction; `last` is [`super::message::Wire::is_last`].
    ///
    /// # Errors
    /// [`ProtocolError::OutOfOrder`], and the sequence stays where it was.
    pub fn advance(&mut self, direction: Direction, kind: Kind, last: bool) -> Result<(), ProtocolError> {
        self.track(direction).advance(kind, last)
    }

    /// The name of what is legal next in a direction.
    pub fn expected(&mut self, direction: Direction) -> String {
        name(self.track(direction).expected())
    }

    fn track(&mut self, direction: Direction) -> &mut Track {
        match direction {
            Direction::ToChild => &mut self.to_child,
            Direction::ToParent => &mut self.to_parent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_shape() -> impl Strategy<Value = Shape> {
        (any::<[bool; 10]>()).prop_map(
            |[joins, late_userns, forks, last, sources, stage, hooks, terminal, filter, listener]| Shape {
                joins,
                late_userns,
                forks: match (forks, last) {
                    (false, _) => Forks::Never,
                    (true, false) => Forks::First,
                    (true, true) => Forks::Last,
                },
                sources,
                stage,
                hooks,
                terminal,
                filter,
                listener,
                hook_output: filter.then_some((terminal, listener)),
            },
        )
    }

    fn any_direction() -> impl Strategy<Value = Direction> {
        prop_oneof![Just(Direction::ToChild), Just(Direction::ToParent)]
    }

    proptest! {
        /// Of all kinds, exactly one in-band kind is legal at any place, and it is the one that `expected` names.
        #[test]
        fn exactly_one_kind_is_legal_anywhere(shape in any_shape(), direction in any_direction(), at in 0usize..10) {
            let mut sequence = Sequence::new(shape);
            for _ in 0..at {
                let Some(kind) = sequence.track(direction).expected() else { break };
                sequence.advance(direction, kind, true).unwrap();
            }
            let legal: Vec<_> = Kind::ALL
                .into_iter()
                .filter(|k| !k.is_out_of_band() && sequence.clone().advance(direction, *k, true).is_ok())
                .map(Kind::name)
                .collect();
            let expected = sequence.expected(direction);
            if expected == "the end" {
                prop_assert!(legal.is_empty());
            } else {
                prop_assert_eq!(legal, vec![expected.as_str()]);
            }
        }

        /// Whatever comes, in whatever order: an illegal message changes nothing.
        #[test]
        fn a_refused_message_moves_nothing(
            shape in any_shape(),
            moves in prop::collection::vec((any_direction(), 0..Kind::ALL.len(), any::<bool>()), 0..60),
        ) {
            let mut sequence = Sequence::new(shape);
            for (direction, kind, last) in moves {
                let before = sequence.clone();
                if sequence.advance(direction, Kind::ALL[kind], last).is_err() {
                    prop_assert_eq!(&sequence, &before);
                }
            }
        }

        /// Messages in parts may repeat until their last, and only they.
        #[test]
        fn parts_repeat_until_the_last(shape in any_shape(), repeats in 1usize..5) {
            let mut sequence = Sequence::new(shape);
            for _ in 0..repeats {
                sequence.advance(Direction::ToChild, Kind::Plan, false).unwrap();
            }
            sequence.advance(Direction::ToChild, Kind::Plan, true).unwrap();
            prop_assert!(sequence.advance(Direction::ToChild, Kind::Plan, true).is_err());
            prop_assert_eq!(sequence, Sequence::after_plan(shape));
        }
    }

    #[test]
    fn a_message_of_the_wrong_direction_is_never_legal() {
        let shape = Shape { joins: true, sources: true, hooks: true, terminal: true, filter: true, ..Shape::default() };
        let mut sequence = Sequence::new(shape);
        assert!(sequence.advance(Direction::ToParent, Kind::Plan, true).is_err());
        assert!(sequence.advance(Direction::ToChild, Kind::NamespacesReady, true).is_err());
    }

    #[test]
    fn the_list_of_kinds_is_whole() {
        assert!(Kind::ALL.iter().enumerate().all(|(i, kind)| *kind as usize == i));
        assert_eq!(Kind::ALL.last(), Some(&Kind::Trace));
    }

    #[test]
    fn the_refusal_names_both() {
        let mut sequence = Sequence::new(Shape::default());
        let refused = sequence.advance(Direction::ToParent, Kind::Ready, true).unwrap_err();
        assert_eq!(refused.to_string(), "expected NamespacesReady, got Ready");
    }
}
