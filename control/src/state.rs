//! What is attached right now, and how does it become the workers' snapshot?
//!
//! [`State`] is what the reconciler changes and what run-time commands read; nothing in it waits for anything but the
//! workers' acknowledgement.

mod compile;
mod ports;
mod publish;
mod queues;
pub mod router;
mod snooping;

use crate::capture::Captures;
use crate::dataplane::{Dataplane, Stuck};
use crate::directory::Directory;
use crate::kernel::{Link, Prepared};
use crate::mirrors::Mirrors;
use crate::model::Model;
use crate::model::router::Svi;
use crate::placement::Placement;
use crate::plan::{Attached, Scope, Users, Wish};
use crate::sflow::Sflow;
use compile::Compiled;
use router::Router;
use shunt_ffi::Attachment;
use shunt_switch::config::{DeviceIndex, PortIndex, Snapshot};
use shunt_switch::counters::{PortCounters, PortTotals};
use shunt_switch::limits;
use shunt_switch::port::Transmit;
use shunt_switch::reason::Reason;
use shunt_switch::table::bucket::Bucket;
use shunt_switch::table::fdb::Fdb;
use shunt_switch::table::guard::{Guard, GuardConfig};
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
    /// What packets are routed by.
    pub router: Router,
    /// What collectors are told.
    pub sflow: Sflow,
    /// Where other threads find the counters.
    pub directory: Arc<Directory>,
    /// Captures of packets.
    pub captures: Captures,
    placement: Placement,
    /// The placement is not that of all queues yet.
    misplaced: bool,
    compiled: Compiled,
    port_numbers: Numbers,
    device_numbers: Numbers,
    generation: u64,
    /// What is in force.
    snapshot: Option<Arc<Snapshot>>,
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
    /// Numbers of its ports.
    ofports: BTreeSet<i64>,
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
    /// MTU of the device.
    pub mtu: u32,
    /// It is the host's own leg.
    pub is_host_leg: bool,
    /// One block for each worker.
    counters: Arc<[PortCounters]>,
    /// Those from before there were more workers.
    earlier: Vec<Arc<[PortCounters]>>,
    /// Limits on what comes in.
    pub guard: Guards,
    /// Its VLANs.
    pub vlan: VlanPolicy,
    protected: bool,
    hosts_only: bool,
}

/// Limits of a port, and the same at work.
pub struct Guards {
    /// As configured.
    pub config: GuardConfig,
    all: Option<Arc<Guard>>,
    exceptions: Option<Arc<Bucket>>,
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
    /// What the kernel dropped, one block, as of the last look: the control thread is its one writer.
    pub kernel: Arc<[PortCounters]>,
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
            misplaced: false,
            compiled: Compiled::default(),
            dataplane,
            bridges: BTreeMap::new(),
            ports: BTreeMap::new(),
            devices: BTreeMap::new(),
            internals: BTreeMap::new(),
            mirrors: Mirrors::default(),
            router: Router::default(),
            sflow: Sflow::default(),
            directory: Arc::default(),
            captures: Captures::default(),
            port_numbers: Numbers::new(limits::PORTS_MAX),
            device_numbers: Numbers::new(limits::DEVICES_MAX),
            generation: 0,
            snapshot: None,
        }
    }

    /// What planning needs to know of what is in `scope`.
    pub fn attached(&self, scope: &Scope) -> Attached {
        let fit = |device: &Device| Wish { tags: device.prepared.tags_hidden.is_none(), ..device.wish.clone() };
        let devices = scope.devices.iter().filter_map(|name| self.devices.get_key_value(name));
        let devices = devices.map(|(name, device)| (name.clone(), (device.ifindex, fit(device))));
        let internals = scope.interfaces.iter().filter(|name| self.internals.contains_key(*name));
        Attached { devices: devices.collect(), internals: internals.cloned().collect() }
    }

    /// What the workers forward by, if anything is in force.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_deref()
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
    /// installs it. Their ports must be among those `touched`.
    pub fn detach(
        &mut self,
        names: &[String],
        model: &Model,
        touched: &BTreeSet<String>,
    ) -> Result<Vec<Leaving>, Stuck> {
        let mut gone: Vec<_> = names.iter().filter_map(|name| self.devices.remove_entry(name)).collect();
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        gone.iter().for_each(|(_, device)| self.compiled.forget_device(device.index));
        self.install(model, touched)?;
        gone.iter_mut().for_each(|(_, device)| device.attachment.detach());
        let (mut leaving, mut attachments) = (Vec::new(), Vec::new());
        for (name, device) in gone {
            drop(self.dataplane.recall(device.index)?);
            self.device_numbers.give_back(device.index.0);
            let Device { ifindex, prepared, queues_before, attachment, .. } = device;
            leaving.push(Leaving { name, ifindex, prepared, queues_before });
            attachments.push(attachment);
        }
        self.publish(leaving.iter().map(|device| device.name.clone()).collect());
        // Closing a socket waits for the kernel: all at once.
        shunt_ffi::drop_all(attachments);
        Ok(leaving)
    }

    /// Makes the workers forward by `model`, as far as its devices are attached. Of interfaces, only those `touched` may be
    /// different since the last time, in the model or in how they are attached.
    pub fn install(&mut self, model: &Model, touched: &BTreeSet<String>) -> Result<(), Stuck> {
        let relearning = self.update_bridges(model);
        let (removed, replaced) = self.update_ports(model, touched);
        let moved = self.move_queues(model, touched)?;
        self.recompile(model, touched, &removed);
        let mirrors = self.mirrors.resolve(model, &self.ports, self.dataplane.cores().len());
        // Now numbers of ports still mean what they meant.
        self.sflow.collect(&mut self.dataplane, &self.router);
        self.sflow.send(std::time::Instant::now());
        self.sflow.update(model, &self.ports, self.dataplane.cores().len());
        self.generation += 1;
        let snapshot = Arc::new(self.compile(model, &mirrors));
        self.dataplane.install(&snapshot)?;
        self.snapshot = Some(snapshot);
        self.captures.installed(&mut self.dataplane)?;
        if !moved.is_empty() {
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
        self.router.installed();
        self.router.pin(model, touched, &self.bridges, &self.ports);
        let removed = removed.into_iter().map(|port| port.device);
        self.publish(touched.iter().cloned().chain(moved).chain(removed).collect());
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
                ofports: BTreeSet::new(),
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

    /// The SVI on the interface `name` has this host end from now on, or none. True if the workers must know: then it is among
    /// the names `touched` of the next [`State::install`].
    ///
    /// # Errors
    /// If there are too many, in words.
    pub fn set_svi(&mut self, name: &str, svi: Option<(&Svi, Link)>) -> Result<bool, String> {
        if svi.is_none() {
            self.router.unpin(name, &self.bridges);
        }
        self.router.set_interface(name, svi)
    }

    /// Has memory that routes no longer take used again, when all workers have come past.
    pub fn reclaim_routes(&mut self) -> Result<(), Stuck> {
        if self.router.is_owed() {
            self.dataplane.come_past()?;
            self.router.reclaim();
        }
        Ok(())
    }

    /// Names and ports by the number that the data plane knows them by.
    pub fn ports_by_index(&self) -> BTreeMap<PortIndex, (&str, &Port)> {
        self.ports.iter().map(|(name, port)| (port.index, (name.as_str(), port))).collect()
    }

    /// What was counted on a port, and on its device if it has that for itself.
    pub fn port_totals(&self, name: &str) -> Option<PortTotals> {
        let port = self.ports.get(name)?;
        let mut totals = port.totals();
        if let Some(device) = self.devices.get(&port.device).filter(|device| owner(&port.device, device) == name) {
            device.add_kernel_drops(&mut totals);
        }
        Some(totals)
    }

    /// What was counted on all ports of a device, and on itself.
    pub fn device_totals(&self, name: &str) -> PortTotals {
        let mut totals = PortTotals::default();
        let ports = self.ports.values().filter(|port| port.device == name);
        ports.for_each(|port| port.blocks().for_each(|block| totals.add(block)));
        self.devices.get(name).inspect(|device| device.add_kernel_drops(&mut totals));
        totals
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
        self.blocks().for_each(|block| totals.add(block));
        totals
    }

    fn blocks(&self) -> impl Iterator<Item = &PortCounters> {
        self.earlier.iter().chain([&self.counters]).flat_map(|block| block.iter())
    }
}

/// The port that has the device for itself, or else the device: whose statistics the device's are.
fn owner<'a>(name: &'a str, device: &'a Device) -> &'a str {
    match &device.wish.users {
        Users::Whole(port) => port,
        Users::Vlans(_) => name,
    }
}

#[cfg(test)]
impl Port {
    /// A port of a device of the same name.
    pub(crate) fn of_device(bridge: &str, device: &str, index: u16) -> Self {
        Self {
            bridge: bridge.to_owned(),
            index: PortIndex(index),
            ofport: i64::from(index),
            device: device.to_owned(),
            link_vid: None,
            mtu: 1500,
            is_host_leg: false,
            counters: Arc::default(),
            earlier: Vec::new(),
            guard: Guards::new(&GuardConfig::default()),
            vlan: VlanPolicy::default(),
            protected: false,
            hosts_only: false,
        }
    }
}

impl Device {
    /// Brings the device's block of counters in line with the kernel's, and adds it.
    fn add_kernel_drops(&self, totals: &mut PortTotals) {
        let Some(block) = self.kernel.first() else { return };
        let kernel = self.attachment.statistics();
        // The kernel counts a packet for which there was no frame under both.
        let rx_kernel = kernel.rx_dropped.saturating_sub(kernel.rx_fill_ring_empty);
        let counted = [
            (Reason::RxNoFrame, kernel.rx_fill_ring_empty),
            (Reason::RxRingFull, kernel.rx_ring_full),
            (Reason::RxKernel, rx_kernel),
            (Reason::Descriptor, kernel.rx_invalid_descs + kernel.tx_invalid_descs + kernel.faults),
            (Reason::Oversized, kernel.rx_too_many_segments),
            (Reason::DeviceTx, self.tx_dropped.1.saturating_sub(self.tx_dropped.0)),
        ];
        for (reason, now) in counted {
            let known = block.drops[reason as usize].get();
            block.dropped(reason, now.saturating_sub(known));
        }
        totals.add(block);
    }
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
