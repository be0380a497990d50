//! Which entry of the FDB gives way when there is no room, and which are old?
//!
//! Exact, in constant time, without allocation: for each port a list of its learned entries in the order of their last
//! use, and for each number of entries the list of the ports that have so many. A port with many entries thus pays for the
//! room that others need: a host that invents addresses cannot push out its neighbours'. Among ports with equally many, the
//! one that has had so many for longest pays. Static entries are on no list: they never give way and are no port's share.

use crate::config::PortIndex;
use crate::limits::PORTS_MAX;
use crate::table::fdb::Stats;
use crate::table::guard::MacLimits;
use std::ops::Range;

/// No entry.
pub(super) const NONE: u32 = u32::MAX;
const NO_PORT: u16 = u16::MAX;
/// In place of a number of moves: the entry is held where it is.
const HELD: u16 = u16::MAX;

#[derive(Clone, Copy)]
struct Node {
    key: u64,
    slot: u32,
    /// Towards older entries of the port; in a free node, the next free one.
    older: u32,
    newer: u32,
    port: u16,
    is_static: bool,
    /// How often it moved since `mark_ms`, or [`HELD`] until then.
    moves: u16,
    /// The port that it was kept from, if it is held.
    refused: u16,
    /// Milliseconds of a clock that wraps after seven weeks.
    mark_ms: u32,
}

const _: () = assert!(size_of::<Node>() == 32);

#[derive(Clone, Copy)]
struct Lru {
    oldest: u32,
    newest: u32,
    count: u32,
    /// Neighbours among the ports with as many entries.
    before: u16,
    after: u16,
}

#[derive(Clone, Copy)]
struct Rank {
    first: u16,
    last: u16,
}

/// The bookkeeping of one FDB.
pub(super) struct Ledger {
    nodes: Box<[Node]>,
    free: u32,
    ports: Box<[Lru]>,
    /// By number of entries.
    ranks: Box<[Rank]>,
    most: u32,
    current: usize,
    static_entries: usize,
    /// When the last entry that is held will no longer be.
    held_until_ms: u64,
    /// What happened; the counts of what there is are filled in by the reader.
    pub(super) statistics: Stats,
}

impl Ledger {
    /// Room for `capacity` entries.
    pub(super) fn new(capacity: usize) -> Self {
        let node = |i: usize| Node {
            key: 0,
            slot: 0,
            older: if i + 1 < capacity { i as u32 + 1 } else { NONE },
            newer: NONE,
            port: NO_PORT,
            is_static: false,
            moves: 0,
            refused: NO_PORT,
            mark_ms: 0,
        };
        let lru = Lru { oldest: NONE, newest: NONE, count: 0, before: NO_PORT, after: NO_PORT };
        Self {
            nodes: (0..capacity).map(node).collect(),
            free: if capacity > 0 { 0 } else { NONE },
            ports: vec![lru; PORTS_MAX].into(),
            ranks: vec![Rank { first: NO_PORT, last: NO_PORT }; capacity + 1].into(),
            most: 0,
            current: 0,
            static_entries: 0,
            held_until_ms: 0,
            statistics: Stats::default(),
        }
    }

    pub(super) fn current(&self) -> usize {
        self.current
    }

    pub(super) fn static_entries(&self) -> usize {
        self.static_entries
    }

    pub(super) fn slot(&self, node: u32) -> u32 {
        self.nodes[node as usize].slot
    }

    /// The entry moved to another slot.
    pub(super) fn set_slot(&mut self, node: u32, slot: u32) {
        self.nodes[node as usize].slot = slot;
    }

    /// The least recently used entry learned behind `port`, or [`NONE`].
    pub(super) fn oldest(&self, port: PortIndex) -> u32 {
        self.ports.get(usize::from(port.0)).map_or(NONE, |lru| lru.oldest)
    }

    /// The entry to give way.
    pub(super) fn victim(&self) -> Option<u32> {
        let port = self.ranks[self.most as usize].first;
        let node = self.oldest(PortIndex(port));
        (self.most > 0 && node != NONE).then_some(node)
    }

    /// Notes a new entry, the most recently used of its port. `None` if there is no room, or no such port.
    pub(super) fn add(&mut self, key: u64, slot: u32, port: PortIndex, is_static: bool) -> Option<u32> {
        let node = self.free;
        if node == NONE || usize::from(port.0) >= PORTS_MAX {
            return None;
        }
        self.free = self.nodes[node as usize].older;
        let (older, newer, refused) = (NONE, NONE, NO_PORT);
        self.nodes[node as usize] =
            Node { key, slot, older, newer, port: port.0, is_static, moves: 0, refused, mark_ms: 0 };
        self.current += 1;
        if is_static {
            self.static_entries += 1;
        } else {
            self.link(node);
        }
        Some(node)
    }

    /// Forgets an entry; returns its slot.
    pub(super) fn remove(&mut self, node: u32) -> u32 {
        let entry = self.nodes[node as usize];
        if entry.is_static {
            self.static_entries -= 1;
        } else {
            self.unlink(node);
        }
        self.current -= 1;
        self.nodes[node as usize].moves = 0;
        self.nodes[node as usize].older = self.free;
        self.free = node;
        entry.slot
    }

    /// The entry was used: it is the last of its port to give way.
    pub(super) fn touch(&mut self, node: u32) {
        let port = self.nodes[node as usize].port;
        if self.ports[usize::from(port)].newest != node {
            self.list_remove(node);
            self.list_append(node);
        }
    }

    /// How many learned entries the port has.
    pub(super) fn learned(&self, port: PortIndex) -> u32 {
        self.ports.get(usize::from(port.0)).map_or(0, |lru| lru.count)
    }

    /// May the entry move to `to`? It may so many times within the limits' window; then it is held where it is for as long.
    pub(super) fn may_move(&mut self, node: u32, to: PortIndex, limits: MacLimits, now_ms: u64) -> bool {
        let entry = &mut self.nodes[node as usize];
        // Positive for what lies ahead; a clock that is a little behind another worker's does no harm.
        let ahead_ms = entry.mark_ms.wrapping_sub(now_ms as u32) as i32;
        let is_over = if entry.moves == HELD { ahead_ms <= 0 } else { -i64::from(ahead_ms) >= limits.window_ms.into() };
        if is_over {
            entry.moves = 0;
        }
        if entry.moves == HELD {
            entry.refused = to.0;
            return false;
        }
        if entry.moves == 0 {
            entry.mark_ms = now_ms as u32;
        }
        if entry.moves < limits.moves_max.min(HELD - 1) {
            entry.moves += 1;
            return true;
        }
        let until_ms = now_ms + u64::from(limits.window_ms);
        (entry.moves, entry.refused, entry.mark_ms) = (HELD, to.0, until_ms as u32);
        self.held_until_ms = self.held_until_ms.max(until_ms);
        false
    }

    /// True if no entry is held.
    pub(super) fn holds_none(&self, now_ms: u64) -> bool {
        self.held_until_ms <= now_ms
    }

    /// Of the entries numbered `range` that are held: where, and the port that each was kept from last.
    pub(super) fn held(&self, range: Range<usize>, now_ms: u64) -> impl Iterator<Item = [PortIndex; 2]> {
        let nodes = &self.nodes[range.start.min(self.nodes.len())..range.end.min(self.nodes.len())];
        let is_held = move |node: &&Node| node.moves == HELD && node.mark_ms.wrapping_sub(now_ms as u32) as i32 > 0;
        nodes.iter().filter(is_held).map(|node| [PortIndex(node.port), PortIndex(node.refused)])
    }

    /// The entry is behind `port` now.
    pub(super) fn relink(&mut self, node: u32, port: PortIndex) {
        if usize::from(port.0) < PORTS_MAX {
            self.unlink(node);
            self.nodes[node as usize].port = port.0;
            self.link(node);
        }
    }

    /// The entry is bound to `port` for good.
    pub(super) fn make_static(&mut self, node: u32, port: PortIndex) {
        if !self.nodes[node as usize].is_static {
            self.unlink(node);
            self.static_entries += 1;
        }
        let entry = &mut self.nodes[node as usize];
        entry.is_static = true;
        entry.port = port.0;
    }

    /// Calls `f(key, slot, static)` for each entry: static ones, then port by port the least recently used first.
    pub(super) fn for_each_oldest_first(&self, mut f: impl FnMut(u64, u32, bool)) {
        let mut free = vec![false; self.nodes.len()];
        let mut next = self.free;
        while next != NONE {
            free[next as usize] = true;
            next = self.nodes[next as usize].older;
        }
        let used = self.nodes.iter().zip(&free).filter(|(_, free)| !**free).map(|(node, _)| node);
        used.filter(|node| node.is_static).for_each(|node| f(node.key, node.slot, true));
        for lru in &self.ports {
            let mut next = lru.oldest;
            while next != NONE {
                let node = &self.nodes[next as usize];
                f(node.key, node.slot, false);
                next = node.newer;
            }
        }
    }

    fn link(&mut self, node: u32) {
        let port = self.nodes[node as usize].port;
        self.list_append(node);
        self.rank_move(port, 1);
    }

    fn unlink(&mut self, node: u32) {
        let port = self.nodes[node as usize].port;
        self.list_remove(node);
        self.rank_move(port, -1);
    }

    fn list_append(&mut self, node: u32) {
        let lru = &mut self.ports[usize::from(self.nodes[node as usize].port)];
        let last = std::mem::replace(&mut lru.newest, node);
        if last == NONE {
            lru.oldest = node;
        } else {
            self.nodes[last as usize].newer = node;
        }
        let entry = &mut self.nodes[node as usize];
        entry.older = last;
        entry.newer = NONE;
    }

    fn list_remove(&mut self, node: u32) {
        let Node { older, newer, port, .. } = self.nodes[node as usize];
        let lru = &mut self.ports[usize::from(port)];
        if older == NONE {
            lru.oldest = newer;
        } else {
            self.nodes[older as usize].newer = newer;
        }
        if newer == NONE {
            lru.newest = older;
        } else {
            self.nodes[newer as usize].older = older;
        }
    }

    /// The port has one entry more or fewer: it goes to the end of the list of those with as many.
    fn rank_move(&mut self, port: u16, by: i32) {
        let Lru { count, before, after, .. } = self.ports[usize::from(port)];
        if count > 0 {
            let rank = &mut self.ranks[count as usize];
            if before == NO_PORT {
                rank.first = after;
            } else {
                self.ports[usize::from(before)].after = after;
            }
            if after == NO_PORT {
                rank.last = before;
            } else {
                self.ports[usize::from(after)].before = before;
            }
        }
        let count = count.wrapping_add_signed(by);
        let mut last = NO_PORT;
        if count > 0 {
            last = std::mem::replace(&mut self.ranks[count as usize].last, port);
            if last == NO_PORT {
                self.ranks[count as usize].first = port;
            } else {
                self.ports[usize::from(last)].after = port;
            }
        }
        let lru = &mut self.ports[usize::from(port)];
        (lru.count, lru.before, lru.after) = (count, last, NO_PORT);
        self.most = self.most.max(count);
        // One step at most: the port that left the top is just below it.
        while self.most > 0 && self.ranks[self.most as usize].first == NO_PORT {
            self.most -= 1;
        }
    }
}
