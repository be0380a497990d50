//! What does the configuration ask of the data plane? A typed, checked view of the database's rows.
//!
//! A value that the schema allows but the switch cannot do (an unknown interface type, a bond) becomes a [`Wanted::refused`]
//! text on that interface, and from there its `error` column: one bad row never stops the others.

use crate::database::{Database, RowRef};
use crate::guards;
use crate::mirrors::Mirror;
use crate::placement::{Affinity, parse_affinity, parse_cpu_mask};
use shunt_switch::limits;
use shunt_switch::table::guard::GuardConfig;
use shunt_switch::table::vlan::{Mode, PriorityTags, VlanConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;

/// Everything the reconciler needs to know of the configuration.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Model {
    /// By bridge name.
    pub bridges: BTreeMap<String, Bridge>,
    /// By interface name, over all bridges: OVS's index makes them unique.
    pub interfaces: BTreeMap<String, Interface>,
    /// `next_cfg`: the configuration that clients wait for.
    pub next_cfg: i64,
    /// How often `statistics` are refreshed (`other_config:stats-update-interval`), in milliseconds.
    pub stats_interval_ms: u64,
    /// How the workers run.
    pub polling: Polling,
}

/// How the workers run: the keys of `Open_vSwitch`'s `other_config` that begin with `pmd-`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Polling {
    /// `pmd-cpu-mask`: the cores to run workers on.
    pub cores: Option<Vec<usize>>,
    /// `pmd-sleep-max`: the longest that a worker may sleep at a time.
    pub sleep_max: Option<Duration>,
    /// `pmd-rxq-isolate` is false: a core that a queue names polls others too.
    pub mixed: bool,
    /// What could not be read.
    pub problem: Option<String>,
}

/// A bridge, as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Bridge {
    /// Its row.
    pub uuid: Uuid,
    /// After how many seconds without a packet an entry goes.
    pub ageing_s: u64,
    /// Most entries of the FDB.
    pub fdb_size: usize,
    /// VLANs without learning.
    pub flood_vlans: BTreeSet<u16>,
    /// Forward reserved multicast.
    pub forward_bpdu: bool,
    /// Its mirrors.
    pub mirrors: Vec<Mirror>,
    /// Multicast snooping, if it is to be on.
    pub snooping: Option<Snooping>,
}

/// A bridge's multicast snooping, as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Snooping {
    /// After how many seconds without a report a member goes.
    pub ageing_s: u64,
    /// Most groups.
    pub groups: usize,
    /// What nobody has asked for goes to all.
    pub flood_unregistered: bool,
}

/// An interface with what matters of the port and the bridge that it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct Interface {
    /// Its row.
    pub uuid: Uuid,
    /// The bridge's name.
    pub bridge: String,
    /// The port's name.
    pub port: String,
    /// The port's VLAN columns.
    pub vlan: VlanConfig,
    /// The port's `protected`.
    pub protected: bool,
    /// The port's row.
    pub port_uuid: Uuid,
    /// Limits on what comes in.
    pub guard: GuardConfig,
    /// The port gets all groups (`other_config:mcast-snooping-flood`).
    pub mcast_flood: bool,
    /// The port gets reports (`other_config:mcast-snooping-flood-reports`).
    pub mcast_flood_reports: bool,
    /// The port says that it is an uplink (`other_config:uplink=true`).
    pub uplink: bool,
    /// The device behind it, or why it cannot be served.
    pub wanted: Wanted,
    /// `mtu_request`.
    pub mtu_request: Option<u32>,
    /// `mac`: the address that an internal interface's host end gets.
    pub mac: Option<[u8; 6]>,
    /// `ofport_request`.
    pub ofport_request: Option<u16>,
    /// The `ofport` that it had before a restart.
    pub ofport_before: Aside<Option<u16>>,
    /// `options:n_rxq`.
    pub n_rxq: Option<u32>,
    /// `options:xdp-mode`, `best-effort` if unset.
    pub xdp_mode: String,
    /// `other_config:pmd-rxq-affinity`.
    pub affinity: Affinity,
    /// A setting that could not be read, so that it is as if it were not there.
    pub problem: Option<String>,
}

/// A value that does not make a configuration another one: the daemon writes it itself.
#[derive(Debug, Clone, Copy)]
pub struct Aside<T>(pub T);

impl<T> PartialEq for Aside<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Which device an interface stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// All frames of the network device with the interface's name.
    Device,
    /// One VLAN of an uplink: `eth0.181`.
    SubPort {
        /// The uplink's name.
        device: String,
        /// The VLAN identifier, 1 to 4094.
        vid: u16,
    },
    /// The host's own leg: a veth pair of ours.
    Internal,
    /// Not to be served; the text says why and what to do.
    Refused(String),
}

/// Longest payload that the switch carries, in octets.
pub const MTU_MAX: u32 = 9000;
/// Longest `pmd-sleep-max`, as in OVS.
const PMD_SLEEP_MAX_US: u64 = 10_000;
/// Shortest MTU, in octets: what every IPv4 host must take (RFC 791).
pub const MTU_MIN: u32 = 576;

/// Splits `eth0.181` into the uplink's name and the VLAN identifier.
pub fn split_sub_port(name: &str) -> Option<(&str, u16)> {
    let (device, vid) = name.rsplit_once('.')?;
    let canonical = !vid.starts_with('0') && vid.bytes().all(|b| b.is_ascii_digit());
    let vid = vid.parse().ok().filter(|vid| (1..=4094).contains(vid))?;
    (canonical && !device.is_empty()).then_some((device, vid))
}

/// `eth0.5000`: written like a sub-port, but there is no such VLAN.
fn out_of_range(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('.')
        .filter(|(device, vid)| !device.is_empty() && !vid.is_empty() && vid.bytes().all(|b| b.is_ascii_digit()))
}

impl Model {
    /// Reads the configuration. `links` says which device names exist other than as a kernel VLAN sub-interface, since such
    /// a device is meant as it stands even if its name looks like `eth0.181`.
    pub fn read(db: &Database, is_plain_device: impl Fn(&str) -> bool) -> Self {
        let mut model = Self { stats_interval_ms: 5000, ..Self::default() };
        if let Some(root) = db.rows("Open_vSwitch").next() {
            model.next_cfg = root.get("next_cfg").as_integer().unwrap_or(0);
            if let Some(ms) = number(root, "stats-update-interval") {
                model.stats_interval_ms = ms.max(1000);
            }
            model.polling = Polling::read(root);
        }
        for row in db.rows("Bridge") {
            let Some(name) = row.get("name").as_str() else { continue };
            model.bridges.insert(name.to_owned(), Bridge::read(db, row));
            for port in row.get("ports").uuids().filter_map(|uuid| db.row("Port", &uuid)) {
                model.read_port(db, name, port, &is_plain_device);
            }
        }
        model
    }

    fn read_port(&mut self, db: &Database, bridge: &str, port: RowRef<'_>, is_plain_device: &impl Fn(&str) -> bool) {
        let port_name = port.get("name").as_str().unwrap_or_default();
        let interfaces: Vec<_> = port.get("interfaces").uuids().collect();
        for uuid in &interfaces {
            let Some(row) = db.row("Interface", uuid) else { continue };
            let name = row.get("name").as_str().unwrap_or_default();
            let mut interface = Interface::read(row, name, is_plain_device);
            if interfaces.len() > 1 {
                interface.wanted = Wanted::Refused(format!(
                    "port {port_name} is a bond of {} interfaces and bonds are not supported yet: give each interface a port of its own",
                    interfaces.len()
                ));
            }
            interface.bridge = bridge.to_owned();
            interface.port = port_name.to_owned();
            interface.vlan = vlan_config(port);
            interface.protected = port.get("protected").as_bool().unwrap_or(false);
            interface.port_uuid = port.uuid();
            let (guard, problem) = guards::read(port, row);
            (interface.guard, interface.problem) = (guard, interface.problem.or(problem));
            let other_is_true = |key| port.get("other_config").get(key) == Some("true");
            interface.uplink = other_is_true("uplink");
            interface.mcast_flood = other_is_true("mcast-snooping-flood");
            interface.mcast_flood_reports = other_is_true("mcast-snooping-flood-reports");
            self.interfaces.insert(name.to_owned(), interface);
        }
    }
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

fn vlan_config(port: RowRef<'_>) -> VlanConfig {
    let other = port.get("other_config");
    VlanConfig {
        mode: port.get("vlan_mode").as_str().and_then(|mode| match mode {
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

impl Interface {
    /// Its frames are tagged on the device: it must never hide their tags from us.
    pub fn carries_tags(&self) -> bool {
        let is_access = match self.vlan.mode {
            Some(mode) => mode == Mode::Access,
            None => self.vlan.tag.is_some(),
        };
        !is_access || matches!(self.wanted, Wanted::SubPort { .. })
    }

    fn read(row: RowRef<'_>, name: &str, is_plain_device: &impl Fn(&str) -> bool) -> Self {
        let options = row.get("options");
        let number = |column: &str| {
            let number = row.get(column).as_integer().and_then(|number| u16::try_from(number).ok());
            number.filter(|number| (1..0xff00).contains(number))
        };
        let mut problem = None;
        let n_rxq = options.get("n_rxq").and_then(|text| {
            let n = text.parse().ok().filter(|&n| n > 0);
            if n.is_none() {
                problem = Some(format!("options:n_rxq={text} of {name} is not a number of queues: set it from 1 on"));
            }
            n
        });
        let affinity = row.get("other_config").get("pmd-rxq-affinity").and_then(|text| {
            let affinity = parse_affinity(text);
            if affinity.is_none() {
                problem = Some(format!(
                    "other_config:pmd-rxq-affinity={text} of {name} is not a list of queue:core: write \"0:3,1:5\""
                ));
            }
            affinity
        });
        Self {
            uuid: row.uuid(),
            bridge: String::new(),
            port: String::new(),
            vlan: VlanConfig::default(),
            protected: false,
            port_uuid: Uuid::nil(),
            guard: GuardConfig::default(),
            mcast_flood: false,
            mcast_flood_reports: false,
            uplink: false,
            wanted: wanted(name, row.get("type").as_str().unwrap_or_default(), is_plain_device),
            mtu_request: row.get("mtu_request").as_integer().and_then(|mtu| u32::try_from(mtu).ok()),
            mac: row.get("mac").as_str().and_then(parse_mac),
            ofport_request: number("ofport_request"),
            ofport_before: Aside(number("ofport")),
            n_rxq,
            xdp_mode: options.get("xdp-mode").unwrap_or("best-effort").to_owned(),
            affinity: affinity.unwrap_or_default(),
            problem,
        }
    }
}

fn wanted(name: &str, kind: &str, is_plain_device: &impl Fn(&str) -> bool) -> Wanted {
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

/// Reads `00:11:22:33:44:55`.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *octet = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// Writes `00:11:22:33:44:55`.
pub fn format_mac(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_port_names() {
        assert_eq!(split_sub_port("eth0.181"), Some(("eth0", 181)));
        assert_eq!(split_sub_port("a.b.4094"), Some(("a.b", 4094)));
        assert!(matches!(wanted("eth0.4095", "", &|_| false), Wanted::Refused(_)));
        assert_eq!(wanted("eth0.4095", "", &|_| true), Wanted::Device);
        for name in ["eth0", "eth0.", "eth0.0", "eth0.4095", "eth0.0181", ".5", "eth0.x", "eth0.+1", "eth0.99999"] {
            assert_eq!(split_sub_port(name), None, "{name}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(parse_mac("00:11:22:aa:bb:ff").map(format_mac).as_deref(), Some("00:11:22:aa:bb:ff"));
        for text in ["", "00:11:22:aa:bb", "00:11:22:aa:bb:ff:00", "0:11:22:aa:bb:ff", "00:11:22:aa:bb:fg"] {
            assert_eq!(parse_mac(text), None, "{text}");
        }
    }
}
