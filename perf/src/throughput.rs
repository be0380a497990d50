//! How many frames a second does each device under test carry from one port to the other?

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::arguments::Throughput;
use crate::cpu;
use crate::dut::{Dut, Kind, Start};
use crate::frame::{GENERATOR_SIDE, SINK_SIDE};
use crate::generator::{Generator, Traffic};
use crate::netns::{self, Netns};
use crate::process::{Interrupt, NICENESS, Priority};
use crate::report::{self, Measurement, Settings};
use crate::rig::{self, GENERATOR, PORT_1, PORT_2, Rig, SINK};
use crate::sink::{Counts, Sink};

/// Traffic before a measurement begins: caches, clocks and sleeping workers settle.
const WARM_UP: Duration = Duration::from_millis(700);
/// Rate at which addresses are made known, which every switch follows without loss.
const TEACHING_PPS: u64 = 50_000;
/// How often the addresses are sent before a switch that has not learned them all is given up.
const TEACHING_ROUNDS: u32 = 5;
/// Frames that must all arrive before a measurement begins.
const PROOF_FRAMES: u64 = 2000;

/// Measures, and prints the outcome.
pub fn run(settings: &Throughput) -> Result<()> {
    let interrupt = Interrupt::install()?;
    let _priority = Priority::raise()?;
    netns::remove_leftovers()?;
    let bin_dir = bin_dir(settings)?;
    let duts = installed(&settings.dut, &bin_dir)?;
    let base = settings.base.unwrap_or(duts[0]);
    ensure!(duts.contains(&base), "--base={} is not among the devices measured", base.name());

    let mut measurements = Vec::new();
    for round in 0..settings.rounds {
        // Nobody is always first, or always behind the same neighbour.
        for turn in 0..duts.len() {
            let kind = duts[(turn + round as usize) % duts.len()];
            let measurement = measure(settings, kind, round, bin_dir.clone(), &interrupt)
                .with_context(|| format!("{}, round {}", kind.name(), round + 1))?;
            if settings.json {
                println!("{}", serde_json::to_string(&measurement).context("cannot write JSON")?);
            } else {
                eprintln!("{}", report::line(&measurement));
            }
            measurements.push(measurement);
        }
    }
    let table = report::table(&measurements, &duts, base);
    if settings.json {
        eprint!("{table}");
    } else {
        print!("{table}");
    }
    Ok(())
}

fn bin_dir(settings: &Throughput) -> Result<PathBuf> {
    if let Some(folder) = &settings.bin_dir {
        return folder.canonicalize().with_context(|| format!("cannot find --bin-dir={}", folder.display()));
    }
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    own.parent().map(PathBuf::from).context("this program's own file is in no folder")
}

/// Those that can be measured, without repetitions; the others are named with the reason.
fn installed(wanted: &[Kind], bin_dir: &std::path::Path) -> Result<Vec<Kind>> {
    let mut duts: Vec<Kind> = Vec::new();
    for kind in wanted {
        match kind.missing(bin_dir) {
            Some(reason) => eprintln!("shunt-perf: {} skipped: {reason}", kind.name()),
            None if duts.contains(kind) => {}
            None => duts.push(*kind),
        }
    }
    ensure!(!duts.is_empty(), "nothing left to measure");
    Ok(duts)
}

/// One device, once, on a rig of its own.
fn measure(
    settings: &Throughput,
    kind: Kind,
    round: u32,
    bin_dir: PathBuf,
    interrupt: &Interrupt,
) -> Result<Measurement> {
    let load_before = load_average()?;
    let rig = Rig::create(settings.size)?;
    let mut dut = kind.start(&Start {
        rig: &rig,
        core: settings.worker_core,
        macs: settings.macs,
        bin_dir,
        shuntd_args: &settings.shuntd_args,
        forwarder_args: &settings.forwarder_args,
        interrupt,
    })?;
    let sink = Sink::attach(&rig.sink, SINK, settings.sink)?;
    let bench = Bench { settings, rig: &rig, sink: &sink, interrupt };
    bench.teach(dut.as_mut())?;
    bench.prove_path(dut.as_mut())?;

    let losses_before = bench.losses(dut.as_ref())?;
    let foreign_before = sink.counts()?.foreign;
    let mut generator = bench.generate(&rig.generator, GENERATOR, settings.rate, None, (GENERATOR_SIDE, SINK_SIDE))?;
    interrupt.pause(WARM_UP)?;
    let start = Moment::take(&generator, &sink)?;
    interrupt.pause(Duration::from_secs(settings.seconds.into()))?;
    let end = Moment::take(&generator, &sink)?;
    generator.check_alive()?;
    dut.check_alive()?;
    drop(generator);
    let losses = rig::grown(&losses_before, &bench.losses(dut.as_ref())?);

    let seconds = (end.at - start.at).as_secs_f64();
    let offered = end.sent - start.sent;
    let received = end.counts.frames - start.counts.frames;
    ensure!(offered > 0, "the generator sent nothing in {seconds:.1} s");
    Ok(Measurement {
        dut: kind,
        round: round + 1,
        size: settings.size,
        flows: settings.flows,
        macs: settings.macs,
        seconds,
        mpps_offered: offered as f64 / seconds / 1e6,
        mpps_received: received as f64 / seconds / 1e6,
        loss: 1.0 - received as f64 / offered as f64,
        cpu: end.cpu.since(&start.cpu),
        others: end.cpu.others_since(&start.cpu),
        foreign_frames: end.counts.foreign - foreign_before,
        losses,
        switch: dut.describe()?,
        rig: Settings {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            generator_core: settings.generator_core,
            worker_core: settings.worker_core,
            rate: settings.rate,
            sink: settings.sink,
            niceness: NICENESS,
            load_before,
            devices: rig.describe()?,
        },
    })
}

/// Counters at one moment.
struct Moment {
    at: Instant,
    sent: u64,
    counts: Counts,
    cpu: cpu::Snapshot,
}

impl Moment {
    fn take(generator: &Generator, sink: &Sink) -> Result<Self> {
        Ok(Self { cpu: cpu::Snapshot::take()?, at: Instant::now(), counts: sink.counts()?, sent: generator.sent()? })
    }
}

/// What all steps of one measurement need.
struct Bench<'a> {
    settings: &'a Throughput,
    rig: &'a Rig,
    sink: &'a Sink,
    interrupt: &'a Interrupt,
}

impl Bench<'_> {
    fn generate(
        &self,
        namespace: &Netns,
        device: &str,
        rate: Option<u64>,
        count: Option<u64>,
        (from, to): (u8, u8),
    ) -> Result<Generator> {
        let Throughput { size, flows, macs, .. } = *self.settings;
        let traffic = Traffic { size, flows, macs, from, to, rate, count };
        Generator::start(namespace, device, self.settings.generator_core, &traffic)
    }

    /// Sends `count` frames slowly and waits until they are sent.
    fn send(&self, namespace: &Netns, device: &str, count: u64, sides: (u8, u8)) -> Result<()> {
        let mut generator = self.generate(namespace, device, Some(TEACHING_PPS), Some(count), sides)?;
        let limit = Duration::from_secs(10 + count / TEACHING_PPS * 2);
        self.interrupt.wait_for("the end of the first frames", limit, || {
            generator.check_alive()?;
            Ok((generator.sent()? >= count).then_some(()))
        })?;
        generator.stop().map(drop)
    }

    /// Makes both sides' addresses known, so that nothing is flooded in the measurement.
    fn teach(&self, dut: &mut dyn Dut) -> Result<()> {
        let macs = u64::from(self.settings.macs);
        for _ in 0..TEACHING_ROUNDS {
            self.send(&self.rig.generator, GENERATOR, macs, (GENERATOR_SIDE, SINK_SIDE))?;
            self.send(&self.rig.sink, SINK, macs, (SINK_SIDE, GENERATOR_SIDE))?;
            dut.check_alive()?;
            let all = || Ok(dut.learned()?.is_none_or(|learned| learned as u64 >= macs).then_some(()));
            match self.interrupt.wait_for("learning", Duration::from_secs(1), all) {
                Err(_) => self.interrupt.check()?,
                Ok(()) => return Ok(()),
            }
        }
        match dut.learned()? {
            Some(learned) => bail!("only {learned} of {macs} addresses behind {PORT_2} were learned"),
            None => Ok(()),
        }
    }

    /// A slow trickle must arrive whole: otherwise a rate would measure something else than switching.
    fn prove_path(&self, dut: &mut dyn Dut) -> Result<()> {
        let before = self.sink.counts()?.frames;
        self.send(&self.rig.generator, GENERATOR, PROOF_FRAMES, (GENERATOR_SIDE, SINK_SIDE))?;
        let all = || Ok((self.sink.counts()?.frames - before >= PROOF_FRAMES).then_some(()));
        if let Err(error) = self.interrupt.wait_for("the arrival of the first frames", Duration::from_secs(2), all) {
            self.interrupt.check()?;
            dut.check_alive()?;
            let arrived = self.sink.counts()?.frames - before;
            let losses = self.losses(dut)?;
            return Err(error.context(format!(
                "only {arrived} of {PROOF_FRAMES} slow frames went from {PORT_1} to {PORT_2}; losses: {losses:?}"
            )));
        }
        Ok(())
    }

    fn losses(&self, dut: &dyn Dut) -> Result<BTreeMap<String, u64>> {
        let mut losses = self.rig.losses()?;
        losses.extend(dut.losses()?);
        Ok(losses)
    }
}

/// Programs that were ready to run in the last minute, on average: how busy the machine was before.
fn load_average() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").context("cannot read /proc/loadavg")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first.parse().with_context(|| format!("/proc/loadavg begins with {first:?}"))
}
