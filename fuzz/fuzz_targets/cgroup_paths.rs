//! Any text as `linux.cgroupsPath`, by a file system path and by systemd's three parts: none leads out of the hierarchy.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tandem::fuzzing::cgroup_paths(data));
