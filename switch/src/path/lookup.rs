//! Step 7: where is the destination?
//!
//! Exits: [`Reason::Hairpin`], [`Reason::StalePort`], [`Reason::MirrorEgress`], [`Reason::Protected`],
//! [`Reason::EgressVlan`]; every packet that is not dropped leaves this step with a fate.

use crate::batch::Batch;
use crate::config::Snapshot;
use crate::meta::{Fate, Meta};
use crate::reason::Reason;

/// Decides the fate of all packets.
#[inline]
pub fn run(batch: &mut Batch, config: &Snapshot) {
    for (_, meta) in batch.live() {
        meta.fate = one(meta, config).unwrap_or_else(Fate::Dropped);
    }
}

#[inline]
fn one(meta: &Meta, config: &Snapshot) -> Result<Fate, Reason> {
    let from = config.port(meta.port).ok_or(Reason::NoPort)?;
    let bridge = config.bridges.get(usize::from(from.bridge)).ok_or(Reason::NoPort)?;
    if meta.destination.is_group() || bridge.floods(meta.vlan.vlan) {
        return Ok(Fate::Flood);
    }
    let Some(index) = bridge.fdb.lookup(meta.vlan.vlan, meta.destination) else { return Ok(Fate::Flood) };
    if index == meta.port {
        return Err(Reason::Hairpin);
    }
    let to = config.port(index).filter(|to| to.bridge == from.bridge).ok_or(Reason::StalePort)?;
    if to.mirror.is_output {
        return Err(Reason::MirrorEgress);
    }
    if from.protected && to.protected {
        return Err(Reason::Protected);
    }
    if !to.vlan.carries(&meta.vlan, &meta.tags) {
        return Err(Reason::EgressVlan);
    }
    Ok(Fate::One(index))
}
