//! Which mirrors does a bridge have, and why are some of them not in force?
//!
//! The rules are those of Open vSwitch: a mirror that cannot work is left out with a text in its words, which goes to the
//! log and to the bridge's `status` under `mirror-NAME`.

use crate::database::{Database, RowRef};
use crate::datum::{Atom, Datum};
use crate::model::Model;
use crate::state::Port;
use shunt_switch::config::PortIndex;
use shunt_switch::table::mirror::{MIRRORS_MAX, MirrorConfig, MirrorCounters, Output};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// A mirror, as configured. Ports go by their names.
#[derive(Debug, Clone, PartialEq)]
pub struct Mirror {
    uuid: Uuid,
    name: String,
    select_all: bool,
    sources: Vec<String>,
    destinations: Vec<String>,
    vlans: Vec<u16>,
    output_port: Option<String>,
    output_vlan: Option<u16>,
    snaplen: Option<u16>,
}

impl Mirror {
    /// The mirrors of a bridge.
    pub fn read_all(db: &Database, bridge: RowRef<'_>) -> Vec<Self> {
        bridge.get("mirrors").uuids().filter_map(|uuid| Some(Self::read(db, db.row("Mirror", &uuid)?))).collect()
    }

    fn read(db: &Database, row: RowRef<'_>) -> Self {
        let ports = |column: &str| {
            let names = row
                .get(column)
                .uuids()
                .filter_map(|uuid| Some(db.row("Port", &uuid)?.get("name").as_str()?.to_owned()));
            names.collect::<Vec<_>>()
        };
        let number = |column: &str| row.get(column).as_integer().and_then(|n| u16::try_from(n).ok());
        Self {
            uuid: row.uuid(),
            name: row.get("name").as_str().unwrap_or_default().to_owned(),
            select_all: row.get("select_all").as_bool().unwrap_or(false),
            sources: ports("select_src_port"),
            destinations: ports("select_dst_port"),
            vlans: row.get("select_vlan").integers().filter_map(|vid| u16::try_from(vid).ok()).collect(),
            output_port: ports("output_port").pop(),
            output_vlan: number("output_vlan"),
            snaplen: number("snaplen"),
        }
    }

    /// What the workers are to do, and what is wrong with what was asked for. `ports` are the bridge's, with the numbers of
    /// those that are attached.
    fn resolve(
        &self,
        ports: &BTreeMap<&str, Option<PortIndex>>,
        counters: Arc<[MirrorCounters]>,
    ) -> (Option<MirrorConfig>, Vec<String>) {
        let mut problems = Vec::new();
        let output = match (&self.output_port, self.output_vlan) {
            (Some(port), vlan) => {
                if vlan.is_some() {
                    problems.push("specifies both output port and output vlan; ignoring output vlan".to_owned());
                }
                match ports.get(port.as_str()) {
                    None => {
                        problems.push(format!("outputs to port not on bridge: {port} is a port of another one"));
                        None
                    }
                    Some(None) => {
                        problems
                            .push(format!("outputs to port {port}, which is not attached: its interface has an error"));
                        None
                    }
                    Some(Some(index)) => Some(Output::Port(*index)),
                }
            }
            (None, Some(vlan)) => Some(Output::Vlan(vlan)),
            (None, None) => {
                problems.push("does not specify output; ignoring: set its output_port or output_vlan".to_owned());
                None
            }
        };
        let mut selected = |names: &[String]| -> Vec<PortIndex> {
            if self.select_all {
                return ports.values().copied().flatten().collect();
            }
            let unknown = names.iter().filter(|name| !ports.contains_key(name.as_str()));
            problems.extend(unknown.map(|name| format!("cannot match on nonexistent port {name}")));
            names.iter().filter_map(|name| *ports.get(name.as_str())?).collect()
        };
        let (sources, destinations) = (selected(&self.sources), selected(&self.destinations));
        if !self.select_all && self.sources.is_empty() && self.destinations.is_empty() {
            problems.push("selects no port: set select_all, select_src_port or select_dst_port".to_owned());
        }
        let (vlans, snaplen) = (self.vlans.clone(), self.snaplen);
        let config = output.map(|output| MirrorConfig { sources, destinations, vlans, output, snaplen, counters });
        (config, problems)
    }
}

/// The mirrors in force.
#[derive(Debug, Default)]
pub struct Mirrors {
    /// The last block of each is in use; those before are from when there were fewer or more workers.
    counters: BTreeMap<Uuid, Vec<Arc<[MirrorCounters]>>>,
    /// By bridge, then by mirror.
    problems: BTreeMap<String, BTreeMap<String, String>>,
}

impl Mirrors {
    /// What the workers are to do, by bridge. What is wrong is kept, and said once.
    pub fn resolve(
        &mut self,
        model: &Model,
        attached: &BTreeMap<String, Port>,
        workers: usize,
    ) -> BTreeMap<String, Vec<MirrorConfig>> {
        let (mut configs, mut counters, mut problems) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (name, bridge) in model.bridges.iter().filter(|(_, bridge)| !bridge.mirrors.is_empty()) {
            let own = model.interfaces.iter().filter(|(_, interface)| interface.bridge == *name);
            let ports: BTreeMap<&str, Option<PortIndex>> = own
                .map(|(key, interface)| (interface.port.as_str(), attached.get(key).map(|port| port.index)))
                .collect();
            let list: &mut Vec<MirrorConfig> = configs.entry(name.clone()).or_default();
            for mirror in &bridge.mirrors {
                let mut blocks = self.counters.remove(&mirror.uuid).unwrap_or_default();
                let block = match blocks.last().filter(|block| block.len() == workers) {
                    Some(block) => Arc::clone(block),
                    None => {
                        blocks.push((0..workers).map(|_| MirrorCounters::default()).collect());
                        Arc::clone(&blocks[blocks.len() - 1])
                    }
                };
                let (mut config, mut wrong) = mirror.resolve(&ports, block);
                if config.is_some() && list.len() == MIRRORS_MAX {
                    config = None;
                    wrong.push(format!("maximum of {MIRRORS_MAX} port mirrors reached, cannot create {}", mirror.name));
                }
                if let Some(config) = config {
                    counters.insert(mirror.uuid, blocks);
                    list.push(config);
                }
                if !wrong.is_empty() {
                    let of_bridge: &mut BTreeMap<_, _> = problems.entry(name.clone()).or_default();
                    of_bridge.insert(mirror.name.clone(), wrong.join("; "));
                }
            }
        }
        let news = problems.iter().filter(|(bridge, now)| self.problems.get(*bridge) != Some(now));
        for (bridge, (mirror, text)) in news.flat_map(|(bridge, now)| now.iter().map(move |one| (bridge, one))) {
            tracing::warn!("bridge {bridge}: mirror {mirror} {text}");
        }
        (self.counters, self.problems) = (counters, problems);
        configs
    }

    /// A bridge's `status`: why mirrors of it are not in force, or not wholly.
    pub fn status(&self, bridge: &str) -> Datum {
        let problems = self.problems.get(bridge).into_iter().flatten();
        let text = |mirror: &str, text: &str| format!("mirror {mirror} {text}");
        Datum::Map(
            problems.map(|(name, why)| (Atom::from(format!("mirror-{name}")), Atom::from(text(name, why)))).collect(),
        )
    }

    /// The `statistics` of all mirrors of `model`; empty for those not in force.
    pub fn statistics(&self, model: &Model) -> Vec<(Uuid, Datum)> {
        let mirrors = model.bridges.values().flat_map(|bridge| &bridge.mirrors);
        let sum = |blocks: &Vec<Arc<[MirrorCounters]>>| {
            let sum = |count: fn(&MirrorCounters) -> u64| {
                Atom::from(
                    i64::try_from(blocks.iter().flat_map(|block| block.iter()).map(count).sum::<u64>())
                        .unwrap_or(i64::MAX),
                )
            };
            let (packets, octets) = (sum(|block| block.packets.get()), sum(|block| block.octets.get()));
            [(Atom::from("tx_packets"), packets), (Atom::from("tx_bytes"), octets)]
        };
        mirrors
            .map(|mirror| {
                (mirror.uuid, Datum::Map(self.counters.get(&mirror.uuid).into_iter().flat_map(sum).collect()))
            })
            .collect()
    }
}
