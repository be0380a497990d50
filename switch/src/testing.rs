//! How is a small switch set up on memory ports? For tests, fuzzing, simulations and benches; the daemon does not use it.

use crate::command::{Command, Event, Handle};
use crate::config::{Bridge, Device, DeviceIndex, Ingress, Offload, Port, PortIndex, Router, Snapshot, Snooping};
use crate::counters::{PortCounters, PortTotals, WorkerCounters};
use crate::crossing::{NeverAsleep, Wake};
use crate::limits::{FRAME_MAX, VLANS};
use crate::port::memory::Queue;
use crate::reason::Reason;
use crate::table::fdb::Fdb;
use crate::table::flood::FloodTable;
use crate::table::guard::{Guard, GuardConfig};
use crate::table::mdb::Mdb;
use crate::table::mirror::{self, MirrorConfig};
use crate::table::next_hop::InterfaceIndex;
use crate::table::sampler::Sampling;
use crate::table::shortcut::Shortcuts;
use crate::table::vlan::{VlanConfig, VlanPolicy, VlanSet};
use crate::time::Instant;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::Mac;
use crate::wire::vlan::Tag;
use crate::worker::{Worker, crew};
use std::sync::Arc;

/// A frame with these tags and `payload` behind EtherType `ethertype`.
pub fn frame(destination: Mac, source: Mac, tags: &[Tag], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [destination.octets(), source.octets()].concat();
    tags.iter().for_each(|tag| frame.extend(tag.octets()));
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An IPv4 packet with `message` as IGMP; octets 2 and 3 of it are replaced by its checksum.
pub fn igmp_packet(source: [u8; 4], destination: [u8; 4], message: &[u8]) -> Vec<u8> {
    let total = (24 + message.len() as u16).to_be_bytes();
    // A router alert option, as RFC 2236 has it.
    let header = [0x46, 0xc0, total[0], total[1], 0, 0, 0, 0, 1, 2, 0, 0];
    let mut packet = [&header[..], &source, &destination, &[0x94, 4, 0, 0], message].concat();
    put_checksum(&mut packet, 24, Sum::default());
    packet
}

/// An IPv6 packet with `message` as ICMPv6 behind a router alert (RFC 2710); octets 2 and 3 are replaced by its checksum.
pub fn mld_packet(source: [u8; 16], destination: [u8; 16], message: &[u8]) -> Vec<u8> {
    let len = (8 + message.len() as u16).to_be_bytes();
    let header = [0x60, 0, 0, 0, len[0], len[1], 0, 1];
    let mut packet = [&header[..], &source, &destination, &[58, 0, 5, 2, 0, 0, 1, 0], message].concat();
    let mut sum = Sum::default();
    sum.add(&packet[8..40]);
    sum.add_word(message.len() as u16);
    sum.add_word(58);
    put_checksum(&mut packet, 48, sum);
    packet
}

fn put_checksum(packet: &mut [u8], at: usize, mut sum: Sum) {
    packet[at + 2..at + 4].fill(0);
    sum.add(&packet[at..]);
    packet[at + 2..at + 4].copy_from_slice(&(!sum.fold()).to_be_bytes());
}

/// A port to be set up.
#[derive(Clone, Debug)]
pub struct PortSpec {
    /// Its bridge.
    pub bridge: u16,
    /// Its device's number.
    pub device: u16,
    /// It is one VLAN of its device.
    pub link_vid: Option<u16>,
    /// Its VLAN columns.
    pub vlan: VlanConfig,
    /// Its MTU.
    pub mtu: u32,
    /// It wants complete checksums.
    pub complete_checksums: bool,
    /// It does not talk to other such ports.
    pub protected: bool,
    /// Talks to interfaces of the router only.
    pub hosts_only: bool,
    /// Its limits.
    pub guard: GuardConfig,
    /// What is wanted to be known of its packets.
    pub sampling: Option<Arc<Sampling>>,
    /// The captures that it belongs to.
    pub captures: u8,
    /// The router's interface behind it.
    pub interface: Option<InterfaceIndex>,
    /// It gets all groups; only where its bridge snoops.
    pub mcast_flood: bool,
    /// It gets reports; only where its bridge snoops.
    pub mcast_flood_reports: bool,
}

impl Default for PortSpec {
    fn default() -> Self {
        Self {
            bridge: 0,
            device: 0,
            link_vid: None,
            vlan: VlanConfig::default(),
            mtu: FRAME_MAX as u32,
            complete_checksums: false,
            protected: false,
            hosts_only: false,
            guard: GuardConfig::default(),
            sampling: None,
            captures: 0,
            interface: None,
            mcast_flood: false,
            mcast_flood_reports: false,
        }
    }
}

/// A device that belongs to the port of the same number.
pub fn device(number: u16) -> Device {
    Device {
        ingress: Ingress::Port(PortIndex(number)),
        partial_checksums: false,
        home: 0,
        offload: None,
        guarded: false,
        mirrored: false,
        tapped: false,
    }
}

/// The configuration of one bridge whose ports have these VLAN columns, each on the device of the same number.
pub fn bridge_ports(vlans: &[VlanConfig]) -> Snapshot {
    let spec = |(i, vlan): (usize, &VlanConfig)| {
        Some(PortSpec { device: i as u16, vlan: vlan.clone(), ..PortSpec::default() })
    };
    Scene { ports: vlans.iter().enumerate().map(spec).collect(), ..Scene::default() }.snapshot(0)
}

/// A bridge to be set up.
pub struct BridgeSpec {
    /// Its table.
    pub fdb: Arc<Fdb>,
    /// VLANs that it floods.
    pub flood_vlans: Vec<u16>,
    /// It forwards reserved multicast.
    pub forward_bpdu: bool,
    /// Its mirrors.
    pub mirrors: Vec<MirrorConfig>,
    /// It snoops, with this table.
    pub mdb: Option<Arc<Mdb>>,
    /// If it snoops: what nobody has asked for goes to routers only.
    pub drop_unregistered: bool,
}

impl Default for BridgeSpec {
    fn default() -> Self {
        Self {
            fdb: Arc::new(Fdb::new(1024, 0x5eed)),
            flood_vlans: Vec::new(),
            forward_bpdu: false,
            mirrors: Vec::new(),
            mdb: None,
            drop_unregistered: false,
        }
    }
}

/// What a snapshot is made from.
pub struct Scene {
    /// By number; `None` for numbers not in use.
    pub ports: Vec<Option<PortSpec>>,
    /// By number.
    pub bridges: Vec<BridgeSpec>,
    /// Devices whose senders leave checksums unfinished.
    pub partial: Vec<u16>,
    /// By device: the worker that transmits on it.
    pub homes: Vec<u16>,
    /// By port, one block for each worker.
    pub counters: Vec<Arc<[PortCounters]>>,
    /// How many workers there are.
    pub workers: usize,
    /// What packets are routed by.
    pub router: Option<Router>,
    /// The kernel may forward between the devices of whole ports, by these; one more device has what it hands over. It knows a
    /// device by its number plus 1, which is its place as well.
    pub shortcuts: Option<Shortcuts>,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            ports: Vec::new(),
            bridges: vec![BridgeSpec::default()],
            partial: Vec::new(),
            homes: Vec::new(),
            counters: Vec::new(),
            workers: 1,
            router: None,
            shortcuts: None,
        }
    }
}

impl Scene {
    /// How many devices there are.
    pub fn devices(&self) -> u16 {
        let of_ports = self.ports.iter().flatten().map(|spec| spec.device + 1).max().unwrap_or(0);
        of_ports + u16::from(self.shortcuts.is_some())
    }

    /// Compiles the scene.
    pub fn snapshot(&mut self, generation: u64) -> Snapshot {
        while self.counters.len() < self.ports.len() {
            self.counters.push((0..self.workers).map(|_| PortCounters::default()).collect());
        }
        let mut ports: Vec<Option<Port>> = self
            .ports
            .iter()
            .zip(&self.counters)
            .map(|(spec, counters)| {
                spec.as_ref().map(|spec| Port {
                    bridge: spec.bridge,
                    device: DeviceIndex(spec.device),
                    link_vid: spec.link_vid,
                    vlan: VlanPolicy::new(&spec.vlan),
                    mtu: spec.mtu,
                    complete_checksums: spec.complete_checksums,
                    protected: spec.protected,
                    hosts_only: spec.hosts_only,
                    guard: Guard::new(&spec.guard).map(Arc::new),
                    exceptions: spec.guard.exceptions().map(Arc::new),
                    mirror: mirror::Role::default(),
                    sampling: spec.sampling.clone(),
                    captures: spec.captures,
                    interface: spec.interface,
                    counters: Arc::clone(counters),
                })
            })
            .collect();
        let devices = (0..self.devices()).map(|number| self.device(number)).collect();
        let bridges = self
            .bridges
            .iter()
            .enumerate()
            .map(|(number, spec)| {
                let mirrors = mirror::compile(&mut ports, number as u16, &spec.mirrors);
                let members = ports.iter().enumerate().filter_map(|(index, port)| {
                    port.as_ref()
                        .filter(|port| usize::from(port.bridge) == number && !port.mirror.is_output)
                        .map(|port| (PortIndex(index as u16), &port.vlan))
                });
                Bridge {
                    fdb: Arc::clone(&spec.fdb),
                    flood: FloodTable::new(members),
                    flood_vlans: (!spec.flood_vlans.is_empty())
                        .then(|| Box::new(spec.flood_vlans.iter().copied().collect::<VlanSet>())),
                    forward_bpdu: spec.forward_bpdu,
                    mirrors,
                    limits_macs: false,
                    snooping: spec.mdb.as_ref().map(|mdb| self.snooping(number, spec, mdb)),
                }
            })
            .collect();
        if let Some(shortcuts) = &self.shortcuts {
            self.bridges.iter().for_each(|spec| spec.fdb.watch(shortcuts.epochs()));
        }
        let (router, shortcuts) = (self.router.clone(), self.shortcuts.clone());
        let mut snapshot = Snapshot { generation, devices, ports, bridges, router, shortcuts, ..Snapshot::default() };
        snapshot.mark();
        snapshot
    }

    fn snooping(&self, bridge: usize, spec: &BridgeSpec, mdb: &Arc<Mdb>) -> Snooping {
        let ports = |wanted: fn(&PortSpec) -> bool| {
            let of_bridge = |port: &PortSpec| usize::from(port.bridge) == bridge && wanted(port);
            let ports = self.ports.iter().zip(0..).filter(|(port, _)| port.as_ref().is_some_and(of_bridge));
            ports.map(|(_, index)| PortIndex(index)).collect()
        };
        Snooping {
            mdb: Arc::clone(mdb),
            flood_unregistered: !spec.drop_unregistered,
            flood_ports: ports(|port| port.mcast_flood),
            report_ports: ports(|port| port.mcast_flood_reports),
        }
    }

    fn device(&self, number: u16) -> Option<Device> {
        if self.shortcuts.is_some() && number + 1 == self.devices() {
            let mut ports = Box::new([PortIndex::NONE; VLANS]);
            for (spec, index) in self.ports.iter().zip(0..) {
                spec.iter().for_each(|spec| ports[usize::from(spec.device) + 1] = PortIndex(index));
            }
            return Some(Device { ingress: Ingress::Punted(ports.into()), partial_checksums: true, ..device(number) });
        }
        let mut vlans: Option<Box<[PortIndex; VLANS]>> = None;
        let mut whole = None;
        for (index, spec) in self.ports.iter().enumerate() {
            let Some(spec) = spec.as_ref().filter(|spec| spec.device == number) else { continue };
            match spec.link_vid {
                Some(vid) => {
                    vlans.get_or_insert_with(|| Box::new([PortIndex::NONE; VLANS]))[usize::from(vid)] =
                        PortIndex(index as u16);
                }
                None => whole = Some(PortIndex(index as u16)),
            }
        }
        let ingress = whole.map(Ingress::Port).or(vlans.map(|ports| Ingress::Vlans(ports.into())))?;
        let home = self.homes.get(usize::from(number)).copied().unwrap_or(0);
        Some(Device {
            ingress,
            partial_checksums: self.partial.contains(&number),
            home,
            offload: (self.shortcuts.is_some() && whole.is_some()).then(|| Offload {
                ifindex: u32::from(number) + 1,
                place: number + 1,
                to_peer: false,
            }),
            guarded: false,
            mirrored: false,
            tapped: false,
        })
    }
}

/// A running switch: workers, and a pair of queues for each device.
pub struct Rig {
    /// What it is made from; change it, then [`Rig::install`].
    pub scene: Scene,
    /// The workers and their handles.
    pub crew: Vec<(Worker, Handle)>,
    /// By device: what the switch receives.
    pub inputs: Vec<Queue>,
    /// By device: what the switch sent.
    pub outputs: Vec<Queue>,
    generation: u64,
}

impl Rig {
    /// Sets the scene up and runs until it is in force. Device number n is attached to worker n modulo their number.
    pub fn new(mut scene: Scene, frames: usize) -> Self {
        let wakes: Vec<Arc<dyn Wake>> = (0..scene.workers).map(|_| Arc::new(NeverAsleep) as Arc<dyn Wake>).collect();
        let devices = usize::from(scene.devices());
        let worker_of = |device: usize| (device % scene.workers) as u16;
        scene.homes = (0..devices).map(worker_of).collect();
        let queues = || (0..devices).map(|_| Queue::new(frames)).collect();
        let (inputs, outputs) = (queues(), queues());
        let mut rig = Self { scene, crew: crew(&wakes), inputs, outputs, generation: 0 };
        for device in 0..devices {
            rig.attach(device);
        }
        rig.install();
        rig
    }

    /// Gives the device's sides to its home.
    pub fn attach(&mut self, device: usize) {
        let worker = usize::from(self.scene.homes[device]);
        let side = Box::new(self.inputs[device].receiver_segmented(2048));
        self.command(worker, Command::Receive { device: DeviceIndex(device as u16), queue: 0, side });
        let side = Box::new(self.outputs[device].transmitter());
        self.command(worker, Command::Transmit { device: DeviceIndex(device as u16), side });
    }

    /// Sends a command to a worker, which takes turns if there is no room.
    pub fn command(&mut self, worker: usize, command: Command) {
        let (worker, handle) = &mut self.crew[worker];
        while handle.commands.is_full() {
            worker.turn(Instant::default());
        }
        assert!(handle.commands.push(command).is_ok(), "room for a command");
    }

    /// Makes all workers install the scene as it is now, and waits for it.
    pub fn install(&mut self) {
        self.generation += 1;
        let snapshot = Arc::new(self.scene.snapshot(self.generation));
        for worker in 0..self.crew.len() {
            self.command(worker, Command::Install(Arc::clone(&snapshot)));
        }
        let mut waiting = self.crew.len();
        for _ in 0..1000 {
            for (worker, handle) in &mut self.crew {
                worker.turn(Instant::default());
                while let Ok(event) = handle.events.pop() {
                    waiting -= usize::from(
                        matches!(event, Event::Installed { generation, .. } if generation == self.generation),
                    );
                }
            }
            if waiting == 0 {
                return;
            }
        }
        panic!("{waiting} workers did not install generation {}", self.generation);
    }

    /// All workers take turns until nothing is left to do.
    pub fn run(&mut self, now: Instant) {
        for _ in 0..10_000 {
            let mut pending = false;
            for (worker, _) in &mut self.crew {
                pending |= worker.turn(now).pending;
            }
            if !pending {
                return;
            }
        }
        panic!("the switch does not come to rest");
    }

    /// What all workers counted on a port.
    pub fn totals(&self, port: usize) -> PortTotals {
        self.scene.counters.get(port).map(|counters| PortTotals::sum(counters)).unwrap_or_default()
    }

    /// Packets of no port that were dropped for `reason`.
    pub fn unattributed(&self, reason: Reason) -> u64 {
        self.workers().map(|worker| worker.unattributed.drops[reason as usize].get()).sum()
    }

    /// What the workers count about themselves.
    pub fn workers(&self) -> impl Iterator<Item = &WorkerCounters> {
        self.crew.iter().map(|(_, handle)| &*handle.counters)
    }

    /// Checks that every packet, copy and frame is accounted for, while the switch is at rest.
    pub fn check(&self) {
        let ports = (0..self.scene.counters.len()).map(|port| self.totals(port));
        let none = self.workers().map(|worker| PortTotals::sum(std::slice::from_ref(&worker.unattributed)));
        let (mut received, mut sent, mut dropped) = (0, 0, 0);
        for totals in ports.chain(none) {
            received += totals.rx_packets;
            sent += totals.tx_packets;
            dropped += totals.all_dropped();
        }
        let sum = |count: fn(&WorkerCounters) -> u64| self.workers().map(count).sum::<u64>();
        let taken = sum(|worker| worker.packets.get()) + sum(|worker| worker.routed.get());
        assert_eq!(received, taken, "packets received");
        let (forwarded, copies) = (sum(|worker| worker.forwarded.get()), sum(|worker| worker.copies.get()));
        assert_eq!(received + copies, forwarded + sent + dropped, "packets and copies in = out");
        for (number, queue) in self.inputs.iter().chain(&self.outputs).enumerate() {
            assert_eq!(queue.held(), 0, "frames held of queue {number}");
        }
        let census: Vec<_> = self.crew.iter().map(|(worker, _)| worker.crossing().census()).collect();
        let others = self.crew.len() - 1;
        let buffers = others * self.crew.len() * crate::limits::CROSSING_RING;
        assert_eq!(census.iter().map(|(empty, _)| empty).sum::<usize>(), buffers, "buffers between workers");
        assert!(census.iter().all(|(_, waiting)| *waiting == 0), "packets between workers");
    }
}
