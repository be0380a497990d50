//! Step 3: does the port take the packet at all?
//!
//! Exits: [`Reason::MirrorIngress`], [`Reason::SourceGuard`], [`Reason::PolicedRate`], [`Reason::PolicedPackets`]. It comes first: what is over the
//! rate teaches nothing and costs nothing more.

use crate::config::Port;
use crate::meta::Meta;
use crate::reason::Reason;
use crate::time::Instant;

/// Refuses what the port does not take.
#[inline(never)]
pub fn one(meta: &Meta, head: &[u8], port: &Port, now: Instant) -> Result<(), Reason> {
    match &port.guard {
        _ if port.mirror.is_output => Err(Reason::MirrorIngress),
        Some(guard) => {
            guard.knows(meta.ethertype, head.get(meta.payload_offset()..).unwrap_or_default())?;
            guard.admit(meta.len, now)
        }
        None => Ok(()),
    }
}
