//! What is compared with what, so that a floor can be held against it?

use crate::arguments::Exchange;
use crate::dut::Kind::{self, AfxdpForwarder, Bridge, OvsAfxdp, Shunt, XdpRedirect};
use crate::load::{Load, Size, Vlan, Watched};
use crate::measure::Measure;
use crate::stream::Stream;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Source {
    Frames(Load, Measure),
    Streams(u32, Stream),
}

/// A value: of which device, from where, which figure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub(crate) dut: Kind,
    pub(crate) source: Source,
    pub(crate) figure: &'static str,
}

/// One comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) value: Term,
    /// What it is divided by, if it is a ratio.
    pub(crate) base: Option<Term>,
}

const PLAIN: Load =
    Load { size: Size::Octets(64), flows: 1, macs: 1, vlan: Vlan::None, ports: 2, watched: Watched::No };
const MANY: Load = Load { flows: 1000, macs: 1000, ..PLAIN };
const PUSH: Load = Load { vlan: Vlan::Push, ..PLAIN };
const POP: Load = Load { vlan: Vlan::Pop, ..PLAIN };
const ROUTE: Load = Load { vlan: Vlan::Route, ..PLAIN };
const FLOWS: Load = Load { flows: 1000, ..PLAIN };
const SAMPLED: Load = Load { watched: Watched::Sflow, ..FLOWS };
const CAPTURED: Load = Load { watched: Watched::Capture, ..FLOWS };
const SCRAPED: Load = Load { watched: Watched::Metrics, ..FLOWS };
const PORTS: Load = Load { ports: 256, ..PLAIN };
const CHANGING: Load = Load { ports: 3, ..PLAIN };

/// All comparisons.
pub(crate) fn plan() -> Vec<Floor> {
    [throughput(), streams(), latency(), ports()].concat()
}

fn throughput() -> Vec<Floor> {
    let one = "64 octets, one flow, flat out, beside ovs-afxdp";
    let no_loss_ovs = "64 octets, one flow, without loss, beside ovs-afxdp";
    let forwarder = "flat out beside a plain AF_XDP forwarder";
    let limits = "that forwarder beside XDP redirect";
    vec![
        ratio("overload-ovs", one, flat(Shunt, PLAIN), flat(OvsAfxdp, PLAIN)),
        ratio("overload-bridge", "the same beside the Linux bridge", flat(Shunt, PLAIN), flat(Bridge, PLAIN)),
        ratio("no-loss-ovs", no_loss_ovs, no_loss(Shunt), no_loss(OvsAfxdp)),
        ratio("no-loss-bridge", "the same beside the Linux bridge", no_loss(Shunt), no_loss(Bridge)),
        alone("no-loss-loss", "share of frames lost at that rate", frames(Shunt, PLAIN, Measure::NoLoss, "loss")),
        ratio("forwarder-share", forwarder, flat(Shunt, PLAIN), flat(AfxdpForwarder, PLAIN)),
        ratio("forwarder-redirect", limits, flat(AfxdpForwarder, PLAIN), flat(XdpRedirect, PLAIN)),
        ratio("many-flows", "1000 flows over 1000 MACs beside one flow", flat(Shunt, MANY), flat(Shunt, PLAIN)),
        ratio("many-flows-ovs", "the same 1000 flows beside ovs-afxdp", flat(Shunt, MANY), flat(OvsAfxdp, MANY)),
        ratio("tag-push", "tag pushed toward an uplink, beside untagged", flat(Shunt, PUSH), flat(Shunt, PLAIN)),
        ratio("tag-pop", "tag popped from an uplink, beside untagged", flat(Shunt, POP), flat(Shunt, PLAIN)),
        ratio("routed", "routed from one VLAN to another, beside untagged", flat(Shunt, ROUTE), flat(Shunt, PLAIN)),
        ratio("sampled", "sFlow, 1 packet in 1000, beside none", flat(Shunt, SAMPLED), flat(Shunt, FLOWS)),
        ratio("captured", "a capture of 10 % of the packets, beside none", flat(Shunt, CAPTURED), flat(Shunt, FLOWS)),
        ratio("scraped", "metrics scraped each second, beside none", flat(Shunt, SCRAPED), flat(Shunt, FLOWS)),
        ratio("routed-linux", "the same beside the Linux router", flat(Shunt, ROUTE), flat(Bridge, ROUTE)),
    ]
}

fn streams() -> Vec<Floor> {
    let ovs = "TCP, 1 stream, MTU 1500, beside ovs-afxdp with offloads off";
    let four = "TCP, 4 streams, MTU 1500, beside ovs-afxdp with offloads off";
    vec![
        ratio("tcp-ovs", ovs, tcp(Shunt, 1500, 1), tcp(OvsAfxdp, 1500, 1)),
        ratio("tcp-forwarder", "1 stream beside the forwarder", tcp(Shunt, 1500, 1), tcp(AfxdpForwarder, 1500, 1)),
        ratio("tcp-bridge", "1 stream beside the Linux bridge", tcp(Shunt, 1500, 1), tcp(Bridge, 1500, 1)),
        ratio("tcp-4-ovs", four, tcp(Shunt, 1500, 4), tcp(OvsAfxdp, 1500, 4)),
        ratio("tcp-9000", "TCP, 1 stream, MTU 9000 beside MTU 1500", tcp(Shunt, 9000, 1), tcp(Shunt, 1500, 1)),
    ]
}

fn latency() -> Vec<Floor> {
    let half = |dut, figure| frames(dut, PLAIN, Measure::Latency(50), figure);
    let wake = |figure| frames(Shunt, PLAIN, Measure::WakeUp, figure);
    let (p99, p999) = ("rtt_p99_us", "rtt_p999_us");
    let beside = "RTT at half load, 99 %, beside ovs-afxdp at half of its own";
    vec![
        alone("rtt-p99", "RTT at half load, 99 %, µs", half(Shunt, p99)),
        alone("rtt-p999", "RTT at half load, 99.9 %, µs", half(Shunt, p999)),
        ratio("rtt-p99-ovs", beside, half(Shunt, p99), half(OvsAfxdp, p99)),
        ratio("rtt-p999-ovs", "the same, 99.9 %", half(Shunt, p999), half(OvsAfxdp, p999)),
        alone("idle-cpu", "idle: % of one core", frames(Shunt, PLAIN, Measure::Idle, "idle_cpu_percent")),
        alone("wake-up", "one frame to an idle switch and back, median, µs", wake("rtt_p50_us")),
        alone("wake-up-p99", "the same, 99 %, µs", wake(p99)),
    ]
}

fn ports() -> Vec<Floor> {
    let of_ports = |figure| frames(Shunt, PORTS, Measure::Overload, figure);
    let changing = |figure| frames(Shunt, CHANGING, Measure::Changes(None), figure);
    let busy = "256 ports, 2 of them busy, beside 2 ports, flat out";
    let lost = "frames that other ports lose a change, at 90 % of the rate without loss";
    let overload = "flat out while the configuration changes, beside without";
    vec![
        ratio("ports-256", busy, flat(Shunt, PORTS), flat(Shunt, PLAIN)),
        alone("port-memory", "memory of the daemon, KiB a port", of_ports("user_kib_per_port")),
        alone("port-kernel-memory", "memory of the kernel, KiB a port", of_ports("kernel_kib_per_port")),
        alone("port-add", "shuntctl add-port with up to 256 ports, median, ms", of_ports("add_port_ms")),
        alone("change-lost", lost, changing("lost_per_change")),
        alone("change-overload", overload, changing("overload_ratio")),
    ]
}

fn ratio(name: &'static str, what: &'static str, value: Term, base: Term) -> Floor {
    Floor { name, what, value, base: Some(base) }
}

fn alone(name: &'static str, what: &'static str, value: Term) -> Floor {
    Floor { name, what, value, base: None }
}

fn frames(dut: Kind, load: Load, measure: Measure, figure: &'static str) -> Term {
    Term { dut, source: Source::Frames(load, measure), figure }
}

fn flat(dut: Kind, load: Load) -> Term {
    frames(dut, load, Measure::Overload, "mpps_received")
}

fn no_loss(dut: Kind) -> Term {
    frames(dut, PLAIN, Measure::NoLoss, "mpps_received")
}

fn tcp(dut: Kind, mtu: u32, streams: u32) -> Term {
    let stream = Stream { exchange: Exchange::Tcp, streams };
    Term { dut, source: Source::Streams(mtu, stream), figure: "gbps_received" }
}
