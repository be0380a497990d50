//! What does a message of the kernel say about routes, next-hop objects, neighbours, rules and devices?
//!
//! Routes and neighbours are read by netlink-packet-route; it does not know next-hop objects (`linux/nexthop.h`), which are
//! read here.

use super::rib::{Hops, Kind, NextHop, Object, Placing, Route, Table};
use super::rules::Rule;
use ipnet::IpNet;
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_REPLACE, NetlinkBuffer, NlasIterator, Parseable};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteType, RouteVia,
};
use shunt_switch::wire::ethernet::Mac;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
/// Octets of `struct ifinfomsg`.
const IFINFOMSG: usize = 16;
const IFF_UP: u32 = 1;
/// Octets of `struct nhmsg`.
const NHMSG: usize = 8;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_FDB: u16 = 11;

/// Something changed in the kernel's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A route came.
    Route(Route, Placing),
    /// A route went.
    RouteGone(Route),
    /// A next-hop object came or changed.
    Object(u32, Object),
    /// A next-hop object went.
    ObjectGone(u32),
    /// The device of this number is up.
    DeviceUp(u32),
    /// It is down, or gone.
    DeviceDown(u32),
    /// A rule came that may lead packets of others to tables that are not followed.
    Rule(Rule),
    /// One went.
    RuleGone(Rule),
    /// A neighbour's MAC address became known, or is no longer to be used.
    Neighbour {
        /// The device that it is on.
        ifindex: u32,
        /// Who it is.
        address: IpAddr,
        /// Where it is, if packets may go there.
        mac: Option<Mac>,
    },
}

/// What one message (header included) says; none if nothing of that.
///
/// # Errors
/// A text, if the message breaks its own format.
pub fn decode(message: &[u8]) -> Result<Option<News>, String> {
    let buffer = NetlinkBuffer::new_checked(&message).map_err(|error| error.to_string())?;
    let (payload, flags) = (buffer.payload(), buffer.flags());
    let text = |error: rtnetlink::packet_core::DecodeError| error.to_string();
    Ok(match buffer.message_type() {
        RTM_NEWLINK => device(payload, true),
        RTM_DELLINK => device(payload, false),
        RTM_NEWROUTE => {
            let placing = match flags {
                flags if flags & NLM_F_REPLACE != 0 => Placing::Replace,
                flags if flags & NLM_F_APPEND != 0 => Placing::Append,
                _ => Placing::Create,
            };
            route(&RouteMessage::parse(payload).map_err(text)?).map(|route| News::Route(route, placing))
        }
        RTM_DELROUTE => route(&RouteMessage::parse(payload).map_err(text)?).map(News::RouteGone),
        RTM_NEWNEIGH => neighbour(&NeighbourMessage::parse(payload).map_err(text)?, true),
        RTM_DELNEIGH => neighbour(&NeighbourMessage::parse(payload).map_err(text)?, false),
        RTM_NEWRULE => Rule::read(payload)?.map(News::Rule),
        RTM_DELRULE => Rule::read(payload)?.map(News::RuleGone),
        RTM_NEWNEXTHOP => object(payload)?.map(|(id, object)| News::Object(id, object)),
        RTM_DELNEXTHOP => object(payload)?.map(|(id, _)| News::ObjectGone(id)),
        _ => None,
    })
}

/// `struct ifinfomsg`: family, type, number, flags. Bridges speak of their ports in messages of a family of their own.
fn device(payload: &[u8], is_there: bool) -> Option<News> {
    let header = payload.get(..IFINFOMSG).filter(|header| header[0] == 0)?;
    let (ifindex, flags) = (u32_of(&header[4..8])?, u32_of(&header[8..12])?);
    Some(if is_there && flags & IFF_UP != 0 { News::DeviceUp(ifindex) } else { News::DeviceDown(ifindex) })
}

/// The route, if it is one of those that packets from others follow.
fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    // Cached clones are no routes; those for one TOS or one source are the operator's own business, left to the kernel.
    if header.flags.contains(RouteFlags::Cloned) || header.tos != 0 || header.source_prefix_length != 0 {
        return None;
    }
    let kind = match header.kind {
        RouteType::Unicast => Kind::Unicast,
        RouteType::Local | RouteType::Anycast => Kind::Local,
        RouteType::Broadcast => Kind::Broadcast,
        RouteType::BlackHole => Kind::Blackhole,
        RouteType::Unreachable => Kind::Unreachable,
        RouteType::Prohibit => Kind::Prohibit,
        RouteType::Throw => Kind::Throw,
        _ => return None,
    };
    let (mut table, mut metric, mut destination, mut id) = (u32::from(header.table), 0, None, None);
    let (mut own, mut several) = (NextHop { ifindex: 0, gateway: None, weight: 1, dead: false }, Vec::new());
    own.dead = header.flags.contains(RouteFlags::Dead);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Destination(address) => destination = ip(address),
            RouteAttribute::Oif(ifindex) => own.ifindex = *ifindex,
            RouteAttribute::Gateway(address) => own.gateway = ip(address),
            RouteAttribute::Via(via) => own.gateway = via_ip(via),
            RouteAttribute::MultiPath(hops) => several = hops.iter().map(next_hop).collect(),
            RouteAttribute::NhId(number) => id = Some(*number),
            _ => {}
        }
    }
    let unspecified = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let prefix = IpNet::new(destination.unwrap_or(unspecified), header.destination_prefix_length).ok()?;
    let hops = match id {
        // With an object, what else the message shows of next hops is a copy of it.
        Some(id) => Hops::Object(id),
        None if several.is_empty() => Hops::Own(vec![own]),
        None => Hops::Own(several),
    };
    Some(Route { table: Table::of(table)?, prefix, metric, protocol: header.protocol.into(), kind, hops })
}

fn next_hop(hop: &RouteNextHop) -> NextHop {
    let gateway = hop.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(via) => via_ip(via),
        _ => None,
    });
    let dead = hop.flags.contains(RouteNextHopFlags::Dead);
    NextHop { ifindex: hop.interface_index, gateway, weight: u16::from(hop.hops) + 1, dead }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn via_ip(via: &RouteVia) -> Option<IpAddr> {
    match via {
        RouteVia::Inet(address) => Some((*address).into()),
        RouteVia::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn neighbour(message: &NeighbourMessage, is_there: bool) -> Option<News> {
    // Others are the FDBs of bridges and VXLAN.
    if !matches!(message.header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        return None;
    }
    let is_usable = is_there
        && matches!(
            message.header.state,
            NeighbourState::Permanent
                | NeighbourState::Noarp
                | NeighbourState::Reachable
                | NeighbourState::Stale
                | NeighbourState::Delay
                | NeighbourState::Probe
        );
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(IpAddr::from(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some(IpAddr::from(*ip)),
            NeighbourAttribute::LinkLayerAddress(octets) => mac = <[u8; 6]>::try_from(&octets[..]).ok().map(Mac::new),
            _ => {}
        }
    }
    let mac = mac.filter(|mac| is_usable && !mac.is_group() && *mac != Mac::default());
    Some(News::Neighbour { ifindex: message.header.ifindex, address: address?, mac })
}

/// `struct nhmsg` and attributes, `linux/nexthop.h`.
fn object(payload: &[u8]) -> Result<Option<(u32, Object)>, String> {
    let header = payload.get(..NHMSG).ok_or("a next-hop object shorter than its header")?;
    let flags = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
    let dead = flags & u32::from(RouteNextHopFlags::Dead.bits()) != 0;
    let mut hop = NextHop { ifindex: 0, gateway: None, weight: 1, dead };
    let (mut id, mut group, mut is_blackhole) = (None, None, false);
    for attribute in NlasIterator::new(&payload[NHMSG..]) {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let value = attribute.value();
        match attribute.kind() {
            NHA_ID => id = u32_of(value),
            NHA_OIF => hop.ifindex = u32_of(value).ok_or("NHA_OIF is not 4 octets")?,
            NHA_GATEWAY => hop.gateway = gateway(value),
            NHA_GROUP => group = Some(value.as_chunks::<8>().0.iter().map(member).collect()),
            NHA_BLACKHOLE => is_blackhole = true,
            // For VXLAN's FDB, not for routes.
            NHA_FDB => return Ok(None),
            _ => {}
        }
    }
    let object = match group {
        Some(members) => Object::Group(members),
        None if is_blackhole => Object::Blackhole,
        None => Object::Single(hop),
    };
    Ok(id.map(|id| (id, object)))
}

/// `struct nexthop_grp`: number, weight less one in two halves, reserved.
fn member(octets: &[u8; 8]) -> (u32, u16) {
    let id = u32::from_ne_bytes([octets[0], octets[1], octets[2], octets[3]]);
    (id, u16::from_le_bytes([octets[4], octets[5]]).saturating_add(1))
}

fn u32_of(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

fn gateway(value: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(value).ok().map(IpAddr::from);
    v4().or_else(|| <[u8; 16]>::try_from(value).ok().map(IpAddr::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    const KINDS: [u16; 10] = [
        RTM_NEWRULE,
        RTM_DELRULE,
        RTM_NEWLINK,
        RTM_DELLINK,
        RTM_NEWROUTE,
        RTM_DELROUTE,
        RTM_NEWNEIGH,
        RTM_DELNEIGH,
        RTM_NEWNEXTHOP,
        RTM_DELNEXTHOP,
    ];

    proptest! {
        /// A message that is broken is an error or tells nothing: it never stops the daemon.
        #[test]
        fn whatever_comes_is_read_or_refused(
            kind in select(&KINDS[..]),
            family in select(&[0_u8, 2, 7, 10, 28][..]),
            body in vec(any::<u8>(), 7..20),
            attributes in vec((0..40_u16, vec(any::<u8>(), 0..24), any::<bool>()), 0..6),
            cut in proptest::option::of(0..60_usize),
        ) {
            let mut message = vec![0; 16];
            message[4..6].copy_from_slice(&kind.to_ne_bytes());
            message.push(family);
            message.extend(body);
            for (kind, value, is_right) in attributes {
                message.resize(message.len().next_multiple_of(4), 0);
                let length = value.len() as u16 + if is_right { 4 } else { 9 };
                message.extend([length.to_ne_bytes(), kind.to_ne_bytes()].concat());
                message.extend(value);
            }
            let length = message.len() as u32;
            message[0..4].copy_from_slice(&length.to_ne_bytes());
            message.truncate(cut.unwrap_or(message.len()));
            let _ = decode(&message);
        }
    }
}
