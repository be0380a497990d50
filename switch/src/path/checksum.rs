//! Step 6: did the sender leave its checksum to the device, and who finishes it?
//!
//! A container sends TCP and UDP with only the pseudo-header's sum in the checksum field, because its veth promises to
//! finish it (CHECKSUM_PARTIAL). So on frames from such a device: if the field equals the folded pseudo-header sum, it is
//! unfinished; should a finished sum happen to equal it, finishing it again gives the same value. The kernel leaves only one
//! checksum of a packet unfinished: of a packet in a tunnel made inside the container it is the inner one, unless that
//! was finished before. Fragments are never touched. SCTP's CRC is unfinished if it is 0.
//!
//! No exits. What leaves toward a veth carries a request to finish; else the checksum is finished here, once a packet.

use crate::limits::FRAME_MAX;
use crate::meta::Meta;
use crate::path::edit::Checksum;
use crate::wire::checksum::{Crc32c, Sum, pseudo_header};
use crate::wire::l4::{self, Inner, protocol};
use crate::wire::{be16, ethernet, ipv4, ipv6, vlan};
use shunt_ffi::Packet;

/// Headers followed before giving up: deeper nests of tunnels are left alone.
const DEPTH_MAX: usize = 10;

/// A checksum that its sender did not finish. Places are octets from the start of the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unfinished {
    /// There is none.
    #[default]
    None,
    /// TCP or UDP from `start` to `end`, its field `offset` after `start` and filled with the pseudo-header's sum.
    Sum {
        /// Where the header begins.
        start: u16,
        /// Where the field is, from `start`.
        offset: u8,
        /// Where the data ends.
        end: u16,
    },
    /// SCTP from `start` to `end`.
    Sctp {
        /// Where the header begins.
        start: u16,
        /// Where the data ends.
        end: u16,
    },
}

/// Finds the packet's unfinished checksum. For packets from a device whose senders leave them.
#[inline]
pub fn one(meta: &mut Meta, head: &[u8]) {
    let offset = meta.payload_offset();
    match plain(head, meta.len as usize, offset, meta.ethertype) {
        Some(Unfinished::None) => {}
        Some(unfinished) => meta.unfinished = unfinished,
        None => meta.unfinished = walk(head, meta.len as usize, offset, meta.ethertype).unwrap_or_default(),
    }
}

/// What has to be done to the checksum of a copy, which leaves by a port that wants complete checksums or not.
#[inline]
pub fn finish(meta: &mut Meta, packet: &Packet<'_>, complete: bool) -> Checksum {
    match meta.unfinished {
        Unfinished::None => Checksum::Keep,
        Unfinished::Sum { start, offset, .. } if !complete => Checksum::Request { start, offset: u16::from(offset) },
        Unfinished::Sum { start, offset, end } => {
            let octets = *meta.finished.get_or_insert_with(|| sum(packet, start, offset, end));
            Checksum::Patch { at: start + u16::from(offset), len: 2, octets }
        }
        Unfinished::Sctp { start, end } => {
            let octets = *meta.finished.get_or_insert_with(|| crc(packet, start, end));
            Checksum::Patch { at: start + l4::SCTP_CHECKSUM as u16, len: 4, octets }
        }
    }
}

#[cold]
fn sum(packet: &Packet<'_>, start: u16, offset: u8, end: u16) -> [u8; 4] {
    let mut sum = Sum::default();
    for_range(packet, usize::from(start), usize::from(end), |octets| sum.add(octets));
    let [high, low] = match !sum.fold() {
        // UDP's 0 says that there is no checksum; its other form is as right, RFC 768.
        0 if usize::from(offset) == l4::UDP_CHECKSUM => [0xff, 0xff],
        value => value.to_be_bytes(),
    };
    [high, low, 0, 0]
}

#[cold]
fn crc(packet: &Packet<'_>, start: u16, end: u16) -> [u8; 4] {
    let mut crc = Crc32c::default();
    for_range(packet, usize::from(start), usize::from(end), |octets| crc.add(octets));
    crc.octets()
}

/// Calls `f` with the pieces of the packet from octet `start` to `end`.
fn for_range<'a>(packet: &Packet<'a>, start: usize, end: usize, mut f: impl FnMut(&'a [u8])) {
    let mut base = 0;
    for segment in packet.segments() {
        let from = start.saturating_sub(base).min(segment.len());
        let to = end.saturating_sub(base).min(segment.len());
        if from < to {
            f(&segment[from..to]);
        }
        base += segment.len();
    }
}

/// What the walk through the headers has come to.
enum Layer {
    Ethernet,
    Network(u16),
    Transport { protocol: u8, addresses: Sum },
}

/// Walks through the headers in `head` from `offset`, where `ethertype` begins, to the unfinished checksum.
#[inline]
pub fn find(head: &[u8], packet_len: usize, offset: usize, ethertype: u16) -> Unfinished {
    match plain(head, packet_len, offset, ethertype) {
        // No place in a packet that the switch carries is beyond 16 bits.
        Some(unfinished) if packet_len <= FRAME_MAX => unfinished,
        _ => walk(head, packet_len, offset, ethertype).unwrap_or_default(),
    }
}

/// Octets of a header that [`plain`] reads at once: IPv4 without options, and as much of what follows as TCP's header.
const PLAIN: usize = 40;

/// The short way, for what nearly all packets are: TCP, or UDP that is no tunnel's, in whole IPv4 packets without options.
/// `None` for all others.
#[inline(always)]
fn plain(head: &[u8], packet_len: usize, offset: usize, ethertype: u16) -> Option<Unfinished> {
    if ethertype != ethernet::IPV4 {
        return None;
    }
    let h: &[u8; PLAIN] = head.get(offset..)?.first_chunk()?;
    // Whole words as they lie there: the compiler would not put together what is read octet by octet.
    let word = |at: usize| h[at..].first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
    let half = |at: usize| u16::from_ne_bytes([h[at], h[at + 1]]);
    let total = usize::from(u16::from_be(half(2)));
    // Version 4, a header of five words, and of the flags and the offset nothing but "don't fragment".
    let (mask, plain) = (0xff00_0000_0000_3fff_u64, 0x4500_0000_0000_0000_u64);
    if word(0) & mask.to_be() != plain.to_be() || total < PLAIN || offset + total > packet_len {
        return None;
    }
    let addresses = word(12);
    let (start, available) = ((offset + ipv4::HEADER_MIN) as u16, (total - ipv4::HEADER_MIN) as u16);
    if h[9] == protocol::TCP {
        let open = half(36) == pseudo_header(addresses, protocol::TCP, available.to_be());
        let unfinished = Unfinished::Sum { start, offset: l4::TCP_CHECKSUM as u8, end: start + available };
        return Some(if open { unfinished } else { Unfinished::None });
    }
    let len = u16::from_be(half(24));
    if h[9] != protocol::UDP || usize::from(len) < l4::UDP_HEADER || len > available {
        return None;
    }
    if half(26) == pseudo_header(addresses, protocol::UDP, half(24)) {
        return Some(Unfinished::Sum { start, offset: l4::UDP_CHECKSUM as u8, end: start + len });
    }
    let is_tunnel = l4::is_tunnel_port(u16::from_be(half(22)));
    (!is_tunnel).then_some(Unfinished::None)
}

/// The long way. `None` as soon as a header is cut short, contradicts itself or is not known.
#[inline(never)]
fn walk(head: &[u8], mut end: usize, mut offset: usize, ethertype: u16) -> Option<Unfinished> {
    let mut layer = Layer::Network(ethertype);
    for _ in 0..DEPTH_MAX {
        layer = match layer {
            Layer::Ethernet => {
                let header = ethernet::parse(head.get(offset..)?)?;
                let (tags, ethertype) = vlan::parse(head, offset + ethernet::ADDRESSES, header.ethertype).ok()?;
                offset += ethernet::HEADER + tags.count() * vlan::TAG;
                Layer::Network(ethertype)
            }
            Layer::Network(ethertype) => {
                let (len, total, layer) = network(head.get(offset..)?, ethertype)?;
                // What lies behind the packet in its frame is padding.
                end = Some(offset + total).filter(|own| *own <= end)?;
                offset += len;
                layer
            }
            Layer::Transport { protocol, addresses } => {
                let inner = match protocol {
                    protocol::IPIP => Inner { offset: 0, ethertype: ethernet::IPV4 },
                    protocol::IPV6 => Inner { offset: 0, ethertype: ethernet::IPV6 },
                    protocol::GRE => l4::gre(head.get(offset..)?)?,
                    _ => match transport(head, offset, end, protocol, addresses)? {
                        Step::Found(unfinished) => return Some(unfinished),
                        Step::Into(inner) => inner,
                    },
                };
                offset += inner.offset;
                if inner.ethertype == ethernet::TEB { Layer::Ethernet } else { Layer::Network(inner.ethertype) }
            }
        };
    }
    None
}

/// Octets of the network header and of its whole packet, and what follows.
fn network(octets: &[u8], ethertype: u16) -> Option<(usize, usize, Layer)> {
    match ethertype {
        ethernet::IPV4 => {
            let header = ipv4::parse(octets).filter(|header| !header.fragment)?;
            let mut addresses = Sum::default();
            addresses.add(&header.addresses);
            Some((header.len, header.total, Layer::Transport { protocol: header.protocol, addresses }))
        }
        ethernet::IPV6 => {
            let header = ipv6::parse(octets)?;
            let layer = Layer::Transport { protocol: header.protocol, addresses: header.addresses };
            Some((header.len, header.total, layer))
        }
        _ => None,
    }
}

enum Step {
    Found(Unfinished),
    Into(Inner),
}

/// Looks at a TCP, UDP or SCTP header at `offset`, of a packet that goes on to `end`.
fn transport(head: &[u8], offset: usize, end: usize, protocol: u8, addresses: Sum) -> Option<Step> {
    let available = end.checked_sub(offset)?;
    let start = u16::try_from(offset).ok()?;
    let found = |field: usize, len: usize| -> Option<Unfinished> {
        let mut sum = addresses;
        sum.add_word(u16::from(protocol));
        // The length fits 16 bits: it is part of a frame.
        sum.add_word(u16::try_from(len).ok()?);
        let end = u16::try_from(offset + len).ok()?;
        (be16(head, offset + field)? == sum.fold()).then_some(Unfinished::Sum { start, offset: field as u8, end })
    };
    match protocol {
        protocol::TCP if available >= l4::TCP_HEADER => found(l4::TCP_CHECKSUM, available).map(Step::Found),
        protocol::UDP => {
            let len = usize::from(be16(head, offset + 4)?);
            if len < l4::UDP_HEADER || len > available {
                return None;
            }
            // A field of 0 says that there is no checksum, and stays so: no pseudo-header's sum is 0.
            if let Some(unfinished) = found(l4::UDP_CHECKSUM, len) {
                return Some(Step::Found(unfinished));
            }
            let payload = head.get(offset + l4::UDP_HEADER..)?;
            let inner = l4::udp_tunnel(be16(head, offset + 2)?, payload)?;
            Some(Step::Into(Inner { offset: l4::UDP_HEADER + inner.offset, ..inner }))
        }
        protocol::SCTP if available >= l4::SCTP_HEADER => {
            let field = head.get(offset + l4::SCTP_CHECKSUM..offset + l4::SCTP_HEADER)?;
            let end = u16::try_from(end).ok()?;
            (field == [0; 4]).then_some(Step::Found(Unfinished::Sctp { start, end }))
        }
        _ => None,
    }
}
