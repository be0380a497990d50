//! How does the switch run without a kernel? Ports on queues in memory: for tests, simulations and benches.
//!
//! A queue owns a fixed number of frames, which go round: free, queued, held by a port. Nothing is allocated after
//! [`Queue::new`] but what [`Queue::pop`] returns.

use super::{Outcome, Packets, Receive, Transmit};
use crate::limits::{BURST, FRAME_MAX};
use crate::path::edit::{Copies, Cursor, Edit, One};
use crate::reason::Reason;
use shunt_ffi::{Packet, SEGMENTS_MAX, Segments};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What an unused octet of a frame holds, so that one that nobody wrote is seen.
const DIRT: u8 = 0xa5;

struct Frame {
    octets: Vec<u8>,
    request: Option<(u16, u16)>,
}

struct Inner {
    free: Vec<Frame>,
    queued: VecDeque<Frame>,
    frame_max: usize,
    down: bool,
    per_flush: usize,
}

/// A queue of frames; clones are the same queue.
#[derive(Clone)]
pub struct Queue {
    inner: Arc<Mutex<Inner>>,
    frames: usize,
}

/// A frame that left the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The frame.
    pub octets: Vec<u8>,
    /// The checksum that the receiver is asked to finish, see [`Edit::request`].
    pub request: Option<(u16, u16)>,
}

impl Queue {
    /// An empty queue with this many frames of the longest length.
    pub fn new(frames: usize) -> Self {
        let frame = || Frame { octets: Vec::with_capacity(FRAME_MAX + 64), request: None };
        let inner = Inner {
            free: (0..frames).map(|_| frame()).collect(),
            queued: VecDeque::with_capacity(frames),
            frame_max: FRAME_MAX + 64,
            down: false,
            per_flush: usize::MAX,
        };
        Self { inner: Arc::new(Mutex::new(inner)), frames }
    }

    /// A receiving side: the switch takes what is pushed here.
    pub fn receiver(&self) -> MemoryReceive {
        self.receiver_segmented(usize::MAX)
    }

    /// A receiving side that hands packets over in segments of so many octets, larger if there would be too many.
    pub fn receiver_segmented(&self, segment: usize) -> MemoryReceive {
        MemoryReceive { queue: self.clone(), held: Vec::with_capacity(BURST), segment: segment.max(1) }
    }

    /// A transmitting side: what the switch sends can be popped here.
    pub fn transmitter(&self) -> MemoryTransmit {
        MemoryTransmit { queue: self.clone(), pending: VecDeque::with_capacity(self.frames) }
    }

    /// Queues a frame. False if all frames are in use, or it is too long.
    pub fn push(&self, octets: &[u8]) -> bool {
        let mut inner = self.lock();
        if octets.len() > inner.frame_max {
            return false;
        }
        let Some(mut frame) = inner.free.pop() else { return false };
        frame.octets.clear();
        frame.octets.extend_from_slice(octets);
        frame.request = None;
        inner.queued.push_back(frame);
        true
    }

    /// Takes the next frame out.
    pub fn pop(&self) -> Option<Sent> {
        self.take(|octets, request| Sent { octets: octets.to_vec(), request })
    }

    /// Takes the next frame out and shows it to `f`, without allocating.
    pub fn take<R>(&self, f: impl FnOnce(&[u8], Option<(u16, u16)>) -> R) -> Option<R> {
        let mut inner = self.lock();
        let frame = inner.queued.pop_front()?;
        let result = f(&frame.octets, frame.request);
        inner.put_back(frame);
        Some(result)
    }

    /// Takes all frames out and returns them.
    pub fn drain(&self) -> Vec<Sent> {
        std::iter::from_fn(|| self.pop()).collect()
    }

    /// Takes all frames out; returns how many there were.
    pub fn discard(&self) -> usize {
        let mut inner = self.lock();
        let mut count = 0;
        while let Some(frame) = inner.queued.pop_front() {
            inner.put_back(frame);
            count += 1;
        }
        count
    }

    /// Takes the device down, or up again.
    pub fn set_down(&self, down: bool) {
        self.lock().down = down;
    }

    /// Longest frame that the device takes.
    pub fn set_frame_max(&self, octets: usize) {
        self.lock().frame_max = octets;
    }

    /// How many frames the device takes at one flush.
    pub fn set_per_flush(&self, frames: usize) {
        self.lock().per_flush = frames;
    }

    /// Frames queued.
    pub fn len(&self) -> usize {
        self.lock().queued.len()
    }

    /// True if no frame is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frames that are neither free nor queued: a port holds them. After a turn and all flushes there are none.
    pub fn held(&self) -> usize {
        let inner = self.lock();
        self.frames - inner.free.len() - inner.queued.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put_back(&mut self, mut frame: Frame) {
        if cfg!(debug_assertions) {
            frame.octets.fill(DIRT);
        }
        self.free.push(frame);
    }
}

/// The receiving side of a memory port.
pub struct MemoryReceive {
    queue: Queue,
    held: Vec<Frame>,
    segment: usize,
}

impl Receive for MemoryReceive {
    fn receive(&mut self, max: usize) -> usize {
        debug_assert!(self.held.is_empty(), "receive() before release()");
        let mut inner = self.queue.lock();
        let count = max.min(BURST).min(inner.queued.len());
        self.held.extend(inner.queued.drain(..count));
        count
    }

    fn packets<'a>(&'a self, packets: &mut Packets<'a>) {
        packets.extend(self.held.iter().zip(0..).map(|(frame, at)| match frame.octets.len() {
            len if len <= self.segment => Packet::contiguous(&frame.octets),
            len => Packet::segmented(self, at, len as u32),
        }));
    }

    fn release(&mut self) {
        let mut inner = self.queue.lock();
        self.held.drain(..).for_each(|frame| inner.put_back(frame));
    }
}

impl Segments for MemoryReceive {
    fn segment(&self, at: u32, index: usize) -> &[u8] {
        let octets = self.held.get(at as usize).map_or(&[][..], |frame| &frame.octets);
        let segment = self.segment.max(octets.len().div_ceil(SEGMENTS_MAX));
        octets.chunks(segment).nth(index).unwrap_or(&[])
    }
}

impl Drop for MemoryReceive {
    fn drop(&mut self) {
        self.release();
    }
}

/// The transmitting side of a memory port.
pub struct MemoryTransmit {
    queue: Queue,
    pending: VecDeque<Frame>,
}

impl MemoryTransmit {
    fn send_one(&mut self, copy: &One<'_>, edit: &Edit) -> Result<usize, Reason> {
        let len = edit.len(copy.packet);
        let mut inner = self.queue.lock();
        if inner.down {
            return Err(Reason::TxDown);
        }
        if len > inner.frame_max {
            return Err(Reason::Oversized);
        }
        let mut frame = inner.free.pop().ok_or(Reason::TxFull)?;
        frame.octets.clear();
        frame.octets.resize(len, DIRT);
        edit.write(copy, &mut Cursor::new(&mut frame.octets));
        frame.request = edit.request(copy.checksum);
        self.pending.push_back(frame);
        Ok(len)
    }
}

impl Transmit for MemoryTransmit {
    fn send(&mut self, copies: Copies<'_>, edit: &Edit, sent: &mut Outcome) {
        for (place, copy) in (0..).zip(copies.iter()) {
            match self.send_one(&copy, edit) {
                Ok(len) => sent.octets += len as u64,
                Err(reason) => sent.refused.push((place, reason)),
            }
        }
    }

    fn flush(&mut self) -> bool {
        let mut inner = self.queue.lock();
        let count = self.pending.len().min(inner.per_flush);
        inner.queued.extend(self.pending.drain(..count));
        !self.pending.is_empty()
    }
}

impl Drop for MemoryTransmit {
    fn drop(&mut self) {
        let mut inner = self.queue.lock();
        self.pending.drain(..).for_each(|frame| inner.put_back(frame));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_go_round_and_none_is_lost() {
        let queue = Queue::new(2);
        let mut receiver = queue.receiver_segmented(4);
        assert!(queue.push(&[1; 10]) && queue.push(&[2; 3]) && !queue.push(&[3]));
        assert_eq!(receiver.receive(BURST), 2);
        let mut packets = Packets::new();
        receiver.packets(&mut packets);
        assert!(packets[0].segments().eq([&[1; 4][..], &[1; 4], &[1; 2]]));
        assert!(packets[1].segments().eq([&[2; 3]]));
        drop(packets);
        assert_eq!((queue.held(), queue.len()), (2, 0));
        receiver.release();
        assert_eq!(queue.held(), 0);
        assert_eq!(receiver.receive(BURST), 0);
    }

    #[test]
    fn a_full_a_slow_and_a_dead_device_say_so() {
        let queue = Queue::new(2);
        let mut transmitter = queue.transmitter();
        let send = |transmitter: &mut MemoryTransmit| {
            let copies = Copies { packets: &[Packet::contiguous(&[1; 64])], checksums: &[], destinations: &[] };
            let mut sent = Outcome::default();
            transmitter.send(copies, &Edit::default(), &mut sent);
            (sent.octets, sent.refused.first().map(|(_, reason)| *reason))
        };
        queue.set_per_flush(1);
        assert_eq!(send(&mut transmitter), (64, None));
        assert_eq!(send(&mut transmitter), (64, None));
        assert_eq!(send(&mut transmitter), (0, Some(Reason::TxFull)));
        assert!(queue.is_empty());
        assert!(transmitter.flush());
        assert!(!transmitter.flush());
        assert_eq!(queue.drain().len(), 2);
        queue.set_frame_max(63);
        assert_eq!(send(&mut transmitter), (0, Some(Reason::Oversized)));
        queue.set_down(true);
        assert_eq!(send(&mut transmitter), (0, Some(Reason::TxDown)));
    }
}
