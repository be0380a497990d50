//! Is one revision of shunt faster than another? Both run in turn, and the noise decides what can be said.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::arguments::{Common, Compare};
use crate::dut::Kind;
use crate::load::Load;
use crate::measure::Measure;
use crate::process;
use crate::record::Record;
use crate::session::{Cell, Session, Work};
use crate::statistics::{CERTAIN_ROUNDS, Summary, Verdict, paired_ratios, verdict};

/// Frames a second at which round-trip times are compared: no revision is near its limit.
const PACED_PPS: u64 = 200_000;

/// What is compared: measure, figure, how it is called, whether more is better.
const COMPARED: [(Measure, &str, &str, bool); 3] = [
    (Measure::Overload, "mpps_received", "Mpps flat out", true),
    (Measure::PacedLatency(PACED_PPS), "rtt_p50_us", "median RTT, µs, at 0.2 Mpps", false),
    (Measure::PacedLatency(PACED_PPS), "rtt_p99_us", "99 % RTT, µs, at 0.2 Mpps", false),
];

/// `shunt-perf compare`.
pub fn run(settings: &Compare) -> Result<()> {
    let rounds = settings.common.rounds.max(CERTAIN_ROUNDS);
    let common = Common { rounds, dut: vec![Kind::Shunt], ..settings.common.clone() };
    let mut variants = [built(&settings.before)?, built(&settings.after)?];
    // The same revision twice shows what noise alone does.
    if variants[0].0 == variants[1].0 {
        variants[1].0.push_str(" again");
    }
    let mut session = Session::start(&common)?;
    let mut cells = Vec::new();
    for size in &settings.size {
        let load = Load { size: *size, ..settings.load };
        let measures = vec![Measure::Overload, Measure::PacedLatency(PACED_PPS)];
        cells.extend(variants.iter().map(|variant| Cell {
            dut: Kind::Shunt,
            variant: Some(variant.clone()),
            work: Work::Frames(load, measures.clone()),
        }));
    }
    let records = session.run(&cells, |_| Ok(()))?;
    let names = [variants[0].0.as_str(), variants[1].0.as_str()];
    for cell in cells.chunks(2) {
        if let Work::Frames(load, _) = &cell[0].work {
            let text = table(&records, *load, names, rounds, settings.least);
            if common.json { eprint!("{text}") } else { print!("{text}") }
        }
    }
    session.finish()
}

/// One line for each thing compared: the verdict first.
fn table(records: &[Record], load: Load, [before, after]: [&str; 2], rounds: u32, least: f64) -> String {
    let mut text = format!("\n{after} beside {before}, {load}, {rounds} rounds; medians [least … most]\n");
    for (measure, figure, title, more_is_better) in COMPARED {
        let values = |variant: &str| -> Vec<Option<f64>> {
            let is_it = |record: &&Record, round| {
                record.load == load
                    && record.round == round
                    && record.variant.as_deref() == Some(variant)
                    && record.measure == measure.name()
            };
            let of_round = |round| records.iter().find(|record| is_it(record, round))?.figures.get(figure).copied();
            (1..=rounds).map(of_round).collect()
        };
        let (old, new) = (values(before), values(after));
        let ratios = paired_ratios(&new, &old);
        let words = match (verdict(&ratios, least), more_is_better) {
            (Verdict::More, true) | (Verdict::Less, false) => "faster",
            (Verdict::Less, true) | (Verdict::More, false) => "slower",
            (Verdict::Same, _) => "no difference",
            (Verdict::TooFew, _) => "too few rounds",
        };
        let spread = |values: &[f64], digits| Summary::of(values).map_or_else(|| "-".to_owned(), |s| s.spread(digits));
        let present = |values: &[Option<f64>]| values.iter().flatten().copied().collect::<Vec<_>>();
        let _ = writeln!(
            text,
            "{words:<14} ratio {:<24} {title}: {} → {}",
            spread(&ratios, 3),
            spread(&present(&old), 3),
            spread(&present(&new), 3)
        );
    }
    text
}

/// Builds a revision unless that has been done; its name and where its programs are.
fn built(revision: &str) -> Result<(String, PathBuf)> {
    let root = PathBuf::from(git(Path::new("."), &["rev-parse", "--show-toplevel"])?);
    if revision == "." {
        build(&root, &root.join("target"))?;
        return Ok(("working tree".to_owned(), root.join("target/release")));
    }
    let commit = git(&root, &["rev-parse", "--verify", &format!("{revision}^{{commit}}")])?;
    let folder = root.join("target/compare");
    let programs = folder.join(&commit);
    if !programs.join("shuntctl").is_file() {
        let tree = Worktree::add(&root, folder.join(format!("tree-{commit}")), &commit)?;
        // One target folder for all revisions: what they have in common is built once.
        build(&tree.path, &folder.join("target"))?;
        std::fs::create_dir_all(&programs).with_context(|| format!("cannot make {}", programs.display()))?;
        for program in ["shuntd", "shuntctl"] {
            let from = folder.join("target/release").join(program);
            std::fs::copy(&from, programs.join(program)).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok((format!("{revision} ({})", &commit[..7]), programs))
}

fn build(tree: &Path, target: &Path) -> Result<()> {
    eprintln!("shunt-perf: building {}", tree.display());
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--locked", "--quiet", "-p", "shunt-control", "--bins"]);
    let status = cargo.current_dir(tree).env("CARGO_TARGET_DIR", target).status().context("cannot run cargo")?;
    ensure!(status.success(), "cargo could not build {} ({status})", tree.display());
    Ok(())
}

fn git(folder: &Path, arguments: &[&str]) -> Result<String> {
    Ok(process::run(Command::new("git").current_dir(folder).args(arguments))?.trim().to_owned())
}

/// A checked-out revision; removed when dropped.
struct Worktree {
    root: PathBuf,
    path: PathBuf,
}

impl Worktree {
    fn add(root: &Path, path: PathBuf, commit: &str) -> Result<Self> {
        let tree = Self { root: root.to_owned(), path };
        // One that a killed run has left is in the way.
        if tree.path.exists() {
            tree.remove()?;
        }
        git(root, &["worktree", "add", "--quiet", "--detach", &tree.path.display().to_string(), commit])?;
        Ok(tree)
    }

    fn remove(&self) -> Result<String> {
        git(&self.root, &["worktree", "remove", "--force", &self.path.display().to_string()])
    }
}

impl Drop for Worktree {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("shunt-perf: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    #[test]
    fn a_certain_difference_is_told_and_noise_is_not() {
        let mut records = Vec::new();
        for round in 1..=8 {
            for (variant, speed) in [("old", 1.0), ("new", 1.2)] {
                let mut overload = record(Kind::Shunt, "overload", round, &[("mpps_received", speed)]);
                let noise = if round % 2 == 0 { 0.9 } else { 1.1 };
                let rtt = if variant == "new" { noise } else { 1.0 };
                let mut latency =
                    record(Kind::Shunt, "latency-paced", round, &[("rtt_p50_us", rtt), ("rtt_p99_us", speed)]);
                overload.variant = Some(variant.to_owned());
                latency.variant = Some(variant.to_owned());
                records.extend([overload, latency]);
            }
        }
        let text = table(&records, Load::default(), ["old", "new"], 8, 0.01);
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("ratio")).collect();
        assert!(lines[0].starts_with("faster") && lines[0].contains("1.200 [1.200 … 1.200]"), "{text}");
        assert!(lines[1].starts_with("no difference"), "{text}");
        assert!(lines[2].starts_with("slower"), "{text}");
    }
}
