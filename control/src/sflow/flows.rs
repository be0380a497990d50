//! Which flows are the greatest?
//!
//! What the samples say, in windows of a few seconds. Memory is bounded by the method of Metwally, Agrawal and El Abbadi (2005,
//! "space saving"): a new flow takes the place of the smallest one and begins with its weight, so that no great flow is missed;
//! what is told of a flow is what was seen of it alone.

use etherparse::{LaxSlicedPacket, TransportSlice};
use shunt_switch::tap::Record;
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::{self, IPV4, IPV6, Mac};
use shunt_switch::wire::vlan;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Flows that are kept of a window.
const FLOWS_MAX: usize = 1024;
/// How long a window is. Answers tell of the last complete one and of what has passed of this one.
const WINDOW_NS: u64 = 5_000_000_000;

/// What packets of a flow have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The port that they come in by.
    pub port: Arc<str>,
    /// Their VLAN there.
    pub vlan: u16,
    /// From and to: IP addresses, or MAC addresses where there are none.
    pub ends: Ends,
    /// The IP protocol, or the EtherType where there is none.
    pub protocol: u16,
    /// Ports; 0 where there are none.
    pub ports: (u16, u16),
}

/// Who sends to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ends {
    /// By IP.
    Ip(IpAddr, IpAddr),
    /// By anything else.
    Mac(Mac, Mac),
}

/// What was seen of a flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Samples.
    pub samples: u64,
    /// Packets that they stand for.
    pub packets: u64,
    /// Octets that they stand for.
    pub octets: u64,
}

/// A flow's rate, as estimated.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// The flow.
    pub key: Key,
    /// What was seen of it.
    pub seen: Seen,
    /// Bits a second, without FCS, preamble and gap.
    pub bits_per_second: f64,
    /// Packets a second.
    pub packets_per_second: f64,
    /// By how much both may be wrong, in 19 of 20 cases: 196 · √(1 / samples) percent.
    pub error_percent: f64,
}

/// One window.
#[derive(Debug, Default)]
struct Window {
    slots: Vec<(Key, u64, Seen)>,
    places: HashMap<Key, usize>,
    /// Weight and place.
    order: BTreeSet<(u64, usize)>,
}

/// The greatest flows of the last seconds.
#[derive(Debug, Default)]
pub struct Flows {
    begin: Option<Instant>,
    current: Window,
    last: Window,
    has_last: bool,
}

impl Window {
    fn add(&mut self, key: Key, seen: Seen) {
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None if self.slots.len() < FLOWS_MAX => {
                self.places.insert(key.clone(), self.slots.len());
                self.slots.push((key, 0, Seen::default()));
                self.slots.len() - 1
            }
            None => {
                let Some((_, place)) = self.order.first().copied() else { return };
                self.places.remove(&self.slots[place].0);
                self.places.insert(key.clone(), place);
                (self.slots[place].0, self.slots[place].2) = (key, Seen::default());
                place
            }
        };
        let (_, weight, own) = &mut self.slots[place];
        self.order.remove(&(*weight, place));
        *weight += seen.octets;
        own.add(&seen);
        self.order.insert((*weight, place));
    }
}

impl Seen {
    fn add(&mut self, other: &Seen) {
        self.samples += other.samples;
        self.packets += other.packets;
        self.octets += other.octets;
    }
}

impl Flows {
    /// A sample: one of `rate` packets that came in by a port.
    pub fn add(&mut self, port: &Arc<str>, record: &Record, header: &[u8], rate: u32) {
        self.advance(record.at);
        let vlan = record.vlan_in.unwrap_or_default().vid;
        let octets = u64::from(record.len) * u64::from(rate);
        self.current.add(key(port, vlan, header), Seen { samples: 1, packets: rate.into(), octets });
    }

    /// The greatest flows of the last seconds, at most `count`.
    pub fn top(&mut self, count: usize, now: Instant) -> Vec<Estimate> {
        self.advance(now);
        let Some(begin) = self.begin else { return Vec::new() };
        let passed = now.0.saturating_sub(begin.0) + if self.has_last { WINDOW_NS } else { 0 };
        // The first second says little, and nothing may be divided by nothing.
        let seconds = passed.max(1_000_000_000) as f64 / 1e9;
        let mut all: HashMap<&Key, Seen> = HashMap::new();
        for (key, _, seen) in self.current.slots.iter().chain(&self.last.slots) {
            all.entry(key).or_default().add(seen);
        }
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_by(|(a, x), (b, y)| y.octets.cmp(&x.octets).then(a.cmp(b)));
        let estimate = |(key, seen): (&Key, Seen)| Estimate {
            key: key.clone(),
            seen,
            bits_per_second: seen.octets as f64 * 8.0 / seconds,
            packets_per_second: seen.packets as f64 / seconds,
            error_percent: 196.0 / (seen.samples as f64).sqrt(),
        };
        all.into_iter().take(count).map(estimate).collect()
    }

    fn advance(&mut self, now: Instant) {
        let begin = *self.begin.get_or_insert(now);
        let passed = now.0.saturating_sub(begin.0);
        if passed < WINDOW_NS {
            return;
        }
        let last = std::mem::take(&mut self.current);
        // Nothing was seen for a whole window: what is older says nothing of now.
        (self.last, self.has_last) = if passed < 2 * WINDOW_NS { (last, true) } else { (Window::default(), true) };
        self.begin = Some(Instant(now.0 - passed % WINDOW_NS));
    }
}

/// EtherType, and where what follows it begins.
pub fn payload(frame: &[u8]) -> Option<(u16, &[u8])> {
    let mut at = ethernet::ADDRESSES;
    loop {
        let ethertype = u16::from_be_bytes(*frame.get(at..)?.first_chunk()?);
        if !vlan::is_tpid(ethertype) {
            return Some((ethertype, frame.get(at + 2..)?));
        }
        at += vlan::TAG;
    }
}

/// From and to which IP address a frame is, and its IP packet.
pub fn addresses(frame: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    let (ethertype, packet) = payload(frame)?;
    let v4 = |at: usize| packet.get(at..)?.first_chunk().map(|octets: &[u8; 4]| IpAddr::from(Ipv4Addr::from(*octets)));
    let v6 = |at: usize| packet.get(at..)?.first_chunk().map(|octets: &[u8; 16]| IpAddr::from(Ipv6Addr::from(*octets)));
    let (source, destination) = match ethertype {
        IPV4 => (v4(12)?, v4(16)?),
        IPV6 => (v6(8)?, v6(24)?),
        _ => return None,
    };
    Some((source, destination, packet))
}

fn key(port: &Arc<str>, vlan: u16, frame: &[u8]) -> Key {
    let ethertype = payload(frame).map_or(0, |(ethertype, _)| ethertype);
    let mac = |at: usize| frame.get(at..).and_then(|rest| rest.first_chunk().copied()).map_or(Mac(0), Mac::new);
    let mut key =
        Key { port: Arc::clone(port), vlan, ends: Ends::Mac(mac(6), mac(0)), protocol: ethertype, ports: (0, 0) };
    let Some((source, destination, packet)) = addresses(frame) else { return key };
    key.ends = Ends::Ip(source, destination);
    // A header that is cut or broken says as much as it says.
    if let Ok(parsed) = LaxSlicedPacket::from_ip(packet) {
        key.protocol =
            parsed.net.and_then(|net| net.ip_payload_ref().map(|payload| payload.ip_number.0)).unwrap_or(0).into();
        key.ports = match parsed.transport {
            Some(TransportSlice::Udp(udp)) => (udp.source_port(), udp.destination_port()),
            Some(TransportSlice::Tcp(tcp)) => (tcp.source_port(), tcp.destination_port()),
            _ => (0, 0),
        };
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_switch::config::PortIndex;
    use shunt_switch::tap::{Cause, Outcome, Vlan};
    use shunt_switch::testing::frame;
    use shunt_switch::wire::vlan::Tag;

    fn record(at_ms: u64, len: u32) -> Record {
        Record {
            cause: Cause::Sampled(1),
            at: Instant(at_ms * 1_000_000),
            port: PortIndex(0),
            len,
            caught: 0,
            vlan_in: Some(Vlan { vid: 10, pcp: 0 }),
            vlan_out: None,
            routed_from: PortIndex::NONE,
            next_hop: None,
            outcome: Outcome::Flooded(2),
        }
    }

    fn udp(source: u32, ports: (u16, u16)) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
        packet.extend([source.to_be_bytes(), [10, 0, 0, 9]].concat());
        packet.extend([ports.0.to_be_bytes(), ports.1.to_be_bytes(), [0, 8], [0, 0]].concat());
        frame(Mac(1), Mac(2), &[], IPV4, &packet)
    }

    #[test]
    fn great_flows_are_found_among_many_small_ones() {
        let (mut flows, port) = (Flows::default(), Arc::from("p0"));
        // Three flows of 30, 20 and 10 % among as many single packets as would fill the memory twenty times over.
        for n in 0..20_000u32 {
            let source = match n % 10 {
                0..3 => 1,
                3..5 => 2,
                5 => 3,
                _ => 1000 + n,
            };
            flows.add(&port, &record(1000 + u64::from(n) / 10, 1000), &udp(source, (5, 7)), 100);
        }
        assert!(flows.current.slots.len() == FLOWS_MAX && flows.current.order.len() == FLOWS_MAX);
        let top = flows.top(3, Instant::from_secs(3));
        for (estimate, (source, share)) in top.iter().zip([(1, 0.3), (2, 0.2), (3, 0.1)]) {
            let expected = Ends::Ip(Ipv4Addr::from_bits(source).into(), Ipv4Addr::new(10, 0, 0, 9).into());
            assert_eq!((estimate.key.ends, estimate.key.ports, estimate.key.protocol), (expected, (5, 7), 17));
            // A packet of 1000 octets in 100 is a million bits every tenth of a millisecond, for two seconds.
            let truth = share * 20_000.0 * 100.0 / 2.0;
            assert!((estimate.packets_per_second / truth - 1.0).abs() < 0.02, "{estimate:?}");
            assert_eq!(estimate.bits_per_second, estimate.packets_per_second * 8000.0);
            assert!((estimate.error_percent - 196.0 / (share * 20_000.0).sqrt()).abs() < 0.1);
        }
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let (mut flows, port) = (Flows::default(), Arc::from("p0"));
        for at_ms in (0..12_000).step_by(10) {
            flows.add(&port, &record(at_ms, 125), &udp(1, (1, 2)), 10);
        }
        // 100 samples a second of 10 packets of 1000 bits.
        let rate =
            |flows: &mut Flows, ms: u64| flows.top(1, Instant(ms * 1_000_000)).first().map(|one| one.bits_per_second);
        assert!(rate(&mut flows, 12_000).is_some_and(|rate| (rate - 1e6).abs() < 1e4));
        assert!(rate(&mut flows, 14_900).is_some_and(|rate| rate < 0.8e6));
        assert!(rate(&mut flows, 16_000).is_some_and(|rate| rate < 0.4e6));
        assert_eq!(rate(&mut flows, 40_000), None);
        flows.add(&port, &record(41_000, 125), &udp(1, (1, 2)), 10);
        assert!(rate(&mut flows, 41_100).is_some(), "and it begins again");
    }

    #[test]
    fn flows_are_told_apart_by_what_is_in_their_headers() {
        let port = Arc::from("p0");
        let of = |frame: &[u8]| {
            let key = key(&port, 10, frame);
            format!("{:?} {} {:?}", key.ends, key.protocol, key.ports)
        };
        let tcp = [[0, 80, 1, 0].as_slice(), &[0; 8], &[0x50, 0], &[0; 6]].concat();
        let v6 = [[0x60, 0, 0, 0, 0, 20, 6, 64].as_slice(), &[0xfe; 16], &[0xfd; 16], &tcp].concat();
        let tags = [Tag::new(0x88a8, 5, 0), Tag::new(0x8100, 6, 0)];
        let plain = of(&frame(Mac(1), Mac(2), &[], IPV6, &v6));
        assert!(plain.starts_with("Ip(fefe:") && plain.ends_with(" 6 (80, 256)"), "{plain}");
        assert_eq!(of(&frame(Mac(1), Mac(2), &tags, IPV6, &v6)), plain, "whatever tags are before it");
        let arp = of(&frame(Mac(1), Mac(2), &[], 0x0806, &[0; 46]));
        assert!(arp.starts_with("Mac(") && arp.ends_with(" 2054 (0, 0)"), "{arp}");
        // What is cut off says what it says, at any length.
        let whole = frame(Mac(1), Mac(2), &tags, IPV6, &v6);
        (0..whole.len()).for_each(|len| drop(of(&whole[..len])));
        assert_eq!(of(&whole[..22 + 40]), plain.replace("(80, 256)", "(0, 0)"));
    }
}
