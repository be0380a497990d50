//! How are many measurements made in turn, so that noise which lasts hits all alike?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::arguments::Common;
use crate::bench::Bench;
use crate::dut::{Kind, NotPossible};
use crate::load::{Load, Size};
use crate::measure::{Measure, Outcome};
use crate::netns;
use crate::process::{Interrupt, Priority};
use crate::record::{Record, Settings};
use crate::report;
use crate::rig::{Rig, grown};
use crate::stream::{Hosts, Stream};

/// One switch on one rig, and all that is measured of it there.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The device under test.
    pub dut: Kind,
    /// The revision, if several are compared, and where its programs are.
    pub variant: Option<(String, PathBuf)>,
    /// What is measured.
    pub work: Work,
}

/// What is between generator and sink, or between two hosts.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Frames.
    Frames(Load, Vec<Measure>),
    /// Programs that speak to each other; MTU.
    Streams(u32, Vec<Stream>),
}

/// All that a run needs.
pub struct Session<'a> {
    common: &'a Common,
    bin_dir: PathBuf,
    interrupt: Interrupt,
    _priority: Priority,
    /// What went wrong, in words.
    pub failures: Vec<String>,
}

impl<'a> Session<'a> {
    /// Takes over signals, raises the priority, and removes what killed runs have left.
    pub fn start(common: &'a Common) -> Result<Session<'a>> {
        let interrupt = Interrupt::install()?;
        let priority = Priority::raise()?;
        netns::remove_leftovers()?;
        let bin_dir = bin_dir(common.bin_dir.as_deref())?;
        Ok(Session { common, bin_dir, interrupt, _priority: priority, failures: Vec::new() })
    }

    /// Whether the user wants it to end.
    pub fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Those that can be measured, without repetitions; the others are named with the reason.
    pub fn installed(&self, wanted: &[Kind]) -> Result<Vec<Kind>> {
        let mut duts: Vec<Kind> = Vec::new();
        for kind in wanted {
            match kind.missing(&self.bin_dir) {
                Some(reason) => eprintln!("shunt-perf: {} skipped: {reason}", kind.name()),
                None if duts.contains(kind) => {}
                None => duts.push(*kind),
            }
        }
        ensure!(!duts.is_empty(), "nothing left to measure");
        Ok(duts)
    }

    /// Runs all cells in each round, beginning with another one each time; `each` sees a record as soon as it is there.
    /// A cell that fails is noted and does not end the run.
    pub fn run(&mut self, cells: &[Cell], mut each: impl FnMut(&Record) -> Result<()>) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for round in 0..self.common.rounds {
            // Nobody is always first, or always behind the same neighbour.
            for turn in 0..cells.len() {
                let cell = &cells[(turn + round as usize) % cells.len()];
                let first = records.len();
                if let Err(error) = self.run_cell(cell, round + 1, &mut records) {
                    self.interrupt.check()?;
                    if let Some(reason) = error.downcast_ref::<NotPossible>() {
                        eprintln!("shunt-perf: {} skipped: {reason}", cell.dut.name());
                        continue;
                    }
                    let text = format!("{}, round {}: {error:#}", cell.dut.name(), round + 1);
                    eprintln!("shunt-perf: {text}");
                    self.failures.push(text);
                }
                for record in &records[first..] {
                    if self.common.json {
                        println!("{}", serde_json::to_string(record).context("cannot write JSON")?);
                    } else {
                        eprintln!("{}", report::line(record));
                    }
                    each(record)?;
                }
            }
        }
        Ok(records)
    }

    /// An error if any cell failed.
    pub fn finish(self) -> Result<()> {
        ensure!(self.failures.is_empty(), "{} measurements failed, see above", self.failures.len());
        Ok(())
    }

    fn run_cell(&self, cell: &Cell, round: u32, records: &mut Vec<Record>) -> Result<()> {
        let variant = cell.variant.as_ref().map(|(name, _)| name.clone());
        let bin_dir = cell.variant.as_ref().map_or(self.bin_dir.as_path(), |(_, folder)| folder);
        let rig = Settings::new(self.common, bin_dir)?;
        let (load, mtu) = match &cell.work {
            Work::Frames(load, _) => (*load, load.size.max().saturating_sub(14).max(1500)),
            // The size is that of the longest frame.
            Work::Streams(mtu, _) => (Load { size: Size::Octets(mtu + 14), ..Load::default() }, *mtu),
        };
        let (dut, empty) = (cell.dut, Outcome::default());
        let blank = Record {
            measure: String::new(),
            dut,
            variant,
            round,
            load,
            mtu,
            seconds: empty.seconds,
            figures: empty.figures,
            curve: empty.curve,
            cpu: empty.cpu,
            cpu_s_per_mpkt: Vec::new(),
            others: empty.others,
            losses: BTreeMap::new(),
            switch: BTreeMap::new(),
            rig,
        };
        match &cell.work {
            Work::Frames(load, measures) => {
                let mut bench = Bench::open(self.common, &self.interrupt, dut, bin_dir, *load)?;
                for measure in measures {
                    let losses = bench.losses()?;
                    let outcome = measure.run(&mut bench).with_context(|| measure.name())?;
                    let mut record = filled(&blank, measure.name(), outcome, &bench.rig)?;
                    record.losses = grown(&losses, &bench.losses()?);
                    record.switch = bench.dut.describe()?;
                    records.push(record);
                }
            }
            Work::Streams(_, streams) => {
                let mut hosts = Hosts::open(self.common, &self.interrupt, dut, bin_dir, mtu)?;
                for stream in streams {
                    let outcome = hosts.run(*stream).with_context(|| stream.name())?;
                    let mut record = filled(&blank, stream.name(), outcome, &hosts.rig)?;
                    record.switch = hosts.dut.describe()?;
                    records.push(record);
                }
            }
        }
        Ok(())
    }
}

fn filled(blank: &Record, measure: String, outcome: Outcome, rig: &Rig) -> Result<Record> {
    let Outcome { figures, curve, seconds, cpu, others } = outcome;
    let per_million = figures.get("mpps_received").map(|mpps| 1.0 / mpps);
    let per_million = per_million.filter(|factor| factor.is_finite());
    let cpu_s_per_mpkt = cpu.iter().filter_map(|usage| Some(usage.scaled(per_million?))).collect();
    let mut record = Record { measure, figures, curve, seconds, cpu, cpu_s_per_mpkt, others, ..blank.clone() };
    record.rig.devices = rig.describe()?;
    Ok(record)
}

/// The folder of shuntd and shuntctl: the one asked for, or that of this program.
pub fn bin_dir(wanted: Option<&Path>) -> Result<PathBuf> {
    if let Some(folder) = wanted {
        return folder.canonicalize().with_context(|| format!("cannot find --bin-dir={}", folder.display()));
    }
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    own.parent().map(PathBuf::from).context("this program's own file is in no folder")
}
