//! Where does a route lead: out of which interface, to which MAC address, by which of several ways?
//!
//! A [`Target`] in the FIB is a [`Way`]: one neighbour, a group of them (ECMP), or a verdict. Neighbours and groups change
//! in place: when a neighbour's MAC becomes known, or one member of a group goes, no route is touched.
//!
//! **A group** is [`BUCKETS`] buckets, each of which belongs to one member; a flow's hash chooses a bucket. Which member has
//! a bucket follows from the bucket and the members alone (weighted rendezvous hashing): when a member goes, only its
//! own buckets change hands, and with them only its own flows; when it comes back, it gets the same ones again.

use super::fib::{Pass, Target};
use crate::wire::ethernet::Mac;
use shunt_ffi::SyscallError;
use shunt_ffi::words::Words;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Buckets of a group: a member's share is right to some 3 % of it.
pub const BUCKETS: usize = 1024;
/// Neighbours that routes may lead to.
const NEIGHBOURS_MAX: u32 = 1 << 16;
/// Different groups.
const GROUPS_MAX: u32 = 1 << 13;

/// Number of an interface that packets are routed by, in the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceIndex(pub u16);

/// A neighbour: the same address is a different host on each interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Neighbour {
    /// The interface that it is on.
    pub interface: InterfaceIndex,
    /// Its address there.
    pub address: IpAddr,
}

/// What a [`Target`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// To this neighbour, by its number.
    Neighbour(u32),
    /// To a member of this group, by its number.
    Group(u32),
    /// To the destination itself, which is on this interface and not yet known.
    Connected(InterfaceIndex),
    /// To an address of the host or of the switch.
    Local,
    /// Nowhere, silently.
    Blackhole,
    /// Nowhere; the sender is told that the host is unreachable.
    Unreachable,
    /// Nowhere; the sender is told that it is forbidden.
    Prohibit,
}

const KIND_SHIFT: u32 = 24;

impl Way {
    /// As the FIB keeps it.
    pub fn target(self) -> Target {
        let (kind, value) = match self {
            Self::Neighbour(number) => (1, number),
            Self::Group(number) => (2, number),
            Self::Connected(interface) => (3, u32::from(interface.0)),
            Self::Local => (4, 0),
            Self::Blackhole => (5, 0),
            Self::Unreachable => (6, 0),
            Self::Prohibit => (7, 0),
        };
        Target::new(kind << KIND_SHIFT | value).expect("the kind is not 0")
    }

    /// What the FIB kept.
    #[inline]
    pub fn of(target: Target) -> Self {
        let value = target.get() & ((1 << KIND_SHIFT) - 1);
        match target.get() >> KIND_SHIFT {
            1 => Self::Neighbour(value),
            2 => Self::Group(value),
            3 => Self::Connected(InterfaceIndex(value as u16)),
            4 => Self::Local,
            6 => Self::Unreachable,
            7 => Self::Prohibit,
            _ => Self::Blackhole,
        }
    }
}

/// What becomes of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Out of this interface to this address.
    To(InterfaceIndex, Mac),
    /// Out of this interface to a neighbour that has still to be found.
    Unresolved(InterfaceIndex),
    /// As [`Way::Local`].
    Local,
    /// As [`Way::Blackhole`].
    Blackhole,
    /// As [`Way::Unreachable`].
    Unreachable,
    /// As [`Way::Prohibit`].
    Prohibit,
}

/// Neighbours and groups, shared by all workers.
pub struct NextHops {
    /// Two words each: MAC (low 48 bits, 0: not known) and interface; whether it was used.
    neighbours: Words,
    /// Of each group its buckets' neighbours, two in a word.
    buckets: Words,
}

impl NextHops {
    /// Where a packet goes; `hash` is asked only if there is a choice, and is the same for all packets of a flow.
    #[inline]
    pub fn hop(&self, target: Target, hash: impl FnOnce() -> u32) -> Hop {
        match Way::of(target) {
            Way::Neighbour(number) => self.to(number),
            Way::Group(group) => self.to(self.member(group, hash() as usize % BUCKETS)),
            Way::Connected(interface) => Hop::Unresolved(interface),
            Way::Local => Hop::Local,
            Way::Blackhole => Hop::Blackhole,
            Way::Unreachable => Hop::Unreachable,
            Way::Prohibit => Hop::Prohibit,
        }
    }

    #[inline]
    fn member(&self, group: u32, bucket: usize) -> u32 {
        let word = self.buckets[group as usize * (BUCKETS / 2) + bucket / 2].load(Relaxed);
        (word >> (bucket % 2 * 32)) as u32
    }

    #[inline]
    fn to(&self, number: u32) -> Hop {
        let [place, used] = [0, 1].map(|n| &self.neighbours[number as usize * 2 + n]);
        let place = place.load(Relaxed);
        let (interface, mac) = (InterfaceIndex((place >> 48) as u16), Mac(place & 0xffff_ffff_ffff));
        if mac == Mac(0) {
            return Hop::Unresolved(interface);
        }
        // Written once after each look of the control thread, not for each packet.
        if used.load(Relaxed) == 0 {
            used.store(1, Relaxed);
        }
        Hop::To(interface, mac)
    }
}

/// There are as many neighbours or groups as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no more than {max} {what} can be routed to; use fewer different next hops")]
pub struct TooMany {
    what: &'static str,
    max: u32,
}

/// Numbers in use, by what they stand for, with how often; those given back wait until no worker can still use them.
struct Numbers<K> {
    by_key: HashMap<K, (u32, u32)>,
    keys: HashMap<u32, K>,
    free: Vec<u32>,
    waiting: Vec<(Pass, u32)>,
    next: u32,
    max: u32,
}

impl<K: Hash + Eq + Clone> Numbers<K> {
    fn new(max: u32) -> Self {
        Self { by_key: HashMap::new(), keys: HashMap::new(), free: Vec::new(), waiting: Vec::new(), next: 0, max }
    }

    /// The number for `key`, once more in use, and whether it is new.
    fn take(&mut self, key: &K) -> Option<(u32, bool)> {
        if let Some((number, uses)) = self.by_key.get_mut(key) {
            *uses += 1;
            return Some((*number, false));
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.next < self.max => {
                self.next += 1;
                self.next - 1
            }
            None => return None,
        };
        self.by_key.insert(key.clone(), (number, 1));
        self.keys.insert(number, key.clone());
        Some((number, true))
    }

    /// In use once less; the key if that was the last time.
    fn give_back(&mut self, number: u32, next_pass: Pass) -> Option<K> {
        let key = self.keys.get(&number)?;
        let (_, uses) = self.by_key.get_mut(key)?;
        *uses -= 1;
        if *uses > 0 {
            return None;
        }
        self.by_key.remove(key);
        self.waiting.push((next_pass, number));
        self.keys.remove(&number)
    }

    fn passed(&mut self, pass: Pass) {
        let free = &mut self.free;
        self.waiting.retain(|(of, number)| {
            if *of <= pass {
                free.push(*number);
            }
            *of > pass
        });
    }
}

/// A member of a group and its weight, at least 1.
pub type Member = (Neighbour, u16);

/// The one writer of [`NextHops`].
pub struct Writer {
    shared: Arc<NextHops>,
    neighbours: Numbers<Neighbour>,
    groups: Numbers<Vec<(u32, u16)>>,
    /// Differs from host to host, so that not all choose alike (polarisation).
    seed: u64,
}

impl Writer {
    /// No next hop yet.
    pub fn new(seed: u64) -> Result<Self, SyscallError> {
        let shared = Arc::new(NextHops {
            neighbours: Words::new(NEIGHBOURS_MAX as usize * 2)?,
            buckets: Words::new(GROUPS_MAX as usize * BUCKETS / 2)?,
        });
        Ok(Self { shared, neighbours: Numbers::new(NEIGHBOURS_MAX), groups: Numbers::new(GROUPS_MAX), seed })
    }

    /// What workers read.
    pub fn shared(&self) -> Arc<NextHops> {
        Arc::clone(&self.shared)
    }

    /// The way to one neighbour, or to several by their weights; in use until [`Writer::give_back`]. No members: nowhere.
    pub fn take(&mut self, members: &[Member]) -> Result<Way, TooMany> {
        match members {
            [] => Ok(Way::Unreachable),
            [(neighbour, _)] => self.take_neighbour(*neighbour).map(Way::Neighbour),
            _ => self.take_group(members).map(Way::Group),
        }
    }

    /// The way is in use once less; it must not be in the FIB any more when the commit is made whose pass is `next`.
    pub fn give_back(&mut self, way: Way, next: Pass) {
        match way {
            Way::Neighbour(number) => drop(self.neighbours.give_back(number, next)),
            Way::Group(number) => {
                for (neighbour, _) in self.groups.give_back(number, next).unwrap_or_default() {
                    self.neighbours.give_back(neighbour, next);
                }
            }
            _ => {}
        }
    }

    /// All workers have come past this commit.
    pub fn reclaim(&mut self, pass: Pass) {
        self.neighbours.passed(pass);
        self.groups.passed(pass);
    }

    /// The neighbour is at this address now, or is not known. Nothing happens to one that no route leads to.
    pub fn resolve(&mut self, neighbour: Neighbour, mac: Option<Mac>) {
        if let Some((number, _)) = self.neighbours.by_key.get(&neighbour) {
            self.place(*number, neighbour.interface, mac);
        }
    }

    /// No way is in use.
    pub fn is_unused(&self) -> bool {
        self.neighbours.by_key.is_empty() && self.groups.by_key.is_empty()
    }

    /// Neighbours that packets went to since the last call.
    pub fn take_used(&mut self) -> Vec<Neighbour> {
        let used = |number: u32| &self.shared.neighbours[number as usize * 2 + 1];
        let was_used = |(neighbour, (number, _)): (&Neighbour, &(u32, u32))| {
            (used(*number).load(Relaxed) != 0).then(|| used(*number).store(0, Relaxed)).map(|()| *neighbour)
        };
        self.neighbours.by_key.iter().filter_map(was_used).collect()
    }

    fn place(&self, number: u32, interface: InterfaceIndex, mac: Option<Mac>) {
        let place = u64::from(interface.0) << 48 | mac.unwrap_or_default().0;
        self.shared.neighbours[number as usize * 2].store(place, Relaxed);
    }

    fn take_neighbour(&mut self, neighbour: Neighbour) -> Result<u32, TooMany> {
        let too_many = TooMany { what: "neighbours", max: NEIGHBOURS_MAX };
        let (number, is_new) = self.neighbours.take(&neighbour).ok_or(too_many)?;
        if is_new {
            self.place(number, neighbour.interface, None);
        }
        Ok(number)
    }

    fn take_group(&mut self, members: &[Member]) -> Result<u32, TooMany> {
        let mut key = Vec::with_capacity(members.len());
        for (neighbour, weight) in members {
            match self.take_neighbour(*neighbour) {
                Ok(number) => key.push((number, (*weight).max(1))),
                Err(error) => {
                    self.forget_members(&key);
                    return Err(error);
                }
            }
        }
        key.sort_unstable();
        let Some((group, is_new)) = self.groups.take(&key) else {
            self.forget_members(&key);
            return Err(TooMany { what: "groups of next hops", max: GROUPS_MAX });
        };
        if is_new {
            self.fill(group, &key, members);
        } else {
            // The group has its members in use once, however often it is used itself.
            self.forget_members(&key);
        }
        Ok(group)
    }

    /// Undoes what was taken and nobody has seen.
    fn forget_members(&mut self, members: &[(u32, u16)]) {
        for (number, _) in members {
            self.neighbours.give_back(*number, Pass::NONE);
        }
        self.neighbours.passed(Pass::NONE);
    }

    /// Each bucket belongs to the member with the highest score for it: `-weight / ln(random number of bucket and member)`
    /// (weighted rendezvous hashing; Thaler and Ravishankar 1998).
    fn fill(&self, group: u32, key: &[(u32, u16)], members: &[Member]) {
        let identity = |neighbour: &Neighbour| {
            let address = match neighbour.address {
                IpAddr::V4(address) => u128::from(address.to_bits()),
                IpAddr::V6(address) => address.to_bits(),
            };
            mix(self.seed ^ mix(address as u64 ^ mix((address >> 64) as u64 ^ u64::from(neighbour.interface.0))))
        };
        let identities: Vec<(u32, u64, f64)> = members
            .iter()
            .filter_map(|(neighbour, weight)| {
                let (number, _) = self.neighbours.by_key.get(neighbour)?;
                Some((*number, identity(neighbour), f64::from((*weight).max(1))))
            })
            .collect();
        let owner = |bucket: usize| {
            let score = |(_, identity, weight): &(u32, u64, f64)| {
                let unit = ((mix(identity ^ bucket as u64) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
                -weight / unit.ln()
            };
            let best = identities.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
            best.map_or(key[0].0, |(number, ..)| *number)
        };
        for word in 0..BUCKETS / 2 {
            let pair = u64::from(owner(2 * word)) | u64::from(owner(2 * word + 1)) << 32;
            self.shared.buckets[group as usize * (BUCKETS / 2) + word].store(pair, Relaxed);
        }
    }
}

/// SplitMix64's last step: every bit of the result depends on every bit of `z`.
fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: Mac = Mac(0x0200_0000_0001);

    fn neighbour(n: u8) -> Neighbour {
        Neighbour { interface: InterfaceIndex(u16::from(n % 3)), address: IpAddr::from([10, 0, 0, n]) }
    }

    fn writer() -> Writer {
        Writer::new(7).unwrap()
    }

    /// By bucket the neighbour whose turn it is: neighbour n is at MAC n.
    fn shares(writer: &Writer, way: Way) -> Vec<u64> {
        let to = |bucket| match writer.shared.hop(way.target(), || bucket) {
            Hop::To(_, mac) => mac.0,
            hop => panic!("{hop:?}"),
        };
        (0..BUCKETS as u32).map(to).collect()
    }

    fn group(writer: &mut Writer, members: &[(u8, u16)]) -> Way {
        let list: Vec<_> = members.iter().map(|(n, weight)| (neighbour(*n), *weight)).collect();
        let way = writer.take(&list).unwrap();
        for (n, _) in members {
            writer.resolve(neighbour(*n), Some(Mac(u64::from(*n))));
        }
        way
    }

    #[test]
    fn ways_survive_the_fib() {
        let ways = [Way::Neighbour(0), Way::Neighbour(65535), Way::Group(8191), Way::Connected(InterfaceIndex(9))];
        for way in ways.into_iter().chain([Way::Local, Way::Blackhole, Way::Unreachable, Way::Prohibit]) {
            assert_eq!(Way::of(way.target()), way);
        }
    }

    #[test]
    fn a_neighbour_comes_and_goes_under_its_routes() {
        let mut writer = writer();
        let way = writer.take(&[(neighbour(1), 1)]).unwrap();
        let hop = |writer: &Writer| writer.shared.hop(way.target(), || unreachable!("there is no choice"));
        assert_eq!(hop(&writer), Hop::Unresolved(InterfaceIndex(1)));
        writer.resolve(neighbour(1), Some(M));
        assert_eq!(writer.take_used(), []);
        assert_eq!(hop(&writer), Hop::To(InterfaceIndex(1), M));
        assert_eq!(writer.take_used(), [neighbour(1)]);
        assert_eq!(writer.take_used(), [], "once for each look");
        writer.resolve(neighbour(1), None);
        assert_eq!(hop(&writer), Hop::Unresolved(InterfaceIndex(1)));
        writer.resolve(neighbour(2), Some(M));
        assert_eq!(writer.take(&[]), Ok(Way::Unreachable));
    }

    #[test]
    fn members_get_flows_by_their_weights() {
        let mut writer = writer();
        let way = group(&mut writer, &[(1, 1), (2, 1), (3, 2)]);
        let shares = shares(&writer, way);
        for (mac, expected) in [(1, 0.25), (2, 0.25), (3, 0.5)] {
            let share = shares.iter().filter(|to| **to == mac).count() as f64 / BUCKETS as f64;
            assert!((share - expected).abs() < 0.05, "member {mac} has {share}, not {expected}");
        }
        let other = Writer::new(8).map(|mut writer| (group(&mut writer, &[(1, 1), (2, 1), (3, 2)]), writer)).unwrap();
        assert_ne!(shares, self::shares(&other.1, other.0), "another host chooses otherwise");
    }

    #[test]
    fn flows_keep_their_path_when_another_member_goes_and_comes_back() {
        let mut writer = writer();
        let all: Vec<(u8, u16)> = (1..=5).map(|n| (n, 1)).collect();
        let way = group(&mut writer, &all);
        let before = shares(&writer, way);
        for gone in 1..=5 {
            let rest: Vec<_> = all.iter().copied().filter(|(n, _)| *n != gone).collect();
            let way = group(&mut writer, &rest);
            for (old, new) in before.iter().zip(shares(&writer, way)) {
                assert!(*old == new || *old == u64::from(gone), "{old} → {new} when {gone} goes");
            }
            writer.give_back(way, Pass::NONE);
        }
        let mut reversed = all.clone();
        reversed.reverse();
        assert_eq!(group(&mut writer, &reversed), way, "the same members are the same group");
    }

    #[test]
    fn numbers_are_used_again_only_after_the_pass() {
        let mut fib = super::super::fib::Writer::new(1 << 18).unwrap();
        let mut writer = writer();
        let first = group(&mut writer, &[(1, 1), (2, 1)]);
        assert_eq!(group(&mut writer, &[(1, 1), (2, 1)]), first);
        writer.give_back(first, fib.next_pass());
        assert_eq!(group(&mut writer, &[(1, 1), (2, 1)]), first, "still in use once");
        writer.give_back(first, fib.next_pass());
        writer.give_back(first, fib.next_pass());
        assert!(writer.is_unused());
        let second = group(&mut writer, &[(3, 1), (4, 1)]);
        assert_ne!(second, first, "workers may still be looking at the first");
        let pass = fib.commit();
        writer.reclaim(pass);
        assert_eq!(group(&mut writer, &[(5, 1), (6, 1)]), first);
    }

    #[test]
    fn too_many_is_an_error_and_changes_nothing() {
        let mut writer = writer();
        for n in 0..GROUPS_MAX as u16 {
            writer.take(&[(neighbour(1), 1), (neighbour(2), n + 2)]).unwrap();
        }
        let error = writer.take(&[(neighbour(8), 1), (neighbour(9), 1)]).unwrap_err();
        assert!(error.to_string().contains("groups of next hops"), "{error}");
        assert_eq!(writer.neighbours.by_key.len(), 2);
    }
}
