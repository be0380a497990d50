//! How are packets written into frames and handed to the kernel, and how do the frames come back?
//!
//! One [`XskTx`] is the transmitting half of a queue: the transmit ring (us → kernel) and the completion ring (kernel → us).
//! A packet is written by a [`TxWriter`], queued by its commit, and taken by the kernel at [`XskTx::flush`].

use crate::descriptor::{self, Chunks, Descriptor, Fault, Faults};
use crate::frame::{Frame, FrameCount, Lent, OpenLent, carve};
use crate::packet::SEGMENTS_MAX;
use crate::pool::{OpenPool, Pool};
use crate::ring::{Consumer, Producer, Slots};
use crate::socket::{Socket, TX_METADATA_BYTES};
use crate::umem::Umem;
use arrayvec::ArrayVec;
use rustix::io::Errno;
use std::ops::Range;
use std::sync::Arc;

/// Where in a chunk a packet begins. The kernel refuses descriptors with less than the metadata's length before them,
/// whether or not they use it (xp_aligned_validate_desc).
const START: u32 = TX_METADATA_BYTES;

/// Asks the receiver or the device to complete a checksum: the ones' complement sum from `start` to the packet's end is to be
/// stored `offset` octets after `start`. The field must hold the sum of the pseudo-header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksumRequest {
    /// Octets from the packet's first to the L4 header's first.
    pub start: u16,
    /// Octets from there to the checksum field: 16 for TCP, 6 for UDP.
    pub offset: u16,
}

/// Why a packet cannot be written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxRefused {
    /// The transmit ring is full: flush, and look whether the kernel takes anything.
    RingFull,
    /// All frames are with the kernel: the receiver or the link is slower than we are.
    NoFrame,
    /// The packet needs more frames than this queue sends as one packet, or has no octets.
    Length,
}

/// What the kernel said when it was told to transmit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TxState {
    /// It took what it could.
    #[default]
    Up,
    /// It takes no more for the moment: ENOBUFS, or EAGAIN without progress.
    Busy,
    /// The device is down (ENETDOWN); what is queued leaves when it is up again.
    Down,
    /// The device no longer exists (ENXIO, ENODEV); what is queued never leaves.
    Gone,
    /// Any other error number.
    Failed(i32),
}

/// What a flush left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flush {
    /// Queued frames that the kernel did not take.
    pub pending: u32,
    /// Why.
    pub state: TxState,
}

/// What the transmitting half of a queue can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TxAbilities {
    /// Frames that one packet may span.
    pub(crate) segments_max: usize,
    /// The kernel takes checksum requests.
    pub(crate) checksum: bool,
}

/// The transmitting half of a queue.
pub struct XskTx {
    tx: Producer<Descriptor>,
    completion: Consumer<u64>,
    umem: Arc<Umem>,
    lent: Lent,
    free: Pool,
    /// Of the packet that is being written, the frame that is filled first at the end.
    open: ArrayVec<Frame, SEGMENTS_MAX>,
    abilities: TxAbilities,
    faults: Arc<Faults>,
    socket: Option<Arc<Socket>>,
}

impl XskTx {
    /// The transmitting half over these rings, with the chunks of `frames`. `socket` is `None` where a test plays the kernel.
    pub(crate) fn new(
        tx: Producer<Descriptor>,
        completion: Consumer<u64>,
        umem: Arc<Umem>,
        frames: Range<u32>,
        abilities: TxAbilities,
        faults: Arc<Faults>,
        socket: Option<Arc<Socket>>,
    ) -> Self {
        let count = frames.end - frames.start;
        let lent = Lent::new(frames.start, count);
        let free = Pool::new(carve(frames.start, count));
        Self { tx, completion, umem, lent, free, open: ArrayVec::new(), abilities, faults, socket }
    }

    /// True if the kernel takes [`ChecksumRequest`]s; otherwise the caller must complete checksums itself.
    pub fn tx_checksum(&self) -> bool {
        self.abilities.checksum
    }

    /// Longest packet in octets.
    pub fn len_max(&self) -> usize {
        self.abilities.segments_max * self.capacity()
    }

    /// Starts a packet of exactly `len` octets. If ring or frames are used up, looks once for completions.
    // Always inlined, as are the writer's methods: a writer that is passed through memory costs more than what it does.
    #[inline(always)]
    pub fn start(&mut self, len: usize) -> Result<TxWriter<'_>, TxRefused> {
        let capacity = self.capacity();
        let count = if len <= capacity { 1 } else { len.div_ceil(capacity) };
        if len == 0 || count > self.abilities.segments_max {
            return Err(TxRefused::Length);
        }
        if self.free.len() < count as u32 {
            self.reclaim();
            if self.free.len() < count as u32 {
                return Err(TxRefused::NoFrame);
            }
        }
        if self.tx.room(count as u32) < count as u32 {
            self.note_index_faults();
            return Err(TxRefused::RingFull);
        }
        for _ in 0..count {
            self.open.extend(self.free.take());
        }
        Ok(TxWriter { tx: self, current: count - 1, len, at: 0, written: 0 })
    }

    /// Begins to queue about `packets` packets of one frame each. If frames are used up, looks once for completions.
    #[inline]
    pub fn burst(&mut self, packets: usize) -> TxBurst<'_> {
        let packets = packets as u32;
        if self.free.len() < packets {
            self.reclaim();
        }
        TxBurst {
            chunks: self.umem.cut(),
            abilities: self.abilities,
            slots: self.tx.slots(packets),
            umem: &self.umem,
            lent: self.lent.open(),
            free: self.free.open(),
            faults: &self.faults,
        }
    }

    /// Hands what is queued to the kernel and takes back frames that it is done with. Calls the kernel again while that makes
    /// progress, so the number of calls is bounded by the number of queued packets.
    #[inline]
    pub fn flush(&mut self) -> Flush {
        self.tx.publish();
        let mut flush = Flush { pending: self.tx.pending(), state: TxState::Up };
        while flush.pending > 0 && self.tx.needs_wakeup() {
            let Some(socket) = &self.socket else { break };
            let answer = socket.kick();
            let before = std::mem::replace(&mut flush.pending, self.tx.pending());
            flush.state = state_of(answer);
            let again = matches!(flush.state, TxState::Up | TxState::Busy);
            if !again || flush.pending >= before {
                break;
            }
        }
        if flush.pending == 0 {
            flush.state = TxState::Up;
        }
        self.reclaim();
        self.note_index_faults();
        flush
    }

    /// Takes back the frames that the kernel is done with.
    #[inline]
    pub fn reclaim(&mut self) {
        let (chunks, mut lent) = (self.umem.cut(), self.lent.open());
        self.free.put_all(self.completion.taken(u32::MAX).filter_map(|addr| {
            let frame = descriptor::completed(addr, &mut lent, chunks);
            if frame.is_none() {
                self.faults.add(descriptor::fault(addr, &lent, chunks));
            }
            frame
        }));
        self.completion.release();
    }

    /// Where this half's frames are.
    pub fn frames(&self) -> FrameCount {
        FrameCount { total: self.lent.total(), free: self.free.len(), held: 0, in_kernel: self.lent.lent() }
    }

    /// Octets of a packet that fit into one frame.
    #[inline]
    fn capacity(&self) -> usize {
        (self.umem.chunk_bytes() - START) as usize
    }

    /// The chunk of the open packet's first frame.
    #[inline]
    fn first_open(&mut self) -> &mut [u8] {
        let last = self.open.len() - 1;
        self.umem.octets_mut(&mut self.open[last])
    }

    #[inline]
    fn note_index_faults(&mut self) {
        for _ in 0..self.tx.take_index_faults() + self.completion.take_index_faults() {
            self.faults.add(Fault::RingIndex);
        }
    }
}

/// Writes `struct xsk_tx_metadata` before the packet that begins at [`START`] of `chunk` with `first_len` octets in it. Returns the
/// option that says so.
#[inline]
fn write_metadata(
    chunk: &mut [u8],
    request: ChecksumRequest,
    first_len: usize,
    abilities: TxAbilities,
    faults: &Faults,
) -> u32 {
    let fits = usize::from(request.start) + usize::from(request.offset) + 2 <= first_len;
    if !fits || !abilities.checksum {
        faults.add(Fault::ChecksumRequest);
        return 0;
    }
    let metadata = &mut chunk[..START as usize];
    metadata[..8].copy_from_slice(&u64::from(libc::XDP_TXMD_FLAGS_CHECKSUM).to_ne_bytes());
    metadata[8..10].copy_from_slice(&request.start.to_ne_bytes());
    metadata[10..12].copy_from_slice(&request.offset.to_ne_bytes());
    metadata[12..16].fill(0);
    libc::XDP_TX_METADATA
}

/// EAGAIN is the normal answer of a kernel that has sent as many packets as one call may, EBUSY of a device that dropped one.
fn state_of(answer: Result<(), Errno>) -> TxState {
    match answer {
        Ok(()) => TxState::Up,
        Err(Errno::AGAIN | Errno::BUSY | Errno::NOBUFS | Errno::INTR) => TxState::Busy,
        Err(Errno::NETDOWN) => TxState::Down,
        Err(Errno::NXIO | Errno::NODEV) => TxState::Gone,
        Err(errno) => TxState::Failed(errno.raw_os_error()),
    }
}

/// Packets that are queued one after the other, each in one frame: room and frames are looked for once. The kernel sees them at the next
/// flush.
pub struct TxBurst<'a> {
    chunks: Chunks,
    abilities: TxAbilities,
    slots: Slots<'a, Descriptor>,
    umem: &'a Umem,
    lent: OpenLent<'a>,
    free: OpenPool<'a>,
    faults: &'a Faults,
}

impl TxBurst<'_> {
    /// Queues a packet of `len` octets. `fill` writes all of them: what is there is left from another packet. A request that
    /// reaches beyond the packet is left out and counted.
    #[inline(always)]
    pub fn queue(
        &mut self,
        len: usize,
        checksum: Option<ChecksumRequest>,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), TxRefused> {
        if len.wrapping_sub(1) >= (self.chunks.bytes() - START) as usize {
            return Err(TxRefused::Length);
        }
        if self.slots.left() == 0 {
            return Err(TxRefused::RingFull);
        }
        let mut frame = self.free.take().ok_or(TxRefused::NoFrame)?;
        let addr = self.chunks.start(frame.chunk()) + u64::from(START);
        fill(self.umem.room(&mut frame, START, len as u32));
        let options = match checksum {
            Some(request) => {
                let chunk = self.umem.octets_mut(&mut frame);
                write_metadata(chunk, request, len, self.abilities, self.faults)
            }
            None => 0,
        };
        self.lent.lend(frame);
        let written = self.slots.write(Descriptor { addr, len: len as u32, options });
        debug_assert!(written, "there was room");
        Ok(())
    }
}

/// A packet that is being written. Dropped without commit, it leaves nothing behind.
pub struct TxWriter<'a> {
    tx: &'a mut XskTx,
    len: usize,
    /// Which of the open frames is written next, and where in it, from the packet's first octet in that frame.
    current: usize,
    at: usize,
    written: usize,
}

/// Copies all of `from` to `to`, which is as long. Short packets come by the million: for them two or four moves of fixed
/// length, which may overlap, are a fraction of a call of memcpy.
///
/// # Panics
/// If it is not.
#[inline(always)]
pub fn copy(from: &[u8], to: &mut [u8]) {
    const PART: usize = 16;
    let len = from.len();
    assert!(to.len() == len);
    if !(2 * PART..=8 * PART).contains(&len) {
        return copy_any(from, to);
    }
    let mut part = |at: usize| to[at..at + PART].copy_from_slice(&from[at..at + PART]);
    part(0);
    part(PART);
    if len > 4 * PART {
        part(2 * PART);
        part(3 * PART);
        part(len - 4 * PART);
        part(len - 3 * PART);
    }
    part(len - 2 * PART);
    part(len - PART);
}

/// Apart, so that the compiler does not make one call of memcpy of this and the moves above.
#[inline(never)]
fn copy_any(from: &[u8], to: &mut [u8]) {
    to.copy_from_slice(from);
}

impl TxWriter<'_> {
    /// Octets announced to [`XskTx::start`].
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Appends octets.
    ///
    /// # Panics
    /// If more are appended than were announced to [`XskTx::start`].
    #[inline(always)]
    pub fn append(&mut self, octets: &[u8]) {
        assert!(octets.len() <= self.len - self.written, "more octets than announced");
        self.written += octets.len();
        let capacity = self.tx.capacity();
        let mut rest = octets;
        while !rest.is_empty() {
            if self.at == capacity {
                self.current -= 1;
                self.at = 0;
            }
            let (now, later) = rest.split_at(rest.len().min(capacity - self.at));
            let chunk = self.tx.umem.octets_mut(&mut self.tx.open[self.current]);
            copy(now, &mut chunk[START as usize + self.at..][..now.len()]);
            self.at += now.len();
            rest = later;
        }
    }

    /// Overwrites octets at `offset`, which must have been appended and lie in the first frame: the headers.
    ///
    /// # Panics
    /// If they do not.
    #[inline]
    pub fn patch(&mut self, offset: usize, octets: &[u8]) {
        let end = self.written.min(self.tx.capacity());
        assert!(offset <= end && octets.len() <= end - offset, "patch beyond the first frame");
        let chunk = self.tx.first_open();
        chunk[START as usize + offset..][..octets.len()].copy_from_slice(octets);
    }

    /// Queues the packet; the kernel sees it at the next flush, and nothing can be written to it any more. A request that reaches beyond the first frame is left out and
    /// counted: the kernel would stop at such a packet for ever.
    ///
    /// # Panics
    /// If fewer octets were appended than announced.
    #[inline(always)]
    pub fn commit(&mut self, checksum: Option<ChecksumRequest>) {
        assert_eq!(self.written, self.len, "fewer octets than announced");
        let capacity = self.tx.capacity();
        let mut options = 0;
        if let Some(request) = checksum {
            let XskTx { umem, open, abilities, faults, .. } = &mut *self.tx;
            if let Some(first) = open.last_mut() {
                options |= write_metadata(umem.octets_mut(first), request, self.len.min(capacity), *abilities, faults);
            }
        }
        let mut rest = self.len;
        (self.len, self.written) = (0, 0);
        // Taken from the end, they come in the order in which they were filled; none stays for `drop` to give back.
        while let Some(frame) = self.tx.open.pop() {
            let len = rest.min(capacity);
            rest -= len;
            if rest > 0 {
                options |= libc::XDP_PKT_CONTD;
            }
            let chunk = self.tx.lent.lend(frame);
            let addr = self.tx.umem.cut().start(chunk) + u64::from(START);
            let written = self.tx.tx.write(Descriptor { addr, len: len as u32, options });
            debug_assert!(written, "start() made sure of the room");
            options = 0;
        }
    }
}

impl Drop for TxWriter<'_> {
    #[inline]
    fn drop(&mut self) {
        while let Some(frame) = self.tx.open.pop() {
            self.tx.free.put(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    fn queue_one(tx: &mut XskTx, octets: &[u8], checksum: Option<ChecksumRequest>) {
        let mut writer = tx.start(octets.len()).expect("room");
        octets.chunks(700).for_each(|piece| writer.append(piece));
        writer.commit(checksum);
    }

    #[test]
    fn packets_of_all_lengths_leave_as_written() {
        let (_rx, mut tx, mut kernel) = fake::queue(32, 16, u32::MAX - 100);
        for len in [1, 60, 2031, 2032, 2033, 4064, 4065, 9022, tx.len_max()] {
            let octets: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            queue_one(&mut tx, &octets, None);
            assert_eq!(kernel.transmit(), None, "not flushed");
            assert_eq!(tx.flush().pending as usize, len.div_ceil(2032));
            let (sent, first) = kernel.transmit().expect("flushed");
            assert_eq!((sent, first.options & libc::XDP_TX_METADATA), (octets, 0));
            tx.reclaim();
            assert_eq!(tx.frames().free, 16);
        }
        assert!(matches!(tx.start(0), Err(TxRefused::Length)));
        let too_long = tx.len_max() + 1;
        assert!(matches!(tx.start(too_long), Err(TxRefused::Length)));
    }

    #[test]
    fn a_writer_that_is_dropped_leaves_nothing_behind() {
        let (_rx, mut tx, mut kernel) = fake::queue(32, 16, 0);
        let mut writer = tx.start(5000).expect("room");
        writer.append(&[1; 100]);
        drop(writer);
        assert_eq!((tx.frames().free, tx.flush().pending), (16, 0));
        assert_eq!(kernel.transmit(), None);
    }

    #[test]
    fn headers_can_be_patched_after_they_were_written() {
        let (_rx, mut tx, mut kernel) = fake::queue(32, 16, 0);
        let mut writer = tx.start(60).expect("room");
        writer.append(&[0; 60]);
        writer.patch(58, &[1, 2]);
        writer.commit(None);
        drop(writer);
        tx.flush();
        assert_eq!(kernel.transmit().expect("flushed").0[56..], [0, 0, 1, 2]);
    }

    #[test]
    fn a_checksum_request_lies_before_the_packet_and_only_if_it_fits() {
        let (_rx, mut tx, mut kernel) = fake::queue(32, 16, 0);
        for (offset, asked) in [(6, true), (24, true), (25, false), (u16::MAX, false)] {
            queue_one(&mut tx, &[0; 60], Some(ChecksumRequest { start: 34, offset }));
            tx.flush();
            let (_, descriptor) = kernel.transmit().expect("flushed");
            assert_eq!(descriptor.options, if asked { libc::XDP_TX_METADATA } else { 0 }, "offset {offset}");
            if asked {
                let metadata = kernel.read(descriptor.addr - 16, 16);
                assert_eq!(metadata[..8], 2u64.to_ne_bytes());
                assert_eq!(metadata[8..12], [34u16.to_ne_bytes(), offset.to_ne_bytes()].concat());
            }
        }
        assert_eq!(kernel.faults(Fault::ChecksumRequest), 2);
    }

    #[test]
    fn what_does_not_fit_is_refused_until_frames_come_back() {
        // 16 frames, a ring of 8.
        let (_rx, mut tx, mut kernel) = fake::queue(32, 8, 0);
        for _ in 0..8 {
            queue_one(&mut tx, &[0; 60], None);
        }
        assert!(matches!(tx.start(60), Err(TxRefused::RingFull)));
        assert_eq!(tx.flush().pending, 8);
        while kernel.transmit().is_some() {}
        queue_one(&mut tx, &[0; 60], None);

        let (_rx, mut tx, mut kernel) = fake::queue(32, 32, 0);
        for _ in 0..16 {
            queue_one(&mut tx, &[0; 60], None);
        }
        assert!(matches!(tx.start(60), Err(TxRefused::NoFrame)));
        tx.flush();
        assert!(kernel.transmit().is_some());
        queue_one(&mut tx, &[0; 60], None);
        assert!(matches!(tx.start(60), Err(TxRefused::NoFrame)));
    }

    #[test]
    fn a_frame_completed_twice_is_counted_and_not_doubled() {
        let (_rx, mut tx, mut kernel) = fake::queue(32, 16, 0);
        queue_one(&mut tx, &[0; 60], None);
        tx.flush();
        let (_, descriptor) = kernel.transmit().expect("flushed");
        assert!(kernel.completion.write(descriptor.addr) && kernel.completion.write(0));
        kernel.completion.publish();
        tx.reclaim();
        assert_eq!((kernel.faults(Fault::NotLent), kernel.faults(Fault::Foreign)), (1, 1));
        assert_eq!((tx.frames().free, tx.frames().total), (16, 16));
    }

    #[test]
    fn error_numbers_become_states() {
        assert_eq!(state_of(Err(Errno::AGAIN)), TxState::Busy);
        assert_eq!(state_of(Err(Errno::NETDOWN)), TxState::Down);
        assert_eq!(state_of(Err(Errno::NXIO)), TxState::Gone);
        assert_eq!(state_of(Err(Errno::INVAL)), TxState::Failed(libc::EINVAL));
    }
}
