//! Are unfinished checksums found, wherever they lie, and finished right? etherparse computes what is right.

use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, TcpHeader, UdpHeader};
use shunt_ffi::Packet;
use shunt_switch::command::Command;
use shunt_switch::config::DeviceIndex;
use shunt_switch::meta::Meta;
use shunt_switch::path::checksum::{Unfinished, find, finish};
use shunt_switch::path::edit::{Checksum, Edit, One};
use shunt_switch::port::fault::Dice;
use shunt_switch::port::memory::Sent;
use shunt_switch::table::vlan::VlanConfig;
use shunt_switch::testing::{PortSpec, Rig, Scene, frame};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;
use shunt_switch::wire::vlan::Tag;

const ALL: Mac = Mac(0xffff_ffff_ffff);
const A: Mac = Mac(0x0200_0000_000a);

/// A packet with all checksums right, and where the innermost one is.
#[derive(Clone, Debug)]
struct Built {
    octets: Vec<u8>,
    /// Octets from the end of the data to the start of the innermost upper layer.
    from_end: usize,
    /// Of the checksum in that layer.
    field: usize,
    /// The folded sum of its pseudo-header.
    pseudo: u16,
    describe: String,
}

enum Addresses {
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
}

fn folded(words: impl IntoIterator<Item = u32>) -> u16 {
    let mut sum: u32 = words.into_iter().sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn words(octets: &[u8]) -> impl Iterator<Item = u32> {
    octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
}

impl Addresses {
    fn any(dice: &mut Dice) -> Self {
        if dice.chance(500) { Self::V4(some(dice), some(dice)) } else { Self::V6(some(dice), some(dice)) }
    }

    fn pseudo(&self, protocol: u8, len: usize) -> u16 {
        let addresses = match self {
            Self::V4(a, b) => [a.as_slice(), b].concat(),
            Self::V6(a, b) => [a.as_slice(), b].concat(),
        };
        folded(words(&addresses).chain([u32::from(protocol), len as u32]))
    }

    fn udp(&self, header: &UdpHeader, payload: &[u8]) -> u16 {
        match self {
            Self::V4(a, b) => header.calc_checksum_ipv4_raw(*a, *b, payload).unwrap(),
            Self::V6(a, b) => header.calc_checksum_ipv6_raw(*a, *b, payload).unwrap(),
        }
    }

    /// The IP header in front of `upper`.
    fn ip(&self, dice: &mut Dice, protocol: u8, upper: &[u8]) -> (Vec<u8>, String) {
        match self {
            Self::V4(a, b) => {
                let mut header = Ipv4Header::new(0, 64, IpNumber(protocol), *a, *b).unwrap();
                let options = vec![1; dice.below(3) * 4];
                header.options = options.as_slice().try_into().unwrap();
                header.set_payload_len(upper.len()).unwrap();
                header.header_checksum = header.calc_header_checksum();
                (header.to_bytes().to_vec(), format!("IPv4+{} ", options.len()))
            }
            Self::V6(a, b) => {
                let mut extensions = Vec::new();
                let mut next = protocol;
                for kind in [60, 43, 0] {
                    if dice.chance(300) {
                        // A routing header that is finished, options that are padding.
                        let len = dice.below(3);
                        let mut header = vec![0; 8 + len * 8];
                        (header[0], header[1]) = (next, len as u8);
                        extensions.splice(0..0, header);
                        next = kind;
                    }
                }
                let header = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: (extensions.len() + upper.len()) as u16,
                    next_header: IpNumber(next),
                    hop_limit: 64,
                    source: *a,
                    destination: *b,
                };
                ([header.to_bytes().to_vec(), extensions.clone()].concat(), format!("IPv6+{} ", extensions.len()))
            }
        }
    }

    fn ethertype(&self) -> u16 {
        match self {
            Self::V4(..) => 0x0800,
            Self::V6(..) => 0x86dd,
        }
    }
}

fn some<const N: usize>(dice: &mut Dice) -> [u8; N] {
    std::array::from_fn(|_| dice.roll() as u8)
}

fn octets(dice: &mut Dice, len: usize) -> Vec<u8> {
    (0..len).map(|_| dice.roll() as u8).collect()
}

/// TCP or UDP in IP.
fn innermost(dice: &mut Dice, payload: usize) -> (Built, Addresses) {
    let addresses = Addresses::any(dice);
    let payload = octets(dice, payload);
    let (upper, protocol, field, name) = if dice.chance(500) {
        let mut tcp = TcpHeader::new(dice.roll() as u16, dice.roll() as u16, dice.roll() as u32, 1000);
        tcp.set_options_raw(&vec![1; dice.below(4) * 4]).unwrap();
        tcp.checksum = match addresses {
            Addresses::V4(a, b) => tcp.calc_checksum_ipv4_raw(a, b, &payload).unwrap(),
            Addresses::V6(a, b) => tcp.calc_checksum_ipv6_raw(a, b, &payload).unwrap(),
        };
        ([tcp.to_bytes().to_vec(), payload].concat(), 6, 16, "TCP")
    } else {
        (udp(&addresses, 1 + dice.below(3000) as u16, &payload), 17, 6, "UDP")
    };
    let (header, name) = {
        let (h, n) = addresses.ip(dice, protocol, &upper);
        (h, format!("{n}{name}+{}", upper.len()))
    };
    let pseudo = addresses.pseudo(protocol, upper.len());
    (
        Built { octets: [header, upper.clone()].concat(), from_end: upper.len(), field, pseudo, describe: name },
        addresses,
    )
}

fn udp(addresses: &Addresses, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut udp = UdpHeader { source_port: 1, destination_port: port, length: 8 + payload.len() as u16, checksum: 0 };
    udp.checksum = addresses.udp(&udp, payload);
    [udp.to_bytes().to_vec(), payload.to_vec()].concat()
}

/// Puts a tunnel around a packet.
fn tunnel(dice: &mut Dice, inner: Built, of: &Addresses) -> (Built, Addresses) {
    let outer = Addresses::any(dice);
    let ethernet = |dice: &mut Dice| {
        let tags: Vec<Tag> = (0..dice.below(3)).map(|_| Tag::new(0x8100, 5, 0)).collect();
        frame(ALL, A, &tags, of.ethertype(), &inner.octets)
    };
    let (protocol, upper, name) = match dice.below(6) {
        0 => {
            let vxlan = [vec![8, 0, 0, 0, 0, 0, 1, 0], ethernet(dice)].concat();
            (17, udp(&outer, [4789, 8472][dice.below(2)], &vxlan), "VXLAN")
        }
        1 => {
            let options = dice.below(4);
            let geneve =
                [vec![options as u8, 0, 0x65, 0x58, 0, 0, 1, 0], vec![0; options * 4], ethernet(dice)].concat();
            (17, udp(&outer, 6081, &geneve), "Geneve")
        }
        2 => (47, [vec![0x20, 0, 0x65, 0x58, 0, 0, 1, 0], ethernet(dice)].concat(), "NVGRE"),
        3 => {
            let [high, low] = of.ethertype().to_be_bytes();
            (47, [vec![0xb0, 0, high, low], vec![0; 12], inner.octets.clone()].concat(), "GRE")
        }
        _ => (if of.ethertype() == 0x0800 { 4 } else { 41 }, inner.octets.clone(), "IP in IP"),
    };
    let mut upper = upper;
    let udp_without = protocol == 17 && dice.chance(500);
    if udp_without {
        upper[6..8].fill(0);
    }
    let (header, ip) = outer.ip(dice, protocol, &upper);
    let describe = format!("{ip}{name}{} {}", if udp_without { " without sum" } else { "" }, inner.describe);
    (Built { octets: [header, upper].concat(), describe, ..inner }, outer)
}

/// A packet of up to two tunnels, and its EtherType.
fn packet(dice: &mut Dice, payload: usize) -> (Built, u16) {
    let (mut built, mut addresses) = innermost(dice, payload);
    for _ in 0..[0, 0, 1, 1, 2][dice.below(5)] {
        (built, addresses) = tunnel(dice, built, &addresses);
    }
    let ethertype = addresses.ethertype();
    (built, ethertype)
}

/// The frame with all sums right, and the one that the sender left to its device.
fn frames(dice: &mut Dice, built: &Built, ethertype: u16) -> (Vec<u8>, Vec<u8>) {
    let whole = frame(ALL, A, &[], ethertype, &built.octets);
    let mut partial = whole.clone();
    let place = whole.len() - built.from_end + built.field;
    partial[place..place + 2].copy_from_slice(&built.pseudo.to_be_bytes());
    // What lies behind the packet in a short frame is no part of it.
    let padding = octets(dice, 60usize.saturating_sub(whole.len()));
    ([whole, padding.clone()].concat(), [partial, padding].concat())
}

/// What a kernel does that is asked to finish a sum: from `start` to the end, which here is that of the packet.
fn kernel(sent: &Sent, trailing: usize) -> Vec<u8> {
    let mut octets = sent.octets.clone();
    if let Some((start, offset)) = sent.request {
        let (start, place) = (usize::from(start), usize::from(start + offset));
        let end = octets.len() - trailing;
        let sum = match !folded(words(&octets[start..end])) {
            0 => 0xffff,
            sum => sum,
        };
        octets[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    }
    octets
}

/// Port 0: a container in VLAN 10. Port 1: a tagged uplink that wants sums complete. Port 2: a container of VLAN 10.
/// Port 3: a tagged container.
fn rig() -> Rig {
    let vlan = |tag| VlanConfig { tag, ..VlanConfig::default() };
    let port = |device, tag, complete_checksums| {
        Some(PortSpec { device, vlan: vlan(tag), complete_checksums, ..PortSpec::default() })
    };
    let ports = vec![port(0, Some(10), false), port(1, None, true), port(2, Some(10), false), port(3, None, false)];
    Rig::new(Scene { ports, partial: vec![0], ..Scene::default() }, 8)
}

fn untagged(octets: &[u8]) -> Vec<u8> {
    assert_eq!(octets[12..16], [0x81, 0, 0, 10]);
    [&octets[..12], &octets[16..]].concat()
}

#[test]
fn any_packet_leaves_right_by_any_port_whatever_the_sender_left_open() {
    let mut rig = rig();
    let mut dice = Dice::new(20);
    for case in 0..6000 {
        let size = [8, 100, 1400, 8500][dice.below(4)];
        let payload = dice.below(size);
        let (built, ethertype) = packet(&mut dice, payload);
        let (whole, partial) = frames(&mut dice, &built, ethertype);
        let trailing = whole.len() - 14 - built.octets.len();
        let segment = 512 + dice.below(2000);
        let side = Box::new(rig.inputs[0].receiver_segmented(segment));
        rig.command(0, Command::Receive { device: DeviceIndex(0), queue: 0, side });
        for (input, left_open) in [(&whole, false), (&partial, true)] {
            assert!(rig.inputs[0].push(input));
            rig.run(Instant::default());
            while rig.crew[0].1.events.pop().is_ok() {}
            let what = format!("case {case}, left open: {left_open}, segments of {segment}: {}", built.describe);
            let [uplink, veth, tagged] = [1, 2, 3].map(|device| rig.outputs[device].pop().expect("a copy"));
            assert_eq!(uplink.request, None, "{what}");
            assert_eq!(untagged(&uplink.octets), whole, "uplink, {what}");
            assert_eq!(left_open, veth.request.is_some() && tagged.request.is_some(), "{what}");
            assert_eq!(kernel(&veth, trailing), whole, "veth, {what}");
            assert_eq!(untagged(&kernel(&tagged, trailing)), whole, "tagged veth, {what}");
        }
    }
    rig.check();
}

#[test]
fn a_nic_is_not_mended() {
    let mut rig = rig();
    rig.scene.partial.clear();
    rig.install();
    let mut dice = Dice::new(21);
    let (built, ethertype) = packet(&mut dice, 100);
    let (_, partial) = frames(&mut dice, &built, ethertype);
    assert!(rig.inputs[0].push(&partial));
    rig.run(Instant::default());
    let uplink = rig.outputs[1].pop().unwrap();
    assert_eq!((untagged(&uplink.octets), uplink.request), (partial, None));
}

#[test]
fn a_sum_of_zero_leaves_as_ones_and_no_sum_stays_none() {
    let addresses = Addresses::V4([10, 0, 0, 1], [10, 0, 0, 2]);
    let mut dice = Dice::new(22);
    let mut datagram = udp(&addresses, 53, &[0; 10]);
    // A payload that makes the complement of the sum 0.
    let sum = folded(words(&datagram[..6]).chain([u32::from(addresses.pseudo(17, 18))]));
    datagram[8..10].copy_from_slice(&(!sum).to_be_bytes());
    let header = addresses.ip(&mut Dice::new(0), 17, &datagram).0;
    let finished = |field: u16| {
        let mut datagram = datagram.clone();
        datagram[6..8].copy_from_slice(&field.to_be_bytes());
        let whole = frame(ALL, A, &[], 0x0800, &[header.clone(), datagram].concat());
        let packet = Packet::contiguous(&whole);
        let unfinished = find(&whole, whole.len(), 14, 0x0800);
        let checksum = finish(&mut Meta { unfinished, ..Meta::default() }, &packet, true);
        let mut out = Vec::new();
        Edit::default().write(&One { packet: &packet, checksum, destination: Mac(0) }, &mut out);
        let place = 14 + header.len() + 6;
        u16::from_be_bytes([out[place], out[place + 1]])
    };
    assert_eq!(finished(addresses.pseudo(17, 18)), 0xffff);
    assert_eq!(finished(0), 0);
    let other = dice.roll() as u16 | 1;
    assert_eq!(finished(other), other, "neither open nor right: not ours");
}

#[test]
fn fragments_are_never_touched() {
    let mut dice = Dice::new(23);
    for _ in 0..500 {
        let (built, ethertype) = innermost(&mut dice, 200);
        let ethertype = match ethertype {
            Addresses::V4(..) => 0x0800,
            Addresses::V6(..) => 0x86dd,
        };
        let (_, mut partial) = frames(&mut dice, &built, ethertype);
        assert!(matches!(find(&partial, partial.len(), 14, ethertype), Unfinished::Sum { .. }));
        if ethertype == 0x0800 {
            partial[20 + dice.below(2)] |= 1 << dice.below(5);
        } else {
            // A fragment header takes the place of the first octets of the upper layer: enough that it is announced.
            partial[20] = 44;
        }
        assert_eq!(find(&partial, partial.len(), 14, ethertype), Unfinished::None);
    }
}

fn crc32c(octets: &[u8]) -> u32 {
    let mut crc = !0u32;
    for octet in octets {
        crc ^= u32::from(*octet);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn sctp_is_always_finished_here() {
    let mut rig = rig();
    let mut dice = Dice::new(24);
    for case in 0..200 {
        let addresses = Addresses::any(&mut dice);
        let len = dice.below(300);
        let mut sctp = octets(&mut dice, 12 + len);
        sctp[8..12].fill(0);
        let open = [addresses.ip(&mut dice, 132, &sctp).0, sctp.clone()].concat();
        let place = open.len() - sctp.len() + 8;
        let mut whole = open.clone();
        whole[place..place + 4].copy_from_slice(&crc32c(&sctp).to_le_bytes());
        let pad = |packet: &[u8]| {
            let mut frame = frame(ALL, A, &[], addresses.ethertype(), packet);
            frame.resize(frame.len().max(60), 0);
            frame
        };
        for input in [&open, &whole] {
            assert!(rig.inputs[0].push(&pad(input)));
            rig.run(Instant::default());
            let [uplink, veth] = [1, 2].map(|device| rig.outputs[device].pop().expect("a copy"));
            assert_eq!((veth.request, &veth.octets), (None, &pad(&whole)), "case {case}");
            assert_eq!(untagged(&uplink.octets), pad(&whole), "case {case}");
            rig.outputs[3].discard();
        }
    }
}

#[test]
fn broken_headers_are_left_alone_and_never_panic() {
    let mut dice = Dice::new(25);
    for _ in 0..20_000 {
        let (built, ethertype) = packet(&mut dice, 20);
        let (_, mut broken) = frames(&mut dice, &built, ethertype);
        for _ in 0..dice.below(6) {
            let place = dice.below(broken.len());
            broken[place] = dice.roll() as u8;
        }
        broken.truncate(14 + dice.below(broken.len()));
        let len = broken.len();
        let unfinished = find(&broken, len, 14, ethertype);
        let mut meta = Meta { unfinished, ..Meta::default() };
        let packet = Packet::contiguous(&broken);
        for complete in [false, true] {
            match finish(&mut meta, &packet, complete) {
                Checksum::Keep => {}
                Checksum::Request { start, offset } => assert!(usize::from(start + offset) + 2 <= len),
                Checksum::Patch { at, len: octets, .. } => assert!(usize::from(at) + usize::from(octets) <= len),
            }
        }
    }
}
