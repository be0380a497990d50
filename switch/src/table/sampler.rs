//! Which packets of a port are sampled?
//!
//! One in N, each with the same chance: how many packets pass until the next sample is drawn evenly from 1 to 2N - 1. Each
//! worker draws for itself, so there is one [`Sampler`] for each worker and port, and what they count is summed.

use crate::counters::Counter;
use crate::table::bucket::Bucket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// What is wanted to be known of packets that come in by a port.
#[derive(Clone, Debug)]
pub struct Sampling {
    /// One packet in so many is sampled; 0 for none.
    pub rate: u32,
    /// Octets of a packet that come with its record.
    pub header: u16,
    /// Drops are told of, so many; none if not.
    pub notices: Option<Arc<Bucket>>,
    /// One for each worker.
    pub samplers: Arc<[Sampler]>,
}

/// One worker's sampler of a port. Only this worker writes.
#[derive(Debug)]
#[repr(align(128))]
pub struct Sampler {
    /// Packets up to the next sample, that one included.
    left: AtomicU64,
    /// The rate for which that was drawn.
    rate: AtomicU32,
    /// Of the random generator.
    state: AtomicU64,
    /// Packets that could have been sampled.
    pub pool: Counter,
    /// Samples that did not fit the tap.
    pub lost: Counter,
    /// Drops that were not told of: over the limit, or no room in the tap.
    pub untold: Counter,
}

impl Sampler {
    /// Draws by `seed`: give each another one.
    pub fn new(seed: u64) -> Self {
        Self {
            left: AtomicU64::new(0),
            rate: AtomicU32::new(0),
            state: AtomicU64::new(seed),
            pool: Counter::default(),
            lost: Counter::default(),
            untold: Counter::default(),
        }
    }

    /// `count` packets come past; `take` gets the number of each that is sampled, the first one being 0.
    #[inline]
    pub fn pass(&self, rate: u32, count: usize, take: impl FnMut(usize)) {
        if rate == 0 {
            return;
        }
        self.pool.add(count as u64);
        let left = self.left.load(Relaxed);
        if left > count as u64 && self.rate.load(Relaxed) == rate {
            self.left.store(left - count as u64, Relaxed);
        } else {
            self.draw(rate, count as u64, take);
        }
    }

    #[cold]
    fn draw(&self, rate: u32, count: u64, mut take: impl FnMut(usize)) {
        let mut left = self.left.load(Relaxed);
        if self.rate.load(Relaxed) != rate {
            self.rate.store(rate, Relaxed);
            left = self.skip(rate);
        }
        // `left` is where the next sample is, the first packet being 1.
        while left <= count {
            take(left as usize - 1);
            left += self.skip(rate);
        }
        self.left.store(left - count, Relaxed);
    }

    /// From 1 to 2 · `rate` - 1, each with the same chance but for 2^-31.
    fn skip(&self, rate: u32) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014): each of the 2^64 numbers once in a period.
        let state = self.state.load(Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.store(state, Relaxed);
        let mut random = state;
        random = (random ^ random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        random = (random ^ random >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        random ^= random >> 31;
        let span = 2 * u128::from(rate) - 1;
        1 + ((u128::from(random) * span) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Skips as they come out of bursts of `burst` packets.
    fn skips(seed: u64, rate: u32, burst: usize, count: usize) -> Vec<u64> {
        let (sampler, mut skips, mut last, mut passed) = (Sampler::new(seed), Vec::new(), 0, 0);
        while skips.len() < count {
            sampler.pass(rate, burst, |place| {
                let position = passed + place as u64 + 1;
                skips.push(position - last);
                last = position;
            });
            passed += burst as u64;
            assert_eq!(sampler.pool.get(), passed);
        }
        skips
    }

    /// Chi-squared of `skips` in `classes` classes of the same width, less its mean, in standard deviations.
    fn unevenness(skips: &[u64], span: u64, classes: u64) -> f64 {
        let mut counts = vec![0u64; classes as usize];
        skips.iter().for_each(|skip| counts[((skip - 1) * classes / span) as usize] += 1);
        let width = |class: u64| ((class + 1) * span).div_ceil(classes) - (class * span).div_ceil(classes);
        let expected = |class: u64| skips.len() as f64 * width(class) as f64 / span as f64;
        let term = |(class, count): (u64, &u64)| (*count as f64 - expected(class)).powi(2) / expected(class);
        let chi: f64 = (0..).zip(&counts).map(term).sum();
        let freedom = (classes - 1) as f64;
        (chi - freedom) / (2.0 * freedom).sqrt()
    }

    /// Of sFlow's reference code: a generator of 15 bits, which samples too often above 1:16375. Those rates are here, too.
    #[test]
    fn skips_are_even_from_one_to_twice_the_rate() {
        for rate in [2u32, 3, 64, 400, 16_375, 100_000, u32::MAX] {
            let span = 2 * u64::from(rate) - 1;
            let mut worst = f64::MIN;
            for seed in 0..40 {
                let skips = skips(seed, rate, 4 * rate as usize, 4000);
                assert!(skips.iter().all(|skip| (1..=span).contains(skip)));
                worst = worst.max(unevenness(&skips, span, span.min(50)));
                let mean = skips.iter().sum::<u64>() as f64 / skips.len() as f64;
                // The standard deviation of a skip is N / √3.
                let bound = 4.5 * f64::from(rate) / 3f64.sqrt() / (skips.len() as f64).sqrt();
                assert!((mean - f64::from(rate)).abs() < bound, "1 in {rate}, seed {seed}: {mean}");
                // One skip says nothing of the next one.
                let pairs: Vec<u64> = skips.chunks_exact(2).map(|pair| (pair[0] + pair[1]) % span + 1).collect();
                worst = worst.max(unevenness(&pairs, span, span.min(20)));
            }
            assert!(worst < 6.0, "1 in {rate}: {worst} standard deviations");
        }
    }

    #[test]
    fn bursts_make_no_difference() {
        for rate in [1, 2, 7, 100] {
            let expected = skips(3, rate, 1, 500);
            for burst in [2, 31, 128, 5000] {
                assert_eq!(skips(3, rate, burst, 500)[..500], expected, "1 in {rate}, {burst} at a time");
            }
        }
        assert_eq!(skips(9, 1, 10, 100), vec![1; 100]);
    }

    #[test]
    fn each_packet_has_the_same_chance_over_many_seeds() {
        let (rate, packets, seeds) = (10, 200usize, 20_000);
        let mut hits = vec![0u32; packets];
        for seed in 0..seeds {
            Sampler::new(seed * 0x1234_5678_9abc).pass(rate, packets, |place| hits[place] += 1);
        }
        // Behind the first draws it is 1 in 10, whatever the position: a binomial deviation is 42.
        for (place, count) in hits.iter().enumerate().skip(60) {
            assert!((2000 - 5 * 43..2000 + 5 * 43).contains(count), "packet {place}: {count} of {seeds}");
        }
    }

    #[test]
    fn another_rate_is_drawn_for_at_once() {
        let sampler = Sampler::new(1);
        sampler.pass(u32::MAX, 10, |_| {});
        let mut taken = 0;
        sampler.pass(1, 10, |_| taken += 1);
        sampler.pass(0, 10, |_| taken += 1);
        assert_eq!((taken, sampler.pool.get()), (10, 20));
    }
}
