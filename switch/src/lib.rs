//! How does a frame travel through the switch?
//!
//! ```text
//! rx burst → parse → reserved → ingress VLAN → learn → look up ─┬─ known unicast ─┐
//!                                                               ├─ flood ─────────┴→ egress VLAN → tx
//!                                                               └─ drop(reason)
//! ```
//!
//! [`worker::Worker::turn`] is that picture as code, one file of [`path`] a step. A received frame is read-only: every
//! copy that leaves is written once, into a frame of the port it leaves by, under an [`path::edit::Edit`] that says which
//! tags go and come and what becomes of the checksum; the received frame then goes straight back to where it came from.
//! Nothing here reads a clock, a file or a socket: time, ports and configuration are arguments.
#![forbid(unsafe_code)]

pub mod batch;
pub mod capture;
pub mod command;
pub mod config;
pub mod counters;
pub mod crossing;
pub mod explain;
pub mod filter;
pub mod fuzzing;
pub mod limits;
pub mod meta;
pub mod path;
pub mod port;
pub mod reason;
pub mod table;
pub mod tap;
pub mod testing;
pub mod time;
pub mod wire;
pub mod worker;
