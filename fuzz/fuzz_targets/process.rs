//! Any text as the process.json of `exec`. A plan that is made can be sent.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tandem::fuzzing::process(data));
