//! Frames to bytes and back: the only user of bincode, so that the encoding can be replaced in one place.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::ProtocolError;

/// The largest frame, in bytes. Well under the default socket buffer (208 KiB), so a frame never needs a bigger one.
pub const FRAME_CAP: usize = 64 * 1024;

/// How many bytes of a bigger payload go in one frame; the rest is the message around it.
pub const PART_SIZE: usize = FRAME_CAP - 64;

/// The largest payload that is put together from parts, in bytes: 10,000 mounts and a 1 MiB environment fit many times.
pub const PAYLOAD_CAP: usize = 64 * 1024 * 1024;

/// How much memory the traces of one conversation may take on the side that collects them, in bytes: a hundred thousand
/// events of the usual length.
pub const TRACE_CAP: usize = 64 * 1024 * 1024;

/// The largest number of fds in one frame: the kernel's `SCM_MAX_FD`.
pub const FDS_CAP: usize = 253;

/// Little-endian, variable-length integers; the limit bounds what a length prefix can make the decoder allocate.
fn config<const LIMIT: usize>() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<LIMIT>()
}

/// One frame.
///
/// # Errors
/// [`ProtocolError::Oversize`] over [`FRAME_CAP`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, ProtocolError> {
    let frame = encode_payload(message)?;
    if frame.len() > FRAME_CAP { Err(ProtocolError::Oversize(frame.len())) } else { Ok(frame) }
}

/// The message that is exactly this frame.
///
/// # Errors
/// [`ProtocolError::Oversize`], [`ProtocolError::Malformed`], [`ProtocolError::TrailingBytes`].
pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, ProtocolError> {
    if frame.len() > FRAME_CAP {
        return Err(ProtocolError::Oversize(frame.len()));
    }
    let (message, read) = bincode::serde::decode_from_slice(frame, config::<FRAME_CAP>()).map_err(malformed)?;
    if read < frame.len() { Err(ProtocolError::TrailingBytes(frame.len() - read)) } else { Ok(message) }
}

/// A value too big for one frame, to be cut into parts.
///
/// # Errors
/// [`ProtocolError::PayloadTooBig`] over [`PAYLOAD_CAP`].
pub fn encode_payload<T: Serialize>(value: &T) -> Result<Vec<u8>, ProtocolError> {
    let mut bytes = vec![];
    append(&mut bytes, value)?;
    if bytes.len() > PAYLOAD_CAP { Err(ProtocolError::PayloadTooBig(bytes.len())) } else { Ok(bytes) }
}

/// Writes a value behind others.
///
/// # Errors
/// It can't be encoded.
pub(super) fn append<T: Serialize>(bytes: &mut Vec<u8>, value: &T) -> Result<(), ProtocolError> {
    // The types are ours and hold nothing that bincode refuses; still no panic.
    let written = bincode::serde::encode_into_std_write(value, bytes, bincode::config::standard());
    written.map(drop).map_err(|e| ProtocolError::Malformed(e.to_string()))
}

/// The value that the bytes begin with, which may borrow of them, and how many it takes.
///
/// # Errors
/// [`ProtocolError::Malformed`].
pub(super) fn decode_first<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, usize), ProtocolError> {
    bincode::serde::borrow_decode_from_slice(bytes, config::<FRAME_CAP>()).map_err(malformed)
}

/// The value that is exactly these bytes, put together from parts.
///
/// # Errors
/// As [`decode`].
pub fn decode_payload<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ProtocolError> {
    let (value, read) = bincode::serde::decode_from_slice(bytes, config::<PAYLOAD_CAP>()).map_err(malformed)?;
    if read < bytes.len() { Err(ProtocolError::TrailingBytes(bytes.len() - read)) } else { Ok(value) }
}

fn malformed(e: bincode::error::DecodeError) -> ProtocolError {
    ProtocolError::Malformed(e.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::{any_to_child, any_to_parent};
    use super::super::{ToChild, ToParent};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn to_child_round_trips(message in any_to_child()) {
            prop_assert_eq!(decode::<ToChild>(&encode(&message).unwrap()).unwrap(), message);
        }

        #[test]
        fn to_parent_round_trips(message in any_to_parent()) {
            prop_assert_eq!(decode::<ToParent>(&encode(&message).unwrap()).unwrap(), message);
        }

        #[test]
        fn a_short_frame_is_malformed(message in any_to_child(), cut in 0usize..64) {
            let frame = encode(&message).unwrap();
            let short = &frame[..frame.len().saturating_sub(1 + cut)];
            prop_assert!(matches!(decode::<ToChild>(short), Err(ProtocolError::Malformed(_))));
        }

        #[test]
        fn a_long_frame_has_trailing_bytes(message in any_to_parent(), extra in 1usize..100) {
            let mut frame = encode(&message).unwrap();
            frame.extend(vec![0; extra]);
            prop_assert_eq!(decode::<ToParent>(&frame), Err(ProtocolError::TrailingBytes(extra)));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
            let _ = decode::<ToChild>(&bytes);
            let _ = decode::<ToParent>(&bytes);
        }
    }

    #[test]
    fn an_oversize_frame_is_its_own_error_on_both_sides() {
        let bytes = vec![0; FRAME_CAP + 1];
        assert_eq!(decode::<ToChild>(&bytes), Err(ProtocolError::Oversize(FRAME_CAP + 1)));
        let message = ToChild::Plan(super::super::Part { bytes, last: true });
        assert!(matches!(encode(&message), Err(ProtocolError::Oversize(_))));
    }

    #[test]
    fn a_lying_length_prefix_allocates_nothing() {
        // Variant 0 (Plan), then a length of u64::MAX.
        let mut frame = vec![0u8, 253];
        frame.extend(u64::MAX.to_le_bytes());
        assert!(matches!(decode::<ToChild>(&frame), Err(ProtocolError::Malformed(_))));
    }
}
