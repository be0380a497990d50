//! How do we and the kernel pass descriptors to each other without a lock?
//!
//! Each of the four AF_XDP rings has one producer and one consumer, each with an index that only ever rises, modulo 2^32.
//! The kernel's side is net/xdp/xsk_queue.h. We keep copies of both indices and touch the shared ones once a burst.
//! Neither end trusts the other's index: one that moved too far counts as "nothing there" and is reported.
//!
//! The same two types serve both ends over heap memory, so that a test can play the kernel.

use crate::descriptor::Descriptor;
use std::alloc::Layout;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// What a ring carries.
pub trait Entry: Copy + sealed::Sealed {}
impl Entry for u64 {}
impl Entry for Descriptor {}

mod sealed {
    /// Plain data without invalid values: whatever bits the other end writes can be read.
    pub trait Sealed {}
    impl Sealed for u64 {}
    impl Sealed for super::Descriptor {}
}

/// Where the parts of a ring are in its mapping (`struct xdp_ring_offset`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offsets {
    pub(crate) producer: usize,
    pub(crate) consumer: usize,
    pub(crate) flags: usize,
    pub(crate) entries: usize,
}

/// The memory of one ring.
pub struct Ring<T> {
    base: NonNull<u8>,
    offsets: Offsets,
    size: u32,
    backing: Backing,
    entries: PhantomData<T>,
}

enum Backing {
    Mapping { len: usize },
    Heap(Layout),
}

// SAFETY: the memory is reached through atomics and, for entries, by whichever end owns them by the indices.
unsafe impl<T: Entry> Send for Ring<T> {}
// SAFETY: as above.
unsafe impl<T: Entry> Sync for Ring<T> {}

impl<T: Entry> Ring<T> {
    /// Maps a ring of the socket. `size` is the number of entries set before, a power of two.
    pub(crate) fn map(
        socket: BorrowedFd<'_>,
        page_offset: u64,
        offsets: Offsets,
        size: u32,
    ) -> rustix::io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags};
        assert!(size.is_power_of_two());
        let len = offsets.entries + size as usize * size_of::<T>();
        let index = size_of::<AtomicU32>();
        if [offsets.producer, offsets.consumer, offsets.flags].iter().any(|&at| at % index != 0 || at + index > len)
            || !offsets.entries.is_multiple_of(align_of::<T>())
        {
            return Err(rustix::io::Errno::INVAL);
        }
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe {
            let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
            rustix::mm::mmap(std::ptr::null_mut(), len, protection, flags, socket, page_offset)?
        };
        let base = NonNull::new(base.cast()).ok_or(rustix::io::Errno::NOMEM)?;
        Ok(Self { base, offsets, size, backing: Backing::Mapping { len }, entries: PhantomData })
    }

    /// A ring on the heap with both indices at `start`.
    pub fn heap(size: u32, start: u32) -> Self {
        assert!(size.is_power_of_two());
        let offsets = Offsets { producer: 0, consumer: 64, flags: 128, entries: 192 };
        let layout =
            Layout::from_size_align(offsets.entries + size as usize * size_of::<T>(), 64).expect("a sane size");
        // SAFETY: the layout's size is not zero.
        let base = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).expect("memory for a test");
        let ring = Self { base, offsets, size, backing: Backing::Heap(layout), entries: PhantomData };
        ring.producer_index().store(start, Relaxed);
        ring.consumer_index().store(start, Relaxed);
        ring
    }

    /// Both ends of a ring, for a test that plays the kernel.
    pub fn into_ends(self) -> (Producer<T>, Consumer<T>) {
        let ring = Arc::new(self);
        (Producer::over(ring.clone()), Consumer::over(ring))
    }

    fn producer_index(&self) -> &AtomicU32 {
        self.atomic(self.offsets.producer)
    }

    fn consumer_index(&self) -> &AtomicU32 {
        self.atomic(self.offsets.consumer)
    }

    fn flags(&self) -> &AtomicU32 {
        self.atomic(self.offsets.flags)
    }

    #[inline]
    fn atomic(&self, at: usize) -> &AtomicU32 {
        // SAFETY: `map` checked, and `heap` chose, offsets that lie aligned inside the memory, which lives as long as
        // `self`; both ends access these words only atomically.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(at).cast()) }
    }

    #[inline]
    fn entry(&self, index: u32) -> *mut T {
        // SAFETY: the masked index is below `size`, and `size` entries lie inside the memory.
        unsafe { self.base.as_ptr().add(self.offsets.entries).cast::<T>().add((index & (self.size - 1)) as usize) }
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        match &self.backing {
            // SAFETY: the mapping is ours, and what points into it borrows `self`.
            Backing::Mapping { len } => drop(unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), *len) }),
            // SAFETY: allocated with this layout.
            Backing::Heap(layout) => unsafe { std::alloc::dealloc(self.base.as_ptr(), *layout) },
        }
    }
}

/// The end that writes entries. There is one for a ring.
pub struct Producer<T: Entry> {
    ring: Arc<Ring<T>>,
    /// Our index: entries before it are written.
    written: u32,
    /// Our index as the other end knows it.
    published: u32,
    /// The other end's index when we last looked.
    consumed: u32,
    index_faults: u32,
}

impl<T: Entry> Producer<T> {
    /// The producing end of a ring whose consuming end is the kernel's.
    pub(crate) fn new(ring: Ring<T>) -> Self {
        Self::over(Arc::new(ring))
    }

    /// Starts where the index is, as if the ring were empty.
    fn over(ring: Arc<Ring<T>>) -> Self {
        let written = ring.producer_index().load(Relaxed);
        Self { ring, written, published: written, consumed: written, index_faults: 0 }
    }

    /// How many entries can be written; looks at the other end's index only if the last look does not yield `wanted`.
    #[inline]
    pub fn room(&mut self, wanted: u32) -> u32 {
        let used = self.written.wrapping_sub(self.consumed);
        if self.ring.size.wrapping_sub(used) >= wanted {
            return self.ring.size - used;
        }
        // Acquire: pairs with the release of the consumer index in the kernel's __xskq_cons_release. The kernel has read
        // the entries before it; they may be overwritten.
        let consumed = self.ring.consumer_index().load(Acquire);
        let used = self.written.wrapping_sub(consumed);
        if used > self.ring.size {
            self.index_faults += 1;
            return 0;
        }
        self.consumed = consumed;
        self.ring.size - used
    }

    /// Writes an entry, which the other end sees after [`Producer::publish`]. Returns false if there is no room.
    #[inline]
    #[must_use]
    pub fn write(&mut self, entry: T) -> bool {
        self.slots(1).write(entry)
    }

    /// Room for `wanted` entries, or as many as there is room for.
    #[inline]
    pub fn slots(&mut self, wanted: u32) -> Slots<'_, T> {
        let left = self.room(wanted).min(wanted);
        let (first, mask) = (self.ring.entry(0), self.ring.size - 1);
        Slots { first, mask, left, next: self.written, written: &mut self.written }
    }

    /// Shows what was written to the other end.
    #[inline]
    pub fn publish(&mut self) {
        if self.published != self.written {
            // Release: pairs with the acquire of the producer index in the kernel's __xskq_cons_peek, so that it reads the
            // entries as written.
            self.ring.producer_index().store(self.written, Release);
            self.published = self.written;
        }
    }

    /// Published entries that the other end has not yet consumed.
    #[inline]
    pub fn pending(&mut self) -> u32 {
        // Acquire: as in `room`.
        let consumed = self.ring.consumer_index().load(Acquire);
        if self.written.wrapping_sub(consumed) > self.ring.size {
            self.index_faults += 1;
            return 0;
        }
        self.consumed = consumed;
        self.published.wrapping_sub(consumed)
    }

    /// Plays a kernel that sets its index to nonsense: moves the shared index, not what this end believes.
    pub(crate) fn play_index(&mut self, index: u32) {
        self.ring.producer_index().store(index, Release);
    }

    /// True if the other end sleeps and wants a system call.
    #[inline]
    pub fn needs_wakeup(&self) -> bool {
        // Relaxed: the system call that follows, or the next look, orders everything else.
        self.ring.flags().load(Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    /// How often the other end's index made no sense since the last call.
    #[inline]
    pub(crate) fn take_index_faults(&mut self) -> u32 {
        std::mem::take(&mut self.index_faults)
    }
}

/// Room for entries of a burst, that need not be looked for one by one.
pub struct Slots<'a, T: Entry> {
    first: *mut T,
    mask: u32,
    left: u32,
    /// Our index: here rather than behind `written`, so that it stays in a register.
    next: u32,
    written: &'a mut u32,
}

impl<T: Entry> Slots<'_, T> {
    /// How many more entries fit.
    #[inline]
    pub fn left(&self) -> u32 {
        self.left
    }

    /// Writes an entry, which the other end sees after [`Producer::publish`]. Returns false if there is no room.
    #[inline]
    #[must_use]
    pub fn write(&mut self, entry: T) -> bool {
        if self.left == 0 {
            return false;
        }
        // SAFETY: `first` is entry 0 of a ring of `mask + 1` entries, which the producer behind `written` keeps alive. The slot
        // is before the consumer's index plus the size, so it is the producer's: the other end does not read it until the
        // index is published.
        unsafe { self.first.add((self.next & self.mask) as usize).write(entry) };
        self.next = self.next.wrapping_add(1);
        self.left -= 1;
        true
    }
}

impl<T: Entry> Drop for Slots<'_, T> {
    #[inline]
    fn drop(&mut self) {
        *self.written = self.next;
    }
}

/// The end that reads entries. There is one for a ring.
pub struct Consumer<T: Entry> {
    ring: Arc<Ring<T>>,
    /// Our index: entries before it are read.
    read: u32,
    /// Our index as the other end knows it.
    released: u32,
    /// The other end's index when we last looked.
    produced: u32,
    index_faults: u32,
}

impl<T: Entry> Consumer<T> {
    /// The consuming end of a ring whose producing end is the kernel's.
    pub(crate) fn new(ring: Ring<T>) -> Self {
        Self::over(Arc::new(ring))
    }

    fn over(ring: Arc<Ring<T>>) -> Self {
        let read = ring.consumer_index().load(Relaxed);
        Self { ring, read, released: read, produced: read, index_faults: 0 }
    }

    /// Reads an entry, if there is one; looks at the other end's index only when what it saw last is used up.
    #[inline]
    pub fn read(&mut self) -> Option<T> {
        self.taken(1).next()
    }

    /// Up to `max` entries to be read; looks at the other end's index only if what it saw last is less than that.
    #[inline]
    pub fn taken(&mut self, max: u32) -> Taken<'_, T> {
        if self.produced.wrapping_sub(self.read) < max {
            self.look();
        }
        let count = self.produced.wrapping_sub(self.read).min(max);
        let (first, mask) = (self.ring.entry(0).cast_const(), self.ring.size - 1);
        Taken { first, mask, next: self.read, end: self.read.wrapping_add(count), read: &mut self.read }
    }

    /// Looks at the other end's index.
    #[inline]
    fn look(&mut self) {
        // Acquire: pairs with the release of the producer index in the kernel's __xskq_prod_submit, so that the entries
        // are read as written.
        let produced = self.ring.producer_index().load(Acquire);
        // Between what we have read and a whole ring after what we have released: an index that goes back would have us
        // read on for 2^32 entries.
        let ahead = produced.wrapping_sub(self.released);
        if ahead > self.ring.size || ahead < self.read.wrapping_sub(self.released) {
            self.index_faults += 1;
            return;
        }
        self.produced = produced;
    }

    /// Lets the other end overwrite what was read.
    #[inline]
    pub fn release(&mut self) {
        if self.released != self.read {
            // Release: pairs with the acquire of the consumer index in the kernel's xskq_prod_nb_free path, so that it
            // overwrites entries only after we have read them.
            self.ring.consumer_index().store(self.read, Release);
            self.released = self.read;
        }
    }

    /// Plays a kernel that sets its index to nonsense. Returns what it was.
    #[cfg(test)]
    pub(crate) fn play_index(&mut self, index: u32) -> u32 {
        self.ring.consumer_index().swap(index, Release)
    }

    /// How often the other end's index made no sense since the last call.
    #[inline]
    pub(crate) fn take_index_faults(&mut self) -> u32 {
        std::mem::take(&mut self.index_faults)
    }
}

/// Entries of a burst that the other end has written. Those that are not taken stay in the ring.
pub struct Taken<'a, T: Entry> {
    first: *const T,
    mask: u32,
    /// Our index: here rather than behind `read`, so that it stays in a register.
    next: u32,
    end: u32,
    read: &'a mut u32,
}

impl<T: Entry> Iterator for Taken<'_, T> {
    type Item = T;

    #[inline(always)]
    fn next(&mut self) -> Option<T> {
        if self.next == self.end {
            return None;
        }
        // SAFETY: `first` is entry 0 of a ring of `mask + 1` entries, which the consumer behind `read` keeps alive. The entry is
        // before the producer's index, so it is the consumer's: the other end does not write it until our index is
        // released. Any bits are a valid `T`.
        let entry = unsafe { self.first.add((self.next & self.mask) as usize).read() };
        self.next = self.next.wrapping_add(1);
        Some(entry)
    }
}

impl<T: Entry> Drop for Taken<'_, T> {
    #[inline]
    fn drop(&mut self) {
        *self.read = self.next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(size: u32, start: u32) -> (Producer<u64>, Consumer<u64>) {
        Ring::heap(size, start).into_ends()
    }

    #[test]
    fn a_producer_that_goes_back_is_a_fault_and_not_a_ring_full_of_entries() {
        let (mut producer, mut consumer) = ends(8, u32::MAX - 1);
        assert!((0..4).all(|n| producer.write(n)));
        producer.publish();
        assert!((0..4).all(|n| consumer.read() == Some(n)));
        // Not released yet: the index lies within a ring of what was released, but before what was read.
        producer.play_index(u32::MAX);
        assert_eq!((consumer.read(), consumer.take_index_faults()), (None, 1));
        producer.play_index(2);
        assert_eq!((consumer.read(), consumer.take_index_faults()), (None, 0));
    }

    #[test]
    fn entries_arrive_in_order_across_the_wrap_of_the_indices() {
        let (mut producer, mut consumer) = ends(8, u32::MAX - 10);
        let mut next = 0u64;
        for burst in 0..20u64 {
            let count = burst % 9;
            assert!(producer.room(count as u32) >= count as u32);
            for n in 0..count {
                assert!(producer.write(next + n));
            }
            assert_eq!(consumer.read(), None, "not published");
            producer.publish();
            assert_eq!(u64::from(producer.pending()), count);
            for n in 0..count {
                assert_eq!(consumer.read(), Some(next + n));
            }
            assert_eq!(consumer.read(), None);
            consumer.release();
            next += count;
        }
        assert!(next > 11, "the indices wrapped");
    }

    #[test]
    fn a_full_ring_takes_no_more_until_entries_are_released() {
        let (mut producer, mut consumer) = ends(4, 0);
        for n in 0..4 {
            assert!(producer.write(n));
        }
        assert!(!producer.write(4));
        producer.publish();
        assert_eq!(consumer.read(), Some(0));
        assert_eq!(producer.room(1), 0, "read but not released");
        consumer.release();
        assert_eq!(producer.room(1), 1);
        assert!(producer.write(4) && !producer.write(5));
    }

    #[test]
    fn senseless_indices_are_reported_and_nothing_moves() {
        let (mut producer, mut consumer) = ends(4, 100);
        consumer.ring.producer_index().store(105, Relaxed);
        assert_eq!(consumer.read(), None);
        consumer.ring.producer_index().store(99, Relaxed);
        assert_eq!(consumer.read(), None);
        assert_eq!(consumer.take_index_faults(), 2);

        producer.ring.consumer_index().store(101, Relaxed);
        assert_eq!(producer.room(5), 0);
        assert_eq!(producer.pending(), 0);
        assert_eq!(producer.take_index_faults(), 2);
    }

    #[test]
    fn two_threads_lose_and_repeat_nothing() {
        const COUNT: u64 = 100_000;
        let (mut producer, mut consumer) = ends(64, u32::MAX - 1000);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..COUNT {
                    while !producer.write(n) {
                        producer.publish();
                        std::thread::yield_now();
                    }
                }
                producer.publish();
            });
            let mut expected = 0;
            while expected < COUNT {
                match consumer.read() {
                    Some(n) => {
                        assert_eq!(n, expected);
                        expected += 1;
                    }
                    None => {
                        consumer.release();
                        std::thread::yield_now();
                    }
                }
            }
        });
    }
}
