//! What does a full Internet table cost: to load, to keep, to look up in and to change?
//!
//! `cargo bench -p shunt-perf --bench fib`. A million IPv4 and 200 000 IPv6 routes in one table each, with lengths in the
//! shares in which the Internet's tables have them.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use shunt_switch::port::fault::Dice;
use shunt_switch::table::fib::{Fib, Table, Target, Writer};
use std::collections::HashSet;
use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

const V4_ROUTES: usize = 1_000_000;
const V6_ROUTES: usize = 200_000;
const WORDS: u32 = 1 << 25;
/// Changes shown to workers together.
const COMMIT: usize = 64;
/// Length, and its share of a thousand, as in tables of 2024 (bgp.potaroo.net).
const V4_LENGTHS: [(u8, usize); 10] =
    [(24, 602), (22, 113), (23, 103), (21, 54), (20, 45), (19, 26), (18, 15), (16, 14), (17, 9), (12, 19)];
const V6_LENGTHS: [(u8, usize); 10] =
    [(48, 470), (32, 115), (44, 95), (40, 90), (36, 60), (46, 50), (47, 40), (29, 30), (42, 30), (45, 20)];

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

fn v4_routes(dice: &mut Dice) -> Vec<IpNet> {
    let mut routes = HashSet::new();
    while routes.len() < V4_ROUTES {
        let address = Ipv4Addr::from_bits((1 + dice.below(222) as u32) << 24 | dice.roll() as u32 >> 8);
        routes.insert(Ipv4Net::new(address, length(&V4_LENGTHS, dice)).expect("a length").trunc().into());
    }
    routes.into_iter().collect()
}

/// Prefixes lie together in what registries gave out: some 20 000 blocks of 32 bits in few of 12.
fn v6_routes(dice: &mut Dice) -> Vec<IpNet> {
    let registries = [0x2001, 0x2400, 0x2600, 0x2800, 0x2a00, 0x2c00];
    let allocations: Vec<u32> = (0..20_000)
        .map(|_| (registries[dice.below(6)] + dice.below(16) as u32) << 16 | dice.below(1 << 16) as u32)
        .collect();
    let mut routes = HashSet::new();
    while routes.len() < V6_ROUTES {
        let allocation = allocations[dice.below(allocations.len())];
        let address = u128::from(allocation) << 96 | u128::from(dice.roll() >> 32) << 64;
        routes.insert(
            Ipv6Net::new(Ipv6Addr::from_bits(address), length(&V6_LENGTHS, dice)).expect("a length").trunc().into(),
        );
    }
    routes.into_iter().collect()
}

fn target(n: usize) -> Target {
    Target::new(n as u32 % 4000 + 1).expect("not 0")
}

fn load(writer: &mut Writer, table: Table, routes: &[IpNet]) {
    let started = Instant::now();
    for (n, routes) in routes.chunks(COMMIT * 64).enumerate() {
        for net in routes {
            writer.insert(table, *net, target(n)).expect("room");
        }
        let pass = writer.commit();
        writer.reclaim(pass);
    }
    println!("  load          {:>8.2} s", started.elapsed().as_secs_f64());
}

fn change(writer: &mut Writer, table: Table, routes: &[IpNet]) {
    let started = Instant::now();
    for (n, routes) in routes.chunks(COMMIT).enumerate() {
        for net in routes {
            if n % 2 == 0 {
                writer.remove(table, *net).expect("room");
            } else {
                writer.insert(table, *net, target(n)).expect("room");
            }
        }
        let pass = writer.commit();
        writer.reclaim(pass);
    }
    println!("  changes       {:>8.0} /s", routes.len() as f64 / started.elapsed().as_secs_f64());
}

/// Nanoseconds a lookup, the least of some rounds: one by one, and in bursts of 32.
fn lookups<A: Copy>(
    what: &str,
    sought: &[(Table, A)],
    one: impl Fn(Table, A) -> Option<Target>,
    many: impl Fn(&[(Table, A)], &mut [Option<Target>]),
) {
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
    println!("  {what:13} {singly:>8.1} ns, in bursts {bursts:.1} ns");
}

fn resident_mib() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages as f64 * 4.0 / 1024.0
}

fn report(writer: &Writer, before: f64) {
    println!(
        "  octets in use {:>8.1} MiB (resident {:.1} MiB)",
        writer.used_bytes() as f64 / 1048576.0,
        resident_mib() - before
    );
}

fn main() {
    let mut dice = Dice::new(7);
    let mut writer = Writer::new(WORDS).expect("address space");
    let fib: &Fib = &writer.fib();
    let (v4, v6) = (v4_routes(&mut dice), v6_routes(&mut dice));
    let before = resident_mib();
    println!("IPv4, {} routes", v4.len());
    let table = writer.add_table().expect("room");
    load(&mut writer, table, &v4);
    report(&writer, before);
    let anywhere: Vec<_> = (0..1 << 20).map(|_| (table, Ipv4Addr::from_bits(dice.roll() as u32))).collect();
    lookups("any address", &anywhere, |table, address| fib.lookup_v4(table, address), |s, f| fib.lookups_v4(s, f));
    let routed = |net: &IpNet, low: u64| match net {
        IpNet::V4(net) => Ipv4Addr::from_bits(net.addr().to_bits() | low as u32 & net.hostmask().to_bits()),
        IpNet::V6(_) => Ipv4Addr::UNSPECIFIED,
    };
    let known: Vec<_> = (0..1 << 20).map(|_| (table, routed(&v4[dice.below(v4.len())], dice.roll()))).collect();
    lookups("in a route", &known, |table, address| fib.lookup_v4(table, address), |s, f| fib.lookups_v4(s, f));
    change(&mut writer, table, &v4[..200_000]);

    println!("IPv6, {} routes", v6.len());
    let before = resident_mib();
    let table = writer.add_table().expect("room");
    load(&mut writer, table, &v6);
    report(&writer, before);
    let routed = |net: &IpNet, low: u64| match net {
        IpNet::V6(net) => Ipv6Addr::from_bits(net.addr().to_bits() | u128::from(low) & net.hostmask().to_bits()),
        IpNet::V4(_) => Ipv6Addr::UNSPECIFIED,
    };
    let known: Vec<_> = (0..1 << 20).map(|_| (table, routed(&v6[dice.below(v6.len())], dice.roll()))).collect();
    lookups("in a route", &known, |table, address| fib.lookup_v6(table, address), |s, f| fib.lookups_v6(s, f));
    change(&mut writer, table, &v6[..100_000]);
}
