//! Which packets for the router are routed, which go on to the kernel and which are dropped, and what do routed ones look like?
//!
//! Random packets of both families, right ones and wrong ones, beside a router that is written down plainly.

mod captured;
mod world;

use shunt_ffi::alloc::Counting;
use shunt_switch::config::PortIndex;
use shunt_switch::path::route::flow_hash;
use shunt_switch::port::fault::Dice;
use shunt_switch::reason::Reason;
use shunt_switch::table::mirror::{MirrorConfig, Output};
use shunt_switch::table::next_hop::Hop;
use shunt_switch::table::sampler::{Sampler, Sampling};
use shunt_switch::tap::{Outcome, Vlan};
use shunt_switch::testing::{PortSpec, Rig, frame};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;
use shunt_switch::wire::vlan::{TPID_8021Q, Tag};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use world::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn random_packets_go_where_a_plain_router_sends_them() {
    for workers in [1, 2, 3] {
        let mut world = World::new(workers, 1_000_000_000);
        let mut dice = Dice::new(workers as u64);
        let mut seen = BTreeSet::new();
        for round in 0..12_000 {
            let sketch = sketch(&mut dice);
            // From VLAN 10 or 20 in a frame with or without tag, or from the uplink.
            let (device, vid, router) =
                [(VLAN10, None, 0), (TRUNK, Some(10), 0), (VLAN20, None, 1), (TRUNK, Some(20), 1), (UPLINK, None, 2)]
                    [dice.below(5)];
            let tags: Vec<_> = vid.map(|vid| Tag::new(TPID_8021Q, vid, 0)).into_iter().collect();
            let of = |tags: &[Tag]| {
                frame(ROUTERS[router], Mac(0x0200_0000_0042), tags, sketch.ethertype(), &sketch.packet())
            };
            let expected = fate(&sketch);
            let reason = if let Fate::Dropped(reason) = expected { Some(reason) } else { None };
            let before = reason.map(|reason| world.dropped(reason));
            let left = world.send(device, &of(&tags));
            let context = || format!("round {round}: {sketch:?} into {device}: {expected:?}");
            match &expected {
                Fate::Dropped(reason) => {
                    assert!(left.is_empty(), "{}", context());
                    assert_eq!(world.dropped(*reason), before.expect("counted") + 1, "{}", context());
                    seen.insert(format!("{reason:?}"));
                }
                Fate::Kernel => {
                    assert_eq!(left, BTreeMap::from([(INTERNALS[router], vec![padded(of(&[]))])]), "{}", context());
                    seen.insert("kernel".into());
                }
                Fate::To(hosts) => {
                    let matches = |number: &usize| {
                        left == BTreeMap::from([(HOSTS[*number].device, vec![routed(&HOSTS[*number], &sketch)])])
                    };
                    assert!(hosts.iter().any(matches), "{}: {left:02x?}", context());
                    seen.insert(format!("to {hosts:?}"));
                }
            }
        }
        assert_eq!(seen.len(), 3 + 1 + 5, "{seen:?}");
    }
}

#[test]
fn bursts_of_all_kinds_come_out_as_one_by_one() {
    let (mut one, mut many) = (World::new(2, 1_000_000_000), World::new(2, 1_000_000_000));
    let mut dice = Dice::new(9);
    for _ in 0..300 {
        let mut expected: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
        for _ in 0..dice.below(40) + 1 {
            let sketch = sketch(&mut dice);
            let octets = frame(ROUTERS[0], Mac(0x0200_0000_0105), &[], sketch.ethertype(), &sketch.packet());
            one.send(VLAN10, &octets)
                .into_iter()
                .for_each(|(device, frames)| expected.entry(device).or_default().extend(frames));
            assert!(many.rig.inputs[VLAN10].push(&octets));
        }
        many.rig.run(Instant::from_secs(10));
        many.rig.check();
        let mut left = many.left();
        // What goes to the kernel and what is routed may overtake each other; each way keeps its own order.
        let is_kernel = |device: &usize| INTERNALS.contains(device);
        assert_eq!(left.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (device, frames) in &mut left {
            assert_eq!(frames, &expected[device], "device {device}, kernel's: {}", is_kernel(device));
        }
    }
    for port in 0..7 {
        assert_eq!(one.rig.totals(port), many.rig.totals(port), "port {port}");
    }
}

#[test]
fn a_flow_keeps_its_way_and_flows_use_all_ways() {
    let mut world = World::new(1, 1000);
    let router = world.rig.scene.router.clone().expect("a router");
    let target = router.fib.lookup_any(world.tables.v4, ip("10.100.1.1")).expect("a route");
    let mut used = BTreeMap::<Mac, usize>::new();
    for last in 1..=200 {
        let sketch = Sketch::right("10.0.10.5", &format!("10.100.1.{last}"));
        let octets = frame(ROUTERS[0], HOSTS[0].mac, &[], 0x0800, &sketch.packet());
        let (first, second) = (world.send(VLAN10, &octets), world.send(VLAN10, &octets));
        assert_eq!(first, second);
        let Hop::To(_, mac) = router.hops.hop(target, || flow_hash(SEED, &sketch.packet())) else { panic!("no hop") };
        assert_eq!(first[&UPLINK][0][..6], mac.octets(), "as those are told who ask where it would go");
        *used.entry(mac).or_default() += 1;
    }
    assert!(used.len() == 2 && used.values().all(|count| *count > 60), "{used:?}");
}

#[test]
fn fragments_of_a_packet_take_one_way_and_ports_do_not_count_in_them() {
    let packet = |field: [u8; 2], port: u8| {
        let mut packet = Sketch::right("10.0.10.5", "10.100.1.1").packet();
        packet[6..8].copy_from_slice(&field);
        packet[20..22].copy_from_slice(&[0, port]);
        packet
    };
    let hash = |field, port| flow_hash(SEED, &packet(field, port));
    assert_eq!(hash([0x20, 0], 1), hash([0, 9], 2));
    assert_eq!(hash([0x20, 0], 1), hash([0x20, 0], 3));
    assert_ne!(hash([0x40, 0], 1), hash([0x40, 0], 2), "don't fragment is no fragment");
}

#[test]
fn the_kernel_gets_no_more_exceptions_than_it_may_and_all_that_is_local() {
    let mut world = World::new(1, 50);
    let octets = |destination: &str| {
        frame(ROUTERS[0], HOSTS[0].mac, &[], 0x0800, &Sketch::right("10.0.10.5", destination).packet())
    };
    for _ in 0..80 {
        world.send(VLAN10, &octets("10.0.10.77"));
        assert_eq!(world.send(VLAN10, &octets("10.0.10.1")).len(), 1, "what is for the host");
        assert_eq!(world.send(VLAN10, &octets("10.0.20.5")).len(), 1, "what is routed");
    }
    assert_eq!(world.dropped(Reason::ExceptionsLimited), 30);
}

#[test]
fn a_port_that_scans_leaves_the_others_theirs() {
    let mut world = World::new(1, 50);
    for port in [VLAN10, VLAN20] {
        world.rig.scene.ports[port].as_mut().expect("a port").guard.exceptions_pps = 20;
    }
    world.rig.install();
    let mut pass = |number: usize, source: &str, destination: &str| {
        let packet = Sketch::right(source, destination).packet();
        let octets = frame(ROUTERS[number], HOSTS[2 * number].mac, &[], 0x0800, &packet);
        world.send([VLAN10, VLAN20][number], &octets).len()
    };
    assert_eq!((0..80).map(|_| pass(0, "10.0.10.5", "10.0.10.77")).sum::<usize>(), 20);
    assert_eq!((0..80).map(|_| pass(1, "10.0.20.5", "10.0.20.77")).sum::<usize>(), 20);
    assert_eq!(pass(0, "10.0.10.5", "10.0.20.5"), 1, "what is routed");
    let dropped = |port| world.rig.totals(port).dropped(Reason::ExceptionsLimited);
    assert_eq!([VLAN10, VLAN20].map(dropped), [60, 60]);
}

#[test]
fn hosts_reach_the_router_only_and_are_reached_by_it() {
    let mut world = World::new(1, 50);
    for port in [VLAN10, TRUNK] {
        world.rig.scene.ports[port].as_mut().expect("a port").hosts_only = true;
    }
    world.rig.install();
    let (host, neighbour) = (&HOSTS[0], &HOSTS[1]);
    let ask = |to: Mac| frame(to, host.mac, &[], 0x0806, &[0; 46]);
    let ports = |sent: BTreeMap<usize, Vec<Vec<u8>>>| sent.into_keys().collect::<Vec<_>>();
    assert_eq!(ports(world.send(VLAN10, &ask(Mac::BROADCAST))), [INTERNAL10], "what is flooded");
    assert_eq!(ports(world.send(VLAN10, &ask(neighbour.mac))), [0; 0], "what is for a neighbour");
    assert_eq!(world.dropped(Reason::Protected), 1);
    assert_eq!(
        ports(world.send(INTERNAL10, &frame(Mac::BROADCAST, ROUTERS[0], &[], 0x0806, &[0; 46]))),
        [VLAN10, TRUNK]
    );
    let packet = |destination| Sketch::right("10.0.10.5", destination).packet();
    let routed = |destination| frame(ROUTERS[0], host.mac, &[], 0x0800, &packet(destination));
    assert_eq!(ports(world.send(VLAN10, &routed("10.0.20.5"))), [VLAN20]);
    assert_eq!(ports(world.send(VLAN10, &routed("10.0.10.6"))), [TRUNK], "each other, over the router");
}

#[test]
fn a_routed_packet_is_counted_as_through_a_box_on_two_ports() {
    let mut world = World::new(2, 50);
    let sketch = Sketch::right("10.0.10.5", "10.0.20.5");
    world.send(VLAN10, &frame(ROUTERS[0], HOSTS[0].mac, &[], 0x0800, &sketch.packet()));
    let counted = |port| {
        let totals = world.rig.totals(port);
        (totals.rx_packets, totals.tx_packets)
    };
    assert_eq!([VLAN10, INTERNAL10, INTERNAL20, VLAN20].map(counted), [(1, 0), (0, 1), (1, 0), (0, 1)]);
}

#[test]
fn mirrors_see_a_packet_before_and_after_it_was_routed() {
    let mut world = World::new(1, 50);
    let probe = PortSpec { device: 7, ..PortSpec::default() };
    world.rig.scene.ports.push(Some(probe));
    let mut rig_scene = std::mem::take(&mut world.rig.scene);
    rig_scene.bridges[0].mirrors = vec![MirrorConfig {
        sources: vec![PortIndex(VLAN10 as u16)],
        destinations: vec![PortIndex(VLAN20 as u16)],
        vlans: vec![],
        output: Output::Port(PortIndex(7)),
        snaplen: None,
        counters: (0..1).map(|_| Default::default()).collect(),
    }];
    world.rig = Rig::new(rig_scene, 64);
    let sketch = Sketch::right("10.0.10.5", "10.0.20.5");
    let octets = frame(ROUTERS[0], HOSTS[0].mac, &[], 0x0800, &sketch.packet());
    let left = world.send(VLAN10, &octets);
    // The probe is on a trunk: a mirror's copies are frames of the packet's VLAN there.
    let tagged = |vid, octets: &[u8]| [&octets[..12], &Tag::new(TPID_8021Q, vid, 0).octets(), &octets[12..]].concat();
    assert_eq!(left[&7], [tagged(10, &octets), tagged(20, &routed(&HOSTS[2], &sketch))]);
}

/// Dell's switches told no VLAN of what they routed.
#[test]
fn a_routed_packet_is_sampled_once_as_it_came_in() {
    let mut world = World::new(1, 50);
    for port in world.rig.scene.ports.iter_mut().flatten() {
        let samplers = [Sampler::new(1)].into();
        port.sampling = Some(Arc::new(Sampling { rate: 1, header: 200, notices: None, samplers }));
    }
    world.rig.install();
    let sketch = Sketch::right("10.0.10.5", "10.0.20.6");
    let octets = frame(ROUTERS[0], HOSTS[0].mac, &[], 0x0800, &sketch.packet());
    let other = frame(ROUTERS[0], HOSTS[0].mac, &[], 0x0800, &Sketch::right("10.0.10.5", "10.0.20.5").packet());
    // One that goes to the kernel comes between them: which is the second routed one?
    let local = frame(ROUTERS[0], HOSTS[0].mac, &[], 0x0800, &Sketch::right("10.0.10.5", "10.0.10.1").packet());
    for octets in [&other, &local, &octets] {
        assert!(world.rig.inputs[VLAN10].push(octets));
    }
    world.rig.run(Instant::from_secs(10));
    let mut caught = Vec::new();
    let tap = &mut world.rig.crew[0].1.tap;
    let mut seen = |octets: &[u8]| {
        let record = tap.next(&mut caught).expect("a record");
        assert_eq!((record.port.0 as usize, record.vlan_in, &caught[..]), (VLAN10, vlan(10), octets));
        (record.routed_from, record.next_hop.map(|(_, mac)| mac), record.vlan_out, record.outcome)
    };
    let port = |device: usize| PortIndex(device as u16);
    assert_eq!(seen(&other), (port(INTERNAL10), Some(HOSTS[2].mac), vlan(20), Outcome::Sent(port(VLAN20))));
    assert_eq!(seen(&local), (PortIndex::NONE, None, vlan(10), Outcome::Sent(port(INTERNAL10))));
    assert_eq!(seen(&octets), (port(INTERNAL10), Some(HOSTS[3].mac), vlan(20), Outcome::Sent(port(TRUNK))));
    assert_eq!(tap.next(&mut caught), None);
}

/// What a collector does with samples of one packet from several routers.
#[test]
fn samples_ordered_by_their_hops_are_the_path() {
    let mut packet = Sketch::right("10.0.10.5", "10.0.20.5").packet();
    let mut told = Vec::new();
    for router in ["leaf1", "spine", "leaf2"] {
        let mut world = World::new(1, 50);
        let samplers = [Sampler::new(1)].into();
        let sampling = Arc::new(Sampling { rate: 1, header: 128, notices: None, samplers });
        world.rig.scene.ports[VLAN10].as_mut().expect("a port").sampling = Some(sampling);
        world.rig.install();
        let left = world.send(VLAN10, &frame(ROUTERS[0], HOSTS[0].mac, &[], 0x0800, &packet));
        packet = left[&VLAN20][0][14..].to_vec();
        let mut caught = Vec::new();
        while world.rig.crew[0].1.tap.next(&mut caught).is_some() {
            let hops = caught[14 + 8];
            told.insert(0, (hops, router));
        }
    }
    told.sort_by_key(|(hops, _)| std::cmp::Reverse(*hops));
    assert_eq!(told, [(64, "leaf1"), (63, "spine"), (62, "leaf2")]);
}

fn vlan(vid: u16) -> Option<Vlan> {
    Some(Vlan { vid, pcp: 0 })
}

#[test]
fn what_is_not_for_the_router_or_no_ip_is_bridged() {
    let mut world = World::new(1, 0);
    let arp = frame(ROUTERS[0], HOSTS[0].mac, &[], 0x0806, &[0; 46]);
    assert_eq!(world.send(VLAN10, &arp), BTreeMap::from([(INTERNAL10, vec![arp])]));
    // Another address behind the internal port, such as a macvlan's.
    world.station(INTERNAL10, Mac(0x0200_0000_bb00), 10);
    let other =
        frame(Mac(0x0200_0000_bb00), HOSTS[0].mac, &[], 0x0800, &Sketch::right("10.0.10.5", "10.0.20.5").packet());
    assert_eq!(world.send(VLAN10, &other), BTreeMap::from([(INTERNAL10, vec![other])]));
}

#[test]
fn a_next_hop_whose_place_is_not_known_is_flooded_in_its_vlan() {
    let mut world = World::new(1, 50);
    world.rig.scene.bridges[0].fdb.remove_static(20, HOSTS[2].mac);
    let sketch = Sketch::right("10.0.10.5", "10.0.20.5");
    let left = world.send(VLAN10, &frame(ROUTERS[0], HOSTS[0].mac, &[], 0x0800, &sketch.packet()));
    let tagged = Host { tag: Some(20), ..host(HOSTS[2].addresses, HOSTS[2].mac.0, 1, TRUNK, None) };
    let expected = [(VLAN20, vec![routed(&HOSTS[2], &sketch)]), (TRUNK, vec![routed(&tagged, &sketch)])];
    assert_eq!(left, BTreeMap::from(expected));
}

#[test]
fn routing_allocates_nothing() {
    let mut world = World::new(1, 1_000_000_000);
    let mut dice = Dice::new(3);
    let sketches: Vec<Vec<u8>> = (0..200)
        .map(|_| {
            let sketch = sketch(&mut dice);
            frame(ROUTERS[0], HOSTS[0].mac, &[], sketch.ethertype(), &sketch.packet())
        })
        .collect();
    let before = shunt_ffi::alloc::of_this_thread();
    for octets in &sketches {
        assert!(world.rig.inputs[VLAN10].push(octets));
        world.rig.crew[0].0.turn(Instant::from_secs(10));
        for queue in &world.rig.outputs {
            queue.discard();
        }
    }
    assert_eq!(shunt_ffi::alloc::of_this_thread(), before);
}
