//! What do the database's status columns say? (`ofport`, `error`, `link_state`, `statistics`, …)
//!
//! Pure: from the model, the links and what is attached to the values that the rows should hold. Only differences are
//! written, so an idle switch writes nothing.

use crate::database::Database;
use crate::datum::{Atom, Datum};
use crate::guards;
use crate::kernel::{Link, Links};
use crate::model::{Model, Wanted, format_mac};
use crate::state::State;
use shunt_switch::counters::PortTotals;
use shunt_switch::reason::{Reason, Side};
use shunt_switch::time::Instant;
use std::collections::BTreeMap;
use std::net::IpAddr;
use uuid::Uuid;

/// A column's new value.
pub type Update = (&'static str, Uuid, &'static str, Datum);

/// The status of these interfaces and of every bridge, as far as it differs from what the rows say.
pub fn updates<'a>(
    db: &Database,
    model: &Model,
    state: &State,
    links: &Links,
    interfaces: impl IntoIterator<Item = &'a str>,
    error: impl Fn(&str) -> Option<String>,
) -> Vec<Update> {
    let mut out = Changes { db, updates: Vec::new() };
    for name in interfaces {
        let Some(interface) = model.interfaces.get(name) else { continue };
        let port = state.ports.get(name);
        let device_name = match &interface.wanted {
            Wanted::SubPort { device, .. } => device.as_str(),
            _ => name,
        };
        let in_vrf = state.router.interfaces.get(name).filter(|svi| svi.vrf.is_some()).map(|svi| &svi.link);
        let link = in_vrf.or_else(|| links.by_name(device_name));
        let error = error(name).or_else(|| port.is_none().then(|| missing(name, device_name)));
        let ofport = port.map_or(-1, |port| port.ofport);
        out.set("Interface", interface.uuid, "ofport", ofport.into());
        out.set("Interface", interface.uuid, "error", error.into());
        for (column, value) in link_columns(link) {
            out.set("Interface", interface.uuid, column, value);
        }
        out.set("Interface", interface.uuid, "status", status(state, name, link));
    }
    for (name, bridge) in &model.bridges {
        let mac = links.by_name(name).map(|link| link.mac);
        let id = mac.map(|mac| format!("0000{}", mac.map(|octet| format!("{octet:02x}")).concat()));
        out.set("Bridge", bridge.uuid, "datapath_id", id.into());
        let mut status = state.mirrors.status(name);
        if let (Datum::Map(map), Some(problem)) = (&mut status, state.sflow.problem(name)) {
            map.insert(Atom::from("sflow"), Atom::from(problem));
        }
        out.set("Bridge", bridge.uuid, "status", status);
    }
    out.updates
}

/// Table, row and `error` of a static route or neighbour.
pub type RowError = (&'static str, Uuid, Option<String>);

/// The `error` of static routes and neighbours, as far as it differs.
pub fn rows(db: &Database, errors: Vec<RowError>) -> Vec<Update> {
    let mut out = Changes { db, updates: Vec::new() };
    errors.into_iter().for_each(|(table, uuid, error)| out.set(table, uuid, "error", error.into()));
    out.updates
}

/// The status of the SVIs on these interfaces, as far as it differs.
pub fn svis<'a>(
    db: &Database,
    model: &Model,
    state: &State,
    interfaces: impl Iterator<Item = &'a str>,
    errors: &BTreeMap<String, String>,
    duplicates: impl Fn(&str) -> Option<&'a BTreeMap<IpAddr, [u8; 6]>>,
) -> Vec<Update> {
    let mut out = Changes { db, updates: Vec::new() };
    for name in interfaces {
        let Some(svi) = model.interfaces.get(name).and_then(|interface| interface.svi.as_ref()) else { continue };
        let known = state.router.interfaces.get(name);
        let detached = || format!("interface {name} is not attached: its own error says why");
        let error = svi.problem.as_ref().or(model.conflicts.get(name)).or(errors.get(name)).cloned();
        let error = error.or_else(|| (!state.ports.contains_key(name)).then(detached));
        out.set("SVI", svi.uuid, "error", error.into());
        let mut map = BTreeMap::new();
        if let Some(known) = known {
            let link = if !known.link.admin_up { "down" } else { "up" };
            let pairs = [
                ("link_state", link.to_owned()),
                ("mac_in_use", format_mac(known.link.mac)),
                ("mtu", known.link.mtu.to_string()),
                ("ifindex", known.link.ifindex.to_string()),
            ];
            let all = duplicates(name).map(|all| all.keys().map(IpAddr::to_string).collect::<Vec<_>>().join(","));
            let pairs = pairs.into_iter().chain(all.map(|all| ("duplicates", all)));
            map.extend(pairs.map(|(key, value)| (Atom::from(key), Atom::from(value))));
        }
        out.set("SVI", svi.uuid, "status", Datum::Map(map));
    }
    out.updates
}

/// The `statistics` of every attached interface and mirror, and what ports' limits do, as far as they differ.
pub fn statistics(db: &Database, model: &Model, state: &State, now: Instant) -> Vec<Update> {
    let mut out = Changes { db, updates: Vec::new() };
    let held: BTreeMap<_, _> = state
        .bridges
        .iter()
        .map(|(name, bridge)| (name.as_str(), guards::held_by_port(bridge.fdb.held(now))))
        .collect();
    for (name, totals) in state.statistics() {
        let Some(interface) = model.interfaces.get(&name) else { continue };
        out.set("Interface", interface.uuid, "statistics", statistics_map(&totals));
        if let Some(port) = state.ports.get(&name) {
            let held = held.get(port.bridge.as_str()).and_then(|held| held.get(&port.index)).copied().unwrap_or(0);
            out.set("Port", interface.port_uuid, "status", guards::status(&port.guard.config, &totals, held));
        }
    }
    for (uuid, statistics) in state.mirrors.statistics(model) {
        out.set("Mirror", uuid, "statistics", statistics);
    }
    out.updates
}

struct Changes<'a> {
    db: &'a Database,
    updates: Vec<Update>,
}

impl Changes<'_> {
    fn set(&mut self, table: &'static str, uuid: Uuid, column: &'static str, value: Datum) {
        if self.db.row(table, &uuid).is_some_and(|row| *row.get(column) != value) {
            self.updates.push((table, uuid, column, value));
        }
    }
}

fn missing(name: &str, device: &str) -> String {
    let what = if name == device { String::new() } else { format!(" for {name}") };
    format!("could not open network device {device}{what} (No such device): it is attached as soon as it exists")
}

fn link_columns(link: Option<&Link>) -> Vec<(&'static str, Datum)> {
    let speed = link.and_then(Link::speed);
    let duplex = speed.map(|speed| if speed.full_duplex { "full" } else { "half" });
    let up_down = |up: bool| if up { "up" } else { "down" };
    vec![
        ("admin_state", link.map(|link| up_down(link.admin_up)).into()),
        ("link_state", link.map(|link| up_down(link.carrier)).into()),
        ("mac_in_use", link.map(|link| format_mac(link.mac)).into()),
        ("link_speed", speed.and_then(|speed| i64::try_from(speed.bits_per_second).ok()).into()),
        ("duplex", duplex.into()),
        ("mtu", link.map(|link| i64::from(link.mtu)).into()),
        ("ifindex", link.map(|link| i64::from(link.ifindex)).into()),
    ]
}

/// The `status` map: how the device is driven.
fn status(state: &State, name: &str, link: Option<&Link>) -> Datum {
    let mut map = BTreeMap::new();
    let mut put = |key: &str, value: String| drop(map.insert(Atom::from(key), Atom::from(value)));
    if let Some(device) = state.ports.get(name).and_then(|port| state.devices.get(&port.device)) {
        put("xdp-mode", device.attachment.mode().to_string());
        put("n_rxq", device.workers.len().to_string());
        put("n_rxq_desc", device.attachment.ring_entries().to_string());
        put("tx-checksum", if device.attachment.tx_checksum() { "receiver".into() } else { "software".into() });
        if let Some(link) = link {
            put("driver_name", link.kind.to_string());
        }
    }
    Datum::Map(map)
}

/// Packets dropped at ingress: what `rx_dropped` counts.
pub fn ingress_drops(totals: &PortTotals) -> u64 {
    let ingress = Reason::ALL.iter().filter(|reason| reason.side() == Side::Ingress);
    ingress.map(|&reason| totals.dropped(reason)).sum()
}

/// OVS's names for the counters, and `drop_REASON` for each reason.
fn statistics_map(totals: &PortTotals) -> Datum {
    let rx_dropped = ingress_drops(totals);
    let all: u64 = totals.drops.iter().sum();
    let named = [
        ("rx_packets", totals.rx_packets),
        ("rx_bytes", totals.rx_bytes),
        ("tx_packets", totals.tx_packets),
        ("tx_bytes", totals.tx_bytes),
        ("rx_dropped", rx_dropped),
        ("tx_dropped", all - rx_dropped),
    ];
    let drops = Reason::ALL.iter().map(|&reason| (format!("drop_{}", reason.name()), totals.dropped(reason)));
    let all = named.into_iter().map(|(name, n)| (name.to_owned(), n)).chain(drops);
    Datum::Map(all.map(|(name, n)| (Atom::from(name), Atom::from(i64::try_from(n).unwrap_or(i64::MAX)))).collect())
}
