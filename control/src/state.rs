//! What is attached right now, and how does it become the workers' snapshot?
//!
//! [`State`] is what the reconciler changes and what run-time commands read; nothing in it waits for anything but the
//! workers' acknowledgement.

mod queues;
mod snooping;

use crate::dataplane::{Dataplane, Stuck};
use crate::kernel::Prepared;
use crate::mirrors::Mirrors;
use crate::model::{Interface, Model};
use crate::placement::Placement;
use crate::plan::{Attached, Users, Wish};
use shunt_ffi::Attachment;
use shunt_switch::config::{self, DeviceIndex, Ingress, PortIndex, Snapshot};
use shunt_switch::counters::{PortCounters, PortTotals};
use shunt_switch::limits;
use shunt_switch::port::Transmit;
use shunt_switch::reason::Reason;
use shunt_switch::table::fdb::Fdb;
use shunt_switch::table::flood::FloodTable;
use shunt_switch::table::guard::{Guard, GuardConfig};
use shunt_switch::table::mirror::{self, MirrorConfig};
use shunt_switch::table::vlan::VlanPolicy;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use queues::QueueView;
pub use snooping::Snooping;

/// `ofport` of a bridge's own interface, OpenFlow's OFPP_LOCAL.
pub const OFPORT_LOCAL: i64 = 65534;

/// The name in statistics for packets that belong to no port: it was removed while they were under way, or no port claims their
/// VLAN. No device can have it.
pub const NO_PORT: &str = "(no port)";

/// Everything that is attached, learned and counted.
pub struct State {
    /// The workers.
    pub dataplane: Dataplane,
    /// By bridge name.
    pub bridges: BTreeMap<String, Bridge>,
    /// By interface name: those in force.
    pub ports: BTreeMap<String, Port>,
    /// By device name.
    pub devices: BTreeMap<String, Device>,
    /// Internal interfaces whose veth pair exists: name to the switch's end.
    pub internals: BTreeMap<String, String>,
    /// Mirrors in force and not.
    pub mirrors: Mirrors,
    placement: Placement,
    port_numbers: Numbers,
    device_numbers: Numbers,
    generation: u64,
}

/// A bridge in force.
pub struct Bridge {
    /// What it has learned.
    pub fdb: Arc<Fdb>,
    /// After how many seconds without a packet an entry goes.
    pub ageing_s: u64,
    /// What it has snooped, if it snoops.
    pub snooping: Option<Snooping>,
    flood_vlans: BTreeSet<u16>,
}

/// A port in force.
pub struct Port {
    /// Its bridge's name.
    pub bridge: String,
    /// Its number in the data plane.
    pub index: PortIndex,
    /// Its number for OVS's tools; unique on its bridge.
    pub ofport: i64,
    /// The device that it uses.
    pub device: String,
    /// The only VLAN of the device that it uses, if not all.
    pub link_vid: Option<u16>,
    /// One block for each worker.
    counters: Arc<[PortCounters]>,
    /// Those from before there were more workers.
    earlier: Vec<Arc<[PortCounters]>>,
    /// Limits on what comes in, and the same at work.
    pub guard: (GuardConfig, Option<Arc<Guard>>),
    vlan: VlanPolicy,
    protected: bool,
}

/// An attached device.
pub struct Device {
    /// Its number in the data plane.
    pub index: DeviceIndex,
    /// The kernel's number.
    pub ifindex: u32,
    /// What it was attached for.
    pub wish: Wish,
    /// The sockets, the program and their statistics.
    pub attachment: Attachment,
    /// What was changed on the device and must be put back.
    pub prepared: Prepared,
    /// How many queues it had, if that was changed.
    pub queues_before: Option<u32>,
    /// Kernel's kind is veth: senders behind it leave checksums unfinished, receivers accept such.
    pub is_veth: bool,
    /// MTU of the device.
    pub mtu: u32,
    /// `tx_dropped` of the device when it was attached, and now.
    pub tx_dropped: (u64, u64),
    /// Memory for frames.
    pub frame_bytes: u64,
    /// Which worker polls each queue.
    pub workers: Vec<usize>,
    /// Transmitting sides that no worker uses: one is enough for each worker that polls the device.
    pub spare: Vec<Box<dyn Transmit>>,
}

/// A device that was detached from the workers and not yet given back to the kernel.
pub struct Leaving {
    /// Its name.
    pub name: String,
    /// The kernel's number.
    pub ifindex: u32,
    /// What must be put back.
    pub prepared: Prepared,
    /// How many queues it had, if that was changed.
    pub queues_before: Option<u32>,
}

impl State {
    /// Nothing attached.
    pub fn new(dataplane: Dataplane) -> Self {
        Self {
            placement: Placement::new(&dataplane.cores(), [], true),
            dataplane,
            bridges: BTreeMap::new(),
            ports: BTreeMap::new(),
            devices: BTreeMap::new(),
            internals: BTreeMap::new(),
            mirrors: Mirrors::default(),
            port_numbers: Numbers::new(limits::PORTS_MAX),
            device_numbers: Numbers::new(limits::DEVICES_MAX),
            generation: 0,
        }
    }

    /// What planning needs to know.
    pub fn attached(&self) -> Attached {
        let fit = |device: &Device| Wish { tags: device.prepared.tags_hidden.is_none(), ..device.wish.clone() };
        let devices = self.devices.iter().map(|(name, device)| (name.clone(), (device.ifindex, fit(device))));
        Attached { devices: devices.collect(), internals: self.internals.keys().cloned().collect() }
    }

    /// How many snapshots there have been.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// A free number for a device to attach, or none if the switch is full.
    pub fn number_device(&mut self) -> Option<DeviceIndex> {
        self.device_numbers.take().map(DeviceIndex)
    }

    /// Gives back the number of a device that could not be attached.
    pub fn renumber_device(&mut self, index: DeviceIndex) {
        self.device_numbers.give_back(index.0);
    }

    /// Takes devices away from the workers and closes their sockets. A snapshot without them must not be in force yet: this
    /// installs it.
    pub fn detach(&mut self, names: &[String], model: &Model) -> Result<Vec<Leaving>, Stuck> {
        let mut gone: Vec<_> = names.iter().filter_map(|name| self.devices.remove_entry(name)).collect();
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        self.install(model)?;
        gone.iter_mut().for_each(|(_, device)| device.attachment.detach());
        let (mut leaving, mut attachments) = (Vec::new(), Vec::new());
        for (name, device) in gone {
            drop(self.dataplane.recall(device.index)?);
            self.device_numbers.give_back(device.index.0);
            let Device { ifindex, prepared, queues_before, attachment, .. } = device;
            leaving.push(Leaving { name, ifindex, prepared, queues_before });
            attachments.push(attachment);
        }
        // Closing a socket waits for the kernel: all at once.
        shunt_ffi::drop_all(attachments);
        Ok(leaving)
    }

    /// Makes the workers forward by `model`, as far as its devices are attached.
    pub fn install(&mut self, model: &Model) -> Result<(), Stuck> {
        let relearning = self.update_bridges(model);
        let (removed, replaced) = self.update_ports(model);
        let held = self.move_queues(model)?;
        let mirrors = self.mirrors.resolve(model, &self.ports, self.dataplane.cores().len());
        self.generation += 1;
        let snapshot = Arc::new(self.compile(model, &mirrors));
        self.dataplane.install(&snapshot)?;
        if held {
            self.dataplane.resume()?;
        }
        // Only now does nobody learn by the old rules any more, and the removed ports' numbers may be used again.
        for port in &removed {
            if let Some(bridge) = self.bridges.get(&port.bridge) {
                bridge.fdb.forget_port(port.index);
                bridge.forget_listeners(port.index);
            }
        }
        for bridge in relearning.iter().filter_map(|name| self.bridges.get(name)) {
            bridge.fdb.flush();
        }
        for (bridge, port) in &replaced {
            if let Some(bridge) = self.bridges.get(bridge) {
                bridge.fdb.flush_port(*port);
                bridge.forget_listeners(*port);
            }
        }
        removed.iter().for_each(|port| self.port_numbers.give_back(port.index.0));
        Ok(())
    }

    /// Brings the bridges in line. Returns those where other VLANs than before are learned in: what was learned is void.
    fn update_bridges(&mut self, model: &Model) -> Vec<String> {
        let mut relearning = Vec::new();
        self.bridges.retain(|name, _| model.bridges.contains_key(name));
        for (name, wanted) in &model.bridges {
            let bridge = self.bridges.entry(name.clone()).or_insert_with(|| Bridge {
                fdb: Arc::new(Fdb::new(wanted.fdb_size, random_seed())),
                ageing_s: wanted.ageing_s,
                snooping: None,
                flood_vlans: wanted.flood_vlans.clone(),
            });
            bridge.update_snooping(wanted.snooping.as_ref());
            bridge.ageing_s = wanted.ageing_s;
            if bridge.flood_vlans != wanted.flood_vlans {
                bridge.flood_vlans = wanted.flood_vlans.clone();
                relearning.push(name.clone());
            }
            if bridge.fdb.stats().max != wanted.fdb_size {
                bridge.fdb = Arc::new(bridge.fdb.resized(wanted.fdb_size));
            }
        }
        relearning
    }

    /// Brings the ports in line with the attached devices. Returns the ports that went, and bridge and number of those whose
    /// VLANs or protection changed: what was learned on either is void.
    fn update_ports(&mut self, model: &Model) -> (Vec<Port>, Vec<(String, PortIndex)>) {
        let mut served = BTreeMap::new();
        for (device_name, device) in &self.devices {
            match &device.wish.users {
                Users::Whole(name) => drop(served.insert(name.clone(), (device_name.clone(), None))),
                Users::Vlans(vlans) => {
                    served.extend(vlans.iter().map(|(&vid, name)| (name.clone(), (device_name.clone(), Some(vid)))));
                }
            }
        }
        served.retain(|name, _| model.interfaces.contains_key(name));
        let stays = |name: &String, port: &Port| {
            let same_place =
                served.get(name).is_some_and(|(device, vid)| (device, *vid) == (&port.device, port.link_vid));
            same_place && model.interfaces[name].bridge == port.bridge
        };
        let gone: Vec<_> =
            self.ports.iter().filter(|(name, port)| !stays(name, port)).map(|(name, _)| name.clone()).collect();
        let removed = gone.iter().filter_map(|name| self.ports.remove(name)).collect();
        let mut replaced = Vec::new();
        let workers = self.dataplane.cores().len();
        let block = || -> Arc<[PortCounters]> { (0..workers).map(|_| PortCounters::default()).collect() };
        for port in self.ports.values_mut().filter(|port| port.counters.len() != workers) {
            port.earlier.push(std::mem::replace(&mut port.counters, block()));
        }
        for (name, (device, link_vid)) in served {
            let interface = &model.interfaces[&name];
            let vlan = VlanPolicy::new(&interface.vlan);
            let asks_for_another =
                |port: &Port| interface.ofport_request.is_some_and(|asked| i64::from(asked) != port.ofport);
            let renumbered = self
                .ports
                .get(&name)
                .filter(|port| asks_for_another(port))
                .map(|_| self.number_ofport(&name, interface));
            if let Some(port) = self.ports.get_mut(&name) {
                port.ofport = renumbered.unwrap_or(port.ofport);
                if port.guard.0 != interface.guard {
                    port.guard = guard(interface);
                }
                if port.vlan != vlan || port.protected != interface.protected {
                    port.vlan = vlan;
                    port.protected = interface.protected;
                    replaced.push((port.bridge.clone(), port.index));
                }
            } else if let Some(index) = self.port_numbers.take() {
                let ofport = self.number_ofport(&name, interface);
                let (bridge, protected) = (interface.bridge.clone(), interface.protected);
                let (index, counters, earlier) = (PortIndex(index), block(), Vec::new());
                let guard = guard(interface);
                let port = Port { bridge, index, ofport, device, link_vid, counters, earlier, guard, vlan, protected };
                self.ports.insert(name, port);
            } else {
                tracing::error!(
                    "port {name} is not attached: the switch already has {} ports, its limit",
                    limits::PORTS_MAX
                );
            }
        }
        (removed, replaced)
    }

    /// The first that is free on the bridge of: the requested number, the one it has, the one it had before a restart, the
    /// lowest. The bridge's own interface is LOCAL.
    fn number_ofport(&self, name: &str, interface: &Interface) -> i64 {
        if name == interface.bridge {
            return OFPORT_LOCAL;
        }
        let others = self.ports.iter().filter(|(other, port)| port.bridge == interface.bridge && *other != name);
        let used: BTreeSet<i64> = others.map(|(_, port)| port.ofport).collect();
        let [asked, before] = [interface.ofport_request, interface.ofport_before.0].map(|number| number.map(i64::from));
        let own = self.ports.get(name).map(|port| port.ofport);
        let wishes = [asked, own, before].into_iter().flatten();
        wishes.chain(1..OFPORT_LOCAL).find(|port| !used.contains(port)).unwrap_or(-1)
    }

    fn compile(&self, model: &Model, mirrors: &BTreeMap<String, Vec<MirrorConfig>>) -> Snapshot {
        let mut snapshot = Snapshot { generation: self.generation, ..Snapshot::default() };
        for device in self.devices.values() {
            let ingress = match &device.wish.users {
                Users::Whole(name) => Ingress::Port(self.index_of(name)),
                Users::Vlans(vlans) => {
                    let mut table = Box::new([PortIndex::NONE; limits::VLANS]);
                    vlans.iter().for_each(|(&vid, name)| table[usize::from(vid)] = self.index_of(name));
                    Ingress::Vlans(table)
                }
            };
            let home = device.workers.first().copied().unwrap_or(0) as u16;
            let compiled =
                config::Device { ingress, partial_checksums: device.is_veth, home, guarded: false, mirrored: false };
            put(&mut snapshot.devices, device.index.0, compiled);
        }
        let bridge_numbers: BTreeMap<_, _> = self.bridges.keys().zip(0u16..).collect();
        for (name, port) in &self.ports {
            let (Some(device), Some(interface)) = (self.devices.get(&port.device), model.interfaces.get(name)) else {
                continue;
            };
            let compiled = compile_port(port, device, interface, bridge_numbers[&port.bridge]);
            put(&mut snapshot.ports, port.index.0, compiled);
        }
        let mut members: BTreeMap<&str, Vec<(PortIndex, &Interface)>> = BTreeMap::new();
        for (name, port) in &self.ports {
            if let Some(interface) = model.interfaces.get(name) {
                members.entry(&port.bridge).or_default().push((port.index, interface));
            }
        }
        for (name, bridge) in &self.bridges {
            let members = members.remove(name.as_str()).unwrap_or_default();
            let own_mirrors = mirrors.get(name).map_or(&[][..], Vec::as_slice);
            let mirrors = mirror::compile(&mut snapshot.ports, snapshot.bridges.len() as u16, own_mirrors);
            let policies = members.iter().filter_map(|&(index, _)| {
                let port = snapshot.port(index).filter(|port| !port.mirror.is_output)?;
                Some((index, &port.vlan))
            });
            let flood = FloodTable::new(policies);
            let wanted = &model.bridges[name];
            snapshot.bridges.push(config::Bridge {
                fdb: Arc::clone(&bridge.fdb),
                flood,
                flood_vlans: (!wanted.flood_vlans.is_empty())
                    .then(|| Box::new(wanted.flood_vlans.iter().copied().collect())),
                forward_bpdu: wanted.forward_bpdu,
                mirrors,
                limits_macs: false,
                snooping: bridge.compile_snooping(wanted.snooping.as_ref(), &members),
            });
        }
        snapshot.mark();
        snapshot
    }

    fn index_of(&self, interface: &str) -> PortIndex {
        self.ports.get(interface).map_or(PortIndex::NONE, |port| port.index)
    }

    /// Names and ports by the number that the data plane knows them by.
    pub fn ports_by_index(&self) -> BTreeMap<PortIndex, (&str, &Port)> {
        self.ports.iter().map(|(name, port)| (port.index, (name.as_str(), port))).collect()
    }

    /// Counters by port name. What the kernel dropped on a device is counted under its port, or, where several ports share
    /// the device, under the device's own name; packets of no port, if there were any, under [`NO_PORT`].
    pub fn statistics(&self) -> Vec<(String, PortTotals)> {
        let mut all: BTreeMap<String, PortTotals> =
            self.ports.iter().map(|(name, port)| (name.clone(), port.totals())).collect();
        for (name, device) in &self.devices {
            device.add_kernel_drops(all.entry(owner(name, device).to_owned()).or_default());
        }
        let mut unattributed = PortTotals::default();
        self.dataplane.counters().for_each(|worker| unattributed.add(&worker.unattributed));
        if unattributed != PortTotals::default() {
            all.insert(NO_PORT.to_owned(), unattributed);
        }
        all.into_iter().collect()
    }
}

impl Port {
    /// Packets that came in, by worker.
    pub fn received_by_worker(&self) -> impl Iterator<Item = u64> {
        let blocks = || self.earlier.iter().chain([&self.counters]);
        (0..self.counters.len())
            .map(move |worker| blocks().filter_map(|block| block.get(worker)).map(|block| block.rx_packets.get()).sum())
    }

    /// All that was counted on it.
    pub fn totals(&self) -> PortTotals {
        let mut totals = PortTotals::default();
        self.earlier.iter().chain([&self.counters]).flat_map(|block| block.iter()).for_each(|block| totals.add(block));
        totals
    }
}

/// The port that has the device for itself, or else the device: whose statistics the device's are.
fn owner<'a>(name: &'a str, device: &'a Device) -> &'a str {
    match &device.wish.users {
        Users::Whole(port) => port,
        Users::Vlans(_) => name,
    }
}

impl Device {
    fn add_kernel_drops(&self, totals: &mut PortTotals) {
        let kernel = self.attachment.statistics();
        let mut add = |reason: Reason, n: u64| totals.drops[reason as usize] += n;
        add(Reason::RxNoFrame, kernel.rx_fill_ring_empty);
        add(Reason::RxRingFull, kernel.rx_ring_full);
        // The kernel counts a packet for which there was no frame under both.
        add(Reason::RxKernel, kernel.rx_dropped.saturating_sub(kernel.rx_fill_ring_empty));
        add(Reason::Descriptor, kernel.rx_invalid_descs + kernel.tx_invalid_descs + kernel.faults);
        add(Reason::Oversized, kernel.rx_too_many_segments);
        add(Reason::DeviceTx, self.tx_dropped.1.saturating_sub(self.tx_dropped.0));
    }
}

fn guard(interface: &Interface) -> (GuardConfig, Option<Arc<Guard>>) {
    (interface.guard.clone(), Guard::new(&interface.guard).map(Arc::new))
}

fn compile_port(port: &Port, device: &Device, interface: &Interface, bridge: u16) -> config::Port {
    let is_uplink = !device.is_veth || port.link_vid.is_some() || interface.uplink;
    config::Port {
        bridge,
        device: device.index,
        link_vid: port.link_vid,
        vlan: VlanPolicy::new(&interface.vlan),
        mtu: device.mtu,
        complete_checksums: is_uplink || !device.attachment.tx_checksum(),
        protected: interface.protected,
        guard: port.guard.1.clone(),
        mirror: mirror::Role::default(),
        counters: Arc::clone(&port.counters),
    }
}

fn put<T>(list: &mut Vec<Option<T>>, index: u16, value: T) {
    let index = usize::from(index);
    if list.len() <= index {
        list.resize_with(index + 1, || None);
    }
    list[index] = Some(value);
}

/// A secret that makes the FDB's hash unpredictable to those who choose MAC addresses.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0u64)
}

/// Dense numbers, lowest first.
struct Numbers {
    used: Vec<bool>,
}

impl Numbers {
    fn new(count: usize) -> Self {
        Self { used: vec![false; count] }
    }

    fn take(&mut self) -> Option<u16> {
        let free = self.used.iter().position(|used| !used)?;
        self.used[free] = true;
        Some(free as u16)
    }

    fn give_back(&mut self, number: u16) {
        self.used[usize::from(number)] = false;
    }
}
