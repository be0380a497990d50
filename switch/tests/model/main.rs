//! Does the whole switch do what a naive one does, whatever happens in whatever order?
//!
//! Seeded worlds: one to three workers, containers and a shared uplink on two bridges, and random operations: bursts of
//! frames, ports that come, go and change their VLANs, time, flushes. After every operation all frames that left and all
//! counters are compared with a switch of a few lines, and every packet, copy and frame must be accounted for.

mod naive;

use naive::{Multicast, Naive, NaiveSwitch};

use shunt_switch::command::Command;
use shunt_switch::config::{DeviceIndex, PortIndex};
use shunt_switch::limits::{BURST, ROUTER_AGEING_S};
use shunt_switch::port::fault::{Dice, Fault, Rates};
use shunt_switch::reason::Reason;
use shunt_switch::table::guard::{GuardConfig, MacLimits};
use shunt_switch::table::mdb::Mdb;
use shunt_switch::table::mirror::{MirrorConfig, Output};
use shunt_switch::table::vlan::VlanConfig;
use shunt_switch::testing::{PortSpec, Rig, Scene};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;
use std::sync::Arc;

const PORTS: usize = 9;
const DEVICES: usize = 7;
const GROUPS_MAX: usize = 10;
const VLANS: [u16; 4] = [0, 10, 20, 4095];

struct World {
    rig: Rig,
    naive: NaiveSwitch,
    dice: Dice,
    now: Instant,
    hosts: usize,
    attached: Vec<bool>,
}

fn any_spec(dice: &mut Dice, port: usize) -> PortSpec {
    // Ports 0 to 2 are VLANs of the uplink, device 0; the others have a device each.
    let link_vid = (port < 3).then(|| 100 + port as u16);
    let vlan = if dice.chance(500) {
        VlanConfig { tag: Some(VLANS[dice.below(4)]), ..VlanConfig::default() }
    } else {
        let trunks = (0..dice.below(3)).map(|_| VLANS[dice.below(4)]).collect();
        VlanConfig { trunks, ..VlanConfig::default() }
    };
    PortSpec {
        bridge: dice.below(2) as u16,
        device: port.saturating_sub(2) as u16,
        link_vid,
        vlan,
        mtu: [1500, 1500, 9000, 600][dice.below(4)],
        complete_checksums: dice.chance(500),
        protected: dice.chance(200),
        guard: GuardConfig {
            macs: MacLimits {
                learned_max: [0, 0, 0, 3][dice.below(4)],
                moves_max: [0, 0, 1, 3][dice.below(4)],
                window_ms: [5000, 30_000][dice.below(2)],
            },
            ..GuardConfig::default()
        },
        ..PortSpec::default()
    }
}

/// Up to three mirrors of ports of this bridge.
fn any_mirrors(dice: &mut Dice, scene: &Scene, bridge: usize) -> Vec<MirrorConfig> {
    let own = |port: &usize| scene.ports[*port].as_ref().is_some_and(|spec| usize::from(spec.bridge) == bridge);
    let own: Vec<usize> = (0..PORTS).filter(own).collect();
    let some = |dice: &mut Dice| -> Vec<PortIndex> {
        own.iter().filter(|_| dice.chance(400)).map(|port| PortIndex(*port as u16)).collect()
    };
    let mirror = |dice: &mut Dice| MirrorConfig {
        sources: some(dice),
        destinations: some(dice),
        vlans: if dice.chance(700) { vec![] } else { vec![VLANS[dice.below(4)]] },
        output: match own.get(dice.below(own.len().max(1))) {
            Some(port) if dice.chance(500) => Output::Port(PortIndex(*port as u16)),
            _ => Output::Vlan(VLANS[1 + dice.below(3)]),
        },
        snaplen: None,
        counters: (0..scene.workers).map(|_| Default::default()).collect(),
    };
    (0..dice.below(4)).map(|_| mirror(dice)).collect()
}

fn any_frame(dice: &mut Dice, hosts: usize, device: usize) -> Naive {
    let host = |dice: &mut Dice| Mac(0x0200_0000_0000 + dice.below(hosts) as u64);
    let destination = match dice.below(12) {
        0 => Mac(0xffff_ffff_ffff),
        1 => Mac(0x0180_c200_0003),
        2 => Mac(0x0100_5e00_0001),
        _ => host(dice),
    };
    let source = if dice.chance(30) { Mac(0x0300_0000_0001) } else { host(dice) };
    let mut tags = Vec::new();
    if device == 0 && !dice.chance(50) {
        tags.push(100 + dice.below(4) as u16);
    }
    if (device != 0 || !tags.is_empty()) && dice.chance(500) {
        tags.push(VLANS[1 + dice.below(3)]);
    }
    if dice.chance(200) {
        let group = dice.below(14) as u8;
        let multicast = match dice.below(8) {
            0 | 1 => Multicast::Join(group),
            2 => Multicast::Leave(group),
            3 if dice.chance(200) => Multicast::Query,
            _ => Multicast::Data(group),
        };
        let destination = Mac(0x0100_5e00_0100 + u64::from(group));
        return Naive { destination, source, tags, multicast: Some(multicast), payload: multicast.octets() };
    }
    let len = [20, 46, 600, 601, 1500, 1501, 5000, 9001][dice.below(8)];
    let seed = dice.roll() as usize;
    let payload = (0..len).map(|i| (i ^ seed ^ i >> 8) as u8).collect();
    Naive { destination, source, tags, multicast: None, payload }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let ports = (0..PORTS).map(|port| Some(any_spec(&mut dice, port))).collect();
        let mut scene = Scene { ports, workers: 1 + dice.below(3), ..Scene::default() };
        scene.bridges.push(Default::default());
        scene.bridges[1].forward_bpdu = dice.chance(500);
        if dice.chance(700) {
            scene.bridges[0].mdb = Some(Arc::new(Mdb::new(GROUPS_MAX, 9)));
        }
        if dice.chance(300) {
            scene.bridges[0].flood_vlans = vec![VLANS[dice.below(4)]];
        }
        let hosts = [3, 12, 60][dice.below(3)];
        Self {
            rig: Rig::new(scene, 4 * BURST),
            naive: NaiveSwitch::default(),
            dice,
            now: Instant::from_secs(100),
            hosts,
            attached: vec![true; DEVICES],
        }
    }

    fn step(&mut self, what: &str) {
        let port = self.dice.below(PORTS);
        match self.dice.below(20) {
            0 => {
                self.now.0 += self.dice.below(20_000_000_000) as u64;
                let max_age_s = 15 + self.dice.below(20) as u64;
                self.rig.scene.bridges.iter().for_each(|bridge| bridge.fdb.age(self.now, max_age_s));
                let now = self.now.as_millis();
                self.naive.forget(|_, (_, seen)| now - *seen < max_age_s * 1000);
                self.mdbs().for_each(|mdb| mdb.age(self.now, max_age_s));
                let routers = |router: (u16, u16, usize, u64)| now - router.3 < ROUTER_AGEING_S * 1000;
                self.naive.listeners.retain(|_, _, seen| now - seen < max_age_s * 1000, routers);
            }
            1 => {
                let bridge = self.dice.below(2);
                self.rig.scene.bridges[bridge].fdb.flush();
                self.naive.forget(|(of, _, _), _| usize::from(*of) != bridge);
            }
            5 => {
                let bridge = self.dice.below(2);
                self.rig.scene.bridges[bridge].mirrors = any_mirrors(&mut self.dice, &self.rig.scene, bridge);
                self.naive.mirrored.retain(|(of, _), _| *of != bridge);
                self.rig.install();
            }
            2 => self.replace(port, None),
            3 | 4 => {
                let spec = any_spec(&mut self.dice, port);
                self.replace(port, Some(spec));
            }
            _ => self.traffic(what),
        }
        self.compare(what);
    }

    fn mdbs(&self) -> impl Iterator<Item = &Mdb> {
        self.rig.scene.bridges.iter().filter_map(|bridge| bridge.mdb.as_deref())
    }

    /// As the control thread does it: the port goes, its addresses are forgotten, and only then another may have its number.
    fn replace(&mut self, port: usize, spec: Option<PortSpec>) {
        self.rig.scene.ports[port] = None;
        self.rig.install();
        self.rig.scene.bridges.iter().for_each(|bridge| bridge.fdb.forget_port(PortIndex(port as u16)));
        self.naive.forget(|_, (of, _)| *of != port);
        self.mdbs().for_each(|mdb| mdb.flush_port(PortIndex(port as u16)));
        self.naive.listeners.retain(|_, member, _| member != port, |router| router.2 != port);
        if spec.is_some() {
            self.rig.scene.ports[port] = spec;
            self.rig.install();
        }
        for device in 0..DEVICES {
            let used = self.rig.scene.ports.iter().flatten().any(|spec| usize::from(spec.device) == device);
            if used && !self.attached[device] {
                self.rig.attach(device);
            } else if !used && self.attached[device] {
                let home = usize::from(self.rig.scene.homes[device]);
                self.rig.command(home, Command::Detach(DeviceIndex(device as u16)));
            }
            self.attached[device] = used;
        }
        self.rig.run(self.now);
        for (_, handle) in &mut self.rig.crew {
            while handle.events.pop().is_ok() {}
        }
    }

    fn traffic(&mut self, what: &str) {
        let device = self.dice.below(DEVICES);
        if !self.attached[device] {
            return;
        }
        let count = 1 + self.dice.below(BURST);
        let packets: Vec<Naive> = (0..count).map(|_| any_frame(&mut self.dice, self.hosts, device)).collect();
        packets.iter().for_each(|packet| assert!(self.rig.inputs[device].push(&packet.octets())));
        self.rig.run(self.now);
        // Ports that share a device have each its own order: it is told by the outermost tag.
        let by_port = |mut frames: Vec<Vec<u8>>, device: usize| {
            let ports = self.rig.scene.ports.iter().flatten().filter(|spec| usize::from(spec.device) == device);
            if ports.count() > 1 {
                frames.sort_by_key(|frame| frame[12..16].to_vec());
            }
            frames
        };
        let mut expected = self.naive.burst(&self.rig.scene, device as u16, &packets, self.now);
        for (device, queue) in self.rig.outputs.iter().enumerate() {
            let got: Vec<Vec<u8>> = queue.drain().into_iter().map(|sent| sent.octets).collect();
            let expected = expected.remove(&(device as u16)).unwrap_or_default();
            let (got, expected) = (by_port(got, device), by_port(expected, device));
            assert_eq!(got.len(), expected.len(), "{what}: frames out of device {device}");
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                assert_eq!(got, expected, "{what}: frame {i} out of device {device}");
            }
        }
    }

    fn compare(&self, what: &str) {
        self.rig.check();
        let count = |port: Option<usize>, reason| self.naive.drops.get(&(port, reason)).copied().unwrap_or(0);
        for port in 0..PORTS {
            let totals = self.rig.totals(port);
            assert_eq!(
                totals.tx_packets,
                self.naive.sent.get(&port).copied().unwrap_or(0),
                "{what}: sent by port {port}"
            );
            for reason in Reason::ALL {
                assert_eq!(totals.dropped(*reason), count(Some(port), *reason), "{what}: {reason:?} of port {port}");
            }
        }
        for reason in Reason::ALL {
            assert_eq!(self.rig.unattributed(*reason), count(None, *reason), "{what}: {reason:?} of no port");
        }
        assert_eq!(self.rig.workers().map(|worker| worker.packets.get()).sum::<u64>(), self.naive.received, "{what}");
        for (number, bridge) in self.rig.scene.bridges.iter().enumerate() {
            for (i, mirror) in bridge.mirrors.iter().enumerate() {
                let taken: u64 = mirror.counters.iter().map(|own| own.packets.get()).sum();
                let expected = self.naive.mirrored.get(&(number, i)).copied().unwrap_or(0);
                assert_eq!(taken, expected, "{what}: mirror {i} of bridge {number}");
            }
            let entries = bridge.fdb.entries(self.now);
            let known = self.naive.hosts.keys().filter(|(of, _, _)| usize::from(*of) == number).count();
            assert_eq!(entries.len(), known, "{what}: hosts of bridge {number}");
            for entry in entries {
                let (port, seen) = self.naive.hosts[&(number as u16, entry.vlan, entry.mac)];
                let age_s = (self.now.as_millis() - seen) / 1000;
                assert_eq!((usize::from(entry.port.0), entry.age_s), (port, age_s), "{what}: {}", entry.mac);
            }
        }
    }
}

#[test]
fn the_switch_is_the_naive_switch() {
    for seed in 0..150 {
        let mut world = World::new(seed);
        for step in 0..60 {
            world.step(&format!("seed {seed} step {step}"));
        }
    }
}

#[test]
fn faulty_ports_lose_nothing_that_is_not_counted() {
    for seed in 0..60 {
        let mut world = World::new(1000 + seed);
        for device in 0..DEVICES {
            let home = usize::from(world.rig.scene.homes[device]);
            let mut rate = |most| world.dice.below(most) as u32;
            let rates = Rates { loss: rate(200), duplication: rate(200), stall: rate(400), short_burst: rate(500) };
            let (queue, index) = (0, DeviceIndex(device as u16));
            let side = Box::new(Fault::new(world.rig.inputs[device].receiver_segmented(600), rates, seed));
            world.rig.command(home, Command::Receive { device: index, queue, side });
            let side = Box::new(Fault::new(world.rig.outputs[device].transmitter(), rates, seed + 1));
            world.rig.command(home, Command::Transmit { device: index, side });
            world.rig.outputs[device].set_per_flush(1 + world.dice.below(40));
        }
        for _ in 0..40 {
            for device in 0..DEVICES {
                for _ in 0..world.dice.below(80) {
                    let mut octets = any_frame(&mut world.dice, world.hosts, device).octets();
                    if world.dice.chance(50) {
                        octets.truncate(world.dice.below(30));
                    }
                    world.rig.inputs[device].push(&octets);
                }
                if world.dice.chance(50) {
                    world.rig.outputs[device].set_down(world.dice.chance(500));
                }
            }
            world.rig.run(world.now);
            world.rig.check();
            for queue in &world.rig.outputs {
                // A slow receiver: its device fills up.
                if world.dice.chance(600) {
                    queue.discard();
                }
            }
        }
    }
}
