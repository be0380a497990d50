//! How do the others learn at once where a container is?
//!
//! By what its own host would say if its address were new: a gratuitous ARP request (RFC 5227 §2.3) for each IPv4 address, an
//! unsolicited neighbour advertisement (RFC 4861 §7.2.6) for each IPv6 address that is not link-local. It is sent by the other
//! end of the veth, in the container's namespace, so that it takes the road of all that the container sends: the
//! switch learns, and the leaf gets it in the container's VLAN.
use std::io;
use std::net::IpAddr;

use rtnetlink::packet_core::NLM_F_DUMP;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use shunt_ffi::host;

use super::ask::ask;
use super::discovery::{gratuitous_arp, unsolicited_advertisement};
use super::{Kernel, Link};

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
}
