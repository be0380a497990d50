//! Step 14: who wants to know of a packet?
//!
//! Its fate is known and the packet is still there as it was received: a record of it goes into the worker's
//! [`tap`](crate::tap), if it was drawn as a sample of the port that it came in by, or if it was dropped and drops are told
//! of. A burst without either costs a subtraction. Which packet is drawn depends on its place alone, so it does not matter that
//! the draw is at the end; a routed packet was drawn where it came in, not once more where the router sends it on.
//!
//! What another worker sends is taken as sent here. If it is dropped there, that worker tells of the drop.
//!
//! No exits.

use crate::batch::Batch;
use crate::config::{Device, Ingress, PortIndex, Snapshot};
use crate::meta::{Fate, Meta};
use crate::path::capture;
use crate::path::egress::{Exit, targets};
use crate::path::mirror::has_vlan;
use crate::path::route::Room;
use crate::table::sampler::Sampling;
use crate::tap::{Cause, Outcome, Record, Vlan};
use crate::wire::ethernet::ADDRESSES;
use crate::wire::vlan::{self, TPID_8021Q, Tag};
use shunt_ffi::Packet;
use std::ops::Range;

/// Writes records of the burst's packets, which came from `device`.
#[inline]
pub fn run(batch: &Batch, packets: &[Packet<'_>], router: &Room, device: &Device, exit: &mut Exit<'_>) {
    if device.tapped {
        let burst = Burst { metas: batch.records(), packets, router };
        match device.ingress {
            // All came in by the port, or there is none.
            Ingress::Port(_) => burst.of_port(0..burst.metas.len(), exit),
            Ingress::Vlans(_) | Ingress::Punted(_) => burst.by_port(exit),
        }
    }
    exit.lost = false;
}

/// Tells of the drop of a copy that another worker had sent here.
#[cold]
pub fn arrived(meta: &Meta, packet: &Packet<'_>, exit: &mut Exit<'_>) {
    let Some(port) = exit.config.port(meta.port).filter(|_| matches!(meta.fate, Fate::One(_))) else { return };
    let outcome = outcome(meta, packet, exit);
    if port.captures != 0 {
        capture::arrived(meta, packet, outcome, port.captures, exit);
    }
    if let Some(sampling) = &port.sampling {
        tell(record(meta, packet, outcome, exit), packet, sampling, exit);
    }
}

/// A burst at the end of the road.
pub(super) struct Burst<'b, 'p> {
    pub(super) metas: &'b [Meta],
    pub(super) packets: &'b [Packet<'p>],
    router: &'b Room,
}

impl Burst<'_, '_> {
    #[inline(never)]
    fn by_port(&self, exit: &mut Exit<'_>) {
        let mut begin = 0;
        for run in self.metas.chunk_by(|a, b| a.port == b.port) {
            self.of_port(begin..begin + run.len(), exit);
            begin += run.len();
        }
    }

    /// Looks at packets that came in by one port.
    #[inline(never)]
    fn of_port(&self, places: Range<usize>, exit: &mut Exit<'_>) {
        let config = exit.config;
        let Some(port) = self.metas.get(places.start).and_then(|meta| config.port(meta.port)) else { return };
        if port.captures != 0 {
            capture::came(self, places.clone(), port.captures, exit);
        }
        let Some(sampling) = port.sampling.as_deref() else { return };
        let Some(sampler) = sampling.samplers.get(usize::from(exit.worker)) else { return };
        sampler.pass(sampling.rate, places.len(), |place| {
            let place = places.start + place;
            let routed = self.metas[..place].iter().filter(|meta| matches!(meta.fate, Fate::Routed(_))).count();
            let record = Record { cause: Cause::Sampled(sampling.rate), ..self.record(place, routed, exit) };
            if !exit.tap.write(record, &self.packets[place], usize::from(sampling.header)) {
                sampler.lost.add(1);
            }
        });
        if sampling.notices.is_some() && exit.lost {
            self.drops(places, sampling, exit);
        }
    }

    /// Tells of what was dropped.
    #[cold]
    fn drops(&self, places: Range<usize>, sampling: &Sampling, exit: &mut Exit<'_>) {
        for (place, routed) in self.routed(places) {
            let record = self.record(place, routed, exit);
            if matches!(record.outcome, Outcome::Dropped { .. }) {
                tell(record, &self.packets[place], sampling, exit);
            }
        }
    }

    /// Each place with the number of routed packets before it.
    pub(super) fn routed(&self, places: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
        let is_routed = |meta: &&Meta| matches!(meta.fate, Fate::Routed(_));
        let mut routed = self.metas[..places.start].iter().filter(is_routed).count();
        places.map(move |place| {
            let before = routed;
            routed += usize::from(is_routed(&&self.metas[place]));
            (place, before)
        })
    }

    /// The record of a packet; `routed` ones came before it.
    pub(super) fn record(&self, place: usize, routed: usize, exit: &mut Exit<'_>) -> Record {
        let (meta, packet) = (&self.metas[place], &self.packets[place]);
        match meta.fate {
            Fate::Routed(port) => {
                let second = self.router.second(routed).unwrap_or(meta);
                let outcome = outcome(second, packet, exit);
                let vlan_in = vlan_in(meta, packet, exit.config);
                let next_hop = self.router.next_hop(routed);
                let second = record(second, packet, outcome, exit);
                Record { port: meta.port, vlan_in, routed_from: port, next_hop, ..second }
            }
            _ => {
                let outcome = outcome(meta, packet, exit);
                record(meta, packet, outcome, exit)
            }
        }
    }
}

fn tell(record: Record, packet: &Packet<'_>, sampling: &Sampling, exit: &mut Exit<'_>) {
    let passes = sampling.notices.as_ref().is_some_and(|limit| limit.take(1, exit.now));
    if !passes || !exit.tap.write(record, packet, usize::from(sampling.header)) {
        sampling.samplers.get(usize::from(exit.worker)).inspect(|sampler| sampler.untold.add(1));
    }
}

fn record(meta: &Meta, packet: &Packet<'_>, outcome: Outcome, exit: &Exit<'_>) -> Record {
    Record {
        cause: Cause::Dropped,
        at: exit.now,
        port: meta.port,
        len: meta.len,
        caught: 0,
        vlan_in: vlan_in(meta, packet, exit.config),
        vlan_out: vlan_out(meta, outcome, exit.config),
        routed_from: PortIndex::NONE,
        next_hop: None,
        outcome,
    }
}

fn outcome(meta: &Meta, packet: &Packet<'_>, exit: &mut Exit<'_>) -> Outcome {
    match (meta.fate, meta.lost) {
        (Fate::Dropped(reason), _) => Outcome::Dropped { reason, port: PortIndex::NONE },
        (Fate::One(port), Some(reason)) => Outcome::Dropped { reason, port },
        (Fate::One(port) | Fate::Routed(port), _) => Outcome::Sent(port),
        (fate, lost) => {
            targets(meta, fate, packet.head(), exit.config, exit.listeners);
            match (exit.listeners.as_slice(), lost) {
                (&[port], Some(reason)) => Outcome::Dropped { reason, port },
                (&[port], None) => Outcome::Sent(port),
                (ports, _) => Outcome::Flooded(ports.len() as u16),
            }
        }
    }
}

/// Where the packet came in.
fn vlan_in(meta: &Meta, packet: &Packet<'_>, config: &Snapshot) -> Option<Vlan> {
    let port = config.port(meta.port).filter(|_| has_vlan(meta.fate))?;
    // Those that may not come in have none.
    let vlan = port.vlan.ingress(&meta.tags).ok()?;
    let vid = if vlan.vlan == 0 { port.link_vid.unwrap_or(0) } else { vlan.vlan };
    // The outermost tag may be the one by which the device's port was chosen, which nobody keeps.
    let outermost = vlan::tag_at(packet.head(), ADDRESSES, TPID_8021Q).ok().filter(|_| meta.link_octets > 0);
    let tag = outermost.map(|(tag, _)| tag).or(meta.tags.get(0));
    Some(Vlan { vid, pcp: tag.map_or(0, Tag::pcp) })
}

/// Where it left.
fn vlan_out(meta: &Meta, outcome: Outcome, config: &Snapshot) -> Option<Vlan> {
    match outcome {
        Outcome::Sent(port) => {
            let port = config.port(port)?;
            let tags = port.vlan.egress(&meta.vlan, &meta.tags)?.applied(&meta.tags);
            let (vid, tag) = match port.link_vid {
                Some(vid) if meta.vlan.vlan == 0 => (vid, None),
                _ => (meta.vlan.vlan, tags.get(0).filter(|_| port.link_vid.is_none())),
            };
            Some(Vlan { vid, pcp: tag.map_or(0, Tag::pcp) })
        }
        Outcome::Flooded(_) => Some(Vlan { vid: meta.vlan.vlan, pcp: meta.vlan.pcp }),
        Outcome::Dropped { .. } => None,
    }
}
