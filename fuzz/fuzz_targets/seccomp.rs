//! Any text as `linux.seccomp`; a profile that is taken is compiled, which ends in a program or in an error.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tandem::fuzzing::seccomp(data));
