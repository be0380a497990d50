//! Which limits do a port's columns ask for, and what is to be seen of them when they act?
//!
//! A value that makes no sense becomes a text for the interface's `error` column; that limit is then off, or what
//! `port-security` says.

use crate::database::RowRef;
use crate::datum::{Atom, Datum};
use ipnet::IpNet;
use shunt_switch::config::PortIndex;
use shunt_switch::counters::PortTotals;
use shunt_switch::reason::Reason;
use shunt_switch::table::guard::{GuardConfig, MacLimits};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Window of `mac-flap-limit` if none is set, in seconds: shorter than a host needs to move for good again and again.
const FLAP_WINDOW_S: u32 = 10;

/// `exceptions-pps` if none is set: a quarter of what passes by an interface of the router, so that one port that scans leaves the
/// others theirs.
const EXCEPTIONS_PPS: u32 = 250;

/// The limits that `port-security=strict` turns on.
fn strict() -> GuardConfig {
    GuardConfig {
        broadcast_pps: 1000,
        unknown_pps: 1000,
        multicast_pps: 1000,
        macs: MacLimits { learned_max: 32, moves_max: 5, window_ms: FLAP_WINDOW_S * 1000 },
        ..GuardConfig::default()
    }
}

/// The limits of a port and its interface, and what is wrong with the values. Senders are held to the `hosts` behind it, if it has such.
pub fn read(
    port: RowRef<'_>,
    interface: RowRef<'_>,
    hosts: Option<&BTreeSet<IpAddr>>,
) -> (GuardConfig, Option<String>) {
    let name = port.get("name").as_str().unwrap_or_default();
    let other = port.get("other_config");
    let mut problems = Vec::new();
    let mut config = match other.get("port-security") {
        Some("strict") => strict(),
        None | Some("") | Some("none") => GuardConfig::default(),
        Some(profile) => {
            problems.push(format!(
                "other_config:port-security={profile} of port {name} is unknown: use strict, or remove the key"
            ));
            GuardConfig::default()
        }
    };
    let mut number = |key: &str, range: RangeInclusive<u32>| {
        let text = other.get(key)?;
        let value = text.parse().ok().filter(|value| range.contains(value));
        if value.is_none() {
            let (low, high) = range.into_inner();
            problems.push(format!(
                "other_config:{key}={text} of port {name} is no number from {low} to {high}: set one, or remove the key"
            ));
        }
        value
    };
    let pps = 0..=u32::MAX;
    config.broadcast_pps = number("storm-broadcast-pps", pps.clone()).unwrap_or(config.broadcast_pps);
    config.unknown_pps = number("storm-unknown-pps", pps.clone()).unwrap_or(config.unknown_pps);
    config.multicast_pps = number("storm-multicast-pps", pps.clone()).unwrap_or(config.multicast_pps);
    config.exceptions_pps = number("exceptions-pps", pps).unwrap_or(EXCEPTIONS_PPS);
    let macs = &mut config.macs;
    macs.learned_max = number("mac-limit", 0..=1_000_000).unwrap_or(macs.learned_max);
    macs.moves_max = number("mac-flap-limit", 0..=1000).map_or(macs.moves_max, |moves| moves as u16);
    let window_s = number("mac-flap-window-s", 1..=3600).unwrap_or(FLAP_WINDOW_S);
    macs.window_ms = if macs.moves_max > 0 { window_s * 1000 } else { 0 };
    if let Some(text) = other.get("allowed-addresses") {
        match sources(text) {
            Ok(sources) => config.sources = sources,
            Err(wrong) => problems.push(format!(
                "other_config:allowed-addresses of port {name} has {wrong:?}: write addresses or networks with commas between, \
                 such as 10.1.1.5,2001:db8::/64"
            )),
        }
    }
    if let Some(hosts) = hosts {
        config.sources.extend(hosts.iter().map(|host| IpNet::from(*host)));
        if config.sources.is_empty() {
            // None of what is listed is an address: then nobody may speak.
            config.sources.push(IpNet::from(IpAddr::from([0; 4])));
        }
    }
    let column = |column: &str| interface.get(column).as_integer().and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    config.rate_kbps = column("ingress_policing_rate");
    config.burst_kb = column("ingress_policing_burst");
    config.rate_kpps = column("ingress_policing_kpkts_rate");
    config.burst_kpkts = column("ingress_policing_kpkts_burst");
    (config, (!problems.is_empty()).then(|| problems.join("; ")))
}

/// Reads addresses and networks, or says which is none.
fn sources(text: &str) -> Result<Vec<IpNet>, &str> {
    let one = |word: &str| word.parse().or_else(|_| word.parse::<IpAddr>().map(IpNet::from));
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| one(word).map_err(|_| word)).collect()
}

/// How many addresses are held because they moved too often, by port: where they are, and where they may not be.
pub fn held_by_port(held: impl IntoIterator<Item = [PortIndex; 2]>) -> BTreeMap<PortIndex, u64> {
    let mut by_port = BTreeMap::new();
    for port in held.into_iter().flatten() {
        *by_port.entry(port).or_default() += 1;
    }
    by_port
}

/// The Port's `status`: a key for each limit that has acted since it was attached, with the packets that it dropped; of
/// `mac-flap` the number of addresses `held` now.
pub fn status(config: &GuardConfig, totals: &PortTotals, held: u64) -> Datum {
    let dropped = |reason| totals.dropped(reason);
    let flaps = dropped(Reason::MacFlap);
    let acted = [
        ("storm-broadcast", config.broadcast_pps > 0, dropped(Reason::StormBroadcast), None),
        ("storm-unknown", config.unknown_pps > 0, dropped(Reason::StormUnknown), None),
        ("storm-multicast", config.multicast_pps > 0, dropped(Reason::StormMulticast), None),
        ("allowed-addresses", !config.sources.is_empty(), dropped(Reason::SourceGuard), None),
        ("mac-limit", config.macs.learned_max > 0, dropped(Reason::MacLimit), None),
        ("mac-flap", config.macs.moves_max > 0, flaps + held, Some(held)),
    ];
    let keys = acted.into_iter().filter(|(_, is_on, times, _)| *is_on && *times > 0);
    Datum::Map(keys.map(|(key, _, n, shown)| (Atom::from(key), Atom::from(shown.unwrap_or(n).to_string()))).collect())
}
