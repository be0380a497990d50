//! What are packets routed by: which interfaces, and which routes in each VRF?
//!
//! Run-time commands find here, by VRF: all routes ([`Vrf::rib`]), what of them the workers go by and which neighbours are
//! known ([`Vrf::forwarding`]), where an address leads ([`Router::lookup`]), and the interfaces ([`Router::interfaces`]).

use super::{Bridge, Numbers, Port, random_seed};
use crate::kernel::{Link, Told};
use crate::model::Model;
use crate::model::router::{Svi, VrfName};
use crate::routing::decode::News;
use crate::routing::forward::{Forwarding, Writers};
use crate::routing::rib::{Best, Rib};
use ipnet::IpNet;
use shunt_switch::config::{self, PortIndex};
use shunt_switch::limits;
use shunt_switch::table::bucket::Bucket;
use shunt_switch::table::fib::Pass;
use shunt_switch::table::next_hop::{Hop, InterfaceIndex};
use shunt_switch::wire::ethernet::Mac;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Everything that packets are routed by.
pub struct Router {
    /// By VRF: those that some row names.
    pub vrfs: BTreeMap<VrfName, Vrf>,
    /// By interface name: the SVIs whose host end is there.
    pub interfaces: BTreeMap<String, RouterInterface>,
    /// None before the first VRF.
    writers: Option<Writers>,
    numbers: Numbers,
    /// Numbers that some worker may still know.
    leaving: Vec<u16>,
    seed: u64,
    to_forget: Vec<(VrfName, u32, IpAddr)>,
    /// What workers must come past before memory is used again.
    owed: Option<Pass>,
}

/// The routes of one VRF.
pub struct Vrf {
    /// As the kernel has them.
    pub rib: Rib,
    /// What of them the workers have, and the neighbours.
    pub forwarding: Forwarding,
    /// Neighbours that a reading has shown so far, while there is one.
    reading: Option<HashSet<(u32, IpAddr)>>,
}

/// An interface of the router whose host end is there.
pub struct RouterInterface {
    /// Its number in the data plane.
    pub index: InterfaceIndex,
    /// Its VRF.
    pub vrf: VrfName,
    /// The host end, as it was when something about it last changed.
    pub link: Link,
    exceptions_pps: u64,
    exceptions: Arc<Bucket>,
    pinned: Option<Pinned>,
}

/// The router's address in a FDB.
#[derive(Clone, PartialEq)]
struct Pinned {
    bridge: String,
    vlan: u16,
    mac: Mac,
    port: PortIndex,
}

/// What news may have made different.
#[derive(Debug, Default)]
pub struct Touched {
    /// Prefixes whose routes came, changed or went.
    pub prefixes: BTreeSet<IpNet>,
    /// Neighbours that did.
    pub neighbours: BTreeSet<(u32, IpAddr)>,
    /// Devices that did.
    pub devices: BTreeSet<u32>,
}

impl Default for Router {
    fn default() -> Self {
        Self {
            vrfs: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            writers: None,
            numbers: Numbers::new(limits::PORTS_MAX),
            leaving: Vec::new(),
            seed: random_seed(),
            to_forget: Vec::new(),
            owed: None,
        }
    }
}

impl Router {
    /// Makes room for the routes of a VRF.
    ///
    /// # Errors
    /// If there is none, in words.
    pub fn open(&mut self, vrf: &VrfName) -> Result<(), String> {
        if self.writers.is_none() {
            self.writers = Some(Writers::new(random_seed()).map_err(|error| error.to_string())?);
        }
        if let (Some(writers), false) = (&mut self.writers, self.vrfs.contains_key(vrf)) {
            let forwarding = Forwarding::new(writers).map_err(|error| error.to_string())?;
            self.vrfs.insert(vrf.clone(), Vrf { rib: Rib::default(), forwarding, reading: None });
        }
        Ok(())
    }

    /// Forgets a VRF. No snapshot in force may have an interface of it.
    pub fn close(&mut self, vrf: &VrfName) {
        if let (Some(vrf), Some(writers)) = (self.vrfs.remove(vrf), &mut self.writers) {
            vrf.forwarding.drop_from(writers);
            self.commit();
        }
    }

    /// Takes in what the kernel told of a VRF: the workers go by it when this returns.
    pub fn take(&mut self, vrf: &VrfName, told: Vec<Told>) -> Touched {
        let mut touched = Touched::default();
        let (Some(vrf), Some(writers)) = (self.vrfs.get_mut(vrf), &mut self.writers) else { return touched };
        for told in told {
            match told {
                Told::ReadingStarted => {
                    vrf.rib.start_reading();
                    vrf.reading = Some(HashSet::new());
                }
                Told::ReadingFinished => {
                    vrf.rib.finish_reading(&mut touched.prefixes);
                    let shown = vrf.reading.take().unwrap_or_default();
                    let known: Vec<_> = vrf.forwarding.neighbours().map(|(ifindex, ip, _)| (ifindex, ip)).collect();
                    for (ifindex, address) in known.into_iter().filter(|one| !shown.contains(one)) {
                        vrf.forwarding.set_neighbour(writers, &vrf.rib, ifindex, address, None);
                        touched.neighbours.insert((ifindex, address));
                    }
                }
                Told::News(News::Neighbour { ifindex, address, mac }) => {
                    vrf.forwarding.set_neighbour(writers, &vrf.rib, ifindex, address, mac);
                    if let Some(shown) = &mut vrf.reading {
                        shown.insert((ifindex, address));
                    }
                    touched.neighbours.insert((ifindex, address));
                }
                Told::News(news) => {
                    if let News::DeviceUp(ifindex) | News::DeviceDown(ifindex) = news {
                        touched.devices.insert(ifindex);
                    }
                    vrf.rib.apply(news, &mut touched.prefixes);
                }
            }
        }
        vrf.forwarding.update(writers, &vrf.rib, &touched.prefixes);
        self.commit();
        touched
    }

    /// A reading of the VRF's tables is under way, or has not begun.
    pub fn is_reading(&self, vrf: &VrfName) -> bool {
        self.vrfs.get(vrf).is_none_or(|vrf| vrf.reading.is_some())
    }

    /// The SVI on the interface `name` has this host end from now on, or none. True if the workers must know.
    ///
    /// # Errors
    /// If there are too many, in words.
    pub fn set_interface(&mut self, name: &str, svi: Option<(&Svi, Link)>) -> Result<bool, String> {
        let Some((svi, link)) = svi else { return Ok(self.remove_interface(name)) };
        if let Some(old) = self.interfaces.get_mut(name)
            && (&old.vrf, old.link.ifindex) == (&svi.vrf, link.ifindex)
        {
            let seen = |link: &Link| (link.mac, link.mtu, link.admin_up);
            let is_other = seen(&old.link) != seen(&link) || old.exceptions_pps != svi.exceptions_pps;
            old.link = link;
            old.set_exceptions(svi.exceptions_pps);
            return Ok(is_other);
        }
        self.remove_interface(name);
        let index = self.numbers.take().ok_or_else(|| {
            format!("{name} is not routed by: the router already has {} interfaces, its limit", limits::PORTS_MAX)
        })?;
        let index = InterfaceIndex(index);
        if let (Some(vrf), Some(writers)) = (self.vrfs.get_mut(&svi.vrf), &mut self.writers) {
            vrf.forwarding.set_interface(writers, &vrf.rib, link.ifindex, Some(index));
        }
        let pps = svi.exceptions_pps;
        let exceptions = Arc::new(Bucket::new(pps, pps));
        let vrf = svi.vrf.clone();
        let interface = RouterInterface { index, vrf, link, exceptions_pps: pps, exceptions, pinned: None };
        self.interfaces.insert(name.to_owned(), interface);
        self.commit();
        Ok(true)
    }

    fn remove_interface(&mut self, name: &str) -> bool {
        let Some(old) = self.interfaces.remove(name) else { return false };
        if let (Some(vrf), Some(writers)) = (self.vrfs.get_mut(&old.vrf), &mut self.writers) {
            vrf.forwarding.set_interface(writers, &vrf.rib, old.link.ifindex, None);
        }
        self.leaving.push(old.index.0);
        self.commit();
        true
    }

    fn commit(&mut self) {
        if let Some(writers) = &mut self.writers {
            self.owed = Some(writers.commit());
        }
    }

    /// Octets that the FIB takes.
    pub fn fib_bytes(&self) -> u64 {
        self.writers.as_ref().map_or(0, Writers::used_bytes)
    }

    /// Workers must come past before what changed routes have freed can be used again.
    pub fn is_owed(&self) -> bool {
        self.owed.is_some()
    }

    /// All workers have come past since the last change.
    pub fn reclaim(&mut self) {
        if let (Some(pass), Some(writers)) = (self.owed.take(), &mut self.writers) {
            writers.reclaim(pass);
        }
    }

    /// Neighbours that packets went to since the last call, by VRF and the kernel's number of the device.
    pub fn take_used(&mut self) -> Vec<(VrfName, u32, IpAddr)> {
        let used = self.writers.as_mut().map(Writers::take_used).unwrap_or_default();
        let of = |vrf: &Vrf, index| vrf.forwarding.ifindex(index);
        let find = |index| self.vrfs.iter().find_map(|(name, vrf)| Some((name.clone(), of(vrf, index)?)));
        let known =
            used.into_iter().filter_map(|one| find(one.interface).map(|(vrf, ifindex)| (vrf, ifindex, one.address)));
        known.collect()
    }

    /// By which route packets for `address` go in a VRF, if there is one: the longest prefix that has one in force.
    pub fn lookup(&self, vrf: &VrfName, address: IpAddr) -> Option<(IpNet, Best)> {
        let rib = &self.vrfs.get(vrf)?.rib;
        let host = IpNet::from(address);
        (0..=host.max_prefix_len()).rev().find_map(|len| {
            let net = IpNet::new(address, len).ok()?.trunc();
            Some((net, rib.best(&net)?))
        })
    }

    /// What a worker makes of a packet for `address` in a VRF whose flow has this hash; none without a route.
    pub fn hop(&self, vrf: &VrfName, address: IpAddr, hash: u32) -> Option<Hop> {
        let (fib, hops) = self.writers.as_ref()?.shared();
        let tables = self.vrfs.get(vrf)?.forwarding.tables();
        let table = if address.is_ipv4() { tables.v4 } else { tables.v6 };
        fib.lookup_any(table, address).map(|target| hops.hop(target, || hash))
    }

    /// What the workers' hash of flows begins with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Neighbours that the kernel is to forget, by VRF and the kernel's number of the device.
    pub fn forget(&mut self, neighbours: impl IntoIterator<Item = (VrfName, u32, IpAddr)>) {
        self.to_forget.extend(neighbours);
    }

    /// There are such.
    pub fn has_to_forget(&self) -> bool {
        !self.to_forget.is_empty()
    }

    /// Those, once.
    pub fn take_to_forget(&mut self) -> Vec<(VrfName, u32, IpAddr)> {
        std::mem::take(&mut self.to_forget)
    }

    /// The interface that has this number of the kernel in a VRF.
    pub fn interface_of(&self, vrf: &VrfName, ifindex: u32) -> Option<&str> {
        let own =
            |(_, interface): &(&String, &RouterInterface)| &interface.vrf == vrf && interface.link.ifindex == ifindex;
        self.interfaces.iter().find(own).map(|(name, _)| name.as_str())
    }

    pub(super) fn index_of(&self, name: &str) -> Option<InterfaceIndex> {
        self.interfaces.get(name).map(|interface| interface.index)
    }

    /// As the workers know it; none without an interface.
    pub(super) fn compile(&self, ports: &BTreeMap<String, Port>) -> Option<config::Router> {
        let (fib, hops) = self.writers.as_ref().filter(|_| !self.interfaces.is_empty())?.shared();
        let mut interfaces = Vec::new();
        for (name, interface) in &self.interfaces {
            let (Some(port), Some(vrf)) = (ports.get(name), self.vrfs.get(&interface.vrf)) else { continue };
            if !interface.link.admin_up {
                continue;
            }
            let compiled = config::Interface {
                port: port.index,
                mac: Mac::new(interface.link.mac),
                mtu: interface.link.mtu,
                tables: vrf.forwarding.tables(),
                exceptions: Arc::clone(&interface.exceptions),
            };
            super::compile::put(&mut interfaces, interface.index.0, Some(compiled));
        }
        Some(config::Router { fib, hops, interfaces, seed: self.seed })
    }

    /// No worker knows an interface that went before the last snapshot, and all have come past.
    pub(super) fn installed(&mut self) {
        self.reclaim();
        self.leaving.drain(..).for_each(|number| self.numbers.give_back(number));
    }

    /// Keeps the router's addresses in the FDBs, where they neither age nor move.
    pub(super) fn pin(
        &mut self,
        model: &Model,
        touched: &BTreeSet<String>,
        bridges: &BTreeMap<String, Bridge>,
        ports: &BTreeMap<String, Port>,
    ) {
        let unpin =
            |pinned: &Pinned| bridges.get(&pinned.bridge).is_some_and(|b| b.fdb.remove_static(pinned.vlan, pinned.mac));
        for name in touched {
            let Some(interface) = self.interfaces.get_mut(name) else { continue };
            let place = ports.get(name).zip(model.interfaces.get(name));
            let wanted = place.map(|(port, configured)| Pinned {
                bridge: port.bridge.clone(),
                vlan: configured.untagged_vlan(),
                mac: Mac::new(interface.link.mac),
                port: port.index,
            });
            if interface.pinned != wanted {
                interface.pinned.take().as_ref().map(unpin);
            }
            if let Some((pinned, bridge)) = wanted.and_then(|pinned| bridges.get(&pinned.bridge).map(|b| (pinned, b))) {
                if bridge.fdb.add_static(pinned.vlan, pinned.mac, pinned.port).is_err() {
                    tracing::warn!("{name}: the FDB of {} has no room for the router's address", pinned.bridge);
                }
                interface.pinned = Some(pinned);
            }
        }
    }

    /// Takes the address of an interface that goes out of the FDB.
    pub(super) fn unpin(&mut self, name: &str, bridges: &BTreeMap<String, Bridge>) {
        if let Some(pinned) = self.interfaces.get_mut(name).and_then(|interface| interface.pinned.take())
            && let Some(bridge) = bridges.get(&pinned.bridge)
        {
            bridge.fdb.remove_static(pinned.vlan, pinned.mac);
        }
    }
}

impl RouterInterface {
    fn set_exceptions(&mut self, pps: u64) {
        if std::mem::replace(&mut self.exceptions_pps, pps) != pps {
            self.exceptions = Arc::new(Bucket::new(pps, pps));
        }
    }
}
