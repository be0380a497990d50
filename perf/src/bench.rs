//! How is one switch set up for frames, and how is a stretch of traffic through it counted?

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::arguments::Common;
use crate::cpu;
use crate::dut::{Change, Dut, Kind, Start};
use crate::frame::{GENERATOR_SIDE, SINK_SIDE};
use crate::generator::{Generator, Pace, Traffic};
use crate::load::{Load, Role, Size, Vlan};
use crate::memory::{kernel_kib, resident_kib};
use crate::netns::Netns;
use crate::process::Interrupt;
use crate::record::Figures;
use crate::rig::{self, GENERATOR, PORT_1, PORT_2, Rig, SINK};
use crate::sink::{Counts, Sink};
use crate::statistics::Summary;

/// Traffic before a measurement begins: caches, clocks and sleeping workers settle.
const WARM_UP: Duration = Duration::from_millis(700);
/// Rate at which addresses are made known, which every switch follows without loss.
const TEACHING_PPS: u64 = 50_000;
/// How often the addresses are sent before a switch that has not learned them all is given up.
const TEACHING_ROUNDS: u32 = 5;
/// Frames that must all arrive before a measurement begins.
const PROOF_FRAMES: u64 = 1000;
/// How often this is tried: on a busy machine a worker does not always run when it should.
const PROOF_ROUNDS: u32 = 10;
/// Frames that the kernel redirects at a time when only their number counts.
pub const BULK_BATCH: u32 = 64;
/// How long the last frames may be on their way.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// A switch between generator and sink. What is dropped first comes first.
pub struct Bench<'a> {
    generator: Option<(Generator, Traffic)>,
    /// Where frames end.
    pub sink: Sink,
    /// Where samples come back.
    pub back: Sink,
    /// The switch.
    pub dut: Box<dyn Dut>,
    /// What it is between.
    pub rig: Rig,
    /// Settings of the run.
    pub common: &'a Common,
    /// Whether to give up.
    pub interrupt: &'a Interrupt,
    /// What is offered.
    pub load: Load,
    /// What was found when the idle ports were added.
    pub ports: Figures,
    /// The highest rate without loss, frames a second, once it is known.
    pub no_loss: Option<f64>,
}

/// Counters at one moment.
struct Moment {
    at: Instant,
    sent: u64,
    counts: Counts,
    cpu: cpu::Snapshot,
}

/// What happened between two moments.
pub struct Window {
    /// Length.
    pub seconds: f64,
    /// Frames put onto the first port.
    pub offered: u64,
    /// Frames counted behind the second port.
    pub received: u64,
    /// Octets in them.
    pub octets: u64,
    /// Frames of anybody else.
    pub foreign: u64,
    /// What each core did.
    pub cpu: Vec<cpu::Usage>,
    /// Cores' worth of time that other programs took.
    pub others: f64,
}

impl Window {
    /// Share of the offered frames that did not arrive, 0 to 1. What was under way when a stretch began is no gain.
    pub fn loss(&self) -> f64 {
        (1.0 - self.received as f64 / self.offered.max(1) as f64).max(0.0)
    }

    /// Frames a second that arrived.
    pub fn rate(&self) -> f64 {
        self.received as f64 / self.seconds
    }
}

impl<'a> Bench<'a> {
    /// Builds the rig, starts the switch, teaches it the addresses and proves that frames pass.
    pub fn open(
        common: &'a Common,
        interrupt: &'a Interrupt,
        kind: Kind,
        bin_dir: &Path,
        load: Load,
    ) -> Result<Bench<'a>> {
        let mtu = load.size.max().saturating_sub(14).max(1500);
        let rig = Rig::create(mtu, load.ports)?;
        rig.expect_frames(&load)?;
        let dut = kind.start(&Start {
            rig: &rig,
            core: common.worker_core,
            macs: load.macs,
            roles: load.vlan.roles(),
            watched: load.watched,
            bin_dir,
            shuntd_args: &common.shuntd_args,
            forwarder_args: &common.forwarder_args,
            interrupt,
        })?;
        let sink = Sink::attach(&rig.sink, SINK, common.sink, (GENERATOR_SIDE, SINK_SIDE), true)?;
        let back = Sink::attach(
            &rig.generator,
            GENERATOR,
            crate::arguments::SinkKind::Tc,
            (SINK_SIDE, GENERATOR_SIDE),
            false,
        )?;
        let (ports, no_loss) = (Figures::new(), None);
        let mut bench = Bench { generator: None, sink, back, dut, rig, common, interrupt, load, ports, no_loss };
        bench.add_idle_ports()?;
        bench.teach()?;
        bench.prove_path()?;
        Ok(bench)
    }

    fn add_idle_ports(&mut self) -> Result<()> {
        if self.rig.idle_ports.is_empty() {
            return Ok(());
        }
        let user = || self.dut.pid().map_or(Ok(0.0), resident_kib);
        let (user_before, kernel_before) = (user()?, kernel_kib()?);
        let mut times = Vec::new();
        for port in &self.rig.idle_ports {
            self.interrupt.check()?;
            let begin = Instant::now();
            self.dut.change(Change::Add(port))?;
            times.push(begin.elapsed().as_secs_f64() * 1000.0);
        }
        let count = times.len() as f64;
        let tail = &times[times.len().saturating_sub(10)..];
        let median = |values: &[f64]| Summary::of(values).map_or(0.0, |summary| summary.median);
        self.ports = Figures::from([
            ("add_port_ms", median(&times)),
            ("add_last_port_ms", median(tail)),
            ("user_kib_per_port", (user()? - user_before) / count),
            ("kernel_kib_per_port", (kernel_kib()? - kernel_before) / count),
        ]);
        Ok(())
    }

    /// A generator on the bench that sends samples as wanted, held.
    pub fn generator(&mut self, sample_every: u64, batch: u32) -> Result<&mut Generator> {
        let fits = |traffic: &Traffic| traffic.sample_every == sample_every && traffic.batch == batch;
        if !self.generator.as_ref().is_some_and(|(_, traffic)| fits(traffic)) {
            self.generator = None;
            let sides = (GENERATOR_SIDE, SINK_SIDE);
            let traffic = Traffic { sample_every, batch, ..self.traffic(self.load.size, None, sides) };
            let core = self.common.generator_core;
            self.generator = Some((Generator::start(&self.rig.generator, GENERATOR, core, &traffic)?, traffic));
        }
        self.running()
    }

    fn running(&mut self) -> Result<&mut Generator> {
        self.generator.as_mut().map(|(generator, _)| generator).context("no generator runs")
    }

    /// Ends the generator: even held it keeps its core busy.
    pub fn silence(&mut self) {
        self.generator = None;
    }

    fn traffic(&self, size: Size, count: Option<u64>, (from, to): (u8, u8)) -> Traffic {
        let entry = usize::from(from != GENERATOR_SIDE);
        let tagged = matches!(self.load.vlan.roles()[entry], Role::Uplink(_));
        let Load { flows, macs, .. } = self.load;
        Traffic { size, tagged, flows, macs, from, to, count, sample_every: 0, batch: BULK_BATCH }
    }

    /// Sends `count` frames slowly and waits until they are sent.
    fn send(&self, namespace: &Netns, device: &str, size: Size, count: u64, sides: (u8, u8)) -> Result<()> {
        let traffic = self.traffic(size, Some(count), sides);
        let mut generator = Generator::start(namespace, device, self.common.generator_core, &traffic)?;
        generator.set_pace(Pace::Rate(TEACHING_PPS))?;
        let limit = Duration::from_secs(10 + count / TEACHING_PPS * 2);
        self.interrupt.wait_for("the end of the first frames", limit, || {
            generator.check_alive()?;
            Ok((generator.sent()? >= count).then_some(()))
        })
    }

    /// Makes both sides' addresses known, so that nothing is flooded in the measurement.
    fn teach(&mut self) -> Result<()> {
        let macs = u64::from(self.load.macs);
        let short = Size::Octets(64);
        for _ in 0..TEACHING_ROUNDS {
            self.send(&self.rig.generator, GENERATOR, short, macs, (GENERATOR_SIDE, SINK_SIDE))?;
            self.send(&self.rig.sink, SINK, short, macs, (SINK_SIDE, GENERATOR_SIDE))?;
            self.dut.check_alive()?;
            let all = || Ok(self.dut.learned()?.is_none_or(|learned| learned as u64 >= macs).then_some(()));
            match self.interrupt.wait_for("learning", Duration::from_secs(1), all) {
                Err(_) => self.interrupt.check()?,
                Ok(()) => return Ok(()),
            }
        }
        match self.dut.learned()? {
            Some(learned) => bail!("only {learned} of {macs} addresses behind {PORT_2} were learned"),
            None => Ok(()),
        }
    }

    /// A slow trickle must arrive whole, with the tag where it belongs: otherwise a rate would measure something else.
    fn prove_path(&mut self) -> Result<()> {
        let mut arrived = 0;
        for _ in 0..PROOF_ROUNDS {
            let before = self.sink.counts()?;
            self.send(&self.rig.generator, GENERATOR, self.load.size, PROOF_FRAMES, (GENERATOR_SIDE, SINK_SIDE))?;
            let all = || Ok((self.sink.counts()?.frames - before.frames >= PROOF_FRAMES).then_some(()));
            let outcome = self.interrupt.wait_for("the arrival of the first frames", Duration::from_millis(300), all);
            self.interrupt.check()?;
            self.dut.check_alive()?;
            let after = self.sink.counts()?;
            arrived = after.frames - before.frames;
            let tagged = after.tagged - before.tagged;
            let wanted = if self.load.vlan == Vlan::Push { arrived } else { 0 };
            ensure!(tagged == wanted, "{tagged} of {arrived} frames left with a tag, instead of {wanted}");
            if outcome.is_ok() {
                return Ok(());
            }
        }
        let losses = rig::grown(&BTreeMap::new(), &self.losses()?);
        bail!("only {arrived} of {PROOF_FRAMES} slow frames went from {PORT_1} to {PORT_2}; losses: {losses:?}")
    }

    fn moment(&mut self) -> Result<Moment> {
        let generator = self.running()?;
        let (at, sent) = (Instant::now(), generator.sent()?);
        Ok(Moment { at, sent, counts: self.sink.counts()?, cpu: cpu::Snapshot::take()? })
    }

    fn window_between(&self, start: &Moment, end: &Moment) -> Result<Window> {
        let window = Window {
            seconds: (end.at - start.at).as_secs_f64(),
            offered: end.sent - start.sent,
            received: end.counts.frames - start.counts.frames,
            octets: end.counts.octets - start.counts.octets,
            foreign: end.counts.foreign - start.counts.foreign,
            cpu: end.cpu.since(&start.cpu),
            others: end.cpu.others_since(&start.cpu),
        };
        ensure!(window.offered > 0, "the generator sent nothing in {:.1} s", window.seconds);
        Ok(window)
    }

    /// Traffic at a pace that has warmed up, watched while it flows; `meanwhile` runs beside it. The loss is what arrived
    /// too late, too: right for overload.
    pub fn stretch(&mut self, pace: Pace, seconds: f64, meanwhile: impl FnOnce(&Self) -> Result<()>) -> Result<Window> {
        self.running()?.set_pace(pace)?;
        self.interrupt.pause(WARM_UP)?;
        let start = self.moment()?;
        let until = start.at + Duration::from_secs_f64(seconds);
        meanwhile(self)?;
        self.interrupt.pause(until.saturating_duration_since(Instant::now()))?;
        let end = self.moment()?;
        self.running()?.set_pace(Pace::Held)?;
        self.check_alive()?;
        self.window_between(&start, &end)
    }

    /// Traffic from its first frame to its last, waited for: the loss is exact.
    pub fn trial(&mut self, rate: f64, seconds: f64, meanwhile: impl FnOnce(&Self) -> Result<()>) -> Result<Window> {
        self.drain()?;
        let start = self.moment()?;
        self.running()?.set_pace(Pace::Rate(rate as u64))?;
        let until = start.at + Duration::from_secs_f64(seconds);
        meanwhile(self)?;
        self.interrupt.pause(until.saturating_duration_since(Instant::now()))?;
        self.running()?.set_pace(Pace::Held)?;
        let at = Instant::now();
        self.drain()?;
        let end = Moment { at, ..self.moment()? };
        self.check_alive()?;
        self.window_between(&start, &end)
    }

    /// Waits until no more frames arrive.
    fn drain(&mut self) -> Result<()> {
        let mut last = (u64::MAX, u64::MAX);
        let sink = &self.sink;
        let (generator, _) = self.generator.as_ref().context("no generator runs")?;
        self.interrupt.wait_for("the end of the traffic", DRAIN_LIMIT, || {
            let now = (generator.sent()?, sink.counts()?.frames);
            let is_still = now == last;
            last = now;
            Ok(is_still.then_some(()))
        })
    }

    fn check_alive(&mut self) -> Result<()> {
        self.running()?.check_alive()?;
        self.dut.check_alive()
    }

    /// Every counter of lost frames.
    pub fn losses(&self) -> Result<BTreeMap<String, u64>> {
        let mut losses = self.rig.losses()?;
        losses.extend(self.dut.losses()?);
        Ok(losses)
    }
}
