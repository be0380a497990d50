//! What happens to a packet on its way? One step a file; on the road they come in this order:
//! [`rx`], [`parse`], [`reserved`], [`vlan_in`], [`learn`], [`lookup`], [`checksum`], [`egress`], which writes copies by an [`edit`].

pub mod checksum;
pub mod edit;
pub mod egress;
pub mod learn;
pub mod lookup;
pub mod parse;
pub mod reserved;
pub mod rx;
pub mod vlan_in;
