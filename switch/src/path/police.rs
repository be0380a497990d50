//! Step 3: does the port take the packet at all?
//!
//! Exits: [`Reason::MirrorIngress`], [`Reason::PolicedRate`], [`Reason::PolicedPackets`]. It comes first: what is over the
//! rate teaches nothing and costs nothing more.

use crate::batch::Batch;
use crate::config::{DeviceIndex, Snapshot};
use crate::meta::Fate;
use crate::reason::Reason;
use crate::time::Instant;

/// Drops what the ports of `device` do not take.
#[inline]
pub fn run(batch: &mut Batch, device: DeviceIndex, config: &Snapshot, now: Instant) {
    if !config.device(device).is_some_and(|device| device.guarded) {
        return;
    }
    for (_, meta) in batch.live() {
        let Some(port) = config.port(meta.port) else { continue };
        let admitted = match &port.guard {
            _ if port.mirror.is_output => Err(Reason::MirrorIngress),
            Some(guard) => guard.admit(meta.len, now),
            None => Ok(()),
        };
        if let Err(reason) = admitted {
            meta.fate = Fate::Dropped(reason);
        }
    }
}
