//! How does a VLAN tag look?

use super::be16;
use arrayvec::ArrayVec;

/// Octets of one tag: TPID and TCI.
pub const TAG: usize = 4;
/// TPID of a customer tag, 802.1Q.
pub const TPID_8021Q: u16 = 0x8100;
/// TPID of a service tag, 802.1ad.
pub const TPID_8021AD: u16 = 0x88a8;
/// Tags that the bridge tells apart; further ones are payload, as in Open vSwitch.
pub const PARSED_MAX: usize = 2;

/// True for the EtherTypes that begin a tag.
#[inline]
pub const fn is_tpid(ethertype: u16) -> bool {
    matches!(ethertype, TPID_8021Q | TPID_8021AD)
}

/// One tag as on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// Which kind of tag it is.
    pub tpid: u16,
    /// Priority (3 bits), drop eligibility (1 bit), VLAN identifier (12 bits).
    pub tci: u16,
}

impl Tag {
    /// A tag that is not drop eligible.
    #[inline]
    pub const fn new(tpid: u16, vid: u16, pcp: u8) -> Self {
        Self { tpid, tci: (pcp as u16 & 7) << 13 | vid & 0xfff }
    }

    /// VLAN identifier, 0 for a priority tag.
    #[inline]
    pub const fn vid(self) -> u16 {
        self.tci & 0xfff
    }

    /// Priority.
    #[inline]
    pub const fn pcp(self) -> u8 {
        (self.tci >> 13) as u8
    }

    /// The octets on the wire.
    #[inline]
    pub const fn octets(self) -> [u8; TAG] {
        let (t, c) = (self.tpid.to_be_bytes(), self.tci.to_be_bytes());
        [t[0], t[1], c[0], c[1]]
    }
}

/// The tags that the bridge looks at, in one number: the outermost in the low half, 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags(u64);

impl Tags {
    /// No tag.
    pub const NONE: Self = Self(0);

    /// These tags; those beyond [`PARSED_MAX`] are left out.
    pub fn new(tags: &[Tag]) -> Self {
        let mut all = Self::default();
        for tag in tags.iter().take(PARSED_MAX) {
            all.push(*tag);
        }
        all
    }

    #[inline]
    fn push(&mut self, tag: Tag) {
        self.0 |= (u64::from(tag.tpid) | u64::from(tag.tci) << 16) << (32 * self.count());
    }

    /// How many. The TPID of a tag is not 0.
    #[inline]
    pub const fn count(&self) -> usize {
        (self.0 != 0) as usize + (self.0 >> 32 != 0) as usize
    }

    /// Tag number `index`, 0 is the outermost.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Tag> {
        let word = (self.0 >> (32 * (index % PARSED_MAX))) as u32;
        (index < self.count()).then_some(Tag { tpid: word as u16, tci: (word >> 16) as u16 })
    }

    /// All of them, outermost first.
    #[inline]
    pub fn list(&self) -> ArrayVec<Tag, PARSED_MAX> {
        (0..PARSED_MAX).map_while(|index| self.get(index)).collect()
    }
}

/// A frame that ends inside a tag, or before the EtherType behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

/// Reads the tag at `offset`, whose TPID is known to be `tpid`, and the EtherType behind it.
#[inline]
pub fn tag_at(frame: &[u8], offset: usize, tpid: u16) -> Result<(Tag, u16), Truncated> {
    let tci = be16(frame, offset + 2).ok_or(Truncated)?;
    let next = be16(frame, offset + TAG).ok_or(Truncated)?;
    Ok((Tag { tpid, tci }, next))
}

/// Reads up to [`PARSED_MAX`] tags from `offset`, where the EtherType is `ethertype`. Returns them and what follows.
#[inline]
pub fn parse(frame: &[u8], mut offset: usize, mut ethertype: u16) -> Result<(Tags, u16), Truncated> {
    let mut tags = Tags::default();
    while is_tpid(ethertype) && tags.count() < PARSED_MAX {
        let (tag, next) = tag_at(frame, offset, ethertype)?;
        tags.push(tag);
        ethertype = next;
        offset += TAG;
    }
    Ok((tags, ethertype))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_tag() {
        let tag = Tag::new(TPID_8021AD, 181, 5);
        assert_eq!((tag.vid(), tag.pcp(), tag.octets()), (181, 5, [0x88, 0xa8, 0xa0, 181]));
        assert_eq!(Tag { tpid: 0x8100, tci: 0xffff }.vid(), 4095);
    }

    #[test]
    fn two_tags_are_read_and_a_third_is_payload() {
        let frame = [0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 8, 0];
        let (tags, next) = parse(&frame, 0, 0x88a8).unwrap();
        assert_eq!(tags.list().as_slice(), [Tag::new(0x88a8, 1, 0), Tag::new(0x8100, 2, 0)]);
        assert_eq!(next, 0x8100);
        for len in 0..10 {
            assert_eq!(parse(&frame[..len], 0, 0x88a8), Err(Truncated), "{len} octets");
        }
        assert_eq!(parse(&[], 0, 0x0800), Ok((Tags::default(), 0x0800)));
    }
}
