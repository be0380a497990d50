//! How do routes change while packets are looked up?
//!
//! Changes are gathered, unseen by readers, until [`Writer::commit`] stores the changed words of the root tables: each
//! /16 of a table changes at once.

use super::pool::{Blocks, NODE_WORDS, Node, Pool, rank};
use super::{Fib, ROOT_BITS, ROOT_SLOTS, Root, STRIDE, Table, Target};
use ipnet::IpNet;
use shunt_ffi::SyscallError;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A part of all words that new routes do not get, so that there is always room to withdraw some: one in so many.
const RESERVE: u32 = 16;

/// Why a change of the routes was refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FibError {
    /// The field of words has no room left.
    #[error(
        "the FIB is full: all of its {words} words are in use; withdraw routes, or filter what the routing daemon installs"
    )]
    Full {
        /// Words in use.
        words: u32,
    },
}

/// A commit: what it replaced is free when all workers have come past it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pass(u64);

impl Pass {
    /// Before the first commit: for what no worker has seen.
    pub const NONE: Self = Self(0);
}

/// The one writer of a [`Fib`].
pub struct Writer {
    fib: Arc<Fib>,
    blocks: Blocks,
    /// Of each table: its prefixes of up to 16 bits, left-aligned, by length and bits.
    short: HashMap<Table, HashMap<(u8, u16), Target>>,
    /// Words of root tables that readers do not see yet, by index.
    roots: HashMap<u32, Root>,
    /// What the change in hand took and what it replaces (each with its words), so that it can be taken back.
    taken: Vec<(u32, u32)>,
    replaced: Vec<(u32, u32)>,
    pass: u64,
    routes: usize,
}

impl Writer {
    /// No tables yet, in a field of so many words of 8 octets (taken to a power of two), which cost memory when they are
    /// first used.
    pub fn new(words: u32) -> Result<Self, SyscallError> {
        let words = words.clamp(1 << 10, 1 << 31).next_power_of_two();
        let fib = Arc::new(Fib { pool: Pool::new(words)? });
        let (short, roots, taken, replaced) = Default::default();
        Ok(Self { fib, blocks: Blocks::new(words), short, roots, taken, replaced, pass: 0, routes: 0 })
    }

    /// What workers look routes up in.
    pub fn fib(&self) -> Arc<Fib> {
        Arc::clone(&self.fib)
    }

    /// Routes in all tables.
    pub fn len(&self) -> usize {
        self.routes
    }

    /// There is no route at all.
    pub fn is_empty(&self) -> bool {
        self.routes == 0
    }

    /// Octets in use by tables and trees, without those that the words' pages take beyond.
    pub fn used_bytes(&self) -> u64 {
        u64::from(self.blocks.used()) * 8
    }

    /// A new table, for one VRF and one family, without routes.
    pub fn add_table(&mut self) -> Result<Table, FibError> {
        let table = Table(self.blocks.take(ROOT_SLOTS as u32).ok_or(self.full())?);
        // One that was used before still has its old words.
        for word in self.root_words(table) {
            word.store(0, Ordering::Relaxed);
        }
        self.short.insert(table, HashMap::new());
        Ok(table)
    }

    /// Drops a table with all its routes. Readers must not look in it any more when the next commit has been passed.
    pub fn drop_table(&mut self, table: Table) {
        let Some(short) = self.short.remove(&table) else { return };
        self.routes -= short.len();
        for slot in 0..ROOT_SLOTS as u32 {
            let root = self.root(table.0 + slot);
            if root.node() != 0 {
                let node = self.fib.pool.node(root.node());
                self.routes -= self.give_back_tree(&node);
                self.blocks.give_back(root.node(), NODE_WORDS);
            }
            self.roots.remove(&(table.0 + slot));
        }
        self.blocks.give_back(table.0, ROOT_SLOTS as u32);
    }

    /// Gives back all that hangs on a node; says how many routes that were.
    fn give_back_tree(&mut self, node: &Node) -> usize {
        let mut routes = node.internal.count_ones() as usize;
        for n in 0..node.external.count_ones() {
            let child = self.fib.pool.node(node.children + n * NODE_WORDS);
            routes += self.give_back_tree(&child);
        }
        for (block, words) in children(node).into_iter().chain(results(node)) {
            self.blocks.give_back(block, words);
        }
        routes
    }

    /// Sends packets for `prefix` to `target`; says where they went by this very prefix before.
    pub fn insert(&mut self, table: Table, prefix: IpNet, target: Target) -> Result<Option<Target>, FibError> {
        if self.blocks.used() > self.blocks.words() - self.blocks.words() / RESERVE {
            return Err(self.full());
        }
        let old = self.change(table, prefix, Some(target))?;
        self.routes += usize::from(old.is_none());
        Ok(old)
    }

    /// Withdraws the route for exactly this prefix; says where it led.
    pub fn remove(&mut self, table: Table, prefix: IpNet) -> Result<Option<Target>, FibError> {
        let old = self.change(table, prefix, None)?;
        self.routes -= usize::from(old.is_some());
        Ok(old)
    }

    /// Shows readers all changes since the last commit.
    pub fn commit(&mut self) -> Pass {
        for (at, root) in self.roots.drain() {
            // Release: a reader who sees the word sees all that hangs on it.
            self.fib.pool.word(at as usize).store(root.0, Ordering::Release);
        }
        self.pass += 1;
        self.blocks.publish(self.pass);
        Pass(self.pass)
    }

    /// What the next commit will answer: for what it takes out of the workers' sight.
    pub fn next_pass(&self) -> Pass {
        Pass(self.pass + 1)
    }

    /// All workers have finished what they were doing when this commit was made.
    pub fn reclaim(&mut self, pass: Pass) {
        self.blocks.passed(pass.0);
    }

    fn full(&self) -> FibError {
        FibError::Full { words: self.blocks.used() }
    }

    fn root_words(&self, table: Table) -> impl Iterator<Item = &std::sync::atomic::AtomicU64> {
        (0..ROOT_SLOTS).map(move |slot| self.fib.pool.word(table.0 as usize + slot))
    }

    fn root(&self, at: u32) -> Root {
        // Relaxed: nobody else writes.
        let committed = || Root(self.fib.pool.word(at as usize).load(Ordering::Relaxed));
        self.roots.get(&at).copied().unwrap_or_else(committed)
    }

    fn change(&mut self, table: Table, prefix: IpNet, target: Option<Target>) -> Result<Option<Target>, FibError> {
        let (bits, len) = match prefix.trunc().addr() {
            IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, prefix.prefix_len()),
            IpAddr::V6(address) => (address.to_bits(), prefix.prefix_len()),
        };
        let slot = (bits >> (128 - ROOT_BITS)) as u16;
        if len <= ROOT_BITS {
            return Ok(self.change_short(table, (len, slot), target));
        }
        let changed = self.change_long(table.0 + u32::from(slot), bits << ROOT_BITS, len - ROOT_BITS, target);
        let (done, undone) = match changed {
            Ok(_) => (self.replaced.drain(..), self.taken.drain(..)),
            Err(_) => (self.taken.drain(..), self.replaced.drain(..)),
        };
        drop(undone);
        for (block, words) in done {
            self.blocks.give_back(block, words);
        }
        changed
    }

    /// A prefix of more than 16 bits, below the word `at` of a root table. On errors nothing that readers or later changes
    /// will see has changed.
    fn change_long(
        &mut self,
        at: u32,
        rest: u128,
        len: u8,
        target: Option<Target>,
    ) -> Result<Option<Target>, FibError> {
        let root = self.root(at);
        let node = if root.node() == 0 { Node::default() } else { self.fib.pool.node(root.node()) };
        let (new, old) = self.edit(&node, rest, len, target)?;
        if new == node {
            return Ok(old);
        }
        let place = if new.is_empty() { 0 } else { self.take(NODE_WORDS)? };
        if place != 0 {
            self.fib.pool.set_node(place, &new);
        }
        if root.node() != 0 {
            self.replaced.push((root.node(), NODE_WORDS));
        }
        self.roots.insert(at, Root::new(place, root.target()));
        Ok(old)
    }

    /// A prefix of up to 16 bits stands in every word of the root table that it covers and no longer one does.
    fn change_short(&mut self, table: Table, (len, slot): (u8, u16), target: Option<Target>) -> Option<Target> {
        let short = self.short.entry(table).or_default();
        let old = match target {
            Some(target) => short.insert((len, slot), target),
            None => short.remove(&(len, slot)),
        };
        if old == target {
            return old;
        }
        // Longest first, so that a word is written by the prefix that it belongs to.
        let covering = |slot: u32| {
            (0..=ROOT_BITS).rev().find_map(|len| {
                let mask = u32::MAX << (ROOT_BITS - len);
                short.get(&(len, (slot & mask) as u16)).map(|target| target.get())
            })
        };
        let span = 1u32 << (ROOT_BITS - len);
        let words: Vec<_> = (u32::from(slot)..u32::from(slot) + span).map(|slot| (slot, covering(slot))).collect();
        for (slot, target) in words {
            let at = table.0 + slot;
            let root = self.root(at);
            self.roots.insert(at, Root::new(root.node(), target.unwrap_or(0)));
        }
        old
    }

    /// The node after a change of the prefix of `len` bits that `bits` begins with, and the prefix's old target.
    fn edit(
        &mut self,
        node: &Node,
        bits: u128,
        len: u8,
        target: Option<Target>,
    ) -> Result<(Node, Option<Target>), FibError> {
        if len < STRIDE {
            let prefix = if len == 0 { 0 } else { (bits >> (128 - u32::from(len))) as u32 };
            return self.edit_result(node, (1 << len) - 1 + prefix, target);
        }
        let index = (bits >> (128 - STRIDE)) as usize;
        let at = node.child(index);
        let child = if at == 0 { Node::default() } else { self.fib.pool.node(at) };
        let (new, old) = self.edit(&child, bits << STRIDE, len - STRIDE, target)?;
        let node = if new == child { *node } else { self.with_child(node, index as u32, &new)? };
        Ok((node, old))
    }

    fn edit_result(
        &mut self,
        node: &Node,
        bit: u32,
        target: Option<Target>,
    ) -> Result<(Node, Option<Target>), FibError> {
        let is_there = node.internal >> bit & 1 != 0;
        let old = if is_there { Target::new(self.fib.pool.result(node, bit)) } else { None };
        if old == target {
            return Ok((*node, old));
        }
        let mut new = *node;
        new.internal = node.internal & !(1 << bit) | u64::from(target.is_some()) << bit;
        new.results = match new.internal.count_ones() {
            0 => 0,
            count => self.take(count.div_ceil(2))?,
        };
        let at = rank(node.internal, bit);
        let kept = (0..node.internal.count_ones()).filter(|n| !is_there || *n != at);
        let mut to = 0;
        for n in kept {
            // The changed one's place stays free.
            to += u32::from(to == at && target.is_some());
            self.fib.pool.set_result(new.results, to, self.fib.pool.result_at(node.results, n));
            to += 1;
        }
        if let Some(target) = target {
            self.fib.pool.set_result(new.results, at, target.get());
        }
        self.replaced.extend(results(node));
        Ok((new, old))
    }

    fn with_child(&mut self, node: &Node, index: u32, child: &Node) -> Result<Node, FibError> {
        let at = rank(node.external, index);
        let is_there = node.external >> index & 1 != 0;
        if is_there && !child.is_empty() && self.blocks.is_fresh(node.children) {
            self.fib.pool.set_node(node.children + at * NODE_WORDS, child);
            return Ok(*node);
        }
        let mut new = *node;
        new.external = node.external & !(1 << index) | u64::from(!child.is_empty()) << index;
        new.children = match new.external.count_ones() {
            0 => 0,
            count => self.take(count * NODE_WORDS)?,
        };
        let mut to = 0;
        for n in (0..node.external.count_ones()).filter(|n| !is_there || *n != at) {
            to += u32::from(to == at && !child.is_empty());
            let moved = self.fib.pool.node(node.children + n * NODE_WORDS);
            self.fib.pool.set_node(new.children + to * NODE_WORDS, &moved);
            to += 1;
        }
        if !child.is_empty() {
            self.fib.pool.set_node(new.children + at * NODE_WORDS, child);
        }
        self.replaced.extend(children(node));
        Ok(new)
    }

    fn take(&mut self, words: u32) -> Result<u32, FibError> {
        let block = self.blocks.take(words).ok_or(self.full())?;
        self.taken.push((block, words));
        Ok(block)
    }
}

/// The block of a node's children, if it has some.
fn children(node: &Node) -> Option<(u32, u32)> {
    (node.external != 0).then(|| (node.children, node.external.count_ones() * NODE_WORDS))
}

/// The block of a node's results, if it has some.
fn results(node: &Node) -> Option<(u32, u32)> {
    (node.internal != 0).then(|| (node.results, node.internal.count_ones().div_ceil(2)))
}
