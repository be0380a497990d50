//! Which sFlow does a bridge have, and what of it makes no sense?
//!
//! Columns and defaults are those of Open vSwitch. What it would quietly replace by a default is an error here, which the
//! bridge's `status` tells under `sflow`, and the bridge is not sampled.

use crate::database::{Database, RowRef};
use crate::datum::{Atom, Datum};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Where collectors listen if a target names no port.
const PORT: u16 = 6343;
/// `sampling`, `polling` and `header` where they are not set.
const DEFAULTS: [i64; 3] = [400, 30, 128];
/// Drops a second that are told of where `sflow-drops-pps` is not set.
const DROPS_PPS: u64 = 100;
/// Octets of a packet in a sample: at least its addresses and type, at most what fits a datagram with all else.
const HEADER: RangeInclusive<i64> = 14..=1024;
/// Most seconds between two counter samples of a port.
const POLLING_MAX_S: i64 = 86_400;

/// A bridge's sFlow, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Collectors.
    pub targets: Vec<SocketAddr>,
    /// The agent's address, or a device that has one; by default the address by which the first target is reached.
    pub agent: Option<String>,
    /// One packet in so many; 0 for none.
    pub sampling: u32,
    /// Time between two counter samples of a port; none without.
    pub polling: Option<Duration>,
    /// Octets of a packet.
    pub header: u16,
    /// Drops that are told of in a second; 0 for none.
    pub drops_pps: u64,
}

impl Settings {
    /// The sFlow of a bridge, if it has one, or what is wrong with it and what to do.
    pub fn read(db: &Database, bridge: RowRef<'_>) -> Option<Result<Self, String>> {
        let row = db.row("sFlow", &bridge.get("sflow").uuids().next()?)?;
        Some(Self::of_row(row, bridge.get("other_config").get("sflow-drops-pps")))
    }

    fn of_row(row: RowRef<'_>, drops_pps: Option<&str>) -> Result<Self, String> {
        let Datum::Set(targets) = row.get("targets") else { return Err("sFlow has no targets: set one".to_owned()) };
        let targets =
            targets.iter().filter_map(|target| if let Atom::String(text) = target { Some(&**text) } else { None });
        let targets: Vec<_> = targets.map(parse_target).collect::<Result<_, _>>()?;
        let column = |name: &str, default: i64, range: RangeInclusive<i64>, zero: &str| {
            let value = row.get(name).as_integer().unwrap_or(default);
            let (low, high) = (range.start(), range.end());
            let problem = || format!("sFlow {name}={value} is out of range: set it from {low} to {high}{zero}");
            if range.contains(&value) { Ok(value as u64) } else { Err(problem()) }
        };
        let [sampling, polling, header] = DEFAULTS;
        let sampling = column("sampling", sampling, 0..=i64::from(u32::MAX), ", 0 for no samples")?;
        let polling = column("polling", polling, 0..=POLLING_MAX_S, " seconds, 0 for no counters")?;
        let header = column("header", header, HEADER, " octets")?;
        let drops_pps = drops_pps.map_or(Ok(DROPS_PPS), |text| {
            let problem =
                || format!("other_config:sflow-drops-pps={text} is no number: set it from 0, which tells of none");
            text.parse().map_err(|_| problem())
        })?;
        Ok(Self {
            targets,
            agent: row.get("agent").as_str().filter(|agent| !agent.is_empty()).map(str::to_owned),
            sampling: sampling as u32,
            polling: (polling > 0).then(|| Duration::from_secs(polling)),
            header: header as u16,
            drops_pps,
        })
    }
}

/// Reads `10.0.0.1:6343`, `[2001:db8::1]:6343`, and both without a port.
fn parse_target(text: &str) -> Result<SocketAddr, String> {
    let bare = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let target = text.parse().ok().or_else(|| Some(SocketAddr::new(bare(text)?, PORT)));
    let usable = |target: &SocketAddr| target.port() != 0 && !target.ip().is_unspecified();
    target.filter(usable).ok_or_else(|| {
        format!("sFlow target \"{text}\" is no address: write one as \"10.0.0.1:{PORT}\" or \"[2001:db8::1]:{PORT}\"")
    })
}

/// Reads a port's `other_config:sflow-sampling`: one packet in so many, 0 for none.
pub fn parse_sampling(text: &str, name: &str) -> Result<u32, String> {
    text.parse().map_err(|_| {
        format!(
            "other_config:sflow-sampling={text} of {name} is not a rate: set it to N for one packet in N, or to 0 for none"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_addresses() {
        for (text, expected) in [
            ("10.0.0.1:6343", "10.0.0.1:6343"),
            ("10.0.0.1", "10.0.0.1:6343"),
            ("[2001:db8::1]:99", "[2001:db8::1]:99"),
            ("[2001:db8::1]", "[2001:db8::1]:6343"),
            ("2001:db8::1", "[2001:db8::1]:6343"),
        ] {
            assert_eq!(parse_target(text).map(|target| target.to_string()), Ok(expected.to_owned()));
        }
        for wrong in ["", "collector:6343", "10.0.0.1:0", "10.0.0.1:70000", "0.0.0.0:6343", "10.0.0:1"] {
            assert!(parse_target(wrong).is_err_and(|text| text.contains("write one as")), "{wrong}");
        }
        assert_eq!((parse_sampling("0", "p"), parse_sampling("64", "p")), (Ok(0), Ok(64)));
        assert!(parse_sampling("-1", "p").is_err() && parse_sampling("", "p").is_err());
    }
}
