//! Step 11: by which ports do copies leave, in what form?
//!
//! Exits of a packet: [`Reason::FloodEmpty`], [`Reason::NoListener`]. Exits of a copy, counted at the port it should have left by:
//! [`Reason::StalePort`], [`Reason::EgressVlan`], [`Reason::MtuExceeded`], [`Reason::Oversized`], [`Reason::TxFull`],
//! [`Reason::TxDown`], [`Reason::CrossingFull`].

use crate::batch::Batch;
use crate::config::{DeviceIndex, Port, PortIndex, Snapshot};
use crate::counters::{WorkerCounters, port_counters};
use crate::crossing::{Crossing, Parcel};
use crate::limits::DEVICES_MAX;
use crate::meta::{Audience, Fate, Meta};
use crate::path::edit::{Checksum, Edit};
use crate::path::{checksum, snoop};
use crate::port::{Receive, Transmit};
use crate::reason::Reason;
use crate::table::vlan::TagEdit;
use crate::wire::ethernet::ADDRESSES;
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
    /// Where the ports of one packet are put together.
    pub listeners: &'a mut Vec<PortIndex>,
}

/// The form of a mirror's copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorForm {
    /// What becomes of the packet's tags.
    pub tags: TagEdit,
    /// Most octets that leave.
    pub snaplen: usize,
}

/// Puts the ports by which the packet's own copies are to leave into `ports`.
pub fn targets(meta: &Meta, fate: Fate, head: &[u8], config: &Snapshot, ports: &mut Vec<PortIndex>) {
    ports.clear();
    match fate {
        Fate::One(port) => ports.push(port),
        Fate::Flood => ports.extend(flood_targets(meta, config)),
        Fate::Snooped(audience) => {
            if snooped(meta, head, audience, config, ports) {
                ports.retain(reached(meta, config));
            } else {
                ports.clear();
                ports.extend(flood_targets(meta, config));
            }
        }
        Fate::Open | Fate::Dropped(_) => {}
    }
}

/// Says of a port whether a packet to several may leave by it: if it carries the VLAN, but not if the packet came in by it;
/// protected ports do not reach each other.
#[inline]
fn reached<'a>(meta: &Meta, config: &'a Snapshot) -> impl Fn(&PortIndex) -> bool + use<'a> {
    let (port, vlan, tags) = (meta.port, meta.vlan, meta.tags);
    let from_protected = config.port(port).is_some_and(|from| from.protected);
    move |index| {
        let carries = |to: &Port| !(from_protected && to.protected) && to.vlan.carries(&vlan, &tags);
        *index != port && config.port(*index).is_some_and(carries)
    }
}

/// All ports of the VLAN that are [`reached`].
#[inline]
fn flood_targets<'a>(meta: &Meta, config: &'a Snapshot) -> impl Iterator<Item = PortIndex> + use<'a> {
    let carriers = config.bridge_of(meta.port).map_or(&[][..], |bridge| bridge.flood.ports(meta.vlan.vlan));
    carriers.iter().copied().filter(reached(meta, config))
}

/// Puts the ports that multicast snooping knows to want the packet into `ports`. False if all are to get it.
fn snooped(meta: &Meta, head: &[u8], audience: Audience, config: &Snapshot, ports: &mut Vec<PortIndex>) -> bool {
    let snooping = config.bridge_of(meta.port).and_then(|bridge| bridge.snooping.as_ref());
    let found = snooping.is_some_and(|snooping| snoop::listeners(meta, head, audience, snooping, ports));
    ports.retain(|index| config.port(*index).is_some_and(|port| !port.mirror.is_output));
    found
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
            Fate::Snooped(audience) => to_listeners(meta, &side.packet(i), audience, exit),
            Fate::Open | Fate::Dropped(_) => {}
        }
    }
}

fn flood(meta: &mut Meta, packet: &Packet<'_>, exit: &mut Exit<'_>) {
    let targets = flood_targets(meta, exit.config);
    copy_to(meta, packet, targets, Reason::FloodEmpty, exit);
}

/// Copies to those ports that multicast snooping knows to want the packet.
#[inline(never)]
fn to_listeners(meta: &mut Meta, packet: &Packet<'_>, audience: Audience, exit: &mut Exit<'_>) {
    let mut ports = std::mem::take(exit.listeners);
    if snooped(meta, packet.head(), audience, exit.config, &mut ports) {
        let targets = ports.iter().copied().filter(reached(meta, exit.config));
        copy_to(meta, packet, targets, Reason::NoListener, exit);
    } else {
        flood(meta, packet, exit);
    }
    *exit.listeners = ports;
}

/// Copies to the ports. If there are none, the packet is dropped for the reason `nobody`.
#[inline]
fn copy_to(
    meta: &mut Meta,
    packet: &Packet<'_>,
    ports: impl Iterator<Item = PortIndex>,
    nobody: Reason,
    exit: &mut Exit<'_>,
) {
    let mut copies = 0;
    for index in ports {
        exit.copy(meta, packet, index);
        copies += 1;
    }
    exit.crossing.depart(exit.counters);
    exit.counters.copies.add(copies);
    if copies == 0 {
        meta.fate = Fate::Dropped(nobody);
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
            match (self.config.port(*index), &parcel.form) {
                (Some(port), None) => self.local_copy(&mut meta, &packet, *index, port),
                (Some(port), Some(form)) => self.local_mirrored(&mut meta, &packet, *index, port, form),
                (None, _) => self.dropped(*index, Reason::StalePort),
            }
        }
    }

    /// Sends one copy, here or by the worker whose business the port's device is.
    #[inline]
    fn copy(&mut self, meta: &mut Meta, packet: &Packet<'_>, index: PortIndex) {
        let Some(port) = self.config.port(index) else { return self.dropped(index, Reason::StalePort) };
        let home = self.home(port);
        if home == self.worker {
            self.local_copy(meta, packet, index, port);
        } else if !self.crossing.carry(home, meta, packet, index, None) {
            self.dropped(index, Reason::CrossingFull);
        }
    }

    /// Sends one copy of a mirror, here or by the worker whose business the port's device is.
    pub fn copy_mirrored(&mut self, meta: &mut Meta, packet: &Packet<'_>, index: PortIndex, form: &MirrorForm) {
        let Some(port) = self.config.port(index) else { return self.dropped(index, Reason::StalePort) };
        let home = self.home(port);
        if home == self.worker {
            self.local_mirrored(meta, packet, index, port, form);
        } else if !self.crossing.carry(home, meta, packet, index, Some(form)) {
            self.dropped(index, Reason::CrossingFull);
        }
    }

    /// The worker that sends what leaves by `port`: this one if it can.
    #[inline]
    fn home(&self, port: &Port) -> u16 {
        match self.config.device(port.device) {
            Some(device) if !self.sides.has(port.device) => device.home,
            _ => self.worker,
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
        let mut edit = edit_of(meta, port, tags);
        edit.set_checksum(checksum::finish(meta, packet, port.complete_checksums));
        self.send(packet, index, port, &edit);
    }

    /// Sends one copy of a mirror by a device of this worker.
    #[inline(never)]
    fn local_mirrored(
        &mut self,
        meta: &mut Meta,
        packet: &Packet<'_>,
        index: PortIndex,
        port: &Port,
        form: &MirrorForm,
    ) {
        let mut edit = edit_of(meta, port, form.tags.clone());
        let excess = edit.len_unpadded(packet).saturating_sub(form.snaplen);
        // Of the headers at least the addresses and the tags leave.
        let shortest = ADDRESSES + usize::from(meta.link_octets) + form.tags.strip;
        let cut = (excess > 0).then(|| packet.truncated((packet.len() - excess).max(shortest)));
        let checksum = checksum::finish(meta, packet, port.complete_checksums || cut.is_some());
        let packet = cut.as_ref().unwrap_or(packet);
        if packet.len() > meta.payload_offset() + port.mtu as usize {
            return self.dropped(index, Reason::MtuExceeded);
        }
        edit.set_checksum(match checksum {
            Checksum::Patch { at, len, .. } if usize::from(at) + usize::from(len) > packet.len() => Checksum::Keep,
            fits => fits,
        });
        self.send(packet, index, port, &edit);
    }

    #[inline(always)]
    fn send(&mut self, packet: &Packet<'_>, index: PortIndex, port: &Port, edit: &Edit) {
        match self.sides.send(port.device, packet, edit) {
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

/// How the copy that leaves by `port` differs from the packet: `tags` is what the bridge wants of it.
#[inline(always)]
fn edit_of(meta: &Meta, port: &Port, tags: TagEdit) -> Edit {
    let link = port.link_vid.map(|vid| Tag::new(TPID_8021Q, vid, 0));
    Edit::new(usize::from(meta.link_octets) + tags.strip, link.into_iter().chain(tags.push))
}
