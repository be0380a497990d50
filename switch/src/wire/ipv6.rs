//! What lies between an IPv6 header and its upper layer? (RFC 8200)

use super::checksum::Sum;

/// Octets of the fixed header.
pub const HEADER: usize = 40;
/// Extension headers followed before giving up.
const EXTENSIONS_MAX: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;

/// A checked header and the extension headers behind it.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Octets up to the upper layer.
    pub len: usize,
    /// Octets of the packet from the header's start.
    pub total: usize,
    /// The upper layer; also a fragment header (44), ESP or whatever else is not followed.
    pub protocol: u8,
    /// Sum of the source and the final destination address.
    pub addresses: Sum,
}

/// Reads the headers; `None` if it is not IPv6, or cut short.
pub fn parse(octets: &[u8]) -> Option<Header> {
    let h: &[u8; HEADER] = octets.first_chunk()?;
    if h[0] >> 4 != 6 {
        return None;
    }
    let total = HEADER + usize::from(u16::from_be_bytes([h[4], h[5]]));
    let mut protocol = h[6];
    let mut len = HEADER;
    let mut destination = &h[24..40];
    for _ in 0..EXTENSIONS_MAX {
        if !matches!(protocol, HOP_BY_HOP | ROUTING | DESTINATION) {
            break;
        }
        let extension = octets.get(len..len + 8)?;
        // The sum is over the last hop of a route. Home address (2) and segment (4) routing keep it in their first entry.
        if protocol == ROUTING && extension[3] > 0 && matches!(extension[2], 2 | 4) {
            destination = octets.get(len + 8..len + 24)?;
        }
        protocol = extension[0];
        len += 8 + usize::from(extension[1]) * 8;
    }
    if len > total {
        return None;
    }
    let mut addresses = Sum::default();
    addresses.add(&h[8..24]);
    addresses.add(destination);
    Some(Header { len, total, protocol, addresses })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next, 64];
        packet.extend([0x20; 32]);
        packet.extend(payload);
        packet
    }

    #[test]
    fn extension_headers_are_followed_and_fragments_are_not() {
        let chain = [60, 0, 1, 4, 0, 0, 0, 0, 6, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9];
        let packet = header(0, &chain);
        let parsed = parse(&packet).unwrap();
        assert_eq!((parsed.len, parsed.total, parsed.protocol), (64, 66, 6));
        assert!(parse(&packet[..47]).is_none());
        assert_eq!(parse(&header(44, &chain)).unwrap().protocol, 44);
        assert!(parse(&header(0, &[6, 4, 0, 0, 0, 0, 0, 0])).is_none(), "extension longer than the packet");
    }

    #[test]
    fn a_route_not_yet_finished_is_summed_to_its_last_hop() {
        let mut route = vec![6, 2, 4, 1, 0, 0, 0, 0];
        route.extend([0x33; 16]);
        let sum = |packet: &[u8]| parse(packet).unwrap().addresses.fold();
        let mut expected = Sum::default();
        expected.add(&[0x20; 16]);
        expected.add(&[0x33; 16]);
        assert_eq!(sum(&header(43, &route)), expected.fold());
        route[3] = 0;
        assert_ne!(sum(&header(43, &route)), expected.fold());
    }
}
