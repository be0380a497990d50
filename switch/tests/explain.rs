//! Does an explanation foresee what happens, and leave no trace?

use shunt_switch::capture::Seen;
use shunt_switch::config::PortIndex;
use shunt_switch::explain::{Explained, explain};
use shunt_switch::reason::Reason;
use shunt_switch::table::guard::{Guard, GuardConfig};
use shunt_switch::table::vlan::VlanConfig;
use shunt_switch::tap::Outcome;
use shunt_switch::testing::{PortSpec, Rig, Scene, frame};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;
use shunt_switch::wire::vlan::Tag;

const A: Mac = Mac(0x0200_0000_000a);
const B: Mac = Mac(0x0200_0000_000b);
const NOW: Instant = Instant::from_secs(5);

/// Access ports of VLAN 7 and a trunk.
fn rig() -> Rig {
    let access = || VlanConfig { tag: Some(7), ..VlanConfig::default() };
    let ports = (0..).zip([access(), VlanConfig::default(), access()]);
    let ports = ports.map(|(device, vlan)| Some(PortSpec { device, vlan, mtu: 1500, ..PortSpec::default() }));
    Rig::new(Scene { ports: ports.collect(), ..Scene::default() }, 16)
}

fn asked(rig: &mut Rig, port: u16, octets: &[u8]) -> Explained {
    let live = rig.scene.snapshot(9);
    explain(&live, PortIndex(port), octets, NOW, |_| None)
}

fn leaving(explained: &Explained) -> Vec<(u16, &[u8])> {
    let sent = |seen: &Seen| seen.is_out && matches!(seen.outcome, Outcome::Sent(_));
    explained.seen.iter().filter(|(seen, _)| sent(seen)).map(|(seen, octets)| (seen.port.0, &octets[..])).collect()
}

#[test]
fn what_is_foreseen_happens_and_nothing_is_learned_by_asking() {
    let mut rig = rig();
    let tagged = |destination, source, vid| frame(destination, source, &[Tag::new(0x8100, vid, 0)], 0x88b5, &[1; 100]);
    let plain = |destination, source| frame(destination, source, &[], 0x88b5, &[1; 100]);
    let long = frame(B, A, &[], 0x88b5, &[1; 1600]);
    for (port, octets) in [
        (0, plain(B, A)),
        (1, tagged(A, B, 7)),
        (0, plain(B, A)),
        (0, long),
        (0, tagged(B, A, 9)),
        (1, tagged(A, B, 8)),
        (1, plain(A, B)),
    ] {
        let before = (rig.scene.bridges[0].fdb.entries(NOW), rig.totals(port));
        let explained = asked(&mut rig, port as u16, &octets);
        assert_eq!((rig.scene.bridges[0].fdb.entries(NOW), rig.totals(port)), before, "the switch is as it was");
        assert!(rig.inputs[port].push(&octets));
        rig.run(NOW);
        let sent: Vec<(u16, Vec<u8>)> = (0..)
            .zip(&rig.outputs)
            .flat_map(|(port, queue)| queue.drain().into_iter().map(move |sent| (port, sent.octets)))
            .collect();
        let sent: Vec<_> = sent.iter().map(|(port, octets)| (*port, &octets[..])).collect();
        assert_eq!(leaving(&explained), sent, "{port} {octets:02x?}");
    }
    rig.check();
}

#[test]
fn who_is_known_where_and_why_not() {
    let mut rig = rig();
    let plain = frame(B, A, &[], 0x88b5, &[1; 100]);
    let explained = asked(&mut rig, 0, &plain);
    assert_eq!(explained.source, Some([None, Some(PortIndex(0))]));
    assert_eq!(explained.destination, Some(None));
    rig.inputs[0].push(&plain);
    rig.run(NOW);
    let explained = asked(&mut rig, 2, &plain);
    assert_eq!(explained.source, Some([Some(PortIndex(0)), Some(PortIndex(2))]), "it would move");
    let config = GuardConfig { sources: vec!["10.0.0.1/32".parse().expect("a prefix")], ..GuardConfig::default() };
    let live = rig.scene.snapshot(9);
    let arp = frame(
        B,
        A,
        &[],
        0x0806,
        &[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 10, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 3],
    );
    let explained = explain(&live, PortIndex(0), &arp, NOW, |_| Guard::new(&config));
    let fate = Outcome::Dropped { reason: Reason::SourceGuard, port: PortIndex::NONE };
    assert_eq!(explained.seen.iter().map(|(seen, _)| seen.outcome).collect::<Vec<_>>(), [fate]);
    let gone = explain(&live, PortIndex(77), &plain, NOW, |_| None);
    assert!(gone.seen.is_empty());
}
