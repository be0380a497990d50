//! Why was a packet dropped? The one list: counters, statistics, documentation and sFlow's discard codes come from it.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal, $sflow:literal;)*) => {
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

            /// The discard reason code of sFlow's `drops` specification (sflow.org, "sFlow Dropped Packet Notification").
            pub const fn sflow_code(self) -> u32 {
                match self { $(Reason::$variant => $sflow),* }
            }
        }
    };
}

reasons! {
    /// The frame is shorter than an Ethernet header.
    TruncatedEthernet = "truncated_ethernet", 324;
    /// A VLAN tag's TPID is there, but the frame ends before the tag does.
    TruncatedVlan = "truncated_vlan", 324;
    /// The frame is longer, or in more pieces, than the switch carries.
    Oversized = "oversized", 262;
    /// No port claims the frame: its device or VLAN was just removed from the configuration.
    NoPort = "no_port", 256;
    /// The frame came in by a port that is reserved for the output of a mirror.
    MirrorIngress = "mirror_ingress", 258;
    /// The sender's address is none of the port's `allowed-addresses`.
    SourceGuard = "source_guard", 258;
    /// The port's `ingress_policing_rate` was exceeded.
    PolicedRate = "policed_rate", 261;
    /// The port's `ingress_policing_kpkts_rate` was exceeded.
    PolicedPackets = "policed_packets", 261;
    /// The destination is a reserved multicast address (01:80:c2:00:00:0x and the vendors' lists), which a bridge does not forward.
    ReservedMulticast = "reserved_multicast", 294;
    /// A tagged frame came in on an access port.
    TaggedOnAccess = "tagged_on_access", 264;
    /// The frame's VLAN is not one that the ingress port carries.
    IngressVlan = "ingress_vlan", 265;
    /// The frame's customer VLAN is not in the ingress port's `cvlans`.
    IngressCvlan = "ingress_cvlan", 265;
    /// The source has moved between ports more often than `mac-flap-limit` allows, and is held on another port.
    MacFlap = "mac_flap", 304;
    /// As many sources as `mac-limit` allows are known behind the port, and this is another one.
    MacLimit = "mac_limit", 304;
    /// The destination is known to be on the port that the frame came in by.
    Hairpin = "hairpin", 268;
    /// The destination is known on a port that does not carry the frame's VLAN, or cannot carry the frame's tags.
    EgressVlan = "egress_vlan", 301;
    /// The destination is on a protected port, and so is the source.
    Protected = "protected", 303;
    /// The destination is known on a port that is reserved for the output of a mirror.
    MirrorEgress = "mirror_egress", 258;
    /// More broadcast than `storm-broadcast-pps` allows was to be flooded.
    StormBroadcast = "storm_broadcast", 261;
    /// More packets to unknown destinations than `storm-unknown-pps` allows were to be flooded.
    StormUnknown = "storm_unknown", 261;
    /// More multicast than `storm-multicast-pps` allows was to be flooded.
    StormMulticast = "storm_multicast", 261;
    /// The destination is unknown or a group, and no other port carries the frame's VLAN.
    FloodEmpty = "flood_empty", 267;
    /// Multicast snooping knows nobody on another port who wants the frame: no member, no router, no port that floods.
    NoListener = "no_listener", 267;
    /// The destination is known on a port that is gone.
    StalePort = "stale_port", 256;
    /// The frame's payload is longer than the egress port's MTU.
    MtuExceeded = "mtu_exceeded", 262;
    /// The egress port's transmit ring or frames are all in use: the receiver or the link is slower than the senders.
    TxFull = "tx_full", 259;
    /// The egress device is down or refused the frame.
    TxDown = "tx_down", 256;
    /// The way to the worker that owns the egress port is full.
    CrossingFull = "crossing_full", 259;
    /// The IP header of a packet for the router is broken: its version, its lengths or its checksum.
    IpHeader = "ip_header", 275;
    /// A packet for the router from or to an address that nobody routes: loopback, multicast, 0.0.0.0/8.
    Martian = "martian", 281;
    /// The route of the packet is a blackhole.
    RouteBlackhole = "route_blackhole", 269;
    /// More packets of a port, or of an interface, than `exceptions-pps` allows were to go to the kernel because they cannot be
    /// routed here: no route, a neighbour not known, hops at an end, options, too long.
    ExceptionsLimited = "exceptions_limited", 261;
    /// The kernel found no free receive frame: the worker is slower than the senders.
    RxNoFrame = "rx_no_frame", 259;
    /// The kernel found the receive ring full: the worker is slower than the senders.
    RxRingFull = "rx_ring_full", 259;
    /// The kernel could not put the frame into a receive frame.
    RxKernel = "rx_kernel", 259;
    /// The kernel handed over, or refused, a descriptor that makes no sense.
    Descriptor = "descriptor", 256;
    /// The egress device dropped the frame after the switch had handed it over.
    DeviceTx = "device_tx", 256;
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
            assert!(reason.text().ends_with('.'), "{:?}", reason.text());
        }
    }
}
