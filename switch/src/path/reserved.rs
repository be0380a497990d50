//! Step 4: is the destination one that a bridge keeps to itself?
//!
//! Exit: [`Reason::ReservedMulticast`]. It comes before learning: such a frame teaches nothing.

use crate::config::Bridge;
use crate::reason::Reason;
use crate::wire::ethernet::Mac;

/// Refuses frames to reserved addresses, unless the bridge forwards them.
#[inline]
pub fn one(destination: Mac, bridge: &Bridge) -> Result<(), Reason> {
    if destination.is_reserved() && !bridge.forward_bpdu { Err(Reason::ReservedMulticast) } else { Ok(()) }
}
