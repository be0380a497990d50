//! Step 12: by which ports do copies leave, in what form?
//!
//! Exits of a packet: [`Reason::FloodEmpty`], [`Reason::NoListener`]. Exits of a copy, counted at the port it should have left by:
//! [`Reason::StalePort`], [`Reason::EgressVlan`], [`Reason::MtuExceeded`], [`Reason::Oversized`], [`Reason::TxFull`],
//! [`Reason::TxDown`], [`Reason::CrossingFull`].

use crate::batch::Batch;
use crate::capture::Captures;
use crate::config::{DeviceIndex, Port, PortIndex, Snapshot};
use crate::counters::{WorkerCounters, port_counters};
use crate::crossing::{Crossing, Parcel};
use crate::limits::{BURST, DEVICES_MAX};
use crate::meta::{Audience, Fate, Meta};
use crate::path::checksum::Unfinished;
use crate::path::edit::{Checksum, Copies, Edit, One};
use crate::path::{capture, checksum, snoop, tap};
use crate::port::{Outcome, Transmit};
use crate::reason::Reason;
use crate::table::vlan::TagEdit;
use crate::tap::Tap;
use crate::time::Instant;
use crate::wire::ethernet::{ADDRESSES, Mac};
use crate::wire::vlan::{TPID_8021Q, Tag};
use arrayvec::ArrayVec;
use shunt_ffi::Packet;
use std::mem::discriminant;
use std::slice::{from_mut, from_ref};

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

    /// Queues copies. False if there is no such device.
    #[inline]
    fn send(&mut self, device: DeviceIndex, copies: Copies<'_>, edit: &Edit, sent: &mut Outcome) -> bool {
        let Some(Some(slot)) = self.slots.get_mut(usize::from(device.0)) else { return false };
        slot.side.send(copies, edit, sent);
        if sent.refused.len() < copies.len() && !std::mem::replace(&mut slot.queued, true) {
            self.queued.push(device.0);
        }
        true
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
    /// Where records of packets go.
    pub tap: &'a mut Tap,
    /// Captures of packets.
    pub captures: &'a mut Captures,
    /// When the turn began.
    pub now: Instant,
    /// Packets were dropped since this was last looked at: see [`Meta::lost`] and [`Meta::fate`].
    pub lost: bool,
    /// Packets in hand may be to groups: what leaves is counted by its destination.
    pub to_groups: bool,
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
        Fate::One(port) | Fate::Routed(port) => ports.push(port),
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
/// and if that port may reach it.
#[inline]
fn reached<'a>(meta: &Meta, config: &'a Snapshot) -> impl Fn(&PortIndex) -> bool + use<'a> {
    let (port, vlan, tags) = (meta.port, meta.vlan, meta.tags);
    let from = config.port(port);
    move |index| {
        let carries = |to: &Port| from.is_none_or(|from| from.may_reach(to)) && to.vlan.carries(&vlan, &tags);
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

/// Sends the copies of all packets. Those that follow each other the same way, with the same tags, go together.
#[inline]
pub fn run(batch: &mut Batch, packets: &[Packet<'_>], exit: &mut Exit<'_>) {
    let (mut metas, mut packets) = (batch.all(), packets);
    let mut room = Room::default();
    while let Some(first) = metas.first() {
        let (fate, way) = (first.fate, first.way);
        let (mut count, mut longest, mut is_unfinished) = (0, 0, false);
        for meta in metas.iter() {
            if meta.way != way || discriminant(&meta.fate) != discriminant(&fate) {
                break;
            }
            count += 1;
            longest = meta.len.max(longest);
            is_unfinished |= meta.unfinished != Unfinished::None;
        }
        let (own, own_packets);
        (own, metas) = metas.split_at_mut(count);
        (own_packets, packets) = packets.split_at(count);
        room.clear();
        let run =
            &mut Run { metas: own, packets: own_packets, longest: longest as usize, is_unfinished, room: &mut room };
        match fate {
            Fate::One(port) => exit.copy(run, &[port]),
            Fate::Flood => flood(run, exit),
            Fate::Snooped(_) => to_listeners(run, exit),
            // The router has them.
            Fate::Routed(_) => {}
            Fate::Open | Fate::Dropped(_) => {}
        }
    }
}

/// Packets that came in by one port with the same tags, and leave by the same ports.
struct Run<'r, 'p> {
    metas: &'r mut [Meta],
    /// As many, and at least one.
    packets: &'p [Packet<'p>],
    /// Octets of the longest one.
    longest: usize,
    /// Some have unfinished checksums.
    is_unfinished: bool,
    room: &'r mut Room,
}

/// What becomes of the checksums of a run, where the receivers finish them and where they do not, and to whom its packets are
/// routed; empty until it is needed.
#[derive(Default)]
struct Room {
    requested: ArrayVec<Checksum, BURST>,
    finished: ArrayVec<Checksum, BURST>,
    destinations: ArrayVec<Mac, BURST>,
}

impl Room {
    #[inline]
    fn clear(&mut self) {
        self.requested.clear();
        self.finished.clear();
        self.destinations.clear();
    }
}

impl<'r, 'p> Run<'r, 'p> {
    /// A run of one packet.
    fn one(meta: &'r mut Meta, packet: &'p Packet<'p>, room: &'r mut Room) -> Self {
        room.clear();
        let (longest, is_unfinished) = (packet.len(), meta.unfinished != Unfinished::None);
        let (metas, packets) = (from_mut(meta), from_ref(packet));
        Self { metas, packets, longest, is_unfinished, room }
    }

    /// All of them, with what becomes of their checksums; and their records.
    #[inline]
    fn copies(&mut self, complete: bool) -> (Copies<'_>, &mut [Meta]) {
        let Room { requested, finished, destinations } = &mut *self.room;
        if self.metas[0].routed && destinations.is_empty() {
            destinations.extend(self.metas.iter().map(|meta| meta.destination));
        }
        let list = if complete { finished } else { requested };
        if self.is_unfinished && list.is_empty() {
            let all = self.metas.iter_mut().zip(self.packets);
            list.extend(all.map(|(meta, packet)| checksum::finish(meta, packet, complete)));
        }
        (Copies { packets: self.packets, checksums: list, destinations }, self.metas)
    }
}

/// Floods the packets.
#[inline(never)]
fn flood(run: &mut Run<'_, '_>, exit: &mut Exit<'_>) {
    let mut ports = std::mem::take(exit.listeners);
    ports.clear();
    ports.extend(flood_targets(&run.metas[0], exit.config));
    copy_to(run, &ports, Reason::FloodEmpty, exit);
    *exit.listeners = ports;
}

/// Copies each packet to those ports that multicast snooping knows to want it.
#[inline(never)]
fn to_listeners(run: &mut Run<'_, '_>, exit: &mut Exit<'_>) {
    for (meta, packet) in run.metas.iter_mut().zip(run.packets) {
        let Fate::Snooped(audience) = meta.fate else { continue };
        let mut ports = std::mem::take(exit.listeners);
        let found = snooped(meta, packet.head(), audience, exit.config, &mut ports);
        ports.retain(reached(meta, exit.config));
        let mut one = Run::one(meta, packet, run.room);
        if found {
            copy_to(&mut one, &ports, Reason::NoListener, exit);
        }
        *exit.listeners = ports;
        if !found {
            flood(&mut one, exit);
        }
    }
}

/// Copies to the ports. If there are none, the packets are dropped for the reason `nobody`.
#[inline]
fn copy_to(run: &mut Run<'_, '_>, ports: &[PortIndex], nobody: Reason, exit: &mut Exit<'_>) {
    exit.to_groups = run.metas.iter().any(|meta| meta.destination.is_group());
    exit.copy(run, ports);
    if ports.is_empty() {
        run.metas.iter_mut().for_each(|meta| meta.fate = Fate::Dropped(nobody));
    } else if exit.to_groups {
        let worker = exit.worker.into();
        let counters = port_counters(exit.config, run.metas[0].port, worker, &exit.counters.unattributed);
        run.metas.iter().for_each(|meta| counters.received_to(meta.destination));
    }
    exit.to_groups = false;
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
        let mut meta = Meta { lost: None, ..parcel.meta };
        let packet = Packet::contiguous(parcel.octets());
        let mut room = Room::default();
        let run = &mut Run::one(&mut meta, &packet, &mut room);
        self.to_groups = run.metas[0].destination.is_group();
        for index in &parcel.ports {
            match (self.config.port(*index), &parcel.form) {
                (Some(port), None) => self.local_copy(run, *index, port),
                (Some(port), Some(form)) => self.local_mirrored(&mut run.metas[0], &packet, *index, port, form),
                (None, _) => self.lose(run.metas, run.packets, *index, Reason::StalePort),
            }
        }
        if std::mem::take(&mut self.lost) && parcel.form.is_none() {
            tap::arrived(&meta, &packet, self);
        }
    }

    /// Sends copies to all of the ports, here or by the workers whose business the ports' devices are.
    #[inline]
    fn copy(&mut self, run: &mut Run<'_, '_>, ports: &[PortIndex]) {
        let packets = run.packets.len() as u64;
        self.counters.copies.add(packets * ports.len() as u64);
        let mut all_here = true;
        for index in ports {
            match self.config.port(*index) {
                Some(port) if self.home(port) == self.worker => self.local_copy(run, *index, port),
                Some(_) => all_here = false,
                None => self.lose(run.metas, run.packets, *index, Reason::StalePort),
            }
        }
        if !all_here {
            self.carry(run, ports);
        }
    }

    /// Sends copies to those of the ports that are other workers' business.
    #[inline(never)]
    fn carry(&mut self, run: &mut Run<'_, '_>, ports: &[PortIndex]) {
        for (meta, packet) in run.metas.iter_mut().zip(run.packets) {
            for index in ports {
                if let Some(port) = self.config.port(*index)
                    && let home = self.home(port)
                    && home != self.worker
                    && !self.crossing.carry(home, meta, packet, *index, None)
                {
                    let (meta, packet) = (from_mut(meta), from_ref(packet));
                    self.lose(meta, packet, *index, Reason::CrossingFull);
                }
            }
            self.crossing.depart(self.counters);
        }
    }

    /// Sends one copy of a mirror, here or by the worker whose business the port's device is.
    pub fn copy_mirrored(&mut self, meta: &mut Meta, packet: &Packet<'_>, index: PortIndex, form: &MirrorForm) {
        let Some(port) = self.config.port(index) else { return self.dropped(index, Reason::StalePort, 1) };
        let home = self.home(port);
        if home == self.worker {
            self.local_mirrored(meta, packet, index, port, form);
        } else if !self.crossing.carry(home, meta, packet, index, Some(form)) {
            self.dropped(index, Reason::CrossingFull, 1);
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

    /// Sends copies by a device of this worker.
    #[inline]
    fn local_copy(&mut self, run: &mut Run<'_, '_>, index: PortIndex, port: &Port) {
        let meta = &run.metas[0];
        let Some(tags) = port.vlan.egress(&meta.vlan, &meta.tags) else {
            return self.lose(run.metas, run.packets, index, Reason::EgressVlan);
        };
        let longest = meta.payload_offset() + port.mtu as usize;
        let edit = edit_of(meta, port, tags);
        if run.longest <= longest {
            let (copies, metas) = run.copies(port.complete_checksums);
            return self.send(copies, metas, index, port, &edit);
        }
        for (meta, packet) in run.metas.iter_mut().zip(run.packets) {
            if packet.len() > longest {
                self.lose(from_mut(meta), from_ref(packet), index, Reason::MtuExceeded);
            } else {
                let checksum = checksum::finish(meta, packet, port.complete_checksums);
                let one = One { packet, checksum, destination: meta.destination };
                self.send(one.copies(), from_mut(meta), index, port, &edit);
            }
        }
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
        let edit = edit_of(meta, port, form.tags.clone());
        let excess = edit.len_unpadded(packet).saturating_sub(form.snaplen);
        // Of the headers at least the addresses and the tags leave.
        let shortest = ADDRESSES + usize::from(meta.link_octets) + form.tags.strip;
        let cut = (excess > 0).then(|| packet.truncated((packet.len() - excess).max(shortest)));
        let checksum = checksum::finish(meta, packet, port.complete_checksums || cut.is_some());
        let packet = cut.as_ref().unwrap_or(packet);
        if packet.len() > meta.payload_offset() + port.mtu as usize {
            return self.dropped(index, Reason::MtuExceeded, 1);
        }
        let checksum = match checksum {
            Checksum::Patch { at, len, .. } if usize::from(at) + usize::from(len) > packet.len() => Checksum::Keep,
            fits => fits,
        };
        self.send(One { packet, checksum, destination: meta.destination }.copies(), &mut [], index, port, &edit);
    }

    /// Queues copies of packets with these records; those of a mirror have none, for what becomes of it is not the packet's fate.
    #[inline]
    fn send(&mut self, copies: Copies<'_>, metas: &mut [Meta], index: PortIndex, port: &Port, edit: &Edit) {
        let mut sent = Outcome::default();
        if !self.sides.send(port.device, copies, edit, &mut sent) {
            self.dropped(index, Reason::TxDown, (copies.len() - metas.len()) as u64);
            return self.lose(metas, copies.packets, index, Reason::TxDown);
        }
        let counters = port.counters.get(usize::from(self.worker)).unwrap_or(&self.counters.unattributed);
        counters.tx_packets.add((copies.len() - sent.refused.len()) as u64);
        counters.tx_bytes.add(sent.octets);
        if self.to_groups {
            let refused = |place: u8| sent.refused.iter().any(|(one, _)| *one == place);
            let left = (0..).zip(metas.iter()).filter(|(place, _)| !refused(*place));
            left.for_each(|(_, meta)| counters.sent_to(meta.destination));
        }
        for (place, reason) in &sent.refused {
            match metas.get_mut(usize::from(*place)) {
                Some(meta) => self.lose(from_mut(meta), &copies.packets[usize::from(*place)..][..1], index, *reason),
                None => self.dropped(index, *reason, 1),
            }
        }
        if port.captures != 0 {
            capture::left(copies, metas, &sent.refused, (index, port), edit, self);
        }
    }

    /// Copies of all these packets do not leave by the port. (Of none, if there are no records.)
    #[cold]
    fn lose(&mut self, metas: &mut [Meta], packets: &[Packet<'_>], index: PortIndex, reason: Reason) {
        self.lost = true;
        metas.iter_mut().for_each(|meta| meta.lost = Some(reason));
        self.dropped(index, reason, metas.len() as u64);
        if let Some(port) = self.config.port(index)
            && port.captures != 0
        {
            capture::lost(metas, packets, (index, port), reason, self);
        }
    }

    #[cold]
    fn dropped(&mut self, index: PortIndex, reason: Reason, packets: u64) {
        let worker = usize::from(self.worker);
        port_counters(self.config, index, worker, &self.counters.unattributed).dropped(reason, packets);
    }
}

/// How the copy that leaves by `port` differs from the packet: `tags` is what the bridge wants of it.
#[inline(always)]
fn edit_of(meta: &Meta, port: &Port, tags: TagEdit) -> Edit {
    let link = port.link_vid.map(|vid| Tag::new(TPID_8021Q, vid, 0));
    let edit = Edit::new(usize::from(meta.link_octets) + tags.strip, link.into_iter().chain(tags.push));
    if meta.routed { edit.routed(meta.source, meta.ethertype) } else { edit }
}
