//! Step 15: may the kernel forward the next packets like this one by itself?
//!
//! Of a packet that the kernel's program handed over because it had no decision for it, and that left by one port, the decision is
//! left in the [shortcuts](crate::table::shortcut). Whatever a port asks for that the program cannot do keeps it from that: the
//! packets go on coming here.
//!
//! No exits.

use crate::batch::Batch;
use crate::config::{Device, Ingress, Port, PortIndex, Snapshot};
use crate::meta::{Fate, Meta};
use crate::table::shortcut::{Decision, Key, Shortcuts, Thing};

/// Leaves decisions for a burst from `device`.
#[inline]
pub fn run(batch: &Batch, device: &Device, config: &Snapshot) {
    if let (Ingress::Punted(_), Some(shortcuts)) = (&device.ingress, &config.shortcuts) {
        leave(batch, config, shortcuts);
    }
}

#[inline(never)]
fn leave(batch: &Batch, config: &Snapshot, shortcuts: &Shortcuts) {
    for meta in batch.records() {
        if let (Fate::One(port), None) = (meta.fate, meta.lost)
            && let Some((key, decision)) = decision(meta, port, config, shortcuts)
        {
            // If somebody else writes there at this moment, the next packet will do.
            let _ = shortcuts.insert(&key, &decision, shunt_ffi::shortcut::now());
        }
    }
}

/// What the program is to do with packets like this one, which left by port `to`.
fn decision(meta: &Meta, to: PortIndex, config: &Snapshot, shortcuts: &Shortcuts) -> Option<(Key, Decision)> {
    let [from_port, to_port] = [config.port(meta.port)?, config.port(to)?];
    let bridge = config.bridge_of(meta.port).filter(|bridge| bridge.mirrors.is_empty())?;
    let device = |port: &Port| config.device(port.device).and_then(|device| device.offload);
    let (from, out) = (device(from_port)?, device(to_port)?);
    if !is_plain(from_port) || !is_plain(to_port) || meta.tags.count() > 1 {
        return None;
    }
    let key = Key { ifindex: from.ifindex, tag: meta.tags.get(0), destination: meta.destination, source: meta.source };
    if shortcuts.has(&key) {
        return None;
    }
    let (fdb, vlan, epochs) = (&bridge.fdb, meta.vlan.vlan, shortcuts.epochs());
    let host = |mac| epochs.of(Thing::Host { bridge: fdb.id(), vlan, mac });
    let port = |index| epochs.of(Thing::Port(index));
    let bridge = epochs.of(Thing::Bridge(fdb.id()));
    let depends = [host(meta.source), host(meta.destination), port(meta.port), port(to), bridge];
    // Only what is true now, after the epochs were read; the ports are those of the snapshot, whose epochs change after it.
    if fdb.lookup(vlan, meta.source) != Some(meta.port) || fdb.lookup(vlan, meta.destination) != Some(to) {
        return None;
    }
    let edit = to_port.vlan.egress(&meta.vlan, &meta.tags)?;
    let push = match edit.push.as_slice() {
        [] => None,
        [tag] => Some(*tag),
        _ => return None,
    };
    let decision = Decision {
        out_ifindex: out.ifindex,
        to_peer: out.to_peer,
        payload_max: to_port.mtu,
        places: [from.place, out.place],
        pop: edit.strip > 0,
        push,
        depends,
        vlan,
    };
    Some((key, decision))
}

/// The program can do all that the port asks for.
fn is_plain(port: &Port) -> bool {
    let is_watched = port.sampling.is_some() || port.captures != 0;
    port.guard.is_none() && !is_watched && port.link_vid.is_none() && port.interface.is_none()
}
