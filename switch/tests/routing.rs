//! Which packets for the router are routed, which go on to the kernel and which are dropped, and what do routed ones look like?
//!
//! Random packets of both families, right ones and wrong ones, beside a router that is written down plainly.

use shunt_ffi::alloc::Counting;
use shunt_switch::config::{Interface, PortIndex, Router};
use shunt_switch::path::route::{flow_hash, flow_header};
use shunt_switch::port::fault::Dice;
use shunt_switch::port::memory::Queue;
use shunt_switch::reason::Reason;
use shunt_switch::table::bucket::Bucket;
use shunt_switch::table::fib::{self, Tables};
use shunt_switch::table::mirror::{MirrorConfig, Output};
use shunt_switch::table::next_hop::{self, Hop, InterfaceIndex, Neighbour, Way};
use shunt_switch::table::vlan::VlanConfig;
use shunt_switch::testing::{BridgeSpec, PortSpec, Rig, Scene, frame};
use shunt_switch::time::Instant;
use shunt_switch::wire::checksum::Sum;
use shunt_switch::wire::ethernet::Mac;
use shunt_switch::wire::vlan::{TPID_8021Q, Tag};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const UPLINK_MTU: u32 = 1400;
const SEED: u64 = 7;

/// The router's addresses on its three interfaces: VLANs 10 and 20 of bridge 0, and bridge 1.
const ROUTERS: [Mac; 3] = [Mac(0x0200_0000_aa00), Mac(0x0200_0000_aa01), Mac(0x0200_0000_aa02)];
/// Devices: containers in VLAN 10 and in 20, a trunk, the internal devices in 10 and in 20, an uplink and its internal device.
const VLAN10: usize = 0;
const VLAN20: usize = 1;
const TRUNK: usize = 2;
const INTERNAL10: usize = 3;
const INTERNAL20: usize = 4;
const UPLINK: usize = 5;
const INTERNAL_UP: usize = 6;
const INTERNALS: [usize; 3] = [INTERNAL10, INTERNAL20, INTERNAL_UP];

/// A neighbour: its addresses, its MAC, the interface, the device that it is behind, and the tag that it gets.
struct Host {
    addresses: [&'static str; 2],
    mac: Mac,
    interface: u16,
    device: usize,
    tag: Option<u16>,
}

const fn host(addresses: [&'static str; 2], mac: u64, interface: u16, device: usize, tag: Option<u16>) -> Host {
    Host { addresses, mac: Mac(mac), interface, device, tag }
}

const HOSTS: [Host; 6] = [
    host(["10.0.10.5", "2001:db8:10::5"], 0x0200_0000_0105, 0, VLAN10, None),
    host(["10.0.10.6", "2001:db8:10::6"], 0x0200_0000_0106, 0, TRUNK, Some(10)),
    host(["10.0.20.5", "2001:db8:20::5"], 0x0200_0000_0205, 1, VLAN20, None),
    host(["10.0.20.6", "2001:db8:20::6"], 0x0200_0000_0206, 1, TRUNK, Some(20)),
    host(["10.9.0.1", "fe80::1"], 0x0200_0000_0901, 2, UPLINK, None),
    host(["10.9.0.2", "fe80::2"], 0x0200_0000_0902, 2, UPLINK, None),
];
const GATEWAYS: [usize; 2] = [4, 5];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

struct World {
    rig: Rig,
    fib: fib::Writer,
    hops: next_hop::Writer,
    tables: Tables,
}

impl World {
    fn new(workers: usize, exceptions: u64) -> Self {
        let mut fib = fib::Writer::new(1 << 20).expect("memory");
        let hops = next_hop::Writer::new(SEED).expect("memory");
        let tables = Tables { v4: fib.add_table().expect("room"), v6: fib.add_table().expect("room") };
        let access = |device: usize, bridge, tag: Option<u16>, interface: Option<u16>| {
            let vlan = VlanConfig { tag, ..VlanConfig::default() };
            let interface = interface.map(InterfaceIndex);
            Some(PortSpec {
                device: device as u16,
                bridge,
                vlan,
                interface,
                complete_checksums: true,
                ..PortSpec::default()
            })
        };
        let ports = vec![
            access(VLAN10, 0, Some(10), None),
            access(VLAN20, 0, Some(20), None),
            access(TRUNK, 0, None, None),
            access(INTERNAL10, 0, Some(10), Some(0)),
            access(INTERNAL20, 0, Some(20), Some(1)),
            access(UPLINK, 1, None, None),
            access(INTERNAL_UP, 1, None, Some(2)),
        ];
        let interface = |number: usize| {
            let mtu = if INTERNALS[number] == INTERNAL_UP { UPLINK_MTU } else { 1500 };
            let (port, mac) = (PortIndex(INTERNALS[number] as u16), ROUTERS[number]);
            Some(Interface { port, mac, mtu, tables, exceptions: Arc::new(Bucket::new(exceptions, exceptions)) })
        };
        let interfaces = (0..3).map(interface).collect();
        let router = Some(Router { fib: fib.fib(), hops: hops.shared(), interfaces, seed: SEED });
        let bridges = vec![BridgeSpec::default(), BridgeSpec::default()];
        let scene = Scene { ports, bridges, partial: vec![0, 1], workers, router, ..Scene::default() };
        let mut world = Self { rig: Rig::new(scene, 512), fib, hops, tables };
        for (number, device) in INTERNALS.into_iter().enumerate() {
            world.station(device, ROUTERS[number], [10, 20, 0][number]);
        }
        for host in &HOSTS {
            world.station(host.device, host.mac, [10, 20, 0][usize::from(host.interface)]);
            for address in host.addresses {
                let way = world.way(&[host]);
                world.route(&format!("{}/{}", address, if ip(address).is_ipv4() { 32 } else { 128 }), way);
            }
        }
        for (net, interface) in [("10.0.10.0/24", 0), ("10.0.20.0/24", 1), ("10.9.0.0/24", 2), ("2001:db8:10::/64", 0)]
        {
            world.route(net, Way::Connected(InterfaceIndex(interface)));
        }
        for local in ["10.0.10.1/32", "10.0.20.1/32", "2001:db8:10::1/128", "10.0.10.255/32"] {
            world.route(local, Way::Local);
        }
        world.route("192.0.2.0/24", Way::Blackhole);
        world.route("198.51.100.0/24", Way::Unreachable);
        world.route("203.0.113.0/24", Way::Prohibit);
        let both = GATEWAYS.map(|number| &HOSTS[number]);
        // The IPv4 route's next hops are IPv6 link-local addresses (RFC 8950).
        let members: Vec<_> = both.iter().map(|host| (neighbour(host, 1), 1)).collect();
        let way = world.hops.take(&members).expect("room");
        both.iter().for_each(|host| world.hops.resolve(neighbour(host, 1), Some(host.mac)));
        world.route("10.100.0.0/16", way);
        world.route("2001:db8:ffff::/48", way);
        let pass = world.fib.commit();
        world.fib.reclaim(pass);
        world
    }

    fn station(&mut self, device: usize, mac: Mac, vlan: u16) {
        let bridge = usize::from(self.rig.scene.ports[device].as_ref().expect("a port").bridge);
        self.rig.scene.bridges[bridge].fdb.add_static(vlan, mac, PortIndex(device as u16)).expect("room");
    }

    fn way(&mut self, hosts: &[&Host]) -> Way {
        let members: Vec<_> = hosts.iter().map(|host| (neighbour(host, 0), 1)).collect();
        let way = self.hops.take(&members).expect("room");
        hosts.iter().for_each(|host| self.hops.resolve(neighbour(host, 0), Some(host.mac)));
        way
    }

    fn route(&mut self, prefix: &str, way: Way) {
        let prefix: ipnet::IpNet = prefix.parse().expect("a prefix");
        let table = if prefix.addr().is_ipv4() { self.tables.v4 } else { self.tables.v6 };
        self.fib.insert(table, prefix, way.target()).expect("room");
        self.fib.commit();
    }

    /// Sends one frame and returns what left, by device.
    fn send(&mut self, device: usize, octets: &[u8]) -> BTreeMap<usize, Vec<Vec<u8>>> {
        assert!(self.rig.inputs[device].push(octets));
        self.rig.run(Instant::from_secs(10));
        self.rig.check();
        self.left()
    }

    fn left(&mut self) -> BTreeMap<usize, Vec<Vec<u8>>> {
        let frames = |queue: &Queue| queue.drain().into_iter().map(|sent| sent.octets).collect::<Vec<_>>();
        self.rig.outputs.iter().map(frames).enumerate().filter(|(_, frames)| !frames.is_empty()).collect()
    }

    fn dropped(&self, reason: Reason) -> u64 {
        (0..7).map(|port| self.rig.totals(port).dropped(reason)).sum()
    }
}

fn neighbour(host: &Host, address: usize) -> Neighbour {
    Neighbour { interface: InterfaceIndex(host.interface), address: ip(host.addresses[address]) }
}

/// An IP packet to be made, and what is wrong with it.
#[derive(Clone, Debug)]
struct Sketch {
    source: IpAddr,
    destination: IpAddr,
    hops: u8,
    payload: usize,
    options: bool,
    bad_checksum: bool,
    bad_length: bool,
    bad_version: bool,
}

impl Sketch {
    fn right(source: &str, destination: &str) -> Self {
        let (options, bad_checksum, bad_length, bad_version) = Default::default();
        let (source, destination) = (ip(source), ip(destination));
        Self { source, destination, hops: 64, payload: 100, options, bad_checksum, bad_length, bad_version }
    }

    fn ethertype(&self) -> u16 {
        if self.destination.is_ipv4() { 0x0800 } else { 0x86dd }
    }

    fn packet(&self) -> Vec<u8> {
        let mut packet = flow_header(self.source, self.destination, 17, (1000, 2000)).expect("one family");
        packet.truncate(if self.destination.is_ipv4() { 20 } else { 40 });
        let payload = || (0..self.payload).map(|n| n as u8);
        if self.destination.is_ipv4() {
            if self.options {
                packet[0] = 0x46;
                packet.extend([1, 1, 1, 0]);
            }
            packet.extend(payload());
            let total = packet.len() as u16 + if self.bad_length { 9 } else { 0 };
            packet[2..4].copy_from_slice(&total.to_be_bytes());
            packet[8] = self.hops;
            packet[0] ^= if self.bad_version { 0x10 } else { 0 };
            set_checksum(&mut packet);
            packet[11] ^= u8::from(self.bad_checksum);
        } else {
            packet[6] = if self.options { 0 } else { 17 };
            if self.options {
                packet.extend([17, 0, 1, 4, 0, 0, 0, 0]);
            }
            packet.extend(payload());
            let length = packet.len() as u16 - 40 + if self.bad_length { 9 } else { 0 };
            packet[4..6].copy_from_slice(&length.to_be_bytes());
            packet[7] = self.hops;
            packet[0] ^= if self.bad_version { 0x10 } else { 0 };
        }
        packet
    }
}

/// The whole sum, anew (RFC 1071).
fn set_checksum(packet: &mut [u8]) {
    let header = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let mut sum = Sum::default();
    sum.add(&packet[..header]);
    packet[10..12].copy_from_slice(&(!sum.fold()).to_be_bytes());
}

/// What is to become of a packet.
#[derive(Debug, PartialEq)]
enum Fate {
    Dropped(Reason),
    Kernel,
    To(BTreeSet<usize>),
}

fn fate(sketch: &Sketch) -> Fate {
    let is_v4 = sketch.destination.is_ipv4();
    if sketch.bad_version || sketch.bad_length || is_v4 && sketch.bad_checksum {
        return Fate::Dropped(Reason::IpHeader);
    }
    let text = |address: IpAddr| address.to_string();
    let (source, destination) = (text(sketch.source), text(sketch.destination));
    if destination == "255.255.255.255" || destination.starts_with("fe80") {
        return Fate::Kernel;
    }
    if source == "0.0.0.0" || source == "::" || source.starts_with("fe80") {
        return Fate::Kernel;
    }
    let martian = |text: &str| text.starts_with("127.") || text.starts_with("0.") || text == "::1" || text == "::";
    let group = |address: IpAddr| address.is_multicast();
    if martian(&source) || martian(&destination) || group(sketch.source) || group(sketch.destination) {
        return Fate::Dropped(Reason::Martian);
    }
    let host = HOSTS.iter().position(|host| host.addresses.contains(&&*destination));
    let gateways = || BTreeSet::from(GATEWAYS);
    let to = match host {
        Some(host) => BTreeSet::from([host]),
        None if destination.starts_with("10.100.") || destination.starts_with("2001:db8:ffff:") => gateways(),
        None if destination.starts_with("192.0.2.") => return Fate::Dropped(Reason::RouteBlackhole),
        None => return Fate::Kernel,
    };
    let mtu = if HOSTS[*to.first().expect("one")].device == UPLINK { UPLINK_MTU } else { 1500 };
    let length = sketch.packet().len();
    if sketch.hops < 2 || sketch.options || length > mtu as usize { Fate::Kernel } else { Fate::To(to) }
}

const DESTINATIONS: [&str; 24] = [
    "10.0.10.5",
    "10.0.10.6",
    "10.0.20.5",
    "10.0.20.6",
    "10.0.10.77",
    "10.0.10.1",
    "10.0.10.255",
    "192.0.2.9",
    "198.51.100.1",
    "203.0.113.1",
    "10.100.3.4",
    "10.100.9.9",
    "8.8.8.8",
    "127.0.0.1",
    "224.0.0.5",
    "255.255.255.255",
    "0.1.2.3",
    "2001:db8:10::5",
    "2001:db8:20::6",
    "2001:db8:10::77",
    "2001:db8:ffff::9",
    "2001:db8:eeee::1",
    "ff02::5",
    "fe80::99",
];
const SOURCES: [&str; 8] = ["10.0.10.5", "10.0.20.6", "127.0.0.1", "0.0.0.0", "2001:db8:10::5", "::1", "::", "fe80::5"];

fn sketch(dice: &mut Dice) -> Sketch {
    let pick = |dice: &mut Dice, list: &[&'static str], is_v4: Option<bool>| loop {
        let address = list[dice.below(list.len())];
        if is_v4.is_none_or(|is_v4| ip(address).is_ipv4() == is_v4) {
            return address;
        }
    };
    let destination = pick(dice, &DESTINATIONS, None);
    let is_v4 = ip(destination).is_ipv4();
    let usual = if is_v4 { SOURCES[0] } else { SOURCES[4] };
    let source = if dice.chance(800) { usual } else { pick(dice, &SOURCES, Some(is_v4)) };
    Sketch {
        hops: [0, 1, 2, 64, 255][dice.below(5)],
        payload: [0, 1, 8, 100, 1332, 1360, 1372, 1380, 1381, 1440, 1460, 1480, 1481, 1490][dice.below(14)],
        options: dice.chance(50),
        bad_checksum: dice.chance(50),
        bad_length: dice.chance(50),
        bad_version: dice.chance(20),
        ..Sketch::right(source, destination)
    }
}

/// What a frame looks like when the router has sent it to a host.
fn routed(host: &Host, sketch: &Sketch) -> Vec<u8> {
    let mut packet = Sketch { hops: sketch.hops - 1, ..sketch.clone() }.packet();
    if sketch.destination.is_ipv4() {
        set_checksum(&mut packet);
    }
    let tags: Vec<_> = host.tag.map(|vid| Tag::new(TPID_8021Q, vid, 0)).into_iter().collect();
    padded(frame(host.mac, ROUTERS[usize::from(host.interface)], &tags, sketch.ethertype(), &packet))
}

fn padded(mut octets: Vec<u8>) -> Vec<u8> {
    octets.resize(octets.len().max(60), 0);
    octets
}

#[test]
fn random_packets_go_where_a_plain_router_sends_them() {
    for workers in [1, 2, 3] {
        let mut world = World::new(workers, 1_000_000_000);
        let mut dice = Dice::new(workers as u64);
        let mut seen = BTreeSet::new();
        for round in 0..12_000 {
            let sketch = sketch(&mut dice);
            // From VLAN 10 or 20 in a frame with or without tag, or from the uplink.
            let (device, vid, router) =
                [(VLAN10, None, 0), (TRUNK, Some(10), 0), (VLAN20, None, 1), (TRUNK, Some(20), 1), (UPLINK, None, 2)]
                    [dice.below(5)];
            let tags: Vec<_> = vid.map(|vid| Tag::new(TPID_8021Q, vid, 0)).into_iter().collect();
            let of = |tags: &[Tag]| {
                frame(ROUTERS[router], Mac(0x0200_0000_0042), tags, sketch.ethertype(), &sketch.packet())
            };
            let expected = fate(&sketch);
            let reason = if let Fate::Dropped(reason) = expected { Some(reason) } else { None };
            let before = reason.map(|reason| world.dropped(reason));
            let left = world.send(device, &of(&tags));
            let context = || format!("round {round}: {sketch:?} into {device}: {expected:?}");
            match &expected {
                Fate::Dropped(reason) => {
                    assert!(left.is_empty(), "{}", context());
                    assert_eq!(world.dropped(*reason), before.expect("counted") + 1, "{}", context());
                    seen.insert(format!("{reason:?}"));
                }
                Fate::Kernel => {
                    assert_eq!(left, BTreeMap::from([(INTERNALS[router], vec![padded(of(&[]))])]), "{}", context());
                    seen.insert("kernel".into());
                }
                Fate::To(hosts) => {
                    let matches = |number: &usize| {
                        left == BTreeMap::from([(HOSTS[*number].device, vec![routed(&HOSTS[*number], &sketch)])])
                    };
                    assert!(hosts.iter().any(matches), "{}: {left:02x?}", context());
                    seen.insert(format!("to {hosts:?}"));
                }
            }
        }
        assert_eq!(seen.len(), 3 + 1 + 5, "{seen:?}");
    }
}

#[test]
fn bursts_of_all_kinds_come_out_as_one_by_one() {
    let (mut one, mut many) = (World::new(2, 1_000_000_000), World::new(2, 1_000_000_000));
    let mut dice = Dice::new(9);
    for _ in 0..300 {
        let mut expected: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
        for _ in 0..dice.below(40) + 1 {
            let sketch = sketch(&mut dice);
            let octets = frame(ROUTERS[0], Mac(0x0200_0000_0105), &[], sketch.ethertype(), &sketch.packet());
            one.send(VLAN10, &octets)
                .into_iter()
                .for_each(|(device, frames)| expected.entry(device).or_default().extend(frames));
            assert!(many.rig.inputs[VLAN10].push(&octets));
        }
        many.rig.run(Instant::from_secs(10));
        many.rig.check();
        let mut left = many.left();
        // What goes to the kernel and what is routed may overtake each other; each way keeps its own order.
        let is_kernel = |device: &usize| INTERNALS.contains(device);
        assert_eq!(left.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (device, frames) in &mut left {
            assert_eq!(frames, &expected[device], "device {device}, kernel's: {}", is_kernel(device));
        }
    }
    for port in 0..7 {
        assert_eq!(one.rig.totals(port), many.rig.totals(port), "port {port}");
    }
}

#[test]
fn a_flow_keeps_its_way_and_flows_use_all_ways() {
    let mut world = World::new(1, 1000);
    let router = world.rig.scene.router.clone().expect("a router");
    let target = router.fib.lookup_any(world.tables.v4, ip("10.100.1.1")).expect("a route");
    let mut used = BTreeMap::<Mac, usize>::new();
    for last in 1..=200 {
        let sketch = Sketch::right("10.0.10.5", &format!("10.100.1.{last}"));
        let octets = frame(ROUTERS[0], HOSTS[0].mac, &[], 0x0800, &sketch.packet());
        let (first, second) = (world.send(VLAN10, &octets), world.send(VLAN10, &octets));
        assert_eq!(first, second);
        let Hop::To(_, mac) = router.hops.hop(target, || flow_hash(SEED, &sketch.packet())) else { panic!("no hop") };
        assert_eq!(first[&UPLINK][0][..6], mac.octets(), "as those are told who ask where it would go");
        *used.entry(mac).or_default() += 1;
    }
    assert!(used.len() == 2 && used.values().all(|count| *count > 60), "{used:?}");
}

#[test]
fn fragments_of_a_packet_take_one_way_and_ports_do_not_count_in_them() {
    let packet = |field: [u8; 2], port: u8| {
        let mut packet = Sketch::right("10.0.10.5", "10.100.1.1").packet();
        packet[6..8].copy_from_slice(&field);
        packet[20..22].copy_from_slice(&[0, port]);
        packet
    };
    let hash = |field, port| flow_hash(SEED, &packet(field, port));
    assert_eq!(hash([0x20, 0], 1), hash([0, 9], 2));
    assert_eq!(hash([0x20, 0], 1), hash([0x20, 0], 3));
    assert_ne!(hash([0x40, 0], 1), hash([0x40, 0], 2), "don't fragment is no fragment");
}

#[test]
fn the_kernel_gets_no_more_exceptions_than_it_may_and_all_that_is_local() {
    let mut world = World::new(1, 50);
    let octets = |destination: &str| {
        frame(ROUTERS[0], HOSTS[0].mac, &[], 0x0800, &Sketch::right("10.0.10.5", destination).packet())
    };
    for _ in 0..80 {
        world.send(VLAN10, &octets("10.0.10.77"));
        assert_eq!(world.send(VLAN10, &octets("10.0.10.1")).len(), 1, "what is for the host");
        assert_eq!(world.send(VLAN10, &octets("10.0.20.5")).len(), 1, "what is routed");
    }
    assert_eq!(world.dropped(Reason::ExceptionsLimited), 30);
}

#[test]
fn a_routed_packet_is_counted_as_through_a_box_on_two_ports() {
    let mut world = World::new(2, 50);
    let sketch = Sketch::right("10.0.10.5", "10.0.20.5");
    world.send(VLAN10, &frame(ROUTERS[0], HOSTS[0].mac, &[], 0x0800, &sketch.packet()));
    let counted = |port| {
        let totals = world.rig.totals(port);
        (totals.rx_packets, totals.tx_packets)
    };
    assert_eq!([VLAN10, INTERNAL10, INTERNAL20, VLAN20].map(counted), [(1, 0), (0, 1), (1, 0), (0, 1)]);
}

#[test]
fn mirrors_see_a_packet_before_and_after_it_was_routed() {
    let mut world = World::new(1, 50);
    let probe = PortSpec { device: 7, ..PortSpec::default() };
    world.rig.scene.ports.push(Some(probe));
    let mut rig_scene = std::mem::take(&mut world.rig.scene);
    rig_scene.bridges[0].mirrors = vec![MirrorConfig {
        sources: vec![PortIndex(VLAN10 as u16)],
        destinations: vec![PortIndex(VLAN20 as u16)],
        vlans: vec![],
        output: Output::Port(PortIndex(7)),
        snaplen: None,
        counters: (0..1).map(|_| Default::default()).collect(),
    }];
    world.rig = Rig::new(rig_scene, 64);
    let sketch = Sketch::right("10.0.10.5", "10.0.20.5");
    let octets = frame(ROUTERS[0], HOSTS[0].mac, &[], 0x0800, &sketch.packet());
    let left = world.send(VLAN10, &octets);
    // The probe is on a trunk: a mirror's copies are frames of the packet's VLAN there.
    let tagged = |vid, octets: &[u8]| [&octets[..12], &Tag::new(TPID_8021Q, vid, 0).octets(), &octets[12..]].concat();
    assert_eq!(left[&7], [tagged(10, &octets), tagged(20, &routed(&HOSTS[2], &sketch))]);
}

#[test]
fn what_is_not_for_the_router_or_no_ip_is_bridged() {
    let mut world = World::new(1, 0);
    let arp = frame(ROUTERS[0], HOSTS[0].mac, &[], 0x0806, &[0; 46]);
    assert_eq!(world.send(VLAN10, &arp), BTreeMap::from([(INTERNAL10, vec![arp])]));
    // Another address behind the internal port, such as a macvlan's.
    world.station(INTERNAL10, Mac(0x0200_0000_bb00), 10);
    let other =
        frame(Mac(0x0200_0000_bb00), HOSTS[0].mac, &[], 0x0800, &Sketch::right("10.0.10.5", "10.0.20.5").packet());
    assert_eq!(world.send(VLAN10, &other), BTreeMap::from([(INTERNAL10, vec![other])]));
}

#[test]
fn a_next_hop_whose_place_is_not_known_is_flooded_in_its_vlan() {
    let mut world = World::new(1, 50);
    world.rig.scene.bridges[0].fdb.remove_static(20, HOSTS[2].mac);
    let sketch = Sketch::right("10.0.10.5", "10.0.20.5");
    let left = world.send(VLAN10, &frame(ROUTERS[0], HOSTS[0].mac, &[], 0x0800, &sketch.packet()));
    let tagged = Host { tag: Some(20), ..host(HOSTS[2].addresses, HOSTS[2].mac.0, 1, TRUNK, None) };
    let expected = [(VLAN20, vec![routed(&HOSTS[2], &sketch)]), (TRUNK, vec![routed(&tagged, &sketch)])];
    assert_eq!(left, BTreeMap::from(expected));
}

#[test]
fn routing_allocates_nothing() {
    let mut world = World::new(1, 1_000_000_000);
    let mut dice = Dice::new(3);
    let sketches: Vec<Vec<u8>> = (0..200)
        .map(|_| {
            let sketch = sketch(&mut dice);
            frame(ROUTERS[0], HOSTS[0].mac, &[], sketch.ethertype(), &sketch.packet())
        })
        .collect();
    let before = shunt_ffi::alloc::of_this_thread();
    for octets in &sketches {
        assert!(world.rig.inputs[VLAN10].push(octets));
        world.rig.crew[0].0.turn(Instant::from_secs(10));
        for queue in &world.rig.outputs {
            queue.discard();
        }
    }
    assert_eq!(shunt_ffi::alloc::of_this_thread(), before);
}
