//! How does the rest of the switch see a packet that lies in one or several frames of the kernel's memory?

use std::fmt;

/// Most frames one packet may span: MTU 9000 with two tags in chunks of 2 KiB needs 6.
pub const SEGMENTS_MAX: usize = 8;

/// Where the further segments of packets are.
pub trait Segments {
    /// Segment number `index` of the packet that begins at `at`, counted from the packet's first one, 0; empty behind the last one.
    fn segment(&self, at: u32, index: usize) -> &[u8];
}

impl Segments for Vec<&[u8]> {
    fn segment(&self, at: u32, index: usize) -> &[u8] {
        self.get(at as usize + index).copied().unwrap_or(&[])
    }
}

/// A packet as received: read-only, in wire order, whole from destination MAC to the last octet (no FCS).
///
/// The first segment holds all headers that a switch reads, or the whole packet if that is shorter. It is at hand; who
/// keeps further ones is asked for them: few packets have any, and a record of all would be large.
#[derive(Clone, Copy)]
pub struct Packet<'a> {
    head: &'a [u8],
    len: u32,
    at: u32,
    rest: Option<&'a dyn Segments>,
}

impl<'a> Packet<'a> {
    /// A packet in one segment.
    #[inline]
    pub const fn contiguous(octets: &'a [u8]) -> Self {
        Self { head: octets, len: octets.len() as u32, at: 0, rest: None }
    }

    /// A packet of `len` octets, which are in the segments that begin at `at`.
    pub fn segmented(segments: &'a dyn Segments, at: u32, len: u32) -> Self {
        Self { head: segments.segment(at, 0), len, at, rest: Some(segments) }
    }

    /// The first `len` octets of it.
    #[must_use]
    pub fn truncated(&self, len: usize) -> Self {
        let len = len.min(self.len());
        Self { head: &self.head[..len.min(self.head.len())], len: len as u32, ..*self }
    }

    /// Octets in all segments.
    #[allow(clippy::len_without_is_empty)]
    #[inline]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// The first segment: the headers. Empty only for a packet without segments.
    #[inline]
    pub const fn head(&self) -> &'a [u8] {
        self.head
    }

    /// The segments behind the first one, in order.
    #[inline]
    pub fn rest(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut left = self.len() - self.head.len();
        let (rest, at) = (self.rest, self.at);
        (1..).map_while(move |index| {
            let segment = if left > 0 { rest?.segment(at, index) } else { &[] };
            let segment = &segment[..left.min(segment.len())];
            left -= segment.len();
            (!segment.is_empty()).then_some(segment)
        })
    }

    /// All segments in order.
    pub fn segments(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        std::iter::once(self.head).chain(self.rest())
    }

    /// All octets, for tests.
    pub fn to_vec(&self) -> Vec<u8> {
        self.segments().flatten().copied().collect()
    }
}

impl Default for Packet<'_> {
    /// Without octets.
    fn default() -> Self {
        Self::contiguous(&[])
    }
}

impl fmt::Debug for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.segments()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_ends_where_it_is_cut() {
        let pieces: Vec<&[u8]> = vec![&[9], &[1, 2, 3], &[4, 5], &[6]];
        let packet = Packet::segmented(&pieces, 1, 6);
        assert_eq!((packet.head(), packet.to_vec()), (&[1, 2, 3][..], vec![1, 2, 3, 4, 5, 6]));
        for len in 0..9 {
            let expected = &[1, 2, 3, 4, 5, 6][..len.min(6)];
            let cut = packet.truncated(len);
            assert_eq!((cut.len(), cut.to_vec()), (expected.len(), expected.to_vec()));
        }
        assert_eq!(Packet::contiguous(&[7]).rest().count(), 0);
    }
}
