//! Why was a packet dropped, and what can be done about it? The one list: counters, statistics, metrics, `shuntctl drops`,
//! documentation and sFlow's discard codes come from it.

/// Where a drop is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// At the port that the packet came in by.
    Ingress,
    /// At the port that the copy should have left by.
    Egress,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal, $side:ident, $sflow:literal, $cause:literal, $remedy:literal;)*) => {
        /// Why a packet, or one copy of it, did not leave. Every such packet is counted under exactly one of these.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason { $($(#[doc = $doc])* $variant),* }

        impl Reason {
            /// All reasons, in counter order.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant),*];
            /// How many there are: the length of a table of counters.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in `port/stats`, and after `drop_` in an Interface's `statistics`.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name),* }
            }

            /// One sentence for the operator: what happened.
            pub const fn text(self) -> &'static str {
                match self { $(Reason::$variant => concat!($($doc),*).trim_ascii()),* }
            }

            /// Where it is counted.
            pub const fn side(self) -> Side {
                match self { $(Reason::$variant => Side::$side),* }
            }

            /// For the operator: what is likely behind it.
            pub const fn likely_cause(self) -> &'static str {
                match self { $(Reason::$variant => $cause),* }
            }

            /// For the operator: what to do about it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Reason::$variant => $remedy),* }
            }

            /// The discard reason code of sFlow's `drops` specification (sflow.org, "sFlow Dropped Packet Notification").
            pub const fn sflow_code(self) -> u32 {
                match self { $(Reason::$variant => $sflow),* }
            }
        }
    };
}

reasons! {
    /// The frame is shorter than an Ethernet header.
    TruncatedEthernet = "truncated_ethernet", Ingress, 324,
        "A broken sender or a raw socket in a container.",
        "Find the sender with a capture inside the container.";
    /// A VLAN tag's TPID is there, but the frame ends before the tag does.
    TruncatedVlan = "truncated_vlan", Ingress, 324,
        "A broken sender or a raw socket in a container.",
        "Find the sender with a capture inside the container.";
    /// The frame is longer, or in more pieces, than the switch carries.
    Oversized = "oversized", Ingress, 262,
        "A device with an MTU above 9000.",
        "Set the MTU on both ends to 9000 or less.";
    /// No port claims the frame: its device or VLAN was just removed from the configuration.
    NoPort = "no_port", Ingress, 256,
        "Seen for a moment while ports change.",
        "Nothing, unless it keeps rising: then report it.";
    /// The frame came in by a port that is reserved for the output of a mirror.
    MirrorIngress = "mirror_ingress", Ingress, 258,
        "A probe that also sends; a device that is no probe.",
        "Nothing, or give the mirror another `output_port`.";
    /// The sender's address is none of the port's `allowed-addresses`.
    SourceGuard = "source_guard", Ingress, 258,
        "A container that uses another's address, or got a new one; a protocol that is neither ARP nor IP.",
        "Add the address to `other_config:allowed-addresses` of the port if it is the container's.";
    /// The port's `ingress_policing_rate` was exceeded.
    PolicedRate = "policed_rate", Ingress, 261,
        "The sender is faster than it may be; a burst smaller than TCP needs.",
        "Raise the rate, or `ingress_policing_burst` to 80 % of it.";
    /// The port's `ingress_policing_kpkts_rate` was exceeded.
    PolicedPackets = "policed_packets", Ingress, 261,
        "The sender is faster than it may be, in small packets.",
        "Raise the rate, or `ingress_policing_kpkts_burst`.";
    /// The destination is a reserved multicast address (01:80:c2:00:00:0x and the vendors' lists), which a bridge does not forward.
    ReservedMulticast = "reserved_multicast", Ingress, 294,
        "LLDP, CDP, STP, LACP of a neighbour: normal on an uplink.",
        "Nothing; `set Bridge BR other_config:forward-bpdu=true` forwards them, which a leaf may answer by shutting \
         the port.";
    /// A tagged frame came in on an access port.
    TaggedOnAccess = "tagged_on_access", Ingress, 264,
        "A VLAN sub-interface inside a container, or a leaf that tags what the port expects untagged.",
        "Make the port a trunk (`trunks=…`), or remove the tag at the sender.";
    /// The frame's VLAN is not one that the ingress port carries.
    IngressVlan = "ingress_vlan", Ingress, 265,
        "`trunks` lacks the VLAN. An explicit `trunks=10,12` also excludes untagged frames (VLAN 0).",
        "Add the VLAN to `trunks`, or use `native-untagged` with a `tag` for untagged frames.";
    /// The frame's customer VLAN is not in the ingress port's `cvlans`.
    IngressCvlan = "ingress_cvlan", Ingress, 265,
        "A dot1q-tunnel port with a list.",
        "Add the customer's VLAN (0 for untagged frames) to `cvlans`, or clear the list.";
    /// The source has moved between ports more often than `mac-flap-limit` allows, and is held on another port.
    MacFlap = "mac_flap", Ingress, 304,
        "A loop behind two ports; two hosts with one MAC address; a failover that goes back and forth.",
        "Find the loop; `fdb/show` tells where it is held, `fdb/del` releases it.";
    /// As many sources as `mac-limit` allows are known behind the port, and this is another one.
    MacLimit = "mac_limit", Ingress, 304,
        "A switch, macvlan or virtual machines behind the port; somebody invents addresses.",
        "`fdb/show`; raise `mac-limit` if they belong there.";
    /// The destination is known to be on the port that the frame came in by.
    Hairpin = "hairpin", Ingress, 268,
        "A switch or hub behind the port; flooding by the leaf; two hosts with one MAC address.",
        "Normal in small numbers. If it rises, `fdb/show` tells which address moved.";
    /// The destination is known on a port that does not carry the frame's VLAN, or cannot carry the frame's tags.
    EgressVlan = "egress_vlan", Ingress, 301,
        "A static entry in another VLAN than the port's, or a double-tagged frame for an access port.",
        "Compare `fdb/show BR` with the port's `tag` and `trunks`.";
    /// The destination is on a protected port, and so is the source; or a port with `host-addresses` is to talk to others than the
    /// router.
    Protected = "protected", Ingress, 303,
        "Both ports have `protected=true`; a container with `host-addresses` uses a neighbour's MAC address.",
        "Intended; clear it on one of the two if not.";
    /// The destination is known on a port that is reserved for the output of a mirror.
    MirrorEgress = "mirror_egress", Ingress, 258,
        "The port became a mirror's a moment ago, or a static entry leads there.",
        "It goes with age; `fdb/flush BR` or `fdb/del` for at once.";
    /// More broadcast than `storm-broadcast-pps` allows was to be flooded.
    StormBroadcast = "storm_broadcast", Ingress, 261,
        "A loop; a host gone wild; a large VLAN behind an uplink.",
        "Find the sender with a capture; raise the limit on uplinks.";
    /// More packets to unknown destinations than `storm-unknown-pps` allows were to be flooded.
    StormUnknown = "storm_unknown", Ingress, 261,
        "A receiver that never sends, so nobody knows where it is; a scan.",
        "`fdb/show`: is the receiver known? `fdb/add` makes it so.";
    /// More multicast than `storm-multicast-pps` allows was to be flooded.
    StormMulticast = "storm_multicast", Ingress, 261,
        "A stream that many VLAN members do not want.",
        "Raise the limit on the sender's port.";
    /// The destination is unknown or a group, and no other port carries the frame's VLAN.
    FloodEmpty = "flood_empty", Ingress, 267,
        "The only container of a VLAN sends broadcasts and the uplink is missing.",
        "Add the uplink (`add-port BR eth0.181`), or read its `error`.";
    /// Multicast snooping knows nobody on another port who wants the frame: no member, no router, no port that floods.
    NoListener = "no_listener", Ingress, 267,
        "Nobody has joined the group, or a report when there is no router: as it should be.",
        "If somebody should get it: `mdb/show`, and is there a querier in the VLAN?";
    /// The destination is known on a port that is gone.
    StalePort = "stale_port", Ingress, 256,
        "A port was removed a moment ago.",
        "Nothing.";
    /// The frame's payload is longer than the egress port's MTU.
    MtuExceeded = "mtu_exceeded", Egress, 262,
        "Ports of one VLAN with different MTUs.",
        "Give them one MTU (`mtu_request`). A bridge cannot fragment.";
    /// The egress port's transmit ring or frames are all in use: the receiver or the link is slower than the senders.
    TxFull = "tx_full", Egress, 259,
        "A container that does not keep up; a link at its limit; bursts.",
        "See what the receiver's core does: its whole receive path runs on the worker's core unless it uses RPS. \
         Raise its `options:n_rxq_desc` for bursts.";
    /// The egress device is down or refused the frame.
    TxDown = "tx_down", Egress, 256,
        "The container set its interface down or is gone.",
        "`show` and the port's `link_state`.";
    /// The way to the worker that owns the egress port is full.
    CrossingFull = "crossing_full", Egress, 259,
        "Several workers, one of them overloaded.",
        "`worker/show`; more cores, or fewer ports on that worker.";
    /// The IP header of a packet for the router is broken: its version, its lengths or its checksum.
    IpHeader = "ip_header", Ingress, 275,
        "A broken sender; a test tool.",
        "Capture it at the port; the bridge carries such packets, a router must not (RFC 1812).";
    /// A packet for the router from or to an address that nobody routes: loopback, multicast, 0.0.0.0/8.
    Martian = "martian", Ingress, 281,
        "A misconfigured container, or somebody who tries things.",
        "Find the sender with a capture.";
    /// The route of the packet is a blackhole.
    RouteBlackhole = "route_blackhole", Ingress, 269,
        "`route add blackhole …`, or a routing daemon's.",
        "`route get ADDRESS` tells which.";
    /// More packets of a port, or of an interface, than `exceptions-pps` allows were to go to the kernel because they cannot be
    /// routed here: no route, a neighbour not known, hops at an end, options, too long.
    ExceptionsLimited = "exceptions_limited", Ingress, 261,
        "A scan; a default route that is missing; jumbo packets to a link of 1500.",
        "`route get`, `neigh show`; raise `exceptions-pps` of the port and the SVI if the packets are meant.";
    /// The kernel found no free receive frame: the worker is slower than the senders.
    RxNoFrame = "rx_no_frame", Ingress, 259,
        "A burst longer than the frames of a queue; a worker that shares its core.",
        "`worker/show`: if the worker is busy, give it a core of its own or more workers; else raise its `options:n_rxq_desc`.";
    /// The kernel found the receive ring full: the worker is slower than the senders.
    RxRingFull = "rx_ring_full", Ingress, 259,
        "A burst longer than the ring of a queue; a worker that shares its core.",
        "`worker/show`: if the worker is busy, give it a core of its own or more workers; else raise its `options:n_rxq_desc`.";
    /// The kernel could not put the frame into a receive frame.
    RxKernel = "rx_kernel", Ingress, 259,
        "A frame longer than the device's queue can take; memory pressure.",
        "Compare the MTU of both ends; look into the kernel log.";
    /// The kernel handed over, or refused, a descriptor that makes no sense.
    Descriptor = "descriptor", Ingress, 256,
        "A bug, in the kernel, the driver or here.",
        "Report it with kernel version and driver.";
    /// The egress device dropped the frame after the switch had handed it over.
    DeviceTx = "device_tx", Egress, 256,
        "The peer of a veth is down or full; the driver's own limit.",
        "`ip -s link show DEV`; inside the container too.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_snake_case_and_explained() {
        let mut seen = std::collections::HashSet::new();
        for reason in Reason::ALL {
            assert!(seen.insert(reason.name()), "{} twice", reason.name());
            assert!(reason.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            for text in [reason.text(), reason.likely_cause(), reason.remedy()] {
                assert!(text.ends_with(['.', '?']) && !text.contains(['|', '\n']), "{text:?}");
            }
        }
    }
}
