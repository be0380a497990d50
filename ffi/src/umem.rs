//! Where do frames live? One memory area for each device, cut into chunks, shared with the kernel.
//!
//! A chunk is reached only through its [`Frame`], the one handle to it, so octets that the kernel may be writing are never
//! borrowed: while the kernel has a chunk, there is no handle.

use crate::descriptor::{Chunks, Segment};
use crate::error::SyscallError;
use crate::frame::Frame;
use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};
use std::alloc::Layout;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

/// Chunk sizes that the kernel takes on a machine with pages of 4 KiB.
pub const CHUNK_BYTES: [u32; 2] = [2048, 4096];

/// A memory area cut into chunks.
pub struct Umem {
    base: NonNull<u8>,
    chunks: u32,
    cut: Chunks,
    /// Octets in the whole area.
    len: usize,
    backing: Backing,
}

enum Backing {
    /// Kept open so that a successor can inherit the area.
    Memfd(OwnedFd),
    /// For tests that play the kernel.
    Heap(Layout),
}

// SAFETY: the area is plain memory at a fixed address. Its octets are reached only through `Frame`s, of which there is one
// for each chunk, so two threads never reach the same octets unless they share the frame by `&`.
unsafe impl Send for Umem {}
// SAFETY: as above.
unsafe impl Sync for Umem {}

impl Umem {
    /// An area in a memfd, for the kernel. `name` is what `/proc/PID/maps` shows.
    pub fn memfd(name: &str, chunks: u32, chunk_bytes: u32) -> Result<Self, SyscallError> {
        let invalid = || SyscallError::new("mmap", name, rustix::io::Errno::INVAL);
        if chunks == 0 || !CHUNK_BYTES.contains(&chunk_bytes) {
            return Err(invalid());
        }
        let len = u64::from(chunks) * u64::from(chunk_bytes);
        let size = usize::try_from(len).map_err(|_| invalid())?;
        let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)
            .map_err(|errno| SyscallError::new("memfd_create", name, errno))?;
        rustix::fs::ftruncate(&fd, len).map_err(|errno| SyscallError::new("ftruncate(memfd)", name, errno))?;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), size, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &fd, 0)
        }
        .map_err(|errno| SyscallError::new("mmap(memfd)", name, errno))?;
        let base = NonNull::new(base.cast()).ok_or_else(invalid)?;
        Ok(Self { base, chunks, cut: Chunks::of(chunk_bytes), len: size, backing: Backing::Memfd(fd) })
    }

    /// An area on the heap, for tests: every octet is 0xa5, so that one that nobody wrote is seen.
    pub fn heap(chunks: u32, chunk_bytes: u32) -> Self {
        assert!(chunks > 0 && CHUNK_BYTES.contains(&chunk_bytes));
        let layout = Layout::from_size_align(chunks as usize * chunk_bytes as usize, 4096).expect("a sane size");
        // SAFETY: the layout's size is not zero.
        let base = NonNull::new(unsafe { std::alloc::alloc(layout) }).expect("memory for a test");
        // SAFETY: `base` points to `layout.size()` octets of ours.
        unsafe { base.write_bytes(0xa5, layout.size()) };
        Self { base, chunks, cut: Chunks::of(chunk_bytes), len: layout.size(), backing: Backing::Heap(layout) }
    }

    /// Number of chunks.
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Octets in a chunk: a power of two.
    pub fn chunk_bytes(&self) -> u32 {
        self.cut.bytes()
    }

    /// The memfd, if the area is one: a successor process can map it.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.backing {
            Backing::Memfd(fd) => Some(fd.as_fd()),
            Backing::Heap(_) => None,
        }
    }

    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Octets in the whole area.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How it is cut.
    #[inline]
    pub(crate) fn cut(&self) -> Chunks {
        self.cut
    }

    /// The octets `offset..offset + len` of the frame's chunk.
    #[inline]
    pub(crate) fn octets<'a>(&'a self, frame: &'a Frame, offset: u32, len: u32) -> &'a [u8] {
        assert!(offset <= self.chunk_bytes() && len <= self.chunk_bytes() - offset);
        // SAFETY: `start` checks that the chunk lies in the area, the line above that the octets lie in the chunk. The frame
        // is the chunk's only handle and borrowed shared, so nobody writes while the slice lives.
        unsafe { std::slice::from_raw_parts(self.start(frame).add(offset as usize), len as usize) }
    }

    /// The octets of a received piece.
    #[inline]
    pub(crate) fn piece<'a>(&'a self, segment: &'a Segment) -> &'a [u8] {
        let (addr, len) = (segment.addr() as usize, segment.len() as usize);
        assert!(addr + len <= self.len, "a piece of another area");
        // SAFETY: the line above checks that the octets lie in the area. The segment is the only handle to its chunk, in which they
        // were found to lie when it was made, and borrowed shared, so nobody writes while the slice lives.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(addr), len) }
    }

    /// The whole chunk of the frame, to write.
    #[inline]
    pub(crate) fn octets_mut<'a>(&'a self, frame: &'a mut Frame) -> &'a mut [u8] {
        // SAFETY: `start` checks that the chunk lies in the area; the frame is its only handle and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start(frame), self.chunk_bytes() as usize) }
    }

    /// The `len` octets from `offset` on of the frame's chunk, to write.
    #[inline(always)]
    pub(crate) fn room<'a>(&'a self, frame: &'a mut Frame, offset: u32, len: u32) -> &'a mut [u8] {
        assert!(u64::from(offset) + u64::from(len) <= u64::from(self.chunk_bytes()));
        // SAFETY: `start` checks that the chunk lies in the area, the line above that the octets lie in the chunk; the frame is
        // its only handle and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start(frame).add(offset as usize), len as usize) }
    }

    #[inline(always)]
    fn start(&self, frame: &Frame) -> *mut u8 {
        assert!(frame.chunk() < self.chunks);
        // SAFETY: the chunk lies inside the area.
        unsafe { self.base.as_ptr().add(self.cut.start(frame.chunk()) as usize) }
    }
}

impl Drop for Umem {
    fn drop(&mut self) {
        match &self.backing {
            // SAFETY: the mapping is ours, and slices of it borrow `self`. The kernel holds its own reference to the pages.
            Backing::Memfd(_) => drop(unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len()) }),
            // SAFETY: allocated with this layout.
            Backing::Heap(layout) => unsafe { std::alloc::dealloc(self.base.as_ptr(), *layout) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::carve;

    #[test]
    fn frames_of_an_area_do_not_overlap() {
        for umem in [Umem::heap(4, 2048), Umem::memfd("test", 4, 2048).expect("memfd")] {
            let mut frames = carve(0, umem.chunks());
            for (value, frame) in frames.iter_mut().enumerate() {
                umem.octets_mut(frame).fill(value as u8);
            }
            for (value, frame) in frames.iter().enumerate() {
                assert!(umem.octets(frame, 0, 2048).iter().all(|&octet| octet == value as u8));
            }
        }
    }

    #[test]
    fn senseless_sizes_are_refused() {
        assert!(Umem::memfd("test", 0, 2048).is_err());
        assert!(Umem::memfd("test", 4, 3000).is_err());
    }
}
