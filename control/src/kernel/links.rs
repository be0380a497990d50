//! Which network devices does our namespace have right now, and when does that change?
//!
//! A [`Links`] subscribes to the kernel's link events, then dumps all links, and from then on applies each event to its
//! [`Mirror`]. If events come faster than we read them the kernel drops some and says so once (ENOBUFS). What is still
//! queued then is older than the loss, so it is thrown away and all links are dumped again.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use rustix::net::sockopt;

use super::{Error, Kernel, Link};

/// RTMGRP_LINK (`rtnetlink.h`): links appear, change and go.
const GROUP_LINK: u32 = 1;
/// Space for events that we have not read yet. A link event takes about 4 KiB of it, so this holds what 1000
/// containers do when they start at once.
pub const EVENT_BUFFER_BYTES: usize = 8 << 20;
/// The largest datagram that the kernel makes of link events.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;
/// Datagrams taken in one visit, so that a storm of events cannot keep the control thread from everything else.
const DATAGRAMS_PER_VISIT_MAX: usize = 4096;

/// The links themselves: pure, fed with the kernel's messages.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    links: BTreeMap<u32, Link>,
    by_name: HashMap<String, u32>,
}

impl Mirror {
    /// Applies one event and adds the names that it touched (old and new) to `touched`.
    pub(crate) fn apply(&mut self, message: &RouteNetlinkMessage, touched: &mut BTreeSet<String>) {
        match message {
            // Bridges describe their ports in messages of their own family, with another meaning:
            // a DELLINK among them says that the device left the bridge.
            RouteNetlinkMessage::NewLink(m) if m.header.interface_family == AddressFamily::Unspec => {
                if let Some(link) = Link::from_message(m) {
                    self.insert(link, touched);
                }
            }
            RouteNetlinkMessage::DelLink(m) if m.header.interface_family == AddressFamily::Unspec => {
                self.remove(m.header.index, touched);
            }
            _ => {}
        }
    }

    /// Replaces everything by a fresh dump.
    pub(crate) fn replace(&mut self, links: Vec<Link>, touched: &mut BTreeSet<String>) {
        let present: BTreeSet<u32> = links.iter().map(|link| link.ifindex).collect();
        let gone: Vec<u32> = self.links.keys().copied().filter(|ifindex| !present.contains(ifindex)).collect();
        for ifindex in gone {
            self.remove(ifindex, touched);
        }
        for link in links {
            self.insert(link, touched);
        }
    }

    fn insert(&mut self, link: Link, touched: &mut BTreeSet<String>) {
        let old = self.links.get(&link.ifindex);
        if old == Some(&link) {
            return;
        }
        touched.insert(link.name.clone());
        if let Some(old) = old.filter(|old| old.name != link.name).map(|old| old.name.clone()) {
            self.forget_name(&old, link.ifindex);
            touched.insert(old);
        }
        self.by_name.insert(link.name.clone(), link.ifindex);
        self.links.insert(link.ifindex, link);
    }

    fn remove(&mut self, ifindex: u32, touched: &mut BTreeSet<String>) {
        if let Some(old) = self.links.remove(&ifindex) {
            self.forget_name(&old.name, ifindex);
            touched.insert(old.name);
        }
    }

    /// Names change hands: one that another link has taken meanwhile stays with that one.
    fn forget_name(&mut self, name: &str, ifindex: u32) {
        if self.by_name.get(name) == Some(&ifindex) {
            self.by_name.remove(name);
        }
    }
}

/// All links of our namespace, kept up to date.
pub struct Links {
    kernel: Kernel,
    events: TokioSocket,
    /// Room for one datagram.
    buffer: Vec<u8>,
    mirror: Mirror,
    /// Events were lost: dump again before the mirror is believed.
    stale: bool,
    /// Names touched and not reported yet.
    touched: BTreeSet<String>,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("mirror", &self.mirror).field("stale", &self.stale).finish_non_exhaustive()
    }
}

impl Links {
    /// Subscribes, then dumps. `buffer_bytes`: space for unread events in the kernel.
    pub(super) async fn open(kernel: Kernel, buffer_bytes: usize) -> Result<Self, Error> {
        let events = subscribe(buffer_bytes).map_err(Error::Socket)?;
        let mut links = Self {
            kernel,
            events,
            buffer: Vec::with_capacity(DATAGRAM_BYTES_MAX),
            mirror: Mirror::default(),
            stale: true,
            touched: BTreeSet::new(),
        };
        links.resync().await?;
        links.touched.clear();
        Ok(links)
    }

    /// The link of that name.
    pub fn by_name(&self, name: &str) -> Option<&Link> {
        self.by_ifindex(*self.mirror.by_name.get(name)?)
    }

    /// The link of that number.
    pub fn by_ifindex(&self, ifindex: u32) -> Option<&Link> {
        self.mirror.links.get(&ifindex)
    }

    /// All links, in order of ifindex.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.mirror.links.values()
    }

    /// Waits until links have changed, takes in all events that are pending, and returns the names touched: of links that
    /// appeared, changed (a renamed one counts under both names) or vanished. What only counters would show is no change.
    ///
    /// Nothing is lost if the future is dropped before it is ready (`select!`).
    pub async fn changed(&mut self) -> Result<BTreeSet<String>, Error> {
        loop {
            if self.stale {
                self.resync().await?;
            }
            if !self.touched.is_empty() {
                self.take_pending()?;
                if !self.stale {
                    return Ok(std::mem::take(&mut self.touched));
                }
                continue;
            }
            let first = std::future::poll_fn(|context| {
                self.buffer.clear();
                self.events.poll_recv_from(context, &mut self.buffer)
            });
            let received = first.await;
            self.take(received.map(drop))?;
            self.take_pending()?;
        }
    }

    /// Takes in what the kernel has told so far, without waiting, and returns all names touched that [`Links::changed`] has yet
    /// to return. What one has had the kernel do was told before it answered.
    pub fn now(&mut self) -> Result<&BTreeSet<String>, Error> {
        self.take_pending()?;
        Ok(&self.touched)
    }

    /// Applies what is queued in the kernel, without waiting. Sets `stale` if events were lost.
    fn take_pending(&mut self) -> Result<(), Error> {
        for _ in 0..DATAGRAMS_PER_VISIT_MAX {
            self.buffer.clear();
            match self.events.socket_ref().recv_from(&mut self.buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                received => self.take(received.map(drop))?,
            }
        }
        // There may be more. The dump covers what we leave unread; what comes after it wakes us.
        self.stale = true;
        Ok(())
    }

    /// Takes one datagram (in `buffer`), or the news that events were lost.
    fn take(&mut self, received: io::Result<()>) -> Result<(), Error> {
        match received {
            // Nothing of what is read after a loss is applied: it may be older than the loss.
            Ok(()) if !self.stale => apply_datagram(&self.buffer, &mut self.mirror, &mut self.touched),
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                tracing::info!("link events came faster than they were read: reading all links anew");
                self.stale = true;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Socket(error)),
        }
        Ok(())
    }

    async fn resync(&mut self) -> Result<(), Error> {
        // Empty the queue first, so that no event older than the dump is applied on top of it.
        self.take_pending()?;
        let links = self.kernel.dump().await?;
        self.mirror.replace(links, &mut self.touched);
        self.stale = false;
        Ok(())
    }
}

fn subscribe(buffer_bytes: usize) -> io::Result<TokioSocket> {
    let mut events = TokioSocket::new(NETLINK_ROUTE)?;
    // Beyond net.core.rmem_max only root may go; with less we read all links anew more often, and that is all.
    let socket = events.socket_ref();
    if sockopt::set_socket_recv_buffer_size_force(socket, buffer_bytes).is_err() {
        sockopt::set_socket_recv_buffer_size(socket, buffer_bytes)?;
    }
    events.socket_mut().bind(&SocketAddr::new(0, GROUP_LINK))?;
    Ok(events)
}

/// One datagram holds one or more messages.
fn apply_datagram(mut bytes: &[u8], mirror: &mut Mirror, touched: &mut BTreeSet<String>) {
    while bytes.len() >= 4 {
        let length = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        let Some(message) = bytes.get(..length).filter(|message| message.len() >= 16) else { return };
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(message) {
            Ok(NetlinkMessage { payload: NetlinkPayload::InnerMessage(inner), .. }) => mirror.apply(&inner, touched),
            Ok(_) => {}
            Err(error) => tracing::warn!("a link event of the kernel cannot be read: {error}"),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

    use super::*;
    use crate::kernel::{Kind, Peer};

    fn veth(ifindex: u32, name: &str) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.header.flags = LinkFlags::Up;
        message.attributes = vec![
            LinkAttribute::IfName(name.into()),
            LinkAttribute::Mtu(1500),
            LinkAttribute::Link(7),
            LinkAttribute::LinkNetNsId(3),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]),
        ];
        message
    }

    fn apply(mirror: &mut Mirror, message: RouteNetlinkMessage) -> Vec<String> {
        let mut touched = BTreeSet::new();
        mirror.apply(&message, &mut touched);
        touched.into_iter().collect()
    }

    fn names(mirror: &Mirror) -> Vec<(&str, u32)> {
        let mut names: Vec<_> = mirror.by_name.iter().map(|(name, ifindex)| (name.as_str(), *ifindex)).collect();
        names.sort();
        names
    }

    #[test]
    fn a_link_appears_changes_and_goes() {
        let mut mirror = Mirror::default();
        assert_eq!(apply(&mut mirror, RouteNetlinkMessage::NewLink(veth(5, "a"))), ["a"]);
        assert_eq!(mirror.links[&5].kind, Kind::Veth);
        assert_eq!(mirror.links[&5].peer, Some(Peer { ifindex: 7, netnsid: Some(3) }));
        assert!(apply(&mut mirror, RouteNetlinkMessage::NewLink(veth(5, "a"))).is_empty(), "nothing new");
        let mut jumbo = veth(5, "a");
        jumbo.attributes[1] = LinkAttribute::Mtu(9000);
        assert_eq!(apply(&mut mirror, RouteNetlinkMessage::NewLink(jumbo)), ["a"]);
        assert_eq!(mirror.links[&5].mtu, 9000);
        assert_eq!(apply(&mut mirror, RouteNetlinkMessage::DelLink(veth(5, "a"))), ["a"]);
        assert!(mirror.links.is_empty() && mirror.by_name.is_empty());
    }

    #[test]
    fn names_change_hands() {
        let mut mirror = Mirror::default();
        apply(&mut mirror, RouteNetlinkMessage::NewLink(veth(5, "a")));
        assert_eq!(apply(&mut mirror, RouteNetlinkMessage::NewLink(veth(5, "b"))), ["a", "b"]);
        apply(&mut mirror, RouteNetlinkMessage::NewLink(veth(6, "a")));
        assert_eq!(names(&mirror), [("a", 6), ("b", 5)]);
        // Seen the wrong way round after a dump: 7 has the name already when 6 goes.
        apply(&mut mirror, RouteNetlinkMessage::NewLink(veth(7, "a")));
        apply(&mut mirror, RouteNetlinkMessage::DelLink(veth(6, "a")));
        assert_eq!(names(&mirror), [("a", 7), ("b", 5)]);
    }

    #[test]
    fn leaving_a_bridge_is_not_vanishing() {
        let mut mirror = Mirror::default();
        apply(&mut mirror, RouteNetlinkMessage::NewLink(veth(5, "a")));
        let mut left = veth(5, "a");
        left.header.interface_family = AddressFamily::Bridge;
        assert!(apply(&mut mirror, RouteNetlinkMessage::DelLink(left)).is_empty());
        assert_eq!(names(&mirror), [("a", 5)]);
    }

    #[test]
    fn a_dump_replaces_everything() {
        let mut mirror = Mirror::default();
        for (ifindex, name) in [(5, "a"), (6, "b"), (7, "c")] {
            apply(&mut mirror, RouteNetlinkMessage::NewLink(veth(ifindex, name)));
        }
        let dump = [veth(7, "c"), veth(8, "a"), veth(6, "d")];
        let mut touched = BTreeSet::new();
        mirror.replace(dump.iter().filter_map(Link::from_message).collect(), &mut touched);
        assert_eq!(touched.into_iter().collect::<Vec<_>>(), ["a", "b", "d"]);
        assert_eq!(names(&mirror), [("a", 8), ("c", 7), ("d", 6)]);
    }

    #[test]
    fn torn_datagrams_do_no_harm() {
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::NewLink(veth(5, "a")));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let mut twice = bytes.clone();
        twice.extend_from_slice(&bytes);
        for length in 0..twice.len() {
            let mut mirror = Mirror::default();
            apply_datagram(&twice[..length], &mut mirror, &mut BTreeSet::new());
            assert_eq!(mirror.links.len(), usize::from(length >= bytes.len()), "cut after {length}");
        }
        twice[0..4].fill(0);
        apply_datagram(&twice, &mut Mirror::default(), &mut BTreeSet::new());
    }
}
