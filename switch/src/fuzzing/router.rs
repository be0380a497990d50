//! What does the fuzzed switch route by, and which packets does it route?

use super::Choices;
use crate::config::{Interface, PortIndex, Router};
use crate::table::bucket::Bucket;
use crate::table::fib::{self, Table, Tables};
use crate::table::next_hop::{self, InterfaceIndex, Neighbour, Way};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::Mac;
use std::net::IpAddr;
use std::sync::Arc;

/// The router's own address on both interfaces: one that frames are likely to be for.
pub(super) const ROUTER: Mac = Mac(0x0200_0000_0003);
/// The ports of the interfaces: VLAN 10 of one bridge, and VLAN 0 of the other.
pub(super) const PORTS: [(usize, u16); 2] = [(2, 10), (8, 0)];

/// Each kind of route: to a neighbour, one that is not known, several, a network on the link, the host, nowhere.
pub(super) fn router() -> Router {
    let mut fib = fib::Writer::new(1 << 20).expect("memory");
    let mut hops = next_hop::Writer::new(7).expect("memory");
    let tables = Tables { v4: fib.add_table().expect("room"), v6: fib.add_table().expect("room") };
    let neighbour = |number: u8| {
        let address = IpAddr::from([10, 0, number % 2, number]);
        Neighbour { interface: InterfaceIndex(u16::from(number % 2)), address }
    };
    let mut take = |members: &[u8]| {
        let members: Vec<_> = members.iter().map(|number| (neighbour(*number), 1)).collect();
        let way = hops.take(&members).expect("room");
        for (neighbour, _) in members.iter().filter(|(one, _)| one.address != IpAddr::from([10, 0, 0, 6])) {
            hops.resolve(*neighbour, Some(Mac(0x0200_0000_0004)));
        }
        way
    };
    let ways = [
        take(&[4]),
        take(&[5]),
        take(&[6]),
        take(&[4, 5, 6]),
        Way::Connected(InterfaceIndex(0)),
        Way::Connected(InterfaceIndex(1)),
        Way::Local,
        Way::Blackhole,
        Way::Unreachable,
    ];
    for (number, way) in (0u8..).zip(ways) {
        let mut route = |table: Table, address: IpAddr, bits: u8| {
            let prefix = ipnet::IpNet::new(address, bits).expect("a length");
            fib.insert(table, prefix, way.target()).expect("room");
        };
        route(tables.v4, [10, number, 0, 0].into(), 16);
        route(tables.v6, [0x2001, 0xdb8, number.into(), 0, 0, 0, 0, 0].into(), 48);
    }
    fib.commit();
    let interface = |(number, (port, _)): (usize, (usize, u16))| {
        let exceptions = Arc::new(Bucket::new(4, 4));
        let (port, mtu) = (PortIndex(port as u16), [100, 1500][number]);
        Some(Interface { port, mac: ROUTER, mtu, tables, exceptions })
    };
    let interfaces = PORTS.into_iter().enumerate().map(interface).collect();
    Router { fib: fib.fib(), hops: hops.shared(), interfaces, seed: 7 }
}

/// What follows the source address of a frame for the router: a packet that is right, or wrong in one octet.
pub(super) fn packet(choices: &mut Choices<'_>) -> Vec<u8> {
    let (kind, number, hops) = (choices.octet(), choices.below(10) as u8, choices.below(4) as u8);
    let mut packet = if kind & 1 == 0 {
        let len = 20 + 4 * usize::from(kind >> 1 & 1);
        let total = (len + usize::from(choices.octet())) as u16;
        let mut header = vec![0x40 | (len / 4) as u8, 0, 0, 0, 0, 0, kind & 0x20, 0, hops, 17, 0, 0, 10, 0, 0, 9];
        header.extend([10, number, 0, 1]);
        header.resize(len, 1);
        header[2..4].copy_from_slice(&total.to_be_bytes());
        let mut sum = Sum::default();
        sum.add(&header);
        header[10..12].copy_from_slice(&(!sum.fold()).to_be_bytes());
        header.resize(total.into(), 0);
        [&[8, 0], &header[..]].concat()
    } else {
        let payload = choices.octet();
        let mut header = vec![0x60, 0, 0, 0, 0, payload, if kind & 2 == 0 { 17 } else { 0 }, hops];
        for last in [9, number] {
            header.extend([0x20, 1, 0x0d, 0xb8, 0, last, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        }
        header.resize(40 + usize::from(payload), 0);
        [&[0x86, 0xdd], &header[..]].concat()
    };
    if kind & 0xc0 == 0xc0 {
        let at = usize::from(choices.octet()) % packet.len();
        packet[at] ^= choices.octet();
    }
    packet
}
