//! What is measured of a switch between generator and sink, by RFC 2544's and RFC 8219's words?

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bench::{BULK_BATCH, Bench, Window};
use crate::cpu::{self, Usage};
use crate::delays::Delays;
use crate::dut::Change;
use crate::generator::Pace;
use crate::memory::resident_kib;
use crate::process::run_time;
use crate::record::Figures;
use crate::search;
use crate::statistics::Summary;

/// Frames that the kernel redirects at a time when their delay counts.
const SAMPLED_BATCH: u32 = 8;
/// Samples a second, so that they are a small part of the traffic back.
const SAMPLES_PER_SECOND: f64 = 20_000.0;
/// Frames a second that each find a sleeping switch.
const WAKE_UP_PPS: u64 = 100;
/// Share of the throughput without loss while the configuration changes.
const CHANGING_SHARE: f64 = 0.9;
/// Changes of one measurement at most.
const CHANGES_MAX: usize = 300;
/// Time that a switch gets to fall asleep.
const SETTLING: Duration = Duration::from_secs(1);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Throughput when more is offered than passes.
    Overload,
    /// Throughput when so many frames a second are offered.
    Paced(u64),
    /// The highest rate at which no frame is lost (RFC 2544, 26.1).
    NoLoss,
    /// Round-trip time at so many percent of that (RFC 2544, 26.2; RFC 8219, 7.2 and 7.3).
    Latency(u32),
    /// The same at so many frames a second.
    PacedLatency(u64),
    /// Round-trip time of lonely frames: each finds the switch asleep.
    WakeUp,
    /// Processor time and memory of the switch without traffic.
    Idle,
    /// Loss while ports come, go and change their VLAN, at so many frames a second or just below the rate without loss.
    Changes(Option<u64>),
}

/// What a measurement gives.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Named values.
    pub figures: Figures,
    /// The distribution of the samples, if there are any.
    pub curve: Vec<(f64, f64)>,
    /// Length.
    pub seconds: f64,
    /// What each core did.
    pub cpu: Vec<Usage>,
    /// Cores' worth of time that other programs took.
    pub others: f64,
}

impl Measure {
    /// Its name in results.
    pub fn name(self) -> String {
        match self {
            Self::Overload => "overload".to_owned(),
            Self::Paced(_) => "paced".to_owned(),
            Self::NoLoss => "no-loss".to_owned(),
            Self::Latency(percent) => format!("latency-{percent}"),
            Self::PacedLatency(_) => "latency-paced".to_owned(),
            Self::WakeUp => "wake-up".to_owned(),
            Self::Idle => "idle".to_owned(),
            Self::Changes(_) => "changes".to_owned(),
        }
    }

    /// Measures on a bench.
    pub fn run(self, bench: &mut Bench<'_>) -> Result<Outcome> {
        let mut outcome = match self {
            Self::Overload => throughput(bench, Pace::FlatOut),
            Self::Paced(rate) => throughput(bench, Pace::Rate(rate)),
            Self::NoLoss => no_loss(bench),
            Self::Latency(percent) => {
                let rate = known_no_loss(bench)? * f64::from(percent) / 100.0;
                latency(bench, rate, SAMPLED_BATCH)
            }
            Self::PacedLatency(rate) => latency(bench, rate as f64, SAMPLED_BATCH),
            Self::WakeUp => latency(bench, WAKE_UP_PPS as f64, 1),
            Self::Idle => idle(bench),
            Self::Changes(rate) => changes(bench, rate),
        }?;
        outcome.figures.extend(&bench.ports);
        Ok(outcome)
    }
}

impl From<Window> for Outcome {
    fn from(window: Window) -> Self {
        let mega = 1e6 * window.seconds;
        let figures = Figures::from([
            ("mpps_offered", window.offered as f64 / mega),
            ("mpps_received", window.received as f64 / mega),
            ("gbps_received", window.octets as f64 * 8.0 / 1000.0 / mega),
            ("loss", window.loss()),
            ("foreign_frames", window.foreign as f64),
        ]);
        Self { figures, curve: Vec::new(), seconds: window.seconds, cpu: window.cpu, others: window.others }
    }
}

fn throughput(bench: &mut Bench<'_>, pace: Pace) -> Result<Outcome> {
    bench.generator(0, BULK_BATCH)?;
    let seconds = bench.common.seconds.into();
    Ok(bench.stretch(pace, seconds, |_| Ok(()))?.into())
}

fn no_loss(bench: &mut Bench<'_>) -> Result<Outcome> {
    bench.generator(0, BULK_BATCH)?;
    let (seconds, loss_max) = (f64::from(bench.common.seconds), bench.common.loss_max);
    let overload = bench.stretch(Pace::FlatOut, 1.0, |_| Ok(()))?;
    // Overload can be slower than what passes without loss, but nothing passes that is not offered.
    let highest = (overload.rate() * 1.3).min(overload.offered as f64 / overload.seconds);
    let mut trials = 0;
    let mut passed: Vec<(f64, Window)> = Vec::new();
    let found = search::highest(highest, |rate| {
        trials += 1;
        let window = bench.trial(rate, seconds, |_| Ok(()))?;
        let passes = window.loss() <= loss_max;
        if passes {
            passed.push((rate, window));
        }
        Ok(passes)
    })?;
    // What was sent counts, not what was asked for; and not the lucky trial of a rate that failed.
    let of_rate = passed.into_iter().rfind(|(rate, _)| *rate == found);
    let (_, window) = of_rate.context("frames were lost at every rate that was tried")?;
    bench.no_loss = Some(found);
    let mut outcome = Outcome::from(window);
    outcome.figures.insert("trials", f64::from(trials));
    Ok(outcome)
}

/// The rate without loss in frames a second, searched for if it is not known.
fn known_no_loss(bench: &mut Bench<'_>) -> Result<f64> {
    if bench.no_loss.is_none() {
        no_loss(bench)?;
    }
    bench.no_loss.context("the search has found a rate")
}

fn latency(bench: &mut Bench<'_>, rate: f64, batch: u32) -> Result<Outcome> {
    let sample_every = (rate / SAMPLES_PER_SECOND).max(1.0) as u64;
    bench.generator(sample_every, batch)?;
    let seconds = f64::from(bench.common.seconds);
    // A first stretch for caches and clocks, not counted.
    bench.trial(rate, 0.5, |_| Ok(()))?;
    let (there, both) = (bench.sink.delays()?, bench.back.delays()?);
    let window = bench.trial(rate, seconds, |_| Ok(()))?;
    let (there, both) = (bench.sink.delays_since(&there)?, bench.back.delays_since(&both)?);
    ensure!(both.samples() > 0, "no sample came back");
    let mut outcome = Outcome::from(window);
    outcome.figures.extend(figures_of(&there, &both));
    outcome.curve = both.curve();
    Ok(outcome)
}

fn figures_of(there: &Delays, both: &Delays) -> Figures {
    Figures::from([
        ("samples", both.samples() as f64),
        ("rtt_min_us", both.min_us()),
        ("rtt_p50_us", both.percentile_us(50.0)),
        ("rtt_p90_us", both.percentile_us(90.0)),
        ("rtt_p99_us", both.percentile_us(99.0)),
        ("rtt_p999_us", both.percentile_us(99.9)),
        ("rtt_max_us", both.percentile_us(100.0)),
        ("rtt_pdv_us", both.pdv_us()),
        ("one_way_p50_us", there.percentile_us(50.0)),
        ("one_way_p99_us", there.percentile_us(99.0)),
        ("one_way_p999_us", there.percentile_us(99.9)),
    ])
}

fn idle(bench: &mut Bench<'_>) -> Result<Outcome> {
    bench.silence();
    let pid = bench.dut.pid().context("it has no process of its own, so idle time cannot be told")?;
    bench.interrupt.pause(SETTLING)?;
    let (start, before, ran) = (Instant::now(), cpu::Snapshot::take()?, run_time(pid)?);
    bench.interrupt.pause(Duration::from_secs(bench.common.seconds.into()))?;
    let (after, ran, seconds) = (cpu::Snapshot::take()?, run_time(pid)? - ran, start.elapsed().as_secs_f64());
    let figures = Figures::from([
        ("idle_cpu_percent", ran.as_secs_f64() / seconds * 100.0),
        ("resident_mib", resident_kib(pid)? / 1024.0),
    ]);
    let (cpu, others) = (after.since(&before), after.others_since(&before));
    Ok(Outcome { figures, curve: Vec::new(), seconds, cpu, others })
}

/// One port that carries nothing is removed, added again and put into another VLAN, over and over.
fn changes(bench: &mut Bench<'_>, rate: Option<u64>) -> Result<Outcome> {
    let port = bench.rig.idle_ports.first().cloned().context("no port to change: give --ports=3 or more")?;
    let rate = match rate {
        Some(rate) => rate as f64,
        None => known_no_loss(bench)? * CHANGING_SHARE,
    };
    bench.generator(0, BULK_BATCH)?;
    let seconds = f64::from(bench.common.seconds);
    let times = RefCell::new(Vec::new());
    let change = |bench: &Bench<'_>| {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        let cycle = [Change::Delete(&port), Change::Add(&port), Change::Tag(&port, 7)];
        for change in cycle.iter().cycle().take(CHANGES_MAX) {
            bench.interrupt.check()?;
            // A cycle that has begun is ended: the next one finds the port where it was.
            if Instant::now() >= end && matches!(change, Change::Delete(_)) {
                break;
            }
            let begin = Instant::now();
            bench.dut.change(*change)?;
            times.borrow_mut().push(begin.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(())
    };
    let quiet = bench.trial(rate, seconds, |_| Ok(()))?;
    let changing = bench.trial(rate, seconds, change)?;
    let paced_changes = times.borrow().len();
    let flat_quiet = bench.stretch(Pace::FlatOut, seconds, |_| Ok(()))?;
    let flat_changing = bench.stretch(Pace::FlatOut, seconds, change)?;
    let (quiet_loss, lost) = (quiet.loss(), changing.offered as f64 * (changing.loss() - quiet.loss()));
    let times = times.into_inner();
    let mut outcome = Outcome::from(changing);
    outcome.figures.extend([
        ("loss_quiet", quiet_loss),
        ("changes", times.len() as f64),
        ("change_ms", Summary::of(&times).map_or(0.0, |summary| summary.median)),
        ("lost_per_change", lost / paced_changes.max(1) as f64),
        ("overload_mpps_quiet", flat_quiet.rate() / 1e6),
        ("overload_mpps_changing", flat_changing.rate() / 1e6),
        ("overload_ratio", flat_changing.rate() / flat_quiet.rate().max(1.0)),
    ]);
    Ok(outcome)
}
