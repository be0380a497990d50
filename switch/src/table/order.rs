//! In what order were things last used, and which numbers are free? Doubly linked lists over numbered entries.
//!
//! All in arrays made at the start: nothing here allocates later. Number 0 stands for nothing.

/// No entry.
pub(super) const NONE: u32 = 0;

#[derive(Clone, Copy)]
struct Place {
    older: u32,
    /// Of a free entry, the next free one.
    newer: u32,
}

#[derive(Clone, Copy)]
struct Ends {
    oldest: u32,
    newest: u32,
}

/// `LISTS` lists that share their entries: an entry is free, on one list, or on none.
pub(super) struct Order<const LISTS: usize> {
    places: Box<[Place]>,
    ends: [Ends; LISTS],
    free: u32,
}

impl<const LISTS: usize> Order<LISTS> {
    /// Entries 1 to `count`, all free.
    pub(super) fn new(count: usize) -> Self {
        let place = |i: usize| Place { older: NONE, newer: if i < count { i as u32 + 1 } else { NONE } };
        let ends = [Ends { oldest: NONE, newest: NONE }; LISTS];
        Self { places: (0..=count).map(place).collect(), ends, free: if count > 0 { 1 } else { NONE } }
    }

    /// Takes a free entry, or [`NONE`].
    pub(super) fn take(&mut self) -> u32 {
        let taken = self.free;
        if taken != NONE {
            self.free = self.places[taken as usize].newer;
        }
        taken
    }

    /// Makes an entry free that is on no list.
    pub(super) fn give_back(&mut self, entry: u32) {
        self.places[entry as usize].newer = self.free;
        self.free = entry;
    }

    /// The entry that was used longest ago, or [`NONE`].
    pub(super) fn oldest(&self, list: usize) -> u32 {
        self.ends[list].oldest
    }

    /// The entry used next after `entry` on its list, or [`NONE`].
    pub(super) fn newer(&self, entry: u32) -> u32 {
        self.places[entry as usize].newer
    }

    /// Puts an entry that is on no list at the end of one: it was just used.
    pub(super) fn append(&mut self, list: usize, entry: u32) {
        let last = std::mem::replace(&mut self.ends[list].newest, entry);
        self.places[entry as usize] = Place { older: last, newer: NONE };
        match last {
            NONE => self.ends[list].oldest = entry,
            _ => self.places[last as usize].newer = entry,
        }
    }

    /// Takes an entry off its list.
    pub(super) fn detach(&mut self, list: usize, entry: u32) {
        let Place { older, newer } = self.places[entry as usize];
        match older {
            NONE => self.ends[list].oldest = newer,
            _ => self.places[older as usize].newer = newer,
        }
        match newer {
            NONE => self.ends[list].newest = older,
            _ => self.places[newer as usize].older = older,
        }
    }
}
