//! Which frames are free to be written? A stack, so that the frame that was used last, still in the cache, is used next.

use crate::frame::Frame;

/// The free frames of one side of a queue. Never grows: it starts full, and only its own frames come back.
pub(crate) struct Pool {
    free: Vec<Frame>,
}

impl Pool {
    /// A pool of these frames.
    pub(crate) fn new(frames: Vec<Frame>) -> Self {
        Self { free: frames }
    }

    /// A pool that is empty but has room for `capacity` frames.
    pub(crate) fn empty(capacity: u32) -> Self {
        Self { free: Vec::with_capacity(capacity as usize) }
    }

    #[inline]
    pub(crate) fn take(&mut self) -> Option<Frame> {
        self.free.pop()
    }

    #[inline]
    pub(crate) fn put(&mut self, frame: Frame) {
        debug_assert!(self.free.len() < self.free.capacity(), "more frames than there are");
        self.free.push(frame);
    }

    /// Puts back frames, of which there can be no more than are missing.
    #[inline(always)]
    pub(crate) fn put_all(&mut self, frames: impl Iterator<Item = Frame>) {
        let mut len = self.free.len();
        for (frame, room) in frames.zip(self.free.spare_capacity_mut()) {
            room.write(frame);
            len += 1;
        }
        // SAFETY: the loop wrote so many behind those that were there.
        unsafe { self.free.set_len(len) };
    }

    /// For who takes many.
    #[inline(always)]
    pub(crate) fn open(&mut self) -> OpenPool<'_> {
        let left = self.free.len();
        OpenPool { left, free: &mut self.free }
    }

    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.free.len() as u32
    }
}

/// [`Pool`], opened.
pub(crate) struct OpenPool<'a> {
    free: &'a mut Vec<Frame>,
    /// How many are left: here rather than in `free`, so that it stays in a register.
    left: usize,
}

impl OpenPool<'_> {
    /// As [`Pool::take`].
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Option<Frame> {
        self.left = self.left.checked_sub(1)?;
        // SAFETY: `left` begins as the number of frames and only falls, so this one is there and was not read before; when this
        // is dropped, the vector is told that it no longer has it.
        Some(unsafe { self.free.as_ptr().add(self.left).read() })
    }
}

impl Drop for OpenPool<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: so many were there, and those behind them were taken.
        unsafe { self.free.set_len(self.left) };
    }
}
