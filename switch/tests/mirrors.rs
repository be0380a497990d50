//! Who gets copies when a bridge has mirrors, in what form, and how often?

use shunt_switch::config::PortIndex;
use shunt_switch::reason::Reason;
use shunt_switch::table::mirror::{MirrorConfig, Output};
use shunt_switch::table::vlan::{Mode, VlanConfig};
use shunt_switch::testing::{PortSpec, Rig, Scene, frame};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;
use shunt_switch::wire::vlan::Tag;

const A: Mac = Mac(0x0200_0000_000a);
const B: Mac = Mac(0x0200_0000_000b);
const LLDP: Mac = Mac(0x0180_c200_000e);

fn access(vlan: u16) -> VlanConfig {
    VlanConfig { tag: Some(vlan), ..VlanConfig::default() }
}

fn tag(vid: u16) -> Tag {
    Tag::new(0x8100, vid, 0)
}

fn to(destination: Mac, source: Mac, tags: &[Tag]) -> Vec<u8> {
    frame(destination, source, tags, 0x88b5, &(0..100).collect::<Vec<u8>>())
}

fn mirror(sources: &[u16], destinations: &[u16], output: Output) -> MirrorConfig {
    let ports = |list: &[u16]| list.iter().map(|port| PortIndex(*port)).collect();
    let (sources, destinations) = (ports(sources), ports(destinations));
    let counters = (0..2).map(|_| Default::default()).collect();
    MirrorConfig { sources, destinations, vlans: vec![], output, snaplen: None, counters }
}

const fn span(port: u16) -> Output {
    Output::Port(PortIndex(port))
}

/// One bridge, each port on the device of its number; ports 0 and 1 know each other in VLAN 10.
fn rig(vlans: &[VlanConfig], mirrors: Vec<MirrorConfig>, workers: usize) -> Rig {
    let port = |(i, vlan): (usize, &VlanConfig)| {
        Some(PortSpec { device: i as u16, vlan: vlan.clone(), ..PortSpec::default() })
    };
    let mut scene = Scene { ports: vlans.iter().enumerate().map(port).collect(), workers, ..Scene::default() };
    scene.bridges[0].mirrors = mirrors;
    Rig::new(scene, 64)
}

fn plain(vlans: &[VlanConfig], mirrors: Vec<MirrorConfig>) -> Rig {
    rig(vlans, mirrors, 1)
}

/// What each device sent of `octets`, which came in by `device`.
fn sent(rig: &mut Rig, device: usize, octets: &[u8]) -> Vec<Vec<Vec<u8>>> {
    assert!(rig.inputs[device].push(octets));
    rig.run(Instant::from_secs(1));
    rig.check();
    rig.outputs.iter().map(|queue| queue.drain().into_iter().map(|sent| sent.octets).collect()).collect()
}

fn counts(rig: &Rig, mirror: usize) -> (u64, u64) {
    let counters = &rig.scene.bridges[0].mirrors[mirror].counters;
    counters.iter().fold((0, 0), |(p, o), own| (p + own.packets.get(), o + own.octets.get()))
}

#[test]
fn a_span_port_gets_what_comes_in_and_goes_out_once() {
    let all = [0, 1, 2, 3];
    let mut rig = plain(&[access(10), access(10), VlanConfig::default(), access(7)], vec![mirror(&all, &all, span(3))]);
    // Flooded: selected at port 0 and at ports 1 and 2; the output is an access port: untagged, though it does not carry VLAN 10.
    let out = sent(&mut rig, 0, &to(B, A, &[]));
    assert_eq!(out, [vec![], vec![to(B, A, &[])], vec![to(B, A, &[tag(10)])], vec![to(B, A, &[])]]);
    let out = sent(&mut rig, 2, &to(A, B, &[tag(10)]));
    assert_eq!(out, [vec![to(A, B, &[])], vec![], vec![], vec![to(A, B, &[])]]);
    assert_eq!(counts(&rig, 0), (2, 114 + 118));
    assert_eq!(rig.totals(3).tx_packets, 2);
}

#[test]
fn only_the_selected_direction_is_mirrored() {
    let ports = vec![VlanConfig::default(); 4];
    for (mirrors, from_0, from_1) in [
        (vec![mirror(&[0], &[], span(3))], 1, 0),
        (vec![mirror(&[], &[0], span(3))], 0, 1),
        (vec![mirror(&[], &[1, 2], span(3))], 1, 1),
        (vec![mirror(&[], &[], span(3))], 0, 0),
    ] {
        let mut rig = plain(&ports, mirrors);
        assert_eq!(sent(&mut rig, 0, &to(B, A, &[]))[3].len(), from_0);
        // B is not known yet, A is: it goes to port 0 alone; but for that, port 2 gets it too.
        assert_eq!(sent(&mut rig, 1, &to(Mac::BROADCAST, B, &[]))[3].len(), from_1);
    }
}

#[test]
fn a_mirror_port_serves_for_nothing_else() {
    let mut rig = plain(&vec![VlanConfig::default(); 3], vec![mirror(&[], &[], span(2))]);
    assert_eq!(sent(&mut rig, 0, &to(B, A, &[])), [vec![], vec![to(B, A, &[])], vec![]]);
    assert_eq!(sent(&mut rig, 2, &to(A, B, &[])), vec![Vec::<Vec<u8>>::new(); 3]);
    assert_eq!(rig.totals(2).dropped(Reason::MirrorIngress), 1);
    assert_eq!(rig.scene.bridges[0].fdb.lookup(0, B), None, "nothing is learned from it");
    // What was learned before it became one leads nowhere.
    rig.scene.bridges[0].fdb.add_static(0, B, PortIndex(2)).unwrap();
    assert_eq!(sent(&mut rig, 0, &to(B, A, &[])), vec![Vec::<Vec<u8>>::new(); 3]);
    assert_eq!(rig.totals(0).dropped(Reason::MirrorEgress), 1);
}

#[test]
fn vlans_select_and_a_frame_that_may_not_come_in_is_not_mirrored() {
    let by_vlan = MirrorConfig { vlans: vec![20], ..mirror(&[0, 1], &[], span(2)) };
    let mut rig =
        plain(&[VlanConfig { trunks: vec![10, 20], ..VlanConfig::default() }, access(20), access(0)], vec![by_vlan]);
    assert_eq!(sent(&mut rig, 0, &to(B, A, &[tag(10)]))[2].len(), 0);
    assert_eq!(sent(&mut rig, 0, &to(B, A, &[tag(20)]))[2], [to(B, A, &[])]);
    assert_eq!(sent(&mut rig, 1, &to(A, B, &[]))[2], [to(A, B, &[])]);
    assert_eq!(sent(&mut rig, 0, &to(B, A, &[tag(30)]))[2].len(), 0);
    assert_eq!(rig.totals(0).dropped(Reason::IngressVlan), 1);
    assert_eq!(counts(&rig, 0).0, 2);
}

#[test]
fn what_is_dropped_later_was_there_and_is_mirrored() {
    let mut rig = plain(&vec![VlanConfig::default(); 3], vec![mirror(&[0], &[], span(2))]);
    assert_eq!(sent(&mut rig, 0, &to(LLDP, A, &[]))[2], [to(LLDP, A, &[])]);
    assert_eq!(sent(&mut rig, 0, &to(A, A, &[]))[2], [to(A, A, &[])]);
    assert_eq!(rig.totals(0).dropped(Reason::ReservedMulticast), 1);
    assert_eq!(rig.totals(0).dropped(Reason::Hairpin), 1);
}

#[test]
fn an_output_vlan_reaches_all_ports_that_carry_it() {
    // Port 1 is a trunk, 2 a probe in VLAN 99, 3 does not carry it.
    let ports = [access(10), VlanConfig::default(), access(99), access(10)];
    let mut rig = plain(&ports, vec![mirror(&[0, 1], &[], Output::Vlan(99))]);
    let out = sent(&mut rig, 0, &to(B, A, &[]));
    assert_eq!(out[0], Vec::<Vec<u8>>::new());
    assert_eq!(out[1], [to(B, A, &[tag(10)]), to(B, A, &[tag(99)])]);
    assert_eq!(out[2..], [vec![to(B, A, &[])], vec![to(B, A, &[])]]);
    // Also back to where it came from, if that carries the VLAN; the priority stays.
    let urgent = |vid| to(A, B, &[Tag::new(0x8100, vid, 5)]);
    let out = sent(&mut rig, 1, &urgent(10));
    assert_eq!(out, [vec![to(A, B, &[])], vec![urgent(99)], vec![to(A, B, &[])], vec![]]);
    // Not what is in that VLAN anyway, nor what is addressed to bridges.
    assert_eq!(sent(&mut rig, 1, &to(Mac::BROADCAST, B, &[tag(99)]))[2].len(), 1);
    assert_eq!(sent(&mut rig, 1, &to(LLDP, B, &[tag(10)])), vec![Vec::<Vec<u8>>::new(); 4]);
    assert_eq!(counts(&rig, 0).0, 4, "the mirror took them all the same");
}

#[test]
fn a_packet_leaves_in_the_form_of_the_port_where_it_was_seen() {
    let tunnel = VlanConfig { mode: Some(Mode::Dot1qTunnel), tag: Some(10), ..VlanConfig::default() };
    let ports = [tunnel.clone(), tunnel, VlanConfig::default(), VlanConfig::default()];
    let outer = Tag::new(0x88a8, 10, 0);
    // Seen when it comes in: the service tag is put on for the trunk behind the mirror.
    let mut rig = plain(&ports, vec![mirror(&[0], &[], span(3))]);
    assert_eq!(sent(&mut rig, 0, &to(B, A, &[tag(5)]))[3], [to(B, A, &[outer, tag(5)])]);
    // Seen when it goes out by a trunk, then sent in another VLAN.
    let mut rig = plain(&ports, vec![mirror(&[], &[2], Output::Vlan(99))]);
    let out = sent(&mut rig, 0, &to(B, A, &[tag(5)]));
    assert_eq!(out[3], [to(B, A, &[outer, tag(5)]), to(B, A, &[Tag::new(0x88a8, 99, 0), tag(5)])]);
    // Seen when it goes out by the other end of the tunnel.
    let mut rig = plain(&ports, vec![mirror(&[], &[1], span(3))]);
    assert_eq!(sent(&mut rig, 0, &to(B, A, &[tag(5)]))[3], [to(B, A, &[outer, tag(5)])]);
}

#[test]
fn two_mirrors_with_one_output_copy_once_and_with_two_outputs_twice() {
    let ports = vec![VlanConfig::default(); 5];
    let all = [0, 1, 2, 3, 4];
    let mut rig = plain(&ports, vec![mirror(&[0], &[], span(3)), mirror(&[], &[1], span(3))]);
    let out = sent(&mut rig, 0, &to(B, A, &[]));
    assert_eq!(out[3].len(), 1);
    assert_eq!((counts(&rig, 0).0, counts(&rig, 1).0), (1, 0));
    let mut rig = plain(&ports, vec![mirror(&all, &all, span(3)), mirror(&all, &all, span(4))]);
    let out = sent(&mut rig, 0, &to(B, A, &[]));
    assert_eq!(out.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1, 1, 1, 1]);
    assert_eq!((counts(&rig, 0).0, counts(&rig, 1).0), (1, 1));
}

#[test]
fn snaplen_cuts_the_frame_that_leaves() {
    let frame = to(B, A, &[tag(7)]);
    for (snaplen, len) in [(14, 60), (60, 60), (64, 64), (117, 117), (118, 118), (65535, 118)] {
        let config = MirrorConfig { snaplen: Some(snaplen), ..mirror(&[0], &[], span(2)) };
        let out = sent(&mut plain(&vec![VlanConfig::default(); 3], vec![config]), 0, &frame);
        let copy = &out[2][0];
        let kept = usize::from(snaplen).min(118);
        assert_eq!((copy.len(), &copy[..kept.min(len)]), (len, &frame[..kept.min(len)]), "{snaplen}");
        assert!(copy[kept..].iter().all(|octet| *octet == 0), "{snaplen}: padding");
        assert_eq!(out[1], std::slice::from_ref(&frame), "the packet itself is whole");
    }
}

#[test]
fn protected_ports_are_not_mirrored_to_each_other() {
    let mut rig = plain(&vec![VlanConfig::default(); 3], vec![mirror(&[0, 1], &[], span(2))]);
    for port in [0, 2] {
        rig.scene.ports[port].as_mut().unwrap().protected = true;
    }
    rig.install();
    assert_eq!(sent(&mut rig, 0, &to(Mac::BROADCAST, A, &[]))[2].len(), 0);
    assert_eq!(sent(&mut rig, 1, &to(Mac::BROADCAST, B, &[]))[2].len(), 1);
}

#[test]
fn copies_cross_to_the_worker_that_has_the_output() {
    let ports = [access(10), access(10), access(10), VlanConfig::default()];
    let cut = MirrorConfig { snaplen: Some(64), ..mirror(&[0], &[], span(3)) };
    let mut rig = rig(&ports, vec![cut, mirror(&[0], &[], Output::Vlan(99))], 2);
    let mut short = to(B, A, &[tag(10)]);
    short.truncate(64);
    // Ports 1 and 3 belong to the other worker.
    let out = sent(&mut rig, 0, &to(B, A, &[]));
    assert_eq!(out, [vec![], vec![to(B, A, &[])], vec![to(B, A, &[])], vec![short]]);
    assert_eq!(counts(&rig, 0).0, 1);
    assert!(rig.workers().any(|worker| worker.crossed.get() == 2), "its own way, and the mirror's");
}

#[test]
fn unfinished_checksums_are_finished_in_copies_too() {
    // UDP in IPv4 with the pseudo-header's sum in its checksum, to an address that is reserved: dropped, and mirrored.
    let ip = [0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    let datagram = [0, 9, 0, 9, 0, 26, 0x14, 0x2e, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18];
    let octets = frame(LLDP, A, &[], 0x0800, &[&ip[..], &datagram].concat());
    let sum = |octets: &[u8]| {
        let words = octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
        (words & 0xffff) + (words >> 16)
    };
    // Addresses, protocol and length are what the field held.
    assert_eq!(sum(&[&ip[12..20], &[0, 17, 0, 26]].concat()), 0x142e);
    for snaplen in [None, Some(58), Some(40)] {
        let config = MirrorConfig { snaplen, ..mirror(&[0], &[], span(2)) };
        let mut rig = plain(&vec![VlanConfig::default(); 3], vec![config]);
        rig.scene.partial = vec![0];
        rig.scene.ports[2].as_mut().unwrap().complete_checksums = snaplen.is_none();
        rig.install();
        let copy = sent(&mut rig, 0, &octets)[2].remove(0);
        let complete = u32::from(copy[40]) << 8 | u32::from(copy[41]);
        let data = sum(&datagram[8..]) + 0x142e + u32::from(9u16) * 2 + 26;
        let wanted = !((data & 0xffff) + (data >> 16)) & 0xffff;
        assert_eq!(complete, if snaplen == Some(40) { 0 } else { wanted }, "{snaplen:?}");
    }
}
