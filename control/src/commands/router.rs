//! What do the commands of the router have in common? The words behind them, names for what the kernel numbers, and routes as they
//! are printed.

use super::Context;
use crate::kernel::PROTOCOL;
use crate::model::router::VrfName;
use crate::routing::rib::{Best, Kind, NextHop, Table};
use crate::state::router::{Router, Vrf};
use ipnet::IpNet;
use serde_json::{Value, json};
use shunt_switch::table::next_hop::Way;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

/// The words of a command: those that stand for themselves, and pairs such as `vrf NAME`.
pub(super) struct Words<'a> {
    pub(super) plain: Vec<&'a str>,
    pairs: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    /// Only `keys` begin a pair.
    pub(super) fn parse(args: &'a [String], keys: &[&str]) -> Result<Self, String> {
        let mut words = Self { plain: Vec::new(), pairs: BTreeMap::new() };
        let mut args = args.iter().map(String::as_str);
        while let Some(word) = args.next() {
            if !keys.contains(&word) {
                words.plain.push(word);
                continue;
            }
            let value = args.next().ok_or_else(|| format!("nothing follows \"{word}\": give its value"))?;
            if words.pairs.insert(word, value).is_some() {
                return Err(format!("\"{word}\" is there twice: leave one out"));
            }
        }
        Ok(words)
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a str> {
        self.pairs.get(key).copied()
    }
}

/// A VRF that there is.
pub(super) struct Place<'a> {
    pub(super) name: VrfName,
    pub(super) vrf: &'a Vrf,
    pub(super) router: &'a Router,
    /// Names of devices that were asked for.
    devices: RefCell<HashMap<u32, String>>,
}

impl<'a> Place<'a> {
    pub(super) fn find(context: &'a Context<'_>, words: &Words<'_>) -> Result<Self, String> {
        let router = &context.state.router;
        let name = words.get("vrf").map(str::to_owned);
        match (router.vrfs.get(&name), &name) {
            (Some(vrf), _) => Ok(Self { name, vrf, router, devices: RefCell::default() }),
            (None, Some(name)) => Err(format!("no such VRF: {name} (`list SVI` shows which SVI is in which)")),
            (None, None) => Err("nothing is routed: no SVI is there (add-svi makes one)".to_owned()),
        }
    }

    /// The name of a device; those of other namespaces that are no SVIs have a number only.
    pub(super) fn device(&self, ifindex: u32) -> String {
        let find = || {
            let own = self.router.interface_of(&self.name, ifindex).map(str::to_owned);
            let host = || self.name.is_none().then(|| host_device(ifindex)).flatten();
            own.or_else(host).unwrap_or_else(|| format!("#{ifindex}"))
        };
        self.devices.borrow_mut().entry(ifindex).or_insert_with(find).clone()
    }

    /// What is in force for exactly this prefix, if it has a route of its own that is not for the host itself.
    pub(super) fn route(&self, prefix: IpNet) -> Option<Route> {
        let (route, best) = self.vrf.rib.in_force(&prefix)?;
        let hops = best.hops.iter().map(|hop| self.hop(hop)).collect();
        let (protocol, metric, is_local) = (protocol(route.protocol), route.metric, route.table == Table::Local);
        Some(Route {
            prefix,
            kind: best.kind,
            protocol,
            metric,
            is_local,
            hops,
            kernel: self.why_kernel(&prefix, &best),
        })
    }

    fn hop(&self, hop: &NextHop) -> Hop {
        let mac = hop.gateway.and_then(|gateway| self.vrf.forwarding.neighbour(hop.ifindex, gateway));
        Hop {
            via: hop.gateway.map(|gateway| gateway.to_string()),
            dev: self.device(hop.ifindex),
            weight: hop.weight,
            mac: mac.map(|mac| mac.to_string()),
        }
    }

    /// Why packets go on to the kernel; none: the workers know what to do.
    fn why_kernel(&self, prefix: &IpNet, best: &Best) -> Option<String> {
        match self.vrf.forwarding.way(prefix) {
            Some(Way::Neighbour(_) | Way::Group(_) | Way::Connected(_) | Way::Blackhole) => None,
            Some(Way::Unreachable | Way::Prohibit) => Some("it tells the sender".to_owned()),
            Some(Way::Local) if self.vrf.rib.is_ruled(prefix) => {
                Some("rules lead to other tables (`ip rule`)".to_owned())
            }
            Some(Way::Local) if best.kind != Kind::Unicast => Some("it is an address of the switch".to_owned()),
            Some(Way::Local) => {
                let is_other = |hop: &&NextHop| self.router.interface_of(&self.name, hop.ifindex).is_none();
                Some(match best.hops.iter().find(is_other) {
                    Some(hop) => format!("{} is not an interface of the router", self.device(hop.ifindex)),
                    None => "several ways, and not each has a gateway".to_owned(),
                })
            }
            None => {
                let refused = self.vrf.forwarding.refused().find(|(refused, _)| *refused == prefix);
                Some(refused.map_or("link-local".to_owned(), |(_, reason)| reason.to_string()))
            }
        }
    }
}

fn host_device(ifindex: u32) -> Option<String> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::DGRAM, None);
    rustix::net::netdevice::index_to_name(socket.ok()?, ifindex).ok()
}

/// Who made a route, by the names of iproute2 (`/etc/iproute2/rt_protos`).
fn protocol(number: u8) -> String {
    let name = match number {
        PROTOCOL => "shunt",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        9 => "ra",
        11 => "zebra",
        12 => "bird",
        16 => "dhcp",
        42 => "babel",
        186 => "bgp",
        187 => "isis",
        188 => "ospf",
        189 => "rip",
        _ => return number.to_string(),
    };
    name.to_owned()
}

/// A route as it is printed.
pub(super) struct Route {
    pub(super) prefix: IpNet,
    pub(super) kind: Kind,
    pub(super) protocol: String,
    pub(super) metric: u32,
    /// From the kernel's table of the host's own addresses.
    pub(super) is_local: bool,
    pub(super) hops: Vec<Hop>,
    /// Why it is left to the kernel, if it is.
    pub(super) kernel: Option<String>,
}

/// One of its ways.
pub(super) struct Hop {
    via: Option<String>,
    pub(super) dev: String,
    weight: u16,
    pub(super) mac: Option<String>,
}

impl Route {
    pub(super) fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Unicast => "unicast",
            Kind::Local => "local",
            Kind::Broadcast => "broadcast",
            Kind::Blackhole => "blackhole",
            Kind::Unreachable => "unreachable",
            Kind::Prohibit => "prohibit",
            Kind::Throw => "throw",
        }
    }

    /// A line for each way, the first with everything else.
    pub(super) fn lines(&self) -> Vec<Vec<String>> {
        let mut ways: Vec<String> = self.hops.iter().map(Hop::text).collect();
        if ways.is_empty() {
            ways.push(self.kind().to_owned());
        }
        let by = self.kernel.as_ref().map_or("workers".to_owned(), |why| format!("kernel: {why}"));
        let more = [self.protocol.clone(), self.metric.to_string(), by];
        let first = [self.prefix.to_string(), ways[0].clone()].into_iter().chain(more).collect();
        let others =
            ways[1..].iter().map(|way| vec![String::new(), way.clone(), String::new(), String::new(), String::new()]);
        [first].into_iter().chain(others).collect()
    }

    pub(super) fn json(&self) -> Value {
        let hops: Vec<Value> = self.hops.iter().map(Hop::json).collect();
        json!({
            "prefix": self.prefix.to_string(), "type": self.kind(), "protocol": self.protocol, "metric": self.metric,
            "next_hops": hops, "forwarded_by": if self.kernel.is_none() { "workers" } else { "kernel" },
            "reason": self.kernel,
        })
    }
}

impl Hop {
    pub(super) fn text(&self) -> String {
        let via = self.via.as_ref().map_or(String::new(), |via| format!("via {via} "));
        let weight = if self.weight > 1 { format!(" weight {}", self.weight) } else { String::new() };
        format!("{via}dev {}{weight}", self.dev)
    }

    fn json(&self) -> Value {
        json!({"via": self.via, "dev": self.dev, "weight": self.weight, "mac": self.mac})
    }
}

/// Headings of [`Route::lines`].
pub(super) const HEADINGS: [&str; 5] = ["Prefix", "Next hop", "Protocol", "Metric", "Forwarded by"];
