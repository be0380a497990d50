//! What does `forward/trace` answer? Which way a packet would take through the router, looked up as a worker looks it up, and why.

use super::Context;
use super::neigh::{bridge_and_vlan, learned_ports};
use super::router::{Place, Route, Words};
use serde_json::{Value, json};
use shunt_switch::path::route::{flow_hash, flow_header};
use shunt_switch::table::next_hop::{BUCKETS, Hop, InterfaceIndex};
use shunt_switch::wire::ethernet::Mac;
use std::fmt::Write;
use std::net::IpAddr;

/// The packet that is asked for.
struct Flow {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    ports: (u16, u16),
}

/// The protocols that have names here.
const PROTOCOLS: [(&str, u8); 5] = [("icmp", 1), ("tcp", 6), ("udp", 17), ("icmpv6", 58), ("sctp", 132)];
/// Those of them that have ports.
const WITH_PORTS: [u8; 3] = [6, 17, 132];

impl Flow {
    fn parse(words: &Words<'_>) -> Result<Self, String> {
        let [source, destination] = words.plain[..] else {
            return Err("forward/trace SOURCE DESTINATION [proto P] [sport N] [dport N] [vrf NAME]".to_owned());
        };
        let address = |text: &str| {
            let address = text.parse::<IpAddr>();
            address.map_err(|_| format!("\"{text}\" is not an IP address: write one as 192.168.1.2 or 2001:db8::2"))
        };
        let (source, destination) = (address(source)?, address(destination)?);
        if source.is_ipv4() != destination.is_ipv4() {
            return Err(format!("{source} and {destination} are not of one family: give two of IPv4 or of IPv6"));
        }
        if destination.is_multicast() || destination.is_loopback() || destination.is_unspecified() {
            return Err(format!("{destination} is not routed: give the unicast address of a host"));
        }
        let named = |name: &str| PROTOCOLS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        let protocol = match words.get("proto") {
            None if source.is_ipv4() => 1,
            None => 58,
            Some(text) => named(text).or_else(|| text.parse().ok()).ok_or_else(|| {
                format!("\"{text}\" is no protocol: give its number or one of icmp, tcp, udp, icmpv6, sctp")
            })?,
        };
        let port = |key: &str| {
            let port = words.get(key).map_or(Ok(0), str::parse);
            port.map_err(|_| format!("{key} {}: give a port from 0 to 65535", words.get(key).unwrap_or_default()))
        };
        let has_ports = words.get("sport").or(words.get("dport")).is_some();
        if has_ports && !WITH_PORTS.contains(&protocol) {
            return Err("sport and dport: only tcp, udp and sctp have ports: give proto".to_owned());
        }
        Ok(Self { source, destination, protocol, ports: (port("sport")?, port("dport")?) })
    }

    fn protocol(&self) -> String {
        let name = PROTOCOLS.iter().find(|(_, number)| *number == self.protocol);
        name.map_or(format!("protocol {}", self.protocol), |(name, _)| (*name).to_owned())
    }
}

/// What was found.
#[derive(Default)]
struct Found {
    /// The interface that the source is behind.
    from: Option<String>,
    /// By the workers' hash.
    hash: u32,
    /// The interface that it leaves by, and the neighbour's address there.
    to: Option<(String, Option<Mac>)>,
    /// The way among several, from 1 on.
    way: Option<usize>,
    /// The port, its bridge and the VLAN.
    port: Option<(Option<String>, String, u16)>,
    /// `forwarded`, `kernel` or `dropped`.
    verdict: &'static str,
    reason: Option<String>,
}

/// `forward/trace SOURCE DESTINATION [proto P] [sport N] [dport N] [vrf NAME]`
pub(super) fn trace(context: &mut Context<'_>, args: &[String]) -> Result<Value, String> {
    let words = Words::parse(args, &["proto", "sport", "dport", "vrf"])?;
    let flow = Flow::parse(&words)?;
    let place = Place::find(context, &words)?;
    let route = place.lookup(flow.destination)?;
    let found = find(context, &place, &flow, &route);
    Ok(if context.json { found.json(&flow, &route) } else { found.text(&flow, &route).into() })
}

fn find(context: &Context<'_>, place: &Place<'_>, flow: &Flow, route: &Route) -> Found {
    let header = flow_header(flow.source, flow.destination, flow.protocol, flow.ports).unwrap_or_default();
    let hash = flow_hash(place.router.seed(), &header);
    let back =
        place.router.lookup(&place.name, flow.source).and_then(|(_, best)| best.hops.first().map(|hop| hop.ifindex));
    let from = back.and_then(|ifindex| place.router.interface_of(&place.name, ifindex)).map(str::to_owned);
    let mut found = Found { from, hash, verdict: "kernel", reason: route.kernel.clone(), ..Found::default() };
    let name = |index: InterfaceIndex| place.vrf.forwarding.ifindex(index).map(|ifindex| place.device(ifindex));
    let hop = place.router.hop(&place.name, flow.destination, hash);
    match hop {
        Some(Hop::To(index, mac)) => {
            (found.verdict, found.reason) = ("forwarded", None);
            found.to = name(index).map(|device| (device, Some(mac)));
        }
        Some(Hop::Unresolved(index)) => {
            found.to = name(index).map(|device| (device, None));
            found.reason = Some("the neighbour is not known yet, and the kernel asks for it".to_owned());
        }
        Some(Hop::Blackhole) => found.verdict = "dropped",
        _ => {}
    }
    if let Some((device, mac)) = &found.to {
        let hops = route.hops.iter();
        let is_it = |hop: &super::router::Hop| hop.dev == *device && hop.mac == mac.map(|mac| mac.to_string());
        found.way = hops.clone().position(|hop| hops.len() == 1 || is_it(hop)).map(|at| at + 1);
        let place = bridge_and_vlan(context.state, context.store.database(), device);
        found.port = place.zip(*mac).map(|((bridge, vlan), mac)| {
            let learned = learned_ports(context.state, context.now).get(&(bridge, vlan, mac)).copied();
            (learned.map(str::to_owned), bridge.to_owned(), vlan)
        });
    }
    found
}

impl Found {
    fn text(&self, flow: &Flow, route: &Route) -> String {
        let mut out = format!("{} > {}, {}", flow.source, flow.destination, flow.protocol());
        let _ = match WITH_PORTS.contains(&flow.protocol) {
            true => writeln!(out, ", port {} > {}", flow.ports.0, flow.ports.1),
            false => writeln!(out),
        };
        let mut line = |what: &str, text: String| {
            let _ = writeln!(out, "  {what:<11}{text}");
        };
        line(
            "in",
            self.from.clone().unwrap_or("by no interface of the router: its source is not behind one".to_owned()),
        );
        line("route", format!("{} {}, {}, metric {}", route.prefix, route.kind(), route.protocol, route.metric));
        let ways = route.hops.len();
        if let Some(hop) = self.way.and_then(|way| route.hops.get(way - 1)) {
            let choice = match self.way {
                Some(way) if ways > 1 => format!(
                    " (way {way} of {ways}: hash {:08x}, bucket {} of {BUCKETS})",
                    self.hash,
                    self.hash as usize % BUCKETS
                ),
                _ => String::new(),
            };
            line("next hop", hop.text() + &choice);
        }
        if let Some((device, mac)) = &self.to {
            let mac = mac.map_or("not known".to_owned(), |mac| mac.to_string());
            line("neighbour", format!("{mac} on {device}"));
        }
        if let Some((port, bridge, vlan)) = &self.port {
            let port = port.as_deref().unwrap_or("not learned yet, so all of the VLAN");
            line("port", format!("{port} (VLAN {vlan} of {bridge})"));
        }
        let why = self.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
        let _ = match self.verdict {
            "forwarded" => writeln!(out, "forwarded by the workers"),
            "dropped" => writeln!(out, "dropped by the workers: route_blackhole"),
            _ => writeln!(out, "goes on to the kernel{why}"),
        };
        out
    }

    fn json(&self, flow: &Flow, route: &Route) -> Value {
        let (port, bridge, vlan) = match &self.port {
            Some((port, bridge, vlan)) => (port.as_deref(), Some(bridge), Some(vlan)),
            None => (None, None, None),
        };
        json!({
            "source": flow.source.to_string(), "destination": flow.destination.to_string(), "protocol": flow.protocol,
            "sport": flow.ports.0, "dport": flow.ports.1, "in": self.from, "route": route.json(), "hash": self.hash,
            "way": self.way, "out": self.to.as_ref().map(|(device, _)| device),
            "mac": self.to.as_ref().and_then(|(_, mac)| mac.map(|mac| mac.to_string())),
            "port": port, "bridge": bridge, "vlan": vlan, "verdict": self.verdict, "reason": self.reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flow, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Flow::parse(&Words::parse(&args, &["proto", "sport", "dport", "vrf"])?)
    }

    #[test]
    fn a_flow_is_read() {
        let flow = parse("10.0.0.1 10.0.0.2 proto tcp dport 80 sport 7").unwrap();
        assert_eq!((flow.protocol, flow.ports), (6, (7, 80)));
        assert_eq!(parse("10.0.0.1 10.0.0.2").unwrap().protocol, 1);
        assert_eq!(parse("2001:db8::1 2001:db8::2").unwrap().protocol, 58);
        assert_eq!(parse("10.0.0.1 10.0.0.2 proto 47").unwrap().protocol(), "protocol 47");
        for (line, what) in [
            ("10.0.0.1", "forward/trace SOURCE DESTINATION"),
            ("10.0.0.1 10.0.0.2 10.0.0.3", "forward/trace SOURCE DESTINATION"),
            ("10.0.0.1 ten", "\"ten\" is not an IP address"),
            ("10.0.0.1 2001:db8::1", "10.0.0.1 and 2001:db8::1 are not of one family"),
            ("10.0.0.1 224.0.0.1", "224.0.0.1 is not routed"),
            ("10.0.0.1 10.0.0.2 proto gre", "\"gre\" is no protocol"),
            ("10.0.0.1 10.0.0.2 proto udp sport 65536", "sport 65536: give a port"),
            ("10.0.0.1 10.0.0.2 sport 5", "sport and dport: only tcp, udp and sctp"),
            ("10.0.0.1 10.0.0.2 proto", "nothing follows \"proto\""),
            ("10.0.0.1 10.0.0.2 proto tcp proto udp", "\"proto\" is there twice"),
        ] {
            let said = parse(line).err().unwrap_or_default();
            assert!(said.starts_with(what), "{line}: {said}");
        }
    }
}
