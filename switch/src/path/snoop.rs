//! Step 10: which packets to groups are for those only who want them?
//!
//! No exits: what nobody wants ends in [`egress`](super::egress), and what is over a limit was dropped before. A bridge that does not
//! snoop skips the step. All reports of a burst are learned before any of its packets looks for members.

use crate::batch::Batch;
use crate::config::{PortIndex, Snapshot, Snooping};
use crate::meta::{Audience, Fate, Meta};
use crate::table::mdb::Found;
use crate::time::Instant;
use crate::wire::ethernet::{IPV4, IPV6, Mac};
use crate::wire::membership::{self, Changes, Meaning};
use shunt_ffi::Packet;

/// Learns from reports and queries, and says of each packet to a group who gets it.
#[inline]
pub fn run(batch: &mut Batch, packets: &[Packet<'_>], config: &Snapshot, now: Instant) {
    if !config.snoops {
        return;
    }
    for (i, meta) in batch.live() {
        if meta.fate == Fate::Flood
            && meta.destination.is_group()
            && meta.destination != Mac::BROADCAST
            && matches!(meta.ethertype, IPV4 | IPV6)
            && let Some(snooping) = config.bridge_of(meta.port).and_then(|bridge| bridge.snooping.as_ref())
        {
            meta.fate = one(meta, packets[i].head(), snooping, now);
        }
    }
}

fn one(meta: &Meta, head: &[u8], snooping: &Snooping, now: Instant) -> Fate {
    let learns = !snooping.flood_ports.contains(&meta.port);
    match membership::parse(meta.ethertype, payload(meta, head)) {
        Meaning::Report(changes) => {
            if learns {
                report(changes, meta, snooping, now);
            }
            Fate::Snooped(Audience::Routers)
        }
        Meaning::Query { from_router } => {
            if learns && from_router {
                snooping.mdb.query(meta.vlan.vlan, meta.port, now);
            }
            Fate::Flood
        }
        Meaning::Everybody => Fate::Flood,
        Meaning::Data(_) => Fate::Snooped(Audience::Members),
    }
}

/// A report that cannot be learned now does little harm: hosts repeat it at once, and at each query.
fn report(changes: Changes<'_>, meta: &Meta, snooping: &Snooping, now: Instant) {
    // Behind a port that wants to see reports there are usually several hosts: one of them leaving says nothing.
    let leaves = !snooping.report_ports.contains(&meta.port);
    for change in changes {
        if change.joins {
            snooping.mdb.join(meta.vlan.vlan, change.group, meta.port, now);
        } else if leaves {
            snooping.mdb.leave(meta.vlan.vlan, change.group, meta.port);
        }
    }
}

/// Puts the ports that want the packet into `ports`, each once, in the order of their numbers. False if all do.
pub fn listeners(
    meta: &Meta,
    head: &[u8],
    audience: Audience,
    snooping: &Snooping,
    ports: &mut Vec<PortIndex>,
) -> bool {
    ports.clear();
    let vlan = meta.vlan.vlan;
    let mut more: &[PortIndex] = &snooping.flood_ports;
    let found = match audience {
        Audience::Routers => {
            more = &snooping.report_ports;
            Found::Known
        }
        Audience::Members => {
            let group = membership::destination(meta.ethertype, payload(meta, head));
            snooping.mdb.members(vlan, group, ports)
        }
    };
    if found == Found::Busy || found == Found::Unknown && snooping.flood_unregistered {
        return false;
    }
    let room = ports.capacity() - ports.len();
    ports.extend(more.iter().copied().take(room));
    if snooping.mdb.routers(vlan, ports) == Found::Busy {
        return false;
    }
    ports.sort_unstable();
    ports.dedup();
    true
}

fn payload<'a>(meta: &Meta, head: &'a [u8]) -> &'a [u8] {
    head.get(meta.payload_offset()..).unwrap_or(&[])
}
