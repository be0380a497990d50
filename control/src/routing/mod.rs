//! How do the kernel's routes become what the workers forward by?
//!
//! * [`decode`]: what a message of the kernel says.
//! * [`rib`]: all routes that the kernel has told of, and which of them is the best for each prefix.
//! * [`forward`]: what of them goes into the FIB of the workers.
//! * [`text`]: what operators write.

pub mod decode;
pub mod forward;
pub mod rib;
pub mod rules;
pub mod text;
