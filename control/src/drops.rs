//! Which drops are there, most pressing first, and what do they mean for the operator?
//!
//! The daemon answers `drops` with this, and `shuntctl drops --watch` reckons the rates of its own interval from two answers.

use serde::{Deserialize, Serialize};
use shunt_switch::counters::PortTotals;
use shunt_switch::reason::Reason;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Packets dropped, by port and reason; without those that are 0.
pub type Counts = BTreeMap<String, BTreeMap<Reason, u64>>;

/// What was dropped for one reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dropped {
    /// The reason's name.
    pub reason: String,
    /// Since the start.
    pub packets: u64,
    /// Of late.
    pub per_second: f64,
    /// What happened.
    pub meaning: String,
    /// Why, most likely.
    pub likely_cause: String,
    /// What to do.
    pub remedy: String,
    /// Where, most first.
    pub ports: Vec<OnPort>,
}

/// What was dropped for one reason on one port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnPort {
    /// The port's name, or that of a device that several ports share.
    pub port: String,
    /// Since the port was added.
    pub packets: u64,
    /// Of late.
    pub per_second: f64,
}

/// What ports dropped, by their statistics.
pub fn counts<'a>(statistics: impl IntoIterator<Item = (&'a str, &'a PortTotals)>) -> Counts {
    let of = |totals: &PortTotals| -> BTreeMap<Reason, u64> {
        let all = Reason::ALL.iter().map(|&reason| (reason, totals.dropped(reason)));
        all.filter(|(_, packets)| *packets > 0).collect()
    };
    let all = statistics.into_iter().map(|(name, totals)| (name.to_owned(), of(totals)));
    all.filter(|(_, drops)| !drops.is_empty()).collect()
}

/// By reason, with rates since `before`, so many seconds ago. A port that was not there then had dropped nothing.
pub fn by_reason(now: &Counts, before: Option<(&Counts, f64)>) -> Vec<Dropped> {
    let mut all: BTreeMap<Reason, Vec<OnPort>> = BTreeMap::new();
    for (port, drops) in now {
        for (&reason, &packets) in drops {
            let rate = |(before, seconds): (&Counts, f64)| {
                let earlier = before.get(port).and_then(|drops| drops.get(&reason)).copied().unwrap_or(0);
                rate(packets, earlier, seconds)
            };
            let per_second = before.map_or(0.0, rate);
            all.entry(reason).or_default().push(OnPort { port: port.clone(), packets, per_second });
        }
    }
    let dropped = |(reason, ports): (Reason, Vec<OnPort>)| Dropped {
        reason: reason.name().to_owned(),
        packets: ports.iter().map(|port| port.packets).sum(),
        per_second: 0.0,
        meaning: reason.text().to_owned(),
        likely_cause: reason.likely_cause().to_owned(),
        remedy: reason.remedy().to_owned(),
        ports,
    };
    let mut all: Vec<_> = all.into_iter().map(dropped).collect();
    sort(&mut all);
    all
}

/// Reckons all rates anew, since an earlier answer, so many seconds ago.
pub fn rate_anew(now: &mut [Dropped], before: &[Dropped], seconds: f64) {
    for dropped in &mut *now {
        let earlier = before.iter().find(|earlier| earlier.reason == dropped.reason);
        for port in &mut dropped.ports {
            let earlier = earlier.and_then(|earlier| earlier.ports.iter().find(|other| other.port == port.port));
            port.per_second = rate(port.packets, earlier.map_or(0, |port| port.packets), seconds);
        }
    }
    sort(now);
}

/// A count that went back began anew.
fn rate(packets: u64, earlier: u64, seconds: f64) -> f64 {
    packets.checked_sub(earlier).unwrap_or(packets) as f64 / seconds.max(f64::MIN_POSITIVE)
}

/// What is dropped now before what was dropped once; much before little.
fn sort(all: &mut [Dropped]) {
    for dropped in &mut *all {
        dropped.per_second = dropped.ports.iter().map(|port| port.per_second).sum();
        dropped.ports.sort_by(|a, b| b.per_second.total_cmp(&a.per_second).then(b.packets.cmp(&a.packets)));
    }
    all.sort_by(|a, b| b.per_second.total_cmp(&a.per_second).then(b.packets.cmp(&a.packets)));
}

/// For people.
pub fn text(all: &[Dropped]) -> String {
    if all.is_empty() {
        return "nothing was dropped\n".to_owned();
    }
    let mut text = String::new();
    for dropped in all {
        let _ = writeln!(text, "{}: {} packets, {:.1}/s", dropped.reason, dropped.packets, dropped.per_second);
        let _ = writeln!(text, "  {}", dropped.meaning);
        let _ = writeln!(text, "  likely cause: {}", dropped.likely_cause);
        let _ = writeln!(text, "  what to do: {}", dropped.remedy);
        for port in &dropped.ports {
            let _ = writeln!(text, "    {:<16} {:>12} {:>12.1}/s", port.port, port.packets, port.per_second);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(drops: &[(Reason, u64)]) -> PortTotals {
        let mut totals = PortTotals::default();
        drops.iter().for_each(|&(reason, packets)| totals.drops[reason as usize] = packets);
        totals
    }

    fn of(statistics: &[(&str, &[(Reason, u64)])]) -> Counts {
        let all: Vec<_> = statistics.iter().map(|(name, drops)| (*name, totals(drops))).collect();
        counts(all.iter().map(|(name, totals)| (*name, totals)))
    }

    #[test]
    fn what_is_dropped_now_comes_first() {
        let before = of(&[("a", &[(Reason::TxFull, 1_000_000), (Reason::Hairpin, 4)])]);
        let now = of(&[
            ("a", &[(Reason::TxFull, 1_000_000), (Reason::Hairpin, 6)]),
            ("b", &[(Reason::Hairpin, 40)]),
            ("idle", &[]),
        ]);
        let all = by_reason(&now, Some((&before, 4.0)));
        let reasons: Vec<_> = all.iter().map(|d| (d.reason.as_str(), d.packets, d.per_second)).collect();
        assert_eq!(reasons, [("hairpin", 46, 10.5), ("tx_full", 1_000_000, 0.0)]);
        let ports: Vec<_> = all[0].ports.iter().map(|p| (p.port.as_str(), p.packets, p.per_second)).collect();
        assert_eq!(ports, [("b", 40, 10.0), ("a", 6, 0.5)]);
        insta::assert_snapshot!(text(&all));
    }

    #[test]
    fn rates_between_two_answers_are_the_same_as_between_two_counts() {
        let before = of(&[("a", &[(Reason::TxFull, 10)]), ("gone", &[(Reason::TxFull, 5)])]);
        let now = of(&[("a", &[(Reason::TxFull, 3), (Reason::Martian, 8)])]);
        let mut anew = by_reason(&now, None);
        rate_anew(&mut anew, &by_reason(&before, None), 2.0);
        assert_eq!(anew, by_reason(&now, Some((&before, 2.0))));
        assert_eq!((anew[0].per_second, anew[1].per_second), (4.0, 1.5), "a count that went back began anew");
    }

    #[test]
    fn without_drops_it_says_so() {
        assert_eq!(text(&by_reason(&Counts::new(), None)), "nothing was dropped\n");
    }
}
