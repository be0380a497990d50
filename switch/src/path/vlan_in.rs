//! Step 5: which VLAN does the frame belong to?
//!
//! Exits: [`Reason::TaggedOnAccess`], [`Reason::IngressVlan`], [`Reason::IngressCvlan`].
//!
//! [`Reason::TaggedOnAccess`]: crate::reason::Reason::TaggedOnAccess
//! [`Reason::IngressVlan`]: crate::reason::Reason::IngressVlan
//! [`Reason::IngressCvlan`]: crate::reason::Reason::IngressCvlan

use crate::meta::Meta;
use crate::path::lane::Lane;
use crate::reason::Reason;

/// Classifies the frame by the rules of the port that it came in by.
#[inline]
pub fn one(meta: &mut Meta, lane: &mut Lane<'_>) -> Result<(), Reason> {
    meta.vlan = lane.classify(&meta.tags)?;
    Ok(())
}
