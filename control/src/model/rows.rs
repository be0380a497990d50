//! How do rows become the model, and how does it follow when some of them change?
//!
//! [`Model::update`] reads what was touched and leaves the rest, so that one change among a thousand ports costs what one
//! among ten does. Beginning with everything is the same with every row touched.

use super::hosts;
use super::router::{self, Rows, StaticNeighbour, StaticRoute, Svi};
use super::{Bridge, Interface, Model, Polling, Snooping, Wanted, parse_mac, split_sub_port};
use crate::database::{Database, Delta, RowId, RowRef};
use crate::guards;
use crate::mirrors::Mirror;
use crate::placement::{parse_affinity, parse_cpu_mask};
use crate::sflow::config::{Settings, parse_sampling};
use shunt_ffi::RING_ENTRIES;
use shunt_switch::limits;
use shunt_switch::table::vlan::{Mode, PriorityTags, VlanConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;

/// Longest `pmd-sleep-max`, as in OVS.
const PMD_SLEEP_MAX_US: u64 = 10_000;

/// What an update of the model may have changed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The names of the interfaces that were read, those that are gone included.
    pub interfaces: BTreeSet<String>,
    /// Anything is different now that the workers must know.
    pub forwarding: bool,
    /// The rows of static routes that were read, those that are gone included.
    pub routes: BTreeSet<Uuid>,
    /// The same of static neighbours.
    pub neighbours: BTreeSet<Uuid>,
}

impl Model {
    /// Reads the whole configuration. `is_plain_device` says which device names exist other than as a kernel VLAN sub-interface,
    /// since such a device is meant as it stands even if its name looks like `eth0.181`.
    pub fn read(db: &Database, is_plain_device: impl Fn(&str) -> bool) -> Self {
        let mut model = Self::default();
        let all = db.touched(&Delta::of_everything(db)).into_iter().collect();
        model.update(db, &all, &BTreeSet::new(), is_plain_device);
        model
    }

    /// Reads what `rows` tell, which were touched ([`Database::touched`]), and the interfaces named like `links`, which
    /// appeared, changed or vanished.
    pub fn update(
        &mut self,
        db: &Database,
        rows: &BTreeSet<RowId>,
        links: &BTreeSet<String>,
        is_plain_device: impl Fn(&str) -> bool,
    ) -> Changed {
        let mut changed = Changed { forwarding: self.update_root(db), ..Changed::default() };
        let of_table = |name| {
            let table = db.table_id(name);
            rows.iter().filter(move |id| Some(id.table) == table).map(|id| id.uuid)
        };
        if of_table("Bridge").chain(of_table("Mirror")).chain(of_table("sFlow")).next().is_some() {
            let named = |row: RowRef<'_>| Some((row.get("name").as_str()?.to_owned(), Bridge::read(db, row)));
            let bridges = db.rows("Bridge").filter_map(named).collect();
            changed.forwarding |= std::mem::replace(&mut self.bridges, bridges) != self.bridges;
        }
        let of_ports = of_table("Port").filter_map(|uuid| db.row("Port", &uuid));
        let of_ports = of_ports.flat_map(|port| port.get("interfaces").uuids());
        let svis = db.table("SVI");
        let interface_of = |svi: Uuid| Some(svis?.strong_referrers(&svi).next_back()?.uuid);
        let of_svis = of_table("SVI").filter_map(interface_of);
        let of_links = links.iter().filter_map(|name| self.interfaces.get(name)).map(|interface| interface.uuid);
        let again: BTreeSet<Uuid> = of_table("Interface").chain(of_ports).chain(of_svis).chain(of_links).collect();
        // All that was goes first: a name may have passed from one row to another.
        let names = again.iter().filter_map(|uuid| self.names.remove(uuid));
        let mut before: BTreeMap<_, _> = names.filter_map(|name| self.interfaces.remove_entry(&name)).collect();
        let mut bridges: BTreeSet<String> = before.values().map(|interface| interface.bridge.clone()).collect();
        let mut other_svis = BTreeSet::new();
        for uuid in again {
            if let Some((name, mut interface)) = Interface::read(db, uuid, &is_plain_device) {
                let old = before.remove(&name);
                if interface.svi.is_none() {
                    // For as long as there are hosts.
                    interface.svi = old.as_ref().and_then(|old| old.svi.clone()).filter(Svi::is_implied);
                }
                changed.forwarding |= old.as_ref() != Some(&interface);
                if old.and_then(|old| old.svi) != interface.svi {
                    other_svis.insert(name.clone());
                }
                put(&mut self.pinned, &name, !interface.affinity.is_empty());
                changed.interfaces.insert(name.clone());
                bridges.insert(interface.bridge.clone());
                self.names.insert(uuid, name.clone());
                self.interfaces.insert(name, interface);
            }
        }
        changed.forwarding |= !before.is_empty();
        for (gone, old) in before {
            self.pinned.remove(&gone);
            other_svis.extend(old.svi.map(|_| gone.clone()));
            changed.interfaces.insert(gone);
        }
        let mut host_routes = BTreeSet::new();
        changed.forwarding |= self.settle_hosts(&mut changed.interfaces, &bridges, &mut other_svis, &mut host_routes);
        if !other_svis.is_empty() {
            changed.interfaces.extend(self.settle(&other_svis));
            changed.forwarding = true;
        }
        changed.routes = read_again(db, "Route", of_table("Route"), &mut self.routes, StaticRoute::read);
        changed.routes.extend(host_routes);
        changed.neighbours =
            read_again(db, "Neighbor", of_table("Neighbor"), &mut self.neighbours, StaticNeighbour::read);
        changed
    }

    /// Works out anew who has which addresses, as these SVIs came, went or changed; says who is concerned.
    fn settle(&mut self, others: &BTreeSet<String>) -> BTreeSet<String> {
        for name in others {
            let is_there = self.interfaces.get(name).is_some_and(|interface| interface.svi.is_some());
            put(&mut self.svis, name, is_there);
        }
        // Who had its addresses before keeps them.
        let newcomer = |name: &&String| others.contains(*name) || self.conflicts.contains_key(*name);
        let (last, first): (Vec<_>, Vec<_>) = self.svis.iter().partition(newcomer);
        let svi = |name: &'_ String| self.interfaces.get_key_value(name);
        let in_order = first.into_iter().chain(last).filter_map(svi);
        let in_order = in_order.filter_map(|(name, interface)| Some((name.as_str(), interface.svi.as_ref()?)));
        let conflicts = router::conflicts(in_order);
        let before = std::mem::replace(&mut self.conflicts, conflicts);
        let names = before.keys().chain(self.conflicts.keys());
        names.filter(|name| before.get(*name) != self.conflicts.get(*name)).cloned().collect()
    }

    /// True if anything but `next_cfg` and the interval is different.
    fn update_root(&mut self, db: &Database) -> bool {
        let root = db.rows("Open_vSwitch").next();
        self.next_cfg = root.and_then(|root| root.get("next_cfg").as_integer()).unwrap_or(0);
        self.stats_interval_ms = root.and_then(|root| number(root, "stats-update-interval")).unwrap_or(5000).max(1000);
        let polling = root.map(Polling::read).unwrap_or_default();
        std::mem::replace(&mut self.polling, polling) != self.polling
    }
}

pub(super) fn put(set: &mut BTreeSet<String>, name: &str, is_in: bool) {
    if is_in {
        set.insert(name.to_owned());
    } else {
        set.remove(name);
    }
}

/// Reads rows of a table again; says which.
fn read_again<T>(
    db: &Database,
    table: &str,
    touched: impl Iterator<Item = Uuid>,
    rows: &mut Rows<T>,
    read: impl Fn(RowRef<'_>) -> Result<T, String>,
) -> BTreeSet<Uuid> {
    let again = touched.inspect(|uuid| match db.row(table, uuid) {
        Some(row) => drop(rows.insert(*uuid, read(row))),
        None => drop(rows.remove(uuid)),
    });
    again.collect()
}

impl Polling {
    fn read(root: RowRef<'_>) -> Self {
        let mut polling = Self::default();
        let other = root.get("other_config");
        if let Some(mask) = other.get("pmd-cpu-mask") {
            polling.cores = parse_cpu_mask(mask);
            if polling.cores.is_none() {
                polling.problem = Some(format!(
                    "other_config:pmd-cpu-mask={mask} names no cores: give a hexadecimal mask such as 0x6 for cores 1 and 2"
                ));
            }
        }
        // The second name is that of OVS before 3.2.
        if let Some(text) = other.get("pmd-sleep-max").or(other.get("pmd-maxsleep")) {
            match text.parse().ok().filter(|us| (0..=PMD_SLEEP_MAX_US).contains(us)) {
                Some(us) => polling.sleep_max = Some(Duration::from_micros(us)),
                None => {
                    polling.problem = Some(format!(
                        "other_config:pmd-sleep-max={text} is not a number of microseconds from 0 to {PMD_SLEEP_MAX_US}: \
                         0 never sleeps, and without it a worker sleeps until something happens"
                    ));
                }
            }
        }
        polling.mixed = other.get("pmd-rxq-isolate") == Some("false");
        polling
    }
}

impl Bridge {
    fn read(db: &Database, row: RowRef<'_>) -> Self {
        let clamp =
            |value: Option<u64>, default: u64, low: u64, high: u64| value.map_or(default, |v| v.clamp(low, high));
        let (low, high) = (*limits::AGEING_S.start(), *limits::AGEING_S.end());
        let (small, large) = (*limits::FDB_SIZE.start() as u64, *limits::FDB_SIZE.end() as u64);
        Self {
            uuid: row.uuid(),
            ageing_s: clamp(number(row, "mac-aging-time"), limits::AGEING_S_DEFAULT, low, high),
            fdb_size: clamp(number(row, "mac-table-size"), limits::FDB_SIZE_DEFAULT as u64, small, large) as usize,
            flood_vlans: vids(row, "flood_vlans"),
            forward_bpdu: row.get("other_config").get("forward-bpdu") == Some("true"),
            mirrors: Mirror::read_all(db, row),
            sflow: Settings::read(db, row),
            snooping: (row.get("mcast_snooping_enable").as_bool() == Some(true)).then(|| Snooping::read(row)),
        }
    }
}

impl Snooping {
    fn read(row: RowRef<'_>) -> Self {
        // As in OVS, 0 is no setting.
        let set = |key| number(row, key).filter(|&value| value != 0);
        let (low, high) = (*limits::MDB_AGEING_S.start(), *limits::MDB_AGEING_S.end());
        let (small, large) = (*limits::MDB_SIZE.start() as u64, *limits::MDB_SIZE.end() as u64);
        let groups =
            set("mcast-snooping-table-size").map_or(limits::MDB_SIZE_DEFAULT as u64, |n| n.clamp(small, large));
        let ageing_s = set("mcast-snooping-aging-time").map_or(limits::MDB_AGEING_S_DEFAULT, |s| s.clamp(low, high));
        let drops = row.get("other_config").get("mcast-snooping-disable-flood-unregistered") == Some("true");
        Self { ageing_s, groups: groups as usize, flood_unregistered: !drops }
    }
}

/// A port with hosts behind it is one of access.
fn vlan_config(port: RowRef<'_>, has_hosts: bool) -> VlanConfig {
    let other = port.get("other_config");
    let mode = if has_hosts { Some("access") } else { port.get("vlan_mode").as_str() };
    VlanConfig {
        mode: mode.and_then(|mode| match mode {
            "access" => Some(Mode::Access),
            "trunk" => Some(Mode::Trunk),
            "native-tagged" => Some(Mode::NativeTagged),
            "native-untagged" => Some(Mode::NativeUntagged),
            "dot1q-tunnel" => Some(Mode::Dot1qTunnel),
            _ => None,
        }),
        tag: port.get("tag").as_integer().and_then(|tag| u16::try_from(tag).ok()),
        trunks: vids(port, "trunks").into_iter().collect(),
        cvlans: vids(port, "cvlans").into_iter().collect(),
        qinq_8021q: other.get("qinq-ethtype").is_some_and(|tpid| tpid.eq_ignore_ascii_case("802.1q")),
        priority_tags: match other.get("priority-tags") {
            Some("if-nonzero" | "true") => PriorityTags::IfNonzero,
            Some("always") => PriorityTags::Always,
            _ => PriorityTags::Never,
        },
    }
}

/// The bridge and the port that an interface belongs to. Should there be several, the last.
fn owners<'a>(db: &'a Database, interface: &Uuid) -> Option<(RowRef<'a>, RowRef<'a>)> {
    let (interfaces, ports) = (db.table("Interface")?, db.table("Port")?);
    let of_port = |port: Uuid| Some((ports.strong_referrers(&port).next_back()?.uuid, port));
    let (bridge, port) = interfaces.strong_referrers(interface).filter_map(|port| of_port(port.uuid)).max()?;
    Some((db.row("Bridge", &bridge)?, db.row("Port", &port)?))
}

impl Interface {
    /// The interface of a row, and its name; none if the row is gone or belongs to no bridge.
    fn read(db: &Database, uuid: Uuid, is_plain_device: &impl Fn(&str) -> bool) -> Option<(String, Self)> {
        let row = db.row("Interface", &uuid)?;
        let (bridge, port) = owners(db, &uuid)?;
        let name = row.get("name").as_str().unwrap_or_default();
        let port_name = port.get("name").as_str().unwrap_or_default();
        let siblings = port.get("interfaces").len();
        let options = row.get("options");
        let number = |column: &str| {
            let number = row.get(column).as_integer().and_then(|number| u16::try_from(number).ok());
            number.filter(|number| (1..0xff00).contains(number))
        };
        let mut problem = None;
        let n_rxq = setting(
            options.get("n_rxq"),
            |text| text.parse().ok().filter(|&n| n > 0),
            &mut problem,
            |text| format!("options:n_rxq={text} of {name} is not a number of queues: set it from 1 on"),
        );
        let n_rxq_desc = setting(options.get("n_rxq_desc"), ring_entries, &mut problem, |text| {
            let (least, most) = RING_ENTRIES.into_inner();
            format!(
                "options:n_rxq_desc={text} of {name} is not a power of two from {least} to {most}: set it to 2048 for a port that gets bursts"
            )
        });
        let affinity = row.get("other_config").get("pmd-rxq-affinity");
        let affinity = setting(affinity, parse_affinity, &mut problem, |text| {
            format!("other_config:pmd-rxq-affinity={text} of {name} is not a list of queue:core: write \"0:3,1:5\"")
        });
        let sflow_sampling = port
            .get("other_config")
            .get("sflow-sampling")
            .and_then(|text| parse_sampling(text, port_name).map_err(|text| problem = Some(text)).ok());
        let (hosts, hosts_problem) = hosts::read(name, row);
        let (guard, guard_problem) = guards::read(port, row, hosts.as_ref());
        let is_true = |key| port.get("other_config").get(key) == Some("true");
        let interface = Self {
            uuid,
            bridge: bridge.get("name").as_str()?.to_owned(),
            port: port_name.to_owned(),
            vlan: vlan_config(port, hosts.is_some()),
            protected: port.get("protected").as_bool().unwrap_or(false),
            port_uuid: port.uuid(),
            guard,
            sflow_sampling,
            mcast_flood: is_true("mcast-snooping-flood"),
            mcast_flood_reports: is_true("mcast-snooping-flood-reports"),
            uplink: is_true("uplink"),
            wanted: match siblings {
                0 | 1 => wanted(name, row.get("type").as_str().unwrap_or_default(), is_plain_device),
                _ => Wanted::Refused(format!(
                    "port {port_name} is a bond of {siblings} interfaces and bonds are not supported yet: give each interface a port of its own"
                )),
            },
            mtu_request: row.get("mtu_request").as_integer().and_then(|mtu| u32::try_from(mtu).ok()),
            mac: row.get("mac").as_str().and_then(parse_mac),
            svi: Svi::read(db, name, row),
            ofport_request: number("ofport_request"),
            ofport_before: super::Aside(number("ofport")),
            n_rxq,
            n_rxq_desc,
            xdp_mode: options.get("xdp-mode").unwrap_or("best-effort").to_owned(),
            affinity: affinity.unwrap_or_default(),
            hosts,
            problem: problem.or(hosts_problem).or(guard_problem),
        };
        Some((name.to_owned(), interface))
    }
}

/// What a setting says, if it is there; one that says nothing becomes the problem.
fn setting<T>(
    text: Option<&str>,
    parse: impl Fn(&str) -> Option<T>,
    problem: &mut Option<String>,
    complaint: impl Fn(&str) -> String,
) -> Option<T> {
    let text = text?;
    let value = parse(text);
    if value.is_none() {
        *problem = Some(complaint(text));
    }
    value
}

fn ring_entries(text: &str) -> Option<u32> {
    text.parse().ok().filter(|entries: &u32| entries.is_power_of_two() && RING_ENTRIES.contains(entries))
}

/// Which device an interface of this name and type stands for.
pub(super) fn wanted(name: &str, kind: &str, is_plain_device: &impl Fn(&str) -> bool) -> Wanted {
    match kind {
        "internal" => Wanted::Internal,
        "" | "system" | "afxdp" | "afxdp-nonpmd" => match split_sub_port(name) {
            Some((device, vid)) if !is_plain_device(name) => Wanted::SubPort { device: device.to_owned(), vid },
            None if !is_plain_device(name)
                && let Some((device, vid)) = out_of_range(name) =>
            {
                Wanted::Refused(format!(
                    "interface {name} names VLAN {vid} of {device}, and VLANs go from 1 to 4094: choose one of these"
                ))
            }
            _ => Wanted::Device,
        },
        other => Wanted::Refused(format!(
            "interface {name} has type {other}, which is not supported: use system (a NIC or veth, the default) or internal"
        )),
    }
}

/// `eth0.5000`: written like a sub-port, but there is no such VLAN.
fn out_of_range(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('.')
        .filter(|(device, vid)| !device.is_empty() && !vid.is_empty() && vid.bytes().all(|b| b.is_ascii_digit()))
}

fn vids(row: RowRef<'_>, column: &str) -> BTreeSet<u16> {
    row.get(column)
        .integers()
        .filter_map(|vid| u16::try_from(vid).ok())
        .filter(|&vid| vid < limits::VLANS as u16)
        .collect()
}

fn number(row: RowRef<'_>, key: &str) -> Option<u64> {
    row.get("other_config").get(key)?.parse().ok()
}
