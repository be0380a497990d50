//! How does a frame travel through the switch?
#![forbid(unsafe_code)]
