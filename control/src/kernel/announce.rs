//! How do the others learn at once where a container is?
//!
//! By what its own host would say if its address were new: a gratuitous ARP request (RFC 5227 §2.3) for each IPv4 address, an
//! unsolicited neighbour advertisement (RFC 4861 §7.2.6) for each IPv6 address that is not link-local. It is sent by the other
//! end of the veth, in the container's namespace, so that it takes the road of all that the container sends: the
//! switch learns, and the leaf gets it in the container's VLAN.
use std::net::{Ipv4Addr, Ipv6Addr};

use shunt_ffi::host;

use super::{Kernel, Link};

const BROADCAST: [u8; 6] = [0xff; 6];
/// ff02::1, and the MAC address for it (RFC 2464 §7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ICMPV6: u8 = 58;
/// IFA_F_TENTATIVE and IFA_F_DADFAILED (`linux/if_addr.h`): not yet, or never, the device's own.
const NOT_OURS: u8 = 0x40 | 0x08;

impl Kernel {
    /// Says in the name of the other end of the veth `link` which addresses it has. Returns how many. The error says why it
    /// cannot be said.
    pub async fn announce(&self, link: &Link) -> Result<usize, String> {
        self.at_peer(link, announce_here, link.ifindex).await
    }
}

fn announce_here(device: &str) -> Result<usize, String> {
    let Some(names) = host::names(device).map_err(|error| error.to_string())? else { return Ok(0) };
    let v6 = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
    let mut frames: Vec<_> = names.v4.iter().map(|address| gratuitous_arp(names.mac, *address)).collect();
    frames.extend(v6_of(&v6, device).map(|address| unsolicited_advertisement(names.mac, address)));
    host::send_frames(names.ifindex, &frames).map_err(|error| error.to_string())?;
    Ok(frames.len())
}

/// The device's own addresses beyond the link, of the lines `ADDRESS IFINDEX LENGTH SCOPE FLAGS NAME` in hexadecimal.
fn v6_of<'a>(lines: &'a str, device: &'a str) -> impl Iterator<Item = Ipv6Addr> + 'a {
    lines.lines().filter_map(move |line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let &[address, _, _, _, flags, name] = words.as_slice() else { return None };
        let address = Ipv6Addr::from_bits(u128::from_str_radix(address, 16).ok()?);
        let flags = u8::from_str_radix(flags, 16).ok()?;
        (name == device && flags & NOT_OURS == 0 && !address.is_unicast_link_local()).then_some(address)
    })
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
        let lines = "fe800000000000000000000000000001 02 40 20 80     eth0\n\
            20010db8000000000000000000000005 02 40 00 80     eth0\n\
            20010db8000000000000000000000006 02 40 00 c0     eth0\n\
            20010db8000000000000000000000007 02 40 00 88     eth0\n\
            20010db8000000000000000000000008 03 40 00 80     eth1\nnonsense\n";
        assert_eq!(v6_of(lines, "eth0").collect::<Vec<_>>(), ["2001:db8::5".parse::<Ipv6Addr>().unwrap()]);
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
