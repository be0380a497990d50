//! Who gets what on a bridge that snoops? Reports, queries and data through a whole turn.

use shunt_switch::config::PortIndex;
use shunt_switch::reason::Reason;
use shunt_switch::table::mdb::Mdb;
use shunt_switch::table::vlan::VlanConfig;
use shunt_switch::testing::{BridgeSpec, PortSpec, Rig, Scene, frame, igmp_packet, mld_packet};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::{IPV4, IPV6, Mac};
use shunt_switch::wire::vlan::Tag;
use std::sync::Arc;

const GROUP: [u8; 4] = [239, 1, 2, 3];
const OTHER: [u8; 4] = [239, 9, 9, 9];
const HOST: [u8; 4] = [10, 0, 0, 1];
/// 0 and 1 are access ports of VLAN 10, 2 a trunk, 3 is in VLAN 20, 4 gets all groups, 5 reports, 6 is a protected port of VLAN 10.
const PORTS: usize = 7;

fn rig(drop_unregistered: bool) -> Rig {
    let port = |n: usize| {
        let tag = [Some(10), Some(10), None, Some(20), Some(10), Some(10), Some(10)][n];
        let vlan = VlanConfig { tag, ..VlanConfig::default() };
        let (mcast_flood, mcast_flood_reports) = (n == 4, n == 5);
        Some(PortSpec {
            device: n as u16,
            vlan,
            mcast_flood,
            mcast_flood_reports,
            protected: n == 6,
            ..PortSpec::default()
        })
    };
    let mdb = Some(Arc::new(Mdb::new(10, 1)));
    let bridges = vec![BridgeSpec { mdb, drop_unregistered, ..BridgeSpec::default() }];
    Rig::new(Scene { ports: (0..PORTS).map(port).collect(), bridges, workers: 2, ..Scene::default() }, 16)
}

/// Sends IPv4 to a group into a port; the ports that it came out of.
fn send(rig: &mut Rig, port: usize, packet: &[u8]) -> Vec<usize> {
    let group = &packet[17..20];
    let mac = Mac::new([1, 0, 0x5e, group[0] & 0x7f, group[1], group[2]]);
    send_frame(rig, port, mac, IPV4, packet)
}

fn send_frame(rig: &mut Rig, port: usize, to: Mac, ethertype: u16, packet: &[u8]) -> Vec<usize> {
    let tags: &[Tag] = if port == 2 { &[Tag::new(0x8100, 10, 0)] } else { &[] };
    assert!(rig.inputs[port].push(&frame(to, Mac(0x0200_0000_0000 + port as u64), tags, ethertype, packet)));
    rig.run(Instant::from_secs(1));
    rig.check();
    (0..PORTS).filter(|port| !rig.outputs[*port].drain().is_empty()).collect()
}

fn data(group: [u8; 4]) -> Vec<u8> {
    let mut packet = igmp_packet(HOST, group, &[7; 30]);
    packet[9] = 17;
    packet
}

fn report(group: [u8; 4]) -> Vec<u8> {
    igmp_packet(HOST, group, &[&[0x16, 0, 0, 0][..], &group].concat())
}

fn leave(group: [u8; 4]) -> Vec<u8> {
    igmp_packet(HOST, [224, 0, 0, 2], &[&[0x17, 0, 0, 0][..], &group].concat())
}

fn query(source: [u8; 4]) -> Vec<u8> {
    igmp_packet(source, [224, 0, 0, 1], &[0x11, 100, 0, 0, 0, 0, 0, 0])
}

#[test]
fn data_goes_to_members_routers_and_ports_that_flood() {
    let rig = &mut rig(false);
    assert_eq!(send(rig, 0, &data(GROUP)), [1, 2, 4, 5, 6], "nobody has asked");
    assert_eq!(send(rig, 1, &report(GROUP)), [5]);
    assert_eq!(send(rig, 0, &data(GROUP)), [1, 4]);
    assert_eq!(send(rig, 0, &data(OTHER)), [1, 2, 4, 5, 6], "another group");
    assert_eq!(send(rig, 2, &query(HOST)), [0, 1, 4, 5, 6]);
    assert_eq!(send(rig, 0, &data(GROUP)), [1, 2, 4]);
    assert_eq!(send(rig, 0, &report(GROUP)), [2, 5], "routers want reports");
    assert_eq!(send(rig, 1, &data(GROUP)), [0, 2, 4], "not back to where it came from");
    assert_eq!(send(rig, 3, &data(GROUP)), [2], "another VLAN");
    assert_eq!(send(rig, 6, &report(GROUP)), [2, 5]);
    assert_eq!(send(rig, 0, &data(GROUP)), [1, 2, 4, 6]);
    assert_eq!(send(rig, 1, &leave(GROUP)), [2, 5]);
    assert_eq!(send(rig, 2, &data(GROUP)), [0, 4, 6]);
    assert_eq!(send(rig, 0, &data([224, 0, 0, 251])), [1, 2, 4, 5, 6], "for all hosts of the link");
}

#[test]
fn what_nobody_asked_for_goes_to_routers_only_if_so_configured() {
    let rig = &mut rig(true);
    assert_eq!(send(rig, 0, &data(GROUP)), [4]);
    send(rig, 1, &query([0; 4]));
    assert_eq!(send(rig, 0, &data(GROUP)), [4], "a query without a sender's address is from no router");
    send(rig, 1, &query(HOST));
    assert_eq!(send(rig, 0, &data(GROUP)), [1, 4]);
    let before = rig.totals(3).dropped(Reason::NoListener);
    assert_eq!(send(rig, 3, &data(GROUP)), []);
    assert_eq!(rig.totals(3).dropped(Reason::NoListener) - before, 1, "port 4 does not carry VLAN 20");
    assert_eq!(send_frame(rig, 0, Mac(0x0100_5e01_0203), 0x88b5, &[1; 46]), [1, 2, 4, 5, 6], "not IP");
    assert_eq!(send_frame(rig, 0, Mac::BROADCAST, IPV4, &data(GROUP)), [1, 2, 4, 5, 6]);
}

#[test]
fn ports_that_flood_teach_nothing_and_ports_that_see_reports_do_not_leave() {
    let rig = &mut rig(true);
    send(rig, 4, &report(GROUP));
    send(rig, 4, &query(HOST));
    assert!(rig.scene.bridges[0].mdb.as_ref().unwrap().entries(Instant::default()).is_empty());
    send(rig, 5, &report(GROUP));
    send(rig, 5, &leave(GROUP));
    assert_eq!(send(rig, 0, &data(GROUP)), [4, 5]);
}

#[test]
fn ipv6_does_as_ipv4() {
    let rig = &mut rig(true);
    let group = std::net::Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3).octets();
    let mac = Mac(0x3333_0001_0003);
    let report = mld_packet([0xfe; 16], group, &[&[131, 0, 0, 0, 0, 0, 0, 0][..], &group].concat());
    assert_eq!(send_frame(rig, 1, mac, IPV6, &report), [5]);
    let query = mld_packet([0xfe; 16], group, &[&[130, 0, 0, 0, 0, 0, 0, 0][..], &[0; 16]].concat());
    assert_eq!(send_frame(rig, 2, mac, IPV6, &query), [0, 1, 4, 5, 6]);
    let data = mld_packet([0xfe; 16], group, &[128, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(send_frame(rig, 0, mac, IPV6, &data), [1, 2, 4]);
    rig.scene.bridges[0].mdb.as_ref().unwrap().flush_port(PortIndex(1));
    assert_eq!(send_frame(rig, 0, mac, IPV6, &data), [2, 4]);
}
