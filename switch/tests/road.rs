//! What happens to a frame, and what is counted? Frames in, frames out: one row a rule.
//!
//! What a row does not mention must not change: frames are compared in order on every device, and all counters of all
//! ports. Received and sent packets and octets follow from the frames; drops are named.

use Mode::{Access, Dot1qTunnel, NativeUntagged, Trunk};
use shunt_switch::config::PortIndex;
use shunt_switch::limits::FRAME_MAX;
use shunt_switch::reason::Reason;
use shunt_switch::table::vlan::{Mode, VlanConfig};
use shunt_switch::testing::{PortSpec, Rig, Scene, frame};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;
use shunt_switch::wire::vlan::Tag;
use std::collections::{BTreeMap, BTreeSet};

const A: Mac = Mac(0x0200_0000_000a);
const B: Mac = Mac(0x0200_0000_000b);
const C: Mac = Mac(0x0200_0000_000c);
const ALL: Mac = Mac(0xffff_ffff_ffff);
const LLDP: Mac = Mac(0x0180_c200_000e);

/// A device and a frame on it.
type On = (usize, Vec<u8>);

struct Row {
    what: &'static str,
    scene: Scene,
    prepare: fn(&mut Rig),
    /// Each inner list is one burst: the switch comes to rest before the next.
    bursts: Vec<Vec<On>>,
    out: Vec<On>,
    /// Port (`None`: packets of no port), reason, how many.
    drops: Vec<(Option<usize>, Reason, u64)>,
}

fn tag(vid: u16) -> Tag {
    Tag::new(0x8100, vid, 0)
}

fn to(destination: Mac, source: Mac, tags: &[Tag]) -> Vec<u8> {
    frame(destination, source, tags, 0x88b5, &(0..50).collect::<Vec<u8>>())
}

fn access(vlan: u16) -> VlanConfig {
    VlanConfig { mode: Some(Access), tag: Some(vlan), ..VlanConfig::default() }
}

fn trunk(trunks: &[u16]) -> VlanConfig {
    VlanConfig { mode: Some(Trunk), trunks: trunks.to_vec(), ..VlanConfig::default() }
}

/// One bridge, each port on the device of its number.
fn scene(vlans: Vec<VlanConfig>) -> Scene {
    let port = |(i, vlan)| Some(PortSpec { device: i as u16, vlan, ..PortSpec::default() });
    Scene { ports: vlans.into_iter().enumerate().map(port).collect(), ..Scene::default() }
}

fn plain(ports: usize) -> Scene {
    scene(vec![VlanConfig::default(); ports])
}

fn with(mut scene: Scene, change: impl FnOnce(&mut Scene)) -> Scene {
    change(&mut scene);
    scene
}

fn row(what: &'static str, scene: Scene, bursts: Vec<Vec<On>>, out: Vec<On>) -> Row {
    Row { what, scene, prepare: |_| {}, bursts, out, drops: vec![] }
}

fn dropping(row: Row, port: impl Into<Option<usize>>, reason: Reason, count: u64) -> Row {
    let mut row = row;
    row.drops.push((port.into(), reason, count));
    row
}

fn prepared(row: Row, prepare: fn(&mut Rig)) -> Row {
    Row { prepare, ..row }
}

/// An uplink (device 0) shared by two bridges: ports 0 and 1 are its VLANs 181 and 182, ports 2 and 3 a container each.
fn uplink() -> Scene {
    let port = |bridge, device, link_vid| Some(PortSpec { bridge, device, link_vid, ..PortSpec::default() });
    Scene {
        ports: vec![port(0, 0, Some(181)), port(1, 0, Some(182)), port(0, 1, None), port(1, 2, None)],
        bridges: vec![Default::default(), Default::default()],
        ..Scene::default()
    }
}

fn learning() -> Vec<Row> {
    let (ab, ba, ac) = (to(B, A, &[]), to(A, B, &[]), to(C, A, &[]));
    vec![
        row(
            "an unknown destination is flooded, not back",
            plain(3),
            vec![vec![(0, ab.clone())]],
            vec![(1, ab.clone()), (2, ab.clone())],
        ),
        row(
            "a known one is not flooded",
            plain(3),
            vec![vec![(0, ab.clone())], vec![(1, ba.clone())], vec![(0, ab.clone())]],
            vec![(1, ab.clone()), (2, ab.clone()), (0, ba.clone()), (1, ab.clone())],
        ),
        row(
            "a packet finds what those before it taught, in the same burst too",
            plain(3),
            vec![vec![(0, ba.clone()), (0, to(ALL, A, &[])), (0, to(A, C, &[]))]],
            vec![(1, ba.clone()), (1, to(ALL, A, &[])), (2, ba.clone()), (2, to(ALL, A, &[]))],
        )
        .drops_all(&[(Some(0), Reason::Hairpin, 1)]),
        row(
            "a host that moves is found where it is now",
            plain(3),
            vec![vec![(0, to(ALL, A, &[]))], vec![(2, to(ALL, A, &[]))], vec![(1, ba.clone())]],
            vec![
                (1, to(ALL, A, &[])),
                (2, to(ALL, A, &[])),
                (0, to(ALL, A, &[])),
                (1, to(ALL, A, &[])),
                (2, ba.clone()),
            ],
        ),
        prepared(
            row(
                "a static entry never moves",
                plain(3),
                vec![vec![(2, to(ALL, A, &[]))], vec![(1, ba.clone())]],
                vec![(0, to(ALL, A, &[])), (1, to(ALL, A, &[])), (0, ba.clone())],
            ),
            |rig| rig.scene.bridges[0].fdb.add_static(0, A, PortIndex(0)).unwrap(),
        ),
        row(
            "a group address as the source is forwarded and not learned",
            plain(2),
            vec![vec![(0, to(B, Mac(A.0 | 1 << 40), &[]))], vec![(1, to(Mac(A.0 | 1 << 40), B, &[]))]],
            vec![(1, to(B, Mac(A.0 | 1 << 40), &[])), (0, to(Mac(A.0 | 1 << 40), B, &[]))],
        ),
        row(
            "nothing is learned in a flooded VLAN",
            with(plain(3), |scene| scene.bridges[0].flood_vlans = vec![0]),
            vec![vec![(0, to(ALL, A, &[]))], vec![(1, ba.clone())]],
            vec![(1, to(ALL, A, &[])), (2, to(ALL, A, &[])), (0, ba.clone()), (2, ba.clone())],
        ),
        row(
            "the same host is another one in another VLAN",
            scene(vec![access(10), access(20), trunk(&[])]),
            vec![vec![(0, to(ALL, A, &[]))], vec![(2, to(A, B, &[tag(20)]))]],
            vec![(2, to(ALL, A, &[tag(10)])), (1, to(A, B, &[]))],
        ),
        dropping(
            row(
                "the destination is where the frame came from",
                plain(2),
                vec![vec![(0, to(ALL, A, &[]))], vec![(0, to(A, C, &[])), (0, ac.clone())]],
                vec![(1, to(ALL, A, &[]))],
            ),
            0,
            Reason::Hairpin,
            2,
        ),
    ]
}

impl Row {
    fn drops_all(mut self, drops: &[(Option<usize>, Reason, u64)]) -> Self {
        self.drops.extend_from_slice(drops);
        self
    }
}

fn vlans() -> Vec<Row> {
    let short = |tags: &[Tag]| frame(B, A, tags, 0x88b5, &[7; 42]);
    let padded = |octets: Vec<u8>| [octets, vec![0; 60]].concat()[..60].to_vec();
    vec![
        row(
            "an access port's frames leave tagged on a trunk",
            scene(vec![access(10), trunk(&[10]), trunk(&[11])]),
            vec![vec![(0, to(B, A, &[]))]],
            vec![(1, to(B, A, &[tag(10)]))],
        ),
        row(
            "a frame that loses its tag is padded",
            scene(vec![trunk(&[]), access(10)]),
            vec![vec![(0, short(&[tag(10)]))]],
            vec![(1, padded(short(&[])))],
        ),
        row(
            "a runt is padded",
            plain(2),
            vec![vec![(0, to(B, A, &[])[..20].to_vec())]],
            vec![(1, padded(to(B, A, &[])[..20].to_vec()))],
        ),
        row(
            "a tunnel carries a customer's tag",
            scene(vec![VlanConfig { mode: Some(Dot1qTunnel), tag: Some(7), ..VlanConfig::default() }, trunk(&[7])]),
            vec![
                vec![(0, to(B, A, &[tag(99), tag(98)]))],
                vec![(1, to(A, B, &[Tag::new(0x88a8, 7, 0), tag(99), tag(98)]))],
            ],
            vec![(1, to(B, A, &[Tag::new(0x88a8, 7, 0), tag(99), tag(98)])), (0, to(A, B, &[tag(99), tag(98)]))],
        ),
        row(
            "the native VLAN leaves untagged",
            scene(vec![VlanConfig { mode: Some(NativeUntagged), tag: Some(5), ..VlanConfig::default() }, trunk(&[])]),
            vec![vec![(1, to(B, A, &[tag(5)])), (1, to(C, A, &[tag(6)]))], vec![(0, to(A, B, &[]))]],
            vec![(0, to(B, A, &[])), (0, to(C, A, &[tag(6)])), (1, to(A, B, &[tag(5)]))],
        ),
        dropping(
            dropping(
                row(
                    "a tag on an access port",
                    scene(vec![access(10), trunk(&[])]),
                    vec![vec![(0, to(B, A, &[tag(10)]))], vec![(1, to(A, B, &[tag(11)]))]],
                    vec![],
                ),
                0,
                Reason::TaggedOnAccess,
                1,
            ),
            1,
            Reason::FloodEmpty,
            1,
        ),
        dropping(
            row(
                "a VLAN that is not trunked teaches nothing",
                scene(vec![trunk(&[10]), trunk(&[])]),
                vec![vec![(0, to(B, A, &[]))]],
                vec![],
            ),
            0,
            Reason::IngressVlan,
            1,
        ),
        dropping(
            row(
                "a customer's VLAN that the tunnel does not take",
                scene(vec![
                    VlanConfig { mode: Some(Dot1qTunnel), tag: Some(7), cvlans: vec![5], ..VlanConfig::default() },
                    trunk(&[]),
                ]),
                vec![vec![(0, to(B, A, &[tag(6)]))]],
                vec![],
            ),
            0,
            Reason::IngressCvlan,
            1,
        ),
        prepared(
            dropping(
                row(
                    "a known destination on a port without the VLAN",
                    scene(vec![access(10), access(20)]),
                    vec![vec![(0, to(B, A, &[]))]],
                    vec![],
                ),
                0,
                Reason::EgressVlan,
                1,
            ),
            |rig| rig.scene.bridges[0].fdb.add_static(10, B, PortIndex(1)).unwrap(),
        ),
    ]
}

fn uplinks() -> Vec<Row> {
    vec![
        row(
            "bridges share an uplink by VLAN",
            uplink(),
            vec![
                vec![(1, to(ALL, A, &[]))],
                vec![(2, to(ALL, A, &[]))],
                vec![(0, to(A, B, &[tag(181)])), (0, to(A, B, &[tag(182)]))],
            ],
            vec![(0, to(ALL, A, &[tag(181)])), (0, to(ALL, A, &[tag(182)])), (1, to(A, B, &[])), (2, to(A, B, &[]))],
        ),
        row(
            "the link's tag is outside of all that the bridge knows",
            with(uplink(), |scene| scene.ports[2].as_mut().unwrap().vlan = access(10)),
            vec![vec![(0, to(ALL, B, &[tag(181), tag(10)]))], vec![(1, to(B, A, &[]))]],
            vec![(1, to(ALL, B, &[])), (0, to(B, A, &[tag(181), tag(10)]))],
        ),
        row(
            "two VLANs of one link in one bridge",
            with(uplink(), |scene| scene.ports[1].as_mut().unwrap().bridge = 0),
            vec![vec![(0, to(B, A, &[tag(181)]))]],
            vec![(0, to(B, A, &[tag(182)])), (1, to(B, A, &[]))],
        ),
        dropping(
            row(
                "what no bridge claims",
                uplink(),
                vec![vec![
                    (0, to(B, A, &[])),
                    (0, to(B, A, &[tag(183)])),
                    (0, to(B, A, &[tag(0)])),
                    (0, to(B, A, &[Tag::new(0x88a8, 181, 0)])),
                ]],
                vec![],
            ),
            None,
            Reason::NoPort,
            4,
        ),
    ]
}

fn refusals() -> Vec<Row> {
    let ab = to(B, A, &[]);
    let oversized = frame(B, A, &[], 0x88b5, &vec![1; FRAME_MAX - 13]);
    let largest = frame(B, A, &[], 0x88b5, &vec![1; FRAME_MAX - 14]);
    let payload = |len: usize, tags: &[Tag]| frame(B, A, tags, 0x88b5, &vec![3; len]);
    let narrow = |mtu| with(plain(2), move |scene| scene.ports[1].as_mut().unwrap().mtu = mtu);
    vec![
        dropping(
            row("less than a header", plain(2), vec![vec![(0, ab[..13].to_vec()), (0, vec![])]], vec![]),
            0,
            Reason::TruncatedEthernet,
            2,
        ),
        dropping(
            row(
                "half a tag",
                plain(2),
                vec![vec![(0, to(B, A, &[tag(1)])[..16].to_vec()), (0, to(B, A, &[tag(1), tag(2)])[..20].to_vec())]],
                vec![],
            ),
            0,
            Reason::TruncatedVlan,
            2,
        ),
        row("the longest frame", plain(2), vec![vec![(0, largest.clone())]], vec![(1, largest)]),
        dropping(row("one octet more", plain(2), vec![vec![(0, oversized)]], vec![]), 0, Reason::Oversized, 1),
        prepared(
            dropping(
                row("too long for the device", plain(2), vec![vec![(0, ab.clone())]], vec![]),
                1,
                Reason::Oversized,
                1,
            ),
            |rig| rig.outputs[1].set_frame_max(63),
        ),
        row(
            "a payload as long as the MTU, tags not counted",
            narrow(1500),
            vec![vec![(0, payload(1500, &[tag(1), tag(2)]))]],
            vec![(1, payload(1500, &[tag(1), tag(2)]))],
        ),
        dropping(
            row("a payload longer than the MTU", narrow(1500), vec![vec![(0, payload(1501, &[]))]], vec![]),
            1,
            Reason::MtuExceeded,
            1,
        ),
        dropping(
            row(
                "a reserved destination teaches nothing",
                plain(2),
                vec![vec![(0, to(LLDP, A, &[]))], vec![(1, to(A, B, &[]))]],
                vec![(0, to(A, B, &[]))],
            ),
            0,
            Reason::ReservedMulticast,
            1,
        ),
        row(
            "a bridge may forward it",
            with(plain(2), |scene| scene.bridges[0].forward_bpdu = true),
            vec![vec![(0, to(LLDP, A, &[]))]],
            vec![(1, to(LLDP, A, &[]))],
        ),
        dropping(
            row("nobody else in the VLAN", scene(vec![access(10), access(20)]), vec![vec![(0, ab.clone())]], vec![]),
            0,
            Reason::FloodEmpty,
            1,
        ),
        dropping(
            row(
                "protected ports do not talk to each other",
                with(plain(3), |scene| scene.ports[..2].iter_mut().flatten().for_each(|port| port.protected = true)),
                vec![vec![(0, to(ALL, A, &[]))], vec![(1, to(A, B, &[])), (1, to(C, B, &[]))]],
                vec![(2, to(ALL, A, &[])), (2, to(C, B, &[]))],
            ),
            1,
            Reason::Protected,
            1,
        ),
        prepared(
            dropping(
                row("the destination's port is another bridge's", uplink(), vec![vec![(1, ab.clone())]], vec![]),
                2,
                Reason::StalePort,
                1,
            ),
            |rig| rig.scene.bridges[0].fdb.add_static(0, B, PortIndex(3)).unwrap(),
        ),
        prepared(
            dropping(
                row("the destination's port is gone", plain(2), vec![vec![(0, ab.clone())]], vec![]),
                0,
                Reason::StalePort,
                1,
            ),
            |rig| {
                rig.scene.bridges[0].fdb.add_static(0, B, PortIndex(9)).unwrap();
            },
        ),
        prepared(
            dropping(
                row(
                    "the device has no room",
                    plain(3),
                    vec![vec![(0, ab.clone()), (0, ab.clone()), (0, ab.clone())]],
                    vec![(1, ab.clone()), (2, ab.clone()), (2, ab.clone()), (2, ab.clone())],
                ),
                1,
                Reason::TxFull,
                2,
            ),
            |rig| (0..31).for_each(|_| assert!(rig.outputs[1].push(&[]))),
        ),
        prepared(
            dropping(row("the device is down", plain(2), vec![vec![(0, ab.clone())]], vec![]), 1, Reason::TxDown, 1),
            |rig| rig.outputs[1].set_down(true),
        ),
    ]
}

/// Every count that is not 0: (port, name) → count.
fn counts(rig: &Rig) -> BTreeMap<(Option<usize>, &'static str), u64> {
    let mut counts = BTreeMap::new();
    for port in 0..rig.scene.counters.len() {
        let totals = rig.totals(port);
        let own = [
            ("rx_packets", totals.rx_packets),
            ("rx_bytes", totals.rx_bytes),
            ("tx_packets", totals.tx_packets),
            ("tx_bytes", totals.tx_bytes),
        ];
        counts.extend(own.map(|(name, count)| ((Some(port), name), count)));
        counts.extend(Reason::ALL.iter().map(|reason| ((Some(port), reason.name()), totals.dropped(*reason))));
    }
    counts.extend(Reason::ALL.iter().map(|reason| ((None, reason.name()), rig.unattributed(*reason))));
    counts.retain(|_, count| *count > 0);
    counts
}

/// The port that a frame on a device belongs to.
fn port_of(rig: &Rig, device: usize, octets: &[u8]) -> Option<usize> {
    rig.scene.ports.iter().position(|spec| {
        spec.as_ref().is_some_and(|spec| {
            usize::from(spec.device) == device
                && spec.link_vid.is_none_or(|vid| octets[12..].starts_with(&tag(vid).octets()))
        })
    })
}

fn play(row: Row) -> BTreeSet<Reason> {
    let Row { what, scene, prepare, bursts, out, drops } = row;
    let mut rig = Rig::new(scene, 32);
    prepare(&mut rig);
    let mut expected = BTreeMap::new();
    let mut count = |key, n: u64| *expected.entry(key).or_insert(0) += n;
    let mut got: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
    for burst in bursts {
        for (device, octets) in burst {
            assert!(rig.inputs[device].push(&octets));
            if let Some(port) = port_of(&rig, device, &octets) {
                count((Some(port), "rx_packets"), 1);
                count((Some(port), "rx_bytes"), octets.len() as u64);
            }
        }
        rig.run(Instant::from_secs(1));
    }
    for (device, queue) in rig.outputs.iter().enumerate() {
        // Empty ones were put there by a row that wants the queue full.
        let frames: Vec<Vec<u8>> =
            queue.drain().into_iter().map(|sent| sent.octets).filter(|octets| !octets.is_empty()).collect();
        if !frames.is_empty() {
            got.insert(device, frames);
        }
    }
    let mut wanted: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
    for (device, octets) in out {
        let port = port_of(&rig, device, &octets);
        count((port, "tx_packets"), 1);
        count((port, "tx_bytes"), octets.len() as u64);
        wanted.entry(device).or_default().push(octets);
    }
    assert_eq!(got, wanted, "{what}: frames");
    drops.iter().for_each(|(port, reason, n)| count((*port, reason.name()), *n));
    expected.retain(|_, count| *count > 0);
    assert_eq!(counts(&rig), expected, "{what}: counters");
    rig.check();
    drops.into_iter().map(|(_, reason, _)| reason).collect()
}

#[test]
fn every_row() {
    let rows = [learning(), vlans(), uplinks(), refusals()];
    let seen: BTreeSet<Reason> = rows.into_iter().flatten().flat_map(play).collect();
    // The kernel's own drops are counted by the port; the crossing, mirrors, limits and the router have tests of their own.
    let elsewhere = [
        Reason::RxNoFrame,
        Reason::RxRingFull,
        Reason::RxKernel,
        Reason::Descriptor,
        Reason::DeviceTx,
        Reason::CrossingFull,
        Reason::NoListener,
        Reason::MirrorIngress,
        Reason::MirrorEgress,
        Reason::SourceGuard,
        Reason::PolicedRate,
        Reason::PolicedPackets,
        Reason::StormBroadcast,
        Reason::StormUnknown,
        Reason::StormMulticast,
        Reason::MacFlap,
        Reason::MacLimit,
        Reason::IpHeader,
        Reason::Martian,
        Reason::RouteBlackhole,
        Reason::ExceptionsLimited,
    ];
    let missing: Vec<_> =
        Reason::ALL.iter().filter(|reason| !seen.contains(reason) && !elsewhere.contains(reason)).collect();
    assert!(missing.is_empty(), "no row drops for {missing:?}");
}
