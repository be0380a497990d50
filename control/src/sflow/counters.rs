//! What do counter samples count?

use super::wire::{Direction, EthernetCounters, IfCounters, Processor, Source, Tables, UNKNOWN, VlanCounters};
use crate::kernel::{Link, Links};
use crate::state::{Port, State};
use crate::status::ingress_drops;
use shunt_switch::counters::PortTotals;
use shunt_switch::reason::Reason;
use shunt_switch::table::vlan::Carried;
use std::collections::VecDeque;
use std::fs;
use std::time::{Duration, Instant};

/// The counters of a port, or of the ports that are VLANs of one device.
pub struct PortCounters {
    /// The port's name, or the device's.
    pub name: String,
    /// Of any interface.
    pub interface: IfCounters,
    /// Of Ethernet.
    pub ethernet: EthernetCounters,
    /// Of the port's VLAN, if it has only one.
    pub vlan: Option<VlanCounters>,
}

/// What a source with these interfaces counts; none if there is none.
pub fn of_ports(state: &State, links: &Links, source: Source, names: &[String]) -> Option<PortCounters> {
    let Source::Port(ifindex) = source else { return None };
    let first = state.ports.get(names.first()?)?;
    // VLANs of one device are one interface of the kernel, whoever's bridges they are in.
    let is_shared = first.link_vid.is_some() && links.by_name(&names[0]).is_none_or(|link| link.ifindex != ifindex);
    let (name, totals) = if is_shared {
        (first.device.clone(), state.device_totals(&first.device))
    } else {
        (names[0].clone(), state.port_totals(&names[0])?)
    };
    let link = links.by_ifindex(ifindex);
    Some(PortCounters {
        interface: interface(ifindex, link, &totals),
        ethernet: ethernet(&totals),
        vlan: vlan_of(first).filter(|_| !is_shared).map(|vlan| VlanCounters { vlan, received: received(&totals) }),
        name,
    })
}

/// The only VLAN that a port carries.
fn vlan_of(port: &Port) -> Option<u32> {
    match (port.vlan.carried(), port.link_vid) {
        (Carried::One(vlan), None) if vlan != 0 => Some(vlan.into()),
        (_, vid) => vid.map(u32::from),
    }
}

/// A counter of 32 bits, which wraps.
fn wrapping(count: u64) -> u32 {
    count as u32
}

fn packets(all: u64, [some, every]: [u64; 2]) -> [u32; 3] {
    [all.saturating_sub(some + every), some, every].map(wrapping)
}

/// Reasons that are faults and no decisions.
const ERRORS: [Reason; 4] = [Reason::TruncatedEthernet, Reason::TruncatedVlan, Reason::RxKernel, Reason::Descriptor];

fn received(totals: &PortTotals) -> Direction {
    let errors = ERRORS.iter().map(|reason| totals.dropped(*reason)).sum();
    let discards = ingress_drops(totals) - errors;
    let packets = packets(totals.rx_packets, totals.rx_groups);
    Direction { octets: totals.rx_bytes, packets, discards: wrapping(discards), errors: wrapping(errors) }
}

fn interface(ifindex: u32, link: Option<&Link>, totals: &PortTotals) -> IfCounters {
    let errors = totals.dropped(Reason::DeviceTx);
    let discards = totals.all_dropped() - ingress_drops(totals) - errors;
    let sent = Direction {
        octets: totals.tx_bytes,
        packets: packets(totals.tx_packets, totals.tx_groups),
        discards: wrapping(discards),
        errors: wrapping(errors),
    };
    let speed = link.and_then(Link::speed);
    IfCounters {
        ifindex,
        speed: speed.map_or(0, |speed| speed.bits_per_second),
        direction: speed.map_or(0, |speed| if speed.full_duplex { 1 } else { 2 }),
        admin_up: link.is_some_and(|link| link.admin_up),
        carrier: link.is_some_and(|link| link.carrier),
        received: received(totals),
        sent,
        promiscuous: link.is_some_and(|link| link.promiscuous),
    }
}

fn ethernet(totals: &PortTotals) -> EthernetCounters {
    let count = |reason| wrapping(totals.dropped(reason));
    EthernetCounters {
        too_long: count(Reason::Oversized),
        receive_errors: count(Reason::RxKernel),
        transmit_errors: count(Reason::DeviceTx),
    }
}

/// How full the tables are.
pub fn tables(state: &State) -> Tables {
    let stats = || state.bridges.values().map(|bridge| bridge.fdb.stats());
    let vrfs = || state.router.vrfs.values();
    let neighbours = vrfs().flat_map(|vrf| vrf.forwarding.neighbours());
    let v4 = neighbours.filter(|(_, address, _)| address.is_ipv4()).count();
    let all = vrfs().flat_map(|vrf| vrf.forwarding.neighbours()).count();
    Tables {
        macs: [stats().map(|fdb| fdb.current as u32).sum(), stats().map(|fdb| fdb.max as u32).sum()],
        routes: vrfs().map(|vrf| vrf.forwarding.routes() as u32).sum(),
        neighbours: [v4 as u32, (all - v4) as u32],
    }
}

/// How busy the host was, looked at every 5 seconds for 5 minutes.
#[derive(Default)]
pub struct HostLoad {
    /// When, and ticks so far: busy ones and all. The newest first.
    history: VecDeque<(Instant, [u64; 2])>,
}

const LOOK: Duration = Duration::from_secs(5);
const PERIODS_S: [u64; 3] = [5, 60, 300];

impl HostLoad {
    /// Looks, if it is time to.
    pub fn look(&mut self, now: Instant) {
        if self.history.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) < LOOK) {
            return;
        }
        if let Some(ticks) = fs::read_to_string("/proc/stat").ok().and_then(|text| parse_stat(&text)) {
            self.history.push_front((now, ticks));
            self.history.truncate(1 + (PERIODS_S[2] / LOOK.as_secs()) as usize);
        }
    }

    /// What is to be told of it. Where the past is not as long as asked for, what there is of it.
    pub fn processor(&self) -> Processor {
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let octets = |name: &str| {
            let line = memory.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        Processor {
            busy: PERIODS_S.map(|seconds| self.busy(seconds)),
            memory: octets("MemTotal"),
            free: octets("MemAvailable"),
        }
    }

    fn busy(&self, seconds: u64) -> u32 {
        let then = self.history.get((seconds / LOOK.as_secs()) as usize).or(self.history.back());
        let (Some((_, now)), Some((_, then))) = (self.history.front(), then) else { return UNKNOWN };
        let [busy, all] = [now[0].saturating_sub(then[0]), now[1].saturating_sub(then[1])];
        (busy * 10_000).checked_div(all).map_or(UNKNOWN, |share| share as u32)
    }
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal; what follows is in user already.
fn parse_stat(text: &str) -> Option<[u64; 2]> {
    let numbers = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
    let numbers: Vec<u64> = numbers.map(str::parse).collect::<Result<_, _>>().ok()?;
    let all = numbers.iter().sum();
    let idle = numbers.get(3)? + numbers.get(4)?;
    Some([all - idle, all])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_that_of_the_last_seconds() {
        assert_eq!(parse_stat("cpu  10 0 20 60 10 0 5 0 7 0\ncpu0 1"), Some([35, 105]));
        assert_eq!((parse_stat(""), parse_stat("cpu  1 2 x"), parse_stat("cpu  1 2 3")), (None, None, None));
        let mut load = HostLoad::default();
        assert_eq!(load.busy(5), UNKNOWN);
        let now = Instant::now();
        // A minute at a half, then 5 seconds at a tenth.
        for look in 0..=13u64 {
            let busy = if look == 13 { 12 * 250 + 50 } else { look * 250 };
            load.history.push_front((now, [busy, look * 500]));
        }
        assert_eq!(PERIODS_S.map(|seconds| load.busy(seconds)), [1000, 4666, 4692]);
    }
}
