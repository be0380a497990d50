//! What would become of a packet?
//!
//! A worker of its own takes one turn with it: the same code as for real packets, with the configuration in force and copies of what is
//! learned. Its ports are in memory, so that nothing leaves, and it counts, learns and limits for itself alone: afterwards the
//! switch is as it was. A capture of all ports tells what happened.

use crate::capture::{Capture, Seen, Views, Wish};
use crate::command::{Command, Handle};
use crate::config::{Bridge, Device, DeviceIndex, Interface, Port, PortIndex, Router, Snapshot, Snooping};
use crate::counters::PortCounters;
use crate::crossing::Crossing;
use crate::limits::FRAME_MAX;
use crate::path::edit::{Copies, Edit};
use crate::port::memory::Queue;
use crate::port::{Outcome, Transmit};
use crate::reason::Reason;
use crate::table::bucket::Bucket;
use crate::table::guard::Guard;
use crate::table::mirror::{Mirror, MirrorCounters};
use crate::time::Instant;
use crate::wire::ethernet::Mac;
use crate::worker::Worker;
use std::sync::Arc;

/// What came of it.
pub struct Explained {
    /// What was seen at the ports: first the packet as it came in, then what left, and what did not.
    pub seen: Vec<(Seen, Vec<u8>)>,
    /// Where the sender is known now, and where it would be from then on, if the packet has a VLAN.
    pub source: Option<[Option<PortIndex>; 2]>,
    /// Where the receiver is known, if the packet has a VLAN.
    pub destination: Option<Option<PortIndex>>,
}

/// Sends `octets` in by `port`. `guard` makes the limits of a port anew: how much of them is used up does not matter here.
pub fn explain(
    live: &Snapshot,
    port: PortIndex,
    octets: &[u8],
    now: Instant,
    guard: impl Fn(PortIndex) -> Option<Guard>,
) -> Explained {
    let scratch = Arc::new(copy(live, guard));
    let (mut worker, mut handle) = Worker::new(0, Crossing::default());
    let mut reader = None;
    if let Some(device) = live.port(port).map(|port| port.device) {
        let queue = Queue::new(1);
        queue.push(octets);
        give(&mut worker, &mut handle, now, Command::Install(Arc::clone(&scratch)));
        for (number, _) in (0..).zip(&scratch.devices).filter(|(_, device)| device.is_some()) {
            let command = Command::Transmit { device: DeviceIndex(number), side: Box::new(Sink) };
            give(&mut worker, &mut handle, now, command);
        }
        let views = Views { came: true, left: true, dropped: true };
        let (capture, own) = Capture::new(Wish { views, filter: None, snaplen: 2 * FRAME_MAX });
        reader = Some(own);
        give(&mut worker, &mut handle, now, Command::Capture(0, capture));
        let side = Box::new(queue.receiver());
        give(&mut worker, &mut handle, now, Command::Receive { device, queue: 0, side });
        while worker.turn(now).pending {}
    }
    let (mut seen, mut one) = (Vec::new(), Vec::new());
    while let Some(record) = reader.as_mut().and_then(|reader| reader.tap.next(&mut one)) {
        seen.push((record, one.clone()));
    }
    seen.sort_by_key(|(seen, _)| seen.is_out);
    let mac = |at: usize| octets.get(at..).and_then(|rest| rest.first_chunk()).map(|octets| Mac::new(*octets));
    let vlan = seen.first().and_then(|(seen, _)| seen.vlan);
    let known = |snapshot: &Snapshot, at: usize| {
        let mac = mac(at).filter(|mac| !mac.is_group())?;
        snapshot.bridge_of(port)?.fdb.lookup(vlan?, mac)
    };
    Explained {
        source: vlan.map(|_| [known(live, 6), known(&scratch, 6)]),
        destination: vlan.map(|_| known(live, 0)),
        seen,
    }
}

/// Gives a command and has it obeyed.
fn give(worker: &mut Worker, handle: &mut Handle, now: Instant, command: Command) {
    if handle.commands.push(command).is_ok() {
        worker.turn(now);
        while handle.events.pop().is_ok() {}
    }
}

/// All that the worker reads, and none of what it writes shared with those at work.
fn copy(live: &Snapshot, guard: impl Fn(PortIndex) -> Option<Guard>) -> Snapshot {
    let device = |device: &Device| Device { home: 0, guarded: false, mirrored: false, tapped: false, ..device.clone() };
    let port = |(index, port): (u16, &Option<Port>)| {
        port.as_ref().map(|port| Port {
            guard: guard(PortIndex(index)).map(Arc::new),
            exceptions: None,
            sampling: None,
            captures: 1,
            counters: [PortCounters::default()].into(),
            ..port.clone()
        })
    };
    let mut copy = Snapshot {
        generation: live.generation,
        devices: live.devices.iter().map(|one| one.as_ref().map(device)).collect(),
        ports: (0..).zip(&live.ports).map(port).collect(),
        bridges: live.bridges.iter().map(copy_bridge).collect(),
        router: live.router.as_ref().map(copy_router),
        ..Snapshot::default()
    };
    copy.mark();
    copy
}

fn copy_bridge(bridge: &Bridge) -> Bridge {
    let mirror = |mirror: &Mirror| {
        let mut mirror = mirror.clone();
        mirror.counters = [MirrorCounters::default()].into();
        mirror
    };
    let snooping = bridge.snooping.as_ref().map(|snooping| Snooping {
        mdb: Arc::new(snooping.mdb.resized(snooping.mdb.capacity())),
        flood_unregistered: snooping.flood_unregistered,
        flood_ports: snooping.flood_ports.clone(),
        report_ports: snooping.report_ports.clone(),
    });
    Bridge {
        fdb: Arc::new(bridge.fdb.resized(bridge.fdb.stats().max)),
        flood: bridge.flood.clone(),
        flood_vlans: bridge.flood_vlans.clone(),
        forward_bpdu: bridge.forward_bpdu,
        mirrors: bridge.mirrors.iter().map(mirror).collect(),
        limits_macs: false,
        snooping,
    }
}

fn copy_router(router: &Router) -> Router {
    let interface = |one: &Interface| Interface { exceptions: Arc::new(Bucket::new(1, 1)), ..one.clone() };
    Router { interfaces: router.interfaces.iter().map(|one| one.as_ref().map(interface)).collect(), ..router.clone() }
}

/// A device that takes everything and sends nothing.
struct Sink;

impl Transmit for Sink {
    fn send(&mut self, copies: Copies<'_>, edit: &Edit, sent: &mut Outcome) {
        for (place, copy) in (0..).zip(copies.iter()) {
            match edit.len(copy.packet) {
                len if len <= FRAME_MAX + 64 => sent.octets += len as u64,
                _ => sent.refused.push((place, Reason::Oversized)),
            }
        }
    }

    fn flush(&mut self) -> bool {
        false
    }
}
