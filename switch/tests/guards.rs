//! What do a port's limits stop, under which reason, and what do they leave alone?

use shunt_switch::config::PortIndex;
use shunt_switch::reason::Reason;
use shunt_switch::table::fdb::Learned;
use shunt_switch::table::guard::{GuardConfig, MacLimits};
use shunt_switch::testing::{PortSpec, Rig, Scene, frame};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;

const GROUP: Mac = Mac(0x0100_5e00_0001);

fn host(number: u64) -> Mac {
    Mac(0x0200_0000_0000 + number)
}

/// Three ports on one bridge, ports 0 and 1 with these limits.
fn rig(guard: &GuardConfig, workers: usize) -> Rig {
    let port = |device| {
        let guard = if device < 2 { guard.clone() } else { GuardConfig::default() };
        Some(PortSpec { device, guard, ..PortSpec::default() })
    };
    Rig::new(Scene { ports: (0..3).map(port).collect(), workers, ..Scene::default() }, 512)
}

fn macs(macs: MacLimits) -> GuardConfig {
    GuardConfig { macs, ..GuardConfig::default() }
}

/// Sends `count` frames into `device`, and says how many the port has dropped so far for each of its reasons.
fn send(rig: &mut Rig, device: usize, destination: Mac, source: Mac, count: usize, now: Instant) -> Vec<(Reason, u64)> {
    for _ in 0..count {
        assert!(rig.inputs[device].push(&frame(destination, source, &[], 0x88b5, &[0; 86])));
    }
    rig.run(now);
    rig.check();
    for queue in &rig.outputs {
        queue.discard();
    }
    let totals = rig.totals(device);
    Reason::ALL.iter().map(|reason| (*reason, totals.dropped(*reason))).filter(|(_, n)| *n > 0).collect()
}

#[test]
fn a_port_is_policed_before_anything_is_learned() {
    // 8 kbit are ten frames of 100 octets; 100 kbit/s one such in 8 ms.
    let guard = GuardConfig { rate_kbps: 100, burst_kb: 8, ..GuardConfig::default() };
    let mut rig = rig(&guard, 2);
    let now = Instant::from_secs(10);
    assert_eq!(send(&mut rig, 0, host(9), host(1), 25, now), [(Reason::PolicedRate, 15)]);
    assert_eq!(send(&mut rig, 0, host(9), host(2), 1, now), [(Reason::PolicedRate, 16)]);
    assert_eq!(rig.scene.bridges[0].fdb.lookup(0, host(2)), None);
    assert_eq!(send(&mut rig, 0, host(9), host(2), 5, Instant(now.0 + 16_000_000)), [(Reason::PolicedRate, 19)]);
    assert_eq!(send(&mut rig, 2, host(9), host(3), 50, now), [], "another port is not");
}

#[test]
fn packets_are_policed_too() {
    let guard = GuardConfig { rate_kpps: 1, burst_kpkts: 1, ..GuardConfig::default() };
    let mut rig = rig(&guard, 1);
    let now = Instant::from_secs(10);
    for _ in 0..4 {
        assert_eq!(send(&mut rig, 0, host(9), host(1), 250, now), []);
    }
    assert_eq!(send(&mut rig, 0, host(9), host(1), 7, now), [(Reason::PolicedPackets, 7)]);
}

#[test]
fn floods_are_limited_by_kind_and_known_destinations_are_not() {
    let guard = GuardConfig { broadcast_pps: 5, unknown_pps: 10, multicast_pps: 20, ..GuardConfig::default() };
    let mut rig = rig(&guard, 1);
    let now = Instant::from_secs(10);
    assert_eq!(send(&mut rig, 0, Mac::BROADCAST, host(1), 30, now), [(Reason::StormBroadcast, 25)]);
    let after = send(&mut rig, 0, host(9), host(1), 30, now);
    assert_eq!(after, [(Reason::StormBroadcast, 25), (Reason::StormUnknown, 20)]);
    let after = send(&mut rig, 0, GROUP, host(1), 30, now);
    let all = [(Reason::StormBroadcast, 25), (Reason::StormUnknown, 20), (Reason::StormMulticast, 10)];
    assert_eq!(after, all);
    assert_eq!(send(&mut rig, 2, Mac::BROADCAST, host(9), 30, now), []);
    assert_eq!(send(&mut rig, 0, host(9), host(1), 200, now), all, "it is known now");
    // A second later as many may pass again; the other port has limits of its own.
    assert_eq!(send(&mut rig, 0, Mac::BROADCAST, host(1), 6, Instant::from_secs(11))[0], (Reason::StormBroadcast, 26));
    assert_eq!(send(&mut rig, 1, Mac::BROADCAST, host(2), 6, now), [(Reason::StormBroadcast, 1)]);
}

#[test]
fn a_port_teaches_as_many_addresses_as_it_may() {
    let mut rig = rig(&macs(MacLimits { learned_max: 3, ..MacLimits::default() }), 1);
    let now = Instant::from_secs(10);
    for number in 1..=3 {
        assert_eq!(send(&mut rig, 0, host(99), host(number), 1, now), []);
    }
    assert_eq!(send(&mut rig, 0, host(99), host(4), 5, now), [(Reason::MacLimit, 5)]);
    assert_eq!(send(&mut rig, 0, host(99), host(2), 1, now), [(Reason::MacLimit, 5)], "a known one passes");
    // Nor may a fourth come over from another port; it stays known there.
    assert_eq!(send(&mut rig, 2, host(99), host(5), 1, now), []);
    assert_eq!(send(&mut rig, 0, host(99), host(5), 1, now), [(Reason::MacLimit, 6)]);
    assert_eq!(rig.scene.bridges[0].fdb.lookup(0, host(5)), Some(PortIndex(2)));
    // Whoever is forgotten makes room.
    assert!(rig.scene.bridges[0].fdb.remove(0, host(1)));
    assert_eq!(send(&mut rig, 0, host(99), host(4), 1, now), [(Reason::MacLimit, 6)]);
    assert_eq!(rig.scene.bridges[0].fdb.lookup(0, host(4)), Some(PortIndex(0)));
}

#[test]
fn a_restless_address_is_held_where_it_is_for_the_window() {
    let mut rig = rig(&macs(MacLimits { moves_max: 2, window_ms: 10_000, ..MacLimits::default() }), 1);
    let at = |seconds| Instant::from_secs(seconds);
    let fdb = rig.scene.bridges[0].fdb.clone();
    assert_eq!(send(&mut rig, 0, host(99), host(1), 1, at(100)), []);
    assert_eq!(send(&mut rig, 1, host(99), host(1), 1, at(101)), []);
    assert_eq!(send(&mut rig, 0, host(99), host(1), 1, at(102)), []);
    assert!(fdb.held(at(102)).is_empty());
    // The third move within ten seconds is refused.
    assert_eq!(send(&mut rig, 1, host(99), host(1), 4, at(103)), [(Reason::MacFlap, 4)]);
    assert_eq!(fdb.lookup(0, host(1)), Some(PortIndex(0)));
    assert_eq!(fdb.held(at(103)), [[PortIndex(0), PortIndex(1)]]);
    // A port without limits does not take it away either; where it is held it is served.
    assert_eq!(send(&mut rig, 2, host(99), host(1), 3, at(105)), [(Reason::MacFlap, 3)]);
    assert_eq!(send(&mut rig, 0, host(99), host(1), 1, at(106)), []);
    assert_eq!(send(&mut rig, 1, host(99), host(1), 1, at(112)), [(Reason::MacFlap, 5)]);
    // The hold ends ten seconds after it began, however often the address came meanwhile.
    assert_eq!(send(&mut rig, 1, host(99), host(1), 1, at(113)), [(Reason::MacFlap, 5)]);
    assert_eq!(fdb.lookup(0, host(1)), Some(PortIndex(1)));
    assert!(fdb.held(at(113)).is_empty());
}

#[test]
fn moves_that_are_far_apart_are_free() {
    let mut rig = rig(&macs(MacLimits { moves_max: 1, window_ms: 5000, ..MacLimits::default() }), 1);
    for step in 0..20 {
        let now = Instant::from_secs(100 + 5 * step);
        assert_eq!(send(&mut rig, step as usize % 2, host(99), host(1), 1, now), []);
    }
    // Other addresses are not concerned, and ports without limits may exchange theirs at will.
    let fdb = &rig.scene.bridges[0].fdb;
    let none = |_| MacLimits::default();
    fdb.learn_within(0, host(2), PortIndex(2), Instant::from_secs(300), none);
    for step in 0..20 {
        let learned = fdb.learn_within(0, host(2), PortIndex(3 + step % 2), Instant::from_secs(300), none);
        assert!(matches!(learned, Learned::Moved(_)));
    }
}

#[test]
fn a_static_address_is_not_a_restless_one() {
    let mut rig = rig(&macs(MacLimits { moves_max: 1, window_ms: 5000, learned_max: 1 }), 1);
    rig.scene.bridges[0].fdb.add_static(0, host(1), PortIndex(2)).unwrap();
    let now = Instant::from_secs(100);
    for port in [0, 1, 0, 1] {
        assert_eq!(send(&mut rig, port, host(99), host(1), 2, now), []);
    }
    // Nor does it use the port up.
    rig.scene.bridges[0].fdb.add_static(0, host(3), PortIndex(0)).unwrap();
    assert_eq!(send(&mut rig, 0, host(99), host(4), 1, now), []);
    assert_eq!(send(&mut rig, 0, host(99), host(5), 1, now), [(Reason::MacLimit, 1)]);
}
