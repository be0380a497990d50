//! What does an FDB show of itself?

use super::{Fdb, SLICE};
use crate::config::PortIndex;
use crate::table::slot::{Key, Value};
use crate::time::Instant;
use crate::wire::ethernet::Mac;
use std::sync::atomic::Ordering;

/// One entry as shown to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The bridge's VLAN.
    pub vlan: u16,
    /// The host.
    pub mac: Mac,
    /// The port that it is behind.
    pub port: PortIndex,
    /// Seconds since its last packet (to the second); 0 for a static entry.
    pub age_s: u64,
    /// Bound by the configuration: never moves, ages or gives way.
    pub is_static: bool,
}

/// What `fdb/stats-show` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries now, static ones included.
    pub current: usize,
    /// Most entries that there may be.
    pub max: usize,
    /// Static entries now.
    pub static_entries: usize,
    /// Entries ever learned.
    pub learned: u64,
    /// Entries removed because of their age.
    pub expired: u64,
    /// Entries removed to make room.
    pub evicted: u64,
    /// Times that a host was seen behind another port than before.
    pub moved: u64,
}

impl Fdb {
    /// All entries, in order of VLAN and MAC, as of `now`. Entries that change meanwhile may be missed.
    pub fn entries(&self, now: Instant) -> Vec<Entry> {
        let mut entries = Vec::new();
        for slot in self.buckets.iter().flat_map(|bucket| &bucket.0) {
            let key = slot.key.load(Ordering::Acquire);
            let value = Value(slot.value.load(Ordering::Acquire));
            if key != 0 && key == slot.key.load(Ordering::Acquire) {
                let (key, is_static) = (Key(key), value.is_static());
                let age_s = if is_static { 0 } else { value.age(now.as_millis()) / 1000 };
                entries.push(Entry { vlan: key.vlan(), mac: key.mac(), port: value.port(), age_s, is_static });
            }
        }
        entries.sort_unstable_by_key(|entry| (entry.vlan, entry.mac));
        // One that moved from bucket to bucket meanwhile may have been met twice.
        entries.dedup_by_key(|entry| (entry.vlan, entry.mac));
        entries
    }

    /// The counts now.
    pub fn stats(&self) -> Stats {
        let ledger = self.lock();
        Stats {
            current: ledger.current(),
            max: self.capacity,
            static_entries: ledger.static_entries(),
            ..ledger.statistics
        }
    }

    /// Of each address that is held because it moved too often: where, and the port that it was kept from last.
    pub fn held(&self, now: Instant) -> Vec<[PortIndex; 2]> {
        let now_ms = now.as_millis();
        let mut held = Vec::new();
        for start in (0..self.buckets.len()).step_by(SLICE) {
            let ledger = self.lock();
            if ledger.holds_none(now_ms) {
                break;
            }
            held.extend(ledger.held(start..start + SLICE, now_ms));
        }
        held
    }

    /// Starts the counts of what happened anew.
    pub fn clear_stats(&self) {
        self.lock().statistics = Stats::default();
    }
}
