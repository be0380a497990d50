//! How much happened in the last seconds, the last minute, the last hour?
//!
//! Totals are sampled from time to time; rates are differences between samples.

use crate::dataplane::Load;
use crate::drops::{self, Counts};
use crate::state::State;
use shunt_switch::reason::Reason;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// How often [`History::sample`] is wanted.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// Samples in a minute.
const PER_MINUTE: usize = 12;
/// Minutes that are kept.
const MINUTES: usize = 60;

/// What had been counted at one time.
pub struct Sample {
    at: Instant,
    /// By event name.
    pub events: BTreeMap<String, u64>,
    /// By worker.
    pub loads: Vec<Load>,
    /// Packets received, by device and worker.
    pub received: BTreeMap<(u16, usize), u64>,
    /// Packets dropped, by port and reason.
    pub drops: Counts,
}

/// The past of the counters.
#[derive(Default)]
pub struct History {
    /// The last minute, oldest first.
    recent: VecDeque<Sample>,
    /// One sample a minute, oldest first.
    minutes: VecDeque<(Instant, BTreeMap<String, u64>)>,
    samples: usize,
    /// The workers' loads when `dpif-netdev/pmd-stats-clear` was last said.
    cleared: Vec<Load>,
}

/// Events per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Over the last 5 seconds.
    pub seconds: f64,
    /// Over the last minute.
    pub minute: f64,
    /// Over the last hour.
    pub hour: f64,
    /// Since the start.
    pub total: u64,
}

impl History {
    /// Keeps what has been counted up to now.
    pub fn sample(&mut self, state: &State) {
        let sample = Sample::take(state);
        if self.samples.is_multiple_of(PER_MINUTE) {
            self.minutes.push_back((sample.at, sample.events.clone()));
            self.minutes.drain(..self.minutes.len().saturating_sub(MINUTES + 1));
        }
        self.samples += 1;
        self.recent.push_back(sample);
        self.recent.drain(..self.recent.len().saturating_sub(PER_MINUTE + 1));
    }

    /// The oldest sample of the last minute.
    pub fn minute_ago(&self) -> Option<&Sample> {
        self.recent.front()
    }

    /// Drops as they were 5 to 10 seconds before `now`, or as early as is known, and how many seconds before.
    pub fn drops_before(&self, now: &Sample) -> Option<(&Counts, f64)> {
        let age = |sample: &Sample| now.at.saturating_duration_since(sample.at);
        let sample = self.recent.iter().rev().find(|sample| age(sample) >= INTERVAL).or(self.recent.front())?;
        Some((&sample.drops, age(sample).as_secs_f64()))
    }

    /// Every event that ever happened, with its rates. As in OVS, each is the mean over the whole span, also where the switch
    /// has not run so long.
    pub fn rates(&self, now: &Sample) -> Vec<(String, Rates)> {
        let before = |events: Option<&BTreeMap<String, u64>>, name: &str| {
            events.map_or(0, |events| events.get(name).copied().unwrap_or(0))
        };
        let rate = |name: &str, total: u64| {
            let span = |count: u64, seconds: f64| total.saturating_sub(count) as f64 / seconds;
            Rates {
                seconds: span(before(self.recent.back().map(|sample| &sample.events), name), INTERVAL.as_secs_f64()),
                minute: span(before(self.recent.front().map(|sample| &sample.events), name), 60.0),
                hour: span(before(self.minutes.front().map(|(_, events)| events), name), 3600.0),
                total,
            }
        };
        now.events
            .iter()
            .filter(|(_, total)| **total > 0)
            .map(|(name, &total)| (name.clone(), rate(name, total)))
            .collect()
    }

    /// What the workers did since they were last cleared.
    pub fn loads(&self, state: &State) -> Vec<Load> {
        let none = Load::default();
        let loads = state.dataplane.loads().into_iter().enumerate();
        loads.map(|(worker, load)| load.since(self.cleared.get(worker).unwrap_or(&none))).collect()
    }

    /// From now on [`History::loads`] begins at nothing.
    pub fn clear_loads(&mut self, state: &State) {
        self.cleared = state.dataplane.loads();
    }
}

impl Sample {
    /// What has been counted up to now.
    pub fn take(state: &State) -> Self {
        let loads = state.dataplane.loads();
        let mut events = BTreeMap::new();
        let mut add = |name: &str, n: u64| *events.entry(name.to_owned()).or_insert(0) += n;
        for load in &loads {
            add("worker_turn", load.turns);
            add("worker_busy_turn", load.busy_turns);
            add("worker_sleep", load.sleeps);
            add("rx_burst", load.bursts);
            add("packet_received", load.packets);
            add("packet_forwarded", load.forwarded);
            add("packet_crossed_workers", load.crossed);
            add("copy_made", load.copies);
        }
        let statistics = state.statistics();
        add("packet_sent", statistics.iter().map(|(_, totals)| totals.tx_packets).sum());
        for &reason in Reason::ALL {
            let dropped = statistics.iter().map(|(_, totals)| totals.dropped(reason)).sum();
            add(&format!("drop_{}", reason.name()), dropped);
        }
        for bridge in state.bridges.values() {
            let stats = bridge.fdb.stats();
            add("mac_learning_learned", stats.learned);
            add("mac_learning_expired", stats.expired);
            add("mac_learning_evicted", stats.evicted);
            add("mac_learning_moved", stats.moved);
        }
        add("snapshot_installed", state.generation());
        let mut received = BTreeMap::new();
        for port in state.ports.values() {
            let Some(device) = state.devices.get(&port.device) else { continue };
            for (worker, packets) in port.received_by_worker().enumerate() {
                *received.entry((device.index.0, worker)).or_insert(0) += packets;
            }
        }
        let drops = drops::counts(statistics.iter().map(|(name, totals)| (name.as_str(), totals)));
        Self { at: Instant::now(), events, loads, received, drops }
    }
}
