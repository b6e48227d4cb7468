//! Any words, separated by commas, as the options of a mount.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tandem::fuzzing::mount_options(data));
