//! Where does a large table live whose size is not known before? Zeroed words that cost memory only where they are touched.

use crate::error::SyscallError;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// A mapping of words, all zero at first: anonymous, on huge pages where the kernel has some, or a BPF map's memory.
pub struct Words {
    base: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: the words are atomics in memory that belongs to this value until it is dropped.
unsafe impl Send for Words {}
// SAFETY: as above; a shared reference gives atomics only.
unsafe impl Sync for Words {}

impl Words {
    /// Room for `len` words (at least one). Fails if the address space or the process's limits do not have it.
    pub fn new(len: usize) -> Result<Self, SyscallError> {
        let error = |errno| SyscallError::new("mmap", format!("{len} words"), errno);
        let bytes = len.max(1).checked_mul(size_of::<AtomicU64>()).ok_or_else(|| error(rustix::io::Errno::NOMEM))?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, flags)
        }
        .map_err(error)?;
        // Only a wish: without huge pages everything works, with more TLB misses.
        // SAFETY: the range is the mapping just made; the advice changes no content.
        let _ = unsafe { rustix::mm::madvise(base, bytes, Advice::LinuxHugepage) };
        let base = NonNull::new(base.cast()).ok_or_else(|| error(rustix::io::Errno::NOMEM))?;
        Ok(Self { base, len: len.max(1) })
    }

    /// The first `len` words (at least one) of a BPF array that can be mapped (BPF_F_MMAPABLE). Fails if it is shorter.
    pub(crate) fn of_map(map: BorrowedFd<'_>, len: usize) -> Result<Self, SyscallError> {
        let error = |errno| SyscallError::new("mmap", format!("BPF map of {len} words"), errno);
        let bytes = len.max(1) * size_of::<AtomicU64>();
        // SAFETY: a fresh mapping at an address of the kernel's choice; what else has the memory, programs in the kernel and
        // other mappings, are not references of this program, and all access here is atomic.
        let base = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, map, 0)
        }
        .map_err(error)?;
        let base = NonNull::new(base.cast()).ok_or_else(|| error(rustix::io::Errno::NOMEM))?;
        Ok(Self { base, len: len.max(1) })
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `len` words were mapped there, page-aligned; any value is a valid AtomicU64; the mapping lives as long as
        // `self`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, of this length, and no reference into it outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len * size_of::<AtomicU64>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn words_are_zero_and_keep_what_is_stored() {
        let words = Words::new(1 << 20).unwrap();
        assert_eq!(words.len(), 1 << 20);
        for at in [0, 1, 511, 512, (1 << 20) - 1] {
            assert_eq!(words[at].load(Relaxed), 0);
            words[at].store(at as u64 + 1, Relaxed);
            assert_eq!(words[at].load(Relaxed), at as u64 + 1);
        }
    }

    #[test]
    fn more_than_there_can_be_is_an_error() {
        let error = Words::new(usize::MAX / 8).map(drop).unwrap_err();
        assert!(error.to_string().contains("mmap"), "{error}");
    }
}
