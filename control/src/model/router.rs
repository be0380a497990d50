//! What do the rows of the router say: its interfaces (SVIs), static routes and neighbours?
//!
//! A row that makes no sense has a problem, which becomes its `error`, and is not applied; the others are not harmed. Of two
//! interfaces that ask for the same addresses the one that had them first keeps them.

use crate::database::{Database, RowRef};
use crate::routing::rib::Kind;
use crate::routing::text::{self, NextHop, Wrong};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use uuid::Uuid;

/// A VRF by the name of its network namespace; none: the host's own.
pub type VrfName = Option<String>;

/// How many packets a second may go to the kernel because the workers cannot route them, if the row does not say.
pub(super) const EXCEPTIONS_PPS: u64 = 1000;
/// Longest name of a network namespace: that of a file.
const VRF_BYTES_MAX: usize = 255;

/// An interface of the router, as configured: what its interface has beyond those of a bridge.
#[derive(Debug, Clone, PartialEq)]
pub struct Svi {
    /// Its row.
    pub uuid: Uuid,
    /// Addresses with the lengths of their networks' prefixes.
    pub addresses: BTreeSet<IpNet>,
    /// Its VRF.
    pub vrf: VrfName,
    /// How many packets a second may go to the kernel because the workers cannot route them.
    pub exceptions_pps: u64,
    /// Answer ARP for all addresses that there is a route to; none: as the kernel is set.
    pub proxy_arp: Option<bool>,
    /// Why it is not applied, and what to do.
    pub problem: Option<String>,
}

/// A static route, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticRoute {
    /// Its VRF.
    pub vrf: VrfName,
    /// The destinations.
    pub prefix: IpNet,
    /// What it does with packets.
    pub kind: Kind,
    /// The smallest is the best.
    pub metric: u32,
    /// Where they go.
    pub hops: BTreeSet<NextHop>,
}

/// A neighbour that is not to be asked for its MAC address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticNeighbour {
    /// Its VRF.
    pub vrf: VrfName,
    /// The name of the interface that it is on.
    pub interface: String,
    /// Who it is.
    pub address: IpAddr,
    /// Where it is.
    pub mac: [u8; 6],
}

/// Rows that can be applied, and what is wrong with the others.
pub type Rows<T> = BTreeMap<Uuid, Result<T, String>>;

impl Svi {
    /// The router's interface on the interface `name`, if its row refers to one.
    pub(super) fn read(db: &Database, name: &str, interface: RowRef<'_>) -> Option<Self> {
        let uuid = interface.get("svi").uuids().next()?;
        let row = db.row("SVI", &uuid)?;
        let exceptions = row.get("other_config").get("exceptions-pps");
        let mut svi = Self {
            uuid,
            addresses: BTreeSet::new(),
            vrf: row.get("vrf").as_str().map(str::to_owned),
            exceptions_pps: exceptions.and_then(|text| text.parse().ok()).unwrap_or(EXCEPTIONS_PPS),
            proxy_arp: row.get("other_config").get("proxy-arp").map(|text| text == "true"),
            problem: None,
        };
        svi.problem = svi.read_addresses(row).err().or_else(|| {
            let (own_name, kind) = (row.get("name").as_str().unwrap_or_default(), interface.get("type").as_str());
            if own_name != name {
                return Some(format!("SVI {own_name} belongs to interface {name}: make it anew with the name {name}"));
            }
            if kind != Some("internal") {
                return Some(format!("{name} is not an internal interface: set Interface {name} type=internal"));
            }
            if let Some(text) = exceptions.filter(|text| text.parse::<u64>().is_err()) {
                return Some(format!("other_config:exceptions-pps={text} is not a number of packets a second"));
            }
            let mac = interface.get("mac").as_str().map(|mac| text::mac(mac).map(drop));
            let vrf = svi.vrf.as_deref().map(check_vrf);
            [mac, vrf].into_iter().flatten().find_map(Result::err).map(|wrong| wrong.to_string())
        });
        Some(svi)
    }

    fn read_addresses(&mut self, row: RowRef<'_>) -> Result<(), String> {
        for text in row.get("addresses").strings() {
            let net = text::interface_address(text).map_err(|wrong| wrong.to_string())?;
            if let Some(other) = self.addresses.iter().find(|other| other.addr() == net.addr()) {
                return Err(format!("{net} is there twice, as {other} too: remove one of them"));
            }
            self.addresses.insert(net);
        }
        Ok(())
    }
}

impl StaticRoute {
    pub(super) fn read(row: RowRef<'_>) -> Result<Self, String> {
        Self::parse(row).map_err(|wrong| wrong.to_string())
    }

    fn parse(row: RowRef<'_>) -> Result<Self, Wrong> {
        let prefix = text::prefix(row.get("prefix").as_str().unwrap_or_default())?;
        let texts: Vec<&str> = row.get("next_hops").strings().collect();
        let hops = texts.iter().map(|text| NextHop::parse(text.split_whitespace()));
        let hops = hops.collect::<Result<BTreeSet<_>, _>>()?;
        hops.iter().try_for_each(|hop| hop.check_family(&prefix))?;
        let kind = match row.get("type").as_str().unwrap_or_default() {
            "blackhole" => Kind::Blackhole,
            "unreachable" => Kind::Unreachable,
            "prohibit" => Kind::Prohibit,
            _ => Kind::Unicast,
        };
        if (kind == Kind::Unicast) == hops.is_empty() {
            let (what, remedy) = match kind {
                Kind::Unicast => ("has no next hop", "give one, as \"via 10.0.0.1\", or type=blackhole"),
                _ => ("leads nowhere and yet has next hops", "clear next_hops or type"),
            };
            return Err(Wrong { what: format!("the route to {prefix} {what}"), remedy: remedy.to_owned() });
        }
        let vrf = read_vrf(row)?;
        let metric = row.get("metric").as_integer().and_then(|metric| u32::try_from(metric).ok()).unwrap_or(0);
        Ok(Self { vrf, prefix, kind, metric, hops })
    }
}

impl StaticNeighbour {
    pub(super) fn read(row: RowRef<'_>) -> Result<Self, String> {
        Self::parse(row).map_err(|wrong| wrong.to_string())
    }

    fn parse(row: RowRef<'_>) -> Result<Self, Wrong> {
        let text = |column| row.get(column).as_str().unwrap_or_default();
        Ok(Self {
            vrf: read_vrf(row)?,
            interface: text("interface").to_owned(),
            address: text::host(text("address"))?,
            mac: text::mac(text("mac"))?,
        })
    }
}

fn read_vrf(row: RowRef<'_>) -> Result<VrfName, Wrong> {
    let vrf = row.get("vrf").as_str().map(str::to_owned);
    vrf.as_deref().map(check_vrf).transpose()?;
    Ok(vrf)
}

/// A VRF's name is that of a file.
fn check_vrf(name: &str) -> Result<(), Wrong> {
    if name.is_empty() || name.len() > VRF_BYTES_MAX || matches!(name, "." | "..") || name.contains(['/', '\0']) {
        return Err(Wrong {
            what: format!("\"{name}\" cannot be the name of a VRF"),
            remedy: "it is that of a network namespace, as `ip netns` prints them".to_owned(),
        });
    }
    Ok(())
}

/// Which of the interfaces ask for addresses that another one has, in the order in which they are to be served.
pub(super) fn conflicts<'a>(svis: impl Iterator<Item = (&'a str, &'a Svi)>) -> BTreeMap<String, String> {
    // By first address: the last one, and whose. They never overlap.
    let mut taken: BTreeMap<(&VrfName, IpAddr), (IpAddr, IpNet, &str)> = BTreeMap::new();
    let mut conflicts = BTreeMap::new();
    for (name, svi) in svis.filter(|(_, svi)| svi.problem.is_none()) {
        let shared = svi.addresses.iter().filter(|net| !text::is_link_local(net.addr())).find_map(|net| {
            let before = taken.range(..=(&svi.vrf, net.broadcast())).next_back();
            let ((_, _), (last, other, owner)) = before.filter(|((vrf, _), _)| *vrf == &svi.vrf)?;
            (*last >= net.network()).then_some((net, *other, *owner))
        });
        if let Some((net, other, owner)) = shared {
            let text = format!(
                "{net} of {name} overlaps with {other} of {owner}: change one of them, or put {name} into another vrf"
            );
            conflicts.insert(name.to_owned(), text);
            continue;
        }
        for net in svi.addresses.iter().filter(|net| !text::is_link_local(net.addr())) {
            if !svi.addresses.iter().any(|other| other.trunc() != net.trunc() && other.contains(&net.network())) {
                taken.insert((&svi.vrf, net.network()), (net.broadcast(), *net, name));
            }
        }
    }
    conflicts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svi(vrf: Option<&str>, addresses: &[&str]) -> Svi {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        Svi {
            uuid: Uuid::nil(),
            addresses,
            vrf: vrf.map(str::to_owned),
            exceptions_pps: 1,
            proxy_arp: None,
            problem: None,
        }
    }

    #[test]
    fn networks_belong_to_one_interface_of_a_vrf() {
        let svis = [
            ("a", svi(None, &["10.0.0.1/8", "10.1.0.1/16", "fe80::1/64"])),
            ("b", svi(None, &["10.200.0.1/16"])),
            ("c", svi(Some("red"), &["10.200.0.1/16", "2001:db8::1/64"])),
            ("d", svi(None, &["11.0.0.1/24", "fe80::1/64", "2001:db8::1/64"])),
            ("e", svi(None, &["12.0.0.1/24", "10.0.0.1/32"])),
            ("f", svi(None, &["12.0.0.1/24"])),
            ("g", svi(None, &["8.0.0.1/5"])),
        ];
        let conflicts = conflicts(svis.iter().map(|(name, svi)| (*name, svi)));
        assert_eq!(conflicts.keys().collect::<Vec<_>>(), ["b", "e", "g"]);
        assert!(conflicts["b"].starts_with("10.200.0.1/16 of b overlaps with 10.0.0.1/8 of a: "), "{}", conflicts["b"]);
    }
}
