//! The parent's end of the socket against a child that sends any frames with any fds.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tandem::fuzzing::parent_session(data));
