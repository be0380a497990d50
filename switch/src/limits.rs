//! How much of each thing can there be?

/// Packets taken from a queue at one visit.
pub const BURST: usize = 128;
/// Ports of all bridges together; a port number fits a `u16` with room for "none".
pub const PORTS_MAX: usize = 8192;
/// Network devices that ports use: at most one for each port.
pub const DEVICES_MAX: usize = PORTS_MAX;
/// Threads that forward.
pub const WORKERS_MAX: usize = 64;
/// VLAN identifiers, 802.1Q-2022 §9.6.
pub const VLANS: usize = 4096;
/// Commands that a worker obeys in one turn, so that configuration never starves packets.
pub const COMMANDS_PER_TURN_MAX: usize = 16;
/// Commands that may wait for a worker.
pub const COMMAND_RING: usize = 256;
/// Events that may wait for the control thread.
pub const EVENT_RING: usize = 1024;
/// Packets that may wait between two workers.
pub const CROSSING_RING: usize = 256;
/// Records that may wait for the control thread in one tap: a tenth of a second at 40 000 samples a second.
pub const TAP_RECORDS: usize = 4096;
/// Octets of packets that may wait with them.
pub const TAP_OCTETS: usize = 1 << 20;
/// Captures at one time: a bit each in a port.
pub const CAPTURES_MAX: usize = 8;
/// Records that may wait for the control thread in one worker's tap of a capture: 2 ms at 4 million packets a second.
pub const CAPTURE_RECORDS: usize = 8192;
/// Octets of packets that may wait with them.
pub const CAPTURE_OCTETS: usize = 4 << 20;
/// Longest frame that crosses between workers: MTU 9000 and headers with four tags.
pub const FRAME_MAX: usize = 9216;
/// Shortest frame on the wire without FCS, 802.3 §3.2.8.
pub const FRAME_MIN: usize = 60;
/// Bounds of a bridge's `mac-table-size`, as in OVS.
pub const FDB_SIZE: std::ops::RangeInclusive<usize> = 10..=1_000_000;
/// A bridge's `mac-table-size` when none is set, as in OVS.
pub const FDB_SIZE_DEFAULT: usize = 8192;
/// Bounds of a bridge's `mac-aging-time` in seconds, as in OVS.
pub const AGEING_S: std::ops::RangeInclusive<u64> = 15..=3600;
/// A bridge's `mac-aging-time` in seconds when none is set, 802.1Q-2022 table 8-6.
pub const AGEING_S_DEFAULT: u64 = 300;
/// Bounds of a bridge's `mcast-snooping-table-size`, as in OVS.
pub const MDB_SIZE: std::ops::RangeInclusive<usize> = 10..=1_000_000;
/// A bridge's `mcast-snooping-table-size` when none is set, as in OVS.
pub const MDB_SIZE_DEFAULT: usize = 2048;
/// Bounds of a bridge's `mcast-snooping-aging-time` in seconds, as in OVS.
pub const MDB_AGEING_S: std::ops::RangeInclusive<u64> = 15..=3600;
/// A bridge's `mcast-snooping-aging-time` in seconds when none is set, as in OVS.
pub const MDB_AGEING_S_DEFAULT: u64 = 300;
/// How long a port leads to a multicast router after its last query, in seconds, as in OVS.
pub const ROUTER_AGEING_S: u64 = 180;

const _: () = assert!(PORTS_MAX < u16::MAX as usize);
const _: () = assert!(FRAME_MAX <= shunt_ffi::SEGMENTS_MAX * 1792);
