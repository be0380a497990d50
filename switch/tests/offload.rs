//! Does the switch forward the same with shortcuts as without? Two of them get the same frames and events; one has a kernel beside
//! it, which takes the shortcuts that the switch leaves, and hands over all else.

use shunt_ffi::shortcut::{BUCKETS, EPOCHS, SHORTCUT_WORDS, WAYS};
use shunt_ffi::words::Words;
use shunt_switch::config::PortIndex;
use shunt_switch::counters::PortTotals;
use shunt_switch::table::shortcut::{Key, Shortcuts, Thing};
use shunt_switch::table::vlan::{Mode, VlanConfig};
use shunt_switch::testing::{PortSpec, Rig, Scene, frame};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;
use shunt_switch::wire::vlan::{TPID_8021AD, TPID_8021Q, Tag};
use std::sync::Arc;

const PORTS: u16 = 5;
const HOSTS: u64 = 5;
const MTU: u32 = 100;
const AGEING_S: u64 = 20;
const FRAME_MIN: usize = 60;

/// The program of `ffi/bpf/shortcut.bpf.c`, told once more.
struct Kernel {
    shortcuts: Shortcuts,
    /// By device: what it sent.
    sent: Vec<Vec<Vec<u8>>>,
    /// By device: packets and octets in and out.
    counted: Vec<[u64; 4]>,
    taken: u64,
}

impl Kernel {
    fn new() -> Self {
        let words = |count| Arc::new(Words::new(count).expect("memory"));
        let shortcuts = Shortcuts::new(words(BUCKETS * WAYS * SHORTCUT_WORDS), words(EPOCHS + 1), 0x5eed);
        let sent = vec![Vec::new(); usize::from(PORTS)];
        Self { shortcuts, sent, counted: vec![[0; 4]; usize::from(PORTS)], taken: 0 }
    }

    /// Takes a frame from a device. Returns it with a tag on if the switch is to have it.
    fn receive(&mut self, rig: &Rig, device: u16, frame: &[u8], now: Instant) -> Option<Vec<u8>> {
        let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let is_tag = |at| matches!(word(at), TPID_8021Q | TPID_8021AD);
        let tag = is_tag(12).then(|| Tag { tpid: word(12), tci: word(14) });
        let behind = if tag.is_some() { 16 } else { 12 };
        let mac = |at: usize| Mac::new(std::array::from_fn(|i| frame[at + i]));
        let (destination, source) = (mac(0), mac(6));
        let key = Key { ifindex: u32::from(device) + 1, tag, destination, source };
        let found = self.shortcuts.find(&key).filter(|decision| {
            !is_tag(behind) && !destination.is_group() && frame.len() - behind - 2 <= decision.payload_max as usize
        });
        let Some(decision) = found else {
            let tag = Tag::new(TPID_8021AD, device + 1, 0);
            return Some([&frame[..12], &tag.octets(), &frame[12..]].concat());
        };
        self.taken += 1;
        // What the control thread does with the stamps of shortcuts.
        rig.scene.bridges[0].fdb.learn(decision.vlan, source, PortIndex(decision.places[0] - 1), now);
        let rest = if decision.pop { &frame[behind..] } else { &frame[12..] };
        let push = decision.push.map(Tag::octets);
        let mut out = [&frame[..12], push.as_ref().map_or(&[][..], |octets| &octets[..]), rest].concat();
        out.resize(out.len().max(FRAME_MIN), 0);
        let to = (decision.out_ifindex - 1) as usize;
        let [in_place, out_place] = decision.places.map(|place| usize::from(place) - 1);
        assert_eq!((in_place, out_place), (usize::from(device), to));
        self.counted[in_place][0] += 1;
        self.counted[in_place][1] += frame.len() as u64;
        self.counted[out_place][2] += 1;
        self.counted[out_place][3] += out.len() as u64;
        self.sent[to].push(out);
        None
    }

    /// The configuration has changed, and all workers have it.
    fn installed(&self, rig: &Rig) {
        let epochs = self.shortcuts.epochs();
        (0..PORTS).for_each(|port| epochs.changed(Thing::Port(PortIndex(port))));
        epochs.changed(Thing::Bridge(rig.scene.bridges[0].fdb.id()));
    }
}

struct World {
    random: u64,
    now: u64,
    plain: Rig,
    offloaded: Rig,
    kernel: Kernel,
}

impl World {
    fn new(seed: u64) -> Self {
        let ports = || (0..PORTS).map(|device| Some(PortSpec { device, mtu: MTU, ..PortSpec::default() })).collect();
        let kernel = Kernel::new();
        let plain = Rig::new(Scene { ports: ports(), ..Scene::default() }, 16);
        let shortcuts = Some(kernel.shortcuts.clone());
        let offloaded = Rig::new(Scene { ports: ports(), shortcuts, ..Scene::default() }, 16);
        Self { random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, now: 10, plain, offloaded, kernel }
    }

    fn pick(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn frame(&mut self) {
        // Mostly each host is where it belongs.
        let host = self.pick(HOSTS);
        let device = if self.pick(20) == 0 { self.pick(PORTS.into()) } else { host % u64::from(PORTS) } as u16;
        let mac = |host: u64| Mac(0x0200_0000_0000 | host);
        let to = if self.pick(15) == 0 { Mac(0xffff_ffff_ffff) } else { mac(self.pick(HOSTS)) };
        let tags: &[Tag] = match self.pick(12) {
            0 => &[Tag::new(TPID_8021Q, 10, 3)],
            1 | 2 => &[Tag::new(TPID_8021Q, 10, 0)],
            3 => &[Tag::new(TPID_8021Q, 20, 0)],
            9 => &[Tag::new(TPID_8021Q, 0, 5)],
            4 | 5 => &[Tag::new(TPID_8021AD, 10, 0)],
            6..=8 => &[Tag::new(TPID_8021AD, 10, 0), Tag::new(TPID_8021Q, 20, 0)],
            _ => &[],
        };
        let len = [46, 46, 46, 46, MTU as usize, MTU as usize + 1][self.pick(6) as usize];
        let octets = frame(to, mac(host), tags, 0x88b5, &vec![self.pick(256) as u8; len]);
        let now = Instant::from_secs(self.now);
        assert!(self.plain.inputs[usize::from(device)].push(&octets));
        self.plain.run(now);
        if let Some(handed) = self.kernel.receive(&self.offloaded, device, &octets, now) {
            assert!(self.offloaded.inputs[usize::from(PORTS)].push(&handed));
            self.offloaded.run(now);
        }
        for device in 0..usize::from(PORTS) {
            let mut sent: Vec<_> = self.offloaded.outputs[device].drain().into_iter().map(|sent| sent.octets).collect();
            sent.append(&mut self.kernel.sent[device]);
            let plain: Vec<_> = self.plain.outputs[device].drain().into_iter().map(|sent| sent.octets).collect();
            assert_eq!(sent, plain, "from device, by device {device}: {octets:02x?}");
        }
    }

    fn event(&mut self) {
        let port = PortIndex(self.pick(PORTS.into()) as u16);
        let kind = self.pick(6);
        let vlan = match self.pick(4) {
            0 => VlanConfig { tag: Some(10), ..VlanConfig::default() },
            1 => VlanConfig { mode: Some(Mode::NativeUntagged), tag: Some(10), ..VlanConfig::default() },
            2 => VlanConfig { mode: Some(Mode::Dot1qTunnel), tag: Some(20), ..VlanConfig::default() },
            _ => VlanConfig::default(),
        };
        let mac = Mac(0x0200_0000_0000 | self.pick(HOSTS));
        let is_protected = self.pick(2) == 0;
        self.now += if kind == 0 { AGEING_S } else { 1 };
        for rig in [&mut self.plain, &mut self.offloaded] {
            let fdb = Arc::clone(&rig.scene.bridges[0].fdb);
            let Some(spec) = &mut rig.scene.ports[usize::from(port.0)] else { continue };
            match kind {
                0 => fdb.age(Instant::from_secs(self.now), AGEING_S),
                1 => fdb.flush(),
                2 => fdb.flush_port(port),
                3 => {
                    spec.vlan = vlan.clone();
                    rig.install();
                }
                4 => {
                    spec.protected = is_protected;
                    rig.install();
                }
                _ if is_protected => drop(fdb.add_static(10, mac, port)),
                _ => drop(fdb.remove(10, mac)),
            }
        }
        if matches!(kind, 3 | 4) {
            self.kernel.installed(&self.offloaded);
        }
    }

    /// A copy of the FDB, as a trace makes one, withdraws nothing.
    fn check_copy(&self) {
        let standing = || {
            let mut count = 0;
            self.kernel.shortcuts.for_each(|_| count += 1);
            count
        };
        let before = standing();
        let fdb = &self.offloaded.scene.bridges[0].fdb;
        fdb.resized(fdb.stats().max).flush();
        assert_eq!(standing(), before);
    }

    fn check_counters(&self) {
        for port in 0..usize::from(PORTS) {
            let counts = |totals: PortTotals| [totals.rx_packets, totals.rx_bytes, totals.tx_packets, totals.tx_bytes];
            let mut offloaded = counts(self.offloaded.totals(port));
            offloaded.iter_mut().zip(self.kernel.counted[port]).for_each(|(sum, own)| *sum += own);
            assert_eq!(offloaded, counts(self.plain.totals(port)), "port {port}");
            assert_eq!(self.offloaded.totals(port).drops, self.plain.totals(port).drops, "drops of port {port}");
        }
    }
}

#[test]
fn with_shortcuts_as_without() {
    let mut taken = 0;
    for seed in 1..=80 {
        let mut world = World::new(seed);
        for _ in 0..1500 {
            if world.pick(80) == 0 { world.event() } else { world.frame() }
        }
        world.check_counters();
        world.check_copy();
        taken += world.kernel.taken;
    }
    assert!(taken > 6000, "only {taken} of 120 000 frames took a shortcut");
}
