//! What does a run say to a person? Medians and spread, ratios first.

use std::fmt::Write as _;

use crate::cpu::Usage;
use crate::dut::Kind;
use crate::record::{DISTURBED_CORES, Record};
use crate::statistics::{Summary, paired_ratios};

/// A smaller loss under overload means that no more was offered than passes.
const OVERLOAD_LOSS_MIN: f64 = 0.001;

/// One column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The figure's name in records.
    pub figure: &'static str,
    /// What stands above it.
    pub title: &'static str,
    /// Digits behind the point.
    pub digits: usize,
}

/// One measurement in one line.
pub fn line(record: &Record) -> String {
    let figures = record.figures.iter().filter(|(name, value)| is_telling(name) && **value != 0.0);
    let figures: Vec<String> = figures.map(|(name, value)| format!("{name} {}", short(*value))).collect();
    format!(
        "round {} {:<16} {:<16} {}{}: {}  {}{}",
        record.round,
        record.variant.clone().unwrap_or_else(|| record.dut.name()),
        record.measure,
        record.load,
        if record.mtu == 1500 { String::new() } else { format!(", MTU {}", record.mtu) },
        figures.join(", "),
        cores(&record.cpu),
        if record.is_disturbed() { format!("  disturbed: {:.2} cores", record.others) } else { String::new() }
    )
}

/// Whether a figure belongs into the line that a person watches.
fn is_telling(name: &str) -> bool {
    !name.starts_with("one_way") && !matches!(name, "samples" | "trials")
}

/// A value with three digits that matter.
pub fn short(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        v if v >= 0.01 => 3,
        _ => 6,
    };
    format!("{value:.digits$}")
}

fn cores(cpu: &[Usage]) -> String {
    let percent = |share: f64| format!("{:.0}", share * 100.0);
    let cores = cpu.iter().map(|usage| {
        let [user, system, irq, steal] = [usage.user, usage.system, usage.irq, usage.steal].map(percent);
        format!("cpu{} {user}/{system}/{irq}/{steal}", usage.core)
    });
    cores.collect::<Vec<_>>().join("  ")
}

/// Prints the table where a person sees it: beside the JSON on stderr, else on stdout.
pub fn print(records: &[Record], columns: &[Column], base: Option<Kind>, json: bool) {
    let text = table(records, columns, base);
    if json {
        eprint!("{text}");
    } else {
        print!("{text}");
    }
}

/// Medians and spread of every device, ratios first; a part for each measure and load, in the order in which they came.
pub fn table(records: &[Record], columns: &[Column], base: Option<Kind>) -> String {
    let mut text = String::new();
    let Some(first) = records.first() else { return text };
    let rounds = records.iter().map(|record| record.round).max().unwrap_or(0);
    let _ = writeln!(
        text,
        "{rounds} rounds, Linux {}, {}, sink {:?}; medians [least … most]",
        first.rig.kernel, first.rig.processor, first.rig.sink
    );
    for part in parts(records) {
        part_of_table(&mut text, records, &part, columns, base, rounds);
    }
    generator_limits(&mut text, records);
    disturbances(&mut text, records);
    text
}

/// What rows are compared within: measure, load, MTU.
type Part = (String, crate::load::Load, u32);

fn part_of(record: &Record) -> Part {
    (record.measure.clone(), record.load, record.mtu)
}

fn parts(records: &[Record]) -> Vec<Part> {
    let mut parts = Vec::new();
    for part in records.iter().map(part_of) {
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts
}

fn part_of_table(
    text: &mut String,
    records: &[Record],
    part: &Part,
    columns: &[Column],
    base: Option<Kind>,
    rounds: u32,
) {
    let records: Vec<&Record> = records.iter().filter(|record| part_of(record) == *part).collect();
    let mut duts: Vec<Kind> = Vec::new();
    for record in &records {
        if !duts.contains(&record.dut) {
            duts.push(record.dut);
        }
    }
    let base = base.filter(|base| duts.contains(base)).unwrap_or(duts[0]);
    let of_dut = |dut: Kind| records.iter().filter(move |record| record.dut == dut);
    let values = |dut: Kind, figure: &str| -> Vec<Option<f64>> {
        let of_round = |round| of_dut(dut).find(|record| record.round == round);
        (1..=rounds).map(|round| of_round(round)?.figures.get(figure).copied()).collect()
    };
    let shown: Vec<&Column> =
        columns.iter().filter(|column| records.iter().any(|r| r.figures.contains_key(column.figure))).collect();
    let _ = writeln!(text, "\n{}, {}, MTU {}, {:.0} s:", part.0, part.1, part.2, records[0].seconds);
    let Some(main) = shown.first() else { return };
    let _ = write!(text, "{:<24} {:<18}", format!("ratio to {}", base.name()), "device under test");
    for column in &shown {
        let _ = write!(text, " {:<26}", column.title);
    }
    let _ = writeln!(text, " user/system/irq/steal in %");
    for dut in duts {
        let ratios = Summary::of(&paired_ratios(&values(dut, main.figure), &values(base, main.figure)));
        let ratios = ratios.map_or_else(|| "-".to_owned(), |ratios| ratios.spread(2));
        let _ = write!(text, "{ratios:<24} {:<18}", dut.name());
        for column in &shown {
            let summary = Summary::of(&values(dut, column.figure).into_iter().flatten().collect::<Vec<_>>());
            let cell = summary.map_or_else(|| "-".to_owned(), |summary| summary.spread(column.digits));
            let _ = write!(text, " {cell:<26}");
        }
        let _ = writeln!(text, " {}", cores(&median_cores(&of_dut(dut).copied().collect::<Vec<_>>())));
    }
    for dut in records.iter().map(|record| record.dut).collect::<std::collections::BTreeSet<_>>() {
        if let Some(losses) = of_dut(dut).next_back().and_then(|record| largest_losses(record)) {
            let _ = writeln!(text, "{} lost in its last round at: {losses}", dut.name());
        }
    }
}

/// Overload that loses nothing is none.
fn generator_limits(text: &mut String, records: &[Record]) {
    let loses_nothing = |record: &&Record| record.figures.get("loss").is_some_and(|loss| *loss < OVERLOAD_LOSS_MIN);
    let overloads = records.iter().filter(|record| record.measure == "overload" && record.dut.is_program());
    for record in overloads.filter(loses_nothing) {
        let (dut, load, round) = (record.dut.name(), record.load, record.round);
        let _ = writeln!(text, "{dut}, {load}, round {round}: the generator was the limit, the switch may be faster");
    }
}

fn disturbances(text: &mut String, records: &[Record]) {
    let disturbed = records.iter().filter(|record| record.is_disturbed()).count();
    if disturbed > 0 {
        let most = records.iter().map(|record| record.others).fold(0.0, f64::max);
        let _ = writeln!(
            text,
            "disturbed: other programs took more than {:.0} % of a core in {disturbed} of {} measurements, up to {most:.2} cores",
            DISTURBED_CORES * 100.0,
            records.len()
        );
    }
}

/// Each core's median of each kind of use.
fn median_cores(records: &[&Record]) -> Vec<Usage> {
    let cores = records.iter().map(|record| record.cpu.len()).min().unwrap_or(0);
    let median = |core: usize, value: fn(&Usage) -> f64| {
        let values: Vec<f64> = records.iter().map(|record| value(&record.cpu[core])).collect();
        Summary::of(&values).map_or(0.0, |summary| summary.median)
    };
    (0..cores)
        .map(|core| Usage {
            core: records[0].cpu[core].core,
            user: median(core, |usage| usage.user),
            system: median(core, |usage| usage.system),
            irq: median(core, |usage| usage.irq),
            steal: median(core, |usage| usage.steal),
            idle: median(core, |usage| usage.idle),
        })
        .collect()
}

/// The three places where most frames were lost.
fn largest_losses(record: &Record) -> Option<String> {
    let mut losses: Vec<_> = record.losses.iter().collect();
    losses.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let words: Vec<_> = losses.iter().take(3).map(|(name, count)| format!("{name} {count}")).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    #[test]
    fn the_table_pairs_rounds_and_names_the_losses() {
        // The machine was twice as fast in round 2: the ratio of medians would hide nothing, but its spread would lie.
        let run = |dut, round, rate| record(dut, "overload", round, &[("mpps_received", rate)]);
        let runs = [
            run(Kind::Bridge, 1, 0.5),
            run(Kind::OvsAfxdp, 1, 0.75),
            run(Kind::OvsAfxdp, 2, 1.5),
            run(Kind::Bridge, 2, 1.0),
        ];
        let columns = [
            Column { figure: "mpps_received", title: "Mpps", digits: 3 },
            Column { figure: "absent", title: "not there", digits: 3 },
        ];
        let text = table(&runs, &columns, Some(Kind::Bridge));
        assert!(text.contains("1.50 [1.50 … 1.50]       ovs-afxdp"), "{text}");
        assert!(text.contains("1.00 [1.00 … 1.00]       bridge"), "{text}");
        assert!(text.contains("1.125 [0.750 … 1.500]") && !text.contains("not there"), "{text}");
        assert!(text.contains("cpu0 10/20/70/0"), "{text}");
        assert!(text.contains("more than 10 % of a core in 2 of 4 measurements, up to 0.40 cores"), "{text}");
        assert!(
            text.contains("bridge lost in its last round at: port1 rx_queue_0_drops 7, port2 tx_errors 1"),
            "{text}"
        );
    }

    #[test]
    fn overload_without_loss_is_told_of_those_with_a_core_of_their_own() {
        let run = |dut, loss| record(dut, "overload", 1, &[("mpps_received", 1.0), ("loss", loss)]);
        let columns = [Column { figure: "mpps_received", title: "Mpps", digits: 1 }];
        let text = table(&[run(Kind::Shunt, 0.0), run(Kind::OvsAfxdp, 0.5), run(Kind::Bridge, 0.0)], &columns, None);
        assert_eq!(text.matches("the generator was the limit").count(), 1, "{text}");
        assert!(text.contains("shunt, 64 octets, round 1: the generator"), "{text}");
    }

    #[test]
    fn measures_and_loads_are_not_mixed() {
        let runs = [
            record(Kind::Shunt, "overload", 1, &[("mpps_received", 3.0)]),
            record(Kind::Shunt, "no-loss", 1, &[("mpps_received", 2.0)]),
        ];
        let text = table(&runs, &[Column { figure: "mpps_received", title: "Mpps", digits: 1 }], None);
        assert!(text.contains("\noverload, 64 octets") && text.contains("\nno-loss, 64 octets"), "{text}");
        assert!(text.contains("3.0 [3.0 … 3.0]") && text.contains("2.0 [2.0 … 2.0]"), "{text}");
    }
}
