//! What does an Ethernet header say, and which addresses are special?

use std::fmt;
use std::str::FromStr;

/// Octets of both addresses and the EtherType, 802.3 §3.2.
pub const HEADER: usize = 14;
/// Octets of both addresses: tags are put in and taken out behind them.
pub const ADDRESSES: usize = 12;
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// ARP, RFC 826.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of a whole Ethernet frame inside a tunnel ("Transparent Ethernet Bridging", RFC 1701).
pub const TEB: u16 = 0x6558;

/// A MAC address in the low 48 bits, first octet on top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub u64);

impl Mac {
    /// Everybody.
    pub const BROADCAST: Self = Self(0xffff_ffff_ffff);

    /// The address with these octets, in wire order.
    #[inline]
    pub const fn new(o: [u8; 6]) -> Self {
        Self(u64::from_be_bytes([0, 0, o[0], o[1], o[2], o[3], o[4], o[5]]))
    }

    /// The octets in wire order.
    pub const fn octets(self) -> [u8; 6] {
        let b = self.0.to_be_bytes();
        [b[2], b[3], b[4], b[5], b[6], b[7]]
    }

    /// A group address (broadcast included): the first octet's lowest bit.
    #[inline]
    pub const fn is_group(self) -> bool {
        self.0 & (1 << 40) != 0
    }

    /// A destination that a bridge keeps to itself unless told to forward it: 802.1Q-2022 table 8-1, and the vendors'
    /// protocols (EDP, EAPS, CDP and its kin) as Open vSwitch lists them.
    #[inline]
    pub const fn is_reserved(self) -> bool {
        // All of them begin with 00 or 01.
        self.0 >> 41 == 0 && self.is_listed()
    }

    const fn is_listed(self) -> bool {
        matches!(
            self.0,
            0x0180_c200_0000..=0x0180_c200_000f
                | 0x00e0_2b00_0000
                | 0x00e0_2b00_0004
                | 0x00e0_2b00_0006
                | 0x0100_0c00_0000
                | 0x0100_0ccc_cccc..=0x0100_0ccc_cccd
                | 0x0100_0ccd_cdcd
                | 0x0100_0ccc_ccc0..=0x0100_0ccc_ccc7
        )
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let o = self.octets();
        write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", o[0], o[1], o[2], o[3], o[4], o[5])
    }
}

/// The text is not six pairs of hexadecimal digits with colons between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address: write it as 00:11:22:33:44:55")]
pub struct BadMac;

impl FromStr for Mac {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or(BadMac)?;
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(BadMac);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| BadMac)?;
        }
        if parts.next().is_some() { Err(BadMac) } else { Ok(Self::new(octets)) }
    }
}

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// To whom.
    pub destination: Mac,
    /// From whom.
    pub source: Mac,
    /// EtherType, length, or the TPID of a tag.
    pub ethertype: u16,
}

/// Reads the header, unless the frame is shorter than one.
#[inline]
pub fn parse(frame: &[u8]) -> Option<Header> {
    let h: &[u8; HEADER] = frame.first_chunk()?;
    // Each address with two octets of its neighbour: a load, a swap and a shift or mask.
    let [first, second] = [h.first_chunk(), h[4..].first_chunk()];
    Some(Header {
        destination: Mac(u64::from_be_bytes(*first?) >> 16),
        source: Mac(u64::from_be_bytes(*second?) & 0xffff_ffff_ffff),
        ethertype: u16::from_be_bytes([h[12], h[13]]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_text_and_octets() {
        let mac: Mac = "02:00:5e:10:00:ff".parse().unwrap();
        assert_eq!(mac.octets(), [2, 0, 0x5e, 0x10, 0, 0xff]);
        assert_eq!(Mac::new(mac.octets()), mac);
        assert_eq!(mac.to_string(), "02:00:5e:10:00:ff");
        for bad in
            ["", "02:00:5e:10:00", "02:00:5e:10:00:ff:00", "02:00:5e:10:00:fg", "+2:00:5e:10:00:ff", "002:0:0:0:0:0"]
        {
            assert_eq!(bad.parse::<Mac>(), Err(BadMac), "{bad}");
        }
    }

    #[test]
    fn reserved_addresses_are_exactly_the_listed_ones() {
        let reserved = |text: &str| text.parse::<Mac>().unwrap().is_reserved();
        for last in 0..=15 {
            assert!(reserved(&format!("01:80:c2:00:00:{last:02x}")));
        }
        for text in [
            "00:e0:2b:00:00:00",
            "00:e0:2b:00:00:04",
            "00:e0:2b:00:00:06",
            "01:00:0c:00:00:00",
            "01:00:0c:cc:cc:cc",
            "01:00:0c:cc:cc:cd",
            "01:00:0c:cd:cd:cd",
            "01:00:0c:cc:cc:c0",
            "01:00:0c:cc:cc:c7",
        ] {
            assert!(reserved(text), "{text}");
        }
        for text in [
            "01:80:c2:00:00:10",
            "01:80:c2:00:00:20",
            "01:80:c1:ff:ff:ff",
            "00:e0:2b:00:00:01",
            "00:e0:2b:00:00:05",
            "01:00:0c:cc:cc:c8",
            "01:00:0c:cc:cc:cb",
            "01:00:0c:cc:cc:ce",
            "01:00:0c:cc:c0:c0",
            "ff:ff:ff:ff:ff:ff",
        ] {
            assert!(!reserved(text), "{text}");
        }
    }

    #[test]
    fn a_header_needs_fourteen_octets() {
        let frame: Vec<u8> = (0..14).collect();
        assert_eq!(parse(&frame[..13]), None);
        let header = parse(&frame).unwrap();
        assert_eq!(header.destination.octets(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(header.source.octets(), [6, 7, 8, 9, 10, 11]);
        assert_eq!(header.ethertype, 0x0c0d);
    }
}
