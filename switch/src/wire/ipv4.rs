//! What does an IPv4 header say that a checksum needs to know? (RFC 791)

/// Shortest header in octets.
pub const HEADER_MIN: usize = 20;

/// A checked header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Octets of the header, options included.
    pub len: usize,
    /// Octets of the packet from the header's start.
    pub total: usize,
    /// What follows the header.
    pub protocol: u8,
    /// A part of a packet: what follows is not a whole upper header, or not all of its data.
    pub fragment: bool,
    /// Source and destination address as they lie in the header.
    pub addresses: [u8; 8],
}

/// Reads a header; `None` if it is not IPv4, cut short, or its lengths contradict each other.
pub fn parse(octets: &[u8]) -> Option<Header> {
    let h: &[u8; HEADER_MIN] = octets.first_chunk()?;
    let len = usize::from(h[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([h[2], h[3]]));
    if h[0] >> 4 != 4 || len < HEADER_MIN || total < len {
        return None;
    }
    let fragment = u16::from_be_bytes([h[6], h[7]]) & 0x3fff != 0;
    let addresses = [h[12], h[13], h[14], h[15], h[16], h[17], h[18], h[19]];
    Some(Header { len, total, protocol: h[9], fragment, addresses })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_must_agree() {
        let mut h = [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let parsed = parse(&h).unwrap();
        assert_eq!((parsed.len, parsed.total, parsed.protocol, parsed.fragment), (20, 40, 6, false));
        assert_eq!(parsed.addresses, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(parse(&h[..19]), None);
        h[6] = 0x20;
        assert!(parse(&h).unwrap().fragment);
        h[6..8].copy_from_slice(&[0, 1]);
        assert!(parse(&h).unwrap().fragment);
        h[0] = 0x4f;
        assert_eq!(parse(&h), None, "60 octets of header in 40 of packet");
        h[0] = 0x44;
        assert_eq!(parse(&h), None);
        h[0] = 0x65;
        assert_eq!(parse(&h), None);
    }
}
