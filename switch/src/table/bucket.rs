//! How much may pass in a while?
//!
//! A token bucket without a lock, shared by all workers: one word says when the bucket will be full again. Taking tokens
//! moves that moment into the future by what they cost in time; what would move it further than the bucket is deep does
//! not pass. Prices are fixed-point numbers made by the control thread, so that a packet costs a multiplication and no
//! division.

use crate::time::Instant;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The bucket's own unit of time is 1/16 ns: fine enough for 64 octets at 100 Gbit/s, and good for 36 years.
const TICKS_PER_NS: u64 = 16;
/// Bits of a price behind the point.
const FRACTION: u32 = 16;

/// So many tokens a second pass, and a burst of so many at once.
#[derive(Debug)]
pub struct Bucket {
    /// When it is full again, in ticks of the clock that the callers read.
    full_at: AtomicU64,
    /// Ticks that all its tokens cost.
    depth: u64,
    /// Ticks that one token costs, times 2^[`FRACTION`].
    price: u64,
}

impl Bucket {
    /// A full bucket of `burst` tokens, filled at `rate` tokens a second. A rate of 0 lets the burst pass, once.
    pub fn new(rate: u64, burst: u64) -> Self {
        let ticks_per_second = u128::from(TICKS_PER_NS) * 1_000_000_000;
        let clamp = |value: u128| u64::try_from(value).unwrap_or(u64::MAX).min(u64::MAX >> 2);
        let price = (ticks_per_second << FRACTION) / u128::from(rate.max(1));
        Self {
            full_at: AtomicU64::new(0),
            depth: clamp(u128::from(burst).saturating_mul(price) >> FRACTION),
            price: clamp(price),
        }
    }

    /// Takes `tokens` if there are as many; false, and none taken, if not.
    #[inline]
    pub fn take(&self, tokens: u64, now: Instant) -> bool {
        let cost = tokens.saturating_mul(self.price) >> FRACTION;
        let now = now.0.saturating_mul(TICKS_PER_NS);
        let mut full_at = self.full_at.load(Relaxed);
        loop {
            let next = full_at.max(now).saturating_add(cost);
            if next - now > self.depth {
                return false;
            }
            match self.full_at.compare_exchange_weak(full_at, next, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(changed) => full_at = changed,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Tokens in a bucket, in the plain way and with fractions that are exact: nanoseconds times the rate.
    struct Naive {
        rate: u128,
        burst: u128,
        level: u128,
        last: u64,
    }

    const SECOND: u128 = 1_000_000_000;

    impl Naive {
        fn new(rate: u64, burst: u64) -> Self {
            let (rate, burst) = (u128::from(rate), u128::from(burst) * SECOND);
            Self { rate, burst, level: burst, last: 0 }
        }

        fn fill(&mut self, now: Instant) {
            self.level = self.burst.min(self.level + u128::from(now.0 - self.last) * self.rate);
            self.last = now.0;
        }
    }

    proptest! {
        /// At every step the bucket says what the naive one says, unless that is within rounding of the edge.
        #[test]
        fn it_is_the_naive_bucket(
            rate in prop_oneof![1u64..100, 100u64..1_000_000, 1_000_000u64..12_500_000_000],
            burst in 1u64..2_000_000,
            steps in proptest::collection::vec((0u64..3_000_000_000, 1u64..9300), 1..200),
        ) {
            let (bucket, mut naive) = (Bucket::new(rate, burst), Naive::new(rate, burst));
            let (mut now, mut taken) = (Instant::from_secs(1000), 0u128);
            for (i, (wait, tokens)) in steps.into_iter().enumerate() {
                // Mostly short waits, so that it is empty as often as full.
                now.0 += if i % 8 == 0 { wait } else { wait / 100_000 };
                naive.fill(now);
                let wanted = u128::from(tokens) * SECOND;
                // Each packet taken so far may have been charged up to two ticks too little.
                let ticks = 2 * taken + u128::from(burst >> FRACTION) + 4;
                let slack = ticks * u128::from(rate) / u128::from(TICKS_PER_NS) + SECOND;
                if bucket.take(tokens, now) {
                    prop_assert!(naive.level + slack >= wanted, "took {tokens} of {}", naive.level / SECOND);
                    naive.level = naive.level.saturating_sub(wanted);
                    taken += 1;
                } else {
                    prop_assert!(naive.level < wanted + slack, "left {} of {}", naive.level / SECOND, tokens);
                }
            }
        }
    }

    #[test]
    fn a_burst_passes_then_the_rate() {
        let bucket = Bucket::new(1000, 10);
        let now = Instant::from_secs(5);
        assert_eq!((0..100).filter(|_| bucket.take(1, now)).count(), 10);
        let later = Instant(now.0 + 3_000_000);
        assert_eq!((0..100).filter(|_| bucket.take(1, later)).count(), 3);
        // A clock that is a little behind that of another worker takes nothing that is not there, and breaks nothing.
        assert!(!bucket.take(1, now));
        assert_eq!((0..100).filter(|_| bucket.take(1, Instant::from_secs(3600))).count(), 10);
    }

    #[test]
    fn what_is_larger_than_the_bucket_never_passes() {
        let bucket = Bucket::new(125_000, 1000);
        assert!(!bucket.take(1001, Instant::from_secs(1)));
        assert!(bucket.take(1000, Instant::from_secs(1)));
    }

    #[test]
    fn numbers_without_end_do_not_overflow() {
        for (rate, burst) in [(0, 0), (0, u64::MAX), (1, u64::MAX), (u64::MAX, 0), (u64::MAX, u64::MAX)] {
            let bucket = Bucket::new(rate, burst);
            for now in [Instant(0), Instant(u64::MAX)] {
                for tokens in [0, 1, u64::MAX] {
                    let _ = bucket.take(tokens, now);
                }
            }
        }
    }
}
