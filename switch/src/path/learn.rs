//! Step 7: behind which port is the sender?
//!
//! Exits, of ports with limits only: [`Reason::MacFlap`], [`Reason::MacLimit`].

use crate::config::{Bridge, Snapshot};
use crate::meta::Meta;
use crate::path::lane::Lane;
use crate::reason::Reason;
use crate::table::fdb::{Learned, Place};
use crate::table::guard::MacLimits;
use crate::time::Instant;

/// Where the FDB has the sender and the receiver, if it has them; the octets there are on their way into the cache.
#[inline]
pub fn places(meta: &Meta, lane: &Lane<'_>) -> [Place; 2] {
    [lane.fdb.place(lane.site, meta.source), lane.fdb.place(lane.site, meta.destination)]
}

/// Learns the source. Not a group address, nor in a VLAN that the bridge floods.
#[inline(always)]
pub fn one(
    meta: &Meta,
    source: Place,
    lane: &Lane<'_>,
    config: &Snapshot,
    now: Instant,
    now_ms: u64,
) -> Result<(), Reason> {
    if lane.fdb.is_fresh(source, meta.port, now_ms) { Ok(()) } else { news(meta, lane.bridge, config, now) }
}

#[inline(never)]
fn news(meta: &Meta, bridge: &Bridge, config: &Snapshot, now: Instant) -> Result<(), Reason> {
    if meta.source.is_group() || bridge.floods(meta.vlan.vlan) {
        return Ok(());
    }
    if !bridge.limits_macs {
        bridge.fdb.learn(meta.vlan.vlan, meta.source, meta.port, now);
        return Ok(());
    }
    let limits = |port| {
        let guard = config.port(port).and_then(|port| port.guard.as_ref());
        guard.map_or(MacLimits::default(), |guard| guard.macs)
    };
    match bridge.fdb.learn_within(meta.vlan.vlan, meta.source, meta.port, now, limits) {
        Learned::Held => Err(Reason::MacFlap),
        Learned::Limited => Err(Reason::MacLimit),
        // What could not be noted now is let through; a later packet will be judged.
        _ => Ok(()),
    }
}
