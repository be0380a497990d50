//! Can what the kernel wrote into a ring be believed? Checked here once, then relied upon.
//!
//! A wrong descriptor is a bug of a driver or of ours, not an attack that could be fenced off (the kernel can do anything),
//! but it must not become a panic, a read beyond a chunk, or one frame in two hands. It is refused and counted.

use crate::frame::{Frame, Lent, OpenLent};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A descriptor of the receive and transmit rings: `struct xdp_desc` in include/uapi/linux/if_xdp.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Descriptor {
    /// Offset of the first octet in the area.
    pub addr: u64,
    /// Octets.
    pub len: u32,
    /// `XDP_PKT_CONTD`, `XDP_TX_METADATA`.
    pub options: u32,
}

const _: () = assert!(size_of::<Descriptor>() == 16 && size_of::<Descriptor>() == size_of::<libc::xdp_desc>());

/// What is wrong with what the kernel handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// The address is outside the area, or in a chunk of another queue or the other direction.
    Foreign,
    /// The kernel does not have this frame: it returned it before, or never got it.
    NotLent,
    /// The length is zero or reaches beyond the chunk.
    Length,
    /// A ring's index moved by more than the ring's size.
    RingIndex,
    /// A packet in more pieces than [`crate::SEGMENTS_MAX`].
    TooManySegments,
    /// A checksum was asked for at a place outside the packet's first frame; the packet left without. Our bug, not the kernel's.
    ChecksumRequest,
}

impl Fault {
    /// All faults, in counter order.
    pub const ALL: [Fault; 6] = [
        Fault::Foreign,
        Fault::NotLent,
        Fault::Length,
        Fault::RingIndex,
        Fault::TooManySegments,
        Fault::ChecksumRequest,
    ];
}

/// Faults of one queue: written by its two sides, read by the control thread.
#[derive(Debug, Default)]
pub struct Faults([AtomicU64; Fault::ALL.len()]);

impl Faults {
    #[cold]
    pub(crate) fn add(&self, fault: Fault) {
        self.0[fault as usize].fetch_add(1, Relaxed);
    }

    /// How often this has happened.
    pub fn get(&self, fault: Fault) -> u64 {
        self.0[fault as usize].load(Relaxed)
    }
}

/// A received piece of a packet: like a [`Frame`] the only handle to its chunk. Made here only, and checked: the octets lie
/// inside a chunk of the queue.
#[derive(Debug)]
pub(crate) struct Segment(Descriptor);

impl Segment {
    /// The frame that the octets are in.
    #[inline]
    pub(crate) fn into_frame(self, chunks: Chunks) -> Frame {
        Frame::of_segment(chunks.split(self.0.addr).0)
    }

    #[inline]
    pub(crate) fn addr(&self) -> u64 {
        self.0.addr
    }

    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.0.len
    }

    /// Further pieces of the packet follow.
    #[inline]
    pub(crate) fn more(&self) -> bool {
        self.0.options & libc::XDP_PKT_CONTD != 0
    }
}

/// The piece that is a whole packet, as nearly all are. None, and nothing changed, if it is not or something is wrong.
#[inline(always)]
pub(crate) fn whole(descriptor: Descriptor, lent: &mut OpenLent<'_>, chunks: Chunks) -> Option<Segment> {
    let Descriptor { addr, len, options } = descriptor;
    let (chunk, offset) = chunks.split(addr);
    if len.wrapping_sub(1) >= chunks.bytes() - offset || options & libc::XDP_PKT_CONTD != 0 {
        return None;
    }
    // The frame lives on as the segment.
    let _ = lent.redeem(chunk)?;
    Some(Segment(descriptor))
}

/// Checks a descriptor of the receive ring. A frame that is ours again comes back even if its length makes no sense.
#[inline]
pub(crate) fn received(
    descriptor: Descriptor,
    lent: &mut Lent,
    chunks: Chunks,
) -> Result<Segment, (Fault, Option<Frame>)> {
    let Descriptor { addr, len, .. } = descriptor;
    let (chunk, offset) = chunks.split(addr);
    let mut lent = lent.open();
    let frame = lent.redeem(chunk).ok_or_else(|| (lent.fault(chunk), None))?;
    if len == 0 || len > chunks.bytes() - offset {
        return Err((Fault::Length, Some(frame)));
    }
    Ok(Segment(descriptor))
}

/// Checks an address of the completion ring.
#[inline(always)]
pub(crate) fn completed(addr: u64, lent: &mut OpenLent<'_>, chunks: Chunks) -> Option<Frame> {
    lent.redeem(chunks.split(addr).0)
}

/// What is wrong with an address of the completion ring that is not that of a frame.
#[cold]
pub(crate) fn fault(addr: u64, lent: &OpenLent<'_>, chunks: Chunks) -> Fault {
    lent.fault(chunks.split(addr).0)
}

/// How an area is cut: into chunks of equal size, a power of two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunks {
    shift: u32,
}

impl Chunks {
    /// Of so many octets each.
    pub(crate) const fn of(bytes: u32) -> Self {
        assert!(bytes.is_power_of_two());
        Self { shift: bytes.trailing_zeros() }
    }

    /// Octets of a chunk.
    #[inline]
    pub(crate) const fn bytes(self) -> u32 {
        1 << self.shift
    }

    /// Where a chunk begins in the area.
    #[inline]
    pub(crate) fn start(self, chunk: u32) -> u64 {
        u64::from(chunk) << self.shift
    }

    /// In which chunk an address is, and where in it.
    #[inline]
    fn split(self, addr: u64) -> (u64, u32) {
        (addr >> self.shift, addr as u32 & (self.bytes() - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::carve;

    const CHUNKS: Chunks = Chunks::of(2048);

    fn all_lent() -> Lent {
        let mut lent = Lent::new(4, 4);
        for frame in carve(4, 4) {
            lent.lend(frame);
        }
        lent
    }

    fn fault_of(addr: u64, len: u32) -> (Fault, bool) {
        let descriptor = Descriptor { addr, len, options: 0 };
        assert!(whole(descriptor, &mut all_lent().open(), CHUNKS).is_none());
        let (fault, frame) = received(descriptor, &mut all_lent(), CHUNKS).expect_err("hostile");
        (fault, frame.is_some())
    }

    #[test]
    fn hostile_descriptors_make_no_segment() {
        let base = 4 * 2048;
        assert_eq!(fault_of(0, 60), (Fault::Foreign, false));
        assert_eq!(fault_of(8 * 2048, 60), (Fault::Foreign, false));
        assert_eq!(fault_of(u64::MAX, 60), (Fault::Foreign, false));
        assert_eq!(fault_of(base | 1 << 48, 60), (Fault::Foreign, false));
        assert_eq!(fault_of(base, 0), (Fault::Length, true));
        assert_eq!(fault_of(base, 2049), (Fault::Length, true));
        assert_eq!(fault_of(base + 2047, 2), (Fault::Length, true));
        assert_eq!(fault_of(base + 256, u32::MAX), (Fault::Length, true));
    }

    #[test]
    fn a_frame_returned_twice_is_refused() {
        let mut lent = all_lent();
        let descriptor = Descriptor { addr: 5 * 2048 + 256, len: 1792, options: 0 };
        let segment = received(descriptor, &mut lent, CHUNKS).expect("fits to the last octet");
        assert_eq!((segment.addr(), segment.len()), (5 * 2048 + 256, 1792));
        assert_eq!(segment.into_frame(CHUNKS).chunk(), 5);
        assert_eq!(received(descriptor, &mut lent, CHUNKS).expect_err("twice").0, Fault::NotLent);
        assert!(
            whole(descriptor, &mut lent.open(), CHUNKS).is_none()
                && completed(5 * 2048, &mut lent.open(), CHUNKS).is_none(),
            "twice"
        );
        assert_eq!(fault(5 * 2048, &lent.open(), CHUNKS), Fault::NotLent);
    }
}
