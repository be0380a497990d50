//! Step 5: behind which port is the sender?
//!
//! No exits. A whole burst is learned before any of it is looked up: a packet may thus find a host that a later packet of
//! the same burst has just taught.

use crate::batch::Batch;
use crate::config::Snapshot;
use crate::time::Instant;

/// Learns the sources. Not group addresses, nor in a VLAN that the bridge floods.
#[inline]
pub fn run(batch: &mut Batch, config: &Snapshot, now: Instant) {
    for (_, meta) in batch.live() {
        if let Some(bridge) = config.bridge_of(meta.port)
            && !meta.source.is_group()
            && !bridge.floods(meta.vlan.vlan)
        {
            bridge.fdb.learn(meta.vlan.vlan, meta.source, meta.port, now);
        }
    }
}
