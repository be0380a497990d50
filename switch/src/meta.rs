//! What do the steps know about one packet?

use crate::config::PortIndex;
use crate::path::checksum::Unfinished;
use crate::reason::Reason;
use crate::table::vlan::Classified;
use crate::wire::ethernet::Mac;
use crate::wire::vlan::Tags;

/// What is to become of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// Not decided yet.
    #[default]
    Open,
    /// It goes to this port.
    One(PortIndex),
    /// It goes to all other ports of its VLAN.
    Flood,
    /// It goes to the router whose interface is behind this port, and from there on as a packet that comes in by another one.
    Routed(PortIndex),
    /// It goes to those other ports of its VLAN that multicast snooping knows to want it.
    Snooped(Audience),
    /// It goes nowhere.
    Dropped(Reason),
}

/// Who wants a packet to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// It is a report: routers.
    Routers,
    /// Members of its group, and routers.
    Members,
}

/// The record of one packet: one cache line, written from left to right as the packet travels.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Meta {
    /// To whom.
    pub destination: Mac,
    /// From whom.
    pub source: Mac,
    /// Octets of the packet as received.
    pub len: u32,
    /// The port that it came in by, or [`PortIndex::NONE`].
    pub port: PortIndex,
    /// What follows the tags.
    pub ethertype: u16,
    /// The tags that the bridge sees.
    pub tags: Tags,
    /// The VLAN that it belongs to.
    pub vlan: Classified,
    /// Octets of the tag by which the device's port was chosen: between the addresses and what the bridge sees.
    pub link_octets: u8,
    /// Where what follows the tags begins.
    pub payload: u8,
    /// The router sends it: its addresses are not those of the frame that came in, and its hop limit is one less.
    pub routed: bool,
    /// What is to become of it.
    pub fate: Fate,
    /// The same for packets that follow each other from one port with the same tags the same way.
    pub way: u16,
    /// The checksum that the sender left to its device, if any.
    pub unfinished: Unfinished,
    /// The finished checksum, once it was needed.
    pub finished: Option<[u8; 4]>,
    /// A copy of it did not leave, for this reason: the only one, where its fate is one port.
    pub lost: Option<Reason>,
}

const _: () = assert!(size_of::<Meta>() == 64);

impl Default for Meta {
    fn default() -> Self {
        Self {
            destination: Mac(0),
            source: Mac(0),
            unfinished: Unfinished::None,
            finished: None,
            lost: None,
            len: 0,
            tags: Tags::default(),
            vlan: Classified::default(),
            port: PortIndex::NONE,
            ethertype: 0,
            fate: Fate::Open,
            link_octets: 0,
            payload: 0,
            routed: false,
            way: 0,
        }
    }
}

impl Meta {
    /// Where the payload begins: after the Ethernet header and the tags.
    #[inline]
    pub fn payload_offset(&self) -> usize {
        usize::from(self.payload)
    }
}
