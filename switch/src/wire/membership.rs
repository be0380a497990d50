//! What does an IP packet to a group say to a switch that snoops: who joins, leaves or asks, and which group is it for?
//!
//! IGMP versions 1 to 3 (RFC 1112, 2236, 3376) and MLD versions 1 and 2 (RFC 2710, 3810). As Open vSwitch reads them: a
//! message's kind decides where it goes even if its checksum is wrong, but then nothing is learned from it.

use super::checksum::Sum;
use super::ethernet::IPV4;
use super::{be16, ipv4, ipv6};
use std::fmt;
use std::net::Ipv6Addr;

const IGMP: u8 = 2;
const ICMPV6: u8 = 58;
/// Octets that every message has, in both protocols.
const HEADER: usize = 8;

/// A group's address: IPv6, or IPv4 as an IPv4-mapped one (RFC 4291 §2.5.5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group(pub u128);

impl Group {
    /// The group with this IPv4 address.
    pub const fn v4(octets: [u8; 4]) -> Self {
        Self(0xffff_0000_0000 | u32::from_be_bytes(octets) as u128)
    }

    fn read(octets: &[u8]) -> Option<Self> {
        match octets.len() {
            4 => octets.first_chunk().map(|octets| Self::v4(*octets)),
            _ => octets.first_chunk().map(|octets| Self(u128::from_be_bytes(*octets))),
        }
    }

    /// All hosts on the link want it without asking: 224.0.0.x (RFC 4541 §2.1.2) and ff02::1.
    const fn is_local(self) -> bool {
        self.0 >> 8 == Self::v4([224, 0, 0, 0]).0 >> 8 || self.0 == 0xff02 << 112 | 1
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = Ipv6Addr::from_bits(self.0);
        match address.to_ipv4_mapped() {
            Some(v4) => v4.fmt(f),
            None => address.fmt(f),
        }
    }
}

/// What a packet means.
#[derive(Clone, Copy, Debug)]
pub enum Meaning<'a> {
    /// Hosts say what they want: for routers.
    Report(Changes<'a>),
    /// Somebody asks what hosts want: for all. `from_router` if it is whole and its sender has an address: routers are
    /// where it came from.
    Query {
        /// The port leads to a router.
        from_router: bool,
    },
    /// For all, whoever wants it.
    Everybody,
    /// For those who joined.
    Data(Group),
}

/// A host joins a group, or leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which group.
    pub group: Group,
    /// False if it leaves.
    pub joins: bool,
}

/// The changes that a report asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes<'a> {
    only: Option<Change>,
    records: &'a [u8],
    left: u16,
    address_octets: usize,
}

/// The group that an IP packet is for; that of no address if its header is damaged.
pub fn destination(ethertype: u16, octets: &[u8]) -> Group {
    let group = match ethertype {
        IPV4 => v4(octets).and_then(|header| Group::read(&header.addresses[4..])),
        _ => v6(octets).and_then(|_| Group::read(octets.get(24..40)?)),
    };
    group.unwrap_or_default()
}

/// Reads the packet behind EtherType `ethertype`: if that is not [`IPV4`], it is taken for IPv6.
pub fn parse(ethertype: u16, octets: &[u8]) -> Meaning<'_> {
    let message = if ethertype == IPV4 { igmp(octets) } else { mld(octets) };
    message.unwrap_or_else(|| {
        let group = destination(ethertype, octets);
        if group.is_local() { Meaning::Everybody } else { Meaning::Data(group) }
    })
}

/// The header, if all of the packet is there.
fn v4(octets: &[u8]) -> Option<ipv4::Header> {
    ipv4::parse(octets).filter(|header| header.total <= octets.len())
}

fn v6(octets: &[u8]) -> Option<ipv6::Header> {
    ipv6::parse(octets).filter(|header| header.total <= octets.len())
}

fn igmp(octets: &[u8]) -> Option<Meaning<'_>> {
    let header = v4(octets).filter(|header| header.protocol == IGMP)?;
    let message = &octets[header.len..header.total];
    // Of a packet in pieces, the first one may hold a whole message.
    let later_piece = be16(octets, 6).is_some_and(|flags| flags & 0x1fff != 0);
    if later_piece || message.len() < HEADER {
        return Some(Meaning::Everybody);
    }
    let mut sum = Sum::default();
    sum.add(message);
    let whole = sum.fold() == 0xffff;
    let only = |joins| Group::read(&message[4..8]).map(|group| Change { group, joins });
    let changes = match message[0] {
        0x11 => return Some(Meaning::Query { from_router: whole && header.addresses[..4] != [0; 4] }),
        0x12 | 0x16 => Changes { only: only(true), ..Changes::default() },
        0x17 => Changes { only: only(false), ..Changes::default() },
        0x22 => Changes::records(message, 4),
        _ => return Some(Meaning::Everybody),
    };
    Some(Meaning::Report(if whole { changes } else { Changes::default() }))
}

fn mld(octets: &[u8]) -> Option<Meaning<'_>> {
    let header = v6(octets).filter(|header| header.protocol == ICMPV6)?;
    let message = octets.get(header.len..header.total).filter(|message| message.len() >= HEADER)?;
    if !matches!(message[0], 130..=132 | 143) {
        return None;
    }
    let mut sum = header.addresses;
    sum.add_word(message.len() as u16);
    sum.add_word(u16::from(ICMPV6));
    sum.add(message);
    let whole = sum.fold() == 0xffff;
    let only = |joins| message.get(8..24).and_then(Group::read).map(|group| Change { group, joins });
    let changes = match message[0] {
        130 => return Some(Meaning::Query { from_router: whole && octets[8..24] != [0; 16] }),
        131 => Changes { only: only(true), ..Changes::default() },
        132 => Changes { only: only(false), ..Changes::default() },
        _ => Changes::records(message, 16),
    };
    Some(Meaning::Report(if whole { changes } else { Changes::default() }))
}

impl<'a> Changes<'a> {
    /// The records of an IGMPv3 or MLDv2 report.
    fn records(message: &'a [u8], address_octets: usize) -> Self {
        let left = be16(message, 6).unwrap_or(0);
        Self { only: None, records: &message[HEADER..], left, address_octets }
    }
}

impl Iterator for Changes<'_> {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        if let Some(only) = self.only.take() {
            return Some(only);
        }
        while self.left > 0 {
            self.left -= 1;
            let header = self.records.get(..4 + self.address_octets)?;
            let (kind, sources) = (header[0], usize::from(u16::from_be_bytes([header[2], header[3]])));
            let group = Group::read(&header[4..])?;
            // Auxiliary data is counted in words of 32 bits: RFC 3376 §4.2.6, RFC 3810 §5.2.6.
            let len = header.len() + sources * self.address_octets + usize::from(header[1]) * 4;
            self.records = self.records.get(len..).unwrap_or(&[]);
            // "Include nothing" is how these versions say that they leave.
            let leaves = sources == 0 && matches!(kind, 1 | 3);
            if matches!(kind, 1..=6) {
                return Some(Change { group, joins: !leaves });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{igmp_packet, mld_packet};
    use crate::wire::ethernet::IPV6;

    const GROUP: [u8; 4] = [239, 1, 2, 3];

    fn changes(meaning: Meaning<'_>) -> Vec<(String, bool)> {
        let Meaning::Report(changes) = meaning else { panic!("a report: {meaning:?}") };
        changes.map(|change| (change.group.to_string(), change.joins)).collect()
    }

    #[test]
    fn igmp_in_its_three_versions() {
        for (kind, joins) in [(0x12, true), (0x16, true), (0x17, false)] {
            let packet = igmp_packet([10, 0, 0, 1], GROUP, &[&[kind, 0, 0, 0][..], &GROUP].concat());
            assert_eq!(changes(parse(IPV4, &packet)), [("239.1.2.3".to_owned(), joins)]);
        }
        // Five records: join all, leave, something unknown with a word of auxiliary data, join from one source, cut short.
        let mut report = vec![0x22, 0, 0, 0, 0, 0, 0, 6];
        report.extend([4, 0, 0, 0, 239, 0, 0, 1, 3, 0, 0, 0, 239, 0, 0, 2, 9, 1, 0, 0, 239, 0, 0, 3, 7, 7, 7, 7]);
        report.extend([1, 0, 0, 1, 239, 0, 0, 4, 10, 0, 0, 9, 1, 0, 0, 0, 239]);
        let packet = igmp_packet([10, 0, 0, 1], [224, 0, 0, 22], &report);
        let expected = [("239.0.0.1", true), ("239.0.0.2", false), ("239.0.0.4", true)];
        assert_eq!(changes(parse(IPV4, &packet)), expected.map(|(group, joins)| (group.to_owned(), joins)));
    }

    #[test]
    fn a_damaged_message_teaches_nothing_and_goes_where_it_would() {
        let report = [&[0x16, 0, 0, 0][..], &GROUP].concat();
        let mut packet = igmp_packet([10, 0, 0, 1], GROUP, &report);
        packet[27] ^= 1;
        assert_eq!(changes(parse(IPV4, &packet)), []);
        let query = [0x11, 100, 0, 0, 0, 0, 0, 0];
        let from_router = |source, damage: u8| {
            let mut packet = igmp_packet(source, [224, 0, 0, 1], &query);
            packet[25] ^= damage;
            matches!(parse(IPV4, &packet), Meaning::Query { from_router: true })
        };
        assert!(from_router([10, 0, 0, 1], 0));
        assert!(!from_router([10, 0, 0, 1], 1) && !from_router([0; 4], 0));
    }

    #[test]
    fn mld_in_its_two_versions() {
        let group: [u8; 16] = "ff05::1:3".parse::<Ipv6Addr>().unwrap().octets();
        for (kind, joins) in [(131, true), (132, false)] {
            let mut packet = mld_packet([0xfe; 16], group, &[&[kind, 0, 0, 0, 0, 0, 0, 0][..], &group].concat());
            assert_eq!(changes(parse(IPV6, &packet)), [("ff05::1:3".to_owned(), joins)]);
            let last = packet.len() - 1;
            packet[last] ^= 1;
            assert_eq!(changes(parse(IPV6, &packet)), []);
        }
        let records = [&[143, 0, 0, 0, 0, 0, 0, 2, 4, 0, 0, 0][..], &group, &[3, 0, 0, 0], &group].concat();
        let packet = mld_packet([0xfe; 16], group, &records);
        assert_eq!(changes(parse(IPV6, &packet)), [("ff05::1:3".to_owned(), true), ("ff05::1:3".to_owned(), false)]);
        let query = mld_packet([0xfe; 16], group, &[130, 0, 0, 0, 0, 0, 0, 0]);
        assert!(matches!(parse(IPV6, &query), Meaning::Query { from_router: true }));
        let echo = mld_packet([0xfe; 16], group, &[128, 0, 0, 0, 0, 0, 0, 0]);
        assert!(matches!(parse(IPV6, &echo), Meaning::Data(to) if to.to_string() == "ff05::1:3"));
    }

    #[test]
    fn data_is_for_its_group_and_for_all_if_the_group_is_local() {
        let to = |address: [u8; 4]| {
            let mut packet = igmp_packet([10, 0, 0, 1], address, &[0; 20]);
            packet[9] = 17;
            match parse(IPV4, &packet) {
                Meaning::Data(group) => Some(group.to_string()),
                Meaning::Everybody => None,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(to(GROUP).as_deref(), Some("239.1.2.3"));
        assert_eq!((to([224, 0, 0, 251]), to([224, 0, 1, 0]).as_deref()), (None, Some("224.0.1.0")));
        let all_hosts = "ff02::1".parse::<Ipv6Addr>().unwrap().octets();
        assert!(matches!(parse(IPV6, &mld_packet([0; 16], all_hosts, &[1; 8])), Meaning::Everybody));
        let whole = igmp_packet([10, 0, 0, 1], GROUP, &[0x30; 20]);
        assert!(matches!(parse(IPV4, &whole), Meaning::Everybody), "IGMP, but not about members");
        for len in 0..whole.len() {
            assert!(matches!(parse(IPV4, &whole[..len]), Meaning::Data(Group(0))), "{len}");
        }
    }
}
