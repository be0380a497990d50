//! How do AF_XDP, XDP programs and the rest of the kernel look from safe Rust? (The only crate with unsafe.)
//!
//! A device is taken by [`Attachment::open`], which returns for each queue a receiving half ([`XskRx`]) and a transmitting
//! half ([`XskTx`]). A received packet is read where the kernel put it and its frames go straight back; whatever leaves is
//! written into frames of the queue it leaves by. Nothing on that way allocates, blocks or panics on what the kernel says.

pub mod alloc;
pub mod attachment;
pub mod cpu;
pub mod descriptor;
pub mod error;
pub mod ethtool;
mod fake;
pub mod frame;
pub mod fuzzing;
pub mod host;
pub mod kernel;
mod link;
pub mod loopback;
pub mod netns;
pub mod options;
pub mod packet;
pub mod pcap;
mod pool;
pub mod program;
pub mod promiscuous;
pub mod ring;
pub mod rx;
pub mod shortcut;
mod socket;
pub mod tx;
pub mod umem;
pub mod words;
pub mod xdp_query;

pub use attachment::{AttachError, Attachment, WantedMode, XdpMode, XdpStatistics, drop_all};
pub use error::SyscallError;
pub use frame::FrameCount;
pub use kernel::raise_limits;
pub use options::{QueueOptions, RING_ENTRIES};
pub use packet::{Packet, SEGMENTS_MAX, Segments};
pub use program::{Claims, ProgramError, QUEUES_MAX};
pub use promiscuous::Promiscuous;
pub use rx::XskRx;
pub use tx::{ChecksumRequest, Flush, TxBurst, TxRefused, TxState, TxWriter, XskTx, copy};
pub use umem::Umem;
