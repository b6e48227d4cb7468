//! All targets in one program, which `FUZZ_TARGET` chooses one of: to build, and to link, it costs as much as one of those in
//! `fuzz_targets`, which are for cargo-fuzz. What `scripts/fuzz` runs.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tandem::fuzzing::TARGETS;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    let (_, target) =
        TARGETS.iter().find(|(name, _)| *name == wanted).expect("FUZZ_TARGET names one of `fuzz_targets`");
    *target
});

fuzz_target!(|data: &[u8]| TARGET(data));
