//! Does the FDB agree with a list that is searched from end to end?

use shunt_switch::config::PortIndex;
use shunt_switch::port::fault::Dice;
use shunt_switch::table::fdb::{Entry, Fdb, Learned};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

struct Known {
    port: u16,
    is_static: bool,
    stamp: Instant,
    /// When it last moved to the end of its port's list.
    turn: u64,
}

#[derive(Default)]
struct Model {
    capacity: usize,
    known: HashMap<(u16, Mac), Known>,
    /// By port: since when it has as many entries as it has.
    since: HashMap<u16, u64>,
    turn: u64,
    learned: u64,
    expired: u64,
    evicted: u64,
    moved: u64,
}

impl Model {
    fn count(&self, port: u16) -> usize {
        self.known.values().filter(|known| known.port == port && !known.is_static).count()
    }

    fn changed(&mut self, port: u16) {
        self.turn += 1;
        self.since.insert(port, self.turn);
    }

    fn evict(&mut self) -> bool {
        let ports: Vec<u16> = self.known.values().filter(|known| !known.is_static).map(|known| known.port).collect();
        let Some(port) = ports.into_iter().max_by_key(|port| (self.count(*port), u64::MAX - self.since[port])) else {
            return false;
        };
        let victims = self.known.iter().filter(|(_, known)| known.port == port && !known.is_static);
        let victim = *victims.min_by_key(|(_, known)| known.turn).unwrap().0;
        self.remove(victim);
        self.evicted += 1;
        true
    }

    fn remove(&mut self, key: (u16, Mac)) -> bool {
        let Some(known) = self.known.remove(&key) else { return false };
        if !known.is_static {
            self.changed(known.port);
        }
        true
    }

    fn insert(&mut self, key: (u16, Mac), port: u16, is_static: bool, stamp: Instant) -> bool {
        if self.known.len() >= self.capacity && !self.evict() {
            return false;
        }
        if !is_static {
            self.changed(port);
        }
        self.known.insert(key, Known { port, is_static, stamp, turn: self.turn });
        true
    }

    fn learn(&mut self, key: (u16, Mac), port: u16, now: Instant) -> Learned {
        let Some(known) = self.known.get_mut(&key) else {
            if !self.insert(key, port, false, now) {
                return Learned::Full;
            }
            self.learned += 1;
            return Learned::New;
        };
        if known.is_static {
            return Learned::Static;
        }
        if known.port == port {
            if known.stamp.as_millis() >= now.as_millis() {
                return Learned::Fresh;
            }
            self.turn += 1;
            (known.stamp, known.turn) = (now, self.turn);
            return Learned::Refreshed;
        }
        let from = std::mem::replace(&mut known.port, port);
        known.stamp = now;
        self.changed(from);
        self.changed(port);
        self.known.get_mut(&key).unwrap().turn = self.turn;
        self.moved += 1;
        Learned::Moved(PortIndex(from))
    }

    fn add_static(&mut self, key: (u16, Mac), port: u16) -> bool {
        match self.known.get_mut(&key) {
            Some(known) => {
                let (from, was_static) = (known.port, known.is_static);
                (known.port, known.is_static) = (port, true);
                if !was_static {
                    self.changed(from);
                }
                true
            }
            None => self.insert(key, port, true, Instant::default()),
        }
    }

    fn remove_if(&mut self, condition: impl Fn(&Known) -> bool) -> u64 {
        let found = self.known.iter().filter(|(_, known)| condition(known));
        let mut keys: Vec<_> = found.map(|(key, known)| (known.port, known.turn, *key)).collect();
        // Port by port: it decides which of two ports has had its number of entries for longer.
        keys.sort_unstable();
        keys.into_iter().filter(|(_, _, key)| self.remove(*key)).count() as u64
    }

    fn compare(&self, fdb: &Fdb, now: Instant, what: &str) {
        let mut expected: Vec<Entry> = self
            .known
            .iter()
            .map(|((vlan, mac), known)| Entry {
                vlan: *vlan,
                mac: *mac,
                port: PortIndex(known.port),
                age_s: if known.is_static { 0 } else { (now.as_millis() - known.stamp.as_millis()) / 1000 },
                is_static: known.is_static,
            })
            .collect();
        expected.sort_unstable_by_key(|entry| (entry.vlan, entry.mac));
        assert_eq!(fdb.entries(now), expected, "after {what}");
        let stats = fdb.stats();
        let counts = (stats.current, stats.static_entries, stats.learned, stats.expired, stats.evicted, stats.moved);
        let statics = self.known.values().filter(|known| known.is_static).count();
        assert_eq!(
            counts,
            (self.known.len(), statics, self.learned, self.expired, self.evicted, self.moved),
            "after {what}"
        );
    }
}

fn run(seed: u64) {
    let mut dice = Dice::new(seed);
    let capacity = 10 + dice.below(30);
    let mut fdb = Fdb::new(capacity, dice.roll());
    let mut model = Model { capacity, ..Model::default() };
    let mut now = Instant::from_secs(1 + dice.below(100_000) as u64);
    // Some operations are rare, or absent, in some worlds; addresses come from a small set or a large one.
    let weights: [usize; 9] = std::array::from_fn(|_| dice.below(4) * dice.below(10));
    let hosts = [5, 20, 100, 100_000][dice.below(4)];
    let ports = 1 + dice.below(8);
    for step in 0..400 {
        let key = (dice.below(3) as u16 * 2000, Mac(dice.below(hosts) as u64));
        let port = dice.below(ports) as u16;
        let total: usize = weights.iter().sum::<usize>() + 10;
        let mut pick = dice.below(total);
        let kind = weights.iter().position(|weight| {
            let found = pick < *weight;
            pick = pick.wrapping_sub(*weight);
            found
        });
        let what = format!("seed {seed} step {step}: {kind:?} {key:?} port {port} at {now:?}");
        match kind {
            Some(0) => now.0 += dice.below(3_000_000_000) as u64,
            Some(1) => {
                let max_age_s = 15 + dice.below(30) as u64;
                fdb.age(now, max_age_s);
                let old =
                    |known: &Known| !known.is_static && now.as_millis() - known.stamp.as_millis() >= max_age_s * 1000;
                model.expired += model.remove_if(old);
            }
            Some(2) if dice.chance(100) => {
                fdb.flush();
                model.remove_if(|known| !known.is_static);
            }
            Some(3) => {
                fdb.flush_port(PortIndex(port));
                model.remove_if(|known| !known.is_static && known.port == port);
            }
            Some(4) => {
                assert_eq!(fdb.add_static(key.0, key.1, PortIndex(port)).is_ok(), model.add_static(key, port), "{what}")
            }
            Some(5) => {
                let there = model.known.get(&key).is_some_and(|known| known.is_static) && model.remove(key);
                assert_eq!(fdb.remove_static(key.0, key.1), there, "{what}");
            }
            Some(6) => assert_eq!(fdb.remove(key.0, key.1), model.remove(key), "{what}"),
            Some(7) if dice.chance(200) => {
                let statics = model.known.values().filter(|known| known.is_static).count();
                let capacity = (10 + dice.below(30)).max(statics);
                while model.known.len() > capacity && model.evict() {}
                model.capacity = capacity;
                fdb = fdb.resized(capacity);
                // The new table puts the ports in the order of their numbers among those with as many entries.
                for port in 0..8 {
                    model.changed(port);
                }
            }
            Some(8) => {
                fdb.forget_port(PortIndex(port));
                model.remove_if(|known| known.port == port);
            }
            _ => assert_eq!(fdb.learn(key.0, key.1, PortIndex(port), now), model.learn(key, port, now), "{what}"),
        }
        assert_eq!(
            fdb.lookup(key.0, key.1).map(|port| port.0),
            model.known.get(&key).map(|known| known.port),
            "{what}"
        );
        model.compare(&fdb, now, &what);
    }
}

#[test]
fn random_operations_agree_with_the_model() {
    for seed in 0..400 {
        run(seed);
    }
}

#[test]
fn a_port_with_many_hosts_cannot_push_out_the_others() {
    // Open vSwitch's case: five ports with two hosts each fill the table; a sixth then shows sixteen.
    let fdb = Fdb::new(10, 1);
    for port in 1..=5 {
        for host in 0..2 {
            fdb.learn(0, Mac(port * 16 + host), PortIndex(port as u16), Instant::from_secs(port));
        }
    }
    for host in 0..16 {
        fdb.learn(0, Mac(0x600 + host), PortIndex(6), Instant::from_secs(10));
    }
    let mut counts = [0; 7];
    fdb.entries(Instant::from_secs(10)).iter().for_each(|entry| counts[usize::from(entry.port.0)] += 1);
    counts.sort_unstable_by_key(|count| std::cmp::Reverse(*count));
    assert_eq!(counts, [3, 2, 2, 1, 1, 1, 0]);
    assert_eq!((fdb.stats().evicted, fdb.stats().learned), (16, 26));
    assert!(fdb.lookup(0, Mac(0x60f)).is_some(), "the newest is there");
}

#[test]
fn the_least_recently_used_gives_way_even_within_a_second() {
    let fdb = Fdb::new(10, 1);
    let at = |ms: u64| Instant(ms * 1_000_000);
    for host in 0..10 {
        fdb.learn(1, Mac(host), PortIndex(1), at(host));
    }
    assert_eq!(fdb.learn(1, Mac(0), PortIndex(1), at(20)), Learned::Refreshed);
    fdb.learn(1, Mac(100), PortIndex(1), at(21));
    assert_eq!((fdb.lookup(1, Mac(0)), fdb.lookup(1, Mac(1))), (Some(PortIndex(1)), None));
}

#[test]
fn a_large_table_writes_once_a_second_and_fills_to_the_last_entry() {
    let size = 100_000;
    let fdb = Fdb::new(size, 0x1234_5678_9abc_def0);
    for host in 0..size as u64 {
        assert_eq!(
            fdb.learn((host % 4096) as u16, Mac(host * 0x1_0001), PortIndex((host % 100) as u16), Instant(0)),
            Learned::New
        );
    }
    assert_eq!((fdb.stats().current, fdb.stats().evicted), (size, 0));
    assert_eq!(fdb.learn(0, Mac(0), PortIndex(0), Instant(999_000_000)), Learned::Fresh);
    assert_eq!(fdb.learn(0, Mac(0), PortIndex(0), Instant(1_000_000_000)), Learned::Refreshed);
    fdb.age(Instant::from_secs(300), 300);
    assert_eq!((fdb.stats().current, fdb.stats().expired), (1, size as u64 - 1));
    fdb.age(Instant::from_secs(301), 300);
    assert_eq!(fdb.stats().current, 0);
}

#[test]
fn a_table_of_static_entries_learns_nothing_more() {
    let fdb = Fdb::new(10, 1);
    for host in 0..10 {
        fdb.add_static(1, Mac(host), PortIndex(1)).unwrap();
    }
    assert!(fdb.add_static(1, Mac(10), PortIndex(1)).is_err());
    assert_eq!(fdb.learn(1, Mac(10), PortIndex(2), Instant(0)), Learned::Full);
    assert_eq!(fdb.learn(1, Mac(0), PortIndex(2), Instant(0)), Learned::Static);
    fdb.age(Instant::from_secs(100_000), 15);
    fdb.flush();
    assert_eq!(fdb.stats().static_entries, 10);
}

#[test]
fn threads_at_once_never_see_a_port_that_was_not_taught() {
    // Host h is only ever taught behind ports congruent to h modulo 7: a torn read would show another.
    let (fdb, stop, looked) = (Fdb::new(50, 3), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..3u64 {
            let (fdb, stop, looked) = (&fdb, &stop, &looked);
            scope.spawn(move || {
                let mut dice = Dice::new(thread);
                while !stop.load(Relaxed) {
                    let host = dice.below(200) as u64;
                    let port = host % 7 + 7 * dice.below(4) as u64;
                    fdb.learn(1, Mac(host), PortIndex(port as u16), Instant(dice.roll() >> 34));
                    let host = dice.below(200) as u64;
                    if let Some(port) = fdb.lookup(1, Mac(host)) {
                        assert_eq!(u64::from(port.0) % 7, host % 7, "host {host}");
                    }
                    looked.fetch_add(1, Relaxed);
                }
            });
        }
        let mut dice = Dice::new(99);
        let enough = || looked.load(Relaxed) > 300_000 && fdb.stats().evicted > 0 && fdb.stats().moved > 0;
        while !enough() {
            match dice.below(400) {
                0..20 => fdb.flush_port(PortIndex(dice.below(28) as u16)),
                20 => fdb.age(Instant(dice.roll() >> 34), 1),
                21..40 => std::thread::yield_now(),
                40..100 => {
                    assert!(fdb.entries(Instant(0)).iter().all(|entry| u64::from(entry.port.0) % 7 == entry.mac.0 % 7))
                }
                _ => assert!(fdb.stats().current <= 50),
            }
        }
        stop.store(true, Relaxed);
    });
    assert_eq!(fdb.entries(Instant(0)).len(), fdb.stats().current);
    fdb.flush();
    assert_eq!(fdb.stats().current, 0);
}

/// Full buckets cost nobody its entry: whatever the seed, a table holds as many hosts as it may, and all are found.
#[test]
fn holds_what_it_may() {
    for (capacity, seeds) in [(10, 3000), (16, 3000), (100, 300), (5000, 10)] {
        for seed in 0..seeds {
            let mut dice = Dice::new(seed);
            let fdb = Fdb::new(capacity, dice.roll());
            let hosts: Vec<Mac> = (0..capacity).map(|_| Mac(dice.roll() & 0xfeff_ffff_ffff)).collect();
            for (n, host) in hosts.iter().enumerate() {
                assert_eq!(fdb.learn(10, *host, PortIndex(n as u16 % 3), Instant::default()), Learned::New);
            }
            assert_eq!(fdb.stats().evicted, 0, "capacity {capacity}, seed {seed}");
            for (n, host) in hosts.iter().enumerate() {
                assert_eq!(fdb.lookup(10, *host), Some(PortIndex(n as u16 % 3)), "capacity {capacity}, seed {seed}");
            }
        }
    }
}
