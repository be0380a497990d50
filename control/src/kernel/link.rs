//! What do we know about one network device?
use std::fmt;

use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, Stats64, XdpAttached,
};

/// One network device of our namespace, as the kernel last described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it; a device that is deleted and made again has another.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// The text set with `ip link set DEV alias TEXT`.
    pub alias: Option<String>,
    /// What made it.
    pub kind: Kind,
    /// Does it carry Ethernet frames?
    pub is_ethernet: bool,
    /// MAC address; zeros if it has none.
    pub mac: [u8; 6],
    /// Largest payload of a frame, in bytes.
    pub mtu: u32,
    /// Smallest MTU that it accepts.
    pub mtu_min: u32,
    /// Largest MTU that it accepts; `u32::MAX` if it does not say.
    pub mtu_max: u32,
    /// Set up by the administrator (IFF_UP).
    pub admin_up: bool,
    /// Has a carrier: the other end is there and up (IFF_LOWER_UP).
    pub carrier: bool,
    /// Promiscuous, whoever wants it so.
    pub promiscuous: bool,
    /// The bridge, bond or other master that it belongs to.
    pub master: Option<u32>,
    /// The other end, if it is a veth. The kernel announces the first end of a pair before it ties them: then `None`
    /// until its next event ([`Kernel::link`](super::Kernel::link) reads it afresh).
    pub peer: Option<Peer>,
    /// The XDP program attached to it.
    pub xdp: Option<Xdp>,
    /// Receive queues that it was made with (not all need be in use: ask ethtool).
    pub rx_queues: u32,
    /// Transmit queues that it was made with.
    pub tx_queues: u32,
    /// Root queueing discipline; frames sent through AF_XDP bypass it.
    pub qdisc: Option<String>,
    /// See [`Link::speed`].
    pub(super) speed: super::speed::Known,
}

/// The other end of a veth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its ifindex in its own namespace.
    pub ifindex: u32,
    /// Our number for that namespace; none if it is our own.
    pub netnsid: Option<i32>,
}

/// An XDP program on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Xdp {
    /// The kernel's number for it, as in `bpftool prog show id N`.
    pub program_id: u32,
    /// Where it runs.
    pub mode: XdpMode,
}

/// Where an XDP program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the generic receive path.
    Generic,
    /// On the device itself.
    Offloaded,
    /// In several places at once.
    Multiple,
}

/// What made a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A driver for real or virtual hardware: a NIC.
    Hardware,
    /// `lo`.
    Loopback,
    /// One end of a veth pair.
    Veth,
    /// A Linux bridge.
    Bridge,
    /// TUN or TAP.
    Tun,
    /// Anything else, by the kernel's name for it: `vlan`, `macvlan`, `bond`, ….
    Other(String),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hardware => "hardware",
            Self::Loopback => "loopback",
            Self::Veth => "veth",
            Self::Bridge => "bridge",
            Self::Tun => "tun",
            Self::Other(name) => name,
        })
    }
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offloaded => "offloaded",
            Self::Multiple => "several modes",
        })
    }
}

/// The kernel's counters of one link, from when it was made (`rtnl_link_stats64`, seen from the host:
/// what a container sends is received here).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)] // The names are the kernel's and OVS's own.
pub struct Statistics {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
    pub multicast: u64,
    pub collisions: u64,
    pub rx_over_errors: u64,
    pub rx_crc_errors: u64,
    pub rx_frame_errors: u64,
    pub rx_missed_errors: u64,
}

impl From<&Stats64> for Statistics {
    fn from(s: &Stats64) -> Self {
        Self {
            rx_packets: s.rx_packets,
            tx_packets: s.tx_packets,
            rx_bytes: s.rx_bytes,
            tx_bytes: s.tx_bytes,
            rx_errors: s.rx_errors,
            tx_errors: s.tx_errors,
            rx_dropped: s.rx_dropped,
            tx_dropped: s.tx_dropped,
            multicast: s.multicast,
            collisions: s.collisions,
            rx_over_errors: s.rx_over_errors,
            rx_crc_errors: s.rx_crc_errors,
            rx_frame_errors: s.rx_frame_errors,
            rx_missed_errors: s.rx_missed_errors,
        }
    }
}

impl Link {
    /// Reads a link from the kernel's description. `None` if it has no name: then it is no full description.
    pub(crate) fn from_message(message: &LinkMessage) -> Option<Self> {
        let flags = message.header.flags;
        let layer = message.header.link_layer_type;
        let mut link = Self {
            ifindex: message.header.index,
            name: String::new(),
            alias: None,
            kind: if layer == LinkLayerType::Loopback { Kind::Loopback } else { Kind::Hardware },
            is_ethernet: layer == LinkLayerType::Ether,
            mac: [0; 6],
            mtu: 0,
            mtu_min: 0,
            mtu_max: u32::MAX,
            admin_up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            promiscuous: false,
            master: None,
            peer: None,
            xdp: None,
            rx_queues: 1,
            tx_queues: 1,
            qdisc: None,
            speed: Default::default(),
        };
        let (mut lower, mut netnsid) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::IfAlias(text) => link.alias = Some(text.clone()),
                LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().unwrap_or_default(),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::MinMtu(mtu) => link.mtu_min = *mtu,
                LinkAttribute::MaxMtu(mtu) if *mtu != 0 => link.mtu_max = *mtu,
                LinkAttribute::Promiscuity(count) => link.promiscuous = *count > 0,
                LinkAttribute::Controller(ifindex) => link.master = (*ifindex != 0).then_some(*ifindex),
                LinkAttribute::Link(ifindex) => lower = (*ifindex != 0).then_some(*ifindex),
                LinkAttribute::LinkNetNsId(id) => netnsid = Some(*id),
                LinkAttribute::NumRxQueues(queues) => link.rx_queues = *queues,
                LinkAttribute::NumTxQueues(queues) => link.tx_queues = *queues,
                LinkAttribute::Qdisc(name) => link.qdisc = Some(name.clone()),
                LinkAttribute::Xdp(parts) => link.xdp = xdp(parts),
                LinkAttribute::LinkInfo(parts) => {
                    if let Some(kind) = kind(parts) {
                        link.kind = kind;
                    }
                }
                _ => {}
            }
        }
        if link.kind == Kind::Veth {
            link.peer = lower.map(|ifindex| Peer { ifindex, netnsid });
        }
        (!link.name.is_empty()).then_some(link)
    }
}

fn kind(parts: &[LinkInfo]) -> Option<Kind> {
    parts.iter().find_map(|part| match part {
        LinkInfo::Kind(InfoKind::Veth) => Some(Kind::Veth),
        LinkInfo::Kind(InfoKind::Bridge) => Some(Kind::Bridge),
        LinkInfo::Kind(InfoKind::Tun) => Some(Kind::Tun),
        LinkInfo::Kind(other) => Some(Kind::Other(other.to_string())),
        _ => None,
    })
}

fn xdp(parts: &[LinkXdp]) -> Option<Xdp> {
    let mode = parts.iter().find_map(|part| match part {
        LinkXdp::Attached(XdpAttached::Driver) => Some(XdpMode::Native),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(XdpMode::Generic),
        LinkXdp::Attached(XdpAttached::Hardware) => Some(XdpMode::Offloaded),
        LinkXdp::Attached(XdpAttached::Multiple | XdpAttached::Other(_)) => Some(XdpMode::Multiple),
        _ => None,
    })?;
    // With several programs there is no single PROG_ID: name the first of them.
    let program_id = parts.iter().find_map(|part| match part {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => Some(*id),
        _ => None,
    });
    Some(Xdp { program_id: program_id.unwrap_or(0), mode })
}
