//! How is the switch configured, observed and kept running?
//!
//! ```text
//! argv → cli → transact → rpc → transaction → store (journal) → model → plan → reconcile → state → snapshot → workers
//!                                                                                 └→ status columns, cur_cfg → monitor
//! ```
#![forbid(unsafe_code)]

pub mod capture;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod daemon;
pub mod database;
pub mod dataplane;
pub mod datum;
pub mod directory;
pub mod drops;
pub mod fuzzing;
pub mod guards;
pub mod history;
pub mod journal;
pub mod kernel;
pub mod logging;
pub mod metrics;
pub mod mirrors;
pub mod model;
pub mod placement;
pub mod plan;
pub mod reconcile;
pub mod remembered;
pub mod routing;
pub mod rpc;
pub mod schema;
pub mod sflow;
pub mod state;
pub mod status;
pub mod store;
pub mod transaction;
