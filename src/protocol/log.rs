//! Events as they are kept and sent: one behind the other in one buffer, as their encoding. Nothing else is made of them
//! before somebody looks: most traces go to a file once, and those of a ring to nobody.

use super::codec;
use super::event::Event;
use super::{ProtocolError, codec::PART_SIZE};

/// Events, of which the oldest go where there are too many.
#[derive(Debug)]
pub(super) struct Log {
    new: Vec<u8>,
    /// In `new`.
    count: u64,
    /// The half that goes first.
    old: Vec<u8>,
    /// In `old`.
    old_count: u64,
    dropped: u64,
    /// At how many bytes `new` is full; 0 for never.
    half: usize,
}

impl Default for Log {
    fn default() -> Log {
        Log::new()
    }
}

impl Log {
    /// One that keeps all.
    pub(super) const fn new() -> Log {
        Log { new: Vec::new(), count: 0, old: Vec::new(), old_count: 0, dropped: 0, half: 0 }
    }

    /// One that keeps its newest events: those that take half of so many bytes at least.
    pub(super) fn ring(bytes: usize) -> Log {
        Log { half: bytes / 2, ..Log::new() }
    }

    pub(super) fn push(&mut self, event: &Event<&str>) {
        let before = self.new.len();
        if codec::append(&mut self.new, event).is_ok() {
            self.count += 1;
        } else {
            self.new.truncate(before);
            self.dropped += 1;
        }
        self.turn();
    }

    /// Moves all of another's here.
    pub(super) fn append(&mut self, other: &mut Log) {
        self.extend(&other.new, other.count);
        other.clear();
    }

    /// Takes so many events over that another log has written.
    pub(super) fn extend(&mut self, events: &[u8], count: u64) {
        self.new.extend_from_slice(events);
        self.count += count;
        self.turn();
    }

    fn turn(&mut self) {
        if self.half > 0 && self.new.len() > self.half {
            self.dropped += self.old_count;
            self.old = std::mem::take(&mut self.new);
            self.old_count = std::mem::take(&mut self.count);
        }
    }

    /// Forgets all; the buffer stays.
    pub(super) fn clear(&mut self) {
        self.new.clear();
        self.old.clear();
        (self.count, self.old_count) = (0, 0);
    }

    /// What they take, in bytes.
    pub(super) fn size(&self) -> usize {
        self.old.len() + self.new.len()
    }

    /// How many events are gone.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The events, in the order in which they came.
    pub(super) fn events(&self) -> impl Iterator<Item = Event<&str>> {
        // What is here has been encoded or decoded before.
        decoded(&self.old).chain(decoded(&self.new)).map_while(Result::ok)
    }

    /// Takes the encoded events out, in pieces of a frame's size, none of them cut.
    pub(super) fn take_pieces(&mut self) -> Vec<Vec<u8>> {
        let halves = [std::mem::take(&mut self.old), std::mem::take(&mut self.new)];
        self.clear();
        halves.into_iter().filter(|half| !half.is_empty()).flat_map(pieces).collect()
    }
}

fn pieces(all: Vec<u8>) -> Vec<Vec<u8>> {
    if all.len() <= PART_SIZE {
        return vec![all];
    }
    let (mut pieces, mut begin, mut end) = (vec![], 0, 0);
    while let Some(Ok((_, size))) = (end < all.len()).then(|| codec::decode_first::<Event<&str>>(&all[end..])) {
        if end + size - begin > PART_SIZE {
            pieces.push(all[begin..end].to_vec());
            begin = end;
        }
        end += size;
    }
    pieces.push(all[begin..end].to_vec());
    pieces
}

/// The events that bytes are, up to what is none.
pub(super) fn decoded(mut bytes: &[u8]) -> impl Iterator<Item = Result<Event<&str>, ProtocolError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let first = codec::decode_first(bytes);
        bytes = first.as_ref().map_or(&[], |(_, size)| &bytes[*size..]);
        Some(first.map(|(event, _)| event))
    })
}
