//! The child's end of the socket against a parent that sends any frames with any fds; the system calls between are not made.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tandem::fuzzing::child_session(data));
