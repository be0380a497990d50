//! How long were the sampled frames on their way: what the BPF programs have counted, as a histogram?

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

/// Buckets of `bpf/sink.c`.
pub const BUCKETS: u32 = 4096;

/// Percentiles that a picture of the distribution is drawn from.
const DRAWN: [f64; 13] = [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 100.0];

/// The delay in the middle of a bucket, ns.
fn middle_ns(bucket: u32) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < 256 {
        return bucket;
    }
    let shift = (bucket >> 7) - 1;
    ((bucket - (shift << 7)) << shift) + (1 << shift) / 2
}

/// Delays in ns, each bucket at its middle: at most 0.4 % off.
#[derive(Clone, Debug)]
pub struct Delays(Histogram<u64>);

impl Delays {
    /// From the counters of all buckets.
    pub fn from_buckets(counts: &[u64]) -> Result<Self> {
        let mut histogram = Histogram::new(3).context("three significant digits are possible")?;
        for (bucket, count) in (0..).zip(counts).filter(|(_, count)| **count > 0) {
            histogram.record_n(middle_ns(bucket), *count).context("histograms grow by themselves")?;
        }
        Ok(Self(histogram))
    }

    /// Number of samples.
    pub fn samples(&self) -> u64 {
        self.0.len()
    }

    /// µs within which so many percent of the samples arrived.
    pub fn percentile_us(&self, percent: f64) -> f64 {
        self.0.value_at_percentile(percent) as f64 / 1000.0
    }

    /// The fastest, µs.
    pub fn min_us(&self) -> f64 {
        self.0.min() as f64 / 1000.0
    }

    /// Packet delay variation by RFC 8219: the 99.9th percentile beside the fastest, µs.
    pub fn pdv_us(&self) -> f64 {
        self.percentile_us(99.9) - self.min_us()
    }

    /// Points of the distribution: percent, µs.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        DRAWN.map(|percent| (percent, self.percentile_us(percent))).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `bucket` in bpf/sink.c.
    fn bucket(delay: u64) -> u64 {
        let shift = u64::from(64 - (delay >> 8).leading_zeros());
        (shift << 7) + (delay >> shift)
    }

    #[test]
    fn the_middle_of_a_bucket_is_near_every_delay_in_it() {
        for delay in (0..100_000).chain([1_000_000, 123_456_789, 30_000_000_000]) {
            let index = bucket(delay);
            assert!(index < u64::from(BUCKETS), "{delay} has no bucket");
            let middle = middle_ns(index as u32);
            assert!(middle.abs_diff(delay) * 250 <= delay, "{delay} ns became {middle}");
        }
    }

    #[test]
    fn percentiles_are_those_of_the_samples() {
        let mut counts = vec![0; BUCKETS as usize];
        counts[bucket(1_000) as usize] = 98;
        counts[bucket(50_000) as usize] = 2;
        let delays = Delays::from_buckets(&counts).expect("it fits");
        assert_eq!(delays.samples(), 100);
        assert!((delays.percentile_us(50.0) - 1.0).abs() < 0.01);
        assert!((delays.percentile_us(99.0) - 50.0).abs() < 0.5);
        assert!((delays.pdv_us() - 49.0).abs() < 0.5);
    }
}
