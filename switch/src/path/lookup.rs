//! Step 8: where is the destination?
//!
//! Exits: [`Reason::Hairpin`], [`Reason::StalePort`], [`Reason::MirrorEgress`], [`Reason::Protected`],
//! [`Reason::EgressVlan`]; every packet that is not dropped leaves this step with a fate.

use crate::config::{PortIndex, Snapshot};
use crate::meta::{Fate, Meta};
use crate::path::lane::Lane;
use crate::reason::Reason;
use crate::table::fdb::Place;
use crate::wire::vlan::Tags;

/// The way of the packet before. Packets that go the same way get the same answer.
pub struct Way {
    to: PortIndex,
    from: PortIndex,
    tags: Tags,
    number: u16,
    answer: Fate,
}

impl Way {
    /// The next packet goes another way, even if by the same port.
    #[inline]
    pub fn part(&mut self) {
        self.from = PortIndex::NONE;
    }

    /// No packet went any way yet.
    pub const NONE: Self =
        Self { to: PortIndex::NONE, from: PortIndex::NONE, tags: Tags::NONE, number: 0, answer: Fate::Open };
}

/// Decides the packet's fate.
#[inline(always)]
pub fn one(meta: &mut Meta, destination: Place, lane: &Lane<'_>, way: &mut Way, config: &Snapshot) {
    let to = lane.fdb.lookup_at(destination).unwrap_or(PortIndex::NONE);
    if way.to != to || way.from != meta.port || way.tags != meta.tags {
        let answer = decide(meta, lane, to, config);
        *way = Way { to, from: meta.port, tags: meta.tags, number: way.number + 1, answer };
    }
    (meta.fate, meta.way) = (way.answer, way.number);
}

/// What becomes of a packet for port `to`, [`PortIndex::NONE`] if it is not known.
#[inline(never)]
fn decide(meta: &Meta, lane: &Lane<'_>, to: PortIndex, config: &Snapshot) -> Fate {
    match to {
        PortIndex::NONE => Fate::Flood,
        to => unicast(meta, lane, to, config).unwrap_or_else(Fate::Dropped),
    }
}

/// May the packet leave by port `index`, and is it for the router there?
fn unicast(meta: &Meta, lane: &Lane<'_>, index: PortIndex, config: &Snapshot) -> Result<Fate, Reason> {
    if index == meta.port {
        return Err(Reason::Hairpin);
    }
    let to = config.port(index).filter(|to| to.bridge == lane.port.bridge).ok_or(Reason::StalePort)?;
    if to.mirror.is_output {
        return Err(Reason::MirrorEgress);
    }
    if !lane.port.may_reach(to) {
        return Err(Reason::Protected);
    }
    if !to.vlan.carries(&meta.vlan, &meta.tags) {
        return Err(Reason::EgressVlan);
    }
    Ok(if to.interface.is_some() { Fate::Routed(index) } else { Fate::One(index) })
}
