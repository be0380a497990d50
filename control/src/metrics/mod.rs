//! How does Prometheus get to know the switch? Counters are read when somebody asks, on a thread of its own.
//!
//! [`list`] has an entry for each metric: name, unit, labels, help, and how it is read. [`server`] answers HTTP with them. Neither
//! asks the control thread or a worker for anything: the [`Directory`] says where the counters are. Whoever counts something
//! new puts it within reach of [`Source`] and adds entries to the list; documentation and tests follow from that.

pub mod list;
pub mod server;

use crate::directory::Directory;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What metrics are read from.
#[derive(Clone)]
pub struct Source {
    /// Counters of the switch.
    pub directory: Arc<Directory>,
    /// What the control thread measures about itself.
    pub control: Arc<Control>,
}

/// What the control thread measures about itself.
pub struct Control {
    /// Seconds since 1970 when it started.
    started_s: f64,
    /// From a transaction's acknowledgement until it was in force.
    apply: Histogram,
    /// Passes of the reconciler.
    pass: Histogram,
    transactions: AtomicU64,
    errors: AtomicU64,
}

impl Default for Control {
    fn default() -> Self {
        // 0.1 ms to 26 s: from one port among few to a thousand at once.
        let histogram = || Histogram::new(exponential_buckets(0.0001, 4.0, 10));
        #[expect(clippy::disallowed_methods, reason = "the time of day is what is asked for")]
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (transactions, errors) = Default::default();
        Self { started_s: now.as_secs_f64(), apply: histogram(), pass: histogram(), transactions, errors }
    }
}

impl Control {
    /// A transaction was acknowledged.
    pub fn acknowledged(&self) {
        self.transactions.fetch_add(1, Ordering::Relaxed);
    }

    /// A pass of the reconciler, begun at `begun`, has put those transactions in force that were acknowledged at these times.
    pub fn passed(&self, begun: Instant, acknowledged: &[Instant]) {
        self.pass.observe(begun.elapsed().as_secs_f64());
        acknowledged.iter().for_each(|at| self.apply.observe(at.elapsed().as_secs_f64()));
    }

    /// So many interfaces have an `error` now.
    pub fn set_errors(&self, interfaces: usize) {
        self.errors.store(interfaces as u64, Ordering::Relaxed);
    }
}

/// All metrics in the OpenMetrics text format.
pub fn encode(source: &Source) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(All(source.clone())));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

struct All(Source);

impl fmt::Debug for All {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("All")
    }
}

impl Collector for All {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let reading = list::Reading::new(&self.0);
        for metric in list::METRICS {
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            // The format adds the ending by itself.
            let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
            let encoder = encoder.encode_descriptor(name, metric.help, None, kind)?;
            let mut samples = Samples { labels: metric.labels, kind: metric.kind, encoder };
            (metric.read)(&reading, &mut samples)?;
        }
        Ok(())
    }
}

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, until a restart.
    Counter,
    /// As it is now.
    Gauge,
    /// Counts of observations by size.
    Histogram,
}

/// One metric.
pub struct Metric {
    /// As Prometheus knows it.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// What it is counted in.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// A sentence.
    pub help: &'static str,
    read: fn(&list::Reading<'_>, &mut Samples<'_>) -> fmt::Result,
}

/// Where a metric's values go.
struct Samples<'a> {
    labels: &'static [&'static str],
    kind: Kind,
    encoder: MetricEncoder<'a>,
}

impl Samples<'_> {
    /// A number with the values of the labels.
    fn put(&mut self, labels: &[&str], value: impl Into<Number>) -> fmt::Result {
        let number = value.into();
        let kind = self.kind;
        self.with(labels, |encoder| match (kind, number) {
            (Kind::Counter, Number::Whole(n)) => encoder.encode_counter::<NoLabelSet, _, u64>(&n, None),
            (Kind::Counter, Number::Real(n)) => encoder.encode_counter::<NoLabelSet, _, u64>(&n, None),
            (_, Number::Whole(n)) => encoder.encode_gauge(&n),
            (_, Number::Real(n)) => encoder.encode_gauge(&n),
        })
    }

    /// How many observations were in each class, by the class's upper bound.
    fn put_classes(&mut self, labels: &[&str], sum: f64, classes: &[(f64, u64)]) -> fmt::Result {
        let count = classes.iter().map(|(_, count)| count).sum();
        self.with(labels, |encoder| encoder.encode_histogram::<NoLabelSet>(sum, count, classes, None))
    }

    fn put_histogram(&mut self, histogram: &Histogram) -> fmt::Result {
        self.with(&[], |encoder| {
            // Its own encoder is consumed, ours is not.
            histogram.encode(encoder.encode_family::<[(&str, &str); 0]>(&[])?)
        })
    }

    fn with(&mut self, labels: &[&str], write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result) -> fmt::Result {
        if self.labels.is_empty() {
            return write(&mut self.encoder);
        }
        debug_assert_eq!(self.labels.len(), labels.len());
        let labels: Vec<(&str, &str)> = self.labels.iter().copied().zip(labels.iter().copied()).collect();
        write(&mut self.encoder.encode_family(&labels)?)
    }
}

#[derive(Clone, Copy)]
enum Number {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Number {
    fn from(n: u64) -> Self {
        Self::Whole(n)
    }
}

impl From<usize> for Number {
    fn from(n: usize) -> Self {
        Self::Whole(n as u64)
    }
}

impl From<f64> for Number {
    fn from(n: f64) -> Self {
        Self::Real(n)
    }
}
