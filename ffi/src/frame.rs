//! Who holds a chunk of a memory area: we or the kernel?
//!
//! Soundness rests on one rule: **there is a [`Frame`] for a chunk exactly while the chunk is ours.** Frames are made once
//! for each chunk ([`carve`]), end when the chunk is lent to the kernel ([`Lent::lend`]), and are made again only when the
//! kernel returns a chunk that is on loan ([`OpenLent::redeem`]). What the kernel returns twice, or never got, makes no frame.

use crate::descriptor::Fault;

/// The only handle to a chunk of one area. Neither copied nor cloned; dropping it loses the chunk, which conservation
/// checks find.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost to its area"]
pub(crate) struct Frame {
    chunk: u32,
}

impl Frame {
    /// The frame of a received piece, which ends with it.
    #[inline]
    pub(crate) fn of_segment(chunk: u64) -> Self {
        Self { chunk: chunk as u32 }
    }

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

/// Which frames of one side of a queue the kernel has: an octet each, which costs less than a bit.
pub(crate) struct Lent {
    first: u32,
    out: Box<[bool]>,
}

impl Lent {
    /// The book of the chunks `first..first + count`, none of them lent.
    pub(crate) fn new(first: u32, count: u32) -> Self {
        Self { first, out: vec![false; count as usize].into() }
    }

    /// The book for a burst: what it needs at hand for each frame, in registers.
    #[inline(always)]
    pub(crate) fn open(&mut self) -> OpenLent<'_> {
        OpenLent { first: self.first, out: &mut self.out }
    }

    /// Ends the frame: its chunk is the kernel's. Returns the chunk's number.
    #[inline]
    pub(crate) fn lend(&mut self, frame: Frame) -> u32 {
        self.open().lend(frame)
    }

    /// How many frames the kernel has; counts them.
    pub(crate) fn lent(&self) -> u32 {
        self.out.iter().filter(|out| **out).count() as u32
    }

    /// How many frames this side owns, wherever they are.
    pub(crate) fn total(&self) -> u32 {
        self.out.len() as u32
    }
}

/// [`Lent`], opened.
pub(crate) struct OpenLent<'a> {
    first: u32,
    out: &'a mut [bool],
}

impl OpenLent<'_> {
    /// As [`Lent::lend`].
    #[inline(always)]
    pub(crate) fn lend(&mut self, frame: Frame) -> u32 {
        let chunk = frame.chunk;
        let out = self.out.get_mut(chunk.wrapping_sub(self.first) as usize).expect("frames stay on their side");
        debug_assert!(!*out, "two frames for chunk {chunk}");
        *out = true;
        chunk
    }

    /// The frame of a chunk that the kernel returns; none if the kernel does not have it.
    #[inline(always)]
    pub(crate) fn redeem(&mut self, chunk: u64) -> Option<Frame> {
        let out = self.out.get_mut(chunk.wrapping_sub(u64::from(self.first)) as usize)?;
        // The numbers of our chunks fit.
        std::mem::replace(out, false).then_some(Frame { chunk: chunk as u32 })
    }

    /// What is wrong with a chunk that the kernel cannot return.
    #[cold]
    pub(crate) fn fault(&self, chunk: u64) -> Fault {
        let index = chunk.wrapping_sub(u64::from(self.first));
        if index < self.out.len() as u64 { Fault::NotLent } else { Fault::Foreign }
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
        assert!(lent.open().redeem(100).is_none());
        assert_eq!(lent.open().fault(100), Fault::NotLent);
        let last = frames.pop().expect("70 frames");
        assert_eq!(lent.lend(last), 169);
        assert_eq!(lent.lent(), 1);
        assert_eq!(lent.open().redeem(169).expect("lent").chunk(), 169);
        assert!(lent.open().redeem(169).is_none());
        for foreign in [0, 99, 170, u64::MAX, 100 | 1 << 32] {
            assert!(lent.open().redeem(foreign).is_none());
            assert_eq!(lent.open().fault(foreign), Fault::Foreign);
        }
        assert_eq!(lent.lent(), 0);
    }
}
