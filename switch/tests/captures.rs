//! Does a capture see each packet of its ports once, in the right form, with its fate?

use shunt_switch::capture::{Capture, CaptureReader, Seen, Views, Wish};
use shunt_switch::command::{Command, Event};
use shunt_switch::config::PortIndex;
use shunt_switch::filter::{Filter, Instruction};
use shunt_switch::limits::{CAPTURE_OCTETS, FRAME_MAX};
use shunt_switch::reason::Reason;
use shunt_switch::table::vlan::VlanConfig;
use shunt_switch::tap::Outcome;
use shunt_switch::testing::{PortSpec, Rig, Scene, frame};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;
use shunt_switch::wire::vlan::Tag;
use std::sync::Arc;

const A: Mac = Mac(0x0200_0000_000a);
const B: Mac = Mac(0x0200_0000_000b);
const LLDP: Mac = Mac(0x0180_c200_000e);
const ALL: Views = Views { came: true, left: true, dropped: true };
const DROPS: Views = Views { came: false, left: false, dropped: true };
const NOW: Instant = Instant::from_secs(3);

fn access(vlan: u16) -> VlanConfig {
    VlanConfig { tag: Some(vlan), ..VlanConfig::default() }
}

/// Two access ports of VLAN 7 and a trunk; `captures` are their bits.
fn rig(captures: [u8; 3], workers: usize) -> Rig {
    let vlans = [access(7), VlanConfig::default(), access(7)];
    let ports = (0..).zip(vlans).zip(captures);
    let ports =
        ports.map(|((device, vlan), captures)| Some(PortSpec { device, vlan, captures, ..PortSpec::default() }));
    Rig::new(Scene { ports: ports.collect(), workers, ..Scene::default() }, 256)
}

/// Begins a capture on all workers.
fn begin(rig: &mut Rig, number: u8, wish: &Wish) -> Vec<CaptureReader> {
    let ends = (0..rig.crew.len()).map(|worker| {
        let (capture, reader) = Capture::new(wish.clone());
        rig.command(worker, Command::Capture(number, capture));
        reader
    });
    let readers = ends.collect();
    rig.run(NOW);
    readers
}

fn views(views: Views) -> Wish {
    Wish { views, filter: None, snaplen: FRAME_MAX }
}

fn seen(readers: &mut [CaptureReader]) -> Vec<(Seen, Vec<u8>)> {
    let (mut all, mut octets) = (Vec::new(), Vec::new());
    for reader in readers {
        while let Some(seen) = reader.tap.next(&mut octets) {
            assert_eq!(usize::from(seen.caught), octets.len());
            all.push((seen, octets.clone()));
        }
    }
    all
}

/// What of a record matters here: port, out, ports it left by, fate.
fn brief((seen, _): &(Seen, Vec<u8>)) -> (u16, bool, Vec<u16>, Outcome) {
    let to = seen.to.iter().filter(|to| **to != PortIndex::NONE).map(|to| to.0).collect();
    (seen.port.0, seen.is_out, to, seen.outcome)
}

fn to(destination: Mac, source: Mac, tags: &[Tag]) -> Vec<u8> {
    frame(destination, source, tags, 0x88b5, &[5; 200])
}

fn sends(rig: &mut Rig, device: usize, octets: &[u8]) {
    assert!(rig.inputs[device].push(octets));
    rig.run(NOW);
    rig.check();
    for queue in &rig.outputs {
        queue.discard();
    }
}

#[test]
fn both_ends_of_the_road_as_they_are_there() {
    for workers in [1, 3] {
        let mut rig = rig([1, 1, 0], workers);
        let readers = &mut begin(&mut rig, 0, &views(ALL))[..];
        let plain = to(B, A, &[]);
        sends(&mut rig, 0, &plain);
        let mut told = seen(readers);
        told.sort_by_key(|(seen, _)| seen.is_out);
        let [came, left] = &told[..] else { panic!("{told:?}") };
        assert_eq!(brief(came), (0, false, vec![1, 2], Outcome::Flooded(2)));
        assert_eq!((came.0.at, came.0.vlan, came.0.len as usize), (NOW, Some(7), plain.len()));
        assert_eq!(came.1, plain);
        assert_eq!(brief(left), (1, true, vec![], Outcome::Sent(PortIndex(1))));
        assert_eq!(left.0.from, PortIndex(0));
        assert_eq!(left.1, to(B, A, &[Tag::new(0x8100, 7, 0)]), "as it leaves");
        assert_eq!(left.0.len as usize, plain.len() + 4);

        let tagged = to(A, B, &[Tag::new(0x8100, 7, 3)]);
        sends(&mut rig, 1, &tagged);
        let mut told = seen(readers);
        told.sort_by_key(|(seen, _)| seen.is_out);
        let [came, left] = &told[..] else { panic!("{told:?}") };
        assert_eq!((brief(came), &came.1), ((1, false, vec![0], Outcome::Sent(PortIndex(0))), &tagged));
        assert_eq!((brief(left), &left.1), ((0, true, vec![], Outcome::Sent(PortIndex(0))), &to(A, B, &[])));

        sends(&mut rig, 0, &to(LLDP, A, &[]));
        let fate = Outcome::Dropped { reason: Reason::ReservedMulticast, port: PortIndex::NONE };
        assert_eq!(seen(readers).iter().map(brief).collect::<Vec<_>>(), [(0, false, vec![], fate)]);

        // No longer.
        for worker in 0..workers {
            rig.command(worker, Command::EndCapture(0));
        }
        rig.run(NOW);
        let ended = |event| matches!(event, Ok(Event::CaptureEnded(Some(_))));
        assert!(rig.crew.iter_mut().all(|(_, handle)| ended(handle.events.pop())), "given back");
        sends(&mut rig, 0, &plain);
        assert!(seen(readers).is_empty());
    }
}

#[test]
fn a_drop_is_told_of_once_where_it_happened() {
    for workers in [1, 3] {
        // Capture 0 sees drops of all ports, capture 1 those of the sender's, capture 2 those of the receiver's.
        let mut rig = rig([0b011, 0b101, 0b001], workers);
        let mut readers: Vec<_> = (0..3).map(|number| begin(&mut rig, number, &views(DROPS))).collect();
        sends(&mut rig, 1, &to(A, B, &[Tag::new(0x8100, 7, 0)]));
        assert!(readers.iter_mut().all(|readers| seen(readers).is_empty()), "nothing was dropped");

        rig.outputs[1].set_down(true);
        sends(&mut rig, 0, &to(B, A, &[]));
        let fate = Outcome::Dropped { reason: Reason::TxDown, port: PortIndex(1) };
        let told: Vec<Vec<_>> = readers.iter_mut().map(|readers| seen(readers).iter().map(brief).collect()).collect();
        let at = |port, is_out| vec![(port, is_out, vec![], fate)];
        assert_eq!(told, [at(1, true), at(0, false), at(1, true)], "{workers} workers");

        // One copy of two.
        sends(&mut rig, 0, &to(Mac(0xffff_ffff_ffff), A, &[]));
        let told: Vec<Vec<_>> = readers.iter_mut().map(|readers| seen(readers).iter().map(brief).collect()).collect();
        assert_eq!(told, [at(1, true), vec![], at(1, true)], "{workers} workers");

        sends(&mut rig, 1, &to(A, B, &[Tag::new(0x8100, 9, 0)]));
        let told: Vec<_> = readers.iter_mut().flat_map(|readers| seen(readers)).collect();
        let fate = Outcome::Dropped { reason: Reason::FloodEmpty, port: PortIndex::NONE };
        assert_eq!(told.iter().map(brief).collect::<Vec<_>>(), vec![(1, false, vec![], fate); 2]);
    }
}

#[test]
fn views_filters_and_lengths_are_each_capture_s_own() {
    let mut rig = rig([0b111, 0b111, 0], 1);
    // ether[12:2] = 0x8100, as libpcap has it.
    let line = |code, jt, jf, k| Instruction { code, jt, jf, k };
    let tagged = vec![line(0x28, 0, 0, 12), line(0x15, 0, 1, 0x8100), line(6, 0, 0, 1), line(6, 0, 0, 0)];
    let filter = Some(Arc::new(Filter::new(tagged).expect("a program")));
    let came = Views { came: true, left: false, dropped: false };
    let left = Views { came: false, left: true, dropped: false };
    let wishes = [Wish { filter, ..views(ALL) }, Wish { snaplen: 60, ..views(came) }, views(left)];
    let mut readers: Vec<_> = (0..).zip(&wishes).map(|(number, wish)| begin(&mut rig, number, wish)).collect();
    let plain = to(B, A, &[]);
    sends(&mut rig, 0, &plain);
    let told: Vec<Vec<_>> = readers.iter_mut().map(|readers| seen(readers)).collect();
    let shape = |told: &Vec<(Seen, Vec<u8>)>| {
        told.iter().map(|(seen, octets)| (seen.port.0, seen.is_out, seen.len, octets.len())).collect::<Vec<_>>()
    };
    let (len, out_len) = (plain.len(), plain.len() + 4);
    assert_eq!(shape(&told[0]), [(1, true, out_len as u32, out_len)], "the tag is seen in the frame that leaves");
    assert_eq!(shape(&told[1]), [(0, false, len as u32, 60)]);
    assert_eq!(shape(&told[2]), [(1, true, out_len as u32, out_len)]);
}

#[test]
fn what_does_not_fit_is_lost_and_counted() {
    let mut rig = rig([1, 0, 0], 1);
    let mut readers = begin(&mut rig, 0, &views(ALL));
    let large = frame(B, A, &[], 0x88b5, &[1; 8000]);
    let sent = 2 * CAPTURE_OCTETS / large.len();
    for _ in 0..sent {
        sends(&mut rig, 0, &large);
    }
    let told = seen(&mut readers).len();
    assert_eq!(told, CAPTURE_OCTETS / large.len());
    assert_eq!(readers[0].lost[0].get() as usize, sent - told);
    sends(&mut rig, 0, &large);
    assert_eq!(seen(&mut readers).len(), 1, "there is room again");
}
