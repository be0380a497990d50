//! What does `ofproto/trace` answer? What would become of a packet, step by step.
//!
//! The packet is made from a flow in Open vSwitch's words, or given in hexadecimal, and takes the real road
//! ([`shunt_switch::explain`]). What the steps are called and in which order they come is that of `docs/architecture.md`.

use super::Context;
use crate::capture::line;
use crate::model::parse_mac;
use crate::sflow::flows;
use serde_json::{Value, json};
use shunt_switch::capture::Seen;
use shunt_switch::config::{PortIndex, Snooping};
use shunt_switch::explain::{Explained, explain};
use shunt_switch::limits::{FRAME_MIN, PORTS_MAX};
use shunt_switch::path::route::flow_header;
use shunt_switch::reason::Reason;
use shunt_switch::table::guard::Guard;
use shunt_switch::table::mdb::Found;
use shunt_switch::tap::Outcome;
use shunt_switch::wire::checksum::Sum;
use shunt_switch::wire::ethernet::{IPV4, IPV6, Mac};
use shunt_switch::wire::membership::{self, Meaning};
use shunt_switch::wire::vlan::{TPID_8021Q, Tag};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

/// The steps that decide something, in their order.
const STEPS: [&str; 11] =
    ["parse", "police", "reserved", "vlan_in", "learn", "lookup", "storm", "snoop", "route", "egress", "mirror"];

/// The step that drops for a reason.
fn step_of(reason: Reason) -> &'static str {
    use Reason::*;
    match reason {
        TruncatedEthernet | TruncatedVlan | Oversized | NoPort => "parse",
        MirrorIngress | SourceGuard | PolicedRate | PolicedPackets => "police",
        ReservedMulticast => "reserved",
        TaggedOnAccess | IngressVlan | IngressCvlan => "vlan_in",
        MacFlap | MacLimit => "learn",
        Hairpin | Protected | MirrorEgress => "lookup",
        StormBroadcast | StormUnknown | StormMulticast => "storm",
        IpHeader | Martian | RouteBlackhole | ExceptionsLimited => "route",
        EgressVlan | FloodEmpty | NoListener | StalePort | MtuExceeded | TxFull | TxDown | CrossingFull => "egress",
        // Not on the road of a packet that was received.
        RxNoFrame | RxRingFull | RxKernel | Descriptor | DeviceTx => "egress",
    }
}

pub(super) fn trace(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let (bridge, args) = match args {
        [first, rest @ ..] if !first.contains('=') && !rest.is_empty() => (Some(first.as_str()), rest),
        all => (None, all),
    };
    let [flow, hex @ ..] = args else { return Err("give a flow, such as in_port=veth1,dl_dst=…".to_owned()) };
    let flow = Flow::parse(flow)?;
    if let Some(bridge) = bridge {
        context.bridge(bridge)?;
    }
    let state = &context.state;
    let named = |name: &str, port: &crate::state::Port| {
        bridge.is_none_or(|bridge| port.bridge == bridge)
            && (flow.in_port == name
                || bridge.is_some() && super::port_column(port.ofport) == flow.in_port.to_ascii_uppercase())
    };
    let (name, port) = state.ports.iter().find(|(name, port)| named(name, port)).ok_or_else(|| {
        let place = bridge.map_or(String::new(), |bridge| format!(" of bridge {bridge}"));
        format!("in_port={}: no such port{place} is in force (show prints them)", flow.in_port)
    })?;
    let octets = match hex {
        [hex, ..] => from_hex(hex)?,
        [] => flow.frame(port.link_vid)?,
    };
    let ports = state.ports_by_index();
    let guard = |index: PortIndex| ports.get(&index).and_then(|(_, port)| Guard::new(&port.guard.config));
    let live = state.snapshot().ok_or("nothing is in force yet")?;
    let explained = explain(live, port.index, &octets, context.now, guard);
    let snooping = live.bridge_of(port.index).and_then(|bridge| bridge.snooping.as_ref());
    let told = Told { name, bridge: &port.bridge, octets: &octets, explained: &explained, ports: &ports, snooping };
    Ok(if context.json { told.json() } else { told.text().into() })
}

struct Told<'a> {
    name: &'a str,
    bridge: &'a str,
    octets: &'a [u8],
    explained: &'a Explained,
    ports: &'a BTreeMap<PortIndex, (&'a str, &'a crate::state::Port)>,
    /// If the bridge snoops.
    snooping: Option<&'a Snooping>,
}

impl Told<'_> {
    fn port(&self, index: PortIndex) -> &str {
        self.ports.get(&index).map_or("a port that is gone", |(name, _)| name)
    }

    fn came(&self) -> Option<&Seen> {
        self.explained.seen.iter().map(|(seen, _)| seen).find(|seen| !seen.is_out)
    }

    /// Where the packet itself was dropped.
    fn dropped(&self) -> Option<Reason> {
        match self.came()?.outcome {
            Outcome::Dropped { reason, .. } => Some(reason),
            _ => None,
        }
    }

    fn source(&self) -> String {
        match self.explained.source {
            Some([Some(now), Some(then)]) if now == then => format!("the sender is known on {}", self.port(now)),
            Some([Some(now), Some(then)]) => {
                format!("the sender is known on {}, and would move to {}", self.port(now), self.port(then))
            }
            Some([None, Some(then)]) => format!("the sender is new, and would be learned on {}", self.port(then)),
            _ => "nothing to learn".to_owned(),
        }
    }

    fn destination(&self) -> String {
        let is_group = self.octets.first().is_some_and(|octet| octet & 1 != 0);
        match self.explained.destination {
            _ if is_group => "the receivers are a group".to_owned(),
            Some(Some(port)) => format!("the receiver is known on {}", self.port(port)),
            _ => "the receiver is not known".to_owned(),
        }
    }

    fn step(&self, step: &str) -> Option<String> {
        let came = self.came()?;
        let is_routed = came.routed_from != PortIndex::NONE;
        Some(match step {
            "parse" => format!("port {} of bridge {}", self.name, self.bridge),
            "vlan_in" => came.vlan.map_or("no VLAN".to_owned(), |vlan| format!("VLAN {vlan}")),
            "learn" => self.source(),
            "lookup" => self.destination(),
            "route" if is_routed => format!("{} takes it and sends it on", self.port(came.routed_from)),
            "route" => return None,
            "snoop" => return self.snoop(came.vlan?),
            "egress" => lines(&self.copies(false)).unwrap_or("no copy leaves".to_owned()),
            "mirror" => return lines(&self.copies(true)),
            _ => "passes".to_owned(),
        })
    }

    /// Whom a packet to a group is for, on a bridge that snoops.
    fn snoop(&self, vlan: u16) -> Option<String> {
        let snooping = self.snooping?;
        let (ethertype, packet) = flows::payload(self.octets)?;
        let mac = self.octets.first_chunk().map(|octets| Mac::new(*octets))?;
        if !mac.is_group() || mac == Mac::BROADCAST || !matches!(ethertype, IPV4 | IPV6) {
            return None;
        }
        let group = match membership::parse(ethertype, packet) {
            Meaning::Report(_) => return Some("a report: it goes on to routers".to_owned()),
            Meaning::Query { .. } => return Some("a query: it goes to all".to_owned()),
            Meaning::Everybody => return Some("a group of the link: it goes to all".to_owned()),
            Meaning::Data(group) => group,
        };
        let mut members = Vec::with_capacity(PORTS_MAX);
        Some(match snooping.mdb.members(vlan, group, &mut members) {
            Found::Known => {
                let names: Vec<_> = members.iter().map(|port| self.port(*port)).collect();
                format!("members of {group} are on {}", names.join(", "))
            }
            _ if snooping.flood_unregistered => format!("nobody has joined {group}: it goes to all"),
            _ => format!("nobody has joined {group}: it goes to routers"),
        })
    }

    /// What leaves, or should: by the packet's own way, or as mirrors' copies.
    fn copies(&self, mirrored: bool) -> Vec<String> {
        let out = self.explained.seen.iter().filter(|(seen, _)| seen.is_out && is_mirrored(seen) == mirrored);
        let text = |(seen, octets): &(Seen, Vec<u8>)| {
            let port = self.port(seen.port);
            match seen.outcome {
                Outcome::Dropped { reason, .. } => format!("{port}: dropped: {}: {}", reason.name(), reason.text()),
                _ => {
                    let how = if seen.is_routed { " (routed)" } else { "" };
                    format!("{port}{how}: {}, length {}", line::headers(octets), octets.len())
                }
            }
        };
        out.map(text).collect()
    }

    fn text(&self) -> String {
        let mut out = format!("{} in {}, length {}\n", self.name, line::headers(self.octets), self.octets.len());
        let dropped = self.dropped();
        for step in STEPS {
            if dropped.is_some_and(|reason| step_of(reason) == step) {
                break;
            }
            if let Some(text) = self.step(step) {
                // Writing to a string does not fail.
                let _ = writeln!(out, "  {step:<10}{text}");
            }
        }
        if let Some(reason) = dropped {
            let _ = writeln!(out, "  {:<10}dropped: {}: {}", step_of(reason), reason.name(), reason.text());
            // Mirrors get what was dropped, too.
            let copies =
                lines(&self.copies(true)).map_or(String::new(), |copies| format!("  {:<10}{copies}\n", "mirror"));
            out += &copies;
        }
        out
    }

    fn json(&self) -> Value {
        let names = |port: Option<PortIndex>| port.map(|port| self.port(port));
        let copies = self.explained.seen.iter().filter(|(seen, _)| seen.is_out).map(|(seen, octets)| {
            let reason = match seen.outcome {
                Outcome::Dropped { reason, .. } => Some(reason.name()),
                _ => None,
            };
            json!({"port": self.port(seen.port), "routed": seen.is_routed, "mirrored": is_mirrored(seen), "reason": reason, "packet": to_hex(octets)})
        });
        let came = self.came();
        json!({
            "port": self.name, "bridge": self.bridge, "packet": to_hex(self.octets),
            "vlan": came.and_then(|came| came.vlan),
            "source": self.explained.source.map(|[now, then]| json!({"known_on": names(now), "learned_on": names(then)})),
            "destination": self.explained.destination.map(names),
            "routed_by": came.filter(|came| came.routed_from != PortIndex::NONE).map(|came| self.port(came.routed_from)),
            "reason": self.dropped().map(Reason::name), "step": self.dropped().map(step_of),
            "copies": copies.collect::<Vec<_>>(),
        })
    }
}

fn is_mirrored(seen: &Seen) -> bool {
    seen.is_out && !seen.is_routed && seen.from == PortIndex::NONE
}

/// Below each other; none of none.
fn lines(copies: &[String]) -> Option<String> {
    (!copies.is_empty()).then(|| copies.join(&format!("\n  {:<10}", "")))
}

fn to_hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut out, octet| {
        let _ = write!(out, "{octet:02x}");
        out
    })
}

fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    if digits.len() != text.chars().count() || !digits.len().is_multiple_of(2) || digits.is_empty() {
        return Err(format!("\"{text}\" is no packet: give its octets in hexadecimal, two digits each"));
    }
    Ok(digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

/// What a packet is to be like.
#[derive(Debug, Default)]
struct Flow {
    in_port: String,
    source: [u8; 6],
    destination: [u8; 6],
    vlan: Option<u16>,
    pcp: u8,
    ethertype: Option<u16>,
    addresses: [Option<IpAddr>; 2],
    protocol: Option<u8>,
    ttl: Option<u8>,
    ports: (u16, u16),
    len: usize,
}

impl Flow {
    /// `in_port=veth1,dl_src=…,tcp,nw_dst=…`
    fn parse(text: &str) -> Result<Self, String> {
        let mut flow = Self::default();
        for word in text.split([',', ' ']).filter(|word| !word.is_empty()) {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            flow.set(key, value).ok_or_else(|| {
                format!(
                    "\"{word}\" is not understood: fields are in_port, dl_src, dl_dst, dl_vlan, dl_vlan_pcp, dl_type, nw_src, nw_dst, ipv6_src, ipv6_dst, nw_proto, nw_ttl, tp_src, tp_dst, len, and ip, ipv6, arp, icmp, icmp6, tcp, tcp6, udp, udp6"
                )
            })?;
        }
        if flow.in_port.is_empty() {
            return Err("by which port does it come in? give in_port=PORT".to_owned());
        }
        Ok(flow)
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        let number = |max: u32| {
            let parsed = match value.strip_prefix("0x") {
                Some(hex) => u32::from_str_radix(hex, 16).ok(),
                None => value.parse().ok(),
            };
            parsed.filter(|number| *number <= max)
        };
        let mut kind = |ethertype, protocol| {
            (self.ethertype, self.protocol) = (Some(ethertype), protocol);
            value.is_empty().then_some(())
        };
        match key {
            "ip" => return kind(0x0800, None),
            "ipv6" => return kind(0x86dd, None),
            "arp" => return kind(0x0806, None),
            "icmp" => return kind(0x0800, Some(1)),
            "tcp" => return kind(0x0800, Some(6)),
            "udp" => return kind(0x0800, Some(17)),
            "icmp6" => return kind(0x86dd, Some(58)),
            "tcp6" => return kind(0x86dd, Some(6)),
            "udp6" => return kind(0x86dd, Some(17)),
            "in_port" => self.in_port = value.to_owned(),
            "dl_src" | "eth_src" => self.source = parse_mac(value)?,
            "dl_dst" | "eth_dst" => self.destination = parse_mac(value)?,
            "dl_vlan" | "vlan_vid" => self.vlan = Some(number(4095)? as u16),
            "dl_vlan_pcp" | "vlan_pcp" => self.pcp = number(7)? as u8,
            "dl_type" | "eth_type" => self.ethertype = Some(number(0xffff)? as u16),
            "nw_src" | "ip_src" | "ipv6_src" => self.addresses[0] = Some(value.parse().ok()?),
            "nw_dst" | "ip_dst" | "ipv6_dst" => self.addresses[1] = Some(value.parse().ok()?),
            "nw_proto" | "ip_proto" => self.protocol = Some(number(255)? as u8),
            "nw_ttl" => self.ttl = Some(number(255)? as u8),
            "tp_src" | "tcp_src" | "udp_src" => self.ports.0 = number(0xffff)? as u16,
            "tp_dst" | "tcp_dst" | "udp_dst" => self.ports.1 = number(0xffff)? as u16,
            "len" => self.len = number(9216)? as usize,
            _ => return None,
        }
        Some(())
    }

    /// The frame, as it comes from a device of which the port is VLAN `link_vid`, if it is one.
    fn frame(&self, link_vid: Option<u16>) -> Result<Vec<u8>, String> {
        let is_v6 = self.addresses.iter().flatten().next().map(IpAddr::is_ipv6);
        let by_address = is_v6.map(|is_v6| if is_v6 { 0x86dd } else { 0x0800 });
        // Nobody's: IEEE 802 local experimental.
        let ethertype = self.ethertype.or(by_address).unwrap_or(0x88b5);
        let mut octets = [self.destination, self.source].concat();
        let link = link_vid.map(|vid| Tag::new(TPID_8021Q, vid, 0));
        let pcp = (self.pcp > 0).then_some(0);
        let own = self.vlan.or(pcp).map(|vid| Tag::new(TPID_8021Q, vid, self.pcp));
        link.iter().chain(&own).for_each(|tag| octets.extend(tag.octets()));
        octets.extend(ethertype.to_be_bytes());
        octets.extend(self.packet(ethertype)?);
        octets.resize(octets.len().max(self.len).max(FRAME_MIN), 0);
        Ok(octets)
    }

    fn packet(&self, ethertype: u16) -> Result<Vec<u8>, String> {
        let none = |is_v6| if is_v6 { IpAddr::from([0; 16]) } else { IpAddr::from([0; 4]) };
        let [source, destination] = self.addresses.map(|address| address.unwrap_or(none(ethertype == 0x86dd)));
        let protocol = self.protocol.unwrap_or(0);
        let mixed = || "nw_src and nw_dst are not of one family, or not of that of the packet".to_owned();
        match ethertype {
            0x0800 => {
                let mut packet = flow_header(source, destination, protocol, self.ports).ok_or_else(mixed)?;
                if !source.is_ipv4() {
                    return Err(mixed());
                }
                packet[8] = self.ttl.unwrap_or(64);
                let mut sum = Sum::default();
                sum.add(&packet[..20]);
                packet[10..12].copy_from_slice(&(!sum.fold()).to_be_bytes());
                Ok(packet)
            }
            0x86dd => {
                let mut packet = flow_header(source, destination, protocol, self.ports).ok_or_else(mixed)?;
                if !source.is_ipv6() {
                    return Err(mixed());
                }
                packet[7] = self.ttl.unwrap_or(64);
                Ok(packet)
            }
            0x0806 => {
                let (IpAddr::V4(source), IpAddr::V4(destination)) = (source, destination) else { return Err(mixed()) };
                let head = [0, 1, 8, 0, 6, 4, 0, 1];
                let (source, destination) = (source.octets(), destination.octets());
                Ok([&head[..], &self.source, &source, &[0; 6], &destination].concat())
            }
            _ => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str) -> Result<String, String> {
        Ok(line::headers(&Flow::parse(text)?.frame(None)?))
    }

    #[test]
    fn a_flow_becomes_a_packet() {
        let macs = "in_port=p,dl_src=02:00:00:00:00:0a,dl_dst=02:00:00:00:00:0b";
        let of = |more: &str| frame(&format!("{macs}{more}"));
        let begin = "02:00:00:00:00:0a > 02:00:00:00:00:0b";
        for (more, wanted) in [
            ("", " ethertype 0x88b5"),
            (",dl_vlan=7,dl_vlan_pcp=3,dl_type=0x88cc", " vlan 7 p 3 ethertype 0x88cc"),
            (",tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2,tp_src=5,tp_dst=80", " 10.0.0.1.5 > 10.0.0.2.80 TCP"),
            (",nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_proto=47", " 10.0.0.1 > 10.0.0.2 protocol 47"),
            (",udp6,ipv6_src=::1,ipv6_dst=::2", " ::1.0 > ::2.0 UDP"),
            (",arp,nw_src=10.0.0.1,nw_dst=10.0.0.2", " ARP who has 10.0.0.2, asks 10.0.0.1"),
        ] {
            assert_eq!(of(more), Ok(format!("{begin}{wanted}")));
        }
        for (more, wanted) in [
            (",dl_vlan=4096", "\"dl_vlan=4096\" is not understood"),
            (",actions=drop", "\"actions=drop\" is not understood"),
            (",tcp,nw_src=::1,nw_dst=::2", "not of one family"),
        ] {
            assert!(of(more).unwrap_err().contains(wanted), "{more}");
        }
        assert!(frame("dl_vlan=7").unwrap_err().contains("in_port"));
        assert_eq!(
            Flow::parse("in_port=p,dl_vlan=7").unwrap().frame(Some(181)).unwrap()[12..20],
            [0x81, 0, 0, 181, 0x81, 0, 0, 7]
        );
        assert_eq!(from_hex("00fFa1"), Ok(vec![0, 0xff, 0xa1]));
        assert!(["", "0", "0g"].iter().all(|text| from_hex(text).is_err()));
    }
}
