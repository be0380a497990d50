//! What do we ask of the kernel's network devices? (The only module that speaks rtnetlink.)
//!
//! * [`Kernel`]: requests: make, change, read and remove links.
//! * [`Links`]: a mirror of all links of our namespace, with a wait for its next change.
//! * [`Kernel::prepare`] and [`Kernel::undo`]: what a device needs before AF_XDP is attached, and its way back.
//! * [`Kernel::ensure_internal`]: the veth pair behind a bridge's `internal` port.
//! * [`Namespace`]: where a VRF lives; [`Routes`] tells of its tables, and [`Kernel::add_route`] and others change them.
//!
//! All of it works on the network namespace of the thread that called [`Kernel::open`].
use std::sync::Arc;

use rtnetlink::sys::AsyncSocket;
use tokio::sync::Mutex;

use shunt_ffi::Promiscuous;

mod announce;
mod ask;
mod container;
mod discovery;
mod error;
mod features;
mod internal;
mod layer3;
mod link;
mod links;
mod namespaces;
mod peer;
mod prepare;
mod request;
mod routes;
mod speed;
mod vrf;

pub use ask::{Neighbour, addresses, neighbours};
pub use container::{Cidr, Inside};
pub use discovery::{Heard, Sought, Watched};
pub use error::Error;
pub use internal::{Internal, switch_end};
pub use layer3::{Address, METRIC_V6, PROTOCOL, WantedHop, WantedRoute};
pub use link::{Kind, Link, Peer, Statistics, Xdp, XdpMode};
pub use links::{EVENT_BUFFER_BYTES, Links};
pub use prepare::{PrepareError, Prepared};
pub use request::NAME_BYTES_MAX;
pub use routes::{Routes, Told};
pub use speed::Speed;
pub use vrf::Namespace;

/// The way to the kernel's links. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Kernel {
    handle: rtnetlink::Handle,
    namespaces: Arc<Mutex<namespaces::Namespaces>>,
    promiscuous: Arc<Promiscuous>,
}

impl Kernel {
    /// Opens netlink sockets in the network namespace of the calling thread and reads all links.
    /// Must be called in a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// [`Error::Socket`] without permission.
    pub async fn open() -> Result<(Self, Links), Error> {
        Self::open_with(EVENT_BUFFER_BYTES).await
    }

    /// [`Kernel::open`] with another size of the buffer for unread events.
    pub async fn open_with(event_buffer_bytes: usize) -> Result<(Self, Links), Error> {
        let kernel = Self::requests()?;
        let links = Links::open(kernel.clone(), event_buffer_bytes).await?;
        Ok((kernel, links))
    }

    /// The way alone, without a mirror of the links.
    fn requests() -> Result<Self, Error> {
        let (mut connection, handle, _) = rtnetlink::new_connection().map_err(Error::Socket)?;
        let socket = connection.socket_mut().socket_ref();
        // So that a refusal comes with the kernel's own words.
        socket.set_ext_ack(true).and_then(|()| socket.set_cap_ack(true)).map_err(Error::Socket)?;
        tokio::spawn(connection);
        let promiscuous = Promiscuous::new().map_err(|error| Error::Socket(error.source))?;
        Ok(Self { handle, namespaces: Arc::default(), promiscuous: Arc::new(promiscuous) })
    }
}
