//! Which ports lead to hosts that have nothing but addresses, and which interface of the router serves each?
//!
//! `options:host-addresses` of an interface names the addresses behind it. They are routed to by the SVI in the port's VLAN; in the
//! VLAN of the bridge's own interface, that one is an SVI without a row as soon as such a port is there.

use super::router::{EXCEPTIONS_PPS, StaticRoute, Svi, VrfName};
use super::{Interface, Model, Wanted};
use crate::database::RowRef;
use crate::kernel::Address;
use crate::routing::rib::Kind;
use crate::routing::text::{self, NextHop};
use shunt_switch::table::vlan::{Carried, Mode, VlanPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use uuid::Uuid;

/// The addresses behind the interface `name`, if it names any; what is no address is left out, and said.
pub(super) fn read(name: &str, row: RowRef<'_>) -> (Option<BTreeSet<IpAddr>>, Option<String>) {
    let Some(listed) = row.get("options").get("host-addresses") else { return (None, None) };
    let mut addresses = BTreeSet::new();
    let mut problem = None;
    for word in listed.split([',', ' ']).filter(|word| !word.is_empty()) {
        match text::host_address(word) {
            Ok(address) if addresses.insert(address) => {}
            Ok(_) => problem = Some(format!("{word} is there twice: remove one of them")),
            Err(wrong) => problem = Some(wrong.to_string()),
        }
    }
    if addresses.is_empty() && problem.is_none() {
        problem = Some("it has no address: write one as 10.9.0.7, or remove the key".to_owned());
    }
    (Some(addresses), problem.map(|text| format!("options:host-addresses of {name}: {text}")))
}

impl Svi {
    /// That of a bridge's own interface, which has no row of its own.
    fn implied() -> Self {
        Self {
            uuid: Uuid::nil(),
            addresses: BTreeSet::new(),
            vrf: None,
            exceptions_pps: EXCEPTIONS_PPS,
            proxy_arp: None,
            problem: None,
        }
    }

    pub(super) fn is_implied(&self) -> bool {
        self.uuid.is_nil()
    }
}

/// What an SVI does for the hosts of its VLAN.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Their addresses.
    pub hosts: BTreeSet<IpAddr>,
    /// Nobody else is in the VLAN: it may answer for any gateway.
    pub is_alone: bool,
}

impl Model {
    /// The hosts that the SVI `name` serves.
    pub fn served_by(&self, name: &str) -> Served {
        let own = self.hosts.iter().filter(|(_, leg)| leg.as_deref() == Ok(name));
        let hosts: BTreeSet<IpAddr> =
            own.filter_map(|(host, _)| self.interfaces.get(host)?.hosts.as_ref()).flatten().copied().collect();
        let Some(leg) = self.interfaces.get(name).filter(|_| !hosts.is_empty()) else { return Served::default() };
        let vlan = leg.untagged_vlan();
        let is_other = |(other, interface): (&String, &Interface)| {
            other != name
                && interface.bridge == leg.bridge
                && interface.hosts.is_none()
                && interface.wanted != Wanted::Internal
                && interface.carries(vlan)
        };
        Served { is_alone: !self.interfaces.iter().any(is_other), hosts }
    }

    /// Works out anew who serves which host, because the interfaces `touched` came, went or changed; true if somebody is served
    /// by another one. Adds to `touched` whom that concerns, to `others` interfaces that became SVIs or ceased to be, and to
    /// `routes` those to hosts that came or went.
    pub(super) fn settle_hosts(
        &mut self,
        touched: &mut BTreeSet<String>,
        others: &mut BTreeSet<String>,
        routes: &mut BTreeSet<Uuid>,
    ) -> bool {
        let is_host = |name: &String| self.interfaces.get(name).is_some_and(|interface| interface.hosts.is_some());
        let is_concerned = |name: &String| is_host(name) || self.hosts.contains_key(name);
        if self.hosts.is_empty() && !touched.iter().any(is_concerned) {
            return false;
        }
        let names: BTreeSet<String> =
            self.hosts.keys().chain(&*touched).filter(|name| is_host(name)).cloned().collect();
        let places: BTreeSet<(String, u16)> =
            names.iter().map(|name| &self.interfaces[name]).map(|i| (i.bridge.clone(), i.untagged_vlan())).collect();
        self.imply_svis(&places, others);
        for name in &*others {
            let is_there = self.interfaces.get(name).is_some_and(|interface| interface.svi.is_some());
            super::rows::put(&mut self.svis, name, is_there);
        }
        let before = std::mem::take(&mut self.hosts);
        // Who had its addresses before keeps them.
        let (first, last): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| matches!(before.get(name), Some(Ok(_))));
        let mut owners: BTreeMap<(VrfName, IpAddr), String> = BTreeMap::new();
        for name in first.into_iter().chain(last) {
            let leg = self.leg_for(&name, &mut owners);
            self.hosts.insert(name, leg);
        }
        self.route_hosts(routes);
        let legs = before.values().chain(self.hosts.values()).filter_map(|leg| leg.as_ref().ok());
        let bridges: BTreeSet<&str> =
            touched.iter().filter_map(|name| self.interfaces.get(name)).map(|i| i.bridge.as_str()).collect();
        let of_touched = |leg: &&String| {
            self.interfaces.get(*leg).is_none_or(|interface| bridges.contains(interface.bridge.as_str()))
        };
        let mut concerned: BTreeSet<String> = legs.filter(of_touched).cloned().collect();
        for (name, leg) in before.iter().chain(&self.hosts) {
            if before.get(name) != self.hosts.get(name) {
                concerned.insert(name.clone());
                concerned.extend(leg.as_ref().ok().cloned());
            }
        }
        touched.extend(concerned);
        before != self.hosts
    }

    /// Makes the own interfaces of bridges SVIs where there are hosts in their VLANs, `places`, and no longer where there are none.
    fn imply_svis(&mut self, places: &BTreeSet<(String, u16)>, others: &mut BTreeSet<String>) {
        let names: BTreeSet<String> = self.bridges.keys().chain(&self.svis).cloned().collect();
        for name in names {
            let Some(own) = self.interfaces.get_mut(&name) else { continue };
            let is_wanted = own.wanted == Wanted::Internal
                && own.bridge == name
                && places.contains(&(name.clone(), own.untagged_vlan()));
            match &own.svi {
                None if is_wanted => own.svi = Some(Svi::implied()),
                Some(svi) if svi.is_implied() && !is_wanted => own.svi = None,
                _ => continue,
            }
            others.insert(name);
        }
    }

    /// A route to each IPv6 host. A link of its own, as IPv4 hosts have, would be connected; but FRR (8.4) does not notice when it goes.
    fn route_hosts(&mut self, changed: &mut BTreeSet<Uuid>) {
        let mut wanted = BTreeMap::new();
        for (name, leg) in &self.hosts {
            let (Some(interface), Ok(leg)) = (self.interfaces.get(name), leg) else { continue };
            let svi = self.interfaces.get(leg).and_then(|leg| leg.svi.as_ref());
            for host in interface.hosts.iter().flatten() {
                let IpAddr::V6(address) = host else { continue };
                let hop = NextHop { via: None, dev: Some(leg.clone()), weight: 1, onlink: false };
                let route = StaticRoute {
                    vrf: svi.and_then(|svi| svi.vrf.clone()),
                    prefix: (*host).into(),
                    kind: Kind::Unicast,
                    metric: 0,
                    hops: BTreeSet::from([hop]),
                };
                // No row has this number.
                wanted.insert(Uuid::from_u128(interface.uuid.as_u128() ^ address.to_bits()), route);
            }
        }
        let gone = self.host_routes.iter().filter(|uuid| !wanted.contains_key(*uuid));
        for uuid in gone.copied().collect::<Vec<_>>() {
            self.routes.remove(&uuid);
            changed.insert(uuid);
        }
        self.host_routes = wanted.keys().copied().collect();
        for (uuid, route) in wanted {
            if self.routes.get(&uuid) != Some(&Ok(route.clone())) {
                self.routes.insert(uuid, Ok(route));
                changed.insert(uuid);
            }
        }
    }

    /// The SVI that serves the hosts behind an interface, or why none does.
    fn leg_for(&self, name: &str, owners: &mut BTreeMap<(VrfName, IpAddr), String>) -> Result<String, String> {
        let interface = &self.interfaces[name];
        let (bridge, vlan) = (&interface.bridge, interface.untagged_vlan());
        let is_leg = |leg: &&String| {
            let leg = self.interfaces.get(*leg);
            leg.is_some_and(|leg| &leg.bridge == bridge && leg.svi.is_some() && leg.untagged_vlan() == vlan)
        };
        let Some(leg) = self.svis.iter().find(is_leg) else {
            return Err(format!(
                "the hosts behind {name} have no gateway: VLAN {vlan} of {bridge} has no SVI; `add-svi {bridge} NAME tag={vlan}`"
            ));
        };
        let svi = self.interfaces[leg].svi.as_ref();
        let vrf = svi.and_then(|svi| svi.vrf.clone());
        for address in interface.hosts.iter().flatten() {
            let of_svi = |svi: &String| {
                let other = self.interfaces.get(svi).and_then(|interface| interface.svi.as_ref());
                other.is_some_and(|other| other.vrf == vrf && other.addresses.iter().any(|net| net.addr() == *address))
            };
            let owner = owners.get(&(vrf.clone(), *address)).or_else(|| self.svis.iter().find(|svi| of_svi(svi)));
            if let Some(owner) = owner {
                return Err(format!(
                    "options:host-addresses of {name}: {address} belongs to {owner}: remove it from one of them"
                ));
            }
        }
        for address in interface.hosts.iter().flatten() {
            owners.insert((vrf.clone(), *address), name.to_owned());
        }
        Ok(leg.clone())
    }
}

impl Interface {
    /// The VLAN that its untagged frames are in.
    pub fn untagged_vlan(&self) -> u16 {
        match self.vlan.mode {
            Some(Mode::Trunk) => 0,
            _ => self.vlan.tag.unwrap_or(0),
        }
    }

    fn carries(&self, vlan: u16) -> bool {
        VlanPolicy::new(&self.vlan).carried().meets(&Carried::One(vlan))
    }
}

/// Gateways that an SVI is for hosts that are alone with it, whatever addresses it has: those that container network plug-ins use.
pub const GATEWAYS: [(IpAddr, u8); 2] =
    [(IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)), 32), (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)), 64)];

/// The router's own end of the link to an IPv4 host, so that routing daemons see the host's address as connected.
pub fn link_to(host: Ipv4Addr, svi: &Svi) -> Address {
    let own = svi.addresses.iter().map(|net| net.addr()).find(IpAddr::is_ipv4);
    Address { net: own.unwrap_or(GATEWAYS[0].0).into(), peer: Some(host.into()) }
}
