//! How fast is shunt, beside the switches it replaces, on the same rig in the same run?
//!
//! [`throughput`] is the measurement: for every round and every device under test it builds a [`rig`], starts a
//! [`dut`], lets the [`generator`] offer frames and the [`sink`] count them, and hands a row to the [`report`].
#![forbid(unsafe_code)]

pub mod arguments;
pub mod cpu;
pub mod dut;
pub mod forwarder;
pub mod frame;
pub mod generator;
pub mod netns;
pub mod process;
pub mod report;
pub mod rig;
pub mod scale;
pub mod sink;
pub mod statistics;
pub mod throughput;
