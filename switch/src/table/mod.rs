//! What do the steps look things up in?

pub mod fdb;
pub mod flood;
mod ledger;
pub mod vlan;
