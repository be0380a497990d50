//! Step 6: behind which port is the sender?
//!
//! Exits, of ports with limits only: [`Reason::MacFlap`], [`Reason::MacLimit`]. A whole burst is learned before any of it is looked up: a packet may thus find a host that a later packet of
//! the same burst has just taught.

use crate::batch::Batch;
use crate::config::{Bridge, Snapshot};
use crate::meta::{Fate, Meta};
use crate::reason::Reason;
use crate::table::fdb::Learned;
use crate::table::guard::MacLimits;
use crate::time::Instant;

/// Learns the sources. Not group addresses, nor in a VLAN that the bridge floods.
#[inline]
pub fn run(batch: &mut Batch, config: &Snapshot, now: Instant) {
    for (_, meta) in batch.live() {
        if let Some(bridge) = config.bridge_of(meta.port)
            && !meta.source.is_group()
            && !bridge.floods(meta.vlan.vlan)
        {
            if bridge.limits_macs {
                within_limits(meta, bridge, config, now);
            } else {
                bridge.fdb.learn(meta.vlan.vlan, meta.source, meta.port, now);
            }
        }
    }
}

#[inline(never)]
fn within_limits(meta: &mut Meta, bridge: &Bridge, config: &Snapshot, now: Instant) {
    let limits = |port| {
        let guard = config.port(port).and_then(|port| port.guard.as_ref());
        guard.map_or(MacLimits::default(), |guard| guard.macs)
    };
    match bridge.fdb.learn_within(meta.vlan.vlan, meta.source, meta.port, now, limits) {
        Learned::Held => meta.fate = Fate::Dropped(Reason::MacFlap),
        Learned::Limited => meta.fate = Fate::Dropped(Reason::MacLimit),
        // What could not be noted now is let through; a later packet will be judged.
        _ => {}
    }
}
