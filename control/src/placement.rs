//! Which worker polls which queue? Pure: configuration in, places out.
//!
//! As in OVS: a queue whose core is named in `pmd-rxq-affinity` is polled there, and that core then polls no others unless
//! `pmd-rxq-isolate` is false; all other queues go to the workers that are left, in turn.

use std::collections::{BTreeMap, BTreeSet};

/// Core by queue number, from `other_config:pmd-rxq-affinity`.
pub type Affinity = BTreeMap<u16, usize>;

/// The rules for all queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Worker by core.
    workers: BTreeMap<usize, usize>,
    /// Workers for queues without a core of their own; never empty unless there are no workers.
    shared: Vec<usize>,
}

impl Placement {
    /// From the core of each worker and the affinity of everything that is configured.
    pub fn new<'a>(cores: &[Option<usize>], affinities: impl IntoIterator<Item = &'a Affinity>, isolate: bool) -> Self {
        let workers: BTreeMap<usize, usize> =
            cores.iter().enumerate().filter_map(|(worker, core)| Some(((*core)?, worker))).collect();
        let named: BTreeSet<usize> = affinities.into_iter().flat_map(|affinity| affinity.values().copied()).collect();
        let everybody = || workers.values().copied().collect::<BTreeSet<_>>();
        let alone: BTreeSet<_> =
            named.iter().filter(|_| isolate).filter_map(|core| workers.get(core).copied()).collect();
        let left = &everybody() - &alone;
        let shared = if left.is_empty() { everybody() } else { left };
        Self { shared: shared.into_iter().collect(), workers }
    }

    /// The worker of each of the `queues` of device number `device`.
    pub fn of(&self, device: u16, queues: usize, affinity: &Affinity) -> Vec<usize> {
        let place = |queue: usize| {
            let own = affinity.get(&(queue as u16)).and_then(|core| self.workers.get(core));
            let turn = (usize::from(device) + queue) % self.shared.len().max(1);
            own.or(self.shared.get(turn)).copied().unwrap_or(0)
        };
        (0..queues).map(place).collect()
    }

    /// Only queues that name this worker's core are polled there.
    pub fn is_isolated(&self, worker: usize) -> bool {
        !self.shared.contains(&worker)
    }

    /// What cannot be followed in an interface's affinity: queues and cores that there are not.
    pub fn problem(&self, interface: &str, queues: usize, affinity: &Affinity) -> Option<String> {
        let cores: Vec<_> = self.workers.keys().collect();
        affinity.iter().find_map(|(queue, core)| {
            if usize::from(*queue) >= queues {
                let last = queues.saturating_sub(1);
                Some(format!(
                    "other_config:pmd-rxq-affinity of {interface} names queue {queue}, and its queues are 0 to {last}: \
                     leave it out, or raise options:n_rxq"
                ))
            } else if !self.workers.contains_key(core) {
                Some(format!(
                    "other_config:pmd-rxq-affinity of {interface} puts queue {queue} on core {core}, where no worker runs: \
                     choose from {cores:?}, or add it to other_config:pmd-cpu-mask; until then another core polls it"
                ))
            } else {
                None
            }
        })
    }
}

/// Reads `0:3,1:5`: queue 0 on core 3, queue 1 on core 5.
pub fn parse_affinity(text: &str) -> Option<Affinity> {
    let pair = |pair: &str| {
        let (queue, core) = pair.split_once(':')?;
        Some((queue.trim().parse().ok()?, core.trim().parse().ok()?))
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(pair).collect()
}

/// Reads `0x6` or `6`: hexadecimal, the lowest bit is core 0. None if it is no such number, or 0.
pub fn parse_cpu_mask(text: &str) -> Option<Vec<usize>> {
    let digits = text.strip_prefix("0x").or(text.strip_prefix("0X")).unwrap_or(text);
    let mut cores = Vec::new();
    for (place, digit) in digits.chars().rev().enumerate() {
        let bits = digit.to_digit(16)?;
        cores.extend((0..4).filter(|bit| bits >> bit & 1 != 0).map(|bit| place * 4 + bit));
    }
    (!cores.is_empty()).then_some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affinity(text: &str) -> Affinity {
        parse_affinity(text).expect(text)
    }

    #[test]
    fn masks_and_affinities() {
        assert_eq!(parse_cpu_mask("0x6"), Some(vec![1, 2]));
        assert_eq!(parse_cpu_mask("8000000000000000001"), Some(vec![0, 75]));
        for text in ["", "0", "0x0", "0xg", "-1", "1,2"] {
            assert_eq!(parse_cpu_mask(text), None, "{text}");
        }
        assert_eq!(affinity("0:3, 1:5,"), [(0, 3), (1, 5)].into());
        for text in ["0", "0:", ":1", "a:b", "0:1:2", "0:-1"] {
            assert_eq!(parse_affinity(text), None, "{text}");
        }
    }

    #[test]
    fn queues_take_turns_unless_they_name_a_core() {
        let (none, pinned) = (Affinity::new(), affinity("1:7"));
        let cores = [Some(3), None, Some(7), Some(4)];
        let even = Placement::new(&cores, [&none], true);
        assert_eq!(even.of(1, 4, &none), [2, 3, 0, 2]);
        let split = Placement::new(&cores, [&none, &pinned], true);
        assert_eq!(split.of(0, 3, &none), [0, 3, 0], "worker 2 is kept free");
        assert_eq!(split.of(0, 3, &pinned), [0, 2, 0]);
        assert_eq!([0, 2].map(|worker| split.is_isolated(worker)), [false, true]);
        let together = Placement::new(&cores, [&none, &pinned], false);
        assert_eq!(together.of(0, 3, &none), [0, 2, 3]);
        let all_named = Placement::new(&[Some(7)], [&pinned], true);
        assert_eq!(all_named.of(0, 2, &none), [0, 0], "somebody must poll it");
    }

    #[test]
    fn what_cannot_be_followed_is_told() {
        let placement = Placement::new(&[Some(1)], [&affinity("0:1")], true);
        assert_eq!(placement.problem("v1", 1, &affinity("0:1")), None);
        assert!(placement.problem("v1", 1, &affinity("1:1")).expect("no such queue").contains("queue 1"));
        assert!(placement.problem("v1", 1, &affinity("0:9")).expect("no such core").contains("core 9"));
    }
}
