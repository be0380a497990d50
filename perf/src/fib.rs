//! What does a full Internet table cost: to load, to keep, to look up in, and to change while packets are routed by it?
//!
//! A million IPv4 and 200 000 IPv6 routes, with lengths in the shares in which the Internet's tables have them, go the way that the
//! kernel's take, from [`Rib`] on. Then one thread changes routes at a rate, and another is a switch on memory ports: no packet
//! may be lost, for the default route has those whose own route is away.

use std::collections::{BTreeSet, HashSet};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use shunt_control::routing::forward::{Forwarding, Writers};
use shunt_control::routing::rib::{Hops, Kind, NextHop, Placing, Rib, Route, Table as Main};
use shunt_switch::config::{Interface, PortIndex, Router};
use shunt_switch::port::fault::Dice;
use shunt_switch::table::bucket::Bucket;
use shunt_switch::table::fib::{Pass, Table, Target};
use shunt_switch::table::next_hop::InterfaceIndex;
use shunt_switch::testing::{BridgeSpec, PortSpec, Rig, Scene, frame};
use shunt_switch::time;
use shunt_switch::wire::checksum::Sum;
use shunt_switch::wire::ethernet::Mac;

use crate::arguments::Fib as Settings;
use crate::memory::resident_kib;

/// Length, and its share of a thousand, as in tables of 2024 (bgp.potaroo.net).
const V4_LENGTHS: [(u8, usize); 10] =
    [(24, 602), (22, 113), (23, 103), (21, 54), (20, 45), (19, 26), (18, 15), (16, 14), (17, 9), (12, 19)];
const V6_LENGTHS: [(u8, usize); 10] =
    [(48, 470), (32, 115), (44, 95), (40, 90), (36, 60), (46, 50), (47, 40), (29, 30), (42, 30), (45, 20)];
/// Changes that the workers see together when the table is loaded, and later.
const LOADED_TOGETHER: usize = 4096;
const CHANGED_TOGETHER: usize = 64;
/// Ports: the senders' and the router's leg beside it, and the same where routes lead.
const NEAR: u16 = 0;
const NEAR_LEG: u16 = 1;
const FAR: u16 = 2;
const FAR_LEG: u16 = 3;
const ROUTER: [Mac; 2] = [Mac(0x0200_0000_aa00), Mac(0x0200_0000_aa01)];
/// The kernel's number of the device that routes lead out of.
const FAR_IFINDEX: u32 = 2;
const GATEWAYS: u8 = 4;

/// What was found.
#[derive(Debug, Default, serde::Serialize)]
struct Figures {
    routes_v4: usize,
    routes_v6: usize,
    load_s: f64,
    /// Of the workers' tables, and by how much the process grew.
    tables_mib: f64,
    resident_mib: f64,
    /// One by one, and in bursts of 32 as workers ask.
    lookup_v4_ns: f64,
    lookup_v4_burst_ns: f64,
    lookup_v6_ns: f64,
    lookup_v6_burst_ns: f64,
    changes_per_s: f64,
    routed_packets: u64,
    lost_packets: u64,
}

/// Measures once; JSON on stdout if asked for, else a table.
pub fn run(settings: &Settings) -> Result<()> {
    let figures = measure(settings)?;
    let json = serde_json::to_value(&figures)?;
    if settings.json {
        println!("{json}");
    } else {
        for (name, value) in json.as_object().into_iter().flatten() {
            println!("{name:20} {value}");
        }
    }
    ensure!(figures.lost_packets == 0, "{} packets were lost while routes changed", figures.lost_packets);
    Ok(())
}

fn measure(settings: &Settings) -> Result<Figures> {
    let mut dice = Dice::new(7);
    let (v4, v6) = (v4_routes(settings.v4, &mut dice), v6_routes(settings.v6, &mut dice));
    let mut tables = Tables::new()?;
    let own_kib = || resident_kib(std::process::id());
    let before_kib = own_kib()?;
    let started = Instant::now();
    for routes in [&v4, &v6] {
        for routes in routes.chunks(LOADED_TOGETHER) {
            let pass = tables.change(routes.iter().map(|prefix| (*prefix, Some(gateway_of(prefix)))));
            tables.writers.reclaim(pass);
        }
    }
    let mut figures = Figures {
        routes_v4: v4.len(),
        routes_v6: v6.len(),
        load_s: started.elapsed().as_secs_f64(),
        tables_mib: tables.writers.used_bytes() as f64 / 1_048_576.0,
        resident_mib: (own_kib()? - before_kib) / 1024.0,
        ..Figures::default()
    };
    let (fib, _) = tables.writers.shared();
    let of = tables.forwarding.tables();
    let sought = settings.lookups;
    let v4_sought: Vec<_> = (0..sought).map(|_| (of.v4, Ipv4Addr::from_bits(dice.roll() as u32))).collect();
    (figures.lookup_v4_ns, figures.lookup_v4_burst_ns) =
        lookups(&v4_sought, |table, address| fib.lookup_v4(table, address), |s, f| fib.lookups_v4(s, f));
    let v6_sought: Vec<_> = (0..sought).map(|_| (of.v6, within_v6(&v6[dice.below(v6.len())], dice.roll()))).collect();
    (figures.lookup_v6_ns, figures.lookup_v6_burst_ns) =
        lookups(&v6_sought, |table, address| fib.lookup_v6(table, address), |s, f| fib.lookups_v6(s, f));
    route_and_change(settings, &mut tables, &v4, &mut dice, &mut figures)?;
    Ok(figures)
}

/// The control thread's tables, and those of the workers.
struct Tables {
    rib: Rib,
    writers: Writers,
    forwarding: Forwarding,
}

impl Tables {
    /// With a default route, and its neighbours known.
    fn new() -> Result<Self> {
        let mut writers = Writers::new(7)?;
        let forwarding = Forwarding::new(&mut writers).context("no room for tables")?;
        let mut tables = Self { rib: Rib::default(), writers, forwarding };
        let Self { rib, writers, forwarding } = &mut tables;
        forwarding.set_interface(writers, rib, FAR_IFINDEX, Some(InterfaceIndex(1)));
        for number in 0..GATEWAYS {
            for address in [IpAddr::from([10, 9, 0, number]), IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, number.into()])] {
                forwarding.set_neighbour(writers, rib, FAR_IFINDEX, address, Some(gateway_mac(number)));
            }
        }
        let everything = [IpNet::from(Ipv4Net::default()), IpNet::from(Ipv6Net::default())];
        let pass = tables.change(everything.into_iter().map(|prefix| (prefix, Some(0))));
        tables.writers.reclaim(pass);
        Ok(tables)
    }

    /// Routes to these prefixes come, by the gateway of that number, or go.
    fn change(&mut self, changes: impl Iterator<Item = (IpNet, Option<u8>)>) -> Pass {
        let mut touched = BTreeSet::new();
        for (prefix, number) in changes {
            let address = |number: u8| match prefix {
                IpNet::V4(_) => IpAddr::from([10, 9, 0, number]),
                IpNet::V6(_) => IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, number.into()]),
            };
            let hop = |number| NextHop { ifindex: FAR_IFINDEX, gateway: Some(address(number)), weight: 1, dead: false };
            let hops = Hops::Own(vec![hop(number.unwrap_or_else(|| gateway_of(&prefix)))]);
            let route = Route { table: Main::Main, prefix, metric: 20, protocol: 186, kind: Kind::Unicast, hops };
            match number {
                Some(_) => self.rib.add(route, Placing::Replace, &mut touched),
                None => self.rib.remove(&route, &mut touched),
            }
        }
        self.forwarding.update(&mut self.writers, &self.rib, &touched);
        self.writers.commit()
    }
}

/// The number of the gateway that a route has at first.
fn gateway_of(prefix: &IpNet) -> u8 {
    match prefix.addr() {
        IpAddr::V4(address) => (address.to_bits() >> 8) as u8 % GATEWAYS,
        IpAddr::V6(address) => (address.to_bits() >> 80) as u8 % GATEWAYS,
    }
}

fn gateway_mac(number: u8) -> Mac {
    Mac(0x0200_0000_0900 + u64::from(number))
}

/// Changes routes at the rate that is asked for while a switch routes packets to them as fast as it can.
fn route_and_change(
    settings: &Settings,
    tables: &mut Tables,
    routes: &[IpNet],
    dice: &mut Dice,
    figures: &mut Figures,
) -> Result<()> {
    let mut rig = rig(tables);
    let changing = &routes[..routes.len().min(50_000)];
    let frames: Vec<Vec<u8>> =
        (0..4096).map(|_| packet_to(within_v4(&changing[dice.below(changing.len())], dice.roll()))).collect();
    let (turns, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let changed = std::thread::scope(|scope| {
        let changer = scope.spawn(|| {
            let changed = change_at_rate(settings, tables, changing, &turns);
            is_over.store(true, SeqCst);
            changed
        });
        let mut frames = frames.iter().cycle();
        while !is_over.load(SeqCst) {
            for frame in frames.by_ref().take(32) {
                figures.routed_packets += u64::from(rig.inputs[usize::from(NEAR)].push(frame));
            }
            rig.run(time::Instant::from_secs(1));
            figures.lost_packets += 32 - rig.outputs[usize::from(FAR)].discard() as u64;
            turns.fetch_add(1, SeqCst);
        }
        changer.join()
    });
    figures.changes_per_s = changed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    rig.check();
    ensure!(figures.routed_packets > 0, "no packet was routed");
    Ok(())
}

/// How many changes a second there were: each takes a route away, or brings it back by another gateway.
fn change_at_rate(settings: &Settings, tables: &mut Tables, routes: &[IpNet], turns: &AtomicU64) -> f64 {
    let started = Instant::now();
    let mut done = 0;
    let mut rounds = routes.chunks(CHANGED_TOGETHER).cycle();
    let whole_rounds = routes.len().div_ceil(CHANGED_TOGETHER);
    for round in 0.. {
        if done >= settings.changes {
            break;
        }
        let chunk = rounds.next().unwrap_or_default();
        let times = round / whole_rounds;
        let number = (times % 2 == 1).then_some((times / 2 % usize::from(GATEWAYS)) as u8);
        let pass = tables.change(chunk.iter().map(|prefix| (*prefix, number)));
        done += chunk.len();
        // As the daemon asks the workers to come past, before memory is used again.
        let seen = turns.load(SeqCst);
        while turns.load(SeqCst) < seen + 2 {
            std::thread::yield_now();
        }
        tables.writers.reclaim(pass);
        let due = Duration::from_secs_f64(done as f64 / f64::from(settings.rate));
        std::thread::sleep(due.saturating_sub(started.elapsed()));
    }
    done as f64 / started.elapsed().as_secs_f64()
}

/// A switch with one worker: two bridges, each with a port and a leg of the router.
fn rig(tables: &Tables) -> Rig {
    let leg = |port: u16| (port == NEAR_LEG || port == FAR_LEG).then_some(InterfaceIndex(port / 2));
    let ports = [NEAR, NEAR_LEG, FAR, FAR_LEG];
    let ports = ports
        .map(|port| Some(PortSpec { device: port, bridge: port / 2, interface: leg(port), ..PortSpec::default() }));
    let interface = |number: usize| {
        let exceptions = Arc::new(Bucket::new(1000, 1000));
        let port = PortIndex([NEAR_LEG, FAR_LEG][number]);
        Some(Interface { port, mac: ROUTER[number], mtu: 1500, tables: tables.forwarding.tables(), exceptions })
    };
    let (fib, hops) = tables.writers.shared();
    let router = Some(Router { fib, hops, interfaces: vec![interface(0), interface(1)], seed: 7 });
    let bridges = vec![BridgeSpec::default(), BridgeSpec::default()];
    let rig = Rig::new(Scene { ports: ports.to_vec(), bridges, router, workers: 1, ..Scene::default() }, 256);
    let stations = (0..GATEWAYS).map(|number| (FAR, gateway_mac(number)));
    for (port, mac) in stations.chain([(NEAR_LEG, ROUTER[0]), (FAR_LEG, ROUTER[1])]) {
        let known = rig.scene.bridges[usize::from(port / 2)].fdb.add_static(0, mac, PortIndex(port));
        assert!(known.is_ok(), "room in the FDB");
    }
    rig
}

/// A UDP packet for the router.
fn packet_to(destination: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1];
    packet.extend(destination.octets());
    let mut sum = Sum::default();
    sum.add(&packet);
    packet[10..12].copy_from_slice(&(!sum.fold()).to_be_bytes());
    packet.resize(46, 0);
    frame(ROUTER[0], Mac(0x0200_0000_0001), &[], 0x0800, &packet)
}

fn length(lengths: &[(u8, usize)], dice: &mut Dice) -> u8 {
    let mut at = dice.below(1000);
    for (len, share) in lengths {
        match at.checked_sub(*share) {
            Some(rest) => at = rest,
            None => return *len,
        }
    }
    lengths[0].0
}

/// From 1/8 to 222/8, without the loopback net.
fn v4_routes(count: usize, dice: &mut Dice) -> Vec<IpNet> {
    let mut routes = HashSet::new();
    while routes.len() < count {
        let address = Ipv4Addr::from_bits((1 + dice.below(222) as u32) << 24 | dice.roll() as u32 >> 8);
        let net = Ipv4Net::new(address, length(&V4_LENGTHS, dice)).expect("a length").trunc();
        if !net.addr().is_loopback() {
            routes.insert(net.into());
        }
    }
    routes.into_iter().collect()
}

/// Prefixes lie together in what registries gave out: some 20 000 blocks of 32 bits in few of 12.
fn v6_routes(count: usize, dice: &mut Dice) -> Vec<IpNet> {
    let registries = [0x2001, 0x2400, 0x2600, 0x2800, 0x2a00, 0x2c00];
    let allocations: Vec<u32> = (0..20_000)
        .map(|_| (registries[dice.below(6)] + dice.below(16) as u32) << 16 | dice.below(1 << 16) as u32)
        .collect();
    let mut routes = HashSet::new();
    while routes.len() < count {
        let allocation = allocations[dice.below(allocations.len())];
        let address = u128::from(allocation) << 96 | u128::from(dice.roll() >> 32) << 64;
        let net = Ipv6Net::new(Ipv6Addr::from_bits(address), length(&V6_LENGTHS, dice)).expect("a length");
        routes.insert(net.trunc().into());
    }
    routes.into_iter().collect()
}

fn within_v4(net: &IpNet, low: u64) -> Ipv4Addr {
    match net {
        IpNet::V4(net) => Ipv4Addr::from_bits(net.addr().to_bits() | low as u32 & net.hostmask().to_bits()),
        IpNet::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

fn within_v6(net: &IpNet, low: u64) -> Ipv6Addr {
    match net {
        IpNet::V6(net) => Ipv6Addr::from_bits(net.addr().to_bits() | u128::from(low) & net.hostmask().to_bits()),
        IpNet::V4(_) => Ipv6Addr::UNSPECIFIED,
    }
}

/// Nanoseconds a lookup, the least of some rounds: one by one, and in bursts of 32.
fn lookups<A: Copy>(
    sought: &[(Table, A)],
    one: impl Fn(Table, A) -> Option<Target>,
    many: impl Fn(&[(Table, A)], &mut [Option<Target>]),
) -> (f64, f64) {
    let least = |work: &dyn Fn()| {
        let round = |_| {
            let started = Instant::now();
            work();
            started.elapsed().as_nanos() as f64 / sought.len() as f64
        };
        (0..9).map(round).fold(f64::INFINITY, f64::min)
    };
    let singly = least(&|| {
        for (table, address) in sought {
            black_box(one(*table, *address));
        }
    });
    let bursts = least(&|| {
        let mut found = [None; 32];
        for burst in sought.chunks(found.len()) {
            many(burst, &mut found[..burst.len()]);
            black_box(&found);
        }
    });
    (singly, bursts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Routes go and come back, by other gateways, and no packet is lost.
    #[test]
    fn packets_are_routed_while_routes_change() {
        let settings = Settings { v4: 3000, v6: 300, lookups: 64, changes: 20_000, rate: 1_000_000, json: false };
        let figures = measure(&settings).unwrap();
        assert!(figures.routed_packets > 0 && figures.lost_packets == 0, "{figures:?}");
        assert!((figures.routes_v4, figures.routes_v6) == (3000, 300), "{figures:?}");
    }
}
