//! How does an entry of the FDB lie in memory?
//!
//! Key and value are words that are read and written alone; [`fdb`](super::fdb) says in which order.

use crate::config::PortIndex;
use crate::limits::{AGEING_S, FDB_SIZE};
use crate::wire::ethernet::Mac;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const SLOTS: usize = 4;

/// A VLAN and a MAC in one word; the top bit tells a used slot from an empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Key(pub(super) u64);

impl Key {
    #[inline]
    pub(super) fn new(vlan: u16, mac: Mac) -> Self {
        debug_assert!(mac.0 >> 48 == 0, "48 bits");
        Self(1 << 63 | u64::from(vlan & 0xfff) << 48 | mac.0)
    }

    /// It is a host's, in a VLAN that is not flooded: what else there is is in no FDB.
    #[inline]
    pub(super) fn is_host(self) -> bool {
        self.0 >> 63 != 0 && !self.mac().is_group()
    }

    #[inline]
    pub(super) fn vlan(self) -> u16 {
        (self.0 >> 48) as u16 & 0xfff
    }

    #[inline]
    pub(super) fn mac(self) -> Mac {
        Mac(self.0 & 0xffff_ffff_ffff)
    }
}

/// What a slot says about its key: port (16 bits), static (1), number in the ledger (20), stamp in milliseconds (27).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value(pub(super) u64);

const STAMP_MASK: u64 = (1 << 27) - 1;
const NODES_MAX: usize = 1 << 20;
const _: () = assert!(*AGEING_S.end() * 1000 < STAMP_MASK / 4);
const _: () = assert!(*FDB_SIZE.end() <= NODES_MAX);

impl Value {
    #[inline]
    pub(super) fn new(port: PortIndex, is_static: bool, node: u32, stamp: u64) -> Self {
        Self(u64::from(port.0) | u64::from(is_static) << 16 | u64::from(node) << 17 | (stamp & STAMP_MASK) << 37)
    }

    #[inline]
    pub(super) fn port(self) -> PortIndex {
        PortIndex(self.0 as u16)
    }

    /// Learned behind `port`, not bound to it: the lowest bits as one number.
    #[inline]
    pub(super) fn is_learned_at(self, port: PortIndex) -> bool {
        self.0 & 0x1_ffff == u64::from(port.0)
    }

    #[inline]
    pub(super) fn is_static(self) -> bool {
        self.0 >> 16 & 1 != 0
    }

    #[inline]
    pub(super) fn node(self) -> u32 {
        (self.0 >> 17) as u32 & (NODES_MAX as u32 - 1)
    }

    #[inline]
    pub(super) fn stamp(self) -> u64 {
        self.0 >> 37
    }

    /// Milliseconds since the stamp; none if another worker's clock was ahead. Right for 18 hours, five times as long as
    /// an entry may live.
    #[inline]
    pub(super) fn age(self, now: u64) -> u64 {
        let age = now.wrapping_sub(self.stamp()) & STAMP_MASK;
        if age > STAMP_MASK / 2 { 0 } else { age }
    }
}

#[derive(Default)]
pub(super) struct Slot {
    pub(super) key: AtomicU64,
    pub(super) value: AtomicU64,
}

#[derive(Default)]
#[repr(align(64))]
pub(super) struct Bucket(pub(super) [Slot; SLOTS]);

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// The slot that has the key, and its value.
    #[inline]
    pub(super) fn find(&self, key: Key) -> Option<(usize, Value)> {
        for (i, slot) in self.0.iter().enumerate() {
            if slot.key.load(Ordering::Acquire) == key.0 {
                let value = Value(slot.value.load(Ordering::Acquire));
                // The value belongs to the key if the key is still there: writers clear it before they reuse a slot.
                if slot.key.load(Ordering::Acquire) == key.0 {
                    return Some((i, value));
                }
            }
        }
        None
    }
}

/// A VLAN, as the keys of its hosts have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site(u64);

impl Site {
    /// Of a VLAN that is flooded: nothing is ever found there.
    pub const NOWHERE: Self = Self(1 << 62);

    /// Of `vlan`.
    pub fn of(vlan: u16) -> Self {
        Self(Key::new(vlan, Mac(0)).0)
    }

    #[inline]
    pub(super) fn key(self, mac: Mac) -> Key {
        Key(self.0 | mac.0)
    }
}

/// Where the FDB that made it looks for an address first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    pub(super) key: Key,
    pub(super) bucket: usize,
}
