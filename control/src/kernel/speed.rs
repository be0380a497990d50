//! How fast is a device's link?
use std::fs;
use std::sync::OnceLock;

use super::{Kind, Link};

/// What a driver says of its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speed {
    /// Bits a second.
    pub bits_per_second: u64,
    /// Both directions at once.
    pub full_duplex: bool,
}

/// What every veth says that is up, whatever it can do: no need to ask a thousand of them.
const VETH: Speed = Speed { bits_per_second: 10_000_000_000, full_duplex: true };

/// The speed once it was read. It is part of what the kernel said of the link only in that a new description forgets it.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(OnceLock<Option<Speed>>);

impl PartialEq for Known {
    fn eq(&self, _: &Known) -> bool {
        true
    }
}

impl Eq for Known {}

impl Link {
    /// As [`Link::read_speed`], once for each description of the link: the kernel makes a new one when the carrier changes.
    pub fn speed(&self) -> Option<Speed> {
        *self.speed.0.get_or_init(|| self.read_speed())
    }

    /// The link's speed, if its driver knows it: one without carrier often does not. Read from `/sys/class/net`, which may
    /// show another network namespace than ours; a device of another number there is not taken for this one.
    fn read_speed(&self) -> Option<Speed> {
        if self.kind == Kind::Veth {
            return self.admin_up.then_some(VETH);
        }
        let read = |file: &str| fs::read_to_string(format!("/sys/class/net/{}/{file}", self.name)).ok();
        if read("ifindex")?.trim().parse() != Ok(self.ifindex) {
            return None;
        }
        parse(&read("speed")?, &read("duplex")?)
    }
}

/// `speed` is in Mbit/s, and -1 if it is unknown; `duplex` is `full`, `half` or `unknown`.
fn parse(speed: &str, duplex: &str) -> Option<Speed> {
    let megabits: u64 = speed.trim().parse().ok().filter(|&megabits| megabits > 0 && megabits < u64::from(u32::MAX))?;
    Some(Speed { bits_per_second: megabits * 1_000_000, full_duplex: duplex.trim() == "full" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drivers_say() {
        let speed = |bits_per_second, full_duplex| Some(Speed { bits_per_second, full_duplex });
        assert_eq!(parse("25000\n", "full\n"), speed(25_000_000_000, true));
        assert_eq!(parse("10", "half"), speed(10_000_000, false));
        for unknown in ["-1\n", "0", "4294967295", "", "fast"] {
            assert_eq!(parse(unknown, "full"), None, "{unknown}");
        }
    }
}
