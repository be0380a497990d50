//! What does the kernel answer at once, to one who waits: addresses, and neighbours with their states?
//!
//! For what is asked now and then, and not followed.

use super::layer3::{Address, address_of};
use super::vrf::in_vrf;
use ipnet::IpNet;
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io;
use std::net::IpAddr;

/// A neighbour, as `ip neighbour` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The device.
    pub ifindex: u32,
    /// Who it is.
    pub address: IpAddr,
    /// Its MAC address, if that is known.
    pub mac: Option<[u8; 6]>,
    /// `REACHABLE`, `STALE`, …
    pub state: String,
}

/// The neighbours in a VRF, by the name of its namespace, or in the namespace of the calling thread.
///
/// # Errors
/// In words.
pub fn neighbours(vrf: Option<&str>) -> Result<Vec<Neighbour>, String> {
    let question = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    let answers =
        in_vrf(vrf, || ask(question, NLM_F_DUMP))?.map_err(|error| format!("list the neighbours: {error}"))?;
    let of = |answer: &RouteNetlinkMessage| {
        let RouteNetlinkMessage::NewNeighbour(message) = answer else { return None };
        let state = match message.header.state {
            NeighbourState::None | NeighbourState::Noarp | NeighbourState::Other(_) => return None,
            state => format!("{state:?}").to_uppercase(),
        };
        let mut one = Neighbour { ifindex: message.header.ifindex, address: [0; 4].into(), mac: None, state };
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => one.address = (*address).into(),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => one.address = (*address).into(),
                NeighbourAttribute::LinkLayerAddress(mac) => one.mac = mac.as_slice().try_into().ok(),
                _ => {}
            }
        }
        (!one.address.is_unspecified()).then_some(one)
    };
    Ok(answers.iter().filter_map(of).collect())
}

/// The addresses of the devices in a VRF, but for links to one host.
///
/// # Errors
/// In words.
pub fn addresses(vrf: Option<&str>) -> Result<Vec<(u32, IpNet)>, String> {
    let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let answers = in_vrf(vrf, || ask(question, NLM_F_DUMP))?.map_err(|error| format!("list the addresses: {error}"))?;
    let of = |answer: &RouteNetlinkMessage| {
        let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
        let Address { net, peer } = address_of(message)?;
        peer.is_none().then_some((message.header.index, net))
    };
    Ok(answers.iter().filter_map(of).collect())
}

/// Asks the kernel about the calling thread's namespace, and waits for the answers; it looks only at what the question names.
pub(super) fn ask(question: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.set_netlink_get_strict_chk(true)?;
    let mut request = NetlinkMessage::from(question);
    request.header.flags = NLM_F_REQUEST | flags;
    request.finalize();
    let mut octets = vec![0; request.buffer_len()];
    request.serialize(&mut octets);
    socket.send(&octets, 0)?;
    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
            let length = (answer.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
            match answer.payload {
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                _ => return Ok(answers),
            }
        }
        if flags & NLM_F_DUMP == 0 {
            return Ok(answers);
        }
    }
}
