//! Who wants to see this very packet? Asked by two steps, [`tap`](super::tap) and [`egress`](super::egress).
//!
//! Ports that are captured have a bit for each [`capture`](crate::capture). What they receive is looked at when its fate is
//! known; what leaves by them when the copy is queued, by the worker that sends it; what does not leave when it is lost. Without
//! captures this costs a branch for each run of packets that leave together, and nothing for those that come.
//!
//! No exits.

use crate::capture::{PORTS_NAMED, Seen};
use crate::config::{Port, PortIndex};
use crate::limits::{BURST, FRAME_MIN};
use crate::meta::{Fate, Meta};
use crate::path::edit::{Checksum, Copies, Edit};
use crate::path::egress::Exit;
use crate::path::mirror::has_vlan;
use crate::path::tap::Burst;
use crate::reason::Reason;
use crate::tap::Outcome;
use crate::time::Instant;
use arrayvec::ArrayVec;
use shunt_ffi::Packet;
use std::ops::Range;

/// Tells of packets of a burst that came in by one port, which belongs to `captures`.
#[inline(never)]
pub(super) fn came(burst: &Burst<'_, '_>, places: Range<usize>, captures: u8, exit: &mut Exit<'_>) {
    let all = exit.captures.which(captures, |views| views.came);
    let drops = exit.captures.which(captures, |views| views.dropped && !views.came);
    if all == 0 && !exit.lost {
        return;
    }
    for (place, routed) in burst.routed(places) {
        let (meta, packet) = (&burst.metas[place], &burst.packets[place]);
        let is_candidate = all != 0 || meta.lost.is_some() || matches!(meta.fate, Fate::Dropped(_) | Fate::Routed(_));
        if !is_candidate {
            continue;
        }
        // Filters first: what is known of a packet is put together only for those that pass.
        let captures = exit.captures.accepting(all | drops, packet);
        if captures == 0 {
            continue;
        }
        let record = burst.record(place, routed, exit);
        let mut seen = seen(meta, (meta.port, false), meta.len, exit.now);
        (seen.from, seen.routed_from, seen.outcome) = (meta.port, record.routed_from, record.outcome);
        match record.outcome {
            Outcome::Sent(port) => seen.to[0] = port,
            Outcome::Flooded(_) => seen.to.iter_mut().zip(exit.listeners.iter()).for_each(|(to, port)| *to = *port),
            Outcome::Dropped { .. } => {}
        }
        let mut wanted = captures & all;
        if let Outcome::Dropped { port, .. } = record.outcome {
            wanted |= captures & drops & !told(port, exit);
        }
        exit.captures.write(wanted, seen, packet);
    }
}

/// Tells of the drop of a copy that another worker had sent here, to captures of the port that it came in by. Those that see
/// all that comes have seen it there.
pub(super) fn arrived(meta: &Meta, packet: &Packet<'_>, outcome: Outcome, captures: u8, exit: &mut Exit<'_>) {
    let Outcome::Dropped { port, .. } = outcome else { return };
    let drops = exit.captures.which(captures, |views| views.dropped && !views.came) & !told(port, exit);
    let accepting = exit.captures.accepting(drops, packet);
    exit.captures.write(accepting, Seen { outcome, ..seen(meta, (meta.port, false), meta.len, exit.now) }, packet);
}

/// The captures that have heard of a loss at the port by which the packet should have left.
fn told(port: PortIndex, exit: &Exit<'_>) -> u8 {
    exit.config.port(port).map_or(0, |port| port.captures)
}

/// Tells of copies that were queued at a captured port, but for those at the places in `refused`.
#[inline(never)]
pub(super) fn left(
    copies: Copies<'_>,
    metas: &[Meta],
    refused: &ArrayVec<(u8, Reason), BURST>,
    (index, port): (PortIndex, &Port),
    edit: &Edit,
    exit: &mut Exit<'_>,
) {
    let captures = exit.captures.which(port.captures, |views| views.left);
    if captures == 0 {
        return;
    }
    let mut octets = std::mem::take(&mut exit.captures.scratch);
    for (place, copy) in copies.iter().enumerate() {
        if refused.iter().any(|(refused, _)| usize::from(*refused) == place) {
            continue;
        }
        // Most copies are what came in: nothing is written for a filter that wants one in a hundred.
        let is_other =
            !edit.changes_nothing() || matches!(copy.checksum, Checksum::Patch { .. }) || copy.packet.len() < FRAME_MIN;
        if is_other {
            octets.clear();
            edit.write(&copy, &mut octets);
        }
        let packet = if is_other { &Packet::contiguous(&octets) } else { copy.packet };
        let accepting = exit.captures.accepting(captures, packet);
        if accepting == 0 {
            continue;
        }
        let meta = metas.get(place).copied().unwrap_or_default();
        let len = packet.len() as u32;
        let seen = Seen { outcome: Outcome::Sent(index), ..seen(&meta, (index, true), len, exit.now) };
        exit.captures.write(accepting, seen, packet);
    }
    exit.captures.scratch = octets;
}

/// Tells of copies that did not leave by a captured port.
#[cold]
pub(super) fn lost(
    metas: &[Meta],
    packets: &[Packet<'_>],
    (index, port): (PortIndex, &Port),
    reason: Reason,
    exit: &mut Exit<'_>,
) {
    let captures = exit.captures.which(port.captures, |views| views.dropped);
    for (meta, packet) in metas.iter().zip(packets) {
        let accepting = exit.captures.accepting(captures, packet);
        let outcome = Outcome::Dropped { reason, port: index };
        let seen = Seen { outcome, ..seen(meta, (index, true), packet.len() as u32, exit.now) };
        exit.captures.write(accepting, seen, packet);
    }
}

/// What is known of a packet anyway.
fn seen(meta: &Meta, (port, is_out): (PortIndex, bool), len: u32, at: Instant) -> Seen {
    let vlan = (meta.port != PortIndex::NONE && has_vlan(meta.fate)).then_some(meta.vlan.vlan);
    let outcome = Outcome::Flooded(0);
    let (routed_from, to) = (PortIndex::NONE, [PortIndex::NONE; PORTS_NAMED]);
    let (from, is_routed, lost) = (meta.port, meta.routed, meta.lost);
    Seen { at, port, is_out, from, len, caught: 0, vlan, routed_from, is_routed, outcome, lost, to }
}
