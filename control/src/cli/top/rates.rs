//! What happened between two looks at the switch, by port and worker?

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// One look.
#[derive(Clone, Default)]
pub(super) struct Sample {
    /// Seconds of some clock.
    pub(super) at_s: f64,
    ports: BTreeMap<String, PortStats>,
    workers: Vec<WorkerStats>,
    /// By port.
    bridges: BTreeMap<String, String>,
    /// Lines about the busiest flows, if the daemon can tell.
    pub(super) flows: Vec<String>,
}

#[derive(Clone, Default, Deserialize)]
struct PortStats {
    rx_packets: u64,
    rx_bytes: u64,
    tx_packets: u64,
    tx_bytes: u64,
    drops: BTreeMap<String, u64>,
}

#[derive(Clone, Default, Deserialize)]
struct WorkerStats {
    core: usize,
    queues: Vec<Value>,
    packets: u64,
    batch_mean: f64,
    cycles_per_packet: f64,
    busy_s: f64,
    total_s: f64,
}

/// A port between two looks.
#[derive(Clone, Default)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) bridge: String,
    pub(super) rx_pps: f64,
    pub(super) rx_bps: f64,
    pub(super) tx_pps: f64,
    pub(super) tx_bps: f64,
    pub(super) drops_ps: f64,
    /// Since the port was added.
    pub(super) dropped: u64,
    /// Reason, packets since the port was added, and of late per second; what is dropped now first.
    pub(super) reasons: Vec<(String, u64, f64)>,
}

/// A worker between two looks.
pub(super) struct Worker {
    pub(super) core: usize,
    pub(super) queues: usize,
    /// 0 to 1.
    pub(super) busy_share: f64,
    pub(super) pps: f64,
    pub(super) batch_mean: f64,
    pub(super) cycles_per_packet: f64,
}

impl Sample {
    /// From the answers to `port/stats`, `worker/show` and `dpif/show`.
    pub(super) fn new(at_s: f64, ports: Value, workers: Value, bridges: &Value) -> Result<Self, serde_json::Error> {
        let (ports, workers) = (serde_json::from_value(ports)?, serde_json::from_value(workers)?);
        let bridges = bridges["bridges"].as_object().into_iter().flatten().flat_map(|(bridge, ports)| {
            let ports = ports.as_object().into_iter().flatten();
            ports.map(move |(port, _)| (port.clone(), bridge.clone()))
        });
        Ok(Self { at_s, ports, workers, bridges: bridges.collect(), flows: Vec::new() })
    }

    /// Ports by name, as they were since `before`. One that was not there then begins at nothing.
    pub(super) fn ports_since(&self, before: &Sample) -> Vec<Port> {
        let seconds = self.at_s - before.at_s;
        let none = PortStats::default();
        let port = |(name, now): (&String, &PortStats)| {
            let old = before.ports.get(name).unwrap_or(&none);
            let of = |read: fn(&PortStats) -> u64| per_second(read(now), read(old), seconds);
            let drops = now.drops.iter().filter(|(_, packets)| **packets > 0);
            let mut reasons: Vec<_> = drops
                .map(|(reason, &packets)| {
                    let old = old.drops.get(reason).copied().unwrap_or(0);
                    (reason.clone(), packets, per_second(packets, old, seconds))
                })
                .collect();
            reasons.sort_by(|a, b| b.2.total_cmp(&a.2).then(b.1.cmp(&a.1)));
            Port {
                name: name.clone(),
                bridge: self.bridges.get(name).cloned().unwrap_or_default(),
                rx_pps: of(|stats| stats.rx_packets),
                rx_bps: of(|stats| stats.rx_bytes) * 8.0,
                tx_pps: of(|stats| stats.tx_packets),
                tx_bps: of(|stats| stats.tx_bytes) * 8.0,
                drops_ps: reasons.iter().fold(0.0, |sum, (_, _, rate)| sum + rate),
                dropped: reasons.iter().map(|(_, packets, _)| packets).sum(),
                reasons,
            }
        };
        self.ports.iter().map(port).collect()
    }

    /// Workers by core, as they were since `before`.
    pub(super) fn workers_since(&self, before: &Sample) -> Vec<Worker> {
        let seconds = self.at_s - before.at_s;
        let worker = |now: &WorkerStats| {
            let none = WorkerStats::default();
            let old = before.workers.iter().find(|old| old.core == now.core).unwrap_or(&none);
            let packets = now.packets.saturating_sub(old.packets) as f64;
            // Means since the start make sums again.
            let cycles = |stats: &WorkerStats| stats.cycles_per_packet * stats.packets as f64;
            let bursts = |stats: &WorkerStats| ratio(stats.packets as f64, stats.batch_mean);
            Worker {
                core: now.core,
                queues: now.queues.len(),
                busy_share: ratio(now.busy_s - old.busy_s, now.total_s - old.total_s).clamp(0.0, 1.0),
                pps: per_second(now.packets, old.packets, seconds),
                batch_mean: ratio(packets, bursts(now) - bursts(old)),
                cycles_per_packet: ratio(cycles(now) - cycles(old), packets),
            }
        };
        self.workers.iter().map(worker).collect()
    }
}

/// A count that went back began anew.
fn per_second(now: u64, before: u64, seconds: f64) -> f64 {
    ratio(now.checked_sub(before).unwrap_or(now) as f64, seconds)
}

/// `a / b`, 0 of nothing.
fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

/// At most five characters: `999`, `1.00k`, `12.3M`.
pub(super) fn short(n: f64) -> String {
    // A sum of nothing is -0.
    let mut n = n + 0.0;
    for (place, unit) in ["", "k", "M", "G", "T"].into_iter().enumerate() {
        if n < 999.5 || unit == "T" {
            return match (place, n) {
                (0, n) => format!("{n:.0}"),
                (_, n) if n < 9.995 => format!("{n:.2}{unit}"),
                (_, n) if n < 99.95 => format!("{n:.1}{unit}"),
                (_, n) => format!("{n:.0}{unit}"),
            };
        }
        n /= 1000.0;
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let all = [-0.0, 0.4, 7.0, 999.4, 999.6, 9_994.0, 9_996.0, 99_960.0, 1e6, 123.4e9, 1e15];
        let texts = ["0", "0", "7", "999", "1.00k", "9.99k", "10.0k", "100k", "1.00M", "123G", "1000T"];
        assert_eq!(all.map(short), texts);
    }

    #[test]
    fn what_was_not_there_begins_at_nothing() {
        let stats = |n: u64| serde_json::json!({"p": {"rx_packets": n, "rx_bytes": 0, "tx_packets": 0, "tx_bytes": 0, "drops": {"hairpin": n}}});
        let sample = |at_s, ports| Sample::new(at_s, ports, serde_json::json!([]), &Value::Null).unwrap();
        let none = sample(0.0, serde_json::json!({}));
        let (first, anew) = (sample(2.0, stats(10)), sample(4.0, stats(6)));
        assert_eq!(first.ports_since(&none)[0].rx_pps, 5.0);
        assert_eq!(anew.ports_since(&first)[0].drops_ps, 3.0, "the port was added anew");
        assert_eq!(first.ports_since(&first)[0].rx_pps, 0.0, "no time has passed");
    }
}
