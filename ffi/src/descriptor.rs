//! Can what the kernel wrote into a ring be believed? Checked here once, then relied upon.
//!
//! A wrong descriptor is a bug of a driver or of ours, not an attack that could be fenced off (the kernel can do anything),
//! but it must not become a panic, a read beyond a chunk, or one frame in two hands. It is refused and counted.

use crate::frame::{Frame, Lent};
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

/// A received piece of a packet: a frame, and where in it the octets are. Checked: they lie inside the chunk.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) frame: Frame,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// Checks a descriptor of the receive ring. A frame that is ours again comes back even if its length makes no sense.
#[inline]
pub(crate) fn received(
    descriptor: Descriptor,
    lent: &mut Lent,
    chunk_bytes: u32,
) -> Result<Segment, (Fault, Option<Frame>)> {
    let (chunk, offset) = split(descriptor.addr, chunk_bytes).map_err(|fault| (fault, None))?;
    let frame = lent.redeem(chunk).map_err(|fault| (fault, None))?;
    if descriptor.len == 0 || descriptor.len > chunk_bytes - offset {
        return Err((Fault::Length, Some(frame)));
    }
    Ok(Segment { frame, offset, len: descriptor.len })
}

/// Checks an address of the completion ring.
#[inline]
pub(crate) fn completed(addr: u64, lent: &mut Lent, chunk_bytes: u32) -> Result<Frame, Fault> {
    lent.redeem(split(addr, chunk_bytes)?.0)
}

/// The address as chunk and offset. An aligned area's chunk sizes are powers of two.
#[inline]
fn split(addr: u64, chunk_bytes: u32) -> Result<(u32, u32), Fault> {
    let chunk = addr >> chunk_bytes.trailing_zeros();
    let offset = addr as u32 & (chunk_bytes - 1);
    Ok((u32::try_from(chunk).map_err(|_| Fault::Foreign)?, offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::carve;

    fn all_lent() -> Lent {
        let mut lent = Lent::new(4, 4);
        for frame in carve(4, 4) {
            lent.lend(frame);
        }
        lent
    }

    fn fault_of(addr: u64, len: u32) -> (Fault, bool) {
        let (fault, frame) =
            received(Descriptor { addr, len, options: 0 }, &mut all_lent(), 2048).expect_err("hostile");
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
        let segment = received(descriptor, &mut lent, 2048).expect("fits to the last octet");
        assert_eq!((segment.frame.chunk(), segment.offset, segment.len), (5, 256, 1792));
        assert_eq!(received(descriptor, &mut lent, 2048).expect_err("twice").0, Fault::NotLent);
        assert_eq!(completed(5 * 2048, &mut lent, 2048).expect_err("twice"), Fault::NotLent);
    }
}
