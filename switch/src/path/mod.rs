//! What happens to a packet on its way? One step a file; on the road they come in this order:
//! [`rx`], [`parse`], [`police`], [`reserved`], [`vlan_in`], [`checksum`], [`learn`], [`lookup`], [`storm`], [`snoop`], [`route`],
//! [`egress`], which writes copies by an [`edit`], [`mirror`], [`tap`], and [`shorten`]. What is routed takes egress and mirror a
//! second time. What they know of the port is a [`lane`]. A [`capture`] looks on from egress and tap.

pub mod capture;
pub mod checksum;
pub mod edit;
pub mod egress;
pub mod lane;
pub mod learn;
pub mod lookup;
pub mod mirror;
pub mod parse;
pub mod police;
pub mod reserved;
pub mod route;
pub mod rx;
pub mod shorten;
pub mod snoop;
pub mod storm;
pub mod tap;
pub mod vlan_in;
