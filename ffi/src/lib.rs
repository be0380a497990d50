//! How do AF_XDP, XDP programs and the rest of the kernel look from safe Rust? (The only crate with unsafe.)

pub mod packet;

pub use packet::{Packet, SEGMENTS_MAX};
