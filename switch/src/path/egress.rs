//! Step 8: by which ports do copies leave, in what form?
//!
//! Exits of a packet: [`Reason::FloodEmpty`]. Exits of a copy, counted at the port it should have left by:
//! [`Reason::StalePort`], [`Reason::EgressVlan`], [`Reason::MtuExceeded`], [`Reason::Oversized`], [`Reason::TxFull`],
//! [`Reason::TxDown`], [`Reason::CrossingFull`].

use crate::batch::Batch;
use crate::config::{DeviceIndex, Port, PortIndex, Snapshot};
use crate::counters::{WorkerCounters, port_counters};
use crate::crossing::{Crossing, Parcel};
use crate::limits::DEVICES_MAX;
use crate::meta::{Fate, Meta};
use crate::path::checksum;
use crate::path::edit::Edit;
use crate::port::{Receive, Transmit};
use crate::reason::Reason;
use crate::wire::vlan::{TPID_8021Q, Tag};
use shunt_ffi::Packet;

/// The transmitting sides of one worker, by device.
pub struct Sides {
    slots: Box<[Option<Slot>]>,
    /// Devices that have packets queued.
    queued: Vec<u16>,
}

struct Slot {
    side: Box<dyn Transmit>,
    queued: bool,
}

impl Default for Sides {
    fn default() -> Self {
        Self { slots: (0..DEVICES_MAX).map(|_| None).collect(), queued: Vec::with_capacity(DEVICES_MAX) }
    }
}

impl Sides {
    /// Transmits on the device by `side` from now on. Returns the one used so far; or `side` itself, if there can be no
    /// such device.
    pub fn attach(&mut self, device: DeviceIndex, side: Box<dyn Transmit>) -> Option<Box<dyn Transmit>> {
        let old = self.detach(device);
        match self.slots.get_mut(usize::from(device.0)) {
            Some(slot) => *slot = Some(Slot { side, queued: false }),
            None => return Some(side),
        }
        old
    }

    /// Gives the device's side back, with what is queued handed to the device as far as it takes it.
    pub fn detach(&mut self, device: DeviceIndex) -> Option<Box<dyn Transmit>> {
        let mut slot = self.slots.get_mut(usize::from(device.0))?.take()?;
        slot.side.flush();
        self.queued.retain(|queued| *queued != device.0);
        Some(slot.side)
    }

    #[inline]
    fn has(&self, device: DeviceIndex) -> bool {
        self.slots.get(usize::from(device.0)).is_some_and(Option::is_some)
    }

    /// Queues a copy.
    #[inline]
    fn send(&mut self, device: DeviceIndex, packet: &Packet<'_>, edit: &Edit) -> Result<usize, Reason> {
        let Some(Some(slot)) = self.slots.get_mut(usize::from(device.0)) else { return Err(Reason::TxDown) };
        let sent = slot.side.send(packet, edit);
        if sent.is_ok() && !std::mem::replace(&mut slot.queued, true) {
            self.queued.push(device.0);
        }
        sent
    }

    /// Makes all devices take what is queued. True while some did not take all.
    pub fn flush(&mut self) -> bool {
        let slots = &mut self.slots;
        self.queued.retain(|device| {
            let Some(Some(slot)) = slots.get_mut(usize::from(*device)) else { return false };
            slot.queued = slot.side.flush();
            slot.queued
        });
        !self.queued.is_empty()
    }
}

/// All that the way out needs.
pub struct Exit<'a> {
    /// The configuration in force.
    pub config: &'a Snapshot,
    /// This worker's number.
    pub worker: u16,
    /// Its transmitting sides.
    pub sides: &'a mut Sides,
    /// The ways to the other workers.
    pub crossing: &'a mut Crossing,
    /// What it counts.
    pub counters: &'a WorkerCounters,
}

/// Sends the copies of all packets.
#[inline]
pub fn run(batch: &mut Batch, side: &dyn Receive, exit: &mut Exit<'_>) {
    for (i, meta) in batch.live() {
        match meta.fate {
            Fate::One(port) => {
                let packet = side.packet(i);
                exit.copy(meta, &packet, port);
                exit.counters.copies.add(1);
                exit.crossing.depart(exit.counters);
            }
            Fate::Flood => flood(meta, &side.packet(i), exit),
            Fate::Open | Fate::Dropped(_) => {}
        }
    }
}

/// Copies to all ports that carry the VLAN, but the one it came in by; protected ports do not reach each other.
fn flood(meta: &mut Meta, packet: &Packet<'_>, exit: &mut Exit<'_>) {
    let config = exit.config;
    let mut copies = 0;
    if let (Some(from), Some(bridge)) = (config.port(meta.port), config.bridge_of(meta.port)) {
        for index in bridge.flood.ports(meta.vlan.vlan) {
            let Some(to) = config.port(*index) else { continue };
            let apart = *index == meta.port || from.protected && to.protected;
            if !apart && to.vlan.carries(&meta.vlan, &meta.tags) {
                exit.copy(meta, packet, *index);
                copies += 1;
            }
        }
    }
    exit.crossing.depart(exit.counters);
    exit.counters.copies.add(copies);
    if copies == 0 {
        meta.fate = Fate::Dropped(Reason::FloodEmpty);
    }
}

/// Sends the copies that other workers left to this one. Returns how many packets came over.
pub fn arrivals(exit: &mut Exit<'_>, packets_max: usize) -> usize {
    let mut arrived = 0;
    while arrived < packets_max
        && let Some((from, parcel)) = exit.crossing.arrive()
    {
        exit.unpack(&parcel);
        exit.crossing.give_back(from, parcel);
        arrived += 1;
    }
    arrived
}

impl Exit<'_> {
    /// Sends the copies that another worker decided on.
    fn unpack(&mut self, parcel: &Parcel) {
        let mut meta = parcel.meta;
        let packet = Packet::contiguous(parcel.octets());
        for index in &parcel.ports {
            match self.config.port(*index) {
                Some(port) => self.local_copy(&mut meta, &packet, *index, port),
                None => self.dropped(*index, Reason::StalePort),
            }
        }
    }

    /// Sends one copy, here or by the worker whose business the port's device is.
    #[inline]
    fn copy(&mut self, meta: &mut Meta, packet: &Packet<'_>, index: PortIndex) {
        let Some(port) = self.config.port(index) else { return self.dropped(index, Reason::StalePort) };
        let home = match self.config.device(port.device) {
            Some(device) if !self.sides.has(port.device) => device.home,
            _ => self.worker,
        };
        if home == self.worker {
            self.local_copy(meta, packet, index, port);
        } else if !self.crossing.carry(home, meta, packet, index) {
            self.dropped(index, Reason::CrossingFull);
        }
    }

    /// Sends one copy by a device of this worker.
    #[inline]
    fn local_copy(&mut self, meta: &mut Meta, packet: &Packet<'_>, index: PortIndex, port: &Port) {
        if packet.len() > meta.payload_offset() + port.mtu as usize {
            return self.dropped(index, Reason::MtuExceeded);
        }
        let Some(tags) = port.vlan.egress(&meta.vlan, &meta.tags) else {
            return self.dropped(index, Reason::EgressVlan);
        };
        let strip = usize::from(meta.link_octets) + tags.strip;
        let link = port.link_vid.map(|vid| Tag::new(TPID_8021Q, vid, 0));
        let mut edit = Edit::new(strip, link.into_iter().chain(tags.push));
        edit.set_checksum(checksum::finish(meta, packet, port.complete_checksums));
        match self.sides.send(port.device, packet, &edit) {
            Ok(octets) => {
                let counters = port.counters.get(usize::from(self.worker)).unwrap_or(&self.counters.unattributed);
                counters.tx_packets.add(1);
                counters.tx_bytes.add(octets as u64);
            }
            Err(reason) => self.dropped(index, reason),
        }
    }

    #[cold]
    fn dropped(&mut self, index: PortIndex, reason: Reason) {
        let worker = usize::from(self.worker);
        port_counters(self.config, index, worker, &self.counters.unattributed).dropped(reason, 1);
    }
}
