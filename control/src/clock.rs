//! What time is it? The one place outside of tests that reads the monotonic clock for the switch.

use shunt_switch::time::Instant;

/// A clock that all threads share the start of: CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy)]
pub struct Clock(());

impl Clock {
    /// The clock. It needs no start of its own, so that stamps of all threads compare.
    pub fn start() -> Self {
        Self(())
    }

    /// Nanoseconds since boot, suspended time excluded.
    pub fn now(self) -> Instant {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Instant(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }
}

/// What to add to [`Clock::now`] to have nanoseconds since 1970.
pub fn epoch_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    (time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64).saturating_sub(Clock::start().now().0)
}
