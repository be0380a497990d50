//! Does the FIB find what a list searched from end to end finds, and is nothing seen too early or used again too soon?

use super::*;
use crate::port::fault::Dice;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

const WORDS: u32 = 1 << 18;

/// The same by a list of all prefixes, searched from the longest on.
#[derive(Default)]
struct Model(HashMap<IpNet, Target>);

impl Model {
    fn lookup(&self, address: IpAddr) -> Option<Target> {
        let longest = self.0.iter().filter(|(net, _)| net.contains(&address)).max_by_key(|(net, _)| net.prefix_len());
        longest.map(|(_, target)| *target)
    }
}

fn target(n: u64) -> Target {
    Target::new(n as u32 % 1000 + 1).unwrap()
}

/// Few different bits, so that prefixes meet, cover and equal each other.
fn v4(dice: &mut Dice) -> IpNet {
    let len = dice.below(33) as u8;
    let [a, b, c, d] = [(); 4].map(|()| [0, 1, 10, 128, 255][dice.below(5)]);
    IpNet::from(Ipv4Net::new(Ipv4Addr::new(a, b, c, d), len).unwrap().trunc())
}

fn v6(dice: &mut Dice) -> IpNet {
    let len = dice.below(129) as u8;
    let groups = [(); 8].map(|()| [0, 1, 0x2001, 0x8000, 0xffff][dice.below(5)]);
    IpNet::from(Ipv6Net::new(Ipv6Addr::from(groups), len).unwrap().trunc())
}

/// An address in the prefix, or next to it.
fn near(net: IpNet, dice: &mut Dice) -> IpAddr {
    let flip = dice.below(6);
    match net {
        IpNet::V4(net) => {
            let host = dice.roll() as u32 & net.hostmask().to_bits();
            IpAddr::V4(Ipv4Addr::from_bits((net.addr().to_bits() | host) ^ (u32::from(flip == 0) << dice.below(32))))
        }
        IpNet::V6(net) => {
            let random = u128::from(dice.roll()) << 64 | u128::from(dice.roll());
            let host = random & net.hostmask().to_bits();
            IpAddr::V6(Ipv6Addr::from_bits((net.addr().to_bits() | host) ^ (u128::from(flip == 0) << dice.below(128))))
        }
    }
}

fn agrees_with_the_model(prefix: fn(&mut Dice) -> IpNet, seed: u64) {
    let mut dice = Dice::new(seed);
    let mut writer = Writer::new(WORDS).unwrap();
    let (table, other) = (writer.add_table().unwrap(), writer.add_table().unwrap());
    let fib = writer.fib();
    let mut model = Model::default();
    for round in 0..60 {
        let mut changed = Vec::new();
        for _ in 0..dice.below(20) {
            let net = prefix(&mut dice);
            changed.push(net);
            if dice.chance(600) {
                let target = target(dice.roll());
                assert_eq!(writer.insert(table, net, target).unwrap(), model.0.insert(net, target), "{net}");
            } else {
                let any = model.0.keys().next().copied().filter(|_| dice.chance(700)).unwrap_or(net);
                changed.push(any);
                assert_eq!(writer.remove(table, any).unwrap(), model.0.remove(&any), "{any}");
            }
        }
        let pass = writer.commit();
        assert_eq!(writer.len(), model.0.len());
        let (mut sought_v4, mut sought_v6) = (Vec::new(), Vec::new());
        let known: Vec<_> = model.0.keys().copied().collect();
        for net in changed.into_iter().chain(known) {
            let address = near(net, &mut dice);
            assert_eq!(fib.lookup_any(table, address), model.lookup(address), "{address}, round {round}, seed {seed}");
            assert_eq!(fib.lookup_any(other, address), None, "another VRF's table");
            match address {
                IpAddr::V4(address) => sought_v4.push((table, address)),
                IpAddr::V6(address) => sought_v6.push((table, address)),
            }
        }
        let mut found = vec![None; sought_v4.len().max(sought_v6.len())];
        fib.lookups_v4(&sought_v4, &mut found);
        fib.lookups_v6(&sought_v6, &mut found);
        let one_by_one = |n: usize| match sought_v4.get(n) {
            Some((table, address)) => fib.lookup_v4(*table, *address),
            None => fib.lookup_v6(table, sought_v6[n].1),
        };
        assert_eq!(found, (0..found.len()).map(one_by_one).collect::<Vec<_>>());
        writer.reclaim(pass);
    }
    for net in std::mem::take(&mut model.0).into_keys() {
        writer.remove(table, net).unwrap();
    }
    let pass = writer.commit();
    writer.reclaim(pass);
    let roots = 2 * ROOT_SLOTS as u64 * 8;
    assert_eq!((writer.len(), writer.used_bytes()), (0, roots), "seed {seed}: what was routes is free again");
}

#[test]
fn v4_agrees_with_a_list() {
    (0..12).for_each(|seed| agrees_with_the_model(v4, seed));
}

#[test]
fn v6_agrees_with_a_list() {
    (0..12).for_each(|seed| agrees_with_the_model(v6, seed));
}

/// Every prefix of up to nine bits more than a given beginning, first the short ones, in a small world.
#[test]
fn every_length_and_position() {
    for offset in [0u32, 7, 14, 20, 23] {
        let mut writer = Writer::new(WORDS).unwrap();
        let table = writer.add_table().unwrap();
        let fib = writer.fib();
        let mut model = Model::default();
        // The top `len` bits are those of `value`'s low bits behind the beginning.
        let address = |value: u32, len: u32| {
            let beginning = if offset == 0 { 0 } else { 0xc0a8_0101 >> (32 - offset) << (32 - offset) };
            Ipv4Addr::from_bits(beginning | if len == 0 { 0 } else { value << (32 - len) })
        };
        for extra in 0..=9 {
            for value in 0..1 << extra {
                let len = offset + extra;
                let net = IpNet::from(Ipv4Net::new(address(value, len), len as u8).unwrap());
                let target = target(u64::from(value * 37 + len));
                writer.insert(table, net, target).unwrap();
                model.0.insert(net, target);
            }
            writer.commit();
            for value in 0..1 << 9 {
                let address = IpAddr::V4(address(value, offset + 9));
                assert_eq!(fib.lookup_any(table, address), model.lookup(address), "{address} behind {offset} bits");
            }
        }
    }
}

#[test]
fn nothing_is_seen_before_the_commit_nor_reused_before_the_pass() {
    let mut writer = Writer::new(WORDS).unwrap();
    let table = writer.add_table().unwrap();
    let fib = writer.fib();
    let (net, address) = ("10.1.2.0/24".parse().unwrap(), "10.1.2.3".parse().unwrap());
    writer.insert(table, net, target(1)).unwrap();
    assert_eq!(fib.lookup_any(table, address), None);
    writer.commit();
    assert_eq!(fib.lookup_any(table, address), Some(target(1)));
    let before = writer.used_bytes();
    writer.insert(table, net, target(2)).unwrap();
    let pass = writer.commit();
    assert!(writer.used_bytes() > before, "the old way waits for readers");
    writer.reclaim(pass);
    assert_eq!(writer.used_bytes(), before);
}

#[test]
fn a_full_fib_refuses_and_keeps_what_it_has() {
    let mut writer = Writer::new(1 << 17).unwrap();
    let table = writer.add_table().unwrap();
    let fib = writer.fib();
    let net = |n: u32| IpNet::from(Ipv4Net::new(Ipv4Addr::from_bits(n << 8), 24).unwrap());
    let mut count = 0;
    let error = loop {
        match writer.insert(table, net(count), target(u64::from(count))) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
        let pass = writer.commit();
        writer.reclaim(pass);
    };
    assert!(error.to_string().contains("withdraw routes"), "{error}");
    for n in 0..count {
        assert_eq!(fib.lookup_v4(table, Ipv4Addr::from_bits(n << 8 | 9)), Some(target(u64::from(n))));
    }
    assert!(matches!(writer.add_table(), Err(FibError::Full { .. })));
    for n in 0..count {
        assert_eq!(writer.remove(table, net(n)).unwrap(), Some(target(u64::from(n))));
        let pass = writer.commit();
        writer.reclaim(pass);
    }
    writer.insert(table, net(7), target(7)).expect("room again");
}

#[test]
fn a_dropped_table_leaves_nothing() {
    let mut writer = Writer::new(WORDS).unwrap();
    for _ in 0..100 {
        let table = writer.add_table().unwrap();
        let mut dice = Dice::new(5);
        for _ in 0..200 {
            writer.insert(table, v6(&mut dice), target(3)).unwrap();
        }
        writer.drop_table(table);
        let pass = writer.commit();
        writer.reclaim(pass);
        assert_eq!((writer.len(), writer.used_bytes()), (0, 0));
    }
}

/// A reader beside the writer sees for each address one of the targets that it ever had, never another's or none.
#[test]
fn readers_see_the_old_way_or_the_new_one() {
    let mut writer = Writer::new(WORDS).unwrap();
    let table = writer.add_table().unwrap();
    let fib = writer.fib();
    writer.insert(table, "10.0.0.0/8".parse().unwrap(), target(0)).unwrap();
    writer.commit();
    let (stop, turns) = (AtomicBool::new(false), AtomicU64::new(0));
    let read = || {
        let mut dice = Dice::new(1);
        while !stop.load(Relaxed) {
            for _ in 0..64 {
                let c = dice.below(64) as u8;
                let found = fib.lookup_v4(table, Ipv4Addr::new(10, 1, c, dice.roll() as u8)).expect("a route");
                assert!(found == target(0) || found.get() % 64 == u32::from(c), "{found} for 10.1.{c}");
            }
            turns.fetch_add(1, Ordering::SeqCst);
        }
    };
    std::thread::scope(|scope| {
        let reader = scope.spawn(read);
        let mut dice = Dice::new(2);
        for _ in 0..20_000 {
            let c = dice.below(64) as u8;
            let net = IpNet::from(Ipv4Net::new(Ipv4Addr::new(10, 1, c, 0), 24).unwrap());
            if dice.chance(500) {
                writer
                    .insert(table, net, Target::new(64 * (1 + dice.below(1000) as u32) + u32::from(c)).unwrap())
                    .unwrap();
            } else {
                writer.remove(table, net).unwrap();
            }
            if dice.chance(100) {
                let pass = writer.commit();
                // The turn that was under way, and a whole one.
                let seen = turns.load(Ordering::SeqCst);
                while turns.load(Ordering::SeqCst) < seen + 2 && !reader.is_finished() {
                    std::thread::yield_now();
                }
                writer.reclaim(pass);
            }
        }
        stop.store(true, Relaxed);
    });
}
