//! What does a worker tell of a captured packet, and to whom?
//!
//! A capture is asked for by a client and belongs to ports, which have its bit in [`Port::captures`](crate::config::Port::captures).
//! Each worker has an end of it: what is wanted, and a [`tap`](crate::tap) for what is found. A packet that a port
//! received is told of at the end of the road, with its fate, as it came; one that leaves by a port where its copy is
//! made, as it leaves; a copy that does not leave where it is lost, as it came. Steps: [`path::capture`](crate::path::capture).

use crate::config::PortIndex;
use crate::counters::Counter;
use crate::filter::Filter;
use crate::limits::{CAPTURE_OCTETS, CAPTURE_RECORDS, CAPTURES_MAX, FRAME_MAX, PORTS_MAX};
use crate::path::edit::PUSH_MAX;
use crate::reason::Reason;
use crate::tap::{self, Catch, Outcome, Reader, Tap};
use crate::time::Instant;
use crate::wire::vlan::TAG;
use shunt_ffi::Packet;
use std::sync::Arc;

/// Ports that a record names of those by which copies left.
pub const PORTS_NAMED: usize = 8;

/// Which packets of a port are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Views {
    /// Those that it receives, whatever becomes of them.
    pub came: bool,
    /// Those that leave by it.
    pub left: bool,
    /// Those that do not leave, at the port that they came in by or should have left by.
    pub dropped: bool,
}

/// What a client wants to see.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Which packets.
    pub views: Views,
    /// Which of those; all if there is none. It sees packets as they are told of.
    pub filter: Option<Arc<Filter>>,
    /// Octets of a packet that come with its record.
    pub snaplen: usize,
}

/// One packet at one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The beginning of the turn in which it was received; on another worker, of the turn in which it is sent.
    pub at: Instant,
    /// The port at which it is seen, in the numbers of the snapshot in force then.
    pub port: PortIndex,
    /// It leaves by the port, or should.
    pub is_out: bool,
    /// The port that it came in by. Of a routed packet that leaves, that of the interface it was routed out of; of a mirror's
    /// copy none.
    pub from: PortIndex,
    /// Octets of the packet, as it is told of.
    pub len: u32,
    /// How many of them, the first, come with the record.
    pub caught: u16,
    /// The bridge's VLAN, if it got so far that it had one.
    pub vlan: Option<u16>,
    /// It was routed: the port of the router's interface that took it. [`PortIndex::NONE`] if not.
    pub routed_from: PortIndex,
    /// The router sends it.
    pub is_routed: bool,
    /// Its fate.
    pub outcome: Outcome,
    /// A copy of it did not leave, though others may have.
    pub lost: Option<Reason>,
    /// The first ports by which it left. Others are [`PortIndex::NONE`].
    pub to: [PortIndex; PORTS_NAMED],
}

impl Catch for Seen {
    fn caught(&mut self) -> &mut u16 {
        &mut self.caught
    }
}

/// A worker's end of a capture.
pub struct Capture {
    /// What is wanted.
    pub wish: Wish,
    tap: Tap<Seen>,
    lost: Arc<[Counter]>,
}

/// The control thread's end.
pub struct CaptureReader {
    /// What was seen.
    pub tap: Reader<Seen>,
    /// Packets that did not fit the tap, by port.
    pub lost: Arc<[Counter]>,
}

impl Capture {
    /// Both ends, for one worker.
    pub fn new(wish: Wish) -> (Box<Self>, CaptureReader) {
        let (tap, reader) = tap::with_room(CAPTURE_RECORDS, CAPTURE_OCTETS);
        let lost: Arc<[Counter]> = (0..PORTS_MAX).map(|_| Counter::default()).collect();
        let reader = CaptureReader { tap: reader, lost: Arc::clone(&lost) };
        (Box::new(Self { wish, tap, lost }), reader)
    }

    /// Whether the filter lets the packet pass.
    pub(crate) fn accepts(&self, packet: &Packet<'_>) -> bool {
        self.wish.filter.as_ref().is_none_or(|filter| filter.accepts(packet))
    }

    pub(crate) fn write(&mut self, seen: Seen, packet: &Packet<'_>) {
        if !self.tap.write(seen, packet, self.wish.snaplen)
            && let Some(lost) = self.lost.get(usize::from(seen.port.0))
        {
            lost.add(1);
        }
    }
}

/// A worker's captures.
pub struct Captures {
    slots: [Option<Box<Capture>>; CAPTURES_MAX],
    /// Where a copy is made as it leaves.
    pub(crate) scratch: Vec<u8>,
}

impl Default for Captures {
    fn default() -> Self {
        let scratch = Vec::with_capacity(FRAME_MAX + PUSH_MAX * TAG);
        Self { slots: std::array::from_fn(|_| None), scratch }
    }
}

impl Captures {
    /// Puts a capture in the place of this number. Returns what was there, or `capture` itself if there is no such place.
    pub(crate) fn put(&mut self, number: u8, capture: Option<Box<Capture>>) -> Option<Box<Capture>> {
        match self.slots.get_mut(usize::from(number)) {
            Some(slot) => std::mem::replace(slot, capture),
            None => capture,
        }
    }

    /// Those of `captures`, one bit each, that want something of these.
    pub(crate) fn which(&self, captures: u8, wants: impl Fn(&Views) -> bool) -> u8 {
        let wants = |slot: &Option<Box<Capture>>| slot.as_ref().is_some_and(|capture| wants(&capture.wish.views));
        (0..).zip(&self.slots).fold(0, |all, (number, slot)| all | u8::from(wants(slot)) << number) & captures
    }

    /// Those of `captures` whose filters let the packet pass.
    pub(crate) fn accepting(&self, captures: u8, packet: &Packet<'_>) -> u8 {
        let accepts = |slot: &Option<Box<Capture>>| slot.as_ref().is_some_and(|capture| capture.accepts(packet));
        let of = (0..).zip(&self.slots).filter(|(number, slot)| captures & 1 << number != 0 && accepts(slot));
        of.fold(0, |all, (number, _): (u8, _)| all | 1 << number)
    }

    /// Tells those of `captures`.
    pub(crate) fn write(&mut self, captures: u8, seen: Seen, packet: &Packet<'_>) {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if let Some(capture) = slot.as_mut().filter(|_| captures & 1 << number != 0) {
                capture.write(seen, packet);
            }
        }
    }
}

const _: () = assert!(CAPTURES_MAX <= u8::BITS as usize);
