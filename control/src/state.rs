//! What is attached right now, and how does it become the workers' snapshot?
//!
//! [`State`] is what the reconciler changes and what run-time commands read; nothing in it waits for anything but the
//! workers' acknowledgement.

use crate::dataplane::{Dataplane, Stuck};
use crate::kernel::Prepared;
use crate::model::{Interface, Model};
use crate::plan::{Attached, Users, Wish};
use shunt_ffi::{Attachment, XskRx, XskTx};
use shunt_switch::command::Command;
use shunt_switch::config::{self, DeviceIndex, Ingress, PortIndex, Snapshot};
use shunt_switch::counters::{PortCounters, PortTotals};
use shunt_switch::limits;
use shunt_switch::reason::Reason;
use shunt_switch::table::fdb::Fdb;
use shunt_switch::table::flood::FloodTable;
use shunt_switch::table::vlan::{VlanConfig, VlanPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// `ofport` of a bridge's own interface, OpenFlow's OFPP_LOCAL.
pub const OFPORT_LOCAL: i64 = 65534;

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
    pub counters: Arc<[PortCounters]>,
    vlan: VlanConfig,
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
    /// Which worker polls each queue.
    pub workers: Vec<usize>,
}

/// A queue in `worker/show`.
pub struct QueueView {
    /// Index of the worker.
    pub worker: usize,
    /// The device's name.
    pub port: String,
    /// The queue's number.
    pub queue: usize,
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
            dataplane,
            bridges: BTreeMap::new(),
            ports: BTreeMap::new(),
            devices: BTreeMap::new(),
            internals: BTreeMap::new(),
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

    /// Hands an opened device's queues to the workers, in turn. Frames are forwarded only after [`State::install`].
    pub fn attach(&mut self, name: &str, mut device: Device, queues: Vec<(XskRx, XskTx)>) -> Result<(), Stuck> {
        let workers = self.dataplane.len();
        let first = usize::from(device.index.0);
        let mut transmits = BTreeSet::new();
        for (queue, (rx, tx)) in queues.into_iter().enumerate() {
            let worker = (first + queue) % workers;
            device.workers.push(worker);
            self.dataplane
                .send(worker, Command::Receive { device: device.index, queue: queue as u16, side: Box::new(rx) })?;
            // One transmitting side serves a worker; the others of the same device would only spread its packets.
            if transmits.insert(worker) {
                self.dataplane.send(worker, Command::Transmit { device: device.index, side: Box::new(tx) })?;
            }
        }
        self.devices.insert(name.to_owned(), device);
        Ok(())
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
            self.dataplane.detach(device.index)?;
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
        self.update_bridges(model);
        let (removed, replaced) = self.update_ports(model);
        self.generation += 1;
        let snapshot = Arc::new(self.compile(model));
        self.dataplane.install(&snapshot)?;
        // Only now does nobody learn by the old rules any more, and the removed ports' numbers may be used again.
        for port in &removed {
            if let Some(bridge) = self.bridges.get(&port.bridge) {
                bridge.fdb.forget_port(port.index);
            }
        }
        for (bridge, port) in &replaced {
            if let Some(bridge) = self.bridges.get(bridge) {
                bridge.fdb.flush_port(*port);
            }
        }
        removed.iter().for_each(|port| self.port_numbers.give_back(port.index.0));
        Ok(())
    }

    fn update_bridges(&mut self, model: &Model) {
        self.bridges.retain(|name, _| model.bridges.contains_key(name));
        for (name, wanted) in &model.bridges {
            let bridge = self.bridges.entry(name.clone()).or_insert_with(|| Bridge {
                fdb: Arc::new(Fdb::new(wanted.fdb_size, random_seed())),
                ageing_s: wanted.ageing_s,
            });
            bridge.ageing_s = wanted.ageing_s;
            if bridge.fdb.stats().max != wanted.fdb_size {
                bridge.fdb = Arc::new(bridge.fdb.resized(wanted.fdb_size));
            }
        }
    }

    /// Brings the ports in line with the attached devices. Returns the ports that went, and bridge and number of those whose
    /// VLANs changed: what was learned on either is void.
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
        for (name, (device, link_vid)) in served {
            let interface = &model.interfaces[&name];
            if let Some(port) = self.ports.get_mut(&name) {
                if port.vlan != interface.vlan {
                    port.vlan = interface.vlan.clone();
                    replaced.push((port.bridge.clone(), port.index));
                }
            } else if let Some(index) = self.port_numbers.take() {
                let ofport = self.number_ofport(&name, interface);
                let counters = (0..self.dataplane.len()).map(|_| PortCounters::default()).collect();
                let (bridge, vlan) = (interface.bridge.clone(), interface.vlan.clone());
                let index = PortIndex(index);
                self.ports.insert(name, Port { bridge, index, ofport, device, link_vid, counters, vlan });
            } else {
                tracing::error!(
                    "port {name} is not attached: the switch already has {} ports, its limit",
                    limits::PORTS_MAX
                );
            }
        }
        (removed, replaced)
    }

    /// The requested number if it is free on the bridge, else the lowest free one; the bridge's own interface is LOCAL.
    fn number_ofport(&self, name: &str, interface: &Interface) -> i64 {
        if name == interface.bridge {
            return OFPORT_LOCAL;
        }
        let used: BTreeSet<i64> =
            self.ports.values().filter(|port| port.bridge == interface.bridge).map(|port| port.ofport).collect();
        let asked = interface.ofport_request.map(i64::from).filter(|port| !used.contains(port));
        asked.or_else(|| (1..OFPORT_LOCAL).find(|port| !used.contains(port))).unwrap_or(-1)
    }

    fn compile(&self, model: &Model) -> Snapshot {
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
            let compiled = config::Device { ingress, partial_checksums: device.is_veth, home };
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
        let mut members: BTreeMap<&str, Vec<PortIndex>> = BTreeMap::new();
        for port in self.ports.values() {
            members.entry(&port.bridge).or_default().push(port.index);
        }
        for (name, bridge) in &self.bridges {
            let members = members.remove(name.as_str()).unwrap_or_default();
            let policies = members.iter().filter_map(|&index| Some((index, &snapshot.port(index)?.vlan)));
            let flood = FloodTable::new(policies);
            let wanted = &model.bridges[name];
            snapshot.bridges.push(config::Bridge {
                fdb: Arc::clone(&bridge.fdb),
                flood,
                flood_vlans: (!wanted.flood_vlans.is_empty())
                    .then(|| Box::new(wanted.flood_vlans.iter().copied().collect())),
                forward_bpdu: wanted.forward_bpdu,
            });
        }
        snapshot
    }

    fn index_of(&self, interface: &str) -> PortIndex {
        self.ports.get(interface).map_or(PortIndex::NONE, |port| port.index)
    }

    /// The port that the data plane knows by this number.
    pub fn port_by_index(&self, index: PortIndex) -> Option<(&str, &Port)> {
        self.ports.iter().find(|(_, port)| port.index == index).map(|(name, port)| (name.as_str(), port))
    }

    /// Which worker polls what.
    pub fn queues(&self) -> Vec<QueueView> {
        let of = |(name, device): (&String, &Device)| -> Vec<QueueView> {
            let name = match &device.wish.users {
                Users::Whole(port) => port,
                Users::Vlans(_) => name,
            };
            let numbered = device.workers.iter().enumerate();
            numbered.map(|(queue, &worker)| QueueView { worker, port: name.clone(), queue }).collect()
        };
        self.devices.iter().flat_map(of).collect()
    }

    /// Counters by port name. What the kernel dropped on a device is counted under its port, or, where several ports share
    /// the device, under the device's own name.
    pub fn statistics(&self) -> Vec<(String, PortTotals)> {
        let mut all: BTreeMap<String, PortTotals> =
            self.ports.iter().map(|(name, port)| (name.clone(), PortTotals::sum(&port.counters))).collect();
        for (name, device) in &self.devices {
            let owner = match &device.wish.users {
                Users::Whole(port) => port,
                Users::Vlans(_) => name,
            };
            device.add_kernel_drops(all.entry(owner.clone()).or_default());
        }
        all.into_iter().collect()
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
