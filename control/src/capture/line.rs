//! What is a packet, in one line?
//!
//! `time port in|out source > destination [vlan N]... protocol, length N: fate`

use super::pcapng::Packet;
use shunt_switch::wire::ethernet::Mac;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Where the EtherType is.
const ETHERTYPE_AT: usize = 12;
const DAY_S: u64 = 24 * 60 * 60;

/// The line; the time is UTC.
pub fn of(packet: &Packet<'_>, interfaces: &[String]) -> String {
    let port = interfaces.get(packet.interface as usize).map_or("?", String::as_str);
    let (seconds, micros) = (packet.at_ns / 1_000_000_000 % DAY_S, packet.at_ns % 1_000_000_000 / 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let direction = if packet.is_out { "out" } else { "in" };
    let what = headers(packet.octets);
    let len = packet.len;
    let fate = packet.comment;
    format!("{hour:02}:{minute:02}:{second:02}.{micros:06} {port} {direction} {what}, length {len}: {fate}")
}

/// Addresses, tags and what follows them.
pub fn headers(octets: &[u8]) -> String {
    let mac = |at: usize| octets.get(at..).and_then(|rest| rest.first_chunk::<6>()).map(|octets| Mac::new(*octets));
    let (Some(destination), Some(source)) = (mac(0), mac(6)) else { return "truncated".to_owned() };
    let mut out = format!("{source} > {destination}");
    let mut at = ETHERTYPE_AT;
    while let (Some(0x8100 | 0x88a8), Some(tag)) = (half(octets, at), half(octets, at + 2)) {
        // Writing to a string does not fail.
        let _ = write!(out, " vlan {}", tag & 0xfff);
        if tag >> 13 > 0 {
            let _ = write!(out, " p {}", tag >> 13);
        }
        at += 4;
    }
    let payload = octets.get(at + 2..).unwrap_or_default();
    let _ = match half(octets, at) {
        None => write!(out, " truncated"),
        Some(0x0800) => write!(out, " {}", ipv4(payload).unwrap_or("IPv4 truncated".to_owned())),
        Some(0x86dd) => write!(out, " {}", ipv6(payload).unwrap_or("IPv6 truncated".to_owned())),
        Some(0x0806) => write!(out, " {}", arp(payload).unwrap_or("ARP".to_owned())),
        Some(len) if len < 1536 => write!(out, " 802.3"),
        Some(ethertype) => write!(out, " ethertype 0x{ethertype:04x}"),
    };
    out
}

fn half(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*octets.get(at..)?.first_chunk()?))
}

fn v4(octets: &[u8], at: usize) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(*octets.get(at..)?.first_chunk::<4>()?))
}

fn ipv4(octets: &[u8]) -> Option<String> {
    let (source, destination) = (v4(octets, 12)?, v4(octets, 16)?);
    let is_first = half(octets, 6)? & 0x1fff == 0;
    let upper = octets.get(usize::from(octets[0] & 0xf) * 4..).filter(|_| is_first).unwrap_or_default();
    Some(flow(&source.to_string(), &destination.to_string(), octets[9], upper))
}

fn ipv6(octets: &[u8]) -> Option<String> {
    let address = |at: usize| Some(Ipv6Addr::from(*octets.get(at..)?.first_chunk::<16>()?));
    let (source, destination) = (address(8)?, address(24)?);
    Some(flow(&source.to_string(), &destination.to_string(), octets[6], octets.get(40..)?))
}

/// `10.0.0.1.5000 > 10.0.0.2.80 TCP`
fn flow(source: &str, destination: &str, protocol: u8, upper: &[u8]) -> String {
    let name = match protocol {
        1 => "ICMP",
        2 => "IGMP",
        6 => "TCP",
        17 => "UDP",
        58 => "ICMPv6",
        132 => "SCTP",
        _ => return format!("{source} > {destination} protocol {protocol}"),
    };
    match (protocol, half(upper, 0), half(upper, 2)) {
        (6 | 17 | 132, Some(from), Some(to)) => format!("{source}.{from} > {destination}.{to} {name}"),
        _ => format!("{source} > {destination} {name}"),
    }
}

fn arp(octets: &[u8]) -> Option<String> {
    let (sender, target) = (v4(octets, 14)?, v4(octets, 24)?);
    Some(match half(octets, 6)? {
        1 => format!("ARP who has {target}, asks {sender}"),
        2 => format!("ARP {sender} is here"),
        operation => format!("ARP operation {operation}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_switch::testing::frame;
    use shunt_switch::wire::vlan::Tag;

    fn line(tags: &[Tag], ethertype: u16, payload: &[u8]) -> String {
        let octets = frame(Mac(0x0200_0000_000b), Mac(0x0200_0000_000a), tags, ethertype, payload);
        let packet = Packet {
            interface: 0,
            at_ns: 1_700_000_000_123_456_789,
            is_out: false,
            len: 60,
            octets: &octets,
            comment: "to veth2",
        };
        let line = of(&packet, &["veth1".to_owned()]);
        // Nothing panics on a packet that was cut.
        (0..octets.len()).for_each(|len| drop(of(&Packet { octets: &octets[..len], ..packet }, &[])));
        line.strip_prefix("22:13:20.123456 veth1 in 02:00:00:00:00:0a > 02:00:00:00:00:0b").unwrap().to_owned()
    }

    #[test]
    fn what_is_in_a_packet() {
        let ip = |protocol| {
            [&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], &[0, 9, 0, 80][..]].concat()
        };
        assert_eq!(line(&[], 0x0800, &ip(17)), " 10.0.0.1.9 > 10.0.0.2.80 UDP, length 60: to veth2");
        let tags = [Tag::new(0x88a8, 7, 0), Tag::new(0x8100, 10, 3)];
        assert_eq!(line(&tags, 0x0800, &ip(1)), " vlan 7 vlan 10 p 3 10.0.0.1 > 10.0.0.2 ICMP, length 60: to veth2");
        let arp = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2];
        assert_eq!(line(&[], 0x0806, &arp), " ARP who has 10.0.0.2, asks 10.0.0.1, length 60: to veth2");
        let mut v6 = vec![0x60, 0, 0, 0, 0, 0, 58, 255];
        v6.extend([0; 15].iter().chain(&[1]).chain(&[0; 15]).chain(&[2]));
        assert_eq!(line(&[], 0x86dd, &v6), " ::1 > ::2 ICMPv6, length 60: to veth2");
        assert_eq!(line(&[], 0x88b5, &[]), " ethertype 0x88b5, length 60: to veth2");
    }
}
