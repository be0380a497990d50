//! How does a packet get to the worker that transmits on its port?
//!
//! For each ordered pair of workers two single-producer rings, in which a fixed number of buffers goes round: full ones
//! there, empty ones back. A packet crosses once to each worker that has a part in its fate (more often only if it goes to
//! more than [`PORTS_PER_PARCEL`] ports there, or to mirrors), and carries the list of ports: each copy is decided by one worker only, the
//! one that received the packet, so that none is made twice or forgotten while the configuration changes.

use crate::config::PortIndex;
use crate::counters::WorkerCounters;
use crate::limits::{CROSSING_RING, FRAME_MAX, WORKERS_MAX};
use crate::meta::Meta;
use crate::path::egress::MirrorForm;
use arrayvec::ArrayVec;
use rtrb::{Consumer, Producer, RingBuffer};
use shunt_ffi::Packet;
use std::sync::Arc;

/// Ports that one crossing serves.
pub const PORTS_PER_PARCEL: usize = 512;

/// Wakes a worker that sleeps because it has nothing to do. Called once a turn at most, by other workers.
pub trait Wake: Send + Sync {
    /// Makes the worker take another turn soon, if it sleeps.
    fn wake(&self);
}

/// Nobody sleeps: for tests, benches and workers that spin.
#[derive(Clone, Copy, Debug, Default)]
pub struct NeverAsleep;

impl Wake for NeverAsleep {
    fn wake(&self) {}
}

/// A packet on its way to another worker.
pub struct Parcel {
    /// What is known of it.
    pub meta: Meta,
    /// The ports by which it is to leave there.
    pub ports: ArrayVec<PortIndex, PORTS_PER_PARCEL>,
    /// They are copies of a mirror, in this form.
    pub form: Option<MirrorForm>,
    frame: Box<[u8]>,
    len: usize,
}

impl Parcel {
    fn empty() -> Box<Self> {
        // Untouched memory costs nothing: a buffer grows into real pages as far as its packets are long.
        let frame = vec![0; FRAME_MAX].into_boxed_slice();
        Box::new(Self { meta: Meta::default(), ports: ArrayVec::new(), form: None, frame, len: 0 })
    }

    /// The packet as received.
    pub fn octets(&self) -> &[u8] {
        &self.frame[..self.len]
    }

    fn fill(&mut self, meta: &Meta, packet: &Packet<'_>) {
        self.meta = *meta;
        self.len = 0;
        for segment in packet.segments() {
            // Longer packets were dropped when they were parsed.
            if let Some(place) = self.frame.get_mut(self.len..self.len + segment.len()) {
                place.copy_from_slice(segment);
                self.len += segment.len();
            }
        }
    }
}

/// One direction, seen from its sender.
struct Out {
    full: Producer<Box<Parcel>>,
    empty: Consumer<Box<Parcel>>,
    /// Of the packet in hand.
    open: Option<Box<Parcel>>,
    wake: Arc<dyn Wake>,
    sent: bool,
}

/// One direction, seen from its receiver.
struct In {
    full: Consumer<Box<Parcel>>,
    empty: Producer<Box<Parcel>>,
}

/// The way between two workers, seen from one of them.
pub struct Way {
    out: Out,
    incoming: In,
}

/// One worker's ways to and from all others.
pub struct Crossing {
    out: Vec<Option<Out>>,
    incoming: Vec<Option<In>>,
    /// Workers for which a parcel is open, one bit each.
    open: u64,
    next: usize,
}

const _: () = assert!(WORKERS_MAX <= u64::BITS as usize);

/// A way between two workers: the first one's end and the second one's, given what wakes each of them.
pub fn way(first: &Arc<dyn Wake>, second: &Arc<dyn Wake>) -> (Way, Way) {
    let ((to_second, from_first), (to_first, from_second)) = (direction(second), direction(first));
    (Way { out: to_second, incoming: from_second }, Way { out: to_first, incoming: from_first })
}

fn direction(receiver: &Arc<dyn Wake>) -> (Out, In) {
    let (full, full_end) = RingBuffer::new(CROSSING_RING);
    let (mut empty, empty_end) = RingBuffer::new(CROSSING_RING);
    while empty.push(Parcel::empty()).is_ok() {}
    let out = Out { full, empty: empty_end, open: None, wake: Arc::clone(receiver), sent: false };
    (out, In { full: full_end, empty })
}

/// The ways between as many workers as there are `wakes`, in worker order (at most [`WORKERS_MAX`]).
pub fn mesh(wakes: &[Arc<dyn Wake>]) -> Vec<Crossing> {
    let count = wakes.len().min(WORKERS_MAX);
    let mut crossings: Vec<Crossing> = (0..count).map(|_| Crossing::default()).collect();
    for a in 0..count {
        for b in a + 1..count {
            let (first, second) = way(&wakes[a], &wakes[b]);
            crossings[a].meet(b as u16, first);
            crossings[b].meet(a as u16, second);
        }
    }
    crossings
}

impl Default for Crossing {
    /// Alone, with room for all workers that there can be.
    fn default() -> Self {
        let (out, incoming) = (Vec::with_capacity(WORKERS_MAX), Vec::with_capacity(WORKERS_MAX));
        Self { out, incoming, open: 0, next: 0 }
    }
}

impl Crossing {
    /// From now on packets go to and come from worker `other`, which is below [`WORKERS_MAX`], by `way`.
    pub fn meet(&mut self, other: u16, way: Way) {
        let other = usize::from(other);
        if self.out.len() <= other {
            self.out.resize_with(other + 1, || None);
            self.incoming.resize_with(other + 1, || None);
        }
        self.out[other] = Some(way.out);
        self.incoming[other] = Some(way.incoming);
    }

    /// Adds `port` to what worker `to` shall do with the packet in hand. False if the way there is full.
    pub(crate) fn carry(
        &mut self,
        to: u16,
        meta: &Meta,
        packet: &Packet<'_>,
        port: PortIndex,
        form: Option<&MirrorForm>,
    ) -> bool {
        let Some(Some(out)) = self.out.get_mut(usize::from(to)) else { return false };
        if out.open.as_ref().is_some_and(|parcel| parcel.ports.is_full() || parcel.form.as_ref() != form) {
            out.depart();
        }
        if out.open.is_none() {
            let Ok(mut parcel) = out.empty.pop() else { return false };
            parcel.fill(meta, packet);
            parcel.form = form.cloned();
            out.open = Some(parcel);
            self.open |= 1 << to;
        }
        let Some(parcel) = &mut out.open else { return false };
        parcel.ports.push(port);
        true
    }

    /// The packet in hand is done with: what was carried departs.
    #[inline]
    pub(crate) fn depart(&mut self, counters: &WorkerCounters) {
        if self.open == 0 {
            return;
        }
        for out in self.out.iter_mut().flatten().filter(|out| out.open.is_some()) {
            out.depart();
            counters.crossed.add(1);
        }
        self.open = 0;
    }

    /// Wakes the workers that were sent something since the last call.
    pub(crate) fn wake(&mut self) {
        for out in self.out.iter_mut().flatten() {
            if std::mem::take(&mut out.sent) {
                out.wake.wake();
            }
        }
    }

    /// The next packet from another worker, and which one; the workers take turns.
    pub(crate) fn arrive(&mut self) -> Option<(usize, Box<Parcel>)> {
        let count = self.incoming.len();
        for _ in 0..count {
            let from = self.next;
            self.next = if from + 1 < count { from + 1 } else { 0 };
            if let Some(Some(incoming)) = self.incoming.get_mut(from)
                && let Ok(parcel) = incoming.full.pop()
            {
                return Some((from, parcel));
            }
        }
        None
    }

    /// An emptied buffer goes back to the worker that it came from.
    pub(crate) fn give_back(&mut self, from: usize, mut parcel: Box<Parcel>) {
        parcel.ports.clear();
        if let Some(Some(incoming)) = self.incoming.get_mut(from) {
            // The ring has room for all buffers that there are.
            let returned = incoming.empty.push(parcel);
            debug_assert!(returned.is_ok(), "more buffers than were made");
        }
    }

    /// How many workers there are.
    pub(crate) fn workers(&self) -> usize {
        self.incoming.len()
    }

    /// True while packets from other workers wait.
    pub fn waiting(&self) -> bool {
        self.incoming.iter().flatten().any(|incoming| !incoming.full.is_empty())
    }

    /// Buffers at rest on the sender's side, and parcels that wait here: for checks that none is lost.
    pub fn census(&self) -> (usize, usize) {
        let empty = self.out.iter().flatten().map(|out| out.empty.slots() + usize::from(out.open.is_some())).sum();
        let waiting = self.incoming.iter().flatten().map(|incoming| incoming.full.slots()).sum();
        (empty, waiting)
    }
}

impl Out {
    fn depart(&mut self) {
        if let Some(parcel) = self.open.take() {
            // The ring has room for all buffers that there are.
            let pushed = self.full.push(parcel);
            debug_assert!(pushed.is_ok(), "more buffers than were made");
            self.sent = true;
        }
    }
}
