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

    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.free.len() as u32
    }
}
