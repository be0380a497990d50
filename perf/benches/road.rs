//! What does a packet cost in our own code, without the kernel? Nanoseconds, and instructions, which are the same each time.
//!
//! ```text
//! cargo bench -p shunt-perf --bench road                    the table
//! cargo bench -p shunt-perf --bench road -- --check         only instructions, against `road.txt`; fails if they grew
//! cargo bench -p shunt-perf --bench road -- --bless         writes `road.txt` and `stages.txt`
//! cargo bench -p shunt-perf --bench road -- --stages        instructions of each step of the road
//! ```
//!
//! One worker, real rings on the heap, and a kernel that only hands frames around ([`shunt_ffi::loopback`]). Only
//! `Worker::turn` is timed. Instructions are counted by valgrind, in a process of its own for each case.

use shunt_ffi::cpu;
use shunt_ffi::loopback::{self, Loopback};
use shunt_perf::frame;
use shunt_perf::stages;
use shunt_perf::statistics::Summary;
use shunt_switch::command::{Command, Handle};
use shunt_switch::config::{DeviceIndex, Interface, PortIndex, Router};
use shunt_switch::crossing::NeverAsleep;
use shunt_switch::table::bucket::Bucket;
use shunt_switch::table::fdb::{Fdb, Learned};
use shunt_switch::table::fib::{self, Tables};
use shunt_switch::table::next_hop::{self, InterfaceIndex};
use shunt_switch::table::sampler::{Sampler, Sampling};
use shunt_switch::table::vlan::{Mode, VlanConfig};
use shunt_switch::testing::{BridgeSpec, PortSpec, Scene};
use shunt_switch::time::Instant;
use shunt_switch::wire::ethernet::Mac;
use shunt_switch::worker::{Worker, crew};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;

const NOW: Instant = Instant::from_secs(1);
/// By how much instructions may exceed what is written down: compilers and processors differ a little.
const TOLERANCE: f64 = 1.03;
const ROUNDS: usize = 9;
const FRAMES: u32 = 512;

/// What is measured.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// Addresses known, half of them on either side.
    macs: u64,
    /// Octets of a frame.
    size: usize,
    /// Packets at each turn.
    burst: usize,
    /// Ports that get each packet.
    copies: usize,
    /// VLAN columns of the port where packets come in, and of all others.
    vlans: fn() -> [VlanConfig; 2],
    /// Each port is a VLAN of its own with a gateway in it; the hosts on the far side are neighbours.
    routed: bool,
    /// One packet in so many is sampled, and drops are told of; 0 for neither.
    sampling: u32,
}

fn plain() -> [VlanConfig; 2] {
    [VlanConfig::default(), VlanConfig::default()]
}

/// A container in VLAN 181 and a trunk to the leaf.
fn push() -> [VlanConfig; 2] {
    [
        VlanConfig { mode: Some(Mode::Access), tag: Some(181), ..VlanConfig::default() },
        VlanConfig { mode: Some(Mode::Trunk), trunks: vec![181, 182], ..VlanConfig::default() },
    ]
}

fn two_vlans() -> [VlanConfig; 2] {
    [10, 20].map(|tag| VlanConfig { tag: Some(tag), ..VlanConfig::default() })
}

const USUAL: Case =
    Case { name: "1000 MACs", macs: 1000, size: 60, burst: 32, copies: 1, vlans: plain, routed: false, sampling: 0 };

const CASES: &[Case] = &[
    Case { name: "1 MAC each side", macs: 2, ..USUAL },
    USUAL,
    Case { name: "1000 MACs, burst 128", burst: 128, ..USUAL },
    Case { name: "1000 MACs, burst 1", burst: 1, ..USUAL },
    Case { name: "1000 MACs, 1514 octets", size: 1514, ..USUAL },
    Case { name: "1000 MACs, access to trunk", vlans: push, ..USUAL },
    Case { name: "1000 MACs, sampled 1:1000", sampling: 1000, ..USUAL },
    Case { name: "1 000 000 MACs", macs: 1_000_000, ..USUAL },
    Case { name: "flood to 8 ports", macs: 2, copies: 8, ..USUAL },
    Case { name: "routed, 500 neighbours", vlans: two_vlans, routed: true, ..USUAL },
];

/// A switch with its neighbours' kernels.
struct Bench {
    case: Case,
    worker: Worker,
    _handle: Handle,
    kernels: Vec<Loopback>,
    frame: Vec<u8>,
    random: u64,
}

const SOURCES: u64 = 0x0253_0a00_0000;
const SINKS: u64 = 0x0253_0b00_0000;

/// The router's address in the first VLAN and in the second.
const GATEWAYS: [Mac; 2] = [Mac(0x0253_0d00_0000), Mac(0x0253_0d00_0001)];

/// What leads to `hosts` neighbours in the second VLAN.
fn router(hosts: u64) -> Router {
    let mut fib = fib::Writer::new(1 << 22).expect("memory for routes");
    let mut hops = next_hop::Writer::new(1).expect("memory for next hops");
    let tables = Tables { v4: fib.add_table().expect("room"), v6: fib.add_table().expect("room") };
    for host in 0..hosts {
        let address = Ipv4Addr::from_bits(u32::from_be_bytes([10, frame::SINK_SIDE, 0, 0]) + host as u32).into();
        let neighbour = next_hop::Neighbour { interface: InterfaceIndex(1), address };
        let way = hops.take(&[(neighbour, 1)]).expect("room for a neighbour");
        hops.resolve(neighbour, Some(Mac(SINKS + host)));
        fib.insert(tables.v4, address.into(), way.target()).expect("room for a route");
    }
    fib.commit();
    let interface = |number: usize| {
        let (port, mac, exceptions) = (PortIndex(2 + number as u16), GATEWAYS[number], Arc::new(Bucket::new(1, 1)));
        Some(Interface { port, mac, mtu: 1500, tables, exceptions })
    };
    Router { fib: fib.fib(), hops: hops.shared(), interfaces: (0..2).map(interface).collect(), seed: 1 }
}

impl Bench {
    fn new(case: Case) -> Self {
        let fdb = Arc::new(Fdb::new((case.macs as usize).max(1024), 0x5eed));
        let [first, others] = (case.vlans)();
        let vlans = [&first, if case.routed { &others } else { &first }].map(|columns| columns.tag.unwrap_or(0));
        for host in 0..case.macs / 2 {
            for (side, port) in [(SOURCES, 0), (SINKS, 1)] {
                let learned = fdb.learn(vlans[usize::from(port)], Mac(side + host), PortIndex(port), NOW);
                assert_eq!(learned, Learned::New);
            }
        }
        // Of a router the last two are the internal ports in the same VLANs.
        let ports = if case.routed { 4 } else { case.copies.max(1) + 1 };
        let spec = |number: usize| {
            let is_first = number == 0 || case.routed && number == 2;
            let vlan = if is_first { first.clone() } else { others.clone() };
            let interface = (number > 1 && case.routed).then_some(InterfaceIndex(number as u16 - 2));
            let sampling = (case.sampling > 0).then(|| {
                let (notices, samplers) = (Some(Arc::new(Bucket::new(10, 10))), [Sampler::new(1)].into());
                Arc::new(Sampling { rate: case.sampling, header: 128, notices, samplers })
            });
            Some(PortSpec { device: number as u16, vlan, mtu: 1500, interface, sampling, ..PortSpec::default() })
        };
        let mut scene = Scene {
            ports: (0..ports).map(spec).collect(),
            bridges: vec![BridgeSpec { fdb, ..BridgeSpec::default() }],
            partial: (0..ports as u16).collect(),
            homes: vec![0; ports],
            router: case.routed.then(|| router(case.macs / 2)),
            ..Scene::default()
        };
        if case.routed {
            for (interface, vlan) in (0..).zip(vlans) {
                let added = scene.bridges[0].fdb.add_static(vlan, GATEWAYS[interface], PortIndex(2 + interface as u16));
                added.expect("room for two gateways");
            }
        }
        let Some((mut worker, mut handle)) = crew(&[Arc::new(NeverAsleep)]).pop() else { unreachable!("one worker") };
        let mut send = |command| assert!(handle.commands.push(command).is_ok(), "room for a command");
        let mut kernels = Vec::new();
        for device in (0..ports as u16).map(DeviceIndex) {
            let (rx, tx, kernel) = loopback::queue(FRAMES);
            send(Command::Receive { device, queue: 0, side: Box::new(rx) });
            send(Command::Transmit { device, side: Box::new(tx) });
            kernels.push(kernel);
        }
        send(Command::Install(Arc::new(scene.snapshot(1))));
        while worker.turn(NOW).pending {}
        let frame = frame::template(case.size, frame::GENERATOR_SIDE, frame::SINK_SIDE);
        Self { case, worker, _handle: handle, kernels, frame, random: 0x9e37_79b9_7f4a_7c15 }
    }

    /// One burst comes in.
    fn offer(&mut self) {
        for _ in 0..self.case.burst {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let hosts = (self.case.macs / 2).max(1);
            let (from, to) = (self.random % hosts, (self.random >> 32) % hosts);
            // Nobody has this address: such a packet goes to all.
            let to = if self.case.copies > 1 { 0x0253_0c00_0000 } else { SINKS + to };
            self.frame[..6].copy_from_slice(&to.to_be_bytes()[2..]);
            self.frame[6..12].copy_from_slice(&(SOURCES + from).to_be_bytes()[2..]);
            if self.case.routed {
                self.frame[..6].copy_from_slice(&GATEWAYS[0].octets());
                // As the generator does: what is added to one address goes from the other, so that the checksum holds.
                let host = (to - SINKS) as u16;
                self.frame[28..30].copy_from_slice(&(!host).to_be_bytes());
                self.frame[32..34].copy_from_slice(&host.to_be_bytes());
            }
            assert!(self.kernels[0].receive(&self.frame), "a frame for each packet");
        }
    }

    /// What it sent is complete.
    fn complete(&mut self) {
        let sent: usize = self.kernels.iter_mut().map(Loopback::complete).sum();
        assert_eq!(sent, self.case.burst * self.case.copies, "{}: all packets must be sent", self.case.name);
    }

    /// Nanoseconds a packet; `cycles_per_ns` is the clock's.
    fn time(&mut self, packets: usize, cycles_per_ns: f64) -> f64 {
        let turns = packets / self.case.burst;
        let mut cycles = 0;
        for _ in 0..turns {
            self.offer();
            let start = cpu::cycles();
            measured(&mut self.worker);
            cycles += cpu::cycles() - start;
            self.complete();
        }
        cycles as f64 / cycles_per_ns / (turns * self.case.burst) as f64
    }
}

/// What valgrind looks at: instructions are counted from its entry to its return.
#[inline(never)]
fn measured(worker: &mut Worker) {
    std::hint::black_box(worker.turn(NOW));
}

/// How fast the time-stamp counter runs.
fn cycles_per_ns() -> f64 {
    let (start, cycles) = (std::time::Instant::now(), cpu::cycles());
    while start.elapsed().as_millis() < 50 {}
    (cpu::cycles() - cycles) as f64 / start.elapsed().as_nanos() as f64
}

/// Runs this program under valgrind for one case. Instructions a packet, or why there are none.
fn instructions(case: &Case) -> Result<f64, String> {
    let count = |turns: usize| callgrind(case, turns, Path::new("/dev/null"), &[]);
    Ok((count(WARM + MORE)? - count(WARM)?) / (MORE * case.burst) as f64)
}

/// The first turns fill caches and tables of ours; only what comes after them is counted.
const WARM: usize = 20;
const MORE: usize = 100;

/// Runs this program under valgrind for so many turns. Returns the instructions that it collected; more of them is in `dump`.
fn callgrind(case: &Case, turns: usize, dump: &Path, options: &[&str]) -> Result<f64, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let run = std::process::Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=road::measured*"])
        .arg(format!("--callgrind-out-file={}", dump.display()))
        .args(options)
        .arg(&own)
        .args(["--count", case.name, &turns.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind: {error}: install the package valgrind"))?;
    let text = String::from_utf8_lossy(&run.stderr);
    let collected = text.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse::<f64>().ok());
    collected.ok_or_else(|| format!("valgrind counted nothing: {text}"))
}

/// Instructions a packet of each step of the road, in the usual case.
fn steps() -> Result<Vec<(&'static str, f64)>, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (dump, options) =
        (folder.path().join("dump"), ["--dump-instr=yes", "--compress-pos=no", "--compress-strings=no"]);
    let count = |turns: usize| {
        callgrind(&USUAL, turns, &dump, &options)?;
        let text = std::fs::read_to_string(&dump).map_err(|error| format!("{}: {error}", dump.display()))?;
        stages::instructions(&text, &own, "road::measured").map_err(|error| format!("{error:#}"))
    };
    let (cold, all) = (count(WARM)?, count(WARM + MORE)?);
    let packets = (MORE * USUAL.burst) as f64;
    Ok(all
        .iter()
        .zip(cold)
        .map(|((step, all), (_, cold))| (*step, all.saturating_sub(cold) as f64 / packets))
        .collect())
}

fn expected() -> (std::path::PathBuf, BTreeMap<String, f64>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/road.txt");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    let rows =
        rows.filter_map(|line| line.rsplit_once('\t').and_then(|(name, n)| Some((name.into(), n.parse().ok()?))));
    (path, rows.collect())
}

fn check() -> Result<(), String> {
    let (_, expected) = expected();
    let mut problems = String::new();
    for case in CASES {
        let counted = instructions(case)?;
        let most = expected.get(case.name).copied().unwrap_or(0.0);
        println!("{:<28} {counted:8.1} instructions a packet, {most:.1} written down", case.name);
        if counted > most * TOLERANCE {
            let _ = writeln!(problems, "{}: {counted:.1} instructions a packet instead of {most:.1}", case.name);
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!("{problems}if it is worth that, say so in the commit and write it down with --bless"))
}

fn bless() -> Result<(), String> {
    let mut text =
        String::from("# Instructions a packet, written by `cargo bench -p shunt-perf --bench road -- --bless`.\n");
    for case in CASES {
        let _ = writeln!(text, "{}\t{:.1}", case.name, instructions(case)?);
    }
    let path = expected().0;
    std::fs::write(&path, text).map_err(|error| error.to_string())?;
    let mut text = String::from("# Of \"1000 MACs\" in road.txt, step by step, written with it.\n");
    for (step, count) in steps()? {
        let _ = writeln!(text, "{step}\t{count:.1}");
    }
    std::fs::write(path.with_file_name("stages.txt"), text).map_err(|error| error.to_string())
}

fn table() {
    let cycles_per_ns = cycles_per_ns();
    println!("| case | ns a packet, median [least … most] | instructions |");
    println!("|---|---|---|");
    for case in CASES {
        let mut bench = Bench::new(*case);
        bench.time(20_000, cycles_per_ns);
        let times: Vec<f64> = (0..ROUNDS).map(|_| bench.time(200_000, cycles_per_ns)).collect();
        let Some(Summary { median, min, max }) = Summary::of(&times) else { continue };
        let instructions = instructions(case).map_or_else(|_| "?".to_owned(), |n| format!("{n:.0}"));
        println!("| {} | {median:.1} [{min:.1} … {max:.1}] | {instructions} |", case.name);
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["--count", name, turns] => {
            let case = CASES.iter().find(|case| case.name == *name).copied();
            let turns = turns.parse().unwrap_or(0);
            case.map(Bench::new).ok_or_else(|| format!("no case {name}")).map(|mut bench| {
                for _ in 0..turns {
                    bench.offer();
                    measured(&mut bench.worker);
                    bench.complete();
                }
            })
        }
        ["--check"] => check(),
        ["--bless"] => bless(),
        ["--stages"] => steps().map(|steps| {
            println!("| step | instructions a packet |");
            println!("|---|---|");
            steps.iter().for_each(|(step, count)| println!("| {step} | {count:.1} |"));
        }),
        [] => {
            table();
            Ok(())
        }
        // `cargo test` runs benches with arguments of its own; there is nothing to test.
        _ => Ok(()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("road: {error}");
            ExitCode::FAILURE
        }
    }
}
