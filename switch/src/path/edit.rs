//! How does the copy that leaves differ from the packet that came in?
//!
//! A received frame is never written to. Each copy is written once, straight into the frame of the port it leaves by: the
//! addresses, the tags that come, the rest of the packet without the tags that go, zeros up to the shortest length, and
//! the finished checksum over the unfinished one. What is routed has other addresses and one hop less.

use crate::limits::FRAME_MIN;
use crate::wire::ethernet::{ADDRESSES, IPV4, Mac};
use crate::wire::vlan::{TAG, Tag};
use shunt_ffi::Packet;

/// Most tags put on one frame: the link's, the tunnel's or VLAN's, a customer's.
pub const PUSH_MAX: usize = 3;

/// What becomes of the layer 4 checksum. Places are octets from the start of the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// It is right, or not ours to judge.
    #[default]
    Keep,
    /// Whoever receives is asked to finish it: sum from `start` on, result at `offset` from there.
    Request {
        /// Where the upper layer begins.
        start: u16,
        /// Where its checksum is, from there.
        offset: u16,
    },
    /// It was finished here: these octets go to `at`.
    Patch {
        /// Where the checksum is.
        at: u16,
        /// How many octets of `octets` count.
        len: u8,
        /// The checksum.
        octets: [u8; 4],
    },
}

/// Copies that are to leave.
#[derive(Clone, Copy, Debug)]
pub struct Copies<'a> {
    /// The packets as they came in.
    pub packets: &'a [Packet<'a>],
    /// What becomes of the checksum of each, with places in the packet that came in; empty if all stay as they are.
    pub checksums: &'a [Checksum],
    /// To whom each is routed; empty if they are not routed.
    pub destinations: &'a [Mac],
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct One<'a> {
    /// The packet as it came in.
    pub packet: &'a Packet<'a>,
    /// What becomes of its checksum.
    pub checksum: Checksum,
    /// To whom it is routed, if it is.
    pub destination: Mac,
}

impl<'a> Copies<'a> {
    /// How many.
    #[allow(clippy::len_without_is_empty)]
    #[inline]
    pub const fn len(&self) -> usize {
        self.packets.len()
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = One<'a>> + use<'a> {
        let Self { packets, checksums, destinations } = *self;
        packets.iter().enumerate().map(move |(i, packet)| One {
            packet,
            checksum: checksums.get(i).copied().unwrap_or_default(),
            destination: destinations.get(i).copied().unwrap_or_default(),
        })
    }

    /// Those behind the first `count`.
    #[inline]
    #[must_use]
    pub fn behind(self, count: usize) -> Self {
        Self {
            packets: &self.packets[count..],
            checksums: self.checksums.get(count..).unwrap_or(&[]),
            destinations: self.destinations.get(count..).unwrap_or(&[]),
        }
    }
}

impl One<'_> {
    /// As a list.
    pub fn copies(&self) -> Copies<'_> {
        let Self { packet, checksum, destination } = self;
        Copies {
            packets: std::slice::from_ref(packet),
            checksums: std::slice::from_ref(checksum),
            destinations: std::slice::from_ref(destination),
        }
    }
}

/// Where the octets of a copy go: memory, or frames shared with the kernel. There is room for [`Edit::len`] octets.
pub trait Write {
    /// Appends octets.
    fn append(&mut self, octets: &[u8]);

    /// Writes over octets that were appended.
    fn patch(&mut self, offset: usize, octets: &[u8]);
}

impl Write for Vec<u8> {
    fn append(&mut self, octets: &[u8]) {
        self.extend_from_slice(octets);
    }

    fn patch(&mut self, offset: usize, octets: &[u8]) {
        if let Some(place) = self.get_mut(offset..offset + octets.len()) {
            place.copy_from_slice(octets);
        }
    }
}

/// Writes into octets from the first to the last.
pub struct Cursor<'a> {
    octets: &'a mut [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Writes into all of `octets`.
    #[inline(always)]
    pub fn new(octets: &'a mut [u8]) -> Self {
        Self { octets, at: 0 }
    }
}

impl Write for Cursor<'_> {
    #[inline(always)]
    fn append(&mut self, octets: &[u8]) {
        let end = self.at + octets.len();
        shunt_ffi::copy(octets, &mut self.octets[self.at..end]);
        self.at = end;
    }

    #[inline]
    fn patch(&mut self, offset: usize, octets: &[u8]) {
        self.octets[offset..offset + octets.len()].copy_from_slice(octets);
    }
}

/// The difference between packets and copies of them: which tags go and come. The same for all that came in by one port with
/// the same tags, and leave by one port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    strip: u8,
    push_len: u8,
    push: [u8; PUSH_MAX * TAG],
    hop: Option<Hop>,
}

/// What becomes of routed packets' headers, but for whom they go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hop {
    source: Mac,
    is_v4: bool,
}

/// Octets of an EtherType.
const ETHERTYPE: usize = 2;

impl Hop {
    #[inline(always)]
    fn addresses(&self, destination: Mac) -> [u8; ADDRESSES] {
        let mut addresses = [0; ADDRESSES];
        addresses[..6].copy_from_slice(&destination.octets());
        addresses[6..].copy_from_slice(&self.source.octets());
        addresses
    }

    /// Where the header's octets are that change, and what they are, of a packet whose IP header begins with `header`: the
    /// time to live and, as RFC 1624 has it, the checksum (RFC 791), or the hop limit (RFC 8200).
    #[inline(always)]
    fn changes(&self, header: &[u8]) -> (usize, [u8; 4], usize) {
        match header.get(7..12) {
            Some(&[_, ttl, protocol, high, low]) if self.is_v4 => {
                let (sum, carry) = u16::from_be_bytes([high, low]).overflowing_add(0x0100);
                let [high, low] = (sum + u16::from(carry)).to_be_bytes();
                (8, [ttl.wrapping_sub(1), protocol, high, low], 4)
            }
            Some(&[limit, ..]) if !self.is_v4 => (7, [limit.wrapping_sub(1), 0, 0, 0], 1),
            _ => (0, [0; 4], 0),
        }
    }
}

impl Edit {
    /// Takes `strip` octets of tags off after the addresses, and puts `tags` there, outermost first (at most
    /// [`PUSH_MAX`], of which further ones are left out).
    #[inline]
    pub fn new(strip: usize, tags: impl IntoIterator<Item = Tag>) -> Self {
        let mut edit = Self { strip: strip as u8, ..Self::default() };
        for tag in tags.into_iter().take(PUSH_MAX) {
            let at = usize::from(edit.push_len);
            edit.push[at..at + TAG].copy_from_slice(&tag.octets());
            edit.push_len += TAG as u8;
        }
        edit
    }

    /// It is of packets of this EtherType that are routed, from `source` on.
    #[inline]
    #[must_use]
    pub fn routed(self, source: Mac, ethertype: u16) -> Self {
        Self { hop: Some(Hop { source, is_v4: ethertype == IPV4 }), ..self }
    }

    /// True if the copy is the packet.
    #[inline]
    pub fn changes_nothing(&self) -> bool {
        self.strip | self.push_len == 0 && self.hop.is_none()
    }

    /// Where the IP header of a routed packet begins, in the copy and in the packet: all of its tags go.
    #[inline]
    fn header_at(&self) -> (usize, usize) {
        let behind = |tags: u8| ADDRESSES + usize::from(tags) + ETHERTYPE;
        (behind(self.push_len), behind(self.strip))
    }

    /// Where a place in the packet is in the copy.
    #[inline]
    fn shifted(&self, place: u16) -> u16 {
        place.wrapping_add(u16::from(self.push_len)).wrapping_sub(u16::from(self.strip))
    }

    /// Octets that the copy will have.
    #[inline]
    pub fn len(&self, packet: &Packet<'_>) -> usize {
        self.len_unpadded(packet).max(FRAME_MIN)
    }

    /// Octets that it has without padding.
    #[inline]
    pub(crate) fn len_unpadded(&self, packet: &Packet<'_>) -> usize {
        (packet.len() + usize::from(self.push_len)).saturating_sub(usize::from(self.strip))
    }

    /// Which checksum the receiver is asked to finish: where its layer begins, and where it is from there.
    #[inline]
    pub fn request(&self, checksum: Checksum) -> Option<(u16, u16)> {
        match checksum {
            Checksum::Request { start, offset } => Some((self.shifted(start), offset)),
            Checksum::Keep | Checksum::Patch { .. } => None,
        }
    }

    /// Writes the copy: exactly [`Edit::len`] octets.
    #[inline(always)]
    pub fn write(&self, copy: &One<'_>, to: &mut (impl Write + ?Sized)) {
        let One { packet, checksum, destination } = *copy;
        let head = packet.head();
        match head.split_at_checked(ADDRESSES) {
            Some((addresses, rest)) if !self.changes_nothing() => {
                match &self.hop {
                    Some(hop) => to.append(&hop.addresses(destination)),
                    None => to.append(addresses),
                }
                to.append(&self.push[..usize::from(self.push_len).min(PUSH_MAX * TAG)]);
                // Tags lie in the first segment: they were read there.
                to.append(rest.get(usize::from(self.strip)..).unwrap_or(&[]));
            }
            _ => to.append(head),
        }
        if head.len() < packet.len() {
            packet.rest().for_each(|segment| to.append(segment));
        }
        let len = self.len_unpadded(packet);
        if len < FRAME_MIN {
            to.append(&[0; FRAME_MIN][len..]);
        }
        if let Some(hop) = &self.hop {
            let (to_at, at) = self.header_at();
            let (place, octets, len) = hop.changes(head.get(at..).unwrap_or_default());
            to.patch(to_at + place, &octets[..len]);
        }
        if let Checksum::Patch { at, len, octets } = checksum {
            to.patch(usize::from(self.shifted(at)), &octets[..usize::from(len).min(4)]);
        }
    }

    /// It is of a routed packet.
    #[inline]
    pub(crate) fn is_routed(&self) -> bool {
        self.hop.is_some()
    }

    /// Writes the copy of a packet in one segment, of at least [`FRAME_MIN`] octets, to as many; but not what routing changes.
    #[inline(always)]
    pub(crate) fn write_whole(&self, packet: &[u8], to: &mut [u8]) {
        let (strip, push_len) = (usize::from(self.strip), usize::from(self.push_len));
        let front = ADDRESSES + push_len;
        // All tags that there may be, in moves of fixed length; what is too much is written over.
        to[..ADDRESSES].copy_from_slice(&packet[..ADDRESSES]);
        to[ADDRESSES..ADDRESSES + PUSH_MAX * TAG].copy_from_slice(&self.push);
        shunt_ffi::copy(&packet[ADDRESSES + strip..], &mut to[front..]);
    }

    /// As [`Edit::write_whole`], with what routing changes.
    #[inline(always)]
    pub(crate) fn write_routed(&self, packet: &[u8], destination: Mac, to: &mut [u8]) {
        self.write_whole(packet, to);
        if let Some(hop) = &self.hop {
            to[..ADDRESSES].copy_from_slice(&hop.addresses(destination));
            let (to_at, at) = self.header_at();
            let (place, octets, len) = hop.changes(packet.get(at..).unwrap_or_default());
            to[to_at + place..][..len].copy_from_slice(&octets[..len]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::vlan::{TPID_8021AD, TPID_8021Q};

    const TO: Mac = Mac(0x0200_0000_0001);

    fn written(edit: &Edit, packet: &Packet<'_>) -> Vec<u8> {
        finished(edit, packet, Checksum::Keep)
    }

    fn finished(edit: &Edit, packet: &Packet<'_>, checksum: Checksum) -> Vec<u8> {
        let (mut appended, mut filled) = (Vec::new(), vec![0xa5; edit.len(packet)]);
        let copy = One { packet, checksum, destination: TO };
        edit.write(&copy, &mut appended);
        edit.write(&copy, &mut Cursor::new(&mut filled));
        assert_eq!(appended, filled);
        if packet.head().len() == packet.len() && edit.len_unpadded(packet) >= FRAME_MIN && checksum == Checksum::Keep {
            edit.write_routed(packet.head(), TO, &mut filled);
            assert_eq!(appended, filled);
        }
        filled
    }

    #[test]
    fn an_empty_edit_copies_and_pads() {
        let octets: Vec<u8> = (0..100).collect();
        assert_eq!(written(&Edit::default(), &Packet::contiguous(&octets)), octets);
        let short = written(&Edit::default(), &Packet::contiguous(&octets[..20]));
        assert_eq!((&short[..20], &short[20..]), (&octets[..20], &[0; 40][..]));
    }

    #[test]
    fn tags_come_and_go_after_the_addresses_in_any_segmentation() {
        let octets: Vec<u8> = (0..120).collect();
        let tags = [Tag::new(TPID_8021AD, 1, 0), Tag::new(TPID_8021Q, 2, 7)];
        let edit = Edit::new(4, tags);
        let mut expected = octets[..12].to_vec();
        expected.extend([0x88, 0xa8, 0, 1, 0x81, 0, 0xe0, 2]);
        expected.extend(&octets[16..]);
        for cut in 16..120 {
            let pieces = vec![&octets[..cut], &octets[cut..]];
            assert_eq!(written(&edit, &Packet::segmented(&pieces, 0, 120)), expected);
        }
    }

    #[test]
    fn each_edit_writes_whole_packets_as_it_writes_others() {
        let octets: Vec<u8> = (0..200).collect();
        let tags = [Tag::new(TPID_8021AD, 1, 0), Tag::new(TPID_8021Q, 2, 7), Tag::new(TPID_8021Q, 3, 1)];
        for strip in [0, 4, 8] {
            for push in 0..=PUSH_MAX {
                for len in 60..200 {
                    written(&Edit::new(strip, tags[..push].iter().copied()), &Packet::contiguous(&octets[..len]));
                }
            }
        }
    }

    #[test]
    fn a_stripped_tag_may_leave_a_runt_to_pad() {
        let octets = [7; 60];
        let copy = written(&Edit::new(4, []), &Packet::contiguous(&octets));
        assert_eq!((copy.len(), copy[55], copy[56]), (60, 7, 0));
    }

    #[test]
    fn a_routed_packet_has_other_addresses_and_one_hop_less() {
        let mut octets = vec![1; 18];
        octets[16..18].copy_from_slice(&[8, 0]);
        octets.extend([0x45, 0, 0, 84, 0, 0, 0, 0, 64, 17, 0xff, 0x10, 10, 0, 0, 1, 10, 0, 0, 2]);
        octets.resize(102, 7);
        let edit = Edit::new(4, [Tag::new(TPID_8021Q, 2, 0)]).routed(Mac(0x0200_0000_0002), IPV4);
        let copy = written(&edit, &Packet::contiguous(&octets));
        assert_eq!(copy[..12], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        assert_eq!(copy[18..26], octets[18..26]);
        // 0xff10 + 0x0100 carries round.
        assert_eq!((&copy[26..30], &copy[30..]), (&[63, 17, 0, 0x11][..], &octets[30..]));
        let edit = Edit::new(4, []).routed(Mac(2), 0x86dd);
        let copy = written(&edit, &Packet::contiguous(&octets));
        assert_eq!((copy[20], copy[21], copy[22]), (octets[24], octets[25].wrapping_sub(1), octets[26]));
        // Too short for a header: nothing to change, nothing to fear.
        assert_eq!(written(&edit, &Packet::contiguous(&octets[..19])).len(), 60);
    }

    #[test]
    fn checksum_places_follow_the_tags() {
        let octets = [0; 100];
        let packet = Packet::contiguous(&octets);
        let edit = Edit::new(0, [Tag::new(TPID_8021Q, 2, 7)]);
        assert_eq!(edit.request(Checksum::Request { start: 34, offset: 16 }), Some((38, 16)));
        let patch = Checksum::Patch { at: 50, len: 2, octets: [1, 2, 3, 4] };
        assert_eq!(edit.request(patch), None);
        assert_eq!(&finished(&edit, &packet, patch)[53..57], [0, 1, 2, 0]);
        let edit = Edit::new(4, []);
        assert_eq!(edit.request(Checksum::Request { start: 38, offset: 6 }), Some((34, 6)));
    }
}
