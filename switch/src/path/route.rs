//! Step 11: is it for the router, and where does the route lead?
//!
//! Of packets to the MAC address of a router's interface, those that can be forwarded are; all others go on to the kernel behind the
//! interface, which answers, asks for the neighbour, fragments or explains (decision 18). What is routed takes the rest of
//! the road a second time, as a packet that comes in by the port of the interface that it leaves by: as if the router were a box
//! of its own on two ports of the switch, and counted so.
//!
//! Exits: [`Reason::IpHeader`], [`Reason::Martian`], [`Reason::RouteBlackhole`], [`Reason::ExceptionsLimited`].

use crate::batch::Batch;
use crate::config::{Device, Ingress, Interface, PortIndex, Router, Snapshot};
use crate::counters::{WorkerCounters, port_counters};
use crate::limits::BURST;
use crate::meta::{Fate, Meta};
use crate::path::egress::Exit;
use crate::path::lane::Lanes;
use crate::path::{egress, learn, lookup, mirror};
use crate::port::Packets;
use crate::reason::Reason;
use crate::table::fib::{Table, Target};
use crate::table::next_hop::{Hop, InterfaceIndex};
use crate::time::Instant;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{ADDRESSES, IPV4, IPV6, Mac};
use crate::wire::ipv4;
use crate::wire::l4::protocol::{SCTP, TCP, UDP};
use crate::wire::vlan::Tags;
use arrayvec::ArrayVec;
use shunt_ffi::Packet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is known of the packets of a burst that are for the router.
#[derive(Default)]
pub struct Room {
    /// Their second way: records of their own.
    onward: Batch,
    /// Of the next hop of each of those.
    hops: ArrayVec<(InterfaceIndex, Mac), BURST>,
    asked: ArrayVec<Asked, BURST>,
    v4: ArrayVec<(Table, Ipv4Addr), BURST>,
    v6: ArrayVec<(Table, Ipv6Addr), BURST>,
}

/// A packet whose route is asked for.
struct Asked {
    /// Its place in the burst.
    place: u8,
    is_v4: bool,
    /// It can be forwarded here, should there be a route: its hops are not at an end and it has no options.
    can_go: bool,
    /// Octets of the IP packet.
    total: u32,
}

/// Decides on the packets for the router: those that go on are moved to `room` and `onward`.
#[inline]
pub fn run<'p>(
    batch: &mut Batch,
    packets: &[Packet<'p>],
    room: &mut Room,
    onward: &mut Packets<'p>,
    (config, now, worker): (&Snapshot, Instant, u16),
    counters: &WorkerCounters,
) {
    let Some(router) = &config.router else { return };
    room.ask(batch, packets, router, config, now);
    if room.asked.is_empty() {
        return;
    }
    let (mut v4, mut v6) = ([None; BURST], [None; BURST]);
    router.fib.lookups_v4(&room.v4, &mut v4[..room.v4.len()]);
    router.fib.lookups_v6(&room.v6, &mut v6[..room.v6.len()]);
    let (mut v4, mut v6) = (v4.into_iter(), v6.into_iter());
    let mut sent = Sent { port: PortIndex::NONE, packets: 0, octets: 0 };
    room.hops.clear();
    let mut metas = ArrayVec::<Meta, BURST>::new();
    for asked in &room.asked {
        let place = usize::from(asked.place);
        let found = if asked.is_v4 { v4.next() } else { v6.next() }.flatten();
        let (meta, packet) = (&mut batch.all()[place], &packets[place]);
        if let Some((fate, hop)) = decide(meta, packet, asked, found, (config, router, now)) {
            meta.fate = fate;
            if let Some(hop) = hop {
                sent.add(meta, config, worker, counters);
                room.hops.push(hop);
                metas.push(*meta);
                onward.push(*packet);
            }
        }
    }
    sent.count(config, worker, counters);
    room.send_on(&metas, onward, router, config);
}

/// What was routed takes the last two steps once more, in by the ports of the interfaces that it leaves by.
#[inline]
pub fn again(room: &mut Room, onward: &Packets<'_>, exit: &mut Exit<'_>) {
    if onward.is_empty() {
        return;
    }
    let (batch, config, counters) = (&mut room.onward, exit.config, exit.counters);
    egress::run(batch, onward, exit);
    if config.mirrors {
        mirror::run(batch, onward, &ROUTER, exit);
    }
    let forwarded = batch.settle(config, usize::from(exit.worker), 0, &counters.unattributed);
    counters.forwarded.add(forwarded);
    counters.routed.add(onward.len() as u64);
    exit.lost |= forwarded < onward.len() as u64;
}

/// Where packets come from that were routed: their checksums have been looked at.
const ROUTER: Device = Device {
    ingress: Ingress::Port(PortIndex::NONE),
    partial_checksums: false,
    home: 0,
    offload: None,
    guarded: false,
    mirrored: true,
    tapped: false,
};

/// What the router got: copies that left by its port, most of them by the same one.
struct Sent {
    port: PortIndex,
    packets: u64,
    octets: u64,
}

impl Sent {
    #[inline]
    fn add(&mut self, meta: &Meta, config: &Snapshot, worker: u16, counters: &WorkerCounters) {
        let Fate::Routed(port) = meta.fate else { return };
        if self.port != port {
            self.count(config, worker, counters);
            *self = Self { port, packets: 0, octets: 0 };
        }
        self.packets += 1;
        self.octets += u64::from(meta.len);
    }

    #[inline]
    fn count(&self, config: &Snapshot, worker: u16, counters: &WorkerCounters) {
        if self.packets > 0 {
            let of_port = port_counters(config, self.port, usize::from(worker), &counters.unattributed);
            of_port.tx_packets.add(self.packets);
            of_port.tx_bytes.add(self.octets);
            counters.copies.add(self.packets);
        }
    }
}

impl Room {
    /// The record of the second way of the packet that was routed as number `place` of this burst.
    pub fn second(&self, place: usize) -> Option<&Meta> {
        self.hops.get(place).and_then(|_| self.onward.records().get(place))
    }

    /// The next hop of that packet.
    pub fn next_hop(&self, place: usize) -> Option<(InterfaceIndex, Mac)> {
        self.hops.get(place).copied()
    }

    /// Reads the headers of all packets for the router. What cannot be routed here gets its fate at once.
    fn ask(&mut self, batch: &mut Batch, packets: &[Packet<'_>], router: &Router, config: &Snapshot, now: Instant) {
        self.asked.clear();
        self.v4.clear();
        self.v6.clear();
        for (place, meta) in batch.live() {
            let Fate::Routed(port) = meta.fate else { continue };
            let Some(interface) = interface_of(config, router, port) else {
                meta.fate = Fate::One(port);
                continue;
            };
            let header = packets[place].head().get(meta.payload_offset()..).unwrap_or_default();
            let available = packets[place].len().saturating_sub(meta.payload_offset());
            let read = match meta.ethertype {
                _ if meta.destination != interface.mac => Ok(Read::Kernel),
                IPV4 => read_v4(header, available),
                IPV6 => read_v6(header, available),
                // ARP and all that is no IP.
                _ => Ok(Read::Kernel),
            };
            let (can_go, total) = match read {
                Ok(Read::V4 { destination, can_go, total }) => {
                    self.v4.push((interface.tables.v4, destination));
                    (can_go, total)
                }
                Ok(Read::V6 { destination, can_go, total }) => {
                    self.v6.push((interface.tables.v6, destination));
                    (can_go, total)
                }
                Ok(Read::Kernel) => {
                    meta.fate = Fate::One(port);
                    continue;
                }
                Ok(Read::Exception) => {
                    meta.fate = exception(port, interface, (meta.port, config), now);
                    continue;
                }
                Err(reason) => {
                    meta.fate = Fate::Dropped(reason);
                    continue;
                }
            };
            self.asked.push(Asked { place: place as u8, is_v4: meta.ethertype == IPV4, can_go, total });
        }
    }

    /// Starts the second way: the packets come in by the ports of the interfaces that they leave by.
    fn send_on(&mut self, metas: &[Meta], packets: &[Packet<'_>], router: &Router, config: &Snapshot) {
        let (hops, onward) = (&self.hops, &mut self.onward);
        let mut lanes = Lanes::new(config);
        let mut records = metas.iter().zip(hops);
        onward.begin(packets, |meta, places, _| {
            let (received, (index, mac)) = records.next().ok_or(Reason::NoPort)?;
            let out = router.interface(*index).ok_or(Reason::NoPort)?;
            *meta = Meta {
                destination: *mac,
                source: out.mac,
                port: out.port,
                tags: Tags::NONE,
                // All tags go.
                link_octets: received.payload - (ADDRESSES + 2) as u8,
                fate: Fate::Open,
                routed: true,
                ..*received
            };
            let lane = lanes.of(out.port).ok_or(Reason::NoPort)?;
            meta.vlan = lane.classify(&Tags::NONE)?;
            *places = learn::places(meta, lane);
            Ok(())
        });
        let (mut way, mut last) = (lookup::Way::NONE, (0, 0));
        onward.decide(|meta, [_, destination]| {
            // What packets of one way share is what is to be changed in them, but for whom they go to.
            let shared = (meta.link_octets, meta.ethertype);
            if std::mem::replace(&mut last, shared) != shared {
                way.part();
            }
            let lane = lanes.of(meta.port).ok_or(Reason::NoPort)?;
            lookup::one(meta, *destination, lane, &mut way, config);
            if let Fate::Routed(port) = meta.fate {
                // Another router of ours, in the same VLAN. Its kernel takes it from here: no third way.
                meta.fate = Fate::One(port);
            }
            Ok(())
        });
    }
}

/// The interface of the router behind a port.
#[inline]
fn interface_of<'a>(config: &Snapshot, router: &'a Router, port: PortIndex) -> Option<&'a Interface> {
    router.interface(config.port(port)?.interface?)
}

/// What becomes of a packet for the router, by the route that was found; and its next hop, if it goes on.
#[inline]
fn decide(
    meta: &Meta,
    packet: &Packet<'_>,
    asked: &Asked,
    found: Option<Target>,
    (config, router, now): (&Snapshot, &Router, Instant),
) -> Option<(Fate, Option<(InterfaceIndex, Mac)>)> {
    let Fate::Routed(port) = meta.fate else { return None };
    let header = || packet.head().get(meta.payload_offset()..).unwrap_or_default();
    let hop = found.map(|target| router.hops.hop(target, || flow_hash(router.seed, header())));
    Some(match hop {
        Some(Hop::To(index, mac))
            if asked.can_go && router.interface(index).is_some_and(|out| asked.total <= out.mtu) =>
        {
            (Fate::Routed(port), Some((index, mac)))
        }
        Some(Hop::Local) => (Fate::One(port), None),
        Some(Hop::Blackhole) => (Fate::Dropped(Reason::RouteBlackhole), None),
        // The kernel finds the neighbour, fragments, or says why not.
        _ => {
            let exception = |interface| exception(port, interface, (meta.port, config), now);
            (interface_of(config, router, port).map_or(Fate::One(port), exception), None)
        }
    })
}

/// The kernel is to deal with the packet, if it has not had too many such: from the port that it came in by, and of the interface.
#[inline(never)]
fn exception(port: PortIndex, interface: &Interface, (from, config): (PortIndex, &Snapshot), now: Instant) -> Fate {
    let own = config.port(from).and_then(|from| from.exceptions.as_ref());
    let may = own.is_none_or(|bucket| bucket.take(1, now)) && interface.exceptions.take(1, now);
    if may { Fate::One(port) } else { Fate::Dropped(Reason::ExceptionsLimited) }
}

/// What a header comes to.
enum Read {
    /// Ask the FIB.
    V4 { destination: Ipv4Addr, can_go: bool, total: u32 },
    /// Ask the FIB.
    V6 { destination: Ipv6Addr, can_go: bool, total: u32 },
    /// It is the kernel's business.
    Kernel,
    /// It is the kernel's business, and limited.
    Exception,
}

/// RFC 1812 §5.2.2 (the header), §5.3.7 (martians). `available` octets are there from the header on.
#[inline]
fn read_v4(octets: &[u8], available: usize) -> Result<Read, Reason> {
    let header = ipv4::parse(octets).ok_or(Reason::IpHeader)?;
    let mut sum = Sum::default();
    sum.add(octets.get(..header.len).ok_or(Reason::IpHeader)?);
    if header.total > available || sum.fold() != 0xffff {
        return Err(Reason::IpHeader);
    }
    let [a, b, c, d, e, f, g, h] = header.addresses;
    let (source, destination) = (Ipv4Addr::new(a, b, c, d), Ipv4Addr::new(e, f, g, h));
    if destination.is_broadcast() {
        return Ok(Read::Kernel);
    }
    if source.is_unspecified() {
        // A host that has no address yet: DHCP.
        return Ok(Read::Exception);
    }
    let is_martian = |address: Ipv4Addr| address.is_loopback() || address.octets()[0] == 0 || address.is_multicast();
    if is_martian(source) || is_martian(destination) || source.is_broadcast() {
        return Err(Reason::Martian);
    }
    let can_go = octets[8] > 1 && header.len == ipv4::HEADER_MIN;
    Ok(Read::V4 { destination, can_go, total: header.total as u32 })
}

/// RFC 8200 §3, RFC 4291 §2.5 and §2.7.
#[inline]
fn read_v6(octets: &[u8], available: usize) -> Result<Read, Reason> {
    let h: &[u8; 40] = octets.first_chunk().ok_or(Reason::IpHeader)?;
    let total = 40 + usize::from(u16::from_be_bytes([h[4], h[5]]));
    if h[0] >> 4 != 6 || total > available {
        return Err(Reason::IpHeader);
    }
    let address = |at: usize| h[at..].first_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |octets| (*octets).into());
    let (source, destination): (Ipv6Addr, Ipv6Addr) = (address(8), address(24));
    if destination.is_unicast_link_local() {
        return Ok(Read::Kernel);
    }
    // What has no address yet, and what does not leave its link.
    if source.is_unspecified() || source.is_unicast_link_local() {
        return Ok(Read::Exception);
    }
    let is_martian = |address: Ipv6Addr| address.is_loopback() || address.is_multicast();
    if is_martian(source) || is_martian(destination) || destination.is_unspecified() {
        return Err(Reason::Martian);
    }
    // Hop-by-hop options are for every router on the way.
    let can_go = h[7] > 1 && h[6] != 0;
    Ok(Read::V6 { destination, can_go, total: total as u32 })
}

/// The same for all packets of a flow: addresses, protocol, and ports where each packet of it has them. `packet` begins with
/// its IP header; a broken one has some hash.
pub fn flow_hash(seed: u64, packet: &[u8]) -> u32 {
    let octets = |at: usize| packet.get(at..).and_then(|rest| rest.first_chunk::<8>()).copied();
    let word = |at: usize| octets(at).map_or(0, u64::from_ne_bytes);
    let ports = |at: usize, protocol: u8| {
        let has_ports = matches!(protocol, TCP | UDP | SCTP);
        let ports = packet.get(at..).and_then(|rest| rest.first_chunk::<4>()).filter(|_| has_ports);
        u64::from(ports.map_or(0, |ports| u32::from_ne_bytes(*ports))) << 8 | u64::from(protocol)
    };
    let mix = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        (product >> 64) as u64 ^ product as u64
    };
    let hash = match packet.first().map(|first| first >> 4) {
        Some(4) => {
            let fragment = packet.get(6..8).is_none_or(|field| field[0] & 0x3f != 0 || field[1] != 0);
            let protocol = packet.get(9).copied().unwrap_or(0);
            let behind = usize::from(packet[0] & 15) * 4;
            mix(mix(seed, word(12)), ports(if fragment { usize::MAX } else { behind }, protocol))
        }
        _ => {
            let addresses = [8, 16, 24, 32].into_iter().fold(seed, |hash, at| mix(hash, word(at)));
            mix(addresses, ports(40, packet.get(6).copied().unwrap_or(0)))
        }
    };
    (hash >> 32) as u32 ^ hash as u32
}

/// The headers that packets of a flow have in common, for [`flow_hash`]; ports are 0 for protocols without. For those who ask where a
/// packet would go. None if the addresses are not of one family.
pub fn flow_header(source: IpAddr, destination: IpAddr, protocol: u8, ports: (u16, u16)) -> Option<Vec<u8>> {
    let mut packet = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0];
            header.extend(source.octets().iter().chain(&destination.octets()));
            header
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut header = vec![0x60, 0, 0, 0, 0, 8, protocol, 64];
            header.extend(source.octets().iter().chain(&destination.octets()));
            header
        }
        _ => return None,
    };
    packet.extend([ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat());
    packet.extend([0; 4]);
    Some(packet)
}
