//! Step 13: who else gets a copy?
//!
//! The packet is offered to the mirrors of the port that it came in by, and to those of each port that it goes to, in the
//! form in which it leaves there; also if it was dropped, once its VLAN was known. A copy leaves by a port, too, and is so
//! offered to that port's mirrors. Each output gets a packet once. The worker that received the packet decides on all
//! of it, after the copies that go the packet's own way.
//!
//! No exits of a packet; those of a copy are the ones of [`egress`](crate::path::egress).

use crate::batch::Batch;
use crate::config::{Bridge, Device, Port, PortIndex};
use crate::meta::{Fate, Meta};
use crate::path::checksum;
use crate::path::egress::{Exit, MirrorForm, targets};
use crate::reason::Reason;
use crate::table::mirror::{Mirror, Output};
use crate::table::vlan::{Classified, TagEdit};
use crate::wire::vlan::Tags;
use shunt_ffi::Packet;

/// Sends mirrors' copies of all packets, which came from `device`.
#[inline]
pub fn run(batch: &mut Batch, packets: &[Packet<'_>], device: &Device, exit: &mut Exit<'_>) {
    if device.mirrored {
        for (meta, packet) in batch.all().iter_mut().zip(packets).filter(|(meta, _)| has_vlan(meta.fate)) {
            one(meta, packet, device, exit);
        }
    }
}

/// Its headers were read and the port took it.
pub(super) fn has_vlan(fate: Fate) -> bool {
    use Reason::*;
    let early = matches!(
        fate,
        Fate::Dropped(
            TruncatedEthernet
                | TruncatedVlan
                | Oversized
                | NoPort
                | MirrorIngress
                | SourceGuard
                | PolicedRate
                | PolicedPackets
        )
    );
    !early
}

#[inline(never)]
fn one(meta: &mut Meta, packet: &Packet<'_>, device: &Device, exit: &mut Exit<'_>) {
    let config = exit.config;
    let (Some(from), Some(bridge)) = (config.port(meta.port), config.bridge_of(meta.port)) else { return };
    if bridge.mirrors.is_empty() {
        return;
    }
    // A frame that may not come in is not mirrored.
    let Ok(vlan) = from.vlan.ingress(&meta.tags) else { return };
    if matches!(meta.fate, Fate::Dropped(_)) && device.partial_checksums {
        // The step that looks for them passes packets by that were dropped before.
        checksum::one(meta, packet.head());
    }
    let own = View { vlan, tags: meta.tags, edit: TagEdit::default() };
    let (fate, received) = (meta.fate, *meta);
    let mut ports = std::mem::take(exit.listeners);
    targets(&received, fate, packet.head(), config, &mut ports);
    let mut copier = Copier { exit, meta, packet, from, bridge, done: 0, copies: 0 };
    copier.offer(from.mirror.source, &own);
    for &index in &ports {
        if let Some(to) = config.port(index)
            && to.mirror.destination & !copier.done != 0
            && let Some(edit) = to.vlan.egress(&received.vlan, &received.tags)
            && let Some(view) = View::leaving(to, &received.tags, edit)
        {
            copier.offer(to.mirror.destination, &view);
        }
    }
    let copies = copier.copies;
    *exit.listeners = ports;
    exit.counters.copies.add(copies);
    exit.crossing.depart(exit.counters);
}

/// A packet as it is at one place on its way.
struct View {
    /// Its VLAN there.
    vlan: Classified,
    /// Its tags there.
    tags: Tags,
    /// What has become of the tags that it came in with.
    edit: TagEdit,
}

impl View {
    /// The packet as it leaves by `port`; none if it could not come in there in that form, for then it has no VLAN.
    fn leaving(port: &Port, received: &Tags, edit: TagEdit) -> Option<Self> {
        let tags = edit.applied(received);
        let vlan = port.vlan.ingress(&tags).ok()?;
        Some(Self { vlan, tags, edit })
    }
}

/// Makes the copies of one packet.
struct Copier<'a, 'e> {
    exit: &'a mut Exit<'e>,
    meta: &'a mut Meta,
    packet: &'a Packet<'a>,
    from: &'e Port,
    bridge: &'e Bridge,
    /// Mirrors whose outputs have the packet.
    done: u32,
    copies: u64,
}

impl Copier<'_, '_> {
    /// Offers the packet to some mirrors. Recursion ends: each turn of it sets a bit of `done`.
    fn offer(&mut self, mirrors: u32, view: &View) {
        let bridge = self.bridge;
        for (number, mirror) in bridge.mirrors.iter().enumerate() {
            if mirrors & !self.done & 1 << number != 0 && mirror.selects(view.vlan.vlan) {
                self.done |= mirror.same_output;
                self.take(mirror, view);
            }
        }
    }

    fn take(&mut self, mirror: &Mirror, view: &View) {
        if let Some(counters) = mirror.counters.get(usize::from(self.exit.worker)) {
            counters.packets.add(1);
            counters.octets.add(u64::from(self.meta.len) - u64::from(self.meta.link_octets));
        }
        match mirror.output {
            Output::Port(port) => self.output(port, view, &view.vlan, mirror.snaplen),
            Output::Vlan(vlan) if vlan == view.vlan.vlan || self.meta.destination.is_reserved() => {}
            Output::Vlan(vlan) => {
                let (bridge, config) = (self.bridge, self.exit.config);
                let vlan = Classified { vlan, ..view.vlan };
                for port in bridge.flood.ports(vlan.vlan) {
                    if config.port(*port).is_some_and(|to| to.vlan.carries(&vlan, &view.tags)) {
                        self.output(*port, view, &vlan, mirror.snaplen);
                    }
                }
            }
        }
    }

    /// Sends one copy, as a frame of `vlan`.
    fn output(&mut self, index: PortIndex, view: &View, vlan: &Classified, snaplen: usize) {
        let to = self.exit.config.port(index).filter(|to| to.bridge == self.from.bridge);
        let Some(to) = to else { return };
        if self.from.protected && to.protected {
            return;
        }
        let edit = view.edit.then(&to.vlan.form(vlan, &view.tags));
        self.copies += 1;
        self.exit.copy_mirrored(self.meta, self.packet, index, &MirrorForm { tags: edit.clone(), snaplen });
        if to.mirror.destination & !self.done != 0
            && let Some(view) = View::leaving(to, &self.meta.tags, edit)
        {
            self.offer(to.mirror.destination, &view);
        }
    }
}
