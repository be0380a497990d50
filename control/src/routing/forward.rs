//! How do routes and neighbours get from the kernel's tables into those that the workers forward by?
//!
//! For each prefix that was touched the way in force is worked out anew and, if it differs, put into the FIB. A route whose
//! next hops are all on interfaces of the switch is forwarded by the workers; every other one leads to the host
//! ([`Way::Local`]), which knows how to go on. A neighbour on a connected network is a host route of its own, so that
//! the workers need no second table.

use super::rib::{Best, Kind, NextHop, Rib};
use ipnet::IpNet;
use shunt_ffi::SyscallError;
use shunt_switch::table::fib::{self, Fib, FibError, Pass, Table, Tables};
use shunt_switch::table::next_hop::{self, InterfaceIndex, Member, Neighbour, NextHops, TooMany, Way};
use shunt_switch::wire::ethernet::Mac;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Words of the FIB: 256 MiB of addresses, of which only those in use cost memory.
const FIB_WORDS: u32 = 1 << 25;

/// Why a route is not in the FIB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The FIB has no room.
    #[error(transparent)]
    Fib(#[from] FibError),
    /// The next hops have none.
    #[error(transparent)]
    NextHops(#[from] TooMany),
}

/// What all VRFs write their routes and next hops into.
pub struct Writers {
    fib: fib::Writer,
    hops: next_hop::Writer,
}

impl Writers {
    /// No routes yet. `seed` is different on each host.
    ///
    /// # Errors
    /// If there is no address space for the tables.
    pub fn new(seed: u64) -> Result<Self, SyscallError> {
        Ok(Self { fib: fib::Writer::new(FIB_WORDS)?, hops: next_hop::Writer::new(seed)? })
    }

    /// What workers look routes up in.
    pub fn shared(&self) -> (Arc<Fib>, Arc<NextHops>) {
        (self.fib.fib(), self.hops.shared())
    }

    /// Shows the workers all changes; [`Writers::reclaim`] when all of them have come past.
    pub fn commit(&mut self) -> Pass {
        self.fib.commit()
    }

    /// All workers have finished what they were doing at this commit.
    pub fn reclaim(&mut self, pass: Pass) {
        self.fib.reclaim(pass);
        self.hops.reclaim(pass);
    }

    /// Neighbours that packets went to since the last call.
    pub fn take_used(&mut self) -> Vec<Neighbour> {
        self.hops.take_used()
    }

    /// Prefixes that workers find, of all VRFs.
    pub fn routes(&self) -> usize {
        self.fib.len()
    }

    /// Octets that the FIB takes.
    pub fn used_bytes(&self) -> u64 {
        self.fib.used_bytes()
    }
}

/// How many entries a VRF has, for readers on other threads.
#[derive(Debug, Default)]
pub struct Sizes {
    routes: [AtomicI64; 2],
    neighbours: [AtomicI64; 2],
    refused: AtomicI64,
}

impl Sizes {
    /// Prefixes that the workers find, neighbours on connected networks among them: IPv4, IPv6.
    pub fn routes(&self) -> [i64; 2] {
        self.routes.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Neighbours whose MAC address is known: IPv4, IPv6.
    pub fn neighbours(&self) -> [i64; 2] {
        self.neighbours.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Prefixes that the FIB has no room for.
    pub fn refused(&self) -> i64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// Notes that there is one more, or one less; both are true of what was replaced.
fn count(counts: &[AtomicI64; 2], address: IpAddr, is_there: bool, was_there: bool) {
    counts[usize::from(address.is_ipv6())].fetch_add(i64::from(is_there) - i64::from(was_there), Ordering::Relaxed);
}

/// What of one VRF the workers forward by.
pub struct Forwarding {
    tables: Tables,
    /// Of the kernel's devices those that are interfaces of the switch.
    interfaces: HashMap<u32, InterfaceIndex>,
    ifindexes: HashMap<InterfaceIndex, u32>,
    neighbours: BTreeMap<(IpAddr, u32), Mac>,
    installed: HashMap<IpNet, Way>,
    /// Prefixes that found no room, and are tried again when some goes.
    refused: BTreeMap<IpNet, Refused>,
    sizes: Arc<Sizes>,
}

fn table_of(tables: Tables, prefix: &IpNet) -> Table {
    match prefix {
        IpNet::V4(_) => tables.v4,
        IpNet::V6(_) => tables.v6,
    }
}

impl Forwarding {
    /// No routes yet.
    ///
    /// # Errors
    /// If there are too many VRFs.
    pub fn new(writers: &mut Writers) -> Result<Self, FibError> {
        let v4 = writers.fib.add_table()?;
        let v6 = match writers.fib.add_table() {
            Ok(v6) => v6,
            Err(error) => {
                writers.fib.drop_table(v4);
                return Err(error);
            }
        };
        let (interfaces, ifindexes, neighbours, installed, refused) = Default::default();
        let tables = Tables { v4, v6 };
        Ok(Self { tables, interfaces, ifindexes, neighbours, installed, refused, sizes: Arc::default() })
    }

    /// Forgets all routes. No worker may know an interface of this VRF any more.
    pub fn drop_from(self, writers: &mut Writers) {
        let next = writers.fib.next_pass();
        self.installed.into_values().for_each(|way| writers.hops.give_back(way, next));
        writers.fib.drop_table(self.tables.v4);
        writers.fib.drop_table(self.tables.v6);
    }

    /// How many prefixes the workers have.
    pub fn routes(&self) -> usize {
        self.installed.len()
    }

    /// Where lookups begin.
    pub fn tables(&self) -> Tables {
        self.tables
    }

    /// How many entries there are, now and later.
    pub fn sizes(&self) -> Arc<Sizes> {
        Arc::clone(&self.sizes)
    }

    /// Prefixes that are not in the FIB though they should be, and why.
    pub fn refused(&self) -> impl Iterator<Item = (&IpNet, &Refused)> {
        self.refused.iter()
    }

    /// What the workers have for exactly this prefix: a route, or a neighbour.
    pub fn way(&self, prefix: &IpNet) -> Option<Way> {
        self.installed.get(prefix).copied()
    }

    /// Neighbours whose MAC address is known, with the kernel's number of the device that they are on.
    pub fn neighbours(&self) -> impl Iterator<Item = (u32, IpAddr, Mac)> {
        self.neighbours.iter().map(|((address, ifindex), mac)| (*ifindex, *address, *mac))
    }

    /// The MAC address of a neighbour, if it is known.
    pub fn neighbour(&self, ifindex: u32, address: IpAddr) -> Option<Mac> {
        self.neighbours.get(&(address, ifindex)).copied()
    }

    /// The kernel's number of an interface of this VRF.
    pub fn ifindex(&self, interface: InterfaceIndex) -> Option<u32> {
        self.ifindexes.get(&interface).copied()
    }

    /// The kernel's device is an interface of the switch from now on, or no longer.
    pub fn set_interface(&mut self, writers: &mut Writers, rib: &Rib, ifindex: u32, interface: Option<InterfaceIndex>) {
        let old = match interface {
            Some(interface) => self.interfaces.insert(ifindex, interface),
            None => self.interfaces.remove(&ifindex),
        };
        if old != interface {
            old.map(|old| self.ifindexes.remove(&old));
            interface.map(|new| self.ifindexes.insert(new, ifindex));
            let hosts = self.neighbours.keys().filter(|(_, on)| *on == ifindex).map(|(host, _)| IpNet::from(*host));
            let touched: BTreeSet<IpNet> = rib.prefixes_over(ifindex).copied().chain(hosts).collect();
            self.update(writers, rib, &touched);
        }
    }

    /// A neighbour's MAC address became known, or is no longer to be used.
    pub fn set_neighbour(&mut self, writers: &mut Writers, rib: &Rib, ifindex: u32, address: IpAddr, mac: Option<Mac>) {
        let old = match mac {
            Some(mac) => self.neighbours.insert((address, ifindex), mac),
            None => self.neighbours.remove(&(address, ifindex)),
        };
        if old == mac {
            return;
        }
        count(&self.sizes.neighbours, address, mac.is_some(), old.is_some());
        if let Some(interface) = self.interfaces.get(&ifindex) {
            writers.hops.resolve(Neighbour { interface: *interface, address }, mac);
        }
        self.install(writers, rib, IpNet::from(address));
    }

    /// Takes over what is in force for these prefixes now, and for the neighbours in them.
    pub fn update(&mut self, writers: &mut Writers, rib: &Rib, touched: &BTreeSet<IpNet>) {
        for prefix in touched {
            self.install(writers, rib, *prefix);
            let within = self.neighbours.range((prefix.network(), 0)..=(prefix.broadcast(), u32::MAX));
            let hosts: BTreeSet<IpNet> = within.map(|((address, _), _)| IpNet::from(*address)).collect();
            for host in hosts.into_iter().filter(|host| host != prefix) {
                self.install(writers, rib, host);
            }
        }
        for prefix in self.refused.keys().copied().collect::<Vec<_>>() {
            self.install(writers, rib, prefix);
        }
    }

    fn install(&mut self, writers: &mut Writers, rib: &Rib, prefix: IpNet) {
        let wanted = match self.wanted(writers, rib, &prefix) {
            Ok(wanted) => wanted,
            Err(error) => {
                self.refuse(prefix, error.into());
                return;
            }
        };
        let old = self.installed.get(&prefix).copied();
        let table = table_of(self.tables, &prefix);
        let changed = match wanted {
            // The old way is given back below in any case: what is in force is in use once.
            Some(way) if old == Some(way) => Ok(None),
            Some(way) => writers.fib.insert(table, prefix, way.target()),
            None if old.is_none() => Ok(None),
            None => writers.fib.remove(table, prefix),
        };
        let unused = match (&changed, wanted) {
            (Ok(_), Some(way)) => self.installed.insert(prefix, way),
            (Ok(_), None) => self.installed.remove(&prefix),
            (Err(_), way) => way,
        };
        if changed.is_ok() {
            count(&self.sizes.routes, prefix.addr(), wanted.is_some(), old.is_some());
        }
        if let Some(way) = unused {
            writers.hops.give_back(way, writers.fib.next_pass());
        }
        match changed {
            Ok(_) => drop(self.refused.remove(&prefix)),
            Err(error) => self.refuse(prefix, error.into()),
        }
        self.sizes.refused.store(self.refused.len() as i64, Ordering::Relaxed);
    }

    fn refuse(&mut self, prefix: IpNet, reason: Refused) {
        let is_new = self.refused.insert(prefix, reason).is_none();
        self.sizes.refused.store(self.refused.len() as i64, Ordering::Relaxed);
        if is_new {
            tracing::warn!("{prefix}: the route is not forwarded by: {reason}");
        }
    }

    /// The way for exactly this prefix, in use once more; none if there is no route for it.
    fn wanted(&self, writers: &mut Writers, rib: &Rib, prefix: &IpNet) -> Result<Option<Way>, TooMany> {
        if is_never_routed(prefix) {
            return Ok(None);
        }
        if rib.is_ruled(prefix) {
            let is_there = prefix.prefix_len() == 0 || rib.best(prefix).is_some();
            return Ok(is_there.then_some(Way::Local));
        }
        match rib.best(prefix) {
            Some(best) => self.way_of(writers, prefix, &best).map(Some),
            None => self.host_way(writers, rib, prefix),
        }
    }

    /// A neighbour on the connected network that its address belongs to.
    fn host_way(&self, writers: &mut Writers, rib: &Rib, prefix: &IpNet) -> Result<Option<Way>, TooMany> {
        if prefix.prefix_len() < prefix.max_prefix_len() {
            return Ok(None);
        }
        let covering = (0..prefix.max_prefix_len())
            .rev()
            .find_map(|len| rib.best(&IpNet::new(prefix.addr(), len).expect("a shorter prefix").trunc()));
        let Some(Best { kind: Kind::Unicast, hops }) = covering else { return Ok(None) };
        let [NextHop { ifindex, gateway: None, .. }] = hops[..] else { return Ok(None) };
        match self.interfaces.get(&ifindex) {
            Some(interface) if self.neighbours.contains_key(&(prefix.addr(), ifindex)) => {
                let neighbour = Neighbour { interface: *interface, address: prefix.addr() };
                self.take(writers, &[(neighbour, 1)]).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn way_of(&self, writers: &mut Writers, prefix: &IpNet, best: &Best) -> Result<Way, TooMany> {
        // A route for one host on a link leads to that host.
        let itself = (prefix.prefix_len() == prefix.max_prefix_len()).then_some(prefix.addr());
        let member = |hop: &NextHop| -> Option<Member> {
            let address = hop.gateway.or(itself)?;
            Some((Neighbour { interface: *self.interfaces.get(&hop.ifindex)?, address }, hop.weight))
        };
        match best.kind {
            Kind::Unicast => match (best.hops.iter().map(member).collect::<Option<Vec<_>>>(), &best.hops[..]) {
                (Some(members), _) => self.take(writers, &members),
                (None, [NextHop { ifindex, gateway: None, .. }]) => {
                    Ok(self.interfaces.get(ifindex).map_or(Way::Local, |interface| Way::Connected(*interface)))
                }
                (None, _) => Ok(Way::Local),
            },
            Kind::Local | Kind::Broadcast => Ok(Way::Local),
            Kind::Blackhole => Ok(Way::Blackhole),
            Kind::Unreachable | Kind::Throw => Ok(Way::Unreachable),
            Kind::Prohibit => Ok(Way::Prohibit),
        }
    }

    /// The way to these neighbours, with the MAC addresses that are known.
    fn take(&self, writers: &mut Writers, members: &[Member]) -> Result<Way, TooMany> {
        let way = writers.hops.take(members)?;
        for (neighbour, _) in members {
            let ifindex = self.ifindexes.get(&neighbour.interface);
            let mac = ifindex.and_then(|ifindex| self.neighbours.get(&(neighbour.address, *ifindex)));
            writers.hops.resolve(*neighbour, mac.copied());
        }
        Ok(way)
    }
}

/// Link-local and group addresses, which workers do not look for. An IPv4 link-local address is one like any other, as for the kernel.
fn is_never_routed(prefix: &IpNet) -> bool {
    match prefix {
        IpNet::V4(net) => net.addr().is_multicast(),
        IpNet::V6(net) => net.addr().is_unicast_link_local() && net.prefix_len() >= 10 || net.addr().is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::rib::{Hops, Placing, Route};
    use shunt_switch::port::fault::Dice;
    use shunt_switch::table::next_hop::Hop;

    const PREFIXES: [&str; 7] =
        ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.128/25", "10.1.2.3/32", "192.0.2.0/24"];
    const HOSTS: [&str; 7] =
        ["10.1.2.3", "10.1.2.4", "10.1.2.200", "10.1.3.1", "10.2.0.1", "192.0.2.9", "198.51.100.1"];
    /// Of these, 1 and 2 can be interfaces of the switch.
    const DEVICES: [u32; 3] = [1, 2, 9];

    struct World {
        rib: Rib,
        writers: Writers,
        forwarding: Forwarding,
    }

    impl World {
        fn new(seed: u64) -> Self {
            let mut writers = Writers::new(seed).unwrap();
            let forwarding = Forwarding::new(&mut writers).unwrap();
            Self { rib: Rib::default(), writers, forwarding }
        }

        fn hop(&self, address: IpAddr, hash: u32) -> Option<Hop> {
            let ((fib, hops), tables) = (self.writers.shared(), self.forwarding.tables());
            fib.lookup_any(table_of(tables, &IpNet::from(address)), address).map(|target| hops.hop(target, || hash))
        }

        /// What may become of a packet, from the routes alone.
        fn expected(&self, address: IpAddr) -> Vec<Option<Hop>> {
            let covering = |len| self.rib.best(&IpNet::new(address, len).unwrap().trunc());
            let Some(best) = (0..=32).rev().find_map(covering) else { return vec![None] };
            let Forwarding { interfaces, neighbours, .. } = &self.forwarding;
            let hop = |hop: &NextHop| {
                let interface = interfaces.get(&hop.ifindex)?;
                let mac = neighbours.get(&(hop.gateway.unwrap_or(address), hop.ifindex));
                Some(mac.map_or(Hop::Unresolved(*interface), |mac| Hop::To(*interface, *mac)))
            };
            let is_host = self.rib.best(&IpNet::from(address)).is_some();
            let is_mixed = !is_host && best.hops.len() > 1 && best.hops.iter().any(|hop| hop.gateway.is_none());
            match best.kind {
                Kind::Unicast if is_mixed => vec![Some(Hop::Local)],
                Kind::Unicast => match best.hops.iter().map(hop).collect::<Option<Vec<_>>>() {
                    Some(hops) => hops.into_iter().map(Some).collect(),
                    None => vec![Some(Hop::Local)],
                },
                Kind::Local | Kind::Broadcast => vec![Some(Hop::Local)],
                Kind::Blackhole => vec![Some(Hop::Blackhole)],
                Kind::Unreachable | Kind::Throw => vec![Some(Hop::Unreachable)],
                Kind::Prohibit => vec![Some(Hop::Prohibit)],
            }
        }

        fn step(&mut self, dice: &mut Dice) {
            let Self { rib, writers, forwarding } = self;
            let ifindex = DEVICES[dice.below(3)];
            let mut touched = BTreeSet::new();
            match dice.below(10) {
                0 => {
                    let interface = InterfaceIndex(ifindex as u16 + [100, 200][dice.below(2)]);
                    forwarding.set_interface(
                        writers,
                        rib,
                        ifindex,
                        (ifindex != 9 && dice.chance(700)).then_some(interface),
                    );
                }
                1..4 => {
                    let address = HOSTS[dice.below(6)].parse().unwrap();
                    let mac = dice.chance(700).then(|| Mac(dice.roll() & 0xfeff_ffff_fff0 | 1));
                    forwarding.set_neighbour(writers, rib, ifindex, address, mac);
                }
                4 => rib.device_down(ifindex, &mut touched),
                5 => rib.device_up(ifindex, &mut touched),
                n => {
                    let mut hop = |_| NextHop {
                        ifindex: DEVICES[dice.below(3)],
                        gateway: dice.chance(600).then(|| HOSTS[dice.below(6)].parse().unwrap()),
                        weight: 1,
                        dead: false,
                    };
                    let hops = Hops::Own((0..n - 5).map(&mut hop).collect());
                    let kinds = [
                        Kind::Unicast,
                        Kind::Unicast,
                        Kind::Unicast,
                        Kind::Blackhole,
                        Kind::Local,
                        Kind::Throw,
                        Kind::Prohibit,
                    ];
                    let (kind, prefix) = (kinds[dice.below(7)], PREFIXES[dice.below(7)].parse().unwrap());
                    let metric = dice.below(3) as u32;
                    let route =
                        Route { table: super::super::rib::Table::Main, prefix, metric, protocol: 4, kind, hops };
                    if dice.chance(300) {
                        let old = rib.routes(&prefix).next().cloned().unwrap_or(route);
                        rib.remove(&old, &mut touched);
                    } else {
                        let placing = [Placing::Replace, Placing::Append, Placing::Create][dice.below(3)];
                        rib.add(route, placing, &mut touched);
                    }
                }
            }
            forwarding.update(writers, rib, &touched);
        }
    }

    /// Whatever happens in whatever order, packets go where routes, interfaces and neighbours say; and when all are gone,
    /// nothing is left in use.
    #[test]
    fn packets_follow_the_routes() {
        for seed in 0..10 {
            let mut dice = Dice::new(seed);
            let mut world = World::new(seed);
            for round in 0..300 {
                world.step(&mut dice);
                let pass = world.writers.commit();
                for host in HOSTS {
                    let (address, hash) = (host.parse().unwrap(), dice.roll() as u32);
                    let (hop, expected) = (world.hop(address, hash), world.expected(address));
                    assert!(expected.contains(&hop), "seed {seed}, round {round}, {host}: {hop:?} of {expected:?}");
                }
                assert_eq!(world.forwarding.sizes().routes(), [world.forwarding.installed.len() as i64, 0]);
                world.writers.reclaim(pass);
            }
            for prefix in PREFIXES.map(|prefix| prefix.parse::<IpNet>().unwrap()) {
                let mut touched = BTreeSet::new();
                let routes: Vec<Route> = world.rib.routes(&prefix).cloned().collect();
                for route in routes {
                    world.rib.remove(&route, &mut touched);
                }
                world.forwarding.update(&mut world.writers, &world.rib, &touched);
            }
            assert!(world.rib.is_empty() && world.forwarding.installed.is_empty(), "seed {seed}");
            let (sizes, forwarding) = (world.forwarding.sizes(), &world.forwarding);
            assert_eq!((sizes.routes(), sizes.refused()), ([0, 0], 0), "seed {seed}");
            assert_eq!(sizes.neighbours(), [forwarding.neighbours.len() as i64, 0], "seed {seed}");
            assert!(world.writers.hops.is_unused(), "seed {seed}");
        }
    }

    /// VRFs share the FIB and nothing in it.
    #[test]
    fn vrfs_do_not_see_each_other() {
        let mut writers = Writers::new(1).unwrap();
        let (prefix, address): (IpNet, IpAddr) = ("10.0.0.0/8".parse().unwrap(), "10.1.2.3".parse().unwrap());
        let mut vrfs = [0, 1].map(|_| (Rib::default(), Forwarding::new(&mut writers).unwrap()));
        for (ifindex, (rib, forwarding)) in (1..).zip(&mut vrfs) {
            let hop = NextHop { ifindex, gateway: Some("10.9.9.9".parse().unwrap()), weight: 1, dead: false };
            let table = super::super::rib::Table::Main;
            let (kind, hops) = (Kind::Unicast, Hops::Own(vec![hop]));
            let mut touched = BTreeSet::new();
            rib.add(Route { table, prefix, metric: 0, protocol: 4, kind, hops }, Placing::Create, &mut touched);
            forwarding.set_interface(&mut writers, rib, ifindex, Some(InterfaceIndex(ifindex as u16)));
            forwarding.update(&mut writers, rib, &touched);
        }
        writers.commit();
        let ((fib, hops), [first, second]) = (writers.shared(), vrfs);
        let hop = |forwarding: &Forwarding| {
            fib.lookup_any(table_of(forwarding.tables(), &prefix), address).map(|target| hops.hop(target, || 0))
        };
        assert_eq!(hop(&first.1), Some(Hop::Unresolved(InterfaceIndex(1))));
        assert_eq!(hop(&second.1), Some(Hop::Unresolved(InterfaceIndex(2))));
        first.1.drop_from(&mut writers);
        let pass = writers.commit();
        writers.reclaim(pass);
        assert_eq!(hop(&second.1), Some(Hop::Unresolved(InterfaceIndex(2))));
        second.1.drop_from(&mut writers);
        assert!(writers.hops.is_unused() && writers.routes() == 0);
    }
}
