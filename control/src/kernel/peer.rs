//! How do we reach the other end of a veth, in whatever namespace it is, to make it write VLAN tags into its frames?
use std::os::fd::AsFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice};
use shunt_ffi::netns;

use super::features::{self, Switched};
use super::{Kernel, Link, Peer};

/// With these on, a VLAN sub-interface in the container hands its tag to our end beside the frame, where XDP does not
/// see it, and the frame silently enters the native VLAN.
const TAG_BESIDE_FRAME: [&str; 2] = ["tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"];

impl Kernel {
    /// Switches the peer's VLAN acceleration off and checks that. The error says why that is not certain.
    pub(super) async fn accelerate_peer_off(&self, link: &Link) -> Result<Switched, String> {
        let ours = link.ifindex;
        self.at_peer(link, move |peer| features::switch_off(peer, &TAG_BESIDE_FRAME), ours).await
    }

    /// Switches features of the peer on again.
    pub(super) async fn restore_peer(&self, link: &Link, features: Vec<String>) -> Result<(), String> {
        self.at_peer(link, move |peer| features::switch_on(peer, &features), link.ifindex).await
    }

    /// Runs `act` with the peer's name in the peer's namespace, on a thread that may wait for the kernel.
    pub(super) async fn at_peer<T: Send + 'static>(
        &self,
        link: &Link,
        act: impl FnOnce(&str) -> Result<T, String> + Send + 'static,
        ours: u32,
    ) -> Result<T, String> {
        let Peer { ifindex, netnsid } = link.peer.ok_or("its other end is gone")?;
        let in_namespace = move || act(&identify(ifindex, ours)?);
        let no_file = "the network namespace of its other end has no file under /run/netns, /run/docker/netns or /proc/PID/ns/net";
        let file = match netnsid {
            Some(nsid) => Some(self.namespaces.lock().await.open(self, nsid).await.ok_or(no_file)?),
            None => None,
        };
        let work = move || match file {
            Some(file) => netns::run_in(file.as_fd(), in_namespace)
                .map_err(|error| format!("cannot enter its namespace: {error}"))?,
            None => in_namespace(),
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

/// The name of device `ifindex` of the current namespace, if it is the other end of our device `ours`.
fn identify(ifindex: u32, ours: u32) -> Result<String, String> {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(|error| format!("cannot open a socket in the namespace of its other end: {error}"))?;
    let name = netdevice::index_to_name(&socket, ifindex).map_err(|_| "its other end has just moved or gone")?;
    match features::veth_peer(&name) {
        Some(peer) if peer == ours => Ok(name),
        _ => Err(format!("{name} looked like its other end, but is not; it has just moved or gone")),
    }
}
