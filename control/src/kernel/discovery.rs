//! What is said on a link about who has which address (ARP, neighbour discovery), and what of it concerns an interface of the router?
//!
//! Two things do: somebody else says that an address of the router is theirs (RFC 5227 §2.4; for IPv6 likewise), and somebody
//! asks for an IPv6 gateway that the router stands in for, which the kernel can only do for addresses that it is told one by one.

use shunt_ffi::pcap::Instruction;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const BROADCAST: [u8; 6] = [0xff; 6];
/// ff02::1.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// ff02::1:ff00:0, the beginning of groups whose end is that of an address.
const SOLICITED_NODES: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Flags of an advertisement: the sender is a router, it was asked, it knows better than a cache.
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// What an interface of the router listens for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// The kernel's number of its host end.
    pub ifindex: u32,
    /// The MAC address that it shares with nobody, or with the same gateway on other hosts.
    pub mac: [u8; 6],
    /// Addresses that nobody else with another MAC address may have.
    pub addresses: BTreeSet<IpAddr>,
    /// It answers for every IPv6 gateway.
    pub stands_in: bool,
}

/// What concerns the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Somebody has one of its addresses, too.
    Claim(IpAddr, [u8; 6]),
    /// Somebody asks for a gateway.
    Sought(Sought),
}

/// A question for an IPv6 address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sought {
    /// Whose MAC address is asked for.
    pub target: Ipv6Addr,
    /// Who asks.
    pub asker_mac: [u8; 6],
    asker: Ipv6Addr,
}

impl Watched {
    /// Lets nothing through but what [`Watched::read`] may make something of, so that a flood of anything else wakes nobody.
    pub fn filter(&self) -> Vec<Instruction> {
        let [v4, v6] =
            [false, true].map(|is_v6| self.addresses.iter().filter(move |address| address.is_ipv6() == is_v6));
        // Of an IPv6 address the end, where hosts differ.
        let end = |address: &IpAddr| match address {
            IpAddr::V4(address) => address.to_bits(),
            IpAddr::V6(address) => address.to_bits() as u32,
        };
        let (v4, v6): (Vec<u32>, Vec<u32>) = (v4.map(end).collect(), v6.map(end).collect());
        let asking = if self.stands_in { vec![verdict(ALL_OCTETS)] } else { any_of(SOURCE_END, &v6) };
        let (advertising, arp) = (any_of(TARGET_END, &v6), any_of(ARP_SENDER, &v4));
        let [to_advertising, to_arp] = [asking.len(), asking.len() + advertising.len()].map(|len| len as u32);
        let mut program = vec![
            step(LOAD_HALF, 12),
            jump(u16::from_be_bytes(ARP).into(), 0, 1),
            step(JUMP, to_arp + 10),
            jump(u16::from_be_bytes(IPV6).into(), 1, 0),
            verdict(0),
            step(LOAD_OCTET, NEXT_HEADER as u32),
            jump(ICMPV6.into(), 1, 0),
            verdict(0),
            step(LOAD_OCTET, MESSAGE as u32),
            jump(ADVERTISEMENT.into(), 0, 1),
            step(JUMP, to_advertising + 2),
            jump(SOLICITATION.into(), 1, 0),
            verdict(0),
        ];
        program.extend([asking, advertising, arp].concat());
        program
    }

    /// What a frame says that concerns the interface.
    pub fn read(&self, frame: &[u8]) -> Option<Heard> {
        let at = |from: usize, length: usize| frame.get(from..from + length);
        let mac = |from: usize| at(from, 6).and_then(|octets| <[u8; 6]>::try_from(octets).ok());
        let v6 = |from: usize| at(from, 16).and_then(|o| <[u8; 16]>::try_from(o).ok()).map(Ipv6Addr::from);
        let sender = mac(6)?;
        let claim = |address: IpAddr, mac| {
            let is_theirs = self.addresses.contains(&address) && mac != self.mac;
            is_theirs.then_some(Heard::Claim(address, mac))
        };
        if at(12, 2)? == ARP {
            // Ethernet, IPv4, and their lengths.
            let address = <[u8; 4]>::try_from(at(ARP_SENDER, 4)?).ok()?;
            return claim(address.into(), mac(22)?).filter(|_| frame[14..20] == [0, 1, 8, 0, 6, 4]);
        }
        let is_discovery = at(12, 2)? == IPV6 && at(NEXT_HEADER, 2)? == [ICMPV6, 255];
        let (source, target) = (v6(22)?, v6(62)?);
        match frame[MESSAGE] {
            ADVERTISEMENT if is_discovery => claim(target.into(), sender),
            // One who has no address yet only asks whether it may have the target.
            SOLICITATION if is_discovery && !source.is_unspecified() => claim(source.into(), sender).or_else(|| {
                let is_sought = self.stands_in && sender != self.mac && source != target && !target.is_multicast();
                is_sought.then_some(Heard::Sought(Sought { target, asker: source, asker_mac: sender }))
            }),
            _ => None,
        }
    }

    /// Asks for each of the addresses as one who has none (RFC 5227 §2.1.1, RFC 4862 §5.4.2): who has it, too, answers.
    pub fn questions(&self) -> Vec<Vec<u8>> {
        let question = |address: &IpAddr| match address {
            IpAddr::V4(address) => arp_request(self.mac, Ipv4Addr::UNSPECIFIED, *address),
            IpAddr::V6(address) => {
                let group = Ipv6Addr::from_bits(SOLICITED_NODES | address.to_bits() & 0x00ff_ffff);
                let body = [&[0; 4][..], &address.octets()].concat();
                discovery([group_mac(group), self.mac], [Ipv6Addr::UNSPECIFIED, group], SOLICITATION, &body)
            }
        };
        self.addresses.iter().map(question).collect()
    }

    /// "The gateway that you ask for is here." What its owner would say, should there be one, counts for more (RFC 4861 §7.2.8).
    pub fn answer(&self, sought: &Sought) -> Vec<u8> {
        let body = advertisement_body(ROUTER | SOLICITED, sought.target, self.mac);
        discovery([sought.asker_mac, self.mac], [sought.target, sought.asker], ADVERTISEMENT, &body)
    }
}

/// An ARP request of `address` for itself.
pub(super) fn gratuitous_arp(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    arp_request(mac, address, address)
}

/// "I am `address`, forget what you knew of it", to all nodes.
pub(super) fn unsolicited_advertisement(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    let body = advertisement_body(OVERRIDE, address, mac);
    discovery([group_mac(ALL_NODES), mac], [address, ALL_NODES], ADVERTISEMENT, &body)
}

fn arp_request(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = [&BROADCAST[..], &mac, &ARP].concat();
    // Ethernet, IPv4, lengths, request; sender; target.
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend([&mac[..], &sender.octets(), &[0; 6], &target.octets()].concat());
    frame.resize(60, 0);
    frame
}

/// Flags; target; target link-layer address option.
fn advertisement_body(flags: u8, target: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    [&[flags, 0, 0, 0][..], &target.octets(), &[2, 1], &mac].concat()
}

/// RFC 2464 §7.
fn group_mac(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// A message of neighbour discovery: receiver and sender, from and to, type, what follows the checksum.
fn discovery([to_mac, mac]: [[u8; 6]; 2], [from, to]: [Ipv6Addr; 2], kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0], body].concat();
    let length = message.len() as u8;
    let pseudo = [&from.octets()[..], &to.octets(), &[0, 0, 0, length, 0, 0, 0, ICMPV6], &message].concat();
    let sum: u32 = pseudo.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = [&to_mac[..], &mac, &IPV6].concat();
    frame.extend([0x60, 0, 0, 0, 0, length, ICMPV6, 255]);
    frame.extend([&from.octets()[..], &to.octets(), &message].concat());
    frame
}

/// Where in a frame things are: an ARP packet's sender; IPv6's next header, the type of an ICMPv6 message, and the last four octets
/// of source and target.
const ARP_SENDER: usize = 28;
const NEXT_HEADER: usize = 20;
const MESSAGE: usize = 54;
const SOURCE_END: usize = 34;
const TARGET_END: usize = 74;

/// Instructions of classic BPF.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_OCTET: u16 = 0x30;
const JUMP: u16 = 0x05;
/// A verdict: as much of the frame as there is.
const ALL_OCTETS: u32 = u32::MAX;

const fn step(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

const fn verdict(octets: u32) -> Instruction {
    step(0x06, octets)
}

/// Passes over `jt` instructions if the accumulator is `k`, and else over `jf`.
const fn jump(k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code: 0x15, jt, jf, k }
}

/// Is the word at this place one of these?
fn any_of(at: usize, values: &[u32]) -> Vec<Instruction> {
    let tests = values.iter().flat_map(|value| [jump(*value, 0, 1), verdict(ALL_OCTETS)]);
    [step(LOAD_WORD, at as u32)].into_iter().chain(tests).chain([verdict(0)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_switch::filter::Filter;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn watched(addresses: &[&str], stands_in: bool) -> Watched {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        Watched { ifindex: 1, mac: OWN, addresses, stands_in }
    }

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().expect("an address")
    }

    /// What it makes of a frame; the filter must let through what is heard, if nothing else.
    fn heard(watched: &Watched, frame: &[u8]) -> Option<Heard> {
        let filter = Filter::new(watched.filter()).expect("a program");
        let heard = watched.read(frame);
        let passes = filter.accepts(&shunt_ffi::Packet::contiguous(frame));
        assert!(passes || heard.is_none(), "{frame:02x?}");
        passes.then_some(heard).flatten()
    }

    #[test]
    fn who_says_to_have_an_address_of_ours_is_heard() {
        let watched = watched(&["10.0.0.1", "10.0.0.2", "2001:db8::1"], false);
        let claim = |address: &str| Some(Heard::Claim(address.parse().expect("an address"), OTHER));
        let reply = |mac: [u8; 6], sender: [u8; 4]| {
            let mut frame = arp_request(mac, sender.into(), [10, 0, 0, 9].into());
            frame[21] = 2;
            frame
        };
        assert_eq!(heard(&watched, &reply(OTHER, [10, 0, 0, 2])), claim("10.0.0.2"));
        assert_eq!(heard(&watched, &gratuitous_arp(OTHER, [10, 0, 0, 1].into())), claim("10.0.0.1"));
        assert_eq!(heard(&watched, &unsolicited_advertisement(OTHER, v6("2001:db8::1"))), claim("2001:db8::1"));
        let asks = |source: &str| {
            let body = [&[0; 4][..], &v6("2001:db8::9").octets()].concat();
            discovery([OWN, OTHER], [v6(source), v6("2001:db8::9")], SOLICITATION, &body)
        };
        assert_eq!(heard(&watched, &asks("2001:db8::1")), claim("2001:db8::1"));
        for harmless in [
            reply(OTHER, [10, 0, 0, 3]),
            // The same gateway on another host (anycast).
            reply(OWN, [10, 0, 0, 1]),
            arp_request(OTHER, Ipv4Addr::UNSPECIFIED, [10, 0, 0, 1].into()),
            unsolicited_advertisement(OWN, v6("2001:db8::1")),
            unsolicited_advertisement(OTHER, v6("2001:db8:9::1")),
            asks("2001:db8::2"),
            asks("::"),
            vec![0; 14],
            vec![0x86; 60],
        ] {
            assert_eq!(heard(&watched, &harmless), None, "{harmless:02x?}");
        }
        let right = reply(OTHER, [10, 0, 0, 1]);
        for length in 0..right.len().min(42) {
            heard(&watched, &right[..length]);
        }
    }

    #[test]
    fn the_questions_are_those_of_one_without_an_address() {
        let watched = watched(&["10.0.0.1", "2001:db8::a1:b2c3"], false);
        let [arp, v6] = &watched.questions()[..] else { panic!("two") };
        assert_eq!((arp.len(), &arp[28..32], &arp[38..42]), (60, &[0; 4][..], &[10, 0, 0, 1][..]));
        assert_eq!(v6[..6], [0x33, 0x33, 0xff, 0xa1, 0xb2, 0xc3]);
        assert_eq!(
            (&v6[22..38], &v6[38..54]),
            (&[0; 16][..], &"ff02::1:ffa1:b2c3".parse::<Ipv6Addr>().unwrap().octets()[..])
        );
        assert_eq!((v6[MESSAGE], v6.len(), sum(v6)), (SOLICITATION, 14 + 40 + 24, 0xffff));
    }

    #[test]
    fn a_gateway_is_answered_for_and_nobody_who_asks_for_oneself() {
        let watched = watched(&[], true);
        let asks = |source: &str, target: &str| {
            let body = [&[0; 4][..], &v6(target).octets(), &[1, 1], &OTHER].concat();
            discovery([OWN, OTHER], [v6(source), v6(target)], SOLICITATION, &body)
        };
        let Some(Heard::Sought(sought)) = heard(&watched, &asks("2001:db8::5", "fe80::77")) else { panic!("heard") };
        let answer = watched.answer(&sought);
        assert_eq!((&answer[..6], &answer[6..12], answer[MESSAGE], answer[58]), (&OTHER[..], &OWN[..], 136, 0xc0));
        assert_eq!((&answer[38..54], &answer[62..78]), (&v6("2001:db8::5").octets()[..], &v6("fe80::77").octets()[..]));
        assert_eq!((&answer[78..], sum(&answer)), (&[&[2, 1][..], &OWN].concat()[..], 0xffff));
        // Duplicate address detection, and one who keeps its own address fresh.
        for own in [asks("::", "2001:db8::5"), asks("2001:db8::5", "2001:db8::5"), asks("fe80::5", "ff02::5")] {
            assert_eq!(heard(&watched, &own), None, "{own:02x?}");
        }
    }

    /// The checksum, summed over all of it, is all ones (RFC 1071).
    fn sum(frame: &[u8]) -> u32 {
        let mut octets = frame[22..].to_vec();
        octets.extend([0, (frame.len() - 54) as u8, 0, ICMPV6]);
        let sum: u32 = octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        (sum & 0xffff) + (sum >> 16)
    }

    #[test]
    fn an_arp_request_for_itself_fills_a_frame() {
        let frame = gratuitous_arp(OTHER, Ipv4Addr::new(10, 0, 0, 5));
        assert_eq!((frame.len(), &frame[28..32], &frame[38..42]), (60, &[10, 0, 0, 5][..], &[10, 0, 0, 5][..]));
    }

    #[test]
    fn an_advertisement_has_a_checksum_that_is_right() {
        let frame = unsolicited_advertisement(OTHER, v6("2001:db8::5"));
        assert_eq!((frame.len(), sum(&frame)), (14 + 40 + 32, 0xffff));
    }
}
