//! What do the steps look things up in?

pub mod bucket;
pub mod fdb;
pub mod fib;
pub mod flood;
pub mod guard;
mod ledger;
pub mod mdb;
pub mod mirror;
pub mod next_hop;
mod order;
pub mod sampler;
pub mod shortcut;
mod slot;
pub mod vlan;
