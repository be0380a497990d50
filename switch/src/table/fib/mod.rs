//! By which route does a packet go? (Longest prefix match, RFC 1812 §5.2.4.3.)
//!
//! A tree bitmap (Eatherton, Varghese, Dittia 2004) behind a table of the first 16 bits. A node stands for six bits of the
//! address: one bitmap says which prefixes of up to five more bits end in it, another which children it has, and both
//! index packed arrays. So a change touches one node however many longer prefixes there are below it.
//!
//! **Readers** take no lock: they read one word of the root table, and all that hangs on it never changes.
//! **Changes** ([`Writer`]) copy the arrays on the way from the changed node up and store the new way into the root's word. What
//! it replaces is used again only after every reader is known to have come past ([`Writer::reclaim`]).

mod pool;
#[cfg(test)]
mod tests;
mod writer;

pub use writer::{FibError, Pass, Writer};

use pool::{Node, Pool};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;

/// Bits of the address that the root table is indexed by.
const ROOT_BITS: u8 = 16;
const ROOT_SLOTS: usize = 1 << ROOT_BITS;
/// Bits of the address that a node stands for.
const STRIDE: u8 = 6;

/// By the six bits of an address in a node: the prefixes in it that match. Bit `2^n - 1 + p` is prefix `p` of `n` bits.
const MATCHING: [u64; 64] = {
    let mut matching = [0; 64];
    let mut index = 0;
    while index < 64 {
        let mut len = 0;
        while len < STRIDE as usize {
            matching[index] |= 1 << ((1 << len) - 1 + (index >> (STRIDE as usize - len)));
            len += 1;
        }
        index += 1;
    }
    matching
};

/// Where the routes of one VRF and address family begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Table(u32);

/// Where the routes of one VRF begin, by address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables {
    /// For IPv4.
    pub v4: Table,
    /// For IPv6.
    pub v6: Table,
}

/// What a route leads to: a number that its owner knows the meaning of; never 0.
pub type Target = std::num::NonZeroU32;

/// The routes of all VRFs and both families, shared by all workers.
pub struct Fib {
    pool: Pool,
}

impl Fib {
    /// Where packets for `address` go, by the routes of a table of IPv4.
    #[inline]
    pub fn lookup_v4(&self, table: Table, address: Ipv4Addr) -> Option<Target> {
        let mut found = [None];
        self.lookup([(table, u64::from(address.to_bits()) << 32)], &mut found);
        found[0]
    }

    /// Where packets for `address` go, by the routes of a table of IPv6.
    #[inline]
    pub fn lookup_v6(&self, table: Table, address: Ipv6Addr) -> Option<Target> {
        let mut found = [None];
        self.lookup([(table, address.to_bits())], &mut found);
        found[0]
    }

    /// As [`Fib::lookup_v4`], of several at once: one waits for memory while the others do.
    pub fn lookups_v4(&self, sought: &[(Table, Ipv4Addr)], found: &mut [Option<Target>]) {
        self.in_groups(sought, found, |address| u64::from(address.to_bits()) << 32);
    }

    /// As [`Fib::lookup_v6`], of several at once.
    pub fn lookups_v6(&self, sought: &[(Table, Ipv6Addr)], found: &mut [Option<Target>]) {
        self.in_groups(sought, found, Ipv6Addr::to_bits);
    }

    /// As [`Fib::lookup_v4`] or [`Fib::lookup_v6`], after the address's family.
    pub fn lookup_any(&self, table: Table, address: IpAddr) -> Option<Target> {
        match address {
            IpAddr::V4(address) => self.lookup_v4(table, address),
            IpAddr::V6(address) => self.lookup_v6(table, address),
        }
    }

    #[inline]
    fn in_groups<A: Copy, K: Key>(&self, sought: &[(Table, A)], found: &mut [Option<Target>], key: impl Fn(A) -> K) {
        let (groups, rest) = sought.as_chunks::<GROUP>();
        let (found_groups, found_rest) = found.as_chunks_mut::<GROUP>();
        for (group, found) in groups.iter().zip(found_groups) {
            self.lookup(group.map(|(table, address)| (table, key(address))), found);
        }
        for ((table, address), found) in rest.iter().zip(found_rest) {
            let mut one = [None];
            self.lookup([(*table, key(*address))], &mut one);
            *found = one[0];
        }
    }

    /// `N` lookups side by side, a level of all of them at a time.
    #[inline(always)]
    fn lookup<K: Key, const N: usize>(&self, sought: [(Table, K); N], found: &mut [Option<Target>; N]) {
        // Acquire: with the word comes all that hangs on it.
        let roots = sought
            .map(|(table, key)| Root(self.pool.word(table.0 as usize + key.top(ROOT_BITS)).load(Ordering::Acquire)));
        let mut keys = sought.map(|(_, key)| key.behind(ROOT_BITS));
        let mut at = roots.map(Root::node);
        let mut longest = [(Node::default(), 0); N];
        while at != [0; N] {
            for lane in 0..N {
                if at[lane] == 0 {
                    continue;
                }
                let node = self.pool.node(at[lane]);
                let index = keys[lane].top(STRIDE);
                let matching = node.internal & MATCHING[index];
                if matching != 0 {
                    longest[lane] = (node, matching);
                }
                at[lane] = node.child(index);
                keys[lane] = keys[lane].behind(STRIDE);
            }
        }
        for lane in 0..N {
            found[lane] = Target::new(match longest[lane] {
                (_, 0) => roots[lane].target(),
                (node, matching) => self.pool.result(&node, matching.ilog2()),
            });
        }
    }
}

/// Lookups that go side by side.
const GROUP: usize = 8;

/// What is left of an address, from the top bit on.
trait Key: Copy {
    /// Its first bits.
    fn top(self, bits: u8) -> usize;
    /// What comes behind them.
    fn behind(self, bits: u8) -> Self;
}

impl Key for u64 {
    #[inline]
    fn top(self, bits: u8) -> usize {
        (self >> (u64::BITS - u32::from(bits))) as usize
    }

    #[inline]
    fn behind(self, bits: u8) -> Self {
        self << bits
    }
}

impl Key for u128 {
    #[inline]
    fn top(self, bits: u8) -> usize {
        (self >> (u128::BITS - u32::from(bits))) as usize
    }

    #[inline]
    fn behind(self, bits: u8) -> Self {
        self << bits
    }
}

/// A word of a root table: the node for what is longer than 16 bits (0: none), and the target of the longest prefix of up to
/// 16 bits (0: none).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Root(u64);

impl Root {
    fn new(node: u32, target: u32) -> Self {
        Self(u64::from(node) << 32 | u64::from(target))
    }

    #[inline]
    fn node(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    fn target(self) -> u32 {
        self.0 as u32
    }
}
