//! How is a queue tested without a kernel? Its rings and frames on the heap, and the kernel's ends in the test's hands.
//!
//! Private to the crate: [`FakeKernel`] reaches chunks without having their frames, so whoever plays the kernel must not do so
//! while octets of a packet are borrowed.

use crate::descriptor::{Descriptor, Faults};
use crate::frame::{Frame, carve};
use crate::packet::SEGMENTS_MAX;
use crate::ring::{Consumer, Producer, Ring};
use crate::rx::XskRx;
use crate::tx::{TxAbilities, XskTx};
use crate::umem::Umem;
use std::sync::Arc;

/// Where the kernel puts a received packet in a chunk (XDP_PACKET_HEADROOM).
pub(crate) const HEADROOM: u32 = 256;

/// The kernel's ends of a queue's rings.
pub(crate) struct FakeKernel {
    /// Empty frames for packets to be received.
    pub(crate) fill: Consumer<u64>,
    /// Received packets.
    pub(crate) rx: Producer<Descriptor>,
    /// Packets to transmit.
    pub(crate) tx: Consumer<Descriptor>,
    /// Frames that have been transmitted.
    pub(crate) completion: Producer<u64>,
    umem: Arc<Umem>,
    #[cfg_attr(not(test), allow(dead_code))]
    faults: Arc<Faults>,
}

/// A queue of `frames` frames of 2048 octets, half of them in its fill ring, with all ring indices at `start`.
pub(crate) fn queue(frames: u32, ring_entries: u32, start: u32) -> (XskRx, XskTx, FakeKernel) {
    let half = frames / 2;
    let umem = Arc::new(Umem::heap(frames, 2048));
    let faults = Arc::<Faults>::default();
    let (fill_in, fill) = Ring::heap(half.next_power_of_two(), start).into_ends();
    let (rx, rx_out) = Ring::heap(ring_entries, start).into_ends();
    let (tx_in, tx) = Ring::heap(ring_entries, start).into_ends();
    let (completion, completion_out) = Ring::heap(half.next_power_of_two(), start).into_ends();
    let abilities = TxAbilities { segments_max: SEGMENTS_MAX, checksum: true };
    let receiving = XskRx::new(rx_out, fill_in, umem.clone(), 0..half, faults.clone(), None);
    let transmitting = XskTx::new(tx_in, completion_out, umem.clone(), half..frames, abilities, faults.clone(), None);
    (receiving, transmitting, FakeKernel { fill, rx, tx, completion, umem, faults })
}

impl FakeKernel {
    /// Receives a packet in pieces of the given octets, one frame each. Returns false if frames or room are missing, with
    /// nothing shown to the other side.
    pub(crate) fn receive(&mut self, pieces: &[&[u8]]) -> bool {
        if self.rx.room(pieces.len() as u32) < pieces.len() as u32 {
            return false;
        }
        for (index, piece) in pieces.iter().enumerate() {
            let Some(addr) = self.fill.read() else { return false };
            self.poke(addr + u64::from(HEADROOM), piece);
            let options = if index + 1 < pieces.len() { libc::XDP_PKT_CONTD } else { 0 };
            let addr = addr + u64::from(HEADROOM);
            let written = self.rx.write(Descriptor { addr, len: piece.len() as u32, options });
            debug_assert!(written, "there was room");
        }
        self.fill.release();
        self.rx.publish();
        true
    }

    /// Takes the next packet to transmit, and completes its frames. Returns its octets and its first descriptor.
    pub(crate) fn transmit(&mut self) -> Option<(Vec<u8>, Descriptor)> {
        let mut octets = Vec::new();
        let mut first = None;
        loop {
            let descriptor = self.tx.read()?;
            octets.extend_from_slice(&self.read(descriptor.addr, descriptor.len));
            first = first.or(Some(descriptor));
            // There is room for all frames, unless a fuzzer has filled it with nonsense: then the frame stays here.
            let _ = self.completion.write(descriptor.addr);
            if descriptor.options & libc::XDP_PKT_CONTD == 0 {
                break;
            }
        }
        self.tx.release();
        self.completion.publish();
        Some((octets, first?))
    }

    /// Completes the frames of all packets to transmit. Returns how many packets.
    pub(crate) fn complete(&mut self) -> usize {
        let mut packets = 0;
        while let Some(descriptor) = self.tx.read() {
            packets += usize::from(descriptor.options & libc::XDP_PKT_CONTD == 0);
            let _ = self.completion.write(descriptor.addr);
        }
        self.tx.release();
        self.completion.publish();
        packets
    }

    /// Octets of the area: a frame that the kernel has.
    pub(crate) fn read(&self, addr: u64, len: u32) -> Vec<u8> {
        let (frame, offset) = self.borrow(addr);
        self.umem.octets(&frame, offset, len).to_vec()
    }

    /// Writes octets into the area.
    pub(crate) fn poke(&self, addr: u64, octets: &[u8]) {
        let (mut frame, offset) = self.borrow(addr);
        self.umem.octets_mut(&mut frame)[offset as usize..][..octets.len()].copy_from_slice(octets);
    }

    /// A frame that lives only for one copy, during which this thread borrows no other octets of the area.
    fn borrow(&self, addr: u64) -> (Frame, u32) {
        let chunk_bytes = u64::from(self.umem.chunk_bytes());
        let mut frames = carve((addr / chunk_bytes) as u32, 1);
        (frames.pop().expect("one was carved"), (addr % chunk_bytes) as u32)
    }

    #[cfg(test)]
    /// How often the two sides have seen this fault.
    pub(crate) fn faults(&self, fault: crate::descriptor::Fault) -> u64 {
        self.faults.get(fault)
    }
}
