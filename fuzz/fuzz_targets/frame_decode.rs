//! Any bytes as a frame of either direction, and as a payload: what is taken is written back as the same message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem::plan::ChildPlan;
use tandem::protocol::codec::{decode, decode_payload, encode, encode_payload};
use tandem::protocol::{ToChild, ToParent};

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = decode::<ToChild>(data) {
        assert_eq!(decode::<ToChild>(&encode(&message).expect("encodes")).expect("decodes"), message);
    }
    if let Ok(message) = decode::<ToParent>(data) {
        assert_eq!(decode::<ToParent>(&encode(&message).expect("encodes")).expect("decodes"), message);
    }
    if let Ok(plan) = decode_payload::<ChildPlan>(data) {
        let again = encode_payload(&plan).expect("encodes");
        assert_eq!(decode_payload::<ChildPlan>(&again).expect("decodes"), plan);
    }
});
