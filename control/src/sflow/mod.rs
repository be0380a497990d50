//! What do collectors learn of the switch?
//!
//! sFlow version 5 as Open vSwitch is told to do it ([`config`]): samples of packets and of drops, which the workers put into
//! their taps ([`shunt_switch::tap`]), and counters. The daemon comes to look ten times a second while there is anything to
//! do, encodes what it finds ([`wire`], [`agent`]) and sends it at once, so no sample is older than that.
//!
//! A record names ports by the numbers of the snapshot that was in force. All taps are emptied before the next snapshot is made,
//! and a number is given to another port only after that, so the numbers still mean what they meant.

mod agent;
pub mod config;
pub mod counters;
pub mod flows;
pub mod wire;

use crate::dataplane::Dataplane;
use crate::model::Model;
use crate::routing::rib::NextHop;
use crate::state::Port;
use crate::state::router::Router;
use agent::{Active, Agent, Seen, Wanted};
use config::Settings;
use flows::Flows;
use shunt_switch::config::PortIndex;
use shunt_switch::table::bucket::Bucket;
use shunt_switch::table::next_hop::InterfaceIndex;
use shunt_switch::table::sampler::{Sampler, Sampling};
use shunt_switch::tap::{Cause, Outcome, Record};
use shunt_switch::wire::ethernet::Mac;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::{ExtendedRouter, Source};

/// How often taps are emptied and datagrams sent while some bridge is sampled.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// All agents, and what they know.
pub struct Sflow {
    started: Instant,
    /// By bridge. One that is no longer sampled keeps its numbers.
    agents: BTreeMap<String, Agent>,
    /// By interface.
    ports: BTreeMap<String, PortSampling>,
    /// What a worker's port numbers mean, those of ports that are gone included.
    known: HashMap<PortIndex, Known>,
    hosts: Hosts,
    sockets: Option<[UdpSocket; 2]>,
    octets: Vec<u8>,
    /// The greatest flows among the samples.
    pub flows: Flows,
    /// What collectors were told.
    pub totals: Totals,
    /// Samples that workers have lost of the ports that there are.
    lost: u64,
}

/// What collectors were told since the start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Datagrams sent, one for each collector.
    pub datagrams: u64,
    /// Datagrams that the system did not take.
    pub datagrams_lost: u64,
    /// Samples of packets.
    pub packets: u64,
    /// Drops.
    pub drops: u64,
    /// Samples of counters.
    pub counters: u64,
    /// Packets that were drawn for a sample, and did not fit a worker's tap.
    pub lost: u64,
}

/// What the kernel says of devices and addresses.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// By name: the kernel's number.
    pub links: HashMap<String, u32>,
    /// By the kernel's number of the device.
    pub addresses: Vec<(u32, IpAddr)>,
}

/// What is sampled of a port.
struct PortSampling {
    index: PortIndex,
    /// Those from before there were more workers, too; the last is in use.
    blocks: Vec<Arc<[Sampler]>>,
    sampling: Arc<Sampling>,
}

/// What a port's number means.
#[derive(Clone)]
struct Known {
    name: Arc<str>,
    bridge: Arc<str>,
    ifindex: u32,
}

impl Default for Sflow {
    fn default() -> Self {
        let (agents, ports, known, hosts, sockets, octets, flows, totals, lost) = Default::default();
        Self { started: Instant::now(), agents, ports, known, hosts, sockets, octets, flows, totals, lost }
    }
}

impl Sflow {
    /// Some bridge is sampled.
    pub fn is_on(&self) -> bool {
        self.agents.values().any(|agent| agent.active.is_some())
    }

    /// Why a bridge is not sampled though it should be.
    pub fn problem(&self, bridge: &str) -> Option<&str> {
        self.agents.get(bridge)?.problem.as_deref()
    }

    /// What the workers are to do for an interface's port.
    pub fn sampling_of(&self, interface: &str) -> Option<Arc<Sampling>> {
        self.ports.get(interface).map(|port| Arc::clone(&port.sampling))
    }

    /// Takes over what the kernel says; true if some agent has another address now, so that [`Sflow::update`] is due.
    pub fn set_hosts(&mut self, model: &Model, hosts: Hosts) -> bool {
        self.hosts = hosts;
        let other = |(name, bridge): (&String, &crate::model::Bridge)| {
            let Some(Ok(settings)) = &bridge.sflow else { return false };
            let agent = self.agents.get(name);
            let now = agent.and_then(|agent| agent.active.as_ref()).map(|active| active.address);
            match resolve(settings, &self.hosts) {
                Ok(address) => Some(address) != now,
                Err(problem) => agent.and_then(|agent| agent.problem.as_ref()) != Some(&problem),
            }
        };
        model.bridges.iter().any(other)
    }

    /// Brings agents and ports in line with what is configured and attached. Taps must be empty: see [`Sflow::collect`].
    pub fn update(&mut self, model: &Model, attached: &BTreeMap<String, Port>, workers: usize) {
        if self.agents.is_empty() && model.bridges.values().all(|bridge| bridge.sflow.is_none()) {
            return;
        }
        let now = Instant::now();
        self.update_agents(model);
        let ifindex_of = |name: &str, port: &Port| {
            [name, &port.device].into_iter().find_map(|name| self.hosts.links.get(name)).copied()
        };
        self.ports.retain(|name, own| attached.get(name).is_some_and(|port| port.index == own.index));
        let mut sources: BTreeMap<&str, Wanted> = BTreeMap::new();
        for (name, port) in attached {
            // A port without a number of the kernel is not told of: nobody could say which it is.
            let ifindex = ifindex_of(name, port).unwrap_or(0);
            let known = Known { name: name.as_str().into(), bridge: port.bridge.as_str().into(), ifindex };
            self.known.insert(port.index, known);
            let active = self.agents.get(&port.bridge).and_then(|agent| agent.active.as_ref());
            let Some(active) = active.filter(|_| ifindex != 0) else {
                self.ports.remove(name);
                continue;
            };
            let wanted = model.interfaces.get(name).and_then(|interface| interface.sflow_sampling);
            let mut blocks = self.ports.remove(name).map_or_else(Vec::new, |own| own.blocks);
            if blocks.last().is_none_or(|block| block.len() != workers) {
                blocks.push((0..workers).map(|_| Sampler::new(random())).collect());
            }
            let sampling = Arc::new(Sampling {
                rate: wanted.unwrap_or(active.settings.sampling),
                header: active.settings.header,
                notices: active.notices.clone(),
                samplers: Arc::clone(&blocks[blocks.len() - 1]),
            });
            let of_bridge = sources.entry(&port.bridge).or_default();
            let (names, all) = of_bridge.entry(Source::Port(ifindex)).or_default();
            names.push(name.clone());
            all.extend(blocks.iter().cloned());
            self.ports.insert(name.clone(), PortSampling { index: port.index, blocks, sampling });
        }
        for (bridge, agent) in &mut self.agents {
            let mut wanted = sources.remove(bridge.as_str()).unwrap_or_default();
            if agent.active.is_some() {
                wanted.insert(agent.itself(), Default::default());
            }
            agent.set_sources(wanted, now, || random() as f64 / u64::MAX as f64);
        }
    }

    fn update_agents(&mut self, model: &Model) {
        self.agents.retain(|name, _| model.bridges.contains_key(name));
        for (name, bridge) in &model.bridges {
            let resolved = match &bridge.sflow {
                None => None,
                Some(Ok(settings)) => Some(resolve(settings, &self.hosts).map(|address| (settings, address))),
                Some(Err(problem)) => Some(Err(problem.clone())),
            };
            if resolved.is_none() && !self.agents.contains_key(name) {
                continue;
            }
            let free = (0..).find(|number| self.agents.values().all(|agent| agent.sub_agent != *number));
            let agent = self.agents.entry(name.clone()).or_insert_with(|| Agent::new(free.unwrap_or(0)));
            let (active, problem) = match resolved {
                None => (None, None),
                Some(Err(problem)) => (None, Some(problem)),
                Some(Ok((settings, address))) => {
                    let before = agent.active.as_ref().filter(|active| active.settings.drops_pps == settings.drops_pps);
                    let pps = settings.drops_pps;
                    let notices = match before {
                        Some(active) => active.notices.clone(),
                        None => (pps > 0).then(|| Arc::new(Bucket::new(pps, pps))),
                    };
                    (Some(Active { settings: settings.clone(), address, notices }), None)
                }
            };
            if let Some(text) = problem.as_ref().filter(|text| agent.problem.as_ref() != Some(text)) {
                tracing::warn!("bridge {name}: {text}");
            }
            (agent.active, agent.problem) = (active, problem);
        }
    }

    /// Empties the workers' taps.
    pub fn collect(&mut self, dataplane: &mut Dataplane, router: &Router) {
        let mut octets = std::mem::take(&mut self.octets);
        for tap in dataplane.taps() {
            while let Some(record) = tap.next(&mut octets) {
                self.told(&record, &octets, router);
            }
        }
        self.octets = octets;
    }

    /// A worker told of a packet.
    pub fn told(&mut self, record: &Record, header: &[u8], router: &Router) {
        let Some(input) = self.known.get(&record.port) else { return };
        let ifindex = |port: PortIndex| self.known.get(&port).map_or(0, |known| known.ifindex);
        // What workers told before they knew that nobody listens any more is no longer of interest.
        let agent = self.agents.get_mut(&*input.bridge).filter(|agent| agent.active.is_some());
        let Some(agent) = agent else { return };
        let output = match record.outcome {
            Outcome::Sent(port) | Outcome::Dropped { port, .. } => ifindex(port),
            Outcome::Flooded(_) => 0,
        };
        let taken_by = self.known.get(&record.routed_from).map(|known| &*known.name);
        let routed = taken_by.zip(record.next_hop).and_then(|(by, next_hop)| route_of(router, by, next_hop, header));
        let seen = Seen { record, header, input: input.ifindex, output, router: routed };
        match (record.cause, record.outcome) {
            (Cause::Sampled(rate), _) => {
                self.flows.add(&input.name, record, header, rate);
                self.totals.packets += u64::from(agent.sampled(&seen, rate));
            }
            (Cause::Dropped, Outcome::Dropped { reason, .. }) => {
                self.totals.drops += u64::from(agent.discarded(&seen, reason));
            }
            (Cause::Dropped, _) => {}
        }
    }

    /// Whose counters are to be told now: bridge, source, and the interfaces that it is.
    pub fn take_due(&mut self, now: Instant) -> Vec<(String, Source, Vec<String>)> {
        let mut due = Vec::new();
        for (bridge, agent) in &mut self.agents {
            for source in agent.take_due(now) {
                let names = agent.sources.get(&source).map(|state| state.names.clone()).unwrap_or_default();
                due.push((bridge.clone(), source, names));
            }
        }
        due
    }

    /// Tells counters.
    pub fn counted(&mut self, bridge: &str, source: Source, counters: &[&dyn wire::Record]) {
        if let Some(agent) = self.agents.get_mut(bridge) {
            self.totals.counters += u64::from(agent.counted(source, counters));
        }
    }

    /// All that is to be told now: collectors and datagrams.
    pub fn take(&mut self, now: Instant) -> Vec<(Vec<SocketAddr>, Vec<u8>)> {
        let uptime_ms = now.saturating_duration_since(self.started).as_millis() as u32;
        let mut all = Vec::new();
        for agent in self.agents.values_mut() {
            let datagrams = agent.take(uptime_ms);
            let targets = agent.active.as_ref().map(|active| active.settings.targets.clone()).unwrap_or_default();
            all.extend(datagrams.into_iter().map(|datagram| (targets.clone(), datagram)));
        }
        all
    }

    /// Sends them. What the system does not take is lost, and the next datagram's number tells that.
    pub fn send(&mut self, now: Instant) {
        let blocks = self.ports.values().flat_map(|port| &port.blocks).flat_map(|block| block.iter());
        let lost = blocks.map(|sampler| sampler.lost.get()).sum();
        // Of a port that is gone nothing more is lost.
        self.totals.lost += lost - std::mem::replace(&mut self.lost, lost).min(lost);
        for (targets, datagram) in self.take(now) {
            if self.sockets.is_none() {
                self.sockets = open_sockets().ok();
            }
            let Some([v4, v6]) = &self.sockets else { return };
            for target in targets {
                let socket = if target.is_ipv4() { v4 } else { v6 };
                let sent = socket.send_to(&datagram, target).is_ok();
                self.totals.datagrams += u64::from(sent);
                self.totals.datagrams_lost += u64::from(!sent);
            }
        }
    }
}

fn open_sockets() -> std::io::Result<[UdpSocket; 2]> {
    let open = |address: IpAddr| {
        let socket = UdpSocket::bind((address, 0))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let v4 = open(Ipv4Addr::UNSPECIFIED.into())?;
    // A kernel without IPv6 has IPv4 for it: sending fails, and is counted.
    let v6 = open(Ipv6Addr::UNSPECIFIED.into()).or_else(|_: std::io::Error| open(Ipv4Addr::UNSPECIFIED.into()))?;
    Ok([v4, v6])
}

fn random() -> u64 {
    RandomState::new().hash_one(0u64)
}

/// The agent's address, or why it has none and what to do.
fn resolve(settings: &Settings, hosts: &Hosts) -> Result<IpAddr, String> {
    let address = match &settings.agent {
        Some(text) => match text.parse() {
            Ok(address) => address,
            Err(_) => address_of(text, hosts)?,
        },
        None => {
            let target = settings.targets.first().ok_or("sFlow has no targets: set one")?;
            address_toward(*target).ok_or_else(|| {
                format!("sFlow has no agent, and no address of this host leads to {target}: set agent to a device or an address")
            })?
        }
    };
    match settings.targets.iter().find(|target| target.ip() == address) {
        None => Ok(address),
        Some(target) => Err(format!(
            "sFlow agent address {address} is that of the collector {target}, which could not tell agents apart: \
             set agent to a device or an address of this host alone"
        )),
    }
}

/// The address of a device: IPv4 before IPv6, the whole world's before the link's.
fn address_of(device: &str, hosts: &Hosts) -> Result<IpAddr, String> {
    let ifindex = hosts.links.get(device).ok_or_else(|| {
        format!("sFlow agent={device} is neither an address nor a device that there is: set it to one of both")
    })?;
    let own = hosts.addresses.iter().filter(|(of, _)| of == ifindex).map(|(_, address)| *address);
    let is_link_local = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    own.min_by_key(|address| (is_link_local(address), !address.is_ipv4(), *address))
        .ok_or_else(|| format!("sFlow agent={device} has no address: give it one, or set agent to an address"))
}

/// The address that packets to `target` would have.
fn address_toward(target: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    socket.local_addr().ok().map(|own| own.ip()).filter(|own| !own.is_unspecified())
}

/// By which route a packet went that the router's interface took, and that this next hop got. The prefixes are asked of the tables
/// as they are now.
fn route_of(router: &Router, interface: &str, next_hop: (InterfaceIndex, Mac), frame: &[u8]) -> Option<ExtendedRouter> {
    let vrf = &router.interfaces.get(interface)?.vrf;
    let (source, destination, _) = flows::addresses(frame)?;
    let (net, best) = router.lookup(vrf, destination)?;
    let neighbours = &router.vrfs.get(vrf)?.forwarding;
    let (index, mac) = next_hop;
    let ifindex = neighbours.ifindex(index)?;
    let got_it = |hop: &&NextHop| {
        hop.ifindex == ifindex && hop.gateway.is_none_or(|gateway| neighbours.neighbour(ifindex, gateway) == Some(mac))
    };
    let gateway = match best.hops.iter().find(got_it) {
        Some(hop) => hop.gateway,
        // The route has changed since: whose address is it?
        None => {
            let of_it =
                |(of, address, own): &(u32, IpAddr, Mac)| (*of, *own) == (ifindex, mac) && *address != destination;
            neighbours.neighbours().find(of_it).map(|(_, address, _)| address)
        }
    };
    let nowhere: IpAddr =
        if destination.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    Some(ExtendedRouter {
        // On the link itself there is none.
        next_hop: gateway.unwrap_or(nowhere),
        source_len: router.lookup(vrf, source).map_or(0, |(net, _)| net.prefix_len().into()),
        destination_len: net.prefix_len().into(),
    })
}

#[cfg(test)]
mod tests;
