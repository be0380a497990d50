//! What does one bridge tell its collectors, and under which numbers?
//!
//! Each bridge with an sFlow is a sub-agent. Its datagrams are numbered as long as the daemon lives, whatever becomes of the
//! configuration; samples are numbered for each source, anew when what the source counts begins anew.

use super::config::Settings;
use super::wire::{
    CountersSample, Discarded, ExtendedRouter, ExtendedSwitch, FlowSample, Header, Output, Record, SampledHeader,
    Samples, Source, UNKNOWN, Xdr,
};
use shunt_switch::reason::Reason;
use shunt_switch::table::bucket::Bucket;
use shunt_switch::table::sampler::Sampler;
use shunt_switch::tap::{self, Vlan};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A sub-agent.
pub(super) struct Agent {
    pub(super) sub_agent: u32,
    /// What is in force; none while the bridge is not sampled.
    pub(super) active: Option<Active>,
    /// Why it is not though it should be.
    pub(super) problem: Option<String>,
    /// Of the last datagram.
    sequence: u32,
    pub(super) sources: BTreeMap<Source, State>,
    samples: Samples,
}

/// An sFlow in force.
#[derive(Clone)]
pub(super) struct Active {
    pub(super) settings: Settings,
    pub(super) address: IpAddr,
    /// How many drops are told of.
    pub(super) notices: Option<Arc<Bucket>>,
}

/// What is known of a source.
#[derive(Default)]
pub(super) struct State {
    /// All that ever sampled for it.
    blocks: Vec<Arc<[Sampler]>>,
    /// The interfaces that are this source.
    pub(super) names: Vec<String>,
    flows: u32,
    counters: u32,
    discards: u32,
    /// When its counters are told next.
    due: Option<Instant>,
}

/// Sources that there are to be: the interfaces of each, and all that ever sampled for it.
pub(super) type Wanted = BTreeMap<Source, (Vec<String>, Vec<Arc<[Sampler]>>)>;

/// A record with the kernel's numbers.
pub(super) struct Seen<'a> {
    pub(super) record: &'a tap::Record,
    pub(super) header: &'a [u8],
    pub(super) input: u32,
    /// Of the port that it left by or should have; 0 for none.
    pub(super) output: u32,
    pub(super) router: Option<ExtendedRouter>,
}

impl State {
    /// Counts begin anew where what counted before is gone: so do the numbers.
    fn set_blocks(&mut self, blocks: Vec<Arc<[Sampler]>>) {
        let is_there = |old: &Arc<[Sampler]>| blocks.iter().any(|new| Arc::ptr_eq(old, new));
        if !self.blocks.iter().all(is_there) {
            (self.flows, self.counters, self.discards) = (0, 0, 0);
        }
        self.blocks = blocks;
    }

    /// As a counter of 32 bits, which wraps.
    fn sum(&self, count: impl Fn(&Sampler) -> u64) -> u32 {
        self.blocks.iter().flat_map(|block| block.iter()).map(count).fold(0, u64::wrapping_add) as u32
    }
}

impl Agent {
    pub(super) fn new(sub_agent: u32) -> Self {
        let (active, problem, sequence, sources, samples) = Default::default();
        Self { sub_agent, active, problem, sequence, sources, samples }
    }

    /// The switch itself as a source.
    pub(super) fn itself(&self) -> Source {
        Source::Switch(self.sub_agent + 1)
    }

    /// From now on there are these sources. Polls of new ones are spread over an interval: `random` is from 0 to 1.
    pub(super) fn set_sources(&mut self, wanted: Wanted, now: Instant, mut random: impl FnMut() -> f64) {
        let polling = self.active.as_ref().and_then(|active| active.settings.polling);
        self.sources.retain(|source, _| wanted.contains_key(source));
        for (source, (names, blocks)) in wanted {
            let state = self.sources.entry(source).or_default();
            state.set_blocks(blocks);
            state.names = names;
            let latest = polling.map(|polling| now + polling);
            let is_right = state.due.is_some() == polling.is_some() && state.due <= latest;
            if !is_right {
                state.due = polling.map(|polling| now + polling.mul_f64(random()));
            }
        }
    }

    /// Sources whose counters are to be told now.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Source> {
        let polling = self.active.as_ref().and_then(|active| active.settings.polling);
        let Some(polling) = polling else { return Vec::new() };
        let due = |state: &State| state.due.is_some_and(|due| due <= now);
        let is_due = self.sources.iter_mut().filter(|(_, state)| due(state));
        is_due.map(|(source, state)| (state.due = next(state.due, polling, now), *source).1).collect()
    }

    /// Tells of a packet; false if there is nobody to be told, or nothing known of its source.
    pub(super) fn sampled(&mut self, seen: &Seen<'_>, rate: u32) -> bool {
        let (Some(active), source) = (&self.active, Source::Port(seen.input)) else { return false };
        let Some(state) = self.sources.get_mut(&source) else { return false };
        state.flows = state.flows.wrapping_add(1);
        let output = match seen.record.outcome {
            tap::Outcome::Sent(_) => Output::Port(seen.output),
            tap::Outcome::Flooded(count) => Output::Several(count.into()),
            tap::Outcome::Dropped { reason, .. } => Output::Discarded(reason.sflow_code()),
        };
        let sample = FlowSample {
            sequence: state.flows,
            source,
            rate,
            pool: state.sum(|sampler| sampler.pool.get()),
            drops: state.sum(|sampler| sampler.lost.get()),
            input: seen.input,
            output,
        };
        let (mut records, mut count) = (Xdr::default(), 2);
        records.record(&SampledHeader { len: seen.record.len, header: seen.header });
        let words = |vlan: Option<Vlan>| vlan.map_or([UNKNOWN; 2], |vlan| [vlan.vid.into(), vlan.pcp.into()]);
        let (source, destination) = (words(seen.record.vlan_in), words(seen.record.vlan_out));
        records.record(&ExtendedSwitch { source, destination });
        if let Some(router) = &seen.router {
            records.record(router);
            count += 1;
        }
        self.samples.add(active.address, |xdr| sample.put((count, &records), xdr));
        true
    }

    /// Tells of a drop; false as in [`Agent::sampled`].
    pub(super) fn discarded(&mut self, seen: &Seen<'_>, reason: Reason) -> bool {
        let (Some(active), source) = (&self.active, Source::Port(seen.input)) else { return false };
        let Some(state) = self.sources.get_mut(&source) else { return false };
        state.discards = state.discards.wrapping_add(1);
        let sample = Discarded {
            sequence: state.discards,
            source,
            drops: state.sum(|sampler| sampler.untold.get()),
            input: seen.input,
            output: seen.output,
            reason: reason.sflow_code(),
        };
        let mut records = Xdr::default();
        records.record(&SampledHeader { len: seen.record.len, header: seen.header });
        self.samples.add(active.address, |xdr| sample.put((1, &records), xdr));
        true
    }

    /// Tells a source's counters; false as in [`Agent::sampled`].
    pub(super) fn counted(&mut self, source: Source, counters: &[&dyn Record]) -> bool {
        let Some(active) = &self.active else { return false };
        let Some(state) = self.sources.get_mut(&source) else { return false };
        state.counters = state.counters.wrapping_add(1);
        let mut records = Xdr::default();
        counters.iter().for_each(|record| records.record(*record));
        let sample = CountersSample { sequence: state.counters, source };
        self.samples.add(active.address, |xdr| sample.put((counters.len() as u32, &records), xdr));
        true
    }

    /// All that is to be told, as datagrams.
    pub(super) fn take(&mut self, uptime_ms: u32) -> Vec<Vec<u8>> {
        let samples = self.samples.take();
        let Some(active) = &self.active else { return Vec::new() };
        let (sub_agent, agent) = (self.sub_agent, active.address);
        let datagram = |samples: &(u32, Xdr)| {
            self.sequence = self.sequence.wrapping_add(1);
            Header { agent, sub_agent, sequence: self.sequence, uptime_ms }.datagram(samples)
        };
        samples.iter().map(datagram).collect()
    }
}

/// The next poll keeps the rhythm; one that is overdue by more than a beat begins another.
fn next(due: Option<Instant>, polling: Duration, now: Instant) -> Option<Instant> {
    let next = due.map_or(now, |due| due + polling);
    Some(if next <= now { now + polling } else { next })
}
