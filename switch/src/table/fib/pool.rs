//! Where do the nodes of the routing trees live?
//!
//! All in one field of words, in blocks: an array of a node's children (four words each), an array of its results (two in
//! a word), or a root table. Block 0 is never used, so 0 says "none".

use shunt_ffi::SyscallError;
use shunt_ffi::words::Words;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Words of a node, the last of them unused.
pub(super) const NODE_WORDS: u32 = 4;

/// A node as it stands in three words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// Prefixes that end here, as in [`super::MATCHING`].
    pub(super) internal: u64,
    /// Values of the next six bits for which there are longer prefixes.
    pub(super) external: u64,
    /// Block of the children, in the order of `external`'s bits.
    pub(super) children: u32,
    /// Block of the targets, in the order of `internal`'s bits.
    pub(super) results: u32,
}

impl Node {
    pub(super) fn is_empty(&self) -> bool {
        self.internal == 0 && self.external == 0
    }

    /// Where the child for these six bits is; 0 if there is none.
    #[inline]
    pub(super) fn child(&self, index: usize) -> u32 {
        if self.external >> index & 1 == 0 { 0 } else { self.children + NODE_WORDS * rank(self.external, index as u32) }
    }
}

/// How many of the bits below `bit` are set.
#[inline]
pub(super) fn rank(bits: u64, bit: u32) -> u32 {
    (bits & ((1 << bit) - 1)).count_ones()
}

/// The words that readers see.
pub(super) struct Pool(Words);

impl Pool {
    pub(super) fn new(words: u32) -> Result<Self, SyscallError> {
        Words::new(words as usize).map(Self)
    }

    #[inline]
    pub(super) fn word(&self, at: usize) -> &AtomicU64 {
        &self.0[at]
    }

    // Relaxed: a block is reached only through a root's word, which readers acquire, and does not change while it can be
    // reached.
    #[inline]
    pub(super) fn node(&self, at: u32) -> Node {
        let [internal, external, blocks] = [0, 1, 2].map(|n| self.word(at as usize + n).load(Relaxed));
        Node { internal, external, children: (blocks >> 32) as u32, results: blocks as u32 }
    }

    /// The target of the prefix at `bit` of the node, which it has.
    #[inline]
    pub(super) fn result(&self, node: &Node, bit: u32) -> u32 {
        self.result_at(node.results, rank(node.internal, bit))
    }

    #[inline]
    pub(super) fn result_at(&self, block: u32, n: u32) -> u32 {
        (self.word((block + n / 2) as usize).load(Relaxed) >> (n % 2 * 32)) as u32
    }

    pub(super) fn set_node(&self, at: u32, node: &Node) {
        let blocks = u64::from(node.children) << 32 | u64::from(node.results);
        for (n, word) in [node.internal, node.external, blocks].into_iter().enumerate() {
            self.word(at as usize + n).store(word, Relaxed);
        }
    }

    pub(super) fn set_result(&self, block: u32, n: u32, target: u32) {
        let (word, shift) = (self.word((block + n / 2) as usize), n % 2 * 32);
        word.store(word.load(Relaxed) & !(0xffff_ffff << shift) | u64::from(target) << shift, Relaxed);
    }
}

/// A power of two of words: which, as a logarithm.
type Order = u8;

fn order(words: u32) -> Order {
    words.next_power_of_two().ilog2() as Order
}

/// Which blocks are free, and which may still be read by somebody. (A buddy system: blocks are powers of two, aligned to
/// their size, and free neighbours become one again; a node never lies across cache lines.)
pub(super) struct Blocks {
    /// By order.
    free: Vec<BTreeSet<u32>>,
    /// Taken since the last publication: no reader can know of these yet.
    fresh: HashSet<u32>,
    /// Replaced since the last publication, then by pass.
    retired: Vec<Block>,
    waiting: VecDeque<(u64, Vec<Block>)>,
    used: u32,
    words: u32,
}

/// Where it begins, and its size.
type Block = (u32, Order);

impl Blocks {
    /// `words` is a power of two.
    pub(super) fn new(words: u32) -> Self {
        let mut free = vec![BTreeSet::new(); usize::from(order(words)) + 1];
        free[usize::from(order(words))].insert(0);
        let (fresh, retired, waiting) = Default::default();
        let mut blocks = Self { free, fresh, retired, waiting, used: 0, words };
        // So that 0 means "none".
        blocks.take(1);
        blocks.fresh.clear();
        blocks.used = 0;
        blocks
    }

    /// Words that there are.
    pub(super) fn words(&self) -> u32 {
        self.words
    }

    /// Words in blocks that are in use or wait for readers.
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// A block for `words`. None if there is no room.
    pub(super) fn take(&mut self, words: u32) -> Option<u32> {
        let order = order(words);
        let from = (usize::from(order)..self.free.len()).find(|from| !self.free[*from].is_empty())?;
        let block = self.free[from].pop_first()?;
        for half in usize::from(order)..from {
            self.free[half].insert(block + (1 << half));
        }
        self.used += 1 << order;
        self.fresh.insert(block);
        Some(block)
    }

    /// Readers cannot know of this block yet.
    pub(super) fn is_fresh(&self, block: u32) -> bool {
        self.fresh.contains(&block)
    }

    /// The tree no longer leads to this block, which was taken for so many words.
    pub(super) fn give_back(&mut self, block: u32, words: u32) {
        if self.fresh.remove(&block) {
            self.release((block, order(words)));
        } else {
            self.retired.push((block, order(words)));
        }
    }

    fn release(&mut self, (mut block, mut order): Block) {
        self.used -= 1 << order;
        while usize::from(order) + 1 < self.free.len() && self.free[usize::from(order)].remove(&(block ^ 1 << order)) {
            block &= !(1 << order);
            order += 1;
        }
        self.free[usize::from(order)].insert(block);
    }

    /// From now on readers know all blocks; what was retired waits for this pass.
    pub(super) fn publish(&mut self, pass: u64) {
        self.fresh.clear();
        if !self.retired.is_empty() {
            self.waiting.push_back((pass, std::mem::take(&mut self.retired)));
        }
    }

    /// No reader can still be in blocks that waited for this pass or an earlier one.
    pub(super) fn passed(&mut self, pass: u64) {
        while self.waiting.front().is_some_and(|(of, _)| *of <= pass) {
            for block in self.waiting.pop_front().map(|(_, blocks)| blocks).unwrap_or_default() {
                self.release(block);
            }
        }
    }
}
