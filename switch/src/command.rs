//! What can the control thread ask of a worker, and what does a worker answer?
//!
//! Both travel on bounded single-producer rings. A worker never frees what it is given: whatever it no longer needs goes
//! back in an event, and the control thread drops it.

use crate::capture::Capture;
use crate::config::{DeviceIndex, Snapshot};
use crate::counters::WorkerCounters;
use crate::crossing::Way;
use crate::port::{Receive, Transmit};
use crate::tap::Reader;
use rtrb::{Consumer, Producer};
use std::sync::Arc;

/// The control thread's end of a worker.
pub struct Handle {
    /// What the worker shall do. It obeys in order, at its next turn: wake it if it sleeps.
    pub commands: Producer<Command>,
    /// What it answers.
    pub events: Consumer<Event>,
    /// What it tells of single packets.
    pub tap: Reader,
    /// What it counts.
    pub counters: Arc<WorkerCounters>,
}

/// Control thread → worker.
pub enum Command {
    /// Poll this queue from now on.
    Receive {
        /// The device that the queue belongs to.
        device: DeviceIndex,
        /// The queue's number on that device.
        queue: u16,
        /// Its receiving side.
        side: Box<dyn Receive>,
    },
    /// Transmit on this device from now on; a device has at most one transmitting side on a worker.
    Transmit {
        /// The device.
        device: DeviceIndex,
        /// Its transmitting side.
        side: Box<dyn Transmit>,
    },
    /// Give back every side of this device, and answer [`Event::Detached`]. Either no snapshot in force refers to it any more,
    /// or all workers are held.
    Detach(DeviceIndex),
    /// Exchange packets with this worker from now on.
    Meet {
        /// The other worker.
        worker: u16,
        /// The way there and back.
        way: Way,
    },
    /// Receive nothing until [`Command::Resume`], and answer [`Event::Held`]. Packets wait in their queues; those from other
    /// workers still leave.
    Hold,
    /// Receive again.
    Resume,
    /// Answer [`Event::CamePast`]: what was found in the tables of routes before is no longer used.
    ComePast,
    /// The capture of this number sees packets of its ports from now on.
    Capture(u8, Box<Capture>),
    /// The capture of this number sees no more. Answer [`Event::CaptureEnded`].
    EndCapture(u8),
    /// Forward by this configuration from now on, and answer [`Event::Installed`] with the old one.
    Install(Arc<Snapshot>),
}

/// Worker → control thread.
pub enum Event {
    /// A receiving side, that of the queue with this number, which the worker no longer uses.
    ReceiveReturned(DeviceIndex, u16, Box<dyn Receive>),
    /// A transmitting side that the worker no longer uses.
    TransmitReturned(DeviceIndex, Box<dyn Transmit>),
    /// All sides of the device have been returned.
    Detached(DeviceIndex),
    /// Nothing is received on this worker until it is told to resume.
    Held,
    /// The turn in which it was asked to come past began after the question.
    CamePast,
    /// A capture that the worker no longer uses, if there was one.
    CaptureEnded(Option<Box<Capture>>),
    /// The snapshot of this generation is in force on this worker; the one before it comes back.
    Installed {
        /// Of the snapshot now in force.
        generation: u64,
        /// The snapshot that it replaced.
        old: Arc<Snapshot>,
    },
}
