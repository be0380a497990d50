//! How do received packets reach the switch, and how do their frames get back to the kernel?
//!
//! One [`XskRx`] is the receiving half of a queue: the receive ring (kernel → us) and the fill ring (us → kernel). Its frames
//! are in the fill ring, with the kernel, or in packets that the switch is reading; the fill ring has room for all of them.

use crate::cpu;
use crate::descriptor::{self, Descriptor, Fault, Faults, Segment};
use crate::frame::{Frame, FrameCount, Lent, carve};
use crate::packet::{Packet, SEGMENTS_MAX, Segments};
use crate::pool::Pool;
use crate::ring::{Consumer, Producer, Taken};
use crate::socket::Socket;
use crate::umem::Umem;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// The receiving half of a queue.
pub struct XskRx {
    rx: Consumer<Descriptor>,
    held: Held,
    socket: Option<Arc<Socket>>,
}

/// What was received, and where its frames go.
struct Held {
    fill: Producer<u64>,
    umem: Arc<Umem>,
    lent: Lent,
    /// Frames that the fill ring had no room for: none unless the kernel's index is broken.
    spare: Pool,
    /// Pieces of held packets in order, then those of a packet whose end has not yet arrived.
    segments: Vec<Segment>,
    /// Where in `segments` the packet that is arriving begins: pieces before that are held.
    arriving: usize,
    /// How many pieces are not the first of their packets.
    followers: usize,
    /// The next piece is not the first of its packet.
    amid: bool,
    /// The packet that is arriving is being dropped up to its end.
    discarding: bool,
    faults: Arc<Faults>,
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
        let mut held = Held {
            fill,
            umem,
            lent: Lent::new(frames.start, count),
            spare: Pool::empty(count),
            segments: Vec::with_capacity(count as usize),
            arriving: 0,
            followers: 0,
            amid: false,
            discarding: false,
            faults,
        };
        for frame in carve(frames.start, count) {
            held.give_back(frame);
        }
        held.fill.publish();
        Self { rx, held, socket }
    }

    /// Takes up to `max` whole packets, which stay readable until [`XskRx::release`]. Returns how many are held; while
    /// packets are held from before, takes no more.
    #[inline]
    pub fn receive(&mut self, max: usize) -> usize {
        let held = &mut self.held;
        if held.arriving == 0 && max > 0 {
            loop {
                let missing = (max + held.followers).saturating_sub(held.segments.len());
                let unusual = match missing {
                    _ if held.amid => self.rx.read(),
                    0 => None,
                    _ => held.accept_whole(self.rx.taken(missing as u32)),
                };
                let Some(descriptor) = unusual else { break };
                held.accept(descriptor);
            }
            if !held.amid {
                held.arriving = held.segments.len();
            }
            self.rx.release();
            for _ in 0..self.rx.take_index_faults() {
                held.faults.add(Fault::RingIndex);
            }
        }
        // Of the packet that is arriving, the first piece is no follower.
        let arriving_followers = (held.segments.len() - held.arriving).saturating_sub(1);
        held.arriving - (held.followers - arriving_followers)
    }

    /// The held packets, in order.
    #[inline]
    pub fn packets(&self) -> impl Iterator<Item = Packet<'_>> {
        let (held, mut at) = (&self.held, 0);
        let (segments, umem) = (&held.segments[..held.arriving], &*held.umem);
        std::iter::from_fn(move || {
            let first = segments.get(at)?;
            if first.more() {
                let (packet, next) = held.segmented(at);
                at = next;
                return Some(packet);
            }
            at += 1;
            Some(Packet::contiguous(umem.piece(first)))
        })
    }

    /// Gives the frames of all held packets back to the kernel. A packet whose end has not yet arrived stays.
    #[inline]
    pub fn release(&mut self) {
        self.held.release();
        if self.held.fill.needs_wakeup()
            && let Some(socket) = &self.socket
        {
            socket.wake_receive();
        }
    }

    /// Where this half's frames are.
    pub fn frames(&self) -> FrameCount {
        FrameCount {
            total: self.held.lent.total(),
            free: self.held.spare.len(),
            held: self.held.segments.len() as u32,
            in_kernel: self.held.lent.lent(),
        }
    }

    /// The descriptor to poll for packets. None where a test plays the kernel.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_deref().map(AsFd::as_fd)
    }
}

impl Held {
    /// Takes whole packets, as nearly all are, up to one that is not, or where something is wrong.
    #[inline(always)]
    fn accept_whole(&mut self, taken: Taken<'_, Descriptor>) -> Option<Descriptor> {
        let Self { umem, lent, segments, .. } = self;
        let (base, chunks, mut lent) = (umem.base(), umem.cut(), lent.open());
        let mut unusual = None;
        let held = segments.len();
        let mut more = 0;
        // As many as there are frames fit; a frame is redeemed once.
        for (room, descriptor) in segments.spare_capacity_mut().iter_mut().zip(taken) {
            let Some(packet) = descriptor::whole(descriptor, &mut lent, chunks) else {
                unusual = Some(descriptor);
                break;
            };
            // The kernel wrote it on another core; by the time its header is read, it is here.
            cpu::prefetch(base.wrapping_add(packet.addr() as usize));
            room.write(packet);
            more += 1;
        }
        // SAFETY: the loop wrote so many behind those that were there.
        unsafe { segments.set_len(held + more) };
        unusual
    }

    /// Takes a piece of a packet.
    #[cold]
    fn accept(&mut self, descriptor: Descriptor) {
        if !self.amid {
            self.arriving = self.segments.len();
        }
        match descriptor::received(descriptor, &mut self.lent, self.umem.cut()) {
            Ok(segment) if self.discarding => self.give_back_piece(segment),
            Ok(segment) if self.segments.len() - self.arriving < SEGMENTS_MAX => {
                self.followers += usize::from(self.segments.len() > self.arriving);
                self.segments.push(segment);
            }
            Ok(segment) => {
                self.give_back_piece(segment);
                self.refuse(Fault::TooManySegments);
            }
            Err((fault, frame)) => {
                frame.into_iter().for_each(|frame| self.give_back(frame));
                self.refuse(fault);
            }
        }
        self.amid = descriptor.options & libc::XDP_PKT_CONTD != 0;
        if !self.amid {
            self.discarding = false;
        }
    }

    /// Drops the packet that is arriving, up to its end.
    #[cold]
    fn refuse(&mut self, fault: Fault) {
        self.faults.add(fault);
        self.discarding = true;
        while self.segments.len() > self.arriving {
            let Some(segment) = self.segments.pop() else { break };
            self.followers -= usize::from(self.segments.len() > self.arriving);
            self.give_back_piece(segment);
        }
    }

    /// The packet of several pieces that begins at `at`, and where the next one begins.
    #[cold]
    fn segmented(&self, at: usize) -> (Packet<'_>, usize) {
        let mut len = 0;
        for (next, segment) in (at + 1..).zip(&self.segments[at..]) {
            len += segment.len();
            if !segment.more() {
                return (Packet::segmented(self, at as u32, len), next);
            }
        }
        // Held packets have an end.
        (Packet::default(), self.segments.len())
    }

    #[inline]
    fn release(&mut self) {
        for _ in 0..self.spare.len() {
            let Some(frame) = self.spare.take() else { break };
            self.give_back(frame);
        }
        let (chunks, mut lent) = (self.umem.cut(), self.lent.open());
        let mut slots = self.fill.slots(self.arriving as u32);
        // The pieces that stay move to the front.
        for segment in self.segments.drain(..self.arriving) {
            let frame = segment.into_frame(chunks);
            if slots.left() == 0 {
                self.spare.put(frame);
                continue;
            }
            let written = slots.write(chunks.start(lent.lend(frame)));
            debug_assert!(written, "there was room");
        }
        drop(slots);
        self.arriving = 0;
        self.followers = self.segments.len().saturating_sub(1);
        self.fill.publish();
    }

    fn give_back_piece(&mut self, segment: Segment) {
        self.give_back(segment.into_frame(self.umem.cut()));
    }

    /// Puts the frame into the fill ring, not yet published.
    fn give_back(&mut self, frame: Frame) {
        let mut slots = self.fill.slots(1);
        if slots.left() == 0 {
            return self.spare.put(frame);
        }
        let chunk = self.lent.lend(frame);
        let written = slots.write(self.umem.cut().start(chunk));
        debug_assert!(written, "there was room");
    }
}

impl Segments for Held {
    fn segment(&self, at: u32, index: usize) -> &[u8] {
        let place = at as usize + index;
        self.segments.get(place).map_or(&[], |segment| self.umem.piece(segment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, HEADROOM};

    fn nth(rx: &XskRx, index: usize) -> Packet<'_> {
        rx.packets().nth(index).expect("so many are held")
    }

    #[test]
    fn packets_are_whole_and_in_order_across_the_wrap_of_the_indices() {
        let (mut rx, _tx, mut kernel) = fake::queue(32, 16, u32::MAX - 25);
        for turn in 0..40u8 {
            assert!(kernel.receive(&[&[turn; 60]]));
            assert!(kernel.receive(&[&[turn; 1792], &[turn; 1792], &[turn; 8]]));
            assert_eq!(rx.receive(64), 2);
            assert_eq!(rx.receive(64), 2, "held packets stay");
            assert_eq!(nth(&rx, 0).to_vec(), [turn; 60]);
            assert_eq!((nth(&rx, 1).len(), nth(&rx, 1).segments().count()), (2 * 1792 + 8, 3));
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
            assert_eq!([nth(&rx, 0).head()[0], nth(&rx, 1).head()[0]], expected);
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
        assert_eq!(nth(&rx, 0).to_vec(), [2; 110]);
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
        assert_eq!((nth(&rx, 0).len(), nth(&rx, 1).head()[0]), (100 * SEGMENTS_MAX, 8));
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
        assert_eq!(nth(&rx, 0).head(), [2; 60]);
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
