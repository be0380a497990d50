//! What may arbitrary octets do to the switch? Bodies of the fuzz targets, also run over stored inputs as tests.

use crate::command::Command;
use crate::config::{DeviceIndex, PortIndex};
use crate::table::guard::{GuardConfig, MacLimits};
use crate::table::mdb::Mdb;
use crate::table::mirror::{MirrorConfig, Output};
use crate::table::next_hop::InterfaceIndex;
use crate::table::vlan::{Mode, PriorityTags, VlanConfig};
use crate::testing::{BridgeSpec, PortSpec, Rig, Scene};
use crate::time::Instant;
use crate::wire::ethernet::Mac;
use std::net::IpAddr;
use std::sync::Arc;

mod router;

const DEVICES: u16 = 8;

/// Octets as a supply of choices; empty supplies choose 0.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn octet(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    fn below(&mut self, bound: u16) -> u16 {
        u16::from(self.octet()) % bound.max(1)
    }
}

/// Two bridges on a shared uplink and a router between them; each mode, each kind of checksum, a small MTU, and protected and hosts'
/// ports among the others.
fn rich() -> Rig {
    let vlan = |mode, tag, trunks: &[u16], cvlans: &[u16]| {
        let (trunks, cvlans) = (trunks.to_vec(), cvlans.to_vec());
        VlanConfig {
            mode: Some(mode),
            tag: Some(tag),
            trunks,
            cvlans,
            priority_tags: PriorityTags::IfNonzero,
            ..VlanConfig::default()
        }
    };
    let port = |bridge, device, vlan| PortSpec { bridge, device, vlan, ..PortSpec::default() };
    let uplink = |bridge, vid| PortSpec {
        link_vid: Some(vid),
        complete_checksums: true,
        ..port(bridge, 0, VlanConfig::default())
    };
    let ports = vec![
        uplink(0, 100),
        uplink(1, 200),
        port(0, 1, vlan(Mode::Access, 10, &[], &[])),
        PortSpec { complete_checksums: true, ..port(0, 2, vlan(Mode::Trunk, 0, &[], &[])) },
        port(0, 3, vlan(Mode::NativeTagged, 10, &[10, 20], &[])),
        PortSpec { protected: true, ..port(0, 4, vlan(Mode::NativeUntagged, 10, &[], &[])) },
        PortSpec { protected: true, ..port(0, 5, vlan(Mode::Dot1qTunnel, 10, &[], &[0, 7])) },
        PortSpec { mtu: 100, hosts_only: true, ..port(0, 6, VlanConfig::default()) },
        port(1, 7, VlanConfig { tag: Some(0), priority_tags: PriorityTags::Always, ..VlanConfig::default() }),
    ];
    let mut ports = ports;
    for (interface, (port, _)) in (0..).zip(router::PORTS) {
        ports[port].interface = Some(InterfaceIndex(interface));
    }
    let scene = Scene {
        router: Some(router::router()),
        ports: ports.into_iter().map(Some).collect(),
        partial: vec![1, 2, 3, 5, 7],
        workers: 2,
        ..Scene::default()
    };
    let snoops = BridgeSpec { mdb: Some(Arc::new(Mdb::new(10, 1))), ..BridgeSpec::default() };
    let mut rig = Rig::new(Scene { bridges: vec![snoops, BridgeSpec::default()], ..scene }, 16);
    for (port, vlan) in router::PORTS {
        let bridge = &rig.scene.bridges[usize::from(port == 8)];
        let _ = bridge.fdb.add_static(vlan, router::ROUTER, PortIndex(port as u16));
    }
    for queue in &mut rig.outputs {
        queue.set_per_flush(3);
    }
    rig
}

/// The first octet chooses a device, the rest is a frame, which comes in twice: as news, and as something learned.
/// Nothing may panic, and everything must be accounted for.
pub fn fuzz_frame(input: &[u8]) {
    let mut choices = Choices(input);
    let device = usize::from(choices.below(DEVICES));
    let mut rig = rich();
    for second in 0..2 {
        if rig.inputs[device].push(choices.0) {
            rig.run(Instant::from_secs(second));
            rig.check();
        }
    }
}

/// The octets choose operations: frames made of a few hosts and tags, time, ageing, flushes, static entries, ports and
/// devices that come and go. After each of them everything must be accounted for.
pub fn fuzz_operations(input: &[u8]) {
    let mut choices = Choices(input);
    let mut rig = rich();
    let mut now = Instant::from_secs(1);
    for _ in 0..64 {
        if choices.0.is_empty() {
            return;
        }
        operation(&mut rig, &mut choices, &mut now);
        rig.run(now);
        rig.check();
        for (_, handle) in &mut rig.crew {
            while handle.events.pop().is_ok() {}
        }
    }
}

fn operation(rig: &mut Rig, choices: &mut Choices<'_>, now: &mut Instant) {
    let port = choices.below(9);
    let device = choices.below(DEVICES);
    let mac = Mac(0x0200_0000_0000 + u64::from(choices.below(6)));
    let bridge = usize::from(port) % 2;
    match choices.below(16) {
        0 => now.0 += u64::from(choices.octet()) << 30,
        1 => {
            rig.scene.bridges[bridge].fdb.age(*now, 15);
            rig.scene.bridges.iter().flat_map(|bridge| &bridge.mdb).for_each(|mdb| mdb.age(*now, 15));
        }
        2 => {
            rig.scene.bridges[bridge].fdb.flush();
            rig.scene.bridges.iter().flat_map(|bridge| &bridge.mdb).for_each(|mdb| mdb.flush());
        }
        3 => drop(rig.scene.bridges[bridge].fdb.add_static(10, mac, PortIndex(port))),
        4 => rig.command(usize::from(rig.scene.homes[usize::from(device)]), Command::Detach(DeviceIndex(device))),
        5 => rig.attach(usize::from(device)),
        6 => {
            rig.scene.ports[usize::from(port)] = None;
            rig.install();
            rig.scene.bridges.iter().for_each(|bridge| bridge.fdb.forget_port(PortIndex(port)));
            rig.scene.bridges.iter().flat_map(|bridge| &bridge.mdb).for_each(|mdb| mdb.flush_port(PortIndex(port)));
        }
        7 => {
            if let Some(spec) = &mut rig.scene.ports[usize::from(port)] {
                spec.vlan.tag = [None, Some(10), Some(20)][usize::from(choices.below(3))];
                rig.install();
            }
        }
        8 => drop(rig.outputs[usize::from(device)].discard()),
        9 => {
            rig.scene.bridges[bridge].mirrors = (0..choices.below(3)).map(|_| mirror(choices)).collect();
            rig.install();
        }
        10 => {
            if let Some(spec) = &mut rig.scene.ports[usize::from(port)] {
                spec.guard = limits(choices);
                rig.install();
            }
        }
        11..14 => {
            let mut frame = [router::ROUTER.octets(), mac.octets()].concat();
            frame.extend(router::packet(choices));
            rig.inputs[usize::from(device)].push(&frame);
        }
        _ => {
            let tags = usize::from(choices.below(4)) * 4;
            let mut frame = [Mac(mac.0 ^ 1).octets(), mac.octets()].concat();
            frame.extend(choices.0.iter().take(tags));
            choices.0 = &choices.0[tags.min(choices.0.len())..];
            frame.extend([8, 0]);
            frame.resize(frame.len() + usize::from(choices.octet()), 0x45);
            rig.inputs[usize::from(device)].push(&frame);
        }
    }
}

/// A mirror of some of the first eight ports, whatever bridge they belong to.
fn mirror(choices: &mut Choices<'_>) -> MirrorConfig {
    let mut some = || {
        let bits = choices.octet();
        (0..8).filter(|port| bits >> port & 1 != 0).map(PortIndex).collect()
    };
    let (sources, destinations) = (some(), some());
    let output = match choices.below(3) {
        0 => Output::Vlan(choices.below(4) * 10),
        _ => Output::Port(PortIndex(choices.below(9))),
    };
    let vlans = if choices.below(4) == 0 { vec![10] } else { vec![] };
    let snaplen = [None, Some(14), Some(60), Some(u16::from(choices.octet()) + 14)][usize::from(choices.below(4))];
    let counters = (0..2).map(|_| Default::default()).collect();
    MirrorConfig { sources, destinations, vlans, output, snaplen, counters }
}

/// Each limit off or tight.
fn limits(choices: &mut Choices<'_>) -> GuardConfig {
    let mut small = || choices.below(4);
    GuardConfig {
        rate_kbps: small().into(),
        burst_kb: small().into(),
        rate_kpps: small().into(),
        burst_kpkts: small().into(),
        broadcast_pps: small().into(),
        unknown_pps: small().into(),
        multicast_pps: small().into(),
        exceptions_pps: small().into(),
        macs: MacLimits { learned_max: small().into(), moves_max: small(), window_ms: u32::from(small()) * 1000 },
        sources: if small() == 0 { vec![IpAddr::from([10, 0, 0, 0]).into()] } else { Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::fault::Dice;
    use crate::testing::{igmp_packet, mld_packet};

    fn inputs(seed: u64, count: usize, mut body: impl FnMut(&[u8])) {
        let mut dice = Dice::new(seed);
        for _ in 0..count {
            let len = dice.below(400);
            let mut input: Vec<u8> = (0..len).map(|_| dice.roll() as u8).collect();
            // EtherTypes and tags that lead somewhere are rare among arbitrary octets.
            if let Some(place) = input.get_mut(13..15) {
                place.copy_from_slice(&[[0x81, 0], [0x88, 0xa8], [8, 0], [0x86, 0xdd], [0, 0]][dice.below(5)]);
            }
            match dice.below(10) {
                0..3 => multicast(&mut dice, &mut input),
                3..6 => routed(&mut input),
                _ => {}
            }
            body(&input);
        }
    }

    /// A packet for the router, as the rest of the octets choose it.
    fn routed(input: &mut Vec<u8>) {
        let mut choices = Choices(input);
        let device = choices.octet();
        let packet = router::packet(&mut choices);
        *input = [&[device], &router::ROUTER.octets()[..], &[2, 0, 0, 0, 0, 9], &packet].concat();
    }

    /// Packets are routed at all, and each kind of route is taken.
    #[test]
    fn some_are_routed() {
        let mut fates = std::collections::BTreeSet::new();
        for (kind, number, hops) in (0..4).flat_map(|kind| (0..9).flat_map(move |n| (0..3).map(move |h| (kind, n, h))))
        {
            let mut rig = rich();
            let packet = router::packet(&mut Choices(&[kind, number, hops, 60]));
            let frame = [&router::ROUTER.octets()[..], &[2, 0, 0, 0, 0, 9], &packet].concat();
            assert!(rig.inputs[3].push(&frame));
            rig.run(Instant::from_secs(1));
            rig.check();
            let left = rig.outputs.iter().position(|queue| !queue.drain().is_empty());
            fates.insert((number, left));
        }
        // Flooded beside device 1, behind whose port the kernel is: to those neighbours. Nowhere: by the blackhole.
        assert!(
            [(0, Some(0)), (1, Some(0)), (3, Some(0)), (7, None)].iter().all(|one| fates.contains(one)),
            "{fates:?}"
        );
    }

    /// IGMP or MLD whose checksum is right, so that what it says is believed.
    fn multicast(dice: &mut Dice, input: &mut Vec<u8>) {
        let mut message: Vec<u8> = (0..8 + dice.below(60)).map(|_| dice.below(7) as u8).collect();
        let v6 = dice.chance(500);
        let kinds = if v6 { [130, 131, 132, 143, 143] } else { [0x11, 0x12, 0x16, 0x17, 0x22] };
        message[0] = kinds[dice.below(5)];
        input.resize(1, 0);
        let ethertype = if v6 { [0x86, 0xdd] } else { [8, 0] };
        input.extend([1, 0, 0x5e, 0, 0, 1, 2, 0, 0, 0, 0, 9].iter().chain(&ethertype));
        input.extend(if v6 {
            mld_packet([1; 16], [0xff; 16], &message)
        } else {
            igmp_packet([10, 0, 0, 1], [239, 0, 0, 1], &message)
        });
    }

    #[test]
    fn arbitrary_frames() {
        inputs(1, 300, fuzz_frame);
        (0..20).for_each(|len| fuzz_frame(&vec![0x81; len]));
    }

    #[test]
    fn arbitrary_operations() {
        inputs(2, 60, fuzz_operations);
    }
}
