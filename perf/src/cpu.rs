//! What did each core do with its time between two moments?

use std::collections::HashMap;

use anyhow::{Context, Result};

/// Shares of one core's time, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Usage {
    /// The core's number.
    pub core: usize,
    /// Programs, niced ones too.
    pub user: f64,
    /// The kernel on behalf of programs.
    pub system: f64,
    /// Hard and soft interrupts.
    pub irq: f64,
    /// Taken by the hypervisor: a sign that a measurement was disturbed from outside.
    pub steal: f64,
    /// Nothing to do, or waiting for a disk.
    pub idle: f64,
}

impl Usage {
    /// All shares times `factor`.
    pub fn scaled(&self, factor: f64) -> Self {
        let Self { core, user, system, irq, steal, idle } = *self;
        let [user, system, irq, steal, idle] = [user, system, irq, steal, idle].map(|share| share * factor);
        Self { core, user, system, irq, steal, idle }
    }
}

/// The kernel's tick counters of all cores, and of this program with all that it has started, at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    cores: Vec<(usize, [u64; 8])>,
    own_user: u64,
}

impl Snapshot {
    /// Reads `/proc/stat`, and `/proc/PID/stat` of every process.
    pub fn take() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let entries = std::fs::read_dir("/proc").context("cannot list /proc")?;
        // A process may end at any moment: what cannot be read is not there.
        let processes = entries.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok());
        let own_user = user_ticks_below(std::process::id(), processes.filter_map(|text| Process::parse(&text)));
        Ok(Self { cores: parse_cores(&text), own_user })
    }

    /// What happened from `earlier` until this snapshot.
    pub fn since(&self, earlier: &Self) -> Vec<Usage> {
        let pairs = self.cores.iter().zip(&earlier.cores);
        pairs
            .map(|((core, now), (_, before))| {
                let ticks: Vec<f64> =
                    now.iter().zip(before).map(|(now, before)| now.saturating_sub(*before) as f64).collect();
                let total = ticks.iter().sum::<f64>().max(1.0);
                let share = |fields: &[usize]| fields.iter().map(|field| ticks[*field]).sum::<f64>() / total;
                Usage {
                    core: *core,
                    user: share(&[0, 1]),
                    system: share(&[2]),
                    irq: share(&[5, 6]),
                    steal: share(&[7]),
                    idle: share(&[3, 4]),
                }
            })
            .collect()
    }
    /// Cores' worth of user time spent since `earlier` by programs that are not ours: compilers and the like, which
    /// disturb a measurement.
    pub fn others_since(&self, earlier: &Self) -> f64 {
        let sum = |snapshot: &Self, fields: &[usize]| -> u64 {
            snapshot.cores.iter().flat_map(|(_, ticks)| fields.iter().map(|field| ticks[*field])).sum()
        };
        let grown = |fields: &[usize]| sum(self, fields).saturating_sub(sum(earlier, fields)) as f64;
        let total = grown(&[0, 1, 2, 3, 4, 5, 6, 7]).max(1.0);
        let own = self.own_user.saturating_sub(earlier.own_user) as f64;
        (grown(&[0, 1]) - own).max(0.0) / total * self.cores.len() as f64
    }
}

/// The lines `cpuN user nice system idle iowait irq softirq steal …` (proc_stat(5)).
fn parse_cores(text: &str) -> Vec<(usize, [u64; 8])> {
    let cores = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let core = words.next()?.strip_prefix("cpu")?.parse().ok()?;
        let mut ticks = [0; 8];
        for tick in &mut ticks {
            *tick = words.next()?.parse().ok()?;
        }
        Some((core, ticks))
    });
    cores.collect()
}

/// What of `/proc/PID/stat` matters here.
struct Process {
    pid: u32,
    parent: u32,
    user_ticks: u64,
}

impl Process {
    /// `PID (NAME) STATE PARENT …`, user time being field 14 (proc_pid_stat(5)); the name may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let (pid, rest) = text.split_once(" (")?;
        let fields: Vec<&str> = rest.rsplit_once(") ")?.1.split_whitespace().collect();
        Some(Self {
            pid: pid.parse().ok()?,
            parent: fields.get(1)?.parse().ok()?,
            user_ticks: fields.get(11)?.parse().ok()?,
        })
    }
}

/// User time of the process `root` and of all its living descendants.
fn user_ticks_below(root: u32, processes: impl Iterator<Item = Process>) -> u64 {
    let processes: Vec<Process> = processes.collect();
    let parents: HashMap<u32, u32> = processes.iter().map(|process| (process.pid, process.parent)).collect();
    let is_below = |pid: u32| {
        // A chain of parents is never longer than the list, even if it was read while it changed.
        std::iter::successors(Some(pid), |pid| parents.get(pid).copied()).take(parents.len() + 1).any(|pid| pid == root)
    };
    processes.iter().filter(|process| is_below(process.pid)).map(|process| process.user_ticks).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str =
        "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 0 100 100 0 0 0 0 0 0\ncpu1 0 0 0 50 0 0 0 0 0 0\nintr 5\n";
    const AFTER: &str =
        "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 110 10 140 120 0 5 10 5 0 0\ncpu1 0 0 0 150 0 0 0 0 0 0\nintr 6\n";

    fn snapshot(text: &str, own_user: u64) -> Snapshot {
        Snapshot { cores: parse_cores(text), own_user }
    }

    #[test]
    fn shares_come_from_differences_per_core() {
        let usage = snapshot(AFTER, 0).since(&snapshot(BEFORE, 0));
        assert_eq!(usage[0], Usage { core: 0, user: 0.2, system: 0.4, irq: 0.15, steal: 0.05, idle: 0.2 });
        assert_eq!(usage[1], Usage { core: 1, user: 0.0, system: 0.0, irq: 0.0, steal: 0.0, idle: 1.0 });
        assert_eq!(usage.len(), 2);
    }

    #[test]
    fn time_of_others_is_what_is_left_of_user_time() {
        // 20 ticks of user time in 200 of two cores, 15 of them ours.
        let others = snapshot(AFTER, 40).others_since(&snapshot(BEFORE, 25));
        assert!((others - 0.05).abs() < 1e-9, "{others}");
    }

    #[test]
    fn descendants_count_and_strangers_do_not() {
        let stat = |pid: u32, name: &str, parent: u32, ticks: u64| {
            Process::parse(&format!("{pid} ({name}) S {parent} 1 1 0 -1 0 0 0 0 0 {ticks} 77 0 0\n"))
                .expect("as the kernel writes it")
        };
        let processes = [
            stat(10, "perf", 1, 1),
            stat(11, "odd) S 1 (name", 10, 20),
            stat(12, "pmd", 11, 300),
            stat(13, "cc", 1, 4000),
        ];
        assert_eq!(user_ticks_below(10, processes.into_iter()), 321);
        assert!(Process::parse("nonsense").is_none());
    }
}
