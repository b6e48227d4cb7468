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
use crate::plan::process::Extras;
use crate::plan::seccomp::FilterPlan;
use crate::plan::strategy::MountApi;
use crate::plan::{CgroupManager, ChildPlan, Choices, Plan, load};
use crate::protocol::codec;
use crate::state::Record;

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

/// A config.json, planned for hosts of several kinds.
pub fn config(text: &[u8]) {
    let Ok(spec) = load::spec_from_text(text) else { return };
    for host in hosts() {
        let id = ContainerId::parse("fuzzed").expect("an ID");
        if let Ok(plan) = Plan::from_spec(&spec, id, Path::new("/bundle"), &host, choices()) {
            must_travel(&plan.child);
            assert!(plan.mount_strategy.describe().contains(':') || !plan.mount_strategy.describe().is_empty());
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
pub fn cgroup_path(text: &str) {
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
