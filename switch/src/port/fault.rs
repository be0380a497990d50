//! What if a port loses, repeats or holds up packets? A wrapper around any port that does so, the same for the same seed.

use super::{Outcome, Packets, Receive, Transmit};
use crate::limits::BURST;
use crate::path::edit::{Copies, Edit};
use crate::reason::Reason;
use arrayvec::ArrayVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A small seeded generator (SplitMix64) for faults and tests.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The same seed throws the same numbers.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.roll() % bound as u64) as usize }
    }

    /// True `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < per_mille as usize
    }
}

/// How often each fault happens, in a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// A received packet vanishes before the switch sees it; a sent one after it left.
    pub loss: u32,
    /// A received packet comes twice.
    pub duplication: u32,
    /// A call finds the queue empty, or the device full.
    pub stall: u32,
    /// A burst has fewer packets than there are.
    pub short_burst: u32,
}

/// What the faults came to, to be read by others.
#[derive(Debug, Default)]
pub struct Toll {
    /// Packets lost.
    pub lost: AtomicU64,
    /// Packets that came twice.
    pub duplicated: AtomicU64,
    /// Calls held up.
    pub stalled: AtomicU64,
}

/// A port with faults.
pub struct Fault<P> {
    port: P,
    rates: Rates,
    dice: Dice,
    toll: Arc<Toll>,
    /// The wrapped port's packets as shown outside.
    shown: ArrayVec<usize, BURST>,
}

impl<P> Fault<P> {
    /// Wraps `port`.
    pub fn new(port: P, rates: Rates, seed: u64) -> Self {
        Self { port, rates, dice: Dice::new(seed), toll: Arc::default(), shown: ArrayVec::new() }
    }

    /// Where the faults are counted.
    pub fn toll(&self) -> Arc<Toll> {
        Arc::clone(&self.toll)
    }

    fn stalls(&mut self) -> bool {
        let stalls = self.dice.chance(self.rates.stall);
        self.toll.stalled.fetch_add(u64::from(stalls), Relaxed);
        stalls
    }
}

impl<P: Receive> Receive for Fault<P> {
    fn receive(&mut self, max: usize) -> usize {
        self.shown.clear();
        if self.stalls() {
            return 0;
        }
        let mut max = max.min(BURST);
        if self.dice.chance(self.rates.short_burst) {
            max = 1 + self.dice.below(max);
        }
        let held = self.port.receive(max);
        for index in 0..held {
            if self.dice.chance(self.rates.loss) {
                self.toll.lost.fetch_add(1, Relaxed);
                continue;
            }
            self.shown.push(index);
            // Only as far as all the others still have room.
            if self.dice.chance(self.rates.duplication) && self.shown.len() + held - index <= max {
                self.toll.duplicated.fetch_add(1, Relaxed);
                self.shown.push(index);
            }
        }
        if self.shown.is_empty() {
            self.port.release();
        }
        self.shown.len()
    }

    fn packets<'a>(&'a self, packets: &mut Packets<'a>) {
        let mut all = Packets::new();
        self.port.packets(&mut all);
        packets.extend(self.shown.iter().filter_map(|index| all.get(*index)).copied());
    }

    fn release(&mut self) {
        self.shown.clear();
        self.port.release();
    }
}

impl<P: Transmit> Transmit for Fault<P> {
    fn send(&mut self, copies: Copies<'_>, edit: &Edit, sent: &mut Outcome) {
        for (place, copy) in (0..).zip(copies.iter()) {
            if self.stalls() {
                sent.refused.push((place, Reason::TxFull));
            } else if self.dice.chance(self.rates.loss) {
                self.toll.lost.fetch_add(1, Relaxed);
                sent.octets += edit.len(copy.packet) as u64;
            } else {
                let mut one = Outcome::default();
                self.port.send(copy.copies(), edit, &mut one);
                sent.octets += one.octets;
                sent.refused.extend(one.refused.iter().map(|(_, reason)| (place, *reason)));
            }
        }
    }

    fn flush(&mut self) -> bool {
        self.stalls() || self.port.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::memory::Queue;

    #[test]
    fn every_packet_is_seen_lost_or_repeated() {
        let queue = Queue::new(BURST);
        let rates = Rates { loss: 200, duplication: 200, stall: 100, short_burst: 300 };
        let mut port = Fault::new(queue.receiver(), rates, 7);
        let (mut pushed, mut seen) = (0, 0);
        for round in 0..500u32 {
            while pushed < (round as u64 + 1) * 30 && queue.push(&round.to_be_bytes()) {
                pushed += 1;
            }
            let held = port.receive(BURST);
            assert!(held <= BURST);
            let mut packets = Packets::new();
            port.packets(&mut packets);
            assert_eq!(packets.len(), held);
            assert!(packets.iter().all(|packet| packet.len() == 4));
            drop(packets);
            seen += held as u64;
            port.release();
            assert_eq!(queue.held(), 0);
        }
        let toll = port.toll();
        let [lost, twice, stalled] = [&toll.lost, &toll.duplicated, &toll.stalled].map(|count| count.load(Relaxed));
        assert!(lost > 0 && twice > 0 && stalled > 0);
        assert_eq!(seen + lost + queue.len() as u64, pushed + twice);
    }
}
