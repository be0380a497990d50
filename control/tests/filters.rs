//! Does a capture's filter let exactly those packets pass that tcpdump's does?
//!
//! The same random packets go through `tcpdump`, which runs its program itself, and through ours, which the workers run.

use shunt_ffi::{Packet, pcap};
use shunt_switch::filter::Filter;
use shunt_switch::path::route::flow_header;
use shunt_switch::port::fault::Dice;
use shunt_switch::testing::frame;
use shunt_switch::wire::ethernet::Mac;
use shunt_switch::wire::vlan::Tag;
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;

const EXPRESSIONS: [&str; 48] = [
    "ip",
    "ip6",
    "arp",
    "not ip and not ip6",
    "tcp",
    "udp",
    "sctp",
    "icmp",
    "icmp6",
    "ip proto 47",
    "ip6 proto 47",
    "host 10.0.0.1",
    "src host 10.0.0.2",
    "dst net 10.0.0.0/30",
    "net 2001:db8::/64",
    "host 2001:db8::1 and tcp",
    "port 53",
    "udp port 53",
    "src port 80 or dst port 443",
    "tcp dst port 80",
    "portrange 50-100",
    "udp portrange 400-500",
    "ether host 02:00:00:00:00:01",
    "ether src 02:00:00:00:00:02",
    "ether broadcast",
    "ether multicast",
    "multicast",
    "ip multicast",
    "ether proto 0x88cc",
    "ether[0] & 1 = 1",
    "vlan",
    "vlan 7",
    "vlan 7 and ip",
    "vlan 7 and not tcp",
    "vlan and vlan",
    "vlan 7 and vlan 9 and udp",
    "greater 200",
    "less 64",
    "len > 100 and len < 500",
    "len = 60 or len >= 1000",
    "ip[6:2] & 0x1fff != 0",
    "ip[0] & 0xf != 5",
    "ip[2:2] > 576",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "icmp[icmptype] = icmp-echo",
    "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420",
    "ip[8] < 32 and not (tcp or udp)",
    "(host 10.0.0.1 or host 10.0.0.2) and (port 80 or port 53) and len % 2 = 0",
];

/// A packet whose fields are often those that the expressions ask for.
fn packet(dice: &mut Dice) -> Vec<u8> {
    let mac = |dice: &mut Dice| match dice.below(8) {
        0 => Mac(0xffff_ffff_ffff),
        1 => Mac(0x0100_5e01_0101),
        n => Mac(0x0200_0000_0000 | (n as u64 % 4)),
    };
    let (destination, source) = (mac(dice), Mac(0x0200_0000_0000 | dice.below(4) as u64));
    let tags: Vec<_> = (0..dice.below(3)).map(|_| Tag::new(0x8100, [7, 9, 30][dice.below(3)], 0)).collect();
    let v4 = |dice: &mut Dice| match dice.below(6) {
        0 => Ipv4Addr::new(239, 1, 1, 1),
        n => Ipv4Addr::new(10, 0, [0, 9][dice.below(2)], n as u8),
    };
    let v6 = |dice: &mut Dice| match dice.below(6) {
        0 => Ipv6Addr::from_bits(0xff02 << 112 | 5),
        n => Ipv6Addr::from_bits(0x2001_0db8 << 96 | (dice.below(2) as u128) << 64 | n as u128),
    };
    let protocol = [1, 6, 6, 6, 17, 17, 47, 58, 132][dice.below(9)];
    let mut port = || [53, 80, 443, 450, 9999][dice.below(5)];
    let ports = (port(), port());
    let (ethertype, mut payload) = match dice.below(8) {
        0 => ([0x0806, 0x88cc, 0x88b5][dice.below(3)], vec![0; 28]),
        1..6 => {
            let (source, destination) = (IpAddr::V4(v4(dice)), IpAddr::V4(v4(dice)));
            (0x0800, flow_header(source, destination, protocol, ports).expect("one family"))
        }
        _ => {
            let (source, destination) = (IpAddr::V6(v6(dice)), IpAddr::V6(v6(dice)));
            (0x86dd, flow_header(source, destination, protocol, ports).expect("one family"))
        }
    };
    let header = payload.len();
    payload.resize(header + [0, 12, 100, 700, 1300][dice.below(5)] + dice.below(60), 0);
    if ethertype == 0x0800 {
        // Options, fragments, hops; flags and contents of TCP.
        let options = if dice.below(6) == 0 { 4 } else { 0 };
        payload.splice(20..20, vec![1; options]);
        payload[0] = 0x45 + options as u8 / 4;
        let total = payload.len() as u16;
        payload[2..4].copy_from_slice(&total.to_be_bytes());
        payload[7] = if dice.below(6) == 0 { dice.roll() as u8 } else { 0 };
        payload[8] = dice.roll() as u8;
        if let Some(transport) = payload.get_mut(20 + options..).filter(|rest| rest.len() >= 24) {
            if protocol == 1 {
                transport[0] = [0, 3, 8][dice.below(3)];
            } else if protocol == 6 {
                (transport[12], transport[13]) = (0x50, 1 << dice.below(6));
                transport[20..24].copy_from_slice([b"GET ", b"POST"][dice.below(2)]);
            }
        }
    }
    let mut octets = frame(destination, source, &tags, ethertype, &payload);
    if dice.below(10) == 0 {
        // What is asked for may not be there.
        octets.truncate(14 + dice.below(octets.len() - 14));
    }
    octets
}

fn word(n: usize) -> [u8; 4] {
    (n as u32).to_ne_bytes()
}

/// As a pcap file; each packet's time is its number.
fn write(path: &Path, packets: &[Vec<u8>]) {
    let mut file = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 1].map(word).concat();
    for (number, octets) in packets.iter().enumerate() {
        file.extend([number, 0, octets.len(), octets.len()].map(word).concat());
        file.extend(octets);
    }
    fs::write(path, file).expect("written");
}

/// The numbers of the packets in a file.
fn numbers(path: &Path) -> BTreeSet<usize> {
    let (file, mut at, mut numbers) = (fs::read(path).expect("a file"), 24, BTreeSet::new());
    let word = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().expect("a word")) as usize;
    while at < file.len() {
        numbers.insert(word(at));
        at += 16 + word(at + 8);
    }
    numbers
}

#[test]
fn the_same_packets_pass_as_with_tcpdump() {
    let mut dice = Dice::new(11);
    let packets: Vec<_> = (0..4000).map(|_| packet(&mut dice)).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let (all, some) = (folder.path().join("all.pcap"), folder.path().join("some.pcap"));
    write(&all, &packets);
    for expression in EXPRESSIONS {
        let mut tcpdump = Command::new("tcpdump");
        tcpdump.args(["-Z", "root", "-r"]).arg(&all).arg("-w").arg(&some).arg(expression);
        let output = tcpdump.output().expect("tcpdump runs");
        assert!(output.status.success(), "{expression}: {}", String::from_utf8_lossy(&output.stderr));
        let theirs = numbers(&some);
        let filter = Filter::new(pcap::compile(expression).expect("a program")).expect("a filter");
        let whole = |octets: &[u8]| filter.accepts(&Packet::contiguous(octets));
        let in_pieces = |octets: &[u8]| {
            let (first, second) = octets.split_at(octets.len().min(37));
            filter.accepts(&Packet::segmented(&[first, second].to_vec(), 0, octets.len() as u32))
        };
        for (number, octets) in packets.iter().enumerate() {
            let expected = theirs.contains(&number);
            assert_eq!((whole(octets), in_pieces(octets)), (expected, expected), "{expression}: {octets:02x?}");
        }
        let share = theirs.len() as f64 / packets.len() as f64;
        assert!((0.0005..0.9995).contains(&share), "{expression}: {} packets say nothing", theirs.len());
    }
}
