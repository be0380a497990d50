//! How does the rest of the switch see a packet that lies in one or several frames of the kernel's memory?

use arrayvec::ArrayVec;

/// Most frames one packet may span: MTU 9000 with two tags in chunks of 2 KiB needs 6.
pub const SEGMENTS_MAX: usize = 8;

/// A packet as received: read-only, in wire order, whole from destination MAC to the last octet (no FCS).
///
/// The first segment holds all headers that a switch reads, or the whole packet if that is shorter.
#[derive(Clone, Debug, Default)]
pub struct Packet<'a> {
    segments: ArrayVec<&'a [u8], SEGMENTS_MAX>,
    len: u32,
}

impl<'a> Packet<'a> {
    /// A packet in one segment.
    pub fn contiguous(octets: &'a [u8]) -> Self {
        let mut packet = Self::default();
        packet.push(octets);
        packet
    }

    /// Appends a segment; more than [`SEGMENTS_MAX`] are a bug of the receive path, which refuses such chains.
    pub fn push(&mut self, octets: &'a [u8]) {
        self.len += octets.len() as u32;
        self.segments.push(octets);
    }

    /// The first `len` octets of it.
    pub fn truncated(&self, len: usize) -> Self {
        let mut packet = Self::default();
        for segment in &self.segments {
            let rest = len - packet.len().min(len);
            packet.push(&segment[..rest.min(segment.len())]);
        }
        packet
    }

    /// Octets in all segments.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// The first segment: the headers. Empty only for a packet without segments.
    pub fn head(&self) -> &'a [u8] {
        self.segments.first().copied().unwrap_or(&[])
    }

    /// All segments in order.
    pub fn segments(&self) -> &[&'a [u8]] {
        &self.segments
    }
}
