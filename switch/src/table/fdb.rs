//! Behind which port is a MAC address?
//!
//! One table a bridge, shared by all workers. Key: VLAN and MAC in one word; value: port, flags, age stamp and number of
//! the entry in another. A key has two candidate buckets, chosen by a hash with a secret seed (MACs are chosen by
//! attackers); a bucket is one cache line of four slots, and there are four slots for each entry that the table may hold.
//! If both are full, an entry of theirs moves to its other bucket (one step of cuckoo hashing).
//!
//! **Readers** take no lock: key, value, key again; a key that changed meanwhile is a miss.
//! **Changes** go through the [`Ledger`](super::ledger::Ledger) behind a lock. Workers only try it: a packet whose source cannot be learned
//! now does no harm, a later one will teach it. They change nothing unless a host is new, has moved, or its stamp is a
//! second old, so in a steady state the hot path only reads. (Small tables stamp every millisecond: with few entries it
//! shows which of them gives way, and there it costs little.) The control thread waits for the lock, and
//! holds it for a short slice of its work at a time.

mod view;

use crate::config::PortIndex;
use crate::limits::{FDB_SIZE, PORTS_MAX};
use crate::table::guard::MacLimits;
use crate::table::ledger::{Ledger, NONE};
use crate::table::shortcut::{Epochs, Thing};
use crate::table::slot::{Bucket, Key, SLOTS, Slot, Value};
pub use crate::table::slot::{Place, Site};
use crate::time::Instant;
use crate::wire::ethernet::Mac;
use shunt_ffi::cpu::prefetch;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
pub use view::{Entry, Stats};

/// Steps, of an entry or a port, that the control thread takes before it lets others have the table.
const SLICE: usize = 1024;
/// Largest table in which the order of last use is exact to the millisecond.
const EXACT_MAX: usize = 4096;

/// What learning an address came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// Known, and its stamp is new enough: nothing was written.
    Fresh,
    /// Known; it was stamped anew.
    Refreshed,
    /// It was not known.
    New,
    /// It was known behind the port named here.
    Moved(PortIndex),
    /// It is bound to a port by the configuration.
    Static,
    /// Somebody else was changing the table; a later packet will teach it.
    Busy,
    /// The table holds nothing but static entries.
    Full,
    /// It has moved too often: it is held where it is.
    Held,
    /// The port has as many addresses as it may.
    Limited,
}

/// The table is full of static entries: raise the bridge's `mac-table-size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the MAC table is full of static entries: remove some, or raise other_config:mac-table-size")]
pub struct Full;

/// The forwarding database of one bridge.
pub struct Fdb {
    buckets: Box<[Bucket]>,
    seed: u64,
    /// What keys are multiplied by to hash them, made of the seed.
    multiplier: u64,
    capacity: usize,
    refresh_ms: u64,
    ledger: Mutex<Ledger>,
    epochs: OnceLock<Epochs>,
}

impl Fdb {
    /// An empty table for `capacity` entries (taken to the nearest end of [`FDB_SIZE`]). `seed` should be secret.
    pub fn new(capacity: usize, seed: u64) -> Self {
        let capacity = capacity.clamp(*FDB_SIZE.start(), *FDB_SIZE.end());
        Self::with_nodes(capacity, capacity, seed)
    }

    fn with_nodes(capacity: usize, nodes: usize, seed: u64) -> Self {
        let mut buckets = Vec::new();
        buckets.resize_with(nodes.next_power_of_two(), Bucket::default);
        let refresh_ms = if capacity <= EXACT_MAX { 1 } else { 1000 };
        let multiplier = 0x9e37_79b9_7f4a_7c15 ^ seed.rotate_left(32) | 1;
        let ledger = Mutex::new(Ledger::new(nodes));
        Self { buckets: buckets.into(), seed, multiplier, capacity, refresh_ms, ledger, epochs: OnceLock::new() }
    }

    /// The table with another capacity, to be put in this one's place. If that is less than the entries there are, this
    /// table loses what the other cannot hold; static entries are all kept.
    pub fn resized(&self, capacity: usize) -> Self {
        let capacity = capacity.clamp(*FDB_SIZE.start(), *FDB_SIZE.end());
        let mut old = self.lock();
        while old.current() > capacity && self.evict(&mut old) {}
        let new = Self::with_nodes(capacity, capacity.max(old.current()), self.seed);
        let mut ledger = new.lock();
        old.for_each_oldest_first(|key, slot, _| {
            let value = Value(self.slot(slot).value.load(Ordering::Acquire));
            let inserted = new.insert(&mut ledger, Key(key), value.port(), value.is_static(), value.stamp());
            debug_assert!(inserted, "a table at least as large");
        });
        ledger.statistics = old.statistics;
        drop(ledger);
        new
    }

    /// From now on these epochs say of each host that its entry has changed. One made by [`Fdb::resized`] has none yet: it may
    /// be a copy to try something out.
    pub fn watch(&self, epochs: &Epochs) {
        // Whoever set them first set the same.
        let _ = self.epochs.set(epochs.clone());
    }

    /// A number that no other FDB has, as good as surely: the bridge's among the epochs.
    pub fn id(&self) -> u64 {
        self.seed
    }

    /// What is known of the host is not what it was.
    fn changed(&self, key: Key) {
        if let Some(epochs) = self.epochs.get() {
            epochs.changed(Thing::Host { bridge: self.seed, vlan: key.vlan(), mac: key.mac() });
        }
    }

    /// Where an address is looked for. The octets there are on their way into the cache.
    #[inline]
    pub fn place(&self, site: Site, mac: Mac) -> Place {
        let key = site.key(mac);
        let bucket = self.hash(key) as usize & (self.buckets.len() - 1);
        prefetch(self.buckets.as_ptr().wrapping_add(bucket));
        Place { key, bucket }
    }

    /// The port that the address is behind for which the place was found here.
    #[inline]
    pub fn lookup_at(&self, place: Place) -> Option<PortIndex> {
        match self.find_in(place.bucket, place.key) {
            Some((_, value)) => Some(value.port()),
            None if place.key.is_host() => self.lookup_second(place.key),
            None => None,
        }
    }

    #[inline(never)]
    fn lookup_second(&self, key: Key) -> Option<PortIndex> {
        let [_, second] = self.buckets_of(key);
        self.find_in(second, key).map(|(_, value)| value.port())
    }

    /// True if the address is known behind `port`, and seen there so recently that there is nothing to learn. False if it takes
    /// more than a glance to know.
    #[inline]
    pub fn is_fresh(&self, place: Place, port: PortIndex, now_ms: u64) -> bool {
        self.find_in(place.bucket, place.key).is_some_and(|(_, value)| self.is_fresh_value(value, port, now_ms))
    }

    #[inline]
    fn is_fresh_value(&self, value: Value, port: PortIndex, now_ms: u64) -> bool {
        value.is_learned_at(port) && value.age(now_ms) < self.refresh_ms
    }

    /// The port that `mac` is behind in `vlan`.
    #[inline]
    pub fn lookup(&self, vlan: u16, mac: Mac) -> Option<PortIndex> {
        self.find(Key::new(vlan, mac)).map(|(_, value)| value.port())
    }

    /// A packet from `mac` came in by `port`. Never waits; group addresses are not learned by callers.
    #[inline]
    pub fn learn(&self, vlan: u16, mac: Mac, port: PortIndex, now: Instant) -> Learned {
        self.learn_within(vlan, mac, port, now, |_| MacLimits::default())
    }

    /// As [`Fdb::learn`], as far as the ports' limits allow.
    #[inline]
    pub fn learn_within(
        &self,
        vlan: u16,
        mac: Mac,
        port: PortIndex,
        now: Instant,
        limits: impl Fn(PortIndex) -> MacLimits,
    ) -> Learned {
        let key = Key::new(vlan, mac);
        let stamp = now.as_millis();
        if let Some((_, value)) = self.find(key) {
            if value.is_static() {
                return Learned::Static;
            }
            if self.is_fresh_value(value, port, stamp) {
                return Learned::Fresh;
            }
        }
        match self.ledger.try_lock() {
            Ok(mut ledger) => self.change(&mut ledger, key, port, stamp, limits),
            Err(TryLockError::WouldBlock) => Learned::Busy,
            Err(TryLockError::Poisoned(poisoned)) => self.change(&mut poisoned.into_inner(), key, port, stamp, limits),
        }
    }

    #[cold]
    fn change(
        &self,
        ledger: &mut Ledger,
        key: Key,
        port: PortIndex,
        stamp: u64,
        limits: impl Fn(PortIndex) -> MacLimits,
    ) -> Learned {
        let own = limits(port);
        let is_limited = own.learned_max > 0 && ledger.learned(port) >= own.learned_max;
        let Some((slot, value)) = self.find(key) else {
            if is_limited {
                return Learned::Limited;
            }
            if ledger.current() >= self.capacity && !self.evict(ledger) {
                return Learned::Full;
            }
            if !self.insert(ledger, key, port, false, stamp) {
                return Learned::Full;
            }
            ledger.statistics.learned += 1;
            return Learned::New;
        };
        if value.is_static() {
            return Learned::Static;
        }
        let from = value.port();
        if from != port {
            if is_limited {
                return Learned::Limited;
            }
            let moves = if own.moves_max > 0 { own } else { limits(from) };
            if moves.moves_max > 0 && !ledger.may_move(value.node(), port, moves, stamp) {
                return Learned::Held;
            }
        }
        self.slot(slot).value.store(Value::new(port, false, value.node(), stamp).0, Ordering::Release);
        if from == port {
            ledger.touch(value.node());
            return Learned::Refreshed;
        }
        self.changed(key);
        ledger.relink(value.node(), port);
        ledger.statistics.moved += 1;
        Learned::Moved(from)
    }

    /// Binds `mac` to `port` for good; an entry that was learned becomes a static one.
    pub fn add_static(&self, vlan: u16, mac: Mac, port: PortIndex) -> Result<(), Full> {
        let key = Key::new(vlan, mac);
        let mut ledger = self.lock();
        if let Some((slot, value)) = self.find(key) {
            self.slot(slot).value.store(Value::new(port, true, value.node(), value.stamp()).0, Ordering::Release);
            self.changed(key);
            ledger.make_static(value.node(), port);
            return Ok(());
        }
        if ledger.current() >= self.capacity && !self.evict(&mut ledger) {
            return Err(Full);
        }
        if self.insert(&mut ledger, key, port, true, 0) { Ok(()) } else { Err(Full) }
    }

    /// Removes a static entry; false if there is none.
    pub fn remove_static(&self, vlan: u16, mac: Mac) -> bool {
        self.remove_if(vlan, mac, Value::is_static)
    }

    /// Removes an entry of either kind; false if there is none.
    pub fn remove(&self, vlan: u16, mac: Mac) -> bool {
        self.remove_if(vlan, mac, |_| true)
    }

    fn remove_if(&self, vlan: u16, mac: Mac, condition: impl Fn(Value) -> bool) -> bool {
        let mut ledger = self.lock();
        match self.find(Key::new(vlan, mac)) {
            Some((_, value)) if condition(value) => {
                self.take_out(&mut ledger, value.node());
                true
            }
            _ => false,
        }
    }

    /// Forgets all that was learned.
    pub fn flush(&self) {
        self.remove_oldest_while(0..PORTS_MAX as u16, |_| true);
    }

    /// Forgets all that was learned behind `port`.
    pub fn flush_port(&self, port: PortIndex) {
        self.remove_oldest_while(port.0..port.0.saturating_add(1), |_| true);
    }

    /// Removes everything behind `port`, static entries included: the port goes away.
    pub fn forget_port(&self, port: PortIndex) {
        self.flush_port(port);
        for entry in self.entries(Instant::default()) {
            if entry.port == port && entry.is_static {
                self.remove_static(entry.vlan, entry.mac);
            }
        }
    }

    /// Forgets what has not been seen for `max_age_s` seconds.
    pub fn age(&self, now: Instant, max_age_s: u64) {
        let old = |value: Value| value.age(now.as_millis()) >= max_age_s * 1000;
        let expired = self.remove_oldest_while(0..PORTS_MAX as u16, old);
        if expired > 0 {
            self.lock().statistics.expired += expired;
        }
    }

    /// Removes the entries of some ports, of each the least recently used first, while `condition` holds; in slices.
    /// Returns how many.
    fn remove_oldest_while(&self, mut ports: Range<u16>, condition: impl Fn(Value) -> bool) -> u64 {
        let mut removed = 0;
        while !ports.is_empty() {
            let mut ledger = self.lock();
            for _ in 0..SLICE {
                let node = ledger.oldest(PortIndex(ports.start));
                if node != NONE && condition(self.value_of(&ledger, node)) {
                    self.take_out(&mut ledger, node);
                    removed += 1;
                } else if ports.next().is_none() || ports.is_empty() {
                    break;
                }
            }
        }
        removed
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn hash(&self, key: Key) -> u64 {
        let product = u128::from(key.0 ^ self.seed) * u128::from(self.multiplier);
        product as u64 ^ (product >> 64) as u64
    }

    #[inline]
    fn buckets_of(&self, key: Key) -> [usize; 2] {
        let hash = self.hash(key);
        let mask = self.buckets.len() - 1;
        let first = hash as usize & mask;
        // Never the same bucket twice: in a small table that would be likely, and leave a key four slots instead of eight.
        [first, first ^ ((hash >> 32) as usize | 1) & mask]
    }

    #[inline]
    fn slot(&self, slot: u32) -> &Slot {
        &self.buckets[slot as usize / SLOTS].0[slot as usize % SLOTS]
    }

    #[inline]
    fn find(&self, key: Key) -> Option<(u32, Value)> {
        self.buckets_of(key).into_iter().find_map(|bucket| self.find_in(bucket, key))
    }

    #[inline]
    fn find_in(&self, bucket: usize, key: Key) -> Option<(u32, Value)> {
        let (i, value) = self.buckets.get(bucket)?.find(key)?;
        Some(((bucket * SLOTS + i) as u32, value))
    }

    fn value_of(&self, ledger: &Ledger, node: u32) -> Value {
        Value(self.slot(ledger.slot(node)).value.load(Ordering::Acquire))
    }

    /// Puts a key that is not there into an empty slot. False if the ledger or both buckets have no room to be made.
    fn insert(&self, ledger: &mut Ledger, key: Key, port: PortIndex, is_static: bool, stamp: u64) -> bool {
        let Some(slot) = self.empty_slot(ledger, key) else { return false };
        let Some(node) = ledger.add(key.0, slot, port, is_static) else { return false };
        let place = self.slot(slot);
        place.value.store(Value::new(port, is_static, node, stamp).0, Ordering::Release);
        place.key.store(key.0, Ordering::Release);
        true
    }

    fn empty_slot(&self, ledger: &mut Ledger, key: Key) -> Option<u32> {
        if let Some(slot) = self.empty_for(key) {
            return Some(slot);
        }
        if let Some(slot) = self.candidates(key).find(|slot| self.displace(ledger, *slot)) {
            return Some(slot);
        }
        let value = |slot: u32| Value(self.slot(slot).value.load(Ordering::Acquire));
        let victim =
            self.candidates(key).map(value).filter(|value| !value.is_static()).min_by_key(|value| value.stamp())?;
        self.take_out(ledger, victim.node());
        ledger.statistics.evicted += 1;
        self.empty_for(key)
    }

    /// The slots that a key may be in.
    fn candidates(&self, key: Key) -> impl Iterator<Item = u32> {
        self.buckets_of(key).into_iter().flat_map(|bucket| (0..SLOTS).map(move |i| (bucket * SLOTS + i) as u32))
    }

    fn empty_for(&self, key: Key) -> Option<u32> {
        self.candidates(key).find(|slot| self.slot(*slot).key.load(Ordering::Acquire) == 0)
    }

    /// Moves what is in `slot` to its other bucket; false if that is full. A reader that looked there before and here after
    /// misses the address once, as if it were not yet known.
    fn displace(&self, ledger: &mut Ledger, slot: u32) -> bool {
        let from = self.slot(slot);
        let Some(free) = self.empty_for(Key(from.key.load(Ordering::Acquire))) else { return false };
        let to = self.slot(free);
        let value = from.value.load(Ordering::Acquire);
        to.value.store(value, Ordering::Release);
        to.key.store(from.key.load(Ordering::Acquire), Ordering::Release);
        from.key.store(0, Ordering::Release);
        ledger.set_slot(Value(value).node(), free);
        true
    }

    /// Makes room: the port with the most entries loses its least recently used. False if there is none but static ones.
    fn evict(&self, ledger: &mut Ledger) -> bool {
        let Some(node) = ledger.victim() else { return false };
        self.take_out(ledger, node);
        ledger.statistics.evicted += 1;
        true
    }

    fn take_out(&self, ledger: &mut Ledger, node: u32) {
        let slot = self.slot(ledger.remove(node));
        let key = Key(slot.key.load(Ordering::Acquire));
        slot.key.store(0, Ordering::Release);
        self.changed(key);
    }
}
