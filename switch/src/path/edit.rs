//! How does the copy that leaves differ from the packet that came in?
//!
//! A received frame is never written to. Each copy is written once, straight into the frame of the port it leaves by: the
//! addresses, the tags that come, the rest of the packet without the tags that go, zeros up to the shortest length, and
//! the finished checksum over the unfinished one.

use crate::limits::FRAME_MIN;
use crate::wire::ethernet::ADDRESSES;
use crate::wire::vlan::{TAG, Tag};
use shunt_ffi::Packet;

/// Most tags put on one frame: the link's, the tunnel's or VLAN's, a customer's.
pub const PUSH_MAX: usize = 3;

/// What becomes of the layer 4 checksum. Places are octets from the start of the frame that leaves.
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

/// The difference between a packet and one copy of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    strip: u8,
    push_len: u8,
    push: [u8; PUSH_MAX * TAG],
    checksum: Checksum,
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

    /// Finishes a checksum; `checksum`'s places are those in the packet that came in.
    #[inline]
    pub fn set_checksum(&mut self, checksum: Checksum) {
        let shift = |place: u16| place.wrapping_add(u16::from(self.push_len)).wrapping_sub(u16::from(self.strip));
        self.checksum = match checksum {
            Checksum::Keep => Checksum::Keep,
            Checksum::Request { start, offset } => Checksum::Request { start: shift(start), offset },
            Checksum::Patch { at, len, octets } => Checksum::Patch { at: shift(at), len, octets },
        };
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
    pub fn request(&self) -> Option<(u16, u16)> {
        match self.checksum {
            Checksum::Request { start, offset } => Some((start, offset)),
            Checksum::Keep | Checksum::Patch { .. } => None,
        }
    }

    /// Writes the copy: exactly [`Edit::len`] octets.
    #[inline]
    pub fn write(&self, packet: &Packet<'_>, to: &mut (impl Write + ?Sized)) {
        let (strip, push_len) = (usize::from(self.strip), usize::from(self.push_len));
        let head = packet.head();
        if let (true, Some((addresses, rest))) = (strip + push_len > 0, head.split_at_checked(ADDRESSES)) {
            let mut front = [0; ADDRESSES + PUSH_MAX * TAG];
            front[..ADDRESSES].copy_from_slice(addresses);
            front[ADDRESSES..ADDRESSES + push_len].copy_from_slice(&self.push[..push_len]);
            to.append(&front[..ADDRESSES + push_len]);
            // Tags lie in the first segment: they were read there.
            to.append(rest.get(strip..).unwrap_or(&[]));
        } else {
            to.append(head);
        }
        for segment in packet.segments().iter().skip(1) {
            to.append(segment);
        }
        if let Some(padding) = FRAME_MIN.checked_sub(self.len_unpadded(packet)) {
            to.append(&[0; FRAME_MIN][..padding]);
        }
        if let Checksum::Patch { at, len, octets } = self.checksum {
            to.patch(usize::from(at), &octets[..usize::from(len).min(4)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::vlan::{TPID_8021AD, TPID_8021Q};

    fn written(edit: &Edit, packet: &Packet<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        edit.write(packet, &mut out);
        assert_eq!(out.len(), edit.len(packet));
        out
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
            let mut packet = Packet::default();
            packet.push(&octets[..cut]);
            packet.push(&octets[cut..]);
            assert_eq!(written(&edit, &packet), expected);
        }
    }

    #[test]
    fn a_stripped_tag_may_leave_a_runt_to_pad() {
        let octets = [7; 60];
        let copy = written(&Edit::new(4, []), &Packet::contiguous(&octets));
        assert_eq!((copy.len(), copy[55], copy[56]), (60, 7, 0));
    }

    #[test]
    fn checksum_places_follow_the_tags() {
        let octets = [0; 100];
        let packet = Packet::contiguous(&octets);
        let mut edit = Edit::new(0, [Tag::new(TPID_8021Q, 2, 7)]);
        edit.set_checksum(Checksum::Request { start: 34, offset: 16 });
        assert_eq!(edit.request(), Some((38, 16)));
        edit.set_checksum(Checksum::Patch { at: 50, len: 2, octets: [1, 2, 3, 4] });
        assert_eq!(edit.request(), None);
        assert_eq!(&written(&edit, &packet)[53..57], [0, 1, 2, 0]);
        let mut edit = Edit::new(4, []);
        edit.set_checksum(Checksum::Request { start: 38, offset: 6 });
        assert_eq!(edit.request(), Some((34, 6)));
    }
}
