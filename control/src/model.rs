//! What does the configuration ask of the data plane? A typed, checked view of the database's rows.
//!
//! A value that the schema allows but the switch cannot do (an unknown interface type, a bond) becomes a [`Wanted::refused`]
//! text on that interface, and from there its `error` column: one bad row never stops the others.

use crate::database::{Database, RowRef};
use shunt_switch::limits;
use shunt_switch::table::vlan::{Mode, PriorityTags, VlanConfig};
use std::collections::{BTreeMap, BTreeSet};
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
    /// The port says that it is an uplink (`other_config:uplink=true`).
    pub uplink: bool,
    /// The device behind it, or why it cannot be served.
    pub wanted: Wanted,
    /// `mtu_request`.
    pub mtu_request: Option<u32>,
    /// `mac`: the address that an internal interface's host end gets.
    pub mac: Option<[u8; 6]>,
    /// `ofport_request`, or the `ofport` that it had before a restart.
    pub ofport_request: Option<u16>,
    /// `options:n_rxq`.
    pub n_rxq: Option<u32>,
    /// `options:xdp-mode`, `best-effort` if unset.
    pub xdp_mode: String,
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
        }
        for row in db.rows("Bridge") {
            let Some(name) = row.get("name").as_str() else { continue };
            model.bridges.insert(name.to_owned(), Bridge::read(row));
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
            interface.uplink = port.get("other_config").get("uplink") == Some("true");
            self.interfaces.insert(name.to_owned(), interface);
        }
    }
}

impl Bridge {
    fn read(row: RowRef<'_>) -> Self {
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
        }
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
        let ofport = row.get("ofport_request").as_integer().or(row.get("ofport").as_integer());
        Self {
            uuid: row.uuid(),
            bridge: String::new(),
            port: String::new(),
            vlan: VlanConfig::default(),
            protected: false,
            uplink: false,
            wanted: wanted(name, row.get("type").as_str().unwrap_or_default(), is_plain_device),
            mtu_request: row.get("mtu_request").as_integer().and_then(|mtu| u32::try_from(mtu).ok()),
            mac: row.get("mac").as_str().and_then(parse_mac),
            ofport_request: ofport.and_then(|port| u16::try_from(port).ok()).filter(|port| (1..0xff00).contains(port)),
            n_rxq: options.get("n_rxq").and_then(|n| n.parse().ok()),
            xdp_mode: options.get("xdp-mode").unwrap_or("best-effort").to_owned(),
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
