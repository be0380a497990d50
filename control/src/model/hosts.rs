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

/// Who serves whom.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Hosts {
    /// By name of an interface with hosts behind it.
    all: BTreeMap<String, Host>,
    /// Of these, those in a VLAN of a bridge, and those that an SVI serves.
    by_place: BTreeMap<Place, BTreeSet<String>>,
    by_leg: BTreeMap<String, BTreeSet<String>>,
    /// Whose an address is.
    owners: BTreeMap<(VrfName, IpAddr), String>,
    /// Those whom nobody serves: what changes may help them.
    refused: BTreeSet<String>,
}

/// A bridge and a VLAN.
type Place = (String, u16);

/// An interface with hosts behind it, as it was last looked at.
#[derive(Debug, Clone, PartialEq)]
struct Host {
    place: Place,
    /// The SVI that serves them, or why none does.
    leg: Result<String, String>,
    owned: Vec<(VrfName, IpAddr)>,
    routes: BTreeSet<Uuid>,
}

impl Hosts {
    /// Why nobody serves the hosts behind an interface.
    pub fn refusal(&self, name: &str) -> Option<&String> {
        self.all.get(name)?.leg.as_ref().err()
    }

    fn put(&mut self, name: &str, host: Host) {
        let name = || name.to_owned();
        self.by_place.entry(host.place.clone()).or_default().insert(name());
        match &host.leg {
            Ok(leg) => self.by_leg.entry(leg.clone()).or_default().insert(name()),
            Err(_) => self.refused.insert(name()),
        };
        self.owners.extend(host.owned.iter().map(|owned| (owned.clone(), name())));
        self.all.insert(name(), host);
    }

    fn take(&mut self, name: &str) -> Option<Host> {
        let host = self.all.remove(name)?;
        take_from(&mut self.by_place, &host.place, name);
        let _ = host.leg.as_ref().map(|leg| take_from(&mut self.by_leg, leg, name));
        self.refused.remove(name);
        host.owned.iter().for_each(|owned| drop(self.owners.remove(owned)));
        Some(host)
    }
}

fn take_from<K: Ord>(sets: &mut BTreeMap<K, BTreeSet<String>>, key: &K, name: &str) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(name);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

impl Model {
    /// The hosts that the SVI `name` serves.
    pub fn served_by(&self, name: &str) -> Served {
        let Some((own, leg)) = self.hosts.by_leg.get(name).zip(self.interfaces.get(name)) else {
            return Served::default();
        };
        let hosts =
            own.iter().filter_map(|host| self.interfaces.get(host)?.hosts.as_ref()).flatten().copied().collect();
        let vlan = leg.untagged_vlan();
        let is_other = |(other, interface): (&String, &Interface)| {
            other != name
                && interface.hosts.is_none()
                && interface.bridge == leg.bridge
                && interface.wanted != Wanted::Internal
                && interface.carries(vlan)
        };
        Served { is_alone: !self.interfaces.iter().any(is_other), hosts }
    }

    /// Works out anew who serves whom, as far as that hangs on the interfaces `touched`, which came, went or changed on `bridges`; true
    /// if somebody is served by another one. Adds to `touched` whom that concerns, to `others` interfaces that became SVIs or ceased
    /// to be, and to `routes` those to hosts that came or went.
    pub(super) fn settle_hosts(
        &mut self,
        touched: &mut BTreeSet<String>,
        bridges: &BTreeSet<String>,
        others: &mut BTreeSet<String>,
        routes: &mut BTreeSet<Uuid>,
    ) -> bool {
        let is_host = |name: &String| self.interfaces.get(name).is_some_and(|interface| interface.hosts.is_some());
        let mut due: BTreeSet<String> =
            touched.iter().filter(|name| is_host(name) || self.hosts.all.contains_key(*name)).cloned().collect();
        if due.is_empty() && self.hosts.all.is_empty() {
            return false;
        }
        self.imply_svis(&due, touched, others);
        for name in touched.iter().chain(&*others).filter(|name| self.is_or_was_svi(name)) {
            due.extend(self.depend_on(name));
        }
        for name in &*others {
            let is_there = self.interfaces.get(name).is_some_and(|interface| interface.svi.is_some());
            super::rows::put(&mut self.svis, name, is_there);
        }
        due.extend(self.hosts.refused.iter().cloned());
        let before: BTreeMap<String, Option<Host>> =
            due.into_iter().map(|name| (name.clone(), self.hosts.take(&name))).collect();
        // Who had its addresses before keeps them.
        let had = |host: &Option<Host>| host.as_ref().is_some_and(|host| host.leg.is_ok());
        let (first, last): (Vec<_>, Vec<_>) = before.iter().partition(|(_, host)| had(host));
        let mut is_other = false;
        let mut concerned = BTreeSet::new();
        for (name, old) in first.into_iter().chain(last) {
            let new = self.host(name);
            self.route_hosts(name, old.as_ref(), new.as_ref(), routes);
            let legs = [old.as_ref(), new.as_ref()].map(|host| host.map(|host| &host.leg));
            if legs[0] != legs[1] {
                is_other = true;
                concerned.insert(name.clone());
                concerned.extend(legs.into_iter().flatten().flatten().cloned());
            }
            new.into_iter().for_each(|new| self.hosts.put(name, new));
        }
        let is_near = |leg: &&String| self.interfaces.get(*leg).is_some_and(|leg| bridges.contains(&leg.bridge));
        concerned.extend(self.hosts.by_leg.keys().filter(is_near).cloned());
        touched.extend(concerned);
        is_other
    }

    fn is_or_was_svi(&self, name: &str) -> bool {
        self.svis.contains(name) || self.interfaces.get(name).is_some_and(|interface| interface.svi.is_some())
    }

    /// The hosts that an SVI serves, or might, or whose addresses it has.
    fn depend_on(&self, svi: &str) -> BTreeSet<String> {
        let mut all = self.hosts.by_leg.get(svi).cloned().unwrap_or_default();
        if let Some(own) = self.interfaces.get(svi) {
            all.extend(self.hosts.by_place.get(&own.place()).into_iter().flatten().cloned());
            let (vrf, addresses) = own.svi.as_ref().map(|svi| (svi.vrf.clone(), &svi.addresses)).unzip();
            let keys = addresses.into_iter().flatten().map(|net| (vrf.clone().flatten(), net.addr()));
            all.extend(keys.filter_map(|key| self.hosts.owners.get(&key).cloned()));
        }
        all
    }

    /// Makes the own interfaces of bridges SVIs where there are hosts in their VLANs, and no longer where there are none. `due` are
    /// hosts that came, went or changed.
    fn imply_svis(&mut self, due: &BTreeSet<String>, touched: &BTreeSet<String>, others: &mut BTreeSet<String>) {
        let is_own = |name: &&String| self.bridges.contains_key(*name) || self.is_or_was_svi(name);
        let mut names: BTreeSet<String> = touched.iter().filter(is_own).cloned().collect();
        names.extend(due.iter().filter_map(|name| Some(self.hosts.all.get(name)?.place.0.clone())));
        names.extend(due.iter().filter_map(|name| Some(self.interfaces.get(name)?.bridge.clone())));
        for name in names {
            let Some(own) = self.interfaces.get(&name) else { continue };
            let place = own.place();
            let mut stay = self.hosts.by_place.get(&place).into_iter().flatten().filter(|host| !due.contains(*host));
            let comes = |host: &String| {
                self.interfaces.get(host).is_some_and(|host| host.hosts.is_some() && host.place() == place)
            };
            let is_wanted = own.wanted == Wanted::Internal
                && own.bridge == name
                && (stay.next().is_some() || due.iter().any(comes));
            let svi = match &own.svi {
                None if is_wanted => Some(Svi::implied()),
                Some(svi) if svi.is_implied() && !is_wanted => None,
                _ => continue,
            };
            self.interfaces.get_mut(&name).expect("it is there").svi = svi;
            others.insert(name);
        }
    }

    /// The interface `name` with the hosts behind it, if there are some: who serves them, and what they own.
    fn host(&self, name: &str) -> Option<Host> {
        let interface = self.interfaces.get(name)?;
        let addresses = interface.hosts.as_ref()?;
        let leg = self.leg_for(name, interface);
        let vrf = leg.as_ref().ok().and_then(|leg| self.interfaces.get(leg)?.svi.as_ref()?.vrf.clone());
        let owned = addresses.iter().filter(|_| leg.is_ok()).map(|address| (vrf.clone(), *address)).collect();
        let v6 = addresses.iter().filter(|address| address.is_ipv6() && leg.is_ok());
        let routes = v6.map(|address| route_number(interface.uuid, *address)).collect();
        Some(Host { place: interface.place(), leg, owned, routes })
    }

    /// A route to each IPv6 host. A link of its own, as IPv4 hosts have, would be connected; but FRR (8.4) does not notice when it goes.
    fn route_hosts(&mut self, name: &str, old: Option<&Host>, new: Option<&Host>, changed: &mut BTreeSet<Uuid>) {
        for gone in old.into_iter().flat_map(|old| &old.routes) {
            if new.is_none_or(|new| !new.routes.contains(gone)) {
                self.routes.remove(gone);
                changed.insert(*gone);
            }
        }
        let Some((new, interface)) = new.zip(self.interfaces.get(name)) else { return };
        let Ok(leg) = &new.leg else { return };
        for (vrf, host) in new.owned.iter().filter(|(_, host)| host.is_ipv6()) {
            let hop = NextHop { via: None, dev: Some(leg.clone()), weight: 1, onlink: false };
            let route = StaticRoute {
                vrf: vrf.clone(),
                prefix: (*host).into(),
                kind: Kind::Unicast,
                metric: 0,
                hops: BTreeSet::from([hop]),
            };
            let number = route_number(interface.uuid, *host);
            if self.routes.get(&number) != Some(&Ok(route.clone())) {
                self.routes.insert(number, Ok(route));
                changed.insert(number);
            }
        }
    }

    /// The SVI that serves the hosts behind an interface, or why none does.
    fn leg_for(&self, name: &str, interface: &Interface) -> Result<String, String> {
        let place = interface.place();
        let is_leg = |leg: &&String| {
            let leg = self.interfaces.get(*leg);
            leg.is_some_and(|leg| leg.svi.is_some() && leg.place() == place)
        };
        let (bridge, vlan) = &place;
        let Some(leg) = self.svis.iter().find(is_leg) else {
            return Err(format!(
                "the hosts behind {name} have no gateway: VLAN {vlan} of {bridge} has no SVI; `add-svi {bridge} NAME tag={vlan}`"
            ));
        };
        let svi = self.interfaces[leg].svi.as_ref();
        let vrf = svi.and_then(|svi| svi.vrf.clone());
        for address in interface.hosts.iter().flatten() {
            let of_svi = |svi: &&String| {
                let other = self.interfaces.get(*svi).and_then(|interface| interface.svi.as_ref());
                other.is_some_and(|other| other.vrf == vrf && other.addresses.iter().any(|net| net.addr() == *address))
            };
            let owner = self.hosts.owners.get(&(vrf.clone(), *address)).or_else(|| self.svis.iter().find(of_svi));
            if let Some(owner) = owner {
                return Err(format!(
                    "options:host-addresses of {name}: {address} belongs to {owner}: remove it from one of them"
                ));
            }
        }
        Ok(leg.clone())
    }
}

/// No row has this number.
fn route_number(interface: Uuid, host: IpAddr) -> Uuid {
    let bits = if let IpAddr::V6(host) = host { host.to_bits() } else { 0 };
    Uuid::from_u128(interface.as_u128().rotate_left(64) ^ bits)
}

impl Interface {
    /// The VLAN that its untagged frames are in.
    pub fn untagged_vlan(&self) -> u16 {
        match self.vlan.mode {
            Some(Mode::Trunk) => 0,
            _ => self.vlan.tag.unwrap_or(0),
        }
    }

    fn place(&self) -> Place {
        (self.bridge.clone(), self.untagged_vlan())
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
