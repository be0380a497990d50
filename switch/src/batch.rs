//! Which packets are under way in this turn?

use crate::config::Snapshot;
use crate::counters::{PortCounters, port_counters};
use crate::limits::BURST;
use crate::meta::{Fate, Meta};
use crate::reason::Reason;
use crate::table::fdb::Place;
use shunt_ffi::Packet;

/// A burst from one receive queue: the packets stay in the queue, here are their records. A packet leaves the batch by a
/// fate, and [`Batch::settle`] counts all of them in one place.
pub struct Batch {
    metas: Box<[Meta; BURST]>,
    /// Of the sender and the receiver of each packet that came in.
    places: Box<[[Place; 2]; BURST]>,
    len: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self { metas: Box::new([Meta::default(); BURST]), places: Box::new([[Place::default(); 2]; BURST]), len: 0 }
    }
}

impl Batch {
    /// Begins anew, with a record for each of `packets`. `admit` fills it in and notes where in the FDB its addresses are, or
    /// says why it is dropped.
    #[inline(always)]
    pub fn begin<'a>(
        &mut self,
        packets: &'a [Packet<'a>],
        mut admit: impl FnMut(&mut Meta, &mut [Place; 2], &'a [u8]) -> Result<(), Reason>,
    ) {
        self.len = packets.len().min(BURST);
        for ((meta, places), packet) in self.metas.iter_mut().zip(self.places.iter_mut()).zip(packets) {
            *meta = Meta { len: packet.len() as u32, ..Meta::default() };
            if let Err(reason) = admit(meta, places, packet.head()) {
                meta.fate = Fate::Dropped(reason);
            }
        }
    }

    /// How many packets.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for a batch without packets.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All records, in the order of the queue.
    #[inline]
    pub fn all(&mut self) -> &mut [Meta] {
        &mut self.metas[..self.len]
    }

    /// All records, to be read.
    pub fn records(&self) -> &[Meta] {
        &self.metas[..self.len]
    }

    /// The records of packets that have not been dropped.
    #[inline]
    pub fn live(&mut self) -> impl Iterator<Item = (usize, &mut Meta)> {
        self.all().iter_mut().enumerate().filter(|(_, meta)| !matches!(meta.fate, Fate::Dropped(_)))
    }

    /// Decides on all packets that have not been dropped: `decide` gives a record its fate, or says why the packet is dropped.
    #[inline(always)]
    pub fn decide(&mut self, mut decide: impl FnMut(&mut Meta, &[Place; 2]) -> Result<(), Reason>) {
        for (meta, places) in self.metas[..self.len].iter_mut().zip(self.places.iter()) {
            if !matches!(meta.fate, Fate::Dropped(_))
                && let Err(reason) = decide(meta, places)
            {
                meta.fate = Fate::Dropped(reason);
            }
        }
    }

    /// Counts every packet at the port that it came in by, and the dropped ones under their reason. Returns how many
    /// were forwarded. `own_octets` of each are the device's. The records stay until the next burst.
    pub fn settle(&mut self, config: &Snapshot, worker: usize, own_octets: u32, unattributed: &PortCounters) -> u64 {
        let all = &self.metas[..self.len];
        let Some(&Meta { port, .. }) = all.first() else { return 0 };
        let (mut octets, mut dropped, mut is_one_port) = (0, 0, true);
        for meta in all {
            octets += u64::from(meta.len);
            is_one_port &= meta.port == port;
            if matches!(meta.fate, Fate::Open | Fate::Dropped(_)) {
                dropped += 1;
                // No step leaves a packet undecided; should one, it has gone nowhere.
                debug_assert_ne!(meta.fate, Fate::Open, "a packet without a fate");
                let reason = if let Fate::Dropped(reason) = meta.fate { reason } else { Reason::NoPort };
                let counters = port_counters(config, meta.port, worker, unattributed);
                counters.dropped(reason, 1);
                // Of what goes on, the way out knows what is to groups.
                counters.received_to(meta.destination);
            }
        }
        let count = |port, packets: usize, octets: u64| {
            let counters = port_counters(config, port, worker, unattributed);
            counters.rx_packets.add(packets as u64);
            counters.rx_bytes.add(octets.saturating_sub(packets as u64 * u64::from(own_octets)));
        };
        // As nearly always.
        if is_one_port {
            count(port, all.len(), octets);
        } else {
            all.chunk_by(|a, b| a.port == b.port).for_each(|run| {
                count(run[0].port, run.len(), run.iter().map(|meta| u64::from(meta.len)).sum());
            });
        }
        (self.len - dropped) as u64
    }
}
