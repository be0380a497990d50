//! How do clients reach the database and the daemon? JSON-RPC 1.0 over a Unix socket (RFC 7047 §4).
//!
//! Bytes in, bytes out: a [`Hub`] holds all sessions and knows no socket and no clock, so that tests drive it directly.
//! [`serve`] is the edge that moves the bytes.
//!
//! ```text
//! socket → frame (one JSON text) → message (one request) → hub (methods) → store → monitor (update) → queue → socket
//! ```

use serde_json::Value;

mod feed;
mod frame;
mod hub;
mod lock;
mod message;
mod methods;
mod monitor;
mod server;
mod server_database;

pub use crate::store::Store;
pub use frame::{FrameError, Splitter};
pub use hub::{Hub, SessionId};
pub use server::{ListenError, bind, listen, refuse_if_live, serve};

/// The longest request, in bytes.
pub const MESSAGE_MAX: usize = 16 << 20;
/// The deepest nesting of arrays and objects in a request.
pub const NESTING_MAX: usize = 64;
/// Connections at one time.
pub const CONNECTIONS_MAX: usize = 256;
/// Bytes waiting for a client; one that lets more gather is cut off.
pub const QUEUE_MAX: usize = 64 << 20;
/// Bytes waiting for a client from which on its requests are not read.
pub const QUEUE_BUSY: usize = 1 << 20;
/// Monitors, and also waiting transactions, of one client.
pub const PER_SESSION_MAX: usize = 256;

/// Transactions that become durable with one sync.
pub const GROUP_MAX: usize = 256;
/// Bytes of the requests of such.
pub const GROUP_BYTES_MAX: usize = 1 << 20;

/// Who asks: the process at the other end of the socket when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its process, if the kernel knows.
    pub pid: Option<i32>,
}

/// Octets that do not end until the client goes: a capture.
pub trait Feed {
    /// Appends what there is; only called when the client has taken what there was. False if it is over.
    fn take(&mut self, output: &mut Vec<u8>) -> bool;

    /// The client wants no more: appends the end.
    fn end(&mut self, output: &mut Vec<u8>);
}

/// What the protocol server needs from the daemon; everything runs on one thread.
pub trait Daemon {
    /// A run-time command such as `fdb/show br0`. `Ok` is the result (a string for text output), `Err` one line for the
    /// user.
    fn command(&mut self, name: &str, args: &[String]) -> Result<Value, String>;

    /// A client asks for a feed: from then on its connection carries that and nothing else.
    fn feed(&mut self, _request: &Value) -> Result<Box<dyn Feed>, String> {
        Err("there are no feeds here".to_owned())
    }

    /// A client's transaction changed the configuration; it is durable and replied to. Must not block.
    fn committed(&mut self, peer: Peer);
}
