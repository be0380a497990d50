//! Does shunt hold its floors? All comparisons in one run, alternating, one table at the end.
//!
//! [`plan`](crate::plan) says what is compared; the numbers are in `perf/floors.txt`.

use std::fs::File;
use std::io::Write;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::arguments::Floors;
use crate::dut::Kind;
use crate::html;
use crate::plan::{Floor, Source, Term, plan};
use crate::record::Record;
use crate::session::{Cell, Session, Work};
use crate::statistics::{Summary, paired_ratios};

const NUMBERS: &str = include_str!("../floors.txt");

/// What the median is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    Least(f64),
    Most(f64),
}

/// `shunt-perf floors`.
pub fn run(settings: &Floors) -> Result<()> {
    let bounds = bounds(NUMBERS)?;
    let mut floors = plan();
    if !settings.only.is_empty() {
        floors.retain(|floor| settings.only.iter().any(|part| floor.name.contains(part.as_str())));
        ensure!(!floors.is_empty(), "no floor is called like {}", settings.only.join(" or "));
    }
    std::fs::create_dir_all(&settings.output).with_context(|| format!("cannot make {}", settings.output.display()))?;
    let mut session = Session::start(&settings.common)?;
    let mut wanted: Vec<Kind> = floors.iter().flat_map(terms).map(|term| term.dut).collect();
    wanted.dedup();
    let installed = session.installed(&wanted)?;
    let path = settings.output.join("results.jsonl");
    let mut results = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut cells = cells(&floors);
    cells.retain(|cell| installed.contains(&cell.dut) && can_run(cell));
    let records = session.run(&cells, |record| {
        serde_json::to_writer(&results, record).context("cannot write results")?;
        writeln!(results).with_context(|| format!("cannot write {}", path.display()))
    })?;
    let rows: Vec<Row> = floors.iter().map(|floor| Row::of(floor, &records, bound_of(&bounds, floor.name))).collect();
    let table = table(&rows);
    let values: Vec<Value> = rows.iter().map(Row::json).collect();
    for row in &values {
        serde_json::to_writer(&results, row).context("cannot write results")?;
        writeln!(results).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let write = |name: &str, text: &str| {
        let path = settings.output.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write("table.md", &table)?;
    let mut all = values;
    for record in &records {
        all.push(serde_json::to_value(record).context("a record is plain data")?);
    }
    write("report.html", &html::report(&all))?;
    if settings.common.json {
        eprint!("{table}");
    } else {
        print!("{table}");
    }
    eprintln!("shunt-perf: results.jsonl, table.md and report.html are in {}", settings.output.display());
    session.finish()
}

fn terms(floor: &Floor) -> impl Iterator<Item = Term> {
    std::iter::once(floor.value).chain(floor.base)
}

fn can_run(cell: &Cell) -> bool {
    let Work::Streams(_, streams) = &cell.work else { return true };
    let missing = streams.iter().find_map(|stream| stream.missing());
    if let Some(program) = missing {
        eprintln!("shunt-perf: TCP skipped: {program} is not installed; run scripts/setup");
    }
    missing.is_none()
}

/// Each device on each rig once, with all that is measured there.
fn cells(floors: &[Floor]) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    for Term { dut, source, .. } in floors.iter().flat_map(terms) {
        let is_same = |cell: &&mut Cell| {
            cell.dut == dut
                && match (&cell.work, source) {
                    (Work::Frames(load, _), Source::Frames(wanted, _)) => *load == wanted,
                    (Work::Streams(mtu, _), Source::Streams(wanted, _)) => *mtu == wanted,
                    _ => false,
                }
        };
        let cell = match cells.iter_mut().find(is_same) {
            Some(cell) => cell,
            None => {
                let work = match source {
                    Source::Frames(load, _) => Work::Frames(load, Vec::new()),
                    Source::Streams(mtu, _) => Work::Streams(mtu, Vec::new()),
                };
                cells.push(Cell { dut, variant: None, work });
                cells.last_mut().expect("just pushed")
            }
        };
        match (&mut cell.work, source) {
            (Work::Frames(_, measures), Source::Frames(_, measure)) if !measures.contains(&measure) => {
                measures.push(measure);
            }
            (Work::Streams(_, streams), Source::Streams(_, stream)) if !streams.contains(&stream) => {
                streams.push(stream);
            }
            _ => {}
        }
    }
    cells
}

/// A comparison with what was measured.
struct Row {
    name: &'static str,
    what: &'static str,
    bound: Option<Bound>,
    measured: Option<Summary>,
    rounds: usize,
    disturbed: bool,
}

impl Row {
    fn of(floor: &Floor, records: &[Record], bound: Option<Bound>) -> Self {
        let rounds = records.iter().map(|record| record.round).max().unwrap_or(0);
        let values = |term: Term| -> Vec<Option<f64>> {
            let of_round = |round| records.iter().find(|record| is_of(record, term) && record.round == round);
            (1..=rounds).map(|round| of_round(round)?.figures.get(term.figure).copied()).collect()
        };
        let value = values(floor.value);
        let measured = match floor.base {
            Some(base) => paired_ratios(&value, &values(base)),
            None => value.into_iter().flatten().collect(),
        };
        let disturbed =
            terms(floor).any(|term| records.iter().any(|record| is_of(record, term) && record.is_disturbed()));
        let Floor { name, what, .. } = *floor;
        Self { name, what, bound, measured: Summary::of(&measured), rounds: measured.len(), disturbed }
    }

    /// Whether the median is on the right side, and whether all rounds are on the same one.
    fn verdict(&self) -> &'static str {
        let (Some(bound), Some(Summary { median, min, max })) = (self.bound, self.measured) else { return "–" };
        let holds = |value| match bound {
            Bound::Least(least) => value >= least,
            Bound::Most(most) => value <= most,
        };
        match (holds(median), holds(min) == holds(max)) {
            (true, true) => "yes",
            (true, false) => "yes, not in each round",
            (false, true) => "no",
            (false, false) => "no, but in some rounds",
        }
    }

    fn floor(&self) -> String {
        match self.bound {
            Some(Bound::Least(least)) => format!("≥ {least}"),
            Some(Bound::Most(most)) => format!("≤ {most}"),
            None => "–".to_owned(),
        }
    }

    fn json(&self) -> Value {
        let measured =
            self.measured.map(|Summary { median, min, max }| json!({"median": median, "min": min, "max": max}));
        json!({"floor": self.name, "what": self.what, "bound": self.floor(), "measured": measured,
            "rounds": self.rounds, "disturbed": self.disturbed, "holds": self.verdict()})
    }
}

/// Whether a record is where a term's value is.
fn is_of(record: &Record, term: Term) -> bool {
    let (measure, is_same_rig) = match term.source {
        Source::Frames(load, measure) => (measure.name(), record.load == load),
        Source::Streams(mtu, stream) => (stream.name(), record.mtu == mtu),
    };
    record.dut == term.dut && record.measure == measure && is_same_rig
}

fn table(rows: &[Row]) -> String {
    let mut text = "| name | what | floor | median [least … most] | holds? |\n|---|---|---|---|---|\n".to_owned();
    for row in rows {
        let measured =
            row.measured.map_or_else(|| "not measured".to_owned(), |summary| summary.spread(digits(&summary)));
        let mark = if row.disturbed { " (disturbed)" } else { "" };
        text += &format!("| {} | {} | {} | {measured}{mark} | {} |\n", row.name, row.what, row.floor(), row.verdict());
    }
    text
}

/// Enough digits for the size of the median.
fn digits(summary: &Summary) -> usize {
    match summary.median.abs() {
        median if median >= 100.0 => 0,
        median if median >= 10.0 => 1,
        median if median >= 0.1 => 2,
        median if median >= 0.001 => 4,
        _ => 6,
    }
}

fn bound_of(bounds: &[(String, Bound)], name: &str) -> Option<Bound> {
    bounds.iter().find(|(of, _)| of == name).map(|(_, bound)| *bound)
}

/// Lines such as `tcp-ovs >= 1.2`.
fn bounds(text: &str) -> Result<Vec<(String, Bound)>> {
    let names: Vec<&str> = plan().iter().map(|floor| floor.name).collect();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, operator, number] = words[..] else { bail!("floors.txt: {line:?} is not NAME OPERATOR NUMBER") };
            ensure!(names.contains(&name), "floors.txt: there is no comparison {name}");
            let number = number.parse().with_context(|| format!("floors.txt: {number} is no number"))?;
            match operator {
                ">=" => Ok((name.to_owned(), Bound::Least(number))),
                "<=" => Ok((name.to_owned(), Bound::Most(number))),
                _ => bail!("floors.txt: {operator} is neither >= nor <="),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Load;
    use crate::record::tests::record;

    #[test]
    fn the_numbers_are_understood_and_wrong_ones_refused() {
        assert!(!bounds(NUMBERS).expect("our own file").is_empty());
        assert_eq!(bounds("tcp-ovs >= 1.5").expect("right"), [("tcp-ovs".to_owned(), Bound::Least(1.5))]);
        for wrong in ["tcp-ovs > 1", "tcp-ovs >= x", "nothing >= 1", "tcp-ovs"] {
            assert!(bounds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_unique_and_cells_are_shared() {
        let floors = plan();
        for (at, floor) in floors.iter().enumerate() {
            assert!(floors[..at].iter().all(|other| other.name != floor.name), "{} twice", floor.name);
        }
        let cells = cells(&floors);
        let is_plain = |cell: &&Cell| {
            cell.dut == Kind::Shunt && matches!(cell.work, Work::Frames(load, _) if load == Load::default())
        };
        assert_eq!(cells.iter().filter(is_plain).count(), 1);
    }

    #[test]
    fn the_median_decides_and_the_spread_is_told() {
        let floors: Vec<Floor> = plan().into_iter().filter(|floor| floor.name == "overload-ovs").collect();
        let rates = [(1, 1.2), (2, 0.9), (3, 1.1)];
        let records: Vec<Record> = rates
            .into_iter()
            .flat_map(|(round, rate)| {
                let run = |dut, rate| record(dut, "overload", round, &[("mpps_received", rate)]);
                [run(Kind::Shunt, rate), run(Kind::OvsAfxdp, 1.0)]
            })
            .collect();
        let verdict = |bound| Row::of(&floors[0], &records, Some(bound)).verdict();
        assert_eq!(verdict(Bound::Least(1.0)), "yes, not in each round");
        assert_eq!(verdict(Bound::Least(1.15)), "no, but in some rounds");
        assert_eq!(verdict(Bound::Least(0.5)), "yes");
        assert_eq!(verdict(Bound::Most(0.5)), "no");
        let text = table(&[Row::of(&floors[0], &records, Some(Bound::Least(1.0))), Row::of(&floors[0], &[], None)]);
        assert!(text.contains("| ≥ 1 | 1.10 [0.90 … 1.20] (disturbed) | yes, not in each round |"), "{text}");
        assert!(text.contains("| – | not measured | – |"), "{text}");
    }
}
