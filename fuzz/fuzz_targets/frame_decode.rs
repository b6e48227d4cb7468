//! Any bytes as a frame of either direction, and as a payload: what is taken is written back as the same message.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tandem::fuzzing::frame_decode(data));
