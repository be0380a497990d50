//! How fast is shunt, beside the switches it replaces, on the same rig in the same run?
//!
//! A [`session`] runs the cells that a [command](commands) asks for: it builds a [`rig`], starts a [`dut`], and either lets the
//! [`generator`] offer frames and the [`sink`] count them ([`bench`], [`measure`]), or two programs speak to each other
//! ([`stream`]). Each measurement is a [`record`]; the [`report`] puts them side by
//! side, [`floors`] and [`compare`] judge them, and [`html`] draws them.
#![forbid(unsafe_code)]

pub mod arguments;
pub mod bench;
pub mod commands;
pub mod compare;
pub mod cpu;
pub mod delays;
pub mod dut;
pub mod fib;
pub mod floors;
pub mod forwarder;
pub mod frame;
pub mod generator;
pub mod html;
pub mod load;
pub mod measure;
pub mod memory;
pub mod netns;
mod plan;
pub mod process;
pub mod record;
pub mod report;
pub mod rig;
pub mod scale;
pub mod search;
pub mod session;
pub mod sink;
pub mod socket;
pub mod stages;
pub mod statistics;
pub mod stream;
pub mod svg;
