//! Where do packets come from, and where do they go?
//!
//! A device has a receiving and a transmitting side, which need not be the same device nor live on the same worker. Both
//! are handed to workers as trait objects: one virtual call a burst to receive, one a packet to send.

pub mod fault;
pub mod memory;
pub mod xsk;

use crate::path::edit::Edit;
use crate::reason::Reason;
use shunt_ffi::Packet;
use std::os::fd::BorrowedFd;

/// The receiving side of one queue of a device.
pub trait Receive: Send {
    /// What to poll for packets; `None` for a queue that no descriptor stands for.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Takes up to `max` packets, which stay readable until [`Receive::release`]. Returns how many are held.
    /// Called only when none are held.
    fn receive(&mut self, max: usize) -> usize;

    /// The held packet number `index`, below what [`Receive::receive`] returned.
    fn packet(&self, index: usize) -> Packet<'_>;

    /// The first segment of the held packet number `index`, which holds its headers, and the octets of the whole packet.
    fn head(&self, index: usize) -> (&[u8], usize);

    /// Gives the frames of all held packets back to whoever fills them.
    fn release(&mut self);
}

/// The transmitting side of a device, as one worker sees it.
pub trait Transmit: Send {
    /// Writes a copy of `packet`, changed as `edit` says, into a frame of this device and queues it. Returns the octets
    /// that will leave, or why the copy could not be queued; before a device says that it is full it takes what it can.
    fn send(&mut self, packet: &Packet<'_>, edit: &Edit) -> Result<usize, Reason>;

    /// Makes the device take what is queued, and takes back frames it is done with. Returns true while queued packets
    /// remain that it did not take: call again.
    fn flush(&mut self) -> bool;
}
