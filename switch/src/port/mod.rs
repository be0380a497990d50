//! Where do packets come from, and where do they go?
//!
//! A device has a receiving and a transmitting side, which need not be the same device nor live on the same worker. Both
//! are handed to workers as trait objects: one virtual call for a burst.

pub mod fault;
pub mod memory;
pub mod xsk;

use crate::limits::BURST;
use crate::path::edit::{Copies, Edit};
use crate::reason::Reason;
use arrayvec::ArrayVec;
use shunt_ffi::Packet;
use std::os::fd::BorrowedFd;

/// The packets of a burst.
pub type Packets<'a> = ArrayVec<Packet<'a>, BURST>;

/// What became of copies that were to be queued.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Octets of those that will leave.
    pub octets: u64,
    /// Why others could not be queued: the place of each among the copies, and a reason.
    pub refused: ArrayVec<(u8, Reason), BURST>,
}

/// The receiving side of one queue of a device.
pub trait Receive: Send {
    /// What to poll for packets; `None` for a queue that no descriptor stands for.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Takes up to `max` packets, which stay readable until [`Receive::release`]. Returns how many are held.
    /// Called only when none are held.
    fn receive(&mut self, max: usize) -> usize;

    /// Puts the held packets into `packets`, in the order in which they came.
    fn packets<'a>(&'a self, packets: &mut Packets<'a>);

    /// Gives the frames of all held packets back to whoever fills them.
    fn release(&mut self);
}

/// The transmitting side of a device, as one worker sees it.
pub trait Transmit: Send {
    /// Writes `copies`, at most [`BURST`], changed as `edit` says, into frames of this device and queues them in order. Before
    /// a device says that it is full it takes what it can. What became of them goes into `sent`, which is empty: it is large.
    fn send(&mut self, copies: Copies<'_>, edit: &Edit, sent: &mut Outcome);

    /// Makes the device take what is queued, and takes back frames it is done with. Returns true while queued packets
    /// remain that it did not take: call again.
    fn flush(&mut self) -> bool;
}
