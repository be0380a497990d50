//! What may the kernel forward by itself, and what withdraws that?
//!
//! A shortcut is a decision for packets of one device with one tag and one pair of addresses. It lies in memory that a small
//! program in the kernel reads (`ffi/bpf/shortcut.bpf.c`: keep the two alike); workers write it, nobody makes a system call.
//!
//! A shortcut notes the **epochs** of all that it depends on: both hosts, both ports, the bridge. Whoever changes such a thing
//! changes it first and then its epoch; whoever decides reads the epochs first and then decides. So a shortcut made from
//! what was true before carries an old epoch, however the two meet, and the program takes none whose epochs are not those of
//! now. There are [`EPOCHS`] words for all things; two that share one withdraw each other's shortcuts, which costs a
//! packet's way through the worker and no more.
//!
//! A shortcut is written under its version, which is odd meanwhile (a sequence lock). A worker that finds it odd lets it be: the
//! next packet will find it again.

use crate::config::PortIndex;
use crate::wire::ethernet::Mac;
use crate::wire::vlan::{TPID_8021AD, TPID_8021Q, Tag};
pub use shunt_ffi::shortcut::{BUCKETS, DEPENDS, EPOCHS, PLACES, SHORTCUT_WORDS, WAYS};
use shunt_ffi::words::Words;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Bits of an epoch that count. Above them a shortcut notes whose epoch it is.
const EPOCH_BITS: u32 = 48;
const EPOCH_MASK: u64 = (1 << EPOCH_BITS) - 1;

// Words of a shortcut.
const VERSION: usize = 0;
const KEY: usize = 1;
const OUT: usize = 4;
const FORM: usize = 5;
const DEPENDS_AT: usize = 6;
const USED: usize = DEPENDS_AT + DEPENDS;
const VLAN: usize = USED + 1;
const _: () = assert!(VLAN < SHORTCUT_WORDS);

const TO_PEER: u64 = 1;
const POP: u64 = 2;
const PUSH: u64 = 4;
const PUSH_STAG: u64 = 8;

/// A thing that shortcuts depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A host of a bridge's VLAN: where it is.
    Host {
        /// The bridge: see `Fdb::id`.
        bridge: u64,
        /// Its VLAN.
        vlan: u16,
        /// Its address.
        mac: Mac,
    },
    /// A port: whatever it is configured to do, and that it is there.
    Port(PortIndex),
    /// All that a bridge is configured to do.
    Bridge(u64),
}

impl Thing {
    /// Its word among the epochs.
    #[inline]
    fn place(self) -> usize {
        let word = match self {
            Self::Host { bridge, vlan, mac } => mac.0 ^ u64::from(vlan) << 48 ^ bridge,
            Self::Port(port) => u64::from(port.0),
            Self::Bridge(bridge) => bridge,
        };
        (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize & (EPOCHS - 1)
    }
}

/// A thing's epoch at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(u64);

/// The epochs of all things.
#[derive(Clone)]
pub struct Epochs(Arc<Words>);

impl Epochs {
    /// Those in `words`: [`EPOCHS`], and one that is not theirs.
    pub fn new(words: Arc<Words>) -> Self {
        Self(words)
    }

    /// The thing's epoch now. What is read of the thing after this call is at least as new.
    #[inline]
    pub fn of(&self, thing: Thing) -> Epoch {
        let place = thing.place();
        Epoch((place as u64) << EPOCH_BITS | self.0[place].load(Ordering::Acquire) & EPOCH_MASK)
    }

    /// The thing has changed: no shortcut that depends on it is taken any more, but by programs that have looked already.
    #[inline]
    pub fn changed(&self, thing: Thing) {
        self.0[thing.place()].fetch_add(1, Ordering::AcqRel);
    }

    fn is_now(&self, epoch: u64) -> bool {
        (self.0[(epoch >> EPOCH_BITS) as usize].load(Ordering::Acquire) ^ epoch) & EPOCH_MASK == 0
    }
}

/// Which packets a shortcut is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The device that they come in by: the kernel's number.
    pub ifindex: u32,
    /// Their only tag, if they have one.
    pub tag: Option<Tag>,
    /// To whom.
    pub destination: Mac,
    /// From whom.
    pub source: Mac,
}

impl Key {
    /// As the program puts it together from a frame.
    fn words(&self) -> [u64; 3] {
        let tag = self.tag.map_or(0, |tag| 1 << 16 | u64::from(tag.tpid == TPID_8021AD) << 17 | u64::from(tag.tci));
        let (to, from) = (self.destination.octets(), self.source.octets());
        let first = [to[0], to[1], to[2], to[3], to[4], to[5], from[0], from[1]];
        let last = [from[2], from[3], from[4], from[5]];
        [u64::from(self.ifindex) << 32 | tag, u64::from_ne_bytes(first), u32::from_ne_bytes(last).into()]
    }
}

/// What becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The device that they leave by: the kernel's number.
    pub out_ifindex: u32,
    /// They go to the other end of that veth at once, which is in another namespace.
    pub to_peer: bool,
    /// Longest payload in octets, after the Ethernet header and the tag.
    pub payload_max: u32,
    /// Whose counters count them coming in and leaving.
    pub places: [u16; 2],
    /// Their tag is taken off.
    pub pop: bool,
    /// They get this tag, after that.
    pub push: Option<Tag>,
    /// What the decision depends on, as it was before it was made.
    pub depends: [Epoch; DEPENDS],
    /// The bridge's VLAN in which they are.
    pub vlan: u16,
}

/// A shortcut as the control thread sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// From whom.
    pub source: Mac,
    /// The bridge's VLAN in which the sender is.
    pub vlan: u16,
    /// The place of the device that it came in by.
    pub place: u16,
    /// When it was used last, in units of 2^30 ns of CLOCK_MONOTONIC.
    pub at: u64,
}

/// All shortcuts.
#[derive(Clone)]
pub struct Shortcuts {
    words: Arc<Words>,
    epochs: Epochs,
    seed: u64,
}

impl Shortcuts {
    /// Those in `words`, which depend on `epochs`. `seed` should be secret; the program finds it behind the epochs.
    pub fn new(words: Arc<Words>, epochs: Arc<Words>, seed: u64) -> Self {
        epochs[EPOCHS].store(seed, Ordering::Release);
        Self { words, epochs: Epochs::new(epochs), seed }
    }

    /// What they depend on.
    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    fn bucket(&self, key: &[u64; 3]) -> impl Iterator<Item = &[AtomicU64]> {
        let h = (key[0] ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let h = (h ^ h >> 32 ^ key[1]).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let h = (h ^ h >> 29 ^ key[2]).wrapping_mul(0x94d0_49bb_1331_11eb);
        let words = WAYS * SHORTCUT_WORDS;
        let at = (h >> 32) as usize & (BUCKETS - 1);
        self.words[at * words..(at + 1) * words].chunks_exact(SHORTCUT_WORDS)
    }

    /// Leaves a decision, at `now` in units of 2^30 ns, in the place of one for the same packets, of one that is outdated, or of
    /// the one that was not used for the longest time. False if somebody else writes there at this moment.
    pub fn insert(&self, key: &Key, decision: &Decision, now: u64) -> bool {
        let words = key.words();
        let load = |shortcut: &[AtomicU64], word: usize| shortcut[word].load(Ordering::Relaxed);
        let rank = |shortcut: &&[AtomicU64]| {
            let is_same = (0..3).all(|word| load(shortcut, KEY + word) == words[word]);
            let stands = load(shortcut, KEY) != 0 && self.stands(shortcut);
            if is_same {
                0
            } else if stands {
                1 + load(shortcut, USED)
            } else {
                1
            }
        };
        let Some(shortcut) = self.bucket(&words).min_by_key(rank) else { return false };
        let version = shortcut[VERSION].load(Ordering::Relaxed);
        let odd = version | 1;
        if odd == version
            || shortcut[VERSION].compare_exchange(version, odd, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            return false;
        }
        fence(Ordering::Release);
        let store = |word: usize, value: u64| shortcut[word].store(value, Ordering::Relaxed);
        (0..3).for_each(|word| store(KEY + word, words[word]));
        store(OUT, u64::from(decision.out_ifindex) | u64::from(decision.payload_max) << 32);
        let flag = |is_set: bool, flag: u64| if is_set { flag } else { 0 };
        let flags = flag(decision.to_peer, TO_PEER)
            | flag(decision.pop, POP)
            | decision.push.map_or(0, |tag| PUSH | flag(tag.tpid == TPID_8021AD, PUSH_STAG));
        let [in_place, out_place] = decision.places.map(u64::from);
        let tci = decision.push.map_or(0, |tag| tag.tci);
        store(FORM, in_place | out_place << 16 | flags << 32 | u64::from(tci) << 48);
        decision.depends.iter().enumerate().for_each(|(i, epoch)| store(DEPENDS_AT + i, epoch.0));
        store(USED, now);
        store(VLAN, u64::from(decision.vlan));
        shortcut[VERSION].store(odd + 1, Ordering::Release);
        true
    }

    /// True if nothing has changed that it depends on.
    fn stands(&self, shortcut: &[AtomicU64]) -> bool {
        (0..DEPENDS).all(|i| self.epochs.is_now(shortcut[DEPENDS_AT + i].load(Ordering::Relaxed)))
    }

    /// True if packets like these have a shortcut that stands: there is nothing to insert.
    pub fn has(&self, key: &Key) -> bool {
        self.find(key).is_some()
    }

    /// What the program does with such packets, if it has a decision that stands.
    pub fn find(&self, key: &Key) -> Option<Decision> {
        let words = key.words();
        self.bucket(&words).find_map(|shortcut| {
            let version = shortcut[VERSION].load(Ordering::Acquire);
            let load = |word: usize| shortcut[word].load(Ordering::Relaxed);
            if version & 1 != 0 || (0..3).any(|word| load(KEY + word) != words[word]) || !self.stands(shortcut) {
                return None;
            }
            let (out, form) = (load(OUT), load(FORM));
            let flags = form >> 32 & 0xffff;
            let tpid = if flags & PUSH_STAG != 0 { TPID_8021AD } else { TPID_8021Q };
            let decision = Decision {
                out_ifindex: out as u32,
                to_peer: flags & TO_PEER != 0,
                payload_max: (out >> 32) as u32,
                places: [form as u16, (form >> 16) as u16],
                pop: flags & POP != 0,
                push: (flags & PUSH != 0).then_some(Tag { tpid, tci: (form >> 48) as u16 }),
                depends: std::array::from_fn(|i| Epoch(load(DEPENDS_AT + i))),
                vlan: load(VLAN) as u16,
            };
            fence(Ordering::Acquire);
            (shortcut[VERSION].load(Ordering::Relaxed) == version).then_some(decision)
        })
    }

    /// Calls `f` with each shortcut that stands. One that is written meanwhile may be missed.
    pub fn for_each(&self, mut f: impl FnMut(Used)) {
        for shortcut in self.words.chunks_exact(SHORTCUT_WORDS) {
            let version = shortcut[VERSION].load(Ordering::Acquire);
            let load = |word: usize| shortcut[word].load(Ordering::Relaxed);
            if version & 1 != 0 || load(KEY) == 0 || !self.stands(shortcut) {
                continue;
            }
            let (first, last) = (load(KEY + 1).to_ne_bytes(), load(KEY + 2).to_ne_bytes());
            let source = [first[6], first[7], last[0], last[1], last[2], last[3]];
            let used =
                Used { source: Mac::new(source), vlan: load(VLAN) as u16, place: load(FORM) as u16, at: load(USED) };
            fence(Ordering::Acquire);
            if shortcut[VERSION].load(Ordering::Relaxed) == version {
                f(used);
            }
        }
    }
}
