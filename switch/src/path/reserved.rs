//! Step 4: is the destination one that a bridge keeps to itself?
//!
//! Exit: [`Reason::ReservedMulticast`]. It comes before learning: such a frame teaches nothing.

use crate::batch::Batch;
use crate::config::Snapshot;
use crate::meta::Fate;
use crate::reason::Reason;

/// Drops frames to reserved addresses, unless their bridge forwards them.
#[inline]
pub fn run(batch: &mut Batch, config: &Snapshot) {
    for (_, meta) in batch.live() {
        if meta.destination.is_reserved() && !config.bridge_of(meta.port).is_some_and(|bridge| bridge.forward_bpdu) {
            meta.fate = Fate::Dropped(Reason::ReservedMulticast);
        }
    }
}
