//! What is "now" to code that must not read a clock?

/// Nanoseconds on a clock that never goes back, since an arbitrary start; the caller reads it once per turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub u64);

impl Instant {
    /// A moment `seconds` after the clock's start.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1_000_000_000)
    }

    /// Whole milliseconds since the clock's start.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole seconds since the clock's start.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }
}
