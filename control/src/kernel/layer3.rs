//! How do the router's addresses, routes and neighbours get into the kernel's tables, and how are ours known again?
//!
//! Each carries [`PROTOCOL`], as those of routing daemons carry theirs: so a daemon that starts after a crash finds what the
//! one before it left, and what others put there is not touched.

use super::request::{change_of, in_time};
use super::{Error, Kernel};
use crate::routing::rib::Kind;
use futures_util::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteScope,
    RouteType, RouteVia,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Who made an address, route or neighbour of ours (`rtm_protocol`, IFA_PROTO, NDA_PROTOCOL): a number that nobody has yet.
pub const PROTOCOL: u8 = 83;

/// The metric that IPv6 gives a route which asks for 0 (IP6_RT_PRIO_USER).
pub const METRIC_V6: u32 = 1024;

/// An address of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// With the length of its network's prefix.
    pub net: IpNet,
    /// The other end, of a link to one host.
    pub peer: Option<IpAddr>,
}

impl From<IpNet> for Address {
    fn from(net: IpNet) -> Self {
        Self { net, peer: None }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Some(peer) => write!(f, "{} peer {peer}", self.net),
            None => write!(f, "{}", self.net),
        }
    }
}

/// A route to put into the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedRoute {
    /// The destinations.
    pub prefix: IpNet,
    /// What it does.
    pub kind: Kind,
    /// The smallest is the best.
    pub metric: u32,
    /// Where it leads.
    pub hops: Vec<WantedHop>,
}

/// One of its ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedHop {
    /// The router there.
    pub gateway: Option<IpAddr>,
    /// The device; none: the kernel finds it by the gateway.
    pub ifindex: Option<u32>,
    /// 1 to 256.
    pub weight: u16,
    /// The gateway is on the link whatever the addresses say.
    pub onlink: bool,
}

impl Kernel {
    /// The addresses of ours that there are, by device.
    pub async fn own_addresses(&self) -> Result<Vec<(u32, Address)>, Error> {
        self.addresses_that(is_own_address).await
    }

    /// All addresses that there are, by device.
    pub async fn addresses(&self) -> Result<Vec<(u32, Address)>, Error> {
        self.addresses_that(|_| true).await
    }

    async fn addresses_that(&self, is_wanted: impl Fn(&AddressMessage) -> bool) -> Result<Vec<(u32, Address)>, Error> {
        let action = || "list the addresses".to_owned();
        let all = in_time(action, self.handle.address().get().execute().try_collect::<Vec<_>>()).await?;
        let all = all.map_err(|error| Error::from_netlink(action(), "all devices", error))?;
        let wanted = all.iter().filter(|message| is_wanted(message));
        Ok(wanted.filter_map(|message| Some((message.header.index, address_of(message)?))).collect())
    }

    /// Gives the device an address, without asking whether somebody else has it: that of a gateway may be on several hosts.
    pub async fn add_address(&self, ifindex: u32, device: &str, address: Address) -> Result<(), Error> {
        let action = || format!("add the address {address} to {device}");
        let net = address.net;
        let mut request = self.handle.address().add(ifindex, net.addr(), net.prefix_len());
        let attributes = &mut request.message_mut().attributes;
        if let Some(peer) = address.peer {
            *attributes = vec![AddressAttribute::Local(net.addr()), AddressAttribute::Address(peer)];
        }
        attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
        if matches!(net, IpNet::V6(_)) {
            attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let remedy = format!("`ip address show dev {device}` prints those that it has");
        done(action(), remedy, in_time(action, request.execute()).await?)
    }

    /// Takes an address away. One that is gone already is no error.
    pub async fn delete_address(&self, ifindex: u32, device: &str, address: Address) -> Result<(), Error> {
        let action = || format!("remove the address {address} from {device}");
        let net = address.net;
        let mut message = AddressMessage::default();
        message.header.index = ifindex;
        message.header.prefix_len = net.prefix_len();
        message.header.family = family(net.addr());
        message.attributes.push(AddressAttribute::Local(net.addr()));
        message.attributes.extend(address.peer.map(AddressAttribute::Address));
        let answer = in_time(action, self.handle.address().del(message).execute()).await?;
        gone(done(action(), format!("see `ip address show dev {device}`"), answer))
    }

    /// Puts a route into the main table; `replace` the one of ours that has its prefix and metric.
    pub async fn add_route(&self, route: &WantedRoute, replace: bool) -> Result<(), Error> {
        let action = || format!("add the route to {}", route.prefix);
        let request = self.handle.route().add(route_message(route));
        let request = if replace { request.replace() } else { request };
        let answer = in_time(action, request.execute()).await?;
        let remedy = match errno_of(&answer) {
            ENETUNREACH | EHOSTUNREACH | EINVAL => {
                "give next hops in networks of interfaces that are up, or add \"dev INTERFACE onlink\"".to_owned()
            }
            ENETDOWN => "it is added when the interface is up".to_owned(),
            EEXIST => format!("somebody else has one of this metric (`ip route show {}`): give another", route.prefix),
            _ => format!("see `ip route show {}` and the kernel log", route.prefix),
        };
        done(action(), remedy, answer)
    }

    /// Takes a route of ours away. One that is gone already is no error.
    pub async fn delete_route(&self, prefix: IpNet, metric: u32, kind: Kind) -> Result<(), Error> {
        let action = || format!("remove the route to {prefix}");
        let mut message = route_message(&WantedRoute { prefix, kind, metric, hops: Vec::new() });
        message.header.scope = RouteScope::NoWhere;
        let answer = in_time(action, self.handle.route().del(message).execute()).await?;
        gone(done(action(), format!("see `ip route show {prefix}`"), answer))
    }

    /// The neighbours of ours that there are, by device.
    pub async fn own_neighbours(&self) -> Result<Vec<(u32, IpAddr)>, Error> {
        let action = || "list the neighbours".to_owned();
        let all = in_time(action, self.handle.neighbours().get().execute().try_collect::<Vec<_>>()).await?;
        let all = all.map_err(|error| Error::from_netlink(action(), "all devices", error))?;
        let own = |message: &&NeighbourMessage| {
            let is_own =
                |a: &NeighbourAttribute| matches!(a, NeighbourAttribute::Protocol(p) if u8::from(*p) == PROTOCOL);
            message.attributes.iter().any(is_own)
        };
        let address = |message: &NeighbourMessage| {
            message.attributes.iter().find_map(|attribute| match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::from(*address)),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::from(*address)),
                _ => None,
            })
        };
        Ok(all.iter().filter(own).filter_map(|one| Some((one.header.ifindex, address(one)?))).collect())
    }

    /// Makes a neighbour permanent, with this MAC address.
    pub async fn set_neighbour(&self, ifindex: u32, device: &str, address: IpAddr, mac: [u8; 6]) -> Result<(), Error> {
        let action = || format!("set the neighbour {address} on {device}");
        let mut request = self.handle.neighbours().add(ifindex, address).link_layer_address(&mac).replace();
        request.message_mut().attributes.push(NeighbourAttribute::Protocol(PROTOCOL.into()));
        let remedy = format!("see `ip neighbour show dev {device}`");
        done(action(), remedy, in_time(action, request.execute()).await?)
    }

    /// Forgets a neighbour. One that is gone already is no error.
    pub async fn delete_neighbour(&self, ifindex: u32, address: IpAddr) -> Result<(), Error> {
        let action = || format!("remove the neighbour {address}");
        let message = neighbour_message(ifindex, address);
        let answer = in_time(action, self.handle.neighbours().del(message).execute()).await?;
        gone(done(action(), "see `ip neighbour`".to_owned(), answer))
    }

    /// Tells the kernel that packets went to a neighbour, so that it asks whether that is still there before it forgets it.
    /// One that is gone already is no error.
    pub async fn use_neighbour(&self, ifindex: u32, address: IpAddr) -> Result<(), Error> {
        let action = || format!("keep the neighbour {address} fresh");
        let mut message = neighbour_message(ifindex, address);
        message.header.flags = NeighbourFlags::Use;
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewNeighbour(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        let sent = async {
            let mut answers = self.handle.clone().request(request)?;
            while let Some(answer) = answers.next().await {
                if let NetlinkPayload::Error(error) = answer.payload
                    && error.code.is_some()
                {
                    return Err(rtnetlink::Error::NetlinkError(error));
                }
            }
            Ok(())
        };
        gone(done(action(), "see `ip neighbour`".to_owned(), in_time(action, sent).await?))
    }

    /// Moves a device into another network namespace, where it is down and without addresses.
    pub async fn move_to(&self, ifindex: u32, namespace: BorrowedFd<'_>) -> Result<(), Error> {
        let message = change_of(ifindex).append_extra_attribute(LinkAttribute::NetNsFd(namespace.as_raw_fd())).build();
        self.change(ifindex, |device| format!("move {device} into its VRF"), message).await
    }
}

const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const ENETDOWN: i32 = 100;
const ENETUNREACH: i32 = 101;
const EHOSTUNREACH: i32 = 113;
/// What there is not: ENOENT, ESRCH, EADDRNOTAVAIL.
const NOT_THERE: [i32; 3] = [2, 3, 99];

fn errno_of(answer: &Result<(), rtnetlink::Error>) -> i32 {
    match answer {
        Err(rtnetlink::Error::NetlinkError(message)) => message.to_io().raw_os_error().unwrap_or(0),
        _ => 0,
    }
}

fn done(action: String, remedy: String, answer: Result<(), rtnetlink::Error>) -> Result<(), Error> {
    answer.map_err(|error| match Error::from_netlink(action, "", error) {
        Error::Refused { action, reason, errno, .. } => Error::Refused { action, reason, errno, remedy },
        other => other,
    })
}

fn gone(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::Refused { errno, .. }) if NOT_THERE.contains(&errno) => Ok(()),
        Err(error) if error.is_gone() => Ok(()),
        other => other,
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn is_own_address(message: &AddressMessage) -> bool {
    let is_own =
        |a: &AddressAttribute| matches!(a, AddressAttribute::Protocol(protocol) if u8::from(*protocol) == PROTOCOL);
    message.attributes.iter().any(is_own)
}

/// What it tells of.
pub(super) fn address_of(message: &AddressMessage) -> Option<Address> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    let local = find(|attribute| if let AddressAttribute::Local(address) = attribute { Some(*address) } else { None });
    let any = find(|attribute| if let AddressAttribute::Address(address) = attribute { Some(*address) } else { None });
    let net = IpNet::new(local.or(any)?, message.header.prefix_len).ok()?;
    Some(Address { net, peer: any.filter(|other| *other != net.addr()) })
}

fn neighbour_message(ifindex: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = ifindex;
    let destination = match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    };
    message.attributes.push(NeighbourAttribute::Destination(destination));
    message
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

/// The router, for a route of this family (RFC 8950).
fn gateway(prefix: IpNet, gateway: IpAddr) -> RouteAttribute {
    match (prefix, gateway) {
        (IpNet::V4(_), IpAddr::V6(gateway)) => RouteAttribute::Via(RouteVia::Inet6(gateway)),
        _ => RouteAttribute::Gateway(route_address(gateway)),
    }
}

fn route_message(route: &WantedRoute) -> RouteMessage {
    let mut message = RouteMessage::default();
    let by_gateway = route.hops.iter().any(|hop| hop.gateway.is_some());
    message.header = RouteHeader {
        address_family: family(route.prefix.addr()),
        destination_prefix_length: route.prefix.prefix_len(),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: PROTOCOL.into(),
        scope: if by_gateway || route.hops.is_empty() { RouteScope::Universe } else { RouteScope::Link },
        kind: match route.kind {
            Kind::Blackhole => RouteType::BlackHole,
            Kind::Unreachable => RouteType::Unreachable,
            Kind::Prohibit => RouteType::Prohibit,
            _ => RouteType::Unicast,
        },
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Destination(route_address(route.prefix.addr())));
    message.attributes.push(RouteAttribute::Priority(route.metric));
    match &route.hops[..] {
        [] => {}
        [hop] => {
            message.attributes.extend(hop.ifindex.map(RouteAttribute::Oif));
            message.attributes.extend(hop.gateway.map(|address| gateway(route.prefix, address)));
            if hop.onlink {
                message.header.flags |= RouteFlags::Onlink;
            }
        }
        hops => {
            let hops = hops.iter().map(|hop| {
                let mut next = RouteNextHop::default();
                next.interface_index = hop.ifindex.unwrap_or(0);
                next.hops = hop.weight.saturating_sub(1) as u8;
                next.flags = if hop.onlink { RouteNextHopFlags::Onlink } else { RouteNextHopFlags::empty() };
                next.attributes.extend(hop.gateway.map(|address| gateway(route.prefix, address)));
                next
            });
            message.attributes.push(RouteAttribute::MultiPath(hops.collect()));
        }
    }
    message
}
