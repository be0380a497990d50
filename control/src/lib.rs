//! How is the switch configured, observed and kept running?
#![forbid(unsafe_code)]

pub mod database;
pub mod datum;
pub mod journal;
pub mod schema;
pub mod store;
pub mod transaction;
pub mod kernel;
