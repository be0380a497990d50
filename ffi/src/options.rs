//! How large are the rings and frames of a queue?

use std::ops::RangeInclusive;

/// How large the parts of a queue are.
#[derive(Clone, Copy, Debug)]
pub struct QueueOptions {
    /// Entries of the receive and of the transmit ring: a power of two.
    pub ring_entries: u32,
    /// Frames of a queue: a third of them transmit, the others receive. (A sent packet's frame is back before the next
    /// burst as a rule; received ones must last while the worker is elsewhere.)
    pub frames: u32,
    /// Octets of a frame: 2048 or 4096. A packet may span [`SEGMENTS_MAX`](crate::SEGMENTS_MAX) frames; the kernel keeps 256 octets of each
    /// received one for itself.
    pub chunk_bytes: u32,
    /// Packets that one system call transmits in copy mode, where the kernel lets it be chosen (32 elsewhere).
    pub tx_budget: u32,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self { ring_entries: 256, frames: 384, chunk_bytes: 2048, tx_budget: 128 }
    }
}

/// How many entries a ring may have, of which it has a power of two.
pub const RING_ENTRIES: RangeInclusive<u32> = 64..=1 << 16;

impl QueueOptions {
    /// The same with rings of so many entries, a power of two, and as many frames as go with them.
    #[must_use]
    pub fn with_rings(self, ring_entries: u32) -> Self {
        Self { ring_entries, frames: ring_entries + ring_entries / 2, ..self }
    }
}
