//! Does a worker allocate once it runs? Never: a million packets that are learned, flooded, moved, tagged, finished and
//! handed to another worker.

use shunt_ffi::alloc::{Counting, of_this_thread};
use shunt_switch::port::fault::Dice;
use shunt_switch::table::vlan::VlanConfig;
use shunt_switch::testing::{PortSpec, Rig, Scene, frame};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_million_packets_without_an_allocation() {
    let vlan = |tag| VlanConfig { tag, ..VlanConfig::default() };
    let port = |device, tag, complete_checksums| {
        Some(PortSpec { device, vlan: vlan(tag), complete_checksums, ..PortSpec::default() })
    };
    let ports = vec![port(0, Some(10), false), port(1, Some(10), true), port(2, None, true), port(3, Some(20), false)];
    let mut rig = Rig::new(Scene { ports, partial: vec![0, 1, 3], workers: 2, ..Scene::default() }, 128);
    // UDP in IPv4, its checksum left open; the table has 1024 entries, the world 4000 hosts.
    let ip = [0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    let datagram = [0, 9, 0, 9, 0, 26, 0x14, 0x2e, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18];
    let mut octets = frame(Mac(0), Mac(0), &[], 0x0800, &[&ip[..], &datagram].concat());
    let mut dice = Dice::new(5);
    let mut now = Instant::from_secs(1);
    let mut total = 0;
    let before = of_this_thread();
    while total < 1_000_000 {
        for queue in &rig.inputs {
            for _ in 0..64 {
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
    }
    assert_eq!(of_this_thread() - before, 0, "allocations in {total} packets");
    rig.check();
    let stats = rig.scene.bridges[0].fdb.stats();
    assert!(stats.learned > 10_000 && stats.moved > 10_000 && stats.evicted > 1000, "{stats:?}");
    assert!(rig.workers().all(|worker| worker.crossed.get() > 10_000));
    // The counter does count.
    let before = of_this_thread();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(of_this_thread() - before, 2);
}
