//! What does a worker know about ports, VLANs and bridges? An immutable value, replaced as a whole.

use crate::counters::PortCounters;
use crate::limits::VLANS;
use crate::table::bucket::Bucket;
use crate::table::fdb::Fdb;
use crate::table::fib::{Fib, Tables};
use crate::table::flood::FloodTable;
use crate::table::guard::{Guard, MacLimits};
use crate::table::mdb::Mdb;
use crate::table::mirror::{Mirror, Role};
use crate::table::next_hop::{InterfaceIndex, NextHops};
use crate::table::sampler::Sampling;
use crate::table::shortcut::Shortcuts;
use crate::table::vlan::{VlanPolicy, VlanSet};
use crate::wire::ethernet::Mac;
use crate::wire::vlan::TAG;
use std::sync::Arc;

/// Number of a port, dense, the same on all workers.
///
/// A number that a snapshot no longer uses may be given to another port once every worker has installed that snapshot:
/// packets between workers carry the number of the port that they leave by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortIndex(pub u16);

impl PortIndex {
    /// No port.
    pub const NONE: PortIndex = PortIndex(u16::MAX);
}

/// Number of a network device, dense, the same on all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceIndex(pub u16);

/// Everything the packet path reads and does not write, but for the FDBs and the counters inside, which workers do write.
#[derive(Default)]
pub struct Snapshot {
    /// Rises with every snapshot.
    pub generation: u64,
    /// By [`DeviceIndex`].
    pub devices: Vec<Option<Device>>,
    /// By [`PortIndex`].
    pub ports: Vec<Option<Port>>,
    /// By [`Port::bridge`].
    pub bridges: Vec<Bridge>,
    /// Some bridge has [`Bridge::snooping`]. [`Snapshot::mark`] knows.
    pub snoops: bool,
    /// Some bridge has mirrors. [`Snapshot::mark`] knows.
    pub mirrors: bool,
    /// What packets are routed by, if any are.
    pub router: Option<Router>,
    /// Where decisions are left for the kernel.
    pub shortcuts: Option<Shortcuts>,
}

impl Snapshot {
    /// The device, if it is configured.
    #[inline]
    pub fn device(&self, index: DeviceIndex) -> Option<&Device> {
        self.devices.get(usize::from(index.0))?.as_ref()
    }

    /// The port, if it is configured.
    #[inline]
    pub fn port(&self, index: PortIndex) -> Option<&Port> {
        self.ports.get(usize::from(index.0))?.as_ref()
    }

    /// Notes at devices and bridges what their ports need, so that the packets of all others pay one branch. Call it when the
    /// ports are complete.
    pub fn mark(&mut self) {
        self.snoops = self.bridges.iter().any(|bridge| bridge.snooping.is_some());
        self.mirrors = self.bridges.iter().any(|bridge| !bridge.mirrors.is_empty());
        for port in self.ports.iter().flatten() {
            let limits_macs = port.guard.as_ref().is_some_and(|guard| guard.macs != MacLimits::default());
            let bridge = self.bridges.get_mut(usize::from(port.bridge));
            let mirrored = bridge.as_ref().is_some_and(|bridge| !bridge.mirrors.is_empty());
            if let Some(bridge) = bridge {
                bridge.limits_macs |= limits_macs;
            }
            if let Some(Some(device)) = self.devices.get_mut(usize::from(port.device.0)) {
                device.guarded |= port.guard.is_some() || port.mirror.is_output;
                device.mirrored |= mirrored;
                device.tapped |= port.sampling.is_some() || port.captures != 0;
            }
        }
    }

    /// The bridge that the port belongs to, if both are configured.
    #[inline]
    pub fn bridge_of(&self, index: PortIndex) -> Option<&Bridge> {
        self.bridges.get(usize::from(self.port(index)?.bridge))
    }
}

/// A network device: one or several ports share it.
#[derive(Clone)]
pub struct Device {
    /// Which port a frame from this device belongs to.
    pub ingress: Ingress,
    /// The sender may have left TCP and UDP checksums to the device (veth): only the pseudo-header's sum is in them.
    pub partial_checksums: bool,
    /// The worker that transmits for workers which have no transmitting side of this device.
    pub home: u16,
    /// The kernel may forward what comes in and leaves by it.
    pub offload: Option<Offload>,
    /// A port of it is limited, or takes nothing. [`Snapshot::mark`] knows.
    pub guarded: bool,
    /// A bridge of its ports has mirrors. [`Snapshot::mark`] knows.
    pub mirrored: bool,
    /// Records of some of its packets are wanted. [`Snapshot::mark`] knows.
    pub tapped: bool,
}

impl Device {
    /// Octets that frames from it have more than they had where they came in.
    #[inline]
    pub fn own_octets(&self) -> u32 {
        if matches!(self.ingress, Ingress::Punted(_)) { TAG as u32 } else { 0 }
    }
}

/// Which port a frame belongs to.
#[derive(Clone)]
pub enum Ingress {
    /// All frames belong to this port.
    Port(PortIndex),
    /// The outermost 802.1Q tag (TPID 0x8100) selects the port and is taken off; [`PortIndex::NONE`] where no port claims
    /// the VLAN. Untagged and priority-tagged frames belong to nobody here.
    Vlans(Arc<[PortIndex; VLANS]>),
    /// What other devices' programs handed over, see [`shortcut`](crate::table::shortcut): the outermost 802.1ad tag (TPID
    /// 0x88a8), which the program put on, has the place of the device, and so says the port. It is taken off.
    Punted(Arc<[PortIndex; VLANS]>),
}

/// How the kernel's program knows a device that it may forward from and to by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    /// The kernel's number.
    pub ifindex: u32,
    /// Where its counters are, and the VID of the tag of what is handed over: not 0.
    pub place: u16,
    /// Its other end is in another namespace, and gets packets at once.
    pub to_peer: bool,
}

/// A bridge's port.
#[derive(Clone)]
pub struct Port {
    /// Index into [`Snapshot::bridges`].
    pub bridge: u16,
    /// The device that it receives from and transmits on.
    pub device: DeviceIndex,
    /// For a port that is one VLAN of an uplink: the tag that the device's frames carry outside of all the bridge knows.
    pub link_vid: Option<u16>,
    /// Which VLANs it carries and in what form.
    pub vlan: VlanPolicy,
    /// Longest payload in octets (after the Ethernet header and tags) that leaves by it.
    pub mtu: u32,
    /// True where unfinished checksums must be completed before they leave (NICs, uplinks); false where the receiver
    /// accepts a request to complete them (veth).
    pub complete_checksums: bool,
    /// Does not talk to other protected ports.
    pub protected: bool,
    /// Talks to interfaces of the router only.
    pub hosts_only: bool,
    /// Limits on what comes in by it, if there are any.
    pub guard: Option<Arc<Guard>>,
    /// How many packets that came in by it may go to the kernel because they cannot be routed here; none: as many as
    /// [`Interface::exceptions`] lets pass.
    pub exceptions: Option<Arc<Bucket>>,
    /// What it is to its bridge's mirrors.
    pub mirror: Role,
    /// What is wanted to be known of packets that come in by it.
    pub sampling: Option<Arc<Sampling>>,
    /// The captures that it belongs to, one bit each.
    pub captures: u8,
    /// The interface of the router behind it, if there is one: then it is the port of an internal device.
    pub interface: Option<InterfaceIndex>,
    /// One block for each worker, in worker order.
    pub counters: Arc<[PortCounters]>,
}

impl Port {
    /// May packets that came in by it leave by port `to`, as far as protection goes?
    #[inline]
    pub fn may_reach(&self, to: &Port) -> bool {
        let is_open = |port: &Port, other: &Port| !port.hosts_only || other.interface.is_some();
        !(self.protected && to.protected) && is_open(self, to) && is_open(to, self)
    }
}

/// What packets are routed by. The tables are shared by all workers and all snapshots.
#[derive(Clone)]
pub struct Router {
    /// Where an address leads.
    pub fib: Arc<Fib>,
    /// What that comes to.
    pub hops: Arc<NextHops>,
    /// By [`InterfaceIndex`].
    pub interfaces: Vec<Option<Interface>>,
    /// Secret of the hash that spreads flows over several ways: not the same on two hosts.
    pub seed: u64,
}

impl Router {
    /// The interface, if it is configured.
    #[inline]
    pub fn interface(&self, index: InterfaceIndex) -> Option<&Interface> {
        self.interfaces.get(usize::from(index.0))?.as_ref()
    }
}

/// An interface of the router: the host's end of an internal port. The kernel has its addresses, answers what is for it, and
/// gets what the workers do not route.
#[derive(Clone)]
pub struct Interface {
    /// The internal port: what is routed out of the interface goes on as if it had come in by this port.
    pub port: PortIndex,
    /// Packets to this address are routed, and routed packets leave with it.
    pub mac: Mac,
    /// Longest payload that is routed out of it, in octets.
    pub mtu: u32,
    /// Where lookups for packets that come in by it begin.
    pub tables: Tables,
    /// How many packets may go to the kernel because they cannot be routed here. Those for an address of the host are not
    /// counted.
    pub exceptions: Arc<Bucket>,
}

/// A bridge: one learning domain for each VLAN.
pub struct Bridge {
    /// What has been learned. Shared by all workers and all snapshots of this bridge.
    pub fdb: Arc<Fdb>,
    /// Who gets a frame whose destination is not known.
    pub flood: FloodTable,
    /// VLANs in which nothing is learned and everything is flooded (`flood_vlans`).
    pub flood_vlans: Option<Box<VlanSet>>,
    /// Forward reserved multicast instead of dropping it (`other_config:forward-bpdu`).
    pub forward_bpdu: bool,
    /// By number, as in [`Role`].
    pub mirrors: Box<[Mirror]>,
    /// A port of it limits what is learned. [`Snapshot::mark`] knows.
    pub limits_macs: bool,
    /// Multicast snooping, if it is on (`mcast_snooping_enable`).
    pub snooping: Option<Snooping>,
}

/// How a bridge snoops.
pub struct Snooping {
    /// What has been learned. Shared by all workers and all snapshots of this bridge.
    pub mdb: Arc<Mdb>,
    /// What nobody has asked for goes to all, not only to routers.
    pub flood_unregistered: bool,
    /// Ports that get all groups, and where nothing is learned (`other_config:mcast-snooping-flood`).
    pub flood_ports: Box<[PortIndex]>,
    /// Ports that get reports, and that do not leave groups (`other_config:mcast-snooping-flood-reports`).
    pub report_ports: Box<[PortIndex]>,
}

impl Bridge {
    /// True if nothing is learned in `vlan` and everything flooded.
    #[inline]
    pub fn floods(&self, vlan: u16) -> bool {
        self.flood_vlans.as_ref().is_some_and(|vlans| vlans.contains(vlan))
    }
}
