//! Does the kernel's program forward by shortcuts that stand, and hand over all else? (Needs root.)

use shunt_ffi::netns::TestNamespace;
use shunt_ffi::shortcut::{COUNTER_WORDS, Program};
use shunt_switch::config::PortIndex;
use shunt_switch::table::shortcut::{Decision, Epochs, Key, PLACES, Shortcuts, Thing};
use shunt_switch::wire::ethernet::Mac;
use std::sync::atomic::Ordering::Relaxed;

const A: Mac = Mac(0x0200_0000_000a);
const B: Mac = Mac(0x0200_0000_000b);
const PLACE_A: u16 = 1;
const PLACE_B: u16 = 2;
const NEXT: i32 = -1;
const REDIRECT: i32 = 7;

fn things() -> [Thing; 5] {
    let host = |mac| Thing::Host { bridge: 0, vlan: 0, mac };
    [host(A), host(B), Thing::Port(PortIndex(0)), Thing::Port(PortIndex(1)), Thing::Bridge(0)]
}

fn decision(epochs: &Epochs, out_ifindex: u32) -> Decision {
    Decision {
        out_ifindex,
        to_peer: false,
        payload_max: 1500,
        places: [PLACE_A, PLACE_B],
        pop: false,
        push: None,
        depends: things().map(|thing| epochs.of(thing)),
        vlan: 0,
    }
}

fn frame(to: Mac, from: Mac, rest: &[u8], len: usize) -> Vec<u8> {
    let mut frame = [&to.octets()[..], &from.octets(), rest].concat();
    frame.resize(len, 0x5a);
    frame
}

fn key(ifindex: u32) -> Key {
    Key { ifindex, tag: None, destination: B, source: A }
}

/// Counters of a place over all processors.
fn counted(program: &Program, place: u16) -> [u64; COUNTER_WORDS] {
    let mut sum = [0; COUNTER_WORDS];
    for block in program.counters().chunks_exact(PLACES * COUNTER_WORDS) {
        let own = &block[usize::from(place) * COUNTER_WORDS..];
        sum.iter_mut().zip(own).for_each(|(sum, word)| *sum += word.load(Relaxed));
    }
    sum
}

#[test]
fn frames_in_and_verdicts_out() {
    let namespace = TestNamespace::new();
    namespace.ip("link add in type veth peer name out");
    namespace.ip("link set in up");
    namespace.ip("link set out up");
    let (ifindex, out) = (namespace.ifindex("in"), namespace.ifindex("out"));
    let program = Program::load().expect("load");
    let shortcuts = Shortcuts::new(program.table().clone(), program.epochs().clone(), 0x5eed);
    let verdict = |frame: &[u8]| namespace.run(|| program.try_on(ifindex, frame).0);
    let good = frame(B, A, &[8, 0], 60);
    assert_eq!(verdict(&good), NEXT, "nothing is known");

    assert!(!shortcuts.has(&key(ifindex)));
    assert!(shortcuts.insert(&key(ifindex), &decision(shortcuts.epochs(), out), 1));
    assert!(shortcuts.has(&key(ifindex)));
    assert_eq!(verdict(&good), REDIRECT);
    for (why, other) in [
        ("another sender", frame(B, Mac(A.0 + 1), &[8, 0], 60)),
        ("another receiver", frame(Mac(B.0 ^ 0x0100_0000), A, &[8, 0], 60)),
        ("a group", frame(Mac(B.0 | 1 << 40), A, &[8, 0], 60)),
        ("a tag in the frame", frame(B, A, &[0x81, 0, 0, 5, 8, 0], 60)),
        ("a service tag in the frame", frame(B, A, &[0x88, 0xa8, 0, 5, 8, 0], 60)),
        ("too long", frame(B, A, &[8, 0], 1515)),
    ] {
        assert_eq!(verdict(&other), NEXT, "{why}");
    }
    assert_eq!(verdict(&frame(B, A, &[8, 0], 1514)), REDIRECT, "as long as may be");
    assert_eq!(counted(&program, PLACE_A)[..2], [2, 60 + 1514]);
    assert_eq!(counted(&program, PLACE_B)[2..4], [2, 60 + 1514]);
    assert_eq!(namespace.run(|| program.try_on(out, &good).0), NEXT, "another device");

    for thing in things() {
        shortcuts.epochs().changed(thing);
        assert_eq!(verdict(&good), NEXT, "{thing:?} has changed");
        assert!(!shortcuts.has(&key(ifindex)));
        assert!(shortcuts.insert(&key(ifindex), &decision(shortcuts.epochs(), out), 2));
        assert_eq!(verdict(&good), REDIRECT);
    }
    let mut used = Vec::new();
    shortcuts.for_each(|one| used.push(one));
    assert_eq!(used.len(), 1, "one for the same packets takes the place of the old one");
    assert_eq!((used[0].source, used[0].vlan, used[0].place), (A, 0, PLACE_A));
    assert!(used[0].at > 2, "the program says when it was used: {used:?}");
    // Somebody writes there.
    let version = program.table().iter().position(|word| word.load(Relaxed) != 0).expect("a shortcut");
    program.table()[version].fetch_add(1, Relaxed);
    assert_eq!(verdict(&good), NEXT);
    assert!(!shortcuts.insert(&key(ifindex), &decision(shortcuts.epochs(), out), 2), "nobody waits");
}

#[test]
fn a_full_bucket_lets_go_what_is_outdated_then_what_was_used_least_lately() {
    let program = Program::load().expect("load");
    let shortcuts = Shortcuts::new(program.table().clone(), program.epochs().clone(), 7);
    let base = decision(shortcuts.epochs(), 9);
    // More than there is room for, so that all buckets are full.
    let count = 4 * 65_536_u32;
    for n in 0..count {
        let key = Key { source: Mac(u64::from(n)), ..key(3) };
        assert!(shortcuts.insert(&key, &base, u64::from(n)));
    }
    let (mut kept, mut newest) = (0, 0);
    shortcuts.for_each(|used| {
        kept += 1;
        newest += u32::from(used.at >= u64::from(count / 2));
    });
    assert_eq!(kept, 65_536);
    // Each bucket has kept its four newest; those of nearly all are among the newer half.
    assert!(newest > kept * 99 / 100, "{newest} of {kept}");
    shortcuts.epochs().changed(things()[2]);
    let mut stand = 0;
    shortcuts.for_each(|_| stand += 1);
    assert_eq!(stand, 0);
    let fresh = decision(shortcuts.epochs(), 9);
    assert!(shortcuts.insert(&key(3), &fresh, 0) && shortcuts.has(&key(3)), "the outdated give way, however new");
}
