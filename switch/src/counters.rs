//! How are packets counted without locks, and read without stopping anybody?
//!
//! One writer for each counter (a worker), any number of readers: plain relaxed loads and stores, no read-modify-write.

use crate::config::{PortIndex, Snapshot};
use crate::limits::BURST;
use crate::reason::Reason;
use crate::wire::ethernet::Mac;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A count that one worker raises and anybody reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the counter's one writer may call this: concurrent additions would be lost.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The count now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one worker counts on one port.
#[derive(Debug)]
#[repr(align(128))]
pub struct PortCounters {
    /// Packets that came in by the port, dropped ones included.
    pub rx_packets: Counter,
    /// Octets that came in, without FCS.
    pub rx_bytes: Counter,
    /// Packets handed to the port's device.
    pub tx_packets: Counter,
    /// Octets handed to the port's device, padding and tags included, without FCS.
    pub tx_bytes: Counter,
    /// Of those that came in: packets to some stations, and to all.
    pub rx_groups: [Counter; 2],
    /// Of those handed to the device, copies of mirrors not among them: packets to some stations, and to all.
    pub tx_groups: [Counter; 2],
    /// Packets dropped, by reason: at ingress under the port they came in by, at egress under the port they should have left by.
    pub drops: [Counter; Reason::COUNT],
}

impl Default for PortCounters {
    fn default() -> Self {
        Self {
            rx_packets: Counter::default(),
            rx_bytes: Counter::default(),
            tx_packets: Counter::default(),
            tx_bytes: Counter::default(),
            rx_groups: Default::default(),
            tx_groups: Default::default(),
            drops: std::array::from_fn(|_| Counter::default()),
        }
    }
}

impl PortCounters {
    /// Counts a packet that came in, if it is to more than one station.
    #[inline]
    pub fn received_to(&self, destination: Mac) {
        if destination.is_group() {
            self.rx_groups[usize::from(destination == Mac::BROADCAST)].add(1);
        }
    }

    /// The same of one that left.
    #[inline]
    pub fn sent_to(&self, destination: Mac) {
        if destination.is_group() {
            self.tx_groups[usize::from(destination == Mac::BROADCAST)].add(1);
        }
    }

    /// Counts `n` packets dropped for `reason`.
    #[inline]
    pub fn dropped(&self, reason: Reason, n: u64) {
        self.drops[reason as usize].add(n);
    }
}

/// Where worker number `worker` counts for `port`; `unattributed` if there is no such port.
#[inline]
pub(crate) fn port_counters<'a>(
    config: &'a Snapshot,
    port: PortIndex,
    worker: usize,
    unattributed: &'a PortCounters,
) -> &'a PortCounters {
    config.port(port).and_then(|port| port.counters.get(worker)).unwrap_or(unattributed)
}

/// What one worker counts about itself.
///
/// Always, summed over workers and ports: received packets and copies together are forwarded packets, sent packets, drops
/// and copies on the way between two workers together. A routed packet is received and forwarded twice.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerCounters {
    /// Turns.
    pub turns: Counter,
    /// Turns that found something to do.
    pub busy_turns: Counter,
    /// Packets received.
    pub packets: Counter,
    /// Packets of which at least one copy was to leave.
    pub forwarded: Counter,
    /// Packets routed: received once more, from the router.
    pub routed: Counter,
    /// Copies that were to leave, those for ports of other workers included.
    pub copies: Counter,
    /// Packets handed to other workers.
    pub crossed: Counter,
    /// Bursts by size: 1, 2-3, 4-7, … packets.
    pub bursts: [Counter; BURST_CLASSES],
    /// Packets of no port: no port claimed them, or theirs was just removed.
    pub unattributed: PortCounters,
}

/// Classes of burst sizes in [`WorkerCounters::bursts`].
pub const BURST_CLASSES: usize = BURST.ilog2() as usize + 1;

impl WorkerCounters {
    /// Counts a burst of `packets`, which is not 0.
    #[inline]
    pub fn burst(&self, packets: usize) {
        self.packets.add(packets as u64);
        if let Some(class) = packets.checked_ilog2() {
            self.bursts[(class as usize).min(BURST_CLASSES - 1)].add(1);
        }
    }
}

/// The sum over all workers of what they counted on one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortTotals {
    /// Packets that came in.
    pub rx_packets: u64,
    /// Octets that came in.
    pub rx_bytes: u64,
    /// Packets that left.
    pub tx_packets: u64,
    /// Octets that left.
    pub tx_bytes: u64,
    /// Packets that came in to some stations, and to all.
    pub rx_groups: [u64; 2],
    /// Packets that left to some stations, and to all.
    pub tx_groups: [u64; 2],
    /// Packets dropped, in the order of [`Reason::ALL`].
    pub drops: [u64; Reason::COUNT],
}

impl Default for PortTotals {
    fn default() -> Self {
        Self {
            rx_packets: 0,
            rx_bytes: 0,
            tx_packets: 0,
            tx_bytes: 0,
            rx_groups: [0; 2],
            tx_groups: [0; 2],
            drops: [0; Reason::COUNT],
        }
    }
}

impl PortTotals {
    /// Sums the workers' counters.
    pub fn sum(workers: &[PortCounters]) -> Self {
        let mut totals = Self::default();
        workers.iter().for_each(|counters| totals.add(counters));
        totals
    }

    /// Adds what one worker counted.
    pub fn add(&mut self, counters: &PortCounters) {
        self.rx_packets += counters.rx_packets.get();
        self.rx_bytes += counters.rx_bytes.get();
        self.tx_packets += counters.tx_packets.get();
        self.tx_bytes += counters.tx_bytes.get();
        let groups = self.rx_groups.iter_mut().chain(&mut self.tx_groups);
        for (total, counter) in groups.zip(counters.rx_groups.iter().chain(&counters.tx_groups)) {
            *total += counter.get();
        }
        for (total, counter) in self.drops.iter_mut().zip(&counters.drops) {
            *total += counter.get();
        }
    }

    /// Packets dropped for any reason.
    pub fn all_dropped(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Packets dropped for `reason`.
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.drops[reason as usize]
    }
}
