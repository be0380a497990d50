//! Who holds a chunk of a memory area: we or the kernel?
//!
//! Soundness rests on one rule: **there is a [`Frame`] for a chunk exactly while the chunk is ours.** Frames are made once
//! for each chunk ([`carve`]), end when the chunk is lent to the kernel ([`Lent::lend`]), and are made again only when the
//! kernel returns a chunk that is on loan ([`Lent::redeem`]). What the kernel returns twice, or never got, makes no frame.

use crate::descriptor::Fault;

/// The only handle to a chunk of one area. Neither copied nor cloned; dropping it loses the chunk, which conservation
/// checks find.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost to its area"]
pub(crate) struct Frame {
    chunk: u32,
}

impl Frame {
    /// The chunk's number in its area.
    #[inline]
    pub(crate) fn chunk(&self) -> u32 {
        self.chunk
    }
}

/// The frames of the chunks `first..first + count` of an area. Call once for each chunk: the caller divides the area.
pub(crate) fn carve(first: u32, count: u32) -> Vec<Frame> {
    (first..first + count).map(|chunk| Frame { chunk }).collect()
}

/// Which frames of one side of a queue the kernel has: one bit each.
pub(crate) struct Lent {
    first: u32,
    count: u32,
    bits: Box<[u64]>,
    lent: u32,
}

impl Lent {
    /// The book of the chunks `first..first + count`, none of them lent.
    pub(crate) fn new(first: u32, count: u32) -> Self {
        Self { first, count, bits: vec![0; count.div_ceil(64) as usize].into(), lent: 0 }
    }

    /// Ends the frame: its chunk is the kernel's. Returns the chunk's number.
    #[inline]
    pub(crate) fn lend(&mut self, frame: Frame) -> u32 {
        let (word, bit) = self.place(frame.chunk).expect("frames stay on their side");
        debug_assert!(self.bits[word] & bit == 0, "two frames for chunk {}", frame.chunk);
        self.bits[word] |= bit;
        self.lent += 1;
        frame.chunk
    }

    /// The frame of a chunk that the kernel returns.
    #[inline]
    pub(crate) fn redeem(&mut self, chunk: u32) -> Result<Frame, Fault> {
        let (word, bit) = self.place(chunk).ok_or(Fault::Foreign)?;
        if self.bits[word] & bit == 0 {
            return Err(Fault::NotLent);
        }
        self.bits[word] &= !bit;
        self.lent -= 1;
        Ok(Frame { chunk })
    }

    /// How many frames the kernel has.
    pub(crate) fn lent(&self) -> u32 {
        self.lent
    }

    /// How many frames this side owns, wherever they are.
    pub(crate) fn total(&self) -> u32 {
        self.count
    }

    #[inline]
    fn place(&self, chunk: u32) -> Option<(usize, u64)> {
        let index = chunk.checked_sub(self.first).filter(|&index| index < self.count)?;
        Some(((index / 64) as usize, 1 << (index % 64)))
    }
}

/// Where the frames of one side of a queue are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCount {
    /// All frames of this side.
    pub total: u32,
    /// Free, or waiting to be given to the kernel again.
    pub free: u32,
    /// Held by received packets.
    pub held: u32,
    /// In the rings or with the kernel.
    pub in_kernel: u32,
}

impl FrameCount {
    /// False if a frame is lost or exists twice.
    pub fn is_conserved(&self) -> bool {
        self.free + self.held + self.in_kernel == self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_comes_back_once_and_only_if_lent() {
        let mut lent = Lent::new(100, 70);
        let mut frames = carve(100, 70);
        assert_eq!(lent.redeem(100).unwrap_err(), Fault::NotLent);
        let last = frames.pop().expect("70 frames");
        assert_eq!(lent.lend(last), 169);
        assert_eq!(lent.lent(), 1);
        assert_eq!(lent.redeem(169).expect("lent").chunk(), 169);
        assert_eq!(lent.redeem(169).unwrap_err(), Fault::NotLent);
        for foreign in [0, 99, 170, u32::MAX] {
            assert_eq!(lent.redeem(foreign).unwrap_err(), Fault::Foreign);
        }
        assert_eq!(lent.lent(), 0);
    }
}
