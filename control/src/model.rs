//! What does the configuration ask of the data plane? A typed, checked view of the database's rows.
//!
//! A value that the schema allows but the switch cannot do (an unknown interface type, a bond) becomes a [`Wanted::refused`]
//! text on that interface, and from there its `error` column: one bad row never stops the others.

pub mod hosts;
pub mod router;
mod rows;

use crate::mirrors::Mirror;
use crate::placement::Affinity;
use crate::sflow::config::Settings;
use hosts::Hosts;
use router::{Rows, StaticNeighbour, StaticRoute, Svi};
use shunt_switch::table::guard::GuardConfig;
use shunt_switch::table::vlan::{Mode, VlanConfig};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;
use uuid::Uuid;

pub use rows::Changed;

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
    /// The interfaces that have an affinity.
    pub pinned: BTreeSet<String>,
    /// The interfaces that have an SVI.
    pub svis: BTreeSet<String>,
    /// By interface name: why an SVI that makes sense cannot be applied beside others, and what to do.
    pub conflicts: BTreeMap<String, String>,
    /// Who serves those behind interfaces with `hosts`. Routes to them are among `routes`.
    pub hosts: Hosts,
    /// Static routes.
    pub routes: Rows<StaticRoute>,
    /// Static neighbours.
    pub neighbours: Rows<StaticNeighbour>,
    /// Names of interfaces by row.
    names: HashMap<Uuid, String>,
}

impl Model {
    /// The SVI of an interface, if it is to be applied.
    pub fn svi(&self, interface: &str) -> Option<&Svi> {
        let svi = self.interfaces.get(interface)?.svi.as_ref()?;
        (svi.problem.is_none() && !self.conflicts.contains_key(interface)).then_some(svi)
    }
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
    /// Its sFlow, if it has one, or what is wrong with it.
    pub sflow: Option<Result<Settings, String>>,
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
    /// One packet in so many is sampled whatever the bridge's sFlow says (`other_config:sflow-sampling`).
    pub sflow_sampling: Option<u32>,
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
    /// The interface of the router that it is, if it is one.
    pub svi: Option<Svi>,
    /// `options:host-addresses`: those behind it have nothing else, and reach the router only.
    pub hosts: Option<BTreeSet<IpAddr>>,
    /// `ofport_request`.
    pub ofport_request: Option<u16>,
    /// The `ofport` that it had before a restart.
    pub ofport_before: Aside<Option<u16>>,
    /// `options:n_rxq`.
    pub n_rxq: Option<u32>,
    /// `options:n_rxq_desc`.
    pub n_rxq_desc: Option<u32>,
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
/// Shortest MTU, in octets: what every IPv4 host must take (RFC 791).
pub const MTU_MIN: u32 = 576;

/// Splits `eth0.181` into the uplink's name and the VLAN identifier.
pub fn split_sub_port(name: &str) -> Option<(&str, u16)> {
    let (device, vid) = name.rsplit_once('.')?;
    let canonical = !vid.starts_with('0') && vid.bytes().all(|b| b.is_ascii_digit());
    let vid = vid.parse().ok().filter(|vid| (1..=4094).contains(vid))?;
    (canonical && !device.is_empty()).then_some((device, vid))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_port_names() {
        assert_eq!(split_sub_port("eth0.181"), Some(("eth0", 181)));
        assert_eq!(split_sub_port("a.b.4094"), Some(("a.b", 4094)));
        assert!(matches!(rows::wanted("eth0.4095", "", &|_| false), Wanted::Refused(_)));
        assert_eq!(rows::wanted("eth0.4095", "", &|_| true), Wanted::Device);
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
