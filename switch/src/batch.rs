//! Which packets are under way in this turn?

use crate::config::Snapshot;
use crate::counters::{PortCounters, port_counters};
use crate::limits::BURST;
use crate::meta::{Fate, Meta};
use crate::reason::Reason;

/// A burst from one receive queue: the packets stay in the queue, here are their records. A packet leaves the batch by a
/// fate, and [`Batch::settle`] counts all of them in one place.
pub struct Batch {
    metas: Box<[Meta; BURST]>,
    len: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self { metas: Box::new([Meta::default(); BURST]), len: 0 }
    }
}

impl Batch {
    /// Begins anew with `len` packets of which nothing is known.
    #[inline]
    pub fn begin(&mut self, len: usize) {
        self.len = len.min(BURST);
        self.metas[..self.len].fill(Meta::default());
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
    pub fn all(&mut self) -> impl Iterator<Item = (usize, &mut Meta)> {
        self.metas[..self.len].iter_mut().enumerate()
    }

    /// The records of packets that have not been dropped.
    #[inline]
    pub fn live(&mut self) -> impl Iterator<Item = (usize, &mut Meta)> {
        self.all().filter(|(_, meta)| !matches!(meta.fate, Fate::Dropped(_)))
    }

    /// Counts every packet at the port that it came in by, and the dropped ones under their reason. Returns how many
    /// were forwarded.
    pub fn settle(&mut self, config: &Snapshot, worker: usize, unattributed: &PortCounters) -> u64 {
        let mut forwarded = 0;
        let mut rest = &self.metas[..self.len];
        while let Some(first) = rest.first() {
            // Packets of one queue mostly belong to one port: add to its counters once for all of them.
            let run = rest.iter().take_while(|meta| meta.port == first.port).count();
            let counters = port_counters(config, first.port, worker, unattributed);
            let mut octets = 0;
            for meta in &rest[..run] {
                octets += u64::from(meta.len);
                match meta.fate {
                    Fate::Dropped(reason) => counters.dropped(reason, 1),
                    Fate::One(_) | Fate::Flood | Fate::Snooped(_) => forwarded += 1,
                    // No step leaves a packet undecided; should one, it has gone nowhere.
                    Fate::Open => {
                        debug_assert!(false, "a packet without a fate");
                        counters.dropped(Reason::NoPort, 1);
                    }
                }
            }
            counters.rx_packets.add(run as u64);
            counters.rx_bytes.add(octets);
            rest = &rest[run..];
        }
        self.len = 0;
        forwarded
    }
}
