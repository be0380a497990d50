//! Which metrics are there, and where is each one read? The documentation's table is made from this one.

use super::{Control, Kind, Metric, Samples, Source};
use crate::commands::resident_kib;
use crate::dataplane::Load;
use crate::directory::{Port, View};
use crate::state::NO_PORT;
use shunt_switch::counters::{BURST_CLASSES, Counter, PortTotals};
use shunt_switch::reason::Reason;
use shunt_switch::table::fdb::Stats;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Everything that one answer tells, read once.
pub(super) struct Reading<'a> {
    control: &'a Control,
    view: View,
    totals: Vec<PortTotals>,
    /// What was counted on no port, if anything was.
    unattributed: Option<PortTotals>,
    loads: Vec<Load>,
    tables: Vec<Stats>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        let view = source.directory.view();
        let totals = view.ports.iter().map(|port| port.totals()).collect();
        let mut unattributed = PortTotals::default();
        view.rest.workers.iter().for_each(|worker| unattributed.add(&worker.counters.unattributed));
        let unattributed = Some(unattributed).filter(|totals| *totals != PortTotals::default());
        let loads = view.rest.workers.iter().map(|worker| worker.load()).collect();
        let tables = view.rest.bridges.iter().map(|(_, fdb)| fdb.stats()).collect();
        Self { control: &source.control, view, totals, unattributed, loads, tables }
    }

    fn ports(&self) -> impl Iterator<Item = (&Arc<Port>, &PortTotals)> {
        self.view.ports.iter().zip(&self.totals)
    }

    fn all_totals(&self) -> impl Iterator<Item = &PortTotals> {
        self.totals.iter().chain(&self.unattributed).chain([&self.view.retired])
    }
}

type Out<'a, 'b> = &'a mut Samples<'b>;

const fn metric(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Reading<'_>, &mut Samples<'_>) -> fmt::Result,
) -> Metric {
    Metric { name, kind, unit, labels, help, read }
}

use Kind::{Counter as COUNTER, Gauge as GAUGE, Histogram as HISTOGRAM};

const PORT: &[&str] = &["port", "bridge"];
const BRIDGE: &[&str] = &["bridge"];
const WORKER: &[&str] = &["worker", "core"];
const FAMILY: &[&str] = &["vrf", "family"];

/// Every metric, in the order of an answer.
#[rustfmt::skip]
pub const METRICS: &[Metric] = &[
    metric("shunt_build_info", GAUGE, "", &["version"], "1, of the version that runs.", |_, out| out.put(&[env!("CARGO_PKG_VERSION")], 1u64)),
    metric("process_start_time_seconds", GAUGE, "seconds since 1970", &[], "When shuntd was started.", |all, out| out.put(&[], all.control.started_s)),
    metric("process_resident_memory_bytes", GAUGE, "bytes", &[], "Memory that shuntd has in use.", |_, out| out.put(&[], resident_kib() * 1024)),

    metric("shunt_port_receive_packets_total", COUNTER, "packets", PORT, "Packets that came in by the port, dropped ones included.", |all, out| ports(all, out, |totals| totals.rx_packets)),
    metric("shunt_port_receive_bytes_total", COUNTER, "bytes", PORT, "Octets that came in by the port, without FCS.", |all, out| ports(all, out, |totals| totals.rx_bytes)),
    metric("shunt_port_transmit_packets_total", COUNTER, "packets", PORT, "Packets handed to the port's device.", |all, out| ports(all, out, |totals| totals.tx_packets)),
    metric("shunt_port_transmit_bytes_total", COUNTER, "bytes", PORT, "Octets handed to the port's device, without FCS.", |all, out| ports(all, out, |totals| totals.tx_bytes)),
    metric("shunt_port_drops_total", COUNTER, "packets", &["port", "bridge", "reason"], "Packets dropped on the port; a reason appears with its first packet.", port_drops),
    metric("shunt_drops_total", COUNTER, "packets", &["reason"], "Packets dropped on all ports, those that are gone included; every reason, from the start.", drops),
    metric("shunt_port_queues", GAUGE, "queues", PORT, "Queues of the port's device that workers poll.", |all, out| devices(all, out, |workers, _| workers.len() as u64)),
    metric("shunt_queue_worker", GAUGE, "number", &["port", "bridge", "queue"], "The worker that polls the queue.", queue_workers),
    metric("shunt_port_frame_memory_bytes", GAUGE, "bytes", PORT, "Memory for frames of the port's device.", |all, out| devices(all, out, |_, bytes| bytes)),

    metric("shunt_fdb_entries", GAUGE, "addresses", BRIDGE, "Addresses that the bridge knows.", |all, out| tables(all, out, |stats| stats.current as u64)),
    metric("shunt_fdb_entries_limit", GAUGE, "addresses", BRIDGE, "Addresses that the bridge has room for.", |all, out| tables(all, out, |stats| stats.max as u64)),
    metric("shunt_fdb_static_entries", GAUGE, "addresses", BRIDGE, "Of those that it knows: configured, or the router's own.", |all, out| tables(all, out, |stats| stats.static_entries as u64)),
    metric("shunt_fdb_learned_total", COUNTER, "addresses", BRIDGE, "Addresses learned.", |all, out| tables(all, out, |stats| stats.learned)),
    metric("shunt_fdb_expired_total", COUNTER, "addresses", BRIDGE, "Addresses forgotten because of their age.", |all, out| tables(all, out, |stats| stats.expired)),
    metric("shunt_fdb_evicted_total", COUNTER, "addresses", BRIDGE, "Addresses forgotten to make room.", |all, out| tables(all, out, |stats| stats.evicted)),
    metric("shunt_fdb_moved_total", COUNTER, "moves", BRIDGE, "Times that an address was seen behind another port than before.", |all, out| tables(all, out, |stats| stats.moved)),

    metric("shunt_fib_routes", GAUGE, "prefixes", FAMILY, "Prefixes that the workers find, neighbours on connected networks among them.", |all, out| families(all, out, |sizes| sizes.routes())),
    metric("shunt_fib_neighbours", GAUGE, "neighbours", FAMILY, "Neighbours whose MAC address is known.", |all, out| families(all, out, |sizes| sizes.neighbours())),
    metric("shunt_fib_refused_routes", GAUGE, "prefixes", &["vrf"], "Prefixes that the FIB has no room for: their packets go to the kernel.", refused_routes),
    metric("shunt_fib_memory_bytes", GAUGE, "bytes", &[], "Memory that the FIB takes, all VRFs together.", |all, out| out.put(&[], all.view.rest.fib_bytes)),

    metric("shunt_worker_busy_seconds_total", COUNTER, "seconds", WORKER, "Time spent in turns that found packets: its rate is the busy share.", |all, out| times(all, out, |load| load.busy_ns)),
    metric("shunt_worker_sleep_seconds_total", COUNTER, "seconds", WORKER, "Time slept.", |all, out| times(all, out, |load| load.slept_ns)),
    metric("shunt_worker_sleeps_total", COUNTER, "sleeps", WORKER, "How often the worker went to sleep.", |all, out| workers(all, out, |load| load.sleeps)),
    metric("shunt_worker_turns_total", COUNTER, "turns", WORKER, "Turns.", |all, out| workers(all, out, |load| load.turns)),
    metric("shunt_worker_busy_turns_total", COUNTER, "turns", WORKER, "Turns that found something to do.", |all, out| workers(all, out, |load| load.busy_turns)),
    metric("shunt_worker_busy_cycles_total", COUNTER, "cycles", WORKER, "Time-stamp counter cycles in turns that found packets: by packets, cycles per packet.", |all, out| workers(all, out, |load| load.busy_cycles)),
    metric("shunt_worker_receive_packets_total", COUNTER, "packets", WORKER, "Packets received.", |all, out| workers(all, out, |load| load.packets)),
    metric("shunt_worker_forwarded_packets_total", COUNTER, "packets", WORKER, "Packets of which at least one copy was to leave.", |all, out| workers(all, out, |load| load.forwarded)),
    metric("shunt_worker_copies_total", COUNTER, "packets", WORKER, "Copies that were to leave.", |all, out| workers(all, out, |load| load.copies)),
    metric("shunt_worker_crossed_packets_total", COUNTER, "packets", WORKER, "Packets handed to other workers.", |all, out| workers(all, out, |load| load.crossed)),
    metric("shunt_worker_burst_packets", HISTOGRAM, "packets", WORKER, "Packets found at a visit to a queue that found any.", bursts),

    metric("shunt_sflow_datagrams_total", COUNTER, "datagrams", &[], "sFlow datagrams sent to collectors.", |all, out| out.put(&[], all.view.rest.sflow.datagrams)),
    metric("shunt_sflow_datagrams_lost_total", COUNTER, "datagrams", &[], "sFlow datagrams that the system did not take.", |all, out| out.put(&[], all.view.rest.sflow.datagrams_lost)),
    metric("shunt_sflow_samples_total", COUNTER, "samples", &["kind"], "sFlow samples in those datagrams: of packets, drops and counters.", samples),
    metric("shunt_sflow_samples_lost_total", COUNTER, "samples", &[], "Packets that were drawn for a sample, and not told of because nobody had time for it.", |all, out| out.put(&[], all.view.rest.sflow.lost)),

    metric("shunt_control_transactions_total", COUNTER, "transactions", &[], "Transactions that changed the configuration.", |all, out| out.put(&[], all.control.transactions.load(Ordering::Relaxed))),
    metric("shunt_control_apply_seconds", HISTOGRAM, "seconds", &[], "From a transaction's acknowledgement until the workers go by it.", |all, out| out.put_histogram(&all.control.apply)),
    metric("shunt_control_pass_seconds", HISTOGRAM, "seconds", &[], "Passes of the reconciler, and how long each took.", |all, out| out.put_histogram(&all.control.pass)),
    metric("shunt_control_snapshots_total", COUNTER, "snapshots", &[], "Configurations that the workers were given.", |all, out| out.put(&[], all.view.rest.snapshots)),
    metric("shunt_control_interfaces_with_error", GAUGE, "interfaces", &[], "Interfaces whose column error says that something is not as configured.", |all, out| out.put(&[], all.control.errors.load(Ordering::Relaxed))),
];

fn ports(all: &Reading<'_>, out: Out<'_, '_>, read: fn(&PortTotals) -> u64) -> fmt::Result {
    all.ports().try_for_each(|(port, totals)| out.put(&[&port.name, &port.bridge], read(totals)))
}

fn port_drops(all: &Reading<'_>, out: Out<'_, '_>) -> fmt::Result {
    let known = all.ports().map(|(port, totals)| (port.name.as_str(), port.bridge.as_str(), totals));
    for (name, bridge, totals) in known.chain(all.unattributed.iter().map(|totals| (NO_PORT, "", totals))) {
        for &reason in Reason::ALL.iter().filter(|&&reason| totals.dropped(reason) > 0) {
            out.put(&[name, bridge, reason.name()], totals.dropped(reason))?;
        }
    }
    Ok(())
}

fn drops(all: &Reading<'_>, out: Out<'_, '_>) -> fmt::Result {
    let sum = |reason| all.all_totals().map(|totals| totals.dropped(reason)).sum::<u64>();
    Reason::ALL.iter().try_for_each(|&reason| out.put(&[reason.name()], sum(reason)))
}

fn devices(all: &Reading<'_>, out: Out<'_, '_>, read: fn(&[usize], u64) -> u64) -> fmt::Result {
    let mut known = all.view.ports.iter().filter_map(|port| Some((port, port.device.as_ref()?)));
    known.try_for_each(|(port, (workers, bytes))| out.put(&[&port.name, &port.bridge], read(workers, *bytes)))
}

fn queue_workers(all: &Reading<'_>, out: Out<'_, '_>) -> fmt::Result {
    for (port, (workers, _)) in all.view.ports.iter().filter_map(|port| Some((port, port.device.as_ref()?))) {
        for (queue, worker) in workers.iter().enumerate() {
            out.put(&[&port.name, &port.bridge, &queue.to_string()], *worker)?;
        }
    }
    Ok(())
}

fn samples(all: &Reading<'_>, out: Out<'_, '_>) -> fmt::Result {
    let told = &all.view.rest.sflow;
    [("packet", told.packets), ("drop", told.drops), ("counter", told.counters)]
        .into_iter()
        .try_for_each(|(kind, count)| out.put(&[kind], count))
}

fn tables(all: &Reading<'_>, out: Out<'_, '_>, read: fn(&Stats) -> u64) -> fmt::Result {
    let bridges = all.view.rest.bridges.iter().zip(&all.tables);
    bridges.into_iter().try_for_each(|((name, _), stats)| out.put(&[name], read(stats)))
}

fn families(all: &Reading<'_>, out: Out<'_, '_>, read: fn(&crate::routing::forward::Sizes) -> [i64; 2]) -> fmt::Result {
    for (vrf, sizes) in &all.view.rest.vrfs {
        for (family, n) in ["ipv4", "ipv6"].into_iter().zip(read(sizes)) {
            out.put(&[vrf, family], n.max(0) as u64)?;
        }
    }
    Ok(())
}

fn refused_routes(all: &Reading<'_>, out: Out<'_, '_>) -> fmt::Result {
    all.view.rest.vrfs.iter().try_for_each(|(vrf, sizes)| out.put(&[vrf], sizes.refused().max(0) as u64))
}

/// The values of the labels of a worker.
fn worker(index: usize, core: Option<usize>) -> [String; 2] {
    [index.to_string(), core.map(|core| core.to_string()).unwrap_or_default()]
}

fn workers(all: &Reading<'_>, out: Out<'_, '_>, read: fn(&Load) -> u64) -> fmt::Result {
    all.loads.iter().enumerate().try_for_each(|(index, load)| {
        let [index, core] = worker(index, load.core);
        out.put(&[&index, &core], read(load))
    })
}

fn times(all: &Reading<'_>, out: Out<'_, '_>, read_ns: fn(&Load) -> u64) -> fmt::Result {
    all.loads.iter().enumerate().try_for_each(|(index, load)| {
        let [index, core] = worker(index, load.core);
        out.put(&[&index, &core], read_ns(load) as f64 / 1e9)
    })
}

/// A class holds 2ⁿ to 2ⁿ⁺¹ − 1 packets.
fn bursts(all: &Reading<'_>, out: Out<'_, '_>) -> fmt::Result {
    for (index, watched) in all.view.rest.workers.iter().enumerate() {
        let [index, core] = worker(index, watched.core);
        let counts = watched.counters.bursts.iter().map(Counter::get);
        let bound =
            |class: usize| if class + 1 < BURST_CLASSES { f64::from((2u32 << class) - 1) } else { f64::INFINITY };
        let classes: Vec<_> = counts.enumerate().map(|(class, count)| (bound(class), count)).collect();
        out.put_classes(&[&index, &core], watched.counters.packets.get() as f64, &classes)?;
    }
    Ok(())
}
