//! How do received packets reach the switch, and how do their frames get back to the kernel?
//!
//! One [`XskRx`] is the receiving half of a queue: the receive ring (kernel → us) and the fill ring (us → kernel). Its frames
//! are in the fill ring, with the kernel, or in packets that the switch is reading; the fill ring has room for all of them.

use crate::descriptor::{self, Descriptor, Fault, Faults, Segment};
use crate::frame::{Frame, FrameCount, Lent, carve};
use crate::packet::{Packet, SEGMENTS_MAX};
use crate::pool::Pool;
use crate::ring::{Consumer, Producer};
use crate::socket::Socket;
use crate::umem::Umem;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// The receiving half of a queue.
pub struct XskRx {
    rx: Consumer<Descriptor>,
    fill: Producer<u64>,
    umem: Arc<Umem>,
    lent: Lent,
    /// Frames that the fill ring had no room for: none unless the kernel's index is broken.
    spare: Pool,
    /// Pieces of held packets in order, then those of a packet whose end has not yet arrived.
    segments: Vec<Segment>,
    packets: Vec<Held>,
    /// Where in `segments` the packet that is arriving begins.
    arriving: usize,
    /// The packet that is arriving is being dropped up to its end.
    discarding: bool,
    faults: Arc<Faults>,
    socket: Option<Arc<Socket>>,
}

/// A whole packet: where its pieces are in [`XskRx::segments`], and their octets together.
struct Held {
    first: u32,
    end: u32,
    len: u32,
}

impl XskRx {
    /// The receiving half over these rings, with the chunks of `frames`, all of which go into the fill ring at once.
    /// `socket` is `None` where a test plays the kernel.
    pub(crate) fn new(
        rx: Consumer<Descriptor>,
        fill: Producer<u64>,
        umem: Arc<Umem>,
        frames: Range<u32>,
        faults: Arc<Faults>,
        socket: Option<Arc<Socket>>,
    ) -> Self {
        let count = frames.end - frames.start;
        let mut half = Self {
            rx,
            fill,
            umem,
            lent: Lent::new(frames.start, count),
            spare: Pool::empty(count),
            segments: Vec::with_capacity(count as usize),
            packets: Vec::with_capacity(count as usize),
            arriving: 0,
            discarding: false,
            faults,
            socket,
        };
        for frame in carve(frames.start, count) {
            half.give_back(frame);
        }
        half.fill.publish();
        half
    }

    /// Takes up to `max` whole packets, which stay readable until [`XskRx::release`]. Returns how many are held; while
    /// packets are held from before, takes no more.
    #[inline]
    pub fn receive(&mut self, max: usize) -> usize {
        if self.packets.is_empty() {
            while self.packets.len() < max {
                let Some(descriptor) = self.rx.read() else { break };
                self.accept(descriptor);
            }
            self.rx.release();
            for _ in 0..self.rx.take_index_faults() {
                self.faults.add(Fault::RingIndex);
            }
        }
        self.packets.len()
    }

    /// The held packet number `index`.
    ///
    /// # Panics
    /// If fewer packets are held.
    #[inline]
    pub fn packet(&self, index: usize) -> Packet<'_> {
        let held = &self.packets[index];
        let mut packet = Packet::default();
        for segment in &self.segments[held.first as usize..held.end as usize] {
            packet.push(self.umem.octets(&segment.frame, segment.offset, segment.len));
        }
        packet
    }

    /// The first segment of the held packet number `index`, and the octets of the whole packet.
    ///
    /// # Panics
    /// If fewer packets are held.
    #[inline]
    pub fn head(&self, index: usize) -> (&[u8], usize) {
        let held = &self.packets[index];
        let first = &self.segments[held.first as usize];
        (self.umem.octets(&first.frame, first.offset, first.len), held.len as usize)
    }

    /// Gives the frames of all held packets back to the kernel. A packet whose end has not yet arrived stays.
    #[inline]
    pub fn release(&mut self) {
        for _ in 0..self.spare.len() {
            let Some(frame) = self.spare.take() else { break };
            self.give_back(frame);
        }
        // Piece by piece, as `give_back` needs all of `self`: the pieces that stay move to the front at the end.
        let (fill, lent, spare, umem) = (&mut self.fill, &mut self.lent, &mut self.spare, &self.umem);
        for segment in self.segments.drain(..self.arriving) {
            give_back(segment.frame, fill, lent, spare, umem);
        }
        self.packets.clear();
        self.arriving = 0;
        self.fill.publish();
        if self.fill.needs_wakeup()
            && let Some(socket) = &self.socket
        {
            socket.wake_receive();
        }
    }

    /// Where this half's frames are.
    pub fn frames(&self) -> FrameCount {
        FrameCount {
            total: self.lent.total(),
            free: self.spare.len(),
            held: self.segments.len() as u32,
            in_kernel: self.lent.lent(),
        }
    }

    /// The descriptor to poll for packets. None where a test plays the kernel.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_deref().map(AsFd::as_fd)
    }

    #[inline]
    fn accept(&mut self, descriptor: Descriptor) {
        match descriptor::received(descriptor, &mut self.lent, self.umem.chunk_bytes()) {
            Ok(segment) if self.discarding => self.give_back(segment.frame),
            Ok(segment) if self.segments.len() - self.arriving < SEGMENTS_MAX => {
                // The kernel wrote it on another core; by the time its header is read, it is here.
                self.umem.prefetch(&segment.frame, segment.offset);
                self.segments.push(segment);
            }
            Ok(segment) => self.refuse(Fault::TooManySegments, Some(segment.frame)),
            Err((fault, frame)) => self.refuse(fault, frame),
        }
        if descriptor.options & libc::XDP_PKT_CONTD == 0 {
            let end = self.segments.len();
            if self.arriving < end {
                let len = self.segments[self.arriving..].iter().map(|segment| segment.len).sum();
                self.packets.push(Held { first: self.arriving as u32, end: end as u32, len });
            }
            self.arriving = end;
            self.discarding = false;
        }
    }

    /// Drops the packet that is arriving, up to its end.
    #[cold]
    fn refuse(&mut self, fault: Fault, frame: Option<Frame>) {
        self.faults.add(fault);
        self.discarding = true;
        if let Some(frame) = frame {
            self.give_back(frame);
        }
        while self.segments.len() > self.arriving {
            let Some(segment) = self.segments.pop() else { break };
            self.give_back(segment.frame);
        }
    }

    #[inline]
    fn give_back(&mut self, frame: Frame) {
        give_back(frame, &mut self.fill, &mut self.lent, &mut self.spare, &self.umem);
    }
}

/// Puts the frame into the fill ring, not yet published.
#[inline]
fn give_back(frame: Frame, fill: &mut Producer<u64>, lent: &mut Lent, spare: &mut Pool, umem: &Umem) {
    if fill.room(1) == 0 {
        return spare.put(frame);
    }
    let chunk = lent.lend(frame);
    let written = fill.write(u64::from(chunk) * u64::from(umem.chunk_bytes()));
    debug_assert!(written, "there was room");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, HEADROOM};

    #[test]
    fn packets_are_whole_and_in_order_across_the_wrap_of_the_indices() {
        let (mut rx, _tx, mut kernel) = fake::queue(32, 16, u32::MAX - 25);
        for turn in 0..40u8 {
            assert!(kernel.receive(&[&[turn; 60]]));
            assert!(kernel.receive(&[&[turn; 1792], &[turn; 1792], &[turn; 8]]));
            assert_eq!(rx.receive(64), 2);
            assert_eq!(rx.receive(64), 2, "held packets stay");
            assert_eq!(rx.packet(0).segments(), [&[turn; 60][..]]);
            assert_eq!((rx.packet(1).len(), rx.packet(1).segments().len()), (2 * 1792 + 8, 3));
            assert_eq!((rx.frames().held, rx.frames().in_kernel), (4, 12));
            rx.release();
            assert_eq!((rx.frames().held, rx.frames().in_kernel), (0, 16));
        }
    }

    #[test]
    fn no_more_packets_than_asked_for() {
        let (mut rx, _tx, mut kernel) = fake::queue(32, 16, 0);
        for n in 0..5u8 {
            assert!(kernel.receive(&[&[n; 60]]));
        }
        for expected in [[0, 1], [2, 3]] {
            assert_eq!(rx.receive(2), 2);
            assert_eq!([rx.packet(0).head()[0], rx.packet(1).head()[0]], expected);
            rx.release();
        }
        assert_eq!(rx.receive(2), 1);
    }

    #[test]
    fn a_packet_waits_for_its_end_while_others_come_and_go() {
        let (mut rx, _tx, mut kernel) = fake::queue(32, 16, 0);
        assert!(kernel.receive(&[&[1; 60]]));
        begin(&mut kernel, 2, 1);
        assert_eq!(rx.receive(64), 1);
        rx.release();
        assert_eq!(rx.receive(64), 0);
        rx.release();
        assert_eq!(rx.frames().held, 1, "the beginning");
        assert!(kernel.receive(&[&[2; 10]]), "the end");
        assert_eq!(rx.receive(64), 1);
        assert_eq!(rx.packet(0).segments().concat(), [2; 110]);
        rx.release();
        assert_eq!(rx.frames().in_kernel, 16);
    }

    /// Shows pieces of 100 octets each, without the packet's end.
    fn begin(kernel: &mut fake::FakeKernel, value: u8, pieces: usize) {
        for _ in 0..pieces {
            let addr = kernel.fill.read().expect("a frame");
            kernel.fill.release();
            kernel.poke(addr + u64::from(HEADROOM), &[value; 100]);
            let descriptor = Descriptor { addr: addr + u64::from(HEADROOM), len: 100, options: libc::XDP_PKT_CONTD };
            assert!(kernel.rx.write(descriptor));
        }
        kernel.rx.publish();
    }

    #[test]
    fn a_packet_in_too_many_pieces_is_dropped_whole_and_counted_once() {
        let (mut rx, _tx, mut kernel) = fake::queue(64, 32, 0);
        let piece: &[u8] = &[7; 100];
        assert!(kernel.receive(&[piece; SEGMENTS_MAX]));
        assert!(kernel.receive(&[piece; SEGMENTS_MAX + 3]));
        assert!(kernel.receive(&[&[8; 60]]));
        assert_eq!(rx.receive(64), 2);
        assert_eq!((rx.packet(0).len(), rx.packet(1).head()[0]), (100 * SEGMENTS_MAX, 8));
        assert_eq!(kernel.faults(Fault::TooManySegments), 1);
        rx.release();
        assert_eq!(rx.frames().in_kernel, 32);
    }

    #[test]
    fn a_piece_that_makes_no_sense_drops_its_packet_only() {
        let (mut rx, _tx, mut kernel) = fake::queue(32, 16, 0);
        begin(&mut kernel, 1, 2);
        let nonsense = Descriptor { addr: 31 * 2048, len: 60, options: libc::XDP_PKT_CONTD };
        assert!(kernel.rx.write(nonsense));
        begin(&mut kernel, 1, 1);
        assert!(kernel.receive(&[&[1; 10]]), "the end of the broken packet");
        assert!(kernel.receive(&[&[2; 60]]));
        assert_eq!(rx.receive(64), 1);
        assert_eq!(rx.packet(0).head(), [2; 60]);
        assert_eq!(kernel.faults(Fault::Foreign), 1);
        rx.release();
        assert_eq!(rx.frames().in_kernel, 16);
    }

    #[test]
    fn a_fill_ring_with_a_broken_index_delays_frames_but_loses_none() {
        let (mut rx, _tx, mut kernel) = fake::queue(32, 16, 0);
        assert!(kernel.receive(&[&[1; 60]]));
        assert_eq!(rx.receive(64), 1);
        let right = kernel.fill.play_index(1000);
        rx.release();
        assert_eq!((rx.frames().free, rx.frames().in_kernel), (1, 15));
        kernel.fill.play_index(right);
        rx.release();
        assert_eq!((rx.frames().free, rx.frames().in_kernel), (0, 16));
    }
}
