//! What does a measurement say, to a program and to a person?

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::arguments::SinkKind;
use crate::cpu::Usage;
use crate::dut::Kind;
use crate::rig::Device;
use crate::statistics::{Summary, paired_ratios};

/// Time of other programs, in cores, above which a measurement is called disturbed.
const DISTURBED_CORES: f64 = 0.1;

/// One device measured once; one JSON object.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Measurement {
    /// What was measured.
    pub dut: Kind,
    /// Which round, from 1.
    pub round: u32,
    /// Octets of a frame, without FCS.
    pub size: u32,
    /// Combinations of IP addresses and ports.
    pub flows: u32,
    /// Addresses behind each port.
    pub macs: u32,
    /// Length of the measurement.
    pub seconds: f64,
    /// Million frames a second put onto the first port.
    pub mpps_offered: f64,
    /// Million frames a second counted behind the second port.
    pub mpps_received: f64,
    /// Share of the offered frames that did not arrive, 0 to 1.
    pub loss: f64,
    /// What each core did during the measurement.
    pub cpu: Vec<Usage>,
    /// Cores' worth of time that other programs took meanwhile.
    pub others: f64,
    /// Frames at the sink that the generator did not make, from the warm-up on.
    pub foreign_frames: u64,
    /// Counters of lost frames that grew, from the warm-up on; some count the same frame twice.
    pub losses: BTreeMap<String, u64>,
    /// Version and mode, as the device under test shows them.
    pub switch: BTreeMap<String, String>,
    /// How it was measured.
    pub rig: Settings,
}

/// How a measurement was made.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Settings {
    /// The kernel's release.
    pub kernel: String,
    /// The generator's core.
    pub generator_core: usize,
    /// The core given to the device under test.
    pub worker_core: usize,
    /// Frames a second asked for; none is as many as possible.
    pub rate: Option<u64>,
    /// Where the receiver drops.
    pub sink: SinkKind,
    /// Priority of the generator and of the switch.
    pub niceness: i32,
    /// Load average of the last minute before the measurement.
    pub load_before: f64,
    /// The devices in the order of a frame's way.
    pub devices: Vec<Device>,
}

/// One measurement in one line.
pub fn line(measurement: &Measurement) -> String {
    format!(
        "round {} {:<18} {:>7.3} Mpps of {:>7.3} offered, {}{}",
        measurement.round,
        measurement.dut.name(),
        measurement.mpps_received,
        measurement.mpps_offered,
        cores(&measurement.cpu),
        if is_disturbed(measurement) { format!("  disturbed: {:.2} cores", measurement.others) } else { String::new() }
    )
}

/// Whether other programs took so much time that the figures may say more about them.
fn is_disturbed(measurement: &Measurement) -> bool {
    measurement.others > DISTURBED_CORES || measurement.cpu.iter().any(|usage| usage.steal > DISTURBED_CORES)
}

fn cores(cpu: &[Usage]) -> String {
    let percent = |share: f64| format!("{:.0}", share * 100.0);
    let cores = cpu.iter().map(|usage| {
        let [user, system, irq, steal] = [usage.user, usage.system, usage.irq, usage.steal].map(percent);
        format!("cpu{} {user}/{system}/{irq}/{steal}", usage.core)
    });
    cores.collect::<Vec<_>>().join("  ")
}

/// Medians and spread of every device, ratios first.
pub fn table(measurements: &[Measurement], duts: &[Kind], base: Kind) -> String {
    let mut text = String::new();
    let Some(first) = measurements.first() else { return text };
    let rounds = measurements.iter().map(|measurement| measurement.round).max().unwrap_or(0);
    let _ = writeln!(
        text,
        "{} octets, {} flows, {} MACs a side, {} rounds of {:.0} s, Linux {}, sink {:?}; medians [least … most]",
        first.size, first.flows, first.macs, rounds, first.seconds, first.rig.kernel, first.rig.sink
    );
    let _ = writeln!(
        text,
        "{:<24} {:<18} {:<24} {:>8} {:>7}  user/system/irq/steal in %",
        format!("ratio to {}", base.name()),
        "device under test",
        "Mpps received",
        "offered",
        "loss"
    );
    let received = |dut: Kind| by_round(measurements, dut, rounds, |measurement| measurement.mpps_received);
    let base_received = received(base);
    for dut in duts {
        let ratios = Summary::of(&paired_ratios(&received(*dut), &base_received));
        let median = |value: fn(&Measurement) -> f64| {
            Summary::of(&by_round(measurements, *dut, rounds, value).into_iter().flatten().collect::<Vec<_>>())
        };
        let (Some(rate), Some(offered), Some(loss)) =
            (median(|m| m.mpps_received), median(|m| m.mpps_offered), median(|m| m.loss))
        else {
            continue;
        };
        let _ = writeln!(
            text,
            "{:<24} {:<18} {:<24} {:>8.3} {:>6.1}%  {}",
            ratios.map_or_else(|| "-".to_owned(), |ratios| spread(&ratios, 2)),
            dut.name(),
            spread(&rate, 3),
            offered.median,
            loss.median * 100.0,
            cores(&median_cores(measurements, *dut)),
        );
    }
    let disturbed = measurements.iter().filter(|measurement| is_disturbed(measurement)).count();
    if disturbed > 0 {
        let most = measurements.iter().map(|measurement| measurement.others).fold(0.0, f64::max);
        let _ = writeln!(
            text,
            "disturbed: other programs took more than {:.0} % of a core in {disturbed} of {} measurements, up to {most:.2} cores",
            DISTURBED_CORES * 100.0,
            measurements.len()
        );
    }
    for (dut, losses) in largest_losses(measurements, duts) {
        let _ = writeln!(text, "{} lost in its last round at: {losses}", dut.name());
    }
    text
}

fn spread(summary: &Summary, digits: usize) -> String {
    format!("{:.digits$} [{:.digits$} … {:.digits$}]", summary.median, summary.min, summary.max)
}

/// A device's values, one entry a round.
fn by_round(measurements: &[Measurement], dut: Kind, rounds: u32, value: fn(&Measurement) -> f64) -> Vec<Option<f64>> {
    let of_round = |round| measurements.iter().find(|m| m.dut == dut && m.round == round).map(value);
    (1..=rounds).map(of_round).collect()
}

/// Each core's median of each kind of use.
fn median_cores(measurements: &[Measurement], dut: Kind) -> Vec<Usage> {
    let of_dut: Vec<&Measurement> = measurements.iter().filter(|measurement| measurement.dut == dut).collect();
    let cores = of_dut.iter().map(|measurement| measurement.cpu.len()).min().unwrap_or(0);
    let median = |core: usize, value: fn(&Usage) -> f64| {
        let values: Vec<f64> = of_dut.iter().map(|measurement| value(&measurement.cpu[core])).collect();
        Summary::of(&values).map_or(0.0, |summary| summary.median)
    };
    (0..cores)
        .map(|core| Usage {
            core: of_dut[0].cpu[core].core,
            user: median(core, |usage| usage.user),
            system: median(core, |usage| usage.system),
            irq: median(core, |usage| usage.irq),
            steal: median(core, |usage| usage.steal),
            idle: median(core, |usage| usage.idle),
        })
        .collect()
}

/// The three places where most frames were lost in each device's last round.
fn largest_losses(measurements: &[Measurement], duts: &[Kind]) -> Vec<(Kind, String)> {
    let of_dut = |dut: &Kind| {
        let last = measurements.iter().rfind(|measurement| measurement.dut == *dut)?;
        let mut losses: Vec<_> = last.losses.iter().collect();
        losses.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let words: Vec<_> = losses.iter().take(3).map(|(name, count)| format!("{name} {count}")).collect();
        (!words.is_empty()).then(|| (*dut, words.join(", ")))
    };
    duts.iter().filter_map(of_dut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(dut: Kind, round: u32, received: f64) -> Measurement {
        Measurement {
            dut,
            round,
            size: 64,
            flows: 1,
            macs: 1,
            seconds: 1.0,
            mpps_offered: 2.0,
            mpps_received: received,
            loss: 1.0 - received / 2.0,
            cpu: vec![Usage { core: 0, user: 0.1, system: 0.2, irq: 0.7, steal: 0.0, idle: 0.0 }],
            others: if round == 2 { 0.4 } else { 0.01 },
            foreign_frames: 0,
            losses: BTreeMap::from([("port1 rx_queue_0_drops".to_owned(), 7), ("port2 tx_errors".to_owned(), 1)]),
            switch: BTreeMap::new(),
            rig: Settings {
                kernel: "6.18".to_owned(),
                generator_core: 0,
                worker_core: 1,
                rate: None,
                sink: SinkKind::Tc,
                niceness: -20,
                load_before: 0.5,
                devices: Vec::new(),
            },
        }
    }

    #[test]
    fn an_object_has_the_pinned_names() {
        let value = serde_json::to_value(measurement(Kind::OvsAfxdp, 1, 0.5)).expect("plain data");
        assert_eq!(value["dut"], "ovs-afxdp");
        for key in ["size", "flows", "macs", "mpps_offered", "mpps_received", "loss", "cpu", "rig"] {
            assert!(!value[key].is_null(), "{key} is missing");
        }
        assert_eq!(value["cpu"][0]["core"], 0);
        assert_eq!(value["rig"]["sink"], "tc");
    }

    #[test]
    fn the_table_pairs_rounds_and_names_the_losses() {
        // The machine was twice as fast in round 2: the ratio of medians would hide nothing, but its spread would lie.
        let runs = [
            measurement(Kind::Bridge, 1, 0.5),
            measurement(Kind::OvsAfxdp, 1, 0.75),
            measurement(Kind::OvsAfxdp, 2, 1.5),
            measurement(Kind::Bridge, 2, 1.0),
        ];
        let text = table(&runs, &[Kind::OvsAfxdp, Kind::Bridge], Kind::Bridge);
        assert!(text.contains("1.50 [1.50 … 1.50]       ovs-afxdp"), "{text}");
        assert!(text.contains("1.00 [1.00 … 1.00]       bridge"), "{text}");
        assert!(text.contains("1.125 [0.750 … 1.500]"), "{text}");
        assert!(text.contains("cpu0 10/20/70/0"), "{text}");
        assert!(text.contains("more than 10 % of a core in 2 of 4 measurements, up to 0.40 cores"), "{text}");
        assert!(
            text.contains("bridge lost in its last round at: port1 rx_queue_0_drops 7, port2 tx_errors 1"),
            "{text}"
        );
    }
}
