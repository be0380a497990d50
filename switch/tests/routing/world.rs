//! Which hosts, ways and packets are there for the router, and what would a router that is written down plainly do with them?

use shunt_switch::config::{Interface, PortIndex, Router};
use shunt_switch::path::route::flow_header;
use shunt_switch::port::fault::Dice;
use shunt_switch::port::memory::Queue;
use shunt_switch::reason::Reason;
use shunt_switch::table::bucket::Bucket;
use shunt_switch::table::fib::{self, Tables};
use shunt_switch::table::next_hop::{self, InterfaceIndex, Neighbour, Way};
use shunt_switch::table::vlan::VlanConfig;
use shunt_switch::testing::{BridgeSpec, PortSpec, Rig, Scene, frame};
use shunt_switch::time::Instant;
use shunt_switch::wire::checksum::Sum;
use shunt_switch::wire::ethernet::Mac;
use shunt_switch::wire::vlan::{TPID_8021Q, Tag};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

pub(crate) const UPLINK_MTU: u32 = 1400;
pub(crate) const SEED: u64 = 7;

/// The router's addresses on its three interfaces: VLANs 10 and 20 of bridge 0, and bridge 1.
pub(crate) const ROUTERS: [Mac; 3] = [Mac(0x0200_0000_aa00), Mac(0x0200_0000_aa01), Mac(0x0200_0000_aa02)];
/// Devices: containers in VLAN 10 and in 20, a trunk, the internal devices in 10 and in 20, an uplink and its internal device.
pub(crate) const VLAN10: usize = 0;
pub(crate) const VLAN20: usize = 1;
pub(crate) const TRUNK: usize = 2;
pub(crate) const INTERNAL10: usize = 3;
pub(crate) const INTERNAL20: usize = 4;
pub(crate) const UPLINK: usize = 5;
pub(crate) const INTERNAL_UP: usize = 6;
pub(crate) const INTERNALS: [usize; 3] = [INTERNAL10, INTERNAL20, INTERNAL_UP];

/// A neighbour: its addresses, its MAC, the interface, the device that it is behind, and the tag that it gets.
pub(crate) struct Host {
    pub(crate) addresses: [&'static str; 2],
    pub(crate) mac: Mac,
    pub(crate) interface: u16,
    pub(crate) device: usize,
    pub(crate) tag: Option<u16>,
}

pub(crate) const fn host(
    addresses: [&'static str; 2],
    mac: u64,
    interface: u16,
    device: usize,
    tag: Option<u16>,
) -> Host {
    Host { addresses, mac: Mac(mac), interface, device, tag }
}

pub(crate) const HOSTS: [Host; 6] = [
    host(["10.0.10.5", "2001:db8:10::5"], 0x0200_0000_0105, 0, VLAN10, None),
    host(["10.0.10.6", "2001:db8:10::6"], 0x0200_0000_0106, 0, TRUNK, Some(10)),
    host(["10.0.20.5", "2001:db8:20::5"], 0x0200_0000_0205, 1, VLAN20, None),
    host(["10.0.20.6", "2001:db8:20::6"], 0x0200_0000_0206, 1, TRUNK, Some(20)),
    host(["10.9.0.1", "fe80::1"], 0x0200_0000_0901, 2, UPLINK, None),
    host(["10.9.0.2", "fe80::2"], 0x0200_0000_0902, 2, UPLINK, None),
];
pub(crate) const GATEWAYS: [usize; 2] = [4, 5];

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) struct World {
    pub(crate) rig: Rig,
    pub(crate) fib: fib::Writer,
    pub(crate) hops: next_hop::Writer,
    pub(crate) tables: Tables,
}

impl World {
    pub(crate) fn new(workers: usize, exceptions: u64) -> Self {
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

    pub(crate) fn station(&mut self, device: usize, mac: Mac, vlan: u16) {
        let bridge = usize::from(self.rig.scene.ports[device].as_ref().expect("a port").bridge);
        self.rig.scene.bridges[bridge].fdb.add_static(vlan, mac, PortIndex(device as u16)).expect("room");
    }

    pub(crate) fn way(&mut self, hosts: &[&Host]) -> Way {
        let members: Vec<_> = hosts.iter().map(|host| (neighbour(host, 0), 1)).collect();
        let way = self.hops.take(&members).expect("room");
        hosts.iter().for_each(|host| self.hops.resolve(neighbour(host, 0), Some(host.mac)));
        way
    }

    pub(crate) fn route(&mut self, prefix: &str, way: Way) {
        let prefix: ipnet::IpNet = prefix.parse().expect("a prefix");
        let table = if prefix.addr().is_ipv4() { self.tables.v4 } else { self.tables.v6 };
        self.fib.insert(table, prefix, way.target()).expect("room");
        self.fib.commit();
    }

    /// Sends one frame and returns what left, by device.
    pub(crate) fn send(&mut self, device: usize, octets: &[u8]) -> BTreeMap<usize, Vec<Vec<u8>>> {
        assert!(self.rig.inputs[device].push(octets));
        self.rig.run(Instant::from_secs(10));
        self.rig.check();
        self.left()
    }

    pub(crate) fn left(&mut self) -> BTreeMap<usize, Vec<Vec<u8>>> {
        let frames = |queue: &Queue| queue.drain().into_iter().map(|sent| sent.octets).collect::<Vec<_>>();
        self.rig.outputs.iter().map(frames).enumerate().filter(|(_, frames)| !frames.is_empty()).collect()
    }

    pub(crate) fn dropped(&self, reason: Reason) -> u64 {
        (0..7).map(|port| self.rig.totals(port).dropped(reason)).sum()
    }
}

pub(crate) fn neighbour(host: &Host, address: usize) -> Neighbour {
    Neighbour { interface: InterfaceIndex(host.interface), address: ip(host.addresses[address]) }
}

/// An IP packet to be made, and what is wrong with it.
#[derive(Clone, Debug)]
pub(crate) struct Sketch {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) hops: u8,
    pub(crate) payload: usize,
    pub(crate) options: bool,
    pub(crate) bad_checksum: bool,
    pub(crate) bad_length: bool,
    pub(crate) bad_version: bool,
}

impl Sketch {
    pub(crate) fn right(source: &str, destination: &str) -> Self {
        let (options, bad_checksum, bad_length, bad_version) = Default::default();
        let (source, destination) = (ip(source), ip(destination));
        Self { source, destination, hops: 64, payload: 100, options, bad_checksum, bad_length, bad_version }
    }

    pub(crate) fn ethertype(&self) -> u16 {
        if self.destination.is_ipv4() { 0x0800 } else { 0x86dd }
    }

    pub(crate) fn packet(&self) -> Vec<u8> {
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
pub(crate) fn set_checksum(packet: &mut [u8]) {
    let header = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let mut sum = Sum::default();
    sum.add(&packet[..header]);
    packet[10..12].copy_from_slice(&(!sum.fold()).to_be_bytes());
}

/// What is to become of a packet.
#[derive(Debug, PartialEq)]
pub(crate) enum Fate {
    Dropped(Reason),
    Kernel,
    To(BTreeSet<usize>),
}

pub(crate) fn fate(sketch: &Sketch) -> Fate {
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

pub(crate) const DESTINATIONS: [&str; 24] = [
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
pub(crate) const SOURCES: [&str; 8] =
    ["10.0.10.5", "10.0.20.6", "127.0.0.1", "0.0.0.0", "2001:db8:10::5", "::1", "::", "fe80::5"];

pub(crate) fn sketch(dice: &mut Dice) -> Sketch {
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
pub(crate) fn routed(host: &Host, sketch: &Sketch) -> Vec<u8> {
    let mut packet = Sketch { hops: sketch.hops - 1, ..sketch.clone() }.packet();
    if sketch.destination.is_ipv4() {
        set_checksum(&mut packet);
    }
    let tags: Vec<_> = host.tag.map(|vid| Tag::new(TPID_8021Q, vid, 0)).into_iter().collect();
    padded(frame(host.mac, ROUTERS[usize::from(host.interface)], &tags, sketch.ethertype(), &packet))
}

pub(crate) fn padded(mut octets: Vec<u8>) -> Vec<u8> {
    octets.resize(octets.len().max(60), 0);
    octets
}
