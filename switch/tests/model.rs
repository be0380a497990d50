//! Does the whole switch do what a naive one does, whatever happens in whatever order?
//!
//! Seeded worlds: one to three workers, containers and a shared uplink on two bridges, and random operations: bursts of
//! frames, ports that come, go and change their VLANs, time, flushes. After every operation all frames that left and all
//! counters are compared with a switch of a few lines, and every packet, copy and frame must be accounted for.

use shunt_switch::command::Command;
use shunt_switch::config::{DeviceIndex, PortIndex};
use shunt_switch::limits::BURST;
use shunt_switch::port::fault::{Dice, Fault, Rates};
use shunt_switch::reason::Reason;
use shunt_switch::table::vlan::VlanConfig;
use shunt_switch::testing::{PortSpec, Rig, Scene, frame};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;
use shunt_switch::wire::vlan::Tag;
use std::collections::{BTreeMap, HashMap};

const PORTS: usize = 9;
const DEVICES: usize = 7;
const VLANS: [u16; 4] = [0, 10, 20, 4095];

/// What a frame is to the naive switch; its octets are made from it.
#[derive(Clone, Debug)]
struct Naive {
    destination: Mac,
    source: Mac,
    tags: Vec<u16>,
    payload: Vec<u8>,
}

impl Naive {
    fn octets(&self) -> Vec<u8> {
        let tags: Vec<Tag> = self.tags.iter().map(|vid| Tag::new(0x8100, *vid, 0)).collect();
        frame(self.destination, self.source, &tags, 0x88b5, &self.payload)
    }
}

#[derive(Default)]
struct NaiveSwitch {
    /// (bridge, VLAN, MAC) → port, when last seen.
    hosts: HashMap<(u16, u16, Mac), (usize, u64)>,
    received: u64,
    drops: BTreeMap<(Option<usize>, Reason), u64>,
    sent: BTreeMap<usize, u64>,
}

fn carries(vlan: &VlanConfig, vid: u16) -> bool {
    match vlan.tag {
        Some(tag) => tag == vid,
        None => vlan.trunks.is_empty() || vlan.trunks.contains(&vid),
    }
}

/// A packet that was let in: its port, bridge, VLAN.
type Admitted = (usize, u16, u16);

impl NaiveSwitch {
    fn admit(&self, scene: &Scene, device: u16, packet: &Naive) -> Result<Admitted, (Option<usize>, Reason)> {
        let mut tags = packet.tags.as_slice();
        let on_device =
            |(_, spec): &(usize, &Option<PortSpec>)| spec.as_ref().is_some_and(|spec| spec.device == device);
        let mut ports = scene.ports.iter().enumerate().filter(on_device).map(|(i, spec)| (i, spec.as_ref().unwrap()));
        let found = if device == 0 {
            let vid = tags.first().copied().unwrap_or(0);
            tags = tags.get(1..).unwrap_or(&[]);
            ports.find(|(_, spec)| spec.link_vid == Some(vid))
        } else {
            ports.next()
        };
        let (port, spec) = found.ok_or((None, Reason::NoPort))?;
        if packet.destination.is_reserved() && !scene.bridges[usize::from(spec.bridge)].forward_bpdu {
            return Err((Some(port), Reason::ReservedMulticast));
        }
        let vid = tags.first().copied().unwrap_or(0);
        match spec.vlan.tag {
            Some(_) if vid != 0 => Err((Some(port), Reason::TaggedOnAccess)),
            Some(tag) => Ok((port, spec.bridge, tag)),
            None if carries(&spec.vlan, vid) => Ok((port, spec.bridge, vid)),
            None => Err((Some(port), Reason::IngressVlan)),
        }
    }

    /// The ports that a packet goes to, or why it goes nowhere.
    fn decide(&self, scene: &Scene, packet: &Naive, (from, bridge, vlan): Admitted) -> Result<Vec<usize>, Reason> {
        let floods = scene.bridges[usize::from(bridge)].flood_vlans.contains(&vlan);
        let known =
            self.hosts.get(&(bridge, vlan, packet.destination)).filter(|_| !floods && !packet.destination.is_group());
        let protected = |port: usize| scene.ports[port].as_ref().is_some_and(|spec| spec.protected);
        let Some((port, _)) = known else {
            let to: Vec<usize> = (0..PORTS)
                .filter(|to| {
                    let member = scene.ports[*to]
                        .as_ref()
                        .is_some_and(|spec| spec.bridge == bridge && carries(&spec.vlan, vlan));
                    member && *to != from && !(protected(from) && protected(*to))
                })
                .collect();
            return if to.is_empty() { Err(Reason::FloodEmpty) } else { Ok(to) };
        };
        match scene.ports[*port].as_ref() {
            _ if *port == from => Err(Reason::Hairpin),
            None => Err(Reason::StalePort),
            Some(_) if protected(from) && protected(*port) => Err(Reason::Protected),
            Some(spec) if !carries(&spec.vlan, vlan) => Err(Reason::EgressVlan),
            Some(_) => Ok(vec![*port]),
        }
    }

    /// What leaves, by device.
    fn burst(&mut self, scene: &Scene, device: u16, packets: &[Naive], now: Instant) -> BTreeMap<u16, Vec<Vec<u8>>> {
        let mut out: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
        self.received += packets.len() as u64;
        let admitted: Vec<_> = packets.iter().map(|packet| self.admit(scene, device, packet)).collect();
        for (packet, admitted) in packets.iter().zip(&admitted) {
            if let Ok((port, bridge, vlan)) = admitted
                && !packet.source.is_group()
                && !scene.bridges[usize::from(*bridge)].flood_vlans.contains(vlan)
            {
                self.hosts.insert((*bridge, *vlan, packet.source), (*port, now.as_millis()));
            }
        }
        for (packet, admitted) in packets.iter().zip(admitted) {
            let decided = admitted.and_then(|admitted| {
                let to = self.decide(scene, packet, admitted).map_err(|reason| (Some(admitted.0), reason))?;
                Ok((admitted, to))
            });
            match decided {
                Err(drop) => *self.drops.entry(drop).or_default() += 1,
                Ok(((from, _, vlan), to)) => {
                    for port in to {
                        self.leave(scene, packet, from, vlan, port, &mut out);
                    }
                }
            }
        }
        out
    }

    fn leave(
        &mut self,
        scene: &Scene,
        packet: &Naive,
        from: usize,
        vlan: u16,
        port: usize,
        out: &mut BTreeMap<u16, Vec<Vec<u8>>>,
    ) {
        let (ingress, egress) = (scene.ports[from].as_ref().unwrap(), scene.ports[port].as_ref().unwrap());
        if packet.payload.len() > egress.mtu as usize {
            *self.drops.entry((Some(port), Reason::MtuExceeded)).or_default() += 1;
            return;
        }
        // All tags are ours or the VLAN's, but for one behind: on an untagged trunk frame there is none.
        let mut copy = packet.clone();
        let own = usize::from(ingress.link_vid.is_some());
        copy.tags.drain(..own.min(copy.tags.len()));
        copy.tags.drain(..1.min(copy.tags.len()));
        if egress.vlan.tag.is_none() && vlan != 0 {
            copy.tags.insert(0, vlan);
        }
        copy.tags.splice(0..0, egress.link_vid);
        let mut octets = copy.octets();
        octets.resize(octets.len().max(60), 0);
        *self.sent.entry(port).or_default() += 1;
        out.entry(egress.device).or_default().push(octets);
    }
}

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
    }
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
    let len = [20, 46, 600, 601, 1500, 1501, 5000, 9001][dice.below(8)];
    let seed = dice.roll() as usize;
    let payload = (0..len).map(|i| (i ^ seed ^ i >> 8) as u8).collect();
    Naive { destination, source, tags, payload }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let ports = (0..PORTS).map(|port| Some(any_spec(&mut dice, port))).collect();
        let mut scene = Scene { ports, workers: 1 + dice.below(3), ..Scene::default() };
        scene.bridges.push(Default::default());
        scene.bridges[1].forward_bpdu = dice.chance(500);
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
                self.naive.hosts.retain(|_, (_, seen)| self.now.as_millis() - *seen < max_age_s * 1000);
            }
            1 => {
                let bridge = self.dice.below(2);
                self.rig.scene.bridges[bridge].fdb.flush();
                self.naive.hosts.retain(|(of, _, _), _| usize::from(*of) != bridge);
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

    /// As the control thread does it: the port goes, its addresses are forgotten, and only then another may have its number.
    fn replace(&mut self, port: usize, spec: Option<PortSpec>) {
        self.rig.scene.ports[port] = None;
        self.rig.install();
        self.rig.scene.bridges.iter().for_each(|bridge| bridge.fdb.forget_port(PortIndex(port as u16)));
        self.naive.hosts.retain(|_, (of, _)| *of != port);
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
        let mut expected = self.naive.burst(&self.rig.scene, device as u16, &packets, self.now);
        for (device, queue) in self.rig.outputs.iter().enumerate() {
            let got: Vec<Vec<u8>> = queue.drain().into_iter().map(|sent| sent.octets).collect();
            let expected = expected.remove(&(device as u16)).unwrap_or_default();
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
