//! Step 5: which VLAN does the frame belong to?
//!
//! Exits: [`Reason::TaggedOnAccess`], [`Reason::IngressVlan`], [`Reason::IngressCvlan`]; [`Reason::NoPort`] never in
//! practice, the port was there a moment ago.

use crate::batch::Batch;
use crate::config::Snapshot;
use crate::meta::Fate;
use crate::reason::Reason;

/// Classifies all frames by the rules of the ports that they came in by.
#[inline]
pub fn run(batch: &mut Batch, config: &Snapshot) {
    for (_, meta) in batch.live() {
        let classified = config.port(meta.port).ok_or(Reason::NoPort).and_then(|port| port.vlan.ingress(&meta.tags));
        match classified {
            Ok(vlan) => meta.vlan = vlan,
            Err(reason) => meta.fate = Fate::Dropped(reason),
        }
    }
}
