//! Which packets are told of, and is what is told true?

use shunt_switch::config::PortIndex;
use shunt_switch::limits::{TAP_RECORDS, VLANS};
use shunt_switch::port::fault::Dice;
use shunt_switch::reason::Reason;
use shunt_switch::table::bucket::Bucket;
use shunt_switch::table::sampler::{Sampler, Sampling};
use shunt_switch::table::vlan::{Mode, VlanConfig};
use shunt_switch::tap::{Cause, Outcome, Record, Vlan};
use shunt_switch::testing::{PortSpec, Rig, Scene, frame};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;
use shunt_switch::wire::vlan::Tag;
use std::sync::Arc;

const A: Mac = Mac(0x0200_0000_000a);
const B: Mac = Mac(0x0200_0000_000b);
const LLDP: Mac = Mac(0x0180_c200_000e);
const ALL: Mac = Mac(0xffff_ffff_ffff);

/// One in `rate`; drops are told of, up to `notices` at once.
fn sampling(rate: u32, notices: Option<u64>, seed: u64, workers: u64) -> Option<Arc<Sampling>> {
    let samplers = (0..workers).map(|worker| Sampler::new(seed << 8 | worker)).collect();
    let notices = notices.map(|burst| Arc::new(Bucket::new(burst, burst)));
    Some(Arc::new(Sampling { rate, header: 128, notices, samplers }))
}

fn access(vlan: u16) -> VlanConfig {
    VlanConfig { tag: Some(vlan), ..VlanConfig::default() }
}

fn port(device: u16, vlan: VlanConfig, sampling: Option<Arc<Sampling>>) -> PortSpec {
    PortSpec { device, vlan, sampling, ..PortSpec::default() }
}

fn rig(ports: Vec<PortSpec>, workers: usize) -> Rig {
    Rig::new(Scene { ports: ports.into_iter().map(Some).collect(), workers, ..Scene::default() }, 256)
}

fn to(destination: Mac, source: Mac, tags: &[Tag]) -> Vec<u8> {
    frame(destination, source, tags, 0x88b5, &(0..200).collect::<Vec<u8>>())
}

/// What all workers told, in their order.
fn told(rig: &mut Rig) -> Vec<(Record, Vec<u8>)> {
    let mut all = Vec::new();
    for (_, handle) in &mut rig.crew {
        let mut octets = Vec::new();
        while let Some(record) = handle.tap.next(&mut octets) {
            all.push((record, octets.clone()));
        }
    }
    all
}

fn discard(rig: &Rig) {
    for queue in &rig.outputs {
        queue.discard();
    }
}

/// The records about `octets`, which came in by `device`.
fn about(rig: &mut Rig, device: usize, octets: &[u8]) -> Vec<Record> {
    assert!(rig.inputs[device].push(octets));
    rig.run(Instant::from_secs(1));
    rig.check();
    discard(rig);
    let told = told(rig);
    for (record, caught) in &told {
        assert_eq!((record.len as usize, record.at), (octets.len(), Instant::from_secs(1)));
        assert_eq!(caught[..], octets[..octets.len().min(128)], "as received");
    }
    told.into_iter().map(|(record, _)| record).collect()
}

fn vlan(vid: u16, pcp: u8) -> Option<Vlan> {
    Some(Vlan { vid, pcp })
}

/// Dell's switches told no priority, and no VLAN of what goes to several ports.
#[test]
fn a_sample_says_where_the_packet_came_in_and_left() {
    let every = || sampling(1, None, 1, 1);
    let trunk = VlanConfig { mode: Some(Mode::Trunk), trunks: vec![181, 182], ..VlanConfig::default() };
    let ports = vec![port(0, access(181), every()), port(1, trunk, every()), port(2, access(181), every())];
    let mut rig = rig(ports, 1);
    let sent = |records: Vec<Record>| {
        let [record] = records[..] else { panic!("one record, not {records:?}") };
        assert_eq!((record.cause, record.routed_from), (Cause::Sampled(1), PortIndex::NONE));
        (record.port.0, record.vlan_in, record.vlan_out, record.outcome)
    };
    assert_eq!(
        sent(about(&mut rig, 0, &to(B, A, &[]))),
        (0, vlan(181, 0), vlan(181, 0), Outcome::Flooded(2)),
        "a multiple destination has its VLAN, too"
    );
    let tagged = to(A, B, &[Tag::new(0x8100, 181, 5)]);
    assert_eq!(
        sent(about(&mut rig, 1, &tagged)),
        (1, vlan(181, 5), vlan(181, 0), Outcome::Sent(PortIndex(0))),
        "the priority is on the tag that came in, and none leaves"
    );
    assert_eq!(sent(about(&mut rig, 0, &to(B, A, &[]))), (0, vlan(181, 0), vlan(181, 0), Outcome::Sent(PortIndex(1))));
    assert_eq!(
        sent(about(&mut rig, 0, &to(LLDP, A, &[]))),
        (0, vlan(181, 0), None, Outcome::Dropped { reason: Reason::ReservedMulticast, port: PortIndex::NONE })
    );
    assert_eq!(
        sent(about(&mut rig, 1, &to(A, B, &[Tag::new(0x8100, 183, 0)]))),
        (1, None, None, Outcome::Dropped { reason: Reason::IngressVlan, port: PortIndex::NONE }),
        "what may not come in has no VLAN"
    );
    // One port of three carries VLAN 182: nobody else does.
    assert_eq!(
        sent(about(&mut rig, 1, &to(ALL, B, &[Tag::new(0x8100, 182, 0)]))),
        (1, vlan(182, 0), None, Outcome::Dropped { reason: Reason::FloodEmpty, port: PortIndex::NONE })
    );
}

#[test]
fn a_vlan_of_an_uplink_is_the_vlan_of_its_port() {
    let every = || sampling(1, None, 1, 1);
    let of_uplink = |vid| PortSpec { link_vid: Some(vid), ..port(0, VlanConfig::default(), every()) };
    let inside = PortSpec { bridge: 0, ..port(1, VlanConfig::default(), every()) };
    let mut rig = rig(vec![of_uplink(181), of_uplink(182), inside], 1);
    let records = about(&mut rig, 0, &to(A, B, &[Tag::new(0x8100, 181, 3)]));
    assert_eq!((records[0].port, records[0].vlan_in), (PortIndex(0), vlan(181, 3)));
    let records = about(&mut rig, 1, &to(B, A, &[]));
    assert_eq!((records[0].vlan_in, records[0].vlan_out), (vlan(0, 0), vlan(181, 0)));
    assert_eq!(records[0].outcome, Outcome::Sent(PortIndex(0)));
    // A burst of both VLANs: each port has its own sampler.
    for vid in [181, 182, 182, 181, 182] {
        assert!(rig.inputs[0].push(&to(A, B, &[Tag::new(0x8100, vid, 0)])));
    }
    assert!(rig.inputs[0].push(&to(A, B, &[Tag::new(0x8100, VLANS as u16 - 1, 0)])), "of no port");
    rig.run(Instant::from_secs(2));
    let ports: Vec<_> = told(&mut rig).iter().map(|(record, _)| record.port.0).collect();
    assert_eq!(ports, [0, 1, 1, 0, 1]);
}

#[test]
fn a_copy_that_does_not_leave_is_a_drop_on_its_port() {
    let notices = || sampling(0, Some(100), 1, 1);
    let mut rig = rig(
        vec![
            port(0, access(10), notices()),
            PortSpec { mtu: 150, ..port(1, access(10), notices()) },
            port(2, access(10), None),
        ],
        1,
    );
    assert_eq!(about(&mut rig, 1, &to(ALL, B, &[])), [], "what leaves is nothing to tell of");
    let outcome = |records: Vec<Record>| {
        assert!(records.iter().all(|record| record.cause == Cause::Dropped));
        records.into_iter().map(|record| (record.port.0, record.outcome)).collect::<Vec<_>>()
    };
    let dropped = |reason, port| Outcome::Dropped { reason, port };
    let lost = |reason| vec![(0, dropped(reason, PortIndex(1)))];
    assert_eq!(outcome(about(&mut rig, 0, &to(B, A, &[]))), lost(Reason::MtuExceeded));
    let short = frame(B, A, &[], 0x88b5, &[0; 100]);
    rig.outputs[1].set_down(true);
    assert_eq!(outcome(about(&mut rig, 0, &short)), lost(Reason::TxDown));
    rig.outputs[1].set_down(false);
    assert_eq!(about(&mut rig, 0, &short), []);
    // Port 2 wants nothing to be known.
    assert_eq!(about(&mut rig, 2, &to(LLDP, A, &[])), []);
}

#[test]
fn of_a_burst_those_are_told_of_that_found_no_room() {
    let ports = vec![port(0, access(10), sampling(1, Some(1000), 1, 1)), port(1, access(10), None)];
    let mut rig = rig(ports, 1);
    about(&mut rig, 1, &to(ALL, B, &[]));
    rig.outputs[1].set_frame_max(100);
    let octets = |number: u8| frame(B, A, &[], 0x88b5, &vec![number; if number.is_multiple_of(3) { 200 } else { 50 }]);
    (0..100).for_each(|number| assert!(rig.inputs[0].push(&octets(number))));
    rig.run(Instant::from_secs(1));
    rig.check();
    let told = told(&mut rig);
    let lost = Outcome::Dropped { reason: Reason::Oversized, port: PortIndex(1) };
    let fates: Vec<_> = told.iter().map(|(record, octets)| (record.cause, octets[14], record.outcome)).collect();
    for number in 0..100u8 {
        let outcome = if number.is_multiple_of(3) { lost } else { Outcome::Sent(PortIndex(1)) };
        assert!(fates.contains(&(Cause::Sampled(1), number, outcome)), "{number}");
        assert_eq!(fates.contains(&(Cause::Dropped, number, lost)), number.is_multiple_of(3), "{number}");
    }
    assert_eq!(fates.len(), 134);
}

#[test]
fn the_worker_that_drops_tells() {
    let ports = vec![port(0, access(10), sampling(1, Some(100), 1, 2)), port(1, access(10), None)];
    let mut rig = rig(ports, 2);
    about(&mut rig, 1, &to(ALL, B, &[]));
    rig.outputs[1].set_down(true);
    let records = about(&mut rig, 0, &to(B, A, &[]));
    let outcomes: Vec<_> = records.iter().map(|record| (record.cause, record.outcome)).collect();
    let lost = Outcome::Dropped { reason: Reason::TxDown, port: PortIndex(1) };
    assert_eq!(outcomes, [(Cause::Sampled(1), Outcome::Sent(PortIndex(1))), (Cause::Dropped, lost)]);
    assert_eq!(records[1].port, PortIndex(0));
}

#[test]
fn drops_over_the_limit_are_counted_and_not_told() {
    let tapped = sampling(0, Some(5), 1, 1);
    let mut rig = rig(vec![port(0, access(10), tapped.clone()), port(1, access(10), None)], 1);
    (0..20).for_each(|_| assert!(rig.inputs[0].push(&to(LLDP, A, &[]))));
    rig.run(Instant::from_secs(1));
    assert_eq!(told(&mut rig).len(), 5);
    assert_eq!(tapped.as_ref().map(|own| own.samplers[0].untold.get()), Some(15));
    assert_eq!(about(&mut rig, 0, &to(LLDP, A, &[])).len(), 0);
    rig.inputs[0].push(&to(LLDP, A, &[]));
    rig.run(Instant::from_secs(3));
    assert_eq!(told(&mut rig).len(), 1, "time fills the bucket");
}

#[test]
fn the_pool_is_exact_and_only_lost_samples_are_lost() {
    let (rate, packets) = (7, 100_000);
    let tapped = sampling(rate, None, 3, 1);
    let mut rig = rig(vec![port(0, access(10), tapped.clone()), port(1, access(10), None)], 1);
    let sampler = || &tapped.as_ref().expect("a sampler").samplers[0];
    let octets = to(B, A, &[]);
    let mut pushed = 0;
    while pushed < packets {
        for _ in 0..1 + pushed % 97 {
            pushed += u64::from(rig.inputs[0].push(&octets));
        }
        // Dropped ones are sampled as all others are.
        pushed += u64::from(rig.inputs[0].push(&to(LLDP, A, &[])));
        rig.run(Instant::from_secs(1));
        discard(&rig);
    }
    assert_eq!(sampler().pool.get(), pushed);
    let kept = told(&mut rig).len();
    assert_eq!(kept, TAP_RECORDS, "nobody read: the tap is full");
    let all = kept as u64 + sampler().lost.get();
    let expected = pushed / u64::from(rate);
    assert!(all.abs_diff(expected) < expected / 20, "{all} samples of {pushed} packets");
}

/// Sampling theory's bound: of `samples` in a class, an estimate is wrong by more than 196 · √(1 / samples) % in one of 20 cases.
#[test]
fn estimates_are_as_good_as_theory_says() {
    const RATE: u64 = 50;
    let (seeds, mut wrong, mut classes) = (60, 0, 0);
    for seed in 0..seeds {
        let mut rig = rig(
            vec![
                port(0, VlanConfig::default(), sampling(RATE as u32, None, seed, 1)),
                port(1, VlanConfig::default(), None),
            ],
            1,
        );
        // Four flows of different weight, size and VLAN, mixed at random.
        let flows =
            [(A, 500, 60), (Mac(1 << 41 | 1), 300, 200), (Mac(1 << 41 | 2), 150, 120), (Mac(1 << 41 | 3), 50, 90)];
        let (mut packets, mut octets, mut dice) = ([0u64; 4], [0u64; 4], Dice::new(seed + 1));
        let mut seen = [(0u64, 0u64); 4];
        for _ in 0..400 {
            for _ in 0..100 {
                let mut draw = dice.below(1000);
                let flow = flows.iter().position(|(_, weight, _)| {
                    let hit = draw < *weight;
                    draw = draw.saturating_sub(*weight);
                    hit
                });
                let flow = flow.expect("weights are a thousand");
                let (source, _, size) = flows[flow];
                let vlan = Tag::new(0x8100, 10 + flow as u16, 0);
                let octets_sent = frame(B, source, &[vlan], 0x88b5, &vec![0; size]);
                assert!(rig.inputs[0].push(&octets_sent));
                packets[flow] += 1;
                octets[flow] += octets_sent.len() as u64;
            }
            rig.run(Instant::from_secs(1));
            discard(&rig);
            for (record, header) in told(&mut rig) {
                let flow =
                    flows.iter().position(|(source, ..)| header[6..12] == source.octets()).expect("a known flow");
                assert_eq!(record.vlan_in, vlan(10 + flow as u16, 0));
                seen[flow].0 += 1;
                seen[flow].1 += u64::from(record.len);
            }
        }
        for ((packets, octets), (samples, sampled_octets)) in packets.into_iter().zip(octets).zip(seen) {
            let bound = 1.96 * (1.0 / samples as f64).sqrt();
            for (truth, estimate) in [(packets, samples * RATE), (octets, sampled_octets * RATE)] {
                classes += 1;
                wrong += i32::from((estimate as f64 - truth as f64).abs() / truth as f64 > bound);
            }
        }
    }
    // 5 % are expected; even skips are better than theory's independent draws for what is most of the traffic.
    assert!(f64::from(wrong) < 0.08 * f64::from(classes), "{wrong} of {classes} estimates are out of bounds");
    assert!(wrong > 0, "a bound that is never missed is not this one");
}

#[test]
fn packets_to_groups_are_counted_apart() {
    let mut rig = rig((0..3).map(|device| port(device, access(10), None)).collect(), 2);
    let group = Mac(0x0100_5e00_0001);
    for (destination, source) in [(ALL, A), (group, A), (group, A), (LLDP, A), (B, A), (A, B), (B, A)] {
        let device = usize::from(source == B);
        about(&mut rig, device, &to(destination, source, &[]));
    }
    rig.outputs[2].set_down(true);
    about(&mut rig, 0, &to(ALL, A, &[]));
    let groups = |port| (rig.totals(port).rx_groups, rig.totals(port).tx_groups);
    assert_eq!(groups(0), ([3, 2], [0, 0]), "the reserved one, which is dropped, too");
    assert_eq!(groups(1), ([0, 0], [2, 2]));
    assert_eq!(groups(2), ([0, 0], [2, 1]), "what the device refused did not leave");
}
