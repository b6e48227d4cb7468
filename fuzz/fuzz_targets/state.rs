//! Any text as a container's state.json: what is taken is written back the same, and names no cgroup elsewhere.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tandem::fuzzing::state(data));
