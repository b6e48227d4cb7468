//! What the fuzz targets in `fuzz/` need of the crate's insides. Only under `--cfg fuzzing`: no build for use has it.
//!
//! Each takes any input, and panics only on what must not be: a broken invariant is a finding, an error is an answer.

use std::collections::BTreeMap;
use std::path::Path;

use oci_spec::runtime::{LinuxSeccomp, Process};

use crate::cgroup::Layout;
use crate::cgroup::systemd::UnitPlan;
use crate::plan::annotations::Annotations;
use crate::plan::host::Host;
use crate::plan::id::ContainerId;
use crate::plan::options::Options;
use crate::plan::process::Extras;
use crate::plan::seccomp::FilterPlan;
use crate::plan::strategy::MountApi;
use crate::plan::{CgroupManager, ChildPlan, Choices, Plan, load};
use crate::protocol::sequence::{Direction, Sequence};
use crate::protocol::{Forks, Shape, ToChild, ToParent, codec};
use crate::replay;
use crate::state::Record;

/// All targets by name, each a file of `fuzz/fuzz_targets` too.
pub const TARGETS: [(&str, fn(&[u8])); 9] = [
    ("frame_decode", frame_decode),
    ("parent_session", parent_session),
    ("child_session", child_session),
    ("config", config),
    ("process", process),
    ("seccomp", seccomp),
    ("mount_options", mount_options),
    ("cgroup_paths", cgroup_paths),
    ("state", state),
];

/// The machine's root with all of the new mount API, the same with none of it, and an ordinary user.
fn hosts() -> [Host; 3] {
    let all = MountApi { open_tree: true, move_mount: true, fsopen: true, mount_setattr: true, namespace: true };
    [
        Host { root: true, initial_userns: true, mount_api: all, resctrl: true, ..Host::default() },
        Host { root: true, initial_userns: true, selinux: true, apparmor: true, ..Host::default() },
        Host { mount_api: all, seccomp_receiver: Some("/run/receiver".into()), ..Host::default() },
    ]
}

fn choices() -> Choices<'static> {
    Choices {
        no_pivot: false,
        cgroups: CgroupManager::Cgroupfs,
        tolerance: None,
        trace: true,
        notify: None,
        extras: Extras { preserve_fds: 0, listen_fds: 0, keyring: Some("_ses.x") },
    }
}

/// What is planned can be sent, and is the same on the other side.
fn must_travel(plan: &ChildPlan) {
    let sent = codec::encode_payload(plan).expect("a plan of one file fits");
    assert_eq!(&codec::decode_payload::<ChildPlan>(&sent).expect("it decodes"), plan);
}

/// Any bytes as a frame of either direction, and as a payload: what is taken is written back as the same message.
pub fn frame_decode(data: &[u8]) {
    if let Ok(message) = codec::decode::<ToChild>(data) {
        assert_eq!(codec::decode::<ToChild>(&codec::encode(&message).expect("encodes")).expect("decodes"), message);
    }
    if let Ok(message) = codec::decode::<ToParent>(data) {
        assert_eq!(codec::decode::<ToParent>(&codec::encode(&message).expect("encodes")).expect("decodes"), message);
    }
    if let Ok(plan) = codec::decode_payload::<ChildPlan>(data) {
        must_travel(&plan);
    }
}

/// Any words, separated by commas, as the options of a mount: an error names the property.
pub fn mount_options(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else { return };
    let words: Vec<String> = text.split(',').map(str::to_owned).collect();
    if let Err(error) = Options::parse(&words, "mounts[0].options") {
        assert!(error.to_string().contains("mounts[0].options"), "it names no property: {error}");
    }
}

/// A config.json, planned for hosts of several kinds.
pub fn config(text: &[u8]) {
    let Ok(spec) = load::spec_from_text(text) else { return };
    for host in hosts() {
        let id = ContainerId::parse("fuzzed").expect("an ID");
        if let Ok(plan) = Plan::from_spec(&spec, id, Path::new("/bundle"), &host, choices()) {
            must_travel(&plan.child);
            assert!(!plan.mount_strategy.describe().is_empty());
        }
    }
}

/// A process.json, planned for an `exec`.
pub fn process(text: &[u8]) {
    let Ok(process) = load::parse::<Process>(text) else { return };
    for host in hosts() {
        if let Ok(plan) = ChildPlan::exec(&process, None, false, &host, choices()) {
            must_travel(&plan);
        }
    }
}

/// A `linux.seccomp`, planned and compiled.
pub fn seccomp(text: &[u8]) {
    let Ok(profile) = load::parse::<LinuxSeccomp>(text) else { return };
    let receiver = Some(Path::new("/run/receiver"));
    let Ok(Some(plan)) = FilterPlan::choose(Some(&profile), &Annotations::default(), receiver) else { return };
    if let Ok(program) = crate::parent::filter::compile(&plan) {
        assert!(!program.is_empty() && program.len().is_multiple_of(crate::sys::seccomp::INSTRUCTION_SIZE));
    }
}

/// A `linux.cgroupsPath`: each way to read it stays below the mount point.
pub fn cgroup_paths(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else { return };
    let path = Path::new(text);
    crate::cgroup::fuzzing::stays_below(path);
    for layout in [Layout::V1, Layout::Hybrid, Layout::V2] {
        for root in [true, false] {
            let Ok(unit) = UnitPlan::new(Some(path), "fuzzed", root, &BTreeMap::new(), layout) else { continue };
            let place = unit.names.path();
            let leads_out = place.split('/').any(|step| matches!(step, "." | ".."));
            assert!(!leads_out && !place.contains('\0'), "`{text}` leads to `{place}`");
        }
    }
}

/// A state.json.
pub fn state(text: &[u8]) {
    let Ok(record) = load::parse::<Record>(text) else { return };
    let again = serde_json::to_vec(&record).expect("it is written");
    assert_eq!(load::parse::<Record>(&again).expect("it is read again"), record);
    if let Some(cgroup) = &record.cgroup {
        crate::cgroup::fuzzing::checked_places_stay_below(cgroup);
    }
}

/// The lowest number that an fd opened now would have: the same before and after what leaks none.
fn next_fd() -> i32 {
    use std::os::fd::AsRawFd;
    rustix::io::dup(rustix::stdio::stdin()).map_or(-1, |fd| fd.as_raw_fd())
}

/// The parent's end against a child that says anything with any fds: it ends, and holds no fd after it.
pub fn parent_session(data: &[u8]) {
    let [low, high, rest @ ..] = data else { return };
    let bits = u16::from_le_bytes([*low, *high]);
    let bit = |n: u16| bits & (1 << n) != 0;
    let shape = Shape {
        joins: bit(0),
        late_userns: bit(1),
        forks: match (bit(2), bit(12)) {
            (false, _) => Forks::Never,
            (true, false) => Forks::First,
            (true, true) => Forks::Last,
        },
        sources: bit(3),
        stage: bit(4),
        hooks: bit(5),
        terminal: bit(6),
        hook_output: bit(7).then_some((true, bit(8))),
        filter: bit(9),
        listener: bit(10),
    };
    let sequence = if bit(11) { Sequence::start(bit(10)) } else { Sequence::new(shape) };
    let mut frames = replay::unpack(rest);
    // What the parent itself says is not the child's to choose.
    frames.retain(|f| f.direction == Direction::ToParent || replay::kind_of(f).is_some());
    let before = next_fd();
    let _ = replay::against_parent(&frames, sequence, &mut |_, _| Ok(()));
    assert_eq!(next_fd(), before, "an fd is left open");
}

/// The child itself, with a double for its kernel, against a parent that says anything with any fds: it keeps to its order
/// (`src/kernel/order.rs`), and holds no fd after it.
pub fn child_session(data: &[u8]) {
    // What the double opens once is not the child's.
    crate::kernel::played::from_bytes(&[]);
    let before = next_fd();
    crate::kernel::played::from_bytes(data);
    assert_eq!(next_fd(), before, "an fd is left open");
}
