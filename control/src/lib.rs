//! How is the switch configured, observed and kept running?
#![forbid(unsafe_code)]

pub mod datum;
pub mod schema;
