//! Behind which ports are the members of a multicast group, and the multicast routers?
//!
//! One table a bridge, shared by all workers. A group of a VLAN has a list of member ports; the routers of a VLAN are one
//! more such list. Entries are learned from reports and queries and leave by age, by a leave message, or when the table is
//! full: then the group whose last report is oldest goes with all its members.
//!
//! **Readers** take no lock: they copy a group's ports while they look at a version before and after; if somebody changed
//! the table meanwhile they do it again, and after a few times give up. All that they read is in atomics.
//! **Changes** are for whoever has the lock. Workers try it for a moment only: reports are sent twice, and again at the next
//! query. A change of what readers see makes the version odd for a few stores; a report of what is known does not.

use crate::config::PortIndex;
use crate::limits::{MDB_SIZE, ROUTER_AGEING_S, VLANS};
use crate::table::order::{NONE, Order};
use crate::time::Instant;
use crate::wire::membership::Group;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// Member entries for each group of a full table.
const MEMBERS_PER_GROUP: usize = 8;
/// Least member entries: a small table still takes a group with many members.
const MEMBERS_MIN: usize = 4096;
/// How often a reader looks again, and a worker tries the lock.
const READ_TRIES: usize = 16;
const LOCK_TRIES: usize = 256;
/// In [`Slot::vlan`]: the list of the VLAN's routers, of no group.
const ROUTERS: u32 = 1 << 16;

/// A list of ports: what readers see.
#[derive(Default)]
struct Slot {
    high: AtomicU64,
    low: AtomicU64,
    vlan: AtomicU32,
    /// The next one in the bucket.
    chain: AtomicU32,
    /// Its first member.
    first: AtomicU32,
}

/// A port on a list: what readers see.
#[derive(Default)]
struct Member {
    port: AtomicU32,
    next: AtomicU32,
}

/// What only writers know of a port on a list.
#[derive(Clone, Copy, Default)]
struct Note {
    slot: u32,
    seen_ms: u64,
}

/// The two lists of [`Ledger::members`].
const OF_GROUPS: usize = 0;
const OF_ROUTERS: usize = 1;

/// What only writers see.
struct Ledger {
    /// Slots; on the list, those of groups in the order of their last report.
    slots: Order<1>,
    /// Members in the order of their last report, and routers in that of their last query.
    members: Order<2>,
    notes: Box<[Note]>,
    groups: usize,
}

/// Who wants what, as learned on one bridge.
pub struct Mdb {
    buckets: Box<[AtomicU32]>,
    slots: Box<[Slot]>,
    members: Box<[Member]>,
    version: AtomicU64,
    seed: u64,
    capacity: usize,
    ledger: Mutex<Ledger>,
}

/// One line of `mdb/show`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The port.
    pub port: PortIndex,
    /// The bridge's VLAN.
    pub vlan: u16,
    /// The group; `None` for a port that leads to a router.
    pub group: Option<Group>,
    /// Seconds since the last report or query.
    pub age_s: u64,
}

/// What a reader found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The group is known; its ports were appended.
    Known,
    /// Nobody has asked for it.
    Unknown,
    /// The table kept changing.
    Busy,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    vlan: u32,
    group: Group,
}

impl Mdb {
    /// An empty table for `capacity` groups (taken to the nearest end of [`MDB_SIZE`]). `seed` should be secret.
    pub fn new(capacity: usize, seed: u64) -> Self {
        let capacity = capacity.clamp(*MDB_SIZE.start(), *MDB_SIZE.end());
        let slots = capacity + VLANS;
        let members = MEMBERS_MIN.max(capacity * MEMBERS_PER_GROUP);
        let ledger = Ledger {
            slots: Order::new(slots),
            members: Order::new(members),
            notes: vec![Note::default(); members + 1].into(),
            groups: 0,
        };
        Self {
            buckets: (0..slots.next_power_of_two()).map(|_| AtomicU32::default()).collect(),
            slots: (0..=slots).map(|_| Slot::default()).collect(),
            members: (0..=members).map(|_| Member::default()).collect(),
            version: AtomicU64::new(0),
            seed,
            capacity,
            ledger: Mutex::new(ledger),
        }
    }

    /// Most groups that there may be.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The table with another capacity, to be put in this one's place: with all routers, and the newest groups that fit.
    pub fn resized(&self, capacity: usize) -> Self {
        let new = Self::new(capacity, self.seed);
        let old = self.lock();
        let mut ledger = new.lock();
        for list in [OF_ROUTERS, OF_GROUPS] {
            let mut next = old.members.oldest(list);
            while next != NONE {
                let note = old.notes[next as usize];
                let port = self.members[next as usize].port.load(Ordering::Relaxed);
                new.touch(&mut ledger, self.key_of(note.slot), port, note.seen_ms);
                next = old.members.newer(next);
            }
        }
        drop(ledger);
        new
    }

    /// Appends the ports of the group's members to `ports`, as far as there is room.
    #[inline]
    pub fn members(&self, vlan: u16, group: Group, ports: &mut Vec<PortIndex>) -> Found {
        self.read(Key { vlan: u32::from(vlan), group }, ports)
    }

    /// Appends the ports that lead to the VLAN's routers to `ports`, as far as there is room.
    #[inline]
    pub fn routers(&self, vlan: u16, ports: &mut Vec<PortIndex>) -> Found {
        self.read(routers_of(vlan), ports)
    }

    fn read(&self, key: Key, ports: &mut Vec<PortIndex>) -> Found {
        let start = ports.len();
        for _ in 0..READ_TRIES {
            let before = self.version.load(Ordering::Acquire);
            let slot = self.find(key);
            if slot != NONE {
                self.walk(slot, ports);
            }
            // Pairs with the fence in `publish`: whatever was read above is from before, or the version is another.
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before {
                return if slot == NONE { Found::Unknown } else { Found::Known };
            }
            ports.truncate(start);
            std::hint::spin_loop();
        }
        Found::Busy
    }

    /// The key's slot, or [`NONE`]. A list that changes meanwhile may lead in a circle: no more steps than there are slots.
    fn find(&self, key: Key) -> u32 {
        let mut next = self.buckets[self.bucket_of(key)].load(Ordering::Relaxed);
        for _ in 0..self.slots.len() {
            if next == NONE || self.key_of(next) == key {
                return next;
            }
            next = self.slots[next as usize].chain.load(Ordering::Relaxed);
        }
        NONE
    }

    fn walk(&self, slot: u32, ports: &mut Vec<PortIndex>) {
        let mut next = self.slots[slot as usize].first.load(Ordering::Relaxed);
        while next != NONE && ports.len() < ports.capacity() {
            let member = &self.members[next as usize];
            ports.push(PortIndex(member.port.load(Ordering::Relaxed) as u16));
            next = member.next.load(Ordering::Relaxed);
        }
    }

    fn key_of(&self, slot: u32) -> Key {
        let slot = &self.slots[slot as usize];
        let (high, low) = (slot.high.load(Ordering::Relaxed), slot.low.load(Ordering::Relaxed));
        let group = Group(u128::from(high) << 64 | u128::from(low));
        Key { vlan: slot.vlan.load(Ordering::Relaxed), group }
    }

    fn bucket_of(&self, key: Key) -> usize {
        let fold = |product: u128| product as u64 ^ (product >> 64) as u64;
        let words = [key.group.0 as u64 ^ u64::from(key.vlan) << 40, (key.group.0 >> 64) as u64];
        let hash = words.iter().fold(self.seed, |hash, word| {
            fold(u128::from(hash ^ word) * u128::from(0x9e37_79b9_7f4a_7c15 ^ self.seed.rotate_left(32) | 1))
        });
        hash as usize & (self.buckets.len() - 1)
    }

    /// A host behind `port` wants the group. False if somebody else was changing the table, or there is no room.
    pub fn join(&self, vlan: u16, group: Group, port: PortIndex, now: Instant) -> bool {
        self.change(|ledger| {
            // What routers get, they get once.
            let routers = self.find(routers_of(vlan));
            if routers != NONE && self.member(routers, u32::from(port.0)) != NONE {
                return true;
            }
            self.touch(ledger, Key { vlan: u32::from(vlan), group }, u32::from(port.0), now.as_millis())
        })
    }

    /// The host behind `port` no longer wants the group.
    pub fn leave(&self, vlan: u16, group: Group, port: PortIndex) -> bool {
        self.change(|ledger| {
            let slot = self.find(Key { vlan: u32::from(vlan), group });
            let member = if slot == NONE { NONE } else { self.member(slot, u32::from(port.0)) };
            if member != NONE {
                self.remove_member(ledger, OF_GROUPS, member);
            }
            true
        })
    }

    /// A router behind `port` has asked.
    pub fn query(&self, vlan: u16, port: PortIndex, now: Instant) -> bool {
        self.change(|ledger| self.touch(ledger, routers_of(vlan), u32::from(port.0), now.as_millis()))
    }

    fn change(&self, f: impl FnOnce(&mut Ledger) -> bool) -> bool {
        for _ in 0..LOCK_TRIES {
            let mut ledger = match self.ledger.try_lock() {
                Ok(ledger) => ledger,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    std::hint::spin_loop();
                    continue;
                }
            };
            let done = f(&mut ledger);
            self.drop_empty(&mut ledger);
            return done;
        }
        false
    }

    /// Forgets members that have not reported for `max_age_s` seconds, and routers that have not asked for
    /// [`ROUTER_AGEING_S`].
    pub fn age(&self, now: Instant, max_age_s: u64) {
        let old = |age_s: u64| move |seen_ms: u64| now.as_millis() >= seen_ms + age_s * 1000;
        self.remove_oldest(OF_GROUPS, old(max_age_s));
        self.remove_oldest(OF_ROUTERS, old(ROUTER_AGEING_S));
    }

    /// Forgets everything.
    pub fn flush(&self) {
        self.remove_oldest(OF_GROUPS, |_| true);
        self.remove_oldest(OF_ROUTERS, |_| true);
    }

    fn remove_oldest(&self, list: usize, old: impl Fn(u64) -> bool) {
        loop {
            // One entry at a time: workers need not wait for more.
            let mut ledger = self.lock();
            let member = ledger.members.oldest(list);
            if member == NONE || !old(ledger.notes[member as usize].seen_ms) {
                return;
            }
            self.remove_member(&mut ledger, list, member);
            self.drop_empty(&mut ledger);
        }
    }

    /// Forgets all that was learned on `port`.
    pub fn flush_port(&self, port: PortIndex) {
        let mut ledger = self.lock();
        for list in [OF_GROUPS, OF_ROUTERS] {
            let mut next = ledger.members.oldest(list);
            while next != NONE {
                let member = next;
                next = ledger.members.newer(member);
                if self.members[member as usize].port.load(Ordering::Relaxed) == u32::from(port.0) {
                    self.remove_member(&mut ledger, list, member);
                }
            }
        }
        self.drop_empty(&mut ledger);
    }

    /// All entries as of `now`: members, then routers, each in the order of their last report or query.
    pub fn entries(&self, now: Instant) -> Vec<Entry> {
        let ledger = self.lock();
        let mut entries = Vec::new();
        for list in [OF_GROUPS, OF_ROUTERS] {
            let mut next = ledger.members.oldest(list);
            while next != NONE {
                let note = ledger.notes[next as usize];
                let key = self.key_of(note.slot);
                entries.push(Entry {
                    port: PortIndex(self.members[next as usize].port.load(Ordering::Relaxed) as u16),
                    vlan: key.vlan as u16,
                    group: (list == OF_GROUPS).then_some(key.group),
                    age_s: now.as_millis().saturating_sub(note.seen_ms) / 1000,
                });
                next = ledger.members.newer(next);
            }
        }
        entries
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what readers see.
    fn publish(&self, change: impl FnOnce()) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        change();
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// The entry of `port` on a list, or [`NONE`].
    fn member(&self, slot: u32, port: u32) -> u32 {
        let mut next = self.slots[slot as usize].first.load(Ordering::Relaxed);
        while next != NONE && self.members[next as usize].port.load(Ordering::Relaxed) != port {
            next = self.members[next as usize].next.load(Ordering::Relaxed);
        }
        next
    }

    /// Puts the port on the list, or notes that it has been heard of again. False if there is no room.
    fn touch(&self, ledger: &mut Ledger, key: Key, port: u32, seen_ms: u64) -> bool {
        let list = if key.is_of_routers() { OF_ROUTERS } else { OF_GROUPS };
        let mut slot = self.find(key);
        if slot == NONE {
            slot = self.add_slot(ledger, key);
        } else if list == OF_GROUPS {
            ledger.slots.detach(0, slot);
            ledger.slots.append(0, slot);
        }
        if slot == NONE {
            return false;
        }
        let mut member = self.member(slot, port);
        if member != NONE {
            ledger.members.detach(list, member);
        } else {
            member = self.add_member(ledger, slot, port);
            if member == NONE {
                return false;
            }
        }
        ledger.notes[member as usize] = Note { slot, seen_ms };
        ledger.members.append(list, member);
        true
    }

    /// A slot for a key that has none. A full table gives up the group whose last report is oldest.
    fn add_slot(&self, ledger: &mut Ledger, key: Key) -> u32 {
        if !key.is_of_routers() {
            if ledger.groups >= self.capacity {
                let oldest = ledger.slots.oldest(0);
                self.remove_slot(ledger, oldest);
            }
            ledger.groups += 1;
        }
        // There is one for each group that there may be, and for the routers of each VLAN.
        let slot = ledger.slots.take();
        if slot != NONE {
            if !key.is_of_routers() {
                ledger.slots.append(0, slot);
            }
            let bucket = &self.buckets[self.bucket_of(key)];
            self.publish(|| {
                let new = &self.slots[slot as usize];
                new.high.store((key.group.0 >> 64) as u64, Ordering::Relaxed);
                new.low.store(key.group.0 as u64, Ordering::Relaxed);
                new.vlan.store(key.vlan, Ordering::Relaxed);
                new.first.store(NONE, Ordering::Relaxed);
                new.chain.store(bucket.load(Ordering::Relaxed), Ordering::Relaxed);
                bucket.store(slot, Ordering::Relaxed);
            });
        }
        slot
    }

    /// An entry for `port` on the slot's list. If there is none left, the oldest of the other groups give up theirs.
    fn add_member(&self, ledger: &mut Ledger, slot: u32, port: u32) -> u32 {
        let mut member = ledger.members.take();
        while member == NONE {
            let oldest = ledger.slots.oldest(0);
            if oldest == NONE || oldest == slot {
                return NONE;
            }
            self.remove_slot(ledger, oldest);
            member = ledger.members.take();
        }
        let first = &self.slots[slot as usize].first;
        self.publish(|| {
            let new = &self.members[member as usize];
            new.port.store(port, Ordering::Relaxed);
            new.next.store(first.load(Ordering::Relaxed), Ordering::Relaxed);
            first.store(member, Ordering::Relaxed);
        });
        member
    }

    /// Takes a member off its lists. A group stays without members until [`Mdb::drop_empty`] finds it.
    fn remove_member(&self, ledger: &mut Ledger, list: usize, member: u32) {
        let slot = ledger.notes[member as usize].slot;
        let after = self.members[member as usize].next.load(Ordering::Relaxed);
        let mut link = &self.slots[slot as usize].first;
        while link.load(Ordering::Relaxed) != member {
            link = &self.members[link.load(Ordering::Relaxed) as usize].next;
        }
        self.publish(|| link.store(after, Ordering::Relaxed));
        ledger.members.detach(list, member);
        ledger.members.give_back(member);
        if list == OF_ROUTERS && self.slots[slot as usize].first.load(Ordering::Relaxed) == NONE {
            self.remove_slot(ledger, slot);
        }
    }

    /// Removes groups without members, as long as they are the oldest: as in Open vSwitch, a group that all have left is
    /// known for a while yet, and nobody gets its packets.
    fn drop_empty(&self, ledger: &mut Ledger) {
        loop {
            let oldest = ledger.slots.oldest(0);
            if oldest == NONE || self.slots[oldest as usize].first.load(Ordering::Relaxed) != NONE {
                return;
            }
            self.remove_slot(ledger, oldest);
        }
    }

    /// Removes a list with all that are on it.
    fn remove_slot(&self, ledger: &mut Ledger, slot: u32) {
        let key = self.key_of(slot);
        let after = self.slots[slot as usize].chain.load(Ordering::Relaxed);
        let mut link = &self.buckets[self.bucket_of(key)];
        while link.load(Ordering::Relaxed) != slot {
            link = &self.slots[link.load(Ordering::Relaxed) as usize].chain;
        }
        let first = &self.slots[slot as usize].first;
        let mut member = first.load(Ordering::Relaxed);
        self.publish(|| link.store(after, Ordering::Relaxed));
        let list = if key.is_of_routers() { OF_ROUTERS } else { OF_GROUPS };
        while member != NONE {
            ledger.members.detach(list, member);
            ledger.members.give_back(member);
            member = self.members[member as usize].next.load(Ordering::Relaxed);
        }
        if !key.is_of_routers() {
            ledger.slots.detach(0, slot);
            ledger.groups -= 1;
        }
        ledger.slots.give_back(slot);
    }
}

impl Key {
    fn is_of_routers(self) -> bool {
        self.vlan & ROUTERS != 0
    }
}

fn routers_of(vlan: u16) -> Key {
    Key { vlan: ROUTERS | u32::from(vlan), group: Group(0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::fault::Dice;
    use std::collections::{BTreeSet, HashMap};

    const A: Group = Group::v4([239, 0, 0, 1]);

    fn group(n: usize) -> Group {
        Group::v4([239, 1, (n >> 8) as u8, n as u8])
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_secs(seconds)
    }

    fn ports(mdb: &Mdb, vlan: u16, group: Group) -> Option<Vec<u16>> {
        let mut ports = Vec::with_capacity(64);
        let found = mdb.members(vlan, group, &mut ports);
        ports.sort_unstable();
        (found == Found::Known).then(|| ports.iter().map(|port| port.0).collect())
    }

    fn routers(mdb: &Mdb, vlan: u16) -> Vec<u16> {
        let mut ports = Vec::with_capacity(64);
        mdb.routers(vlan, &mut ports);
        ports.iter().map(|port| port.0).collect()
    }

    #[test]
    fn members_come_and_go_by_vlan() {
        let mdb = Mdb::new(10, 1);
        assert!(mdb.join(10, A, PortIndex(1), at(0)) && mdb.join(10, A, PortIndex(2), at(0)));
        assert!(mdb.join(20, A, PortIndex(3), at(0)));
        assert_eq!((ports(&mdb, 10, A), ports(&mdb, 20, A)), (Some(vec![1, 2]), Some(vec![3])));
        assert_eq!((ports(&mdb, 0, A), ports(&mdb, 10, group(1))), (None, None));
        mdb.leave(10, A, PortIndex(1));
        mdb.leave(10, A, PortIndex(3));
        assert_eq!(ports(&mdb, 10, A), Some(vec![2]));
        mdb.flush_port(PortIndex(2));
        assert_eq!((ports(&mdb, 10, A), ports(&mdb, 20, A)), (None, Some(vec![3])));
    }

    #[test]
    fn a_group_that_all_left_is_known_until_it_is_the_oldest() {
        let mdb = Mdb::new(10, 1);
        mdb.join(10, A, PortIndex(1), at(0));
        mdb.join(10, group(2), PortIndex(1), at(1));
        mdb.leave(10, group(2), PortIndex(1));
        assert_eq!(ports(&mdb, 10, group(2)), Some(vec![]));
        mdb.leave(10, A, PortIndex(1));
        assert_eq!((ports(&mdb, 10, A), ports(&mdb, 10, group(2))), (None, None));
        assert!(mdb.entries(at(2)).is_empty());
    }

    #[test]
    fn members_and_routers_age() {
        let mdb = Mdb::new(10, 1);
        mdb.join(10, A, PortIndex(1), at(0));
        mdb.join(10, A, PortIndex(2), at(5));
        mdb.query(10, PortIndex(3), at(7));
        let row = |port, group, age_s| Entry { port: PortIndex(port), vlan: 10, group, age_s };
        assert_eq!(mdb.entries(at(10)), [row(1, Some(A), 10), row(2, Some(A), 5), row(3, None, 3)]);
        mdb.join(10, A, PortIndex(1), at(10));
        mdb.age(at(19), 15);
        assert_eq!(ports(&mdb, 10, A), Some(vec![1, 2]));
        mdb.age(at(20), 15);
        assert_eq!(ports(&mdb, 10, A), Some(vec![1]));
        mdb.age(at(186), 15);
        assert_eq!((ports(&mdb, 10, A), routers(&mdb, 10)), (None, vec![3]));
        mdb.age(at(187), 15);
        assert_eq!(routers(&mdb, 10), []);
    }

    #[test]
    fn a_router_is_no_member() {
        let mdb = Mdb::new(10, 1);
        mdb.query(10, PortIndex(3), at(0));
        mdb.join(10, A, PortIndex(3), at(0));
        assert_eq!(ports(&mdb, 10, A), None);
        mdb.join(20, A, PortIndex(3), at(0));
        assert_eq!(ports(&mdb, 20, A), Some(vec![3]));
        // No report names the routers' own list.
        mdb.join(10, Group(0), PortIndex(5), at(0));
        assert_eq!(routers(&mdb, 10), [3]);
    }

    #[test]
    fn the_group_heard_of_longest_ago_gives_way() {
        let mdb = Mdb::new(10, 1);
        (0..10).for_each(|n| assert!(mdb.join(1, group(n), PortIndex(1), at(n as u64))));
        mdb.join(1, group(0), PortIndex(2), at(10));
        mdb.query(1, PortIndex(9), at(10));
        mdb.join(1, group(10), PortIndex(1), at(11));
        assert_eq!((ports(&mdb, 1, group(1)), ports(&mdb, 1, group(0))), (None, Some(vec![1, 2])));
        let larger = mdb.resized(20);
        (11..21).for_each(|n| assert!(larger.join(1, group(n), PortIndex(1), at(12))));
        assert!(ports(&larger, 1, group(2)).is_some() && routers(&larger, 1) == [9]);
        let smaller = larger.resized(10);
        assert!(ports(&smaller, 1, group(10)).is_none() && ports(&smaller, 1, group(11)).is_some());
    }

    #[test]
    fn members_run_out_before_groups_do() {
        let mdb = Mdb::new(10, 1);
        for port in 0..4000 {
            assert!(mdb.join(1, group(1), PortIndex(port), at(1)));
        }
        mdb.join(1, group(2), PortIndex(0), at(2));
        for port in 0..95 {
            assert!(mdb.join(1, group(3), PortIndex(port), at(3)));
        }
        assert!(ports(&mdb, 1, group(1)).is_some());
        assert!(mdb.join(1, group(3), PortIndex(95), at(3)));
        assert!(ports(&mdb, 1, group(1)).is_none() && ports(&mdb, 1, group(2)).is_some());
        for port in 0..4096 {
            assert!(mdb.join(1, group(3), PortIndex(port), at(3)));
        }
        assert!(!mdb.join(1, group(3), PortIndex(4096), at(3)));
    }

    /// Random reports, leaves, queries, ages and flushes, against sets.
    #[test]
    fn it_is_what_a_naive_one_is() {
        for seed in 0..40 {
            let (mut dice, mdb) = (Dice::new(seed), Mdb::new(1000, seed));
            let mut seen: HashMap<(u16, Option<Group>, u16), u64> = HashMap::new();
            let mut now = 0;
            for _ in 0..400 {
                let (vlan, to, port) = (dice.below(3) as u16, group(dice.below(6)), dice.below(5) as u16);
                now += dice.below(3) as u64;
                match dice.below(20) {
                    0 => {
                        mdb.flush_port(PortIndex(port));
                        seen.retain(|key, _| key.2 != port);
                    }
                    1 => {
                        mdb.age(at(now), 30);
                        seen.retain(|key, at| now - *at < if key.1.is_some() { 30 } else { ROUTER_AGEING_S });
                    }
                    2 if dice.chance(200) => {
                        mdb.flush();
                        seen.clear();
                    }
                    2..5 => {
                        mdb.query(vlan, PortIndex(port), at(now));
                        seen.insert((vlan, None, port), now);
                    }
                    5..9 => {
                        mdb.leave(vlan, to, PortIndex(port));
                        seen.remove(&(vlan, Some(to), port));
                    }
                    _ => {
                        mdb.join(vlan, to, PortIndex(port), at(now));
                        if !seen.contains_key(&(vlan, None, port)) {
                            seen.insert((vlan, Some(to), port), now);
                        }
                    }
                }
                let shown: BTreeSet<_> =
                    mdb.entries(at(now)).iter().map(|row| (row.vlan, row.group, row.port.0, row.age_s)).collect();
                let wanted: BTreeSet<_> =
                    seen.iter().map(|((vlan, group, port), at)| (*vlan, *group, *port, now - at)).collect();
                assert_eq!(shown, wanted, "seed {seed}");
                for (vlan, n) in (0..3).flat_map(|vlan| (0..6).map(move |n| (vlan, n))) {
                    let mut own: Vec<u16> =
                        seen.keys().filter(|key| (key.0, key.1) == (vlan, Some(group(n)))).map(|key| key.2).collect();
                    own.sort_unstable();
                    assert_eq!(ports(&mdb, vlan, group(n)).unwrap_or_default(), own, "seed {seed}");
                }
            }
        }
    }

    /// Whatever writers do at the same time, a reader sees a list as it was at some moment: ports of this group only.
    #[test]
    fn readers_see_whole_lists() {
        let mdb = Mdb::new(10, 7);
        let (writes, done) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut dice = Dice::new(3);
                // Groups push each other out: their places and those of their members are used again and again.
                while done.load(Ordering::Relaxed) == 0 {
                    let n = dice.below(30);
                    (0..3).for_each(|port| assert!(mdb.join(1, group(n), PortIndex((n * 10 + port) as u16), at(0))));
                    writes.fetch_add(1, Ordering::Relaxed);
                }
            });
            let (mut known, mut ports, mut n, mut mixed) = (0, Vec::with_capacity(64), 0, None);
            while known < 2_000_000 || writes.load(Ordering::Relaxed) < 2_000_000 {
                n = (n + 1) % 30;
                ports.clear();
                if mdb.members(1, group(n), &mut ports) == Found::Known {
                    known += 1;
                    if ports.len() > 3 || ports.iter().any(|port| usize::from(port.0) / 10 != n) {
                        mixed = Some((n, ports.clone()));
                        break;
                    }
                }
            }
            done.store(1, Ordering::Relaxed);
            assert_eq!(mixed, None, "a list of another group");
        });
    }
}
