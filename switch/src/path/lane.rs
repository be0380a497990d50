//! What do the steps need to know of the port that a packet came in by?
//!
//! Most packets of a burst come in by one port with the same tags: ports, bridges and rules are looked up when that changes.

use crate::config::{Bridge, Port, PortIndex, Snapshot};
use crate::reason::Reason;
use crate::table::fdb::{Fdb, Site};
use crate::table::vlan::Classified;
use crate::wire::vlan::Tags;

/// A port by which packets come in, and its bridge.
pub struct Lane<'a> {
    /// The port's number.
    pub index: PortIndex,
    /// The port.
    pub port: &'a Port,
    /// Its bridge.
    pub bridge: &'a Bridge,
    /// The bridge's FDB.
    pub fdb: &'a Fdb,
    /// The tags that were classified last.
    tags: Tags,
    /// What they came to.
    vlan: Result<Classified, Reason>,
    /// Where the FDB has the hosts of that VLAN; nowhere, if nothing is learned in it and all flooded.
    pub site: Site,
}

/// The lane of the last packet, which is probably that of the next.
pub struct Lanes<'a> {
    config: &'a Snapshot,
    index: PortIndex,
    lane: Option<Lane<'a>>,
}

impl<'a> Lanes<'a> {
    /// None looked up yet.
    #[inline]
    pub fn new(config: &'a Snapshot) -> Self {
        Self { config, index: PortIndex::NONE, lane: None }
    }

    /// The lane of the port, if it and its bridge are configured.
    #[inline(always)]
    pub fn of(&mut self, index: PortIndex) -> Option<&mut Lane<'a>> {
        if self.index != index {
            self.index = index;
            self.lane = lane(self.config, index);
        }
        self.lane.as_mut()
    }
}

#[inline(never)]
fn lane(config: &Snapshot, index: PortIndex) -> Option<Lane<'_>> {
    let port = config.port(index)?;
    let bridge = config.bridges.get(usize::from(port.bridge))?;
    let (vlan, fdb) = (Err(Reason::NoPort), &*bridge.fdb);
    let mut lane = Lane { index, port, bridge, fdb, tags: Tags::NONE, vlan, site: Site::NOWHERE };
    lane.reclassify(Tags::NONE);
    Some(lane)
}

impl Lane<'_> {
    /// The VLAN of a frame with these tags, or why it may not come in.
    #[inline]
    pub fn classify(&mut self, tags: &Tags) -> Result<Classified, Reason> {
        if self.tags != *tags {
            self.reclassify(*tags);
        }
        self.vlan
    }

    #[inline(never)]
    fn reclassify(&mut self, tags: Tags) {
        self.tags = tags;
        self.vlan = self.port.vlan.ingress(&tags);
        self.site = match self.vlan {
            Ok(Classified { vlan, .. }) if !self.bridge.floods(vlan) => Site::of(vlan),
            _ => Site::NOWHERE,
        };
    }
}
