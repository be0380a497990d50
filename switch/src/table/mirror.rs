//! Which packets are copied to whom, besides the way that they go?
//!
//! A mirror selects packets by the ports that they come in or go out by and by their VLAN, and has one output: a port
//! (SPAN), which then serves for nothing else, or a VLAN (RSPAN). Ports know the mirrors that select them as bits of a word;
//! [`path::mirror`](crate::path::mirror) does the copying.

use crate::config::{Port, PortIndex};
use crate::counters::Counter;
use crate::table::vlan::VlanSet;
use std::sync::Arc;

/// Most mirrors of one bridge, as in OVS: one bit each.
pub const MIRRORS_MAX: usize = u32::BITS as usize;

/// What one worker counts of one mirror.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct MirrorCounters {
    /// Packets that the mirror took.
    pub packets: Counter,
    /// Their octets, as they came in.
    pub octets: Counter,
}

/// Where a mirror's copies go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// This port.
    Port(PortIndex),
    /// All ports that carry this VLAN.
    Vlan(u16),
}

/// A mirror, as the user set it.
#[derive(Clone, Debug)]
pub struct MirrorConfig {
    /// Packets that come in by these ports.
    pub sources: Vec<PortIndex>,
    /// Packets that go out by these ports.
    pub destinations: Vec<PortIndex>,
    /// Only those in these VLANs; empty for all.
    pub vlans: Vec<u16>,
    /// Where copies go.
    pub output: Output,
    /// Octets of a packet that are copied; `None` for all.
    pub snaplen: Option<u16>,
    /// One block for each worker.
    pub counters: Arc<[MirrorCounters]>,
}

/// A mirror, compiled.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Where copies go.
    pub output: Output,
    /// Most octets of a copy.
    pub snaplen: usize,
    /// The mirrors of the bridge with the same output, itself included: each packet goes there once.
    pub same_output: u32,
    /// One block for each worker.
    pub counters: Arc<[MirrorCounters]>,
    /// `None` for all.
    vlans: Option<Box<VlanSet>>,
}

impl Mirror {
    /// True for packets of this VLAN.
    #[inline]
    pub fn selects(&self, vlan: u16) -> bool {
        self.vlans.as_ref().is_none_or(|vlans| vlans.contains(vlan))
    }
}

/// What a port is to the mirrors of its bridge, by their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Those that select what comes in by it.
    pub source: u32,
    /// Those that select what goes out by it.
    pub destination: u32,
    /// It is the output of one: nothing else leaves by it, nothing comes in.
    pub is_output: bool,
}

/// Compiles one bridge's mirrors, at most [`MIRRORS_MAX`], and gives its ports their roles. Ports of other bridges have none.
pub fn compile(ports: &mut [Option<Port>], bridge: u16, configs: &[MirrorConfig]) -> Box<[Mirror]> {
    let mut role_of = |index: PortIndex, change: &dyn Fn(&mut Role)| {
        if let Some(Some(port)) = ports.get_mut(usize::from(index.0))
            && port.bridge == bridge
        {
            change(&mut port.mirror);
        }
    };
    let configs = &configs[..configs.len().min(MIRRORS_MAX)];
    for (number, config) in configs.iter().enumerate() {
        config.sources.iter().for_each(|port| role_of(*port, &|role| role.source |= 1 << number));
        config.destinations.iter().for_each(|port| role_of(*port, &|role| role.destination |= 1 << number));
        if let Output::Port(port) = config.output {
            role_of(port, &|role| role.is_output = true);
        }
    }
    let same_output = |output: Output| {
        let numbered = configs.iter().enumerate().filter(|(_, config)| config.output == output);
        numbered.fold(0, |bits, (number, _)| bits | 1 << number)
    };
    let compiled = configs.iter().map(|config| Mirror {
        output: config.output,
        snaplen: config.snaplen.map_or(usize::MAX, usize::from),
        same_output: same_output(config.output),
        counters: Arc::clone(&config.counters),
        vlans: (!config.vlans.is_empty()).then(|| Box::new(config.vlans.iter().copied().collect())),
    });
    compiled.collect()
}
