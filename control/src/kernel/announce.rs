//! How do the others learn at once where a container is?
//!
//! By what its own host would say if its address were new: a gratuitous ARP request (RFC 5227 §2.3) for each IPv4 address, an
//! unsolicited neighbour advertisement (RFC 4861 §7.2.6) for each IPv6 address that is not link-local. It is sent by the other
//! end of the veth, in the container's namespace, so that it takes the road of all that the container sends: the
//! switch learns, and the leaf gets it in the container's VLAN.
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_core::NLM_F_DUMP;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use shunt_ffi::host;

use super::ask::ask;
use super::{Kernel, Link};

const BROADCAST: [u8; 6] = [0xff; 6];
/// ff02::1, and the MAC address for it (RFC 2464 §7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ICMPV6: u8 = 58;

impl Kernel {
    /// Says in the name of the other end of the veth `link` which addresses it has. Returns how many. The error says why it
    /// cannot be said.
    pub async fn announce(&self, link: &Link) -> Result<usize, String> {
        let peer = link.peer.ok_or("its other end is gone")?.ifindex;
        self.at_peer(link, move |_| announce_here(peer).map_err(|error| error.to_string()), link.ifindex).await
    }
}

/// In the namespace of device `ifindex`, which may have thousands of others: asks for this one only.
fn announce_here(ifindex: u32) -> io::Result<usize> {
    let mut question = LinkMessage::default();
    question.header.index = ifindex;
    let answers = ask(RouteNetlinkMessage::GetLink(question), 0)?;
    let Some(mac) = answers.iter().find_map(mac_of) else { return Ok(0) };
    let mut question = AddressMessage::default();
    question.header.index = ifindex;
    let answers = ask(RouteNetlinkMessage::GetAddress(question), NLM_F_DUMP)?;
    let frame = |address| match address {
        IpAddr::V4(address) => gratuitous_arp(mac, address),
        IpAddr::V6(address) => unsolicited_advertisement(mac, address),
    };
    let frames: Vec<_> = answers.iter().filter_map(|answer| own_address(answer, ifindex)).map(frame).collect();
    // The end of a packet socket takes the kernel a grace period.
    if !frames.is_empty() {
        host::send_frames(ifindex, &frames).map_err(|error| io::Error::other(error.to_string()))?;
    }
    Ok(frames.len())
}

fn mac_of(answer: &RouteNetlinkMessage) -> Option<[u8; 6]> {
    let RouteNetlinkMessage::NewLink(link) = answer else { return None };
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(mac) => mac.as_slice().try_into().ok(),
        _ => None,
    })
}

/// An address that is the device's own, beyond the link: one that is tentative, or turned out to be another's, is not.
fn own_address(answer: &RouteNetlinkMessage, ifindex: u32) -> Option<IpAddr> {
    let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
    let not_own = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
    if message.header.index != ifindex || message.header.flags.intersects(not_own) {
        return None;
    }
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    // Of a point-to-point link the other attribute is the other side's.
    let local = find(|attribute| if let AddressAttribute::Local(address) = attribute { Some(*address) } else { None });
    let any =
        || find(|attribute| if let AddressAttribute::Address(address) = attribute { Some(*address) } else { None });
    local.or_else(any).filter(|address| !matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()))
}

/// An ARP request of `address` for itself.
fn gratuitous_arp(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let mut frame = [&BROADCAST[..], &mac, &[0x08, 0x06]].concat();
    // Ethernet, IPv4, lengths, request; sender; target.
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend([&mac[..], &address.octets(), &[0; 6], &address.octets()].concat());
    frame.resize(60, 0);
    frame
}

/// "I am `address`, forget what you knew of it", to all nodes.
fn unsolicited_advertisement(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    const OVERRIDE: u8 = 0x20;
    // Type 136, code, checksum, flags; target; target link-layer address option.
    let mut message = vec![136, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend(address.octets());
    message.extend([2, 1]);
    message.extend(mac);
    let length = message.len() as u8;
    let pseudo = [&address.octets()[..], &ALL_NODES.octets(), &[0, 0, 0, length, 0, 0, 0, ICMPV6], &message].concat();
    let sum: u32 = pseudo.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = [&ALL_NODES_MAC[..], &mac, &[0x86, 0xdd]].concat();
    frame.extend([0x60, 0, 0, 0, 0, length, ICMPV6, 255]);
    frame.extend([&address.octets()[..], &ALL_NODES.octets(), &message].concat());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_not_the_devices_own_are_not_announced() {
        let answer = |ifindex, address: &str, flags| {
            let mut message = AddressMessage::default();
            message.header.index = ifindex;
            message.header.flags = flags;
            message.attributes.push(AddressAttribute::Address(address.parse().unwrap()));
            own_address(&RouteNetlinkMessage::NewAddress(message), 2)
        };
        let (none, tentative) = (AddressHeaderFlags::empty(), AddressHeaderFlags::Tentative);
        assert_eq!(answer(2, "2001:db8::5", none), Some("2001:db8::5".parse().unwrap()));
        assert_eq!(answer(2, "10.0.0.5", AddressHeaderFlags::Permanent), Some("10.0.0.5".parse().unwrap()));
        for (ifindex, address, flags) in [
            (3, "10.0.0.5", none),
            (2, "fe80::1", none),
            (2, "2001:db8::5", tentative),
            (2, "2001:db8::5", AddressHeaderFlags::Dadfailed),
        ] {
            assert_eq!(answer(ifindex, address, flags), None, "{ifindex} {address} {flags:?}");
        }
    }

    #[test]
    fn an_arp_request_for_itself_fills_a_frame() {
        let frame = gratuitous_arp([2, 0, 0, 0, 0, 7], Ipv4Addr::new(10, 0, 0, 5));
        assert_eq!((frame.len(), &frame[28..32], &frame[38..42]), (60, &[10, 0, 0, 5][..], &[10, 0, 0, 5][..]));
    }

    /// The checksum, summed over all of it, is all ones (RFC 1071).
    #[test]
    fn an_advertisement_has_a_checksum_that_is_right() {
        let frame = unsolicited_advertisement([2, 0, 0, 0, 0, 7], "2001:db8::5".parse().unwrap());
        let mut octets = frame[22..].to_vec();
        octets.extend([0, 32, 0, ICMPV6]);
        let sum: u32 = octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        assert_eq!((frame.len(), (sum & 0xffff) + (sum >> 16)), (14 + 40 + 32, 0xffff));
    }
}
