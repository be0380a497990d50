//! Where do TCP, UDP, SCTP and the tunnels keep what a checksum needs?

use super::be16;
use super::ethernet::{IPV4, IPV6, TEB};

/// IP protocol numbers (IANA).
pub mod protocol {
    /// IPv4 in IP, RFC 2003.
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP, RFC 2473.
    pub const IPV6: u8 = 41;
    /// GRE, RFC 2784.
    pub const GRE: u8 = 47;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// Offset of TCP's checksum in its header.
pub const TCP_CHECKSUM: usize = 16;
/// Octets of a TCP header without options.
pub const TCP_HEADER: usize = 20;
/// Offset of UDP's checksum in its header.
pub const UDP_CHECKSUM: usize = 6;
/// Octets of a UDP header.
pub const UDP_HEADER: usize = 8;
/// Offset of SCTP's CRC in its header.
pub const SCTP_CHECKSUM: usize = 8;
/// Octets of SCTP's common header.
pub const SCTP_HEADER: usize = 12;

const VXLAN: u16 = 4789;
/// Linux's and OTV's port for VXLAN.
const VXLAN_LINUX: u16 = 8472;
const GENEVE: u16 = 6081;

/// What a tunnel carries, and after how many octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Octets of the tunnel's header.
    pub offset: usize,
    /// [`TEB`] for an Ethernet frame, else the EtherType of the packet.
    pub ethertype: u16,
}

/// True for ports that [`udp_tunnel`] knows.
#[inline]
pub const fn is_tunnel_port(port: u16) -> bool {
    matches!(port, VXLAN | VXLAN_LINUX | GENEVE)
}

/// What follows a UDP header to this port, if it is a tunnel's: VXLAN (RFC 7348) or Geneve
/// (RFC 8926).
pub fn udp_tunnel(port: u16, payload: &[u8]) -> Option<Inner> {
    let first = *payload.first()?;
    match port {
        VXLAN | VXLAN_LINUX if first & 8 != 0 => Some(Inner { offset: 8, ethertype: TEB }),
        GENEVE if first >> 6 == 0 => {
            known(Inner { offset: 8 + usize::from(first & 0x3f) * 4, ethertype: be16(payload, 2)? })
        }
        _ => None,
    }
}

/// What follows a GRE header (RFC 2784, 2890; NVGRE is RFC 7637). Version 1 (PPTP) and source routes are not followed.
pub fn gre(octets: &[u8]) -> Option<Inner> {
    let flags = be16(octets, 0)?;
    if flags & 0x4007 != 0 {
        return None;
    }
    let optional = (flags & 0xb000).count_ones() as usize;
    known(Inner { offset: 4 + optional * 4, ethertype: be16(octets, 2)? })
}

fn known(inner: Inner) -> Option<Inner> {
    matches!(inner.ethertype, TEB | IPV4 | IPV6).then_some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_are_known_by_their_headers() {
        let vxlan = [8, 0, 0, 0, 0, 0, 42, 0];
        assert_eq!(udp_tunnel(4789, &vxlan), Some(Inner { offset: 8, ethertype: TEB }));
        assert_eq!(udp_tunnel(8472, &vxlan), Some(Inner { offset: 8, ethertype: TEB }));
        assert_eq!(udp_tunnel(4790, &vxlan), None);
        assert_eq!(udp_tunnel(4789, &[0; 8]), None);
        assert_eq!(udp_tunnel(4789, &[]), None);
        assert_eq!(udp_tunnel(6081, &[2, 0, 0x65, 0x58]), Some(Inner { offset: 16, ethertype: TEB }));
        assert_eq!(udp_tunnel(6081, &[0x42, 0, 0x65, 0x58]), None, "version 1");
        assert_eq!(gre(&[0, 0, 8, 0]), Some(Inner { offset: 4, ethertype: IPV4 }));
        assert_eq!(gre(&[0xb0, 0, 0x65, 0x58]), Some(Inner { offset: 16, ethertype: TEB }));
        assert_eq!(gre(&[0, 1, 8, 0]), None);
        assert_eq!(gre(&[0, 0, 0x88, 0xbe]), None);
    }
}
