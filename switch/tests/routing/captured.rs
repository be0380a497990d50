//! What does a capture show of packets for the router: where they came in, where they left, and why they did not?

use crate::world::*;
use shunt_switch::capture::{Capture, CaptureReader, Seen, Views, Wish};
use shunt_switch::command::Command;
use shunt_switch::config::PortIndex;
use shunt_switch::limits::FRAME_MAX;
use shunt_switch::reason::Reason;
use shunt_switch::tap::Outcome;
use shunt_switch::testing::frame;
use shunt_switch::time::Instant;

/// All ports are captured, by all workers.
fn world(workers: usize) -> (World, Vec<CaptureReader>) {
    let mut world = World::new(workers, 50);
    world.rig.scene.ports.iter_mut().flatten().for_each(|port| port.captures = 1);
    world.rig.install();
    let views = Views { came: true, left: true, dropped: true };
    let readers = (0..workers).map(|worker| {
        let (capture, reader) = Capture::new(Wish { views, filter: None, snaplen: FRAME_MAX });
        world.rig.command(worker, Command::Capture(0, capture));
        reader
    });
    let readers = readers.collect();
    world.rig.run(Instant::from_secs(10));
    (world, readers)
}

/// What was seen, the packet as it came in first.
fn seen(readers: &mut [CaptureReader]) -> Vec<(Seen, Vec<u8>)> {
    let (mut all, mut octets) = (Vec::new(), Vec::new());
    for reader in readers {
        while let Some(seen) = reader.tap.next(&mut octets) {
            all.push((seen, octets.clone()));
        }
    }
    all.sort_by_key(|(seen, _)| seen.is_out);
    all
}

/// From where to where, by which interface of the router, and its fate.
fn brief(seen: &Seen) -> (usize, usize, PortIndex, bool, Outcome) {
    (seen.port.0.into(), seen.from.0.into(), seen.routed_from, seen.is_routed, seen.outcome)
}

const fn port(device: usize) -> PortIndex {
    PortIndex(device as u16)
}

#[test]
fn a_routed_packet_is_seen_where_it_came_in_and_where_it_left() {
    for (workers, [source, near, far]) in [1, 3].into_iter().flat_map(|workers| {
        let v4 = ["10.0.10.5", "10.0.20.5", "10.0.20.6"];
        let v6 = ["2001:db8:10::5", "2001:db8:20::5", "2001:db8:20::6"];
        [(workers, v4), (workers, v6)]
    }) {
        let (mut world, mut readers) = world(workers);
        for (destination, device) in [(near, VLAN20), (far, TRUNK)] {
            let sketch = Sketch::right(source, destination);
            let octets = frame(ROUTERS[0], HOSTS[0].mac, &[], sketch.ethertype(), &sketch.packet());
            let sent = world.send(VLAN10, &octets);
            let told = seen(&mut readers);
            let [came, left] = &told[..] else { panic!("{destination}, {workers} workers: {told:?}") };
            let fate = Outcome::Sent(port(device));
            assert_eq!(brief(&came.0), (VLAN10, VLAN10, port(INTERNAL10), false, fate));
            assert_eq!((came.0.to[0], &came.1), (port(device), &octets), "as received");
            assert_eq!(brief(&left.0), (device, INTERNAL20, PortIndex::NONE, true, fate));
            assert_eq!(left.1, sent[&device][0], "with the addresses, hops and tags with which it leaves");
        }
    }
}

#[test]
fn what_the_router_drops_or_leaves_to_the_kernel_says_so() {
    let (mut world, mut readers) = world(1);
    let mut told = |world: &mut World, destination: &str| {
        let octets = frame(ROUTERS[0], HOSTS[0].mac, &[], 0x0800, &Sketch::right("10.0.10.5", destination).packet());
        world.send(VLAN10, &octets);
        seen(&mut readers).iter().map(|(seen, _)| brief(seen)).collect::<Vec<_>>()
    };
    let dropped = |reason, port| Outcome::Dropped { reason, port };
    let fate = dropped(Reason::RouteBlackhole, PortIndex::NONE);
    assert_eq!(told(&mut world, "192.0.2.1"), [(VLAN10, VLAN10, PortIndex::NONE, false, fate)]);
    let fate = Outcome::Sent(port(INTERNAL10));
    let to_kernel =
        [(VLAN10, VLAN10, PortIndex::NONE, false, fate), (INTERNAL10, VLAN10, PortIndex::NONE, false, fate)];
    assert_eq!(told(&mut world, "198.51.100.1"), to_kernel, "which answers that there is no way");
    world.rig.outputs[VLAN20].set_down(true);
    let fate = dropped(Reason::TxDown, port(VLAN20));
    assert_eq!(
        told(&mut world, "10.0.20.5"),
        [(VLAN10, VLAN10, port(INTERNAL10), false, fate), (VLAN20, INTERNAL20, PortIndex::NONE, true, fate)],
        "at the port that it came in by, and at the one that it should have left by"
    );
}
