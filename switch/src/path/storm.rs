//! Step 9: is there too much to flood?
//!
//! Exits: [`Reason::StormBroadcast`], [`Reason::StormUnknown`], [`Reason::StormMulticast`]. Broadcast, multicast and
//! unknown unicast are limited at the port that they come in by, each on its own.
//!
//! [`Reason::StormBroadcast`]: crate::reason::Reason::StormBroadcast
//! [`Reason::StormUnknown`]: crate::reason::Reason::StormUnknown
//! [`Reason::StormMulticast`]: crate::reason::Reason::StormMulticast

use crate::batch::Batch;
use crate::config::{Device, Snapshot};
use crate::meta::Fate;
use crate::time::Instant;

/// Drops floods that are over the limits of the ports of `device`.
#[inline]
pub fn run(batch: &mut Batch, device: &Device, config: &Snapshot, now: Instant) {
    if !device.guarded {
        return;
    }
    for (_, meta) in batch.live() {
        if meta.fate == Fate::Flood
            && let Some(guard) = config.port(meta.port).and_then(|port| port.guard.as_ref())
            && let Err(reason) = guard.flood(meta.destination, now)
        {
            meta.fate = Fate::Dropped(reason);
        }
    }
}
