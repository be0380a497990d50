//! Does a worker allocate once it runs? Never: a million packets that are learned, flooded, moved, tagged, finished,
//! mirrored, limited, sampled, captured and handed to another worker.

use shunt_ffi::alloc::{Counting, of_this_thread};
use shunt_switch::capture::{Capture, Views, Wish};
use shunt_switch::command::Command;
use shunt_switch::config::PortIndex;
use shunt_switch::port::fault::Dice;
use shunt_switch::reason::Reason;
use shunt_switch::table::bucket::Bucket;
use shunt_switch::table::guard::{GuardConfig, MacLimits};
use shunt_switch::table::mdb::Mdb;
use shunt_switch::table::mirror::{MirrorConfig, Output};
use shunt_switch::table::sampler::{Sampler, Sampling};
use shunt_switch::table::vlan::VlanConfig;
use shunt_switch::tap::Cause;
use shunt_switch::testing::{PortSpec, Rig, Scene, frame, igmp_packet};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_million_packets_without_an_allocation() {
    let vlan = |tag| VlanConfig { tag, ..VlanConfig::default() };
    let port = |device, tag, complete_checksums| {
        Some(PortSpec { device, vlan: vlan(tag), complete_checksums, ..PortSpec::default() })
    };
    let mut ports =
        vec![port(0, Some(10), false), port(1, Some(10), true), port(2, None, true), port(3, Some(20), false)];
    ports.extend([port(4, None, true), port(5, Some(30), false), port(6, Some(20), false)]);
    if let Some(limited) = &mut ports[3] {
        let macs = MacLimits { learned_max: 50, moves_max: 3, window_ms: 1000 };
        let (rate_kbps, broadcast_pps) = (2000, 10);
        limited.guard = GuardConfig { rate_kbps, broadcast_pps, macs, ..GuardConfig::default() };
    }
    for port in ports.iter_mut().flatten() {
        let samplers = (0..2).map(Sampler::new).collect();
        let notices = Some(Arc::new(Bucket::new(1000, 1000)));
        port.captures = 0b11;
        port.sampling = Some(Arc::new(Sampling { rate: 100, header: 128, notices, samplers }));
    }
    let mirror = |source, output| MirrorConfig {
        sources: vec![PortIndex(source)],
        destinations: vec![PortIndex(2)],
        vlans: vec![],
        output,
        snaplen: Some(40),
        counters: (0..2).map(|_| Default::default()).collect(),
    };
    let mut scene = Scene { ports, partial: vec![0, 1, 3], workers: 2, ..Scene::default() };
    scene.bridges[0].mirrors = vec![mirror(0, Output::Port(PortIndex(4))), mirror(3, Output::Vlan(30))];
    scene.bridges[0].mdb = Some(Arc::new(Mdb::new(10, 1)));
    let mut rig = Rig::new(scene, 128);
    // One capture sees everything, the other one drops.
    let views = [Views { came: true, left: true, dropped: true }, Views { came: false, left: false, dropped: true }];
    let mut readers = Vec::new();
    for (worker, number) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (capture, reader) = Capture::new(Wish { views: views[number], filter: None, snaplen: 100 });
        rig.command(worker, Command::Capture(number as u8, capture));
        readers.push(reader);
    }
    // UDP in IPv4, its checksum left open; the table has 1024 entries, the world 4000 hosts.
    let ip = [0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    let datagram = [0, 9, 0, 9, 0, 26, 0x14, 0x2e, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18];
    let mut octets = frame(Mac(0), Mac(0), &[], 0x0800, &[&ip[..], &datagram].concat());
    // Multicast: data to one of 40 groups, of which the table knows 10 at a time, and reports about them.
    let multicast = |n: u8, protocol: u8| {
        let mut packet = igmp_packet([10, 0, 0, 1], [239, 0, 0, n], &[0x16, 0, 0, 0, 239, 0, 0, n]);
        packet[9] = protocol;
        frame(Mac(0x0100_5e00_0000 + u64::from(n)), Mac(0x0200_0000_0001), &[], 0x0800, &packet)
    };
    let groups: Vec<[Vec<u8>; 2]> = (0..40).map(|n| [multicast(n, 17), multicast(n, 2)]).collect();
    let mut dice = Dice::new(5);
    let mut now = Instant::from_secs(1);
    let (mut total, mut told, mut caught) = (0, [0, 0], Vec::with_capacity(128));
    let mut captured = [0; 4];
    let before = of_this_thread();
    while total < 1_000_000 {
        for queue in &rig.inputs {
            for _ in 0..64 {
                if dice.chance(50) {
                    let frames = &groups[dice.below(groups.len())];
                    total += usize::from(queue.push(&frames[dice.below(2)]));
                    continue;
                }
                let hosts = if dice.chance(900) { 8 } else { 4000 };
                let destination = if dice.chance(20) {
                    Mac(0xffff_ffff_ffff)
                } else {
                    Mac(0x0200_0000_0000 + dice.below(hosts) as u64)
                };
                octets[..6].copy_from_slice(&destination.octets());
                octets[6..12].copy_from_slice(&Mac(0x0200_0000_0000 + dice.below(hosts) as u64).octets());
                total += usize::from(queue.push(&octets));
            }
        }
        rig.run(now);
        now.0 += 10_000_000;
        for queue in &rig.outputs {
            queue.discard();
        }
        for (_, handle) in &mut rig.crew {
            while let Some(record) = handle.tap.next(&mut caught) {
                told[usize::from(record.cause == Cause::Dropped)] += 1;
            }
        }
        for (reader, captured) in readers.iter_mut().zip(&mut captured) {
            while reader.tap.next(&mut caught).is_some() {
                *captured += 1;
            }
        }
    }
    assert_eq!(of_this_thread() - before, 0, "allocations in {total} packets");
    rig.check();
    let stats = rig.scene.bridges[0].fdb.stats();
    assert!(stats.learned > 10_000 && stats.moved > 10_000 && stats.evicted > 1000, "{stats:?}");
    assert!(rig.workers().all(|worker| worker.crossed.get() > 10_000));
    assert!(rig.scene.bridges[0].mirrors.iter().all(|m| m.counters.iter().all(|own| own.packets.get() > 10_000)));
    for reason in [Reason::PolicedRate, Reason::MacLimit, Reason::MacFlap, Reason::StormBroadcast] {
        assert!(rig.totals(3).dropped(reason) > 100, "{reason:?}: {:?}", rig.totals(3));
    }
    assert!(captured.iter().all(|count| *count > 1000) && captured[0] > 500_000, "{captured:?} captured");
    assert!(told.iter().all(|count| *count > 1000), "{told:?} samples and drops");
    assert!(!rig.scene.bridges[0].mdb.as_ref().expect("snooping").entries(now).is_empty());
    // The counter does count.
    let before = of_this_thread();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(of_this_thread() - before, 2);
}
