//! How do sFlow's structures look on the wire?
//!
//! sFlow version 5 (sflow.org/sflow_version_5.txt, with its errata) in XDR (RFC 4506): big-endian words of four octets; what is
//! shorter is padded with zeros. One type for each structure, its fields in their order. Samples are the expanded ones, so
//! that no `ifIndex` is too large.

use std::net::IpAddr;

/// A counter that is never available.
pub const UNKNOWN: u32 = u32::MAX;
/// The same of 64 bits.
pub const UNKNOWN_64: u64 = u64::MAX;
/// Octets of the FCS, which is on the wire and not in a packet that we have.
pub const FCS: u32 = 4;

/// Octets as XDR writes them.
#[derive(Debug, Default, Clone)]
pub struct Xdr(pub Vec<u8>);

impl Xdr {
    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_be_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend(value.to_be_bytes());
    }

    fn words(&mut self, values: impl IntoIterator<Item = u32>) {
        values.into_iter().for_each(|value| self.u32(value));
    }

    /// Length, octets, zeros up to a whole word.
    fn opaque(&mut self, octets: &[u8]) {
        self.u32(octets.len() as u32);
        self.0.extend(octets);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.u32(1);
                self.0.extend(address.octets());
            }
            IpAddr::V6(address) => {
                self.u32(2);
                self.0.extend(address.octets());
            }
        }
    }

    /// A structure behind its format and its length.
    fn tagged(&mut self, format: u32, body: impl FnOnce(&mut Self)) {
        self.words([format, 0]);
        let begin = self.0.len();
        body(self);
        let len = (self.0.len() - begin) as u32;
        self.0[begin - 4..begin].copy_from_slice(&len.to_be_bytes());
    }

    /// Writes a record.
    pub fn record(&mut self, record: &(impl Record + ?Sized)) {
        self.tagged(record.format(), |xdr| record.put(xdr));
    }
}

/// A structure that says more about a sample.
pub trait Record {
    /// Enterprise and format.
    fn format(&self) -> u32;
    /// Its body.
    fn put(&self, xdr: &mut Xdr);
}

/// Where samples come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A port, by the kernel's `ifIndex`.
    Port(u32),
    /// The switch itself (`entPhysicalEntry`).
    Switch(u32),
}

impl Source {
    fn put(self, xdr: &mut Xdr) {
        match self {
            Source::Port(ifindex) => xdr.words([0, ifindex]),
            Source::Switch(number) => xdr.words([2, number]),
        }
    }
}

/// Where a sampled packet went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// One port.
    Port(u32),
    /// So many ports.
    Several(u32),
    /// Nowhere, by this reason code.
    Discarded(u32),
}

/// `flow_sample_expanded`.
#[derive(Debug, Clone, Copy)]
pub struct FlowSample {
    /// Of this source.
    pub sequence: u32,
    /// The port that the packet came in by.
    pub source: Source,
    /// One in so many.
    pub rate: u32,
    /// Packets that could have been sampled.
    pub pool: u32,
    /// Samples that were lost.
    pub drops: u32,
    /// `ifIndex` of the port that it came in by.
    pub input: u32,
    /// Where it went.
    pub output: Output,
}

impl FlowSample {
    /// The sample with its records: how many, and themselves.
    pub fn put(&self, records: (u32, &Xdr), xdr: &mut Xdr) {
        xdr.tagged(3, |xdr| {
            xdr.u32(self.sequence);
            self.source.put(xdr);
            xdr.words([self.rate, self.pool, self.drops]);
            xdr.words([0, self.input]);
            match self.output {
                Output::Port(ifindex) => xdr.words([0, ifindex]),
                Output::Discarded(code) => xdr.words([1, code]),
                Output::Several(count) => xdr.words([2, count]),
            }
            xdr.u32(records.0);
            xdr.0.extend(&records.1.0);
        });
    }
}

/// `counters_sample_expanded`.
#[derive(Debug, Clone, Copy)]
pub struct CountersSample {
    /// Of this source.
    pub sequence: u32,
    /// Whose counters.
    pub source: Source,
}

impl CountersSample {
    /// As [`FlowSample::put`].
    pub fn put(&self, records: (u32, &Xdr), xdr: &mut Xdr) {
        xdr.tagged(4, |xdr| {
            xdr.u32(self.sequence);
            self.source.put(xdr);
            xdr.u32(records.0);
            xdr.0.extend(&records.1.0);
        });
    }
}

/// `discarded_packet` (sflow.org/sflow_drops.txt).
#[derive(Debug, Clone, Copy)]
pub struct Discarded {
    /// Of this source.
    pub sequence: u32,
    /// The port that the packet came in by.
    pub source: Source,
    /// Drops that were not told of.
    pub drops: u32,
    /// `ifIndex` of the port that it came in by.
    pub input: u32,
    /// `ifIndex` of the port that it should have left by; 0 if it did not get so far.
    pub output: u32,
    /// The reason's code.
    pub reason: u32,
}

impl Discarded {
    /// As [`FlowSample::put`].
    pub fn put(&self, records: (u32, &Xdr), xdr: &mut Xdr) {
        xdr.tagged(5, |xdr| {
            xdr.u32(self.sequence);
            self.source.put(xdr);
            xdr.words([self.drops, self.input, self.output, self.reason, records.0]);
            xdr.0.extend(&records.1.0);
        });
    }
}

/// `sampled_header` of an Ethernet frame.
#[derive(Debug, Clone, Copy)]
pub struct SampledHeader<'a> {
    /// Octets of the packet as received, without FCS.
    pub len: u32,
    /// The first of them.
    pub header: &'a [u8],
}

impl Record for SampledHeader<'_> {
    fn format(&self) -> u32 {
        1
    }

    fn put(&self, xdr: &mut Xdr) {
        // The length is that on the wire, the FCS included, which is said to have been taken off.
        xdr.words([1, self.len + FCS, FCS]);
        xdr.opaque(self.header);
    }
}

/// `extended_switch`: VLAN and priority, [`UNKNOWN`] where there is none to tell.
#[derive(Debug, Clone, Copy)]
pub struct ExtendedSwitch {
    /// Where it came in.
    pub source: [u32; 2],
    /// Where it left.
    pub destination: [u32; 2],
}

impl Record for ExtendedSwitch {
    fn format(&self) -> u32 {
        1001
    }

    fn put(&self, xdr: &mut Xdr) {
        xdr.words(self.source);
        xdr.words(self.destination);
    }
}

/// `extended_router`.
#[derive(Debug, Clone, Copy)]
pub struct ExtendedRouter {
    /// The next hop, which may be of the other family than the packet (RFC 8950).
    pub next_hop: IpAddr,
    /// Length of the prefix that the source is in.
    pub source_len: u32,
    /// Length of the prefix that the destination is in.
    pub destination_len: u32,
}

impl Record for ExtendedRouter {
    fn format(&self) -> u32 {
        1002
    }

    fn put(&self, xdr: &mut Xdr) {
        xdr.address(self.next_hop);
        xdr.words([self.source_len, self.destination_len]);
    }
}

/// One direction of [`IfCounters`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Direction {
    /// Octets.
    pub octets: u64,
    /// Packets to one station, to some, to all.
    pub packets: [u32; 3],
    /// Dropped for reasons of ours.
    pub discards: u32,
    /// Dropped because something was wrong with them.
    pub errors: u32,
}

/// `if_counters`.
#[derive(Debug, Clone, Copy)]
pub struct IfCounters {
    /// The kernel's number.
    pub ifindex: u32,
    /// Bits a second; 0 if nobody knows.
    pub speed: u64,
    /// 1 full duplex, 2 half duplex, 0 unknown.
    pub direction: u32,
    /// Set up by the administrator.
    pub admin_up: bool,
    /// Has a carrier.
    pub carrier: bool,
    /// What came in.
    pub received: Direction,
    /// What left.
    pub sent: Direction,
    /// Takes packets to any address.
    pub promiscuous: bool,
}

impl Record for IfCounters {
    fn format(&self) -> u32 {
        1
    }

    fn put(&self, xdr: &mut Xdr) {
        // ethernetCsmacd (6).
        xdr.words([self.ifindex, 6]);
        xdr.u64(self.speed);
        xdr.words([self.direction, u32::from(self.admin_up) | u32::from(self.carrier) << 1]);
        for (number, direction) in [&self.received, &self.sent].into_iter().enumerate() {
            xdr.u64(direction.octets);
            xdr.words(direction.packets);
            xdr.words([direction.discards, direction.errors]);
            if number == 0 {
                // ifInUnknownProtos: a switch knows no protocols.
                xdr.u32(UNKNOWN);
            }
        }
        xdr.u32(u32::from(self.promiscuous));
    }
}

/// `ethernet_counters`: dot3StatsTable. What a port of AF_XDP cannot know is unknown for ever.
#[derive(Debug, Clone, Copy)]
pub struct EthernetCounters {
    /// Frames longer than the switch carries.
    pub too_long: u32,
    /// Frames that the kernel could not hand over.
    pub receive_errors: u32,
    /// Frames that the device dropped after they were handed to it.
    pub transmit_errors: u32,
}

impl Record for EthernetCounters {
    fn format(&self) -> u32 {
        2
    }

    fn put(&self, xdr: &mut Xdr) {
        // Alignment, FCS; collisions: single, multiple; SQE test, deferred; collisions: late, excessive.
        xdr.words([UNKNOWN; 8]);
        xdr.words([self.transmit_errors, UNKNOWN, self.too_long, self.receive_errors, UNKNOWN]);
    }
}

/// `vlan_counters`.
#[derive(Debug, Clone, Copy)]
pub struct VlanCounters {
    /// Its number.
    pub vlan: u32,
    /// What came in.
    pub received: Direction,
}

impl Record for VlanCounters {
    fn format(&self) -> u32 {
        5
    }

    fn put(&self, xdr: &mut Xdr) {
        xdr.u32(self.vlan);
        xdr.u64(self.received.octets);
        xdr.words(self.received.packets);
        xdr.u32(self.received.discards);
    }
}

/// `port_name`.
#[derive(Debug, Clone, Copy)]
pub struct PortName<'a>(
    /// The interface's name.
    pub &'a str,
);

impl Record for PortName<'_> {
    fn format(&self) -> u32 {
        1005
    }

    fn put(&self, xdr: &mut Xdr) {
        xdr.opaque(self.0.as_bytes());
    }
}

/// `processor`: of the whole host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Processor {
    /// Busy in the last 5 seconds, minute, 5 minutes, in hundredths of a percent.
    pub busy: [u32; 3],
    /// Octets of memory.
    pub memory: u64,
    /// Octets that can be had.
    pub free: u64,
}

impl Record for Processor {
    fn format(&self) -> u32 {
        1001
    }

    fn put(&self, xdr: &mut Xdr) {
        xdr.words(self.busy);
        xdr.u64(self.memory);
        xdr.u64(self.free);
    }
}

/// How full the tables are, in the form that collectors know: that of Broadcom's switches (enterprise 4413).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tables {
    /// Learned addresses of all bridges, and how many fit.
    pub macs: [u32; 2],
    /// Routes in the FIB, of both families.
    pub routes: u32,
    /// Neighbours of both families.
    pub neighbours: [u32; 2],
}

impl Record for Tables {
    fn format(&self) -> u32 {
        4413 << 12 | 3
    }

    fn put(&self, xdr: &mut Xdr) {
        // Hosts, IPv4, IPv6, both together, long IPv6: entries and room of each.
        xdr.words([UNKNOWN; 10]);
        // Routes and their room; next hops of several ways.
        xdr.words([self.routes, UNKNOWN, UNKNOWN, UNKNOWN]);
        xdr.words(self.macs);
        xdr.words(self.neighbours);
        // Routes of each family, access lists.
        xdr.words([UNKNOWN; 18]);
    }
}

/// Most octets of a datagram, so that it fits where an MTU is 1500.
pub const DATAGRAM_MAX: usize = 1400;

/// Samples on their way into datagrams.
#[derive(Debug, Default)]
pub struct Samples {
    body: Xdr,
    count: u32,
    ready: Vec<(u32, Xdr)>,
}

impl Samples {
    /// Adds a sample, which `put` writes.
    pub fn add(&mut self, agent: IpAddr, put: impl FnOnce(&mut Xdr)) {
        let before = self.body.0.len();
        put(&mut self.body);
        if header_len(agent) + self.body.0.len() > DATAGRAM_MAX && self.count > 0 {
            let last = Xdr(self.body.0.split_off(before));
            self.ready.push((self.count, std::mem::replace(&mut self.body, last)));
            self.count = 0;
        }
        self.count += 1;
    }

    /// Everything that was added, as datagrams without headers: how many samples, and the samples.
    pub fn take(&mut self) -> Vec<(u32, Xdr)> {
        if self.count > 0 {
            self.ready.push((std::mem::take(&mut self.count), std::mem::take(&mut self.body)));
        }
        std::mem::take(&mut self.ready)
    }
}

const fn header_len(agent: IpAddr) -> usize {
    if agent.is_ipv4() { 28 } else { 40 }
}

/// What a datagram says of its sender.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// The agent's address.
    pub agent: IpAddr,
    /// Which of the agent's parts it is.
    pub sub_agent: u32,
    /// Of this part.
    pub sequence: u32,
    /// Milliseconds since the agent's start.
    pub uptime_ms: u32,
}

impl Header {
    /// A whole datagram.
    pub fn datagram(&self, (count, samples): &(u32, Xdr)) -> Vec<u8> {
        let mut xdr = Xdr(Vec::with_capacity(DATAGRAM_MAX));
        xdr.u32(5);
        xdr.address(self.agent);
        xdr.words([self.sub_agent, self.sequence, self.uptime_ms, *count]);
        xdr.0.extend(&samples.0);
        xdr.0
    }
}
